from libc.stdint cimport int64_t, uint32_t, uint64_t

from mantra.core.region cimport Shared


cdef extern from "mantra/ledger.h" nogil:
    enum: MANTRA_COUNT_state, MANTRA_COUNT_state_since_utc_ns, MANTRA_COUNTERS, MANTRA_FEED_OFF
    enum: MANTRA_FEED_CONNECTING, MANTRA_FEED_SUBSCRIBING, MANTRA_FEED_SYNCHRONISING, MANTRA_FEED_LIVE
    enum: MANTRA_FEED_WAITING, MANTRA_FEED_REFUSED, MANTRA_LEDGER_NAME
    enum: MANTRA_COUNT_overruns, MANTRA_COUNT_unwritten, MANTRA_COUNT_audits, MANTRA_COUNT_audited, MANTRA_COUNT_agreed

    ctypedef struct mantra_ledger_row:
        char *name
        uint32_t venue, feed, instrument

    ctypedef struct mantra_ledger:
        uint64_t capacity
        mantra_ledger_row *rows

    size_t mantra_ledger_bytes(uint64_t rows)
    const char *mantra_counter_name(uint32_t counter)
    const char *mantra_counter_text(uint32_t counter)
    void mantra_ledger_add(mantra_ledger_row *row, uint32_t counter, uint64_t n)
    void mantra_ledger_add_shared(mantra_ledger_row *row, uint32_t counter, uint64_t n)
    void mantra_ledger_set(mantra_ledger_row *row, uint32_t counter, uint64_t value)
    uint64_t mantra_ledger_get(const mantra_ledger_row *row, uint32_t counter)
    uint64_t mantra_ledger_used(const mantra_ledger *ledger)
    void mantra_ledger_copy(const mantra_ledger *ledger, uint64_t rows, void *out)
    void mantra_ledger_assign(mantra_ledger_row *row, uint32_t feed, uint32_t instrument)
    mantra_ledger_row *mantra_ledger_claim(mantra_ledger *ledger, const char *name, size_t name_bytes, uint32_t venue,
                                           uint32_t feed, uint32_t instrument)


cdef class Row


cdef class Ledger(Shared):
    cdef mantra_ledger *ledger
    cdef dict index                # of the rows made here, by name
    cdef Row _row(self, uint64_t index)


cdef class Row:
    cdef Ledger owner              # keeps the memory
    cdef mantra_ledger_row *row    # valid as long as this object lives
