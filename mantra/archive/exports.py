"""exports: an archive for other programs: Parquet, CSV, and hftbacktest's npz: `mantra archive export --help`.

All read block by block and write as they go: a day is never in memory. Where a book begins, was replaced, or some of it
was lost, its levels follow as updates of their own (SNAPSHOT), so whoever reads an export needs no images.
"""
from __future__ import annotations

import argparse
import json
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from mantra.archive.archive import Archive, moment
from mantra.archive.archive import utc as published
from mantra.core import ticks
from mantra.core.book import BookImage
from mantra.core.messages import DTYPES, Flag, Kind, Side, Trust
from mantra.errors import ConfigurationError, MantraError
from mantra.runtime.options import Parser, door
from mantra.tape.segment import Instrument
from mantra.venues import NAMES

SNAPSHOT = 0x80         # of an update's flags, here only: a level of a book that stands whole behind the last of them
STREAMS = ("updates", "trades")
LATE_NS = 10_000_000_000    # hftbacktest: how long an event may come behind those that the venue dates later

# hftbacktest.types: its events, their flags, and a row
DEPTH_EVENT, TRADE_EVENT, DEPTH_CLEAR_EVENT, DEPTH_SNAPSHOT_EVENT = 1, 2, 3, 4
EXCH_EVENT, LOCAL_EVENT, BUY_EVENT, SELL_EVENT = 1 << 31, 1 << 30, 1 << 29, 1 << 28
EVENT = np.dtype([("ev", "<u8"), ("exch_ts", "<i8"), ("local_ts", "<i8"), ("px", "<f8"), ("qty", "<f8"),
                  ("order_id", "<u8"), ("ival", "<i8"), ("fval", "<f8")], align=True)

Messages = NDArray[np.void]
Book = tuple[str, int, int, int]        # capture, feed, venue, instrument


def whole(archive: Archive, venue: str | None = None, instrument: str | int | None = None, since: int | None = None,
          until: int | None = None) -> Iterator[Messages]:
    """Updates, and the levels of books as said above: behind a RESET, which is one of them where none was published."""
    seen: dict[Book, int] = {}          # position of the last image of a book that is whole since then
    replaced: dict[Book, int] = {}      # of the RESET of one whose image is still to come
    begun: set[tuple[int, int]] = set()
    for at, number, name in sorted({(row[0], row[1], entry.named(row[1])) for entry in archive.entries
                                    for row in entry.held}) if since is not None else ():
        wanted = venue in (None, at) and instrument in (None, name, number)
        if wanted and (image := archive.book(at, number, since)) is not None and image.generation:
            begun.add((image.venue, image.instrument))
            yield levels(image, True, since or 0, 0)
    for _, reader, record in archive._blocks("updates", since, until):
        block, _ = archive._block(reader, record, venue, instrument)
        if block is None:
            continue
        capture, messages = reader.table.capture or str(reader.path), block.messages
        resets = np.flatnonzero(messages["kind"] == Kind.RESET)
        moments: list[tuple[int, int, Any]] = [
            *((int(row) + 1, 0, row) for row in resets), *((held.before, 1, held) for held in block.images)]
        parts, done = [], 0
        for before, is_image, what in sorted(moments, key=lambda each: each[:2]):
            if not is_image:
                book = capture, int(block.feeds[what]), int(messages["venue"][what]), int(messages["instrument"][what])
                seen.pop(book, None)
                begun.discard(book[2:])
                replaced[book] = int(block.positions[what])
                continue
            book = capture, what.feed, what.image.venue, what.image.instrument
            since_then = seen.get(book, replaced.pop(book, -1))
            gaps = [gap.position for gap in reader.table.gaps if gap.feed == what.feed]
            lost = since_then < 0 or any(since_then <= gap < what.image.position for gap in gaps)
            if book[2:] in begun:
                begun.discard(book[2:])
            elif lost or book not in seen:
                row = messages[max(before - 1, 0)] if len(messages) else np.zeros(1, DTYPES["update"])[0]
                parts += [messages[done:before], levels(what.image, lost, *row[["origin", "published"]].item())]
                done = before
            seen[book] = what.image.position
        parts.append(messages[done:])
        rows = np.concatenate(parts)
        times = published(rows)
        fits = (times >= (since or 0)) & (times < (until or 1 << 62))
        yield rows if fits.all() else rows[fits]


def levels(image: BookImage, begins: bool, origin: int, published: int) -> Messages:
    """A book as updates; `begins`: behind a RESET of their own."""
    rows = np.zeros(len(image.bids) + len(image.asks) + begins, DTYPES["update"])
    rows["origin"], rows["published"], rows["sequence"] = origin, published, image.sequence
    rows["venue_time_ns"], rows["venue"], rows["instrument"] = image.venue_time_ns, image.venue, image.instrument
    rows["trust"], rows["flags"] = image.trust, SNAPSHOT | Flag.MORE
    at = int(begins)
    if begins:
        rows["kind"][0], rows["price"][0] = Kind.RESET, image.generation
    for kind, side in ((Kind.BID, image.bids), (Kind.ASK, image.asks)):
        rows["kind"][at:at + len(side)] = kind
        rows["price"][at:at + len(side)], rows["size"][at:at + len(side)] = side[:, 0], side[:, 1]
        at += len(side)
    if len(rows):
        rows["flags"][-1] = SNAPSHOT
    return rows


class Names:
    """What ids stand for: venues, and instruments with their decimals; of a later scale its number is told, too."""

    def __init__(self, archive: Archive) -> None:
        self.venues = dict(enumerate(NAMES))
        self.instruments: dict[int, Instrument] = {}
        for entry in archive.entries:
            if (reader := archive._file(entry)) is not None:
                self.venues |= reader.table.venues
                self.instruments |= reader.table.instruments
        self.labels = {row.id: f"{row.name}.{row.generation}" if row.generation else row.name
                       for row in self.instruments.values()}

    def decimals(self, what: str) -> dict[str, int]:
        return {self.labels[row.id]: getattr(row, f"{what}_decimals") for row in self.instruments.values()}


def columns(stream: str) -> list[str]:
    """Those of an export, in their order; what they mean is in `--help`."""
    middle = ["kind", "price", "size", "sequence", "more", "snapshot"] if stream == "updates" else [
        "side", "price", "size", "trade_id", "more"]
    return ["received", "published", "venue_time", "venue", "instrument", *middle, "trust", "publisher"]


def values(messages: Messages, column: str) -> NDArray[Any]:
    """A column as numbers."""
    if column == "published":
        return published(messages)
    if column == "publisher":
        return messages["published"].astype(np.uint16)
    if column in ("more", "snapshot"):
        flags: NDArray[np.uint8] = messages["flags"]
        return (flags & (Flag.MORE if column == "more" else SNAPSHOT)).astype(np.bool_)
    numbers: NDArray[Any] = messages[{"received": "origin", "venue_time": "venue_time_ns"}.get(column, column)]
    return numbers.view(np.int64) if column == "received" else numbers


WORDS: dict[str, type[Kind] | type[Side] | type[Trust]] = {"kind": Kind, "side": Side, "trust": Trust}


class Parquet:
    """One stream to a Parquet file."""

    def __init__(self, path: Path, stream: str, names: Names) -> None:
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError:
            raise ConfigurationError("Parquet needs pyarrow: pip install 'mantra[parquet]'") from None
        self._arrow = pyarrow
        word = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
        of_type = {"received": pyarrow.timestamp("ns", "UTC"), "price": pyarrow.int64(), "sequence": pyarrow.uint64(),
                   "more": pyarrow.bool_(), "publisher": pyarrow.uint16()}
        alike = {"published": "received", "venue_time": "received", "size": "price", "trade_id": "sequence",
                 "snapshot": "more"}
        told: dict[str, dict[str, str]] = {
            name: {"unit": f"10^-decimals of the {currency} currency", "decimals": json.dumps(names.decimals(name))}
            for name, currency in (("price", "quote"), ("size", "base"))}
        told |= {name: {"unit": "ns since 1970, UTC"} for name in ("received", "published", "venue_time")}
        self._schema = pyarrow.schema(
            [pyarrow.field(name, of_type.get(alike.get(name, name), word), False, told.get(name))
             for name in columns(stream)], {"mantra": stream})
        self._texts = {"venue": names.venues, "instrument": names.labels} | {
            name: {int(each): each.name.lower() for each in kind} for name, kind in WORDS.items()}
        self._writer = parquet.ParquetWriter(path, self._schema, compression="zstd")

    def write(self, messages: Messages) -> None:
        self._writer.write_table(self._arrow.table(
            [self._column(field, values(messages, field.name)) for field in self._schema], self._schema))

    def _column(self, field: Any, numbers: NDArray[Any]) -> Any:
        if field.name not in self._texts:
            return self._arrow.array(numbers, field.type)
        found, index = np.unique(numbers, return_inverse=True)
        texts = [self._texts[field.name].get(int(number), str(number)) for number in found]
        return self._arrow.DictionaryArray.from_arrays(index.astype(np.int32), self._arrow.array(
            texts, self._arrow.string()))

    def close(self) -> None:
        self._writer.close()


class Csv:
    """One stream to a CSV file."""

    def __init__(self, path: Path, stream: str, names: Names) -> None:
        self._file = path.open("w", encoding="utf-8", newline="\n")
        self._columns, self._names = columns(stream), names
        self._file.write(",".join(self._columns) + "\n")

    def write(self, messages: Messages) -> None:
        names, texts = self._names, []
        reset = (messages["kind"] == Kind.RESET).tolist() if "kind" in (messages.dtype.names or ()) else None
        for column in self._columns:
            numbers = values(messages, column)
            if column in ("price", "size"):
                scale = {row.id: getattr(row, f"{column}_decimals") for row in names.instruments.values()}
                of = [scale.get(number, 0) for number in messages["instrument"].tolist()]
                if reset and column == "price":      # its generation: no price
                    of = [0 if one else decimals for one, decimals in zip(reset, of, strict=True)]
                texts.append(list(map(decimal, numbers.tolist(), of)))
            elif column in ("venue", "instrument"):
                known = names.venues if column == "venue" else names.labels
                texts.append([known.get(number, str(number)) for number in numbers.tolist()])
            elif column in WORDS:
                word = {int(each): each.name.lower() for each in WORDS[column]}
                texts.append([word.get(number, str(number)) for number in numbers.tolist()])
            else:
                texts.append(list(map(str, (numbers.view(np.uint8) if numbers.dtype == bool else numbers).tolist())))
        self._file.writelines(",".join(row) + "\n" for row in zip(*texts, strict=True))

    def close(self) -> None:
        self._file.close()


@lru_cache(1 << 17)
def decimal(number: int, decimals: int) -> str:
    return ticks.text(number, decimals, True)


def tables(archive: Archive, out: Path, make: type[Parquet] | type[Csv], chosen: tuple[Any, ...],
           tell: Callable[[int], None]) -> dict[str, Any]:
    """A file for each stream in folder `out`."""
    names, told = Names(archive), {}
    out.mkdir(parents=True, exist_ok=True)
    for stream in STREAMS:
        if stream not in archive.streams:
            continue
        path = out / f"{stream}.{make.__name__.lower()}"
        if path.exists():
            raise ConfigurationError(f"{path} exists already")
        writer, rows = make(path, stream, names), 0
        try:
            for messages in whole(archive, *chosen) if stream == "updates" else archive.trades(*chosen):
                writer.write(messages)
                rows += len(messages)
                tell(len(messages))
            writer.close()
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        told[stream] = {"file": str(path), "rows": rows, "bytes": path.stat().st_size}
    return told


# -- hftbacktest -------------------------------------------------------------------------------------------------------


class Backtest:
    """Events of one instrument at one venue as hftbacktest reads them: what it hears is in the order of local time,
    what its exchange does in the order of the venue's. An event that is not both is told twice, once for each.

    The venue's time is the message's, or the local one where it has none. `offset_ns` is added to local times;
    `least_ns` is the shortest latency met, below zero where the recorder's clock was behind. `clamped`: came too late
    for its place among the venue's."""

    def __init__(self, archive: Archive, chosen: tuple[Any, ...], offset_ns: int = 0) -> None:
        self._archive, self._chosen, self._names, self._offset_ns = archive, chosen, Names(archive), offset_ns
        self.least_ns, self.rows, self.twice, self.clamped = 1 << 62, 0, 0, 0

    def __iter__(self) -> Iterator[NDArray[np.void]]:
        held, floor, last = np.empty(0, EVENT), 0, 0
        trades = self._archive.trades(*self._chosen) if "trades" in self._archive.streams else ()
        sources = [map(self._events, messages) for messages in (trades, whole(self._archive, *self._chosen))]
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

    def _ordered(self, held: NDArray[np.void], newest: NDArray[np.int64], cut: int, floor: int) -> NDArray[np.void]:
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

    def _events(self, messages: Messages) -> NDArray[np.void]:
        of_books = "kind" in (messages.dtype.names or ())
        if of_books:
            messages = messages[messages["kind"] != Kind.TRUST]
        events = np.zeros(len(messages), EVENT)
        price, size = (np.float_power(10.0, [getattr(self._names.instruments[number], f"{what}_decimals") for number in
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
        events["ev"] |= np.select([reset, messages["flags"] & SNAPSHOT != 0], [DEPTH_CLEAR_EVENT, DEPTH_SNAPSHOT_EVENT],
                                  DEPTH_EVENT).astype(np.uint64)
        events["ev"] |= np.select([messages["kind"] == Kind.BID, messages["kind"] == Kind.ASK],
                                  [BUY_EVENT, SELL_EVENT], 0).astype(np.uint64)
        return events


def merged(sources: Sequence[Iterator[NDArray[np.void]]]) -> Iterator[NDArray[np.void]]:
    """Events of several sources, each in the order of its local times, as one; at equal times those of the first."""
    held: list[NDArray[np.void] | None] = [np.empty(0, EVENT) for _ in sources]
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


def backtest(archive: Archive, out: Path, chosen: tuple[Any, ...], tell: Callable[[int], None]) -> dict[str, Any]:
    """One instrument of one venue to the file `out`, read twice: numpy's header says first how many rows there are, and
    a latency below zero, which hftbacktest refuses, has to be known first."""
    held = {(row[0], entry.named(row[1])) for entry in archive.entries for row in entry.held if row[2] in STREAMS}
    fits = sorted((venue, name) for venue, name in held if chosen[0] in (None, venue) and chosen[1] in (None, name))
    if len(fits) != 1:
        raise ConfigurationError("hftbacktest's files hold one instrument: name --venue and --instrument of "
                                 + ", ".join(f"{venue} {name}" for venue, name in fits[:20]))
    if out.exists():
        raise ConfigurationError(f"{out} exists already")
    chosen = (*fits[0], *chosen[2:])
    first = Backtest(archive, chosen)
    for events in first:
        tell(len(events))
    second = Backtest(archive, chosen, max(0, -first.least_ns))
    part = out.with_name(out.name + ".part")
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file, file.open(
                "data.npy", "w", force_zip64=True) as data:
            np.lib.format.write_array_header_1_0(data, {     # it reads no other
                "descr": np.lib.format.dtype_to_descr(EVENT), "fortran_order": False, "shape": (first.rows,)})
            for events in second:
                data.write(events.tobytes())
                tell(len(events))
        if second.rows != first.rows:
            raise MantraError(f"{second.rows:,} events where {first.rows:,} were counted: is the archive written to?")
        part.rename(out)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return {"file": str(out), "rows": first.rows, "bytes": out.stat().st_size, "told_twice": first.twice,
            "clamped": first.clamped, "local_offset_ns": max(0, -first.least_ns)}


EPILOG = """\
parquet   DIR/updates.parquet and trades.parquet. received, published, venue_time: timestamps in ns; price, size: whole
          counts of 10^-decimals, which the metadata of these columns says for every instrument.
csv       DIR/updates.csv and trades.csv, the same columns: times in ns since 1970, prices and sizes as exact decimals.
          kind: bid, ask (size 0: the level is gone), trust (only that changed), reset (the book was replaced, for the
          price-th time: forget its levels). snapshot: a level of a book that stands whole behind the last of these.
          more: more of the same message follow. An instrument's second scale is called NAME.1.
hftbacktest   FILE.npz for its version 2: one instrument; depth, snapshots, clears and trades, in the exchange's order
          and in the local one (an event that has another place in each is told twice). Its prices are floats. Where
          the recorder's clock was behind, all local times are put off until no latency is below zero.

Any other program that reads these needs nothing of mantra."""


def parser() -> argparse.ArgumentParser:
    made = Parser(prog="mantra archive export", formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EPILOG,
                  description="Bring what was recorded to other programs, a block at a time.")
    made.add_argument("paths", nargs="+", metavar="PATH", help="an archive: folders of segments, or segments")
    made.add_argument("--format", required=True, choices=("parquet", "csv", "hftbacktest"))
    made.add_argument("--out", required=True, type=Path, metavar="PATH", help="a folder; of hftbacktest a file")
    made.add_argument("--venue", metavar="V", help="only of this one")
    made.add_argument("--instrument", metavar="I", help="only this one, by its name")
    made.add_argument("--from", dest="since", metavar="TIME", help="published from then on: 2026-01-31T12:00:00.5 "
                      "(UTC), or ns since 1970")
    made.add_argument("--to", dest="until", metavar="TIME", help="published before then")
    made.add_argument("--json", action="store_true", help="one JSON object on the last line of standard output")
    return made


@door("mantra archive export", interrupted=1)
def main(argv: Sequence[str] | None = None) -> int:
    options = parser().parse_args(argv)
    archive = Archive(options.paths)
    archive._known(options.venue, options.instrument)
    chosen = (options.venue, options.instrument, *(None if text is None else moment(text) for text in (
        options.since, options.until)))
    total = sum(entry.streams.get(stream, [0])[0] for entry in archive.entries for stream in STREAMS)
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("exporting", total=total * (2 if options.format == "hftbacktest" else 1))

        def tell(rows: int) -> None:
            progress.advance(task, rows)

        if options.format == "hftbacktest":
            told = backtest(archive, options.out, chosen, tell)
        else:
            told = tables(archive, options.out, Parquet if options.format == "parquet" else Csv, chosen, tell)
    for problem in archive.problems:
        print(f"mantra archive export: {problem}", file=sys.stderr)
    if options.json:
        print(json.dumps(told | {"problems": archive.problems}))
    else:
        for one in [told] if "file" in told else told.values():
            print(f"{one['file']}: {one['rows']:,} rows, {one['bytes']:,} bytes")
    return 1 if archive.problems else 0


if __name__ == "__main__":
    sys.exit(main())
