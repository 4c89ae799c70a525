"""meter: what user code counts, measures and times of its own, in a line or a histogram of shared memory each."""
cimport cython
from libc.stdint cimport uint64_t

from mantra.core.clock cimport Clock, mantra_clock_cycles, mantra_clock_ns
from mantra.core.histogram cimport Histogram, mantra_histogram_record
from mantra.core.region cimport Region


@cython.no_gc
cdef class Meter(Shared):
    """Base of the two that hold a number: written in one process, read by everybody."""

    def __cinit__(self, Region region):
        self.meter = <mantra_meter *>region.payload()

    @classmethod
    def create(cls, name: str | None = None) -> Self:
        """One at 0 in shared memory, or private without a name. RegionError."""
        kind = cls.__name__.lower()
        return cls(Region.create(name, sizeof(mantra_meter), kind=kind, layout=f"{kind}: 8 bytes", fingerprint=1,
                                 slot_bytes=sizeof(mantra_meter), capacity=1))

    @classmethod
    def open(cls, name: str) -> Self:
        """Read another process's. RegionError: there is none; LayoutMismatch."""
        return cls(Region.open(name, kind=cls.__name__.lower(), fingerprint=1))


@cython.no_gc
cdef class Counter(Meter):
    """Counts up."""

    def add(self, uint64_t n = 1) -> None:
        """Count `n` more."""
        self.writing()
        mantra_meter_add(self.meter, n)

    @property
    def value(self) -> int:
        """The count."""
        return mantra_meter_count(self.meter)


@cython.no_gc
cdef class Gauge(Meter):
    """A float that goes up and down."""

    def set(self, double value) -> None:
        """It is `value` now."""
        self.writing()
        mantra_meter_set(self.meter, value)

    @property
    def value(self) -> float:
        """As last set."""
        return mantra_meter_value(self.meter)


cdef class Timer:
    """`with timer: ...` counts the nanoseconds between in `histogram`, also when the block raises. One thread, not nested."""

    def __init__(self, Clock clock not None, Histogram histogram not None):
        histogram.writing()
        self.clock, self.histogram = clock, histogram

    def __enter__(self) -> Timer:
        self.began = mantra_clock_cycles(self.clock.clock)
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        mantra_histogram_record(self.histogram.histogram,
                                mantra_clock_ns(self.clock.clock, mantra_clock_cycles(self.clock.clock) - self.began))

    def record(self, uint64_t ns) -> None:
        """Count a span measured otherwise, in nanoseconds."""
        mantra_histogram_record(self.histogram.histogram, ns)
