"""A book as one would first write it: two sorted dictionaries, everything counted the slow way."""
from __future__ import annotations

from sortedcontainers import SortedDict

BID, ASK = 1, 2


class SlowBook:
    def __init__(self) -> None:
        self.sides = {BID: SortedDict(lambda price: -price), ASK: SortedDict()}

    def apply(self, side: int, price: int, size: int) -> int:
        """Rank of the level that changed; -1 when it was so already, -2 when there was nothing to remove."""
        levels = self.sides[side]
        if size == 0:
            if price not in levels:
                return -2
            rank = int(levels.index(price))
            del levels[price]
            return rank
        if levels.get(price) == size:
            return -1
        levels[price] = size
        return int(levels.index(price))

    def levels(self, side: int) -> list[list[int]]:
        return [[price, size] for price, size in self.sides[side].items()]
