"""pack: messages of one stream as a block: columns, each coded by what it is (csrc/mantra/pack.h)."""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from mantra.core.messages cimport mantra_layout

cdef extern from "mantra/pack.h" nogil:
    enum:
        MANTRA_PACK_COLUMNS
        MANTRA_PACK_MOST
        MANTRA_PACK_LOW
        MANTRA_PACK_RANK
        MANTRA_PACK_OFFSET
        MANTRA_COLUMN_SLACK

    ctypedef struct mantra_column:
        uint8_t *data
        size_t size

    ctypedef struct mantra_pack_source:
        uint32_t feed, publisher, venue, instrument, rows, messages, images

    ctypedef struct mantra_pack_image:
        uint16_t feed
        uint8_t venue, trust, reason
        uint32_t instrument, generation
        uint64_t position, sequence
        int64_t trust_since_ns, venue_time_ns
        uint32_t[2] count
        uint32_t before
        int64_t (*levels)[2]

    ctypedef struct mantra_pack_run:
        uint64_t position
        uint32_t first, count
        uint16_t feed

    ctypedef struct mantra_block:
        uint32_t messages, rows, sources, images, image_levels, columns
        uint64_t first
        mantra_column[MANTRA_PACK_COLUMNS] column
        uint8_t[MANTRA_PACK_COLUMNS] unit
        uint8_t[MANTRA_PACK_COLUMNS] plain

    ctypedef struct mantra_pack_input:
        const uint8_t *messages
        const mantra_pack_run *runs
        const mantra_pack_image *images
        uint32_t run_count, image_count, message_count
        const mantra_layout *layout

    ctypedef struct mantra_unpacked:
        uint8_t *messages
        uint16_t *feeds
        uint64_t *positions
        mantra_pack_image *images
        int64_t (*levels)[2]

    void mantra_pack_free(mantra_block *block)
    int mantra_pack(const mantra_pack_input *input, mantra_block *block)
    int mantra_unpack(const mantra_block *block, const mantra_layout *layout, mantra_unpacked *to)
    bint mantra_unpack_sources(const mantra_block *block, mantra_pack_source *sources)
    uint32_t mantra_pack_columns_of(const mantra_layout *layout)


cdef class Packer:
    cdef readonly str message
    cdef readonly uint32_t most
    cdef readonly uint32_t count
    cdef readonly uint64_t first, last
    cdef const mantra_layout *layout
    cdef object dtype, compressor
    cdef uint8_t *held
    cdef mantra_pack_run *runs
    cdef mantra_pack_image *images
    cdef uint32_t run_count, run_room, image_count, image_room
    cdef list levels
    cdef uint32_t level_count
