"""measure: what crossing between cores, producing and consuming cost; the loops that `mantra bench` times.

Two sides, threads or processes, pass a number to and fro, by one crossing after the other in one run, so that all meet
the same machine:

    floor      one word in a cache line, ping in one, pong in another: a line has one writer and one polling reader, as a
               slot has. The writer must take it from the reader, the reader take it back: two transfers a hop. It walks
               over as many lines as a ring has slots, because what a line costs depends on where in the last level of
               cache its address lies: the same two lines measure that luck, other luck at the next start.
    two_lines  the same two lines over and over; one_line: ping and pong in one, where ownership comes with the read, one
               transfer a hop. No message to a reader that may not write can do that. Both for comparison with tools
               that measure it so.
    queues     a whole message, there through one queue, back through another.
    vectors    the same through slots that hold the newest message.

A crossing is half a round trip, each round trip stamped: the counters of two cores need not agree, and what the stamps
themselves take is known and left out. Who asks goes on when it has the answer, so nothing ever queues.
"""
cimport cython
from libc.stdint cimport UINT64_MAX, int64_t, uint32_t
from libc.string cimport memset

from mantra.core.clock cimport mantra_clock_cycles, mantra_monotonic_ns
from mantra.core.histogram cimport mantra_histogram_record
from mantra.core.messages cimport SCRATCH
from mantra.core.queue cimport mantra_consume, mantra_produce
from mantra.core.region cimport Region
from mantra.core.tracking cimport Tracker, mantra_source, mantra_tracker
from mantra.core.tracking cimport mantra_tracker_rest, mantra_tracker_stamp, mantra_tracker_took
from mantra.core.vector cimport mantra_vector_read, mantra_vector_version, mantra_vector_write

from mantra.errors import Closed, MantraError

cdef extern from * nogil:
    """
    #include <time.h>
    #include "mantra/base.h"
    /* Not sched_yield: from Linux 6.18 it forfeits a slice each time, and who yields beside others' work starves. */
    #define mantra_nap() nanosleep(&(struct timespec){0, 20000}, NULL)
    #define mantra_line_store(line, word) __atomic_store_n(line, word, __ATOMIC_RELEASE)
    #define mantra_line_load(line) __atomic_load_n(line, __ATOMIC_ACQUIRE)
    #define mantra_line_count(line) __atomic_fetch_add(line, 1, __ATOMIC_ACQ_REL)
    """
    void mantra_line_store(uint64_t *line, uint64_t word)
    uint64_t mantra_line_load(const uint64_t *line)
    uint64_t mantra_line_count(uint64_t *line)
    void pause "MANTRA_PAUSE" ()
    void mantra_nap()

cdef enum:
    LINE = 8                    # words of a cache line
    LINES = 1024
    STOP = 0                    # lines of a course: not 0, give up; how many sides are there; how far each reader is
    ARRIVED = LINE
    READ = 2 * LINE
    PING = 64 * LINE
    PONG = PING + LINES * LINE
    WORDS = PONG + LINES * LINE
    PATIENCE_NS = 5_000_000_000     # who does not answer for so long is gone
    GONE = -1
    WRONG = -2
    FLOOR = 0
    TWO_LINES, ONE_LINE, QUEUES, VECTORS        # those up to ONE_LINE are bare words

READERS = 62

cdef struct Patience:
    uint32_t looks
    int64_t until


cdef inline bint goes_on(Patience *patience, const uint64_t *course) noexcept nogil:
    """Between two looks: may the looking go on? Where a core is shared, let another thread run now and then."""
    pause()
    patience.looks += 1
    if patience.looks % 4096:
        return True
    if patience.until == 0:
        patience.until = mantra_monotonic_ns() + PATIENCE_NS
    mantra_nap()
    return mantra_monotonic_ns() < patience.until and not mantra_line_load(&course[STOP])


cdef inline int next_message(const uint64_t *course, Consumer consumer, uint64_t *message) noexcept nogil:
    """Wait for it. Its first three words say its position; 0, GONE or WRONG."""
    cdef Patience patience = Patience(0, 0)
    cdef uint64_t position = consumer.consumer.position
    cdef int got = mantra_consume(&consumer.consumer, message)
    while got == 0:
        if not goes_on(&patience, course):
            return GONE
        got = mantra_consume(&consumer.consumer, message)
    return 0 if got == 1 and message[0] == message[1] == message[2] == position else WRONG


cdef int checked(int failed) except -1:
    if failed == WRONG:
        raise MantraError("measuring: another message came than was sent")
    if failed:
        raise Closed("measuring: the other side is gone")
    return 0


@cython.no_gc
cdef class Course(Shared):
    """Where the sides of a crossing meet, threads or processes. Made by `create` or `open`."""

    def __cinit__(self, Region region):
        self.words = <uint64_t *>region.payload()

    @staticmethod
    def create(str name = None) -> Course:
        """A new one; without a name for this process only. RegionError."""
        return Course(Region.create(name, 8 * WORDS, kind="course", layout="lines of words", fingerprint=1))

    @staticmethod
    def open(str name not None) -> Course:
        """Another process's. RegionError, LayoutMismatch."""
        return Course(Region.open(name, kind="course", fingerprint=1, write=True, size=8 * WORDS))

    def stop(self) -> None:
        """Whoever waits for another side raises Closed, within a millisecond or so."""
        mantra_line_store(&self.words[STOP], 1)

    def arrive(self) -> None:
        """One side more is ready."""
        mantra_line_count(&self.words[ARRIVED])

    @property
    def arrived(self) -> int:
        """How many sides are ready."""
        return mantra_line_load(&self.words[ARRIVED])


@cython.final
cdef class Side:
    """One side of a crossing: it asks and keeps the time, or it answers. Both go through the same ways in the same order.

    `into` takes cycles per round trip, but for the first eighth. Closed: the other side stopped, or was silent for 5 s.
    """

    def __init__(self, Course course not None, Clock clock not None, bint asks):
        cdef uint64_t start
        self.course, self.clock, self.words, self.asks, self.stamp = course, clock, course.words, asks, UINT64_MAX
        for _ in range(1000):
            start = mantra_clock_cycles(clock.clock)
            self.stamp = min(self.stamp, mantra_clock_cycles(clock.clock) - start)

    cdef inline uint64_t *line(self, int way, bint ping) noexcept nogil:
        return &self.words[(PING if ping or way == ONE_LINE else PONG) + (self.done % LINES if way == FLOOR else 0) * LINE]

    cdef inline void send(self, int way, uint64_t number) noexcept nogil:
        if way <= ONE_LINE:
            mantra_line_store(self.line(way, self.asks), number)
            return
        number = self.producer.producer.position if way == QUEUES else number
        self.message[0] = self.message[1] = self.message[2] = number
        if way == QUEUES:
            mantra_produce(&self.producer.producer, self.message)
        else:
            mantra_vector_write(&self.writes.vector, 0, self.message)

    cdef inline int receive(self, int way, uint64_t number) noexcept nogil:
        cdef Patience patience = Patience(0, 0)
        if way == QUEUES:
            return next_message(self.words, self.consumer, self.message)
        while (mantra_vector_version(&self.reads.vector, 0) == self.read if way == VECTORS else
               mantra_line_load(self.line(way, not self.asks)) != number):
            if not goes_on(&patience, self.words):
                return GONE
        if way == VECTORS:
            self.read += 1
            if mantra_vector_read(&self.reads.vector, 0, self.message) != self.read or self.message[2] != number:
                return WRONG
        return 0

    cdef int cross(self, int way, uint64_t rounds, Histogram into) except -1:
        cdef uint64_t i, span, start = 0
        cdef int failed = 0
        with nogil:
            for i in range(rounds):
                self.done += 1
                if self.asks:
                    start = mantra_clock_cycles(self.clock.clock)
                    self.send(way, 2 * self.done)
                failed = self.receive(way, 2 * self.done + self.asks)
                if failed:
                    break
                if not self.asks:
                    self.send(way, 2 * self.done + 1)
                elif i >= rounds // 8:
                    span = mantra_clock_cycles(self.clock.clock) - start
                    mantra_histogram_record(into.histogram, span - min(span, self.stamp))
        return checked(failed)

    def lines(self, str way, uint64_t rounds, Histogram into not None) -> None:
        """Bare words: `way` is "floor", "two_lines" or "one_line"."""
        self.cross(("floor", "two_lines", "one_line").index(way), rounds, into)

    def queues(self, uint64_t rounds, Histogram into not None, Producer producer not None, Consumer consumer not None) -> None:
        """A message through one queue, the answer through the other."""
        self.producer, self.consumer = producer, consumer
        self.cross(QUEUES, rounds, into)

    def vectors(self, uint64_t rounds, Histogram into not None, Vector writes not None, Vector reads not None) -> None:
        """The same through slot 0 of two vectors."""
        writes.writing()
        self.writes, self.reads = writes, reads
        self.cross(VECTORS, rounds, into)


def pour(Course course not None, Producer producer not None, uint64_t readers, uint64_t count) -> None:
    """Produce `count` messages as fast as the slowest of `readers` at `drain` follows, half a ring ahead. Closed."""
    cdef uint64_t[SCRATCH] message
    cdef uint64_t end = producer.producer.position + count, ahead = producer.producer.queue.mask // 2, slowest = 0, far, i
    cdef Patience patience
    cdef int failed = 0
    memset(message, 0, sizeof(message))
    with nogil:
        while not failed and slowest < end:
            patience = Patience(0, 0)
            while producer.producer.position < min(slowest + ahead, end):
                message[0] = message[1] = message[2] = producer.producer.position
                mantra_produce(&producer.producer, message)
            far = slowest
            while slowest == far and not failed:
                slowest = UINT64_MAX
                for i in range(readers):
                    slowest = min(slowest, mantra_line_load(&course.words[READ + i * LINE]))
                if slowest == far and not goes_on(&patience, course.words):
                    failed = GONE
    checked(failed)


def drain(Course course not None, Consumer consumer not None, uint64_t reader, uint64_t count) -> None:
    """Consume what `pour` produces, as its reader number `reader`; MantraError: one was lost, or is not what was sent."""
    cdef uint64_t[SCRATCH] message
    cdef uint64_t end = consumer.consumer.position + count
    cdef int failed = 0
    if reader >= READERS:
        raise ValueError(f"reader {reader}: 0 to {READERS - 1}")
    with nogil:
        while consumer.consumer.position < end and not failed:
            failed = next_message(course.words, consumer, message)
            if consumer.consumer.position % 64 == 0 or consumer.consumer.position == end:
                mantra_line_store(&course.words[READ + reader * LINE], consumer.consumer.position)
    checked(failed)


# On one core, ns each: `count` messages, at most what the ring or vector holds.

cdef object each_ns(Clock clock, uint64_t span, uint64_t count):
    return span * (clock.ns(1_000_000_000) / 1e9) / count


def queue_alone(Clock clock not None, Producer producer not None, Consumer consumer not None,
                uint64_t count) -> tuple[float, float, float]:
    """To produce, to consume, and to find the queue empty."""
    cdef uint64_t[SCRATCH] message
    cdef uint64_t start, produced, consumed, polled, i, right = 0
    memset(message, 0, sizeof(message))
    with nogil:
        start = mantra_clock_cycles(clock.clock)
        for i in range(count):
            message[2] = i
            mantra_produce(&producer.producer, message)
        produced = mantra_clock_cycles(clock.clock)
        for i in range(count):
            right += mantra_consume(&consumer.consumer, message) == 1 and message[2] == i
        consumed = mantra_clock_cycles(clock.clock)
        for i in range(count):
            right += mantra_consume(&consumer.consumer, message) == 0
        polled = mantra_clock_cycles(clock.clock)
    checked(0 if right == 2 * count else WRONG)
    return (each_ns(clock, produced - start, count), each_ns(clock, consumed - produced, count),
            each_ns(clock, polled - consumed, count))


def hop_alone(Clock clock not None, Producer source not None, Consumer consumer not None, Producer producer not None,
              Tracker tracker, uint64_t count) -> float:
    """To consume what `source` produced and produce it again, as an actor with `tracker` does (None: untracked)."""
    cdef uint64_t[SCRATCH] message
    cdef uint64_t start, end, i, right = 0
    cdef mantra_tracker *tracked = NULL if tracker is None else &tracker.tracker
    memset(message, 0, sizeof(message))
    with nogil:
        for i in range(count):
            message[2] = i
            mantra_produce(&source.producer, message)
        start = mantra_clock_cycles(clock.clock)
        for i in range(count):
            right += mantra_consume(&consumer.consumer, message) == 1 and message[2] == i
            if tracked != NULL:
                mantra_tracker_took(tracked, <mantra_source *>&consumer.consumer, message)
                mantra_tracker_stamp(tracked, message)
            mantra_produce(&producer.producer, message)
        if tracked != NULL:
            mantra_tracker_rest(tracked)
        end = mantra_clock_cycles(clock.clock)
    checked(0 if right == count else WRONG)
    return each_ns(clock, end - start, count)


def vector_alone(Clock clock not None, Vector vector not None, uint64_t count) -> tuple[float, float]:
    """To write, and to read, the first `count` slots. IndexError."""
    cdef uint64_t[SCRATCH] message
    cdef uint64_t start, written, end, i, right = 0
    vector.writing()
    vector.check(count - 1)
    memset(message, 0, sizeof(message))
    with nogil:
        start = mantra_clock_cycles(clock.clock)
        for i in range(count):
            message[2] = i
            mantra_vector_write(&vector.vector, i, message)
        written = mantra_clock_cycles(clock.clock)
        for i in range(count):
            right += mantra_vector_read(&vector.vector, i, message) > 0 and message[2] == i
        end = mantra_clock_cycles(clock.clock)
    checked(0 if right == count else WRONG)
    return each_ns(clock, written - start, count), each_ns(clock, end - written, count)
