"""Queues: every consumer sees every message, or is told how many it missed."""
import gc
import os
import resource
import threading

import numpy as np
import pytest

from mantra.core.doorbell import Doorbell
from mantra.core.messages import DTYPES, Flag, Kind, Update
from mantra.core.queue import Queue
from mantra.core.region import PREFIX
from mantra.errors import Lapped, RegionError


def update(price, more=False):
    return Update(price=price, kind=Kind.BID, flags=Flag.MORE if more else 0)


def prices(consumer):
    return [message.price for message in consumer]


def test_every_consumer_sees_every_message():
    queue = Queue.create(None, "update", 8)
    first, second, producer = queue.consumer(), queue.consumer(), queue.producer(publisher=7)
    for price in range(5):
        producer.produce(update(price))
    assert prices(first) == prices(second) == [0, 1, 2, 3, 4]
    assert first.read() is None
    assert first.position == queue.produced == 5


def test_a_lapped_consumer_knows_how_many_it_lost_and_goes_on():
    queue = Queue.create(None, "update", 8)
    consumer, producer = queue.consumer(), queue.producer()
    for price in range(20):
        producer.produce(update(price))
    with pytest.raises(Lapped) as lapped:
        consumer.read()
    assert lapped.value.lost == consumer.lost == 13
    assert prices(consumer) == list(range(13, 20))
    counting = queue.consumer(0, on_lap="count")
    assert prices(counting) == list(range(13, 20))
    assert counting.lost == 13


def test_a_second_producer_is_an_error_until_the_first_is_closed():
    queue = Queue.create(None, "update", 8)
    producer = queue.producer()
    producer.produce(update(1))
    with pytest.raises(RegionError, match="has a producer already"):
        queue.producer()
    producer.close()
    with pytest.raises(RegionError, match="closed"):
        producer.produce(update(2))
    successor = queue.producer()
    assert successor.position == 1


def test_a_producer_that_cannot_tell_who_it_is_is_refused():
    queue, soft = Queue.create(None, "update", 8), resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, soft[1]))    # /proc cannot be read: nobody could tell that it lives
    try:
        with pytest.raises(RegionError):
            queue.producer()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, soft)
    producer = queue.producer()
    with pytest.raises(RegionError, match="has a producer already"):
        queue.producer()
    producer.close()


def test_a_batch_whose_producer_left_is_not_continued_by_the_next():
    queue = Queue.create(None, "update", 8)
    consumer, producer = queue.consumer(on_lap="count"), queue.producer()
    producer.produce(update(1, more=True))
    producer.close()
    successor = queue.producer()
    successor.produce(update(2))
    assert consumer.batch()["price"].tolist() == [2]
    assert (consumer.lost, consumer.holes, queue.abandoned) == (1, 1, 1)


def test_more_slots_than_a_region_can_hold_are_refused_wherever_they_are_asked_for():
    with pytest.raises(ValueError, match="power of two"):
        Queue.create(None, "update", 1 << 58)       # times 64: no bytes at all
    name = f"test-queue-{os.getpid()}"
    with Queue.create(name, "update", 8):
        with open(PREFIX + name, "r+b") as file:
            file.seek(56)
            file.write((1 << 58).to_bytes(8, "little"))
        with pytest.raises(RegionError, match="is no queue of update"):
            Queue.open(name)


def test_whoever_opens_a_queue_the_moment_it_has_a_name_finds_its_kind(monkeypatch):
    name, pid, seen = f"test-queue-{os.getpid()}", os.getpid(), []

    def called_when_named():
        seen.append(Queue.open(name))
        return pid

    monkeypatch.setattr(os, "getpid", called_when_named)
    with Queue.create(name, "update", 8, "mpmc", number=7):
        assert [(queue.kind, queue.number) for queue in seen] == [("mpmc", 7)]
    with pytest.raises(OverflowError):
        Queue.create(None, "update", 8, number=1 << 16)


def test_a_producer_left_to_the_garbage_collector_gives_its_place_back():
    queue = Queue.create(None, "update", 8)

    def fail():
        cycle = [queue.producer()]
        cycle.append(cycle)

    fail()
    gc.collect()
    queue.producer()

    def drop_everything():
        cycle = [Queue.create(None, "update", 8).producer()]
        cycle.append(cycle)

    drop_everything()
    gc.collect()


def test_a_consumer_starts_where_it_is_asked_to():
    queue = Queue.create(None, "update", 8)
    producer = queue.producer()
    for price in range(8):
        producer.produce(update(price))
    newest, oldest, sixth = queue.consumer(), queue.consumer("oldest"), queue.consumer(6)
    for start in ("latest", 1.5):
        with pytest.raises(ValueError, match="start is 'newest', 'oldest' or a position"):
            queue.consumer(start)
    producer.close()
    queue.producer().produce(update(8))
    assert (prices(newest), prices(sixth)) == ([8], [6, 7, 8])
    assert (prices(queue.consumer("oldest")), oldest.position) == ([2, 3, 4, 5, 6, 7, 8], 0)
    for start in ("first", "", None):
        with pytest.raises((ValueError, TypeError)):
            queue.consumer(start)


def test_a_batch_missed_in_part_is_left_out_whole():
    queue = Queue.create(None, "update", 8)
    producer, slow = queue.producer(), queue.consumer(on_lap="count")
    for price in range(3):
        producer.produce(update(price, more=True))
    joins_inside = queue.consumer()
    assert prices(slow) == [0, 1, 2]
    for price in range(3, 10):
        producer.produce(update(price, more=price < 6))
    assert (prices(joins_inside), joins_inside.lost) == ([7, 8, 9], 0)      # it never asked for that batch
    for price in range(10, 12):
        producer.produce(update(price))
    assert (prices(slow), slow.lost) == ([7, 8, 9, 10, 11], 4)      # 3 and 4 overwritten, 5 and 6 of no use


def test_batches_of_messages_are_structured_arrays():
    queue = Queue.create(None, "update", 16)
    consumer, producer = queue.consumer(), queue.producer()
    assert len(consumer.batch()) == 0
    for price in range(10):
        producer.produce(update(price).to_bytes())
    out = np.zeros(4, DTYPES["update"])
    first = consumer.batch(out)
    assert first["price"].tolist() == [0, 1, 2, 3]
    assert np.shares_memory(first, out)
    assert consumer.batch(limit=3)["price"].tolist() == [4, 5, 6]
    assert consumer.batch()["price"].tolist() == [7, 8, 9]
    with pytest.raises(TypeError, match="2-dimensional"):
        consumer.batch(np.empty((2, 4), DTYPES["update"]))
    with pytest.raises(TypeError):
        consumer.batch(np.zeros(4))


def test_an_array_that_was_lapped_on_the_way_holds_whole_batches_and_the_lap_is_raised_next():
    queue = Queue.create(None, "update", 8)
    consumer, counting, producer = queue.consumer(), queue.consumer(on_lap="count"), queue.producer()
    for price in range(20):
        producer.produce(update(price))
    with pytest.raises(Lapped):
        consumer.batch()
    assert consumer.batch()["price"].tolist() == counting.batch()["price"].tolist() == list(range(13, 20))
    assert counting.lost == consumer.lost == 13


def test_bytes_are_read_as_they_were_produced():
    queue = Queue.create(None, "world", 4)
    consumer, producer = queue.consumer(), queue.producer()
    data = bytes(i % 251 for i in range(568))
    producer.produce(data)
    assert (consumer.read_bytes(), consumer.read_bytes()) == (data, None)
    with pytest.raises(ValueError, match="56 bytes for a message of 568"):
        producer.produce(bytes(56))
    with pytest.raises(TypeError, match="Update given where World is held"):
        producer.produce(Update())


def test_a_queue_is_read_through_its_name_but_produced_to_only_when_asked():
    name = f"test-queue-{os.getpid()}"
    with Queue.create(name, Update, 8) as queue:
        reader = Queue.open(name)
        queue.producer(5).produce(update(3))
        assert prices(reader.consumer("oldest")) == [3]
        assert (reader.capacity, reader.produced, reader.format.name) == (8, 1, "update")
        assert repr(reader) == f"<Queue {name}: spmc, 8 update, 1 produced>"
        with pytest.raises(RegionError, match="opened for reading"):
            reader.producer()
        assert reader.producers == 0
        writer = Queue.open(name, write=True).producer()
        assert reader.producers == 1
        writer.produce(update(4))
        assert queue.produced == 2
    for capacity in (0, 1, 3, 12):
        with pytest.raises(ValueError, match="power of two"):
            Queue.create(None, "update", capacity)


def test_a_consumer_may_wait_for_a_position_that_is_still_to_come():
    """A book's image names the update that comes after it, which may not be produced yet."""
    queue = Queue.create(None, "update", 8)
    producer = queue.producer()
    producer.produce(update(0))
    follower = queue.consumer(2)
    producer.produce(update(1))
    for price, more in ((2, True), (3, False), (4, False)):
        producer.produce(update(price, more))
    assert prices(follower) == [2, 3, 4]


def test_many_produce_to_one_queue_and_every_consumer_sees_the_same_order():
    with Queue.create(f"test-many-{os.getpid()}", Update, 512, "mpmc", number=7) as queue:
        first, second = queue.producer(1), Queue.open(queue.name, write=True).producer(2)
        early, late = queue.consumer(), queue.consumer("oldest")
        for price in range(10):
            (first if price % 3 else second).produce(update(price))
        assert prices(early) == prices(late) == list(range(10))
        assert (queue.kind, queue.number, queue.producers, Queue.open(queue.name).number) == ("mpmc", 7, 2, 7)
        assert (queue.burnt, queue.abandoned, early.holes, queue.produced) == (0, 0, 0, 10)
        others = [queue.producer() for _ in range(254)]
        with pytest.raises(RegionError, match="as many producers as it can"):
            queue.producer()
        others.pop().close()
        queue.producer()
    with pytest.raises(ValueError, match="'spmc' or 'mpmc', not 'many'"):
        Queue.create(None, "update", 8, "many")


def test_a_wait_is_ended_from_another_thread():
    for bell in (None, Doorbell.create()):
        consumer = Queue.create(None, "update", 8).consumer(doorbell=bell)
        threading.Timer(0.05, consumer.wake).start()
        assert not consumer.wait(30)
        assert not consumer.wait(0)
