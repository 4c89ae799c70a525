"""listener: LAYER 3, bytes of one connection become books, updates, trades and tops.

A `Listener` gives a connection a thread of its own (few, fast feeds); a `PollerListener` runs many connections on one
thread (capturing hundreds).
"""
from __future__ import annotations

import logging
import queue
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from mantra.core.hot_path import Event, FeedPoller
from mantra.listener.connection import IDLE_S, Connection
from mantra.listener.feed import Plan
from mantra.runtime.actor import Actor
from mantra.runtime.spine import Spine

log = logging.getLogger("mantra.listener")

CONNECTORS = 4       # handshakes at once on a poller tile


class Listener(Actor):
    """One connection on one thread."""

    def __init__(self, plan: Plan, publisher: int) -> None:
        super().__init__(plan.name, (), [f"{family}.{plan.name}" for family in ("updates", "trades", "tops")])
        self.connection = Connection(plan)
        self.numbers = (publisher,)

    def setup(self, spine: Spine) -> None:
        self.connection.setup(spine, self.numbers[0])

    def step(self, spine: Spine) -> int:
        connection = self.connection
        connection.tasks()
        if connection.transport is None:
            if not connection.plan.governor.acquire("connect", cancel=self.stopping):
                return 1
            delay: float | None = connection.connect()
        else:
            delay = connection.handle(connection.feed.run(connection.patience()))
        if delay:
            spine.clock.wait(self.stopping, delay)
        return 1

    def wake(self) -> None:
        if self.stopping.is_set():
            self.connection.cancel()
        self.connection.wake()

    def teardown(self, spine: Spine) -> None:
        self.connection.teardown()


class PollerListener(Actor):
    """Many connections on one thread, a poller tile. Connecting happens on a few helper threads, so that a slow
    handshake keeps nobody's messages waiting."""

    def __init__(self, name: str, plans: Sequence[Plan], publisher: int) -> None:
        super().__init__(name, (), [f"{family}.{name}" for family in ("updates", "trades", "tops")])
        self.connections = [Connection(plan) for plan in plans]
        self.numbers = range(publisher, publisher + len(plans))
        self._connecting = ThreadPoolExecutor(CONNECTORS, thread_name_prefix=f"mantra-{name}-connect")
        self._connected: queue.SimpleQueue[tuple[int, float]] = queue.SimpleQueue()
        self._due = dict.fromkeys(range(len(plans)), 0.0)       # not connected: when to try, seconds of the clock
        self._tick_at: dict[int, float] = {}                    # connected: when Python has something to do

    def setup(self, spine: Spine) -> None:
        self._clock = spine.clock
        self._poller = FeedPoller(spine.clock, len(self.connections))
        for index, connection in enumerate(self.connections):
            connection.setup(spine, self.numbers[index])
            connection.wake = self._poller.wake
            connection.released = partial(self._poller.remove, index)

    def step(self, spine: Spine) -> int:
        now = self._clock.seconds()
        for index in [index for index, due in self._due.items() if due <= now]:
            del self._due[index]
            self._connecting.submit(self._connect, index)
        while not self._connected.empty():
            index, delay = self._connected.get()
            if self.connections[index].transport is None:
                self._due[index] = now + delay
            else:
                self._poller.add(index, self.connections[index].feed)
                self._tick_at[index] = 0.0
        for index in list(self._tick_at):
            self.connections[index].tasks()
            if self._tick_at[index] <= now:
                self._after(index, self.connections[index].handle(Event.DEADLINE))
        wait = min([*self._due.values(), *self._tick_at.values(), now + IDLE_S]) - now
        event, index = self._poller.run(max(0.0, wait))
        if event not in (Event.DEADLINE, Event.WOKEN):
            self._after(index, self.connections[index].handle(event))
        return 1

    def _after(self, index: int, delay: float | None) -> None:
        if delay is None:
            self._tick_at[index] = self._clock.seconds() + self.connections[index].patience()
        else:
            del self._tick_at[index]
            self._due[index] = self._clock.seconds() + delay

    def _connect(self, index: int) -> None:
        """On a helper thread; until it is done nobody else touches this connection."""
        connection, delay = self.connections[index], 1.0
        try:
            if connection.plan.governor.acquire("connect", cancel=self.stopping):
                delay = connection.connect()
        except Exception:
            log.exception("%s: connecting failed", connection.name)
        self._connected.put((index, delay))
        self._poller.wake()

    def wake(self) -> None:
        if self.stopping.is_set():
            for connection in self.connections:
                connection.cancel()
        self._poller.wake()

    def teardown(self, spine: Spine) -> None:
        self._connecting.shutdown(wait=True, cancel_futures=True)
        for connection in self.connections:
            connection.teardown()
