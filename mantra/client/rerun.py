"""client/rerun: a run's feeds, told again what their tapes say they were told (csrc/mantra/rerun.h, tape/raw.py).

Each connection has a feed of its own, of the very kind it had, and its records in their order: frames, snapshots when
they were loaded, everything that Python or a clock decided. So it publishes what it published. The successor of a
connection has a tape, too ("binance.0-next"), which waits until the connection is said to have gone on over it.
"""
from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mantra import venues
from mantra.client.feed import bare_feed
from mantra.core.clock import Clock
from mantra.core.hot_path import Feed
from mantra.core.ledger import Row
from mantra.core.queue import Consumer
from mantra.errors import ArchiveError, MantraError
from mantra.runtime.spine import Spine
from mantra.tape.raw import Kind, RawBlock
from mantra.venues.venue import Endpoints

CHUNK, CHUNK_BYTES = 512, 1 << 17       # records, and bytes of them, between two looks at what was published
ROOM, MOST_ROOM = 1 << 17, 1 << 24      # updates that one step may lead to; messages that a queue may have had
HEIR = "-next"                          # a successor's tape is called as its connection's, and this
DAMAGED = MantraError, LookupError, TypeError, ValueError, OverflowError, AttributeError, RecursionError, MemoryError


class Part(NamedTuple):
    """Some records of one feed, in their order."""

    records: NDArray[Any]
    ends: NDArray[np.uint64]
    texts: NDArray[np.uint8]

    def text(self, i: int) -> bytes:
        end = int(self.ends[i])
        return self.texts[end - int(self.records["size"][i]):end].tobytes()

    def before(self, i: int) -> Part:
        return Part(self.records[:i], self.ends[:i], self.texts)

    def after(self, i: int) -> Part:
        return Part(self.records[i:], self.ends[i:], self.texts)


Published = Callable[["Told", str, int, NDArray[Any]], None]


class Told:
    """One connection's feed. `published`: called with (it, family, position of the first, messages) behind whole
    records, for what it published, then `settled`; positions are those that the run's own queues had."""

    def __init__(self, name: str, published: Published | None, settled: Callable[[Told], None] = lambda told: None
                 ) -> None:
        self.name = name
        self.feed: Feed | None = None       # None: what is not known of it comes with the next OPENED
        self.spine: Spine
        self.what: dict[str, Any] = {}
        self.records = self.frames = self.opened = self.adopted = self.holes = 0
        self._rows: list[Row] = []          # of the ledgers of all feeds that it was
        self.problems: list[str] = []
        self._published, self._settled = published, settled
        self._next = -1                     # number of the next record; below 0: any
        self._consumers: dict[str, Consumer] = {}
        self._ahead: dict[str, int] = {}    # of its queues' positions those of the run

    def position(self, family: str) -> int:
        """Of the next message, in the run's own queue."""
        return self._consumers[family].position + self._ahead[family]

    def counts(self) -> Counter[str]:
        """What its ledger says."""
        counts: Counter[str] = Counter()
        for row in self._rows:
            counts.update(row.counts())
        return counts

    def run(self, part: Part, heir: Callable[[str, int], Told | None]) -> Part | None:
        """Do all that `part` says. `heir` gives a successor as it was when its tape had so many records; None: not yet,
        and what is left of `part` is returned, to be done later."""
        records, kinds = part.records, part.records["kind"]
        lengths = np.cumsum(records["size"], dtype="u8")
        expected = np.concatenate([[self._next], records["number"].astype("i8") + 1])
        jumps = np.append(np.flatnonzero((expected[:-1] != expected[1:] - 1) & (expected[:-1] >= 0)), len(records))
        i = 0
        while i < len(records):
            self._next = int(expected[i + 1])
            if i in jumps or kinds[i] == Kind.HOLE:
                self.holes += 1
                self.feed = None            # until it is said again what it is
            if kinds[i] == Kind.OPENED:
                self._open(part.text(i))
            elif kinds[i] == Kind.ADOPTED and self.feed is not None:
                said = json.loads(part.text(i))
                successor = heir(said["heir"], said["number"])
                if successor is None:
                    self._next = int(expected[i])
                    return part.after(i)
                self._adopt(successor, said, int(records["origin"][i]))
            if self.feed is None:
                i += 1
                continue
            begun = i
            stop = min(i + CHUNK, max(i + 1, int(np.searchsorted(lengths, lengths[i] + CHUNK_BYTES))),
                       int(jumps[np.searchsorted(jumps, i, "right")]))
            i = self.feed.again(records, part.texts, part.ends, i, stop)
            self._next = int(expected[i])
            self.records += i - begun
            self.frames += int(np.count_nonzero((kinds[begun:i] == Kind.MESSAGE) & (records["argument"][begun:i] <= 2)))
            self._drain()
        return None

    def lose(self, why: Exception) -> None:
        """What it is told is damaged: go on with the next connection."""
        self.problems.append(f"the tape of {self.name} is damaged: {why!r}")
        self.holes += 1
        self.feed = None

    def _open(self, text: bytes) -> None:
        self.what = what = json.loads(text)
        if self.feed is None:
            self._make(what)
        self.opened += 1
        for family, (position, _) in what["queues"].items():
            if (more := self.position(family) - position):      # the tape, or what told it, was changed
                self._ahead[family] -= more
                self.problems.append(f"{self.name}: {more:+} {family} when it connected for time {self.opened}, at "
                                     f"position {position}")

    def _make(self, what: dict[str, Any]) -> None:
        venue = venues.get(what["venue"], Endpoints(what["url"], "", api=what["api"]))
        mode, books = what["mode"], what["books"]
        self.spine = spine = Spine.private(clock=Clock())
        for family, (_, capacity) in what["queues"].items():
            if capacity > MOST_ROOM:
                raise ValueError(f"a queue for {capacity} {family}")
            spine.queue(f"{family}.{self.name}", None, max(capacity, ROOM) if family == "updates" else capacity)
        self.feed = feed = bare_feed(
            spine, self.name, venue, mode, what["publisher"], depth=what["depth"], most_books=max(1, len(books)),
            snapshot_levels=what["snapshot_levels"], looks_twice=venue.schemes[mode] in ("ids", "time"))
        feed.limit(*what["limits"])
        for index, row in enumerate(books):
            book, slot = spine.make_book(venue.books(mode), venue.id, row["symbol"], row["instrument"])
            feed.add_book(book, slot, venue.spellings(row["symbol"]), row["instrument"], *row["scale"])
            feed.recall(index, *row["past"])
        self._rows.append(spine.ledger.row(self.name, venue.id))
        self._consumers = {family: spine.queue(f"{family}.{self.name}").consumer() for family in what["queues"]}
        self._ahead = {family: position for family, (position, _) in what["queues"].items()}

    def _adopt(self, heir: Told, said: dict[str, Any], now: int) -> None:
        assert self.feed is not None
        assert heir.feed is not None
        self.adopted += 1
        told = heir.spine.queue(f"trades.{heir.name}").consumer("oldest", on_lap="count")
        self.feed.adopt(heir.feed, max(0, said["trades_since"] - self._ahead["trades"]), now)
        while len(batch := told.batch()):
            self.feed.retell(batch.view("u1"))

    def _drain(self) -> None:
        for family, consumer in self._consumers.items():
            while True:
                position = self.position(family)
                if not len(batch := consumer.batch(limit=8192)):
                    break
                if self._published is not None:
                    self._published(self, family, position, batch)
        self._settled(self)


class Rerun:
    """All feeds of a tape, whose blocks are told one after the other. `published`, `settled`: as Told's."""

    def __init__(self, published: Published | None = None, settled: Callable[[Told], None] = lambda told: None) -> None:
        self.feeds: dict[str, Told] = {}
        self._published, self._settled = published, settled
        self._late: dict[str, list[Part]] = {}      # what waits for a successor's tape
        self._heirs: dict[str, list[Part]] = {}     # what successors were told, since they were connected

    def tell(self, block: RawBlock, names: Mapping[int, str]) -> None:
        """Do what a block says; `names` of its feeds, "raw.binance.0": others are passed over."""
        parts = {names[number].removeprefix("raw."): np.flatnonzero(block.feeds == number)
                 for number in np.unique(block.feeds).tolist() if number in names}
        for name in sorted(parts, key=lambda name: not name.endswith(HEIR)):
            part = Part(block.records[parts[name]], block.ends[parts[name]], block.texts)
            if name.endswith(HEIR):
                self._heirs.setdefault(name, []).append(part)
                continue
            if name not in self.feeds:
                self.feeds[name] = Told(name, self._published, self._settled)
            self._late.setdefault(name, []).append(part)
        for name in list(self._late):
            while self._late[name]:
                try:
                    rest = self.feeds[name].run(self._late[name][0], self._heir)
                except DAMAGED as error:
                    self.feeds[name].lose(error)
                    rest = None
                if rest is not None:
                    self._late[name][0] = rest
                    break
                del self._late[name][0]

    def waiting(self) -> Iterator[str]:
        """Feeds of which not all could be done, as their successors' tapes are missing."""
        return (name for name, parts in self._late.items() if parts)

    def _heir(self, name: str, number: int) -> Told | None:
        """A successor as it was when its tape had `number` records."""
        parts = self._heirs.get(name, [])
        if not parts or not any(len(part.records) and int(part.records["number"][-1]) + 1 >= number for part in parts):
            return None
        heir = Told(name, None)
        done = [int(np.searchsorted(part.records["number"], number)) for part in parts]
        for part in self._since_opened([part.before(i) for part, i in zip(parts, done, strict=True)]):
            heir.run(part, lambda *_: None)
        self._heirs[name] = [part.after(i) for part, i in zip(parts, done, strict=True) if i < len(part.records)]
        if heir.feed is None:
            raise ArchiveError(f"the tape of {name} lacks its beginning")
        return heir

    @staticmethod
    def _since_opened(parts: list[Part]) -> Iterator[Part]:
        """From the last OPENED on: what came before was another attempt."""
        begin = max((i for i, part in enumerate(parts) if (part.records["kind"] == Kind.OPENED).any()), default=0)
        for i, part in enumerate(parts[begin:]):
            opened = np.flatnonzero(part.records["kind"] == Kind.OPENED)
            yield part.after(int(opened[-1])) if i == 0 and len(opened) else part
