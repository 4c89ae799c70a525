"""ticks: decimal text to exact integers of a scale, and back. No float is involved anywhere."""


cdef uint8_t checked(int decimals) except 255:
    if not 0 <= decimals <= MANTRA_MAX_DECIMALS:
        raise ValueError(f"{decimals} decimals: a scale has 0 to {MANTRA_MAX_DECIMALS}")
    return <uint8_t>decimals


def ticks(text: str | bytes, int decimals) -> int:
    """`text` (one decimal number, JSON's grammar) as an exact count of 10**-decimals.

    ValueError: not a number. OverflowError: digits finer than the scale, or beyond 64 bits.
    """
    cdef bytes buffer = (text.encode() if isinstance(text, str) else bytes(text)) + bytes(MANTRA_PADDING)
    cdef const char *at = buffer
    cdef const char *end = at + len(buffer) - MANTRA_PADDING
    cdef int64_t value = 0
    cdef int status = mantra_decimal(&at, end, checked(decimals), &value)
    if status == MANTRA_MALFORMED or at != end:
        raise ValueError(f"{text!r} is not a decimal number")
    if status == MANTRA_FINER:
        raise OverflowError(f"{text!r} is no whole count of 10**-{decimals} in 64 bits")
    return value


def text(int64_t value, int decimals, bint trim=False) -> str:
    """`value` counts of 10**-decimals as plain decimal text; `trim` drops trailing zeros of the fraction."""
    cdef char out[MANTRA_DECIMAL_BYTES]
    cdef size_t size = mantra_decimal_text(out, value, checked(decimals))
    result = out[:size].decode("ascii")
    return result.rstrip("0").rstrip(".") if trim and decimals else result
