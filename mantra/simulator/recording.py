"""recording: a venue that says again what it once said, at any speed.

    records --speed--> the channels they were sent on (frames verbatim, to who subscribed to that channel)
       +--> the book that REST shows: the recorded snapshot, and every later change once it has been played

The clock starts when the first client has subscribed and asked for nothing more for half a second: a recording has one
timeline for all, like the venue it is of. What was not recorded stays silent.
"""
from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

from mantra.errors import ConfigurationError
from mantra.simulator.server import Venue
from mantra.simulator.source import Image, Listed, Rows, Source
from mantra.tape import lines

SETTLE_SECONDS = 0.5
BURST = 32              # messages between looks at the clients' buffers, at speed 0
QUOTES = ("USDT", "USDC", "BUSD", "FDUSD", "TRY", "RUB", "USD", "EUR", "GBP", "PAX", "BTC", "ETH", "BNB")


class RecordedBook:
    """Levels by price with their own spelling. Changes wait unread until somebody asks for the book."""

    def __init__(self) -> None:
        self.sequence = 0
        self.sides: tuple[dict[Decimal, tuple[str, str]], dict[Decimal, tuple[str, str]]] = ({}, {})

    def apply(self, change: Image) -> None:
        """Change or replace what is there, unless the change has a sequence (not 0) that is not newer."""
        if change.sequence and not change.whole and change.sequence <= self.sequence:
            return
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

    def rows(self) -> tuple[Rows, Rows]:
        bids, asks = self.sides
        return [bids[price] for price in sorted(bids, reverse=True)], [asks[price] for price in sorted(asks)]


class RecordingSource(Source):
    """The messages of `paths` for a venue of `kind`, `speed` times as fast as they came; 0: as fast as the reader."""

    def __init__(self, paths: Iterable[str | Path], kind: type[Venue], speed: float) -> None:
        self.kind, self.speed = kind, speed
        self.messages: list[tuple[int, str, Any]] = []          # (time_ns, channel, message)
        self.books: dict[str, RecordedBook] = {}
        self.unread: list[tuple[str, Any]] = []                 # played, not yet in a book
        ids: dict[Any, Any] = {}
        self.played = 0
        known: dict[str, Listed] = {}
        snapshots: list[tuple[str | None, str]] = []
        for record in lines.read(paths, kind.name):
            text = record.text.decode()
            if record.kind == "message":
                self.messages += [(record.time_ns, *found) for found in kind.replay(text, ids)]
            elif record.kind == "rest":
                listed = kind.recorded_instruments(text)
                known.update({one.symbol: one for one in listed})
                if not listed:
                    snapshots.append((record.url, text))
        if not self.messages:
            raise ConfigurationError(f"--recording: no message of {kind.name} in {', '.join(map(str, paths))}")
        symbols = list(dict.fromkeys(filter(None, (kind.symbol_of(channel) for _, channel, _ in self.messages))))
        for url, text in snapshots:
            # A snapshot in the stream does not say its symbol: it is of the first one.
            symbol = kind.symbol_of(url) if url else symbols[0]
            if symbol not in self.books:
                self.books[symbol] = RecordedBook()
                self.books[symbol].apply(kind.recorded_book("", text))
        self.listed = [known.get(symbol) or self._guess(symbol) for symbol in symbols]

    def _guess(self, symbol: str) -> Listed:
        """Without an instrument list: the split by well-known quote currencies, the decimals that occur in the book."""
        name = symbol.upper().replace("-", "/")
        quote = name.partition("/")[2] or next((quote for quote in QUOTES if name.endswith(quote)), name[-3:])
        rows = [row for side in self.books[symbol].rows() for row in side] if symbol in self.books else []
        price, size = (max((_decimals(row[place]) for row in rows), default=8) for place in (0, 1))
        return Listed(symbol, name[:-len(quote)].rstrip("/"), quote, price, size)

    def state(self) -> dict[str, int]:
        return {"played": self.played, "of": len(self.messages)}

    def image(self, symbol: str, *, sequence: int | None = None, age_ns: int = 0) -> Image | None:
        for channel, message in self.unread:
            if self.kind.diff_channel in channel:
                change, of = self.kind.recorded_book(channel, message), self.kind.symbol_of(channel)
                if change.whole:
                    self.books.setdefault(of, RecordedBook())
                if of in self.books:
                    self.books[of].apply(change)
        self.unread.clear()
        book = self.books.get(symbol)
        if book is None or (sequence is not None and sequence != book.sequence):
            return None
        return Image(symbol, book.sequence, *book.rows(), whole=True)

    async def run(self, venue: Venue) -> None:
        loop = asyncio.get_running_loop()
        await venue.subscribed.wait()
        while (left := venue.last_request + SETTLE_SECONDS - loop.time()) > 0:
            await asyncio.sleep(left)
        began, first_ns = loop.time(), self.messages[0][0]
        for time_ns, channel, message in self.messages:
            if self.speed:
                wait = began + (time_ns - first_ns) / 1e9 / self.speed - loop.time()
                if wait > 0:
                    await asyncio.sleep(wait)
            elif self.played % BURST == 0:
                await asyncio.sleep(0)
                await venue.breathe()
            self.played += 1
            self.unread.append((channel, message))
            venue.publish(channel, message)
        print(f"{venue.name}: the recording has ended ({self.played} messages)", file=sys.stderr)


def _decimals(text: str) -> int:
    return len(text.partition(".")[2].rstrip("0"))
