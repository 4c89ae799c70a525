"""The `mantra` command: one door per verb. Each door is its room's own `main(argv) -> exit code`."""
from __future__ import annotations

import sys
from collections.abc import Sequence

from mantra import __version__
from mantra.runtime.options import through

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


def main(argv: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    if arguments and arguments[0] in ("-V", "--version"):
        print(f"mantra {__version__}")
        return 0
    return through("mantra", DOORS, arguments)


if __name__ == "__main__":
    sys.exit(main())
