"""vector: the latest value of a message, slot by slot (csrc/mantra/vector.h)."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from mantra.core.messages cimport Format
from mantra.core.region cimport Shared

cdef extern from "mantra/vector.h" nogil:
    ctypedef struct mantra_vector_header:
        uint32_t many

    ctypedef struct mantra_vector:
        mantra_vector_header *header
        uint16_t writer
        uint32_t capacity, slot_bytes, words
    size_t mantra_vector_bytes(uint32_t capacity, uint32_t slot_bytes)
    mantra_vector mantra_vector_attach(uint8_t *memory, uint32_t capacity, uint32_t slot_bytes)
    int mantra_vector_join(mantra_vector *vector)
    void mantra_vector_leave(mantra_vector *vector)
    uint64_t mantra_vector_version(const mantra_vector *vector, uint32_t slot)
    void mantra_vector_write(mantra_vector *vector, uint32_t slot, const void *message)
    uint64_t mantra_vector_read(const mantra_vector *vector, uint32_t slot, void *message)


cdef class Vector(Shared):
    cdef mantra_vector vector
    cdef readonly Format format
    cdef bint joined
    cdef uint32_t check(self, object slot) except? 0xFFFFFFFF
