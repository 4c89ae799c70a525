"""What timing costs: a hop, a venue's message, a top merged, Python's reads; with a tracker and without, by turns.

    python bench/bench_timing.py [--json]

The least of many turns counts. The answers are checked: every message comes through, and every one has its record.
"""
from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mantra import venues
from mantra.client.feed import bare_feed
from mantra.core import measure
from mantra.core.aggregate import WorldMerger
from mantra.core.clock import Clock
from mantra.core.hot_path import PADDING, Feed
from mantra.core.merge import Merge
from mantra.core.messages import InstrumentRow, Top, Update
from mantra.core.queue import Queue
from mantra.core.tracking import Tracker
from mantra.core.vector import Vector
from mantra.runtime.spine import Spine

TURNS, COUNT = 200, 500
CLOCK = Clock()
Turn = Callable[[], float]      # does COUNT of something and returns ns for each


def ring() -> Queue:
    return Queue.create(None, "timing", 1024)


def trackers() -> dict[str, Tracker | None]:
    return {"untracked": None, "stamped": Tracker(CLOCK, 1), "timed": Tracker(CLOCK, 1, ring())}


def timed(work: Callable[[], object], times: int = 1) -> float:
    """ns for each of COUNT, which `times` calls did."""
    began = time.perf_counter_ns()
    for _ in range(times):
        work()
    return (time.perf_counter_ns() - began) / COUNT


def hop(tracker: Tracker | None) -> Turn:
    source, out = (Queue.create(None, "update", 1024) for _ in range(2))
    ends = source.producer(), source.consumer(), out.producer()
    return lambda: measure.hop_alone(CLOCK, *ends, tracker, COUNT)


def message(tracker: Tracker | None) -> Turn:
    venue, spine = venues.get("binance"), Spine.private(clock=CLOCK)
    feed: Feed = bare_feed(spine, "feed", venue, most_books=1, tracker=tracker)
    book, slot = spine.make_book("binance", venue.id, "ETHBTC", 1)
    feed.add_book(book, slot, venue.spellings("ETHBTC"), 1, 2, 3)
    feed.begin()
    feed.splice(0, b'{"lastUpdateId":0,"bids":[["4.5","1"]],"asks":[["6.5","1"]]}')
    row, at = spine.ledger.row("feed", venue.id), 0

    def turn() -> float:
        nonlocal at
        texts = [b'{"e":"depthUpdate","E":1700000000000,"s":"ETHBTC","U":%d,"u":%d,"b":[["4.5","%d"],["4.25","1"]],'
                 b'"a":[["6.5","2"]]}' % (n, n, n % 9 + 1) + bytes(PADDING) for n in range(at + 1, at + COUNT + 1)]
        at += COUNT
        offsets = np.cumsum([0, *map(len, texts)]).astype(np.uint64)
        cycles = feed.messages(np.frombuffer(b"".join(texts), np.uint8), offsets, 0, COUNT)
        if row["messages"] != at or row["tops"] < at:
            sys.exit(f"bench_timing: {row['messages']} of {at} messages, {row['tops']} tops")
        return CLOCK.ns(cycles) / COUNT

    return turn


def merged(tracker: Tracker | None) -> Turn:
    tops = Queue.create(None, "top", 1024)
    producer, instruments = tops.producer(), Vector.create(None, "instrument", 1)
    instruments.write(0, InstrumentRow(name="A-B", instrument=1))
    merger = WorldMerger(Merge([tops], tracker=tracker), Queue.create(None, "world", 1024).producer(), CLOCK,
                         instruments=instruments, latest=Vector.create(None, "world", 1))
    sizes = iter(range(1, 10**9))

    def turn() -> float:
        for _ in range(COUNT):
            producer.produce(Top(instrument=1, trust=4, bid_count=1, bid_price=[5], bid_size=[next(sizes)]))
        before = merger.published
        took = timed(merger.step)
        if merger.published - before != COUNT:
            sys.exit(f"bench_timing: {merger.published - before} of {COUNT} views")
        return took

    return turn


def read(tracker: Tracker | None) -> Turn:
    queue = Queue.create(None, "update", 1024)
    producer, consumer, update = queue.producer(), queue.consumer(tracker=tracker), Update(price=1)

    def turn() -> float:
        for _ in range(COUNT):
            producer.produce(update)
        return timed(lambda: list(consumer))

    return turn


def produce(tracker: Tracker | None) -> Turn:
    producer, update = Queue.create(None, "update", 1024).producer(tracker=tracker), Update(price=1)
    return lambda: timed(lambda: producer.produce(update), COUNT)


def meters() -> dict[str, float]:
    spine = Spine.private(clock=CLOCK)
    counter, gauge, timer = spine.counter("n"), spine.gauge("x"), spine.timer("t")

    def block() -> None:
        with timer:
            pass

    each: dict[str, Callable[[], None]] = {
        "counter.add()": counter.add, "gauge.set(x)": lambda: gauge.set(1.0),
        "timer.record(ns)": lambda: timer.record(5), "with timer": block}
    best = {name: min(timed(work, COUNT) for _ in range(TURNS)) for name, work in each.items()}
    if counter.value != TURNS * COUNT or timer.histogram.count != 2 * TURNS * COUNT or gauge.value != 1.0:
        sys.exit(f"bench_timing: {counter.value} counted, {timer.histogram.count} timed")
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    told: dict[str, dict[str, float]] = {}
    for name, make in (("consume and produce 64 bytes", hop), ("venue's message to top", message),
                       ("top merged into a view", merged), ("Python: read", read), ("Python: produce", produce)):
        ways = trackers()
        turns = {way: make(tracker) for way, tracker in ways.items()}
        best = dict.fromkeys(turns, float("inf"))
        for _ in range(TURNS):
            for way, turn in turns.items():
                best[way] = min(best[way], turn())
        tracker = ways["timed"]
        assert tracker is not None
        tracker.rest()
        expected = 0 if make is produce else TURNS * COUNT
        if tracker.timings.produced != expected:
            sys.exit(f"bench_timing: {name}: {tracker.timings.produced} records of {expected} messages")
        told[name] = best
        print(f"{name:30}" + "".join(f"{way:>11} {ns:6.1f}" for way, ns in best.items()) + "  ns")
    told["meters"] = meters()
    print(f"{'Python: meters':30}" + "".join(f"  {name} {ns:.0f}" for name, ns in told["meters"].items()) + "  ns")
    if options.json:
        print(json.dumps(told))


if __name__ == "__main__":
    main()
