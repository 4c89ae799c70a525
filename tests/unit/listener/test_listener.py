"""What a connection asks of Python, without a socket: snapshots and scales."""
from __future__ import annotations

import json
import random
from types import SimpleNamespace

from mantra import venues
from mantra.client.governor import Backoff, Governor
from mantra.core.clock import Clock
from mantra.core.hot_path import Event
from mantra.core.messages import Reason, Trust
from mantra.listener.connection import Connection
from mantra.listener.feed import Wanted
from mantra.listener.scales import Scales
from mantra.runtime.spine import Spine
from mantra.venues.instrument import InstrumentTable


class Bench:
    """A connection to Bitstamp that is up and subscribed, and whoever fetches its snapshots."""

    def __init__(self):
        venue = venues.get("bitstamp")
        venue.window_s = 0.0        # snapshots are of the very moment of a diff, here
        table = InstrumentTable()
        self.asked = []             # (delay, what to do with the answer)
        desk = SimpleNamespace(venue=venue, fetch=lambda request, done, delay=0.0, wanted=None: self.asked.append(
            (delay, done)))
        wanted = Wanted("ethusd", table.scale_for("ETH-USD", 8, 8))
        plan = SimpleNamespace(
            name="bitstamp-0", venue=venue, mode="book", depth=0, wanted=[wanted], desk=desk, scales=Scales(table),
            backoff=lambda: Backoff(random.Random(1)), snapshot_levels=100, raw=False,
            governor=Governor(Clock.virtual(0), {}), subscriber=SimpleNamespace(granted=True))
        self.table, self.spine, self.connection = table, Spine.private(), Connection(plan)
        self.connection.setup(self.spine, 0)
        self.first = self.spine.tops.read(0)
        self.connection.transport = SimpleNamespace(wake=lambda: None)
        self.feed = self.connection.feed
        self.feed.begin()
        self.time = 1000

    def diff(self, *bids):
        self.time += 1
        data = {"timestamp": "1", "microtimestamp": str(self.time), "bids": list(bids), "asks": []}
        self.feed.message(json.dumps({"data": data, "channel": "diff_order_book_ethusd", "event": "data"}).encode())
        self.connection.handle(Event.WANTS)

    def answer(self, *bids):
        body = {"timestamp": "1", "microtimestamp": str(self.time), "bids": list(bids), "asks": [["9", "1"]]}
        self.asked.pop(0)[1](json.dumps(body).encode(), self.spine.clock.cycles())
        self.connection.tasks()

    @property
    def state(self):
        live, trust, reason, *_ = self.feed.state(0)
        return live, Trust(trust), Reason(reason)


def synchronised():
    bench = Bench()
    bench.connection.recovery.want(bench.connection.books[0])
    bench.diff(("1", "1"))
    bench.answer(("1", "1"))
    assert bench.state == (True, Trust.SUSPECT, Reason.SYNCHRONISING)
    bench.answer(("1", "1"))        # to the second look
    assert bench.state == (True, Trust.UNVERIFIED, Reason.NONE)
    return bench


def test_text_that_no_scale_holds_leaves_a_suspect_book_and_ever_rarer_snapshots():
    bench = synchronised()
    delays = []
    for _ in range(12):
        bench.diff(("1e-30", "1"))
        assert bench.state == (False, Trust.SUSPECT, Reason.SCALE)
        assert len(bench.asked) == 1
        delays.append(bench.asked[0][0])
        bench.diff(("1", "2"))
        bench.answer(("1", "2"))
        bench.answer(("1", "2"))
        assert bench.state == (True, Trust.UNVERIFIED, Reason.NONE)
    assert delays[-1] > 10.0
    assert len(bench.table) == 1
    assert bench.spine.ledger.rows()[0]["finer"] == 12


def test_a_snapshot_that_no_scale_holds_is_asked_for_ever_more_rarely():
    bench = synchronised()
    bench.feed.suspect(0, Reason.GAP)
    bench.connection.handle(Event.WANTS)
    for _ in range(12):
        delay = bench.asked[0][0]
        bench.diff(("1", "2"))
        bench.answer(("1e30", "2"))
        assert bench.state[1] == Trust.SUSPECT
        assert len(bench.asked) == 1
    assert delay > 10.0
    assert len(bench.table) == 1


def test_a_finer_snapshot_moves_the_book_to_a_scale_that_holds_it():
    bench = synchronised()
    bench.feed.suspect(0, Reason.GAP)
    bench.connection.handle(Event.WANTS)
    bench.diff(("1", "2"))
    bench.answer(("1.000000000001", "2"))
    while bench.asked:
        bench.answer(("1.000000000001", "2"))
    assert bench.state == (True, Trust.UNVERIFIED, Reason.NONE)
    assert bench.feed.books[0].bids().tolist() == [[1_000_000_000_001, 200_000_000]]
    assert len(bench.table) == 2


def test_a_book_is_down_for_everybody_before_its_venue_was_ever_reached():
    top = Bench().first
    assert (top.trust, top.reason) == (Trust.DOWN, Reason.DISCONNECTED)
    assert top.trust_since_ns > 1_600_000_000_000_000_000
