"""timekeeper: where a run's microseconds go, looked at from outside. `mantra timekeeper --help`.

It attaches to a run by name, reads its shared memory and writes none: it may be started, stopped or killed at will.
"""
from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict

import mantra
from mantra.runtime.options import Parser, door, positive_seconds
from mantra.telemetry.board import plain
from mantra.telemetry.collector import Collector
from mantra.telemetry.lineage import Lineage

OBSERVED_S = 2.0


@door("mantra timekeeper")
def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(
        prog="mantra timekeeper", description="Every actor, queue and feed of a running mantra: rates, latencies, lag.",
        epilog="On a terminal: a screen; ? explains its keys. The run does not notice who looks, nor for how long.")
    add = parser.add_argument
    add("run", nargs="?", metavar="RUN", help="its name (default: the only one there is)")
    add("--json", action="store_true", help=f"watch for --duration ({OBSERVED_S:.0f} s), then print one JSON object")
    add("--plain", action="store_true", help="the same as aligned text; with --interval: again and again")
    add("--duration", type=positive_seconds, metavar="SECONDS", help="end after that long; default: q, or Ctrl-C")
    add("--interval", type=positive_seconds, metavar="SECONDS", help="between two pictures (0.5)")
    add("--lineage", metavar="MESSAGE", default="",
        help="follow a queue (world), a family (tops) or a message (top) from its origin through every hop")
    options = parser.parse_args(argv)
    screen = not (options.json or options.plain)
    if screen and not sys.stdout.isatty():
        parser.error("standard output is not a terminal: --plain or --json")
    if options.json and options.plain:
        parser.error("either --json or --plain")
    with mantra.attach(options.run) as run:
        collector = Collector(run)
        if screen:
            return show(parser, collector, options.interval or 0.5, options.duration, options.lineage)
        lineage = Lineage(collector, options.lineage) if options.lineage else None
        return tell(collector, lineage, options.json, options.duration, options.interval)


def show(parser: Parser, collector: Collector, interval: float, duration: float | None, message: str) -> int:
    """The screen."""
    try:
        from mantra.telemetry.app import Timekeeper
    except ImportError:
        parser.error("the screen needs textual: pip install 'mantra[ui]'; --plain and --json do without")
    app = Timekeeper(collector, interval, message, duration)
    if said := app.run():
        print(f"mantra timekeeper: {said}", file=sys.stderr)
    return app.return_code or 0


def tell(collector: Collector, lineage: Lineage | None, as_json: bool, duration: float | None,
         interval: float | None) -> int:
    """Text: one picture after `duration`, or one every `interval` until then, or until the run ends."""
    again = interval is not None and not as_json
    ends = None if again and duration is None else time.monotonic() + (duration or OBSERVED_S)
    collector.snapshot()            # rates are told from here on
    while collector.alive:
        until = time.monotonic() + interval if again and interval else ends
        assert until is not None
        watch(collector, lineage, min(until, ends or until))
        view, followed = collector.snapshot(), lineage.view() if lineage else None
        if as_json:
            print(json.dumps(asdict(view) | ({"lineage": asdict(followed)} if followed else {})))
        else:
            print(plain(view, followed, max(shutil.get_terminal_size((160, 0)).columns, 80)), flush=True)
        if not again or (ends is not None and time.monotonic() >= ends):
            return 0
        print()
    print(f"mantra timekeeper: run {collector.run.run} has ended", file=sys.stderr)
    return 0


def watch(collector: Collector, lineage: Lineage | None, until: float) -> None:
    """Drain the rings until then, or until the run ends."""
    while collector.alive and (left := until - time.monotonic()) > 0:
        collector.poll()
        if lineage is not None:
            lineage.poll()
        time.sleep(min(collector.pace, left))


if __name__ == "__main__":
    sys.exit(main())
