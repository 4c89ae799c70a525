"""One pace for all processes, against venues that count and ban: Bitfinex lets an address connect 20 times a minute."""
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request

import pytest

from tests.end_to_end.feeds import until
from tests.end_to_end.simulated import Child

NAMES = [f"{base}-usd" for base in ("ada", "btc", "dot", "eth", "link", "ltc", "sol", "trx", "uni", "xlm", "xrp")]


@pytest.fixture
def venue():
    with Child("--venues", "bitfinex,binance", "--instruments", ",".join(NAMES), "--rate", "1") as child:
        yield child


def state(venue, order="", name="bitfinex"):
    url = f"{venue.endpoints[name]['rest']}/simulator/{order or 'state'}"
    with urllib.request.urlopen(urllib.request.Request(url, method="POST" if order else "GET"), timeout=60) as answer:
        return json.load(answer)


def live(venue, home, name="bitfinex"):
    return subprocess.Popen(
        [sys.executable, "-m", "mantra", "live", "--venues", name, "--instruments", ",".join(NAMES),
         "--per-connection", "1", "--endpoints", str(venue.path), "--headless", "--grpc", "off"],
        env={**os.environ, "MANTRA_HOME": str(home)}, stderr=subprocess.PIPE, text=True)


def test_two_runs_of_which_one_is_killed_again_and_again_are_never_refused(venue, tmp_path):
    runs = [live(venue, tmp_path), live(venue, tmp_path)]
    try:
        until(lambda: state(venue)["connections"] >= 12, "they connect")
        for _ in range(2):
            runs[0].kill()
            runs[0].communicate()
            runs[0] = live(venue, tmp_path)
            line = next(line for line in runs[0].stderr if "connect: next in" in line)      # it says why it waits
            assert 20 <= int(line.split("connect: next in ")[1].split(" ")[0]) <= 61
        seen = state(venue)
        assert seen["connections"] <= 20        # who was killed had perhaps not used what it was granted
        assert (seen["refused"], seen["bans"]) == (0, 0)
    finally:
        for run in runs:
            run.send_signal(signal.SIGINT)
        ends = [run.wait(timeout=10) for run in runs]      # Ctrl-C ends who waits for its turn
        for run in runs:
            run.communicate()
    assert ends == [0, 0]


def test_a_ban_is_respected_by_every_connection_and_ends(venue, tmp_path):
    run = live(venue, tmp_path, "binance")
    try:
        until(lambda: state(venue, name="binance")["open"] == len(NAMES), "it connects")
        state(venue, "now?ban=3", "binance")
        state(venue, "now?cut=1", "binance")
        until(lambda: state(venue, name="binance")["refused"], "it is refused")
        until(lambda: state(venue, name="binance")["open"] == len(NAMES), "it connects after the ban")
        assert state(venue, name="binance")["refused"] < 3 * len(NAMES)
        assert state(venue, name="binance")["bans"] == 1
    finally:
        run.send_signal(signal.SIGINT)
        run.communicate(timeout=60)
