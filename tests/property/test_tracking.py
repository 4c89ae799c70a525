"""Whatever an actor reads, in whatever way: its records tell of every message once, and of its time as it was."""
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mantra.core.clock import Clock
from mantra.core.merge import Merge
from mantra.core.messages import Update
from mantra.core.queue import Queue
from mantra.core.tracking import Tracker

STEPS = st.lists(st.one_of(
    st.tuples(st.just("produce"), st.integers(0, 1)), st.tuples(st.just("pass"), st.integers(1, 100)),
    st.tuples(st.just("read"), st.just(0)), st.tuples(st.just("batch"), st.integers(1, 3)),
    st.tuples(st.just("wait"), st.just(0))), max_size=60)


@given(STEPS, st.booleans())
def test_records_tell_of_every_message_once_and_of_all_the_time_worked(steps, merged):
    clock, ring = Clock.virtual(1_000), Queue.create(None, "timing", 128)
    queues = [Queue.create(None, "update", 64, number=number) for number in (1, 2)][:1 + merged]
    producers = [queue.producer() for queue in queues]
    tracker = Tracker(clock, 1, ring)
    reader = Merge(queues, tracker=tracker) if merged else queues[0].consumer(tracker=tracker)
    working = worked = 0
    for what, n in steps:
        if what == "produce":
            producers[n % len(queues)].produce(Update(origin=clock.cycles()))
        elif what == "pass":
            clock.advance(n)
            worked += n * working
        elif what == "wait":
            reader.wait(0)
            working = 0
        else:
            working = int(bool(len(reader.batch(limit=n)) if what == "batch" else reader.read()))
    tracker.rest()
    records = list(ring.consumer("oldest"))
    assert sum(record.busy for record in records) == worked
    for before, after in pairwise(records):
        assert before.consumed + before.busy <= after.consumed
    while reader.read() is not None:
        pass
    tracker.rest()
    told = {queue.number: [] for queue in queues}
    for record in ring.consumer("oldest"):
        told[record.queue] += range(record.position, record.position + record.count)
        assert record.published_cycles <= record.consumed
    assert told == {queue.number: list(range(queue.produced)) for queue in queues}
