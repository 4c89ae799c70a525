"""live: the main job. Feeds, world view, terminal and gRPC service of a run. `python -m mantra.live --help`."""
from __future__ import annotations

import argparse
import contextlib
import json
import logging
import logging.handlers
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.logging import RichHandler

from mantra import venues
from mantra.core import ticks
from mantra.core.histogram import Histogram
from mantra.listener.planner import progress
from mantra.runtime.options import Parser, door, positive_seconds
from mantra.runtime.settings import Settings, read
from mantra.runtime.spine import RunInstrument, Spine
from mantra.telemetry.collector import books
from mantra.topologies.system import SHIPPED, Simulated, System, load_topology, of_endpoints
from mantra.venues.instrument import InstrumentTable

SIMULATED = ("eth-btc", "btc-usdt", "eth-usdt")
MOST_TOLD = 8       # instruments in a line
PERCENTILES = {"p50": 50.0, "p99": 99.0, "p999": 99.9}


def feed_options(made: Parser, group: argparse._ActionsContainer, reader: str) -> None:
    """What every door has that runs feeds; those of the feeds in `group`. `reader`: the usual one there."""
    add = group.add_argument
    add("--venues", metavar="NAME[,NAME...]", help=f"of {', '.join(venues.VENUES)} (default: those of --endpoints, "
        f"else {', '.join(Settings.venues)})")
    add("--mode", choices=("book", "top", "orders"), help="book: whole books from diffs and snapshots (default); top: "
        "the venues' partial-depth streams, first levels only; orders: books derived from every single order, of the "
        "venues that tell")
    add("--endpoints", metavar="FILE", help="TOML of addresses to use instead of the real venues'")
    add("--reader", choices=("threads", "poller"), help="threads: one for each connection; poller: one thread for all "
        f"of a venue's (default: {reader})")
    add("--per-connection", type=int, metavar="N", help="instruments on one connection, at most")
    add = made.add_argument
    add("--duration", type=positive_seconds, metavar="SECONDS", help="end after that long; default: Ctrl-C")
    add("--json", action="store_true", help="one JSON object on the last line of standard output")
    add("--verbose", action="store_true", help="log more to standard error")


def log_to(console: Console, verbose: bool) -> None:
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(message)s",
                        handlers=[RichHandler(console=console, show_path=False)])


def parser() -> argparse.ArgumentParser:
    made = Parser(
        prog="mantra live", description="Keep the venues' books, merge them into one world view, show and serve it.",
        epilog="Without arguments venues are simulated on loopback; real ones: mantra live --instrument-name ethbtc")
    add = made.add_argument
    add("--instrument-name", "--instruments", dest="instruments", metavar="NAME[,NAME...]",
        help="what to watch: ethbtc, ETH-BTC, eth/btc; \"all\" or a glob ('*-usdt'): what fits, wherever it is traded; "
        "the first is what BookSummary serves")
    add("--topology", metavar="NAME|FILE", help=f"{', '.join(SHIPPED)} (default: bbo), or a TOML file")
    add("--draw", action="store_true", help="print the topology as a Mermaid chart and end")
    add("--raw", action="store_true", default=None, help="keep tapes of all that the feeds are told, for mantra "
        "capture --raw")
    add("--settings", metavar="FILE", help="TOML of settings; the command line wins")
    add("--run", metavar="NAME", help="what others attach to (default: mantra, or the next free)")
    add("--grpc", metavar="HOST:PORT", help="where to serve (default: 127.0.0.1:50051 or the next free); 'off': do not")
    add("--metrics", metavar="HOST:PORT", nargs="?", const="", help="let Prometheus scrape the run there (without an "
        "address: 127.0.0.1:9464 or the next free)")
    add("--audit", type=positive_seconds, metavar="SECONDS", help="hold the books against the venues' REST books so "
        "often; what is wrong is told on standard error, scores in the ledger")
    add("--headless", action="store_true", help="no terminal; a line now and then on standard error")
    feed_options(made, made, "threads")
    return made


def on_stop(handler: Any) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def interrupt(*_: object) -> None:
    """Give up starting, whatever it waits for; once."""
    on_stop(signal.SIG_IGN)
    raise KeyboardInterrupt


@door("mantra live")
def main(argv: Sequence[str] | None = None) -> int:
    options = parser().parse_args(argv)
    on_stop(interrupt)
    log_to(Console(stderr=True), options.verbose)
    return live(options)


def live(options: argparse.Namespace) -> int:
    given = {name: getattr(options, name) for name in (
        "instruments", "venues", "mode", "topology", "endpoints", "reader", "per_connection", "raw", "run")}
    given["grpc"] = None if options.grpc == "off" else options.grpc
    settings = of_endpoints(read(options.settings, **given))
    topology = load_topology(settings.topology, settings.venues)
    for name in settings.venues:
        venues.get(name)
    if options.draw:
        print(topology.mermaid(), end="")
        return 0
    table = None
    with contextlib.ExitStack() as stack:
        banner = ""
        if not {"instruments", "endpoints"} & settings.named:
            # Nobody named a market: the simulated ones, and nothing of them is kept on disk.
            simulated = stack.enter_context(Simulated(settings.venues, SIMULATED))
            given |= {"instruments": SIMULATED, "endpoints": simulated.endpoints}
            settings, table = read(options.settings, **given), InstrumentTable()
            banner = "SIMULATED venues on loopback. Real ones: mantra live --instrument-name ethbtc"
        services: dict[str, list[str]] = {}
        if options.grpc != "off":
            # Only what the user named is fatal when it is taken; the default moves on.
            services["grpc"] = ["--listen", settings.grpc] if "grpc" in settings.named else []
        if options.metrics is not None:
            services["metrics"] = ["--listen", options.metrics] if options.metrics else []
        shown = any(node.kind == "terminal" for node in topology.nodes)
        if shown and not options.headless and sys.stdout.isatty():
            services["terminal"] = ["--banner", banner]
            if sys.stderr.isatty():     # what is logged would be drawn over: it is shown when the terminal has left
                held = logging.handlers.MemoryHandler(1_000, logging.CRITICAL + 1, logging.root.handlers[0])
                logging.root.handlers[:] = [held]
                stack.callback(held.close)
        if options.audit is not None:
            services["audit"] = ["--every", str(options.audit), *["--quiet"] * ("terminal" in services)]
        system = System(settings, services=services, table=table)
        started = time.monotonic()
        with system:
            stopping = threading.Event()
            on_stop(lambda *_: stopping.set())
            start = Start(system, quiet="terminal" in services)
            failure = watch(system, start, stopping, options.duration, banner=banner)
            result = summary(system.spine, time.monotonic() - started) if options.json else {}
            result |= {"start": start.summary(), "run": system.spine.run, "simulated": bool(banner),
                       "services": system.addresses}
    if failure:
        print(f"mantra live: {failure}", file=sys.stderr)
    if options.json:
        print(json.dumps(result), flush=True)
    return 1 if failure else 0


class Start:
    """How far the start is: one line that a terminal rewrites, elsewhere a line when it has changed."""

    def __init__(self, system: System, *, quiet: bool) -> None:
        self.system, self.quiet = system, quiet
        self.live_s: float | None = None            # until every book was live for the first time
        self._began = self._looked = time.monotonic()
        self._status = Console(stderr=True).status("") if sys.stderr.isatty() and not quiet else None
        self._told = ""
        for name, estimate in system.estimates.items():
            if estimate.seconds > 5.0 and not quiet:
                print(f"{name}: {estimate.connections} connections, about {estimate.seconds:.0f} s at its pace",
                      file=sys.stderr)

    def tell(self, *, every_s: float = 0.5) -> None:
        """Look, if the last look is long ago."""
        if self.live_s is not None or time.monotonic() - self._looked < every_s:
            return
        self._looked = time.monotonic()
        now = progress(self.system.spine)
        if done := bool(now) and all(live == of for live, of in now.values()):
            self.live_s = self._looked - self._began
        text = ", ".join(f"{name} {live:,} of {of:,}" for name, (live, of) in now.items()) + " live"
        text += f" after {self.live_s:.1f} s" if self.live_s else self._waits()
        if self._status is not None:
            self._status.update(text)
            (self._status.stop if done else self._status.start)()
        if not self.quiet and text.partition(";")[0] != self._told and (done or self._status is None):
            print(text, file=sys.stderr)
        self._told = text.partition(";")[0]

    def _waits(self) -> str:
        """What the pace, which other processes share, holds up."""
        waits = {f"{name} {kind}": wait for name, pace in self.system.paces.items() for kind in ("connect", "rest")
                 if (wait := pace.peek(kind)) > 2.0}
        return "".join(f"; {what}: next in {wait:.0f} s" for what, wait in waits.items())

    def stop(self) -> None:
        if self._status is not None:
            self._status.stop()

    def summary(self) -> dict[str, Any]:
        return {"live_s": self.live_s and round(self.live_s, 1), "live": progress(self.system.spine),
                "estimates": {name: asdict(estimate) for name, estimate in self.system.estimates.items()}}


def watch(system: System, start: Start, stopping: threading.Event, duration: float | None, *,
          banner: str) -> str | None:
    """Wait for the end, telling now and then how it goes. Returns what failed."""
    quiet = start.quiet
    deadline = None if duration is None else time.monotonic() + duration
    told = time.monotonic()
    if not quiet:
        if banner:
            print(banner, file=sys.stderr)
        where = ", ".join(f"{name} on {address}" for name, address in system.addresses.items())
        print(f"run {system.spine.run}{f', {where}' if where else ''}; Ctrl-C ends it", file=sys.stderr)
    try:
        while not stopping.wait(0.1 if deadline is None else max(0.0, min(0.1, deadline - time.monotonic()))):
            if failure := system.failure():
                return failure
            if system.left or (deadline is not None and time.monotonic() >= deadline):
                return None
            start.tell()
            if not quiet and time.monotonic() - told >= 5.0:
                told = time.monotonic()
                print(line(system.spine), file=sys.stderr)
        return None
    finally:
        start.stop()


def line(spine: Spine) -> str:
    """How it goes, in one line."""
    rows = spine.ledger.rows()
    worlds = []
    for instrument in spine.instruments()[:MOST_TOLD]:
        if (world := spine.worlds.read(instrument.slot)) is not None and world.bids and world.asks:
            bid, ask = (ticks.text(side[0][0], instrument.price_decimals, True) for side in (world.bids, world.asks))
            worlds.append(f"{instrument.name} {bid}/{ask}")
    counts = {name: sum(row[name] for row in rows) for name in ("messages", "gaps", "resyncs", "reconnects")}
    return "  ".join([f"{value:,} {name}" for name, value in counts.items()] + worlds)


def summary(spine: Spine, seconds: float) -> dict[str, Any]:
    """What the run did, as `--json` prints it."""
    return {
        "seconds": round(seconds, 3),
        "venues": {name: venue_summary(spine, name) for name in venues.NAMES
                   if any(row.venue == venues.NAMES.index(name) for row in spine.ledger.rows())},
        "world": {instrument.name: world_summary(spine, instrument) for instrument in spine.instruments()},
        "latency_ns": {what: percentiles([histogram for name, histogram in spine.histograms().items()
                                          if name.split(".")[0] == what])
                       for what in ("socket_to_top", "socket_to_world")},
    }


def venue_summary(spine: Spine, name: str) -> dict[str, Any]:
    rows = [row for row in spine.ledger.rows() if row.venue == venues.NAMES.index(name)]
    counts = {counter: sum(row[counter] for row in rows) for counter in (
        "frames", "messages", "updates", "trades", "gaps", "resyncs", "reconnects", "malformed", "trade_gaps",
        "crosses", "finer", "unknown_deletes", "overflowed", "bytes", "down_ns")}
    trust = {book.instrument: book.trust for book in books(spine) if book.venue == name and book.trust}
    return {"connections": len(rows), **counts, "trust": trust}


def world_summary(spine: Spine, instrument: RunInstrument) -> dict[str, Any]:
    world = spine.worlds.read(instrument.slot)
    if world is None:
        return {"spread": None, "bids": [], "asks": []}

    def rows(side: list[tuple[int, int, int]]) -> list[list[str]]:
        return [[ticks.text(price, instrument.price_decimals, True), ticks.text(size, instrument.size_decimals, True),
                 "+".join(name for number, name in enumerate(venues.NAMES) if mask >> number & 1)]
                for price, size, mask in side]

    spread = None if world.spread is None else ticks.text(world.spread, instrument.price_decimals, True)
    return {"spread": spread, "bids": rows(world.bids), "asks": rows(world.asks)}


def percentiles(histograms: Sequence[Histogram]) -> dict[str, int]:
    """Of all histograms together; nanoseconds."""
    merged = Histogram.create()
    for histogram in histograms:
        merged.merge(histogram)
    return {name: merged.percentile(percent) for name, percent in PERCENTILES.items()} | {"count": merged.count}


if __name__ == "__main__":
    sys.exit(main())
