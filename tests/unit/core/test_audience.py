"""Who reads a queue that has an audience is seen there, and how far it has come; others are as ever."""
from __future__ import annotations

import pytest

from mantra.core.audience import Audience
from mantra.core.merge import Merge
from mantra.core.messages import Update
from mantra.core.queue import Queue
from mantra.errors import Lapped


@pytest.fixture
def heard():
    """An audience, and a queue of it with 5 messages."""
    audience = Audience.create()
    queue = Queue.create(None, "update", 8, number=7)
    queue.audience = audience
    producer = queue.producer()
    for n in range(5):
        producer.produce(Update(price=n))
    return audience, queue, producer


def positions(audience):
    return sorted(position for _, _, position in audience.readers())


def test_a_consumer_says_what_it_has_taken_before_it_looks_again(heard):
    audience, queue, _ = heard
    consumer = queue.consumer("oldest")
    assert [reader[1:] for reader in audience.readers()] == [(7, 0)]
    assert [update.price for update in consumer] == [0, 1, 2, 3, 4]
    assert positions(audience) == [5]           # it looked for a sixth


def test_batches_and_merges_say_so_too(heard):
    audience, queue, producer = heard
    batches, merge = queue.consumer("oldest"), Merge([queue], "oldest")
    assert len(batches.batch()) == len(list(merge)) == 5
    producer.produce(Update())
    assert batches.batch()["price"].tolist() == [0]
    assert positions(audience) == [5, 6]


def test_who_leaves_is_not_waited_for(heard):
    audience, queue, _ = heard
    readers = [queue.consumer(), Merge([queue])]
    assert positions(audience) == [5, 5]
    readers.clear()
    assert audience.readers() == []


def test_who_minds_no_lap_takes_no_seat(heard):
    audience, queue, producer = heard
    consumer = queue.consumer("oldest", on_lap="count")
    assert audience.readers() == []
    for _ in range(9):
        producer.produce(Update())
    assert len(list(consumer)) < 14
    assert consumer.lost


def test_a_lapped_reader_goes_on_from_where_it_says(heard):
    audience, queue, producer = heard
    consumer = queue.consumer("oldest")
    for _ in range(9):
        producer.produce(Update())
    with pytest.raises(Lapped):
        consumer.read()
    rest = len(list(consumer))
    assert positions(audience) == [14]
    assert consumer.lost + rest == 14
