"""replay: recorded bytes through the production path, no sockets. `python -m mantra.replay --help`."""
from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from mantra import venues
from mantra.client.recorded import Recorded, RecordedFeed, Survey
from mantra.core import ticks
from mantra.core.hot_path import Splice
from mantra.core.messages import Kind, Trust
from mantra.errors import ConfigurationError, MantraError
from mantra.runtime.options import Parser, door
from mantra.runtime.spine import MESSAGES
from mantra.tape import lines
from mantra.venues.instrument import Instrument
from mantra.venues.venue import Mode, Venue

CHUNK = 1024            # messages between two looks at what was published, and bytes of them: so little that
CHUNK_BYTES = 1 << 18   # queues of a running system's size, which stay in the CPU's cache, are not overrun
TRACKED = ("origin", "published", "trust_since_ns", "generation")     # differ from pass to pass by their nature,
COUNTED = ("sequence",)                 # and so does what a feed counts itself: books by stream that have no numbers


class Replay(RecordedFeed):
    """One recording through one feed, in memory of this process. `mode` "book" or "top". Books are cut to `depth`
    levels a side (0: as the recording, or else the venue, says); without `checksums` none is looked at."""

    def __init__(self, venue: Venue, recorded: Recorded, mode: Mode = "book", *, depth: int = 0,
                 checksums: bool = True) -> None:
        survey = Survey(venue, [recorded])
        super().__init__(venue, survey.symbols, mode, keep=depth or survey.depth, checksums=checksums)
        self.recorded = recorded
        self._snapshots = [(before, index, snapshot.body) for before, index, snapshot in self.snapshots(recorded)]
        self._tracked = TRACKED + (COUNTED if venue.schemes[mode] == "stream" else ())
        self._published = {name: self.spine.queue(f"{name}.{venue.name}", message).consumer()
                           for name, message in MESSAGES.items()}

    def once(self) -> None:
        """The recording as it happened: snapshots where they arrived. ConfigurationError: it seems another venue's."""
        self.feed.begin()
        self._play(self._snapshots, lambda: None)
        counts = self.row.counts()
        if not self.symbols and counts["malformed"]:
            raise ConfigurationError(f"no message of the recording is {self.recorded.venue.name}'s book or trade: "
                                     "is --venue right?")

    def restore(self) -> list[tuple[int, int, bytes]]:
        """The state before the first message: first snapshots loaded. Returns the others, where they arrived."""
        self.feed.begin()
        loaded: set[int] = set()
        later: list[tuple[int, int, bytes]] = []
        for before, index, body in self._snapshots:
            if index not in loaded and self.feed.splice(index, body) == Splice.SPLICED:
                loaded.add(index)
            else:
                later.append((before, index, body))
        self._skip()
        return later

    def timed(self) -> tuple[int, str]:
        """A pass from the restored initial state: nanoseconds that the messages took, and a digest of the updates,
        trades and tops they published and the books they left."""
        later, digest = self.restore(), hashlib.blake2b(digest_size=16)
        cycles = self._play(later, lambda: self._digest(digest))
        for book in self.books:
            for side in (book.bids(), book.asks()):
                digest.update(np.ascontiguousarray(side).tobytes())
                digest.update(b"|")
        return self.spine.clock.ns(cycles), digest.hexdigest()

    def _play(self, snapshots: Sequence[tuple[int, int, bytes]], published: Callable[[], None]) -> int:
        """All messages, with these snapshots where they arrived; the cycles that the messages took. `published` is
        called before the queues are full."""
        at, cycles, offsets = 0, 0, self.recorded.offsets
        for before, index, body in [*snapshots, (len(self.recorded), -1, b"")]:
            while at < before:
                full = int(np.searchsorted(offsets, offsets[at] + CHUNK_BYTES)) - 1
                until = min(at + CHUNK, before, max(at + 1, full))
                cycles += self.feed.messages(self.recorded.texts, offsets, at, until)
                at = until
                published()
            if index >= 0 and not self.feed.state(index)[0]:       # a live book needs none
                self.feed.splice(index, body)
                self._skip()
        return cycles

    def _skip(self) -> None:
        for name, consumer in self._published.items():
            self._published[name] = consumer.queue.consumer()

    def _digest(self, digest: Any) -> None:
        for consumer in self._published.values():
            while len(batch := consumer.batch(limit=8192)):
                for name in self._tracked:
                    if name in (batch.dtype.names or ()):
                        batch[name] = 0
                if "kind" in (batch.dtype.names or ()):
                    batch["price"][batch["kind"] == Kind.RESET] = 0         # the generation
                digest.update(batch.tobytes())

    def result(self, *, books: bool) -> dict[str, Any]:
        """What the first pass counted, and with `books` every level of every book."""
        counts = self.row.counts()
        return {
            "frames": len(self.recorded),
            **{name: counts[name] for name in (
                "messages", "updates", "trades", "tops", "malformed", "gaps", "trade_gaps")},
            "checksums": {"ok": counts["checksums_ok"], "failed": counts["checksums_failed"]},
            "ledger": counts,
            "books": {symbol.name: self._book(symbol) for symbol in self.symbols} if books else {},
        }

    def _book(self, symbol: Instrument) -> dict[str, Any]:
        book = self.books[symbol.id]
        _, trust, _, sequence, held = self.feed.state(symbol.id)

        def rows(side: np.ndarray[Any, Any]) -> list[list[str]]:
            return [[ticks.text(price, symbol.price_decimals, True), ticks.text(size, symbol.size_decimals, True)]
                    for price, size in side.tolist()]

        return {"trust": Trust(trust).name.lower(), "sequence": sequence, "waiting": held,
                "bids": rows(book.bids()), "asks": rows(book.asks())}


def parser() -> argparse.ArgumentParser:
    made = Parser(
        prog="python -m mantra.replay", description="Run a recording through the production path, without sockets.",
        epilog="PATH is a recording (.zst too), or a folder of files named after the venue. Formats: cryptofeed's, "
               "hftbacktest's, depthcharge's, and plain frames, one a line, or one in a file NAME.json.")
    made.add_argument("paths", nargs="+", metavar="PATH", help="stream and REST files of one venue, in any order")
    made.add_argument("--venue", required=True, help=f"whose bytes they are: {', '.join(venues.VENUES)}")
    made.add_argument("--mode", choices=("book", "top", "orders"), default="book", help="book: diffs and "
                      "snapshots; top: the partial-depth streams; orders: order by order (default: %(default)s)")
    made.add_argument("--depth", type=int, default=0, metavar="N", help="cut books to N levels a side, as many as "
                      "were subscribed (default: what the recording says)")
    made.add_argument("--no-checksums", action="store_true", help="do not look at the venue's checksums")
    made.add_argument("--books", action="store_true", help="show every book at the end, all its levels in --json")
    made.add_argument("--repeat", type=int, default=0, metavar="N", help="time N further passes, whose results must be "
                      "equal, and give the median time per message")
    made.add_argument("--json", action="store_true", help="one JSON object on the last line of standard output")
    return made


@door("mantra replay", interrupted=1)
def main(argv: Sequence[str] | None = None) -> int:
    options = parser().parse_args(argv)
    if options.repeat < 0:
        parser().error("--repeat: a number of passes, 1 or more")
    if options.depth < 0:
        parser().error("--depth: a number of levels, 1 or more")
    venue = venues.get(options.venue)
    replay = Replay(venue, Recorded(venue, lines.read(options.paths, venue.name)), options.mode,
                    depth=options.depth, checksums=not options.no_checksums)
    replay.once()
    result = replay.result(books=options.books)
    if options.repeat:
        result |= repeated(replay, options.repeat)
    if options.json:
        print(json.dumps(result))
    else:
        show(result)
    return 0


def repeated(replay: Replay, passes: int) -> dict[str, Any]:
    """Time `passes` passes. MantraError when one gives another result than the first."""
    times: list[float] = []
    first = ""
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        for number in progress.track(range(passes), description="passes"):
            ns, digest = replay.timed()
            first = first or digest
            if digest != first:
                raise MantraError(f"pass {number + 1} published or left something else than the first: {digest} "
                                  f"instead of {first}")
            times.append(ns / len(replay.recorded))
    return {"ns_per_message": round(statistics.median(times), 1), "passes": passes, "digest": first}


def show(result: dict[str, Any]) -> None:
    """The same for people."""
    console = Console()
    counts = Table("frames", "updates", "trades", "tops", "malformed", "gaps", title="replay")
    counts.add_row(*(f"{result[name]:,}" for name in ("frames", "updates", "trades", "tops", "malformed", "gaps")))
    console.print(counts)
    if "ns_per_message" in result:
        console.print(f"{result['ns_per_message']:,} ns per message (median of {result['passes']} equal passes)")
    if result["books"]:
        books = Table("book", "trust", "bids", "asks", "best bid", "best ask")
        for name, book in result["books"].items():
            best = [" x ".join(reversed(book[side][0])) if book[side] else "-" for side in ("bids", "asks")]
            books.add_row(name, book["trust"], str(len(book["bids"])), str(len(book["asks"])), *best)
        console.print(books)


if __name__ == "__main__":
    sys.exit(main())
