"""What a venue's message says, whichever venue it was."""
from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from tests.reference.book import Level


@dataclass(frozen=True)
class Diff:
    symbol: str
    first: int
    last: int
    time_ns: int
    changes: list[tuple[str, Decimal, Decimal]]     # side, price, size


@dataclass(frozen=True)
class Image:
    symbol: str | None      # None: the message does not say
    last: int
    time_ns: int            # 0: the message does not say
    bids: list[Level]
    asks: list[Level]


@dataclass(frozen=True)
class Trade:
    symbol: str
    id: int
    price: Decimal
    size: Decimal
    aggressor: str          # buy, sell
    time_ns: int


@dataclass(frozen=True)
class Ticker:
    """The venue's own word for its best bid and ask."""

    symbol: str
    id: int
    bid: Level
    ask: Level


def levels(rows: list[list[str]]) -> list[Level]:
    """Without those of price 0: Bitstamp has sent a bid of such (section 11 of its page)."""
    return [(Decimal(price), Decimal(size)) for price, size, *_ in rows if Decimal(price) > 0]


def changes(bids: list[list[str]], asks: list[list[str]]) -> list[tuple[str, Decimal, Decimal]]:
    return [("bid", *level) for level in levels(bids)] + [("ask", *level) for level in levels(asks)]
