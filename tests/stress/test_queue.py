"""Queues between processes: nothing torn, nothing lost uncounted, whoever is killed; a careless reader is caught."""
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mantra.core.doorbell import Doorbell
from mantra.core.messages import Update
from mantra.core.queue import Queue
from mantra.core.region import Region
from mantra.core.vector import Vector
from mantra.errors import Lapped
from tests.c.compilers import COMPILERS, ROOT, compile_c

if not COMPILERS:
    pytest.skip("needs gcc or clang", allow_module_level=True)


def compiled(folder, *flags):
    compile_c(COMPILERS[0], Path(__file__).with_name("ring.c"), folder / "ring", "-O2", *flags)
    return folder / "ring"


@pytest.fixture(scope="module")
def ring(tmp_path_factory):
    return compiled(tmp_path_factory.mktemp("ring"))


@pytest.fixture(scope="module")
def wide_ring(tmp_path_factory):
    """Its producers sleep between stores, so that most kills land inside a write."""
    return compiled(tmp_path_factory.mktemp("wide"), "-DWIDE")


def storm(ring, kind, times):
    """read, lost, holes, abandoned, burnt; an AssertionError with what is wrong."""
    done = subprocess.run([ring, kind, str(times)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return tuple(map(int, done.stdout.split()))


@pytest.mark.parametrize("kind", ["single", "many"])
def test_after_a_thousand_kills_every_message_of_the_survivors_is_there(ring, kind):
    read, lost, *_ = storm(ring, kind, 1000)
    assert read > 0
    assert lost == 0


@pytest.mark.parametrize("kind", ["single", "many"])
def test_after_a_thousand_kills_inside_writes_no_slot_is_poisoned(wide_ring, kind):
    read, lost, holes, abandoned, _ = storm(wide_ring, kind, 1000)
    assert read > 0
    assert lost == 0
    assert 0 < abandoned <= holes <= 1000


@pytest.mark.parametrize(("width", "stops"), [("ring", 300), ("wide_ring", 100)])
def test_a_producer_stopped_for_laps_costs_positions_but_no_message(request, width, stops):
    *_, abandoned, burnt = storm(request.getfixturevalue(width), "stall", stops)
    assert abandoned == 0
    assert burnt > 0


# What is done to queue.h, and the storm that must find it. `put` is a plain store where a swap should be.
TWINS = {
    "does not look again behind reading": ("stall", [
        ("memory_order_relaxed) == version ? MANTRA_MESSAGE", "memory_order_relaxed) != 0 ? MANTRA_MESSAGE")]),
    "waits for the dead": ("single", [
        ("memory_order_acquire) == version ? MANTRA_SKIP", "memory_order_acquire) == 0 ? MANTRA_SKIP"),
        ("if (inherited)\n        mantra_queue_sweep", "if (false)\n        mantra_queue_sweep")]),
    "takes the slots of the living": ("stall", [
        ("&& mantra_writers_alive(&queue->header->writers, mantra_version_writer(version))", "&& false")]),
    "settles what was burnt": ("stall", [
        ("!atomic_compare_exchange_strong_explicit(&slot->version, &version, version & ~MANTRA_WRITING,",
         "!put(&slot->version, version & ~MANTRA_WRITING,")]),
}


@pytest.mark.parametrize("twin", TWINS)
def test_a_broken_twin_does_not_survive_the_storm(twin, tmp_path):
    kind, edits = TWINS[twin]
    text = (ROOT / "csrc" / "mantra" / "queue.h").read_text()
    for old, new in edits:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (tmp_path / "mantra").mkdir()
    (tmp_path / "mantra" / "queue.h").write_text(text)
    ring = compiled(tmp_path, f"-I{tmp_path}", "-DPATIENCE=2", "-DWIDE" if kind == "single" else "-DCAPACITY=8",
                    "-Dput(at, value, good, bad)=(atomic_store(at, value), true)")
    command = [ring, kind, "300"]
    storms = (subprocess.run(command, capture_output=True, text=True, timeout=120).stderr for _ in range(20))
    assert any("not so" in said for said in storms)


WRITER = """
import sys
from mantra.core.messages import Top
from mantra.core.vector import Vector
vector = Vector.open(sys.argv[1], write=True)
print("ready", flush=True)
n = vector.read(0).sequence if vector.version(0) else 0
while True:
    n += 1
    vector.write(0, Top(sequence=n, bid_price=[n] * 10, ask_size=[n] * 10, bid_count=10, ask_count=10))
"""


def test_a_vectors_reader_never_waits_for_a_killed_writer():
    with Vector.create(f"stress-vector-{os.getpid()}", "top", 1) as vector:
        last = 0
        for _ in range(4):
            writer = subprocess.Popen([sys.executable, "-c", WRITER, vector.name], stdout=subprocess.PIPE, text=True)
            assert writer.stdout.readline() == "ready\n"
            before, deadline = vector.version(0), time.monotonic() + 30
            while vector.version(0) < before + 2000 and time.monotonic() < deadline:
                top = vector.read(0)
                if top is not None:
                    assert top.sequence >= last
                    assert top.bids == [(top.sequence, 0)] * 10
                    assert top.asks == [(0, top.sequence)] * 10
                    last = top.sequence
            writer.kill()
            writer.communicate()
            assert vector.version(0) >= before + 2000
            assert vector.read(0).sequence >= last


PRODUCER = """
import sys
from mantra.core.doorbell import Doorbell
from mantra.core.messages import Update
from mantra.core.queue import Queue
producer = Queue.open(sys.argv[1], write=True).producer(doorbell=Doorbell.open(sys.argv[2]))
for price in range(20000):
    producer.produce(Update(price=price, size=-price))
"""


def test_python_processes_meet_through_a_queue_and_a_doorbell():
    name = f"stress-python-{os.getpid()}"
    with Queue.create(name, Update, 1024) as queue, Doorbell.create(f"{name}.bell") as bell:
        consumer, seen, lost = queue.consumer(doorbell=bell), [], 0
        producer = subprocess.Popen([sys.executable, "-c", PRODUCER, name, f"{name}.bell"])
        while len(seen) + lost < 20000:
            assert consumer.wait(30)
            try:
                for update in consumer:     # one by one: what was read before a lap counts
                    seen.append((update.price, update.size))
            except Lapped as lapped:
                lost += lapped.lost
        assert producer.wait(10) == 0
        assert not consumer.wait(0)
        assert consumer.lost == lost
        assert [price for price, _ in seen] == sorted({price for price, _ in seen})
        assert all(size == -price for price, size in seen)
    assert Region.list(name) == []
