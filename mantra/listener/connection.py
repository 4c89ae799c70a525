"""connection: what one socket needs from Python: connecting, acknowledgements, snapshots, planned restarts.

Between those its feed runs compiled, without the GIL, for as long as nothing asks for Python.
"""
from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from mantra.client.client import Client
from mantra.client.governor import Backoff
from mantra.client.websocket import goodbye
from mantra.core.hot_path import Event, Feed, Splice
from mantra.core.ledger import FeedState
from mantra.core.messages import Reason
from mantra.core.transport import Transport
from mantra.errors import Closed, ConnectError, MantraError, VenueError
from mantra.listener.feed import Plan, make_feed
from mantra.listener.second_look import AFTER_S, LEVELS, Look, SecondLook
from mantra.runtime.spine import Spine
from mantra.venues.instrument import Instrument
from mantra.venues.venue import Acknowledged, Refused, Restart

log = logging.getLogger("mantra.listener")

CONTRADICTIONS = 5   # snapshots in a row that a second look found wrong, before their venue is taken at its word
SETTLED_S = 2.0      # a REST book asked for so long after a loss is newer than it: venues cache for a second at most
IDLE_S = 3600.0      # a feed with nothing to do for Python stays compiled this long; `wake` ends it at once


@dataclass(eq=False)
class Kept:
    """What Python knows of one book of a connection."""

    index: int
    symbol: str
    instrument: Instrument
    backoff: Backoff                    # of its snapshots, until one is believed
    asked: bool = False                 # a snapshot is on its way
    since: float | None = None          # not synchronised since then, seconds of the connection; None: it is
    look: SecondLook | None = None      # its snapshot is not believed yet
    contradictions: int = 0
    hopeless: bool = False              # it met text which no scale holds


class Connection:
    """Everything about one connection that is not the hot path. Its methods run on one thread, the one that runs its
    feed, except `post`, `wake` and `cancel`. `wake` ends the wait of whoever runs the feed."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.name = plan.name
        self.feed: Feed
        self.transport: Transport | None = None
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.books = [Kept(index, wanted.symbol, wanted.instrument, plan.backoff())
                      for index, wanted in enumerate(plan.wanted)]
        self._book_of = {channel: book for book in self.books
                         for channel in plan.venue.channels([book.symbol], plan.mode, False)}
        self.wake: Callable[[], None] = self._wake_transport
        self.released: Callable[[], None] = lambda: None    # the transport is about to be closed
        self._stopping = threading.Event()
        self._session = 0                                   # what is on its way for an older one is not wanted
        self._client: Client | None = None
        self._backoff = plan.backoff()
        self._connected_at = 0
        self._lost_at: int | None = None
        self._proof = 0

    def setup(self, spine: Spine, publisher: int) -> None:
        self._spine = spine
        self.clock = spine.clock
        spine.add_actor(self.name, "feed", publisher)
        self.feed = make_feed(self.plan, spine, publisher)
        self.feed.end(Reason.DISCONNECTED)      # a venue that never answers is down for everybody, not absent
        self.row = spine.ledger.row(self.plan.name, self.plan.venue.id)
        self._updates = spine.queue(f"updates.{self.name}", "update")
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

    def tasks(self) -> None:
        """Run what was posted; on the connection's own thread."""
        while not self._inbox.empty():
            self._inbox.get()()

    # Connecting and losing -------------------------------------------------------------------------------------

    def connect(self) -> float:
        """Connect and ask for the feeds. Returns 0.0, or after a failure the seconds to wait before the next try."""
        plan = self.plan
        self._state(FeedState.CONNECTING)
        client = self._client = plan.client(plan.subscriber.url())
        try:
            if self._stopping.is_set():         # after `_client` was set: `cancel` does it in the other order
                return 0.0
            transport = self.transport = client.connect()
        except ConnectError as error:
            self.row.add("refused")
            blocked = "HTTP 403" in str(error) or "HTTP 451" in str(error)
            return self._wait_after(f"{error}; {plan.venue.when_refused}" if blocked else str(error))
        except Closed:
            return 0.0                  # by `cancel`
        now = self.clock.cycles()
        self.row.add("connects")
        if self._lost_at is not None:
            self.row.add("reconnects")
            self.row.add("down_ns", self.clock.ns(now - self._lost_at))
        self._connected_at = now
        self._proof = self._data_messages()
        self._state(FeedState.SUBSCRIBING)
        self.feed.attach(transport)
        self.feed.begin()
        self._begin_session()
        plan.subscriber.begin(self.feed.send)
        plan.subscriber.pump()
        if plan.subscriber.granted:
            self._granted()
        return 0.0

    def _begin_session(self) -> None:
        self._session += 1
        for book in self.books:
            book.asked, book.look, book.since = False, None, 0.0 if self.plan.mode == "book" else None
            book.backoff.reset()

    def lose(self, why: str, reason: int = Reason.DISCONNECTED, *, planned: bool = False) -> float:
        """The connection is of no more use. Seconds to wait before the next try."""
        self.released()
        self.feed.end(reason)
        self._begin_session()
        self.feed.attach(None)
        transport, self._client, self.transport = self.transport, None, None
        if transport is not None:
            goodbye(transport)
        self._lost_at = self.clock.cycles()
        if planned:
            log.info("%s: reconnecting: %s", self.name, why)
            return 0.0
        if self._data_messages() > self._proof:
            self._backoff.reset()       # it did deliver: this is a new trouble, not the old one
        return self._wait_after(why)

    def _wait_after(self, why: str) -> float:
        if self._lost_at is None:
            self._lost_at = self.clock.cycles()
        delay = self._backoff.next()
        self._state(FeedState.WAITING)
        log.warning("%s: %s; next try in %.1f s", self.name, why, delay)
        return delay

    def teardown(self) -> None:
        if self.transport is not None:
            self.lose("stopping", planned=True)
        self._state(FeedState.OFF)

    # What a feed's run came back with --------------------------------------------------------------------------

    def handle(self, event: int) -> float | None:
        """Do what `event` asks for. None: go on; else the connection is lost: seconds to wait before the next."""
        if event == Event.TEXT:
            return self._control(self.feed.text)
        if event == Event.WANTS:
            self._serve_wants()
            return None
        if event == Event.WOKEN:
            self.tasks()
            return None
        if event == Event.DEADLINE or event == Event.NONE:
            return self._tick()
        if event == Event.SILENT:
            return self.lose(f"nothing heard for {self.plan.venue.silence_s:.0f} s", Reason.SILENT)
        if event == Event.CLOSED:
            code = self.feed.close_code
            return self.lose(f"closed by the venue{f' with code {code}' if code else ''}")
        if event == Event.PROTOCOL:
            return self.lose(f"broke the WebSocket protocol: {self.feed.protocol_text}")
        return self.lose(f"the connection failed: {self.feed.failure_text}")

    def patience(self) -> float:
        """Seconds until Python has something to do by itself."""
        left = self.plan.venue.max_age_s - self._age()
        wait = self.plan.subscriber.pump()
        return max(0.0, min(IDLE_S, left, IDLE_S if wait is None else wait))

    def _age(self, cycles: int | None = None) -> float:
        """Seconds from connecting until now, or until `cycles`."""
        return self.clock.ns(max(0, (cycles or self.clock.cycles()) - self._connected_at)) / 1e9

    def _tick(self) -> float | None:
        missing = self.plan.subscriber.missing()
        if missing:
            return self.lose(f"no answer to the subscription of {', '.join(missing[:3])}"
                             f"{f' and {len(missing) - 3} more' if len(missing) > 3 else ''}")
        if self._age() >= self.plan.venue.max_age_s:
            return self.lose("as old as the venue lets a connection become", planned=True)
        return None

    def _control(self, text: bytes) -> float | None:
        try:
            answer = self.plan.subscriber.control(text)
        except VenueError as error:
            self.row.add("malformed")
            log.warning("%s: %s", self.name, error)
            return None
        if isinstance(answer, Refused):
            self.row.add("refused")
            log.error("%s: the venue refused %s: %s", self.name, ", ".join(answer.keys) or "a request", answer.why)
        elif isinstance(answer, Restart):
            return self.lose("the venue announced a restart", planned=True)
        elif isinstance(answer, Acknowledged) and self.plan.mode == "book":
            for key in answer.keys:
                if book := self._book_of.get(key):
                    self._want(book)
        if self.plan.subscriber.granted:
            self._granted()
        return None

    def _granted(self) -> None:
        waiting = [book for book in self.books if book.since is not None]
        self._state(FeedState.SYNCHRONISING if waiting else FeedState.LIVE)
        for book in waiting:
            self._want(book, again=None)

    # Snapshots and scales --------------------------------------------------------------------------------------

    def _serve_wants(self) -> None:
        for index, snapshot, scale in self.feed.wants():
            hopeless = scale and not self._outgrown(self.books[index], self.feed.text)
            if snapshot:
                self._want(self.books[index], again=hopeless)

    def _want(self, book: Kept, *, again: bool | None = False) -> None:
        """`book` needs a snapshot: after a loss (again=False), still (None), as the last would not do (True)."""
        if self.plan.mode == "top":
            return                      # the next message is whole
        if again is False or book.since is None:
            book.since, book.look = self._age(), None
            self._state(FeedState.SYNCHRONISING)
        if book.asked:
            return
        book.asked, session = True, self._session

        def came(answer: bytes | MantraError, asked_at: int) -> None:
            self.post(partial(self._snapshot, session, book, answer, asked_at))

        self.plan.desk.fetch(self.plan.venue.snapshot(book.symbol, self.plan.snapshot_levels), came,
                             book.backoff.next() if again else 0.0, lambda: session == self._session)

    def _snapshot(self, session: int, book: Kept, answer: bytes | MantraError, asked_at: int) -> None:
        if self.transport is None or session != self._session or not book.asked:
            return
        book.asked = False
        if isinstance(answer, MantraError):
            self.row.add("refused")
            log.warning("%s: no snapshot of %s: %s", self.name, book.symbol, answer)
            self._want(book, again=True)
            return
        settled = self._age(asked_at) - (book.since or 0.0) > SETTLED_S
        outcome = self.feed.splice(book.index, answer, settled)
        if outcome == Splice.FINER:
            self.feed.wants()
            if self._outgrown(book, answer):
                outcome = self.feed.splice(book.index, answer, settled)
        if outcome == Splice.SPLICED:
            book.since = None
            self._serve_wants()         # what was held back may have revealed a loss
            if book.since is None:
                book.look = SecondLook(self.feed.books[book.index], self._updates,
                                       partial(self.feed.levels_of, book.index))
                self._ask_again(book, AFTER_S)
            if self.plan.subscriber.granted and all(one.since is None for one in self.books):
                self._state(FeedState.LIVE)
            return
        if outcome != Splice.OLD:
            log.warning("%s: the snapshot of %s cannot be used (%s)", self.name, book.symbol,
                        Splice(outcome).name.lower())
        self._want(book, again=True)

    def _ask_again(self, book: Kept, delay: float, answer: bytes | None = None) -> None:
        """Ask the venue for another look at `book`, or show `answer` again, in `delay` seconds."""
        request = self.plan.venue.snapshot(book.symbol, LEVELS) if answer is None else None
        look = book.look

        def came(new: bytes | MantraError, _: int) -> None:
            self.post(partial(self._look, book, look, new if answer is None else answer))

        self.plan.desk.fetch(request, came, delay)

    def _look(self, book: Kept, look: SecondLook | None, answer: bytes | MantraError) -> None:
        if look is None or book.look is not look:       # there is another snapshot by now, or another connection
            return
        came = Look.AGAIN if isinstance(answer, MantraError) else look.at(answer)
        if came == Look.LATER and isinstance(answer, bytes):
            self._ask_again(book, AFTER_S, answer)
        elif came == Look.AGAIN:
            self._ask_again(book, book.backoff.next())
        elif came == Look.AGREES:
            book.look, book.contradictions = None, 0
            if not book.hopeless:
                book.backoff.reset()
            self.feed.looked(book.index, True)
        elif book.contradictions >= CONTRADICTIONS:
            book.look = None
            log.error("%s: the venue contradicts its own snapshots of %s, which stays unverified", self.name,
                      book.symbol)
            self.feed.looked(book.index, False)
        else:
            log.warning("%s: the snapshot of %s was wrong", self.name, book.symbol)
            book.contradictions += 1
            self.feed.suspect(book.index, Reason.CHECKSUM)
            self.feed.wants()
            self._want(book, again=True)

    def _outgrown(self, book: Kept, text: bytes) -> bool:
        new = self.plan.scales.outgrown(book.instrument, self.plan.venue, text, self._spine)
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
            self._want(book)

    # ----------------------------------------------------------------------------------------------------------

    def _data_messages(self) -> int:
        return int(self.row["messages"] - self.row["control"])

    def _state(self, state: FeedState) -> None:
        self.row.set_state(state, self.clock.utc_ns())
