"""One run of a soak, a user's program in a process of its own: feeds until SIGTERM, then what it could not let go of.

    python -m tests.end_to_end.soak_run RUN MODE READER ENDPOINTS VENUES INSTRUMENTS SEED HOME [TWIN]
"""
from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

from mantra import venues
from mantra.core.messages import Trust
from mantra.listener import feed
from mantra.runtime import child
from mantra.runtime.settings import Settings
from mantra.topologies.system import System
from mantra.venues.instrument import InstrumentTable
from tests.end_to_end.feeds import venues_at

MAX_AGE_S = 20.0        # a connection is replaced by an overlapping one so often
BAN_S = 2.0             # a venue that bans without saying how long is left alone for so long (60 s in life)
ANSWER_S = 3.0          # an answer that takes longer is lost (Bitfinex gets 15 s in life)


def no_checksums(made):
    """Kraken's checksums are not looked at."""
    feed.bare_feed = partial(feed.bare_feed, checksums=False)


def no_gaps(made):
    """Bitstamp, which numbers nothing, is called verified: a diff that is lost is not noticed."""
    for venue in made:
        if venue.name == "bitstamp":
            venue.live_trust = {"book": Trust.VERIFIED, "top": Trust.VERIFIED}


TWINS = {"checksums": no_checksums, "gaps": no_gaps}


def main(run, mode, reader, endpoints, names, instruments, seed, home, twin=""):
    child.follow_parent()
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    logging.basicConfig(level=logging.WARNING, format=f"%(relativeCreated)d {run} %(message)s",
                        filename=Path(home, f"{run}.log"))
    made = venues_at({name: vars(one) for name, one in venues.read_endpoints(Path(endpoints)).items()},
                     names.split(","), {"heartbeat": 1.0, "silence": 4.0, "max_age": MAX_AGE_S})
    for venue in made:
        venue.answer_s, venue.limits = ANSWER_S, replace(venue.limits, ban_s=BAN_S)
    if twin:
        TWINS[twin](made)
    settings = Settings(venues=tuple(names.split(",")), instruments=tuple(instruments.split(",")), mode=mode,
                        reader=reader, run=run, seed=int(seed), home=Path(home), named=frozenset({"run"}))
    system = System(settings, table=InstrumentTable(), venues=made)
    with system:
        print("there", flush=True)
        while not stopped.wait(0.2) and (failure := system.failure()) is None:
            pass
    left = [thread.name for thread in threading.enumerate() if thread.name not in ("MainThread", "mantra-parent")]
    print(json.dumps({"failure": failure, "threads": left, "files": len(os.listdir("/proc/self/fd"))}), flush=True)
    return int(failure is not None)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
