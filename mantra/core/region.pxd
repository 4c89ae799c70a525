"""region: named shared memory (csrc/mantra/region.h)."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef extern from "mantra/region.h" nogil:
    enum: MANTRA_REGION_ERROR, MANTRA_REGION_VERSION

    ctypedef struct mantra_region_header:
        uint32_t version
        uint64_t owner, ceiling, fingerprint, slot_bytes, capacity
        char *kind
        char *layout

    ctypedef struct mantra_region:
        size_t ceiling
        int fd
        bint writable
        char *name

    ctypedef struct mantra_region_spec:
        const char *kind
        const char *layout
        uint64_t fingerprint, slot_bytes, capacity
        const void *first
        size_t first_bytes

    mantra_region_header *mantra_region_head(const mantra_region *region)
    const char *mantra_region_directory
    uint8_t *mantra_region_payload(const mantra_region *region)
    size_t mantra_region_backed(const mantra_region_header *header)
    int mantra_region_create(mantra_region *region, const char *name, size_t size, size_t ceiling,
                             const mantra_region_spec *spec, char *error)
    int mantra_region_open(mantra_region *region, const char *name, bint writable, char *error)
    int mantra_region_grow(mantra_region *region, size_t payload_bytes)
    int mantra_region_unlink(const mantra_region *region)
    void mantra_region_close(mantra_region *region)
    int mantra_region_peek(const char *path, int access, mantra_region_header *header)
    int mantra_region_bury(const char *path)
    bint mantra_process_alive(uint64_t identity)
    uint64_t mantra_process_identity(uint32_t pid)
    uint64_t mantra_process_self()


cdef class Region:
    cdef mantra_region region
    cdef uint8_t *payload(self) noexcept nogil
    cdef mantra_region_header *header(self) noexcept nogil

cdef class Shared:
    cdef readonly Region region
    cdef int writing(self) except -1
