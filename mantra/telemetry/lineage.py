"""lineage: follow messages from the first bytes through every hop, and tell where their time went.

A message carries its origin and who published it when; an actor's timing record carries the same of what it took, and
when it took it. So what an actor published at some moment came of the record that was open then, which must have the
same origin: the same bytes. From there it is one hop less to the socket. Nothing is added to any message for this.
"""
from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mantra.core.histogram import Histogram
from mantra.core.queue import Consumer
from mantra.errors import ConfigurationError
from mantra.runtime.spine import MOST_FEEDS
from mantra.telemetry.collector import Collector, Distribution

SETTLED_S = 0.3         # until then a record that tells of a message may still be open
KEPT_S = 2.0            # records are kept so long
MOST_HOPS = 16

Words = NDArray[np.uint64]


@dataclass(frozen=True)
class Segment:
    """`who` is the actor that worked, or the queue in which the message waited."""

    who: str
    waited: bool
    ns: Distribution


@dataclass(frozen=True)
class Path:
    """One way that messages took, from the origin on; `total` from origin to published."""

    segments: tuple[Segment, ...]
    total: Distribution


@dataclass(frozen=True)
class LineageState:
    """How `message` came to be: of `seen` messages `matched` could be followed to their origin."""

    message: str
    seen: int
    matched: int
    paths: tuple[Path, ...]


def choices(collector: Collector) -> list[str]:
    """What can be followed: families of queues ("tops", "world")."""
    return sorted({name.partition(".")[0] for name in collector.queues()})


class Lineage:
    """Follow `message`: a queue ("tops.binance.0"), a family ("tops", "world") or all queues of a message ("top").

    ConfigurationError: the run has none such. `poll` after every poll of the collector, which it listens to."""

    def __init__(self, collector: Collector, message: str) -> None:
        self.message = message
        self._collector = collector
        self._clock = collector.run.clock
        every = collector.queues().items()
        queues = ([queue for name, (queue, _) in every if message in (name, name.partition(".")[0])]
                  or [queue for _, (queue, kind) in every if message == kind])
        if not queues:
            raise ConfigurationError(f"run {collector.run.run!r} has no messages {message!r} to follow; it has "
                                     f"{', '.join(choices(collector)) or 'none'}")
        self._consumers: list[Consumer] = [queue.consumer(on_lap="count") for queue in queues]
        self._records: defaultdict[int, deque[NDArray[Any]]] = defaultdict(deque)
        self._waiting: deque[tuple[float, Words, Words]] = deque()
        collector.follow = self._add
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self._paths: dict[tuple[tuple[str, bool], ...], list[Histogram]] = {}
        self._seen = self._matched = 0

    def _add(self, actor: int, records: NDArray[Any]) -> None:
        kept = self._records[actor]
        kept.append(records.copy())
        oldest = self._clock.cycles() - int(KEPT_S * self._clock.mhz * 1e6)
        while kept and kept[0]["consumed"][-1] < oldest:
            kept.popleft()

    def poll(self) -> None:
        """Take what was published, and follow what was published a moment ago."""
        now = self._clock.seconds()
        for consumer in self._consumers:
            batch = consumer.batch()
            stamps = np.stack([batch["origin"], batch["published"]])
            new = np.diff(stamps, axis=1, prepend=0).any(axis=0)    # a batch of updates is one publication
            if new.any():
                self._waiting.append((now, *stamps[:, new]))
        due = [self._waiting.popleft()[1:] for _ in range(sum(now - at >= SETTLED_S for at, *_ in self._waiting))]
        if due:
            origins, published = (np.concatenate(words) for words in zip(*due, strict=True))
            self._seen += len(origins)
            names = {row.number: row.name for row in self._collector.run.actors()}
            queues = {queue.number: name for name, (queue, _) in self._collector.queues().items()}
            self._trace(origins, published, [], names, queues)

    def _trace(self, origins: Words, published: Words, later: list[tuple[str, bool, Words]], names: dict[int, str],
               queues: dict[int, str]) -> None:
        """One hop back, of messages with these tracking words; `later`: what happened to each since then."""
        publishers = published & np.uint64(0xFFFF)
        for publisher in np.unique(publishers).tolist():
            mine = publishers == publisher
            origin, at = origins[mine], origins[mine] + (published[mine] >> np.uint64(16))
            since = [(who, waited, cycles[mine]) for who, waited, cycles in later]
            name = names.get(publisher, f"publisher {publisher}")
            if publisher < MOST_FEEDS:          # a feed: it is published what its socket brought
                self._arrived([(name, False, at - origin), *since])
                continue
            if not self._records[publisher] or len(later) >= 2 * MOST_HOPS:
                continue
            records = np.concatenate(self._records[publisher])
            place = np.searchsorted(records["consumed"], at, "right") - 1
            found = (place >= 0) & (records["origin"][place] == origin)
            taken = records[place[found]]
            worked = at[found] - taken["consumed"]
            was = taken["origin"] + (taken["published"] >> np.uint64(16))
            waited_for = np.maximum((taken["consumed"] - was).view(np.int64), 0).view(np.uint64)
            for queue in np.unique(taken["queue"]).tolist():
                its = taken["queue"] == queue
                self._trace(taken["origin"][its], taken["published"][its],
                            [(queues.get(queue, f"queue {queue}"), True, waited_for[its]), (name, False, worked[its]),
                             *((who, waited, cycles[found][its]) for who, waited, cycles in since)], names, queues)

    def _arrived(self, hops: list[tuple[str, bool, Words]]) -> None:
        """At the socket: these are all the hops of some messages, first to last."""
        key = tuple((who, waited) for who, waited, _ in hops)
        if key not in self._paths:
            self._paths[key] = [Histogram.create() for _ in range(len(hops) + 1)]
        durations = [cycles for *_, cycles in hops]
        for histogram, cycles in zip(self._paths[key], [*durations, np.sum(durations, axis=0)], strict=True):
            histogram.record_many((cycles * (1_000 / self._clock.mhz)).astype(np.uint64))
        self._matched += len(durations[0])

    def view(self) -> LineageState:
        """What was found since the start or the last reset; the way that most messages took first."""
        paths = [Path(tuple(Segment(*hop, Distribution.of(histogram))
                            for hop, histogram in zip(key, histograms, strict=False)), Distribution.of(histograms[-1]))
                 for key, histograms in self._paths.items()]
        return LineageState(self.message, self._seen, self._matched,
                            tuple(sorted(paths, key=lambda path: -path.total.count)))
