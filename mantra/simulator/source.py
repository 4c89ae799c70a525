"""source: where a simulated venue's messages and books come from; here the seeded market, in real time.

    Source.run(venue) publishes until cancelled; Source.image(symbol) is the venue's true book, now or some moments ago.
"""
# ruff: noqa: B027 - a recording has nothing to do there
from __future__ import annotations

import asyncio
import heapq
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from string import ascii_uppercase
from typing import TYPE_CHECKING, NamedTuple

from mantra.simulator.market import Flow, Instrument, Levels, Sides

if TYPE_CHECKING:
    from mantra.simulator.server import Venue

Rows = Sequence[tuple[str, str]]
LATE_NS = 1_000_000_000
WAS_NS = 10_000_000_000     # how long a book counts as one that was true


class Image(NamedTuple):
    """A book, best level first, or what changes in one, as the venue spells it."""

    symbol: str
    sequence: int
    bids: Rows
    asks: Rows
    whole: bool = False         # the book, not what changes in it
    keep: int = 0               # levels a side that a reader keeps (0: all)


class Listed(NamedTuple):
    """An instrument as a venue lists it: its spelling and its steps, as numbers of decimals."""

    symbol: str
    base: str
    quote: str
    price_decimals: int
    size_decimals: int


class Source(ABC):
    """Where a venue's messages and books come from. `listed` is what its instrument list shows."""

    listed: Sequence[Listed]

    @abstractmethod
    async def run(self, venue: Venue) -> None:
        """Publish through `venue` until cancelled."""

    @abstractmethod
    def image(self, symbol: str, *, sequence: int | None = None, age_ns: int = 0) -> Image | None:
        """The book now, `age_ns` ago or at a sequence; None when unknown or forgotten."""

    def state(self) -> dict[str, int]:
        """What the state of the venue tells of this source."""
        return {}

    # What only a market can do: a recording says what it says.

    def listing(self, symbol: str) -> Listing | None:
        """The market of this symbol."""
        return None

    def settle(self, venue: Venue, symbol: str) -> None:
        """Publish at once what changed in this book."""

    def was(self, symbol: str, depth: int, mark: int, now_ns: int) -> tuple[bool, int] | None:
        """(whether the book had this mark within WAS_NS, until when; `now_ns` while it has); None when nobody knows."""
        return None

    def delay(self, duration: float) -> None:
        """Let the market stand still for so many seconds."""

    def cross(self, venue: Venue, duration: float) -> None:
        """Cross one of the books for so many seconds."""

    def skewed(self, skew_ns: int) -> None:
        """The venue's clock is off by so much."""

    def restarted(self) -> None:
        """The venue's engine came back."""


@dataclass
class Listing:
    """A listed instrument with its market, how the venue spells its numbers, and what it has said so far."""

    listed: Listed
    flow: Flow
    pad_to: int = 0             # decimals printed at least (Binance prints eight, whatever the step)
    zero: str = ""              # how a removal is spelt; as any other size when empty
    sent: int = 0               # sequence of the last diff
    trades: int = 0             # number of the last trade
    top: object = None          # the last best levels, or their sequence, as the dialect compares them
    top_ns: int = 0
    # (time of the book that was published, when that happened): until the next, a reader has this book
    published: deque[tuple[int, int]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.trades = 1_000_000 + self.flow.orders
        self.begin()

    def begin(self) -> None:
        """The next message is the first."""
        self.flow.book.take()
        self.sent = self.flow.book.sequence

    def price(self, price: int) -> str:
        return fixed(price, self.listed.price_decimals, self.pad_to)

    def size(self, size: int) -> str:
        return self.zero if not size and self.zero else fixed(size, self.listed.size_decimals, self.pad_to)

    def rows(self, levels: Levels) -> Rows:
        return [(self.price(price), self.size(size)) for price, size in levels]

    def json(self, sides: Sides) -> tuple[str, str]:
        return rows_json(self.rows(sides[0])), rows_json(self.rows(sides[1]))


    def was(self, depth: int, mark: int, now_ns: int) -> tuple[bool, int]:
        """As `Source.was`. A book was true until the next one was published, which may be some steps later."""
        published, until = list(self.published), now_ns
        decimals = self.listed.price_decimals, self.listed.size_decimals

        def level(side: int, key: int, size: int) -> int:
            return level_mark("ba"[side], abs(key), size, *decimals) if size else 0

        found = 0
        for since, keys, sizes, undone in self.flow.book.moments():
            if until < now_ns - WAS_NS:
                break
            if depth or not found:
                found = sum(level(side, key, sizes[side][key]) for side in (0, 1) for key in keys[side][:depth or None])
            else:
                found += sum(level(side, key, before) - level(side, key, after) for side, key, after, before in undone)
            if found % 2**64 == mark:
                return True, until
            at = bisect_left(published, (since, 0))
            until = published[at][1] if at < len(published) else now_ns
        return False, 0


@lru_cache(1 << 17)
def level_mark(side: str, price: int, size: int, price_decimals: int, size_decimals: int) -> int:
    """A level's part of a book's mark, which is the sum modulo 2^64: 8 bytes of BLAKE2b of `b:61837.63:0.5`."""
    spelt = [fixed(value, decimals) for value, decimals in ((price, price_decimals), (size, size_decimals))]
    text = ":".join((side, *map(plain, spelt)))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def rows_json(rows: Rows, space: str = "") -> str:
    return "[" + f",{space}".join([f'["{price}",{space}"{size}"]' for price, size in rows]) + "]"


def fixed(value: int, decimals: int, pad_to: int = 0) -> str:
    """`value` * 10^-decimals as plain text with exactly max(decimals, pad_to) decimals."""
    digits = str(value * 10 ** max(0, pad_to - decimals))
    if decimals := max(decimals, pad_to):
        digits = digits.zfill(decimals + 1)
        return f"{digits[:-decimals]}.{digits[-decimals:]}"
    return digits


def plain(text: str) -> str:
    """Without the zeros at the end of its decimals: 65062.5 for 65062.50."""
    return text.rstrip("0").rstrip(".") if "." in text else text


class MarketSource(Source):
    """The market model at one venue: every flow steps when it is due, by the venue's clock."""

    def __init__(self, listings: Iterable[Listing]) -> None:
        self.listings = {listing.listed.symbol: listing for listing in listings}
        self.listed = [listing.listed for listing in self.listings.values()]

    def image(self, symbol: str, *, sequence: int | None = None, age_ns: int = 0) -> Image | None:
        if (listing := self.listings.get(symbol)) is None:
            return None
        book = listing.flow.book
        past = book.past(sequence=sequence, time_ns=book.time_ns - age_ns if sequence is None else None)
        return past and Image(symbol, past[0], listing.rows(past[1]), listing.rows(past[2]), whole=True)

    def listing(self, symbol: str) -> Listing | None:
        return self.listings.get(symbol)

    def was(self, symbol: str, depth: int, mark: int, now_ns: int) -> tuple[bool, int] | None:
        return self.listings[symbol].was(depth, mark, now_ns) if symbol in self.listings else None

    def settle(self, venue: Venue, symbol: str) -> None:
        if (listing := self.listings.get(symbol)) is not None:
            self._publish(venue, listing)

    def _publish(self, venue: Venue, listing: Listing) -> None:
        venue.on_window(listing)
        published, now_ns = listing.published, venue.clock()
        while published and published[0][1] < now_ns - 2 * WAS_NS:
            published.popleft()
        published.append((listing.flow.book.time_ns, now_ns))

    def delay(self, duration: float) -> None:
        for listing in self.listings.values():
            listing.flow.due_ns += int(duration * 1e9)

    def cross(self, venue: Venue, duration: float) -> None:
        listing = venue.faults.dice.choice(list(self.listings.values()))
        listing.flow.cross(venue.clock(), int(duration * 1e9))
        venue.faults.count("cross", listing.listed.symbol)
        venue.on_step(listing, [])
        self._publish(venue, listing)

    def skewed(self, skew_ns: int) -> None:
        for listing in self.listings.values():
            listing.flow.skew_ns = skew_ns

    def restarted(self) -> None:
        """Counted sequences jump when an engine restarts."""
        for listing in self.listings.values():
            book = listing.flow.book
            book.sequence += 1_000_000 if book.counted else 0
            listing.begin()

    async def run(self, venue: Venue) -> None:
        listings = list(self.listings.values())
        due = [(listing.flow.due_ns, index) for index, listing in enumerate(listings)]
        heapq.heapify(due)
        while due:
            now = venue.clock()
            # Too slow a machine: let the market's clock run late rather than everything at once.
            if now - due[0][0] > LATE_NS:
                late = now - due[0][0]
                for listing in listings:
                    listing.flow.due_ns += late
                due = [(at + late, index) for at, index in due]
            for _ in range(64):
                at, index = due[0]
                if at > now:
                    break
                listing, flow = listings[index], listings[index].flow
                if flow.due_ns <= at:           # otherwise it was made to stand still meanwhile
                    venue.on_step(listing, flow.step())
                    if flow.window_over:
                        self._publish(venue, listing)
                        flow.published()
                heapq.heapreplace(due, (flow.due_ns, index))
            await asyncio.sleep(max(0.0, (due[0][0] - venue.clock()) / 1e9))


# What the simulated market knows about instruments; anything else gets the ordinary values of `Instrument`.
KNOWN = {instrument.name: instrument for instrument in (
    Instrument("BTC", "USDT", 61837.63, 1.0, 0.05), Instrument("BTC", "USD", 61810.0, 0.5, 0.05),
    Instrument("ETH", "USDT", 2650.17, 0.6, 0.5), Instrument("ETH", "USD", 2649.2, 0.4, 0.5),
    Instrument("ETH", "BTC", 0.04285, 0.15, 0.5), Instrument("SOL", "USDT", 153.42, 0.5, 5.0),
    Instrument("XRP", "USD", 0.5871, 0.3, 800.0),
)}


def instrument(name: str) -> Instrument:
    """The instrument of a canonical name such as `eth-btc`; ValueError when it is none."""
    base, _, quote = name.strip().upper().partition("-")
    if not (base.isalnum() and quote.isalnum()):
        raise ValueError(f"{name!r} is no instrument: write BASE-QUOTE, for example eth-btc")
    return KNOWN.get(f"{base}-{quote}", Instrument(base, quote))


def many(count: int) -> list[Instrument]:
    """So many made-up instruments, alike at all venues that list as many. As in life a few are lively and most are
    quiet: the n-th has 1/n of the first one's messages, the quietest a hundredth."""
    letters = ascii_uppercase
    return [Instrument(f"{letters[n // 676 % 26]}{letters[n // 26 % 26]}{letters[n % 26]}", "USD",
                       pace=max(1 / (n + 1), 0.01)) for n in range(count)]
