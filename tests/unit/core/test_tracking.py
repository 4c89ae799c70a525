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


def test_a_consumer_times_and_a_producer_stamps():
    clock, queue, producer, records, tracker = desk()
    reader = queue.consumer(tracker=tracker)
    onward = Queue.create(None, "update", 16)
    out, seen = onward.producer(99, tracker=tracker), onward.consumer()
    assert out.publisher == 7
    producer.produce(published(START - 50, 20))
    clock.advance(10)
    assert reader.read().origin == START - 50
    clock.advance(15)
    out.produce(Update(price=5))
    sent = seen.read()
    assert (sent.price, sent.origin, sent.published_cycles, sent.publisher) == (5, START - 50, START + 25, 7)
    assert reader.read() is None
    assert [(record.consumed, record.busy) for record in records] == [(START + 10, 15)]
    reader.wait(0)
    out.produce(Update(origin=1))       # of nothing that was read: it begins here
    assert seen.read().origin == START + 25


def test_a_batch_is_one_record_of_the_one_that_waited_longest():
    clock, queue, producer, records, tracker = desk()
    reader = queue.consumer(tracker=tracker)
    for place in range(5):
        producer.produce(published(START - 50 + place, 0))
    assert len(reader.batch(limit=3)) == 3
    clock.advance(10)
    assert len(reader.batch()) == 2
    assert len(reader.batch()) == 0
    assert [(record.position, record.count, record.origin, record.busy) for record in records] == [
        (0, 3, START - 50, 10), (3, 2, START - 47, 0)]


def test_a_merged_batch_is_a_record_for_each_queue():
    clock, _, _, records, tracker = desk()
    queues = [Queue.create(None, "update", 16, number=number) for number in (4, 5, 6)]
    writers = [queue.producer() for queue in queues]
    merge = Merge(queues, tracker=tracker)
    for place, which in enumerate((2, 0, 2, 2)):
        writers[which].produce(published(START - 50 + place, 0))
    assert len(merge.batch()) == 4
    clock.advance(10)
    assert merge.read() is None
    assert [(record.queue, record.position, record.count, record.origin, record.busy) for record in records] == [
        (4, 0, 1, START - 49, 0), (6, 0, 3, START - 50, 10)]


def test_messages_skipped_by_a_lap_leave_their_positions_out():
    _, queue, producer, records, tracker = desk()
    reader = queue.consumer(on_lap="count", tracker=tracker)
    for _ in range(40):
        producer.produce(published(START, 0))
    taken = len(list(reader))
    positions = [record.position for record in records]
    assert positions == list(range(40 - taken, 40))
    assert reader.lost == 40 - taken > 0
