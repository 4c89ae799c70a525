"""meter: counters, gauges and timers of a user's own (csrc/mantra/meter.h)."""
from libc.stdint cimport uint64_t

from mantra.core.clock cimport Clock
from mantra.core.histogram cimport Histogram
from mantra.core.region cimport Shared

cdef extern from "mantra/meter.h" nogil:
    ctypedef struct mantra_meter:
        pass

    uint64_t mantra_meter_count(const mantra_meter *meter)
    void mantra_meter_add(mantra_meter *meter, uint64_t n)
    double mantra_meter_value(const mantra_meter *meter)
    void mantra_meter_set(mantra_meter *meter, double value)


cdef class Meter(Shared):
    cdef mantra_meter *meter

cdef class Counter(Meter):
    pass

cdef class Gauge(Meter):
    pass

cdef class Timer:
    cdef readonly Histogram histogram
    cdef Clock clock
    cdef uint64_t began
