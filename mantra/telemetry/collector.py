"""collector: what every actor, queue and feed of a run does, read from outside.

Every actor tells a ring of its own ("timings.<actor>") of each message it took: when that was published, when it was
taken, how long it was worked on, where it stood in its queue. `Collector.poll` drains these rings into histograms, many
records at once; whatever else is told (lag, rates, overruns) is worked out here, from positions, so that the run
does nothing for it and does not notice who looks, nor when that one is killed. A ring that was full before it was
drained is told as `missed`; histograms then are a sample, rates and positions stay right.
"""
from __future__ import annotations

import contextlib
import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.lib.recfunctions import structured_to_unstructured
from numpy.typing import NDArray

from mantra.core.histogram import Histogram
from mantra.core.ledger import COUNTERS, FeedState, Ledger
from mantra.core.messages import DTYPES, SOCKET, ActorRow, ActorState, Reason, Top, Trust
from mantra.core.queue import Queue
from mantra.core.region import Region
from mantra.errors import MantraError
from mantra.runtime.spine import Spine
from mantra.venues import NAMES

SECOND = 1_000_000_000
RECORDS = 4_096                 # taken at once, from one ring
STEPS = 8                       # buckets an octave, of what is shown
SLOWEST_S, FASTEST_S = 0.25, 0.005      # between two polls
# What a feed or a book lost; beside them, what it had to repair, and traffic.
LOSSES = ("gaps", "lost", "trade_gaps", "malformed", "checksums_failed", "contradicted", "overflowed", "overruns",
          "unwritten", "protocol_errors", "full")
GAUGES = ("last_receive_utc_ns", "state", "state_since_utc_ns")     # of the ledger; all others count
PERCENTS = (50.0, 90.0, 99.0, 99.9)


# What is told ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Distribution:
    """Nanoseconds. `buckets`: (least value, how many), eight to an octave, those that are not empty."""

    count: int = 0
    p50: int = 0
    p90: int = 0
    p99: int = 0
    p999: int = 0
    max: int = 0
    buckets: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, histogram: Histogram) -> Distribution:
        values, counts = histogram.buckets()
        if not len(values):
            return cls()
        upto, most = counts.cumsum(), histogram.max
        ranks = np.ceil(np.array(PERCENTS) / 100 * float(upto[-1]))
        places = np.minimum(np.searchsorted(upto, ranks), len(values) - 1)
        steps = np.floor(np.log2(np.maximum(values, 1)) * STEPS).astype(np.int64)
        first = np.flatnonzero(np.diff(steps, prepend=-1))
        p50, p90, p99, p999 = (min(int(value), most) for value in values[places])
        return cls(int(upto[-1]), p50, p90, p99, p999, most, tuple(
            (math.ceil(2 ** (step / STEPS)), int(n))
            for step, n in zip(steps[first].tolist(), np.add.reduceat(counts, first).tolist(), strict=True)))


@dataclass(frozen=True)
class ClockState:
    """How cycles become UTC; UTC is known to `error_ns`, and was set by others `steps` times while the run lasted."""

    kind: str
    mhz: float
    error_ns: int
    steps: int


@dataclass(frozen=True)
class Actor:
    """`rate`: messages a second; `busy_share` of one core; `lag`: messages it has still to take; `overruns`: those it
    lost to laps; `latency`: how long messages waited for it; `processing`: how long it worked on each; `missed`:
    timings that nobody drained in time."""

    name: str
    kind: str
    number: int
    pid: int
    core: int
    state: str
    restarts: int
    failures: int
    rate: float
    busy_share: float
    lag: int
    overruns: int
    latency: Distribution
    processing: Distribution
    missed: int


@dataclass(frozen=True)
class Reader:
    """`lag`: messages that this actor has still to take."""

    actor: str
    lag: int
    rate: float
    overruns: int


@dataclass(frozen=True)
class QueueState:
    name: str
    message: str
    kind: str
    capacity: int
    produced: int
    rate: float
    producers: int
    readers: tuple[Reader, ...]
    overruns: int
    abandoned: int
    burnt: int

    @property
    def lag(self) -> int:
        """Of the slowest reader."""
        return max((reader.lag for reader in self.readers), default=0)

    @property
    def read_by(self) -> str:
        return ", ".join(reader.actor for reader in self.readers)


@dataclass(frozen=True)
class Feed:
    """One connection; rates are per second, of about the last second; `counts` are the ledger's."""

    name: str
    venue: str
    state: str = "off"
    since_ns: int = 0
    heard_ns: int = 0
    messages_rate: float = 0.0
    updates_rate: float = 0.0
    bytes_rate: float = 0.0
    rates: tuple[float, ...] = ()       # messages per second, newest last
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class BookState:
    """One book of one feed: how it is trusted, why, and since when ("": nothing was heard of it); `counts` are its own
    in the ledger, those that are not 0. What is not trusted now has been `distrusted_ns` until now."""

    feed: str
    venue: str
    instrument: str
    symbol: str
    trust: str
    reason: str
    since_utc_ns: int
    counts: dict[str, int]

    @property
    def name(self) -> str:
        return f"{self.instrument} {self.venue}"

    @property
    def doubted(self) -> bool:
        return self.trust in ("down", "stale", "suspect")

    @property
    def losses(self) -> str:
        return ", ".join(f"{name.replace('_', ' ')} {self.counts[name]:,}" for name in LOSSES if self.counts.get(name))


@dataclass(frozen=True)
class Meter:
    """A counter or gauge that an actor's own code keeps."""

    actor: str
    name: str
    value: float
    rate: float


@dataclass(frozen=True)
class Snapshot:
    """A run as it was at `utc_ns`; distributions of `seconds`, histograms of the whole run unless reset."""

    run: str
    utc_ns: int
    seconds: float
    clock: ClockState
    actors: tuple[Actor, ...] = ()
    queues: tuple[QueueState, ...] = ()
    feeds: tuple[Feed, ...] = ()
    timers: dict[str, Distribution] = field(default_factory=dict)
    counters: tuple[Meter, ...] = ()
    gauges: tuple[Meter, ...] = ()
    histograms: dict[str, Distribution] = field(default_factory=dict)
    books: tuple[BookState, ...] = ()       # those that lost something or are not trusted


# Reading it ------------------------------------------------------------------------------------------------------


class Rates:
    """How fast counts grow, each over about the last second."""

    def __init__(self) -> None:
        self._told: dict[Hashable, tuple[int, float, float | None]] = {}    # when, the count then, its rate before

    def of(self, what: Hashable, count: float, now_ns: int) -> float:
        at_ns, before, rate = self._told.setdefault(what, (now_ns, count, None))
        seconds = (now_ns - at_ns) / SECOND
        if seconds >= 1 or (seconds > 0 and rate is None):
            rate = max(count - before, 0) / seconds
            self._told[what] = now_ns, count, rate
        return rate or 0.0


class Feeds:
    """The ledger's rows as feeds; remembers just enough to tell rates."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._rates = Rates()
        self._before: dict[str, Feed] = {}
        self._sparks: dict[str, tuple[int, tuple[float, ...]]] = {}

    def read(self, now_ns: int) -> tuple[Feed, ...]:
        """Every feed at `now_ns`, UTC."""
        return tuple(self._feed(row.name, row.venue, row.counts(), now_ns) for row in self._ledger.rows())

    def _feed(self, name: str, venue: int, counts: dict[str, int], now: int) -> Feed:
        before = self._before.get(name)
        messages, updates, size = (self._rates.of((name, what), counts[what], now)
                                   for what in ("messages", "updates", "bytes"))
        at_ns, rates = self._sparks.get(name, (now, ()))
        if now - at_ns >= SECOND or (now > at_ns and not rates):
            at_ns, rates = now, (*rates[-59:], messages)
        self._sparks[name] = at_ns, rates
        # Heard, too, when a read finds more frames than the one before.
        heard = now if before and counts["frames"] > before.counts["frames"] else before.heard_ns if before else 0
        self._before[name] = feed = Feed(
            name, NAMES[venue], FeedState(counts["state"]).name.lower(), counts["state_since_utc_ns"],
            max(heard, counts["last_receive_utc_ns"]), messages, updates, size, rates, counts)
        return feed


def books(run: Spine, *, troubled: bool = False) -> tuple[BookState, ...]:
    """Every book of the run, or only those that lost something or are not trusted."""
    now, feeds, rows = run.clock.utc_ns(), [row.name for row in run.ledger.rows()], run.book_ledger.table()
    names = {one.id: one.name for one in run.instruments()}
    tops: dict[tuple[int, str], Top] = {}
    for top in run.newest_tops():
        tops[top.publisher, names.get(top.instrument, "")] = top        # of an instrument's scales the last one counts
    if troubled:
        doubted = {key for key, top in tops.items() if top.trust < Trust.UNVERIFIED}
        keys = [feed << 32 | id for feed, name in doubted for id, known in names.items() if known == name]
        mine = rows["feed"].astype(np.uint64) << np.uint64(32) | rows["instrument"]
        rows = rows[np.isin(mine, np.array(keys, np.uint64)) | np.any([rows[name] > 0 for name in LOSSES], axis=0)]
    told = []
    heads = zip(*(rows[what].tolist() for what in ("feed", "venue", "instrument", "name")), strict=True)
    for (feed, venue, number, title), counts in zip(heads, nonzero(rows), strict=True):
        instrument = names.get(number, "")
        found = tops.get((feed, instrument))
        if found is not None and found.trust < Trust.UNVERIFIED and found.trust_since_ns:
            counts["distrusted_ns"] = counts.get("distrusted_ns", 0) + max(now - found.trust_since_ns, 0)
        told.append(BookState(
            feeds[feed], NAMES[venue], instrument, title.decode().partition(" ")[2],
            "" if found is None else Trust(found.trust).name.lower(),
            "" if found is None or not found.reason else Reason(found.reason).name.lower(),
            0 if found is None else found.trust_since_ns, counts))
    return tuple(told)


def nonzero(rows: NDArray[Any]) -> list[dict[str, int]]:
    """Of each of these rows of `Ledger.table` the counts that are not 0, without gauges."""
    counters = [name for name in COUNTERS if name not in GAUGES]
    return [{name: n for name, n in zip(counters, row, strict=True) if n}
            for row in structured_to_unstructured(rows[counters]).tolist()]


class Watch:
    """One actor's ring, and what came out of it since the last reset."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.consumer = queue.consumer(on_lap="count")
        self.positions: dict[int, int] = {}         # by number of a queue: of the next message it takes there
        self.taken: defaultdict[int, int] = defaultdict(int)
        self.messages = self.busy = 0.0             # estimates where records were missed
        self.reset()

    def reset(self) -> None:
        self.latency, self.processing = Histogram.create(), Histogram.create()
        self.overruns: defaultdict[int, int] = defaultdict(int)
        self.missed_before = self.consumer.lost

    @property
    def missed(self) -> int:
        return self.consumer.lost - self.missed_before

    def drain(self, scratch: NDArray[Any], ns_per_cycle: float) -> NDArray[Any]:
        """Take what waits, `len(scratch)` records at most; returns them, valid until the next call."""
        lost = self.consumer.lost
        records = self.consumer.batch(scratch, len(scratch))
        if not len(records):
            return records
        lost = self.consumer.lost - lost
        share = 1 + lost / len(records)
        counts, queues = records["count"], records["queue"]
        self.messages += share * int(counts.sum())
        self.busy += share * int(records["busy"].sum())
        self.processing.record_many((records["busy"] * ns_per_cycle).astype(np.uint64))
        heard = records[queues != SOCKET]
        if len(heard):
            waited = (heard["consumed"] - heard["origin"] - (heard["published"] >> np.uint64(16))).view(np.int64)
            self.latency.record_many((np.maximum(waited, 0) * ns_per_cycle).astype(np.uint64))
            self._place(heard, lost)
        return records

    def _place(self, heard: NDArray[Any], lost: int) -> None:
        """Where it stands in each of its queues now; what it jumped over was overwritten before it came there."""
        order = np.argsort(heard["queue"], kind="stable")
        queues, positions, counts = (heard[name][order] for name in ("queue", "position", "count"))
        begins = np.flatnonzero(np.diff(queues, prepend=-1))
        ends = np.append(begins[1:], len(queues)) - 1
        for number, first, last, taken in zip(
                queues[begins].tolist(), positions[begins].tolist(), (positions[ends] + counts[ends]).tolist(),
                np.add.reduceat(counts, begins).tolist(), strict=True):
            if not lost:
                self.overruns[number] += max(last - self.positions.get(number, first) - taken, 0)
            self.positions[number] = last
            self.taken[number] += taken


class Collector:
    """Watch a run from outside. `poll` often (`pace`: seconds until the next), `snapshot` when somebody wants to see.

    Actors and queues that appear later are found, those that are made anew are followed. `follow` is called with an
    actor's number and its records, which are valid during that call."""

    def __init__(self, run: Spine) -> None:
        self.run = run
        self.follow: Callable[[int, NDArray[Any]], None] | None = None
        self.pace = FASTEST_S
        self._feeds = Feeds(run.ledger)
        self._rates = Rates()
        self._watches: dict[str, Watch] = {}
        self._queues: dict[str, Queue] = {}
        self._messages: dict[str, str] = {}
        self._holes: dict[str, int] = {}        # of each queue when it was found, or at the last reset
        self._histograms: dict[Hashable, Histogram] = {}
        self._baselines: dict[Hashable, Histogram] = {}
        self._told: dict[Hashable, tuple[int, Distribution]] = {}
        self._scratch = np.empty(RECORDS, DTYPES["timing"])
        self._polled_at = self._since = self._seconds()
        self._list()

    @property
    def alive(self) -> bool:
        """Is the run still there?"""
        region = self.run.clock.region
        return self._there and (region is None or region.owner_alive)

    def _seconds(self) -> float:
        return self.run.clock.seconds()

    def _list(self) -> None:
        """Find what appeared, let go of what is gone. A run of thousands of books has as many regions to look through:
        two parts in a hundred of the time may go into this."""
        began, prefix = self._seconds(), f"{self.run.run}."
        every = {info.name.removeprefix(prefix): info for info in Region.list(prefix)}
        infos = {name: info for name, info in every.items() if info.kind == "queue"}
        self._there = "clock" in every
        for name in [name for name, queue in self._queues.items() if name not in infos or not queue.owner_alive]:
            del self._queues[name]
            self._watches.pop(name, None)
        for name in infos.keys() - self._queues.keys():
            with contextlib.suppress(MantraError):          # gone again, or of another build
                self._queues[name] = queue = Queue.open(prefix + name)
                self._messages[name] = infos[name].layout.partition(" ")[0]
                self._holes[name] = queue.abandoned + queue.burnt
                if self._messages[name] == "timing":
                    self._watches[name] = Watch(queue)
        with contextlib.suppress(MantraError):              # the run ends
            self._histograms = dict[Hashable, Histogram]([*self.run.histograms().items(), *self.run.timers().items()])
        self._list_at = began + max(1.0, 50 * (self._seconds() - began))

    def queues(self) -> dict[str, tuple[Queue, str]]:
        """The run's queues and their messages, by name; not the rings of timings."""
        return {name: (queue, self._messages[name]) for name, queue in self._queues.items()
                if name not in self._watches}

    @property
    def watches(self) -> dict[str, Watch]:
        """What came out of each actor's ring, by the actor's name."""
        return {name.removeprefix("timings."): watch for name, watch in self._watches.items()}

    def poll(self) -> None:
        """Drain every actor's ring; sets `pace` so that none is more than a quarter full by then."""
        now = self._seconds()
        if now >= self._list_at:
            self._list()
        ns_per_cycle, fullest = 1_000 / self.run.clock.mhz, 0.0
        for watch in self._watches.values():
            before = watch.consumer.position
            while len(records := watch.drain(self._scratch, ns_per_cycle)):
                if self.follow is not None:
                    self.follow(int(records["actor"][0]), records)
                if len(records) < len(self._scratch):
                    break
            fullest = max(fullest, (watch.consumer.position - before) / watch.queue.capacity)
        seconds, self._polled_at = now - self._polled_at, now
        wanted = max(seconds / (4 * fullest), FASTEST_S) if fullest else SLOWEST_S
        self.pace = min(wanted, 2 * self.pace, SLOWEST_S)       # what was calm a moment ago is trusted little by little

    def reset(self) -> None:
        """Begin all distributions, and what is counted here, anew."""
        for watch in self._watches.values():
            watch.reset()
        self._holes = {name: queue.abandoned + queue.burnt for name, queue in self._queues.items()}
        self._baselines = {key: histogram.copy() for key, histogram in self._histograms.items()}
        self._told.clear()
        self._since = self._seconds()

    def _distribution(self, key: Hashable, histogram: Histogram) -> Distribution:
        """Of what `histogram` counted since the last reset; worked out again only when it counted more."""
        if key not in self._told or self._told[key][0] != histogram.count:
            baseline = self._baselines.get(key)
            self._told[key] = histogram.count, Distribution.of(histogram.since(baseline) if baseline else histogram)
        return self._told[key][1]

    def snapshot(self) -> Snapshot:
        """The run as it is now."""
        queues = self.queues()
        produced = {name: queue.produced for name, (queue, _) in queues.items()}    # before the positions, so that who
        self.poll()                                                                 # keeps up is not told to lag
        run, now, clock = self.run, int(self._seconds() * SECOND), self.run.clock
        utc_ns = clock.utc_ns()
        readers: dict[int, list[Reader]] = {}
        heads = {queue.number: (produced[name], queue.abandoned + queue.burnt - self._holes[name])
                 for name, (queue, _) in queues.items()}
        actors = tuple(self._actor(row, heads, readers, now) for row in run.actors())
        meters = {key: self._distribution(key, histogram) for key, histogram in self._histograms.items()}
        return Snapshot(
            run.run or "private", utc_ns, self._seconds() - self._since,
            ClockState(clock.kind, clock.mhz, clock.error_ns, clock.steps), actors,
            tuple(self._queue(name, message, queue, produced[name], readers.get(queue.number, []), now)
                  for name, (queue, message) in sorted(queues.items())),
            self._feeds.read(utc_ns),
            {".".join(key): told for key, told in meters.items() if isinstance(key, tuple)},
            tuple(Meter(*key, value, self._rates.of(key, value, now)) for key, value in sorted(run.counters().items())),
            tuple(Meter(*key, value, 0.0) for key, value in sorted(run.gauges().items())),
            {key: told for key, told in meters.items() if isinstance(key, str)}, books(run, troubled=True))

    def _actor(self, row: ActorRow, heads: Mapping[int, tuple[int, int]], readers: dict[int, list[Reader]],
               now: int) -> Actor:
        """One actor; adds it to the `readers` of each queue that it takes from. `heads`: what was produced there, and
        how many positions hold nothing: who jumps over these loses nothing."""
        watch, name, state = self._watches.get(f"timings.{row.name}"), row.name, ActorState(row.state)
        told = (name, row.kind, row.number, row.pid, row.core, state.name.lower(), row.restarts, row.failures)
        if watch is None:
            return Actor(*told, 0.0, 0.0, 0, 0, Distribution(), Distribution(), 0)
        mine = []
        for number, position in watch.positions.items() if state != ActorState.STOPPED else ():
            head, holes = heads.get(number, (position, 0))
            mine.append(Reader(name, max(head - position, 0), self._rates.of((name, number), watch.taken[number], now),
                               max(watch.overruns[number] - holes, 0)))
            readers.setdefault(number, []).append(mine[-1])
        busy_ns = watch.busy * 1_000 / self.run.clock.mhz
        return Actor(*told, self._rates.of((name, "messages"), watch.messages, now),
                     min(self._rates.of((name, "busy"), busy_ns, now) / SECOND, 1.0),
                     sum(reader.lag for reader in mine), sum(reader.overruns for reader in mine),
                     self._distribution(watch.latency, watch.latency),
                     self._distribution(watch.processing, watch.processing), watch.missed)

    def _queue(self, name: str, message: str, queue: Queue, produced: int, readers: list[Reader],
               now: int) -> QueueState:
        return QueueState(name, message, queue.kind, queue.capacity, produced,
                          self._rates.of(name, produced, now), queue.producers, tuple(readers),
                          sum(reader.overruns for reader in readers), queue.abandoned, queue.burnt)
