"""messages: every message struct and what is derived from its field table (csrc/mantra/messages.h)."""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from mantra.core.region cimport Region

cdef extern from "mantra/messages.h" nogil:
    enum: MANTRA_DEPTH, MANTRA_MAX_VENUES
    enum: MANTRA_DOWN, MANTRA_STALE, MANTRA_SUSPECT, MANTRA_UNVERIFIED, MANTRA_VERIFIED
    enum: MANTRA_REASON_NONE, MANTRA_REASON_SYNCHRONISING, MANTRA_REASON_GAP, MANTRA_REASON_CROSSED, MANTRA_REASON_MALFORMED
    enum: MANTRA_REASON_SCALE, MANTRA_REASON_FULL, MANTRA_REASON_SILENT, MANTRA_REASON_DISCONNECTED, MANTRA_REASON_CHECKSUM
    enum: MANTRA_REASON_CONTRADICTED, MANTRA_REASON_REFUSED
    enum: MANTRA_RESET, MANTRA_BID, MANTRA_ASK, MANTRA_TRUST
    enum: MANTRA_MORE, MANTRA_REASON_SHIFT, MANTRA_FROM_SNAPSHOT, MANTRA_BUY, MANTRA_SELL, MANTRA_SOCKET
    enum: MANTRA_ACTOR_STARTING, MANTRA_ACTOR_RUNNING, MANTRA_ACTOR_RESTARTING, MANTRA_ACTOR_FAILED, MANTRA_ACTOR_STOPPED

    # Of the fields, which the table tells of, only those that compiled code reads.
    ctypedef struct mantra_update:
        uint64_t origin
        uint32_t instrument
        uint8_t venue, flags

    ctypedef struct mantra_trade:
        pass

    ctypedef struct mantra_order:
        pass

    ctypedef struct mantra_top:
        uint64_t origin, published
        uint32_t instrument
        uint8_t venue, flags

    ctypedef struct mantra_world:
        uint64_t published
        uint8_t bid_count, ask_count
        int64_t *bid_price
        int64_t *ask_price

    ctypedef struct mantra_instrument:
        uint8_t *name
        uint32_t instrument

    ctypedef struct mantra_timing:
        pass

    ctypedef struct mantra_actor:
        uint8_t *name
        uint8_t *kind
        uint64_t identity

    ctypedef struct mantra_field:
        const char *name
        uint32_t offset, count
        uint8_t size
        char kind

    ctypedef struct mantra_layout:
        const char *name
        uint32_t size, field_count
        const mantra_field *fields

    const mantra_layout *mantra_layout_at(size_t index)
    uint64_t mantra_fingerprint(const mantra_layout *layout)
    enum: SCRATCH "(MANTRA_MESSAGE_MAX / 8)"   # words: room for any message


cdef class Message:
    cdef uint8_t *raw       # the struct, in this object
    cdef uint32_t bytes     # of the struct

cdef class Update(Message):
    cdef mantra_update message

cdef class Trade(Message):
    cdef mantra_trade message

cdef class Order(Message):
    cdef mantra_order message

cdef class Top(Message):
    cdef mantra_top message

cdef class World(Message):
    cdef mantra_world message

cdef class InstrumentRow(Message):
    cdef mantra_instrument message

cdef class Timing(Message):
    cdef mantra_timing message

cdef class ActorRow(Message):
    cdef mantra_actor message


cdef class Format:
    """One kind of message, as queues and vectors need it: `slot_bytes` with the version word."""
    cdef readonly str name, layout
    cdef readonly uint64_t fingerprint
    cdef readonly uint32_t message_bytes, slot_bytes, flags_offset
    cdef readonly object type, dtype
    cdef Message load(self, const void *raw)
    cdef int fill(self, object message, void *raw) except -1

cpdef Format format_of(object message)
cdef Region slots_made(str kind, object name, Format form, uint64_t capacity, size_t size, bytes head)
cdef Format slots_found(Region region, bint sound, size_t size)
