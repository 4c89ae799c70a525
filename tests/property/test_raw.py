"""Blocks of a tape: whatever was packed comes out; damage is an ArchiveError, and never a crash."""
import tracemalloc

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mantra.core.tape import Tape
from mantra.errors import ArchiveError
from mantra.tape.raw import HEAD, RECORD, RawPacker, unpack

NUMBERS = st.integers(0, 2**64 - 1)
ROWS = st.lists(st.tuples(NUMBERS, NUMBERS, st.integers(0, 2**16 - 1), st.integers(0, 255), st.integers(0, 255),
                          st.binary(max_size=40)), max_size=8)
BATCHES = st.lists(st.tuples(st.integers(0, 2**16 - 1), ROWS), max_size=6)


def batch(rows):
    records = np.zeros(len(rows), RECORD)
    for record, (origin, number, book, kind, argument, text) in zip(records, rows, strict=True):
        record["origin"], record["number"], record["book"], record["kind"] = origin, number, book, kind
        record["argument"], record["size"] = argument, len(text)
    return records, np.frombuffer(b"".join(row[-1] for row in rows), np.uint8)


def packed(batches):
    packer = RawPacker()
    for feed, rows in batches:
        packer.add(feed, *batch(rows))
    return packer.pack()


@settings(max_examples=60, deadline=None)
@given(BATCHES)
def test_what_was_packed_comes_out(batches):
    block = unpack(packed(batches))
    assert block.feeds.tolist() == [feed for feed, rows in batches for _ in rows]
    rows = [row for _, rows in batches for row in rows]
    assert block.records.tolist() == batch(rows)[0].tolist()
    assert [block.text(i) for i in range(len(rows))] == [row[-1] for row in rows]


def test_what_waits_takes_no_more_memory_than_it_has():
    tape = Tape.create(None, 1 << 20)
    reader, writer, packer = tape.reader(), tape.writer(), RawPacker()
    tracemalloc.start()
    for _ in range(100):
        writer.write(1, bytes(300))
        packer.add(0, *reader.batch())
    assert tracemalloc.get_traced_memory()[0] < 1 << 20
    tracemalloc.stop()
    assert packer.count == 100


@settings(max_examples=100, deadline=None)
@given(BATCHES, st.data())
def test_damage_is_said(batches, data):
    body = bytearray(packed(batches))
    for at in data.draw(st.lists(st.integers(0, len(body) - 1), min_size=1, max_size=3)):
        body[at] ^= data.draw(st.integers(1, 255))
    del body[data.draw(st.integers(len(body) // 2, len(body))):]
    try:
        block = unpack(bytes(body))
    except ArchiveError:
        return
    assert len(block.ends) == len(block.records)        # zstd has no checksum of its own: segments have
    assert not len(block.ends) or int(block.ends[-1]) <= len(block.texts)


@given(st.binary(max_size=200))
def test_any_bytes_are_no_block(body):
    for text in (body, HEAD.pack(b"raw1", 2**31, 2**60) + body, HEAD.pack(b"raw1", 1, 1) + body):
        try:
            unpack(text)
        except ArchiveError:
            continue
