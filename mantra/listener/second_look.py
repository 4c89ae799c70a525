"""second_look: is a snapshot what the venue says when it is asked again?

A REST book may be wrong with a right sequence: without its best levels, say, or from a cache older than the stream. No
sequence shows that, and what the stream does not touch stays wrong. So a smaller snapshot is fetched a moment later and
compared with the book as it is by then, level by level, but for the levels that changed meanwhile. One that differs may
be wrong itself (or fall into the middle of a message), so the book is wrong where two in a row differ from it.
"""
from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from mantra.core.book import Book
from mantra.core.messages import Kind
from mantra.core.queue import Queue

LEVELS = 100            # a side: where the trading is, for a small part of a whole snapshot's weight
COMPARED = 50
AFTER_S = 0.2
PATIENCE = 20           # looks at one answer, AFTER_S apart, while the stream is behind it


class Look(Enum):
    """What came of looking at an answer."""

    AGREES = auto()
    DIFFERS = auto()
    AGAIN = auto()      # it says nothing yet: ask the venue for another
    LATER = auto()      # the stream has not come so far: show it again


class SecondLook:
    """Of one book, from just after its snapshot on; `updates` is its feed's queue, `read` reads an answer (see
    Feed.levels_of). On the feed's thread."""

    def __init__(self, book: Book, updates: Queue,
                 read: Callable[[bytes], tuple[int, list[tuple[int, int, int]]] | None]) -> None:
        self._book, self._updates, self._read = book, updates, read
        self._begin()

    def _begin(self) -> None:
        image = self._book.image(1)
        self._sequence = image.sequence
        self._changes = self._updates.consumer(image.position, on_lap="count")
        self._touched: set[tuple[int, int]] = set()
        self._doubts: set[tuple[int, int]] = set()
        self._shown = 0

    def at(self, body: bytes) -> Look:
        """Look at the venue's answer."""
        answer = self._read(body)
        if answer is None:
            return Look.AGAIN
        sequence, levels = answer
        his = {(kind, price): size for kind, price, size in levels}
        bids, asks = ([price for kind, price in his if kind == side] for side in (Kind.BID, Kind.ASK))
        if sequence < self._sequence or not (bids and asks):
            return Look.AGAIN
        image = self._book.image()
        self._shown += 1
        if image.sequence < sequence and self._shown < PATIENCE:     # after that it is quiet rather than behind
            return Look.LATER
        self._shown = 0
        while len(batch := self._changes.batch()):
            ours = batch[batch["instrument"] == image.instrument]
            self._touched.update(zip(ours["kind"].tolist(), ours["price"].tolist(), strict=True))
        if self._changes.lost:
            self._begin()
            return Look.AGAIN
        # Not to the end: a cut snapshot's book does not know what has come into sight there since.
        lowest, highest = sorted(bids)[-COMPARED:][0], sorted(asks)[:COMPARED][-1]
        his = {(kind, price): size for (kind, price), size in his.items()
               if (price >= lowest if kind == Kind.BID else price <= highest)}
        mine = {(int(Kind.BID), price): size for price, size in image.bids.tolist() if price >= lowest}
        mine |= {(int(Kind.ASK), price): size for price, size in image.asks.tolist() if price <= highest}
        differ = {level for level in his.keys() | mine.keys() if his.get(level) != mine.get(level)} - self._touched
        before, self._doubts = self._doubts, differ
        if not differ:
            return Look.AGREES
        return Look.DIFFERS if before & differ else Look.AGAIN
