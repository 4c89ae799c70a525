"""capture: `mantra capture`: keeps all messages of a running mantra, or of feeds of its own, in files."""
from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

import mantra
from mantra.archive.capture import Capture
from mantra.errors import ConfigurationError
from mantra.listener.planner import progress
from mantra.live import SIMULATED, feed_options, interrupt, log_to, on_stop
from mantra.runtime.options import Parser, door
from mantra.runtime.settings import read
from mantra.runtime.spine import Spine, running
from mantra.runtime.tile import Tile
from mantra.runtime.topology import Node
from mantra.telemetry.drawing import amount
from mantra.topologies.system import Simulated, System, of_endpoints
from mantra.venues.instrument import InstrumentTable

KEPT = ("updates", "trades", "orders")
RULES = ("raw", "out", "rotate", "rotate_bytes", "keep_days", "keep_bytes", "limit", "flush", "sync", "level")
EVERY_S = 5.0           # between two lines where there is no terminal
CLOSING_S = 30.0        # a slow disk may have much to do at the end


def parser() -> argparse.ArgumentParser:
    made = Parser(
        prog="mantra capture", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Keep every message in files: of a mantra that is running, or of feeds of its own.",
        epilog="""\
  mantra capture --out DIR                                      what is running (mantra live, say), from now on
  mantra capture --out DIR --venues kraken --instruments all    feeds of its own, until Ctrl-C
  mantra capture --out DIR --simulated                          the same of simulated venues, to try it

Updates (with trust and batch marks), trades and single orders are kept, with the instruments, the clock, the ledger
and images of all books. It never slows a feed: what it is too slow for is counted here, in the ledger (overruns,
unwritten) and in the files. A full disk stops it, and it goes on in a new file when there is room. Whatever kills it
costs what was not yet written, --flush seconds at most. `mantra archive` shows the files, `mantra replay` plays them.

In a topology of your own one line keeps all its queues, capture = "DIR", or some of them:
  capture = {out = "DIR", reads = ["updates", "signals"], rotate = "15m", keep_bytes = "100GB"}""")
    add = made.add_argument
    add("--out", required=True, metavar="DIR", help="for the files, whose names begin with their first moment (UTC)")
    feeds = made.add_argument_group("what is kept")
    add = feeds.add_argument
    add("--run", metavar="NAME", help="the run to attach to (default: the only one there is); with feeds of its own: "
        "what others attach to")
    add("--reads", metavar="QUEUE[,...]", help="families of the run's queues (default: those there are of "
        f"{', '.join(KEPT)}); also tops, world, or a queue of your own")
    add("--raw", action="store_true", default=None, help="also everything that the feeds were told and said, byte for "
        "byte; a run to attach to must have been started with --raw, or raw = true")
    files = made.add_argument_group("files")
    add = files.add_argument
    add("--rotate", metavar="TIME", help="another file so often, at whole hours of UTC (default: 1h; 30s, 15m, 1d)")
    add("--rotate-bytes", metavar="BYTES", help="or when one is so large (default: 1GB)")
    add("--keep-days", metavar="DAYS", help="remove files that are older")
    add("--keep-bytes", metavar="BYTES", help="remove the oldest files when all of DIR are larger; "
        "none becomes larger than a quarter of it")
    add("--limit", metavar="BYTES", help="DIR may not grow beyond: as a full disk")
    add("--flush", metavar="SECONDS", help="write what has come at least so often (default: 10)")
    add("--sync", metavar="SECONDS", help="sync to disk when something is written and the last time was so long ago "
        "(default: 1), or \"never\"")
    add("--level", type=int, metavar="N", help="of zstd, 1 to 19 (default: 1)")
    own = made.add_argument_group("feeds of its own: with --venues, --instruments, --endpoints or --simulated")
    own.add_argument("--instruments", metavar="NAME[,...]", help="ethbtc, ETH-BTC, a glob, or \"all\" (default)")
    own.add_argument("--simulated", action="store_true", help="of simulated venues on loopback")
    feed_options(made, own, "poller")
    made.set_defaults(reader="poller")
    return made


@door("mantra capture")
def main(argv: Sequence[str] | None = None) -> int:
    options = parser().parse_args(argv)
    on_stop(interrupt)
    console = Console(stderr=True)
    log_to(console, options.verbose)
    rules = {name: value for name in RULES if (value := getattr(options, name)) is not None}
    reads = options.reads and tuple(options.reads.split(","))
    Capture("capture", reads or KEPT, **rules)          # what is wrong is told before anything starts
    began, stopping = time.monotonic(), threading.Event()
    with contextlib.ExitStack() as stack:
        own = options.simulated or any((options.venues, options.instruments, options.endpoints))
        capture, tile, run, failure = (feeds if own else attached)(options, reads, rules, stack)
        on_stop(lambda *_: stopping.set())
        told = Told(capture, run, console)
        why = told.watch(stopping, options.duration, failure)
        tile.stop()
        stack.close()
        tile.join(CLOSING_S)
    why = why or failed(tile)
    if why:
        print(f"mantra capture: {why}", file=sys.stderr)
    told.end(time.monotonic() - began, as_json=options.json)
    return 1 if why else 0


Started = tuple[Capture, Tile, Spine, Callable[[], "str | None"]]


def attached(options: argparse.Namespace, reads: Sequence[str] | None, rules: dict[str, Any],
             stack: contextlib.ExitStack) -> Started:
    """To a running system."""
    if options.run is None and not running():
        raise ConfigurationError(
            "no mantra is running to attach to: start one (mantra live), let me run feeds (--venues, --instruments, "
            "--endpoints), or try it with --simulated")
    run = stack.enter_context(mantra.attach(options.run))
    kept = reads or [family for family in KEPT if run.queue_names(family)] or KEPT
    capture = Capture(f"capture-{os.getpid()}", kept, **rules)
    tile = Tile(capture, run)
    tile.setup()
    tile.start()
    return capture, tile, run, lambda: failed(tile)


def feeds(options: argparse.Namespace, reads: Sequence[str] | None, rules: dict[str, Any],
          stack: contextlib.ExitStack) -> Started:
    """Of a system of its own, in this process."""
    given = {name: getattr(options, name) for name in (
        "venues", "instruments", "endpoints", "mode", "reader", "per_connection", "run", "raw")}
    table = None
    if options.simulated:
        named = of_endpoints(read(venues=options.venues))
        simulated = stack.enter_context(Simulated(named.venues, SIMULATED))
        given |= {"endpoints": simulated.endpoints, "run": options.run or f"simulated-{os.getpid()}"}
        table = InstrumentTable()
    settings = of_endpoints(read(**given | {"instruments": given["instruments"] or ("all",)}))
    kept = tuple(reads or KEPT[:3 if settings.mode == "orders" else 2])
    capturing = Node("capture", "capture", kept, (), rules, vital=True)
    nodes = [*(Node.listener(venue, venue=venue, mode=settings.mode) for venue in settings.venues), capturing]
    system = stack.enter_context(System(settings, nodes=nodes, table=table))
    tile = next(tile for tile in system.tiles if tile.name == "capture")
    assert isinstance(tile.actor, Capture)
    return tile.actor, tile, system.spine, system.failure


def failed(tile: Tile) -> str | None:
    """Of what, if it did."""
    return None if tile.error is None else str(tile.error) or type(tile.error).__name__


class Told:
    """What is told of a capture while it runs, and when it is over."""

    def __init__(self, capture: Capture, run: Spine, console: Console) -> None:
        self._capture, self._run, self._console = capture, run, console
        self._at, self._before, self._rate = time.monotonic(), 0, 0.0

    def watch(self, stopping: threading.Event, duration: float | None, failure: Callable[[], str | None]) -> str | None:
        """Until it is over; why, if it should not be."""
        capture, at, told = self._capture, self._at, self._at
        print(f"run {self._run.run} to {capture.files.folder}; Ctrl-C ends it", file=sys.stderr)
        console = self._console
        with console.status("", refresh_per_second=4) if console.is_terminal else contextlib.nullcontext() as status:
            while not stopping.wait(0.1):
                now = time.monotonic()
                if why := failure():
                    return why
                if capture.ended.is_set():
                    print(f"the run {self._run.run} has ended", file=sys.stderr)
                    return None
                if duration is not None and now - at >= duration:
                    return None
                if now - told >= (0.5 if status else EVERY_S):
                    told = now
                    line = self._line(now)
                    status.update(line) if status else print(line, file=sys.stderr)
        return None

    def _line(self, now: float) -> str:
        counts = self._capture.counts()
        if now - self._at >= 1.0:
            self._rate = (counts["messages"] - self._before) / (now - self._at)
            self._at, self._before = now, counts["messages"]
        live = [sum(each) for each in zip(*progress(self._run).values(), strict=True)]
        return "  ".join((
            f"stopped: {self._capture.files.why}" if self._capture.files.why else "capturing",
            *([f"{live[0]:,} of {live[1]:,} books live"] if live else []),
            f"{amount(self._rate)} messages/s", f"{counts['messages']:,} messages",
            f"{amount(counts['bytes'])}B in {counts['files']} files", *self._losses(counts)))

    @staticmethod
    def _losses(counts: dict[str, int]) -> list[str]:
        return [f"{counts[what]:,} {words}" for what, words in (
            ("lost", "lost to laps"), ("unwritten", "not written")) if counts[what]]

    def end(self, seconds: float, *, as_json: bool) -> None:
        capture, counts = self._capture, self._capture.counts()
        streams = {name: {"messages": stream.taken, "written": stream.written, "bytes": stream.bytes,
                          "bytes_per_message": round(stream.bytes / stream.written, 3) if stream.written else None}
                   for name, stream in capture.streams.items()}
        if as_json:
            print(json.dumps({"run": self._run.run, "out": str(capture.files.folder), "seconds": round(seconds, 3),
                              "state": capture.files.why or ("incomplete" if self._losses(counts) else "complete"),
                              **counts, "streams": streams}), flush=True)
            return
        table = Table("stream", *("messages", "bytes", "bytes/message"), box=None, header_style="bold")
        for name, told in streams.items():
            table.add_row(name, f"{told['messages']:,}", f"{told['bytes']:,}", str(told["bytes_per_message"] or ""))
        self._console.print(table)
        losses = ", ".join(self._losses(counts)) or "nothing lost"
        print(f"{counts['bytes']:,} bytes in {counts['files']} files in {capture.files.folder}; {counts['images']:,} "
              f"images of books; {losses}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
