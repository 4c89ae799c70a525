"""second_look: is a snapshot what the venue says when it is asked again?

A REST book may be wrong with a right sequence: without its best levels, say, or from a cache older than the stream. No
sequence shows that, and what the stream does not touch stays wrong. So a smaller snapshot is fetched a moment later and
compared, level by level, with the book as it was at that sequence. One that differs may be wrong itself, so the book
is wrong where two in a row differ from it.

Where diffs tell what changed in a window on the whole, a level that came and went in it is in a snapshot of its middle,
and no diff takes it away: an answer must be of a later window to say anything.
"""
from __future__ import annotations

import time
from collections.abc import Callable
from enum import Enum, auto

from mantra.core.book import Book
from mantra.core.messages import Kind
from mantra.core.queue import Queue
from mantra.listener.past import Level, Past

LEVELS = 100            # a side: where the trading is, for a small part of a whole snapshot's weight
COMPARED = 50           # not to the end: a cut snapshot's book does not know what has come into sight there since
AFTER_S = 0.2
PATIENCE = 20           # looks at one answer, AFTER_S apart, while the stream is behind it


class Look(Enum):
    """What came of looking at an answer."""

    AGREES = auto()
    DIFFERS = auto()
    AGAIN = auto()      # it says nothing yet: ask the venue for another
    LATER = auto()      # the stream has not come so far: show it again
    EARLY = auto()      # it is of the snapshot's own window: ask soon for another


class SecondLook:
    """Of one book, from just after its snapshot on; `updates` is its feed's queue, `read` reads an answer (see
    Feed.levels_of); a diff is of at most `window_s`. On the feed's thread."""

    def __init__(self, book: Book, updates: Queue,
                 read: Callable[[bytes], tuple[int, list[tuple[int, int, int]]] | None], window_s: float = 0.0) -> None:
        self._past, self._read = Past(book, updates), read
        self._later = time.monotonic() + window_s       # when the snapshot's window is over, if no diff says so before
        self._doubts: set[Level] = set()
        self._shown = 0

    def at(self, body: bytes) -> Look:
        """Look at the venue's answer."""
        answer = self._read(body)
        if answer is None or not self._past.follow():
            return Look.AGAIN
        sequence, levels = answer
        if sequence < self._past.first or {kind for kind, _, _ in levels} != {Kind.BID, Kind.ASK}:
            return Look.AGAIN
        self._shown += 1
        if self._past.sequence < sequence and self._shown < PATIENCE:    # after that it is quiet rather than behind
            return Look.LATER
        self._shown = 0
        if sequence < self._past.second and time.monotonic() < self._later:
            return Look.EARLY
        theirs = {(kind, price): size for kind, price, size in levels}
        _, differences = self._past.differences(theirs, COMPARED, sequence)
        before, self._doubts = self._doubts, {differs.level for differs in differences}
        if not differences:
            return Look.AGREES
        return Look.DIFFERS if before & self._doubts else Look.AGAIN
