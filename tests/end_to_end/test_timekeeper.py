"""The timekeeper beside a real run: it sees every hop, and the run does not notice who looks, nor who is killed."""
from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time

import pytest

from mantra.core.region import Region
from mantra.runtime.spine import Spine
from tests.end_to_end.feeds import until
from tests.end_to_end.test_live import Live

SECONDS = 2.0


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    with Live(tmp_path_factory.mktemp("home"), "--grpc", "off", "--venues", "binance,bitstamp") as live:
        yield live.started()


class Watching:
    """`mantra timekeeper RUN` on a terminal of its own; `seen` is what it drew."""

    def __init__(self, run, *arguments):
        self._terminal, inside = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mantra", "timekeeper", run, *arguments], stdin=inside, stdout=inside, stderr=inside,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "160", "LINES": "50"})
        os.close(inside)
        self.seen = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        with contextlib.suppress(OSError):      # its other end is closed
            while data := os.read(self._terminal, 65536):
                self.seen += data

    def press(self, key):
        os.write(self._terminal, key.encode())

    def __enter__(self):
        until(lambda: b"processing" in self.seen or b"worked" in self.seen, lambda: self.seen[-500:])
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self._reader.join(60)
        os.close(self._terminal)


def told(run, *arguments):
    done = subprocess.run([sys.executable, "-m", "mantra", "timekeeper", run, "--json", "--duration", str(SECONDS),
                           *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_actor_queue_and_feed_of_a_real_run_is_told(live):
    def lives():
        one = told(live.run)
        return one if {feed["state"] for feed in one["feeds"]} == {"live"} else None

    said = until(lives, "all feeds are live")       # Bitstamp's second look may take a second
    actors = {actor["name"]: actor for actor in said["actors"]}
    assert set(actors) == {"binance.0", "bitstamp.0", "best"}
    for actor in actors.values():
        assert actor["processing"]["count"] > 0, actor
        assert actor["rate"] > 0
        assert 0 < actor["busy_share"] < 1
        assert (actor["missed"], actor["overruns"], actor["state"]) == (0, 0, "running"), actor
    assert actors["best"]["latency"]["count"] > 0
    queues = {queue["name"]: queue for queue in said["queues"]}
    assert [reader["actor"] for reader in queues["tops.binance.0"]["readers"]] == ["best"]
    assert queues["updates.binance.0"]["readers"] == []
    assert said["histograms"]["socket_to_world.best"]["count"] > 0


def test_world_views_are_followed_to_the_socket_and_their_time_adds_up(live):
    said = told(live.run, "--lineage", "world")
    lineage = said["lineage"]
    assert lineage["matched"] > 0.9 * lineage["seen"] > 0
    ways = {tuple(segment["who"] for segment in path["segments"]): path for path in lineage["paths"]}
    assert set(ways) == {(feed, f"tops.{feed}", "best") for feed in ("binance.0", "bitstamp.0")}
    for path in ways.values():
        assert path["total"]["max"] >= max(segment["ns"]["max"] for segment in path["segments"]) * 0.99


def test_killed_at_any_moment_it_leaves_nothing_and_the_run_goes_on(live):
    before = {info.name for info in Region.list()}
    with Spine.attach(live.run) as run:
        rows = run.ledger.rows()
        lost = [{name: row[name] for name in ("gaps", "reconnects", "overruns", "malformed")} for row in rows]
        for seconds in (0.0, 0.1, 0.3):
            with Watching(live.run) as watching:
                time.sleep(seconds)
                watching.process.send_signal(signal.SIGKILL)
                watching.process.wait()
        messages = [row["messages"] for row in rows]
        until(lambda: all(row["messages"] > n for row, n in zip(rows, messages, strict=True)), "feeds go on")
        assert [{name: row[name] for name in one} for row, one in zip(rows, lost, strict=True)] == lost
    assert {info.name for info in Region.list(f"{live.run}.")} <= before
    assert told(live.run)["actors"][0]["processing"]["count"] > 0, "and the next one sees the run as ever"


def test_q_and_ctrl_c_end_the_screen_and_give_the_terminal_back(live):
    for key in "q", "\x03":
        with Watching(live.run) as watching:
            watching.press(key)
            assert watching.process.wait(60) == 0
            until(lambda: b"\x1b[?1049l" in watching.seen, "the screen is given back")


def test_a_run_that_ends_ends_it_with_a_line(tmp_path):
    with Live(tmp_path, "--grpc", "off") as live, Watching(live.started().run) as watching:
        live.ends(signal.SIGTERM)
        assert watching.process.wait(60) == 0
        until(lambda: f"run {live.run} has ended".encode() in watching.seen, lambda: watching.seen[-500:])
