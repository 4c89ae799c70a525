"""audience: who reads a playback, and how far each has come (csrc/mantra/audience.h)."""
from libc.stdint cimport uint16_t, uint64_t

from mantra.core.region cimport Shared

cdef extern from "mantra/audience.h" nogil:
    ctypedef struct mantra_seat:
        uint64_t identity, queue, position

    ctypedef struct mantra_audience:
        uint64_t used
        mantra_seat *seats

    mantra_seat *mantra_audience_join(mantra_audience *audience, uint16_t queue)
    void mantra_audience_leave(mantra_seat *seat)


cdef class Audience

cdef class Seat:
    cdef Audience audience
    cdef mantra_seat *seat


cdef class Audience(Shared):
    cdef mantra_audience *audience
    cdef Seat join(self, uint16_t queue)
