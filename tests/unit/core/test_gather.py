"""Gathering: everything that waits, in its queue's order, every jump of positions a new run, laps counted."""
from __future__ import annotations

import random
import threading
import time

import pytest

from mantra.core import gather
from mantra.core.gather import Gather
from mantra.core.ledger import Ledger
from mantra.core.messages import Flag, Update
from mantra.core.queue import Queue


def taken(gathering):
    """[(feed, position, sequence)] of everything that waits."""
    found = []
    while True:
        messages, runs = gathering.take()
        if not len(messages):
            return found
        numbers = iter(messages["sequence"].tolist())
        for feed, count, position, _ in runs:
            found += [(feed, position + n, next(numbers)) for n in range(count)]
        assert next(numbers, None) is None


def test_every_queue_is_read_in_its_order_at_its_positions():
    draw, gathering, wanted = random.Random(5), Gather("update"), []
    queues = [Queue.create(None, "update", 256) for _ in range(5)]
    producers = [queue.producer() for queue in queues]
    for number, queue in enumerate(queues):
        gathering.add(queue, 100 + number)
    for _ in range(50):
        for _ in range(draw.randrange(200)):
            number = draw.randrange(5)
            wanted.append((100 + number, producers[number].position, len(wanted)))
            producers[number].produce(Update(sequence=len(wanted) - 1))
        assert sorted(taken(gathering), key=lambda one: one[2]) == wanted
        wanted.clear()
    assert gathering.lost == 0


def test_a_lap_begins_another_run_where_the_ring_goes_on_and_is_counted_in_the_ledger():
    queue, row = Queue.create(None, "update", 64), Ledger.create().row("binance.0", 0)
    producer, gathering = queue.producer(), Gather("update")
    gathering.add(queue, 7, row=row)
    for number in range(100):
        producer.produce(Update(sequence=number))
    _, [(feed, count, position, lost)] = gathering.take()
    assert (feed, count + position) == (7, 100)
    assert gathering.lost == row["overruns"] == lost == position > 0


def test_what_a_lap_left_of_a_batch_is_dropped_whole():
    queue, gathering = Queue.create(None, "update", 8), Gather("update")
    producer = queue.producer()
    gathering.add(queue, 0)
    for number in range(40):        # batches of 4; an eighth of the ring is left to the producer, amid one of them
        producer.produce(Update(sequence=number, flags=0 if number % 4 == 3 else Flag.MORE))
    found = taken(gathering)
    assert found == [(0, number, number) for number in range(36, 40)]
    assert gathering.lost == 36


def test_a_hole_begins_another_run():
    queue, gathering = Queue.create(None, "update", 64), Gather("update")
    gathering.add(queue, 0)
    producer = queue.producer()
    for flags in (0, Flag.MORE):
        producer.produce(Update(sequence=producer.position, flags=flags))
    producer.close()                # amid a batch: position 2 is a hole
    producer = queue.producer()
    producer.produce(Update(sequence=3))
    assert gathering.take()[1] == [(0, 1, 0, 0), (0, 1, 3, 1)]      # the batch that has no end was dropped


def test_joining_amid_a_batch_begins_with_the_next_and_the_oldest_can_be_asked_for():
    queue = Queue.create(None, "update", 64)
    producer, late, old = queue.producer(), Gather("update"), Gather("update")
    producer.produce(Update(sequence=0, flags=Flag.MORE))
    late.add(queue, 1)
    old.add(queue, 2, "oldest")
    producer.produce(Update(sequence=1))
    producer.produce(Update(sequence=2))
    assert taken(late) == [(1, 2, 2)]
    assert taken(old) == [(2, 0, 0), (2, 1, 1), (2, 2, 2)]


def test_messages_of_every_size_and_queues_of_many_producers_are_gathered():
    for message, kind in (("top", "spmc"), ("world", "mpmc"), ("trade", "mpmc")):
        queue, gathering = Queue.create(None, message, 2048, kind), Gather(message)
        gathering.add(queue, 3)
        producer = queue.producer()
        for number in range(2000):
            producer.produce(queue.format.type(origin=number))
        count = 0
        while len(messages := gathering.take()[0]):
            assert messages["origin"].tolist() == list(range(count, count + len(messages)))
            count += len(messages)
        assert count == 2000


def test_no_queue_waits_behind_a_busy_one_and_a_removed_one_is_read_no_more():
    gathering = Gather("update")
    room = gather.BATCH_BYTES // 56
    busy, quiet = Queue.create(None, "update", 32_768), Queue.create(None, "update", 64)
    gathering.add(busy, 0)
    gathering.add(quiet, 1)
    producers = busy.producer(), quiet.producer()
    for _ in range(room + 10):
        producers[0].produce(Update())
    producers[1].produce(Update())
    assert [run[0] for run in gathering.take()[1]] == [0]
    assert [run[0] for run in gathering.take()[1]] == [1, 0]
    gathering.remove(0)
    for producer in producers:
        producer.produce(Update())
    assert [run[0] for run in gathering.take()[1]] == [1]
    with pytest.raises(ValueError, match="trade"):
        gathering.add(Queue.create(None, "trade", 64), 2)


def test_waiting_ends_when_a_quarter_of_any_ring_is_full():
    gatherings = [Gather("update"), Gather("trade")]
    queues = [Queue.create(None, message, 4096) for message in ("update", "trade")]
    for number, (gathering, queue) in enumerate(zip(gatherings, queues, strict=True)):
        gathering.add(queue, number)
    assert not gather.wait(gatherings, 0.01)
    producer = queues[1].producer()

    def fill():
        for _ in range(1025):
            producer.produce(queues[1].format.type())

    filling, began = threading.Thread(target=fill), time.monotonic()
    filling.start()
    assert gather.wait(gatherings, 10.0)
    filling.join()
    assert time.monotonic() - began < 5.0
