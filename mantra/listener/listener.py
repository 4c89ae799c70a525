"""listener: LAYER 3, bytes of connections become books, updates, trades and tops.

A `Listener` runs its connections on one thread: one alone waits at its socket (few, fast feeds), many share a poller
(capturing hundreds). Connecting happens on helper threads, so that a slow handshake keeps nobody's messages waiting.
"""
from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Sequence
from functools import partial

from mantra.core.clock import Clock
from mantra.core.hot_path import Event, Feed, FeedPoller
from mantra.listener.connection import IDLE_S, Connection
from mantra.listener.feed import Plan
from mantra.runtime.actor import Actor
from mantra.runtime.spine import Spine

log = logging.getLogger("mantra.listener")

CONNECTORS = 4       # handshakes at once


class Alone:
    """What a FeedPoller is to many feeds, for one: its thread waits at the socket itself."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._feed: Feed | None = None
        self._woken = threading.Event()

    def add(self, _: int, feed: Feed) -> None:
        self._feed = feed

    def remove(self, _: int) -> None:
        self._feed = None

    def run(self, seconds: float) -> tuple[int, int]:
        """See `FeedPoller.run`."""
        if self._feed is not None:
            return self._feed.run(seconds), 0
        self._clock.wait(self._woken, seconds)
        self._woken.clear()
        return Event.WOKEN, 0

    def wake(self) -> None:
        """End a run, this one or the next. Any thread."""
        self._woken.set()
        if (feed := self._feed) is not None:
            feed.wake()


class Listener(Actor):
    """Connections on one thread."""

    def __init__(self, name: str, plans: Sequence[Plan], publisher: int) -> None:
        super().__init__(name, (), [f"{family}.{name}" for family in ("updates", "trades", "tops")])
        self.connections = [Connection(plan) for plan in plans]
        self.numbers = range(publisher, publisher + len(plans))
        self._connecting: dict[int, threading.Thread] = {}      # until it is done nobody else touches that connection
        self._connected: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._due = [0.0] * len(plans)          # when Python has something to do for it, seconds of the clock

    def setup(self, spine: Spine) -> None:
        self._clock = spine.clock
        self._reader = Alone(spine.clock) if len(self.connections) == 1 else FeedPoller(spine.clock,
                                                                                       len(self.connections))
        for index, connection in enumerate(self.connections):
            connection.setup(spine, self.numbers[index])
            connection.wake = self._reader.wake
            connection.attached = partial(self._reader.add, index)
            connection.released = partial(self._reader.remove, index)

    def step(self, spine: Spine) -> int:
        while not self._connected.empty():
            index = self._connected.get()
            connection = self.connections[index]
            del self._connecting[index]
            self._due[index] = 0.0
            if connection.transport is not None:
                connection.attached(connection.feed)
        now, wait = self._clock.seconds(), IDLE_S
        for index, connection in enumerate(self.connections):
            if index in self._connecting:
                continue
            if connection.tasks() or self._due[index] <= now:
                self._look_after(index, Event.DEADLINE)
            if index not in self._connecting:
                wait = min(wait, self._due[index] - now)
        event, index = self._reader.run(max(0.0, wait))
        if event not in (Event.DEADLINE, Event.WOKEN):
            self._look_after(index, event)
        return 1

    def _look_after(self, index: int, event: int) -> None:
        connection = self.connections[index]
        if connection.transport is not None:
            connection.handle(event)
        elif connection.due <= self._clock.seconds() and not self.stopping.is_set():
            if len(self._connecting) < CONNECTORS:
                self._connecting[index] = threading.Thread(target=self._connect, args=(index,), daemon=True,
                                                           name=f"mantra-{connection.name}-connect")
                self._connecting[index].start()
            else:
                self._due[index] = self._clock.seconds() + 0.1
            return
        self._due[index] = self._clock.seconds() + connection.patience()

    def _connect(self, index: int) -> None:
        """On a helper thread."""
        connection = self.connections[index]
        try:
            if connection.plan.governor.acquire("connect", cancel=self.stopping):
                connection.connect()
        except Exception:
            connection.due = self._clock.seconds() + 1.0
            log.exception("%s: connecting failed", connection.name)
        self._connected.put(index)
        self._reader.wake()

    def wake(self) -> None:
        if self.stopping.is_set():
            for connection in self.connections:
                connection.cancel()
        self._reader.wake()

    def teardown(self, spine: Spine) -> None:
        for thread in self._connecting.values():
            thread.join()
        for connection in self.connections:
            connection.teardown()
