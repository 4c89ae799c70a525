"""exports: an archive for other programs: Parquet, CSV, and hftbacktest's npz: `mantra archive export --help`.

All read block by block and write as they go: a day is never in memory. Where a book begins, was replaced, or some of it
was lost, its levels follow as updates of their own, so whoever reads an export needs no images.
"""
from __future__ import annotations

import contextlib
import csv
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mantra.archive.archive import Archive, utc
from mantra.archive.options import NAMED, Chosen, chosen, damaged, parser, progress
from mantra.core import ticks
from mantra.core.book import BookImage
from mantra.core.messages import DTYPES, Flag, Kind, Side
from mantra.core.pack import Block, Image
from mantra.errors import ConfigurationError, MantraError
from mantra.runtime.options import door
from mantra.tape.segment import Record, SegmentReader
from mantra.venues import NAMES

KEPT = ("update", "trade", "order")     # messages that are exported
LATE_NS = 10_000_000_000    # hftbacktest: how long an event may come behind those that the venue dates later

# hftbacktest.types: its events, their flags, and a row
DEPTH_EVENT, TRADE_EVENT, DEPTH_CLEAR_EVENT, DEPTH_SNAPSHOT_EVENT = 1, 2, 3, 4
EXCH_EVENT, LOCAL_EVENT, BUY_EVENT, SELL_EVENT = 1 << 31, 1 << 30, 1 << 29, 1 << 28
EVENT = np.dtype([("ev", "<u8"), ("exch_ts", "<i8"), ("local_ts", "<i8"), ("px", "<f8"), ("qty", "<f8"),
                  ("order_id", "<u8"), ("ival", "<i8"), ("fval", "<f8")], align=True)

Rows = NDArray[np.void]


class Whole(Archive):
    """An archive whose updates have whole books among them: behind a RESET, which is one of them where none was
    published, all levels, FROM_SNAPSHOT. `names`: of the venues that were met."""

    def __init__(self, paths: Sequence[str | Path]) -> None:
        super().__init__(paths)
        self.names = dict(enumerate(NAMES))
        self.scales = {row.id: row for row in self.instruments()}
        # By capture, feed, venue and instrument: where the last image or RESET stood, and whether it was an image.
        self._last: dict[tuple[str, int, int, int], tuple[int, bool]] = {}
        self._damaged = 0

    def rows(self, stream: str, venue: str | None = None, instrument: str | None = None, since: int | None = None,
             until: int | None = None) -> Iterator[Rows]:
        """Messages of a stream, a block at a time; books that are there at `since` come first."""
        self._last.clear()
        if since is not None and self.streams[stream] == "update":
            for at, number in sorted({(row[0], row[1]) for entry in self.entries for row in entry.held}):
                if venue in (None, at) and instrument in (None, self.scales[number].name):
                    image = self.book(at, number, since - 1)
                    if image is not None and image.generation:
                        yield levels(image, True, since, 0)
        yield from self.messages(stream, venue, instrument, since, until)

    def block(self, reader: SegmentReader, record: Record, venue: str | None, instrument: str | int | None
               ) -> tuple[Block | None, NDArray[np.int64]]:
        block, times = super().block(reader, record, venue, instrument)
        self.names |= reader.table.venues
        if block is None or reader.table.streams[record.stream].message != "update":
            return block, times
        if len(self.problems) > self._damaged:      # whatever was in a damaged block is lost
            self._last, self._damaged = {}, len(self.problems)
        capture, messages = reader.capture, block.messages
        resets: list[tuple[int, Image | None]] = [(row + 1, None) for row in np.flatnonzero(
            messages["kind"] == Kind.RESET).tolist()]
        parts, feeds, done = [], [], 0
        for before, held in sorted([*resets, *((held.before, held) for held in block.images)],
                                   key=lambda each: (each[0], each[1] is not None)):
            row: Any = messages[before - 1] if before else None
            if held is None:
                book = capture, int(block.feeds[before - 1]), int(row["venue"]), int(row["instrument"])
                self._last[book] = int(block.positions[before - 1]), False
                continue
            image, book = held.image, (capture, held.feed, held.image.venue, held.image.instrument)
            position, whole = self._last.get(book, (-1, False))
            lost = position < 0 or any(gap.feed == held.feed and position <= gap.position < image.position
                                       for gap in reader.table.gaps)
            if lost or not whole:
                stamps = row[["origin", "published"]].item() if before else (record.first_ns, 0)
                told = levels(image, lost, *stamps)
                parts += [messages[done:before], told]
                feeds += [block.feeds[done:before], np.full(len(told), held.feed, np.uint16)]
                done = before
            self._last[book] = image.position, True
        if parts:
            messages = np.concatenate([*parts, messages[done:]])
            block = block._replace(messages=messages, feeds=np.concatenate([*feeds, block.feeds[done:]]))
            times = utc(messages)
        return block, times


def levels(image: BookImage, begins: bool, origin: int, published: int) -> Rows:
    """A book as updates; `begins`: behind a RESET of their own."""
    rows = np.zeros(len(image.bids) + len(image.asks) + begins, DTYPES["update"])
    rows["origin"], rows["published"], rows["sequence"] = origin, published, image.sequence
    rows["venue_time_ns"], rows["venue"], rows["instrument"] = image.venue_time_ns, image.venue, image.instrument
    rows["trust"], rows["flags"], rows["kind"] = image.trust, Flag.FROM_SNAPSHOT | Flag.MORE, Kind.ASK
    rows["kind"][:begins + len(image.bids)], rows["kind"][:begins] = Kind.BID, Kind.RESET
    rows["price"][:begins] = image.generation
    rows["price"][begins:], rows["size"][begins:] = np.concatenate([image.bids, image.asks]).T
    rows["flags"][-1:] = Flag.FROM_SNAPSHOT | image.reason << 4
    return rows


def columns(rows: Rows) -> dict[str, NDArray[Any]]:
    """What an export says of messages, as numbers; what the columns mean is in `--help`."""
    kind = "kind" if "kind" in (rows.dtype.names or ()) else "side"
    number = next(name for name in ("sequence", "trade_id", "order_id") if name in (rows.dtype.names or ()))
    flags = rows["flags"]
    told = {"received": rows["origin"].view(np.int64), "published": utc(rows), "venue_time": rows["venue_time_ns"],
            **{name: rows[name] for name in ("venue", "instrument", kind, "price", "size", number, "trust")},
            "more": (flags & Flag.MORE).astype(bool), "publisher": rows["published"].astype(np.uint16)}
    if kind == "kind":
        told |= {"snapshot": (flags & Flag.FROM_SNAPSHOT).astype(bool), "reason": flags >> 4}
    return told


def words(archive: Whole) -> dict[str, dict[int, str]]:
    """What numbers in columns stand for. An instrument's later scales are told by their number, too."""
    return {"venue": archive.names, "instrument": {
        row.id: f"{row.name}.{row.generation}" if row.generation else row.name for row in archive.scales.values()}} | {
        name: {int(each): each.name.lower() for each in kind} for name, kind in NAMED.items()}


class Parquet:
    """Messages to a Parquet file."""

    def __init__(self, path: Path, archive: Whole, message: str) -> None:
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError:
            raise ConfigurationError("Parquet needs pyarrow: pip install 'mantra[parquet]'") from None
        self._arrow, self._words, fields = pyarrow, words(archive), []
        for name, numbers in columns(np.empty(0, DTYPES[message])).items():
            of_type, told = pyarrow.from_numpy_dtype(numbers.dtype), None
            if name in self._words:
                of_type = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
            elif name in ("received", "published", "venue_time"):
                of_type, told = pyarrow.timestamp("ns", "UTC"), {"unit": "ns since 1970, UTC"}
            elif name in ("price", "size"):
                decimals = {self._words["instrument"][row.id]: getattr(row, f"{name}_decimals")
                            for row in archive.scales.values()}
                told = {"unit": f"10^-decimals of the {'quote' if name == 'price' else 'base'} currency",
                        "decimals": json.dumps(decimals)}
            fields.append(pyarrow.field(name, of_type, False, told))
        self._schema = pyarrow.schema(fields, {"mantra": message})
        self._writer = parquet.ParquetWriter(path, self._schema, compression="zstd")

    def write(self, rows: Rows) -> None:
        arrays = []
        for field, (name, numbers) in zip(self._schema, columns(rows).items(), strict=True):
            if name in self._words:
                found, index = np.unique(numbers, return_inverse=True)
                texts = [self._words[name].get(number, str(number)) for number in found.tolist()]
                arrays.append(self._arrow.DictionaryArray.from_arrays(
                    index.astype(np.int32), self._arrow.array(texts, self._arrow.string())))
            else:
                arrays.append(self._arrow.array(numbers, field.type))
        self._writer.write_table(self._arrow.table(arrays, self._schema))

    def close(self) -> None:
        self._writer.close()


class Csv:
    """Messages to a CSV file."""

    def __init__(self, path: Path, archive: Whole, message: str) -> None:
        self._file = path.open("w", encoding="utf-8", newline="\n")
        self._archive, self._words, self._table = archive, words(archive), csv.writer(self._file, lineterminator="\n")
        self._table.writerow(columns(np.empty(0, DTYPES[message])))

    def write(self, rows: Rows) -> None:
        texts: list[Iterable[Any]] = []
        for name, numbers in columns(rows).items():
            if name in ("price", "size"):
                scales = {number: getattr(row, f"{name}_decimals") for number, row in self._archive.scales.items()}
                decimals = [scales.get(number, 0) for number in rows["instrument"].tolist()]
                if name == "price" and "kind" in (rows.dtype.names or ()):      # of RESET a generation
                    decimals = (np.array(decimals) * (rows["kind"] != Kind.RESET)).tolist()
                texts.append(map(decimal, numbers.tolist(), decimals))
            elif known := self._words.get(name):
                texts.append([known.get(number) or str(number) for number in numbers.tolist()])
            else:
                texts.append((numbers.view(np.uint8) if numbers.dtype == bool else numbers).tolist())
        self._table.writerows(zip(*texts, strict=True))

    def close(self) -> None:
        self._file.close()


@lru_cache(1 << 17)
def decimal(number: int, decimals: int) -> str:
    return ticks.text(number, decimals, True)


@contextlib.contextmanager
def in_the_making(path: Path) -> Iterator[Path]:
    """Where to write what becomes `path` if all goes well. ConfigurationError: it is there already."""
    if path.exists():
        raise ConfigurationError(f"{path} exists already")
    part = path.with_name(path.name + ".part")
    try:
        yield part
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)


def gathered(pieces: Iterator[Rows], least: int = 1 << 17) -> Iterator[Rows]:
    """As many together as make a row group that is quick to read: a capture's blocks are of a second or so."""
    held: list[Rows] = []
    for rows in pieces:
        held.append(rows)
        if sum(map(len, held)) >= least:
            yield np.concatenate(held)
            held = []
    if held:
        yield np.concatenate(held)


def tables(archive: Whole, out: Path, make: type[Parquet] | type[Csv], asked: Chosen,
           tell: Callable[[int], None]) -> dict[str, Any]:
    """A file for each stream in folder `out`."""
    told = {}
    out.mkdir(parents=True, exist_ok=True)
    for stream, message in archive.streams.items():
        if message not in KEPT:
            continue
        path, count = out / f"{stream}.{make.__name__.lower()}", 0
        with in_the_making(path) as part:
            with contextlib.closing(make(part, archive, message)) as writer:
                for rows in gathered(archive.rows(stream, *asked)):
                    writer.write(rows)
                    count += len(rows)
                    tell(len(rows))
        told[stream] = {"file": str(path), "rows": count, "bytes": path.stat().st_size}
    return told


# -- hftbacktest -------------------------------------------------------------------------------------------------------


class Backtest:
    """Events of one instrument at one venue as hftbacktest reads them: what it hears is in the order of local time,
    what its exchange does in the order of the venue's. An event that is not both is told twice, once for each.

    The venue's time is the message's, or the local one where it has none. `offset_ns` is added to local times;
    `least_ns` is the shortest latency met, below zero where the recorder's clock was behind. `clamped`: came too late
    for its place among the venue's."""

    def __init__(self, archive: Whole, asked: Chosen, offset_ns: int = 0) -> None:
        self._archive, self._asked, self._offset_ns = archive, asked, offset_ns
        self.least_ns, self.rows, self.twice, self.clamped = 1 << 62, 0, 0, 0

    def __iter__(self) -> Iterator[NDArray[np.void]]:
        held, floor, last = np.empty(0, EVENT), 0, 0
        # Of what has the same time trades come first: hftbacktest would take their size from the queue twice.
        sources = [map(self._events, self._archive.rows(stream, *self._asked)) for stream in ("trades", "updates")
                   if stream in self._archive.streams]
        for events in merged(sources):
            np.maximum.accumulate(np.maximum(events["local_ts"], last), out=events["local_ts"])
            last = int(events["local_ts"][-1])
            self.least_ns = min(self.least_ns, int((events["local_ts"] - events["exch_ts"]).min()))
            held = np.concatenate([held, events])
            newest = np.maximum.accumulate(np.maximum(held["exch_ts"], floor))
            cut = int(np.searchsorted(newest, newest[-1] - LATE_NS, "right"))
            yield self._ordered(held, newest, cut, floor)
            held, floor = held[cut:], int(newest[cut - 1]) if cut else floor
        yield self._ordered(held, np.maximum.accumulate(np.maximum(held["exch_ts"], floor)), len(held), floor)

    def _ordered(self, held: Rows, newest: NDArray[np.int64], cut: int, floor: int) -> Rows:
        """The first `cut` events, and what the venue did before the last of them, in both orders; `newest` is the
        latest venue time up to each, `floor` that of what went before."""
        before, times = np.append(floor, newest[:-1])[:len(held)], held["exch_ts"]
        untold = (held["ev"] & EXCH_EVENT) != 0
        which, in_order = np.flatnonzero(untold & (times < before)), np.flatnonzero(untold & (times >= before))
        place = np.append(in_order, len(held))[np.searchsorted(times[in_order], times[which], "right")]
        place = np.minimum(place, which)        # what it comes behind may be written already
        which, place = which[place < cut], place[place < cut]
        copies = held[which]
        held["ev"][which] &= np.uint64(~EXCH_EVENT & (1 << 64) - 1)
        copies["ev"] &= np.uint64(~LOCAL_EVENT & (1 << 64) - 1)
        self.clamped += int((copies["exch_ts"] < floor).sum())
        copies["exch_ts"] = np.maximum(copies["exch_ts"], floor)
        rows = np.concatenate([copies, held[:cut]])
        order = np.lexsort((np.concatenate([copies["exch_ts"], np.zeros(cut, np.int64)]),
                            np.repeat([0, 1], [len(copies), cut]), np.concatenate([place, np.arange(cut)])))
        self.rows, self.twice = self.rows + len(rows), self.twice + len(copies)
        ordered = rows[order]
        ordered["local_ts"] += self._offset_ns
        return ordered

    def _events(self, messages: Rows) -> Rows:
        of_books = "kind" in (messages.dtype.names or ())
        if of_books:
            messages = messages[messages["kind"] != Kind.TRUST]
        events = np.zeros(len(messages), EVENT)
        price, size = (np.float_power(10.0, [getattr(self._archive.scales[number], f"{what}_decimals") for number in
                                             messages["instrument"].tolist()]) for what in ("price", "size"))
        events["local_ts"] = messages["origin"].view(np.int64)
        events["exch_ts"] = np.where(messages["venue_time_ns"] > 0, messages["venue_time_ns"], events["local_ts"])
        events["px"], events["qty"] = messages["price"] / price, messages["size"] / size
        events["ev"] = EXCH_EVENT | LOCAL_EVENT
        if not of_books:
            events["ev"] |= np.where(messages["side"] == Side.BUY, BUY_EVENT, SELL_EVENT).astype(np.uint64) | np.uint64(
                TRADE_EVENT)
            return events
        reset = messages["kind"] == Kind.RESET
        events["px"][reset] = 0
        events["ev"] |= np.select([reset, messages["flags"] & Flag.FROM_SNAPSHOT != 0],
                                  [DEPTH_CLEAR_EVENT, DEPTH_SNAPSHOT_EVENT], DEPTH_EVENT).astype(np.uint64)
        events["ev"] |= np.select([messages["kind"] == Kind.BID, messages["kind"] == Kind.ASK],
                                  [BUY_EVENT, SELL_EVENT], 0).astype(np.uint64)
        return events


def merged(sources: Sequence[Iterator[Rows]]) -> Iterator[Rows]:
    """Events of several sources, each in the order of its local times, as one; at equal times those of the first."""
    held: list[Rows | None] = [np.empty(0, EVENT) for _ in sources]
    while True:
        for n, source in enumerate(sources):
            while (mine := held[n]) is not None and not len(mine):
                held[n] = next(source, None)
        there = [each for each in held if each is not None]
        if not there:
            return
        until = min(int(each["local_ts"].max()) for each in there)
        parts = []
        for n, each in enumerate(held):
            if each is not None:
                ready = each["local_ts"] <= until
                parts.append(each[ready])
                held[n] = each[~ready]
        events = np.concatenate(parts)
        yield events[np.argsort(events["local_ts"], kind="stable")]


def backtest(archive: Whole, out: Path, asked: Chosen, tell: Callable[[int], None]) -> dict[str, Any]:
    """One instrument of one venue to the file `out`, read twice: numpy's header says first how many rows there are, and
    a latency below zero, which hftbacktest refuses, has to be known first."""
    held = {(row[0], archive.scales[row[1]].name) for entry in archive.entries for row in entry.held
            if row[2] in ("trades", "updates")}
    fits = sorted((venue, name) for venue, name in held if asked[0] in (None, venue) and asked[1] in (None, name))
    if len(fits) != 1:
        raise ConfigurationError("hftbacktest's files hold one instrument: name --venue and --instrument of "
                                 + (", ".join(f"{venue} {name}" for venue, name in fits[:20]) or "those there are"))
    asked = (*fits[0], *asked[2:])
    with in_the_making(out) as part:
        first = Backtest(archive, asked)
        for events in first:
            tell(len(events))
        second = Backtest(archive, asked, max(0, -first.least_ns))
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file, file.open(
                "data.npy", "w", force_zip64=True) as data:
            np.lib.format.write_array_header_1_0(data, {     # it reads no other
                "descr": np.lib.format.dtype_to_descr(EVENT), "fortran_order": False, "shape": (first.rows,)})
            for events in second:
                data.write(events.tobytes())
                tell(len(events))
        if second.rows != first.rows:
            raise MantraError(f"{second.rows:,} events where {first.rows:,} were counted: is the archive written to?")
    return {"file": str(out), "rows": first.rows, "bytes": out.stat().st_size, "told_twice": first.twice,
            "clamped": first.clamped, "local_offset_ns": max(0, -first.least_ns)}


EPILOG = """\
parquet   DIR/updates.parquet and trades.parquet. received, published, venue_time: timestamps in ns; price, size: whole
          counts of 10^-decimals, which the metadata of these columns says for every instrument.
csv       DIR/updates.csv and trades.csv, the same columns: times in ns since 1970, prices and sizes as exact decimals.
          kind: bid, ask (size 0: the level is gone), trust (only that changed), reset (the book was replaced, for the
          price-th time: forget its levels). snapshot: a level of a book that stands whole behind the last of these.
          more: more of the same message follow. reason: why trust is no higher, where it is told anew.
          An instrument's second scale is called NAME.1.
hftbacktest   FILE.npz for its version 2: one instrument; depth, snapshots, clears and trades, in the exchange's order
          and in the local one (an event that has another place in each is told twice). Its prices are floats. Where
          the recorder's clock was behind, all local times are put off until no latency is below zero.

Any other program that reads these needs nothing of mantra."""


@door("mantra archive export", interrupted=1)
def main(argv: Sequence[str] | None = None) -> int:
    made = parser("export", "Bring what was recorded to other programs, a block at a time.", EPILOG)
    made.add_argument("--format", required=True, choices=("parquet", "csv", "hftbacktest"))
    made.add_argument("--out", required=True, type=Path, metavar="PATH", help="a folder; of hftbacktest a file")
    options = made.parse_args(argv)
    archive, asked = Whole(options.paths), chosen(options)
    archive.known(*asked[:2])
    total = sum(entry.streams[stream][0] for entry in archive.entries for stream in entry.streams
                if archive.streams[stream] in KEPT)
    with progress() as shown:
        task = shown.add_task("exporting", total=total * (2 if options.format == "hftbacktest" else 1))
        tell = partial(shown.advance, task)
        if options.format == "hftbacktest":
            told = backtest(archive, options.out, asked, tell)
        else:
            told = tables(archive, options.out, Parquet if options.format == "parquet" else Csv, asked, tell)
    if options.json:
        print(json.dumps(told | {"problems": archive.problems}))
    else:
        for one in [told] if "file" in told else told.values():
            print(f"{one['file']}: {one['rows']:,} rows, {one['bytes']:,} bytes")
    return damaged("export", archive.problems)
