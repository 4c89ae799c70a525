"""decode: a venue's text to changes and trades (csrc/mantra/decode.h, decoders.h, symbols.h)."""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from mantra.core.book cimport mantra_book, mantra_change
from mantra.core.ticks cimport mantra_scale


cdef extern from "mantra/symbols.h" nogil:
    ctypedef struct mantra_symbol:
        pass

    ctypedef struct mantra_symbols:
        pass

    void mantra_symbols_init(mantra_symbols *symbols, mantra_symbol *slots, uint32_t capacity)
    int mantra_symbols_add(mantra_symbols *symbols, const char *text, size_t size, int32_t index)
    int32_t mantra_symbols_find(const mantra_symbols *symbols, const char *text, size_t size)


cdef extern from "mantra/orders.h" nogil:
    ctypedef struct mantra_order_change:
        pass

    ctypedef struct mantra_resting:
        pass

    ctypedef struct mantra_orders:
        mantra_resting *slots
        uint32_t count

    size_t mantra_orders_bytes(uint32_t most)
    void mantra_orders_init(mantra_orders *orders, void *memory, uint32_t most)


cdef extern from "mantra/decode.h" nogil:
    enum: MANTRA_IGNORED, MANTRA_DIFF, MANTRA_IMAGE, MANTRA_TRADES, MANTRA_CONTROL, MANTRA_SNAPSHOT, MANTRA_HEARTBEAT
    enum: MANTRA_UNKNOWN, MANTRA_TOO_MANY, MANTRA_LINK_BYTES

    ctypedef struct mantra_print:
        int64_t price, size, venue_time_ns
        uint64_t trade_id
        uint8_t side

    ctypedef struct mantra_image_text:
        pass

    ctypedef struct mantra_route:
        pass

    ctypedef struct mantra_decoder:
        const mantra_symbols *symbols
        const mantra_scale *scales
        mantra_image_text *images
        mantra_change *changes
        mantra_print *trades
        mantra_order_change *orders
        uint32_t order_capacity
        uint32_t depth, change_capacity, trade_capacity, change_count, trade_count, book, unpriced
        uint64_t first, last
        int64_t venue_time_ns
        const char *rest
        uint64_t number
        uint32_t checksum
        bint numbered, checked, linked, history
        char link[MANTRA_LINK_BYTES]
        char before[MANTRA_LINK_BYTES]
        mantra_route *routes
        uint32_t route_capacity
        mantra_scale *printed
        void *context

    ctypedef int (*mantra_decode)(mantra_decoder *decoder, const char *text, size_t size) noexcept nogil
    ctypedef uint32_t (*mantra_checksum)(const mantra_decoder *decoder, const mantra_book *book) noexcept nogil
    ctypedef uint32_t (*mantra_orders_checksum)(const mantra_orders *orders, mantra_scale scale) noexcept nogil


cdef extern from "mantra/decoders.h" nogil:
    ctypedef struct mantra_dialect:
        mantra_decode message, snapshot
        mantra_checksum checksum
        mantra_orders_checksum orders_checksum

    const mantra_dialect *mantra_dialect_named(const char *name)


cdef extern from "mantra/levels.h" nogil:
    void mantra_decoder_begin(mantra_decoder *decoder)
