"""doorbell: sleep until something was published, or 1 ms; producers pay a fence while nobody sleeps."""
import os
import time

cimport cython
from cpython.exc cimport PyErr_CheckSignals

from mantra.core.region cimport Region

# Spinning helps only where the producer can run meanwhile: never on one CPU, briefly on a few. Then park at once: from
# Linux 6.18 a yield forfeits a slice, and who yielded four times beside a busy thread woke 1,045 us late, else 23.
_CPUS = len(os.sched_getaffinity(0))
cdef mantra_idle ADAPTED = mantra_idle(0 if _CPUS < 2 else 200 if _CPUS < 4 else 2000, 0)
IDLING = ("spin", "yield", "park", "adapt")


@cython.no_gc
cdef class Doorbell(Shared):
    """One bell for all the queues of a run. Producers ring after a batch; `wait` sleeps without the GIL."""

    def __cinit__(self, Region region):
        self.doorbell = <mantra_doorbell *>region.payload()
        self.idle_by("adapt")

    def to_idle(self, strategy: str) -> Doorbell:
        """The same bell for one who waits in his own way, by one of IDLING; "adapt", the default, to the CPUs there are.

        "spin" and "yield" never sleep: for who has a core to himself. What a waiter does is in `idling`, in words."""
        cdef Doorbell bell = Doorbell(self.region)
        bell.idle_by(strategy)
        return bell

    cdef int idle_by(self, str strategy) except -1:
        if strategy not in IDLING:
            raise ValueError(f"no way to idle is called {strategy!r}: there are {', '.join(IDLING)}")
        self.idle = ADAPTED if strategy == "adapt" else mantra_idle(
            MANTRA_ALWAYS if strategy == "spin" else 0, MANTRA_ALWAYS if strategy == "yield" else 0)
        self.idling = strategy if strategy != "adapt" else (
            f"adapt to {_CPUS} CPUs: {ADAPTED.spins} spins, then park")
        return 0

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


@cython.no_gc
cdef class Waiter:
    """Base of what waits for messages: for `waiting.ready`, at `bell`."""

    cdef mantra_doorbell *doorbell(self) noexcept nogil:
        return NULL if self.bell is None else self.bell.doorbell

    def wait(self, timeout: float | None = None) -> bool:
        """True as soon as something can be read; False after `timeout` seconds (None: for ever), or when `wake` was called.

        It idles as its doorbell says (spin, yield, park; without one: short sleeps), without the GIL; Ctrl-C works."""
        cdef mantra_idle idle = ADAPTED if self.bell is None else self.bell.idle
        cdef int64_t slice_ns
        cdef bint done
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = 0.05 if deadline is None else deadline - time.monotonic()
            slice_ns = int(min(max(left, 0.0), 0.05) * 1e9)
            with nogil:
                done = mantra_doorbell_until(self.doorbell(), &self.waiting, idle, slice_ns)
            if done or left <= 0:
                return not mantra_waiting_over(&self.waiting) and done
            PyErr_CheckSignals()

    def wake(self) -> None:
        """End a `wait`, this one or the next; from any thread."""
        mantra_doorbell_end(self.doorbell(), &self.waiting)
