"""The collector: what actors told their rings becomes rates, distributions, lags and overruns, whatever happens."""
from __future__ import annotations

import json
import time
from dataclasses import asdict

import numpy as np
import pytest

from mantra.core.histogram import Histogram
from mantra.core.ledger import FeedState
from mantra.core.messages import ActorState, Top
from mantra.core.region import Region
from mantra.runtime.spine import Spine
from mantra.telemetry.collector import SLOWEST_S, Collector, Distribution, Feeds, Rates
from tests.unit.telemetry.runs import HandMade

SECOND = 1_000_000_000


@pytest.fixture
def run():
    with HandMade() as made:
        yield made


@pytest.fixture
def collector(run):
    with Spine.attach(run.spine.run) as outside:
        yield Collector(outside)


def actors(collector):
    return {actor.name: actor for actor in collector.snapshot().actors}


def near(us):
    return pytest.approx(us * 1_000, rel=0.002)


def test_every_actor_is_told_with_how_long_it_waited_and_worked(run, collector):
    for i in range(10):
        run.message(i, 100.0 * i)
    told = actors(collector)
    assert list(told) == ["binance.0", "best", "model"]
    assert told["binance.0"].latency.count == 0, "it waits for a socket, not for a queue"
    for name, waits, works in (("binance.0", 0, 12), ("best", 5, 3), ("model", 20, 50)):
        assert told[name].processing.count == 10
        assert (told[name].processing.p50, told[name].processing.max) == (near(works), near(works))
        assert told[name].latency.p99 == near(waits)
    assert (told["best"].kind, told["best"].number, told["best"].state) == ("bbo", 512, "running")
    assert {actor.lag for actor in told.values()} == {0}


def test_rates_and_busy_share_are_per_second_of_watching(run, collector):
    collector.snapshot()
    for i in range(40):
        run.tell("model", "world", i, 0, 1, "best", 2, 2_500)     # forty times 2.5 ms: a tenth of a second
    time.sleep(0.25)
    model = actors(collector)["model"]
    assert 40 / 0.6 < model.rate <= 40 / 0.25
    assert model.busy_share == pytest.approx(model.rate * 0.0025, rel=0.01)


def test_lag_is_what_a_reader_has_still_to_take(run, collector):
    for i in range(3):
        run.message(i, i)
    for _ in range(7):
        run.publish("world", 100, 110, "best")
    view = collector.snapshot()
    world = next(queue for queue in view.queues if queue.name == "world")
    assert [(reader.actor, reader.lag) for reader in world.readers] == [("model", 7)]
    assert (world.message, world.kind, world.capacity, world.produced, world.producers) == ("world", "spmc", 64, 10, 1)
    assert next(actor for actor in view.actors if actor.name == "model").lag == 7
    assert not any(queue.name.startswith("timings") for queue in view.queues)


def test_what_a_reader_jumped_over_is_an_overrun(run, collector):
    for position in (0, 1, 2, 30, 31):
        run.tell("model", "world", position, 0, 1, "best", 2, 1)
    collector.poll()
    run.tell("model", "world", 32, 0, 1, "best", 2, 1, count=8)       # a batch: all eight of them were taken
    run.tell("model", "world", 45, 0, 1, "best", 2, 1)
    assert actors(collector)["model"].overruns == 27 + 5
    collector.reset()
    assert actors(collector)["model"].overruns == 0


def test_a_reader_of_several_queues_has_a_place_in_each(run, collector):
    run.queue("tops.bitstamp.0", "top")
    for position in range(6):
        run.tell("best", "tops.binance.0", position, 0, 1, "binance.0", 2, 1)
        run.tell("best", "tops.bitstamp.0", 1_000 + position, 0, 1, "binance.0", 2, 1)
    best = actors(collector)["best"]
    assert (best.overruns, best.latency.count) == (0, 12)


def test_a_ring_that_was_full_is_told_as_missed_and_everything_else_goes_on(run, collector):
    for position in range(200):
        run.tell("model", "world", position, 0, 1, "best", 2, 1)
    model = actors(collector)["model"]
    assert model.missed == 200 - model.processing.count > 0
    assert model.overruns == 0, "it is this reader that lost records, not that one messages"
    run.tell("model", "world", 200, 0, 1, "best", 2, 1)
    assert actors(collector)["model"].missed == model.missed


def test_actors_and_queues_that_appear_later_are_found(run, collector):
    number = run.spine.add_actor("late", "quoter")
    run.numbers["late"] = number
    run.ring("late")
    run.queue("orders", "update")
    collector._list_at = 0.0
    collector.poll()
    run.tell("late", "world", 0, 0, 1, "best", 2, 1)
    view = collector.snapshot()
    assert view.actors[-1].processing.count == 1
    assert "orders" in [queue.name for queue in view.queues]


def test_a_restarted_actor_is_followed_and_told_so(run, collector):
    run.tell("model", "world", 0, 0, 1, "best", 2, 1)
    collector.poll()
    run.rings["model"].close()
    run.ring("model")           # the next producer of the same ring
    run.spine.change_actor(run.numbers["model"], state=ActorState.RESTARTING, restarts=1, failures=1)
    run.tell("model", "world", 1, 0, 1, "best", 2, 1)
    model = actors(collector)["model"]
    assert (model.state, model.restarts, model.failures, model.processing.count) == ("restarting", 1, 1, 2)


def test_a_stopped_actor_does_not_lag(run, collector):
    run.message(0, 0)
    run.spine.change_actor(run.numbers["model"], state=ActorState.STOPPED)
    run.publish("world", 100, 110, "best")
    assert actors(collector)["model"].lag == 0


def test_the_end_of_a_run_is_noticed_and_what_was_seen_stays_readable(run, collector):
    run.message(0, 0)
    assert collector.alive
    run.close()
    collector._list_at = 0.0
    collector.poll()
    assert not Region.list(f"{run.spine.run}.")
    assert not collector.alive
    assert collector.snapshot().queues == ()


def test_users_meters_and_the_runs_histograms_are_told_and_begin_anew_on_reset(run, collector):
    run.spine.actor = "model"
    run.spine.timer("fit").record(900)
    run.spine.counter("fills").add(3)
    run.spine.gauge("position").set(-1.25)
    run.spine.histogram("socket_to_top.binance.0").record(700)
    collector._list_at = 0.0
    collector.poll()
    view = collector.snapshot()
    assert (view.timers["model.fit"].p50, view.histograms["socket_to_top.binance.0"].max) == (900, 700)
    assert [(one.actor, one.name, one.value) for one in view.counters + view.gauges] == [
        ("model", "fills", 3), ("model", "position", -1.25)]
    collector.reset()
    run.spine.histogram("socket_to_top.binance.0").record(90)
    told = collector.snapshot().histograms["socket_to_top.binance.0"]
    assert (told.count, told.p50) == (1, 90)


def test_a_snapshot_is_one_json_object(run, collector):
    run.message(0, 0)
    said = json.loads(json.dumps(asdict(collector.snapshot())))
    assert {"run", "utc_ns", "seconds", "clock", "actors", "queues", "feeds", "timers", "counters", "gauges",
            "histograms", "books"} == set(said)
    assert set(said["clock"]) == {"kind", "mhz", "error_ns", "steps"}
    assert said["feeds"][0]["counts"]["gaps"] == 0


def test_a_collector_comes_back_sooner_where_rings_fill_faster(run, collector):
    paces = []
    while not paces or paces[-1] < SLOWEST_S:
        collector.poll()
        paces.append(collector.pace)
    assert paces == sorted(paces)
    assert len(paces) > 3, "it trusts the calm little by little"
    for position in range(60):
        run.tell("model", "world", position, 0, 1, "best", 2, 1)
    time.sleep(0.02)
    collector.poll()
    assert collector.pace < SLOWEST_S


def test_a_distribution_tells_the_histograms_percentiles_and_all_of_its_values():
    histogram = Histogram.create()
    histogram.record_many(np.random.default_rng(3).lognormal(9, 2, 20_000).astype(np.uint64))
    told = Distribution.of(histogram)
    assert [told.p50, told.p90, told.p99, told.p999] == [histogram.percentile(p) for p in (50, 90, 99, 99.9)]
    assert (told.count, told.max) == (20_000, histogram.max)
    values, counts = zip(*told.buckets, strict=True)
    assert (sum(counts), list(values)) == (20_000, sorted(set(values)))
    assert Distribution.of(Histogram.create()) == Distribution()


def test_rates_are_of_about_the_last_second():
    rates = Rates()
    assert rates.of("a", 100, 0) == 0
    assert rates.of("a", 150, SECOND // 2) == 100
    assert rates.of("a", 151, SECOND) == 100, "not measured anew after half a second"
    assert rates.of("a", 170, 2 * SECOND) == pytest.approx(40 / 3, rel=0.4)
    assert rates.of("b", 7, 2 * SECOND) == 0


def test_feeds_are_heard_when_frames_come(run):
    row = run.spine.ledger.row("binance.0", 0)
    row.set_state(FeedState.LIVE, 5)
    feeds = Feeds(run.spine.ledger)
    assert feeds.read(SECOND)[0].heard_ns == 0
    row.add("frames", 2)
    row.add("messages", 300)
    (feed,) = feeds.read(3 * SECOND)
    assert (feed.venue, feed.state, feed.since_ns, feed.heard_ns) == ("binance", "live", 5, 3 * SECOND)
    assert (feed.messages_rate, feed.rates) == (150.0, (150.0,))


def test_a_queue_of_another_build_is_passed_over(run, collector):
    with Region.create(f"{run.spine.run}.timings.odd", 4096, kind="queue", layout="nonsense", fingerprint=1,
                       slot_bytes=64, capacity=2):
        collector._list_at = 0.0
        run.message(0, 0)
        assert actors(collector)["model"].processing.count == 1


def test_only_books_that_lost_something_or_are_not_trusted_are_told(run, collector):
    spine = run.spine
    names = ("AAA-USD", "BBB-USD", "CCC-USD")
    for id, name in enumerate(names, 1):
        spine.add_instrument(id, name, 0, 2, 8)
        spine.book_ledger.row(f"binance.0 {name}", 0, 0, id).add("messages", 9)
    spine.book_ledger[0].add("checksums_failed", 2)
    spine.tops.write(1, Top(instrument=2, venue=0, trust=1, reason=7, trust_since_ns=spine.clock.utc_ns() - 10**9))
    spine.tops.write(2, Top(instrument=3, venue=0, trust=4, trust_since_ns=1))
    lossy, doubted = collector.snapshot().books
    assert (lossy.name, lossy.trust, lossy.losses) == ("AAA-USD binance", "", "checksums failed 2")
    assert (doubted.name, doubted.trust, doubted.reason, doubted.losses) == ("BBB-USD binance", "stale", "silent", "")
    assert doubted.counts["distrusted_ns"] >= 10**9
