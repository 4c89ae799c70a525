"""doorbell: one futex word per run (csrc/mantra/doorbell.h)."""
from libc.stdint cimport int64_t, uint32_t

from mantra.core.region cimport Shared

cdef extern from "mantra/doorbell.h" nogil:
    ctypedef struct mantra_doorbell:
        pass
    const uint32_t MANTRA_ALWAYS
    ctypedef struct mantra_idle:
        uint32_t spins, yields
    ctypedef bint (*mantra_ready)(void *what) noexcept nogil
    ctypedef struct mantra_waiting:
        mantra_ready ready
        void *what
        uint32_t looks
    void mantra_doorbell_ring(mantra_doorbell *bell)
    uint32_t mantra_doorbell_seen(mantra_doorbell *bell)
    void mantra_doorbell_wait(mantra_doorbell *bell, uint32_t seen, int64_t timeout_ns)
    void mantra_doorbell_end(mantra_doorbell *bell, mantra_waiting *waiting)
    bint mantra_waiting_over(mantra_waiting *waiting)
    bint mantra_doorbell_until(mantra_doorbell *bell, mantra_waiting *waiting, mantra_idle idle, int64_t timeout_ns)


cdef class Doorbell(Shared):
    cdef mantra_doorbell *doorbell
    cdef mantra_idle idle
    cdef readonly str idling
    cdef int idle_by(self, str strategy) except -1

cdef mantra_idle ADAPTED

cdef class Waiter:
    cdef mantra_waiting waiting
    cdef readonly Doorbell bell
    cdef mantra_doorbell *doorbell(self) noexcept nogil
