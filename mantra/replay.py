"""replay: what was recorded, again: bytes through the production path, or an archive through the production queues.

A recording is one feed in memory of this process, as fast as can be. An archive (a folder of segments, or some of them)
is a run like any other, for others to attach to; keys steer it where stdin is a terminal. `mantra replay --help`.
"""
from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import re
import select
import statistics
import sys
import termios
import threading
import time
import tty
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from mantra import venues
from mantra.archive.options import progress
from mantra.archive.playback import book_told, counted
from mantra.client.recorded import Recorded, RecordedFeed, Survey
from mantra.client.rerun import Rerun
from mantra.core.hot_path import Feed, Splice
from mantra.core.messages import Kind
from mantra.errors import ConfigurationError, MantraError
from mantra.live import on_stop
from mantra.runtime.options import Parser, door, positive_seconds
from mantra.runtime.spine import MESSAGES
from mantra.tape import lines, raw
from mantra.tape.segment import files, is_archive
from mantra.telemetry.drawing import wall
from mantra.topologies import playback
from mantra.topologies.playback import SECOND, Playback
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
        return counted(len(self.recorded), self.row.counts()) | {
            "books": {symbol.name: feed_book(self.feed, symbol.id) for symbol in self.symbols} if books else {}}


def feed_book(feed: Feed, index: int) -> dict[str, Any]:
    book, (_, trust, _, sequence, held) = feed.books[index], feed.state(index)
    return book_told(trust, sequence, held, book.bids(), book.asks(), feed.scale(index))


EPILOG = """\
A recording is .zst too, or a folder of files named after the venue. Formats: cryptofeed's, hftbacktest's,
depthcharge's, and plain frames, one a line, or one in a file NAME.json.

Keys, while an archive is played: space holds it and lets it go on; . is one batch, m one message, s one second; left
and right, or < and >, are 10 seconds back and forth; + and - double and halve the speed; q ends it.
"""


def parser() -> argparse.ArgumentParser:
    made = Parser(
        prog="mantra replay", formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EPILOG,
        description="Play what was recorded: an archive as a run that others can attach to (client, ui, shm, actors\n"
                    "of yours), or a recording through the production path, without sockets.")
    made.add_argument("paths", nargs="+", metavar="PATH", help="an archive: its folder, or *.mantra files; or stream "
                      "and REST files of one venue, in any order")
    made.add_argument("--books", action="store_true", help="show every book at the end, all its levels in --json")
    made.add_argument("--json", action="store_true", help="one JSON object on the last line of standard output")
    of = made.add_argument_group("of an archive")
    of.add_argument("--speed", default="max", metavar="N|max", help="recorded seconds a second; max (default): as fast "
                    "as it is read")
    of.add_argument("--from", dest="since", metavar="TIME", help="UTC: 2026-01-31T12:00:00.5, or ns since 1970")
    of.add_argument("--to", dest="until", metavar="TIME", help="what was published before then")
    of.add_argument("--venues", default="", metavar="NAME[,NAME...]", help="these alone")
    of.add_argument("--instruments", default="", metavar="NAME[,NAME...]", help="these alone: btc-usdt, 'eth*'")
    of.add_argument("--step", choices=("message", "batch", "second"), help="hold, and play so much for each line of "
                    "standard input")
    of.add_argument("--topology", metavar="NAME|FILE", help="what stands behind the player, as behind listeners: bbo "
                    "(default), depth, or a TOML file")
    of.add_argument("--grpc", metavar="HOST:PORT", help="serve it there")
    of.add_argument("--ui", action="store_true", help="show it in the terminal")
    of.add_argument("--run", metavar="NAME", help="what others attach to (default: mantra, or the next free)")
    of.add_argument("--duration", type=positive_seconds, metavar="SECONDS", help="end after that long")
    of = made.add_argument_group("of a recording, or of the tape in an archive")
    of.add_argument("--venue", help=f"whose bytes they are: {', '.join(venues.VENUES)}; of an archive: instead of what "
                    "was kept, tell that venue's feeds again what its tape has (mantra capture --raw)")
    of.add_argument("--mode", choices=("book", "top", "orders"), default="book", help="book: diffs and snapshots; top: "
                    "the partial-depth streams; orders: order by order (default: %(default)s)")
    of.add_argument("--depth", type=int, default=0, metavar="N", help="cut books to N levels a side, as many as were "
                    "subscribed (default: what the recording says)")
    of.add_argument("--no-checksums", action="store_true", help="do not look at the venue's checksums")
    of.add_argument("--repeat", type=int, default=0, metavar="N", help="time N further passes, whose results must be "
                    "equal, and give the median time per message")
    return made


@door("mantra replay", interrupted=1)
def main(argv: Sequence[str] | None = None) -> int:
    options = parser().parse_args(argv)
    if options.repeat < 0:
        parser().error("--repeat: a number of passes, 1 or more")
    if options.depth < 0:
        parser().error("--depth: a number of levels, 1 or more")
    archived = [path for path in map(Path, options.paths) if is_archive(path)]
    if archived and options.venue:
        return retold(options)
    if archived:
        return played(options)
    if not options.venue:
        parser().error("--venue: whose bytes are these? (An archive, which says so itself, has files *.mantra)")
    return replayed(options)


STDIN = 0
STUCK_S = 2.0
KEY = re.compile(rb"\x1b\[[A-D]|[\s\S]")
STEPS: dict[bytes, Any] = {b".": "batch", b"m": "message", b"s": "second"}
JUMPS = {b"\x1b[D": -10, b"<": -10, b"\x1b[C": 10, b">": 10}
BANNER = "PLAYED   space hold, go   . m s a batch, message, second   < > 10 s back, forth   + - speed"


# A recording ---------------------------------------------------------------------------------------------------------


def replayed(options: argparse.Namespace) -> int:
    venue = venues.get(options.venue)
    replay = Replay(venue, Recorded(venue, lines.read(options.paths, venue.name)), options.mode,
                    depth=options.depth, checksums=not options.no_checksums)
    replay.once()
    result = replay.result(books=options.books)
    if options.repeat:
        result |= repeated(replay, options.repeat)
    tell(result, as_json=options.json)
    return 0


def retold(options: argparse.Namespace) -> int:
    """A venue's tape in an archive: each connection's through a feed as it had one."""
    if options.repeat or options.depth or options.no_checksums:
        parser().error("--repeat, --depth, --no-checksums: of recordings; a tape says itself what was asked for")
    venue, paths, rerun = venues.get(options.venue).name, files(options.paths), Rerun()
    mine = {f"raw.{name}" for name, of in raw.connections(paths).items() if of == venue}
    if not mine:
        raise ConfigurationError(f"no tape of {venue} in {', '.join(options.paths)}: capture with --raw")
    with progress() as shown:
        for table, block in shown.track(raw.blocks(paths), total=None, description="telling the feeds again"):
            rerun.tell(block, {number: name for number, name in table.feeds.items() if name in mine})
    counts: Counter[str] = Counter()
    for feed in rerun.feeds.values():
        counts.update(feed.counts())
        for problem in feed.problems:
            print(problem, file=sys.stderr)
    tell(counted(sum(feed.frames for feed in rerun.feeds.values()), counts) | {"books": {
        row["symbol"]: feed_book(feed.feed, index) for feed in rerun.feeds.values() if feed.feed and options.books
        for index, row in enumerate(feed.what["books"])}}, as_json=options.json)
    return 0


def repeated(replay: Replay, passes: int) -> dict[str, Any]:
    """Time `passes` passes. MantraError when one gives another result than the first."""
    times: list[float] = []
    first = ""
    with progress() as shown:
        for number in shown.track(range(passes), description="passes"):
            ns, digest = replay.timed()
            first = first or digest
            if digest != first:
                raise MantraError(f"pass {number + 1} published or left something else than the first: {digest} "
                                  f"instead of {first}")
            times.append(ns / len(replay.recorded))
    return {"ns_per_message": round(statistics.median(times), 1), "passes": passes, "digest": first}


# An archive ----------------------------------------------------------------------------------------------------------


def played(options: argparse.Namespace) -> int:
    keys_from, keys_to = os.pipe()      # what the terminal does not need itself
    services: dict[str, list[str]] = {"terminal": ["--keys-to", str(keys_to), "--banner", BANNER]} if options.ui else {}
    if options.grpc:
        services["grpc"] = ["--listen", options.grpc]
    try:
        speed = options.speed if options.speed == "max" else float(options.speed)
    except ValueError:
        raise ConfigurationError(f"--speed: a number above 0, or max, not {options.speed!r}") from None
    given = {name: getattr(options, name) for name in ("since", "until", "venues", "instruments", "topology", "run")}
    stopping = threading.Event()
    system = playback.made(options.paths, speed=speed, services=services, **{
        name: value for name, value in given.items() if value})
    system.inherited = (keys_to,)
    began = time.monotonic()
    with system, Keys(system, stopping, options.step, keys_from if options.ui else STDIN) as keys:
        on_stop(lambda *_: stopping.set())
        if not options.step:
            system.resume()
        failure = watch(system, keys, stopping, options.duration, quiet=options.ui)
        result = system.result(books=options.books) | {
            "seconds": round(time.monotonic() - began, 3), "complete": system.done, "run": system.spine.run}
    os.close(keys_from)
    os.close(keys_to)
    if failure:
        raise MantraError(failure)
    tell(result, as_json=options.json)
    return 0


def watch(system: Playback, keys: Keys, stopping: threading.Event, duration: float | None, *,
          quiet: bool) -> str | None:
    """Until all is played, or somebody ends it; what failed, in one line."""
    ends = None if duration is None else time.monotonic() + duration
    player, console = system.player, Console(stderr=True)
    where = "".join(f", {name} on {address}" for name, address in system.addresses.items())
    if not quiet:
        print(f"run {system.spine.run}{where}; Ctrl-C ends it", file=sys.stderr)
    with Progress(TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"),
                  console=console, transient=True, disable=quiet or not console.is_terminal) as progress:
        task = progress.add_task("", total=max(1, player.end_ns - player.start_ns))
        moved = time.monotonic(), 0
        while not (stopping.is_set() or system.done):
            keys.read(0.05)
            pace = "held" if player.holds else "max" if not player.speed else f"x{player.speed:g}"
            if player.holds or system.time_ns != moved[1]:
                moved = time.monotonic(), system.time_ns
            elif time.monotonic() - moved[0] > STUCK_S:
                pace = f"waits for a reader: {', '.join(system.readers()) or 'an actor of its own'}"
                if not console.is_terminal:
                    print(pace, file=sys.stderr)
                    moved = math.inf, moved[1]
            progress.update(task, completed=system.time_ns - player.start_ns,
                            description=f"{wall(system.time_ns)} UTC  {pace}")
            if failure := system.failure():
                return failure
            if system.left or (ends is not None and time.monotonic() >= ends):
                break
    return None


class Keys:
    """Steers a playback by what is typed: on the keyboard, where stdin is one, else what `source` is told by who reads
    that; with `step` by lines."""

    def __init__(self, system: Playback, stopping: threading.Event, step: str | None, source: int) -> None:
        self.system, self.stopping, self.step, self.source = system, stopping, step, source
        # Not of a job in the background: touching the terminal would stop it.
        self._tty = source == STDIN and os.isatty(STDIN) and os.tcgetpgrp(STDIN) == os.getpgrp()
        self._was: list[Any] | None = None

    def __enter__(self) -> Keys:
        if self._tty:
            self._was = termios.tcgetattr(STDIN)
            tty.setcbreak(STDIN)
        return self

    def __exit__(self, *_: object) -> None:
        if self._was is not None:
            termios.tcsetattr(STDIN, termios.TCSADRAIN, self._was)

    def read(self, seconds: float) -> None:
        """Do what is asked for within so long."""
        if not (self._tty or self.step or self.source != STDIN):
            self.stopping.wait(seconds)
            return
        if not select.select([self.source], [], [], seconds)[0]:
            return
        typed = os.read(self.source, 64)
        if not typed:                   # the end of a file of lines
            self.stopping.set()
        for key in KEY.findall(typed):
            self.do(key)

    def do(self, key: bytes) -> None:
        system, player = self.system, self.system.player
        if key in STEPS or (key == b"\n" and self.step):
            system.step(by=STEPS.get(key, self.step or "batch"))
        elif key == b" ":
            (system.resume if player.holds else system.pause)()
        elif key in JUMPS:
            system.seek(system.time_ns + JUMPS[key] * SECOND)
        elif key in b"+-":
            system.speed((player.speed or 1.0) * (2.0 if key == b"+" else 0.5))
        elif key == b"q":
            self.stopping.set()


def tell(result: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result), flush=True)
        return
    console = Console()
    counts = Table("frames", "updates", "trades", "tops", "malformed", "gaps", title="replay")
    counts.add_row(*(f"{result[name]:,}" for name in ("frames", "updates", "trades", "tops", "malformed", "gaps")))
    console.print(counts)
    if "digest" in result and "played" in result:
        console.print(f"{result['played']:,} messages in {result['seconds']:g} s, digest {result['digest']}")
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
