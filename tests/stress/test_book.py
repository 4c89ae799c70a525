"""A second process reads a book while it changes and never sees a torn one; a reader without the seqlock does."""
from __future__ import annotations

import mmap
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest

from mantra.core import book as book_module
from mantra.core.book import BID, Book
from mantra.core.region import PREFIX
from mantra.errors import RegionError

# Message n leaves 100 + n % 100 levels a side, at prices 1, 2, ... and -1, -2, ..., all of size n.
WRITER = """
import itertools, sys
import numpy as np
from mantra.core.book import ASK, BID, Book

price = np.arange(1, 200)
rows = np.empty((398, 3), np.int64)
rows[:199, 0], rows[199:, 0], rows[:199, 1], rows[199:, 1] = BID, ASK, -price, price
with Book.create(sys.argv[1], 1, 0, start=1) as book:
    for n in itertools.count(1):
        size = np.where(price <= 100 + n % 100, n, 0)
        rows[:199, 2] = rows[199:, 2] = size
        book.write(*rows.tolist())
        if n == 1:
            print("writing", flush=True)
"""
REGION_HEADER, BOOK_HEADER, SLACK = 1024, 128, 4   # csrc/mantra/region.h, book.h: for the broken twin only


def whole(bids: np.ndarray, asks: np.ndarray) -> int | None:
    """The message that this is the state after; None when it is a mixture of several."""
    n = int(bids[0, 1]) if len(bids) else 0
    price = np.arange(1, 101 + n % 100)
    same = len(bids) == len(asks) == len(price) and (bids[:, 0] == -price).all() and (asks[:, 0] == price).all()
    return n if same and (bids[:, 1] == n).all() and (asks[:, 1] == n).all() else None


@pytest.fixture
def written() -> Iterator[str]:
    """The name of a book that another process changes without a pause."""
    name = f"test-stress-book-{os.getpid()}"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, name], stdout=subprocess.PIPE)
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"writing\n"
        yield name
    finally:
        writer.terminate()
        writer.wait()
        from mantra.core.region import Region

        Region.remove_stale(name)


def test_reader_in_another_process_never_sees_a_torn_book(written: str) -> None:
    book, seen, end = Book.open(written), set(), time.monotonic() + 2
    while time.monotonic() < end:
        image = book.image()
        n = whole(image.bids, image.asks)
        assert n is not None
        seen.add(n)
    assert len(seen) > 20


def test_reader_that_does_not_look_at_the_version_is_caught(written: str) -> None:
    Book.open(written)   # is there
    with open(PREFIX + written, "rb") as file:
        memory = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    page = np.frombuffer(memory, np.uint8)[REGION_HEADER:]
    counts = page[64:76].view(np.uint32)
    end = time.monotonic() + 10
    while time.monotonic() < end:
        bids, asks, capacity = (int(count) for count in counts)
        levels = page[BOOK_HEADER:BOOK_HEADER + 32 * (capacity + SLACK)].view(np.int64).reshape(2, -1, 2).copy()
        if whole(levels[0, :bids][::-1], levels[1, :asks][::-1]) is None:
            return
    pytest.fail("a torn copy looked whole for 10 s: this test can not see tearing")


def test_book_whose_writer_died_inside_a_message_is_an_error_and_not_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book_module, "PATIENCE_S", 0.05)
    with Book.create(f"test-dead-book-{os.getpid()}", 1, 0) as book:
        book.write((BID, 1, 1))
        with open(PREFIX + book.name, "r+b") as file:
            file.seek(REGION_HEADER)
            file.write((2**40 + 1).to_bytes(8, "little"))   # odd: what a writer killed here leaves
            file.flush()
            with pytest.raises(RegionError, match="no quiet moment"):
                book.bids()
