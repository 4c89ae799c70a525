"""The ring's protocol under spin: every interleaving of small rings, with stalls, deaths, heirs, and broken twins.

MANTRA_PROOF=deep adds a larger ring (some 8 million states, half a minute).
"""
from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.c.compilers import COMPILERS

MODEL = Path(__file__).with_name("ring.pml")
RINGS = {
    "stalled for laps": "-DEACH=2 -DCONSUMERS=0",
    "killed, while two read": "-DMORTAL -DEACH=1 -DCONSUMERS=2",
    "killed, while it is lapped": "-DMORTAL -DEACH=2 -DCONSUMERS=0",
    "killed, and its number inherited": "-DMORTAL -DHEIR -DEACH=2",
    "killed among three, and its number inherited": "-DMORTAL -DHEIR -DPRODUCERS=3 -DEACH=1 -DCAPACITY=3",
    "three stall": "-DPRODUCERS=3 -DEACH=1 -DCAPACITY=3",
}
if os.environ.get("MANTRA_PROOF") == "deep":
    RINGS["killed, while it is lapped and read"] = "-DMORTAL -DEACH=2"
TWINS = {
    "TAKE_THE_LIVING": "-DEACH=2",              # claims a slot whose writer lives
    "BURN_UNRECORDED": "-DEACH=2",              # goes on without saying in the slot that the position is burnt
    "SETTLE_BLINDLY": "-DEACH=2",               # settles by a plain store
    "NO_SWEEP": "-DMORTAL -DHEIR -DEACH=2",     # an heir leaves a dead one's slots as they are
    "READ_ONCE": "-DEACH=2",                    # a consumer that does not look again behind reading
    "SKIP_BY_HINT": "-DEACH=2",                 # a consumer that skips what others have passed
    "SKIP_THE_LIVING": "-DEACH=2",              # a consumer that does not wait for who lives
    "SKIP_UNSEEN": "-DEACH=2",                  # a consumer that does not look again behind asking
}

if shutil.which("spin") is None or not COMPILERS:
    pytest.skip("needs spin (Debian: spin) and gcc or clang", allow_module_level=True)


def verify(folder: Path, level: str, *defines: str) -> str:
    """What the verifier says, searching all states."""
    for command in (["spin", "-a", *defines, str(MODEL)], [COMPILERS[0], level, "-DSAFETY", "-o", "pan", "pan.c"],
                    ["./pan", "-m100000", "-w24"]):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "search was not completed" not in done.stdout.lower()
    return done.stdout


@pytest.mark.parametrize("ring", RINGS)
def test_nothing_is_torn_lost_or_waited_for_in_any_interleaving(ring: str, tmp_path: Path) -> None:
    said = verify(tmp_path, "-O1", *RINGS[ring].split())
    assert "errors: 0" in said, said


@pytest.mark.parametrize("twin", TWINS)
def test_a_broken_twin_is_found(twin: str, tmp_path: Path) -> None:
    assert "errors: 1" in verify(tmp_path, "-O0", f"-DTWIN_{twin}", *TWINS[twin].split())
