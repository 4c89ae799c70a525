"""Queue: one-way latency against the cache-line floor of the same run, produce and consume alone, and from Python.

    python bench/bench_queue.py [--rounds N] [--json]

Needs a C compiler and two CPUs. The targets: queue at most 1.25x the floor, produce under 8 ns.
"""
import argparse
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from mantra.core.messages import Kind, Update
from mantra.core.queue import Queue

HERE = Path(__file__).parent


def compiled(rounds):
    """{name: (best, median)} in ns, from queue_latency.c."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        sys.exit("bench_queue: needs two CPUs")
    with tempfile.TemporaryDirectory() as place:
        program = Path(place, "queue_latency")
        compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()
        subprocess.run([*compiler, "-std=gnu11", "-O3", f"-I{HERE.parent / 'csrc'}", str(HERE / "queue_latency.c"),
                        "-o", str(program), "-pthread"], check=True)
        text = subprocess.run([str(program), str(rounds), str(cpus[0]), str(cpus[-1])], check=True, timeout=120,
                              capture_output=True, text=True).stdout
    return {name: (float(best), float(median)) for name, best, median in map(str.split, text.splitlines())}


def python(count=20_000, repeats=10):
    """{name: (best, median)} in ns per message, through the Python face."""
    queue = Queue.create(None, "update", 32_768)
    producer, taken = queue.producer(), {}
    message = Update(price=7, kind=Kind.BID)
    data = message.to_bytes()
    for _ in range(repeats):
        reader, raw, batch = queue.consumer(), queue.consumer(), queue.consumer()
        marks = [time.perf_counter_ns()]
        for _ in range(count // 2):
            producer.produce(message)
        marks.append(time.perf_counter_ns())
        for _ in range(count // 2):
            producer.produce(data)
        marks.append(time.perf_counter_ns())
        total = sum(each.price for each in reader)
        marks.append(time.perf_counter_ns())
        while raw.read_bytes() is not None:
            pass
        marks.append(time.perf_counter_ns())
        array = batch.batch(limit=count)
        marks.append(time.perf_counter_ns())
        assert total == array["price"].sum() == 7 * count
        assert raw.position == queue.produced
        spans = [b - a for a, b in pairwise(marks)]
        for name, span, n in zip(("produce object", "produce bytes", "read object", "read bytes", "batch"), spans,
                                 (count // 2, count // 2, count, count, count), strict=True):
            taken.setdefault(name, []).append(span / n)
    return {name: (min(each), sorted(each)[repeats // 2]) for name, each in taken.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2000, help="round trips per repeat (20 repeats)")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    c, py = compiled(arguments.rounds), python()
    ratio = [queue / floor for queue, floor in zip(c["queue"], c["floor"], strict=True)]
    if arguments.json:
        print(json.dumps({"compiled_ns": c, "python_ns": py, "queue_to_floor": ratio}))
        return
    for title, rows in (("compiled", c), ("python", py)):
        print(f"{title:16}{'best':>10}{'median':>10}  ns")
        for name, (best, median) in rows.items():
            print(f"  {name:14}{best:10.1f}{median:10.1f}")
    print(f"queue / floor   {ratio[0]:10.2f}{ratio[1]:10.2f}")


if __name__ == "__main__":
    main()
