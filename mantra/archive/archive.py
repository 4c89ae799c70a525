"""archive: what was recorded, from Python: numpy arrays by venue, instrument and time, and books at any instant.

    archive = mantra.archive.open("recordings")
    for updates in archive.updates("binance", "ETH-BTC", since="2026-01-01T12:00"):
        print(updates["price"], mantra.archive.utc(updates))        # a block at a time, read when it is asked for
    trades = archive.trades(instrument="ETH-BTC").array()           # all venues, in the order of time
    book = archive.book("binance", "ETH-BTC", "2026-01-01T12:00:00.5")

Prices are ticks, sizes lots, as everywhere; `archive.instruments()` has the decimals. Times are UTC nanoseconds, those
in `origin` and `published` too (as on a virtual clock): what several captures recorded, each in its own cycles, fits
together. As they were, bit for bit, mantra.tape.segment and mantra.core.pack give them.
"""
from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mantra.archive.catalogue import Entry, catalogue, closed
from mantra.core.book import BookImage
from mantra.core.messages import DTYPES, Kind, Reason, Trust
from mantra.core.pack import Block
from mantra.errors import ArchiveError, ConfigurationError
from mantra.tape.lines import iso
from mantra.tape.segment import BLOCK, Gap, Instrument, Record, SegmentReader, unpack_json

Moment = int | str | datetime
SLACK_NS = 20_000_000       # what the writer's clock said of a time may differ from its calibration in hindsight
OPEN_FILES = 64
ENDLESS = 1 << 62           # later than anything
_16, _48 = np.uint64(16), np.int64((1 << 48) - 1)


def moment(value: Moment) -> int:
    """UTC nanoseconds of an int (which are that), a datetime or ISO text; UTC where these name no zone."""
    if isinstance(value, str):
        if value.lstrip("-").isdigit() and len(value) > 8:
            return int(value)
        try:
            value = iso(value)
        except ValueError:
            raise ConfigurationError(f"{value!r} is no time such as 2026-01-31T12:00:00.5, or ns since 1970") from None
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=timezone.utc)
        return (aware - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(microseconds=1) * 1000
    return int(value)


def utc(messages: NDArray[np.void]) -> NDArray[np.int64]:
    """UTC nanoseconds when these messages of an archive were published."""
    times: NDArray[np.int64] = (messages["origin"] + (messages["published"] >> _16)).view(np.int64)
    return times


class Lost(NamedTuple):
    """Messages that are not there, and why: the capture was overtaken (`messages` of them, by `feed` from `position`
    on), or bytes of the file are damaged (-1: it cannot be told how many)."""

    path: Path
    why: str
    feed: str = ""
    position: int = 0
    messages: int = -1
    utc_ns: int = 0


@dataclass(frozen=True)
class Messages:
    """Messages of an archive: iterate to get them in arrays as they are read; they are read again each time."""

    archive: Archive
    stream: str
    venue: str | None
    instrument: str | int | None
    since_ns: int | None
    until_ns: int | None

    def __iter__(self) -> Iterator[NDArray[np.void]]:
        held, keys = self._nothing(), np.empty(0, np.int64)     # read, but what the next block has may come before it
        floors: dict[str, NDArray[np.int64]] = {}           # by capture, of each feed: its order is never broken
        for first_ns, reader, record in self.archive._blocks(self.stream, self.since_ns, self.until_ns):
            ready = int(np.searchsorted(keys, first_ns - SLACK_NS))
            if ready:
                yield held[:ready]
                held, keys = held[ready:], keys[ready:]
            block, times = self.archive.block(reader, record, self.venue, self.instrument)
            if block is None:
                continue
            floor = floors.setdefault(reader.capture, np.zeros(1 << 16, np.int64))
            order = np.maximum.accumulate(np.maximum(times, floor[block.feeds]))
            floor[block.feeds] = order
            messages, fits = block.messages, np.ones(len(times), bool)
            if self.since_ns is not None:
                fits &= times >= self.since_ns
            if self.until_ns is not None:
                fits &= times < self.until_ns
            if not fits.all():
                messages, order = messages[fits], order[fits]
            if len(held):
                messages, order = np.concatenate([held, messages]), np.concatenate([keys, order])
                if len(keys) < len(order) and order[len(keys)] < keys[-1]:
                    merged = np.argsort(order, kind="stable")
                    messages, order = messages[merged], order[merged]
            held, keys = messages, order
        if len(held):
            yield held

    def array(self) -> NDArray[np.void]:
        """All of them."""
        return np.concatenate([*self, self._nothing()])

    def _nothing(self) -> NDArray[np.void]:
        return np.empty(0, DTYPES[self.archive.streams[self.stream]])


class Archive:
    """Segments read as one. `problems`: what could not be read so far, in words."""

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self._paths = paths
        self.problems: list[str] = []
        self._reader = lru_cache(OPEN_FILES)(self._opened)
        self._found = lru_cache(OPEN_FILES)(_found)
        self.refresh()

    def refresh(self) -> None:
        """Look for files that came since. ConfigurationError: there are none; ArchiveError: two contradict another."""
        self.entries = [entry for entry in catalogue(self._paths) if entry.state != "unreadable" or self._say(entry)]
        self.streams: dict[str, str] = {}       # names, and of which messages
        self._captures: dict[str, list[Entry]] = {}         # the files of each, as they were written
        self._instruments: dict[int, tuple[Instrument, Entry]] = {}
        for entry in self.entries:
            for row in entry.instruments.values():
                known, other = self._instruments.setdefault(row.id, (row, entry))
                if known != row:
                    raise ArchiveError(f"{row.id} is {known} in {other.path} and {row} in {entry.path}: they were "
                                       "recorded with different tables of instruments; open them apart")
            for name in entry.streams.keys() - self.streams.keys():
                self.streams[name] = next((one.message for one in self._reader(entry.path).table.streams.values()
                                           if one.name == name), "")
        for entry in sorted(self.entries, key=lambda entry: entry.path):
            self._captures.setdefault(entry.capture or str(entry.path), []).append(entry)
        # When a file begins, and when those of its capture that follow it do: never earlier than it itself.
        self._files: list[tuple[int, int, Entry]] = []
        for entries in self._captures.values():
            begins = ENDLESS
            for entry in reversed(entries):
                after, begins = begins, min(begins, entry.first_ns or ENDLESS)
                self._files.append((begins, after, entry))
        self._files.sort(key=lambda file: (file[0], file[2].path))

    def _say(self, entry: Entry) -> bool:
        self.problems += entry.problems
        return False

    # -- what there is ------------------------------------------------------------------------------------------------

    @property
    def span(self) -> tuple[int, int]:
        """UTC ns when the first and the last message was published; (0, 0): there is none."""
        held = [entry for entry in self.entries if entry.last_ns]
        return (min(entry.first_ns for entry in held), max(entry.last_ns for entry in held)) if held else (0, 0)

    def venues(self) -> list[str]:
        return sorted({venue for entry in self.entries for venue in entry.venues})

    def instruments(self, venue: str | None = None) -> list[Instrument]:
        """Those that there are messages of, at `venue`: name, decimals of prices and sizes."""
        held = {number for entry in self.entries for at, number, *_ in entry.held if venue in (None, at)}
        return [self._instruments[number][0] for number in sorted(held) if number in self._instruments]

    def gaps(self) -> list[Lost]:
        """What is known to be lost; `mantra archive verify` looks for what is not."""
        return [lost for entry in self.entries for lost in (
            *(Lost(entry.path, "the capture was overtaken", entry.feeds[gap.feed], gap.position, gap.lost, gap.utc_ns)
              for gap in entry.gaps), *(Lost(entry.path, problem) for problem in entry.problems))]

    def ledger(self) -> list[dict[str, Any]]:
        """What each capture received and lost, as it said last (see `mantra ledger --json`)."""
        last: dict[str, dict[str, Any]] = {}
        for _, reader, record in self._blocks("ledger", None, None):
            try:
                last[reader.capture] = unpack_json(reader.body(record))
            except ArchiveError as error:
                self.problems.append(str(error))
        return list(last.values())

    # -- messages -----------------------------------------------------------------------------------------------------

    def messages(self, stream: str, venue: str | None = None, instrument: str | int | None = None,
                 since: Moment | None = None, until: Moment | None = None) -> Messages:
        """Of a stream: those of `venue`, of `instrument` (a name, or the id of one scale generation), published from
        `since` until before `until`. ConfigurationError: there is no such stream, venue or instrument."""
        if not self.streams.get(stream):
            there = ", ".join(sorted(name for name, message in self.streams.items() if message)) or "none"
            raise ConfigurationError(f"no messages of {stream!r} were recorded; there are {there}")
        self.known(venue, instrument)
        return Messages(self, stream, venue, instrument, None if since is None else moment(since),
                        None if until is None else moment(until))

    def updates(self, venue: str | None = None, instrument: str | int | None = None, since: Moment | None = None,
                until: Moment | None = None) -> Messages:
        """Changes of books; see `messages`."""
        return self.messages("updates", venue, instrument, since, until)

    def trades(self, venue: str | None = None, instrument: str | int | None = None, since: Moment | None = None,
               until: Moment | None = None) -> Messages:
        """Trades; see `messages`."""
        return self.messages("trades", venue, instrument, since, until)

    def known(self, venue: str | None, instrument: str | int | None) -> None:
        """ConfigurationError: nothing of these was recorded."""
        if venue is not None and venue not in self.venues():
            raise ConfigurationError(f"nothing of {venue!r} was recorded; there is {', '.join(self.venues())}")
        names = [row.name for row in self.instruments(venue)]
        if isinstance(instrument, str) and instrument not in names:
            more = ", ..." if len(names) > 20 else ""
            raise ConfigurationError(f"nothing of {instrument!r} was recorded; there is {', '.join(names[:20])}{more}")

    def _opened(self, path: Path) -> SegmentReader:
        try:
            return SegmentReader(path)
        except FileNotFoundError:
            return SegmentReader(closed(path))      # it was being written when it was listed

    def _file(self, entry: Entry) -> SegmentReader | None:
        """A file, read on if it grew; None: it is gone."""
        try:
            reader = self._reader(entry.path)
            reader.refresh()
            return reader
        except (OSError, ArchiveError) as error:        # retention took it
            self.problems.append(str(error))
            return None

    def _blocks(self, stream: str, since_ns: int | None, until_ns: int | None
                ) -> Iterator[tuple[int, SegmentReader, Record]]:
        """Blocks, each with a time that nothing from it on is earlier than; those of one capture as they were written.
        A file is opened when its turn comes."""
        since = None if since_ns is None else since_ns - SLACK_NS
        until = ENDLESS + 1 if until_ns is None else until_ns + SLACK_NS
        waiting: list[tuple[int, int, int, SegmentReader, Record]] = []
        for n, (begins, after, entry) in enumerate(self._files):
            if begins >= until:
                break
            if since is not None and entry.last_ns < since and entry.state != "growing":
                continue
            while waiting and waiting[0][0] < begins:
                yield from _popped(waiting)
            if (reader := self._file(entry)) is None:
                continue
            for record in reversed(reader.blocks(stream, since, until)):
                after = min(after, record.first_ns)
                heapq.heappush(waiting, (after, n, record.row, reader, record))
        while waiting:
            yield from _popped(waiting)

    def block(self, reader: SegmentReader, record: Record, venue: str | None, instrument: str | int | None
               ) -> tuple[Block | None, NDArray[np.int64]]:
        """A block's messages of these, times in UTC, and when each was published; None: it has none, or is damaged."""
        none = np.empty(0, np.int64)
        only: Collection[tuple[int, int]] | None = None
        if venue is not None or instrument is not None:
            only, sources = self._found(reader, len(reader.rows), venue, instrument)
            if record.row not in sources["row"]:
                return None, none
        return self._unpacked(reader, record, only) or (None, none)

    def _unpacked(self, reader: SegmentReader, record: Record, only: Collection[tuple[int, int]] | None
                  ) -> tuple[Block, NDArray[np.int64]] | None:
        try:
            block = reader.unpack(record, only)
        except ArchiveError as error:
            if str(error) not in self.problems:
                self.problems.append(str(error))
            return None
        messages, table = block.messages, reader.table
        if table.points not in ({}, {0: 0}) or table.ns_per_cycle != 1:
            origin = table.utc(messages["origin"])
            published = table.utc(messages["origin"] + (messages["published"] >> _16))
            messages["origin"] = origin
            delta = np.clip(published - origin, 0, _48).view(np.uint64) << _16
            messages["published"] = delta | messages["published"] & np.uint64(0xFFFF)
        return block, utc(messages)

    # -- books --------------------------------------------------------------------------------------------------------

    def book(self, venue: str, instrument: str | int, at: Moment | None = None) -> BookImage | None:
        """The book with all updates published until then (None: until the end); None: it was not recorded yet.

        It is suspect where the capture missed something since the image it is made from (GAP), and suspect and empty
        where it was just being replaced (SYNCHRONISING); it is stale after the end of its capture (SILENT)."""
        self.known(venue, instrument)
        at_ns = self.span[1] if at is None else moment(at)
        begun = {capture: [entry.first_ns for entry in entries if 0 < entry.first_ns <= at_ns]
                 for capture, entries in self._captures.items()}
        for capture in sorted(filter(begun.__getitem__, begun), key=lambda capture: begun[capture][-1], reverse=True):
            if (found := _Past(self, self._captures[capture], venue, instrument, at_ns).book()) is not None:
                return found
        return None


def _found(reader: SegmentReader, rows: int, venue: str | None, instrument: str | int | None
           ) -> tuple[set[tuple[int, int]], NDArray[np.void]]:
    """Of a file, as long as it has so many rows: who is meant, as (venue, instrument), and the sources of these."""
    table, sources = reader.table, reader.sources()
    fits = np.ones(len(sources), bool)
    if venue is not None:
        fits &= np.isin(sources["venue"], [n for n in range(256) if table.venues.get(n, str(n)) == venue])
    if instrument is not None:
        fits &= np.isin(sources["instrument"], [row.id for row in table.instruments.values()
                                                if instrument in (row.name, row.id)])
    pairs = np.unique(sources[fits][["venue", "instrument"]])
    return {(int(pair["venue"]), int(pair["instrument"])) for pair in pairs}, sources[fits]


def _popped(waiting: list[tuple[int, int, int, SegmentReader, Record]]) -> Iterator[tuple[int, SegmentReader, Record]]:
    begins, _, _, reader, record = heapq.heappop(waiting)
    yield begins, reader, record


class _Past:
    """One book in the files of one capture, read backwards from a moment until an image of it is found."""

    def __init__(self, archive: Archive, entries: list[Entry], venue: str, instrument: str | int, at_ns: int) -> None:
        self.archive, self.venue, self.instrument, self.at_ns = archive, venue, instrument, at_ns
        self.until_ns = max(at_ns if entry.state == "growing" else entry.last_ns for entry in entries)
        self.last = max(n for n, entry in enumerate(entries) if entry.first_ns <= at_ns + SLACK_NS)
        self.entries = entries[:self.last + 3]          # two after the moment, to see what came next
        self._read: list[tuple[Block, NDArray[np.int64]]] = []      # of this book alone, newest first
        self._ends: dict[int, int] = {}

    def book(self) -> BookImage | None:
        for n in reversed(range(len(self.entries))):
            for reader in self._files(n, n):
                only, sources = self.archive._found(reader, len(reader.rows), self.venue, self.instrument)
                rows, imaged = self._rows(reader, sources), self._rows(reader, sources[sources["images"] > 0])
                at = reader.rows["first_ns"] <= max(self.at_ns + SLACK_NS, 0)
                # What the capture was gathering at the moment may begin with an image, and messages only later.
                for row in np.union1d(rows[at[rows]], imaged[~at[imaged]][:1])[::-1]:
                    record = reader.record(row)
                    if (found := self.archive._unpacked(reader, record, only)) is None:
                        continue
                    self._read.append(found)
                    for image in reversed(found[0].images):
                        if image.image.position <= self._end(image.feed):
                            return self._book(image.feed, image.image, n, record.offset)
        return None

    def _files(self, first: int, last: int) -> Iterator[SegmentReader]:
        for entry in self.entries[first:last + 1]:
            if (reader := self.archive._file(entry)) is not None:
                yield reader

    def _rows(self, reader: SegmentReader, sources: NDArray[np.void]) -> NDArray[np.uint32]:
        """Of the blocks of updates that have something of these sources."""
        rows: NDArray[np.uint32] = np.unique(sources["row"])
        return rows[np.isin(reader.rows["stream"][rows], _updates(reader))]

    def _end(self, feed: int) -> int:
        """The first position of a feed that may have been published after the moment. The capture's images are of what
        it had yet to read, and a gap that it noticed later may have been later."""
        if feed not in self._ends:
            end = next(self._later(feed), ENDLESS)
            for gap in sorted(self._gaps(feed, self.last), reverse=True):
                if gap.utc_ns > self.at_ns and (end == ENDLESS or gap.position + gap.lost >= end):
                    end = min(end, gap.position)
            self._ends[feed] = end
        return self._ends[feed]

    def _later(self, feed: int) -> Iterator[int]:
        """Positions of a feed that were published after the moment: the first of each block."""
        for n, entry in enumerate(self.entries):
            if entry.state == "growing" or entry.last_ns > self.at_ns - SLACK_NS:
                for reader in self._files(n, n):
                    sources = reader.sources()
                    rows = self._rows(reader, sources[sources["feed"] == feed])
                    for row in rows[reader.rows["last_ns"][rows] > max(self.at_ns - SLACK_NS, 0)]:
                        if (found := self.archive._unpacked(reader, reader.record(row), None)) is not None:
                            block, times = found
                            yield from block.positions[(block.feeds == feed) & (times > self.at_ns)][:1].tolist()

    def _gaps(self, feed: int, first: int) -> list[Gap]:
        """In the files from the `first` on."""
        files = self._files(first, len(self.entries))
        return [gap for reader in files for gap in reader.table.gaps if gap.feed == feed]

    def _book(self, feed: int, image: BookImage, first: int, offset: int) -> BookImage:
        """The image, which lies in file `first`, in the block at `offset`, with all that was published since."""
        parts = [(block.messages[since], block.positions[since], times[since])
                 for block, times in reversed(self._read)
                 for since in [(block.feeds == feed) & (block.positions >= image.position) & (times <= self.at_ns)]]
        messages, positions, times = (np.concatenate(each) for each in zip(*parts, strict=True))
        trusts = np.concatenate([[image.trust], messages["trust"]])
        changed = np.flatnonzero(np.diff(trusts))
        state = image._replace(position=int(positions[-1]) + 1 if len(positions) else image.position)
        if len(messages):
            state = state._replace(sequence=int(messages["sequence"][-1]), trust=int(trusts[-1]),
                                   venue_time_ns=int(messages["venue_time_ns"][-1]))
        if len(changed):
            state = state._replace(reason=int(messages["flags"][changed[-1]]) >> 4,
                                   trust_since_ns=int(times[changed[-1]]))
        if (messages["kind"] == Kind.RESET).any():
            nothing = np.empty((0, 2), np.int64)
            return state._replace(bids=nothing, asks=nothing, bid_count=0, ask_count=0, trust=int(Trust.SUSPECT),
                                  reason=int(Reason.SYNCHRONISING))
        bids = _levels(image.bids, messages[messages["kind"] == Kind.BID])[::-1]
        asks = _levels(image.asks, messages[messages["kind"] == Kind.ASK])
        state = state._replace(bids=bids, asks=asks, bid_count=len(bids), ask_count=len(asks))
        if self.at_ns > self.until_ns + SLACK_NS:
            state = state._replace(trust=min(state.trust, int(Trust.STALE)), reason=int(Reason.SILENT))
        if self._damaged((first, offset)) or any(
                gap.position + gap.lost > image.position and gap.position <= self._end(feed)
                for gap in self._gaps(feed, first)):
            state = state._replace(trust=min(state.trust, int(Trust.SUSPECT)), reason=int(Reason.GAP))
        return state

    def _damaged(self, image: tuple[int, int]) -> bool:
        """Are bytes damaged, that may have been updates, between the image (file, offset) and the moment?"""
        at, places = max(self.at_ns, 0), [image]
        for reader in self._files(self.last, self.last):
            rows = reader.rows[np.isin(reader.rows["stream"], _updates(reader)) & (reader.rows["kind"] == BLOCK)]
            begun, over = rows["first_ns"] <= at, rows["last_ns"] > at
            places += [(self.last, int(rows["offset"][begun].max(initial=0))),
                       (self.last, int((rows["offset"] - ~begun)[over].min(initial=ENDLESS)))]
        for n in range(min(places)[0], max(places)[0] + 1):
            for reader in self._files(n, n):
                others = reader.rows["offset"][~np.isin(reader.rows["stream"], _updates(reader))]
                if any(min(places) <= (n, problem.offset) <= max(places) and problem.offset not in others
                       for problem in reader.problems):
                    return True
        return False


def _updates(reader: SegmentReader) -> list[int]:
    """What the stream of updates is called in a file."""
    return [number for number, stream in reader.table.streams.items() if stream.name == "updates"]


def _levels(levels: NDArray[np.int64], changes: NDArray[np.void]) -> NDArray[np.int64]:
    """A side of a book after changes of it, prices ascending: the last word on a price counts, size 0 is no level."""
    prices = np.concatenate([levels[:, 0], changes["price"]])[::-1]
    sizes = np.concatenate([levels[:, 1], changes["size"]])[::-1]
    prices, last = np.unique(prices, return_index=True)
    return np.ascontiguousarray(np.stack([prices, sizes[last]], axis=1)[sizes[last] > 0])
