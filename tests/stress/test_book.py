"""Threads of a second process read a book while it changes and never see a torn one; without the seqlock they do."""
from __future__ import annotations

import itertools
import mmap
import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from mantra.core import book as book_module
from mantra.core.book import BID, Book
from mantra.core.region import PREFIX, Region
from mantra.errors import RegionError

PRICES = 2000       # 0 to 1,999, of bids minus that: 0 is the best of either side
KEYS = np.random.default_rng(1).integers(1 << 63, size=(2, PRICES), dtype=np.uint64)
REGION_HEADER, BOOK_HEADER, SLACK = 1024, 128, 4   # csrc/mantra/region.h, book.h: for the broken twin only


def digest(*sides: Any) -> int:
    """Of the levels (rows of price and size) of both sides."""
    sums = (KEYS[side, abs(levels[:, 0])] * levels[:, 1].astype(np.uint64) for side, levels in enumerate(sides))
    return sum(int(each.sum()) for each in sums) % 2**64


def write(name: str, deep: Any) -> None:
    """For ever: books become deep, lose most levels (the best too), or have all replaced. A message's sequence is the
    digest of what it leaves."""
    draw, prices = np.random.default_rng(), np.arange(PRICES)
    levels = [np.stack([prices * sign, prices * 0], axis=1) for sign in (-1, 1)]
    with Book.create(name, 1, 0, start=1) as book:
        for n in itertools.count():
            side, whole = n % 2, n % 500 == 499
            some = draw.choice([0, draw.integers(PRICES - 100)]) + draw.integers(100, size=50)
            levels[side][some, 1] = draw.integers(1, 99, 50) * (draw.random(50) < (0.9, 0.1)[n // 300 % 2])
            rows = [(i + 1, *level) for i in ([0, 1] if whole else [side])
                    for level in levels[i][prices if whole else some].tolist()]
            book.write(*rows, whole=whole, stamp=(digest(*levels), 0, 0))
            if n == 300:
                deep.set()


@pytest.fixture
def written() -> Iterator[str]:
    """The name of a book that another process changes without a pause."""
    name, spawn = f"test-stress-book-{os.getpid()}", multiprocessing.get_context("spawn")
    deep = spawn.Event()
    writer = spawn.Process(target=write, args=(name, deep))
    writer.start()
    try:
        assert deep.wait(60)
        yield name
    finally:
        writer.terminate()
        writer.join()
        Region.remove_stale(name)


def test_threads_of_another_process_never_see_a_torn_book(written: str) -> None:
    end = time.monotonic() + 2

    def read() -> list[int]:
        book, counts = Book.open(written), []
        while time.monotonic() < end:
            image, best = book.image(), book.image(5)
            assert digest(image.bids, image.asks) == image.sequence
            assert (len(image.bids), len(image.asks)) == (image.bid_count, image.ask_count)
            assert all((np.diff(side[:, 0]) > 0).all() for side in (-image.bids, image.asks, best.asks))
            assert len(best.asks) == min(5, best.ask_count)
            counts.append(image.bid_count)
        return counts

    with ThreadPoolExecutor(2) as threads:
        for seen in [threads.submit(read) for _ in range(2)]:
            counts = seen.result()
            assert len(counts) > 20
            assert min(counts) < 1024 < max(counts)      # without a deep part, and with one


def test_reader_that_does_not_look_at_the_version_is_caught(written: str) -> None:
    Book.open(written)   # is there
    with open(PREFIX + written, "rb") as file:
        memory = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    page = np.frombuffer(memory, np.uint8)[REGION_HEADER:]
    sequence, counts = page[16:24].view(np.uint64), page[64:76].view(np.uint32)
    seen, end = set(), time.monotonic() + 10
    while time.monotonic() < end and len(seen) < 2:
        bids, asks, capacity = (int(count) for count in counts)
        levels = page[BOOK_HEADER:][:32 * (capacity + SLACK)].view(np.int64).reshape(2, -1, 2)
        seen.add(digest(levels[0, :bids], levels[1, :asks]) == sequence[0])     # a hole's size is 0
    assert seen == {True, False}      # or this test could not tell a torn copy from a whole one


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
