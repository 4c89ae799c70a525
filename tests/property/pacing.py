"""What a process of tests/property/test_governor.py does: takes grants as fast as it may, and says when.

    python -m tests.property.pacing HOME OUTPUT WEIGHT COUNT SECONDS TWIN

One line a grant: earliest and latest ns of boot time at which it can have been given, and its weight. The line is one
write, so that a killed process leaves whole lines.
"""
from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

from mantra import venues
from mantra.client import governor
from mantra.core.clock import Clock
from mantra.venues.venue import Endpoints, Limits, Rate

TWINS = {       # what must be noticed
    "alone": ("_File", lambda path: governor._Memory()),
}


def main(home: str, output: str, weight: str, count: str, seconds: str, twin: str) -> None:
    governor.SLACK_S = 0.0      # nothing is on its way here
    if twin:
        setattr(governor, *TWINS[twin])
    venue = venues.get("binance", Endpoints("ws://127.0.0.1:1", "http://127.0.0.1:1"))
    venue.limits = Limits(1, 1, {"rest": (Rate(int(count), float(seconds)),)})
    pace, cancel = governor.Governor.of_machine(Clock(), venue, Path(home)), threading.Event()
    lines = os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    while True:
        before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        while (wait := pace.reserve("rest", int(weight))) > 0:
            cancel.wait(min(wait, governor.ASK_AGAIN_S))
            before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        after = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        os.write(lines, b"%d %d %s\n" % (before, after, weight.encode()))


if __name__ == "__main__":
    main(*sys.argv[1:])
