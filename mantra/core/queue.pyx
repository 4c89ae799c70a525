"""queue: broadcast ring; every consumer sees every message, producers wait for nobody."""
cimport cython
import numpy

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.string cimport memset

from mantra.core.audience cimport Audience
from mantra.core.doorbell cimport Doorbell, Waiter, mantra_doorbell_ring, mantra_ready
from mantra.core.messages cimport SCRATCH, Message, format_of, slots_found, slots_made
from mantra.core.region cimport Region
from mantra.core.tracking cimport (
    Tracker, mantra_source, mantra_tracker_consumed_many, mantra_tracker_idle, mantra_tracker_rest, mantra_tracker_stamp,
    mantra_tracker_took,
)

from mantra.errors import Lapped, RegionError

cdef uint64_t MOST = 1 << 32      # slots: more overflow the size of their region


@cython.no_gc     # its memory must outlive a Producer that the collector takes with it
cdef class Queue(Shared):
    """A ring of `capacity` messages of one kind in shared memory, or private (name None). Made by `create` or `open`.

    `kind` "spmc": one producer at a time. "mpmc": up to 256 (fewer than slots), each a thread's own, of any processes; 20 ns a
    message instead of 4. Batches (updates with `more`) are kept whole by consumers of a single producer; those of many
    mingle, so that each message stands alone: tell them apart by `publisher`.
    """

    def __cinit__(self, Region region):
        cdef uint64_t capacity = region.header().capacity
        self.format = slots_found(region, 1 < capacity <= MOST and not capacity & (capacity - 1),
                                  mantra_queue_bytes(capacity, region.header().slot_bytes))
        self.queue = mantra_queue_attach(region.payload(), capacity, self.format.slot_bytes, self.format.flags_offset)

    @staticmethod
    def create(name: str | None, message: str | type[Message], capacity: int, kind: Literal["spmc", "mpmc"] = "spmc", *,
               uint16_t number = 0) -> Queue:
        """`message`: "update", Update, ...; `capacity`: a power of two from 2; `number`: what its readers' timings call it.

        ValueError, RegionError."""
        cdef Format form = format_of(message)
        cdef mantra_queue_header head
        if kind not in ("spmc", "mpmc"):
            raise ValueError(f"a queue is 'spmc' or 'mpmc', not {kind!r}")
        if not 1 < capacity <= MOST or capacity & (capacity - 1):
            raise ValueError(f"capacity {capacity} is not a power of two from 2 to {MOST}")
        memset(&head, 0, sizeof(head))
        head.many, head.number = kind == "mpmc", number
        return Queue(slots_made("queue", name, form, capacity, mantra_queue_bytes(capacity, form.slot_bytes),
                                (<char *>&head)[:sizeof(head)]))

    @staticmethod
    def open(name: str, *, write: bool = False) -> Queue:
        """Open for consuming; `write`: also for producing. RegionError: there is none; LayoutMismatch: another build's."""
        return Queue(Region.open(name, kind="queue", write=write))

    def producer(self, publisher: int = 0, *, doorbell: Doorbell | None = None,
                 tracker: Tracker | None = None) -> Producer:
        """Become a producer, number `publisher` (16 bits), ringing `doorbell` after batches. RegionError: no room for one.

        `tracker`: of the actor that produces. It stamps every message; `publisher` is its own."""
        return Producer(self, publisher if tracker is None else tracker.actor, doorbell, tracker)

    def consumer(self, start: Literal["newest", "oldest"] | int = "newest", *,
                 on_lap: Literal["raise", "count"] = "raise", doorbell: Doorbell | None = None,
                 tracker: Tracker | None = None) -> Consumer:
        """Read from "newest" (only what comes), "oldest" (what is still there) or a position on.

        `on_lap`: "raise" Lapped once per lap (a player waits for such a reader), or "count" in `lost` only. `doorbell`: what `wait` sleeps on. `tracker`: of
        the actor that reads, which is timed: each message, or batch.
        """
        return Consumer(self, start, on_lap, doorbell, tracker)

    @property
    def capacity(self) -> int:
        """Messages that the ring holds."""
        return self.queue.mask + 1

    @property
    def produced(self) -> int:
        """Position of the next message: how many were ever produced, and how many positions hold nothing."""
        return mantra_produced(&self.queue)

    @property
    def kind(self) -> str:
        """"spmc" or "mpmc"."""
        return "mpmc" if self.queue.many else "spmc"

    @property
    def number(self) -> int:
        """The run's number of this queue, given by its maker."""
        return self.queue.header.number

    @property
    def producers(self) -> int:
        """How many producers it has whose processes are alive."""
        return mantra_queue_producers(&self.queue)

    @property
    def abandoned(self) -> int:
        """Positions that hold nothing because their producer was killed while writing, or left a batch without its end."""
        return self.queue.header.abandoned

    @property
    def burnt(self) -> int:
        """Positions that hold nothing because a living producer stood still for a whole lap; its message came later."""
        return self.queue.header.burnt

    def __repr__(self):
        return f"<Queue {self.name or '(private)'}: {self.kind}, {self.capacity} {self.format.name}, {self.produced} produced>"


@cython.no_gc
cdef class Producer:
    """A producer of a queue, the only one of a "spmc", until closed. One thread at a time; not after a fork."""

    def __init__(self, Queue queue not None, uint16_t publisher=0, Doorbell doorbell=None, Tracker tracker=None):
        queue.writing()
        if mantra_producer_open(&self.producer, &queue.queue, publisher):
            raise RegionError(f"queue '{queue.name or '(private)'}' has " + (
                "as many producers as it can (256, fewer than slots)" if queue.queue.many else
                "a producer already, and it is running (kind 'mpmc' takes up to 256)"))
        self.queue, self.bell, self.tracker, self.claimed = queue, doorbell, tracker, True

    def __dealloc__(self):
        if self.claimed:
            mantra_producer_close(&self.producer)

    def produce(self, message: Message | Buffer) -> None:
        """Publish a message of the queue's kind, or its bytes, as it is unless a tracker stamps it. TypeError, ValueError."""
        cdef uint64_t[SCRATCH] raw
        if not self.claimed:
            raise RegionError("this producer is closed")
        self.queue.format.fill(message, raw)
        if self.tracker is not None:
            mantra_tracker_stamp(&self.tracker.tracker, raw)
        mantra_produce(&self.producer, raw)
        if self.bell is not None and not mantra_queue_more(&self.queue.queue, raw):
            mantra_doorbell_ring(self.bell.doorbell)

    @property
    def position(self) -> int:
        """Of the next message; of many producers, the least that it can be."""
        return self.producer.position

    @property
    def publisher(self) -> int:
        """This producer's number in every message it stamps."""
        return self.producer.publisher

    def close(self) -> None:
        """Let somebody else produce."""
        if self.claimed:
            self.claimed = False
            mantra_producer_close(&self.producer)


@cython.no_gc
cdef class Consumer:
    """One reader's place in a queue. Iterating gives what waits, then stops; `wait` waits for more. One thread at a time.

    A batch (updates with `more`) whose beginning was missed, by a lap or by joining in its middle, is left out whole.
    """

    def __init__(self, Queue queue not None, start: Literal["newest", "oldest"] | int = "newest",
                 on_lap: Literal["raise", "count"] = "raise", Doorbell doorbell=None, Tracker tracker=None):
        cdef uint64_t[SCRATCH] scratch
        if on_lap not in ("raise", "count"):
            raise ValueError(f"on_lap is 'raise' or 'count', not {on_lap!r}")
        if not isinstance(start, int) and start not in ("newest", "oldest"):
            raise ValueError(f"start is 'newest', 'oldest' or a position, not {start!r}")
        position = MANTRA_NEWEST if start == "newest" else MANTRA_OLDEST if start == "oldest" else start
        self.queue, self.bell, self.tracker, self.raises = queue, doorbell, tracker, on_lap == "raise"
        if self.raises and queue.audience is not None:
            self.seat = (<Audience>queue.audience).join(queue.queue.number)
        self.consumer = mantra_consumer_at(&queue.queue, position, scratch)
        if self.seat is not None:
            self.consumer.taken = &self.seat.seat.position
            self.seat.seat.position = self.consumer.position
        self.waiting.ready = <mantra_ready>mantra_consumer_ready
        self.waiting.what = &self.consumer

    cdef int take(self, void *raw) except -2:
        """One message to `raw`: 1, or 0 when nothing waits; raises Lapped as asked."""
        cdef int got = mantra_consume(&self.consumer, raw)
        while got < 0:
            if self.raises and self.consumer.lost != self.told:
                self.tell()
            got = mantra_consume(&self.consumer, raw)
        if self.tracker is not None:
            if got:
                mantra_tracker_took(&self.tracker.tracker, <mantra_source *>&self.consumer, raw)
            else:
                mantra_tracker_idle(&self.tracker.tracker)
        return got

    def tell(self) -> None:
        """Raise Lapped with what was lost since the last time."""
        cdef uint64_t lost = self.consumer.lost - self.told
        self.told, self.lapped = self.consumer.lost, False
        raise Lapped(lost)

    def read(self) -> Any:
        """The next message as a typed object, or None when nothing waits. Lapped: go on reading to go on."""
        cdef uint64_t[SCRATCH] raw
        return self.queue.format.load(raw) if self.take(raw) else None

    def read_bytes(self) -> bytes | None:
        """The next message as bytes, or None when nothing waits."""
        cdef uint64_t[SCRATCH] raw
        return PyBytes_FromStringAndSize(<char *>raw, self.queue.format.message_bytes) if self.take(raw) else None

    def batch(self, out: NDArray[numpy.void] | None = None, limit: int = 1024) -> NDArray[numpy.void]:
        """What waits, up to `limit` messages: a structured array (copied; into `out`, of the queue's dtype, if given).

        When lapped on the way, what was read before is returned (less an unfinished batch) and Lapped is raised next.
        """
        cdef Py_buffer view
        cdef size_t size = self.queue.format.message_bytes, room, count = 0
        cdef char *raw
        cdef int got = 1
        if self.lapped and self.raises and self.consumer.lost != self.told:
            self.tell()
        if out is None:
            out = numpy.empty(limit, self.queue.format.dtype)
        elif out.dtype != self.queue.format.dtype or out.ndim != 1:
            raise TypeError(f"out is {out.ndim}-dimensional of {out.dtype}, not a row of {self.queue.format.name}")
        PyObject_GetBuffer(out, &view, PyBUF_WRITABLE)
        try:
            room = min(<size_t>limit, view.len // size)
            raw = <char *>view.buf
            with nogil:
                while count < room:
                    count += mantra_consume_run(&self.consumer, raw + count * size, room - count)
                    if count == room:
                        break
                    got = mantra_consume(&self.consumer, raw + count * size)
                    if got == 0:
                        break
                    if got == 1:
                        count += 1
                        continue
                    self.lapped = True
                    while count and mantra_queue_more(&self.queue.queue, raw + (count - 1) * size):
                        count -= 1      # its batch will never be whole
                        self.consumer.lost += 1
                    if self.raises:
                        break
            if self.tracker is not None:
                if count:
                    mantra_tracker_consumed_many(&self.tracker.tracker, raw, self.consumer.queue.number,
                                                 self.consumer.position - count, <uint32_t>count)
                else:
                    mantra_tracker_idle(&self.tracker.tracker)
        finally:
            PyBuffer_Release(&view)
        if got < 0 and self.raises and not count and self.consumer.lost != self.told:
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
        message = self.read()
        if message is None:
            raise StopIteration
        return message

    @property
    def position(self) -> int:
        """Of the next message to be read."""
        return self.consumer.position

    @property
    def lost(self) -> int:
        """Messages overwritten before they were read, in all."""
        return self.consumer.lost

    @property
    def holes(self) -> int:
        """Positions skipped because they hold nothing (`Queue.abandoned`, `Queue.burnt`)."""
        return self.consumer.holes
