"""Doorbells: sleeping until something was published."""
import os
import threading

from mantra.core.doorbell import Doorbell
from mantra.core.messages import Update
from mantra.core.queue import Queue


def test_a_consumer_wakes_when_another_thread_publishes():
    queue, bell, got = Queue.create(None, "update", 8), Doorbell.create(), []

    def consume():
        consumer = queue.consumer(doorbell=bell)
        ready.set()
        while len(got) < 3 and consumer.wait(10):
            got.extend(update.price for update in consumer)

    ready = threading.Event()
    thread = threading.Thread(target=consume)
    thread.start()
    ready.wait()
    producer = queue.producer(doorbell=bell)
    for price in range(3):
        producer.produce(Update(price=price))
    thread.join(10)
    assert got == [0, 1, 2]


def test_waiting_without_a_bell_works_and_ends_at_its_timeout():
    queue = Queue.create(None, "update", 8)
    consumer, producer = queue.consumer(), queue.producer()
    assert not consumer.wait(0)
    assert not consumer.wait(0.001)
    producer.produce(Update())
    assert consumer.wait()


def test_a_ring_after_seen_ends_the_wait_and_an_unarmed_one_is_not_counted():
    with Doorbell.create(f"test-bell-{os.getpid()}") as bell:
        other = Doorbell.open(f"test-bell-{os.getpid()}")
        seen = bell.seen()
        other.ring()
        bell.wait(10, seen)
        assert bell.seen() == seen + 1
        other.wait(0)
