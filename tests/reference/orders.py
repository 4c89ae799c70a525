"""A book of orders as one would first write it: a dictionary, summed and sorted whenever somebody asks."""
from __future__ import annotations

import zlib
from collections import defaultdict
from decimal import Decimal

from tests.reference.book import Level


class Orders:
    """Orders by id: side ("bid", "ask"), price and size."""

    def __init__(self) -> None:
        self.orders: dict[int, tuple[str, Decimal, Decimal]] = {}

    def set(self, number: int, side: str, price: Decimal, size: Decimal) -> bool:
        """An order as it is now; size 0: it is gone. False: it was not there."""
        if size:
            self.orders[number] = side, price, size
            return True
        return self.orders.pop(number, None) is not None

    def levels(self, side: str) -> list[Level]:
        """Best first."""
        sums: dict[Decimal, Decimal] = defaultdict(Decimal)
        for of, price, size in self.orders.values():
            if of == side:
                sums[price] += size
        return sorted(sums.items(), reverse=side == "bid")

    def bitfinex_checksum(self) -> int:
        """Of an R0 book (section 4.4 of the venue page), signed; sizes are whole or a few decimals."""
        sides = []
        for side, better in (("bid", -1), ("ask", 1)):
            rows = [(better * price, number, size) for number, (of, price, size) in self.orders.items() if of == side]
            sides.append([f"{number}:{'-' * (side == 'ask')}{size.normalize():f}" for _, number, size in sorted(rows)])
        texts = [rows[rank] for rank in range(25) for rows in sides if rank < len(rows)]
        value = zlib.crc32(":".join(texts).encode())
        return value - (1 << 32) if value >= 1 << 31 else value
