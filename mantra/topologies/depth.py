"""depth: the same listeners feed two aggregators, best bid and offer beside liquidity summed per price, and a
transformer makes conflated tops of their updates. Only the wiring differs from bbo."""
from __future__ import annotations

from collections.abc import Sequence

from mantra.runtime.topology import Node


def nodes(venues: Sequence[str]) -> list[Node]:
    tops = tuple(f"tops.{venue}" for venue in venues)
    return [
        *(Node.listener(venue, venue=venue) for venue in venues),
        Node("best", "bbo", tops, ("world",)),
        Node("summed", "liquidity", tops, ("liquidity",)),
        Node("calm", "conflate", tuple(f"updates.{venue}" for venue in venues), ("tops.calm",), {"interval_ms": 100}),
        Node("grpc", "grpc", ("world", "liquidity")),
        Node("terminal", "terminal", ("world",)),
    ]
