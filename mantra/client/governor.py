"""governor: paces what is sent to a venue by the venue's own rules, and how soon one tries again after a failure.

A rule is a rolling window: at most `count` (of weight) in any `seconds`. Several may hold at once; what breaks any
of them waits. Windows roll exactly: every grant is remembered until it leaves the window.
"""
from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Mapping, Sequence

from mantra.core.clock import Clock
from mantra.venues.venue import Rate


class _Window:
    """One rule, and the grants it still remembers."""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self._grants: deque[tuple[float, int]] = deque()
        self._spent = 0

    def wait(self, now: float, weight: int) -> float:
        """Seconds until `weight` more may be spent."""
        while self._grants and self._grants[0][0] <= now - self.rate.seconds:
            self._spent -= self._grants.popleft()[1]
        free, wait = self.rate.count - self._spent, 0.0
        for time, spent in self._grants:
            if free >= weight:
                break
            free += spent
            wait = time + self.rate.seconds - now
        return wait

    def spend(self, now: float, weight: int) -> None:
        self._grants.append((now, weight))
        self._spent += weight


class Governor:
    """Paces one venue for all connections of this process. Thread-safe."""

    def __init__(self, clock: Clock, rates: Mapping[str, Sequence[Rate]]) -> None:
        self._clock = clock
        self._windows = {kind: [_Window(rate) for rate in rules] for kind, rules in rates.items()}
        self._blocked: dict[str, float] = {}
        self._lock = threading.Lock()

    def reserve(self, kind: str, weight: int = 1) -> float:
        """0.0: granted, and counted. Else nothing was counted, and this many seconds are to be waited first."""
        with self._lock:
            now = self._clock.seconds()
            windows = self._windows.get(kind, [])
            wait = self._blocked.get(kind, now) - now
            for window in windows:
                # Heavier than a whole window: wait for an empty one, there will never be more.
                wait = max(wait, window.wait(now, min(weight, window.rate.count)))
            if wait > 0:
                return wait
            for window in windows:
                window.spend(now, weight)
            return 0.0

    def acquire(self, kind: str, weight: int = 1, *, cancel: threading.Event) -> bool:
        """Wait until granted; False when `cancel` was set first."""
        while not cancel.is_set():
            wait = self.reserve(kind, weight)
            if wait <= 0:
                return True
            self._clock.wait(cancel, max(wait, 1e-6))   # less than a ns would not move a virtual clock, for ever
        return False

    def block(self, kind: str, seconds: float) -> None:
        """The venue said to wait (HTTP 429, 418): grant nothing of `kind` for `seconds`."""
        with self._lock:
            until = self._clock.seconds() + seconds
            self._blocked[kind] = max(until, self._blocked.get(kind, 0.0))


class Backoff:
    """How long to wait before trying again: doubling from `first` to `longest` seconds, jittered so that many
    connections lost together do not come back together."""

    def __init__(self, seeded: random.Random, first: float = 0.25, longest: float = 30.0) -> None:
        self._random = seeded
        self._first = first
        self._longest = longest
        self._tries = 0

    def next(self) -> float:
        """Seconds: half to all of what doubling gives."""
        whole = min(self._longest, self._first * 2.0 ** min(self._tries, 32))
        self._tries += 1
        return whole * self._random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """It worked: the next failure is a first one."""
        self._tries = 0
