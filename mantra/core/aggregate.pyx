"""aggregate: many queues in, one queue out, compiled: the world view, and tops conflated.

A hop runs in `step` without the GIL: it drains what waits, publishes, rings, and parks on the run's doorbell, until its
time is over or another thread calls `wake`.
"""
from libc.stdlib cimport calloc, free

from mantra.core.book cimport Book, mantra_top_read
from mantra.core.clock cimport mantra_clock_cycles, mantra_clock_ns, mantra_monotonic_ns
from mantra.core.decode cimport mantra_symbols_add, mantra_symbols_find, mantra_symbols_init
from mantra.core.doorbell cimport (
    ADAPTED, mantra_doorbell_end, mantra_doorbell_ring, mantra_doorbell_until, mantra_ready, mantra_waiting_over,
)
from mantra.core.histogram cimport mantra_histogram_record
from mantra.core.ledger cimport MANTRA_COUNT_overruns, Row, mantra_ledger_add_shared
from mantra.core.merge cimport mantra_merge_next, mantra_merge_ready
from mantra.core.messages cimport MANTRA_FROM_SNAPSHOT, MANTRA_MAX_VENUES, MANTRA_UNVERIFIED, SCRATCH, mantra_instrument, mantra_update
from mantra.core.queue cimport Queue, mantra_consume, mantra_consumer, mantra_consumer_at, mantra_produce, mantra_produced
from mantra.core.tracking cimport (
    mantra_publisher, mantra_published_cycles, mantra_source, mantra_stamp, mantra_tracker, mantra_tracker_idle,
    mantra_tracker_took,
)
from mantra.core.vector cimport mantra_vector_read, mantra_vector_write

cdef extern from *:
    """
    #include "mantra/book.h"
    static inline uint64_t book_key(const mantra_book *book)
    {
        return (uint64_t)MANTRA_BOOK_GET(book, instrument) << 8 | MANTRA_BOOK_GET(book, venue);
    }
    """
    uint64_t book_key(const mantra_book *book) nogil

cdef enum:
    AT_ONCE = 1024      # messages between two looks at the time, at `wake` and at what is due


cdef int64_t _row(const mantra_symbols *rows, uint64_t key) noexcept nogil:
    """The row of a key (spelt in its eight bytes); -1: it has none."""
    return mantra_symbols_find(rows, <const char *>&key, sizeof(key))


cdef bint _set_row(mantra_symbols *rows, uint64_t key, uint32_t row) noexcept nogil:
    """Note `key`'s row; False when there is no room for one more."""
    return mantra_symbols_add(rows, <const char *>&key, sizeof(key), <int32_t>row) == 0


cdef bint _older(const mantra_top *top, const mantra_top *held) noexcept nogil:
    """Was `top` published before the one held? So it is when the vector, read to catch up, was ahead of the queue."""
    return (mantra_published_cycles(top.origin, top.published)
            < mantra_published_cycles(held.origin, held.published))


cdef class Hop:
    """What the hops here have in common: a merge to read (and its tracker), a producer to write, a doorbell to wait at.

    `unknown` counts messages of instruments or books that this hop was not told of, `published` what it wrote.
    `feeds`: rows of the ledger by queue of the merge, where what was overwritten before it was read is counted.
    """

    def __init__(self, Merge merge not None, Producer output not None, Clock clock not None, Doorbell doorbell=None,
                 Vector tops=None):
        cdef uint64_t[SCRATCH] raw
        cdef mantra_consumer last
        cdef Queue queue
        if tops is not None and tops.format.name != "top":
            raise ValueError(f"a vector of {tops.format.name} is not one of tops")
        self.merge, self.output, self.clock, self.bell, self.tops = merge, output, clock, doorbell, tops
        self.waiting.ready = <mantra_ready>mantra_merge_ready
        self.waiting.what = &merge.merge
        self.waiting.looks = merge.merge.count
        self.feeds, self.told = [None] * len(merge.queues), [0] * len(merge.queues)
        self.idle = ADAPTED if doorbell is None else doorbell.idle
        for queue in merge.queues:      # who writes there? The last message tells.
            if mantra_produced(&queue.queue) > 0:
                last = mantra_consumer_at(&queue.queue, mantra_produced(&queue.queue) - 1, raw)
                if mantra_consume(&last, raw) == 1:
                    self.hear(raw)

    cdef int make_rows(self, uint32_t capacity) except -1:
        cdef uint32_t size = 16
        while size < 2 * capacity:
            size *= 2
        self.row_slots = <mantra_symbol *>calloc(size, sizeof(mantra_symbol))
        if self.row_slots is NULL:
            raise MemoryError
        mantra_symbols_init(&self.rows, self.row_slots, size)
        return 0

    def __dealloc__(self):
        free(self.row_slots)

    def step(self, int64_t budget_ns=0) -> int:
        """Work and wait for `budget_ns`, or until `wake`; 0: a batch of what waits. Returns messages read."""
        cdef uint64_t handled
        with nogil:
            handled = self.run(budget_ns)
        return handled

    def wake(self) -> None:
        """Make a waiting `step` return; from any thread."""
        mantra_doorbell_end(NULL if self.bell is None else self.bell.doorbell, &self.waiting)

    @property
    def lost(self) -> int:
        """Messages overwritten before they were read here."""
        return self.merge.lost

    cdef uint64_t run(self, int64_t budget_ns) noexcept nogil:
        cdef uint64_t handled = 0, drained
        cdef int64_t pause, left, deadline = mantra_monotonic_ns() + budget_ns
        while True:
            drained = self.drain()
            handled += drained
            pause = self.flush()
            left = deadline - mantra_monotonic_ns()
            if left <= 0 or mantra_waiting_over(&self.waiting):
                return handled
            if drained == AT_ONCE:
                continue
            mantra_doorbell_until(NULL if self.bell is None else self.bell.doorbell, &self.waiting, self.idle,
                                  pause if pause < left else left)

    cdef uint64_t drain(self) noexcept nogil:
        cdef uint64_t[SCRATCH] raw
        cdef int handled
        cdef uint32_t source = 0
        cdef int got
        cdef mantra_tracker *tracker = NULL if self.merge.tracker is None else &self.merge.tracker.tracker
        for handled in range(AT_ONCE):
            got = mantra_merge_next(&self.merge.merge, raw, &source)
            if got == 0:
                if tracker is not NULL:
                    mantra_tracker_idle(tracker)
                return handled
            if got < 0:
                with gil:       # rare
                    self.overrun(source)
                self.catch_up()
            else:
                if tracker is not NULL:
                    mantra_tracker_took(tracker, <mantra_source *>&self.merge.merge.sources[source].consumer, raw)
                self.hear(raw)
                self.take(raw, True)
        return AT_ONCE

    cdef void overrun(self, uint32_t source) noexcept:
        """Count in the feed's row what was overwritten before it was read here."""
        cdef uint64_t lost = self.merge.merge.sources[source].consumer.lost
        if self.feeds[source] is not None:
            mantra_ledger_add_shared((<Row>self.feeds[source]).row, MANTRA_COUNT_overruns,
                                     lost - <uint64_t>self.told[source])
        self.told[source] = lost

    cdef void hear(self, const void *message) noexcept nogil:
        cdef uint32_t publisher = mantra_publisher((<const mantra_top *>message).published)
        self.publishers[publisher >> 6] |= <uint64_t>1 << (publisher & 63)

    cdef void catch_up(self) noexcept nogil:
        """Take the newest tops of those who write the queues read here: at the start, and after messages were lost."""
        cdef mantra_top top
        cdef uint32_t slot, publisher
        if self.tops is None:
            return
        for slot in range(self.tops.vector.capacity):
            if mantra_vector_read(&self.tops.vector, slot, &top) != 0:
                publisher = mantra_publisher(top.published)
                if self.publishers[publisher >> 6] >> (publisher & 63) & 1:
                    self.take(&top, False)

    cdef void take(self, const void *message, bint live) noexcept nogil:
        """Use one message; not `live`: read from the vector, long after its first bytes came."""

    cdef int64_t flush(self) noexcept nogil:
        """Publish what is due; returns ns until more will be."""
        return 1_000_000_000


cdef class WorldMerger(Hop):
    """Venues' tops in, world views out: best bid and offer, or (`summed`) liquidity per price.

    merge        of queues of "top"
    output       a producer of "world"; `latest` a vector of "world" whose slots are those of `instruments`
    instruments  vector of "instrument": what the run knows, also what is added to it later
    tops         the run's newest tops: where a late start, or a lap, catches up (None: it does not)
    latency      histogram of ns from the first bytes at the socket to the published view
    least_trust  venues trusted less contribute nothing
    """

    def __init__(self, Merge merge not None, Producer output not None, Clock clock not None, *,
                 Vector instruments not None, Vector latest not None, Doorbell doorbell=None, Vector tops=None,
                 Histogram latency=None, uint8_t least_trust=MANTRA_UNVERIFIED, bint summed=False):
        for what, has, name in (("merge", merge.format, "top"), ("output", output.queue.format, "world"),
                                ("latest", latest.format, "world"), ("instruments", instruments.format, "instrument")):
            if has.name != name:
                raise ValueError(f"{what} carries {has.name}, not {name}")
        latest.writing()
        if latency is not None:
            latency.writing()
        super().__init__(merge, output, clock, doorbell, tops)
        self.instruments, self.latest, self.latency, self.least_trust = instruments, latest, latency, least_trust
        self.slots = min(instruments.vector.capacity, latest.vector.capacity)
        self.make_rows(self.slots)
        self.states = <mantra_world_state *>calloc(self.slots, sizeof(mantra_world_state))   # touched when used
        if self.states is NULL:
            raise MemoryError
        self.summed = summed
        with nogil:
            self.catch_up()

    def __dealloc__(self):
        free(self.states)

    cdef int64_t find(self, uint32_t instrument) noexcept nogil:
        """The slot of an instrument; -1 when the run does not know it."""
        cdef uint64_t[SCRATCH] raw
        cdef int64_t slot = _row(&self.rows, instrument)
        while slot < 0 and self.known < self.slots:
            if mantra_vector_read(&self.instruments.vector, self.known, raw) == 0:
                return -1
            _set_row(&self.rows, (<mantra_instrument *>raw).instrument, self.known)
            self.known += 1
            slot = _row(&self.rows, instrument)
        return slot

    cdef void take(self, const void *message, bint live) noexcept nogil:
        cdef const mantra_top *top = <const mantra_top *>message
        cdef mantra_world_state *state
        cdef mantra_world *view
        cdef int64_t slot = self.find(top.instrument)
        if slot < 0 or top.venue >= MANTRA_MAX_VENUES:
            self.unknown += 1
            return
        state = &self.states[slot]
        state.sum = self.summed
        if _older(top, &state.tops[top.venue]) or mantra_world_put(state, top, self.least_trust) == 0:
            return
        view = &state.view
        mantra_stamp(view, top.origin, mantra_clock_cycles(self.clock.clock), self.output.producer.publisher)
        mantra_vector_write(&self.latest.vector, <uint32_t>slot, view)
        mantra_produce(&self.output.producer, view)
        self.published += 1
        if self.bell is not None:
            mantra_doorbell_ring(self.bell.doorbell)
        if live and self.latency is not None and not top.flags & MANTRA_FROM_SNAPSHOT:
            mantra_histogram_record(self.latency.histogram, mantra_clock_ns(self.clock.clock, view.published >> 16))


cdef class Conflator(Hop):
    """Updates or tops in, tops out: of every book the newest, at most once in `interval_ns`.

    merge    of queues of "top", or of "update": then `books` are those books, and what is published is read from them,
             the state after some whole venue message, as anybody can read it
    output   a producer of "top"
    tops     as for WorldMerger
    """

    def __init__(self, Merge merge not None, Producer output not None, Clock clock not None, int64_t interval_ns, *,
                 books: Sequence[Book] = (), Doorbell doorbell=None, Vector tops=None, uint32_t most_books=8192):
        if merge.format.name not in ("top", "update"):
            raise ValueError(f"merge carries {merge.format.name}, not top or update")
        if output.queue.format.name != "top":
            raise ValueError(f"output carries {output.queue.format.name}, not top")
        if interval_ns < 0:
            raise ValueError(f"an interval of {interval_ns} ns")
        super().__init__(merge, output, clock, doorbell, tops)
        self.interval_ns, self.books = interval_ns, list(books) if merge.format.name == "update" else None
        self.capacity = most_books if self.books is None else len(self.books)
        self.make_rows(most_books)
        self.held = <Held *>calloc(self.capacity + 1, sizeof(Held))
        self.due = <uint32_t *>calloc(self.capacity + 1, sizeof(uint32_t))
        if self.held is NULL or self.due is NULL:
            raise MemoryError
        for book in self.books or ():
            self.held[self.count].book = &(<Book?>book).book
            self.count += 1
        with nogil:
            self.catch_up()

    def __dealloc__(self):
        free(self.held)
        free(self.due)

    cdef int64_t find(self, uint32_t instrument, uint8_t venue) noexcept nogil:
        """The row of a book; -1 when there is no such book, or no room for one more."""
        cdef uint64_t key = <uint64_t>instrument << 8 | venue
        cdef int64_t row = _row(&self.rows, key)
        cdef uint32_t i
        if row >= 0:
            return row
        if self.books is None:
            if self.count == self.capacity or not _set_row(&self.rows, key, self.count):
                return -1
            self.count += 1
            return self.count - 1
        for i in range(self.count):     # not met yet, or begun anew on another scale
            if book_key(self.held[i].book) == key:
                return i if _set_row(&self.rows, key, i) else -1
        return -1

    cdef void mark(self, uint32_t row) noexcept nogil:
        if not self.held[row].waiting:
            self.held[row].waiting = True
            self.due[self.due_count] = row
            self.due_count += 1

    cdef void catch_up(self) noexcept nogil:
        cdef uint32_t row
        if self.books is None:
            Hop.catch_up(self)
            return
        for row in range(self.count):
            self.mark(row)

    cdef void take(self, const void *message, bint live) noexcept nogil:
        cdef const mantra_top *top = <const mantra_top *>message
        cdef const mantra_update *update = <const mantra_update *>message
        cdef int64_t row
        if self.books is None:
            row = self.find(top.instrument, top.venue)
        else:
            row = self.find(update.instrument, update.venue)
        if row < 0:
            self.unknown += 1
            return
        if self.books is not None:
            self.held[row].origin = update.origin
        elif _older(top, &self.held[row].top):
            return
        else:
            self.held[row].top = top[0]
            self.held[row].origin = top.origin
        self.mark(<uint32_t>row)

    cdef int64_t flush(self) noexcept nogil:
        cdef uint64_t now = mantra_clock_cycles(self.clock.clock)
        cdef int64_t age, pause = Hop.flush(self)
        cdef uint32_t i = 0
        cdef mantra_top top
        cdef Held *held
        cdef uint64_t before = self.published
        while i < self.due_count:
            held = &self.held[self.due[i]]
            age = self.interval_ns if held.sent == 0 else <int64_t>mantra_clock_ns(self.clock.clock, now - held.sent)
            if age >= self.interval_ns and (held.book is NULL or mantra_top_read(&top, held.book, 64) == 0):
                if held.book is NULL:
                    top = held.top
                mantra_stamp(&top, held.origin, now, self.output.producer.publisher)
                mantra_produce(&self.output.producer, &top)
                self.published += 1
                held.sent, held.waiting = now, False
                self.due_count -= 1
                self.due[i] = self.due[self.due_count]
                continue
            pause = min(pause, max(self.interval_ns - age, 20_000))   # at the least: its book is being written
            i += 1
        if self.published != before and self.bell is not None:
            mantra_doorbell_ring(self.bell.doorbell)
        return pause
