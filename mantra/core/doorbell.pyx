"""doorbell: sleep until something was published, or 1 ms; producers pay a fence while nobody sleeps."""
import time

cimport cython
from cpython.exc cimport PyErr_CheckSignals

from mantra.core.region cimport Region

cdef extern from *:
    """
    /* Spinning helps only where the producer can run meanwhile: never on one CPU, briefly on a few. */
    #include <unistd.h>
    static uint32_t mantra_doorbell_spins(void)
    {
        long cpus = sysconf(_SC_NPROCESSORS_ONLN);
        return cpus < 2 ? 0 : cpus < 4 ? 200 : 2000;
    }
    """
    uint32_t mantra_doorbell_spins() nogil

cdef uint32_t _SPINS = mantra_doorbell_spins()
SPINS = _SPINS


@cython.no_gc
cdef class Doorbell(Shared):
    """One bell for all the queues of a run. Producers ring after a batch; `wait` sleeps without the GIL."""

    def __cinit__(self, Region region):
        self.doorbell = <mantra_doorbell *>region.payload()

    @staticmethod
    def create(name: str | None = None) -> Doorbell:
        """Make one (name None: for this process only). RegionError if it cannot be."""
        return Doorbell(Region.create(name, sizeof(mantra_doorbell), kind="doorbell"))

    @staticmethod
    def open(name: str) -> Doorbell:
        """Open one for ringing and waiting. RegionError, LayoutMismatch."""
        return Doorbell(Region.open(name, kind="doorbell", write=True))

    def ring(self) -> None:
        """Wake whoever waits."""
        mantra_doorbell_ring(self.doorbell)

    def seen(self) -> int:
        """Arm the bell; look at the queues once more, then `wait(timeout, seen)`: no ring in between is missed."""
        return mantra_doorbell_seen(self.doorbell)

    def wait(self, timeout: float = 0.001, seen: int | None = None) -> None:
        """Sleep until rung (since `seen`), or `timeout` seconds, or 1 ms. Spurious returns happen: look, then wait again."""
        cdef int64_t timeout_ns = int(timeout * 1e9)
        cdef uint32_t since = mantra_doorbell_seen(self.doorbell) if seen is None else seen
        with nogil:
            mantra_doorbell_wait(self.doorbell, since, timeout_ns)


cdef bint wait_until(Doorbell bell, mantra_ready ready, const void *what, object timeout) except -1:
    """ready(what) within `timeout` seconds (None: for ever)? No GIL while waiting; signals are handled every 50 ms."""
    cdef mantra_doorbell *doorbell = NULL if bell is None else bell.doorbell
    cdef int64_t slice_ns
    cdef bint is_ready
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        left = 0.05 if deadline is None else deadline - time.monotonic()
        slice_ns = int(min(max(left, 0.0), 0.05) * 1e9)
        with nogil:
            is_ready = mantra_doorbell_until(doorbell, ready, what, _SPINS, slice_ns)
        if is_ready or left <= 0:
            return is_ready
        PyErr_CheckSignals()
