"""Feeds of a private run that tests write themselves, a capture of them, and what its files hold."""
from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path

import numpy as np

from mantra.archive.capture import Capture
from mantra.core.messages import DTYPES, Flag, Kind
from mantra.core.pack import unpack
from mantra.runtime.spine import Spine
from mantra.tape.segment import SegmentReader

BIDS, ASKS = int(Kind.BID), int(Kind.ASK)


class Feed:
    """One connection of binance's: books of its own, updates and trades of a seeded walk."""

    def __init__(self, spine, number, books=2, seed=0):
        self.spine, self.name, self._random = spine, f"binance.{number}", random.Random(seed + number)
        self.row = spine.ledger.row(self.name, 0)
        self.updates = spine.queue(f"updates.{self.name}", "update").producer(number)
        self.trades = spine.queue(f"trades.{self.name}", "trade").producer(number)
        self.books, self.made = {}, {"update": [], "trade": []}
        self.joined = 0         # updates made before anybody listened
        for i in range(books):
            id = number * 100 + i
            spine.add_instrument(id, f"C{id}-USDT", 0, 2, 3)
            self.books[id] = spine.make_book("binance", 0, f"C{id}USDT", id)[0]
            spine.book_ledger.row(f"{self.name} C{id}USDT", 0, number, id)
        for id in self.books:
            self.reset(id)

    def _produce(self, message, /, **fields):
        now = self.spine.clock.cycles()
        row = np.zeros((), DTYPES[message])
        for name, value in {"origin": now - 500, "published": 400 << 16 | self.updates.publisher, **fields}.items():
            row[name] = value
        self.made[message].append(row)
        (self.updates if message == "update" else self.trades).produce(row.tobytes())

    def reset(self, id):
        """A snapshot."""
        levels = [(side, 10_000 + sign * self._random.randrange(1, 200), self._random.randrange(1, 99))
                  for side, sign in ((BIDS, -1), (ASKS, 1)) for _ in range(40)]
        self.books[id].write(*dict((level[:2], level) for level in levels).values(), whole=True, judge=(4, 0, 0),
                             stamp=(0, 0, self.updates.position + 1))
        self._produce("update", kind=Kind.RESET, instrument=id, price=len(self.made["update"]))

    def move(self, messages):
        """So many messages, of one to five updates each, and a trade now and then."""
        for _ in range(messages):
            id, sequence = self._random.choice(list(self.books)), len(self.made["update"])
            sides = self._random.choices((BIDS, ASKS), k=self._random.randrange(1, 6))
            changes = [(side, 10_000 + (-1 if side == BIDS else 1) * self._random.randrange(1, 200),
                        self._random.randrange(0, 99)) for side in sides]
            changes = list({change[:2]: change for change in changes}.values())
            self.books[id].write(*changes, stamp=(sequence, 0, self.updates.position + len(changes)))
            for n, (side, price, size) in enumerate(changes, 1):
                self._produce("update", kind=side, instrument=id, price=price, size=size, sequence=sequence, trust=4,
                              flags=Flag.MORE if n < len(changes) else 0)
            if self._random.random() < 0.2:
                self._produce("trade", instrument=id, price=10_000, size=1, trade_id=sequence, side=1)


class Capturing:
    """A capture of `spine` to a folder, stepped by hand."""

    def __init__(self, spine, out, reads=("updates", "trades"), **options):
        self.spine, self.capture = spine.for_actor("capture", None), Capture("capture", reads, out=out, **options)
        self.capture.setup(self.spine)

    def step(self, times=1):
        for _ in range(times):
            self.capture.step(self.spine)

    def until(self, condition, steps=5000):
        for _ in range(steps):
            if condition():
                return
            self.step()
        raise AssertionError(f"not within {steps} steps: {self.capture.counts()}")

    def end(self):
        self.capture.stopping.set()
        while self.capture.step(self.spine):
            pass
        self.capture.teardown(self.spine)


class Kept:
    """What the files of a folder hold: messages by feed at their positions, and the books that follow."""

    def __init__(self, folder):
        self.messages, self.books, self.images = defaultdict(dict), {}, []
        self.files = sorted(Path(folder).glob("*.mantra*"))
        self.gaps, self.names, self.problems, self.ledgers = set(), {}, [], 0
        for path in self.files:
            with SegmentReader(path) as reader:
                self.names = reader.table.feeds
                self.gaps |= reader.table.gaps
                self.instruments = reader.table.instruments
                self.ledgers += len(reader.blocks("ledger"))
                for record in reader.blocks():
                    stream = reader.table.streams[record.stream]
                    if stream.message:
                        self._read(reader, record, stream.message)
                self.problems += reader.problems

    def _read(self, reader, record, message):
        block = unpack(message, reader.body(record))
        images, times = iter([*block.images, None]), []
        image = next(images)
        rows = zip(block.messages, block.feeds.tolist(), block.positions.tolist(), strict=True)
        for n, (row, feed, position) in enumerate(rows):
            while image is not None and image.before <= n:
                self._image(image)
                image = next(images)
            name = self.names[feed]
            times.append(int(row["origin"] + (row["published"] >> 16)))
            assert position not in self.messages[name]
            self.messages[name][position] = row.tobytes()
            if message == "update":
                self._update(name, int(row["instrument"]), position, row)
        while image is not None:
            self._image(image)
            image = next(images)
        assert len(block.messages) == record.messages
        if times:       # UTC to within a microsecond or so, wherever in the file
            for cycles, utc in ((min(times), record.first_ns), (max(times), record.last_ns)):
                assert abs(int(reader.table.utc(np.array([cycles], np.uint64))[0]) - utc) < 100_000

    def _image(self, image):
        self.images.append((self.names[image.feed], image.image.instrument, image.image.position))
        self.books[self.names[image.feed], image.image.instrument] = [
            dict(image.image.bids.tolist()), dict(image.image.asks.tolist()), image.image.position]

    def _update(self, name, instrument, position, row):
        book = self.books.get((name, instrument))
        if book is None or position < book[2]:
            return
        if row["kind"] == Kind.RESET:
            del self.books[name, instrument]
        elif row["kind"] == Kind.TRUST:
            pass
        elif row["size"]:
            book[row["kind"] - 1][int(row["price"])] = int(row["size"])
        else:
            book[row["kind"] - 1].pop(int(row["price"]), None)

    def agree(self, feeds):
        """Everything that the feeds made is there, and their books."""
        for feed in feeds:
            for message, family, first in (("update", "updates", feed.joined), ("trade", "trades", 0)):
                made = {first + n: row.tobytes() for n, row in enumerate(feed.made[message][first:])}
                assert self.messages[f"{family}.{feed.name}"] == made
            self.books_agree(feed)

    def books_agree(self, feed):
        for id, book in feed.books.items():
            mine = self.books[f"updates.{feed.name}", id][:2]
            assert mine == [dict(book.bids().tolist()), dict(book.asks().tolist())]


def private_run(feeds=3, **options):
    spine = Spine.private()
    made = [Feed(spine, number, **options) for number in range(feeds)]
    for feed in made:
        feed.joined = feed.updates.position
    return spine, made
