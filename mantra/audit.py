"""audit: is what a running mantra keeps what its venues say? `mantra audit --help`.

A venue's REST book is held against the local one, allowing for their age. Where the venue numbers what it answers, the
local book at that number is rebuilt; elsewhere each level must have had the size that the venue says at some moment
between asking, less the age of a cached answer, and answering, plus the stream's lag. Levels that differ are asked for
once more, as an answer may be wrong itself: what differs twice is a mismatch. Audits are counted in the run's ledger.
"""
from __future__ import annotations

import argparse
import contextlib
import json
import queue
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mantra
from mantra import venues
from mantra.client.feed import bare_feed
from mantra.client.governor import Governor
from mantra.client.https import Rest
from mantra.core import ticks
from mantra.core.book import Book
from mantra.core.ledger import Ledger
from mantra.core.messages import Kind, Reason, Trust
from mantra.errors import ConfigurationError, MantraError
from mantra.listener.past import Differs, Level, Past
from mantra.runtime import child
from mantra.runtime.options import Parser, door, positive_seconds
from mantra.runtime.spine import RunInstrument, Spine
from mantra.venues.venue import Endpoints, Mode, Venue

LEVELS = 50
CACHE_S = 1.5       # an answer may be so much older than it looks: venues cache for a second
LAG_S = 1.0         # a stream may be so far behind an answer
TOGETHER = 16       # books of a venue that are followed at once
SHOWN = 5           # differing levels told of a book


@dataclass(frozen=True)
class Kept:
    """A book of the run, and the row that its audits are counted in."""

    venue: str
    symbol: str
    instrument: str
    feed: str
    row: int
    book: Book


@dataclass(frozen=True)
class Audit:
    """What came of one. `skipped`: why nothing could be compared; `differs`: in words, and `levels` as numbers."""

    kept: Kept
    utc_ns: int
    trust: str = ""
    skipped: str = ""
    compared: int = 0
    differs: tuple[str, ...] = ()
    levels: tuple[dict[str, Any], ...] = ()

    @property
    def line(self) -> str:
        at = time.strftime("%H:%M:%S", time.gmtime(self.utc_ns // 10**9))
        what = f"not compared: {self.skipped}" if self.skipped else \
            f"{self.compared - len(self.differs)} of {self.compared} levels agree"
        told = [f"    {text}" for text in self.differs[:SHOWN]]
        more = [f"    and {len(self.differs) - SHOWN} more levels"] * (len(self.differs) > SHOWN)
        return "\n".join([f"{at} {self.kept.venue:<9} {self.kept.instrument:<12} {what}  ({self.trust})", *told, *more])


class _Followed:
    """The past of one book, and since when it is known."""

    def __init__(self, run: Spine, kept: Kept) -> None:
        self._clock, self.kept = run.clock, kept
        self.past = Past(kept.book, run.queue(f"updates.{kept.feed}", "update"))
        self.since = self._clock.cycles()

    def follow(self) -> None:
        if not self.past.follow():
            self.since = self._clock.cycles()


class VenueAuditor:
    """Audits of one venue's books, as the run keeps them; on one thread. `asked`: of the run's "venues"."""

    def __init__(self, run: Spine, asked: dict[str, Any], levels: int, stopping: threading.Event) -> None:
        self._run, self._stopping = run, stopping
        self.mode: Mode = asked["mode"]
        self.venue: Venue = venues.get(asked["venue"], Endpoints(*(asked[name] for name in Endpoints.__annotations__)))
        self._numbered = self.venue.schemes[self.mode] in ("ids", "time")
        self._levels = min(levels, asked["levels"])
        self._governor = Governor.of_machine(run.clock, self.venue, Path(asked["home"]))
        self._rest = Rest(self.venue.endpoints.rest, ca_file=self.venue.endpoints.ca_file)
        self._rows = run.book_ledger if run.owner else Ledger.open(f"{run.run}.books", write=True)

    def close(self) -> None:
        """End a request under way; from any thread."""
        self._rest.close()

    def audit(self, books: Sequence[Kept]) -> Iterator[Audit]:
        """One audit of each of these books; fewer when it is to stop."""
        for start in range(0, len(books), TOGETHER):
            followed = [_Followed(self._run, kept) for kept in books[start:start + TOGETHER]]
            if self._stopping.wait(CACHE_S):
                return
            yield from self._together(followed)

    def _together(self, followed: Sequence[_Followed]) -> Iterator[Audit]:
        doubts: dict[str, set[Level]] = {}
        left = list(followed)
        for last in (False, True):
            answers = []
            for one in left:
                answers.append(self._ask(one))
                for other in followed:
                    other.follow()
                if self._stopping.is_set():
                    return
            if left and self._stopping.wait(LAG_S):
                return
            again = []
            for one, answer in zip(left, answers, strict=True):
                one.follow()
                found = self._compare(one, *answer) if isinstance(answer, tuple) else answer
                if isinstance(found, str):
                    yield self._told(one, skipped=found)
                    continue
                compared, differs = found
                symbol = one.kept.symbol
                differs = [each for each in differs if each.level in doubts.get(symbol, {each.level})]
                if differs and not last:
                    doubts[symbol] = {each.level for each in differs}
                    again.append(one)
                    continue
                self._rows[one.kept.row].audit(compared, compared - len(differs))
                yield self._told(one, compared=compared, differs=differs)
            left = again

    def _ask(self, one: _Followed) -> tuple[int, dict[Level, int], int, int] | str:
        """(number, the venue's book, cycles of asking and of the answer), or why there is none."""
        request = self.venue.snapshot(one.kept.symbol, 2 * self._levels)
        if not self._governor.acquire("rest", request.weight, cancel=self._stopping):
            return "it was to end"
        asked = self._run.clock.cycles()
        try:
            status, headers, body = self._rest.get(request.path)
        except MantraError as error:
            return str(error)
        answered = self._run.clock.cycles()
        if status in (418, 429):
            self._governor.block("rest", float(headers.get("retry-after", "10")))
        if status != 200:
            return f"the venue answered HTTP {status}"
        scale = self._scale(one)
        with Spine.private(clock=self._run.clock) as spine:
            reader = bare_feed(spine, "audit", self.venue, self.mode, most_books=1)
            reader.add_book(Book.create(None, scale.id, self.venue.id, 8, 8), 0, self.venue.spellings(one.kept.symbol),
                            scale.id, scale.price_decimals, scale.size_decimals)
            read = reader.levels_of(0, body)
        if read is None:
            return "the venue's answer is no book on the run's scale"
        return read[0], {(kind, price): size for kind, price, size in read[1]}, asked, answered

    def _scale(self, one: _Followed) -> RunInstrument:
        instrument = one.kept.book.image(0).instrument
        return next(known for known in self._run.instruments() if known.id == instrument)

    def _compare(self, one: _Followed, number: int, theirs: dict[Level, int], asked: int, answered: int
                 ) -> tuple[int, list[Differs]] | str:
        image, clock = one.kept.book.image(0), self._run.clock
        if image.trust < Trust.UNVERIFIED:
            return "it is not trusted, and says so"
        if self._numbered:
            if number < one.past.first:
                return "the venue's answer is older than what was followed"
            return one.past.differences(theirs, self._levels, number)
        first = asked - int(CACHE_S * clock.mhz * 1e6)
        if first < one.since:
            return "the book was taken anew meanwhile"
        return one.past.differences(theirs, self._levels, first, answered + int(LAG_S * clock.mhz * 1e6))

    def _told(self, one: _Followed, *, compared: int = 0, differs: Sequence[Differs] = (), skipped: str = "") -> Audit:
        image, clock = one.kept.book.image(0), self._run.clock
        trust = Trust(image.trust).name.lower()
        trust += f" ({Reason(image.reason).name.lower()})" if image.reason else ""
        if image.trust_since_ns:
            trust += f" since {_utc(image.trust_since_ns)}"
        scale, words, numbers = self._scale(one), [], []
        for (kind, price), size, had in differs:
            at, says = ticks.text(price, scale.price_decimals, True), ticks.text(size, scale.size_decimals, True)
            ours = [(ticks.text(each.size, scale.size_decimals, True), "" if each.arrived else "before ",
                     clock.to_utc(each.arrived or one.since)) for each in had]
            here = ", then ".join(f"{own if own != '0' else 'nothing'} since {before}{_utc(utc_ns)}"
                                  for own, before, utc_ns in ours)
            side = "bid" if kind == Kind.BID else "ask"
            words.append(f"{side} {at}: {self.venue.name} says {says if size else 'nothing'}, here {here}")
            numbers.append({"side": side, "price": at, "theirs": says,
                            "had": [{"size": own, "since_utc_ns": since} for own, _, since in ours]})
        return Audit(one.kept, clock.utc_ns(), trust, skipped, compared, tuple(words), tuple(numbers))


def _utc(utc_ns: int) -> str:
    return f"{time.strftime('%H:%M:%S', time.gmtime(utc_ns // 10**9))}.{utc_ns // 10**6 % 1000:03}"


class Auditor:
    """Audits of a run, each venue's on a thread of its own. `venues`, `instruments`: names; none: all. `stopping` ends
    a round."""

    def __init__(self, run: Spine, *, venues: Sequence[str] = (), instruments: Sequence[str] = (),
                 levels: int = LEVELS, stopping: threading.Event | None = None) -> None:
        self.stopping = stopping or threading.Event()
        asked = run.said("venues")
        if not asked:
            raise ConfigurationError(f"run {run.run!r} does not say where its venues are")
        self._books: dict[str, list[Kept]] = {}     # by listener
        wanted = {"".join(filter(str.isalnum, name.upper())) for name in instruments}
        for kept in kept_books(run):
            listener = kept.feed.rpartition(".")[0]
            # What is an image of the venue's in the first place has no changes to be rebuilt from.
            if (listener in asked and asked[listener]["mode"] != "top" and (not venues or kept.venue in venues)
                    and (not wanted or kept.instrument.replace("-", "") in wanted)):
                self._books.setdefault(listener, []).append(kept)
        if not self._books:
            raise ConfigurationError(f"run {run.run!r} keeps no such book, in mode 'book', or heard of none yet")
        self.venues = [VenueAuditor(run, asked[name], levels, self.stopping) for name in self._books]

    def round(self) -> Iterator[Audit]:
        """Audit every book once, in any order, as they come."""
        found: queue.SimpleQueue[Audit | BaseException | None] = queue.SimpleQueue()

        def work(auditor: VenueAuditor, books: list[Kept]) -> None:
            try:
                for audit in auditor.audit(random.sample(books, len(books))):
                    found.put(audit)
                found.put(None)
            except BaseException as error:
                found.put(error)

        threads = [threading.Thread(target=work, args=each, name=f"mantra-audit-{each[0].venue.name}", daemon=True)
                   for each in zip(self.venues, self._books.values(), strict=True)]
        for thread in threads:
            thread.start()
        left = len(threads)
        while left:
            try:
                audit = found.get(timeout=0.1)
            except queue.Empty:
                if self.stopping.is_set():
                    for auditor in self.venues:
                        auditor.close()         # ends what is asked
                continue
            if isinstance(audit, BaseException):
                raise audit
            if audit is None:
                left -= 1
            else:
                yield audit


def kept_books(run: Spine) -> Iterator[Kept]:
    """The run's books that were heard of, each with the feed that keeps it now."""
    names = {one.id: one.name for one in run.instruments()}
    feeds = [row.name for row in run.ledger.rows()]
    writes = {(top.venue, top.instrument, top.publisher) for top in run.newest_tops()}
    asked = run.said("venues") or {}
    for index, row in enumerate(run.book_ledger.rows()):
        venue, symbol = venues.NAMES[row.venue], row.name.partition(" ")[2]
        with contextlib.suppress(ConfigurationError):
            mode = asked.get(feeds[row.feed].rpartition(".")[0], {}).get("mode", "book")
            book = run.book(venues.get(venue).books(mode), symbol)
            instrument = book.image(0).instrument
            if (row.venue, instrument, row.feed) in writes:
                yield Kept(venue, symbol, names[instrument], feeds[row.feed], index, book)


@door("mantra audit")
def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(
        prog="mantra audit",
        description="Hold the venues' REST books against those of a running mantra, level by level.",
        epilog="What differs in two answers is told: the level, what the venue says, what was here when, and how the "
               "book was trusted. Scores go into the run's ledger. Exit code 1: some book is wrong.")
    add = parser.add_argument
    add("run", nargs="?", metavar="RUN", help="the run's name; not needed when there is only one")
    add("--run", dest="named", help=argparse.SUPPRESS)
    add("--venues", default="", metavar="NAME[,NAME...]", help="only these")
    add("--instruments", default="", metavar="NAME[,NAME...]", help="only these: btcusd, BTC-USD")
    add("--levels", type=int, default=LEVELS, metavar="N", help="a side, at most (%(default)s)")
    add("--every", type=positive_seconds, metavar="SECONDS", help="again and again; default: once")
    add("--duration", type=positive_seconds, metavar="SECONDS", help="end after that long")
    add("--quiet", action="store_true", help="only count in the run's ledger")
    add("--json", action="store_true", help="one JSON object on the last line of standard output")
    options = parser.parse_args(argv)
    if options.levels < 1:
        parser.error("--levels: at least 1")
    spawned = child.follow_parent()         # by `mantra live --audit`: only what is wrong is told, and not as a result
    began, stopping = time.monotonic(), threading.Event()
    books: dict[tuple[str, str], dict[str, Any]] = {}
    with mantra.attach(options.run or options.named) as run:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopping.set())
        if options.duration:
            timer = threading.Timer(options.duration, stopping.set)
            timer.daemon = True
            timer.start()
        while not stopping.is_set():
            due = time.monotonic() + (options.every or 0.0)
            try:
                auditor = Auditor(run, levels=options.levels, stopping=stopping,
                                  venues=list(filter(None, options.venues.split(","))),
                                  instruments=list(filter(None, options.instruments.split(","))))
                for audit in auditor.round():
                    if not (options.quiet or options.json or (spawned and not audit.differs)):
                        print(audit.line, file=sys.stderr if spawned else sys.stdout, flush=True)
                    count(books, audit)
            except ConfigurationError:
                if not options.every:       # else the books may still be on their way
                    raise
            if not options.every or not run.alive():
                break
            stopping.wait(max(1.0, due - time.monotonic()))
    audits, compared, agreed = (sum(book[what] for book in books.values()) for what in ("audits", "compared", "agreed"))
    score = agreed / compared if compared else None
    if options.json:
        print(json.dumps({"seconds": round(time.monotonic() - began, 3), "audits": audits, "levels": compared,
                          "agreed": agreed, "score": score, "books": list(books.values())}))
    elif not (options.quiet or spawned):
        print(f"{audits} audits of {len(books)} books: " + (
            f"{agreed:,} of {compared:,} levels agree ({score:.2%})" if score is not None else "nothing was compared"))
    return int(agreed < compared)


def count(books: dict[tuple[str, str], dict[str, Any]], audit: Audit) -> None:
    """Add an audit to what is told of its book."""
    kept = audit.kept
    told = books.setdefault((kept.venue, kept.instrument), {
        "venue": kept.venue, "instrument": kept.instrument, "symbol": kept.symbol, "audits": 0, "skipped": [],
        "compared": 0, "agreed": 0, "score": None, "mismatches": []})
    told["trust"] = audit.trust
    if audit.skipped:
        told["skipped"].append(audit.skipped)
        return
    told["audits"] += 1
    told["compared"] += audit.compared
    told["agreed"] += audit.compared - len(audit.differs)
    told["score"] = told["agreed"] / told["compared"] if told["compared"] else None
    if audit.differs:
        told["mismatches"].append({"utc_ns": audit.utc_ns, "trust": audit.trust, "why": audit.differs,
                                   "levels": audit.levels})


if __name__ == "__main__":
    sys.exit(main())
