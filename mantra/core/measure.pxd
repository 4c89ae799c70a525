"""measure: what crossing between cores, producing and consuming cost."""
from libc.stdint cimport uint64_t

from mantra.core.clock cimport Clock
from mantra.core.histogram cimport Histogram
from mantra.core.messages cimport SCRATCH
from mantra.core.queue cimport Consumer, Producer
from mantra.core.region cimport Shared
from mantra.core.vector cimport Vector


cdef class Course(Shared):
    cdef uint64_t *words        # of cache lines; valid as long as this object lives

cdef class Side:
    cdef uint64_t *words
    cdef uint64_t[SCRATCH] message
    cdef bint asks
    cdef uint64_t done, read    # round trips so far, alike on both sides; the version that came last through a vector
    cdef uint64_t stamp         # cycles that a stamp takes
    cdef readonly Course course
    cdef readonly Clock clock
    cdef Producer producer      # the ends in hand
    cdef Consumer consumer
    cdef Vector writes, reads
    cdef uint64_t *line(self, int way, bint ping) noexcept nogil
    cdef void send(self, int way, uint64_t number) noexcept nogil
    cdef int receive(self, int way, uint64_t number) noexcept nogil
    cdef int cross(self, int way, uint64_t rounds, Histogram into) except -1
