"""The tape: what a writer said is read as it was said, laps are told where they happened, foreign memory is refused."""
import re
import struct

import numpy as np
import pytest

from mantra.core.region import Region
from mantra.core.tape import RECORD, Tape
from mantra.errors import RegionError
from mantra.tape import raw
from mantra.tape.raw import Kind
from tests.c.compilers import ROOT


def texts_of(records, texts):
    ends = np.cumsum(records["size"])
    return [texts[end - size:end].tobytes() for end, size in zip(ends.tolist(), records["size"].tolist(), strict=True)]


def test_the_header_and_the_format_on_disk_speak_of_the_same_records():
    told = re.findall(r"KIND\(([A-Z]+), (\d+),", (ROOT / "csrc" / "mantra" / "tape.h").read_text())
    assert raw.RECORD == RECORD
    assert {name: int(number) for name, number in told} == {kind.name: kind.value for kind in Kind}


def test_records_come_out_as_they_went_in():
    tape = Tape.create(None, 1 << 14)
    writer, reader = tape.writer(), tape.reader()
    said = [bytes([n]) * n for n in range(40)]
    for n, text in enumerate(said):
        writer.write(Kind.MESSAGE, text, origin=1000 + n, book=n, argument=n % 3)
    records, texts = reader.batch()
    assert texts_of(records, texts) == said
    assert records["origin"].tolist() == [1000 + n for n in range(40)]
    assert records["number"].tolist() == records["book"].tolist() == list(range(40))
    assert not len(reader.batch()[0])
    assert tape.number == 40


def test_a_reader_that_was_lapped_finds_a_hole_where_records_are_missing():
    tape = Tape.create(None, 1 << 14)
    writer, reader = tape.writer(), tape.reader()
    for n in range(5000):
        writer.write(Kind.MESSAGE, struct.pack("<Q", n), origin=n)
    records, texts = reader.batch()
    hole, *others = records
    assert hole["kind"] == Kind.HOLE
    lost, lost_bytes = struct.unpack("<QQ", texts_of(records, texts)[0])
    assert lost == reader.lost == 5000 - len(others)
    assert lost_bytes == reader.lost_bytes == lost * 32
    assert [struct.unpack("<Q", text)[0] for text in texts_of(records, texts)[1:]] == list(range(lost, 5000))
    assert tape.reader("newest").batch()[0].tolist() == []


def test_a_record_too_long_for_the_ring_is_a_hole_and_one_that_fits_is_read_whole():
    tape = Tape.create(None, 1 << 16)
    writer, reader = tape.writer(), tape.reader()
    writer.write(Kind.MESSAGE, bytes(1 << 15))
    writer.write(Kind.MESSAGE, bytes((1 << 15) - 24))
    long, whole = (reader.batch(100) for _ in range(2))
    if len(long[0]) == 2:
        pytest.fail("a batch is some 100 bytes")
    assert long[0]["kind"].tolist() == [Kind.HOLE]
    assert whole[0]["size"].tolist() == [(1 << 15) - 24]


def test_a_tape_has_one_writer_at_a_time():
    tape = Tape.create(None, 1 << 12)
    writer = tape.writer()
    with pytest.raises(RegionError, match="has a writer already"):
        tape.writer()
    writer.close()
    with pytest.raises(RegionError, match="closed"):
        writer.write(Kind.SENT, b"")
    tape.writer().write(Kind.SENT, b"")
    with pytest.raises(ValueError, match="power of two"):
        Tape.create(None, 5000)
    with pytest.raises(RegionError, match="no tape"):
        Tape(Region.create(None, 1 << 12, kind="tape", capacity=1 << 12))
