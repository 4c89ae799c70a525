"""Books: growth, ceilings, images, who may write."""
from __future__ import annotations

import os

import pytest

from mantra.core.book import ABSENT, ASK, BID, SAME, Book
from mantra.errors import LayoutMismatch, RegionError


@pytest.fixture
def name() -> str:
    return f"test-book-{os.getpid()}"


def test_change_returns_the_rank_of_its_level() -> None:
    book = Book.create(None, 1, 0)
    assert book.write(*((BID, price, 5) for price in (100, 101, 99))) == [0, 0, 2]
    assert book.write(*((ASK, price, 5) for price in (100, 101, 99))) == [0, 1, 0]
    assert book.write((BID, 100, 5), (BID, 98, 0), (BID, 100, 0)) == [SAME, ABSENT, 1]
    assert book.bids().tolist() == [[101, 5], [99, 5]]
    assert book.asks().tolist() == [[99, 5], [100, 5], [101, 5]]


def test_book_grows_by_doubling_and_counts_it() -> None:
    book = Book.create(None, 1, 0, ceiling=100, start=4)
    for price in range(1, 31):
        book.write((ASK, price, price))
        book.write((BID, -price, price))
    image = book.image()
    assert (image.growths, image.capacity, image.ceiling) == (3, 32, 100)
    assert image.asks.tolist() == [[price, price] for price in range(1, 31)]
    assert image.bids.tolist() == [[-price, price] for price in range(1, 31)]


def test_book_at_its_ceiling_refuses_and_stays_as_it_was() -> None:
    book = Book.create(None, 1, 0, ceiling=3, start=1)
    book.write((BID, 1, 1), (BID, 2, 1), (BID, 3, 1), whole=True)
    for changes, whole in (([(BID, 4, 1)], False), ([(ASK, price, 1) for price in range(4)], True),
                           ([(BID, 1, 0), (BID, 9, 9)], False)):
        with pytest.raises(RegionError, match="ceiling is 3"):
            book.write(*changes, whole=whole, stamp=(9, 9, 9))
    assert book.image().sequence == 0
    assert book.bids().tolist() == [[3, 1], [2, 1], [1, 1]]
    assert book.write((BID, 3, 0)) == [0]
    assert book.write((BID, 4, 1)) == [0]


def test_image_replaces_all_levels_and_says_what_it_contains() -> None:
    book = Book.create(None, 12, 3)
    book.write((BID, 1, 1))
    book.write((ASK, 11, 2), (ASK, 10, 1), whole=True, stamp=(77, 1_700_000_000_000_000_000, 5), judge=(4, 0, 42))
    image = book.image(1)
    assert (image.bid_count, image.ask_count, image.asks.tolist(), len(image.bids)) == (0, 2, [[10, 1]], 0)
    assert (image.instrument, image.venue, image.trust, image.reason, image.trust_since_ns) == (12, 3, 4, 0, 42)
    assert (image.sequence, image.venue_time_ns, image.position) == (77, 1_700_000_000_000_000_000, 5)


def test_restarted_book_is_empty_and_another_instrument() -> None:
    book = Book.create(None, 12, 3)
    book.write((BID, 1, 1), (ASK, 2, 1))
    book.write(whole=True, instrument=13)
    image = book.image()
    assert (image.bid_count, image.ask_count, image.instrument, image.venue) == (0, 0, 13, 3)


def test_copies_are_copies() -> None:
    book = Book.create(None, 1, 0)
    book.write((BID, 1, 1))
    bids = book.bids()
    bids[0, 1] = 99
    book.write((BID, 1, 2))
    assert bids.tolist() == [[1, 99]]
    assert book.bids().tolist() == [[1, 2]]


def test_book_opened_by_name_shows_the_same_and_refuses_to_write(name: str) -> None:
    with Book.create(name, 1, 2, start=2) as book:
        reader = Book.open(name)
        for price in range(100):   # grows under the reader
            book.write((BID, price, 1))
        assert reader.bids().tolist() == book.bids().tolist()
        assert reader.owner_alive
        assert reader.name == name
        reader.check()
        with pytest.raises(RegionError, match="opened for reading"):
            reader.write((BID, 1, 1))
    with pytest.raises(RegionError):
        Book.open(name)
    assert reader.image(0).bid_count == 100   # mapped memory outlives the name


def test_region_of_another_kind_is_no_book(name: str) -> None:
    from mantra.core.region import Region

    with Region.create(name, 4096, kind="queue"), pytest.raises(LayoutMismatch):
        Book.open(name)


@pytest.mark.parametrize(("side", "size"), [(0, 1), (3, 1), (BID, -1)])
def test_change_that_makes_no_sense_is_refused(side: int, size: int) -> None:
    book = Book.create(None, 1, 0)
    with pytest.raises(ValueError, match=r"side|size"):
        book.write((BID, 1, 1), (side, 1, size))
    assert book.image().bid_count == 0


def test_sound_book_checks_and_shows_itself() -> None:
    book = Book.create(None, 1, 0)
    book.write((BID, 1, 1), (ASK, 2, 1))
    book.check()
    assert repr(book) == "<Book (private): instrument 1, venue 0, 1 bids, 1 asks>"
