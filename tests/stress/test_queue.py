"""Queues between processes: nothing torn, nothing lost uncounted, whoever is killed; a careless reader is caught."""
import os
import random
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
from tests.c.compilers import COMPILERS, compile_c

WALK = random.Random(2)

if not COMPILERS:
    pytest.skip("needs gcc or clang", allow_module_level=True)


@pytest.fixture(scope="module")
def ring(tmp_path_factory):
    program = tmp_path_factory.mktemp("ring") / "ring"
    compile_c(COMPILERS[0], Path(__file__).with_name("ring.c"), program, "-O2")
    return program


@pytest.fixture
def queue():
    """A small ring, so that every consumer is lapped all the time."""
    with Queue.create(f"stress-{os.getpid()}", "world", 8) as queue:
        yield queue


def start(ring, role, queue):
    process = subprocess.Popen([ring, role, queue.name], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def finish(consumer):
    """read, lost, torn, gaps of a consumer, ended."""
    consumer.terminate()
    return tuple(map(int, consumer.communicate(timeout=10)[0].split()))


def test_a_killed_consumer_hurts_nobody(ring, queue):
    producer, steady = start(ring, "produce", queue), start(ring, "consume", queue)
    for _ in range(10):
        victim, before = start(ring, "consume", queue), queue.produced
        time.sleep(WALK.random() / 50)
        victim.kill()
        victim.communicate()
        deadline = time.monotonic() + 10
        while queue.produced == before and time.monotonic() < deadline:
            time.sleep(0.001)
        assert queue.produced > before
    read, _, torn, gaps = finish(steady)
    assert read > 0
    assert (torn, gaps) == (0, 0)
    producer.kill()
    producer.communicate()


def test_a_killed_producer_leaves_nothing_torn_and_its_successor_goes_on(ring, queue):
    consumer, produced = start(ring, "consume", queue), 0
    for _ in range(20):
        producer = start(ring, "produce", queue)    # exits 4 if the dead one's place were not free
        time.sleep(WALK.random() / 50)
        producer.kill()
        producer.communicate()
        assert queue.producers == 0
        assert queue.produced >= produced
        produced = queue.produced
    queue.producer().close()
    read, _, torn, gaps = finish(consumer)
    assert read > 0
    assert (torn, gaps) == (0, 0)


def test_a_reader_that_looks_at_the_version_once_is_caught(ring, queue):
    producer, torn = start(ring, "produce", queue), 0
    for _ in range(100):
        twin = start(ring, "consume-unchecked", queue)
        time.sleep(0.05)
        torn += finish(twin)[2]
        if torn:
            break
    producer.kill()
    producer.communicate()
    assert torn > 0


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
