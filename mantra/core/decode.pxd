"""decode: a venue's text to changes and trades (csrc/mantra/decode.h, decode_binance.h, decode_bitstamp.h, symbols.h)."""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from mantra.core.ticks cimport mantra_scale


cdef extern from "mantra/symbols.h" nogil:
    ctypedef struct mantra_symbol:
        pass

    ctypedef struct mantra_symbols:
        pass

    void mantra_symbols_init(mantra_symbols *symbols, mantra_symbol *slots, uint32_t capacity)
    int mantra_symbols_add(mantra_symbols *symbols, const char *text, size_t size, int32_t index)
    int32_t mantra_symbols_find(const mantra_symbols *symbols, const char *text, size_t size)


cdef extern from "mantra/decode.h" nogil:
    enum:
        MANTRA_IMAGE

    ctypedef struct mantra_change:
        int64_t price, size
        uint8_t kind

    ctypedef struct mantra_print:
        pass

    ctypedef struct mantra_image_text:
        pass

    ctypedef struct mantra_decoder:
        const mantra_symbols *symbols
        const mantra_scale *scales
        mantra_image_text *images
        mantra_change *changes
        mantra_print *trades
        uint32_t depth, change_capacity, trade_capacity, change_count, book
        uint64_t last

    ctypedef int (*mantra_decode)(mantra_decoder *decoder, const char *text, size_t size) noexcept nogil


cdef extern from "mantra/decode_binance.h" nogil:
    int mantra_decode_binance(mantra_decoder *decoder, const char *text, size_t size) noexcept
    int mantra_decode_binance_snapshot(mantra_decoder *decoder, const char *text, size_t size) noexcept


cdef extern from "mantra/decode_bitstamp.h" nogil:
    int mantra_decode_bitstamp(mantra_decoder *decoder, const char *text, size_t size) noexcept
    int mantra_decode_bitstamp_snapshot(mantra_decoder *decoder, const char *text, size_t size) noexcept
