"""planner: which instruments share a connection, how deep the first snapshots may be, how long the start takes, how far
it is.

What a venue allows decides all of it: channels on a connection, bytes in a frame, weights of requests. Where weights
forbid deep snapshots of all books at once the first ones are small; a book that needs another one later, as the market
drifted to the edge of what it knows, gets a deeper one if that is affordable then.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mantra.client.governor import Governor
from mantra.core.messages import Trust
from mantra.errors import ConfigurationError
from mantra.listener.feed import Wanted
from mantra.runtime.spine import Spine
from mantra.venues import NAMES
from mantra.venues.venue import Limits, Mode, Venue

LADDER = (5000, 1000, 500, 100)     # levels a side of a snapshot, deepest first
SOON_S = 2.0                        # differences below it are none
SHARE = 0.8                         # of the venue's pace, which second looks and resynchronising need as well


@dataclass(frozen=True)
class Estimate:
    """What a start needs at least, as the pace stands when it begins."""

    connections: int
    frames: int             # sent, on all connections together
    weight: int             # of the snapshots
    seconds: float


def plan_connections(wanted: Sequence[Wanted], venue: Venue, mode: Mode, trades: bool,
                     most: int | None = None) -> list[Sequence[Wanted]]:
    """Spread instruments over as few connections as the venue's limits allow, `most` instruments each. Those whose
    books are so big that they hold up others (`Venue.alone`) have one to themselves."""
    if most is not None and most < 1:
        raise ConfigurationError("at least one instrument per connection")
    alone = [row for row in wanted if row.symbol in venue.alone]
    shared = [row for row in wanted if row.symbol not in venue.alone]
    per_symbol = len(venue.channels([shared[0].symbol], mode, trades)) if shared else 1
    limit = min(max(1, venue.limits.channels // per_symbol), most or venue.limits.channels)
    parts: list[Sequence[Wanted]] = [[row] for row in alone]
    for start in range(0, len(shared), limit):
        parts += _fitting(shared[start:start + limit], venue, mode, trades)
    return parts


def _fitting(part: Sequence[Wanted], venue: Venue, mode: Mode, trades: bool) -> Iterator[Sequence[Wanted]]:
    """`part`, halved until the venue takes every frame that subscribes it."""
    texts = venue.subscribe_texts([row.symbol for row in part], mode, trades)
    if len(part) > 1 and any(len(text.encode()) > venue.limits.frame_bytes for text in texts):
        for half in (part[:len(part) // 2], part[len(part) // 2:]):
            yield from _fitting(half, venue, mode, trades)
    else:
        yield part


def first_levels(venue: Venue, symbols: Sequence[str], mode: Mode, governor: Governor) -> int:
    """Levels a side of the snapshots to begin with: the deepest of which all come soon, as the pace stands now."""
    def seconds(levels: int) -> float:
        weight = sum(snapshot_weights(venue, symbols, mode, levels))
        soon = max(pace(venue.limits, "rest", weight / SHARE), governor.peek("rest", weight) if weight else 0.0)
        return soon if soon > SOON_S else 0.0

    return min(LADDER, key=seconds)


def deeper(venue: Venue, symbol: str, levels: int, governor: Governor) -> int:
    """Levels a side of the next snapshot of a book that was live (the market drifted to the edge of the last one, say):
    `levels` at least, more where half of the pace is still free for others afterwards."""
    return next((more for more in LADDER if more > levels and not governor.peek(
        "rest", venue.snapshot(symbol, more).weight, spare=0.5)), levels)


def snapshot_weights(venue: Venue, symbols: Sequence[str], mode: Mode, levels: int) -> list[int]:
    """Of the snapshots that must be asked for; none where they come in the stream."""
    asked = venue.schemes[mode] in ("ids", "time")
    return [venue.snapshot(symbol, levels).weight for symbol in symbols] if asked else []


def pace(limits: Limits, kind: str, weight: float) -> float:
    """Seconds until the last of so much `weight` is granted, beginning with empty windows."""
    rates = limits.rates.get(kind, ())
    return max((max(0.0, -(-weight // max(1, rate.count - rate.reserved)) - 1) * rate.seconds for rate in rates),
               default=0.0)


def estimate(parts: Sequence[Sequence[Wanted]], venue: Venue, mode: Mode, trades: bool, levels: int,
             governor: Governor) -> Estimate:
    """Of a start of these connections."""
    frames = [len(venue.subscribe_texts([row.symbol for row in part], mode, trades)) for part in parts]
    by_connection = any(rate.per == "connection" for rate in venue.limits.rates.get("send", ()))
    weight = sum(snapshot_weights(venue, [row.symbol for part in parts for row in part], mode, levels))
    seconds = max(pace(venue.limits, "connect", len(parts)), governor.peek("connect"),
                  pace(venue.limits, "rest", weight), governor.peek("rest", weight) if weight else 0.0,
                  pace(venue.limits, "send", max(frames, default=0) if by_connection else sum(frames)))
    return Estimate(len(parts), sum(frames), weight, seconds)


def progress(spine: Spine) -> dict[str, tuple[int, int]]:
    """By venue: how many of its books are live, and how many there are. From any process that sees the run."""
    live: dict[str, tuple[int, int]] = {}
    for top in spine.newest_tops():
        name = NAMES[top.venue]
        ready, all_ = live.get(name, (0, 0))
        live[name] = ready + (top.trust >= Trust.UNVERIFIED), all_ + 1
    return live
