"""json_scan: what is JSON and what is not, at the edges."""
import json

import pytest

from tests.c.json_cursor import loads, valid

ACCEPTED = [
    b"{}", b"[]", b"0", b"-0", b"true", b"false", b"null", b'""', b' [ ] ', b"\t{\n}\r ",
    b'{"a":1,"b":[true,{"c":null}]}',
    b'["\\u0041\\n\\"\\\\\\/\\b\\f\\r\\t"]', b'["\\ud83d\\ude00"]', '["é€😀"]'.encode(), b"[1.5e3,-2E-2,0.1,1e+2]",
    b"18446744073709551615", b"-9223372036854775808", b"1e307", b"[1,2,[3,[4]]]", b'{"":{"":[]}}',
    b'{"a":1}' + b" " * 100,
    b"[" * 64 + b"]" * 64, b'"' + b"x" * 1000 + b'"', b'["\\u0000"]', b"1e-400",
    b"0.0000000000000000000000000000000000001",
    b'["\x7f"]', b'"aaaaaaaaaaaaaaa"', b'"aaaaaaaaaaaaaaaa"', b'"aaaaaaaaaaaaaaaaa"',
]
REFUSED = [
    b"", b" ", b"{", b"[", b'"', b'"a', b"{]", b"[}", b"[1,]", b'{"a":1,}', b'{"a"}', b'{"a":}', b"{a:1}", b"{'a':1}",
    b"[1 2]",
    b'{"a":1 "b":2}', b"[,1]", b"01", b"-", b"+1", b".5", b"5.", b"1e", b"1e+", b"0x1", b"NaN", b"Infinity",
    b"-Infinity", b"tru",
    b"truee", b"nul", b"True", b"[1]]", b"{}{}", b"[] x", b'"\x00"', b'"\n"', b'"\t"', b'"\x1f"', b'"\\x"', b'"\\u12"',
    b'"\\u12g4"',
    b'"\\ud800"', b'"\\udc00"', b'"\\ud800\\u0041"', b'"\\ud800x"', b'"\xff"', b'"\xc0\x80"', b'"\xe2\x82"',
    b'"\xed\xa0\x80"',
    b'"\xf4\x90\x80\x80"', b'"\xf0\x80\x80\x80"', b'"\x80"', b'"\xc3"', b"18446744073709551616",
    b"-9223372036854775809",
    b"1" * 40, b"1e309", b"1" + b"0" * 400 + b".0", b"[" * 65 + b"]" * 65, b"\x00", b"{}\x00", b"[1\x00]",
    b"\xef\xbb\xbf{}",
    b'"\\', b'"\\u', b'"\\ud800\\u', b"/**/1", b"[1]//", b'{"a":1,"b"', b'"' + b"x" * 1000,
]


@pytest.mark.parametrize("text", ACCEPTED, ids=range(len(ACCEPTED)))
def test_json_has_the_value_that_python_gives_it(text):
    assert valid(text)
    assert loads(text) == json.loads(text)


@pytest.mark.parametrize("text", REFUSED, ids=range(len(REFUSED)))
def test_what_is_no_json_is_refused(text):
    assert not valid(text)
    with pytest.raises(ValueError, match=r"malformed|behind"):
        loads(text)


@pytest.mark.parametrize("size", range(1, 40))
def test_every_truncation_is_refused(size):
    text = b'{"a":["1.5","\\u00e9x",-2.5e3],"b":true }'
    assert valid(text)
    assert not valid(text[:size])
