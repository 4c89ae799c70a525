"""seqlock: one payload, one writer, readers that retry (csrc/mantra/seqlock.h)."""
from libc.stdint cimport uint64_t

cdef extern from "mantra/seqlock.h" nogil:
    ctypedef struct mantra_seqlock:
        pass
    void mantra_seqlock_begin(mantra_seqlock *lock)
    void mantra_seqlock_end(mantra_seqlock *lock)
    void mantra_seqlock_write(mantra_seqlock *lock, const void *payload, size_t words)
    uint64_t mantra_seqlock_look(const mantra_seqlock *lock)
    bint mantra_seqlock_unchanged(const mantra_seqlock *lock, uint64_t seen)
    uint64_t mantra_seqlock_read(const mantra_seqlock *lock, void *payload, size_t words)
