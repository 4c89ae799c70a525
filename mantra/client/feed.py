"""feed: the compiled hot path of a venue's connection, or of a recording's."""
from __future__ import annotations

from typing import Any

from mantra.core.hot_path import Feed
from mantra.runtime.spine import Spine
from mantra.venues.venue import Mode, Venue

TAKING_S = 1.0          # an order that takes others is told of before they are gone: the book is crossed meanwhile


def bare_feed(spine: Spine, name: str, venue: Venue, mode: Mode = "book", publisher: int = 0, *, depth: int = 10,
              **options: Any) -> Feed:
    """The compiled hot path of a connection, with its queues in the spine, without books."""
    decoder = venue.decoder if isinstance(venue.decoder, str) else venue.decoder()
    return Feed(
        name, venue=venue.id, decoder=decoder, scheme=venue.schemes[mode],
        live_trust=venue.live_trust[mode], publisher=publisher, clock=spine.clock, doorbell=spine.doorbell,
        ledger=spine.ledger.row(name, venue.id), updates=spine.queue(f"updates.{name}", "update").producer(publisher),
        trades=spine.queue(f"trades.{name}", "trade").producer(publisher),
        tops=spine.queue(f"tops.{name}", "top").producer(publisher), latest_tops=spine.tops,
        orders=spine.queue(f"orders.{name}", "order").producer(publisher) if mode == "orders" else None,
        depth=depth if mode == "top" else 0, dense_trades=venue.dense_trade_ids, proofs=venue.proofs,
        first_number=venue.first_number, cross_believed_seconds=TAKING_S if mode == "orders" else venue.cross_s,
        **{"keep": venue.keep(mode, depth)} | options)
