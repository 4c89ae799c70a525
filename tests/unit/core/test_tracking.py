"""Trackers: origins are passed on, and every message consumed is accounted for."""
import pytest

from mantra.core.clock import Clock
from mantra.core.merge import Merge
from mantra.core.messages import Update
from mantra.core.queue import Queue
from mantra.core.tracking import Tracker
from mantra.errors import RegionError

START = 1_000_000


def desk():
    """A virtual clock, one input queue with its producer, a timing ring with a reader, a tracker of actor 7."""
    clock = Clock.virtual(START)
    ring = Queue.create(None, "timing", 16)
    queue = Queue.create(None, "update", 16)
    return clock, queue, queue.producer(), ring.consumer(), Tracker(clock, 7, ring)


def published(origin, delta, publisher=3):
    return Update(origin=origin, published=delta << 16 | publisher)


def test_each_message_is_recorded_when_the_next_is_consumed_or_nothing_waits():
    clock, queue, producer, records, tracker = desk()
    merge = Merge([queue], tracker=tracker)
    producer.produce(published(START - 50, 20))
    producer.produce(published(START - 40, 35))
    assert merge.read() is not None
    assert records.read() is None
    clock.advance(100)
    assert merge.read() is not None
    clock.advance(30)
    assert merge.read() is None
    first, second = records
    assert (first.origin, first.published_cycles, first.publisher) == (START - 50, START - 30, 3)
    assert (first.consumed, first.busy, first.position, first.count, first.actor) == (START, 100, 0, 1, 7)
    assert (second.consumed, second.busy, second.position) == (START + 100, 30, 1)
    clock.advance(1000)
    assert merge.read() is None
    assert list(records) == []


def test_an_origin_lasts_until_the_actor_rests():
    _, queue, producer, _, tracker = desk()
    merge = Merge([queue], tracker=tracker)
    assert (tracker.actor, tracker.origin) == (7, 0)
    producer.produce(published(START - 50, 20))
    merge.read()
    merge.read()
    assert tracker.origin == START - 50     # all was read, now it is acted upon
    merge.wait(0)
    assert tracker.origin == 0


def test_without_a_ring_origins_are_passed_on_and_nothing_is_recorded():
    clock, queue, producer, _, _ = desk()
    tracker = Tracker(clock, 1)
    producer.produce(published(START - 5, 5))
    assert len(list(Merge([queue], "oldest", tracker=tracker))) == 1
    assert (tracker.origin, tracker.timings) == (START - 5, None)


def test_closing_records_what_is_under_way_and_lets_another_record():
    clock, queue, producer, records, tracker = desk()
    merge = Merge([queue], tracker=tracker)
    producer.produce(published(START, 0))
    merge.read()
    clock.advance(9)
    with pytest.raises(RegionError, match="has a producer"):
        Tracker(clock, 8, tracker.timings)
    tracker.close()
    tracker.close()
    assert [record.busy for record in records] == [9]
    Tracker(clock, 8, tracker.timings)


def test_a_ring_of_something_else_is_refused():
    with pytest.raises(ValueError, match="a queue of update is not one of timings"):
        Tracker(Clock(), 1, Queue.create(None, "update", 8))
