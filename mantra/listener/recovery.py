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
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from mantra.client.governor import Governor
from mantra.client.https import BANS, Rest, patience
from mantra.core.clock import Clock
from mantra.errors import MantraError, VenueError
from mantra.venues.venue import Request, Venue

log = logging.getLogger("mantra.recovery")

WORKERS = 3
CLOSE_WITHIN_S = 0.3
Answered = Callable[[bytes | MantraError, int], None]    # the body, or why there is none; cycles when asked for


@dataclass(order=True)
class Job:
    """One snapshot to fetch at `due`, by the clock's seconds."""

    due: float
    number: int
    request: Request | None = field(compare=False)
    done: Answered = field(compare=False)
    wanted: Callable[[], bool] = field(compare=False)


class SnapshotDesk:
    """Fetches the snapshots of one venue: a few threads, one pace."""

    def __init__(self, venue: Venue, governor: Governor, clock: Clock) -> None:
        self.venue = venue
        self._governor = governor
        self._clock = clock
        self._rests: list[Rest] = []
        self._jobs: list[Job] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []

    def fetch(self, request: Request | None, done: Answered, delay: float = 0.0,
              wanted: Callable[[], bool] = lambda: True) -> None:
        """Fetch `request` in `delay` seconds, or when the venue's pace allows, if it is still `wanted` then. `done` is
        called on another thread. Without a request there is nothing but the delay."""
        with self._changed:
            heapq.heappush(self._jobs, Job(self._clock.seconds() + delay, next(self._numbers), request, done, wanted))
            if len(self._threads) < min(WORKERS, len(self._jobs)):
                thread = threading.Thread(target=self._work, name=f"mantra-snapshots-{self.venue.name}", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._changed.notify()

    def close(self) -> None:
        """End what is under way, and wait for it; a connect that nobody answers ends by itself, later."""
        self._closing.set()
        with self._changed:
            self._jobs.clear()
            self._changed.notify_all()
        for rest in self._rests:
            rest.close()
        deadline = time.monotonic() + CLOSE_WITHIN_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _next(self) -> Job | None:
        with self._changed:
            while not self._closing.is_set():
                wait = self._jobs[0].due - self._clock.seconds() if self._jobs else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self._jobs)
                self._changed.wait(wait)
        return None

    def _work(self) -> None:
        rest = Rest(self.venue.endpoints.rest, ca_file=self.venue.endpoints.ca_file)
        self._rests.append(rest)
        while (job := self._next()) is not None:
            if not job.wanted():        # its connection is gone: spend no weight on it
                continue
            if job.request is None:
                job.done(b"", self._clock.cycles())
                continue
            if not self._governor.acquire("rest", job.request.weight, cancel=self._closing):
                return
            asked_at = self._clock.cycles()
            answer = self._ask(rest, job.request)
            if not self._closing.is_set():
                job.done(answer, asked_at)

    def _ask(self, rest: Rest, request: Request) -> bytes | MantraError:
        try:
            status, headers, body = rest.get(request.path)
        except MantraError as error:
            return error
        except Exception as error:      # whatever a server made the library do: this snapshot failed, not the desk
            return VenueError(f"{self.venue.name}{request.path}: {error!r}")
        if status in BANS:
            # The venue says how long; every request of this venue waits, or the ban only grows.
            self._governor.block("rest", patience(headers.get("retry-after", ""), self.venue.limits.ban_s))
        if status != 200:
            return VenueError(f"{self.venue.name} answered HTTP {status} to {request.path}: {body[:120]!r}")
        return body
