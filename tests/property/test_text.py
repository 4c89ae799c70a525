"""Text against slow and obvious readers: simdjson for documents, Python's decimal for numbers.

Whatever the scanner accepts simdjson accepts, with equal values, on documents that are generated and on those that were
then broken; what is generated and in the scanner's limits it accepts.
"""
import random
from decimal import Context, Decimal, InvalidOperation

import pytest
import simdjson
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mantra.core.ticks import text, ticks
from tests.c.json_cursor import loads, valid

EXACT = Context(prec=200)
scalars = (st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(-1e307, 1e307) | st.text())
documents = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


def oracle(document: bytes):
    return simdjson.Parser().parse(document, recursive=True)


def agree(mine, theirs):
    """Equal, and of equal type: 1 is not 1.0, True is not 1."""
    return repr(mine) == repr(theirs)


def spell(value, random: random.Random) -> str:
    """JSON of a value in any of the spellings the grammar has for it."""
    space = lambda: random.choice(["", "", "", " ", "\n", "\t\r "])  # noqa: E731
    if isinstance(value, str):
        out = []
        for c in value:
            if ord(c) < 0x20 or c in '"\\' or random.random() < 0.1:
                units = c.encode("utf-16-be")
                out.append("".join(f"\\u{units[i]:02x}{units[i + 1]:02X}" for i in range(0, len(units), 2)))
            else:
                out.append("\\/" if c == "/" and random.random() < 0.5 else c)
        return '"' + "".join(out) + '"'
    if isinstance(value, list):
        return "[" + ",".join(space() + spell(v, random) + space() for v in value) + space() + "]"
    if isinstance(value, dict):
        return "{" + ",".join(space() + spell(k, random) + space() + ":" + space() + spell(v, random) + space()
                              for k, v in value.items()) + space() + "}"
    return {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value,
                                                                                              bool) else repr(value)


@settings(max_examples=300, deadline=None)
@given(documents, st.randoms(use_true_random=False))
def test_scanner_reads_any_document_as_simdjson_does(value, random):
    document = spell(value, random).encode()
    assert valid(document)
    assert agree(loads(document), oracle(document))


MUTATIONS = [b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"0", b"9", b"-", b".", b"e", b"E", b"+", b" ", b"\x00",
             b"\x1f", b"\x80",
             b"\xc3", b"\xe2\x82\xac", b"\xed\xa0\x80", b"\xf0", b"u", b"\\ud800", b"true", b"null", b"1e999", b"\n",
             b"n", b"00"]
SEEDS = [
    b'{"data":{"timestamp":"1641343691","microtimestamp":"1641343691580748","bids":[],"asks":[["0.88680","0.00000"]]},'
    b'"channel":"diff_order_book_usdteur","event":"data"}',
    b'{"stream":"x@depth","data":{"e":"depthUpdate","E":1633998512068,"b":[["0.35130000","6195.0"]],"m":true,"n":null}}',
    '{"a":[1,-2.5e-3,"\\u20ac\\ud83d\\ude00é€😀",{"b":[[],{},[{}]]},18446744073709551615]}'.encode(),
]


@pytest.mark.parametrize("seed", range(40))
def test_whatever_the_scanner_accepts_simdjson_accepts_with_equal_values(seed):
    walk = random.Random(seed)
    accepted = 0
    for _ in range(1500):
        document = bytearray(walk.choice(SEEDS))
        for _ in range(walk.choice([1, 1, 1, 2, 5])):
            at = walk.randrange(len(document) + 1)
            action = walk.randrange(4)
            if action == 0:
                document[at:at] = walk.choice(MUTATIONS)
            elif action == 1:
                document[at:at + 1] = walk.choice(MUTATIONS)
            elif action == 2:
                del document[at:at + walk.choice([1, 1, 2, 8])]
            else:
                end = walk.randrange(at, min(at + 12, len(document)) + 1)
                where = walk.randrange(len(document) + 1)
                document[where:where] = document[at:end]
        mutant = bytes(document)
        if not valid(mutant):
            with pytest.raises(ValueError, match=r"malformed|behind"):
                loads(mutant)
            continue
        accepted += 1
        assert agree(loads(mutant), oracle(mutant)), mutant
    assert accepted > 100   # the walk is not all garbage


def reference_ticks(number: str, decimals: int):
    """By Python's decimal: ticks, or the exception that is due."""
    scaled = EXACT.scaleb(Decimal(number), decimals)
    if scaled != scaled.to_integral_value(context=EXACT) or not -(2**63) <= scaled < 2**63:
        return OverflowError
    return int(scaled)


numbers = st.builds(
    lambda sign, whole, fraction, exponent: sign + whole + fraction + exponent,
    st.sampled_from(["", "", "", "-"]),
    st.sampled_from(["0", "1", "7", "42", "1234567", "12345678", "123456789"]) | st.integers(0, 10**20).map(str),
    st.sampled_from(["", ".0", ".5", ".00000000", ".12345678", ".123456789", ".1234567", ".10000000"])
    | st.text("0123456789", min_size=1, max_size=25).map(lambda digits: "." + digits),
    st.just("") | st.just("") | st.builds("{}{}".format, st.sampled_from(["e", "E", "e-", "e+", "E-"]),
                                          st.integers(0, 30)))


@settings(max_examples=1500, deadline=None)
@given(numbers, st.integers(0, 18))
@example("9223372036854775807", 0)
@example("-9.223372036854775808", 18)
def test_decimals_are_exact_or_refused_as_pythons_decimal_says(number, decimals):
    expected = reference_ticks(number, decimals)
    if expected is OverflowError:
        with pytest.raises(OverflowError):
            ticks(number, decimals)
        return
    assert ticks(number, decimals) == expected
    written = text(expected, decimals)
    assert Decimal(written) == Decimal(number)
    assert ticks(written, decimals) == expected


@settings(max_examples=500, deadline=None)
@given(st.text("0123456789.eE+-x ", max_size=12))
def test_text_is_a_number_exactly_where_json_says_so(number):
    try:
        value = oracle(b"[" + number.encode() + b"]") if number.strip() == number and "," not in number else []
        grammatical = len(value) == 1
    except ValueError:
        grammatical = False
    try:
        ticks(number, 18)
        accepted = True
    except OverflowError:
        accepted = True
    except ValueError:
        accepted = False
    # simdjson also refuses numbers that no double or 64-bit integer holds; those are numbers all the same
    if grammatical or "e" not in number.lower():
        try:
            Decimal(number)
        except InvalidOperation:
            assert not accepted
        assert accepted or not grammatical
