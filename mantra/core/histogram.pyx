"""histogram: latencies in nanoseconds to three digits, in 128 KiB whatever is recorded."""
cimport cython
import numpy

from libc.stdint cimport UINT64_MAX

from mantra.core.region cimport Region

_LAYOUT = {"kind": "histogram", "layout": "count sum max min counts[16384]: 1 ns to 1,024, then 512 an octave to 2^40",
           "fingerprint": 1, "slot_bytes": 8, "capacity": MANTRA_HISTOGRAM_BUCKETS}


@cython.no_gc
cdef class Histogram(Shared):
    """Counts of nanoseconds; one writer, any number of readers. What is read is exact to one part in 1,024."""

    def __cinit__(self, Region region):
        self.histogram = <mantra_histogram *>region.payload()

    @staticmethod
    def create(str name = None) -> Histogram:
        """An empty histogram in shared memory, or in private memory without a name. RegionError."""
        return Histogram(Region.create(name, MANTRA_HISTOGRAM_BYTES, **_LAYOUT))

    @staticmethod
    def open(str name not None) -> Histogram:
        """Read another process's histogram. RegionError: there is none; LayoutMismatch."""
        return Histogram(Region.open(name, kind=_LAYOUT["kind"], fingerprint=_LAYOUT["fingerprint"],
                                     size=MANTRA_HISTOGRAM_BYTES))

    def record(self, uint64_t ns) -> None:
        """Count one value."""
        self.writing()
        mantra_histogram_record(self.histogram, ns)

    def record_many(self, const uint64_t[::1] ns) -> None:
        """Count every value of `ns`, a contiguous array of uint64, without the GIL. TypeError, ValueError: it is not."""
        cdef Py_ssize_t i
        self.writing()
        with nogil:
            for i in range(ns.shape[0]):
                mantra_histogram_record(self.histogram, ns[i])

    def buckets(self) -> tuple[NDArray[numpy.uint64], NDArray[numpy.uint64]]:
        """What was counted, least first: the values (ns, each the middle of its bucket) and how many of each; copies."""
        cdef uint64_t[::1] values, counts
        cdef uint64_t n
        cdef uint32_t i, used = 0
        both = numpy.empty((2, MANTRA_HISTOGRAM_BUCKETS), numpy.uint64)
        values, counts = both
        with nogil:
            for i in range(MANTRA_HISTOGRAM_BUCKETS):
                n = self.histogram.counts[i]
                if n:
                    values[used], counts[used] = mantra_histogram_value(i), n
                    used += 1
        return both[0, :used], both[1, :used]

    def percentile(self, double percent) -> int:
        """The value, in ns, that `percent` (0 to 100) of all are not above; 0 when nothing was recorded."""
        if not 0 <= percent <= 100:
            raise ValueError(f"percentile {percent} is not between 0 and 100")
        return mantra_histogram_quantile(self.histogram, percent / 100)

    @property
    def count(self) -> int:
        """How many values."""
        return self.histogram.count

    @property
    def max(self) -> int:
        """The largest, exactly; 0 when empty."""
        return self.histogram.max

    @property
    def min(self) -> int:
        """The least, exactly; 0 when empty."""
        return UINT64_MAX - self.histogram.min if self.histogram.count else 0

    @property
    def mean(self) -> float:
        """Their mean; 0.0 when empty."""
        cdef uint64_t count = self.histogram.count
        return <double>self.histogram.sum / <double>count if count else 0.0

    def merge(self, Histogram other not None) -> None:
        """Add everything that `other` counted; the caller is this one's only writer."""
        self.writing()
        mantra_histogram_merge(self.histogram, other.histogram)

    def copy(self) -> Histogram:
        """A private copy of this moment, to compare with later."""
        cdef Histogram copy = Histogram.create()
        mantra_histogram_merge(copy.histogram, self.histogram)
        return copy

    def since(self, Histogram earlier not None) -> Histogram:
        """What was recorded after `earlier`, a copy of this same histogram; max and min to bucket precision."""
        cdef Histogram later = self.copy()
        mantra_histogram_subtract(later.histogram, earlier.histogram)
        return later

    def __repr__(self) -> str:
        return (f"Histogram({self.count}: p50 {self.percentile(50)} ns, p99 {self.percentile(99)} ns, "
                f"p99.9 {self.percentile(99.9)} ns, max {self.max} ns)")
