from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from mantra.core.ticks cimport mantra_scale


cdef extern from "mantra/symbols.h" nogil:
    ctypedef struct mantra_symbol:
        pass

    ctypedef struct mantra_symbols:
        uint32_t count

    void mantra_symbols_init(mantra_symbols *symbols, mantra_symbol *slots, uint32_t capacity)
    int mantra_symbols_add(mantra_symbols *symbols, const char *text, size_t size, int32_t index)
    int32_t mantra_symbols_find(const mantra_symbols *symbols, const char *text, size_t size)


cdef extern from "mantra/decode.h" nogil:
    enum:
        MANTRA_IGNORED
        MANTRA_DIFF
        MANTRA_IMAGE
        MANTRA_TRADES
        MANTRA_UNCHANGED
        MANTRA_CONTROL
        MANTRA_UNKNOWN
        MANTRA_TOO_MANY
        MANTRA_IMAGE_BYTES

    ctypedef struct mantra_change:
        int64_t price
        int64_t size
        uint8_t kind

    ctypedef struct mantra_print:
        int64_t price
        int64_t size
        uint64_t trade_id
        int64_t venue_time_ns
        uint8_t side

    ctypedef struct mantra_image_text:
        uint32_t bytes_bids
        uint32_t bytes_asks

    ctypedef struct mantra_decoder:
        const mantra_symbols *symbols
        const mantra_scale *scales
        mantra_image_text *images
        uint32_t depth
        mantra_change *changes
        uint32_t change_capacity
        mantra_print *trades
        uint32_t trade_capacity
        uint32_t book
        uint32_t change_count
        uint32_t trade_count
        uint32_t unpriced
        uint64_t first
        uint64_t last
        int64_t venue_time_ns

    ctypedef int (*mantra_decode)(mantra_decoder *decoder, const char *text, size_t size) noexcept nogil


cdef extern from "mantra/decode_binance.h" nogil:
    int mantra_decode_binance(mantra_decoder *decoder, const char *text, size_t size) noexcept
    int mantra_decode_binance_snapshot(mantra_decoder *decoder, const char *text, size_t size) noexcept


cdef extern from "mantra/decode_bitstamp.h" nogil:
    int mantra_decode_bitstamp(mantra_decoder *decoder, const char *text, size_t size) noexcept
    int mantra_decode_bitstamp_snapshot(mantra_decoder *decoder, const char *text, size_t size) noexcept


cdef class Decoder:
    cdef mantra_decoder decoder
    cdef mantra_symbols table
    cdef mantra_symbol *slots
    cdef mantra_scale *scales
    cdef mantra_decode message, snapshot
    cdef readonly list symbols
    cdef object answer(self, int kind)
