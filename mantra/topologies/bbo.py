"""bbo: every venue's top merged into one best-bid-and-offer world view, served."""
from __future__ import annotations

from collections.abc import Sequence

from mantra.runtime.topology import Node


def nodes(venues: Sequence[str]) -> list[Node]:
    tops = tuple(f"tops.{venue}" for venue in venues)
    return [
        *(Node.listener(venue, venue=venue) for venue in venues),
        Node("best", "bbo", tops, ("world",)),
        Node("grpc", "grpc", ("world",)),
        Node("terminal", "terminal", ("world",)),
    ]
