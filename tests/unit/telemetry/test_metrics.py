"""Metrics: what Prometheus reads of a run is what the run counted."""
from __future__ import annotations

import os
import random
import sys

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from mantra import venues
from mantra.core.ledger import COUNTERS, MEANINGS, FeedState
from mantra.core.messages import ActorState, Top, Trust
from mantra.errors import ConfigurationError
from mantra.runtime.spine import Spine
from mantra.telemetry import metrics


@pytest.fixture
def run(request):
    """A run of this process, and what another that attaches to it tells Prometheus, parsed."""
    with Spine.create(f"test-metrics-{os.getpid()}-{abs(hash(request.node.name)) % 10**6}") as spine:
        yield spine


def scrape(spine):
    with Spine.attach(spine.run) as attached:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(metrics.Exporter(attached))
        return {family.name: family for family in text_string_to_metric_families(generate_latest(registry).decode())}


def values(family):
    """{(sample, label values in the order of the labels' names...): value}"""
    return {(sample.name, *dict(sorted(sample.labels.items())).values()): sample.value for sample in family.samples}


def test_every_counter_of_the_ledger_has_its_name_its_help_and_its_value(run):
    row = run.ledger.row("bitstamp.3", venues.NAMES.index("bitstamp"))
    for number, counter in enumerate(COUNTERS[:-3]):
        row.add(counter, 1000 + number)
    row.set_state(FeedState.LIVE, 1_700_000_000_500_000_000)
    families = scrape(run)
    for number, counter in enumerate(COUNTERS[:-3]):
        name, scale = metrics.UNITS.get(counter, (counter, 1))
        family = families[f"mantra_feed_{name}"]
        assert family.type == "counter"
        assert family.documentation.lower().rstrip(".") == MEANINGS[counter].lower()
        assert values(family) == {(f"mantra_feed_{name}_total", "bitstamp.3", "bitstamp"): (1000 + number) / scale}
    assert families["mantra_feed_state_since_timestamp_seconds"].samples[0].value == 1_700_000_000.5
    states = {sample.labels["mantra_feed_state"]: sample.value for sample in families["mantra_feed_state"].samples}
    assert states == {state.name.lower(): float(state == FeedState.LIVE) for state in FeedState}


def test_buckets_count_exactly_what_was_recorded(run):
    recorded = [random.Random(1).randrange(50, 10**11) >> shift for shift in range(30) for _ in range(20)]
    histogram, timer = run.histogram("socket_to_top.binance.0"), run.timer("fit")
    for ns in recorded:
        histogram.record(ns)
        timer.record(ns)
    families = scrape(run)
    for name, labels in (("latency", {"span": "socket_to_top", "by": "binance.0"}),
                         ("timer", {"actor": run.actor, "name": "fit"})):
        family = families[f"mantra_{name}_seconds"]
        assert family.type == "histogram"
        told = {}
        for sample in family.samples:
            bound = sample.labels.pop("le", None)
            assert sample.labels == labels
            told[sample.name.rpartition("_")[2] if bound is None else float(bound)] = sample.value
        assert told.pop("count") == told[float("inf")] == len(recorded)
        assert told.pop("sum") == pytest.approx(sum(recorded) / 1e9)
        assert told == {bound: sum(ns / 1e9 <= bound for ns in recorded) for bound in told}


def test_trust_actors_and_meters_are_told(run):
    instrument = run.add_instrument(7, "ETH-BTC", 0, 8, 8)
    run.ledger.row("bitstamp-0", 1)
    run.book_ledger.row("bitstamp-0 ethbtc", 1, 0, instrument.id)
    # slot 0: a book that has no top yet
    run.tops.write(1, Top(instrument=instrument.id, venue=1, trust=Trust.UNVERIFIED, trust_since_ns=2_500_000_000))
    number = run.add_actor("desk", "user")
    run.change_actor(number, state=ActorState.RUNNING, restarts=2)
    run.counter("fills").add(5)
    run.gauge("position").set(-0.25)
    families = scrape(run)
    assert values(families["mantra_book_trust"]) == {("mantra_book_trust", "ETH-BTC", venues.NAMES[1]): 3}
    assert families["mantra_book_trust_since_timestamp_seconds"].samples[0].value == 2.5
    assert values(families["mantra_actor_restarts"]) == {("mantra_actor_restarts_total", "desk", "user"): 2}
    assert [sample.labels["mantra_actor_state"] for sample in families["mantra_actor_state"].samples
            if sample.value] == ["running"]
    assert values(families["mantra_counter"]) == {("mantra_counter_total", run.actor, "fills"): 5}
    assert values(families["mantra_gauge"]) == {("mantra_gauge", run.actor, "position"): -0.25}
    assert families["mantra_build_info"].samples[0].labels["version"]
    assert families["mantra_run_info"].samples[0].labels["run"] == run.run


def test_queues_and_the_actors_that_read_them_are_told(run):
    queue = run.queue("tops.binance.0", "top", 16)
    producer = queue.producer()
    for _ in range(20):
        producer.produce(Top())
    families = scrape(run)
    assert values(families["mantra_queue_produced"]) == {("mantra_queue_produced_total", "top", "tops.binance.0"): 20}
    assert families["mantra_queue_capacity"].samples[0].value == 16
    assert families["mantra_queue_producers"].samples[0].value == 1


def test_every_family_has_a_help_and_base_units_and_openmetrics_is_spoken_too(run):
    run.timer("fit").record(5)
    registry = CollectorRegistry(auto_describe=False)
    with Spine.attach(run.run) as attached:
        registry.register(metrics.Exporter(attached))
        encode, kind = choose_encoder("application/openmetrics-text; version=1.0.0")
        assert kind.startswith("application/openmetrics-text")
        assert any(family.name == "mantra_timer_seconds" for family in openmetrics(encode(registry).decode()))
    families = scrape(run)
    assert all(family.documentation for family in families.values())
    assert not [name for name in families if name.endswith(("_ns", "_ms", "_us", "_mhz"))]


def test_without_prometheus_client_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'mantra\[metrics\]'"):
        metrics.client()


def test_of_books_only_losses_doubts_and_audits_are_told_and_two_rows_of_one_are_added(run):
    run.add_instrument(7, "ETH-BTC", 0, 8, 8)
    run.add_instrument(8, "BTC-USD", 0, 8, 8)
    for number in range(2):
        feed = run.ledger.row(f"kraken.{number}", 4)
        for symbol, instrument in (("ETH/BTC", 7), ("BTC/USD", 8)):
            row = run.book_ledger.row(f"kraken.{number} {symbol}", 4, feed.feed, instrument)
            row.add("messages", 5)
    for at, lost in ((0, 3), (2, 4)):
        run.book_ledger[at].add("lost", lost)
        run.book_ledger[at].audit(100, 99)
    run.tops.write(0, Top(instrument=7, venue=4, trust=2, reason=2, trust_since_ns=1, published=feed.feed))
    families = scrape(run)
    told = {name: {frozenset(one.labels.values()): one.value for one in families[f"mantra_book_{name}"].samples}
            for name in ("losses", "doubt", "audits", "audited", "agreed")}
    book = {"kraken", "ETH-BTC"}
    assert told == {"losses": {frozenset(book | {"lost"}): 7}, "doubt": {frozenset(book | {"gap"}): 1},
                    **{name: {frozenset(book): n} for name, n in (("audits", 2), ("audited", 200), ("agreed", 198))}}
