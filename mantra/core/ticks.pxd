from libc.stdint cimport int64_t, uint8_t


cdef extern from "mantra/ticks.h" nogil:
    enum: MANTRA_MALFORMED, MANTRA_FINER, MANTRA_MAX_DECIMALS, MANTRA_DECIMAL_BYTES, MANTRA_PADDING

    ctypedef struct mantra_scale:
        uint8_t price_decimals, size_decimals

    int mantra_decimal(const char **at, const char *end, uint8_t decimals, int64_t *out)
    size_t mantra_decimal_text(char *out, int64_t value, uint8_t decimals)
