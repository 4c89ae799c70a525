from libc.stdint cimport int64_t, uint64_t

from mantra.core.region cimport Region


cdef extern from "mantra/clock.h" nogil:
    enum: MANTRA_CLOCK_CYCLES, MANTRA_CLOCK_OS, MANTRA_CLOCK_VIRTUAL

    ctypedef struct mantra_clock:
        uint64_t kind

    ctypedef struct mantra_clock_state:
        int64_t drift_ppb, step_ns, stepped_utc_ns
        uint64_t steps

    int64_t mantra_monotonic_ns()
    bint mantra_cycles_invariant()
    uint64_t mantra_clock_cycles(const mantra_clock *clock)
    uint64_t mantra_clock_ns(const mantra_clock *clock, uint64_t cycle_span)
    int64_t mantra_clock_utc_ns(const mantra_clock *clock, uint64_t cycles)
    int64_t mantra_clock_error_ns(const mantra_clock *clock, uint64_t cycles)
    mantra_clock_state mantra_clock_look(const mantra_clock *clock)
    int64_t mantra_clock_steer(mantra_clock *clock)
    void mantra_clock_begin(mantra_clock *clock)
    void mantra_clock_start(mantra_clock *clock, uint64_t kind, int64_t settle_ns)
    void mantra_clock_start_virtual(mantra_clock *clock, int64_t utc_ns)
    void mantra_clock_advance_to(mantra_clock *clock, int64_t utc_ns)
    void mantra_clock_set(mantra_clock *clock, int64_t utc_ns)


cdef class Clock:
    cdef mantra_clock *clock   # the page: valid as long as this object lives, but `publish` moves it
    cdef mantra_clock page
    cdef readonly object region   # None: private
    cdef list published           # every region ever used: somebody may still hold its page
    cdef bint writable
    cdef int must_be_writable(self) except -1
