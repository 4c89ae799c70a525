"""Hops: late starts, laps, unknown instruments, waking; tops conflated from tops and from updates."""
from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from mantra.core.aggregate import Conflator, WorldMerger
from mantra.core.book import ASK, BID, Book
from mantra.core.clock import Clock
from mantra.core.doorbell import Doorbell
from mantra.core.histogram import Histogram
from mantra.core.ledger import Ledger
from mantra.core.merge import Merge
from mantra.core.messages import InstrumentRow, Top, Trust, Update
from mantra.core.queue import Queue
from mantra.core.vector import Vector
from mantra.errors import RegionError
from tests.reference.world import top_of

MS = 1_000_000


def top(venue: int, price: int, *, instrument: int = 1, trust: int = 4, publisher: int = 1, origin: int = 0) -> Top:
    return top_of([(price, 1)], [(price + 1, 1)], instrument=instrument, venue=venue, trust=trust, origin=origin,
                  published=publisher)


class Run:
    """Everything a merger stands on, in private memory; `feeds` queues of tops."""

    def __init__(self, feeds: int = 1, capacity: int = 8) -> None:
        self.clock = Clock.virtual(10**18)
        self.doorbell = Doorbell.create()
        self.queues = [Queue.create(None, "top", capacity) for _ in range(feeds)]
        self.producers = [queue.producer(n, doorbell=self.doorbell) for n, queue in enumerate(self.queues)]
        self.worlds, self.latest = Queue.create(None, "world", 64), Vector.create(None, "world", 8)
        self.instruments, self.tops = Vector.create(None, "instrument", 8), Vector.create(None, "top", 8)
        self.consumer = self.worlds.consumer("oldest")
        self.instruments.write(0, InstrumentRow(name="A-B", instrument=1))

    def merger(self, **options: Any) -> WorldMerger:
        return WorldMerger(Merge(self.queues), self.worlds.producer(99), self.clock, instruments=self.instruments,
                           latest=self.latest, doorbell=self.doorbell, tops=self.tops, **options)

    def bids(self) -> Sequence[tuple[int, int, int]]:
        world = self.latest.read(0)
        return [] if world is None else world.bids


def test_view_carries_the_origin_of_the_top_that_moved_it_and_its_latency_is_counted() -> None:
    run, latency = Run(), Histogram.create()
    merger = run.merger(latency=latency)
    run.producers[0].produce(top(0, 100, origin=run.clock.cycles() - 5_000))
    assert merger.step() == 1
    world = run.consumer.read()
    assert (world.origin, world.publisher) == (run.clock.cycles() - 5_000, 99)
    assert (latency.count, latency.max, merger.published) == (1, 5_000, 1)


def test_top_that_changes_nothing_is_not_published_again() -> None:
    run = Run()
    merger = run.merger()
    for _ in range(3):
        run.producers[0].produce(top(0, 100))
    assert (merger.step(), merger.published) == (3, 1)


def test_late_start_begins_with_the_newest_tops_of_the_feeds_it_reads() -> None:
    run = Run(feeds=2)
    for publisher, price in ((0, 100), (1, 101)):
        run.producers[publisher].produce(top(publisher, price, publisher=publisher))
        run.tops.write(publisher, top(publisher, price, publisher=publisher))
    run.tops.write(5, top(2, 500, publisher=2))     # of a feed that this merger does not read
    run.merger()
    assert run.bids() == [(101, 1, 0b10), (100, 1, 0b01)]


def test_merger_that_was_lapped_catches_up_from_the_newest_tops() -> None:
    run = Run(feeds=2, capacity=8)
    merger, row = run.merger(), Ledger.create(rows=1).row("one.0", 0)
    merger.feeds = [row, None]
    run.producers[1].produce(top(1, 7, publisher=1))
    merger.step()
    for price in range(100):
        run.producers[0].produce(top(0, price, publisher=0))
    run.producers[0].produce(top(3, 40, publisher=0))
    run.tops.write(0, top(0, 99, publisher=0))
    run.tops.write(1, top(1, 7, publisher=1))
    for _ in range(4):
        merger.step()
    assert merger.lost == row["overruns"] > 0
    assert run.bids() == [(99, 1, 0b0001), (40, 1, 0b1000), (7, 1, 0b0010)]


def test_top_older_than_the_one_caught_up_with_is_ignored() -> None:
    run = Run()
    run.producers[0].produce(top(0, 90, publisher=0, origin=1_000))
    run.tops.write(0, top(0, 100, publisher=0, origin=2_000))
    merger = run.merger()
    run.producers[0].produce(top(0, 95, publisher=0, origin=1_500))
    merger.step()
    assert run.bids() == [(100, 1, 1)]


def test_instrument_added_later_is_found_and_an_unknown_one_is_counted() -> None:
    run = Run()
    merger = run.merger()
    run.producers[0].produce(top(0, 100, instrument=77))
    merger.step()
    assert (merger.unknown, merger.published) == (1, 0)
    run.instruments.write(1, InstrumentRow(name="C-D", instrument=77))
    run.producers[0].produce(top(0, 100, instrument=77))
    merger.step()
    assert (merger.unknown, merger.published) == (1, 1)
    assert run.latest.read(1).instrument == 77
    assert run.latest.read(0) is None


@pytest.mark.parametrize("summed", [False, True])
@pytest.mark.parametrize("least", list(Trust))
@pytest.mark.parametrize("trust", list(Trust))
def test_book_trusted_less_than_asked_leaves_the_view_within_one_message_and_returns(
        trust: Trust, least: Trust, summed: bool) -> None:
    run = Run()
    merger = run.merger(least_trust=least, summed=summed)
    run.producers[0].produce(top(1, 90))
    for state, since in ((Trust.VERIFIED, 10), (trust, 20), (Trust.VERIFIED, 30)):      # no level ever changes
        run.producers[0].produce(top_of([(100, 1)], [(101, 1)], instrument=1, trust=state, reason=9 * (state != 4),
                                        trust_since_ns=since * 10**9))
        published = merger.published
        merger.step()
        world = run.latest.read(0)
        assert merger.published == published + 1 + (since == 10)        # the first step takes the other venue's too
        assert world.books[0] == (0, state, 9 * (state != 4), since)
        assert run.bids() == [(100, 1, 1)] * (state >= least) + [(90, 1, 2)]


def test_waiting_step_works_without_the_interpreter_and_ends_when_woken() -> None:
    run = Run()
    merger = run.merger()
    handled: list[int] = []
    thread = threading.Thread(target=lambda: handled.append(merger.step(3600 * 10**9)))
    thread.start()
    run.producers[0].produce(top(0, 100))
    end = time.monotonic() + 10
    while run.latest.read(0) is None and time.monotonic() < end:
        time.sleep(0.001)
    assert run.bids() == [(100, 1, 1)]
    assert thread.is_alive()
    merger.wake()
    thread.join(10)
    assert handled == [1]


def test_vector_of_views_opened_for_reading_is_refused() -> None:
    run = Run()
    with Vector.create(f"test-{os.getpid()}.worlds", "world", 4) as worlds:
        run.latest = Vector.open(worlds.name or "")
        with pytest.raises(RegionError, match="opened for reading"):
            run.merger()


def test_queues_of_another_message_are_refused() -> None:
    run = Run()
    with pytest.raises(ValueError, match="not world"):
        WorldMerger(Merge(run.queues), Queue.create(None, "top", 8).producer(1), run.clock,
                    instruments=run.instruments, latest=run.latest)
    with pytest.raises(ValueError, match="not top or update"):
        Conflator(Merge([run.worlds]), Queue.create(None, "top", 8).producer(1), run.clock, MS)


def test_conflated_tops_are_the_newest_and_no_more_than_one_an_interval() -> None:
    run, out = Run(), Queue.create(None, "top", 64)
    consumer = out.consumer("oldest")
    conflator = Conflator(Merge(run.queues), out.producer(5), run.clock, 100 * MS)
    published = []
    for step in range(30):                      # 10 ms apart, of two books
        run.producers[0].produce(top(0, step))
        run.producers[0].produce(top(1, 1000 + step))
        run.clock.advance(10 * MS)
        assert conflator.step() == 2
        published += [(step, one.venue, one.bids[0][0]) for one in consumer]
    assert [row for row in published if row[1] == 0] == [(0, 0, 0), (10, 0, 10), (20, 0, 20)]
    assert [row for row in published if row[1] == 1] == [(0, 1, 1000), (10, 1, 1010), (20, 1, 1020)]
    run.clock.advance(100 * MS)
    conflator.step()
    assert sorted(one.bids[0][0] for one in consumer) == [29, 1029]     # the last state is never kept back
    run.clock.advance(100 * MS)
    conflator.step()
    assert consumer.read() is None


def test_tops_conflated_from_updates_are_what_the_books_became() -> None:
    clock, out = Clock.virtual(10**18), Queue.create(None, "top", 64)
    updates, book = Queue.create(None, "update", 64), Book.create(None, 1, 0)
    producer, consumer = updates.producer(1), out.consumer("oldest")
    conflator = Conflator(Merge([updates]), out.producer(5), clock, 100 * MS, books=[book])
    conflator.step()
    assert consumer.read().bids == []           # the state it begins with
    clock.advance(100 * MS)
    book.write((BID, 10, 1), (BID, 9, 2), (ASK, 11, 3), stamp=(77, 5, 2))
    for kind, price in ((BID, 10), (ASK, 11)):
        producer.produce(Update(instrument=1, venue=0, kind=kind, price=price, origin=clock.cycles() - 9))
    producer.produce(Update(instrument=8, venue=0, kind=BID))
    conflator.step()
    made = consumer.read()
    assert (made.bids, made.asks, made.sequence) == ([(10, 1), (9, 2)], [(11, 3)], 77)
    assert (made.origin, made.publisher) == (clock.cycles() - 9, 5)
    assert (consumer.read(), conflator.unknown) == (None, 1)
    book.write(whole=True, instrument=2)                        # another scale: another instrument, the same book
    producer.produce(Update(instrument=2, venue=0, kind=0))
    clock.advance(100 * MS)
    conflator.step()
    assert consumer.read().instrument == 2
