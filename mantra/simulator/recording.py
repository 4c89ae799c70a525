"""recording: venues that say again what they once said, at any speed: other people's recordings, or our own tape.

    records --speed--> the channels they were sent on (frames verbatim, to who subscribed to that channel)
       +--> the book that REST shows: the last recorded snapshot, and every later change once it has been played

The clock starts when the first client has subscribed and nobody has asked for more for half a second: a recording has
one timeline for all, like the venues it is of. What was not recorded stays silent; handshakes, acknowledgements and
heartbeats are the simulated venue's own, so that a recording can be asked for in another way than it was made.
"""
from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import json
import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Any

from mantra.errors import ConfigurationError
from mantra.simulator.server import Venue
from mantra.simulator.source import Image, Listed, Rows, Source
from mantra.tape.lines import Record

SETTLE_SECONDS = 0.5
AGAIN_NS = 10_000_000_000   # after which an answer has been believed
COARSE_SECONDS = 0.0015     # the event loop sleeps in whole milliseconds, and wakes late
GARBAGE = ValueError, ArithmeticError, LookupError, TypeError, AttributeError, RecursionError
REST = "rest "              # instead of a channel
HEIR = "-next"              # so ends the name of a connection that is to take another's place
RECENT = 1000           # changes of a book that are kept
UNREAD = 50_000         # messages that wait for somebody to ask for a book, at most
BURST = 32              # messages between looks at the clients' buffers, at speed 0
QUOTES = ("USDT", "USDC", "BUSD", "FDUSD", "TRY", "RUB", "USD", "EUR", "GBP", "PAX", "BTC", "ETH", "BNB")


class RecordedBook:
    """Levels by price with their own spelling. Changes wait unread until somebody asks for the book."""

    def __init__(self) -> None:
        self.sequence = 0
        self.recent: deque[Image] = deque(maxlen=RECENT)
        self.sides: tuple[dict[Decimal, tuple[str, str]], dict[Decimal, tuple[str, str]]] = ({}, {})

    def apply(self, change: Image) -> None:
        """Change or replace what is there, unless the change has a sequence (not 0) that is not newer. What is newer
        than a book that came late goes into that, too; one that is older than all of that is too old."""
        if change.sequence and change.whole:
            if change.sequence < (self.recent[0].sequence if self.recent else self.sequence):
                return
        elif change.sequence:
            if change.sequence <= self.sequence:
                return
            self.recent.append(change)
        self.sequence = change.sequence
        for worst, side, rows in zip((min, max), self.sides, (change.bids, change.asks), strict=True):
            if change.whole:
                side.clear()
            for price, size in rows:
                if Decimal(size):
                    side[Decimal(price)] = (price, size)
                else:
                    side.pop(Decimal(price), None)
            while change.keep and len(side) > change.keep:
                del side[worst(side)]
        if change.whole and change.sequence:
            recent, self.recent = self.recent, deque(maxlen=RECENT)
            for one in recent:
                self.apply(one)

    def rows(self) -> tuple[Rows, Rows]:
        bids, asks = self.sides
        return [bids[price] for price in sorted(bids, reverse=True)], [asks[price] for price in sorted(asks)]


class Timeline:
    """Plays the recordings of all venues by their common clock, `speed` times as fast as they came; 0: as fast as the
    readers."""

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self.sources: list[RecordingSource] = []
        self.venues: list[Venue] = []

    async def play(self) -> None:
        loop, last = asyncio.get_running_loop(), 0.0
        while not last or loop.time() - last < SETTLE_SECONDS:
            await asyncio.sleep(0.02)
            last = max(venue.last_request for venue in self.venues)
        by_time = heapq.merge(*(source.messages() for source in self.sources), key=lambda message: message[0])
        first = next(by_time)           # of each: that takes a while
        began, first_ns = loop.time(), first[0]
        for played, (time_ns, source, channel, message) in enumerate(itertools.chain([first], by_time)):
            if self.speed:
                due = began + (time_ns - first_ns) / 1e9 / self.speed
                while (wait := due - loop.time()) > COARSE_SECONDS:
                    await asyncio.sleep(wait - COARSE_SECONDS)
                time.sleep(max(0.0, wait))      # nothing else is due, and in a burst each frame has its moment
            if played % BURST == 0:
                await asyncio.sleep(0)
                for venue in self.venues if not self.speed else ():
                    await venue.breathe()
            source.hold(channel, message)
            if not channel.startswith(REST):
                source.played += 1
                source.venue.publish(channel, message)
        for source in self.sources:
            print(f"{source.venue.name}: the recording has ended ({source.played} messages)", file=sys.stderr)


class RecordingSource(Source):
    """What `records` gives, each time it is called, for a venue of `kind`."""

    venue: Venue

    def __init__(self, records: Callable[[], Iterable[Record]], kind: type[Venue], timeline: Timeline) -> None:
        self.kind, self._records, self._timeline = kind, records, timeline
        self.books: dict[str, RecordedBook] = {}
        self.unread: deque[tuple[str, Any]] = deque()           # played, not yet in a book
        self.played = self.of = 0
        self._known: dict[str, Listed] = {}
        self._opened: dict[str, None] = {}                      # symbols of the connections of a tape
        self._orders: set[str] = set()                          # connections of single orders
        symbols: dict[str, None] = {}
        answers: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
        for time_ns, _, channel, message in self.messages():
            if channel.startswith(REST):
                answers[channel.removeprefix(REST)].append((time_ns, message))
                continue
            self.of += 1
            symbols[kind.symbol_of(channel)] = None
        if not self.of:
            raise ConfigurationError(f"--recording: no message of {kind.name} there, or only of single orders")
        symbols.pop("", None)
        self._first = next(iter(symbols), "")
        for symbol, told in answers.items():    # the first; or what was asked for soon after: it was too old, or wrong
            self._apply(REST + symbol, next(text for (time_ns, text), (next_ns, _) in itertools.pairwise(
                [*told, (1 << 63, "")]) if next_ns - time_ns > AGAIN_NS))
        self.listed = [self._known.get(symbol) or self._guess(symbol) for symbol in symbols | self._opened]
        timeline.sources.append(self)

    def messages(self) -> Iterator[tuple[int, RecordingSource, str, Any]]:
        """(time_ns, this, channel, message) of all that was said on channels, and of books that came over REST."""
        ids: defaultdict[str | None, dict[Any, Any]] = defaultdict(dict)        # of each connection
        heirs: dict[str, list[tuple[str, Any]]] = {}            # what they were told of books so far
        for record in self._records():
            text, url = record.text.decode(errors="replace"), record.url or ""
            said: list[tuple[str, Any]] = []
            with contextlib.suppress(*GARBAGE):
                if record.kind == "message" and url not in self._orders:
                    said = self.kind.replay(text, ids[url])
                    if url.endswith(HEIR):
                        heirs.setdefault(url, []).extend(one for one in said if self.kind.diff_channel in one[0])
                        continue
                elif record.kind == "rest":
                    listed = self.kind.recorded_instruments(text)
                    self._known.update({one.symbol: one for one in listed})
                    said = [] if listed else [(f"{REST}{self.kind.symbol_of(url) if url else ''}", text)]
                elif record.kind == "open" and text:
                    said = self._opening(url, json.loads(text), ids, heirs)
            yield from ((record.time_ns, self, channel, message) for channel, message in said)

    def _opening(self, name: str, what: Any, ids: dict[Any, dict[Any, Any]], heirs: dict[str, list[tuple[str, Any]]]
                 ) -> list[tuple[str, Any]]:
        """A connection of a tape began, or goes on over its heir's: then what that was told comes first."""
        if what.get("mode") == "orders":        # which no book here keeps
            self._orders.add(name)
            return []
        for row in what.get("books", ()):
            base, _, quote = row["name"].partition("-")
            self._opened[row["symbol"]] = None
            self._known[row["symbol"]] = Listed(row["symbol"], base, quote, *row["scale"])
        if "heir" not in what:
            heirs.pop(name, None)
            return []
        ids[name] = ids.pop(what["heir"], {})
        return heirs.pop(what["heir"], [])

    def _guess(self, symbol: str) -> Listed:
        """Without an instrument list: the split by well-known quote currencies, the decimals that occur in the book."""
        name = symbol.upper().replace("-", "/")
        quote = name.partition("/")[2] or next((quote for quote in QUOTES if name.endswith(quote)), name[-3:])
        rows = [row for side in self.books[symbol].rows() for row in side] if symbol in self.books else []
        price, size = (max((_decimals(row[place]) for row in rows), default=8) for place in (0, 1))
        return Listed(symbol, name[:-len(quote)].rstrip("/"), quote, price, size)

    def state(self) -> dict[str, int]:
        return {"played": self.played, "of": self.of}

    def image(self, symbol: str, *, sequence: int | None = None, age_ns: int = 0) -> Image | None:
        for channel, message in self.unread:
            self._apply(channel, message)
        self.unread.clear()
        book = self.books.get(symbol)
        if book is None or (sequence is not None and sequence != book.sequence):
            return None
        return Image(symbol, book.sequence, *book.rows(), whole=True)

    def hold(self, channel: str, message: Any) -> None:
        """It was played: until the book is asked for it is not read, or until too many wait."""
        self.unread.append((channel, message))
        if len(self.unread) > UNREAD:
            self._apply(*self.unread.popleft())

    def _apply(self, channel: str, message: Any) -> None:
        rest = channel.startswith(REST)
        if not rest and self.kind.diff_channel not in channel:
            return
        of = (channel.removeprefix(REST) or self._first) if rest else self.kind.symbol_of(channel)
        with contextlib.suppress(*GARBAGE):
            change = self.kind.recorded_book("" if rest else channel, message)
            if change.whole:
                self.books.setdefault(of, RecordedBook())
            if of in self.books:
                self.books[of].apply(change)

    async def run(self, venue: Venue) -> None:
        self.venue = venue
        self._timeline.venues.append(venue)
        if len(self._timeline.venues) == len(self._timeline.sources):
            await self._timeline.play()


def _decimals(text: str) -> int:
    return len(text.partition(".")[2].rstrip("0"))
