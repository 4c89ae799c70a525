"""client/recorded: a recording as a client: the bytes a venue sent, in memory, in the order they arrived.

Messages lie one after the other, each followed by the padding that the hot path may read past it, so that a pass over
all of them is one call without the GIL. REST books stand between them, where they arrived. A recording larger than
memory is read in pieces, twice: a first pass tells its symbols and their scales.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mantra.client.feed import bare_feed
from mantra.core.hot_path import PADDING
from mantra.errors import ConfigurationError
from mantra.runtime.spine import Spine
from mantra.tape.lines import Record
from mantra.venues.instrument import Instrument, ObservedScale, listed_scale
from mantra.venues.venue import Listing, Mode, Venue

PIECE_BYTES = 64 << 20


@dataclass(frozen=True)
class Snapshot:
    """A REST book that arrived after `before` messages; `symbol` is empty where the recording does not say."""

    before: int
    symbol: str
    body: bytes
    time_ns: int


class Recorded:
    """`records` of `venue`, loaded. `messages[i]` is `texts[offsets[i]:offsets[i + 1] - PADDING]`."""

    def __init__(self, venue: Venue, records: Iterable[Record]) -> None:
        self.venue = venue
        self.snapshots: list[Snapshot] = []
        self.listings: list[Listing] = []
        texts, offsets = bytearray(), [0]
        self.times_ns: list[int] = []
        for record in records:
            if record.kind == "message":
                texts += record.text
                texts += bytes(PADDING)
                offsets.append(len(texts))
                self.times_ns.append(record.time_ns)
            elif record.kind == "rest":
                self._rest(record, len(offsets) - 1)
        self.texts = np.frombuffer(bytes(texts), np.uint8)
        self.offsets = np.array(offsets, np.uint64)

    @classmethod
    def pieces(cls, venue: Venue, records: Iterable[Record]) -> Iterator[Recorded]:
        """The recording in pieces of some PIECE_BYTES, one after the other."""
        held: list[Record] = []
        size = 0
        for record in records:
            held.append(record)
            size += len(record.text) + PADDING
            if size >= PIECE_BYTES:
                yield cls(venue, held)
                held, size = [], 0
        if held:
            yield cls(venue, held)

    def _rest(self, record: Record, before: int) -> None:
        if record.url is None:
            self.snapshots.append(Snapshot(before, "", record.text, record.time_ns))
        elif self.venue.lists_instruments(record.url):
            self.listings += self.venue.parse_instruments(record.text)
        elif symbol := self.venue.snapshot_symbol(record.url):
            self.snapshots.append(Snapshot(before, symbol, record.text, record.time_ns))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> bytes:
        return self.texts[int(self.offsets[index]):int(self.offsets[index + 1]) - PADDING].tobytes()

    def __iter__(self) -> Iterator[bytes]:
        return (self[index] for index in range(len(self)))


class Survey:
    """What a first pass over a recording, whole or in `pieces`, tells. ConfigurationError: it has no messages.

    `symbols`: all that it has messages of, named so and numbered in their order, with the scale of the instrument list
    in it, or what all their numbers need. `depth`: levels a side that were asked for, if its messages say; else 0.
    `start_ns`: when it began, UTC; 0 where it does not say."""

    def __init__(self, venue: Venue, pieces: Iterable[Recorded]) -> None:
        self.messages = self.depth = self.start_ns = 0
        seen: dict[str, ObservedScale] = {}
        unnamed: list[Snapshot] = []
        listed: dict[str, Listing] = {}
        for piece in pieces:
            self.messages += len(piece)
            times = [*piece.times_ns[:1], *(snapshot.time_ns for snapshot in piece.snapshots)]
            self.start_ns = min(filter(None, [self.start_ns, *times]), default=0)
            for text in piece:
                for symbol, price, size in venue.numbers(text):
                    seen.setdefault(symbol, ObservedScale()).level(price, size)
            for snapshot in piece.snapshots:        # a quiet market may have a snapshot and no messages
                if snapshot.symbol:
                    observe(venue, snapshot, seen.setdefault(snapshot.symbol, ObservedScale()))
                else:
                    unnamed.append(snapshot)
            listed |= {listing.symbol: listing for listing in piece.listings}
            if not self.depth and venue.depth_said and (said := venue.depth_said.search(piece.texts.data)):
                self.depth = int(said[1])
        if not self.messages:
            raise ConfigurationError(f"the recording has no messages of {venue.name}")
        for snapshot in unnamed if len(seen) == 1 else ():
            observe(venue, snapshot, next(iter(seen.values())))
        self.symbols: list[Instrument] = []
        for symbol, observed in seen.items():
            wide, deep = observed.scale()
            if symbol in listed:
                listed_wide, listed_deep = listed_scale([listed[symbol]])
                wide, deep = max(wide, listed_wide), max(deep, listed_deep)
            self.symbols.append(Instrument(len(self.symbols), symbol, 0, wide, deep))


def observe(venue: Venue, snapshot: Snapshot, scale: ObservedScale) -> None:
    for _, price, size in venue.numbers(snapshot.body):
        scale.level(price, size)


class RecordedFeed:
    """The hot path of a recording's connection in memory of this process, with a book for each of `symbols`."""

    def __init__(self, venue: Venue, symbols: Sequence[Instrument], mode: Mode = "book", *, keep: int,
                 spine: Spine | None = None, **options: Any) -> None:
        self.symbols = symbols
        self.spine = spine or Spine.private()
        self.row = self.spine.ledger.row(venue.name, venue.id)
        self.feed = bare_feed(self.spine, venue.name, venue, mode, most_books=max(1, len(symbols)),
                              held_bytes=64 << 20, keep=keep or venue.keep(mode, 0), **options)
        self.books = []
        for symbol in symbols:
            book, slot = self.spine.make_book(venue.books(mode), venue.id, symbol.name, symbol.id)
            self.feed.add_book(book, slot, venue.spellings(symbol.name), symbol.id, symbol.price_decimals,
                               symbol.size_decimals)
            self.books.append(book)
        self._index_of = {symbol.name: index for index, symbol in enumerate(symbols)}

    def snapshots(self, recorded: Recorded) -> list[tuple[int, int, Snapshot]]:
        """(messages before, index of its book, snapshot) of those that have one."""
        only = self.symbols[0].name if len(self.symbols) == 1 else ""
        return [(snapshot.before, self._index_of[snapshot.symbol or only], snapshot) for snapshot in recorded.snapshots
                if (snapshot.symbol or only) in self._index_of]
