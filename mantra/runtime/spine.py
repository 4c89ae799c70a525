"""spine: every queue, vector and book of a run, by name.

A run is a set of shared-memory regions whose names begin with the run's. Who creates the run owns them; any other
process of the same user attaches by name, reads, and leaves without the run noticing:

    <run>.clock        cycles -> UTC            <run>.doorbell     who waits parks here
    <run>.ledger       what went missing, by feed; <run>.books: by book
    <run>.instruments  slot -> name and scale
    <run>.updates.F  .trades.F  .tops.F         queues of feed F (one connection); .orders.F in mode "orders"
    <run>.raw.F                                 tape of feed F, if wanted: what it was told; F-next: its successor's
    <run>.latest.tops                           newest top of every book
    <run>.world, <run>.latest.world             an aggregator's queue and newest values, slot = instrument's slot
    <run>.book.V.S                              book of venue V's symbol S
    <run>.latency.W.A                           histogram of W ("socket_to_top") measured by A
    <run>.venues                                where the run's venues are, and what it wants of them (JSON)
    <run>.actors                                who is at work: slot = number = publisher id
    <run>.timings.A                             ring of what actor A consumed, and how long that took
    <run>.timer.A.N  .counter.A.N  .gauge.A.N   meters of A's own
    <run>.audience                              of a playback: who reads, and how far each has come
"""
from __future__ import annotations

import contextlib
import copy
import itertools
import json
import os
import time
from collections import Counter as Counts
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np

from mantra.core.audience import Audience
from mantra.core.book import Book
from mantra.core.clock import Clock
from mantra.core.doorbell import Doorbell
from mantra.core.histogram import Histogram
from mantra.core.ledger import Ledger
from mantra.core.merge import Merge
from mantra.core.messages import DTYPES, ActorRow, ActorState, InstrumentRow, Top
from mantra.core.meter import Counter, Gauge, Timer
from mantra.core.queue import Consumer, Producer, Queue
from mantra.core.region import Region, process_identity
from mantra.core.tape import Tape
from mantra.core.tracking import Tracker
from mantra.core.vector import Vector
from mantra.errors import ConfigurationError, RegionError

T = TypeVar("T")
MESSAGES = {"updates": "update", "trades": "trade", "tops": "top"}     # of queues by family
ALSO = {"orders": "order"}      # of books that are kept order by order
CAPACITY = {"update": 32_768, "trade": 4_096, "top": 2_048, "world": 2_048, "order": 32_768, "timing": 4_096}
MANY = 16       # queues of one message; those that come after so many have a quarter: hundreds of feeds share the load
TAPE = 4 << 20, 16 << 20    # bytes of a tape: of most feeds; of those with snapshots of megabytes
MOST_INSTRUMENTS = 8_192
MOST_BOOKS = 8_192
MOST_FEEDS = 512        # their numbers are those of their ledger rows; other actors' follow
MOST_ACTORS = 1_024


@dataclass(frozen=True)
class RunInstrument:
    """An instrument as this run knows it; prices are ticks of 10^-price_decimals, sizes lots of 10^-size_decimals."""

    slot: int
    id: int
    name: str
    generation: int
    price_decimals: int
    size_decimals: int


def message_of(queue: str) -> str:
    """What a queue carries, or a family of them, as its name says."""
    return (MESSAGES | ALSO).get(queue.split(".")[0], "world")


def within(queue: str, family: str) -> bool:
    """Is `queue` of `family`?"""
    return queue == family or queue.startswith(f"{family}.")


def running() -> list[str]:
    """Names of the runs that can be attached to."""
    return sorted(info.name.removesuffix(".clock") for info in Region.list()
                  if info.name.endswith(".clock") and info.owner_alive)


class Spine:
    """Make or find the regions of a run. Use `Spine.create`, `Spine.private` or `Spine.attach`."""

    def __init__(self, run: str | None, owner: bool, clock: Clock | None, *, played: bool = False) -> None:
        self.run = run
        self.owner = owner
        self.audience: Audience | None = None
        self._regions: dict[str, Any] = {}
        self._instruments: list[RunInstrument] = []
        self._slots = itertools.count()
        self._next_actor, self._queue_numbers = itertools.count(MOST_FEEDS), itertools.count(1)
        self._carrying: Counts[str] = Counts()        # queues made here, by message
        self.actor = "user" if owner else f"user-{os.getpid()}"     # whose meters are made here
        self.number: int | None = None
        self._tracker: Tracker | None = None
        self.readers: list[Merge] = []
        self._producers: list[Producer] = []
        try:
            if owner:
                self.clock = clock or Clock()
                self.audience = self._make("audience", Audience.create) if played else None
                if run is not None:
                    self._regions["clock"] = self.clock.publish(f"{run}.clock")
                self.doorbell = self._make("doorbell", Doorbell.create)
                self.ledger = self._make("ledger", lambda name: Ledger.create(name, MOST_FEEDS))
                self.book_ledger = self._make("books", lambda name: Ledger.create(name, MOST_BOOKS))
                self.instrument_rows = self.vector("instruments", "instrument", MOST_INSTRUMENTS)
                self.tops = self.vector("latest.tops", "top", MOST_BOOKS)
                self.actor_rows = self.vector("actors", "actor", MOST_ACTORS)
            else:
                self.clock = Clock.open(f"{run}.clock")
                if self.names("audience"):
                    self.audience = self._make("audience", Audience.open)
                self.doorbell = self._make("doorbell", Doorbell.open)
                self.ledger = self._make("ledger", Ledger.open)
                self.book_ledger = self._make("books", Ledger.open)
                self.instrument_rows = self.vector("instruments", "instrument")
                self.tops = self.vector("latest.tops", "top")
                self.actor_rows = self.vector("actors", "actor")
        except BaseException:
            self.close()
            raise

    @classmethod
    def create(cls, run: str | None = None, *, clock: Clock | None = None, played: bool = False) -> Spine:
        """Own a run. A name that is given must be free; without one "mantra" is taken, or "mantra-2", ... `played`: by
        who waits for its readers."""
        Region.remove_stale("")         # whatever runs left that were killed
        if run is not None:
            if run in running():
                raise ConfigurationError(f"the run {run!r} is already there: choose another --run, or attach to it")
            return cls(run, True, clock, played=played)
        for name in ["mantra", *(f"mantra-{n}" for n in range(2, 10_000))]:
            if name not in running():
                try:
                    return cls(name, True, clock, played=played)
                except RegionError:
                    if name not in running():       # not because another was faster by a moment
                        raise
        raise ConfigurationError("there are ten thousand runs: name this one with --run")

    @classmethod
    def private(cls, *, clock: Clock | None = None, played: bool = False) -> Spine:
        """The same in memory of this process alone: for replays and tests."""
        return cls(None, True, clock, played=played)

    @classmethod
    def attach(cls, run: str | None = None) -> Spine:
        """Read somebody's run: `run`, or the only one there is."""
        names = running()
        if run is None:
            if len(names) != 1:
                raise ConfigurationError("nothing to attach to: no mantra is running" if not names else
                                         f"several runs, name one of {', '.join(names)}")
            run = names[0]
        elif run not in names:
            raise ConfigurationError(f"no run {run!r}; running: {', '.join(names) or 'none'}")
        return cls(run, False, None)

    # What a run is made of -------------------------------------------------------------------------------------

    def queue(self, name: str, message: str | None = None, capacity: int | None = None, *,
              many: bool = False) -> Queue:
        """The queue `name` ("tops.binance-0", "world"), made when this process owns the run and it is not there, for
        `many` writers or one. `message` None: whatever it carries, or as its name says. ConfigurationError when it
        carries another."""
        made = message or message_of(name)
        queue = self._make(name, Queue.open if not self.owner else lambda full: Queue.create(
            full, made, capacity or self._capacity(made), "mpmc" if many else "spmc", number=next(self._queue_numbers)))
        if message not in (None, queue.format.name):
            raise ConfigurationError(f"{name} is a queue of {queue.format.name!r}, not of {message!r}")
        queue.audience = None if queue.format.name == "timing" else self.audience
        return queue

    def _capacity(self, message: str) -> int:
        self._carrying[message] += 1
        return CAPACITY[message] // (4 if self._carrying[message] > MANY else 1)

    def vector(self, name: str, message: str, capacity: int | None = None) -> Vector:
        """The latest-value vector `name`; made when this process owns the run and it is not there."""
        if self.owner:
            return self._make(name, lambda full: Vector.create(full, message, capacity or MOST_INSTRUMENTS))
        return self._make(name, Vector.open)

    def histogram(self, name: str) -> Histogram:
        """The histogram "latency.`name`"; nanoseconds."""
        name = f"latency.{name}"
        if self.owner:
            return self._make(name, Histogram.create)
        return self._make(name, Histogram.open)

    def tape(self, feed: str, *, large: bool = False) -> Tape:
        """The tape of a feed; made when this process owns the run and it is not there."""
        return self._make(f"raw.{feed}", lambda full: Tape.create(full, TAPE[large]) if self.owner else Tape.open(full))

    def tapes(self) -> list[str]:
        """Names of the feeds that have a tape, those of successors ("binance.0-next") among them."""
        return [name.removeprefix("raw.") for name in self.names("raw.")]

    def make_book(self, venue: str, venue_id: int, symbol: str, instrument: int) -> tuple[Book, int]:
        """A new book and its slot in `tops`."""
        if (slot := next(self._slots)) >= MOST_BOOKS:
            raise ConfigurationError(f"a run holds at most {MOST_BOOKS} books")
        name = f"book.{venue}.{safe_name(symbol)}"
        return self._make(name, lambda full: Book.create(full, instrument, venue_id)), slot

    def book(self, venue: str, symbol: str) -> Book:
        """The book of `venue`'s `symbol`, readable while it changes."""
        name = f"book.{venue}.{safe_name(symbol)}"
        if self.owner and name not in self._regions:
            raise ConfigurationError(f"this run has no book {venue} {symbol}; it has {', '.join(self.book_names())}")
        try:
            return self._make(name, Book.open)
        except RegionError as error:
            raise ConfigurationError(f"run {self.run!r} has no book {venue} {symbol}; it has "
                                     f"{', '.join(self.book_names())}") from error

    def book_names(self) -> list[str]:
        return [name.removeprefix("book.") for name in self.names("book.")]

    def add_instrument(self, id: int, name: str, generation: int, price_decimals: int,
                       size_decimals: int) -> RunInstrument:
        """Give an instrument (one scale generation of it) its slot in this run."""
        for known in self._instruments:
            if known.id == id:
                return known
        added = RunInstrument(len(self._instruments), id, name, generation, price_decimals, size_decimals)
        self.instrument_rows.write(added.slot, InstrumentRow(name=name, instrument=id, generation=generation,
                                                             price_decimals=price_decimals,
                                                             size_decimals=size_decimals))
        self._instruments.append(added)
        return added

    def instruments(self) -> list[RunInstrument]:
        """Every instrument of the run, by slot."""
        while (row := self.instrument_rows.read(len(self._instruments))) is not None:
            self._instruments.append(RunInstrument(len(self._instruments), row.instrument, row.name, row.generation,
                                                   row.price_decimals, row.size_decimals))
        return list(self._instruments)

    def say(self, name: str, what: Any) -> None:
        """What others should know of this run, once, as JSON."""
        text = json.dumps(what).encode()
        self._make(name, lambda full: Region.create(full, len(text), kind="json", first=text))

    def said(self, name: str) -> Any:
        """What the run's owner said; None: nothing."""
        with contextlib.suppress(RegionError):
            region = self._make(name, lambda full: Region.open(full or name, kind="json"))
            return json.loads(region.read().rstrip(b"\0"))
        return None

    def names(self, prefix: str) -> list[str]:
        """Names of the run's regions that begin with `prefix`, without the run's own name."""
        if self.run is None or self.owner:
            return sorted(name for name in self._regions if name.startswith(prefix))
        return sorted(info.name.removeprefix(f"{self.run}.") for info in Region.list(f"{self.run}.{prefix}"))

    def queues(self, family: str, message: str | None = None) -> list[Queue]:
        """All queues of a family: "tops" gives "tops.binance-0", ...; a full name gives that one."""
        return [self.queue(name, message) for name in self.queue_names(family)]

    def queue_names(self, family: str = "") -> list[str]:
        """Of a family's queues, or of all; a family's are found without a look at thousands of books."""
        if self.owner:
            names = sorted(name for name, region in list(self._regions.items()) if isinstance(region, Queue))
        else:
            names = [info.name.removeprefix(f"{self.run}.") for info in Region.list(f"{self.run}.{family}")
                     if info.kind == "queue"]
        return [name for name in names if not family or within(name, family)]

    def latest(self, output: str) -> Vector:
        """Newest values of an aggregator's output ("world", "liquidity"), slot = the instrument's slot."""
        return self.vector(f"latest.{output}", "world")

    @property
    def worlds(self) -> Vector:
        return self.latest("world")

    def histograms(self) -> dict[str, Histogram]:
        """Every latency histogram by name ("socket_to_top.binance-0")."""
        return {name.removeprefix("latency."): self.histogram(name.removeprefix("latency."))
                for name in self.names("latency.")}

    # Actors and their time -------------------------------------------------------------------------------------

    def add_actor(self, name: str, kind: str, number: int | None = None, *, core: int = -1) -> int:
        """Enter an actor: its number (a feed's: its ledger row's), the publisher of its messages."""
        if number is None:
            number = next(self._next_actor)
        if number >= MOST_ACTORS:
            raise ConfigurationError(f"a run has at most {MOST_ACTORS - MOST_FEEDS} actors beside its feeds")
        self.actor_rows.write(number, ActorRow(
            number=number, name=name.encode()[:48], kind=kind.encode()[:16], identity=process_identity(), core=core,
            state=ActorState.STARTING, started_utc_ns=self.clock.utc_ns()))
        return number

    def change_actor(self, number: int, **fields: Any) -> None:
        """Tell more of an actor: `state`, `restarts`, `failures`, `identity`, ... (fields of ActorRow)."""
        row = self.actor_rows.read(number)
        told = {name: getattr(row, name) for name in DTYPES["actor"].names or ()}
        self.actor_rows.write(number, ActorRow(**told | fields))

    def actors(self) -> list[ActorRow]:
        """Everybody at work, by number."""
        return [row for number in range(MOST_ACTORS) if (row := self.actor_rows.read(number)) is not None]

    def tracker(self, name: str, number: int) -> Tracker:
        """What actor `number` gives to all that it reads and writes with; its timings go to "timings.`name`"."""
        return Tracker(self.clock, number, self.timings(name) if self.owner else
                       Queue.open(f"{self.run}.timings.{name}", write=True))

    def timings(self, name: str) -> Queue:
        """The ring of actor `name`'s timings; this process owns the run."""
        return self.queue(f"timings.{name}", "timing")

    def timer(self, name: str) -> Timer:
        """A timer of one's own: `with timer: ...`, or `timer.record(ns)`."""
        return Timer(self.clock, self._make(self._meter("timer", name), Histogram.create))

    def counter(self, name: str) -> Counter:
        """A counter of one's own: `counter.add()`."""
        return self._make(self._meter("counter", name), Counter.create)

    def gauge(self, name: str) -> Gauge:
        """A gauge of one's own: `gauge.set(1.5)`."""
        return self._make(self._meter("gauge", name), Gauge.create)

    def _meter(self, kind: str, name: str) -> str:
        return f"{kind}.{self.actor}.{safe_name(name)}"

    def timers(self) -> dict[tuple[str, str], Histogram]:
        """Every timer's histogram by (actor, name), whichever process keeps it."""
        return self._meters("timer", Histogram.open)

    def counters(self) -> dict[tuple[str, str], int]:
        return {key: counter.value for key, counter in self._meters("counter", Counter.open).items()}

    def gauges(self) -> dict[tuple[str, str], float]:
        return {key: gauge.value for key, gauge in self._meters("gauge", Gauge.open).items()}

    def _meters(self, kind: str, open: Callable[[str], T]) -> dict[tuple[str, str], T]:
        found, names = {}, list(self._regions)
        if self.run is not None:
            names = [info.name.removeprefix(f"{self.run}.") for info in Region.list(f"{self.run}.{kind}.")]
        for full in names:
            if full.startswith(f"{kind}."):
                _, actor_and_name = full.split(".", 1)
                actor, _, name = actor_and_name.rpartition(".")
                with contextlib.suppress(RegionError):      # gone since
                    found[actor, name] = self._regions.get(full) or open(f"{self.run}.{full}")
        return found

    # Reading ---------------------------------------------------------------------------------------------------

    def read(self, family: str, timeout: float | None = None, *,
             on_lap: Literal["raise", "count"] = "raise") -> Iterator[Any]:
        """Messages of a family of queues ("tops", "updates.binance", "trades", "world") as typed objects, in the order
        in which they were published, from now on. Ends when nothing came for `timeout` seconds (None: never).
        When this reader was overtaken: Lapped, or with on_lap="count" it goes on with the oldest there is."""
        merge = Merge(self._family(family), doorbell=self.doorbell, on_lap=on_lap)
        while merge.wait(timeout):
            yield from merge

    def batches(self, family: str, timeout: float | None = None) -> Iterator[np.ndarray[Any, Any]]:
        """The same as numpy structured arrays (dtypes: mantra.core.messages.DTYPES), each of one queue's waiting
        messages, at most 1024."""
        consumers = [queue.consumer(doorbell=self.doorbell) for queue in self._family(family)]
        heard = time.monotonic()
        while True:
            seen, empty = self.doorbell.seen(), True
            for consumer in consumers:
                if len(batch := consumer.batch()):
                    empty, heard = False, time.monotonic()
                    yield batch
            if empty:
                if timeout is not None and time.monotonic() - heard > timeout:
                    return
                self.doorbell.wait(0.001, seen)

    def newest_tops(self) -> Iterator[Top]:
        """The newest top of every book that has one. A book has its slot before it has a top: there are gaps."""
        return (top for slot in range(self.tops.capacity) if (top := self.tops.read(slot)) is not None)

    def follow(self, venue: str, symbol: str) -> tuple[Any, Consumer]:
        """A book as it is now (`Book.image()`), and a reader of its feed's updates from just behind it: nothing is
        missed and nothing comes twice. The updates are the whole connection's: keep those of the image's instrument.
        A RESET among them (price: the generation) says to take the image again."""
        image = self.book(venue, symbol).image()
        for top in self.newest_tops():
            if (top.venue, top.instrument) == (image.venue, image.instrument):
                feed = self.ledger.rows()[top.publisher].name  # feeds enter the ledger in the order of their numbers
                return image, self.queue(f"updates.{feed}", "update").consumer(image.position, doorbell=self.doorbell)
        raise ConfigurationError(f"run {self.run!r}: nothing was heard of {venue} {symbol} yet")

    # For actors ------------------------------------------------------------------------------------------------

    def for_actor(self, name: str, number: int | None, idle: str = "adapt") -> Spine:
        """The same run as one actor sees it: its readers wait in its own way (mantra.core.doorbell.IDLING), what it
        reads and writes is timed, its meters bear its name, and `release` lets go of what it wrote."""
        view = copy.copy(self)
        view.actor, view.number, view.doorbell = name, number, self.doorbell.to_idle(idle)
        view.readers, view._producers = [], []
        return view

    def tracked(self) -> Tracker | None:
        """What times this actor; None: this is no actor's view."""
        if self._tracker is None and self.number is not None:
            self._tracker = self.tracker(self.actor, self.number)
        return self._tracker

    def reader(self, family: str, *, on_lap: Literal["raise", "count"] = "raise") -> Merge:
        """The messages of a family of queues from now on: iterate over what waits, take it as an array with `batch`,
        `wait` for more. Several queues are read as one, in the order in which they were published."""
        made = Merge(self._family(family), on_lap=on_lap, doorbell=self.doorbell, tracker=self.tracked())
        self.readers.append(made)
        return made

    def writer(self, name: str, message: str | None = None) -> Producer:
        """Become a writer of the queue `name`, ringing the run's doorbell. What the queue carries its topology says, or
        else `message`, or else its name: tops, updates and trades as ever, all others worlds."""
        if not self.owner:
            self._family(name)      # there is none: say so
        queue = self.queue(name, message)
        if not self.owner:
            queue = Queue.open(f"{self.run}.{name}", write=True)
        self._producers.append(producer := queue.producer(0xFFFF, doorbell=self.doorbell, tracker=self.tracked()))
        return producer

    def wake(self) -> None:
        """End the `wait` of whoever of this view's readers waits; from any thread."""
        for reader in self.readers:
            reader.wake()

    def rest(self) -> None:
        """This actor found nothing to do: what it writes next comes of nothing that it has read."""
        if self._tracker is not None:
            self._tracker.rest()

    def release(self) -> None:
        """Forget this view's readers, and let others write what it has written."""
        self.readers.clear()
        while self._producers:
            self._producers.pop().close()
        if self._tracker is not None:
            self._tracker.close()
            self._tracker = None

    def _family(self, family: str) -> list[Queue]:
        if queues := self.queues(family):
            return queues
        there = ", ".join(sorted({name.split(".")[0] for name in self.queue_names()})) or "none"
        raise ConfigurationError(f"run {self.run!r} has no queue {family!r}; it has {there}")

    # Life ------------------------------------------------------------------------------------------------------

    def _make(self, name: str, make: Callable[[Any], T]) -> T:
        if name not in self._regions:
            self._regions[name] = make(None if self.run is None else f"{self.run}.{name}")
        made: T = self._regions[name]
        return made

    def alive(self) -> bool:
        """Is the process that owns this run still there?"""
        return self.owner or any(info.owner_alive for info in Region.list(f"{self.run}.clock"))

    def close(self) -> None:
        """Let go of every region; the owner removes them."""
        for region in reversed(list(self._regions.values())):
            region.close()
        self._regions.clear()
        if self.owner and self.run is not None:
            Region.remove_stale(f"{self.run}.")     # meters of processes that were killed

    def __enter__(self) -> Spine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Spine({self.run!r}, {'owner' if self.owner else 'attached'}, pid {os.getpid()})"


def safe_name(symbol: str) -> str:
    """A venue's symbol as part of a region's name."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else f"_{ord(c):x}_" for c in symbol)
