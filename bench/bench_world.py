"""A hop of the aggregator, per top: taken from its queue, merged, published as a world view to vector and queue.

    python bench/bench_world.py [--json]

The floor of the same run is a hop over tops that change nothing (read, compared with what is held, not merged). The
answer is checked: the last view equals a slow reference's.
"""
from __future__ import annotations

import argparse
import json
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mantra.core.aggregate import WorldMerger
from mantra.core.clock import Clock
from mantra.core.merge import Merge
from mantra.core.messages import DEPTH, InstrumentRow, Top
from mantra.core.queue import Queue
from mantra.core.vector import Vector
from tests.reference.world import slow_side, top_of

BATCH = 1000    # tops between two looks at the clock


def measure(venues: int, summed: bool, moving: bool, rounds: int = 40) -> float:
    """ns per top, the best of `rounds`; in every top a level of one side has another size, or nothing has changed."""
    draw = random.Random(1)
    queues = [Queue.create(None, "top", 2048) for _ in range(venues)]
    producers = [queue.producer(number) for number, queue in enumerate(queues)]
    instruments, latest = Vector.create(None, "instrument", 1), Vector.create(None, "world", 1)
    instruments.write(0, InstrumentRow(name="A-B", instrument=1))
    merger = WorldMerger(Merge(queues), Queue.create(None, "world", 2048).producer(99), Clock(),
                         instruments=instruments, latest=latest, summed=summed)
    sides = [[[(1000 - 3 * i - venue % 3, 5) for i in range(DEPTH)],
              [(1001 + 3 * i + venue % 3, 5) for i in range(DEPTH)]] for venue in range(venues)]
    last: list[Top] = [top_of(*levels, instrument=1, venue=venue, trust=4) for venue, levels in enumerate(sides)]
    best = float("inf")
    for round_ in range(rounds):
        for turn in range(BATCH):
            venue = turn % venues
            if moving:
                side, level = draw.choice(sides[venue]), draw.randrange(DEPTH)
                side[level] = (side[level][0], side[level][1] % 900 + 1)
                last[venue] = top_of(*sides[venue], instrument=1, venue=venue, trust=4)
            producers[venue].produce(last[venue])
        began = time.perf_counter_ns()
        handled = merger.step()
        took = time.perf_counter_ns() - began
        if handled != BATCH:
            sys.exit(f"bench_world: {handled} of {BATCH} tops were read")
        best = min(best, took / BATCH) if round_ else best
    view = latest.read(0)
    if (view.bids, view.asks) != (slow_side({v: s[0] for v, s in enumerate(sides)}, True, summed),
                                  slow_side({v: s[1] for v, s in enumerate(sides)}, False, summed)):
        sys.exit("bench_world: the last view is not the reference's")
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = {}
    for venues in (2, 5):
        floor = measure(venues, False, False)
        for summed, name in ((False, "best bid and offer"), (True, "liquidity")):
            took = measure(venues, summed, True)
            results[f"{venues} venues, {name}"] = {"hop_ns": took, "floor_ns": floor, "ratio": took / floor}
            print(f"{venues} venues, {name:20} {took:7.1f} ns   unchanged {floor:7.1f} ns   ratio {took / floor:5.2f}")
    if options.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
