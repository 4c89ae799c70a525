"""A live run times itself: every message that was consumed is in some ring, and who reads there disturbs nobody."""
from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import defaultdict

import pytest

import mantra
from mantra.core.messages import SOCKET
from mantra.topologies.system import Simulated

OUTSIDER = """
import sys
import mantra
with mantra.attach(sys.argv[1]) as run:
    rings = [run.queue(name, "timing").consumer("oldest", doorbell=run.doorbell) for name in run.names("timings.")]
    told = 0
    while True:
        for ring in rings:
            told += len(ring.batch())
        if told > 20:
            print("reading", flush=True)
        rings[0].wait(0.01)
"""


@pytest.fixture(scope="module")
def simulated():
    with Simulated(["binance", "bitstamp"], ["eth-btc", "btc-usdt"]) as venues:
        yield venues


@pytest.mark.parametrize("reader", ["threads", "poller"])
def test_every_message_is_timed_and_a_killed_outsider_is_not_noticed(simulated, tmp_path, reader):
    with mantra.start(["binance", "bitstamp"], ["ETH-BTC", "BTC-USDT"], endpoints=simulated.endpoints, home=tmp_path,
                      reader=reader, run=f"test-timing-{reader}-{os.getpid()}") as system:
        outsider = subprocess.Popen([sys.executable, "-c", OUTSIDER, system.spine.run], stdout=subprocess.PIPE)
        assert outsider.stdout.readline() == b"reading\n"
        outsider.kill()
        outsider.wait()
        time.sleep(1.5)
        spine, rows = system.spine, system.spine.ledger.rows()
        names = [row.name for row in spine.actors()]
        assert [row.number for row in spine.actors()][:len(rows)] == list(range(len(rows)))
        rings = {row.name: spine.queue(f"timings.{row.name}", "timing") for row in spine.actors()}
        tops = {queue.number: queue for queue in spine.queues("tops", "top")}
        world = spine.queue("world", "world")
    assert len(names) == len(rows) + 1
    records = {name: ring.consumer("oldest").batch(limit=4096) for name, ring in rings.items()}
    arrived = set()
    for number, row in enumerate(rows):
        mine = records.pop(row.name)
        assert row["messages"] == len(mine) > 10
        assert mine["position"].tolist() == list(range(len(mine)))
        assert (mine["queue"] == SOCKET).all()
        assert (mine["actor"] == number).all()
        assert (mine["published"] & 0xFFFF == number).all()
        in_order(mine)
        arrived |= set(mine["origin"].tolist())
    (merged,) = records.values()
    in_order(merged)
    taken = defaultdict(list)
    for queue, position in zip(merged["queue"].tolist(), merged["position"].tolist(), strict=True):
        taken[queue].append(position)
    assert set(taken) == set(tops)
    for queue, positions in taken.items():
        assert positions == list(range(positions[0], positions[0] + len(positions)))
        assert positions[0] <= 2 * len(rows)            # it began when the feeds did ...
        assert tops[queue].produced - positions[-1] <= 4  # ... and read on until they said that they are down
    views = world.consumer("oldest").batch(limit=2048)
    assert len(views) > 10
    assert set(views["published"] & 0xFFFF) == {merged["actor"][0]}
    assert len(set(views["origin"].tolist()) & set(merged["origin"].tolist()) & arrived) > 10   # venue to view


def in_order(records):
    """One message after the other; each was published before it was taken."""
    published = records["origin"] + (records["published"] >> 16)
    ends = records["consumed"] + records["busy"]
    assert (records["consumed"] >= published).all()
    assert (records["consumed"][1:] >= ends[:-1]).all()
