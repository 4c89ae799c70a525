"""bench: `mantra bench`: what the core costs on this machine, every answer checked, beside the last run's figures."""
from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import count
from pathlib import Path
from typing import Any, Literal

import numpy

from mantra.core import measure
from mantra.core.clock import Clock
from mantra.core.histogram import Histogram
from mantra.core.measure import Course, Side
from mantra.core.messages import Kind, Update
from mantra.core.queue import Queue
from mantra.core.tracking import Tracker
from mantra.core.vector import Vector
from mantra.errors import Closed, MantraError
from mantra.runtime import child
from mantra.runtime.options import Parser, door
from mantra.telemetry import doctor
from mantra.venues.instrument import home

QUEUES: dict[str, tuple[str, Literal["spmc", "mpmc"]]] = {      # ways through one: its messages, its kind
    "update": ("update", "spmc"), "many": ("update", "mpmc"), "top": ("top", "spmc"), "world": ("world", "spmc")}
VECTORS: dict[str, Literal["single", "many"]] = {"vector.": "single", "vector.many_": "many"}
PERCENTILES = {"p50": 50.0, "p99": 99.0, "p999": 99.9}
CAPACITY = 1024                                 # of the queues that are crossed, as many lines as the floor's
LONG = 32_768                                   # what a feed's queue of updates holds
NOISE = 0.03                                    # two runs never agree to less
SERIAL = count()

Crossings = dict[str, tuple[Histogram, list[list[int]]]]    # by way: cycles of round trips, percentiles of each turn


def cores() -> list[int]:
    """The cores we may use, one thread of each first."""
    allowed, files = sorted(os.sched_getaffinity(0)), doctor.Machine()
    first = {files.text(f"sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list") or core: core
             for core in reversed(allowed)}.values()
    return sorted(allowed, key=lambda core: (core not in first, core))


def machine() -> dict[str, Any]:
    """What the figures depend on, as the doctor tells it."""
    files, use = doctor.Machine(), cores()
    told = ("kernel", "virtualisation", "governor", "sharing", "cycle counter", "Python")
    return {"cpu": files.model(), "cores": len(use), "pinned": use[:2],
            "load": round(os.getloadavg()[0], 2), **{name: doctor.CHECKS[name][0](files)[1] for name in told}}


@contextlib.contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """This thread on one core."""
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, before if core is None else {core})
        yield
    finally:
        os.sched_setaffinity(0, before)


# Crossing between two sides ------------------------------------------------------------------------------------


class Meeting:
    """What the sides share: a course, and two queues of every size and two vectors, one each way."""

    def __init__(self, name: str | None = None, *, made: bool = True) -> None:
        def both(kind: Any, tag: str, *what: Any) -> list[Any]:
            names = [name and f"{name}.{tag}.{way}" for way in ("there", "back")]
            return [kind.create(each, *what) if made else kind.open(each, write=True) for each in names]

        self.course = Course.create(name) if made or name is None else Course.open(name)
        self.queues = {way: both(Queue, way, message, CAPACITY, kind) for way, (message, kind) in QUEUES.items()}
        self.vectors = both(Vector, "vector", "update", 1)

    def cross(self, asks: bool, ways: Sequence[str], turns: int, rounds: int, core: int | None) -> Crossings:
        """The asking or the answering side of all ways, `rounds` round trips of each by turns."""
        found: Crossings = {way: (Histogram.create(), []) for way in ways}
        with pinned(core):
            side = Side(self.course, Clock(), asks)
            ends = {way: (pair[not asks].producer(), pair[asks].consumer("oldest"))
                    for way, pair in self.queues.items() if way in ways}
            self.course.arrive()
            for _ in range(turns):
                for way, (total, each) in found.items():
                    turn = Histogram.create()
                    if way in ends:
                        side.queues(rounds, turn, *ends[way])
                    elif way == "vector":
                        side.vectors(rounds, turn, self.vectors[not asks], self.vectors[asks])
                    else:
                        side.lines(way, rounds, turn)
                    total.merge(turn)
                    each.append([turn.percentile(percent) for percent in PERCENTILES.values()])
        return found

    def part(self, number: int, ways: Sequence[str], turns: int, rounds: int, core: int | None) -> None:
        """Side 1 answers; further ones only consume the updates that are asked: each of them, and in order."""
        if number == 1:
            self.cross(False, ways, turns, rounds, core)
        else:
            with pinned(core):
                consumer = self.queues["update"][0].consumer("oldest")
                self.course.arrive()
                measure.drain(self.course, consumer, number, turns * rounds)

    def close(self) -> None:
        self.course.stop()
        for each in (self.course, *self.vectors, *(queue for pair in self.queues.values() for queue in pair)):
            each.close()


def cross(ways: Sequence[str], turns: int, rounds: int, use: Sequence[int | None], *,
          processes: bool = False) -> Crossings:
    """Ask and be answered, by threads or processes pinned to `use`: ours, the answering one, further consumers."""
    name = f"bench-{os.getpid()}-{next(SERIAL)}" if processes else None
    meeting, children, futures = Meeting(name), list[subprocess.Popen[bytes]](), list[Future[None]]()
    with ThreadPoolExecutor(len(use)) as pool:
        try:
            for number, core in enumerate(use[1:], 1):
                told = number, ways, turns, rounds, core
                if processes:
                    children.append(child.spawn("mantra.telemetry.bench", ["--side", json.dumps([name, *told])]))
                else:
                    futures.append(pool.submit(meeting.part, *told))
            deadline = time.monotonic() + 20.0
            while meeting.course.arrived < len(use) - 1:
                ended = any(map(Future.done, futures)) or any(each.poll() for each in children)
                if ended or time.monotonic() > deadline:
                    raise Closed("measuring: the other side did not start")
                time.sleep(0.001)
            found = meeting.cross(True, ways, turns, rounds, use[0])
            if any(each.wait(20.0) for each in children):
                raise Closed("measuring: the other side failed")
            wait(futures, 20.0)
            return found
        finally:
            meeting.close()
            child.stop(children)
            for future in futures:      # its failure is why ours is, if there is one
                future.result()


# The cases -----------------------------------------------------------------------------------------------------


class Bench:
    """One run: `values` by dotted key, how far each moves by itself (`noise`), and what could not be measured."""

    def __init__(self, *, quick: bool = False) -> None:
        self.clock, self.quick, self.use = Clock(), quick, cores()
        self.ns = self.clock.ns(10**9) / 1e9    # of a cycle
        self.values, self.noise = dict[str, float](), dict[str, float]()
        self.not_measurable, self.floors = dict[str, str](), dict[str, str]()     # floor: of the same run, by turns

    def take(self, key: str, samples: Sequence[float], value: float | None = None) -> None:
        """Keep `value` (default: the median), and the spread of the middle half of the samples as its noise."""
        ordered = sorted(samples)
        middle = statistics.median(ordered)
        self.values[key] = round(middle if value is None else value, 3)
        spread = ordered[-1 - len(ordered) // 4] - ordered[len(ordered) // 4]
        self.noise[key] = round(spread / middle, 3) if middle else 0.0

    def enough(self, needed: int, *keys: str) -> bool:
        """Are there cores for it?"""
        if len(self.use) < needed:
            why = f"not measurable here: needs {needed} cores, there are {len(self.use)}"
            self.not_measurable |= dict.fromkeys(keys, why)
        return len(self.use) >= needed

    def turns(self, full: int) -> int:
        return max(5, full // 5) if self.quick else full

    def cross(self, kind: str, ways: dict[str, str], consumers: int = 1) -> None:
        """Cross by each of these ways, with its key, between "threads" or "processes"."""
        many = self.enough(1 + consumers, *(f"{key}_ns" for key in ways.values()))
        use: list[int | None] = [*self.use[:1 + consumers]] if many else [None] * (1 + consumers)
        turns, rounds = (self.turns(100), 2000) if many else (2, 50)
        found, half = cross(list(ways), turns, rounds, use, processes=kind == "processes"), self.ns / 2
        for way, key in ways.items() if many else ():
            total, each = found[way]
            self.floors[f"{key}_ns"] = f"{ways['floor']}_ns"
            for (name, percent), cycles in zip(PERCENTILES.items(), zip(*each, strict=True), strict=True):
                self.take(f"{key}_ns.{name}", [half * some for some in cycles], half * total.percentile(percent))

    def threads(self) -> None:
        """one way between two threads: the floor, queues, a vector"""
        self.cross("threads", {"floor": "floor", "two_lines": "two_lines", "one_line": "one_line",
                               "update": "queue_threads", "many": "queue_many_threads", "top": "slots.top",
                               "world": "slots.world", "vector": "vector.threads"})

    def processes(self) -> None:
        """the same between two processes"""
        self.cross("processes", {"floor": "floor_processes", "update": "queue_processes",
                                 "many": "queue_many_processes", "top": "slots.top_processes",
                                 "world": "slots.world_processes", "vector": "vector.processes"})

    def consumers(self) -> None:
        """one way with four consumers on cores of their own; on fewer only whether each sees everything"""
        for kind in ("threads", "processes"):
            self.cross(kind, {"floor": f"floor_{kind}_4", "update": f"queue_{kind}_4"}, consumers=4)

    def alone(self) -> None:
        """produce, consume, find a queue empty; write and read a vector: on one core, before any stamp"""
        with pinned(self.use[0]):
            for way, key in (("update", ""), ("many", "many_"), ("top", "slots.top_"), ("world", "slots.world_")):
                queue = Queue.create(None, QUEUES[way][0], CAPACITY, QUEUES[way][1])
                ends = queue.producer(), queue.consumer()
                turns = [measure.queue_alone(self.clock, *ends, CAPACITY // 2) for _ in range(self.turns(400))]
                for name, samples in zip(("produce", "consume", "poll"), zip(*turns, strict=True), strict=True):
                    self.take(f"{key}{name}_ns", samples)
            for key, kind in VECTORS.items():
                vector = Vector.create(None, "update", CAPACITY // 2, kind)
                pairs = [measure.vector_alone(self.clock, vector, CAPACITY // 2) for _ in range(self.turns(400))]
                for name, samples in zip(("write", "read"), zip(*pairs, strict=True), strict=True):
                    self.take(f"{key}{name}_ns", samples)

    def throughput(self) -> None:
        """as many messages a second as one consumer on another core takes without losing any; the least and the most,
              too: a consumer right behind the producer takes each line from it, one that lags reads on at full speed"""
        if not self.enough(2, "messages_per_second", "throughput.least", "throughput.most"):
            return
        turns, each, rates = self.turns(50), 200_000, list[float]()
        course, queue = Course.create(), Queue.create(None, "update", LONG)
        producer, consumer = queue.producer(), queue.consumer()
        with self.elsewhere() as other, pinned(self.use[0]):
            drained = other.submit(measure.drain, course, consumer, 0, turns * each)
            try:
                for _ in range(turns):
                    began = time.perf_counter_ns()
                    measure.pour(course, producer, 1, each)
                    rates.append(each * 1e9 / (time.perf_counter_ns() - began))
            finally:
                course.stop()
            drained.result()
        self.take("messages_per_second", rates)
        self.take("throughput.least", rates, min(rates))
        self.take("throughput.most", rates, max(rates))

    def elsewhere(self) -> ThreadPoolExecutor:
        """A thread on another core."""
        return ThreadPoolExecutor(1, initializer=os.sched_setaffinity, initargs=(0, self.use[1:2] or self.use))

    def hop(self) -> None:
        """a message consumed and produced again: untracked, with its stamps, and with its time recorded"""
        each, timings = 512, Queue.create(None, "timing", CAPACITY)
        source, out = Queue.create(None, "update", CAPACITY), Queue.create(None, "update", CAPACITY)
        ends = source.producer(), source.consumer(), out.producer()
        trackers = {"hop_ns": None, "hop_stamped_ns": Tracker(self.clock, 1),
                    "hop_timed_ns": Tracker(self.clock, 1, timings)}
        spans = {name: list[float]() for name in trackers}
        with pinned(self.use[0]):
            for _ in range(self.turns(400)):
                for name, tracker in trackers.items():
                    spans[name].append(measure.hop_alone(self.clock, *ends, tracker, each))
        if timings.produced != self.turns(400) * each:
            raise MantraError("measuring: a hop was not recorded")
        for name, samples in spans.items():
            self.take(name, samples)
        pairs = zip(spans["hop_timed_ns"], spans["hop_ns"], strict=True)
        self.take("hop_overhead_ns", [timed - bare for timed, bare in pairs])

    def python(self) -> None:
        """from Python: one message, and batches of a thousand out of this core's cache and another's"""
        queue, each = Queue.create(None, "update", LONG), 1000
        producer, message, spans = queue.producer(), Update(price=7, kind=Kind.BID), dict[str, list[float]]()
        objects, raw, batches, data = queue.consumer(), queue.consumer(), queue.consumer(), message.to_bytes()
        out = numpy.empty(each, queue.format.dtype)

        def produce(what: Any) -> None:
            for _ in range(each):
                producer.produce(what)

        def consume() -> Any:
            last = None
            for each in objects:
                last = each
            return last

        def consume_bytes() -> bytes:
            last = b""
            while taken := raw.read_bytes():
                last = taken
            return last

        def timed(name: str, work: Callable[[], Any]) -> Any:
            began = time.perf_counter_ns()
            answer = work()
            spans.setdefault(f"python.{name}_ns", []).append((time.perf_counter_ns() - began) / each)
            return answer

        def batch() -> Any:
            return batches.batch(out, each)

        def check(last: Any, last_bytes: bytes, rows: Any) -> None:
            right = last == message and last_bytes == data and rows["price"].sum() == 7 * each == 7 * len(rows)
            if not right or {objects.position, raw.position, batches.position} != {queue.produced}:
                raise MantraError("measuring: Python read something else than was produced")

        # What another core's thread has just produced is in its cache, not in ours.
        with self.elsewhere() as other, pinned(self.use[0]):
            for turn in range(self.turns(200)):
                if turn % 2:
                    timed("produce", lambda: produce(message))
                else:
                    timed("produce_bytes", lambda: produce(data))
                check(timed("consume", consume), timed("consume_bytes", consume_bytes), timed("batch", batch))
                other.submit(produce, message).result()
                across = timed("batch_across", batch)
                check(consume(), consume_bytes(), across)
        for key, samples in spans.items():
            self.take(key, samples)
        if len(self.use) < 2:
            del self.values["python.batch_across_ns"]
            self.enough(2, "python.batch_across_ns")


# The door ------------------------------------------------------------------------------------------------------

CASES = {name: getattr(Bench, name)
         for name in ("threads", "processes", "consumers", "alone", "throughput", "hop", "python")}
Figures = dict[str, dict[str, float]]       # values and noise, by dotted key


def last_run(path: Path, cpu: str) -> Figures:
    """The newest figures that are kept of every key; none of another machine."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):     # none yet, or not ours
        kept = json.loads(path.read_text())
        if kept["cpu"] == cpu:
            return {"values": dict(kept["values"]), "noise": dict(kept["noise"])}
    return {"values": {}, "noise": {}}


def keep(path: Path, cpu: str, last: Figures, bench: Bench) -> None:
    """For the next run: these figures, and what this run left out of the last."""
    kept = {"cpu": cpu, "values": last["values"] | bench.values, "noise": last["noise"] | bench.noise}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps(kept))
        fresh.replace(path)
    except OSError as error:
        print(f"mantra bench: cannot keep the figures for the next run: {error}", file=sys.stderr)


def compared(last: Figures, bench: Bench) -> dict[str, dict[str, Any]]:
    """Per key the ratio to the last run, and whether it is no further from 1 than both runs' noise."""
    ratios = {key: value / last["values"][key] for key, value in bench.values.items() if last["values"].get(key)}
    noise = {key: max(NOISE, bench.noise[key] + last["noise"].get(key, 0.0)) for key in ratios}
    return {key: {"ratio": round(ratio, 3), "within_noise": abs(ratio - 1) <= noise[key]}
            for key, ratio in ratios.items()}


def nested(values: dict[str, Any]) -> dict[str, Any]:
    """{"a.b": 1} as {"a": {"b": 1}}."""
    tree: dict[str, Any] = {}
    for key, value in values.items():
        place, (*path, leaf) = tree, key.split(".")
        for name in path:
            place = place.setdefault(name, {})
        place[leaf] = value
    return tree


def show(bench: Bench, about: dict[str, Any], ratios: dict[str, dict[str, Any]]) -> None:
    """The tables, for people."""
    def row(key: str, title: str, *cells: str) -> None:
        than = ratios.get(key)
        told = f"{than['ratio']:13.2f} {'=' if than['within_noise'] else '!'}" if than else ""
        print(f"  {title.replace('_', ' ').replace('.', ' '):30}" + "".join(f"{cell:>10}" for cell in cells)
              + f"{bench.noise[key]:9.0%}{told}")

    print("\n".join(f"{name:16}{what}" for name, what in about.items()))
    if bench.floors:
        print(f"\n{'one way, ns':32}{'p50':>10}{'p99':>10}{'p99.9':>10}{'of floor':>10}{'noise':>9}{'of last run':>13}")
    for key, floor in bench.floors.items():
        row(f"{key}.p50", key.removesuffix("_ns"), *(f"{bench.values[f'{key}.{name}']:.0f}" for name in PERCENTILES),
            f"{bench.values[f'{key}.p50'] / bench.values[f'{floor}.p50']:.2f}")
    if len(bench.values) > len(PERCENTILES) * len(bench.floors):
        print(f"\n{'ns a message':32}{'':40}{'noise':>9}{'of last run':>13}")
    for key, value in bench.values.items():
        if not key.endswith(tuple(PERCENTILES)):
            row(key, key.removesuffix("_ns"), f"{value:,.1f}" if key.endswith("_ns") else f"{value:,.0f}", "", "", "")
    for why in dict.fromkeys(bench.not_measurable.values()):
        print(f"\n{why}: {', '.join(key for key, its in bench.not_measurable.items() if its == why)}")
    if ratios:
        print("\n= is no further from the last run than both runs' noise, ! is")


@door("mantra bench")
def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="mantra bench", formatter_class=argparse.RawDescriptionHelpFormatter,
                    description="Measure what mantra's core costs on this machine; every answer is checked.",
                    epilog="\n".join(["cases:", *(f"  {name:12}{case.__doc__}" for name, case in CASES.items())]))
    add = parser.add_argument
    add("cases", nargs="*", metavar="NAME", help="which cases (default: all)")
    add("--quick", action="store_true", help="a fifth of the repeats: seconds")
    add("--json", action="store_true", help="one JSON object on the last line of standard output")
    add("--side", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if unknown := set(options.cases) - CASES.keys():
        parser.error(f"no case {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    if options.side:
        child.follow_parent()
        name, *told = json.loads(options.side)
        Meeting(name, made=False).part(*told)
        return 0
    bench, about, path = Bench(quick=options.quick), machine(), home() / "bench.json"
    for name, case in CASES.items():
        if name in options.cases or not options.cases:
            print(f"mantra bench: {name}", file=sys.stderr)
            case(bench)
    last = last_run(path, about["cpu"])
    ratios = compared(last, bench)
    show(bench, about, ratios)
    keep(path, about["cpu"], last, bench)
    if options.json:
        print(json.dumps({"machine": about, **nested(dict.fromkeys(bench.not_measurable) | bench.values),
                          "noise": bench.noise, "last_run": ratios, "not_measurable": bench.not_measurable}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
