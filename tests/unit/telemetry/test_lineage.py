"""Lineage: messages are followed back to their bytes through every hop, and only those that can be."""
from __future__ import annotations

import pytest

from mantra.errors import ConfigurationError
from mantra.runtime.spine import Spine
from mantra.telemetry import lineage as room
from mantra.telemetry.collector import Collector
from mantra.telemetry.lineage import Lineage, choices
from tests.unit.telemetry.runs import HandMade


@pytest.fixture
def run():
    with HandMade() as made:
        yield made


@pytest.fixture
def collector(run, monkeypatch):
    monkeypatch.setattr(room, "SETTLED_S", 0.0)     # records of a run made by hand are all there
    with Spine.attach(run.spine.run) as outside:
        yield Collector(outside)


def followed(collector, lineage):
    collector.poll()
    lineage.poll()
    return lineage.view()


def us(ns):
    return pytest.approx(ns * 1_000, rel=0.002)


def test_a_world_view_is_followed_to_its_bytes_hop_by_hop(run, collector):
    lineage = Lineage(collector, "world")
    for i in range(20):
        run.message(i, 100.0 * i)
    state = followed(collector, lineage)
    assert (state.message, state.seen, state.matched) == ("world", 20, 20)
    (path,) = state.paths
    assert [(hop.who, hop.waited) for hop in path.segments] == [
        ("binance.0", False), ("tops.binance.0", True), ("best", False)]
    assert [hop.ns.p50 for hop in path.segments] == [us(10), us(5), us(2)]
    assert (path.total.count, path.total.p99) == (20, us(17))


def test_what_a_feed_publishes_itself_has_one_hop(run, collector):
    lineage = Lineage(collector, "top")
    run.message(0, 0)
    (path,) = followed(collector, lineage).paths
    assert [(hop.who, hop.ns.p50) for hop in path.segments] == [("binance.0", us(10))]


def test_ways_through_other_actors_are_told_apart_the_frequent_first(run, collector):
    run.numbers["other.0"] = run.spine.add_actor("other.0", "feed", 1)
    lineage = Lineage(collector, "world")
    run.tell("best", "tops.binance.0", 0, 5, 6, "other.0", 7, 2)
    run.publish("world", 5, 8, "best")
    for i in range(3):
        run.message(1 + i, 100.0 * (i + 1))
    state = followed(collector, lineage)
    assert [(path.segments[0].who, path.total.count) for path in state.paths] == [("binance.0", 3), ("other.0", 1)]


def test_an_origin_that_the_actor_did_not_have_in_hand_is_not_followed(run, collector):
    lineage = Lineage(collector, "world")
    run.tell("best", "tops.binance.0", 0, 5, 6, "binance.0", 7, 2)
    run.publish("world", 4, 8, "best")          # of other bytes
    run.publish("world", 5, 6.5, "best")        # before it took them
    run.publish("world", 5, 8, "model")         # by one who took nothing
    state = followed(collector, lineage)
    assert (state.seen, state.matched, state.paths) == (3, 0, ())


def test_a_batch_of_updates_is_one_publication(run, collector):
    lineage = Lineage(collector, "world")
    run.tell("best", "tops.binance.0", 0, 5, 6, "binance.0", 7, 2)
    for _ in range(4):
        run.publish("world", 5, 8, "best")
    assert followed(collector, lineage).seen == 1


def test_messages_are_followed_only_when_their_records_are_closed(run, collector, monkeypatch):
    monkeypatch.setattr(room, "SETTLED_S", 3600.0)
    lineage = Lineage(collector, "world")
    run.message(0, 0)
    assert followed(collector, lineage).seen == 0
    monkeypatch.setattr(room, "SETTLED_S", 0.0)
    assert followed(collector, lineage).matched == 1


def test_records_are_kept_for_a_while_only(run, collector, monkeypatch):
    lineage = Lineage(collector, "world")
    run.message(0, 0)
    collector.poll()
    monkeypatch.setattr(room, "KEPT_S", 0.0)
    run.message(1, 1)
    collector.poll()
    assert lineage.view().seen == 0
    assert not any(lineage._records.values())


def test_it_begins_anew_on_reset(run, collector):
    lineage = Lineage(collector, "world")
    run.message(0, 0)
    assert followed(collector, lineage).matched == 1
    lineage.reset()
    assert (lineage.view().seen, lineage.view().paths) == (0, ())


def test_a_name_is_a_queue_or_a_family_before_it_is_a_message(run, collector):
    run.queue("liquidity", "world")
    run.producers["liquidity"] = run.queues["liquidity"].producer()
    collector._list_at = 0.0
    collector.poll()
    world, liquidity = Lineage(collector, "world"), Lineage(collector, "liquidity")
    run.publish("liquidity", 5, 8, "best")
    assert (followed(collector, world).seen, followed(collector, liquidity).seen) == (0, 1)


def test_what_the_run_does_not_have_is_told_with_what_it_has(run, collector):
    assert choices(collector) == ["tops", "world"]
    with pytest.raises(ConfigurationError, match=r"has no messages 'orders' to follow; it has tops, world"):
        Lineage(collector, "orders")
