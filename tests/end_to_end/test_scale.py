"""bench/scale runs, everything becomes live, nothing is lost, nothing is left (figures are for a quiet machine)."""
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "bench" / "scale"


def test_hundreds_of_instruments_become_live_and_lose_nothing() -> None:
    # Livelier than in life: a quiet book of Bitstamp is believed when its stream says something at last.
    options = ["--instruments", "200", "--seconds", "1", "--rate", "60", "--patience", "200", "--json"]
    done = subprocess.run([sys.executable, str(SCRIPT), *options], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["instruments"], told["connections"]) == (201, 9)
    assert all(row["live"] == row["instruments"] for row in told["venues"].values())
    assert told["hold"]["messages_s"] > 0
    assert told["burst"]["latency_us"]
    assert (told["lost"], told["left"], told["exit"]) == ({}, [], 0)
