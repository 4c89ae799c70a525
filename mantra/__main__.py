"""The `mantra` command: one door per verb. Each door is its room's own `main(argv) -> exit code`."""
from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from mantra import __version__

DOORS = {
    "live": ("mantra.live", "run feeds, world view, terminal and gRPC service (the main job)"),
    "client": ("mantra.service.door", "print what a running mantra serves over gRPC"),
    "simulate": ("mantra.simulator.door", "serve the simulated venues on loopback"),
    "capture": ("mantra.capture", "keep every message of a running mantra, or of feeds of its own, in files"),
    "venues": ("mantra.offers", "what each venue offers, what proves its books, what it allows"),
    "instruments": ("mantra.instruments", "search what the venues list: tick, lot, minimums, status"),
    "ui": ("mantra.ui.terminal", "watch a running mantra in the terminal"),
    "timekeeper": ("mantra.telemetry.timekeeper", "where a run's microseconds go: actors, queues, feeds, lineage"),
    "doctor": ("mantra.telemetry.doctor", "what of this machine is good and bad for mantra, and what to do"),
    "shm": ("mantra.telemetry.shm", "look at mantra's shared memory, remove what dead runs left"),
    "bench": ("mantra.telemetry.bench", "measure what the core costs on this machine, beside the last run"),
    "ledger": ("mantra.telemetry.ledger", "what a run received and what it lost, counted; also of runs that ended"),
    "audit": ("mantra.audit", "hold the venues' REST books against those of a running mantra"),
    "archive": ("mantra.archive.door", "what was recorded: list, show, verify, repair, export, import"),
    "replay": ("mantra.replay", "play archives for everything that reads a live run, and recordings without sockets"),
}
USAGE = "usage: mantra VERB [options]      mantra VERB --help explains one\n\n" + "".join(
    f"  {verb:<12} {what}\n" for verb, (_, what) in DOORS.items())


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE, end="", file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version"):
        print(f"mantra {__version__}")
        return 0
    if arguments[0] not in DOORS:
        print(f"mantra: no verb {arguments[0]!r}; there are {', '.join(DOORS)}", file=sys.stderr)
        return 2
    door = import_module(DOORS[arguments[0]][0]).main
    return int(door(arguments[1:]))


if __name__ == "__main__":
    sys.exit(main())
