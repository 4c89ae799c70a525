"""proof: that a capture is true: its tape, told to feeds again, leads to the very messages and books that it kept.

    stream "raw" --(client/rerun.py: the production path)--> messages --.
                                                                          equal, by position in their queue?
    streams "updates", "trades", "orders", "tops" ------------------------'
    images and updates that were kept --> books == the rerun's books, now and then?

Compared is every byte, the origin too, but what a feed measures by itself: how long after its origin a message was
published (the publisher's number stays), and in tops since when it is trusted. A message that one of the two lacks
between others that both have is a difference, unless the archive says that it is missing, or the tape has a hole. What
the tape cannot tell of is left out, and counted: what came before its first connection opened, and after its end.
"""
from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from mantra.archive.options import progress
from mantra.client.rerun import Rerun, Told
from mantra.core.book import BookImage
from mantra.core.messages import Kind
from mantra.core.pack import unpack
from mantra.errors import ArchiveError
from mantra.tape import raw
from mantra.tape.segment import Record, SegmentReader, files

EVERY = 500             # updates of a feed between two looks at its books, or
SHARE = 8               # one for so many levels of them
WAITING = 1 << 22       # messages of a queue that wait for their like, at most
RAN, KEPT = 0, 1


class Difference(NamedTuple):
    """The first of a queue; `ran` is what the rerun has there, `kept` the archive."""

    feed: str
    what: str
    position: int
    instrument: int
    origin: int         # cycles
    ran: str
    kept: str


class Pair:
    """One queue twice: as the rerun's feed wrote it, and as it was kept; and the books that kept updates lead to."""

    def __init__(self, name: str, family: str) -> None:
        self.name, self.family = name, family
        self.compared = self.books = 0
        self.alone = [0, 0]                 # messages that only one of the two has
        self.excused: list[float] = [0, 0]  # so many of those may be between others
        self.first: Difference | None = None
        self._waiting: tuple[deque[tuple[int, NDArray[Any]]], ...] = deque(), deque()
        self._digests = blake2b(digest_size=16), blake2b(digest_size=16)
        self._next = -1                     # position behind what was compared last
        self._looks: deque[tuple[int, list[BookImage]]] = deque()      # of the rerun, where it published so many
        self._images: list[BookImage] = []
        self._levels: dict[int, dict[tuple[int, int], int]] = {}        # by instrument, of what was kept

    def add(self, side: int, position: int, messages: NDArray[Any]) -> None:
        self._waiting[side].append((position, messages))
        self._settle()
        while sum(len(each) for _, each in self._waiting[side]) > WAITING:
            self._alone(side, WAITING)

    def image(self, image: BookImage) -> None:
        self._images.append(image)

    def look(self, position: int, images: list[BookImage]) -> None:
        self._looks.append((position, images))
        self._settle()

    def end(self) -> None:
        for side in (RAN, KEPT):
            while self._waiting[side]:
                self._alone(side, WAITING)

    def digests(self) -> tuple[str, str]:
        return self._digests[RAN].hexdigest(), self._digests[KEPT].hexdigest()

    def _settle(self) -> None:
        ran, kept = self._waiting
        while ran and kept:
            at, other = ran[0][0], kept[0][0]
            while self._looks and self._looks[0][0] <= min(at, other):
                self._compare_books(*self._looks.popleft(), whole=at == other)
            if at != other:
                side = RAN if at < other else KEPT
                position, part = min(at, other), self._alone(side, abs(at - other))
                self._levels.clear()        # what is not there cannot lead to a book
                self.excused[side] -= len(part) if self.compared else 0
                if self.excused[side] < 0:
                    self._differ("missing", position, part[0], *(("-", "there") if side == KEPT else ("there", "-")))
                continue
            until = self._looks[0][0] - at if self._looks else 1 << 62
            length = min(len(ran[0][1]), len(kept[0][1]), until)
            self._compare(at, self._take(RAN, length), self._take(KEPT, length))
            self._next = at + length
        while self._looks and self._looks[0][0] == self._next:
            self._compare_books(*self._looks.popleft(), whole=True)

    def _alone(self, side: int, count: int) -> NDArray[Any]:
        part = self._take(side, count)
        self.alone[side] += len(part)
        return part

    def _differ(self, what: str, position: int, message: np.void, ran: str, kept: str) -> None:
        self.first = self.first or Difference(self.name, f"{what} in {self.family}", position,
                                              int(message["instrument"]), int(message["origin"]), ran, kept)

    def _take(self, side: int, count: int) -> NDArray[Any]:
        position, messages = self._waiting[side].popleft()
        if count < len(messages):
            self._waiting[side].appendleft((position + count, messages[count:]))
        return messages[:count]

    def _compare(self, position: int, ran: NDArray[Any], kept: NDArray[Any]) -> None:
        both = [told(messages) for messages in (ran, kept)]
        for digest, messages in zip(self._digests, both, strict=True):
            digest.update(messages.tobytes())
        if self.first is None and both[0].tobytes() != both[1].tobytes():
            i = int(np.argmax(both[0] != both[1]))
            fields = [name for name in kept.dtype.names or () if both[0][name][i] != both[1][name][i]]
            self._differ("bytes", position + i, kept[i], *(
                ", ".join(f"{name} {one[name][i]}" for name in fields) for one in both))
        self.compared += len(kept)
        if self.family == "updates":
            self._apply(position, kept)

    def _apply(self, position: int, updates: NDArray[Any]) -> None:
        rows = zip(*(updates[name].tolist() for name in ("instrument", "kind", "price", "size")), strict=True)
        for at, (instrument, kind, price, size) in enumerate(rows, position):
            if self._images:
                self._load(at)
            if kind == Kind.RESET:
                self._levels.pop(instrument, None)
            elif kind != Kind.TRUST and (levels := self._levels.get(instrument)) is not None:
                if size:
                    levels[kind, price] = size
                else:
                    levels.pop((kind, price), None)

    def _load(self, position: int) -> None:
        """Images that are of then, or of before."""
        for image in self._images:
            if image.position <= position:
                self._levels[image.instrument] = levels_of(image)
        self._images = [image for image in self._images if image.position > position]

    def _compare_books(self, position: int, images: list[BookImage], *, whole: bool) -> None:
        self._load(position)
        for image in images if whole else ():
            if (levels := self._levels.get(image.instrument)) is None:
                continue
            self.books += 1
            ran = levels_of(image)
            for digest, one in zip(self._digests, (ran, levels), strict=True):
                digest.update(repr((image.instrument, sorted(one.items()))).encode())
            if ran != levels and self.first is None:
                which = min(level for level in ran.keys() | levels.keys() if ran.get(level) != levels.get(level))
                self.first = Difference(self.name, "a book", position, image.instrument, 0,
                                        f"{which}: {ran.get(which)}", f"{which}: {levels.get(which)}")


def told(messages: NDArray[Any]) -> NDArray[Any]:
    """Without what a feed measures by itself."""
    messages = messages.copy()
    messages["published"] &= np.uint64(0xFFFF)
    if "trust_since_ns" in (messages.dtype.names or ()):
        messages["trust_since_ns"] = 0
    return messages


def levels_of(image: BookImage) -> dict[tuple[int, int], int]:
    return {(int(kind), price): size for kind, side in ((Kind.BID, image.bids), (Kind.ASK, image.asks))
            for price, size in side.tolist()}


class Proof:
    """Of the captures that both archives have."""

    def __init__(self, kept: Sequence[Path], tape: Path) -> None:
        self.pairs: dict[tuple[str, str], Pair] = {}
        self.feeds: dict[str, Told] = {}
        self.problems: list[str] = []
        self._kept, self._tape = by_capture(kept), by_capture([tape])
        self._families = {stream.name for readers in self._kept.values() for reader in readers
                          for stream in reader.table.streams.values()}
        self._look_at: dict[str, int] = {}
        self.blocks = sum(len(reader.blocks("raw")) for readers in self._tape.values() for reader in readers)
        if not self.blocks:
            raise ArchiveError(f"{tape} has no tape: capture with --raw")

    def run(self) -> Iterator[None]:
        """One block of the tape after the other."""
        for capture, tapes in self._tape.items():
            rerun, kept = Rerun(self._published, self._settled), self._kept_of(capture)
            blocks = deque((reader, record) for reader in kept for record in reader.blocks()
                           if reader.table.streams[record.stream].message in ("update", "trade", "order", "top"))
            for gap, name in {(gap, reader.table.feeds.get(gap.feed, "")) for reader in kept
                              for gap in reader.table.gaps}:
                self._pair(name).excused[RAN] += gap.lost
            for tape in tapes:
                for record in tape.blocks("raw"):
                    try:
                        rerun.tell(raw.unpack(tape.body(record)), tape.table.feeds)
                    except ArchiveError as error:
                        self.problems.append(str(error))
                    while blocks and blocks[0][1].first_ns <= record.last_ns:
                        self._keep(*blocks.popleft())
                    self.feeds |= rerun.feeds
                    yield
            while blocks:
                self._keep(*blocks.popleft())
            for feed in rerun.feeds.values():
                if feed.feed is not None:
                    self._look(feed)
                self.problems += feed.problems
            self.problems += [f"{name}: its successor's tape is missing" for name in rerun.waiting()]
        for pair in self.pairs.values():
            pair.end()
        if not any(pair.compared for pair in self.pairs.values()):
            self.problems.append("nothing could be compared: the tape has no beginning of a connection, or the capture "
                                 "that it is of is not there")

    def _kept_of(self, capture: str) -> Sequence[SegmentReader]:
        """What this capture kept, or another one of the same run at that time."""
        if capture in self._kept:
            return self._kept[capture]
        since, until = span(self._tape[capture])
        for other, readers in self._kept.items():
            first, last = span(readers)
            if other.rpartition(" ")[0] == capture.rpartition(" ")[0] and first <= until and since <= last:
                return readers
        return ()

    def _pair(self, queue: str) -> Pair:
        family, _, name = queue.partition(".")
        return self.pairs.setdefault((name, family), Pair(name, family))

    def _published(self, feed: Told, family: str, position: int, messages: NDArray[Any]) -> None:
        pair = self._pair(f"{family}.{feed.name}")
        if feed.holes:
            pair.excused[KEPT] = math.inf
        pair.add(RAN, position, messages)

    def _settled(self, feed: Told) -> None:
        if feed.feed is not None and feed.position("updates") >= self._look_at.get(feed.name, 0):
            self._look(feed)

    def _look(self, feed: Told) -> None:
        assert feed.feed is not None
        position, images = feed.position("updates"), [book.image() for book in feed.feed.books]
        levels = sum(len(image.bids) + len(image.asks) for image in images)
        self._look_at[feed.name] = position + max(EVERY, levels // SHARE)
        self._pair(f"updates.{feed.name}").look(position, images)

    def _keep(self, reader: SegmentReader, record: Record) -> None:
        try:
            block = unpack(reader.table.streams[record.stream].message, reader.body(record))
        except ArchiveError as error:
            self.problems.append(str(error))
            return
        names = {number: reader.table.feeds.get(number, "") for number in {
            *np.unique(block.feeds).tolist(), *(image.feed for image in block.images)}}
        for image in block.images:
            self._pair(names[image.feed]).image(image.image)
        for number, name in names.items():
            rows = np.flatnonzero(block.feeds == number)
            positions = block.positions[rows]
            for part in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(positions) != 1) + 1):
                if len(part):
                    self._pair(name).add(KEPT, int(positions[part[0]]), block.messages[rows[part]])

    def result(self) -> dict[str, Any]:
        """What came of it."""
        digests = [blake2b(digest_size=16), blake2b(digest_size=16)]
        feeds: dict[str, dict[str, Any]] = {}
        for (name, family), pair in sorted(self.pairs.items()):
            for digest, one in zip(digests, pair.digests(), strict=True):
                digest.update(f"{name} {family} {one}\n".encode())
            if (feed := self.feeds.get(name)) is not None and family in self._families:
                row = feeds.setdefault(name, {"records": feed.records, "opened": feed.opened, "adopted": feed.adopted,
                                              "holes": feed.holes, "books": 0, "equal": True})
                row[family] = {"compared": pair.compared, "only_rerun": pair.alone[RAN], "only_kept": pair.alone[KEPT]}
                row["books"] += pair.books
                row["equal"] &= pair.first is None
        firsts = [pair.first for pair in self.pairs.values() if pair.first is not None]
        first = min(firsts, key=lambda difference: difference.origin, default=None)
        return {"equal": first is None and any(pair.compared for pair in self.pairs.values()),
                "digest": digests[KEPT].hexdigest(), "rerun_digest": digests[RAN].hexdigest(),
                "updates": sum(pair.compared for pair in self.pairs.values() if pair.family == "updates"),
                "books": sum(pair.books for pair in self.pairs.values()), "feeds": feeds,
                "first_difference": first and first._asdict(), "problems": self.problems}


def by_capture(paths: Sequence[Path]) -> dict[str, list[SegmentReader]]:
    """The files of an archive by whose capture they are, in their order."""
    found: dict[str, list[SegmentReader]] = {}
    for file in files(paths):
        reader = SegmentReader(file)
        found.setdefault(reader.table.capture, []).append(reader)
    return found


def span(readers: Sequence[SegmentReader]) -> tuple[int, int]:
    """UTC ns of what they have."""
    blocks = [record for reader in readers for record in reader.blocks()]
    return min((one.first_ns for one in blocks), default=0), max((one.last_ns for one in blocks), default=0)


def against(kept: Sequence[Path], tape: Path, as_json: bool) -> int:
    """`mantra archive verify KEPT --against TAPE`: tell what came of it; 1: they differ, something was damaged, or
    nothing was compared."""
    proof = Proof(kept, tape)
    with progress() as shown:
        for _ in shown.track(proof.run(), proof.blocks, description="telling the feeds again"):
            pass
    result = proof.result()
    if as_json:
        print(json.dumps(result), flush=True)
    else:
        show(result)
    return 0 if result["equal"] and not result["problems"] else 1


def show(result: dict[str, Any]) -> None:
    console = Console()
    table = Table("feed", "records", "opened", "updates", "trades", "books", "not compared", "equal", box=None)
    for name, row in result["feeds"].items():
        families = [one for one in row.values() if isinstance(one, dict)]
        alone = sum(one["only_rerun"] + one["only_kept"] for one in families)
        table.add_row(name, f"{row['records']:,}", f"{row['opened']}+{row['adopted']}",
                      *(f"{row.get(family, {}).get('compared', 0):,}" for family in ("updates", "trades")),
                      f"{row['books']:,}", f"{alone:,}", "yes" if row["equal"] else "NO")
    console.print(table)
    for problem in result["problems"]:
        console.print(problem)
    if (first := result["first_difference"]) is not None:
        print(f"the first difference: {first['what']} of {first['feed']}, position {first['position']}, instrument "
              f"{first['instrument']}, origin {first['origin']}:\n  rerun {first['ran']}\n  kept  {first['kept']}")
    print(f"{'equal' if result['equal'] else 'NOT EQUAL'}: {result['updates']:,} updates, {result['books']:,} looks at "
          f"books; digest {result['digest']}")
