"""playback: what was captured is published again as listeners do it: books, updates, trades, tops; paced and steered.

    files --> blocks, earliest first --(another thread: unpack, wind)--> reels --> Deck --> books, queues, latest tops

The player stands where a run's listeners do, and who reads does not notice. Recorded time is on the run's clock, which
is virtual: `origin` and `published` of a message are what they were, in UTC ns, so what passes between its first bytes
and its publishing is what passed then, and a reader who is slow is slow in recorded time. The clock moves with what is
published, and at a given speed between messages, too. Where `seek` sets it back its UTC steps, and its cycles go on.

The player waits, at any speed, for the slowest reader who minds being lapped (mantra.core.audience). Played twice
alike, an archive gives the same bytes in the same queues: `digest`.

A book is an image and the updates since. At a RESET that is the image taken behind it; where none was recorded (a
capture joined a run, or lost something) a RESET is published when one comes, and until then the book is suspect.
"""
from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import logging
import os
import queue
import re
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from mantra import venues as venue_room
from mantra.archive.archive import SLACK_NS, Moment, moment
from mantra.core import pack, ticks
from mantra.core.book import Book, BookImage
from mantra.core.clock import Clock
from mantra.core.ledger import COUNTERS, FeedState, Row
from mantra.core.messages import DEPTH, Kind, Trust
from mantra.core.play import FAMILIES, Deck, Played, Reel
from mantra.errors import ArchiveError, ConfigurationError, MantraError
from mantra.runtime.actor import Actor
from mantra.runtime.spine import ALSO, MESSAGES, MOST_BOOKS, MOST_FEEDS, Spine
from mantra.tape.segment import Gap, Instrument, Record, SegmentReader, files, unpack_json

T = TypeVar("T")
log = logging.getLogger("mantra.playback")

AHEAD = 3               # blocks that are unpacked before they are due
SLICE_S = 0.05          # between two looks at what else is to be done
MOST_QUEUES = 1 << 16
RENAMED = 1 << 31       # in the number of an instrument: it is the player's already
IMAGED = ("updates", "tops")        # streams of which books are made
# What is taken from the ledger that was recorded; the rest is counted anew, or is a state.
COUNTED = {*COUNTERS} - {"updates", "trades", "tops", "state", "state_since_utc_ns", "last_receive_utc_ns"}
TOLD_WITHIN_NS = 10**9  # an image taken later than this behind its RESET says too much of what was to come
NONSENSE = (AttributeError, TypeError, ValueError, OverflowError)   # of what a ledger may say that somebody damaged
END, NOT_PLAYED = 1 << 62, 0xFFFF


class Block(NamedTuple):
    """A block to play: a time that nothing of its stream from it on is earlier than, the number of its file, what its
    header says, its stream; of it `only` these (venue, instrument), None: what is played of the file."""

    first_ns: int
    file: int
    record: Record
    family: str
    only: set[tuple[int, int]] | None = None


class Known(NamedTuple):
    """One book, of one feed: names of both, as in a live run."""

    feed: str
    venue: int
    instrument: int     # of the player's
    books: str          # what the venue calls its books
    symbol: str


class File:
    """A segment as the player sees it: its feeds and instruments by the player's numbers, and what it plays of it."""

    def __init__(self, reader: SegmentReader, number: int) -> None:
        self.table = reader.table
        self.reader, self.number = reader, number
        self.capture = number       # that of the first file of its capture: positions go on from file to file
        self.gaps: set[Gap] = set()                         # of all its files
        self.feeds: dict[int, tuple[str, str]] = {}         # by number: family, name of the feed ("binance.0")
        for feed, name in self.table.feeds.items():
            family, _, base = name.partition(".")
            if family in FAMILIES and base:
                self.feeds[feed] = family, base
        self.instruments: dict[int, int] = {}               # to the player's, where they differ
        self.only: set[tuple[int, int]] | None = None       # None: all
        self.sources = reader.sources()                     # by record, of what is played
        self.damaged = len(reader.problems)     # blocks that could not be read
        updates = reader.blocks("updates")
        # Behind what was lost while the file was opened: whose it was is not known.
        self.behind = {next((one.row for one in updates if one.offset > problem.offset), -1)
                       for problem in reader.problems}
        for problem in reader.problems[:1]:
            log.warning("%s: %s", reader.path, problem.what)
        self.numbers = np.full(1 << 16, NOT_PLAYED, np.uint16)  # of feeds, in the deck

    def of(self, record: Record) -> NDArray[np.void]:
        """The sources of a block."""
        first, last = np.searchsorted(self.sources["row"], [record.row, record.row + 1])
        return self.sources[first:last]

    def miss(self, reel: Reel, feeds: Iterable[int], before: int = 0) -> None:
        """Something of these is missing there."""
        for feed in feeds:
            if self.numbers[feed] != NOT_PLAYED:
                reel.miss(before, int(self.numbers[feed]))


def fits(name: str, patterns: Sequence[str]) -> bool:
    """Is this instrument meant by one of these names or globs, however they are spelled?"""
    plain = re.sub("[-/_:]", "", name).lower()
    return any(fnmatch.fnmatchcase(plain, re.sub("[-/_:]", "", pattern).lower()) for pattern in patterns)


class Player(Actor):
    """Plays the segments of `paths` (files, folders) into the run that it is set up in, whose clock is virtual and
    which was made to be `played` (see Spine.create).

    `speed` 0: as fast as it is read. It holds until `resume`. `since`, `until`: from then on, before then; of these
    `venues` and `instruments` (names, globs) alone. All methods are any thread's; what moves it is done on return."""

    def __init__(self, name: str, paths: Iterable[str | Path], *, speed: float = 1.0, since: Moment | None = None,
                 until: Moment | None = None, venues: Sequence[str] = (), instruments: Sequence[str] = ()) -> None:
        super().__init__(name)
        if not 0 <= speed < float("inf"):
            raise ConfigurationError(f"speed is a number above 0, or 0 for as fast as can be, not {speed!r}")
        self.done = threading.Event()       # all is played; a seek may set it back
        self._speed, self._holds = speed, True
        self.started = False                # since it was set up, once
        self._since = None if since is None else moment(since)
        self._until = END if until is None else moment(until)
        self._files = [File(reader, n) for n, reader in enumerate(_readers(files(paths)))]
        captures: dict[str, File] = {}
        for file in self._files:
            first = captures.setdefault(file.reader.capture, file)
            first.gaps |= file.table.gaps
            file.capture, file.gaps = first.number, first.gaps
        self._venues = {number: name for file in self._files for number, name in file.table.venues.items()}
        self._select(venues, instruments)
        self._known = list(self._books())
        self._blocks = sorted(self._found(), key=_place)
        played = [block for block in self._blocks if block.family != "ledger"]
        if not played:
            raise ConfigurationError("there is nothing to play" + (" of these" if venues or instruments else ""))
        self.start_ns = max(played[0].first_ns, self._since or 0)
        self.end_ns = min(max(block.record.last_ns for block in played), self._until)
        if self.end_ns < self.start_ns:
            raise ConfigurationError("nothing was recorded between these moments")
        self._commands: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        self._asked, self.ended = threading.Event(), threading.Event()
        self._deck: Deck
        self._rows: dict[str, Row] = {}             # of the ledger: feeds', and books'
        self._book_rows: dict[str, Row] = {}
        self._counted: Counter[tuple[int, str, str]] = Counter()    # of these by a capture, so far
        self._missed: set[Gap] = set()              # gaps that were come by

    # What there is ---------------------------------------------------------------------------------------------

    def _select(self, venues: Sequence[str], instruments: Sequence[str]) -> None:
        """Which instruments are played, by which numbers: those of different tables may be numbered alike."""
        self.instruments: dict[int, Instrument] = {}
        numbers: dict[tuple[object, ...], int] = {}
        there = {self._venues.get(venue, str(venue)) for file in self._files
                 for venue in np.unique(file.sources["venue"]).tolist()}
        if unknown := {*venues} - there:
            raise ConfigurationError(f"nothing of {', '.join(sorted(unknown))} was recorded; there is "
                                     f"{', '.join(sorted(there))}")
        for file in self._files:
            table = file.table
            held = set(np.unique(file.sources[["venue", "instrument"]]).tolist())
            if strange := {venue for venue, _ in held if venue >= len(venue_room.NAMES)}:
                raise ConfigurationError(f"{file.reader.path}: this mantra knows no venue number {min(strange)}")
            meant = {(venue, number) for venue, number in held
                     if (not venues or table.venues.get(venue) in venues)
                     and (not instruments or fits(_row(table.instruments, number).name, instruments))}
            if meant != held:
                file.only = meant
                file.sources = file.sources[np.isin(_pairs(file.sources), [venue << 32 | n for venue, n in meant])]
            for number in sorted({number for _, number in meant}):
                row = _row(table.instruments, number)
                if row[1:] not in numbers:
                    free = number if number not in self.instruments else max(self.instruments) + 1
                    numbers[row[1:]], self.instruments[free] = free, row._replace(id=free)
                if numbers[row[1:]] != number:
                    file.instruments[number] = numbers[row[1:]]

    def _books(self) -> Iterator[Known]:
        """Every book that is played, once for each feed that keeps it."""
        met: set[Known] = set()
        self._bases: dict[str, int] = {}        # feeds, and their venues
        for file in self._files:
            symbols = self._symbols(file)
            for feed, venue, instrument in np.unique(file.sources[["feed", "venue", "instrument"]]).tolist():
                if feed not in file.feeds:
                    continue
                family, base = file.feeds[feed]
                self._bases.setdefault(base, venue)
                name = self._venues.get(venue, str(venue))
                kind = venue_room.VENUES.get(name)
                if ("orders", base) in file.feeds.values() and kind is not None:
                    name = kind(None).books("orders")
                known = Known(base, venue, file.instruments.get(instrument, instrument), name, symbols.get(
                    (base, instrument)) or _row(file.table.instruments, instrument).name)
                if family in ("updates", "tops") and known not in met:
                    met.add(known)
                    yield known

    def _symbols(self, file: File) -> dict[tuple[str, int], str]:
        """How the venue spells the instruments of each feed, as the run's ledger had it."""
        found: dict[tuple[str, int], str] = {}
        for record in file.reader.blocks("ledger")[-1:]:
            try:
                for title, row in unpack_json(file.reader.body(record)).get("books", {}).items():
                    base, _, symbol = str(title).partition(" ")
                    found[base, int(row.get("instrument", 0))] = symbol
            except (ArchiveError, *NONSENSE) as error:
                log.warning("%s: a ledger that cannot be read: %s", file.reader.path, error)
        return found

    def _found(self) -> Iterator[Block]:
        begins: dict[tuple[int, str], int] = {}     # of what follows, by capture and stream
        for file in reversed(self._files):
            families = {number: stream.name for number, stream in file.table.streams.items() if stream.name == "ledger"
                        or (stream.name in FAMILIES and stream.message == (MESSAGES | ALSO)[stream.name])}
            meant = set(file.sources["row"].tolist())
            hit = {problem.offset for problem in file.reader.problems}      # whose they were is not known
            for record in reversed(file.reader.blocks()):
                family = families.get(record.stream)
                if family == "ledger" or (
                        family is not None and (record.row in meant or record.offset in hit)):
                    key = file.capture, family
                    begins[key] = min(record.first_ns, begins.get(key, END))
                    yield Block(begins[key], file.number, record, family)

    def venues(self) -> list[str]:
        """Those whose feeds are played."""
        return sorted({self._venues.get(venue, str(venue)) for venue in self._bases.values()})

    # Life ------------------------------------------------------------------------------------------------------

    def clock(self) -> Clock:
        """The clock for the run: it stands where the playback begins."""
        return Clock.virtual(self.start_ns)

    def setup(self, spine: Spine) -> None:
        if spine.audience is None:
            raise ConfigurationError(f"{self.name}: this run was not made to be played into")
        self._spine = spine
        self._deck = Deck(spine.clock, spine.doorbell, spine.audience, most_feeds=MOST_FEEDS, most_books=MOST_BOOKS,
                          most_queues=MOST_QUEUES)
        for instrument in self.instruments.values():
            spine.add_instrument(*instrument)
        orders = {base for file in self._files for family, base in file.feeds.values() if family == "orders"}
        recorded = {base for file in self._files for family, base in file.feeds.values() if family == "tops"}
        self._numbers: dict[str, int] = {}
        numbers = []
        for base, venue in self._bases.items():
            row = self._rows[base] = spine.ledger.row(base, venue)
            numbers.append(spine.add_actor(base, "player", row.feed))
            families = MESSAGES | ({"orders": "order"} if base in orders else {})
            made = {family: spine.queue(f"{family}.{base}", message).producer(row.feed)
                    for family, message in families.items()}
            self._numbers[base] = self._deck.add_feed(
                venue, row.feed, row, made["updates"], made["trades"], made["tops"], made.get("orders"), spine.tops,
                spine.doorbell, tops_recorded=base in recorded)
            row.set_state(FeedState.LIVE, self.start_ns)
        self.numbers, self._publishers = numbers, np.array(numbers, np.uint64)
        for file in self._files:
            for feed, (_, base) in file.feeds.items():
                file.numbers[feed] = self._numbers.get(base, NOT_PLAYED)
        self.books: dict[tuple[str, str], tuple[Book, int]] = {}    # by what the venue calls them; their instruments
        self._last: dict[int, NDArray[np.int64]] = {}       # when each feed published last, by capture
        self._routes: dict[int, int] = {}       # by key (feed, venue, instrument): the book, both as in the deck
        self._make_books()
        self._watched = 0
        self._worker = ThreadPoolExecutor(1, f"mantra-{self.name}-unpack")
        self._opened: deque[tuple[Block, Future[Reel | tuple[File, dict[str, Any]]]]] = deque()
        self._queue = deque(self._blocks)
        if self._since is not None:
            self.seek(self.start_ns)
        self.pace(self._speed)

    def _make_books(self) -> None:
        made: dict[tuple[str, str], int] = {}
        for known in self._known:
            name, feed = (known.books, known.symbol), self._numbers[known.feed]
            if name not in made:
                book, slot = self._spine.make_book(known.books, known.venue, known.symbol, known.instrument)
                title = f"{known.feed} {known.symbol}"
                row = self._book_rows[title] = self._spine.book_ledger.row(
                    title, known.venue, self._rows[known.feed].feed, known.instrument)
                made[name] = self._deck.add_book(feed, book, slot, known.instrument, row)
                self.books[name] = book, known.instrument
            self._routes[feed << 40 | known.venue << 32 | known.instrument] = made[name]
        self._keys = np.array([*sorted(self._routes), END], np.uint64)
        self._of_keys = np.array([*map(self._routes.get, sorted(self._routes)), 0], np.uint32)

    def step(self, spine: Spine) -> int:
        while not self._commands.empty():
            command, answer = self._commands.get()
            try:
                answer.set_result(command())
            except Exception as error:
                answer.set_exception(error)
        if len(names := spine.queue_names()) != self._watched:
            self._watched = len(names)
            for name in names:
                if not name.startswith("timings."):
                    self._deck.watch(spine.queue(name))
        if self._holds or self.done.is_set():
            self._deck.run(0)       # what a seek has yet to tell
            self._asked.wait(SLICE_S)
            self._asked.clear()
        else:
            self._run()
        return 1

    def wake(self) -> None:
        self._asked.set()
        if self.stopping.is_set():
            self._deck.stop()
        self._deck.wake()

    def teardown(self, spine: Spine) -> None:
        self.ended.set()
        self._worker.shutdown(cancel_futures=True)

    # Playing ---------------------------------------------------------------------------------------------------

    def _run(self, most: int | None = None, *, whole: bool = True, until_ns: int = END) -> int:
        """Play for a while; why it came back is a Played."""
        limit = min(self._until, until_ns)
        while self._queue and len(self._opened) < AHEAD:
            block = self._queue.popleft()
            self._opened.append((block, self._worker.submit(self._open, block)))
        horizon = self._opened[0][0].first_ns - SLACK_NS if self._opened else END
        why = self._deck.run(min(horizon, limit), most, whole=whole, seconds=SLICE_S)
        if why == Played.UNTIL and horizon < limit:
            opened = self._opened.popleft()[1].result()
            if isinstance(opened, Reel):
                self._deck.load([opened])
            else:
                with contextlib.suppress(*NONSENSE):
                    self._count(*opened)
            return Played.LONG
        if why == Played.UNTIL and (limit > self.end_ns or limit == self._until):
            self.done.set()
        return why

    def _open(self, block: Block) -> Reel | tuple[File, dict[str, Any]]:
        """On the other thread: a block as it is played, or what one of the ledger says."""
        file, record = self._files[block.file], block.record
        try:
            if block.family == "ledger":
                return file, unpack_json(file.reader.body(record))
            found = file.reader.unpack(record, file.only if block.only is None else block.only)
            reel = self._wound(block.family, found, file)
        except ArchiveError as error:
            if not file.damaged:
                log.warning("%s: %s; until their next images its books are suspect", file.reader.path, error)
            file.damaged += 1
            ends = np.array(sorted(min(ns, self.end_ns) for ns in (record.first_ns, record.last_ns)), "i8")
            reel = Reel("nothing", np.empty(2, "u1"), ends, np.zeros(2, "u2"), np.zeros(2, "u4"),
                        np.zeros(2, "u8"), file.capture)
            for before in (0, 1) if block.family == "updates" else ():     # images of others may lie between
                file.miss(reel, np.unique(file.of(record)["feed"]).tolist() or list(file.feeds), before)
            return reel

        if record.row in file.behind:
            file.miss(reel, list(file.feeds))
        if block.family == "updates":
            self._events(reel, found, file)
        return reel

    def _wound(self, family: str, found: pack.Block, file: File) -> Reel:
        """A block as it is played: by our numbers, on our clock, and nothing in it that would lead a reader astray."""
        messages, feeds = found.messages, file.numbers[found.feeds]
        for was, number in file.instruments.items():
            messages["instrument"][messages["instrument"] == was] = number | RENAMED
        if file.instruments:
            messages["instrument"] &= RENAMED - 1
        strange, books = feeds == NOT_PLAYED, np.zeros(len(messages), np.uint32)
        if family in IMAGED:
            keys = feeds.astype(np.uint64) << np.uint64(40) | _pairs(messages)
            at = np.searchsorted(self._keys, keys)
            books = self._of_keys[at]
            strange |= self._keys[at] != keys
            messages["trust"][messages["trust"] > Trust.VERIFIED] = Trust.DOWN
        if family == "tops":
            strange |= (messages["bid_count"] > DEPTH) | (messages["ask_count"] > DEPTH)
        if strange.any():
            raise ArchiveError(f"a block of {strange.sum()} messages that its tables do not know")
        origin = file.table.utc(messages["origin"])
        published = file.table.utc(messages["origin"] + (messages["published"] >> np.uint64(16)))
        last = self._last.setdefault(file.capture, np.zeros(MOST_FEEDS, np.int64))
        times = np.maximum.accumulate(np.maximum(published, last[feeds]))
        last[feeds] = times
        messages["origin"] = origin.view(np.uint64) + np.uint64(self._deck.ahead)
        messages["published"] = np.clip(published - origin, 0, (1 << 48) - 1).view(np.uint64) << np.uint64(
            16) | self._publishers[feeds]
        return Reel(family, messages, times, feeds, books, found.positions, file.capture)

    def _events(self, reel: Reel, found: pack.Block, file: File) -> None:
        """Images of books, each where it is due, and what is missing."""
        messages, feeds, positions = found.messages, found.feeds, found.positions
        events: list[tuple[int, int, BookImage | None, bool]] = []
        for gap in file.gaps - self._missed:
            behind = np.flatnonzero((feeds == gap.feed) & (positions >= gap.position))
            if len(behind):
                self._missed.add(gap)
                events.append((int(behind[0]), gap.feed, None, False))
        resets = np.flatnonzero(messages["kind"] == Kind.RESET)
        for _, feed, image in found.images:
            image = image._replace(instrument=file.instruments.get(image.instrument, image.instrument))
            behind = np.flatnonzero((feeds == feed) & (positions >= image.position))
            before = int(behind[0]) if len(behind) else len(messages)
            own = (feeds == feed) & (messages["instrument"] == image.instrument)
            told = [n for n in resets[own[resets] & (resets < before)][-1:].tolist()
                    if reel.times[before - 1] - reel.times[n] < TOLD_WITHIN_NS]
            if told:
                # What was changed in between the image has already; how that was before is not known.
                changed = messages[told[0]:before][own[told[0]:before]]
                bids, asks = (levels[~np.isin(levels[:, 0], changed["price"][changed["kind"] == kind])]
                              for kind, levels in ((Kind.BID, image.bids), (Kind.ASK, image.asks)))
                image = image._replace(bids=bids, asks=asks)
                before, resets = told[0], resets[resets != told[0]]
            events.append((before, feed, image, bool(told)))
        for before, feed, due, is_told in sorted(events, key=lambda event: (event[0], event[2] is not None)):
            number = int(file.numbers[feed])
            if due is None:
                file.miss(reel, [feed], before)
            elif (book := self._routes.get(number << 40 | due.venue << 32 | due.instrument)) is not None:
                reel.image(before, number, book, due, told=is_told)

    def _count(self, file: File, told: dict[str, Any]) -> None:
        """What the captured run had counted by then; but updates, trades and tops are those played."""
        for what, rows in (("feeds", self._rows), ("books", self._book_rows)):
            for title, counts in told.get(what, {}).items():
                if (row := rows.get(title)) is not None:
                    for name in counts.keys() & COUNTED:
                        key = file.capture, title, name
                        row.add(name, max(0, int(counts[name]) - self._counted[key]))
                        self._counted[key] = max(int(counts[name]), self._counted[key])

    # Steering --------------------------------------------------------------------------------------------------

    def do(self, command: Callable[[], T]) -> T:
        """Have the player's thread do it. MantraError when there is none any more."""
        answer: Future[T] = Future()
        self._commands.put((command, answer))
        before, still = self._deck.counts(), 0
        while not self.ended.is_set():
            self.wake()
            if wait([answer], 0.5).done:
                return answer.result()
            counts, audience = self._deck.counts(), self._spine.audience
            waits = counts | {"waits": 0} == before | {"waits": 0} and counts != before
            before, still = counts, still + 1 if waits else 0
            if still > 3 and audience is not None and {pid for pid, *_ in audience.readers()} == {os.getpid()}:
                raise MantraError(f"{self.name} waits for a reader in this process, and will do it then: is that the "
                                  "one who asks? Let another thread read, or ask for less")
        raise MantraError(f"{self.name} has ended")

    @property
    def time_ns(self) -> int:
        """The moment of the recording that is played."""
        return self._deck.time or self.start_ns

    @property
    def speed(self) -> float:
        """Recorded seconds a second; 0: as fast as it is read."""
        return self._speed

    @property
    def holds(self) -> bool:
        """Does it wait to be resumed?"""
        return self._holds

    def hold(self, holds: bool) -> None:
        self._holds, self.started = holds, True
        self._deck.pace(self._speed)

    def pace(self, speed: float) -> None:
        self._speed = speed
        self._deck.pace(speed)

    def play(self, count: int, by: str) -> None:
        """So many messages, batches, or nanoseconds; then it holds."""
        self._holds = True
        self._deck.pace(0.0)
        if by == "ns":
            until_ns = self.time_ns + count
            while not self.done.is_set() and self._run(until_ns=until_ns) != Played.UNTIL and self._goes_on():
                pass
            self._deck.pass_to(min(until_ns, self.end_ns))
        else:
            for _ in range(count):
                while not self.done.is_set() and self._run(1, whole=by == "batch") != Played.MOST and self._goes_on():
                    pass

    def _goes_on(self) -> bool:
        return not self.stopping.is_set()

    def seek(self, to_ns: int) -> None:
        """Books as they were at that moment, and what was published from then on comes next."""
        to_ns = max(self._blocks[0].first_ns, min(to_ns, self.end_ns))
        while self._opened:
            future = self._opened.popleft()[1]
            if not future.cancel():
                future.exception()
        self.done.clear()
        self._missed.clear()
        self._last.clear()
        self._deck.jump(to_ns)
        self._queue = deque(self._from(to_ns))
        while not self.done.is_set() and self._run(until_ns=to_ns) != Played.UNTIL and self._goes_on():
            pass
        self.done.clear()
        self._deck.land(to_ns)
        self._deck.run(0, seconds=0.0)      # who asked may be the one to read it: the rest when there is room

    def _from(self, at_ns: int) -> list[Block]:
        """What is to be read for a playback from that moment: for each book from the last block on that has an image of
        it from before."""
        blocks = [block for block in self._blocks if block.family in IMAGED and block.first_ns < at_ns]
        parts = [self._files[block.file].of(block.record) for block in blocks]
        chosen = []
        if parts:
            held, lengths = np.concatenate(parts), [len(part) for part in parts]
            order = np.repeat(np.arange(len(parts)), lengths)
            of = np.repeat([block.file for block in blocks], lengths)
            bases = np.stack([file.numbers for file in self._files])[of, held["feed"]].astype(np.uint64)
            keys, key = np.unique(bases << np.uint64(40) | _pairs(held), return_inverse=True)
            ended = np.array([block.record.last_ns < at_ns - SLACK_NS for block in blocks])
            tops = np.array([block.family == "tops" for block in blocks])
            whole = ended[order] & ((held["images"] > 0) | tops[order])
            since = np.zeros(len(keys), np.int64)
            np.maximum.at(since, key[whole], order[whole])
            wanted = order >= since[key]
            for n in np.unique(order[wanted]).tolist():
                rows = held[wanted & (order == n)]
                only = set(rows[["venue", "instrument"]].tolist())
                chosen.append(blocks[n]._replace(only=only if ended[n] else None))
        chosen += [block for block in self._blocks if block.family != "ledger" and (
            block.first_ns >= at_ns or (block.family not in IMAGED and block.record.last_ns >= at_ns - SLACK_NS))]
        chosen += [block for block in self._blocks if block.family == "ledger" and block.first_ns >= at_ns]
        return sorted(chosen, key=_place)

    # Telling ---------------------------------------------------------------------------------------------------

    def result(self, *, books: bool) -> dict[str, Any]:
        """What was played so far, in the words of a recording's replay; `books`: every level of every book."""
        counts: Counter[str] = Counter()
        for row in self._rows.values():
            counts.update({name: n for name, n in row.counts().items() if not name.startswith("state")})
        digest = hashlib.blake2b(self._deck.digest(), digest_size=16)
        return {
            **counted(counts["frames"] or counts["messages"], {name: counts[name] for name in COUNTERS}),
            "books": self._told() if books else {},
            **self._deck.counts(), "damaged": sum(file.damaged for file in self._files), "digest": digest.hexdigest(),
        }

    def _told(self) -> dict[str, Any]:
        """By symbol; by venue and symbol, where two venues have the same."""
        names = Counter(symbol for _, symbol in self.books)
        told = {}
        for (venue, symbol), (book, number) in self.books.items():
            image, row = book.image(), self.instruments[number]
            told[symbol if names[symbol] == 1 else f"{venue} {symbol}"] = book_told(
                image.trust, image.sequence, 0, image.bids, image.asks, (row.price_decimals, row.size_decimals))
        return told


def counted(frames: int, counts: Mapping[str, int]) -> dict[str, Any]:
    """What a ledger counted, as `mantra replay --json` has it."""
    return {"frames": frames,
            **{name: counts[name] for name in (
                "messages", "updates", "trades", "tops", "malformed", "gaps", "trade_gaps")},
            "checksums": {"ok": counts["checksums_ok"], "failed": counts["checksums_failed"]}, "ledger": counts}


def book_told(trust: int, sequence: int, waiting: int, bids: NDArray[np.int64], asks: NDArray[np.int64],
              decimals: tuple[int, int]) -> dict[str, Any]:
    """A book as `mantra replay --books --json` has it; `decimals` of prices and sizes."""
    def rows(side: NDArray[np.int64]) -> list[list[str]]:
        return [[ticks.text(number, places, True) for number, places in zip(row, decimals, strict=True)]
                for row in side.tolist()]

    return {"trust": Trust(trust).name.lower(), "sequence": sequence, "waiting": waiting, "bids": rows(bids),
            "asks": rows(asks)}


def _readers(paths: Iterable[Path]) -> list[SegmentReader]:
    """Of those that can be read; ArchiveError when none can."""
    readers, why = [], None
    for path in paths:
        try:
            readers.append(SegmentReader(path))
        except ArchiveError as error:
            log.warning("%s", why := error)
    if why and not readers:
        raise why
    return readers


def _place(block: Block) -> tuple[int, int, int]:
    return block.first_ns, block.file, block.record.row


def _row(instruments: dict[int, Instrument], number: int) -> Instrument:
    """What is known of an instrument; a table that was damaged may not have it."""
    return instruments.get(number) or Instrument(number, str(number), 0, 0, 0)


def _pairs(sources: NDArray[np.void]) -> NDArray[np.uint64]:
    """Venue and instrument as one number."""
    pairs: NDArray[np.uint64] = sources["venue"].astype(np.uint64) << np.uint64(32) | sources["instrument"]
    return pairs
