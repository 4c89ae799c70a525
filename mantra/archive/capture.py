"""capture: an actor that keeps every message of its queues in files, and never keeps who writes them waiting.

    queues --> Gather, every 0.1 s or when a ring is a quarter full --> Packer, one a stream
                                         full, or every 10 s: --> a second thread packs, writes, syncs --> DIR/*.mantra

A stream is a family of queues. Beside its messages a file has what is needed to read it alone: instruments, the clock,
the ledger once a minute, and images of the books: of every one at its beginning, of one that was replaced, of those
whose updates are missing, and again after so many updates that reading them would take longer than another image.
Whoever is slow here, this thread or the disk, loses messages here and nowhere else: they are counted, and the files say
where they are missing.

    capture = "recordings"      # in a topology, keeps all its queues; or some, with options of `mantra capture --help`:
    capture = {out = "recordings", reads = ["updates", "signals"], rotate = "15m", keep_bytes = "100GB"}
"""
from __future__ import annotations

import logging
import math
import os
import re
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import mantra
from mantra import venues
from mantra.archive.files import NANO, Files
from mantra.archive.streams import IMAGED, KEY_FRAME, Held, Queues, Stream, Tapes
from mantra.core.gather import wait
from mantra.core.ledger import COUNTERS, Ledger, Row
from mantra.core.pack import sources
from mantra.core.region import PREFIX
from mantra.errors import ConfigurationError, MantraError
from mantra.runtime.actor import Actor
from mantra.runtime.spine import ALSO, MESSAGES, RunInstrument, Spine
from mantra.tape.segment import Instrument, clock_told, pack_json
from mantra.venues.venue import Mode

log = logging.getLogger("mantra.capture")

ROUND_S = 0.1           # between two rounds, unless a ring fills up
LOOK_S = 1.0            # for new queues, instruments, the end of the run
LEDGER_S = 60.0
RETRY_S = 2.0           # a disk that was full
WAITING = 2_000_000     # messages that wait for a slow disk, at most
IMAGES = 64             # of books, in a round: meanwhile the queues wait
ALL_FRAMES = 2 * KEY_FRAME      # of all books, for images of all: who seeks a quiet one reads the busy ones' blocks
LEDGER = 0              # number of its stream
SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
BYTES = {"": 1.0, "b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12}

BookKey = tuple[int, int]       # number of its feed, its instrument


def quantity(what: str, text: str | float, units: Mapping[str, float]) -> float:
    """A number and its unit ("1h", "500MB"), in the smallest unit. ConfigurationError."""
    found = re.fullmatch(r"(\d+\.?\d*|\.\d+) *([a-z]*)", str(text).strip().lower())
    if found is None or found[2] not in units or not 0 < float(found[1]) * units[found[2]] < math.inf:
        named = " or ".join(filter(None, units)) or "no unit"
        raise ConfigurationError(f"{what} must be a number above 0 with {named}, not {text!r}")
    return float(found[1]) * units[found[2]]


@dataclass(slots=True)
class Imaged:
    """A book, and its last image."""

    venue: str
    symbol: str
    levels: int = 0
    since: int = 0          # updates written after it


class Capture(Actor):
    """Keeps the queues of `reads` in the folder `out`. `ended` is set when the run that it is attached to is over."""

    def __init__(self, name: str, reads: Sequence[str], writes: Sequence[str] = (), *, out: str | Path,
                 rotate: str | float = "1h", rotate_bytes: str | float = "1GB", keep_days: str | float | None = None,
                 keep_bytes: str | float | None = None, limit: str | float | None = None, flush: str | float = 10.0,
                 sync: str | float = 1.0, level: int = 1, raw: bool = False) -> None:
        super().__init__(name, reads, writes)
        if self.writes or not self.reads:
            raise ConfigurationError(f"{name}: a capture reads queues and writes none")
        if level not in range(1, 20):
            raise ConfigurationError(f"{name}: level must be 1 to 19, not {level!r}")
        self._rotate_ns = int(quantity("rotate", rotate, SECONDS) * NANO)
        self._flush_s = quantity("flush", flush, SECONDS)
        self._out, self._level, self._raw = Path(out), level, raw
        self._rules: dict[str, Any] = {
            "sync_s": math.inf if sync == "never" else quantity("sync", sync, SECONDS),
            "limit": limit and quantity("limit", limit, BYTES),
            "keep_bytes": keep_bytes and quantity("keep-bytes", keep_bytes, BYTES),
            "keep_s": keep_days and quantity("keep-days", keep_days, {"": SECONDS["d"]})}
        self._rotate_bytes = quantity("rotate-bytes", rotate_bytes, BYTES)
        if kept := self._rules["keep_bytes"]:
            self._rotate_bytes = min(self._rotate_bytes, kept / 4)      # files are removed whole
        self.ended = threading.Event()
        self.files: Files
        self.streams: dict[str, Stream] = {}
        self.unwritten = 0      # messages that the disk refused, or was too slow for
        self.books = 0          # images taken

    # Life ------------------------------------------------------------------------------------------------------

    def setup(self, spine: Spine) -> None:
        self._spine, self._clock = spine, spine.clock
        self._capture = f"{spine.run or 'private'} {spine.clock.utc_ns()}"
        self.files = Files(self._out, spine.run or "private", spine.clock, **self._rules)
        self._writing = ThreadPoolExecutor(1, f"mantra-{self.name}-files", _name_thread)
        self._jobs: deque[Future[Callable[[], None] | None]] = deque()
        self._waiting = 0                               # messages, for the second thread
        self._numbers: dict[str, int] = {}              # of queues and tapes, by name
        self._reading: dict[str, Queues] = {}           # queues that there are now
        self._ledger = spine.ledger if spine.owner else Ledger.open(f"{spine.run}.ledger", write=True)
        self._ledger_rows: dict[int, Row | None] = {}   # by number
        self._instruments: list[RunInstrument] = []
        self._missing: Held = {}                        # lost since the file was told
        self._news: dict[str, Any] = _news()            # for the table of the file, before its next block
        self._stamp = -1                                # of the folder of regions, when it was read
        self._books: dict[BookKey, Imaged] = {}
        self._rows = 0                                  # of the ledger of books, when it was read
        self._unknown = False                           # a book that was not in there
        self._due: dict[BookKey, None] = {}             # images to take
        self._since = 0                                 # updates written after those of all books
        self._tapes = Tapes(spine) if self._raw else None
        if self._tapes:
            self.streams["raw"] = self._tapes
        self._counters = {name: spine.counter(name) for name in ("messages", "images", "bytes", "lost", "unwritten")}
        self._look("newest")
        if not self._reading:
            raise ConfigurationError(f"run {spine.run!r} has no queue of {', '.join(self.reads)}")
        self._look_at = self._flush_at = self._ledger_at = self._retry_at = 0.0
        self._begin()
        self._jobs[-1].result()
        if self.files.why and not self.files.full:
            raise ConfigurationError(f"cannot write to {self._out}: {self.files.why}")

    def step(self, spine: Spine) -> int:
        if not self.stopping.is_set():
            wait([stream.gather for stream in self.streams.values() if isinstance(stream, Queues)], ROUND_S)
        taken = self._take()
        now = self._clock.seconds()
        if now >= self._look_at:
            self._look_at = now + LOOK_S
            self._look("oldest")
        if not self.files.why:
            for key in list(self._due)[:IMAGES]:
                del self._due[key]
                self.image(key)
        if now >= self._ledger_at:
            self._ledger_at = now + LEDGER_S
            self._keep_ledger()
        if now >= self._flush_at:
            self._flush_at = now + self._flush_s
            self._flush_all()
        self._settle()
        if not self._beginning:
            if self.files.why and now >= self._retry_at:
                self._retry_at = now + RETRY_S
                self._begin()
            elif self._clock.utc_ns() >= self._rotate_at or self.files.size >= self._rotate_bytes:
                self._begin()
        return taken + (not self.stopping.is_set())

    def teardown(self, spine: Spine) -> None:
        if self._tapes:
            self._news["feeds"].update(self._tapes.look(self._numbers, self._row))
        self._take()
        self._keep_ledger()
        self._flush_all()
        self._submit(self._end, self._untold())
        self._writing.shutdown()
        self._settle()
        self._count()

    def _submit(self, job: Any, *arguments: Any) -> None:
        """Have the second thread do it, after what it has to do already; what that returns is called on this one."""
        self._jobs.append(self._writing.submit(job, *arguments))

    def _settle(self) -> None:
        while self._jobs and self._jobs[0].done():
            if (then := self._jobs.popleft().result()) is not None:
                then()

    # Reading ---------------------------------------------------------------------------------------------------

    def _take(self) -> int:
        """What waits in all queues, to the packers."""
        return sum(stream.take(self) for stream in self.streams.values())

    def miss(self, held: Held) -> None:
        """These are not in the file."""
        for feed, (position, lost) in held.items():
            first, before = self._missing.get(feed, (position, 0))
            self._missing[feed] = min(first, position), before + lost

    def _look(self, start: Any) -> None:
        """For what is new (queues, books, instruments), and what is gone."""
        spine = self._spine
        if not spine.owner and not spine.ledger.owner_alive:
            self.ended.set()
        stamp = os.stat(os.path.dirname(PREFIX)).st_mtime_ns    # one look, where a listing takes milliseconds
        if stamp != self._stamp or spine.run is None:
            self._stamp = stamp
            names = {name: family for family in self.reads for name in spine.queue_names(family)}
            if self._tapes:
                self._news["feeds"].update(self._tapes.look(self._numbers, self._row))
            if gone := self._reading.keys() - names.keys():
                self._take()        # the last that they had
            for name in gone:
                self._reading.pop(name).gather.remove(self._numbers[name])
            for name in sorted(names.keys() - self._reading.keys()):
                self._read(name, names[name], start)
        known, self._instruments = len(self._instruments), spine.instruments()
        self._news["instruments"] += map(_told, self._instruments[known:])
        if self._unknown or len(spine.book_ledger) != self._rows:
            self._find_books()
        self._count()

    def _read(self, name: str, family: str, start: Any) -> None:
        """Another queue."""
        queue, root = self._spine.queue(name), family.split(".")[0]
        called = root if root in MESSAGES | ALSO else family
        if called not in self.streams:
            self.streams[called] = made = Queues(len(self.streams) + 1, called, queue.format.name, self._spine)
            self._news["streams"][made.number] = made.told
        stream = self.streams[called]
        assert isinstance(stream, Queues)
        number = self._numbers.setdefault(name, len(self._numbers))
        self._news["feeds"][number] = name
        row = self._ledger_rows[number] = self._row(name.partition(".")[2])
        stream.gather.add(queue, number, start, row)
        self._reading[name] = stream

    def _row(self, feed: str) -> Row | None:
        """Where it is counted what its queues held and the files do not."""
        return next((row for row in self._ledger.rows() if row.name == feed), None)

    # Images of books -------------------------------------------------------------------------------------------

    def _find_books(self) -> None:
        """Which feed keeps which book, as the run's ledger says."""
        single = {name.partition(".")[2] for name in self._spine.queue_names("orders")}
        rows = self._spine.book_ledger.table()
        for title, venue, instrument in rows[["name", "venue", "instrument"]].tolist():
            feed, _, symbol = title.decode().partition(" ")
            mode: Mode = "orders" if feed in single else "book"
            if (number := self._numbers.get(f"updates.{feed}")) is not None and (number, instrument) not in self._books:
                self._books[number, instrument] = Imaged(venues.get(venues.NAMES[venue]).books(mode), symbol)
                self._due[number, instrument] = None
        self._rows, self._unknown = len(rows), False

    def image(self, key: BookKey) -> None:
        """Keep the book as it is now: whoever reads the file has it whole from this position of its feed on."""
        if (book := self._books.get(key)) is None:
            self._unknown = True        # of a new scale, say: it is looked for, and is due then
            return
        try:
            image = self._spine.book(book.venue, book.symbol).image()
        except MantraError as error:
            log.warning("no image of %s %s: %s", book.venue, book.symbol, error)
            return
        if image.instrument == key[1]:
            stream = self.streams["updates"]
            book.levels, book.since = image.bid_count + image.ask_count, 0
            stream.packer.image(key[0], image)
            stream.imaged += 1 + book.levels
            self.books += 1
            if stream.imaged > IMAGED:
                self.flush(stream)

    # Writing ---------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Another file, with images of all books; what was gathered belongs to the one before."""
        self._flush_all()
        table = {"capture": self._capture, "writer": f"mantra {mantra.__version__}", "clock": clock_told(self._clock),
                 "feeds": {number: name for name, number in self._numbers.items()},
                 "venues": dict(enumerate(venues.NAMES)), "instruments": list(map(_told, self._instruments)),
                 "streams": {LEDGER: {"name": "ledger"}, **{one.number: one.told for one in self.streams.values()}}}
        self._beginning = True
        self._submit(self._begin_file, table)
        self._news = _news()
        self._due.update(dict.fromkeys(self._books))
        now = self._clock.utc_ns()
        self._rotate_at = now - now % self._rotate_ns + self._rotate_ns

    def _flush_all(self) -> None:
        for stream in self.streams.values():
            if stream.packer.count or stream.imaged:
                self.flush(stream)

    def flush(self, stream: Stream) -> None:
        """What was gathered becomes a block."""
        packer, held = stream.cut()
        slow = self._waiting >= WAITING and not self.stopping.is_set()      # at its end it waits for the disk
        if self.files.why or slow:
            return self._refused(packer.count, held)
        self._waiting += packer.count
        missing, news = self._missing, self._untold()
        if missing:         # what a reader knows of their books is not true any more
            self._due.update(dict.fromkeys(key for key in self._books if key[0] in missing))
        self._submit(self._write, stream, packer, held, news, missing)

    def _untold(self) -> dict[str, Any]:
        """For the table of the file."""
        now, missing, self._missing = self._clock.utc_ns(), self._missing, {}
        gaps = [{"feed": feed, "position": first, "lost": lost, "utc_ns": now}
                for feed, (first, lost) in missing.items()]
        news, self._news = self._news | {"gaps": gaps, "clock": clock_told(self._clock)}, _news()
        return news

    def _keep_ledger(self) -> None:
        self._submit(self._write_ledger, self._clock.utc_ns(), {
            "feeds": self._spine.ledger.table(), "books": self._spine.book_ledger.table()})

    def _refused(self, count: int, held: Held) -> None:
        self.unwritten += count
        self.miss(held)
        for feed, (_, lost) in held.items():
            if (row := self._ledger_rows[feed]) is not None:
                row.unwritten(lost)

    # What follows is done by the second thread, and what it returns by the first.

    def _begin_file(self, table: Mapping[str, Any]) -> Callable[[], None]:
        self.files.begin(table)
        return partial(setattr, self, "_beginning", False)

    def _write(self, stream: Stream, packer: Any, held: Held, news: Mapping[str, Any],
               missing: Held) -> Callable[[], None]:
        count, now = packer.count, self._clock.utc_ns()
        first, last = (self._clock.to_utc(packer.first), self._clock.to_utc(packer.last)) if count else (now, now)
        body = packer.pack(self._level)
        told = self.files.table(news)
        done = told and self.files.block(stream.number, body, count, first, last)
        of = sources("update", body) if done and stream.message == "update" else ()

        def then() -> None:
            self._waiting -= count
            if not told:
                self.miss(missing)
            if not done:
                return self._refused(count, held)
            stream.written += count
            stream.bytes += len(body)
            for one in of:
                if (book := self._books.get(key := (one.feed, one.instrument))) is not None:
                    book.since += one.messages
                    if book.since > KEY_FRAME * max(book.levels, 1):
                        self._due[key] = None
            self._since += count if of else 0
            if self._since > ALL_FRAMES * sum(max(book.levels, 1) for book in self._books.values()):
                self._since = 0
                self._due.update(dict.fromkeys(self._books))
        return then

    def _end(self, news: Mapping[str, Any]) -> None:
        self.files.table(news)
        self.files.leave()

    def _write_ledger(self, now: int, tables: Mapping[str, Any]) -> None:
        names = ["instrument", *(name for name in COUNTERS if not name.endswith("utc_ns"))]
        told = {what: {title.decode(): {name: n for name, n in zip(names, counts, strict=True) if n}
                       for title, *counts in table[["name", *names]].tolist()} for what, table in tables.items()}
        self.files.block(LEDGER, pack_json(told), 0, now, now)

    # Telling ---------------------------------------------------------------------------------------------------

    def counts(self) -> dict[str, int]:
        """Messages taken, lost (overwritten before that), unwritten; bytes and blocks written, files, and `stops`: how
        often the disk refused."""
        files, streams = self.files, self.streams.values()
        return {"messages": sum(stream.taken for stream in streams if stream is not self._tapes), "images": self.books,
                "lost": sum(stream.lost for stream in streams), "unwritten": self.unwritten, "bytes": files.total,
                "blocks": files.blocks, "files": files.files, "stops": files.stops}

    def _count(self) -> None:
        """For who looks at the run."""
        counts = self.counts()
        for name, counter in self._counters.items():
            counter.add(counts[name] - counter.value)


def _news() -> dict[str, Any]:
    return {"feeds": {}, "streams": {}, "instruments": []}


def _name_thread() -> None:
    Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text("files")


def _told(one: RunInstrument) -> dict[str, Any]:
    return {name: getattr(one, name) for name in Instrument._fields}
