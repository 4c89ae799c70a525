"""merge: many queues of one message read as one, the earliest published of what waits first, batches kept whole."""
import numpy

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free

from mantra.core.audience cimport Audience, Seat
from mantra.core.doorbell cimport Waiter, mantra_ready
from mantra.core.messages cimport SCRATCH
from mantra.core.queue cimport MANTRA_NEWEST, MANTRA_OLDEST, Queue, mantra_consumer_at, mantra_queue_more
from mantra.core.tracking cimport (
    Tracker, mantra_source, mantra_tracker_consumed_many, mantra_tracker_idle, mantra_tracker_rest, mantra_tracker_took,
)

from mantra.errors import Lapped


cdef class Merge:
    """Reads `queues` (at least one, all of one message) as one. Iterating gives the messages that wait, then stops.

    `start`, `on_lap`, `doorbell` and `tracker` as for Queue.consumer; `start` may also be a list, one for each queue.
    """

    def __init__(self, queues: Iterable[Queue], start: str | int | list[str | int] = "newest", *,
                 on_lap: Literal["raise", "count"] = "raise", Doorbell doorbell=None,
                 Tracker tracker=None):
        cdef uint64_t[SCRATCH] scratch
        cdef Queue queue
        cdef Seat seat
        cdef uint32_t i
        self.queues, self.bell, self.tracker, self.raises = list(queues), doorbell, tracker, on_lap == "raise"
        self.waiting.ready = <mantra_ready>mantra_merge_ready
        self.waiting.what = &self.merge
        if not self.queues:
            raise ValueError("a merge needs at least one queue")
        if on_lap not in ("raise", "count"):
            raise ValueError(f"on_lap is 'raise' or 'count', not {on_lap!r}")
        starts = start if isinstance(start, list) else [start] * len(self.queues)
        if len(starts) != len(self.queues):
            raise ValueError(f"{len(starts)} starts for {len(self.queues)} queues")
        self.format = (<Queue?>self.queues[0]).format
        if any((<Queue?>each).format is not self.format for each in self.queues):
            raise ValueError(f"a merge reads one message; these are {', '.join(each.format.name for each in self.queues)}")
        self.merge = mantra_merge_of(
            <mantra_merge_source *>calloc(len(self.queues), sizeof(mantra_merge_source)), len(self.queues))
        self.taken = <Taken *>calloc(len(self.queues), sizeof(Taken))
        self.seats = []
        if self.merge.sources == NULL or self.taken == NULL:
            raise MemoryError
        self.waiting.looks = self.merge.count
        for i in range(self.merge.count):
            queue = self.queues[i]
            position = {"newest": MANTRA_NEWEST, "oldest": MANTRA_OLDEST}.get(starts[i], starts[i])
            seat = (<Audience>queue.audience).join(queue.queue.number) if self.raises and queue.audience is not None else None
            self.merge.sources[i].consumer = mantra_consumer_at(&queue.queue, position, scratch)
            if seat is not None:
                self.seats.append(seat)
                self.merge.sources[i].consumer.taken = &seat.seat.position
                seat.seat.position = self.merge.sources[i].consumer.position

    def __dealloc__(self):
        free(self.merge.sources)
        free(self.taken)

    cdef int take(self, void *raw, uint32_t *source) except -2:
        """One message to `raw`: 1, or 0 when nothing waits; raises Lapped as asked."""
        cdef int got = mantra_merge_next(&self.merge, raw, source)
        while got < 0:
            self.tell()
            got = mantra_merge_next(&self.merge, raw, source)
        if self.tracker is not None:
            if got:
                mantra_tracker_took(&self.tracker.tracker, <mantra_source *>&self.merge.sources[source[0]].consumer, raw)
            else:
                mantra_tracker_idle(&self.tracker.tracker)
        return got

    def tell(self) -> None:
        """Raise Lapped, if that was asked for, with what was lost since the last time."""
        cdef uint64_t lost = self.lost - self.told if self.raises else 0
        if lost:
            self.told += lost
            raise Lapped(lost)

    def read(self) -> tuple[int, Any] | None:
        """(source, message), source being the index of its queue, or None when nothing waits. Lapped: read on to go on."""
        cdef uint64_t[SCRATCH] raw
        cdef uint32_t source = 0
        return (source, self.format.load(raw)) if self.take(raw, &source) else None

    def batch(self, limit: int = 1024) -> NDArray[numpy.void]:
        """What waits, up to `limit` messages, as a structured array (copied). Laps: as Consumer.batch tells them."""
        cdef size_t size = self.format.message_bytes, room = limit, count = 0
        cdef uint32_t source = 0
        cdef int got = 1
        cdef mantra_merge_source *each
        cdef Py_buffer view
        cdef char *raw
        self.tell()
        out = numpy.empty(limit, self.format.dtype)
        PyObject_GetBuffer(out, &view, PyBUF_WRITABLE)
        raw = <char *>view.buf
        with nogil:
            while count < room and got:
                got = mantra_merge_next(&self.merge, raw + count * size, &source)
                if got > 0:
                    if not self.taken[source].count:
                        self.taken[source].first = count
                    self.taken[source].count += 1
                    count += 1
                    continue
                # A lap: no end will come of the batch that was being read.
                while got < 0 and count and mantra_queue_more(&self.merge.sources[source].consumer.queue,
                                                              raw + (count - 1) * size):
                    count -= 1
                    self.taken[source].count -= 1
                    self.merge.sources[source].consumer.lost += 1
                if got < 0 and self.raises:
                    break
        for source in range(self.merge.count):      # one record for what came of each queue; the last has the work
            if self.taken[source].count and self.tracker is not None:
                each = &self.merge.sources[source]
                mantra_tracker_consumed_many(&self.tracker.tracker, raw + self.taken[source].first * size,
                                             each.consumer.queue.number,
                                             each.consumer.position - each.holds - self.taken[source].count,
                                             self.taken[source].count)
            self.taken[source].count = 0
        if not count and self.tracker is not None:
            mantra_tracker_idle(&self.tracker.tracker)
        PyBuffer_Release(&view)
        if not count:
            self.tell()
        return out[:count]

    def wait(self, timeout: float | None = None) -> bool:
        """As Waiter.wait; what was consumed last counts as done."""
        if self.tracker is not None:
            mantra_tracker_rest(&self.tracker.tracker)
        return Waiter.wait(self, timeout)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        cdef uint64_t[SCRATCH] raw
        cdef uint32_t source
        if not self.take(raw, &source):
            raise StopIteration
        return self.format.load(raw)

    @property
    def lost(self) -> int:
        """Messages overwritten before they were read, in all queues."""
        cdef uint32_t i
        return sum(self.merge.sources[i].consumer.lost for i in range(self.merge.count))

    @property
    def positions(self) -> list[int]:
        """Position of the next message to be taken from each queue (one that waits to be merged has been taken)."""
        return [self.merge.sources[i].consumer.position for i in range(self.merge.count)]
