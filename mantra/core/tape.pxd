"""tape: a broadcast ring of records of any length (csrc/mantra/tape.h)."""
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from mantra.core.ledger cimport Row
from mantra.core.region cimport Shared

cdef extern from "mantra/tape.h" nogil:
    enum: MANTRA_TAPE_MESSAGE, MANTRA_TAPE_SENT, MANTRA_TAPE_OPENED, MANTRA_TAPE_CLOSED, MANTRA_TAPE_REST
    enum: MANTRA_TAPE_HOLE, MANTRA_TAPE_SUSPECT, MANTRA_TAPE_LOOKED, MANTRA_TAPE_REFUSED, MANTRA_TAPE_EXPECTED
    enum: MANTRA_TAPE_RESCALED, MANTRA_TAPE_STALE, MANTRA_TAPE_FRESH, MANTRA_TAPE_TIMED, MANTRA_TAPE_ADOPTED
    enum: MANTRA_TAPE_LOOK, MANTRA_TAPE_SPLICE, MANTRA_TAPE_SETTLED, MANTRA_TAPE_LAPPED
    enum: MANTRA_TAPE_LEAST, MANTRA_TAPE_RECORD, MANTRA_TAPE_OVERRUN, MANTRA_TAPE_NO_ROOM

    ctypedef struct mantra_tape_record:
        uint64_t origin, number
        uint32_t size
        uint16_t book
        uint8_t kind, argument

    ctypedef struct mantra_tape_header:
        uint64_t written, number

    ctypedef struct mantra_tape:
        mantra_tape_header *header
        uint64_t capacity

    ctypedef struct mantra_tape_writer:
        uint64_t position, number

    ctypedef struct mantra_tape_reader:
        uint64_t position, expected, lost, lost_bytes

    size_t mantra_tape_bytes(uint64_t capacity)
    mantra_tape mantra_tape_attach(uint8_t *memory, uint64_t capacity)
    int mantra_tape_open(mantra_tape_writer *writer, const mantra_tape *tape, uint64_t now)
    void mantra_tape_close(mantra_tape_writer *writer)
    void mantra_tape_write(mantra_tape_writer *writer, uint8_t kind, uint16_t book, uint8_t argument, uint64_t origin,
                           const void *text, size_t size)
    mantra_tape_reader mantra_tape_reader_at(const mantra_tape *tape, bint newest)
    int mantra_tape_read(mantra_tape_reader *reader, mantra_tape_record *record, void *text, size_t room)


cdef class Tape(Shared):
    cdef mantra_tape tape

cdef class TapeWriter:
    cdef mantra_tape_writer writer
    cdef readonly Tape tape
    cdef bint claimed

cdef class TapeReader:
    cdef mantra_tape_reader reader
    cdef readonly Tape tape
    cdef Row row
    cdef uint64_t told, told_bytes
