"""Merges: many queues read as one."""
import pytest

from mantra.core.merge import Merge
from mantra.core.messages import Flag, Update
from mantra.core.queue import Queue
from mantra.errors import Lapped


def published_at(cycles, price=0, more=False):
    return Update(origin=cycles, price=price, flags=Flag.MORE if more else 0)


def queues(count, capacity=8):
    made = [Queue.create(None, "update", capacity) for _ in range(count)]
    return made, [queue.producer() for queue in made]


def test_the_earliest_published_of_what_waits_comes_first():
    (first, second), (one, two) = queues(2)
    merge = Merge([first, second])
    one.produce(published_at(30))
    two.produce(published_at(10))
    two.produce(published_at(40))
    assert [(source, update.origin) for source, update in iter(merge.read, None)] == [(1, 10), (0, 30), (1, 40)]
    assert merge.positions == [1, 2]


def test_a_batch_once_begun_is_read_to_its_end():
    (first, second), (one, two) = queues(2)
    merge = Merge([first, second])
    one.produce(published_at(10, more=True))
    two.produce(published_at(11))
    assert merge.read()[0] == 0
    assert merge.read() is None     # its last part is not published yet
    one.produce(published_at(50))
    assert [source for source, _ in iter(merge.read, None)] == [0, 1]


def test_a_lap_in_one_queue_is_told_and_the_others_go_on():
    (first, second), (one, two) = queues(2)
    merge, counting = Merge([first, second]), Merge([first, second], on_lap="count")
    two.produce(published_at(5))
    for cycles in range(10, 30):
        one.produce(published_at(cycles))
    with pytest.raises(Lapped) as lapped:
        merge.read()
    assert lapped.value.lost == merge.lost == 13
    assert [update.origin for update in merge] == [update.origin for update in counting] == [5, *range(23, 30)]
    assert counting.lost == 13


def test_a_merge_starts_where_each_queue_is_asked_to():
    (first, second), (one, two) = queues(2)
    for cycles in range(4):
        one.produce(published_at(cycles))
        two.produce(published_at(100 + cycles))
    assert [update.origin for update in Merge([first, second], ["oldest", 3])] == [0, 1, 2, 3, 103]
    merge = Merge([first, second])
    assert not merge.wait(0)
    two.produce(published_at(7))
    assert merge.wait(0)


def test_an_array_holds_what_waits_in_the_order_of_publishing_and_no_half_batch_that_was_lapped():
    (first, second), (one, two) = queues(2)
    merge, counting = Merge([first, second]), Merge([first, second], on_lap="count")
    one.produce(published_at(30))
    two.produce(published_at(10))
    assert merge.batch()["origin"].tolist() == counting.batch(limit=9)["origin"].tolist() == [10, 30]
    assert len(merge.batch()) == 0
    one.produce(published_at(40))
    one.produce(published_at(41, more=True))
    assert counting.batch(limit=1)["origin"].tolist() == [40]
    assert merge.batch()["origin"].tolist() == [40, 41], "its end may still come"
    for cycles in range(50, 70):
        one.produce(published_at(cycles))
    with pytest.raises(Lapped):
        merge.batch()
    assert merge.batch()["origin"].tolist() == counting.batch()["origin"].tolist() == list(range(63, 70))
    assert merge.lost == 13
    assert counting.lost == 14


def test_in_the_middle_of_a_batch_only_more_of_it_ends_a_wait():
    (first, second), (one, two) = queues(2)
    merge = Merge([first, second])
    one.produce(published_at(1, more=True))
    two.produce(published_at(2))
    assert merge.read()[1].origin == 1
    assert (merge.wait(0.01), merge.read()) == (False, None)
    one.produce(published_at(3))
    assert (merge.wait(0.01), merge.read()[1].origin, merge.read()[1].origin) == (True, 3, 2)
    one.produce(published_at(4, more=True))
    two.produce(published_at(5))
    assert merge.read()[1].origin == 4
    one.close()
    assert (merge.wait(5), merge.read()[1].origin) == (True, 5), "nobody will end it"


def test_what_is_dropped_of_a_broken_batch_is_counted():
    (queue, ), (producer, ) = queues(1)
    merge, consumer = Merge([queue], on_lap="count"), queue.consumer(on_lap="count")
    for more in (False, True, True):
        producer.produce(published_at(1, more=more))
    producer.close()
    queue.producer().produce(published_at(2))
    for reader in (merge, consumer):
        assert reader.batch()["origin"].tolist() == [1, 2]
        assert reader.lost == 2


def test_a_merge_of_nothing_or_of_different_messages_is_an_error():
    with pytest.raises(ValueError, match="at least one"):
        Merge([])
    with pytest.raises(ValueError, match="update, top"):
        Merge([Queue.create(None, "update", 8), Queue.create(None, "top", 8)])
    with pytest.raises(ValueError, match="1 starts for 2"):
        Merge(queues(2)[0], ["oldest"])
    with pytest.raises(ValueError, match="on_lap"):
        Merge(queues(1)[0], on_lap="ignore")
