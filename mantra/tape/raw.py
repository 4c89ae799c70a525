"""raw: the tape on disk: all that feeds were told and said, byte for byte, in order, so that it can happen again.

A record of a tape has a kind, a time (cycles; a frame's is its origin), the book it is of where it is of one (a place
in its connection's list), an argument, and a text. FORMAT.md says which, and how blocks of the stream "raw" keep them.
"""
from __future__ import annotations

import json
import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zstandard
from numpy.typing import NDArray

from mantra.errors import ArchiveError
from mantra.tape.lines import Record
from mantra.tape.segment import SegmentReader, Table

LAYOUT = "raw1: feeds:2 kinds:1 arguments:1 books:2 sizes:4 numbers:8 origins:8 texts"
RECORD = np.dtype([("origin", "<u8"), ("number", "<u8"), ("size", "<u4"), ("book", "<u2"), ("kind", "u1"),
                   ("argument", "u1")])
HEAD = struct.Struct("<4sIQ")
COLUMNS = (("feed", "<u2"), ("kind", "u1"), ("argument", "u1"), ("book", "<u2"), ("size", "<u4"), ("number", "<u8"),
           ("origin", "<u8"))
FULL = 4 << 20              # bytes of texts, after which a block is closed
MOST = 1 << 28              # bytes of a block, unpacked: more is damage
HELD_NS = 500_000_000       # so much later may stand what another feed was told earlier: a capture reads in rounds
PADDING = 64                # readable bytes behind the texts, as the hot path wants them


class Kind(IntEnum):
    """What a record is."""

    MESSAGE = 1
    SENT = 2
    OPENED = 3
    CLOSED = 4
    REST = 5
    HOLE = 6
    SUSPECT = 7
    LOOKED = 8
    REFUSED = 9
    EXPECTED = 10
    RESCALED = 11
    STALE = 12
    FRESH = 13
    TIMED = 14
    ADOPTED = 15


class RawBlock(NamedTuple):
    """Records of many feeds. Record i's text ends at texts[ends[i]]; PADDING follows the last."""

    records: NDArray[Any]
    feeds: NDArray[np.uint16]
    ends: NDArray[np.uint64]
    texts: NDArray[np.uint8]

    def text(self, i: int) -> bytes:
        end = int(self.ends[i])
        return self.texts[end - int(self.records["size"][i]):end].tobytes()


class RawPacker:
    """Gathers records of many feeds until they are a block."""

    def __init__(self) -> None:
        self._batches: list[tuple[int, NDArray[Any], NDArray[np.uint8]]] = []
        self.count, self.room = 0, FULL
        self.first = self.last = 0          # cycles, of the earliest and the latest record; 0: none

    def add(self, feed: int, records: NDArray[Any], texts: NDArray[np.uint8]) -> None:
        """What a reader's `batch` gave (mantra.core.tape)."""
        if not len(records):
            return
        origins = records["origin"]
        first, last = int(origins.min()), int(origins.max())
        self.first, self.last = min(self.first or first, first), max(self.last, last)
        self.count += len(records)
        self.room -= len(texts) + records.nbytes
        self._batches.append((feed, records.copy(), texts.copy()))      # not the 1.4 MB of room that they lie in

    def pack(self, level: int = 3) -> bytes:
        """The block; empties the packer."""
        batches, count = self._batches, self.count
        self.__init__()  # type: ignore[misc]
        records = np.concatenate([np.empty(0, RECORD), *(records for _, records, _ in batches)])
        feeds = np.repeat(np.array([feed for feed, _, _ in batches], "<u2"), [len(rows) for _, rows, _ in batches])
        columns = {"feed": feeds, **{name: records[name] for name, _ in COLUMNS[1:5]},
                   "number": _by_feed(feeds, records["number"], np.diff),
                   "origin": np.diff(records["origin"], prepend=np.uint64(0))}
        parts = [np.ascontiguousarray(columns[name], kind).view((np.uint8, np.dtype(kind).itemsize)).T.tobytes()
                 for name, kind in COLUMNS]
        texts = [texts.data for _, _, texts in batches]
        body = b"".join([*parts, *texts])
        return HEAD.pack(b"raw1", count, sum(map(len, texts))) + zstandard.ZstdCompressor(level).compress(body)


def _by_feed(feeds: NDArray[np.uint16], values: NDArray[np.uint64], step: Any) -> NDArray[np.uint64]:
    """`values` of each feed as their differences (np.diff), or the other way round (np.cumsum)."""
    order = np.argsort(feeds, kind="stable")
    out, sorted_ = np.empty(len(values), "<u8"), values[order]
    begins = np.flatnonzero(np.diff(feeds[order].astype("i4"), prepend=-1))
    if step is np.diff:
        told = np.diff(sorted_, prepend=np.uint64(0))
        told[begins] = sorted_[begins]
    else:
        told = np.cumsum(sorted_, dtype="<u8")
        told -= np.repeat(told[begins] - sorted_[begins], np.diff(begins, append=len(values)))
    out[order] = told
    return out


def unpack(body: bytes | memoryview) -> RawBlock:
    """What is in a block. ArchiveError when it is damaged."""
    try:
        magic, count, size = HEAD.unpack_from(body)
        total = count * sum(np.dtype(kind).itemsize for _, kind in COLUMNS) + size
        if magic != b"raw1" or total > MOST:
            raise ArchiveError("not a block of a tape")
        frame = memoryview(body)[HEAD.size:]
        if zstandard.get_frame_parameters(frame).content_size != total:
            raise ArchiveError("a block of a tape is not as long as it says")
        unpacked = zstandard.ZstdDecompressor().decompress(frame, max_output_size=total)
    except (struct.error, zstandard.ZstdError) as error:
        raise ArchiveError(f"a block of a tape is damaged: {error}") from None
    columns, at = {}, 0
    for name, kind in COLUMNS:
        width = np.dtype(kind).itemsize
        bytes_ = np.frombuffer(unpacked, "u1", count * width, at).reshape(width, count)
        columns[name], at = np.ascontiguousarray(bytes_.T).view(kind).reshape(count), at + count * width
    records = np.empty(count, RECORD)
    for name in ("kind", "argument", "book", "size"):
        records[name] = columns[name]
    records["number"] = _by_feed(columns["feed"], columns["number"], np.cumsum)
    records["origin"] = np.cumsum(columns["origin"], dtype="<u8")
    ends = np.cumsum(columns["size"], dtype="<u8")
    if (int(ends[-1]) if count else 0) != size:
        raise ArchiveError("the records of a block are not as long as their texts")
    return RawBlock(records, columns["feed"], ends, np.frombuffer(unpacked + bytes(PADDING), "u1", offset=at))


def blocks(paths: Iterable[Path]) -> Iterator[tuple[Table, RawBlock]]:
    """Those of the tapes in these files, each unpacked while the one before is looked at; without damaged ones."""
    def read(reader: SegmentReader, record: Any) -> tuple[Table, RawBlock] | None:
        try:
            return reader.table, unpack(reader.body(record))
        except ArchiveError:
            return None         # `mantra archive verify` tells of it

    with ThreadPoolExecutor(1) as ahead:
        waiting = []
        for reader in map(SegmentReader, paths):
            for record in reader.blocks("raw"):
                waiting.append(ahead.submit(read, reader, record))
                if len(waiting) > 1 and (block := waiting.pop(0).result()):
                    yield block
        yield from filter(None, (last.result() for last in waiting))


def records(paths: Iterable[Path], venue: str) -> Iterator[Record]:
    """What connections to a venue were told, by time, as lines.read gives what other people recorded. `url` of a
    message is the name of its connection, whose "open" has the JSON of its OPENED or ADOPTED as text."""
    of: dict[str, str] = {}             # venues of connections
    times: dict[str, int] = {}          # likewise, of the last record: in a connection the order is kept
    held: list[Record] = []
    for table, block in blocks(paths):
        names = {number: name.removeprefix("raw.") for number, name in table.feeds.items()}
        utc = table.utc(block.records["origin"])
        kinds, arguments = (block.records[field].tolist() for field in ("kind", "argument"))
        for i, (number, kind, argument, time_ns) in enumerate(zip(block.feeds.tolist(), kinds, arguments, utc.tolist(),
                                                                  strict=True)):
            name = names.get(number, "")
            if kind == Kind.OPENED:
                of[name] = _venue(block.text(i))
            if of.get(name) != venue:
                continue
            time_ns = times[name] = max(time_ns, times.get(name, 0))
            if kind == Kind.MESSAGE and argument <= 2:
                held.append(Record(time_ns, "message", block.text(i), name))
            elif kind == Kind.REST and argument:
                url, _, body = block.text(i).partition(b"\n")
                held.append(Record(time_ns, "rest", body, url.decode(errors="replace")))
            elif kind in (Kind.OPENED, Kind.ADOPTED):
                held.append(Record(time_ns, "open", block.text(i), name))
        held.sort(key=lambda record: record.time_ns)
        ready = bisect_right(held, int(utc.max(initial=0)) - HELD_NS, key=lambda record: record.time_ns)
        yield from held[:ready]
        del held[:ready]
    yield from held


def connections(paths: Iterable[Path]) -> dict[str, str]:
    """Those that began on the tapes in these files, and their venues."""
    return {table.feeds.get(int(block.feeds[i]), "").removeprefix("raw."): _venue(block.text(int(i)))
            for table, block in blocks(paths) for i in np.flatnonzero(block.records["kind"] == Kind.OPENED)}


def _venue(text: bytes) -> str:
    try:
        return str(json.loads(text)["venue"])
    except (LookupError, TypeError, ValueError, RecursionError):
        return ""
