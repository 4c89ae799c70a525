"""gather: many queues of one message taken as they come, each queue's messages together, without a doorbell."""
import numpy

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdlib cimport free, realloc

from mantra.core.ledger cimport MANTRA_COUNT_overruns, Row, mantra_ledger_add_shared
from mantra.core.messages cimport SCRATCH, format_of
from mantra.core.queue cimport MANTRA_NEWEST, MANTRA_OLDEST, Queue, mantra_consumer_at
from mantra.core.tracking cimport mantra_tracker_consumed_many, mantra_tracker_rest

cdef enum:
    MOST = 16                   # gathers that are waited for together
    FASTEST = 200_000           # messages a second, in all: a ring is looked at again before a quarter of it is full
BATCH_BYTES = 512 * 1024        # what `take` gives at once: it stays in a core's own cache


cdef class Gather:
    """Reads queues of `message`. `lost`: messages that were overwritten before they were read, in all. One thread."""

    def __init__(self, message: str, Tracker tracker=None):
        self.format, self.tracker = format_of(message), tracker
        self.sources = []
        self.room = BATCH_BYTES // self.format.message_bytes
        self.messages = numpy.empty(self.room, self.format.dtype)

    def __dealloc__(self):
        free(self.consumers)
        free(self.runs)

    def add(self, Queue queue not None, feed: int, start: Literal["newest", "oldest"] = "newest", Row row=None) -> None:
        """Read `queue` too, as `feed`; from the "oldest" on: what is not there any more is lost. `row`: where what was
        overwritten before it was read is counted (overruns)."""
        cdef uint64_t[SCRATCH] scratch
        cdef mantra_consumer *consumer
        if queue.format is not self.format:
            raise ValueError(f"a queue of {queue.format.name} among those of {self.format.name}")
        consumers = realloc(self.consumers, (self.count + 1) * sizeof(mantra_consumer))
        if consumers is NULL:
            raise MemoryError
        self.consumers = <mantra_consumer *>consumers
        runs = realloc(self.runs, 2 * (self.count + 1) * sizeof(Run))
        if runs is NULL:
            raise MemoryError
        self.runs = <Run *>runs
        consumer = &self.consumers[self.count]
        consumer[0] = mantra_consumer_at(&queue.queue, MANTRA_NEWEST if start == "newest" else MANTRA_OLDEST, scratch)
        consumer.lost = 0 if start == "newest" else consumer.position
        self.count += 1
        self.sources.append([feed, queue, row, 0, consumer.position - consumer.lost])

    def remove(self, feed: int) -> None:
        """Read that queue no more."""
        cdef uint32_t i = next(i for i, source in enumerate(self.sources) if source[0] == feed)
        self.count -= 1
        self.consumers[i], self.sources[i] = self.consumers[self.count], self.sources[self.count]
        self.sources.pop()
        self.next = 0

    def take(self) -> tuple[NDArray[numpy.void], list[tuple[int, int, int, int]]]:
        """(messages, runs) of what waits, as much as fits: of each run (feed, how many, position of its first,
        how many were lost right before it), one behind the other. No messages: nothing waits. They are valid until the next call."""
        cdef size_t size = self.format.message_bytes, taken = 0, got
        cdef uint32_t i, source, runs = 0, most = 2 * self.count
        cdef Py_buffer view
        cdef char *raw
        PyObject_GetBuffer(self.messages, &view, PyBUF_WRITABLE)
        raw = <char *>view.buf
        with nogil:
            for i in range(self.count):
                source = (self.next + i) % self.count
                while taken < self.room and runs < most:
                    got = mantra_gather_run(&self.consumers[source], raw + taken * size, self.room - taken,
                                            &self.runs[runs].position)
                    if got == 0:
                        break
                    self.runs[runs].source, self.runs[runs].count = source, <uint32_t>got
                    runs += 1
                    taken += got
                if taken == self.room or runs == most:
                    self.next = (source + 1) % self.count     # no queue waits for ever behind a busy one
                    break
        found, taken = [], 0
        for i in range(runs):
            source = self.runs[i].source
            if self.tracker is not None:
                mantra_tracker_consumed_many(&self.tracker.tracker, raw + taken * size,
                                             self.consumers[source].queue.number, self.runs[i].position,
                                             self.runs[i].count)
            taken += self.runs[i].count
            its = self.sources[source]
            # A jump over what is lost; over positions that hold nothing, nothing is.
            lost = min(self.runs[i].position - its[4], self.consumers[source].lost - its[3])
            its[3], its[4] = its[3] + lost, self.runs[i].position + self.runs[i].count
            found.append((its[0], self.runs[i].count, self.runs[i].position, lost))
            self.lost += lost
            if lost and its[2] is not None:
                mantra_ledger_add_shared((<Row?>its[2]).row, MANTRA_COUNT_overruns, lost)
        PyBuffer_Release(&view)
        return self.messages[:taken], found

    def rest(self) -> None:
        """What was taken last is done."""
        if self.tracker is not None:
            mantra_tracker_rest(&self.tracker.tracker)


def wait(gathers: Sequence[Gather], double seconds) -> bool:
    """Sleep until a quarter of some ring that they read is full (True), or `seconds` are over. Without the GIL."""
    cdef mantra_gather[MOST] sources
    cdef size_t n = 0
    cdef uint32_t i
    cdef uint64_t least = 1 << 14
    cdef int64_t timeout_ns = int(seconds * 1e9)
    cdef bint pressed
    cdef Gather each
    for each in gathers[:MOST]:
        sources[n].consumers, sources[n].count = each.consumers, each.count
        n += 1
        for i in range(each.count):
            least = min(least, each.consumers[i].queue.mask + 1)
    with nogil:
        pressed = mantra_gather_wait(sources, n, timeout_ns, <int64_t>(least * 1_000_000_000 // (4 * FASTEST)))
    return pressed
