"""recovery: snapshots for books that need one, fetched off the feeds' threads.

A feed holds a book's messages back from the moment it subscribes; the snapshot is asked for after that, so that the two
overlap. It comes back to the feed's own thread, which splices it (hot_path.h has the rules). An answer that is too old,
refused or broken is asked for again, later each time, and paced by the venue's weights.
"""
from __future__ import annotations

import heapq
import itertools
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from mantra.client.governor import Backoff, Governor
from mantra.client.https import Rest
from mantra.errors import MantraError, VenueError
from mantra.venues.venue import Request, Venue

log = logging.getLogger("mantra.recovery")

WORKERS = 3


@dataclass(order=True)
class Job:
    """One snapshot to fetch at `due` (seconds of the clock's monotonic time); `done` gets the body or the error."""

    due: float
    number: int
    request: Request = field(compare=False)
    done: Callable[[bytes | MantraError], None] = field(compare=False)


class SnapshotDesk:
    """Fetches the snapshots of one venue: a few threads, one pace."""

    def __init__(self, venue: Venue, governor: Governor, monotonic: Callable[[], float]) -> None:
        self.venue = venue
        self._governor = governor
        self._monotonic = monotonic
        self._jobs: list[Job] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []

    def fetch(self, request: Request, done: Callable[[bytes | MantraError], None], delay: float = 0.0) -> None:
        """Fetch `request` in `delay` seconds or when the venue's pace allows; `done` is called on a thread of the desk."""
        with self._changed:
            heapq.heappush(self._jobs, Job(self._monotonic() + delay, next(self._numbers), request, done))
            if len(self._threads) < min(WORKERS, len(self._jobs)):
                thread = threading.Thread(target=self._work, name=f"mantra-snapshots-{self.venue.name}", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._changed.notify()

    def close(self) -> None:
        self._closing.set()
        with self._changed:
            self._jobs.clear()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(2.0)

    def _next(self) -> Job | None:
        with self._changed:
            while not self._closing.is_set():
                wait = self._jobs[0].due - self._monotonic() if self._jobs else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self._jobs)
                self._changed.wait(wait)
        return None

    def _work(self) -> None:
        rest = Rest(self.venue.endpoints.rest, ca_file=self.venue.endpoints.ca_file)
        try:
            while (job := self._next()) is not None:
                if not self._governor.acquire("rest", job.request.weight, cancel=self._closing):
                    return
                try:
                    status, headers, body = rest.get(job.request.path)
                    if status in (418, 429):
                        # The venue says how long; every request of this venue waits, or the ban only grows.
                        self._governor.block("rest", float(headers.get("retry-after", 10)))
                    if status != 200:
                        raise VenueError(f"{self.venue.name} answered HTTP {status} to {job.request.path}: {body[:120]!r}")
                    answer: bytes | MantraError = body
                except MantraError as error:
                    answer = error
                if not self._closing.is_set():
                    job.done(answer)
        finally:
            rest.close()


class Recovery:
    """Which books of one feed wait for a snapshot, and how often they were refused one. Feed's thread only."""

    def __init__(self, desk: SnapshotDesk, deliver: Callable[[int, int, bytes | MantraError], None], levels: int,
                 backoff: Callable[[], Backoff]) -> None:
        self._desk = desk
        self._deliver = deliver
        self._levels = levels
        self._make_backoff = backoff
        self._pending: set[int] = set()
        self._backoffs: dict[int, Backoff] = {}
        self.session = 0

    def restart(self) -> None:
        """A new connection: what is on its way belongs to the old one."""
        self.session += 1
        self._pending.clear()
        self._backoffs.clear()

    def want(self, index: int, symbol: str, *, again: bool = False) -> None:
        """Book `index` needs a snapshot. `again`: the last one would not do."""
        if index in self._pending:
            return
        self._pending.add(index)
        delay = 0.0
        if again:
            delay = self._backoffs.setdefault(index, self._make_backoff()).next()
        session, deliver = self.session, self._deliver
        self._desk.fetch(self._desk.venue.snapshot(symbol, self._levels),
                         lambda answer: deliver(session, index, answer), delay)

    def arrived(self, session: int, index: int) -> bool:
        """Is this answer still wanted?"""
        if session != self.session or index not in self._pending:
            return False
        self._pending.discard(index)
        return True

    def spliced(self, index: int) -> None:
        self._backoffs.pop(index, None)

    @property
    def pending(self) -> int:
        return len(self._pending)
