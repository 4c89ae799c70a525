"""The text of Bitfinex's checksums: any number that its JavaScript prints is printed so again from exact ticks."""
import ctypes
import math
from decimal import Decimal

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tests.c.library import library


def javascript(number: float) -> str:
    """ECMAScript's Number::toString, from the shortest digits that read back as `number`: those of Python's repr."""
    if number < 0:
        return "-" + javascript(-number)
    _, digits, exponent = Decimal(repr(number)).normalize().as_tuple()
    text, places = "".join(map(str, digits)), len(digits) + exponent        # 0.digits * 10^places
    if len(digits) <= places <= 21:
        return text + "0" * (places - len(digits))
    if 0 < places <= 21:
        return f"{text[:places]}.{text[places:]}"
    if -6 < places <= 0:
        return f"0.{'0' * -places}{text}"
    return f"{text[0]}{'.' * (len(text) > 1)}{text[1:]}e{places - 1:+d}"


def printed(value: int, decimals: int) -> str:
    out = ctypes.create_string_buffer(64)
    size = library("decoding").decoding_javascript_size(out, ctypes.c_int64(value), ctypes.c_uint8(decimals))
    return out.raw[:size].decode()


@settings(max_examples=1000, deadline=None)
@given(st.integers(1, 10**15 - 1), st.integers(0, 18), st.booleans())
@example(10**15 - 1, 0, True)
@example(1, 18, False)
@example(1, 6, False)
@example(11, 7, False)
@example(999999, 12, True)
def test_every_decimal_of_up_to_fifteen_digits_is_printed_as_its_double(digits, decimals, negative):
    value = -digits if negative else digits
    assert printed(value, decimals) == javascript(float(Decimal(value).scaleb(-decimals)))


@settings(max_examples=1000, deadline=None)
@given(st.floats(1e-18, 9e18, exclude_min=True), st.booleans())
@example(5e-7, False)
@example(123456789.12345679, True)
@example(math.nextafter(1e-6, 0), False)
def test_every_double_that_a_scale_holds_is_printed_as_javascript_prints_it(number, negative):
    number = -number if negative else number
    exact = Decimal(repr(number))
    decimals = max(0, -int(exact.normalize().as_tuple().exponent))
    assume(decimals <= 18)
    value = int(exact.scaleb(decimals))
    assume(abs(value) < 2**63)
    assert printed(value, decimals) == javascript(number)
    for finer in range(decimals, 19):                       # a finer scale prints the same
        if abs(value) * 10 ** (finer - decimals) < 2**63:
            assert printed(value * 10 ** (finer - decimals), finer) == javascript(number)
