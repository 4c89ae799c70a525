"""gather: many queues of one message, taken as they come (csrc/mantra/gather.h)."""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from mantra.core.messages cimport Format
from mantra.core.queue cimport mantra_consumer
from mantra.core.tracking cimport Tracker

cdef extern from "mantra/gather.h" nogil:
    size_t mantra_gather_run(mantra_consumer *consumer, void *messages, size_t room, uint64_t *position)
    ctypedef struct mantra_gather:
        mantra_consumer *consumers
        uint32_t count

    bint mantra_gather_wait(const mantra_gather *gathers, size_t count, int64_t timeout_ns, int64_t tick_ns)


cdef struct Run:
    uint64_t position
    uint32_t source, count


cdef class Gather:
    cdef mantra_consumer *consumers
    cdef Run *runs
    cdef uint32_t count, room, next
    cdef readonly Format format
    cdef readonly uint64_t lost
    cdef list sources           # of each queue: the caller's number of it, itself, its row or None, how many were
                                # lost, the position that comes next
    cdef object messages
    cdef Tracker tracker
