"""Queues and vectors, by the compiled loops of `mantra bench`: what crosses between cores, what stays on one, Python.

    python -m pytest bench/bench_queue.py

Every loop checks that what came is what was sent. A round of a crossing is 1,000 round trips, each measured: one way's
percentiles are in extra_info. Needs two cores. The targets are asserted: one way through a queue at most 1.25 times its
floor, between processes too; 8 ns to produce; from Python 150 ns for a message, 5 in batches.
"""
from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy
import pytest

from mantra.core import measure
from mantra.core.clock import Clock
from mantra.core.histogram import Histogram
from mantra.core.messages import Kind, Update
from mantra.core.queue import Queue
from mantra.core.tracking import Tracker
from mantra.core.vector import Vector
from mantra.telemetry import bench

CORES, CLOCK, EACH, ROUNDS = bench.cores(), Clock(), 1000, 100
MESSAGE = Update(price=7, kind=Kind.BID)
two_cores = pytest.mark.skipif(len(CORES) < 2, reason="not measurable here: needs 2 cores")


def fastest(benchmark: Any, messages: int = EACH) -> float:
    """ns a message, of the fastest round."""
    benchmark.extra_info["ns_per_message"] = ns = benchmark.stats.stats.min * 1e9 / messages
    return float(ns)


def beside(work: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


@two_cores
@pytest.mark.parametrize("way", ["floor", "two_lines", "one_line", *bench.QUEUES, "vector"])
def test_one_way(way: str, benchmark: Any) -> None:
    meeting, total = bench.Meeting(), Histogram.create()
    other = beside(lambda: meeting.cross(False, [way], ROUNDS, EACH, CORES[1]))
    with bench.pinned(CORES[0]):
        side = measure.Side(meeting.course, CLOCK, True)
        if way in bench.QUEUES:
            there, back = meeting.queues[way]
            ends = there.producer(), back.consumer("oldest")
            benchmark.pedantic(side.queues, (EACH, total, *ends), rounds=ROUNDS)
        elif way == "vector":
            benchmark.pedantic(side.vectors, (EACH, total, *meeting.vectors), rounds=ROUNDS)
        else:
            benchmark.pedantic(side.lines, (way, EACH, total), rounds=ROUNDS)
    other.join()
    half = CLOCK.ns(10**9) / 2e9
    benchmark.extra_info.update({name: total.percentile(percent) * half for name, percent in bench.PERCENTILES.items()})
    fastest(benchmark, 2 * EACH)


@two_cores
@pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])
def test_queue_is_at_the_floor(processes: bool, benchmark: Any) -> None:
    arguments = ["floor", "update"], ROUNDS, EACH, CORES[:2]
    found = benchmark.pedantic(bench.cross, arguments, {"processes": processes}, rounds=1)
    floor, queue = (found[way][0].percentile(50) for way in ("floor", "update"))
    benchmark.extra_info["of_floor"] = queue / floor
    assert queue <= 1.25 * floor


def test_produce_and_consume_on_one_core(benchmark: Any) -> None:
    queue = Queue.create(None, "update", bench.CAPACITY)
    taken: list[tuple[float, float, float]] = []
    producer, consumer = queue.producer(), queue.consumer()
    with bench.pinned(CORES[0]):
        benchmark(lambda: taken.append(measure.queue_alone(CLOCK, producer, consumer, 512)))
    best = dict(zip(("produce_ns", "consume_ns", "poll_ns"), map(min, zip(*taken, strict=True)), strict=True))
    benchmark.extra_info.update(best)
    assert best["produce_ns"] < 8


def test_vector_on_one_core(benchmark: Any) -> None:
    vector = Vector.create(None, "update", 512)
    with bench.pinned(CORES[0]):
        write, read = benchmark(measure.vector_alone, CLOCK, vector, 512)
    benchmark.extra_info.update(write_ns=write, read_ns=read)


@pytest.mark.parametrize("kind", ["untracked", "stamped", "timed"])
def test_hop_on_one_core(kind: str, benchmark: Any) -> None:
    source, out, timings = (Queue.create(None, message, bench.CAPACITY) for message in ("update", "update", "timing"))
    tracker = None if kind == "untracked" else Tracker(CLOCK, 1, timings if kind == "timed" else None)
    ends = source.producer(), source.consumer(), out.producer()
    with bench.pinned(CORES[0]):
        benchmark(measure.hop_alone, CLOCK, *ends, tracker, 512)
    assert out.produced == source.produced
    assert timings.produced == (source.produced if kind == "timed" else 0)


@two_cores
def test_throughput_without_loss(benchmark: Any) -> None:
    messages, rounds = 200_000, 20
    course, queue = measure.Course.create(), Queue.create(None, "update", bench.LONG)
    producer, consumer = queue.producer(), queue.consumer()

    def drain() -> None:
        with bench.pinned(CORES[1]):
            for _ in range(rounds):
                measure.drain(course, consumer, 0, messages)

    other = beside(drain)
    with bench.pinned(CORES[0]):
        benchmark.pedantic(measure.pour, (course, producer, 1, messages), rounds=rounds)
    other.join()
    assert (consumer.position, consumer.lost) == (rounds * messages, 0)
    fastest(benchmark, messages)


@pytest.fixture
def ring() -> Queue:
    return Queue.create(None, "update", bench.LONG)


@pytest.mark.parametrize("form", ["object", "bytes"])
def test_produce_from_python(form: str, ring: Queue, benchmark: Any) -> None:
    producer, what = ring.producer(), MESSAGE if form == "object" else MESSAGE.to_bytes()

    def produce() -> None:
        for _ in range(EACH):
            producer.produce(what)

    benchmark(produce)
    assert ring.consumer(ring.produced - 1).read() == MESSAGE
    assert fastest(benchmark) < 150


@pytest.mark.parametrize("form", ["object", "bytes", "batch"])
def test_consume_from_python(form: str, ring: Queue, benchmark: Any) -> None:
    producer, consumer, out = ring.producer(), ring.consumer(), numpy.empty(EACH, ring.format.dtype)
    last: Any = None

    def fill() -> None:
        for _ in range(EACH):
            producer.produce(MESSAGE)

    def consume() -> None:
        nonlocal last
        if form == "object":
            for each in consumer:
                last = each
        elif form == "bytes":
            while taken := consumer.read_bytes():
                last = taken
        else:
            last = consumer.batch(out, EACH)

    benchmark.pedantic(consume, setup=fill, rounds=500)
    assert consumer.position == ring.produced
    assert last[-1]["price"] == 7 if form == "batch" else last in (MESSAGE, MESSAGE.to_bytes())
    assert fastest(benchmark) < (5 if form == "batch" else 150)
