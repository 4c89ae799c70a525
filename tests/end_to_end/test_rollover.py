"""Connections that are replaced all the time: who reads their books, trades and tops can not tell."""
from __future__ import annotations

from contextlib import ExitStack

import pytest

from mantra import venues
from mantra.core.messages import Kind, Reason
from mantra.core.queue import Queue
from mantra.listener import listener
from mantra.listener.connection import Connection
from mantra.listener.rollover import Rollover
from tests.end_to_end.feeds import STREAMS, SYMBOLS, Feeds, until
from tests.end_to_end.simulated import Child

FIVE = ("binance", "bitstamp", *STREAMS)
NUMBERED = ("bitfinex", "coinbase")         # by connection: the book's sequence begins anew with it


class Reader:
    """All that one run says of one venue's book and trades, from now on."""

    def __init__(self, feeds, venue):
        self.feeds, self.venue, spine = feeds, venue, feeds.system.spine
        self.image, self.updates = spine.follow(venue, SYMBOLS[venue])
        top = next(top for top in spine.newest_tops()
                   if (venues.NAMES[top.venue], top.instrument) == (venue, self.image.instrument))
        self.trades = spine.queue(f"trades.{spine.ledger.rows()[top.publisher].name}").consumer()
        self.sides = {Kind.BID: dict(self.image.bids.tolist()), Kind.ASK: dict(self.image.asks.tolist())}
        self.sequence, self.heard = self.image.sequence, []
        self.mark, self.connects = feeds.mark(venue), feeds.count(venue, "connects")

    @property
    def replaced(self):
        return self.feeds.count(self.venue, "connects") - self.connects

    def seen(self):
        """{(trust, reason)} of the book's tops."""
        return {(top.trust, top.reason) for top in self.feeds.tops[self.venue][self.mark:]
                if top.instrument == self.image.instrument}

    def follows(self):
        """Every update since the image is applied, and each changes something: is that the book as it is by now?"""
        while len(batch := self.updates.batch()):
            for row in batch[batch["instrument"] == self.image.instrument]:
                side, price, size = self.sides[Kind(row["kind"])], int(row["price"]), int(row["size"])
                assert side.get(price, 0) != size, f"{self.venue}: {row} says nothing new"
                side[price] = size
                if not size:
                    del side[price]
                assert self.venue in NUMBERED or row["sequence"] >= self.sequence, f"{self.venue}: {row} comes late"
                self.sequence = row["sequence"]
        assert not self.updates.lost
        image = self.feeds.book(self.venue).image()
        return image.position == self.updates.position and all(
            sorted(side.items(), reverse=one is image.bids) == [tuple(row) for row in one.tolist()]
            for side, one in zip(self.sides.values(), (image.bids, image.asks), strict=True))

    def prints(self):
        """[(trade's id, price, size, side)] until now."""
        while len(batch := self.trades.batch()):
            ours = batch[batch["instrument"] == self.image.instrument]
            self.heard += ours[["trade_id", "price", "size", "side"]].tolist()
        return self.heard


def alike(one, other):
    """Are their trades the same, as far as both have come? None: there are too few to tell."""
    mine, his = one.prints(), other.prints()
    ids = {trade[0] for trade in mine} & {trade[0] for trade in his}
    if len(ids) < 3:
        return None
    mine, his = ([trade for trade in some if min(ids) <= trade[0] <= max(ids)] for some in (mine, his))
    return mine == his


@pytest.fixture(scope="module")
def run():
    """Runs over the five simulated venues: run(names, max_age, **settings)."""
    with ExitStack() as stack:
        child = stack.enter_context(Child("--venues", ",".join(FIVE), "--instruments", "eth-btc,btc-usdt",
                                          "--unlimited"))
        yield lambda names, max_age=3600.0, **settings: Feeds(child.endpoints, names, patience={"max_age": max_age},
                                                              **settings)


def test_connections_are_replaced_without_a_gap_a_duplicate_or_a_doubt(run):
    options = {"instruments": ("eth-btc", "btc-usdt"), "per_connection": 1}
    tops = [name for name in FIVE if "top" in venues.get(name).schemes]
    with ExitStack() as stack:
        still, *rolling = (stack.enter_context(one) for one in (
            run(FIVE, **options), run(FIVE, 1.0, **options), run(FIVE, 1.0, reader="poller", **options),
            run(tops, 1.0, mode="top", **options)))
        for feeds in (still, *rolling):
            feeds.settle()
        true = {name: Reader(still, name) for name in FIVE}
        readers = [Reader(feeds, name) for feeds in rolling for name in feeds.names]
        for one in readers:
            until(lambda one=one: one.replaced >= 4, f"{one.venue}'s two connections are replaced")
        for one in (*readers, *true.values()):
            until(lambda one=one: alike(one, true[one.venue]) is not None, f"{one.venue} trades")
            assert alike(one, true[one.venue]), (one.heard, true[one.venue].heard)
            assert one.seen() == {(one.feeds.live(one.venue), Reason.NONE)}
            if one.feeds.system.settings.mode == "book" or one.venue in STREAMS:
                until(one.follows, f"the updates of {one.venue} lead to its book")
        assert not any(one.replaced for one in true.values())
        # That the books were right all the time the judge has seen, and says when the runs end.


def test_a_successor_that_fails_is_tried_again_and_the_old_connection_goes_on(run, caplog):
    with run(["kraken"], 1.0) as feeds:
        reader = Reader(feeds.settle(), "kraken")
        feeds.order("kraken", block=3)
        until(lambda: reader.replaced >= 1, "it is replaced after all")
        until(reader.follows, "its updates lead to its book")
        assert reader.seen() <= {(feeds.live("kraken"), Reason.NONE)}
        assert sum(record.message.startswith("kraken.0-next: ") for record in caplog.records) == 3


class Slow(Connection):
    """Its successor hears much before it is promoted."""

    def inherit(self, heir, trades_since):
        for _ in range(20):
            heir.handle(heir.feed.run(0.05))
        super().inherit(heir, trades_since)


class Forgetful(Slow):
    """... of which it does not tell."""

    def inherit(self, heir, trades_since):
        heir.trades, told = Queue.create(None, "trade", 2), heir.trades
        super().inherit(heir, trades_since)
        heir.trades = told


class Repeating(Slow):
    """... and what both have heard it tells twice."""

    def inherit(self, heir, trades_since):
        super().inherit(heir, self.trades.produced)


@pytest.mark.parametrize(("kind", "finds"), [(Slow, False), (Forgetful, True), (Repeating, True)])
def test_trades_that_both_connections_hear_or_only_the_successor_are_told_once(run, monkeypatch, kind, finds):
    ready = Rollover._ready
    monkeypatch.setattr(Rollover, "_ready", lambda self, heir: heir.age() > 0.5 and ready(self, heir))
    with run(["binance"]) as still:
        monkeypatch.setattr(listener, "Connection", kind)
        rolling = run(["binance"], 1.0)
        rolling.system._venues["binance"].dense_trade_ids = False       # else the ids alone would tell
        with rolling:
            readers = [Reader(feeds.settle(), "binance") for feeds in (rolling, still)]
            until(lambda: readers[0].replaced >= 2 and alike(*readers) is (not finds),
                  "the twin is found out" if finds else "it is replaced, and trades are the same")
