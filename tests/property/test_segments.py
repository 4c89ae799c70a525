"""A segment whose checksums are right and whose contents are not: all that reads archives refuses, never worse."""
from __future__ import annotations

import contextlib
import json
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mantra.archive
from mantra.archive import look, verify
from mantra.errors import MantraError
from mantra.tape import segment
from mantra.tape.segment import HEAD, RECORD, SegmentReader, pack_json, unpack_json

WHOLE = Path(__file__).parent.parent / "recordings" / "version1.mantra"
DATA = WHOLE.read_bytes()


def records() -> list[tuple[list[int], bytes]]:
    """What headers say, behind their mark, and bodies; without those that follow the last block."""
    found, at = [], segment.FILE_HEAD
    while at < len(DATA):
        fields = list(RECORD.unpack_from(DATA, at))
        found.append((fields[1:], DATA[at + HEAD:at + HEAD + fields[5]]))
        at += HEAD + fields[5] + -fields[5] % 8
    return found


RECORDS = records()
LAST = max(n for n, (fields, _) in enumerate(RECORDS) if fields[0] == segment.BLOCK)
MESSAGES = [n for n, (fields, body) in enumerate(RECORDS) if fields[0] == segment.BLOCK and body[0] == 1]
json_values = st.recursive(st.none() | st.integers() | st.floats() | st.text(max_size=5) | st.booleans(),
                           lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner,
                                                                                       max_size=3), max_leaves=4)


@st.composite
def bent(draw: st.DrawFn) -> bytes:
    """The segment with some records said otherwise, again and in another order; with or without its index."""
    told = [(list(fields), body) for fields, body in RECORDS[:draw(st.sampled_from([LAST + 1, len(RECORDS)]))]]
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.sampled_from(MESSAGES) | st.integers(0, len(told) - 1))
        fields, body = told[at]
        match draw(st.sampled_from(["body", "body", "body", "cut", "head", "json", "move", "again", "drop"])):
            case "body" if body:
                harmed = bytearray(body)
                for place in draw(st.lists(st.integers(0, len(body) - 1) | st.integers(0, 60), min_size=1, max_size=3)):
                    harmed[place % len(body)] = draw(st.integers(0, 255))
                told[at] = fields, bytes(harmed)
            case "cut":
                told[at] = fields, body[:draw(st.integers(0, len(body)))]
            case "head":
                place = draw(st.sampled_from([0, 2, 3, 5, 6]))
                size = 8 * struct.calcsize("<" + "BBHIIQQ"[place])
                fields[place] = draw(st.integers(0, 2**size - 1) | st.integers(0, 5))
            case "json":
                with contextlib.suppress(MantraError):
                    said = unpack_json(body)
                    said[draw(st.sampled_from(sorted(said) or ["feeds"]))] = draw(json_values)
                    told[at] = fields, pack_json(said)
            case "move":
                told.insert(draw(st.integers(0, len(told) - 1)), told.pop(at))
            case "again":
                told.append(told[at])
            case "drop" if len(told) > 1:
                del told[at]
    out = bytearray(DATA[:segment.FILE_HEAD])
    for fields, body in told:
        head = RECORD.pack(int.from_bytes(segment.MARK, "little"), *fields[:4], len(body), *fields[5:7],
                           zlib.crc32(body))
        out += head + struct.pack("<I", zlib.crc32(head)) + body + bytes(-len(body) % 8)
    return bytes(out)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bent())
@pytest.mark.filterwarnings("ignore:.*encountered in.*:RuntimeWarning")
def test_contents_that_lie_are_refused_and_never_worse(tmp_path, capsys, data):
    path = tmp_path / "bent.mantra"
    path.write_bytes(data)
    (tmp_path / "catalogue.json").unlink(missing_ok=True)
    with contextlib.suppress(MantraError):
        archive = mantra.archive.open(path)
        for stream in archive.streams:
            with contextlib.suppress(MantraError):
                archive.messages(stream).array()
        for venue in archive.venues():
            for instrument in archive.instruments(venue):
                with contextlib.suppress(MantraError):
                    archive.book(venue, instrument.id, sum(archive.span) // 2)
        archive.gaps()
        archive.ledger()
    for door, options in ((look.list_main, ()), (look.list_main, ("--instruments",)), (look.show_main, ("--json",)),
                          (look.show_main, ("--stream", "trades")), (verify.main, ()), (verify.main, ("--json",))):
        assert door([str(path), *options]) in (0, 1, 2)
    with SegmentReader(path) as reader, SegmentReader(path, index=False) as walked:
        most = max(len(reader.blocks()), len(walked.blocks()))      # the index may know of others
    if verify.repair([str(path), "--json", "--discard"]) == 0:
        said = json.loads(capsys.readouterr().out.splitlines()[-1])
        with SegmentReader(path) as reader:
            assert reader.whole
            assert not said["files"] or len(reader.blocks()) <= most
