"""book: L2 ladders that other processes may read while they change (csrc/mantra/book.h, top.h)."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from mantra.core.messages cimport mantra_top
from mantra.core.region cimport Shared


cdef extern from "mantra/book.h" nogil:
    enum: MANTRA_BOOK_CEILING, MANTRA_BOOK_START, MANTRA_BOOK_SAME, MANTRA_BOOK_ABSENT
    const char *MANTRA_BOOK_LAYOUT

    ctypedef struct mantra_change:
        int64_t price, size
        uint8_t kind

    ctypedef struct mantra_book_header:
        pass

    ctypedef struct mantra_book:
        mantra_book_header *header
        int (*back)(void *owner, size_t bytes) noexcept nogil
        void *owner

    ctypedef int64_t mantra_row[2]

    ctypedef struct mantra_book_image:
        mantra_row *levels[2]
        uint32_t room
        uint32_t copied[2]
        uint32_t count[2]
        uint32_t capacity, ceiling, instrument
        uint8_t venue, trust, reason
        uint64_t version, generation, sequence, position, growths
        int64_t venue_time_ns, trust_since_ns

    size_t mantra_book_bytes(size_t levels)
    void mantra_book_init(mantra_book *book, void *memory, uint32_t capacity, uint32_t ceiling, uint32_t instrument,
                          uint8_t venue)
    void mantra_book_begin(mantra_book *book)
    void mantra_book_end(mantra_book *book)
    void mantra_book_stamp(mantra_book *book, uint64_t sequence, int64_t venue_time_ns, uint64_t position)
    void mantra_book_judge(mantra_book *book, uint8_t trust, uint8_t reason, int64_t since_ns)
    int mantra_book_room(mantra_book *book, size_t levels)
    int mantra_book_apply(mantra_book *book, uint8_t kind, int64_t price, int64_t size)
    bint mantra_book_rank(const mantra_book *book, uint8_t kind, uint32_t rank, int64_t *price, int64_t *size)
    int mantra_book_load(mantra_book *book, const mantra_change *changes, size_t count)
    void mantra_book_rename(mantra_book *book, uint32_t instrument)
    int mantra_book_copy(const mantra_book *book, mantra_book_image *out, uint32_t attempts)


cdef extern from "mantra/top.h" nogil:
    int mantra_top_read(mantra_top *top, const mantra_book *book, uint32_t attempts)


cdef class Book(Shared):
    cdef mantra_book book      # for the writer's hot path; valid as long as this object lives
    cdef tuple _copy(self, object n, mantra_book_image *image)
