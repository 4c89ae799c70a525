"""Aggregators as actors of a run: two of them beside one listener's tops, and tops conflated."""
from __future__ import annotations

import pytest

from mantra.aggregator.aggregator import HopActor
from mantra.aggregator.bbo import Bbo
from mantra.aggregator.conflate import Conflate
from mantra.aggregator.liquidity import Liquidity
from mantra.core.clock import Clock
from mantra.core.messages import Trust, Update
from mantra.errors import ConfigurationError
from mantra.runtime.spine import Spine
from mantra.runtime.tile import Tile
from tests.reference.world import top_of


def once(actor: HopActor, spine: Spine) -> int:
    """One step that does not wait."""
    actor.wake()
    return actor.step(spine)


def test_two_aggregators_read_the_same_tops() -> None:
    with Spine.private(clock=Clock.virtual(10**18)) as spine:
        spine.add_instrument(7, "A-B", 1, 2, 4)
        producers = [spine.queue(f"tops.{name}", "top").producer(n) for n, name in enumerate(("one.0", "two.0"))]
        actors = [Bbo("best", ("tops.one", "tops.two"), ("world",)), Liquidity("summed", ("tops",), ("liquidity",))]
        for actor in actors:
            actor.setup(spine)
        for venue, producer in enumerate(producers):
            producer.produce(top_of([(100, 1 + venue)], [], instrument=7, venue=venue, trust=3, origin=10**18))
        assert [once(actor, spine) for actor in actors] == [2, 2]
        assert spine.worlds.read(0).bids == [(100, 2, 0b10), (100, 1, 0b01)]
        assert spine.latest("liquidity").read(0).bids == [(100, 3, 0b11)]
        assert spine.histogram("socket_to_world.best").count == 2
        assert actors[0].counts == {"published": 2, "lost": 0, "unknown": 0}
        for actor in actors:
            actor.teardown(spine)


@pytest.mark.parametrize("kind", [Bbo, Liquidity])
def test_suspect_stale_and_down_are_left_out_by_default_and_told(kind: type[Bbo | Liquidity]) -> None:
    with Spine.private(clock=Clock.virtual(10**18)) as spine:
        spine.add_instrument(7, "A-B", 1, 2, 4)
        producer = spine.queue("tops.one.0", "top").producer(0)
        actor = kind("best", ("tops",), ("world",))
        actor.setup(spine)
        for trust in (*Trust, *reversed(Trust)):
            producer.produce(top_of([(100, 1)], [], instrument=7, trust=trust, reason=2, trust_since_ns=17 * 10**9))
            once(actor, spine)
            assert spine.worlds.read(0).bids == [(100, 1, 1)] * (trust in (Trust.UNVERIFIED, Trust.VERIFIED))
            assert spine.worlds.read(0).books == [(0, trust, 2, 17)]
        actor.teardown(spine)


def test_tops_that_were_overwritten_before_they_were_merged_are_in_their_feeds_ledger() -> None:
    with Spine.private(clock=Clock.virtual(10**18)) as spine:
        row = spine.ledger.row("one.0", 0)
        producer = spine.queue("tops.one.0", "top", 8).producer(0)
        actor = Bbo("best", ("tops",), ("world",))
        actor.setup(spine)
        for price in range(100):
            producer.produce(top_of([(price, 1)], [], instrument=7, trust=3))
        once(actor, spine)
        assert row["overruns"] == actor.counts["lost"] > 0
        actor.teardown(spine)


def test_policy_says_whom_to_leave_out() -> None:
    with Spine.private(clock=Clock.virtual(10**18)) as spine:
        spine.add_instrument(7, "A-B", 1, 2, 4)
        producer = spine.queue("tops.one.0", "top").producer(0)
        actor = Bbo("best", ("tops",), ("world",), least_trust="verified")
        actor.setup(spine)
        producer.produce(top_of([(100, 1)], [], instrument=7, trust=3))
        once(actor, spine)
        assert spine.worlds.read(0).bids == []
        assert spine.worlds.read(0).trust[0] == 3
        actor.teardown(spine)


@pytest.mark.parametrize("reads", ["tops", "updates"])
def test_conflated_tops_come_from_tops_or_from_updates(reads: str) -> None:
    with Spine.private(clock=Clock.virtual(10**18)) as spine:
        tops, updates = (spine.queue(f"{name}.one.0", name[:-1]).producer(0) for name in ("tops", "updates"))
        book, _ = spine.make_book("one", 0, "AB", 7)
        actor = Conflate("calm", (reads + ".one",), ("tops.calm",), interval_ms=50)
        actor.setup(spine)
        consumer = spine.queue("tops.calm", "top").consumer("oldest")
        book.write((1, 100, 5))
        tops.produce(top_of([(100, 5)], [], instrument=7))
        updates.produce(Update(instrument=7, kind=1, price=100, size=5))
        once(actor, spine)
        assert [top.bids for top in consumer] == [[(100, 5)]]
        actor.teardown(spine)


def test_actor_on_a_tile_ends_when_the_tile_is_stopped() -> None:
    with Spine.private() as spine:
        spine.queue("tops.one.0", "top")
        tile = Tile(Bbo("best", ("tops",), ("world",)), spine)
        tile.setup()
        tile.start()
        tile.stop()
        assert tile.join(60)
        assert tile.error is None


@pytest.mark.parametrize("make", [
    lambda: Bbo("best", ("tops",), ("world",), least_trust="blind"),
    lambda: Bbo("best", ("tops",), ("world",), least_trust=9),
    lambda: Conflate("calm", ("tops", "updates"), ("tops.calm",)),
    lambda: Conflate("calm", ("world",), ("tops.calm",)),
    lambda: Conflate("calm", ("tops",), ("tops.calm",), interval_ms=-1),
    lambda: Bbo("best", ("tops",), ("world",)).setup(Spine.private()),
])
def test_what_cannot_work_is_refused_before_it_starts(make) -> None:
    with pytest.raises(ConfigurationError):
        make()
