"""service: LAYER 5, serves subscribers from what aggregators write.

    latest.world --Views--> Fanout --encode, once per state--> Topic.newest --> subscribers, each at its own pace

A service is an actor in a process of its own, so that its subscribers' number and slowness never meet the feeds. What
every kind needs is here: reading a run's views, conflating them, and the process. A kind (gRPC is one, FIX may be
another) adds its protocol: it subscribes to topics, is told when one has a newer state, and sends `newest` when its
client can take it. States in between are never queued anywhere, so there is no backlog to grow.
"""
from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

from mantra.errors import UnknownSymbol
from mantra.runtime.actor import Actor
from mantra.runtime.spine import RunInstrument, Spine

DEPTH = 10                          # levels a side of a view
VIEWS = ("world", "liquidity")      # aggregators' outputs, in the order of mantra.v1.View

_TOLERANCE = 0.001                  # seconds that a turn may be taken late without moving the turns after it
_SMALLEST_PAUSE = 0.001             # between two looks at a busy run: what bounds the cost of looking


class Service(Actor):
    """One way to serve a run's views to subscribers; `mantra.runtime.serving.serve` makes a process of it.

    A kind's `setup` makes `fanout`, listens, and leaves where in `address` (ConfigurationError if that cannot be had);
    its `teardown` says goodbye to the subscribers within half a second.
    """

    address: str
    fanout: Fanout
    _looked = -math.inf

    def step(self, spine: Spine) -> int:
        """Hand out what changed, then wait for more, at most a tenth of a second."""
        if not self.fanout.wanted.wait(0.1):
            return 0
        # After a quiet time a state goes out at once; a busy run is looked at a thousand times a second and not more,
        # and not at all before some topic may be sent again.
        time.sleep(max(0.0, self._looked + _SMALLEST_PAUSE - time.monotonic()))
        self._looked = time.monotonic()
        seen = spine.doorbell.seen()
        states, rest = self.fanout.look()
        if rest > 0:
            time.sleep(min(rest, 0.1))
        else:
            spine.doorbell.wait(0.1, seen)
        return states


class View(NamedTuple):
    """One state of one instrument, read consistently. Prices are ticks, sizes lots, times UTC nanoseconds."""

    instrument: RunInstrument
    sequence: int
    origin_ns: int
    published_ns: int
    bids: list[tuple[int, int, int]]        # price, size, mask of venues; best first
    asks: list[tuple[int, int, int]]
    books: list[tuple[int, int, int, int]]  # venue, trust, reason, since when in UTC seconds


class Views:
    """The newest state of every view of a run."""

    def __init__(self, spine: Spine) -> None:
        self._spine = spine
        self._known = 0
        self._named: dict[str, RunInstrument] = {}              # newest generation of each name
        self._lock = threading.Lock()
        self.instruments()

    def instruments(self) -> list[RunInstrument]:
        """In the order in which they were named; of each the newest scale generation that the run has by now."""
        with self._lock:        # the spine's list grows while it is read
            known = self._spine.instruments()
            if len(known) != self._known:
                self._known, self._named = len(known), {instrument.name: instrument for instrument in known}
        return list(self._named.values())

    def resolve(self, text: str) -> str:
        """The run's name for an instrument as people spell it (btcusd, BTC/USD); "" is the one named first."""
        names = [instrument.name for instrument in self.instruments()]
        for name in names:
            if not text or _letters(name) == _letters(text):
                return name
        raise UnknownSymbol(f"this run has no {text or 'instrument'}; it has {', '.join(names) or 'none yet'}")

    def has(self, view: str) -> bool:
        """Some aggregator of the run writes that view."""
        return f"latest.{view}" in self._spine.names("latest.")

    def version(self, view: str, name: str) -> tuple[int, int] | None:
        """Unlike before after every state written; None before the first."""
        slot = self._named[name].slot
        version = self._spine.latest(view).version(slot)
        return (slot, version) if version else None

    def read(self, view: str, name: str) -> View:
        """The newest state; only when there is a `version`."""
        instrument = self._named[name]
        world = self._spine.latest(view).read(instrument.slot)
        to_utc = self._spine.clock.to_utc
        return View(instrument, world.sequence, to_utc(world.origin), to_utc(world.published_cycles), world.bids,
                    world.asks, world.books)


class Pace:
    """At most `rate` turns in any second, and close to that many when every turn is wanted."""

    def __init__(self, rate: float) -> None:
        # Turns later than due by up to the tolerance do not delay the next; the interval makes up for it, so that even
        # then no window of a second holds more than `rate`.
        self._interval = (1 + _TOLERANCE) / rate
        self._due = -math.inf

    def wait(self, now: float) -> float:
        """Seconds until the next turn; not above 0: now."""
        return self._due - now

    def spend(self, now: float) -> None:
        self._due = max(self._due, now - _TOLERANCE) + self._interval


class Topic:
    """One view of one instrument in one encoding, shared by all who want just that."""

    def __init__(self, encode: Callable[[View, int], bytes], view: str, name: str, depth: int, rate: float) -> None:
        self.key = self.encode, self.view, self.name, self.depth = encode, view, name, depth
        self.newest: tuple[int, bytes] = (0, b"")       # how many states so far, the last one encoded
        self.subscribers: set[Any] = set()              # whatever the kind of service needs to wake them
        self._version: tuple[int, int] | None = None
        self._pace = Pace(rate)

    def look(self, views: Views, now: float) -> float:
        """Encode the newest state if its turn has come and it is new; seconds until its next turn, 0 if that is now."""
        if (wait := self._pace.wait(now)) > 0:
            return wait
        version = views.version(self.view, self.name)
        if version is not None and version != self._version:
            # Read after its version: what is written in between is looked at again, and found to be the same.
            payload = self.encode(views.read(self.view, self.name), self.depth)
            self._version = version
            if payload != self.newest[1]:
                self._pace.spend(now)
                self.newest = (self.newest[0] + 1, payload)
        return max(0.0, self._pace.wait(now))


class Fanout:
    """The topics somebody wants. `changed(topic)` is called on the thread that looks, once per new state."""

    def __init__(self, views: Views, rate: float, changed: Callable[[Topic], None]) -> None:
        self._views, self._rate, self._changed = views, rate, changed
        self._topics: dict[Hashable, Topic] = {}
        self._lock = threading.Lock()
        self.wanted = threading.Event()         # set while there are topics

    def subscribe(self, subscriber: Any, encode: Callable[[View, int], bytes], view: str, name: str,
                  depth: int) -> Topic:
        """Any thread. A topic that is new holds the newest state at once."""
        with self._lock:
            if (topic := self._topics.get((encode, view, name, depth))) is None:
                topic = Topic(encode, view, name, depth, self._rate)
                self._topics[topic.key] = topic
                topic.look(self._views, time.monotonic())
            topic.subscribers.add(subscriber)
            self.wanted.set()
            return topic

    def unsubscribe(self, subscriber: Any, topic: Topic) -> None:
        """Any thread. What nobody wants any more is not encoded any more."""
        with self._lock:
            topic.subscribers.discard(subscriber)
            if not topic.subscribers:
                self._topics.pop(topic.key, None)
            if not self._topics:
                self.wanted.clear()

    def look(self) -> tuple[int, float]:
        """Encode what changed, once for all its subscribers: how many states, and seconds until the next one's turn."""
        now, states, rest = time.monotonic(), 0, math.inf
        with self._lock:
            self._views.instruments()
            for topic in self._topics.values():
                number = topic.newest[0]
                rest = min(rest, topic.look(self._views, now))
                if topic.newest[0] != number:
                    states += 1
                    self._changed(topic)
        return states, rest

    def topics(self) -> list[Topic]:
        with self._lock:
            return list(self._topics.values())


def _letters(text: str) -> str:
    return "".join(letter for letter in text.upper() if letter.isalnum())
