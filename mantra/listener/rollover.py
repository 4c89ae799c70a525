"""rollover: a connection is replaced by one that overlaps it, without a gap, a duplicate or a moment of doubt.

The successor is a connection like any other, over books and queues of its own that nobody reads, brought up on a helper
thread while the old one goes on. When its books are as good as the old one's, it comes to the old one's thread, is read
on until it tells at least as much, and its connection is taken over (promote.h). If it fails, the old one just goes on
and another is tried later.
"""
from __future__ import annotations

import copy
import logging
import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from mantra.core.messages import Trust
from mantra.listener.feed import Wanted
from mantra.runtime.spine import Spine

if TYPE_CHECKING:
    from mantra.listener.connection import Connection

log = logging.getLogger("mantra.listener")

SETTLE_S = 20.0         # so long it waits for books that the old connection does not have either
GIVE_UP_S = 600.0       # so long for the others: where snapshots weigh much, many books take minutes
CATCH_UP_S = 0.25       # so long the old one is not read any more, at most, until the new one tells as much
STEP_S = 0.002
AT_ONCE = threading.Semaphore(4)    # successors of this process: each takes some 20 MB until it is promoted


class Rollover:
    """The successor of `owner`, when there is one. Methods run on the owner's thread."""

    def __init__(self, owner: Connection) -> None:
        self._owner = owner
        self._heir: Connection | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._backoff = owner.plan.backoff()
        self._due = 0.0                     # not before

    @property
    def connected(self) -> bool:
        """A successor has a connection already."""
        return self._heir is not None and self._heir.transport is not None

    def wait(self) -> float:
        """Seconds until one may be tried."""
        return float("inf") if self._thread is not None else max(0.0, self._due - self._owner.clock.seconds())

    def begin(self, why: str) -> None:
        """Bring up a successor, unless there is one or the last has just failed."""
        owner = self._owner
        if self.wait() or self._stopping.is_set():
            return
        log.info("%s: being replaced: %s", owner.name, why)
        venue = copy.deepcopy(owner.plan.venue)     # what it notes is of one connection, and so is some pace
        pace = owner.plan.governor.connection()
        plan = replace(owner.plan, name=f"{owner.name}-next", venue=venue, governor=pace,
                       subscriber=owner.plan.subscriber.another(venue, pace),
                       wanted=[Wanted(book.symbol, book.instrument) for book in owner.books])
        heir = self._heir = type(owner)(plan, heir=True)
        self._trades_since = owner.trades.produced
        self._thread = threading.Thread(target=self._raise, args=(heir,), name=f"mantra-{plan.name}", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """No successor any more, this one or another; waits for it."""
        self._stopping.set()
        if self._heir is not None:
            self._heir.cancel()
            self._heir.wake()
        while self._thread is not None and self._thread.is_alive():
            self._owner.tasks()                 # it may wait for one of them
            self._thread.join(0.01)
        self._thread = None

    def _raise(self, heir: Connection) -> None:
        """On the helper thread: until it is ready, failed, or not wanted any more."""
        while not AT_ONCE.acquire(timeout=0.1):
            if self._stopping.is_set():
                return
        try:
            with Spine.private(clock=self._owner.clock) as spine:
                heir.setup(spine, 0, run=self._owner.run)
                if heir.plan.governor.acquire("connect", cancel=self._stopping):
                    heir.connect()
                until = heir.clock.seconds() + GIVE_UP_S
                while heir.transport is not None and not self._stopping.is_set() and heir.clock.seconds() < until:
                    if self._ready(heir):
                        done = threading.Event()
                        self._owner.post(partial(self._take_over, heir, done))
                        done.wait()
                        break
                    heir.tasks()
                    heir.handle(heir.feed.run(min(heir.patience(), 0.1)))
                heir.teardown()
                # It stands in circles of references: its queues, some 10 MB, would wait for the garbage collector.
                del heir.feed, heir.updates, heir.trades
        except Exception:
            log.exception("%s: its successor failed", self._owner.name)
        finally:
            AT_ONCE.release()
        self._owner.post(partial(self._over, heir))

    def _ready(self, heir: Connection) -> bool:
        """Is every book as good as the old one's, or better than none?"""
        if not heir.subscriber.granted:
            return False
        for book in heir.books:
            old, new = self._owner.feed.state(book.index), heir.feed.state(book.index)
            if new[1] < old[1] and old[1] >= Trust.UNVERIFIED and not self._unheard(heir, new):
                return False
        down = self._owner.transport is None        # then nobody waits for second looks: they are taken afterwards
        return heir.age() > SETTLE_S or all(
            book.since is None and (down or book.look is None) for book in heir.books)

    @staticmethod
    def _unheard(heir: Connection, state: tuple[bool, int, int, int, int]) -> bool:
        """An image stream says nothing while nothing changes."""
        return not heir.recovery.splices and state[3] == 0

    def _take_over(self, heir: Connection, done: threading.Event) -> None:
        owner, until = self._owner, self._owner.clock.seconds() + CATCH_UP_S
        try:
            while heir.transport is not None and not self._stopping.is_set():
                if owner.feed.reached(heir.feed):
                    owner.inherit(heir, self._trades_since)
                    self._backoff.reset()
                    return
                if owner.clock.seconds() >= until:
                    log.info("%s: its successor stays behind it", owner.name)
                    return
                heir.handle(heir.feed.run(STEP_S))
        finally:
            done.set()

    def _over(self, heir: Connection) -> None:
        """It is the owner's own by now, or has failed."""
        self._heir = self._thread = None
        if not heir.promoted:
            self._due = self._owner.clock.seconds() + self._backoff.next()
        if self._owner.due == float("inf"):
            self._owner.due = 0.0               # it was lost meanwhile, and counted on this one
