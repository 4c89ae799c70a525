"""tardis: CSV files of tardis.dev (incremental_book_L2, trades; plain, .gz, .zst) as the frames of a venue.

A frame is the rows of one symbol that arrived at one time (docs.tardis.dev/downloadable-csv-files): a change to its
book, trades, or, where rows are of a snapshot and those before were not, the whole book. Their decoder is in Python, so
they go the way of any venue's frames. Nothing proves such books: they are unverified. Rows before the first snapshot
are of no use. Numbers stay the text they are until they are ticks and lots.
"""
from __future__ import annotations

import hashlib
import heapq
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from mantra.errors import ConfigurationError, VenueError
from mantra.tape.lines import Record, since_1970_ns, unpacked
from mantra.venues import NAMES, venue
from mantra.venues.decoder import Kind, Part

BOOK = b"exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount"
TRADES = b"exchange,symbol,timestamp,local_timestamp,id,side,price,amount"
NUMBER = rb"\d{1,18}(?:\.\d{1,18})?(?:[eE]-?\d{1,2})?"
TIME = rb"\d{16}|\d{19}"       # microseconds, says Tardis; nanoseconds are met as well
ROWS = {BOOK: re.compile(rb"([\w.-]+),([^,]+),(%s),(%s),(true|false),(?:bid|ask),%s,%s" % (TIME, TIME, NUMBER, NUMBER)),
        TRADES: re.compile(rb"([\w.-]+),([^,]+),(%s),(%s),([^,]*),(?:buy|sell),%s,%s" % (TIME, TIME, NUMBER, NUMBER))}
MOST_ROWS = {BOOK: 60_000, TRADES: 4_000}      # of a frame: a feed's message holds no more


def header(path: Path) -> bytes | None:
    """The column names of a file of Tardis'; None: it is something else. ConfigurationError: it cannot be read."""
    try:
        first = next(iter(unpacked(path)), b"").rstrip(b"\r\n")
    except (ValueError, OSError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from None
    return first if first in ROWS else None


def read(paths: Iterable[Path], *, skipped: Counter[Path]) -> Iterator[Record]:
    """The frames of all files, merged by local time. What is no row is counted in `skipped`."""
    return heapq.merge(*(_frames(path, skipped) for path in paths), key=lambda record: record.time_ns)


def _frames(path: Path, skipped: Counter[Path]) -> Iterator[Record]:
    columns = header(path) or b""
    row, most = ROWS[columns], MOST_ROWS[columns]

    def rows() -> Iterator[re.Match[bytes]]:
        lines = iter(unpacked(path))
        next(lines)
        for line in lines:
            if found := row.fullmatch(line.rstrip(b"\r\n")):
                yield found
            elif line.strip():
                skipped[path] += 1

    try:
        for _, group in groupby(rows(), lambda found: (found[2], found[4], found[5] if columns == BOOK else b"")):
            held = list(group)
            for start in range(0, len(held), most):
                text = b"\n".join(each[0] for each in held[start:start + most])
                yield Record(since_1970_ns(held[0][4]), "message", text)
    except (ValueError, OSError) as error:
        raise ConfigurationError(f"{path}: {error}") from None


def exchange_of(paths: Sequence[Path]) -> str:
    """The one exchange that the files are of; ConfigurationError."""
    first = [next(_frames(path, Counter()), None) for path in paths]
    found = {record.text.split(b",", 1)[0].decode() for record in first if record}
    if len(found) != 1:
        raise ConfigurationError(f"files of {' and '.join(sorted(found)) or 'no exchange'}: import one at a time")
    return found.pop()


class Decoder:
    """The frames of one import (mantra.venues.decoder.PythonDecoder)."""

    def __init__(self) -> None:
        self._replacing: set[str] = set()       # symbols whose last rows were of a snapshot

    def message(self, text: bytes) -> list[Part]:
        rows = [row.split(",") for row in text.decode().split("\n")]
        _, symbol, time, _, whole, side, _, _ = rows[0]
        time_ns = since_1970_ns(time.encode())
        if side in ("buy", "sell"):
            return [Part(Kind.TRADES, symbol, time_ns=time_ns, trades=[
                (trade_id(row[4]), row[5], row[6], row[7], since_1970_ns(row[2].encode())) for row in rows])]
        begins = whole == "true" and symbol not in self._replacing
        (self._replacing.add if whole == "true" else self._replacing.discard)(symbol)
        bids, asks = ([(row[6], row[7]) for row in rows if row[5] == side] for side in ("bid", "ask"))
        return [Part(Kind.SNAPSHOT if begins else Kind.DIFF, symbol, bids, asks, time_ns=time_ns)]

    def book(self, text: bytes) -> Part:
        raise VenueError("Tardis' files hold no REST books")


def trade_id(text: str) -> int:
    """An id that is a number is that; others (BitMEX's are UUIDs) are told apart by a hash of 64 bits; none: 0."""
    if text.isdecimal() and len(text) < 20:
        return int(text)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") if text else 0


class Tardis(venue.Venue):
    """What its files have of a venue; nobody can connect to it."""

    decoder = Decoder
    schemes = {"book": "stream"}  # noqa: RUF012
    proofs = frozenset()
    spread = "symbol"
    live_trust = {"book": venue.UNVERIFIED}  # noqa: RUF012
    home = venue.Endpoints("", "")
    dense_trade_ids = False

    def numbers(self, text: bytes) -> Iterator[tuple[str, str, str]]:
        for row in text.decode().split("\n"):
            _, symbol, _, _, _, _, price, size = row.split(",")
            yield symbol, price, size

    def subscribe_texts(self, symbols: Sequence[str], mode: venue.Mode, trades: bool) -> list[str]:
        return []

    def control(self, text: bytes) -> venue.Control:
        return None

    def snapshot(self, symbol: str, levels: int) -> venue.Request:
        raise VenueError("Tardis' files are read, not asked")

    def instruments_request(self) -> venue.Request:
        raise VenueError("Tardis' files are read, not asked")

    def listings(self, answer: object) -> list[venue.Listing]:
        return []


def venue_of(name: str) -> Tardis:
    """The files' exchange as a venue: known ones keep their id, others have one of 128 to 255, alike in every file."""
    number = NAMES.index(name) if name in NAMES else 128 + zlib.crc32(name.encode()) % 128
    made: Tardis = type("Tardis", (Tardis,), {"name": name, "id": number})()
    return made
