"""orders: a book order by order: which orders make up each level, first come first served.

    Flow --step--> Book.history, trades --follow--> Orders: one order placed, taken, changed or cancelled after another

The market knows levels only, and a book that nobody follows pays nothing. Who publishes orders, or counts them, makes
an `Orders` of its book and lets it follow: then each level's size is the sum of its orders.
"""
from __future__ import annotations

import random
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple, TypeVar

from mantra.simulator.market import ASK, BID, Book, Trade

Entry = TypeVar("Entry", int, tuple[int, int])


class Event(NamedTuple):
    """What happened to one order (sizes; 0: not there), as a part of what happened to its level."""

    side: int
    key: int
    number: int
    before: int
    after: int
    level_before: int
    level_after: int
    more: bool          # the level is on its way from `level_before` to `level_after`: other orders follow
    taker: int          # the number of the taker who took it; 0: it was placed, changed or cancelled


class Orders:
    """The orders of `book`; `keys` (of levels) and `queue` (key, number of order) ascend: the best comes first."""

    def __init__(self, book: Book, number: Callable[[], int], seed: str) -> None:
        """`number` gives each order its number; later ones are greater."""
        self.book, self.number = book, number
        self.dice = random.Random(f"{seed}/orders")
        self.time_ns = book.time_ns
        self.keys: tuple[list[int], list[int]] = ([], [])
        self.queue: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
        self.levels: tuple[dict[int, dict[int, int]], dict[int, dict[int, int]]] = ({}, {})
        for side in (BID, ASK):
            for key in book.keys[side]:
                left = book.sizes[side][key]
                while left:
                    roll = self.dice.random()       # one order, or several, now and then one that is dust
                    part = left if roll < 0.6 or left < 200 else self.dice.randint(1, 99 if roll < 0.63 else left)
                    self._set(side, key, number(), part)
                    left -= part

    def follow(self, trades: Sequence[Trade]) -> Iterator[Event]:
        """What happened since the last call, when these trades were made; each event applies as it is taken."""
        changes, after = [], dict[tuple[int, int], int]()
        for _, time_ns, side, key, before in reversed(self.book.history):
            if time_ns <= self.time_ns:
                break
            changes.append((side, key, before, after.get((side, key), self.book.sizes[side].get(key, 0))))
            after[side, key] = before
        self.time_ns = self.book.time_ns
        takers = deque((BID if sell else ASK, price, sum(trade.size for trade in fills), order)
                       for (order, sell, price), fills in groupby(
                           trades, lambda trade: (trade.order, trade.sell, trade.price)))
        for side, key, before, now in reversed(changes):
            if now > before:
                number = self.number()
                self._set(side, key, number, now - before)
                yield Event(side, key, number, 0, now - before, before, now, False, 0)
            elif now < before:
                taken = takers and takers[0][:3] == (side, abs(key), before - now)
                yield from self._reduce(side, key, before, now, takers.popleft()[3] if taken else 0)

    def _reduce(self, side: int, key: int, before: int, now: int, taker: int) -> Iterator[Event]:
        """Takers take what came first; who cancels does so with what came last."""
        orders, left = list(self.levels[side][key].items()), before - now
        for number, size in orders if taker else reversed(orders):
            part = min(size, left)
            left -= part
            self._set(side, key, number, size - part)
            yield Event(side, key, number, size, size - part, before, now, left > 0, taker)
            if not left:
                return

    def _set(self, side: int, key: int, number: int, size: int) -> None:
        if key not in self.levels[side]:
            self.levels[side][key] = {}
            insort(self.keys[side], key)
        orders, queue = self.levels[side][key], self.queue[side]
        if number not in orders:
            insort(queue, (key, number))
        orders[number] = size
        if not size:
            del orders[number]
            del queue[bisect_left(queue, (key, number))]
            if not orders:
                del self.levels[side][key]
                del self.keys[side][bisect_left(self.keys[side], key)]


def window(entries: Sequence[Entry], entry: Entry, before: int, after: int, length: int) -> list[tuple[Entry, bool]]:
    """What a client is told that is kept at the best `length` of `entries`: [(entry, is it gone?), ...].

    `entries` are those of now, when the size of one of them went from `before` to `after` (0: not there).
    """
    if bisect_left(entries, entry) >= length:
        return []
    told = [(entry, not after)]
    if not after and len(entries) >= length:
        told.append((entries[length - 1], False))       # comes into view
    elif not before and len(entries) > length:
        told.insert(0, (entries[length], True))         # leaves it
    return told
