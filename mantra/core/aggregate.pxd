"""aggregate: actors of the data path that read many queues and write one (csrc/mantra/world.h, top.h)."""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from mantra.core.book cimport mantra_book
from mantra.core.clock cimport Clock
from mantra.core.decode cimport mantra_symbol, mantra_symbols
from mantra.core.doorbell cimport Doorbell, mantra_idle, mantra_waiting
from mantra.core.histogram cimport Histogram
from mantra.core.merge cimport Merge
from mantra.core.messages cimport mantra_top, mantra_world
from mantra.core.queue cimport Producer
from mantra.core.vector cimport Vector


cdef extern from "mantra/world.h" nogil:
    ctypedef struct mantra_world_state:
        mantra_world view
        bint sum
        mantra_top *tops

    uint32_t mantra_world_put(mantra_world_state *state, const mantra_top *top, uint8_t least_trust)


cdef class Hop:
    cdef Merge merge
    cdef Producer output
    cdef Clock clock
    cdef Doorbell bell
    cdef Vector tops
    cdef mantra_waiting waiting
    cdef mantra_symbols rows         # of instruments, or books, by their numbers; at most half full
    cdef mantra_symbol *row_slots
    cdef uint64_t[1024] publishers   # bit p: publisher p was heard on the queues read here
    cdef mantra_idle idle
    cdef readonly uint64_t unknown, published
    cdef public list feeds           # by queue of the merge: the ledger row of who writes it, or None
    cdef list told                   # what was lost of each when it was counted there
    cdef void overrun(self, uint32_t source) noexcept
    cdef int make_rows(self, uint32_t capacity) except -1
    cdef uint64_t run(self, int64_t budget_ns) noexcept nogil
    cdef uint64_t drain(self) noexcept nogil
    cdef void hear(self, const void *message) noexcept nogil
    cdef void catch_up(self) noexcept nogil
    cdef void take(self, const void *message, bint live) noexcept nogil
    cdef int64_t flush(self) noexcept nogil


cdef class WorldMerger(Hop):
    cdef Vector instruments, latest
    cdef Histogram latency
    cdef mantra_world_state *states
    cdef uint32_t slots, known       # instruments there may be; rows of `instruments` read
    cdef uint8_t least_trust
    cdef bint summed
    cdef int64_t find(self, uint32_t instrument) noexcept nogil


cdef struct Held:              # one book of a conflator
    mantra_top top
    uint64_t sent, origin      # cycles; 0: never sent
    const mantra_book *book    # NULL: `top` is published; else this book's
    bint waiting


cdef class Conflator(Hop):
    cdef int64_t interval_ns
    cdef list books            # None: tops are read
    cdef Held *held
    cdef uint32_t *due         # rows that wait to be published
    cdef uint32_t due_count, count, capacity
    cdef int64_t find(self, uint32_t instrument, uint8_t venue) noexcept nogil
    cdef void mark(self, uint32_t row) noexcept nogil
