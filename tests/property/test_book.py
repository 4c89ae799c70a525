"""Books equal a slow reference after any walk, and any image equals the levels it names."""
from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mantra.core.book import ASK, BID, Book
from tests.reference.ladder import SlowBook

EXACT = 256     # past so many levels a rank may count holes
CHANGE = st.tuples(st.sampled_from([BID, ASK]), st.integers(-3, 40) | st.integers(-2**63, 2**63 - 1),
                   st.integers(0, 3) | st.integers(0, 2**63 - 1))


def equals(book: Book, slow: SlowBook) -> None:
    book.check()
    assert book.bids().tolist() == slow.levels(BID)
    assert book.asks().tolist() == slow.levels(ASK)
    assert book.bids(3).tolist() == slow.levels(BID)[:3]


@pytest.mark.parametrize("seed", range(24))
def test_book_equals_reference_after_any_walk(seed: int) -> None:
    draw = random.Random(seed)
    book, slow = Book.create(None, 1, 0, start=draw.choice([1, 16, 1024])), SlowBook()
    middle, width = draw.randrange(10**9), draw.choice([5, 60, 2000])
    if width == 2000:       # deep: levels go and come where there are holes
        start = [(side, middle + (-away if side == BID else away), 1) for away in range(4000) for side in (BID, ASK)]
        book.write(*start, whole=True)
        for change in start:
            slow.apply(*change)
    for step in range(1500):
        side = draw.choice([BID, ASK])
        away = min(int(draw.expovariate(1 / width)), 20 * width)
        middle += draw.choice([-1, 0, 0, 1])
        change = (side, middle + (-away if side == BID else away), draw.choice([0, 0, 1, 2, 10**15]))
        rank, (told,) = slow.apply(*change), book.write(change)
        assert told == rank if rank < EXACT else told >= rank
        if step % 250 == 0:
            equals(book, slow)
    equals(book, slow)


@settings(max_examples=150, deadline=None)
@given(st.lists(CHANGE, max_size=120), st.integers(1, 20))
def test_any_changes_in_one_message_equal_reference(changes: list[tuple[int, int, int]], start: int) -> None:
    book, slow = Book.create(None, 1, 0, start=start), SlowBook()
    assert book.write(*changes) == [slow.apply(*change) for change in changes]
    equals(book, slow)


@settings(max_examples=150, deadline=None)
@given(st.lists(CHANGE, max_size=120), st.sampled_from([None, False, True]))
def test_image_in_any_order_equals_reference_whatever_was_there(
        changes: list[tuple[int, int, int]], descending: bool | None) -> None:
    if descending is not None:
        changes.sort(key=lambda change: change[1], reverse=descending)
    book, slow = Book.create(None, 1, 0, start=1), SlowBook()
    book.write((BID, 7, 7))
    book.write(*changes, whole=True)
    for change in changes:
        if change[2]:
            slow.apply(*change)
    equals(book, slow)
