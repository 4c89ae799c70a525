"""World views equal a slow reference after any sequence of tops."""
from __future__ import annotations

import random

import pytest

from mantra.core.aggregate import WorldMerger
from mantra.core.clock import Clock
from mantra.core.merge import Merge
from mantra.core.messages import DEPTH, MAX_VENUES, InstrumentRow, Reason, Top, Trust
from mantra.core.queue import Queue
from mantra.core.vector import Vector
from tests.reference.world import slow_books, slow_side, top_of

Levels = list[tuple[int, int]]


def side(draw: random.Random, bids: bool, around: int) -> Levels:
    prices = draw.sample(range(around, around + 14), draw.choice([0, 1, 5, DEPTH, DEPTH]))
    return [(price, draw.choice([1, 2, 3, 2**63 - 1])) for price in sorted(prices, reverse=bids)]


@pytest.mark.parametrize("summed", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_view_equals_reference_after_any_tops(seed: int, summed: bool) -> None:
    draw = random.Random(seed)
    queue, worlds = Queue.create(None, "top", 64), Queue.create(None, "world", 64)
    instruments, latest = Vector.create(None, "instrument", 4), Vector.create(None, "world", 4)
    ids = [901, 5]
    for slot, instrument in enumerate(ids):
        instruments.write(slot, InstrumentRow(name=f"A-{slot}", instrument=instrument))
    least = draw.choice([Trust.STALE, Trust.UNVERIFIED, Trust.VERIFIED])
    merger = WorldMerger(Merge([queue]), worlds.producer(7), Clock.virtual(10**18), instruments=instruments,
                         latest=latest, least_trust=least, summed=summed)
    producer, consumer = queue.producer(1), worlds.consumer("oldest")
    tops: dict[int, dict[int, Top]] = {instrument: {} for instrument in ids}
    before = {instrument: (0, [], [], []) for instrument in ids}
    for moment in range(400):
        instrument, venue = draw.choice(ids), draw.choice([0, 1, 2, MAX_VENUES - 1])
        old = tops[instrument].get(venue)
        bids = old.bids if old and draw.random() < 0.4 else side(draw, True, 90)
        asks = old.asks if old and draw.random() < 0.4 else side(draw, False, 98)
        trust, reason, since = (old.trust, old.reason, old.trust_since_ns) if old and draw.random() < 0.5 else (
            draw.choice([4, 4, 4, *Trust]), draw.choice(list(Reason)), moment // 3 * 10**9 + draw.randrange(10**9))
        top = top_of(bids, asks, instrument=instrument, venue=venue, trust=trust, reason=reason, trust_since_ns=since)
        tops[instrument][venue] = top
        producer.produce(top)
        assert merger.step() == 1
        used = {v: t for v, t in tops[instrument].items() if t.trust >= least}
        expected_bids = slow_side({v: t.bids for v, t in used.items()}, True, summed)
        expected_asks = slow_side({v: t.asks for v, t in used.items()}, False, summed)
        books = slow_books(tops[instrument].values())
        sequence = before[instrument][0]
        after = (expected_bids, expected_asks, books)
        if after != before[instrument][1:]:      # something changed: exactly one view, and it says what
            sequence += 1
            world = consumer.read()
            assert world is not None
            assert (world.bids, world.asks, world.books) == after
            assert (world.sequence, world.instrument, world.venue) == (sequence, instrument, venue)
            assert latest.read(ids.index(instrument)).to_bytes() == world.to_bytes()
        assert consumer.read() is None
        before[instrument] = (sequence, *after)
