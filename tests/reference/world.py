"""A world view as one would first write it: all levels in one list, sorted."""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mantra.core.messages import Top

DEPTH = 10
MOST = 2**63 - 1
Levels = Sequence[tuple[int, int]]


def slow_side(venues: Mapping[int, Levels], bids: bool, summed: bool) -> list[tuple[int, int, int]]:
    """(price, size, venues' bits) of the ten best, from every venue's (price, size) levels."""
    every = [(price, size, venue) for venue, levels in venues.items() for price, size in levels]
    if not summed:
        every.sort(key=lambda level: (-level[0] if bids else level[0], -level[1], level[2]))
        return [(price, size, 1 << venue) for price, size, venue in every[:DEPTH]]
    prices = sorted({price for price, _, _ in every}, reverse=bids)[:DEPTH]
    return [(price, min(MOST, sum(size for p, size, _ in every if p == price)),
             sum(1 << venue for p, _, venue in every if p == price)) for price in prices]


def slow_books(tops: Iterable[Top]) -> list[tuple[int, int, int, int]]:
    """(venue, trust, reason, since when in whole seconds) of every venue's top of which anything is known."""
    every = [(top.venue, top.trust, top.reason, top.trust_since_ns // 10**9) for top in tops]
    return sorted(book for book in every if book[1:] != (0, 0, 0))


def top_of(bids: Levels, asks: Levels, **fields: Any) -> Top:
    """A top message with these levels, best first."""
    for side, levels in (("bid", bids), ("ask", asks)):
        rows = [*levels, *[(0, 0)] * (DEPTH - len(levels))]
        fields |= {f"{side}_count": len(levels), f"{side}_price": [price for price, _ in rows],
                   f"{side}_size": [size for _, size in rows]}
    return Top(**fields)
