"""merge: many queues of one message, read as one (csrc/mantra/merge.h)."""
from libc.stdint cimport uint32_t, uint64_t

from mantra.core.doorbell cimport Doorbell, Waiter
from mantra.core.messages cimport Format
from mantra.core.queue cimport mantra_consumer
from mantra.core.tracking cimport Tracker

cdef extern from "mantra/merge.h" nogil:
    ctypedef struct mantra_merge_source:
        mantra_consumer consumer
        bint holds

    ctypedef struct mantra_merge:
        mantra_merge_source *sources
        uint32_t count

    mantra_merge mantra_merge_of(mantra_merge_source *sources, uint32_t count)
    int mantra_merge_next(mantra_merge *merge, void *message, uint32_t *source)
    bint mantra_merge_ready(void *merge) noexcept


cdef struct Taken:      # in one batch, of one queue: which was the first
    uint32_t first, count


cdef class Merge(Waiter):
    cdef mantra_merge merge
    cdef Taken *taken
    cdef list seats                     # of its sources, where it is waited for
    cdef readonly Format format
    cdef readonly list queues
    cdef readonly Tracker tracker
    cdef bint raises
    cdef uint64_t told
    cdef int take(self, void *raw, uint32_t *source) except -2
