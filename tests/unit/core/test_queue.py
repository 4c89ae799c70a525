"""Queues: every consumer sees every message, or is told how many it missed."""
import gc

import pytest

from mantra.core.messages import Flag, Kind, Update
from mantra.core.queue import Queue
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
