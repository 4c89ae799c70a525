"""A second look at a snapshot: who is right, the book or the venue's next answer?"""
from __future__ import annotations

import json
import time

import pytest

from mantra.core.book import Book
from mantra.core.messages import Kind, Update
from mantra.core.queue import Queue
from mantra.listener.second_look import PATIENCE, Look, SecondLook


class Bench:
    """A book at sequence 10 with bids 99, 98, 97 and asks 101, 102, 103, of size 5, and its feed's queue."""

    def __init__(self, window_s=0.0):
        self.book = Book.create(None, 1, 0)
        self.updates = Queue.create(None, "update", 64)
        self.producer = self.updates.producer()
        self.book.write(*((Kind.BID, price, 5) for price in (99, 98, 97)),
                        *((Kind.ASK, price, 5) for price in (101, 102, 103)), stamp=(10, 0, 0))
        self.look = SecondLook(self.book, self.updates, self.read, window_s)

    @staticmethod
    def read(body):
        try:
            answer = json.loads(body)
            return answer["lastUpdateId"], [(kind, int(price), int(size)) for kind, side in
                                            ((Kind.BID, "bids"), (Kind.ASK, "asks")) for price, size in answer[side]]
        except (ValueError, KeyError):
            return None

    def change(self, side, price, size, sequence, instrument=1):
        if instrument == 1:
            self.book.write((side, price, size), stamp=(sequence, 0, self.producer.position + 1))
        self.producer.produce(Update(instrument=instrument, kind=side, price=price, size=size, sequence=sequence))

    def at(self, last, bids=(99, 98, 97), asks=(101, 102, 103), **sizes):
        def rows(prices):
            return [[str(price), str(sizes.get(f"at{price}", 5))] for price in prices]

        return self.look.at(json.dumps({"lastUpdateId": last, "bids": rows(bids), "asks": rows(asks)}).encode())


def test_a_book_that_the_venue_says_again_is_right():
    assert Bench().at(10) == Look.AGREES


def test_a_book_goes_on_no_further_than_an_answer_that_was_not_cut():
    bench = Bench()
    assert bench.at(10, bids=(99,), asks=(101, 102)) == Look.AGAIN
    assert bench.at(10, bids=(99,), asks=(101, 102)) == Look.DIFFERS


@pytest.mark.parametrize("answer", [{"bids": (100, 99, 98)}, {"asks": (102, 103)}, {"at98": 6}])
def test_it_is_wrong_where_two_answers_in_a_row_differ(answer):
    bench = Bench()
    assert bench.at(10, **answer) == Look.AGAIN
    assert bench.at(10, **answer) == Look.DIFFERS


def test_one_answer_that_differs_may_be_wrong_itself():
    bench = Bench()
    assert bench.at(10, at98=6) == Look.AGAIN
    assert bench.at(10) == Look.AGREES
    bench = Bench()
    assert bench.at(10, at98=6) == Look.AGAIN
    assert bench.at(10, at103=6) == Look.AGAIN


def test_levels_that_changed_since_are_compared_as_they_were_at_the_answers_sequence():
    bench = Bench()
    bench.change(Kind.BID, 98, 7, 12)
    bench.change(Kind.BID, 98, 8, 13)
    assert bench.at(11) == Look.AGREES
    assert bench.at(11, at98=5) == Look.AGREES, "it fell into the middle of message 12"
    assert bench.at(12, at98=7) == Look.AGREES
    assert [bench.at(12, at98=8) for _ in range(2)] == [Look.AGAIN, Look.DIFFERS]


def test_changes_of_other_instruments_excuse_nothing():
    bench = Bench()
    bench.change(Kind.BID, 98, 7, 12, instrument=2)
    assert bench.at(10, at98=6) == Look.AGAIN
    assert bench.at(10, at98=6) == Look.DIFFERS


def test_an_answer_older_than_the_snapshot_is_no_second_look():
    assert Bench().at(9) == Look.AGAIN


def test_an_answer_ahead_of_the_stream_is_shown_again_until_the_market_must_be_quiet():
    bench = Bench()
    for _ in range(PATIENCE - 1):
        assert bench.at(11) == Look.LATER
    assert bench.at(11) == Look.AGREES


@pytest.mark.parametrize("body", [b"", b"{}", b"<html>", b'{"lastUpdateId":10,"bids":[],"asks":[]}'])
def test_what_is_no_book_says_nothing(body):
    assert Bench().look.at(body) == Look.AGAIN


def test_too_many_changes_to_remember_begin_the_look_anew():
    bench = Bench()
    for sequence in range(11, 111):
        bench.change(Kind.BID, 90, sequence, sequence)
    assert bench.at(110, bids=(99, 98, 97, 90), at90=110) == Look.AGAIN
    assert bench.at(110, bids=(99, 98, 97, 90), at90=110) == Look.AGREES


def test_what_came_and_went_within_a_window_is_found_by_an_answer_of_a_later_one():
    bench = Bench(60.0)
    assert bench.at(10) == bench.at(10) == Look.EARLY       # 101 may be gone already, and no diff will say so
    bench.change(Kind.BID, 98, 6, 14)
    assert bench.at(13) == bench.at(12, asks=(102, 103)) == Look.EARLY
    assert bench.at(14, asks=(102, 103), at98=6) == Look.AGAIN
    assert bench.at(14, asks=(102, 103), at98=6) == Look.DIFFERS


def test_a_window_in_which_nothing_else_changed_ends_by_the_clock():
    bench = Bench(0.02)
    assert bench.at(10) == Look.EARLY
    time.sleep(0.03)
    assert bench.at(10) == Look.AGREES
