"""tracking: when a message's first bytes arrived, when it was published, by whom (csrc/mantra/tracking.h)."""
from libc.stdint cimport uint16_t, uint64_t

cdef extern from "mantra/tracking.h" nogil:
    uint64_t mantra_published_cycles(uint64_t origin, uint64_t published)
    uint16_t mantra_publisher(uint64_t published)
    void mantra_stamp(void *message, uint64_t origin, uint64_t now, uint16_t publisher)
