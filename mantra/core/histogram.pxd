from libc.stdint cimport uint32_t, uint64_t

from mantra.core.region cimport Shared


cdef extern from "mantra/histogram.h" nogil:
    size_t MANTRA_HISTOGRAM_BYTES
    uint32_t MANTRA_HISTOGRAM_BUCKETS

    ctypedef struct mantra_histogram:
        uint64_t count, sum, max, min
        uint64_t counts[]

    uint64_t mantra_histogram_value(uint32_t bucket)
    void mantra_histogram_record(mantra_histogram *histogram, uint64_t ns)
    void mantra_histogram_merge(mantra_histogram *into, const mantra_histogram *source)
    void mantra_histogram_subtract(mantra_histogram *later, const mantra_histogram *earlier)
    uint64_t mantra_histogram_quantile(const mantra_histogram *histogram, double fraction)


cdef class Histogram(Shared):
    cdef mantra_histogram *histogram   # valid as long as this object lives
