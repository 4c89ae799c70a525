"""A recording, message by message, through the slow decoders and books."""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

from tests.reference import binance, bitstamp
from tests.reference.book import Book
from tests.reference.messages import Diff, Image, Ticker, Trade
from tests.reference.recording import lines

VENUES = {"binance": binance, "bitstamp": bitstamp}

# Every recording of the two venues: venue, files. The days of hftbacktest are one recording.
RECORDINGS = {
    "cryptofeed binance": ("binance", ("cryptofeed/BINANCE.0", "cryptofeed/BINANCE.http.0.0",
                                       "cryptofeed/BINANCE.ws.1.0")),
    "cryptofeed bitstamp": ("bitstamp", ("cryptofeed/BITSTAMP.0", "cryptofeed/BITSTAMP.http.0.0",
                                         "cryptofeed/BITSTAMP.ws.1.0")),
    "2021-04-17 binance": ("binance", ("cryptofeed-2021-04-17/BINANCE.http.0.0",
                                       "cryptofeed-2021-04-17/BINANCE.ws.1.0")),
    "2021-04-17 bitstamp": ("bitstamp", ("cryptofeed-2021-04-17/BITSTAMP.http.18.0",
                                         "cryptofeed-2021-04-17/BITSTAMP.ws.19.0")),
    "hftbacktest spot": ("binance", ("hftbacktest/spot/btcusdt_20240808", "hftbacktest/spot/btcusdt_20240809")),
}


@dataclass
class Step:
    """One message was applied: `book` is `symbol`'s after it, and is changed by the next step."""

    symbol: str
    message: Diff | Image | Trade | Ticker
    book: Book


@dataclass
class Result:
    synchronisers: dict[str, binance.Synchroniser | bitstamp.Synchroniser]
    applied: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    trades: list[Trade] = field(default_factory=list)
    crossed: int = 0

    @property
    def books(self) -> dict[str, Book]:
        """The final book of every symbol that was synchronised."""
        return {symbol: each.book for symbol, each in self.synchronisers.items() if each.id is not None}

    def total(self, count: str) -> int:
        """Sum of a synchroniser's count: gaps, old, deletes, unknown_deletes."""
        return sum(getattr(each, count) for each in self.synchronisers.values())


def walk(name: str, result: Result | None = None) -> Iterator[Step]:
    """Every message of the recording that changed a book, and every trade and ticker, in order.

    Diffs that waited for a snapshot come out, one by one, after it. `result` is filled on the way.
    """
    venue_name, paths = RECORDINGS[name]
    venue = VENUES[venue_name]
    books = result.synchronisers if result is not None else {}
    for _, kind, text, url in lines(*paths):
        is_book = kind == "rest" and (url is None or venue.snapshot_symbol(url))
        message = venue.decode(text) if kind == "message" or is_book else None
        if message is None:
            continue
        symbol = message.symbol or (venue.snapshot_symbol(url) if url else sole(books))
        book = books.setdefault(symbol, venue.Synchroniser())
        if isinstance(message, Image):
            for applied in book.on_snapshot(message):
                yield Step(symbol, applied, book.book)
        elif not isinstance(message, Diff) or book.on_diff(message):
            yield Step(symbol, message, book.book)


def sole(books: dict) -> str:
    """A snapshot without an address belongs to the only instrument of its recording."""
    (symbol,) = books
    return symbol


@cache
def replay(name: str) -> Result:
    """The whole recording; slow, so once for all tests that ask."""
    result = Result({})
    for step in walk(name, result):
        if isinstance(step.message, Trade):
            result.trades.append(step.message)
        elif isinstance(step.message, Diff):
            result.applied[step.symbol] += 1
            result.crossed += step.book.crossed()
    return result
