"""Books of a stream that want a snapshot, without a socket: asked for alone, again, and not for ever."""
from __future__ import annotations

import json
import random
from types import SimpleNamespace

import pytest

from mantra import venues
from mantra.client.governor import Backoff, Governor
from mantra.core.clock import Clock
from mantra.core.hot_path import Event
from mantra.core.messages import Reason, Trust
from mantra.listener.connection import Connection
from mantra.listener.feed import Wanted
from mantra.listener.renewal import BUDGET, HEALTHY_S, SELDOM_S, SOON_S
from mantra.listener.scales import Scales
from mantra.runtime.spine import Spine
from mantra.subscriber.subscriber import subscriber
from mantra.venues.instrument import InstrumentTable

# A capture of 2025-05-06; its checksum is the venue's own.
BIDS = ("1797.24 0.43393711|1797.18 139.10616255|1797.13 139.10995927|1797.12 0.80386470|1797.07 139.11517673|"
        "1796.98 5.22282896|1796.97 12.17138476|1796.95 139.69390939|1796.88 4.21870000|1796.85 1.22932317")
ASKS = ("1797.25 1.40355852|1797.28 10.82400000|1797.29 139.09899871|1797.30 139.09783403|1797.37 139.09216827|"
        "1797.41 5.24638952|1797.42 0.01780330|1797.46 33.05700000|1797.48 3.11556555|1797.49 139.49306646")
CHECKSUM = 2606672715
VERIFIED = (Trust.VERIFIED, Reason.NONE)


def side(rows):
    return ",".join(f'{{"price":{price},"qty":{size}}}' for price, size in (row.split() for row in rows.split("|")))


class Bench:
    """A connection to Kraken with two books, up, and what it has sent."""

    def __init__(self):
        self.clock, self.sent, self.replaced = Clock.virtual(10**18), [], []
        self.spine = Spine.private(clock=self.clock)
        table, governor, venue = InstrumentTable(), Governor(self.clock, {}), venues.get("kraken")
        wanted = [Wanted(symbol, table.scale_for(symbol.replace("/", "-"), 2, 8)) for symbol in ("ETH/USD", "BTC/USD")]
        plan = SimpleNamespace(
            name="kraken.0", venue=venue, mode="book", depth=0, wanted=wanted, desk=None, scales=Scales(table),
            backoff=lambda: Backoff(random.Random(1)), snapshot_levels=0, raw=False, governor=governor,
            subscriber=subscriber(venue, [row.symbol for row in wanted], "book", True, governor, self.clock))
        self.venue, self.connection = venue, Connection(plan)
        self.connection.setup(self.spine, 0)
        self.feed = self.connection.feed
        self.connection.transport = SimpleNamespace(wake=lambda: None)
        self.connection.replace = self.replaced.append
        self.feed.begin()
        self.connection.recovery.begin()
        self.connection.subscriber.begin()
        self.pump()
        assert len(self.sent) == 2
        self.sent.clear()
        for row in wanted:
            self.answer(success=True, result={"channel": "trade", "symbol": row.symbol})

    def pump(self):
        """What happens between two runs of the feed: its patience, and what it sends meanwhile."""
        wait = self.connection.recovery.pump()
        self.connection.subscriber.pump(lambda text: self.sent.append(json.loads(text)) or True)
        return wait

    def wait(self, seconds):
        self.clock.advance(int(seconds * 1e9))
        self.pump()

    def snapshot(self, symbol="ETH/USD", checksum=CHECKSUM):
        text = (f'{{"channel":"book","type":"snapshot","data":[{{"symbol":"{symbol}","bids":[{side(BIDS)}],'
                f'"asks":[{side(ASKS)}],"checksum":{checksum}}}]}}')
        self.feed.message(text.encode())
        self.connection.handle(Event.WANTS)
        self.pump()

    def answer(self, **fields):
        self.connection._control(json.dumps({"method": "subscribe", "req_id": 1, **fields}).encode())
        self.pump()

    def state(self, index=0):
        _, trust, reason, *_ = self.feed.state(index)
        return Trust(trust), Reason(reason)

    @property
    def asked(self):
        """[(what, symbols)] since this was asked last."""
        asked, self.sent = [(frame["method"], frame["params"]["symbol"]) for frame in self.sent], []
        return asked


@pytest.fixture
def bench():
    bench = Bench()
    bench.snapshot()
    bench.snapshot("BTC/USD")
    assert [bench.state(0), bench.state(1)] == [VERIFIED, VERIFIED]
    assert bench.asked == []
    yield bench
    bench.connection.transport = None
    bench.spine.close()


AGAIN = [("unsubscribe", ["ETH/USD"]), ("subscribe", ["ETH/USD"])]


def test_a_book_that_fails_its_checksum_is_subscribed_anew_alone_and_once(bench):
    bench.snapshot(checksum=1)
    assert (bench.state(0), bench.state(1)) == ((Trust.SUSPECT, Reason.CHECKSUM), VERIFIED)
    assert bench.asked == AGAIN
    bench.wait(0.1)
    assert bench.asked == []
    bench.snapshot()
    assert bench.state(0) == VERIFIED
    bench.wait(60.0)
    assert bench.asked == []


def test_books_that_fail_together_are_subscribed_anew_together(bench):
    for index in (0, 1):
        bench.feed.suspect(index, Reason.GAP)
    bench.connection.handle(Event.WANTS)
    bench.pump()
    assert sorted(what for what, _ in bench.asked) == ["subscribe", "unsubscribe"]


def test_a_snapshot_that_does_not_come_is_asked_for_again_later_each_time(bench):
    bench.feed.suspect(0, Reason.GAP)
    bench.connection.handle(Event.WANTS)
    bench.pump()
    assert bench.asked == AGAIN
    waits = []
    for _ in range(3):
        bench.wait(bench.venue.answer_s)
        start = bench.clock.seconds()
        while not (asked := bench.asked):
            bench.wait(0.01)
        assert asked == AGAIN
        waits.append(bench.clock.seconds() - start)
    assert waits[0] < waits[1] < waits[2]
    assert bench.state(1) == VERIFIED


def test_a_book_that_nothing_heals_has_its_connection_replaced_and_then_stays_suspect(bench, caplog):
    tries = 0
    bench.snapshot(checksum=1)
    while not bench.connection.books[0].hopeless:
        if bench.asked:
            tries += 1
            bench.snapshot(checksum=1)
        assert len(bench.replaced) == (tries >= BUDGET)
        bench.wait(0.05)
    assert tries == 2 * BUDGET
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        f"kraken.0: nothing heals ETH/USD, which stays suspect; asked again every {SELDOM_S:.0f} s"]
    bench.wait(SELDOM_S - 1.0)
    assert (bench.asked, bench.state(0)) == ([], (Trust.SUSPECT, Reason.CHECKSUM))
    bench.wait(1.0)
    assert bench.asked == AGAIN
    bench.snapshot()
    assert bench.state(0) == VERIFIED
    bench.wait(HEALTHY_S + 1.0)
    bench.snapshot(checksum=1)
    assert bench.asked == AGAIN             # at once, as if nothing had been
    assert not bench.connection.books[0].hopeless


def test_a_book_that_heals_again_and_again_is_asked_for_soon_each_time(bench):
    for _ in range(5 * BUDGET):
        bench.snapshot(checksum=1)
        bench.wait(SOON_S)
        assert bench.asked == AGAIN
        bench.snapshot()
        assert bench.state(0) == VERIFIED
        bench.wait(0.5)
    assert (bench.replaced, bench.connection.books[0].hopeless) == ([], False)


def test_a_symbol_that_is_refused_is_down_alone_told_once_and_asked_for_seldom(caplog):
    bench = Bench()
    bench.snapshot("BTC/USD")
    for _ in range(2):
        bench.answer(success=False, error="Currency pair not supported ETH/USD", symbol="ETH/USD")
        assert (bench.state(0), bench.state(1)) == ((Trust.DOWN, Reason.REFUSED), VERIFIED)
        bench.wait(SELDOM_S - 1.0)
        assert bench.asked == []
        bench.wait(2.0)
        assert bench.asked == AGAIN
        assert bench.state(0) == (Trust.DOWN, Reason.REFUSED)
    assert len([record for record in caplog.records if "refused" in record.message]) == 1
    assert bench.replaced == []
    bench.snapshot()
    assert bench.state(0) == VERIFIED
    bench.connection.transport = None
    bench.spine.close()
