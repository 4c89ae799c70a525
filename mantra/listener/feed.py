"""feed: what a connection is made of, and its compiled hot path with its books."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mantra.client.client import Client
from mantra.client.feed import bare_feed
from mantra.client.governor import Backoff, Governor
from mantra.core.hot_path import Feed
from mantra.core.tape import TapeWriter
from mantra.listener.recovery import SnapshotDesk
from mantra.listener.scales import Scales
from mantra.runtime.spine import Spine
from mantra.subscriber.subscriber import Subscriber
from mantra.venues.instrument import Instrument
from mantra.venues.venue import Mode, Venue


@dataclass(frozen=True)
class Wanted:
    """One book to keep: the venue's symbol, and the instrument it is."""

    symbol: str
    instrument: Instrument


@dataclass(frozen=True)
class Plan:
    """One connection: what it carries and what it is made of."""

    name: str                                   # of the feed: "binance-0"
    venue: Venue
    mode: Mode
    depth: int                                  # levels a side read in mode "top"
    wanted: Sequence[Wanted]
    client: Callable[[str], Client]             # url -> an unconnected client
    subscriber: Subscriber
    governor: Governor
    desk: SnapshotDesk
    scales: Scales
    backoff: Callable[[], Backoff]
    snapshot_levels: int
    raw: bool = False                           # a tape is wanted

    @property
    def large(self) -> bool:
        """Its snapshots have megabytes."""
        return any(wanted.symbol in self.venue.alone for wanted in self.wanted)


def make_feed(plan: Plan, spine: Spine, publisher: int, tape: TapeWriter | None = None) -> Feed:
    """The feed of a planned connection, with its books."""
    venue = plan.venue
    feed = bare_feed(spine, plan.name, venue, plan.mode, publisher, depth=plan.depth, most_books=len(plan.wanted),
                     snapshot_levels=plan.snapshot_levels, looks_twice=venue.schemes[plan.mode] in ("ids", "time"),
                     tracker=spine.tracker(plan.name, publisher), tape=tape,
                     socket_to_top=spine.histogram(f"socket_to_top.{plan.name}"))
    number = spine.ledger.row(plan.name, venue.id).feed
    for wanted in plan.wanted:
        book, slot = spine.make_book(venue.books(plan.mode), venue.id, wanted.symbol, wanted.instrument.id)
        row = spine.book_ledger.row(f"{plan.name} {wanted.symbol}", venue.id, number, wanted.instrument.id)
        feed.add_book(book, slot, venue.spellings(wanted.symbol), wanted.instrument.id,
                      wanted.instrument.price_decimals, wanted.instrument.size_decimals, row)
    feed.liveness(venue.heartbeat.text, venue.heartbeat.interval_s, venue.stale_s, venue.silence_s,
                  venue.channel_silent_s)
    return feed
