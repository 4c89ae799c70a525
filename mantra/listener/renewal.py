"""renewal: snapshots in the stream (scheme "stream"): a book that wants one is subscribed anew, and nothing else.

It waits for no other book: what is to be sent stands in the subscriber's queue, at the venue's pace. A snapshot that
does not come is asked for again, later each time; after BUDGET failures in a row the connection is replaced, by one
that overlaps it; a book which that does not heal either stays suspect and is asked for seldom. One that was believed in
between has healed, however often that happens: it is asked for soon.
"""
from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from mantra.listener.kept import Kept, Recovery

if TYPE_CHECKING:
    from mantra.listener.connection import Connection

log = logging.getLogger("mantra.listener")

BUDGET = 5              # failures in a row of one book, before its connection is replaced
SELDOM_S = 120.0        # between the tries of a book that nothing healed, or that the venue refused
HEALTHY_S = 10.0        # a book that was believed for so long is asked for at once
SOON_S = 2.0            # ... one that was believed for less so soon at the latest; twice that with every failure since
LOOK_S = 0.05           # how soon a snapshot that came is noticed here; the feed uses it at once


class Renewal(Recovery):
    splices = True

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._waiting: set[Kept] = set()

    def begin(self) -> None:
        super().begin()
        self._waiting = set(self.books)
        due = self._patience()
        for book in self.books:
            book.asked, book.due = True, due        # the connection's own subscription

    def want(self, book: Kept, *, again: bool | None = False) -> None:
        now = self.connection.clock.seconds()
        if book.since is None:
            healthy = now - book.due > HEALTHY_S
            if healthy:
                book.lapses = 0
                book.backoff.reset()
            if healthy or not again:                # what no scale holds will come again, healed or not
                book.failures, book.hopeless = 0, False
            book.since = now
            self._waiting.add(book)
            self.connection.progress()
            self._failed(book, now, at_once=not book.lapses)
            book.lapses += 1
        elif book.asked:                            # else it waits for its turn already
            self._failed(book, now)

    def refuse(self, book: Kept, why: str) -> None:
        """The venue does not serve it, now: it is down, and asked for seldom."""
        if book.since is None or (book.failures and not book.refused):
            if book.asked:      # it is subscribed already: only the answer had been lost, and this says what to end
                self._failed(book, self.connection.clock.seconds())
            return
        if not book.refused:
            log.error("%s: the venue refused %s: %s; asked again every %.0f s", self.connection.name, book.symbol, why,
                      SELDOM_S)
        book.refused, book.asked, book.due = True, False, self.connection.clock.seconds() + SELDOM_S
        self._waiting.add(book)
        self.connection.feed.refuse(book.index)

    def pump(self) -> float | None:
        if not self._waiting:
            return None
        connection, now = self.connection, self.connection.clock.seconds()
        ask, late = list[Kept](), list[str]()
        for book in list(self._waiting):
            if connection.feed.state(book.index)[0]:
                self._waiting.discard(book)
                book.since, book.asked, book.refused, book.due = None, False, False, now
                connection.subscriber.proven([book.symbol])
            elif book.due <= now and connection.subscriber.sent:
                if book.asked and not book.refused:
                    late.append(book.symbol)
                    self._failed(book, now)
                elif not book.asked:
                    ask.append(book)
                else:
                    self.refuse(book, "no answer")
        if late:
            log.warning("%s: no snapshot of %s%s came", connection.name, ", ".join(late[:3]),
                        f" and {len(late) - 3} more" if len(late) > 3 else "")
        if ask:
            due = self._patience()
            for book in ask:
                book.asked, book.due = True, due
                connection.feed.expect(book.index)
            connection.subscriber.renew([book.symbol for book in ask])
        if not self._waiting:
            connection.progress()
            return None
        waits = [book.due - now for book in self._waiting] + [LOOK_S] * any(book.asked for book in self._waiting)
        return max(0.0, min(waits))

    def _patience(self) -> float:
        return self.connection.clock.seconds() + self.connection.plan.venue.answer_s

    def _failed(self, book: Kept, now: float, at_once: bool = False) -> None:
        """What it was subscribed for did not come, or was no good: it is asked for again, in a while."""
        delay = 0.0 if at_once else min(book.backoff.next(), SOON_S * 2.0**book.failures)
        book.failures += 1
        if book.failures == BUDGET + 1:
            self.connection.replace(f"{book.symbol} is not healed by {BUDGET} subscriptions")
        elif book.failures > 2 * BUDGET:
            if not book.hopeless:
                log.error("%s: nothing heals %s, which stays suspect; asked again every %.0f s", self.connection.name,
                          book.symbol, SELDOM_S)
            book.hopeless, delay = True, SELDOM_S
        book.asked, book.due = False, now + delay
