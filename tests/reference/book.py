"""A book as anybody would write it."""
from __future__ import annotations

from decimal import Decimal

from sortedcontainers import SortedDict

Level = tuple[Decimal, Decimal]     # price, size


class Book:
    def __init__(self) -> None:
        self.sides = {"bid": SortedDict(), "ask": SortedDict()}

    def apply(self, side: str, price: Decimal, size: Decimal) -> bool:
        """Set a level, or remove it with size 0. False: asked to remove one that is not there."""
        levels = self.sides[side]
        if size:
            levels[price] = size
            return True
        return levels.pop(price, None) is not None

    def replace(self, bids: list[Level], asks: list[Level]) -> None:
        for side, levels in (("bid", bids), ("ask", asks)):
            self.sides[side] = SortedDict((price, size) for price, size in levels if size)

    def bids(self, depth: int | None = None) -> list[Level]:
        """Best first."""
        return list(reversed(self.sides["bid"].items()))[:depth]

    def asks(self, depth: int | None = None) -> list[Level]:
        return list(self.sides["ask"].items())[:depth]

    def best(self) -> tuple[Level | None, Level | None]:
        bids, asks = self.sides["bid"], self.sides["ask"]
        return bids.peekitem(-1) if bids else None, asks.peekitem(0) if asks else None

    def crossed(self) -> bool:
        bid, ask = self.best()
        return bid is not None and ask is not None and bid[0] >= ask[0]
