"""segment: one file of an archive: records with checksums, each found again after damage. FORMAT.md draws it.

    with SegmentWriter("20260101.mantra", {"streams": {1: {"name": "updates", "message": "update"}}, ...}) as writer:
        writer.block(1, packer.pack(), messages, first_ns, last_ns)

    with SegmentReader("20260101.mantra") as reader:
        for record in reader.blocks("updates", since_ns, until_ns):
            messages = unpack("update", reader.body(record)).messages

A file in the making is NAME.part, locked by its writer. A whole one is read by its index; one whose writer was killed,
or that is damaged, by walking its records: what is lost is said in `problems`.
"""
from __future__ import annotations

import fcntl
import json
import math
import os
import resource
import stat
import struct
import time
import zlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import zstandard
from numpy.typing import NDArray

from mantra.core.clock import Clock
from mantra.core.messages import LAYOUTS
from mantra.core.pack import Block, sources, unpack
from mantra.errors import ArchiveError, ConfigurationError

if TYPE_CHECKING:
    from typing_extensions import Self

MAGIC, VERSION = b"mantra archive\n\0", 1
FILE = struct.Struct("<16sI")               # magic, version; their crc follows
# mark, kind, 0, stream, messages, bytes of the body, first and last ns, crc of the body; the crc of these follows
RECORD = struct.Struct("<IBBHIIQQI")
MARK = b"\x9dMR\xa7"
TABLE, BLOCK, INDEX, SOURCES, END = 1, 2, 3, 4, 5
SUFFIXES = (".mantra", ".mantra.part")
HEAD, FILE_HEAD = RECORD.size + 4, FILE.size + 4
ENDING = struct.Struct("<QQQ16s")           # offsets of the last table, index and sources; digest of the index
MOST_BYTES = 1 << 28                        # in a body
ROW = np.dtype([("offset", "<u8"), ("mark", "<u4"), ("kind", "u1"), ("zero", "u1"), ("stream", "<u2"),
                ("messages", "<u4"), ("size", "<u4"), ("first_ns", "<u8"), ("last_ns", "<u8"), ("crc", "<u4"),
                ("header_crc", "<u4")])
SOURCE = np.dtype([("row", "<u4"), ("instrument", "<u4"), ("messages", "<u4"), ("feed", "<u2"), ("venue", "u1"),
                   ("images", "u1")])       # `row` of the index; more than 255 images are 255


class Instrument(NamedTuple):
    """A scale generation of an instrument, as in mantra.venues.instrument."""

    id: int
    name: str
    generation: int
    price_decimals: int
    size_decimals: int


class Stream(NamedTuple):
    name: str
    message: str    # of mantra.core.messages: its blocks are mantra.core.pack's; "": they are something else
    layout: str     # of the message, as LAYOUTS says it


class Gap(NamedTuple):
    """Messages that the writer missed: `lost` of a feed from `position` on; it noticed at `utc_ns`."""

    feed: int
    position: int
    lost: int
    utc_ns: int


class Record(NamedTuple):
    """A record's place in the file and, `row`, in the index, and what its header says."""

    row: int
    offset: int
    kind: int
    stream: int
    messages: int
    size: int       # bytes of its body
    first_ns: int   # UTC of publishing
    last_ns: int
    crc: int


class Problem(NamedTuple):
    offset: int
    size: int       # bytes
    what: str


def pack_json(told: Mapping[str, Any]) -> bytes:
    """A body of JSON: of tables, and of streams that have no message."""
    return zstandard.ZstdCompressor(3).compress(json.dumps(told, separators=(",", ":")).encode())


def unpack_json(body: bytes) -> dict[str, Any]:
    """What `pack_json` packed. ArchiveError: it is not that."""
    try:
        told = json.loads(_inflate(body, 4096 + 256 * len(body)))
    except (ValueError, RecursionError) as error:
        raise ArchiveError(f"no JSON: {error}") from None
    if not isinstance(told, dict):
        raise ArchiveError("no JSON object")
    return told


def _inflate(body: bytes, most: int) -> bytes:
    try:
        size = zstandard.frame_content_size(body)
        if not 0 <= size <= most:       # the library would allocate whatever the frame says
            raise ArchiveError(f"{size} bytes in {len(body)}")
        return zstandard.ZstdDecompressor().decompress(body, max_output_size=size)
    except zstandard.ZstdError as error:
        raise ArchiveError(f"no zstd: {error}") from None


def clock_told(clock: Clock) -> dict[str, Any]:
    """What a table says of a clock: add it to the writer's again and again, each time is a point of its calibration."""
    cycles = clock.cycles()
    return {"kind": clock.kind, "ns_per_cycle": clock.ns(10**12) / 1e12, "points": [[cycles, clock.to_utc(cycles)]]}


@dataclass
class Table:
    """What all tables of a file say together."""

    capture: str = ""       # who wrote it: of equal ones positions and numbers of feeds go on from file to file
    writer: str = ""        # the program
    feeds: dict[int, str] = field(default_factory=dict)
    venues: dict[int, str] = field(default_factory=dict)
    streams: dict[int, Stream] = field(default_factory=dict)
    instruments: dict[int, Instrument] = field(default_factory=dict)
    gaps: set[Gap] = field(default_factory=set)
    clock: str = ""         # its kind
    ns_per_cycle: float = 1.0
    points: dict[int, int] = field(default_factory=dict)        # cycles: UTC ns
    _line: tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.float64]] | None = None      # through them

    def add(self, more: Mapping[str, Any]) -> None:
        """Add what a later table says (FORMAT.md has its keys). ArchiveError: it is none."""
        try:
            for name, texts in (("feeds", self.feeds), ("venues", self.venues)):
                texts.update({_number(n, 16): _text(text) for n, text in more.get(name, {}).items()})
            for n, told in more.get("streams", {}).items():
                self.streams[_number(n, 16)] = Stream(*(_text(told.get(key, "")) for key in Stream._fields))
            for told in more.get("instruments", ()):
                row = Instrument(_number(told["id"], 32), _text(told["name"]), _number(told["generation"], 16),
                                 _number(told["price_decimals"], 5), _number(told["size_decimals"], 5))
                self.instruments[row.id] = row
            self.gaps.update(Gap(_number(told["feed"], 16), *(_number(told[key], 63) for key in Gap._fields[1:]))
                             for told in more.get("gaps", ()))
            clock, self._line = more.get("clock", {}), None
            self.points.update((_number(cycles, 64), _number(utc, 63)) for cycles, utc in clock.get("points", ()))
            self.clock = _text(clock.get("kind", self.clock))
            rate = float(clock.get("ns_per_cycle", self.ns_per_cycle))
            if not 0 < rate < math.inf:
                raise ValueError(f"{rate} ns per cycle")
            self.ns_per_cycle = rate
            self.capture, self.writer = _text(more.get("capture", self.capture)), _text(more.get("writer", self.writer))
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise ArchiveError(f"no table: {error!r}") from None

    def told(self) -> dict[str, Any]:
        """As one table."""
        return {"capture": self.capture, "writer": self.writer, "feeds": self.feeds, "venues": self.venues,
                "streams": {n: stream._asdict() for n, stream in self.streams.items()},
                "instruments": [row._asdict() for row in self.instruments.values()],
                "gaps": [gap._asdict() for gap in sorted(self.gaps)],
                "clock": {"kind": self.clock, "ns_per_cycle": self.ns_per_cycle, "points": sorted(self.points.items())}}

    def utc(self, cycles: NDArray[np.uint64]) -> NDArray[np.int64]:
        """UTC nanoseconds of stamps in cycles: on the line between the points around, past them at ns_per_cycle."""
        if self._line is None:
            points = sorted(self.points.items()) or [(0, 0)]
            at, utc = np.array([c for c, _ in points], np.uint64), np.array([u for _, u in points], np.int64)
            rates = np.diff(utc) / np.diff(at).astype(np.float64)
            self._line = at, utc, np.concatenate([[self.ns_per_cycle], rates, [self.ns_per_cycle]])
        at, utc, rates = self._line
        after = np.searchsorted(at, cycles, "right")
        base = np.maximum(after - 1, 0)
        span = (cycles - at[base]).view(np.int64)
        # A cycle of 1 ns stays exact where a float of the whole span would not be.
        result: NDArray[np.int64] = utc[base] + span + np.rint(span * (rates[after] - 1.0)).astype(np.int64)
        return result


def _number(value: Any, bits: int) -> int:
    number = int(value)
    if not 0 <= number < 1 << bits:
        raise ValueError(f"{number} does not fit {bits} bits")
    return number


def _text(value: Any) -> str:
    """Such as may be printed: a file from elsewhere does not write escape sequences to a terminal."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value if value.isprintable() else "".join(each if each.isprintable() else "?" for each in value)


def _held(row: int, message: str, body: bytes) -> NDArray[np.void]:
    return np.array([(row, one.instrument, one.messages, one.feed, one.venue, min(one.images, 255))
                     for one in sources(message, body)] if message else [], SOURCE)


def is_archive(path: Path) -> bool:
    """Is this a segment, or a folder of some?"""
    return path.name.endswith(SUFFIXES) or any(each.name.endswith(SUFFIXES) for each in path.glob("*"))


def files(paths: Iterable[str | Path]) -> list[Path]:
    """The segments that `paths` (files, or folders of them) stand for. ConfigurationError: there are none."""
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = {each.name for each in path.iterdir() if each.name.endswith(SUFFIXES)}
            found += sorted(path / name for name in inside if name.endswith(".mantra")
                            or name.removesuffix(".part") not in inside)
            if not inside:
                raise ConfigurationError(f"{path} holds no *.mantra: nothing was captured or imported to it")
        elif path.exists():
            found.append(path)
        else:
            raise ConfigurationError(f"{path} is not there")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if len(found) > soft // 2:      # they may all be open at once; of most systems' 1,024 that is six weeks of hours
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return list(dict.fromkeys(found))


class SegmentWriter:
    """Writes one file, NAME.part until it is closed. Every record is the kernel's when its call returns (kill -9 loses
    nothing), and the disk's `sync_s` seconds later at most, as long as records come.

    An OSError (a full disk) leaves the file as it was before the call, which can be made again. ArchiveError: the file
    exists already."""

    def __init__(self, path: str | Path, table: Mapping[str, Any], *, sync_s: float = 1.0) -> None:
        self.path = Path(path)
        self.part = self.path.with_name(self.path.name + ".part")
        self.size = 0           # bytes so far
        self._file, self._unnamed = -1, True
        self._rows, self._sources = bytearray(), [np.empty(0, SOURCE)]
        self._table = Table()
        self._table.add(table)
        self._sync_s, self._synced = sync_s, time.monotonic()
        if self.path.exists():
            raise ArchiveError(f"{self.path} exists already")
        try:
            self._file = os.open(self.part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            raise ArchiveError(f"{self.part} exists already") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            head = FILE.pack(MAGIC, VERSION)
            self._append(head + zlib.crc32(head).to_bytes(4, "little"))
            for _ in range(2):      # as nothing has a name without it
                self._record(TABLE, pack_json(self._table.told()))
        except BaseException:
            self.leave()
            self.part.unlink()
            raise

    def table(self, more: Mapping[str, Any]) -> None:
        """Add to the table. ArchiveError: these are no keys and values of one."""
        self._table.add(more)
        self._record(TABLE, pack_json(more))

    def block(self, stream: int, body: bytes, messages: int, first_ns: int, last_ns: int) -> None:
        """A block of a stream that a table has named; the UTC of its earliest and latest message."""
        if stream not in self._table.streams:
            raise ValueError(f"no table names the stream {stream}")
        if len(self._sources) == 2:     # and once more elsewhere: a disk loses more than a byte at a time
            self._record(TABLE, pack_json(self._table.told()))
        held = _held(len(self._rows) // ROW.itemsize, self._table.streams[stream].message, body)
        self._record(BLOCK, body, stream, messages, first_ns, last_ns)
        self._sources.append(held)

    def _record(self, kind: int, body: bytes, stream: int = 0, messages: int = 0, first_ns: int = 0,
                last_ns: int = 0) -> int:
        if len(body) > MOST_BYTES:
            raise ValueError(f"a body of {len(body)} bytes; it may have {MOST_BYTES}")
        at, mark = self.size, int.from_bytes(MARK, "little")
        head = RECORD.pack(mark, kind, 0, stream, messages, len(body), first_ns, last_ns, zlib.crc32(body))
        head += zlib.crc32(head).to_bytes(4, "little")
        self._append(b"".join((head, body, bytes(-len(body) % 8))))
        if kind in (TABLE, BLOCK):
            self._rows += at.to_bytes(8, "little") + head
        if time.monotonic() - self._synced > self._sync_s:
            self.sync()
        return at

    def _append(self, data: bytes) -> None:
        try:
            view = memoryview(data)
            while view:
                view = view[os.pwrite(self._file, view, self.size + len(data) - len(view)):]
        except BaseException:
            os.ftruncate(self._file, self.size)
            raise
        self.size += len(data)

    def sync(self) -> None:
        """All that was written is on disk when this returns."""
        os.fdatasync(self._file)
        if self._unnamed:
            self._sync_folder()
        self._synced = time.monotonic()

    def _sync_folder(self) -> None:
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)        # else a power cut may still take the file's name
        finally:
            os.close(folder)
        self._unnamed = False

    def close(self) -> None:
        """Write the index, and give the file its final name. OSError: it is as it was, to be closed again or left."""
        if self._file < 0:
            return
        size, rows = self.size, len(self._rows)
        try:
            zstd = zstandard.ZstdCompressor(3)
            table = self._record(TABLE, pack_json(self._table.told()))
            index = self._record(INDEX, zstd.compress(bytes(self._rows)))
            held = np.concatenate(self._sources)
            columns = b"".join(held[name].tobytes() for name in held.dtype.names or ())
            held_at = self._record(SOURCES, zstd.compress(columns), messages=len(held))
            self._record(END, ENDING.pack(table, index, held_at, blake2b(self._rows, digest_size=16).digest()))
            os.fsync(self._file)
            self.part.rename(self.path)
        except BaseException:
            os.ftruncate(self._file, size)
            self.size = size
            del self._rows[rows:]
            raise
        self.leave()
        self._sync_folder()

    def leave(self) -> None:
        """End without an index: NAME.part stays, and can be read."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()
        self.leave()


class SegmentReader:
    """Reads one file, also while it is written. `table`: what it says of itself; `whole`: it was closed, and its index
    is fine; `problems`: what was found damaged so far, also by `body`.

    OSError; ArchiveError: it is no segment, or of a newer version. With `index` False its records are walked anyway."""

    def __init__(self, path: str | Path, *, index: bool = True) -> None:
        self._file = -1
        self.path = Path(path)
        self.table, self.whole, self.digest = Table(), False, b""
        self._problems: dict[int, Problem] = {}
        self._rows, self._array = bytearray(), np.empty(0, ROW)
        self._sources: NDArray[np.void] = np.empty(0, SOURCE)
        self._sources_at, self._sourced, self._walked = 0, 0, FILE_HEAD
        self._file = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)     # a pipe must not hold us up
        try:
            if not stat.S_ISREG(os.fstat(self._file).st_mode):
                raise ArchiveError(f"{self.path} is no file")
            head = os.pread(self._file, FILE_HEAD, 0)
            if len(head) < FILE_HEAD and self.path.suffix == ".part":
                return          # nothing yet
            if len(head) < FILE_HEAD or zlib.crc32(head[:-4]).to_bytes(4, "little") != head[-4:]:
                if self._find(0, min(self.size, 1 << 20)) is None:
                    raise ArchiveError(f"{self.path} is no mantra archive")
                self._problem(0, FILE_HEAD, "the header of the file is damaged")
            elif not head.startswith(MAGIC) or FILE.unpack(head[:-4])[1] > VERSION:
                raise ArchiveError(f"{self.path} is of version {FILE.unpack(head[:-4])[1]}; this mantra reads up to "
                                   f"{VERSION}")
            if not index or not self._indexed():
                self.refresh()
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> int:
        """Bytes of the file now."""
        return os.fstat(self._file).st_size

    @property
    def growing(self) -> bool:
        """Is it being written?"""
        if self.whole or self.path.suffix != ".part":
            return False
        try:
            fcntl.flock(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(self._file, fcntl.LOCK_UN)
        return False

    @property
    def problems(self) -> list[Problem]:
        return [self._problems[at] for at in sorted(self._problems)]

    def _problem(self, offset: int, size: int, what: str) -> None:
        self._problems.setdefault(offset, Problem(offset, size, what))

    @property
    def rows(self) -> NDArray[np.void]:
        """The index: a ROW for each table and block, in the order of the file."""
        if self._array.nbytes != len(self._rows):
            self._array = np.frombuffer(bytes(self._rows), ROW)
        return self._array

    def blocks(self, stream: int | str | None = None, since_ns: int | None = None,
               until_ns: int | None = None) -> list[Record]:
        """The blocks of a stream (number or name; None: all) that may hold something of [since, until), in the order of
        the file."""
        rows = self.rows
        wanted = rows["kind"] == BLOCK
        if stream is not None:
            wanted &= np.isin(rows["stream"], [n for n, one in self.table.streams.items() if stream in (n, one.name)])
        if since_ns is not None:
            wanted &= rows["last_ns"] >= max(since_ns, 0)
        if until_ns is not None:
            wanted &= rows["first_ns"] < max(until_ns, 0)
        return [self.record(int(row)) for row in np.flatnonzero(wanted)]

    def record(self, row: int) -> Record:
        """What a row of the index says."""
        offset, _, kind, _, *rest, _ = self.rows[row].item()
        return Record(int(row), offset, kind, *rest)

    @property
    def capture(self) -> str:
        """The capture that it is a file of; one that does not say stands alone."""
        return self.table.capture or str(self.path)

    def unpack(self, record: Record, only: Collection[tuple[int, int]] | None = None) -> Block:
        """A block's messages, `only` of these (venue, instrument). ArchiveError: it is damaged, or has another layout
        than this mantra's."""
        stream = self.table.streams[record.stream]
        if stream.layout not in ("", LAYOUTS.get(stream.message)):
            raise ArchiveError(f"{self.path} holds [{stream.layout}]; this mantra has [{LAYOUTS.get(stream.message)}]")
        return unpack(stream.message, self.body(record), only=only)

    def body(self, record: Record) -> bytes:
        """A record's body. ArchiveError: it is damaged."""
        data = self._checked(record)
        if data is None:
            what = {TABLE: "a table", BLOCK: f"a block of {record.messages:,} messages"}.get(record.kind, "the index")
            self._problem(record.offset, HEAD + record.size, f"{what} is damaged")
            raise ArchiveError(f"{self.path}: {what} at {record.offset} is damaged")
        return data

    def _checked(self, record: Record) -> bytes | None:
        at = record.offset + HEAD
        if record.size > min(MOST_BYTES, self.size - at):       # never allocate what a damaged header says
            return None
        data = os.pread(self._file, record.size, at)
        return data if len(data) == record.size and zlib.crc32(data) == record.crc else None

    def sources(self) -> NDArray[np.void]:
        """Who the blocks have messages of: SOURCE rows, in the order of the index. A file without an index is read for
        that."""
        if self._sources_at:
            at, self._sources_at = self._sources_at, 0
            try:
                record = self._at(at)
                if record is None:
                    raise ArchiveError("no record")
                columns, count = _inflate(self.body(record), 4096 + 256 * record.size), record.messages
                if len(columns) != count * SOURCE.itemsize:
                    raise ArchiveError(f"{len(columns)} bytes for {count}")
                held, start = np.empty(count, SOURCE), 0
                for name in SOURCE.names or ():
                    held[name] = np.frombuffer(columns, SOURCE[name], count, start)
                    start += held[name].nbytes
                if count and held["row"].max() >= len(self.rows):
                    raise ArchiveError("blocks that are not there")
                self._sources, self._sourced = held, len(self.rows)
            except ArchiveError as error:
                self._problem(at, HEAD, f"the list of who is in which block is damaged: {error}")
        found = [self._sources]
        for row in range(self._sourced, len(self.rows)):
            record = self.record(row)
            stream = self.table.streams.get(record.stream)
            if record.kind == BLOCK and stream is not None and stream.message:
                try:
                    found.append(_held(row, stream.message, self.body(record)))
                except ArchiveError as error:
                    self._problem(record.offset, HEAD + record.size, str(error))
        if len(found) > 1:
            self._sources = np.concatenate(found)
        self._sourced = len(self.rows)
        return self._sources

    def refresh(self) -> None:
        """Read on in a file that was growing: walk from record to record, and past damage to the next."""
        if self.whole:
            return
        growing, size = self.growing, self.size
        at, last = self._walked, None
        while at < size:
            record = self._at(at)
            if record is not None and at + HEAD + record.size <= size:
                self._take(record)
                at, last = at + HEAD + record.size + -record.size % 8, record
                continue
            if last is not None and self._checked(last) is None:
                at = last.offset + HEAD     # bytes of it are missing: the next may begin earlier than it says
            last, found = None, self._find(at + 1, size)
            if found is None and growing:
                break           # it is being written
            until = size if found is None else found
            self._problem(at, until - at, "the last record is cut off" if found is None else "no readable record")
            at = until
        self._walked = at

    def _take(self, record: Record) -> None:
        if record.kind in (TABLE, BLOCK):
            self._rows += record.offset.to_bytes(8, "little") + os.pread(self._file, HEAD, record.offset)
        try:
            if record.kind == TABLE:
                self.table.add(unpack_json(self.body(record)))
            elif record.kind == END and record.size == ENDING.size:
                self.digest = ENDING.unpack(self.body(record))[3]
                self.whole = not self._problems and self.digest == blake2b(self._rows, digest_size=16).digest()
        except ArchiveError as error:
            self._problem(record.offset, HEAD + record.size, str(error))

    def _at(self, offset: int) -> Record | None:
        """The record whose header is there, if one is."""
        head = b"" if offset >> 62 else os.pread(self._file, HEAD, offset)
        if len(head) < HEAD or not head.startswith(MARK) or zlib.crc32(head[:-4]).to_bytes(4, "little") != head[-4:]:
            return None
        _, kind, _, stream, messages, size, first_ns, last_ns, crc = RECORD.unpack(head[:-4])
        return Record(len(self._rows) // ROW.itemsize, offset, kind, stream, messages, size, first_ns, last_ns, crc)

    def _find(self, start: int, size: int) -> int | None:
        """Where the next record begins that is there as far as its header says."""
        while start < size:
            chunk = os.pread(self._file, 1 << 20, start)
            at = chunk.find(MARK)
            while at >= 0:
                record = self._at(start + at)
                if record is not None and record.offset + HEAD + record.size <= self.size:
                    return record.offset
                at = chunk.find(MARK, at + 1)
            start += max(len(chunk) - len(MARK) + 1, 1)     # a mark may lie across two chunks
        return None

    def _indexed(self) -> bool:
        """Read the end, the index and the last table; False: there are none, or they are damaged."""
        size = self.size
        end = self._at(max(size - HEAD - ENDING.size, 0))
        if end is None or end.kind != END or end.size != ENDING.size:
            return False
        try:
            table_at, index_at, self._sources_at, self.digest = ENDING.unpack(self.body(end))
            index = self._at(index_at)
            if index is None:
                raise ArchiveError("no index where it should be")
            data = _inflate(self.body(index), (size // HEAD + 1) * ROW.itemsize)
            if blake2b(data, digest_size=16).digest() != self.digest or len(data) % ROW.itemsize:
                raise ArchiveError("the index is not that of this file")
        except ArchiveError as error:
            self._sources_at = 0
            self._problem(end.offset, HEAD, f"the index is not used: {error}")
            return False
        self._rows[:] = data
        self.whole, table = True, self._at(table_at)
        try:
            if table is None:
                raise ArchiveError("the last table is not where it should be")
            self.table.add(unpack_json(self.body(table)))
        except ArchiveError as error:
            self._problem(table_at, HEAD, str(error))
            for row in np.flatnonzero(self.rows["kind"] == TABLE)[:-1]:
                record = self.record(row)
                try:
                    self.table.add(unpack_json(self.body(record)))
                except ArchiveError as error:
                    self._problem(record.offset, HEAD + record.size, str(error))
        return True

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    __del__ = close

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
