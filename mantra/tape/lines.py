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
    depthcharge     {"rx_ns": 42890352382600, "frame": {...}}      a frame                 "message", time 0
                    {"rx_ns": 42889692105400, "dir": "tx", ...}    we sent a frame         "sent"
                    {"captured_at": ...}                           (skipped)
    plain           {...}  or  [...]                               a frame                 "message", time 0
    NAME.json       a document of many lines                       a frame                 "message", time 0

Frames are handed on as the bytes they were. Files whose name ends in .zst are decompressed on the way.
"""
from __future__ import annotations

import heapq
import json
import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Literal, NamedTuple

from mantra.errors import ConfigurationError

Kind = Literal["message", "rest", "sent", "open"]

TIME = rb"(\d{9,19})(?:\.(\d{1,9})\d*)?"
ADDRESSED = re.compile(rb"((?:http|ws)s?://\S+) (->|<-|<->) " + TIME + rb"(?:: (.*))?")
TIMED = re.compile(TIME + rb"(:? )(.*)", re.DOTALL)
DEPTHCHARGE = re.compile(rb'\{"rx_ns": \d+, (?:"dir": "(tx|rx)", )?"frame": (.*)\}')     # times of no known clock
KINDS: dict[bytes, Kind] = {b"->": "rest", b"<-": "sent", b"<->": "open"}
QUOTED = re.compile(rb'\{"t":"(header|http|connect|send|recv)",')
QUOTED_KINDS: dict[str, Kind] = {"http": "rest", "connect": "open", "send": "sent", "recv": "message"}


class Record(NamedTuple):
    time_ns: int        # UTC, when it was received or sent; 0 where the file does not say
    kind: Kind
    text: bytes
    url: str | None = None


def read(paths: Iterable[str | Path], venue: str | None = None) -> Iterator[Record]:
    """Records of all files, merged by time; those of one file stay in its order, files without times follow each other.

    A folder stands for the files in it that are named after `venue` (BINANCE.ws.1.0 and the like). A file or line that
    cannot be read is a ConfigurationError that names it.
    """
    return heapq.merge(*(_records(path) for path in files(paths, venue)), key=lambda record: record.time_ns)


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


def _records(path: Path) -> Iterator[Record]:
    number = 0
    try:
        for line in _lines(path) if ".json" not in path.suffixes else _document(path):
            number += 1
            record = _record(line.rstrip(b"\r\n"))
            if record is not None:
                yield record
    except ValueError as error:
        raise ConfigurationError(f"{path}:{number}: {error}") from None
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None


def _document(path: Path) -> Iterator[bytes]:
    yield b"\n".join(line.rstrip(b"\r\n") for line in _lines(path))


def _lines(path: Path) -> Iterator[bytes]:
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
    if not line.strip() or line.startswith((b"configuration: ", b'{"captured_at": ')):
        return None
    if framed := DEPTHCHARGE.fullmatch(line):
        return Record(0, "sent" if framed[1] == b"tx" else "message", framed[2])
    if QUOTED.match(line):
        quoted = json.loads(line, parse_float=Decimal)
        kind = QUOTED_KINDS.get(quoted["t"])
        return kind and Record(int(quoted["ts"] * 1_000_000_000), kind, quoted.get("data", "").encode(),
                               quoted.get("url", quoted.get("addr")))
    if line[:1] in b"{[":
        return Record(0, "message", line)
    if timed := TIMED.fullmatch(line):
        seconds, fraction, separator, text = timed.groups()
        if separator == b" " and fraction is None:
            return Record(_since_1970_ns(seconds), "message" if text.startswith(b'{"stream"') else "rest", text)
        return Record(_seconds_ns(seconds, fraction), "message", text)
    if addressed := ADDRESSED.fullmatch(line):
        url, arrow, seconds, fraction, text = addressed.groups()
        return Record(_seconds_ns(seconds, fraction), KINDS[arrow], text or b"", url.decode())
    raise ValueError(f"not a line of a recording known here: {line[:60]!r}")


def _seconds_ns(seconds: bytes, fraction: bytes | None) -> int:
    return int(seconds) * 1_000_000_000 + int((fraction or b"").ljust(9, b"0"))


def _since_1970_ns(count: bytes) -> int:
    """A whole count of s, ms, us or ns since 1970: told by its 10, 13, 16 or 19 digits."""
    if len(count) not in (10, 13, 16, 19):
        raise ValueError(f"a time of {len(count)} digits is in no unit known here")
    return int(count.ljust(19, b"0"))
