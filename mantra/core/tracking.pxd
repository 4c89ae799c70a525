"""tracking: when a message's first bytes arrived, when it was published, by whom; and where time went (tracking.h)."""
from libc.stdint cimport uint16_t, uint32_t, uint64_t

from mantra.core.clock cimport Clock, mantra_clock

cdef extern from "mantra/tracking.h" nogil:
    ctypedef struct mantra_timings "mantra_producer":     # mantra.core.queue cimports from here, not the other way
        pass
    ctypedef struct mantra_source "mantra_consumer":
        pass

    ctypedef struct mantra_tracker:
        const mantra_clock *clock
        mantra_timings *timings
        uint64_t origin
        uint16_t actor

    uint64_t mantra_published_cycles(uint64_t origin, uint64_t published)
    uint16_t mantra_publisher(uint64_t published)
    void mantra_stamp(void *message, uint64_t origin, uint64_t now, uint16_t publisher)
    void mantra_tracker_consumed_many(mantra_tracker *tracker, const void *message, uint16_t queue, uint64_t position,
                                      uint32_t count)
    void mantra_tracker_took(mantra_tracker *tracker, const mantra_source *consumer, const void *message)
    void mantra_tracker_idle(mantra_tracker *tracker)
    void mantra_tracker_rest(mantra_tracker *tracker)
    void mantra_tracker_stamp(const mantra_tracker *tracker, void *message)


cdef class Tracker:
    cdef mantra_tracker tracker
    cdef readonly Clock clock
    cdef readonly object timings    # the Queue, or None
    cdef object producer
