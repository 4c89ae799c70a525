"""ticks: decimal text to exact integers of a scale, and back. No float is involved anywhere."""


cdef bytes padded(text):
    """The text's bytes with the readable bytes behind them that word-wise reading needs."""
    return (text.encode() if isinstance(text, str) else bytes(text)) + bytes(MANTRA_PADDING)


cdef uint8_t checked(int decimals) except 255:
    if not 0 <= decimals <= MANTRA_MAX_DECIMALS:
        raise ValueError(f"{decimals} decimals: a scale has 0 to {MANTRA_MAX_DECIMALS}")
    return <uint8_t>decimals


def ticks(text: str | bytes, int decimals) -> int:
    """`text` (one decimal number, JSON's grammar) as an exact count of 10**-decimals.

    ValueError: not a number. OverflowError: digits finer than the scale, or beyond 64 bits.
    """
    cdef bytes buffer = padded(text)
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


def decimals_needed(text: str | bytes) -> int:
    """How many decimals a scale needs to hold `text` exactly ("1.500" needs 1).

    ValueError: not a number. OverflowError: no scale in 64 bits can.
    """
    cdef bytes buffer = padded(text)
    cdef const char *at = buffer
    cdef const char *end = at + len(buffer) - MANTRA_PADDING
    cdef int needed = mantra_decimals_needed(&at, end)
    if needed == MANTRA_MALFORMED or at != end:
        raise ValueError(f"{text!r} is not a decimal number")
    if needed == MANTRA_FINER:
        raise OverflowError(f"no 64-bit scale holds {text!r}")
    return needed


def integer(text: str | bytes) -> int:
    """`text` as an unsigned 64-bit integer (venue ids, times). ValueError: it is none."""
    cdef bytes buffer = padded(text)
    cdef const char *at = buffer
    cdef const char *end = at + len(buffer) - MANTRA_PADDING
    cdef uint64_t value = 0
    if mantra_integer(&at, end, &value) or at != end:
        raise ValueError(f"{text!r} is not an unsigned 64-bit integer")
    return value
