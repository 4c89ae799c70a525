"""splicing: snapshots by REST, for venues whose streams do not send them (schemes "ids" and "time").

A snapshot is asked for once its channel is granted, so that the two overlap; recovery.py fetches it, the feed splices
it, and a second look says whether it was true.
"""
from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from mantra.core.hot_path import Splice
from mantra.core.messages import Reason
from mantra.errors import MantraError
from mantra.listener.kept import Kept, Recovery
from mantra.listener.planner import deeper
from mantra.listener.second_look import AFTER_S, LEVELS, Look, SecondLook

if TYPE_CHECKING:
    from mantra.listener.connection import Connection

log = logging.getLogger("mantra.listener")

CONTRADICTIONS = 5   # snapshots in a row that a second look found wrong, before their venue is taken at its word
LOOKS_S = 2.0        # between two looks that say nothing yet, at most: they cost little
SETTLED_S = 2.0      # a REST book asked for so long after a loss is newer than it: venues cache for a second at most


class Splicing(Recovery):
    splices = True

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._session = 0               # what is on its way for an older one is not wanted

    def begin(self) -> None:
        super().begin()
        self._session += 1

    def resume(self, heir: Sequence[Kept]) -> None:
        super().resume(heir)
        for book, his in zip(self.books, heir, strict=True):
            if book.since is not None:
                self.want(book, again=None)
            elif his.look is not None:
                self._look_twice(book)

    def acknowledged(self, books: Iterable[Kept]) -> None:
        for book in books:
            self.want(book, again=None if book.since is not None else False)

    def want(self, book: Kept, *, again: bool | None = False) -> None:
        connection, session, plan = self.connection, self._session, self.connection.plan
        if book.since is None:
            book.levels = deeper(plan.venue, book.symbol, plan.snapshot_levels, plan.governor)
        if again is False or book.since is None:
            book.since, book.look = connection.clock.seconds(), None
            connection.progress()
        if book.asked:
            return
        book.asked = True

        def came(answer: bytes | MantraError, asked_at: int) -> None:
            connection.post(partial(self._snapshot, session, book, answer, asked_at, request.path))

        request = plan.venue.opening(book.symbol, book.levels or plan.snapshot_levels, plan.mode)
        plan.desk.fetch(request, came, book.backoff.next() if again else 0.0, lambda: session == self._session)

    def _snapshot(self, session: int, book: Kept, answer: bytes | MantraError, asked_at: int, path: str) -> None:
        connection, feed = self.connection, self.connection.feed
        if connection.transport is None or session != self._session or not book.asked:
            return
        book.asked = False
        if isinstance(answer, MantraError):
            connection.row.add("refused")
            log.warning("%s: no snapshot of %s: %s", connection.name, book.symbol, answer)
            self.want(book, again=True)
            return
        age = connection.clock.ns(max(0, connection.clock.cycles() - asked_at)) / 1e9
        settled = connection.clock.seconds() - age - (book.since or 0.0) > SETTLED_S
        url = connection.plan.venue.endpoints.rest + path
        outcome = feed.splice(book.index, answer, settled, url)
        if outcome == Splice.FINER:
            feed.wants()
            if connection.outgrown(book, answer):
                outcome = feed.splice(book.index, answer, settled, url)
        if outcome == Splice.SPLICED:
            book.since = None
            connection.serve_wants()        # what was held back may have revealed a loss
            if book.since is None:
                self._look_twice(book)
            connection.progress()
            return
        if outcome != Splice.OLD:
            log.warning("%s: the snapshot of %s cannot be used (%s)", connection.name, book.symbol,
                        Splice(outcome).name.lower())
        self.want(book, again=True)

    def _look_twice(self, book: Kept) -> None:
        feed = self.connection.feed
        plan = self.connection.plan
        book.look = SecondLook(feed.books[book.index], self.connection.updates, partial(feed.levels_of, book.index),
                               plan.venue.window_s if plan.mode == "book" else 0.0)
        self._ask_again(book, AFTER_S)

    def _ask_again(self, book: Kept, delay: float, answer: bytes | None = None) -> None:
        """Ask the venue for another look at `book`, or show `answer` again, in `delay` seconds."""
        plan, look = self.connection.plan, book.look
        request = plan.venue.snapshot(book.symbol, LEVELS) if answer is None else None

        url = plan.venue.endpoints.rest + request.path if request else None

        def came(new: bytes | MantraError, _: int) -> None:
            self.connection.post(partial(self._look, book, look, new if answer is None else answer, url))

        plan.desk.fetch(request, came, delay)

    def _look(self, book: Kept, look: SecondLook | None, answer: bytes | MantraError, url: str | None) -> None:
        feed = self.connection.feed
        if url and isinstance(answer, bytes):
            feed.answered(book.index, url, answer)
        if look is None or book.look is not look:       # there is another snapshot by now, or another connection
            return
        came = Look.AGAIN if isinstance(answer, MantraError) else look.at(answer)
        if came == Look.LATER and isinstance(answer, bytes):
            self._ask_again(book, AFTER_S, answer)
        elif came == Look.EARLY:
            self._ask_again(book, AFTER_S)
        elif came == Look.AGAIN:
            self._ask_again(book, min(LOOKS_S, book.backoff.next()))
        elif came == Look.AGREES:
            book.look, book.contradictions = None, 0
            if not book.hopeless:
                book.backoff.reset()
            feed.looked(book.index, True)
        elif book.contradictions >= CONTRADICTIONS:
            book.look = None
            log.error("%s: the venue contradicts its own snapshots of %s, which stays unverified",
                      self.connection.name, book.symbol)
            feed.looked(book.index, False)
        else:
            log.warning("%s: the snapshot of %s was wrong", self.connection.name, book.symbol)
            book.contradictions += 1
            feed.suspect(book.index, Reason.CHECKSUM)
            feed.wants()
            self.want(book, again=True)
