"""connection: what one socket needs from Python: connecting, acknowledgements, books to synchronise, a successor.

Between those its feed runs compiled, without the GIL, for as long as nothing asks for Python.
"""
from __future__ import annotations

import json
import logging
import queue
import threading
from collections.abc import Callable
from functools import partial

from mantra.client.client import Client
from mantra.client.https import patience
from mantra.client.websocket import goodbye
from mantra.core.hot_path import Event, Feed
from mantra.core.ledger import FeedState
from mantra.core.messages import Reason
from mantra.core.transport import Transport
from mantra.errors import Closed, ConnectError, VenueError
from mantra.listener.feed import Plan, make_feed
from mantra.listener.kept import Kept, Recovery
from mantra.listener.renewal import Renewal
from mantra.listener.rollover import Rollover
from mantra.listener.splicing import Splicing
from mantra.runtime.spine import ALSO, MESSAGES, Spine
from mantra.venues.instrument import Instrument
from mantra.venues.venue import Acknowledged, Refused, Restart

log = logging.getLogger("mantra.listener")

IDLE_S = 3600.0      # a feed with nothing to do for Python stays compiled this long; `wake` ends it at once
RECOVERIES: dict[str, type[Recovery]] = {"ids": Splicing, "time": Splicing, "image": Recovery, "stream": Renewal}


class Connection:
    """Everything about one connection that is not the hot path. Its methods run on one thread, the one that runs its
    feed, except `post`, `wake` and `cancel`. `wake` ends the wait of whoever runs the feed. `heir`: it is to replace
    another, and gets no successor of its own."""

    def __init__(self, plan: Plan, *, heir: bool = False) -> None:
        self.plan = plan
        self.name = plan.name
        self.feed: Feed
        self.venue, self.subscriber = plan.venue, plan.subscriber
        self.transport: Transport | None = None
        self.due = 0.0                                      # not connected: when to try, seconds of the clock
        self.promoted = False                               # what it was has replaced another's connection
        self.wake: Callable[[], None] = self._wake_transport
        self.attached: Callable[[Feed], None] = lambda feed: None   # it has a transport
        self.released: Callable[[], None] = lambda: None    # the transport is about to be closed
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.books = [Kept(index, wanted.symbol, wanted.instrument, plan.backoff())
                      for index, wanted in enumerate(plan.wanted)]
        keys = partial(plan.venue.expected_acks, mode=plan.mode, trades=False)
        self._book_of = {key: book for book in self.books for key in keys([book.symbol]) - keys([])}
        self._rollover = None if heir else Rollover(self)
        self._max_age = float("inf") if heir else plan.venue.max_age_s
        self._outdated: str | None = None                   # why another has to take its place
        self._stopping = threading.Event()
        self._client: Client | None = None
        self._backoff = plan.backoff()
        self._connected_at = 0
        self._lost_at: int | None = None
        self._proof = 0

    def setup(self, spine: Spine, publisher: int, *, run: Spine | None = None) -> None:
        """`run`: whose instruments they are, when `spine` is private to an heir."""
        self.run = run or spine
        self.clock = spine.clock
        spine.add_actor(self.name, "feed", publisher)
        tape = self.run.tape(self.name, large=self.plan.large).writer() if self.plan.raw else None
        self.feed = make_feed(self.plan, spine, publisher, tape)
        self.feed.end(Reason.DISCONNECTED)      # a venue that never answers is down for everybody, not absent
        self.row = spine.ledger.row(self.plan.name, self.plan.venue.id)
        families = (*MESSAGES, *ALSO) if self.plan.mode == "orders" else MESSAGES
        self._queues = {family: spine.queue(f"{family}.{self.name}") for family in families}
        self.updates, self.trades = self._queues["updates"], self._queues["trades"]
        self.recovery = RECOVERIES[self.plan.venue.schemes[self.plan.mode]](self)
        if run is None:
            for book in self.books:
                self._move(book, self.plan.scales.follow(book.instrument, partial(self._moved, book)))

    # From other threads ----------------------------------------------------------------------------------------

    def post(self, task: Callable[[], None]) -> None:
        """Have `task` run on the connection's thread, soon."""
        self._inbox.put(task)
        self.wake()

    def _wake_transport(self) -> None:
        if (transport := self.transport) is not None:
            transport.wake()

    def cancel(self) -> None:
        """End an attempt to connect, this one or the next: there will be no other."""
        self._stopping.set()
        if (client := self._client) is not None and self.transport is None:
            client.close()

    def _moved(self, book: Kept, new: Instrument) -> None:
        self.post(partial(self._move, book, new))

    def tasks(self) -> bool:
        """Run what was posted, if anything was; on the connection's own thread."""
        any_came = not self._inbox.empty()
        while not self._inbox.empty():
            self._inbox.get()()
        return any_came

    # Connecting and losing -------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Connect and ask for the feeds; after a failure `due` says when to try again."""
        plan = self.plan
        self._state(FeedState.CONNECTING)
        client = self._client = plan.client(self.subscriber.url())
        try:
            if self._stopping.is_set():         # after `_client` was set: `cancel` does it in the other order
                return
            transport = self.transport = client.connect()
        except ConnectError as error:
            self.row.add("refused")
            if error.retry_after is not None:   # for all that connect to this venue: a ban grows with every try
                plan.governor.block("connect", patience(error.retry_after, plan.venue.limits.ban_s))
            blocked = "HTTP 403" in str(error) or "HTTP 451" in str(error)
            self._wait_after(f"{error}; {plan.venue.when_refused}" if blocked else str(error))
            return
        except Closed:                          # by `cancel`
            return
        now = self.clock.cycles()
        self.row.add("connects")
        if self._lost_at is not None:
            self.row.add("reconnects")
            self.row.add("down_ns", self.clock.ns(now - self._lost_at))
        self._connected_at = now
        self._proof = self._data_messages()
        self._state(FeedState.SUBSCRIBING)
        self.feed.attach(transport)
        self.feed.begin(self._described() if plan.raw else b"")
        self.recovery.begin()
        self.subscriber.begin()
        self.subscriber.pump(self.feed.send)
        if self.subscriber.granted:
            self._granted()

    def _described(self) -> bytes:
        """What this connection is, for its tape: all that is needed to make another feed of the same kind."""
        plan, feed = self.plan, self.feed
        return json.dumps({
            "url": self.subscriber.url(), "api": plan.venue.endpoints.api, "venue": plan.venue.name, "mode": plan.mode,
            "depth": plan.depth, "snapshot_levels": plan.snapshot_levels, "publisher": feed.publisher,
            "limits": feed.limits,
            "queues": {family: [queue.produced, queue.capacity] for family, queue in self._queues.items()},
            "books": [{"symbol": book.symbol, "name": book.instrument.name, "instrument": book.instrument.id,
                       "scale": [book.instrument.price_decimals, book.instrument.size_decimals],
                       "past": feed.past(book.index)} for book in self.books]}).encode()

    def lose(self, why: str, reason: int = Reason.DISCONNECTED, *, planned: bool = False) -> None:
        """The connection is of no more use; `due` says when to try again."""
        self.released()
        self.feed.end(reason)
        self.recovery.begin()                   # what is on its way is not wanted
        self.feed.attach(None)
        self._outdated = None
        transport, self._client, self.transport = self.transport, None, None
        if transport is not None:
            goodbye(transport)
        self._lost_at = self.clock.cycles()
        if self._data_messages() > self._proof:
            self._backoff.reset()               # it did deliver: this is a new trouble, not the old one
        if self._rollover is not None and self._rollover.connected:
            self.due = float("inf")             # until its successor says that it fails
            log.warning("%s: %s; its successor is on its way", self.name, why)
        elif planned:
            self.due = 0.0
            log.info("%s: disconnecting: %s", self.name, why)
        else:
            self._wait_after(why)

    def _wait_after(self, why: str) -> None:
        if self._lost_at is None:
            self._lost_at = self.clock.cycles()
        delay = self._backoff.next()
        self.due = self.clock.seconds() + delay
        self._state(FeedState.WAITING)
        log.warning("%s: %s; next try in %.1f s", self.name, why, delay)

    def teardown(self) -> None:
        if self._rollover is not None:
            self._rollover.end()
        if self.transport is not None:
            self.lose("stopping", planned=True)
        if self.feed.tape is not None:
            self.feed.tape.close()              # its successor's is its next successor's, too
        self._state(FeedState.OFF)

    # Being replaced --------------------------------------------------------------------------------------------

    def replace(self, why: str) -> None:
        """Have another connection take the place of this one, which goes on meanwhile."""
        self._outdated = why
        if self._rollover is None:
            self.lose(why, planned=True)
        else:
            self._rollover.begin(why)

    def inherit(self, heir: Connection, trades_since: int) -> None:
        """Go on over the connection of `heir`, whose books tell at least as much; it gets the old one."""
        now = self.clock.cycles()
        if self.transport is not None:
            self.released()
        elif self._lost_at is not None:
            self.row.add("reconnects")
            self.row.add("down_ns", self.clock.ns(now - self._lost_at))
        self.row.add("connects")
        told = heir.trades.consumer("oldest", on_lap="count")
        self.feed.adopt(heir.feed, trades_since)
        while len(batch := told.batch()):
            self.feed.retell(batch.view("u1"))
        for name in ("transport", "venue", "subscriber", "_client", "_connected_at", "_outdated"):
            mine = getattr(self, name)
            setattr(self, name, getattr(heir, name))
            setattr(heir, name, mine)
        heir.promoted = True
        self._proof = self._data_messages()
        self.recovery.resume(heir.books)
        self.attached(self.feed)
        self.progress()
        log.info("%s: replaced", self.name)

    # What a feed's run came back with --------------------------------------------------------------------------

    def handle(self, event: int) -> None:
        """Do what `event` asks for; the connection may be lost by it."""
        if event == Event.TEXT:
            self._control(self.feed.text)
        elif event == Event.WANTS:
            self.serve_wants()
        elif event == Event.WOKEN:
            self.tasks()
        elif event == Event.DEADLINE or event == Event.NONE:
            self._tick()
        elif event == Event.SILENT:
            self.lose(f"nothing heard for {self.plan.venue.silence_s:.0f} s", Reason.SILENT)
        elif event == Event.CLOSED:
            code = self.feed.close_code
            self.lose(f"closed by the venue{f' with code {code}' if code else ''}")
        elif event == Event.PROTOCOL:
            self.lose(f"broke the WebSocket protocol: {self.feed.protocol_text}")
        else:
            self.lose(f"the connection failed: {self.feed.failure_text}")

    def patience(self) -> float:
        """Seconds until Python has something to do by itself, after doing what is due."""
        if self.transport is None:
            return max(0.0, self.due - self.clock.seconds())
        left = 0.0 if self._outdated else self._max_age - self.age()
        if self._rollover is not None:
            left = max(left, self._rollover.wait())
        waits = (self.recovery.pump(), self.subscriber.pump(self.feed.send))      # what the one asks the other sends
        return max(0.0, min(IDLE_S, left, *(IDLE_S if wait is None else wait for wait in waits)))

    def age(self) -> float:
        """Seconds since it connected."""
        return self.clock.ns(self.clock.cycles() - self._connected_at) / 1e9

    def _tick(self) -> None:
        if missing := self.subscriber.missing():
            self.lose(f"no answer to the subscription of {', '.join(missing[:3])}"
                      f"{f' and {len(missing) - 3} more' if len(missing) > 3 else ''}")
        elif self._outdated or self.age() >= self._max_age:
            self.replace(self._outdated or "as old as the venue lets a connection become")

    def _control(self, text: bytes) -> None:
        try:
            answer = self.subscriber.control(text)
        except VenueError as error:
            self.row.add("malformed")
            log.warning("%s: %s", self.name, error)
            return
        if isinstance(answer, Refused):
            self.row.add("refused")
            books = [book for key in answer.keys if (book := self._book_of.get(key))]
            if isinstance(self.recovery, Renewal) and books:
                for book in books:
                    self.recovery.refuse(book, answer.why)
            else:
                log.error("%s: the venue refused %s: %s", self.name, ", ".join(answer.keys) or "a request", answer.why)
        elif isinstance(answer, Restart) and answer.doubtful:
            self.lose("the venue says that its books stand still, or stood", planned=True)
        elif isinstance(answer, Restart):
            self.replace("the venue announced a restart")
        elif isinstance(answer, Acknowledged):
            self.recovery.acknowledged([book for key in answer.keys if (book := self._book_of.get(key))])
        if self.subscriber.granted:
            self._granted()

    def _granted(self) -> None:
        self.progress()
        self.recovery.acknowledged([book for book in self.books if book.since is not None])

    def progress(self) -> None:
        """Say how far it is."""
        if self.subscriber.granted:
            self._state(FeedState.LIVE if all(book.since is None for book in self.books) else FeedState.SYNCHRONISING)

    # What its books want ---------------------------------------------------------------------------------------

    def serve_wants(self) -> None:
        for index, snapshot, scale in self.feed.wants():
            hopeless = scale and not self.outgrown(self.books[index], self.feed.text)
            if snapshot:
                self.recovery.want(self.books[index], again=hopeless)

    def outgrown(self, book: Kept, text: bytes) -> bool:
        """`text` does not fit the scale of `book`, which goes on as the next generation; False: no scale holds it."""
        new = self.plan.scales.outgrown(book.instrument, self.venue, text, self.run)
        if new is None:
            book.hopeless = True        # may come with every message: snapshots must not
            return False
        self._move(book, new)
        return True

    def _move(self, book: Kept, new: Instrument) -> None:
        """`book` goes on as generation `new`."""
        if book.instrument.id == new.id:
            return
        book.instrument = new
        self.feed.rescale(book.index, new.id, new.price_decimals, new.size_decimals)
        if self.transport is not None:
            self.recovery.want(book)

    # ----------------------------------------------------------------------------------------------------------

    def _data_messages(self) -> int:
        return int(self.row["messages"] - self.row["control"])

    def _state(self, state: FeedState) -> None:
        self.row.set_state(state, self.clock.utc_ns())
