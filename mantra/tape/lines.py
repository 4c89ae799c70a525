"""lines: other people's recordings, one record a line, read as one stream in the order things were received.

    cryptofeed      https://host/path -> 1641343696.24: {...}      a REST answer           "rest", with its url
                    wss://host/path <-> 1641343690.59              the socket opened       "open", with its url
                    wss://host/path <- 1641343691.06: {...}        we sent a frame         "sent", with its url
                    1641343697.40: {...}                           we received a frame     "message"
                    configuration: {...}                           (skipped)
    cryptofeed 3    {"t":"recv","ts":1786309548.6,"data":"{..."}   a frame, quoted         "message"
                    {"t":"http", ...}, "send", "connect"           likewise                "rest", "sent", "open"
    hftbacktest     1723161253937085768 {"stream":...}             a frame                 "message"
                    1723161254206652067 {"lastUpdateId":...}       a REST snapshot         "rest", url None
    depthcharge     {"captured_at": "2026-08-16T23:37:02+00:00",   (when the first record was, in ns of its own clock)
                    {"rx_ns": 42889692105400, "dir": "tx", ...}    we sent a frame         "sent"
                    {"rx_ns": 42890352382600, "frame": {...}}      a frame                 "message"
    plain           {...}  or  [...]                               a frame                 "message", time 0
    NAME.json       a document of many lines                       a frame                 "message", time 0

Frames are handed on as the bytes they were. Files whose name ends in .zst or .gz are decompressed on the way.
"""
from __future__ import annotations

import gzip
import heapq
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Literal, NamedTuple

from mantra.errors import ConfigurationError

Kind = Literal["message", "rest", "sent", "open"]

TIME = rb"(\d{9,19})(?:\.(\d{1,9})\d*)?"
ADDRESSED = re.compile(rb"((?:http|ws)s?://\S+) (->|<-|<->) " + TIME + rb"(?:: (.*))?")
TIMED = re.compile(TIME + rb"(:? )(.*)", re.DOTALL)
FRACTION = re.compile(r"\.(\d{1,6})\d*")
CAPTURED = re.compile(rb'\{"captured_at": "([^"]*)"')
DEPTHCHARGE = re.compile(rb'\{"rx_ns": (\d{1,18}), (?:"dir": "(tx|rx)", )?"frame": (.*)\}')
KINDS: dict[bytes, Kind] = {b"->": "rest", b"<-": "sent", b"<->": "open"}
QUOTED = re.compile(rb'\{"t":"(header|http|connect|send|recv)",')
QUOTED_KINDS: dict[str, Kind] = {"http": "rest", "connect": "open", "send": "sent", "recv": "message"}


class Record(NamedTuple):
    time_ns: int        # UTC, when it was received or sent; 0 where the file does not say
    kind: Kind
    text: bytes
    url: str | None = None


def read(paths: Iterable[str | Path], venue: str | None = None, *,
         skipped: Counter[Path] | None = None) -> Iterator[Record]:
    """Records of all files, merged by time; those of one file stay in its order, files without times follow each other.

    A folder stands for the files in it that are named after `venue` (BINANCE.ws.1.0 and the like). A file or line that
    cannot be read is a ConfigurationError that names it; or, with `skipped`, a line behind one that could be is counted
    there and passed over.
    """
    return heapq.merge(*(_records(path, skipped) for path in files(paths, venue)), key=lambda record: record.time_ns)


def files(paths: Iterable[str | Path], venue: str | None = None) -> list[Path]:
    """The files that `paths` stand for; ConfigurationError for one that is not there."""
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            prefix = f"{venue or ''}.".upper()
            inside = sorted(file for file in path.iterdir() if file.is_file() and file.name.startswith(prefix))
            if not inside:
                raise ConfigurationError(f"{path}: no file named {prefix}* in this folder; name the recordings")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise ConfigurationError(f"{path}: no such recording")
    if not found:
        raise ConfigurationError("no recording named")
    return found


def _records(path: Path, skipped: Counter[Path] | None) -> Iterator[Record]:
    number = understood = 0
    began: int | None = None        # of depthcharge: UTC less its own clock; None: not told
    try:
        for line in unpacked(path) if ".json" not in path.suffixes else _document(path):
            number += 1
            line = line.rstrip(b"\r\n")
            try:
                if captured := CAPTURED.match(line):
                    began = _utc_ns(captured[1].decode())
                    continue
                if framed := DEPTHCHARGE.fullmatch(line):
                    if began is not None and not understood:
                        began -= int(framed[1])
                    record: Record | None = Record(0 if began is None else began + int(framed[1]),
                                                   "sent" if framed[2] == b"tx" else "message", framed[3])
                else:
                    record = _record(line)
            except ValueError:
                if skipped is None or not understood:
                    raise
                skipped[path] += 1
                continue
            if record is not None:
                understood += 1
                yield record
    except ValueError as error:
        raise ConfigurationError(f"{path}:{number}: {error}") from None
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None


def _document(path: Path) -> Iterator[bytes]:
    yield b"\n".join(line.rstrip(b"\r\n") for line in unpacked(path))


def unpacked(path: Path) -> Iterator[bytes]:
    """The lines of a file, plain or compressed. ValueError: that is damaged."""
    if path.suffix == ".gz":
        with gzip.open(path) as inflated:
            try:
                yield from inflated
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise ValueError(f"not gzip, or damaged, after this line: {error}") from None
        return
    with path.open("rb") as file:
        if path.suffix != ".zst":
            yield from file
            return
        import zstandard

        unpacker, rest = zstandard.ZstdDecompressor().decompressobj(), b""
        while chunk := file.read(1 << 16):
            try:
                while chunk:
                    if unpacker.eof:        # another frame follows, as in files put one behind the other
                        unpacker = zstandard.ZstdDecompressor().decompressobj()
                    *lines, rest = (rest + unpacker.decompress(chunk)).split(b"\n")
                    chunk = unpacker.unused_data
                    yield from lines
            except zstandard.ZstdError as error:
                raise ValueError(f"not zstd, or damaged, after this line: {error}") from None
        yield rest
        if not unpacker.eof:
            raise ValueError("the compressed file ends too early")


def _record(line: bytes) -> Record | None:
    if not line.strip() or line.startswith(b"configuration: "):
        return None
    if QUOTED.match(line):
        quoted = json.loads(line, parse_float=Decimal)
        kind, time, text = QUOTED_KINDS.get(quoted["t"]), quoted.get("ts"), quoted.get("data", "")
        if kind is None:
            return None
        if not (isinstance(time, (int, Decimal)) and 0 <= time < 1 << 33 and isinstance(text, str)):
            raise ValueError(f"without a time, or a frame as text: {line[:60]!r}")
        return Record(int(time * 1_000_000_000), kind, text.encode(), quoted.get("url", quoted.get("addr")))
    if line[:1] in b"{[":
        return Record(0, "message", line)
    if timed := TIMED.fullmatch(line):
        seconds, fraction, separator, text = timed.groups()
        if separator == b" " and fraction is None:
            return Record(since_1970_ns(seconds), "message" if text.startswith(b'{"stream"') else "rest", text)
        return Record(_seconds_ns(seconds, fraction), "message", text)
    if addressed := ADDRESSED.fullmatch(line):
        url, arrow, seconds, fraction, text = addressed.groups()
        return Record(_seconds_ns(seconds, fraction), KINDS[arrow], text or b"", url.decode())
    raise ValueError(f"not a line of a recording known here: {line[:60]!r}")


def iso(text: str) -> datetime:
    """Of ISO 8601 what CPython reads from 3.11 on: Z, and any number of digits of a second. ValueError."""
    return datetime.fromisoformat(FRACTION.sub(lambda found: f".{found[1]:0<6}", text).replace("Z", "+00:00"))


def _utc_ns(text: str) -> int | None:
    """Of a moment as ISO 8601 has it, with its zone; None: it is none."""
    try:
        return round((iso(text) - datetime(1970, 1, 1, tzinfo=timezone.utc)) / timedelta(microseconds=1)) * 1000
    except (ValueError, TypeError):
        return None


def _seconds_ns(seconds: bytes, fraction: bytes | None) -> int:
    return checked(int(seconds) * 1_000_000_000 + int((fraction or b"").ljust(9, b"0")))


def checked(time_ns: int) -> int:
    """`time_ns`, if 64 bits hold it; ValueError."""
    if not 0 <= time_ns < 1 << 63:
        raise ValueError(f"the time {time_ns} ns is outside 1970 to 2262")
    return time_ns


def since_1970_ns(count: bytes) -> int:
    """A whole count of s, ms, us or ns since 1970: told by its 10, 13, 16 or 19 digits."""
    if len(count) not in (10, 13, 16, 19):
        raise ValueError(f"a time of {len(count)} digits is in no unit known here")
    return checked(int(count.ljust(19, b"0")))
