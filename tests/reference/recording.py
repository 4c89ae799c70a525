"""The line formats, by the regular expressions of their description."""
from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal

from tests.data import read

ADDRESSED = re.compile(rb"^((?:https?|wss?)://\S+) (->|<-|<->) ([\d.]+)(?:: (.*))?$")
RECEIVED = re.compile(rb"^([\d.]+): (.*)$")
HFTBACKTEST = re.compile(rb"^(\d+) (.*)$")

Line = tuple[Decimal, str, bytes, str | None]       # when, message or rest or sent or open, text, url


def lines(*paths: str) -> list[Line]:
    """All lines of the recordings `paths` (below the data folder), in the order of their times."""
    return sorted((line for path in paths for line in _lines(read(path))), key=lambda line: line[0])


def _lines(content: bytes) -> Iterator[Line]:
    for line in content.splitlines():
        if line.startswith(b'{"t":'):
            record = json.loads(line, parse_float=Decimal)
            kind = {"recv": "message", "http": "rest", "send": "sent", "connect": "open"}.get(record["t"])
            if kind:
                yield record["ts"], kind, record.get("data", "").encode(), record.get("url", record.get("addr"))
        elif found := RECEIVED.match(line):
            yield Decimal(found[1].decode()), "message", found[2], None
        elif found := HFTBACKTEST.match(line):
            kind = "message" if b'"stream"' in found[2] else "rest"
            yield Decimal(found[1].decode()) / 10**9, kind, found[2], None
        elif found := ADDRESSED.match(line):
            kind = {b"->": "rest", b"<-": "sent", b"<->": "open"}[found[2]]
            yield Decimal(found[3].decode()), kind, found[4] or b"", found[1].decode()
        else:
            assert not line or line.startswith(b"configuration: "), line
