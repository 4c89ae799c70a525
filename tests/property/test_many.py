"""Queues of many producers against a plain list: stalled, killed, lapped, in any order, everything is accounted for.

A stalled or killed producer is one whose slot is left unsettled, through a view of the queue's memory: what another
process leaves there when it is stopped or killed between two stores. Real ones: tests/stress.
"""
import mmap
import os
import struct
from contextlib import ExitStack

from hypothesis import given, settings
from hypothesis import strategies as st

from mantra.core.messages import Update
from mantra.core.queue import Queue
from mantra.core.region import PREFIX

# As csrc/mantra/region.h and queue.h draw them.
REGION_HEADER, WRITERS, SLOTS, SLOT = 1024, 128, 128 + 8 * 256, 64
WRITING, HOLE, WRITER_SHIFT, LAP_SHIFT = 1, 2, 2, 18
KILLED, STALLED = 3, 4                  # writers' numbers
DEAD = (2 << 42) - 1                    # an identity: process 1, but started at another time
LOOKS = 100                             # so many bring any reader to asking, after 64 in vain, whether a writer lives
UNSETTLED = 0xbad                       # what a stopped one had written
NOTHING = object()

STEPS = st.lists(st.one_of(
    st.tuples(st.just("produce"), st.integers(1, 12)),          # so many, by three in turn
    st.tuples(st.just("rejoin"), st.integers(0, 2)),
    st.tuples(st.just("read"), st.integers(1, 12)),
    st.tuples(st.just("array"), st.integers(1, 12)),
    st.tuples(st.sampled_from(["kill", "inherit", "stall", "resume", "join newest", "join oldest"]), st.just(0)),
), min_size=10, max_size=40)


class List:
    """What is at each position: a running number, "hole", "dead" or "stalled"; and what the queue should count."""

    def __init__(self, capacity):
        self.capacity, self.at, self.abandoned, self.burnt = capacity, [], 0, 0
        self.burning = False    # the stalled one's slot has been burnt, and is each time round until it resumes

    def unfinished(self, state):
        """Position of the slot that is left in that state: within the last lap, or what the ring has come round to."""
        return next((p for p in reversed(range(len(self.at))) if self.at[p] == state), None)

    def claim(self):
        """Where the next message goes."""
        while True:
            before = len(self.at) - self.capacity
            if self.free():
                return len(self.at)
            if self.at[before] == "dead":
                self.abandoned += 1
                self.at[before] = "hole"
                return len(self.at)
            self.burnt += 1 if self.burning else 2
            self.at[before], self.burning = "hole", True
            self.at.append("stalled")       # a hole to readers, and still its writer's

    def free(self):
        """Is the next slot nobody's?"""
        return len(self.at) < self.capacity or self.at[-self.capacity] not in ("dead", "stalled")

    def append(self, what):
        position = self.claim()
        self.at.append(what)
        return position

    def oldest(self, produced):
        return produced - self.capacity + max(self.capacity // 8, 1) if produced > self.capacity else 0


class Reader:
    def __init__(self, ring, position):
        self.ring, self.position, self.lost, self.holes = ring, position, 0, 0

    def take(self):
        ring = self.ring
        while self.position < len(ring.at):
            if len(ring.at) > self.position + ring.capacity:
                oldest = ring.oldest(len(ring.at))
                self.lost, self.position = self.lost + oldest - self.position, oldest
                continue
            what = ring.at[self.position]
            if what == "stalled" and not ring.burning:
                return NOTHING
            self.position += 1
            if isinstance(what, int):
                return what
            self.holes += 1
        return NOTHING


class View:
    """The queue's memory, as another process sees it."""

    def __init__(self, name, capacity):
        with open(PREFIX + name, "r+b") as file:
            self.memory = mmap.mmap(file.fileno(), 0)
        self.capacity = capacity

    def word(self, offset, value=None):
        if value is not None:
            struct.pack_into("<Q", self.memory, REGION_HEADER + offset, value)
        return struct.unpack_from("<Q", self.memory, REGION_HEADER + offset)[0]

    def slot(self, position):
        return SLOTS + position % self.capacity * SLOT

    def write(self, position, writer):
        self.word(self.slot(position), (position // self.capacity + 1) << LAP_SHIFT | writer << WRITER_SHIFT | WRITING)
        for word in range(1, 8):
            self.word(self.slot(position) + 8 * word, UNSETTLED)

    def settle(self, position):
        self.word(self.slot(position), self.word(self.slot(position)) & ~WRITING)


@settings(max_examples=300, deadline=None)
@given(STEPS, st.sampled_from([8, 16]))
def test_readers_of_many_producers_equal_a_list_after_any_walk(steps, capacity):
    name = f"property-{os.getpid()}"
    with ExitStack() as stack:
        queue = stack.enter_context(Queue.create(name, "update", capacity, kind="mpmc"))
        view, ring, number = View(name, capacity), List(capacity), 0
        stack.callback(view.memory.close)
        producers = [queue.producer(i) for i in range(3)]
        view.word(WRITERS + 8 * STALLED, view.word(WRITERS))        # this process: it lives
        consumer, reader = queue.consumer(on_lap="count"), Reader(ring, 0)
        for step, count in steps:
            dead, stalled = ring.unfinished("dead"), ring.unfinished("stalled")
            if step == "produce":
                for _ in range(count):
                    number += 1
                    producers[number % 3].produce(Update(sequence=number))
                    ring.append(number)
            elif step == "rejoin":
                producers[count].close()
                producers[count] = queue.producer(count)
            elif step == "kill" and dead is None and ring.free():
                view.word(WRITERS + 8 * KILLED, DEAD)
                view.write(ring.append("dead"), KILLED)
            elif step == "inherit":
                queue.producer().close()        # its number is the dead one's, whose slot it makes a hole
                if dead is not None:
                    ring.at[dead], ring.abandoned = "hole", ring.abandoned + 1
            elif step == "stall" and stalled is None and ring.free():
                view.write(ring.append("stalled"), STALLED)
            elif step == "resume" and stalled is not None:
                view.settle(stalled)            # burnt: a hole; else a message of what it wrote
                ring.at[stalled], ring.burning = "hole" if ring.burning else UNSETTLED, False
            elif step.startswith("join"):
                consumer = queue.consumer(step.partition(" ")[2], on_lap="count")
                reader = Reader(ring, len(ring.at) if step == "join newest" else ring.oldest(len(ring.at)))
            elif step in ("read", "array"):
                expected = [taken for _ in range(count) if (taken := reader.take()) is not NOTHING]
                got = []
                for _ in range(LOOKS):
                    if step == "array":
                        got += consumer.batch(limit=count - len(got))["sequence"].tolist()
                    elif len(got) < count and (message := consumer.read()) is not None:
                        got.append(message.sequence)
                assert got == expected
                for counts in ((consumer.position, reader.position), (consumer.lost, reader.lost),
                               (consumer.holes, reader.holes)):
                    assert counts[0] == counts[1]
            assert queue.produced == len(ring.at)
            assert (queue.abandoned, queue.burnt) == (ring.abandoned, ring.burnt)
        for producer in producers:
            producer.close()
