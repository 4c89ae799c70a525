"""Queues against a plain list: after any walk, a consumer read what the list says, or counted what it lost."""
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mantra.core.merge import Merge
from mantra.core.messages import Flag, Update
from mantra.core.queue import Queue
from mantra.core.vector import Vector

STEPS = st.lists(st.one_of(
    st.tuples(st.just("produce"), st.integers(1, 6)),       # a batch of so many
    st.tuples(st.just("read"), st.integers(1, 12)),
    st.tuples(st.just("array"), st.integers(1, 12)),
    st.tuples(st.just("join"), st.just(0)),
), max_size=60)


class ListConsumer:
    """What a consumer should do, by a list of (position, last of its batch) and arithmetic."""

    def __init__(self, produced, capacity):
        self.produced, self.capacity = produced, capacity
        self.position, self.lost, self.skipping = len(produced), 0, False

    def take(self):
        while True:
            if len(self.produced) > self.position + self.capacity:
                oldest = len(self.produced) - self.capacity + max(self.capacity // 8, 1)
                self.lost, self.position = self.lost + oldest - self.position, oldest
                self.skipping = not self.produced[oldest - 1]
                return "lapped"
            if self.position == len(self.produced):
                return None
            self.position += 1
            if not self.skipping:
                return self.position - 1
            self.lost += 1
            self.skipping = not self.produced[self.position - 1]

    def array(self, limit):
        """Whole batches only before a lap; an unfinished one there is counted as lost."""
        taken = []
        while len(taken) < limit and (got := self.take()) is not None:
            if got != "lapped":
                taken.append(got)
            while got == "lapped" and taken and not self.produced[taken[-1]]:
                taken.pop()
                self.lost += 1
        return taken


@settings(max_examples=300, deadline=None)
@given(STEPS, st.sampled_from([2, 4, 8, 16]))
def test_a_consumer_equals_a_list_after_any_walk(steps, capacity):
    queue, produced = Queue.create(None, "update", capacity), []
    producer = queue.producer()
    consumer, model = queue.consumer(on_lap="count"), ListConsumer(produced, capacity)
    for step, count in steps:
        if step == "produce":
            for i in range(count):
                last = i == count - 1
                producer.produce(Update(sequence=len(produced), flags=0 if last else Flag.MORE))
                produced.append(last)
        elif step == "read":
            for _ in range(count):
                while (expected := model.take()) == "lapped":
                    pass
                message = consumer.read()
                assert (message and message.sequence) == expected
        elif step == "array":
            assert consumer.batch(limit=count)["sequence"].tolist() == model.array(count)
        else:
            consumer, model = queue.consumer(on_lap="count"), ListConsumer(produced, capacity)
        assert (consumer.position, consumer.lost) == (model.position, model.lost)
        assert queue.produced == len(produced)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=20), min_size=1, max_size=5))
def test_a_merge_equals_the_obvious_order_of_what_waits(batches):
    queues = [Queue.create(None, "update", 32) for _ in batches]
    merge = Merge(queues)
    waiting = []
    for queue, messages in zip(queues, batches, strict=True):
        producer, rows, now = queue.producer(), [], 0
        for i, (later, more) in enumerate(messages):
            now += later
            rows.append((now, more and i < len(messages) - 1))
            producer.produce(Update(origin=now, flags=Flag.MORE if rows[-1][1] else 0, sequence=i))
        waiting.append(rows)
    expected = []
    while any(waiting):
        source = min((i for i, rows in enumerate(waiting) if rows), key=lambda i: waiting[i][0][0])
        more = True
        while more:
            now, more = waiting[source].pop(0)
            expected.append((source, now))
    assert [(source, update.origin) for source, update in iter(merge.read, None)] == expected


@pytest.mark.parametrize("capacity", [1, 3])
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_a_vector_equals_a_list_after_any_walk(capacity, data):
    vector, model = Vector.create(None, "update", capacity), [[] for _ in range(capacity)]
    for slot in data.draw(st.lists(st.integers(0, capacity - 1), max_size=30)):
        model[slot].append(Update(price=len(model[slot])))
        vector.write(slot, model[slot][-1])
        for other, written in enumerate(model):
            assert vector.version(other) == len(written)
            assert vector.read(other) == (written[-1] if written else None)
