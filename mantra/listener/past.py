"""past: a book as it was: from its image on, every size that each of its levels had, and when.

What somebody else says of a book (a venue's REST answer, the book of another stream) is of one moment: of a number,
where they number what they say, else of some time between asking and answering. Where it came from does not matter.
"""
from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from math import inf
from typing import NamedTuple

from mantra.core.book import Book
from mantra.core.messages import Kind
from mantra.core.queue import Queue

Level = tuple[int, int]     # kind (Kind.BID, Kind.ASK), price in ticks


class Had(NamedTuple):
    """A size that a level had since the message of this number, which arrived then (cycles); 0, 0: from the first."""

    number: int
    arrived: int
    size: int


class Differs(NamedTuple):
    """A level that never had, when it was to have it, the size that the other side says; `had`: what it had then."""

    level: Level
    theirs: int
    had: tuple[Had, ...]


class Past:
    """Follow `book`, whose feed writes the queue `updates`, from now on."""

    def __init__(self, book: Book, updates: Queue) -> None:
        self._book, self._updates = book, updates
        self._begin()

    def _begin(self) -> None:
        image = self._book.image()
        self.first = self.sequence = image.sequence         # numbers of the image, and of the newest message
        self._instrument = image.instrument
        self._changes = self._updates.consumer(image.position, on_lap="count")
        self._now = {(int(kind), price): size for kind, side in ((Kind.BID, image.bids), (Kind.ASK, image.asks))
                     for price, size in side.tolist()}
        self._log: dict[Level, list[tuple[int, int, int]]] = {}     # number and arrival of each change, the size before
        self._numbers = [image.sequence]                            # of every message that changed a level

    @property
    def second(self) -> float:
        """The number of the first message after the image; infinite until there is one."""
        return self._numbers[1] if len(self._numbers) > 1 else inf

    def follow(self) -> bool:
        """Take what was published since. False: that was too much, or the book was taken anew: the past begins now."""
        now, log, numbers = self._now, self._log, self._numbers
        image = self._book.image(0)
        while len(batch := self._changes.batch()):
            ours = batch[batch["instrument"] == self._instrument]
            for kind, price, size, number, arrived in zip(
                    *(ours[name].tolist() for name in ("kind", "price", "size", "sequence", "origin")), strict=True):
                if kind == Kind.TRUST:
                    continue
                if kind == Kind.RESET:
                    self._begin()
                    return False
                if number != numbers[-1]:
                    numbers.append(number)
                level = kind, price
                log.setdefault(level, []).append((number, arrived, now.pop(level, 0)))
                if size:
                    now[level] = size
        if self._changes.lost or image.instrument != self._instrument:
            self._begin()
            return False
        if self._changes.position >= image.position:        # else its last message is not all there yet
            self.sequence = image.sequence
        return True

    def had(self, level: Level, first: int, last: int, *, by_number: bool) -> tuple[Had, ...]:
        """The sizes of `level` between two numbers, or two times of arrival (cycles)."""
        changes = self._log.get(level, [])
        begins = [(0, 0), *((number, arrived) for number, arrived, _ in changes)]
        sizes = [*(before for _, _, before in changes), self._now.get(level, 0)]
        which = 0 if by_number else 1
        ends = [*(begin[which] for begin in begins[1:]), inf]
        return tuple(Had(*begin, size) for begin, size, end in zip(begins, sizes, ends, strict=True)
                     if begin[which] <= last and first < end)

    def differences(self, theirs: Mapping[Level, int], most: int, first: int, last: int | None = None
                    ) -> tuple[int, list[Differs]]:
        """Levels compared, and those that differ from `theirs` (no empty ones), best first: at the number `first`, or
        always between the arrivals `first` and `last`. A side of theirs with `most` levels may go on: further down
        nothing is compared. A number may fall into the middle of a message: what that one changed may have had any size
        in between, so it is not compared."""
        by_number, within = last is None, None
        if last is None:
            after = bisect_right(self._numbers, first)
            if after < len(self._numbers) and self._numbers[after - 1] != first:
                within = self._numbers[after]
            last = first
        ends = {}
        for kind, sign in ((int(Kind.BID), -1), (int(Kind.ASK), 1)):
            prices = sorted(sign * price for side, price in theirs if side == kind)
            ends[kind] = sign, prices[most - 1] if len(prices) >= most else inf
        seen = [level for level in self._now.keys() | self._log.keys() | theirs.keys()
                if ends[level[0]][0] * level[1] <= ends[level[0]][1]]
        compared, differ = 0, []
        for level in seen:
            if within is not None and any(number == within for number, _, _ in self._log.get(level, ())):
                continue
            had = self.had(level, first, last, by_number=by_number)
            size = theirs.get(level, 0)
            right = any(size == one.size for one in had)
            compared += bool(size) or not right
            if not right:
                differ.append(Differs(level, size, had))
        return compared, sorted(differ, key=lambda one: (one.level[0], ends[one.level[0]][0] * one.level[1]))
