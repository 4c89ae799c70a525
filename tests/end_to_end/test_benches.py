"""The benches that compare run and find their answers right (their figures are for a quiet machine, not for a test)."""
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mantra.core.region import Region
from mantra.telemetry.bench import cores
from tests.data import FOLDER, data

BENCH = Path(__file__).resolve().parents[2] / "bench"
pytestmark = pytest.mark.skipif(len(cores()) < 2, reason="not measurable here: needs 2 cores")


def ran(name: str, *options: str) -> Any:
    command = [sys.executable, str(BENCH / name), *options, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_every_peer_that_is_installed_gives_back_what_it_was_given() -> None:
    result = ran("bench_peers.py", "--turns", "1")
    assert result["processes"].keys() >= {"mantra", "mantra, wait()", "multiprocessing.Queue", "multiprocessing.Pipe"}
    assert all(row["per_second"] > 0 for rows in result.values() for row in rows.values())
    assert not Region.list("peers-")


def test_readers_of_a_feed_under_load_account_for_every_position() -> None:
    result = ran("bench_disturbance.py", "--turns", "1")
    assert result["cases"].keys() == {"alone", "timekeeper", "metrics", "polled", "followed", "all"}
    assert all(reader["right"] and reader["read"] for reader in result["readers"].values())
    assert not Region.list("disturbance-")


def test_a_capture_under_load_holds_what_was_published() -> None:
    options = ["--rates", "3000", "--connections", "5", "--instruments", "20", "--seconds", "0.5"]
    (told,) = ran("capture", *options).values()
    assert told["held"] == told["published"] == 4500
    assert not Region.list("bench-capture-")


def test_a_recording_comes_back_from_an_archive_smaller_than_zstd_makes_its_frames() -> None:
    data("cryptofeed/KRAKEN.ws.50.0")
    (told,) = ran("archive", str(FOLDER), "--only", "Kraken", "--turns", "1").values()
    assert told["updates"] > 4000
    assert told["ratio_zstd19"] > 1.15
    assert told["unpack_per_second"] > 0
