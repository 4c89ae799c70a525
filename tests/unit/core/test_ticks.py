"""ticks: what decimal text becomes, at the edges."""
import pytest

from mantra.core.ticks import text, ticks


@pytest.mark.parametrize(("number", "decimals", "expected"), [
    ("61837.63000000", 2, 6183763),
    ("0.00000638", 8, 638),
    ("0.00000000", 0, 0),
    ("0", 8, 0),
    ("-0", 8, 0),
    ("-12.5", 1, -125),
    ("7e-7", 8, 70),
    ("7E-7", 7, 7),
    ("1.25e+2", 0, 125),
    ("1.25e2", 2, 12500),
    ("0e999999999999999999999", 0, 0),
    ("0.000000000000000000000", 0, 0),
    ("100000000000000000000e-20", 0, 1),
    ("9223372036854775807", 0, 2**63 - 1),
    ("-9223372036854775808", 0, -(2**63)),
    ("92233720368.54775807", 8, 2**63 - 1),
    ("1234567", 11, 123456700000000000),
    ("12345678.12345678", 8, 1234567812345678),
    ("1.123456789012345678", 18, 1123456789012345678),
    ("1.50000000000000000000000000000000000000000", 1, 15),
])
def test_decimal_text_becomes_exact_ticks(number, decimals, expected):
    assert ticks(number, decimals) == expected
    assert ticks(number.encode(), decimals) == expected


@pytest.mark.parametrize("number", [
    "", "-", "+1", ".5", "5.", "5.e1", "1e", "1e+", "01", "00", "-01.5", "1.2.3", "1,5", " 1", "1 ", "0x10", "NaN",
    "Infinity",
    "1e5.0", "١", "--1", "1-", "12345678a", "1234567.12345678x", "1\x00", "00000000", "007.5",
])
def test_what_is_no_json_number_is_refused(number):
    with pytest.raises(ValueError, match="not a decimal"):
        ticks(number, 8)


@pytest.mark.parametrize(("number", "decimals"), [
    ("0.001", 2), ("0.12345678", 7), ("1e-19", 18), ("9223372036854775808", 0), ("-9223372036854775809", 0),
    ("9223372036854775807", 1), ("1e19", 0), ("1e1000000000000000000000", 0), ("123456789012345678901234567890", 0),
    ("1.5", 0), ("0.1", 0), ("12345678.5", 0), ("0.123456789", 8),
])
def test_what_the_scale_can_not_hold_is_never_rounded(number, decimals):
    with pytest.raises(OverflowError):
        ticks(number, decimals)


@pytest.mark.parametrize(("value", "decimals", "expected", "trimmed"), [
    (0, 0, "0", "0"), (0, 2, "0.00", "0"), (5, 2, "0.05", "0.05"), (-5, 2, "-0.05", "-0.05"), (1500, 2, "15.00", "15"),
    (1500, 0, "1500", "1500"), (2**63 - 1, 18, "9.223372036854775807", "9.223372036854775807"),
    (-(2**63), 0, "-9223372036854775808", "-9223372036854775808"), (10, 1, "1.0", "1"),
])
def test_ticks_are_written_as_plain_decimals(value, decimals, expected, trimmed):
    assert text(value, decimals) == expected
    assert text(value, decimals, trim=True) == trimmed


@pytest.mark.parametrize("decimals", [-1, 19, 300])
def test_a_scale_past_64_bits_is_refused(decimals):
    with pytest.raises(ValueError, match="decimals"):
        ticks("1", decimals)
