"""An archive gives what a plain filter over everything captured gives, and books that are what they were."""
from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any, NamedTuple

import numpy as np
import pytest

import mantra
from mantra.archive import verify
from mantra.core.book import BookImage
from mantra.core.messages import DTYPES, LAYOUTS, Kind, Reason, Trust
from mantra.core.pack import Packer, unpack
from mantra.tape.segment import HEAD, SegmentReader, SegmentWriter, files

BASE = 1_700_000_000_000_000_000
BOOKS = {0: [(0, 1), (0, 2)], 1: [(0, 3), (4, 1)], 2: [(4, 2)]}      # of each feed: (venue, instrument)
VENUES, NAMES = {0: "binance", 4: "kraken"}, {1: "ETH-BTC", 2: "BTC-USD", 3: "BTC-USD"}     # 3: its next generation
STEP_NS = 3_000_000_000
SEEDS = range(8)


class Event(NamedTuple):
    time: int
    feed: int
    position: int
    message: np.void


class Taken(NamedTuple):
    """An image, and when it was taken."""

    time: int
    feed: int
    image: BookImage


class World:
    """Feeds that publish, and a capture that lags behind them, is overtaken, and changes its file now and then."""

    def __init__(self, seed: int, folder: Any) -> None:
        self.dice, self.folder = random.Random(seed), folder
        self.rate = self.dice.choice([1.0, 0.4])        # ns of a cycle
        self.now, self.books = BASE, {book: {1: {}, 2: {}} for books in BOOKS.values() for book in books}
        self.stamps = dict.fromkeys(self.books, (4, 0, 0, 0))       # trust, sequence, venue time, generation
        self.published: dict[int, list[Event]] = {feed: [] for feed in BOOKS}
        self.consumed = dict.fromkeys(BOOKS, 0)
        self.captured: list[Event] = []
        self.images: list[Taken] = []
        self.lost: list[Event] = []
        self.packer, self.written, self.writer = Packer("update"), 0, None
        self.reset: set[tuple[int, int]] = set()

    def cycles(self, time: int) -> int:
        return time if self.rate == 1.0 else round((time - BASE) / self.rate) + 10**15

    def clock(self) -> dict[str, Any]:
        kind = "virtual" if self.rate == 1.0 else "cycles"
        return {"clock": {"kind": kind, "ns_per_cycle": self.rate,
                          "points": [[0, 0] if self.rate == 1.0 else [self.cycles(self.now), self.now]]}}

    def publish(self, feed: int, book: tuple[int, int], kind: int, **fields: int) -> None:
        trust, sequence, _, generation = self.stamps[book]
        if kind == Kind.RESET:
            self.books[book] = {side: {self.price(side): self.dice.randrange(1, 99) for _ in "123"} for side in (1, 2)}
            generation, fields = generation + 1, {"price": generation + 1}
        elif kind != Kind.TRUST:
            fields = {"price": self.price(kind), "size": self.dice.choice([0, self.dice.randrange(1, 99)])}
            self.books[book][kind][fields["price"]] = fields["size"]
        trust, time = self.dice.choice([trust, trust, 3, 4]), self.now
        self.stamps[book] = trust, sequence + 1, time + 5, generation
        origin = time - 10
        message = np.zeros(1, DTYPES["update"])[0]
        for name, value in {"origin": self.cycles(origin), "venue_time_ns": time + 5, "sequence": sequence + 1,
                            "published": self.cycles(time) - self.cycles(origin) << 16 | feed, "venue": book[0],
                            "instrument": book[1], "kind": kind, "trust": trust, **fields}.items():
            message[name] = value
        self.published[feed].append(Event(time, feed, len(self.published[feed]), message))

    def price(self, side: int) -> int:
        return 100 + self.dice.randrange(12) * (-1 if side == 1 else 1)

    def truth(self, book: tuple[int, int]) -> tuple[list[list[int]], list[list[int]]]:
        bids, asks = ([[p, s] for p, s in sorted(self.books[book][side].items()) if s] for side in (1, 2))
        return bids[::-1], asks

    def image(self, feed: int, book: tuple[int, int]) -> None:
        bids, asks = (np.array(side, np.int64).reshape(-1, 2) for side in self.truth(book))
        trust, sequence, time, generation = self.stamps[book]
        image = BookImage(bids, asks, len(bids), len(asks), book[1], book[0], trust, 0, 0, generation, sequence, time,
                          len(self.published[feed]), 0, 0, 0)
        self.packer.image(feed, image)
        self.images.append(Taken(self.now, feed, image))

    def flush(self) -> None:
        if self.packer.count:
            first, last = (time if self.rate == 1.0 else BASE + round((time - 10**15) * self.rate)
                           for time in (self.packer.first, self.packer.last))
            count = self.packer.count
            self.writer.block(1, self.packer.pack(), count, first, last)

    def rotate(self) -> None:
        if self.writer is not None:
            self.flush()
            self.writer.close() if self.dice.random() < 0.7 else self.writer.leave()
        self.writer = SegmentWriter(self.folder / f"{self.written:03}.mantra", {
            "capture": "test", "feeds": {feed: f"updates.{feed}" for feed in BOOKS}, "venues": VENUES,
            "streams": {1: {"name": "updates", "message": "update", "layout": LAYOUTS["update"]}},
            "instruments": [{"id": number, "name": name, "generation": int(number == 3), "price_decimals": 2,
                             "size_decimals": 3} for number, name in NAMES.items()], **self.clock()})
        self.written += 1
        for feed, books in BOOKS.items():
            for book in books:
                if book in self.reset:
                    self.image(feed, book)

    def consume(self, feed: int, count: int) -> None:
        events = self.published[feed][self.consumed[feed]:][:count]
        if len(events) > 3 and self.dice.random() < 0.05:       # overtaken: the first of them are gone
            gone = self.dice.randrange(1, len(events))
            self.lost += events[:gone]
            self.writer.table({"gaps": [{"feed": feed, "position": events[0].position, "lost": gone,
                                         "utc_ns": self.now}]})
            self.consumed[feed] += gone
            events = events[gone:]
            for book in BOOKS[feed]:
                self.image(feed, book)
        for event in events:
            if self.packer.room == 0 or self.dice.random() < 0.03:
                self.flush()
            self.packer.add(feed, np.array([event.message]), event.position)
            self.captured.append(event)
            self.consumed[feed] += 1
            if event.message["kind"] == Kind.RESET:
                book = int(event.message["venue"]), int(event.message["instrument"])
                self.reset.add(book)
                self.image(feed, book)

    def run(self, steps: int) -> Iterator[None]:
        """Yields whenever something was published."""
        for feed, books in BOOKS.items():
            for book in books:
                self.now += STEP_NS
                self.publish(feed, book, Kind.RESET)
        self.rotate()
        for _ in range(steps):
            self.now += 2 * self.dice.randrange(1, STEP_NS)
            feed = self.dice.choice(list(BOOKS))
            kind = self.dice.choices([Kind.RESET, Kind.TRUST, Kind.BID, Kind.ASK], [2, 5, 50, 50])[0]
            self.publish(feed, self.dice.choice(BOOKS[feed]), kind)
            yield
            if self.dice.random() < 0.3:
                for feed in BOOKS:
                    self.consume(feed, self.dice.choice([0, 5, 20, 90]))
            if self.dice.random() < 0.03:
                self.image(feed, self.dice.choice([book for book in BOOKS[feed] if book in self.reset] or BOOKS[feed]))
            if self.dice.random() < 0.02:
                self.writer.table(self.clock())
            if self.dice.random() < 0.02:
                self.rotate()
        for feed in BOOKS:
            self.consume(feed, 10**6)
        self.flush()
        self.writer.leave() if self.dice.random() < 0.5 else self.writer.close()


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_read_is_a_plain_filter_of_what_was_captured(seed, tmp_path):
    world = World(seed, tmp_path)
    for _ in world.run(300):
        pass
    archive, dice = mantra.archive.open(tmp_path), random.Random(seed)
    times = sorted(event.time for event in world.captured)
    assert archive.span == (times[0], times[-1])
    for _ in range(25):
        venue, name = dice.choice([None, "binance", "kraken"]), dice.choice([None, "ETH-BTC", "BTC-USD"])
        number = dice.choice([None, 1, 2]) if name is None else None
        since, until = (dice.choice([None, dice.choice(times), dice.choice(times) + dice.randrange(-3, 3)])
                        for _ in range(2))
        expected = [event for event in sorted(world.captured, key=lambda event: event.time)
                    if (venue is None or VENUES[int(event.message["venue"])] == venue)
                    and (name is None or NAMES[int(event.message["instrument"])] == name)
                    and (number is None or event.message["instrument"] == number)
                    and (since is None or event.time >= since) and (until is None or event.time < until)]
        found = archive.updates(venue, name or number, since, until).array()
        assert mantra.archive.utc(found).tolist() == [event.time for event in expected]
        assert found["origin"].tolist() == [event.time - 10 for event in expected]
        for field in set(found.dtype.names) - {"origin", "published"}:
            assert found[field].tolist() == [event.message[field].item() for event in expected], field
        assert (found["published"] & np.uint64(0xFFFF)).tolist() == [event.feed for event in expected]
    assert sorted((lost.feed, lost.messages) for lost in archive.gaps()) == sorted(
        (f"updates.{gap.feed}", gap.lost) for entry in archive.entries for gap in entry.gaps)
    assert sum(lost.messages for lost in archive.gaps()) == len(world.lost)
    assert archive.problems == []


@pytest.mark.parametrize("seed", SEEDS)
def test_books_are_what_they_were(seed, tmp_path):
    world, truths = World(seed, tmp_path), {book: [] for books in BOOKS.values() for book in books}
    for _ in world.run(250):
        for book, told in truths.items():
            told.append((world.now, world.truth(book), world.stamps[book]))
    archive, dice = mantra.archive.open(tmp_path), random.Random(seed)
    outcomes = {"true": 0, "gap": 0, "synchronising": 0, "none": 0}
    for _ in range(80):
        feed = dice.choice(list(BOOKS))
        book = dice.choice(BOOKS[feed])
        at = dice.choice(truths[book])[0] + dice.choice([0, 0, 1])
        _, (bids, asks), (trust, sequence, venue_time, generation) = max(
            (told for told in truths[book] if told[0] <= at), key=lambda told: told[0])
        found = archive.book(VENUES[book[0]], book[1], at)
        taken = [one for one in world.images if one.feed == feed and one.time <= at
                 and (one.image.venue, one.image.instrument) == book]
        if found is None:
            assert not taken
            outcomes["none"] += 1
            continue
        since = taken[-1].image.position if taken else 0
        events = [event for event in world.published[feed] if event.position >= since and event.time <= at]
        missed = any(event in world.lost for event in events)
        # those lost on both sides of the moment: nobody can tell when each was published
        beside = [event for event in world.published[feed] if event.time > at][:1]
        beside += [event for event in world.published[feed] if event.time <= at][-1:]
        reset = any(event.message["kind"] == Kind.RESET and event.message["instrument"] == book[1]
                    and event.message["venue"] == book[0] for event in events)
        if found.trust == Trust.SUSPECT and found.reason == Reason.GAP:
            assert missed or any(event in world.lost for event in beside) or not taken
            outcomes["gap"] += 1
            continue
        if found.trust == Trust.SUSPECT:
            assert found.reason == Reason.SYNCHRONISING
            assert reset or not taken
            assert len(found.bids) == len(found.asks) == 0
            outcomes["synchronising"] += 1
            continue
        outcomes["true"] += 1
        assert (found.bids.tolist(), found.asks.tolist()) == (bids, asks)
        assert (found.trust, found.sequence, found.venue_time_ns, found.generation) == (trust, sequence, venue_time,
                                                                                        generation)
    assert outcomes["true"] > 30, outcomes


def harmed(data: bytes, dice: random.Random) -> bytes:
    at, length = dice.randrange(len(data)), dice.randrange(1, 40)
    return dice.choice([data[:at] + bytes([data[at] ^ 1 << dice.randrange(8)]) + data[at + 1:], data[:at],
                        data[:at] + dice.randbytes(length) + data[at:], data[:at] + data[at + length:],
                        data[:at] + bytes(length) + data[at + length:]])        # the last: as a disk gives it back


@pytest.mark.parametrize("seed", [*range(12), 207, 285, 644])
def test_damage_costs_what_it_hit_and_is_told_to_the_message(seed, tmp_path):
    world, dice = World(seed, tmp_path), random.Random(seed)
    for _ in world.run(300):
        pass
    check = verify.Check(files([tmp_path]))
    assert not check.damaged
    assert sum(file.messages for file in check.files) == len(world.captured)
    assert sum(gap.lost for queue in check.queues for gap in queue.told) == len(world.lost)
    captured, hit, gone = {(event.feed, event.position) for event in world.captured}, set(), set()
    for path in dice.sample(files([tmp_path]), 2):
        data = path.read_bytes()
        new = harmed(data, dice)
        with SegmentReader(path) as reader:
            for record in reader.blocks():
                body = reader.body(record)
                block = unpack("update", body)
                held = set(zip(block.feeds.tolist(), block.positions.tolist(), strict=True))
                hit |= held if data[record.offset:record.offset + HEAD + record.size] not in new else set()
                gone |= held if body not in new else set()      # while a header may be known from the index
        path.write_bytes(new)

    def between(lost: set[tuple[int, int]]) -> int:
        """How many of them are between others of their feed: whoever reads what is left can know of these."""
        left = {feed: [position for of, position in captured - lost if of == feed] for feed in BOOKS}
        return sum(min(left[feed], default=0) < position < max(left[feed], default=0) for feed, position in lost)

    check = verify.Check(files([tmp_path]))
    unreadable = any(file.state == "unreadable" for file in check.files)        # cut where it begins
    # A table that was hit may have told of what the capture lost.
    assert between(gone) <= sum(hole.gap.lost for hole in check.missing) <= between(hit) + len(world.lost)
    before = mantra.archive.open(tmp_path).updates().array()
    assert len(captured - hit) <= len(before) <= len(captured - gone)
    assert verify.repair([str(tmp_path)]) == unreadable
    assert unreadable or verify.main([str(tmp_path)]) == 0
    assert mantra.archive.open(tmp_path).updates().array().tobytes() == before.tobytes()


def test_moments_are_what_people_write():
    ns = 1_769_860_800_500_000_000
    for text in ("2026-01-31T12:00:00.500", "2026-01-31 12:00:00.500Z", "2026-01-31T13:00:00.500+01:00", str(ns), ns,
                 datetime(2026, 1, 31, 12, 0, 0, 500_000), datetime(2026, 1, 31, 12, 0, 0, 500_000, timezone.utc)):
        assert mantra.archive.moment(text) == ns
