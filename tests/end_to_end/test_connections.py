"""bench/connections runs and loses nothing (its figures are for a quiet machine, not for a test)."""
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "bench" / "connections"


def test_every_message_of_every_case_arrives() -> None:
    options = ["--connections", "5", "--seconds", "0.1", "--rate", "500", "--modes", "poller", "--json"]
    done = subprocess.run([sys.executable, str(SCRIPT), *options], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.splitlines()[-1])["rows"]
    assert [row["tls"] for row in rows] == [False] * 3 + [True] * 3
    assert {row["messages"] for row in rows} == {50}
