"""Bitstamp's orders: a REST book and a chain of events become the book that a dictionary has, or say why not."""
from __future__ import annotations

import json
import random
from decimal import Decimal

import pytest

from mantra import venues
from mantra.client.feed import bare_feed
from mantra.core.hot_path import Splice
from mantra.core.messages import Reason, Trust
from mantra.runtime.spine import Spine
from tests.data import read
from tests.reference.orders import Orders

BEGUN = 1_700_000_000_000_000
LIMIT, MARKET = 0, 2


class Bench:
    """A feed of one market's orders, and the slow model of it. Time is set by hand: many events at once are usual."""

    def __init__(self, decimals: tuple[int, int] = (2, 3)) -> None:
        venue = venues.get("bitstamp")
        self.spine, self.decimals = Spine.private(), decimals
        self.feed = bare_feed(self.spine, "feed", venue, "orders")
        self.row = self.spine.ledger.row("feed", venue.id)
        self.book, slot = self.spine.make_book(venue.books("orders"), venue.id, "btcusd", 10)
        self.feed.add_book(self.book, slot, ["btcusd"], 10, *decimals)
        self.slow, self.micros, self.count, self.chained = Orders(), BEGUN, 0, True
        self.feed.begin()

    def event(self, kind: str, number: int, side: str, price: Decimal, size: Decimal, subtype: int = LIMIT) -> bytes:
        """The next event's text; what rests is noted."""
        self.count += 1
        if subtype == LIMIT:
            self.slow.set(number, side, price, Decimal(0) if kind == "deleted" else size)
        links = {"event_id": f"0006-{self.count:08x}", "pre_event_id": f"0006-{self.count - 1:08x}"}
        return json.dumps({
            "data": {"id": number, "id_str": str(number), "order_type": int(side == "ask"), "order_subtype": subtype,
                     "datetime": str(self.micros // 10**6), "microtimestamp": str(self.micros), "amount": float(size),
                     "amount_str": str(size), "amount_traded": "0", "amount_at_create": str(size),
                     "price": float(price), "price_str": str(price), "is_liquidation": False},
            "channel": "live_orders_btcusd", "event": f"order_{kind}", **(links if self.chained else {}),
            "order_source": "orderbook"}, separators=(",", ":")).encode()

    def send(self, kind: str, number: int, side: str = "bid", price: str = "99", size: str = "1",
             subtype: int = LIMIT) -> None:
        self.feed.message(self.event(kind, number, side, Decimal(price), Decimal(size), subtype))

    def rest(self) -> bytes:
        """The answer with group=2, as of now."""
        rows = {side: [[str(price), str(size), str(number)] for number, (of, price, size) in self.slow.orders.items()
                       if of == side] for side in ("bid", "ask")}
        return json.dumps({"timestamp": str(self.micros // 10**6), "microtimestamp": str(self.micros),
                           "bids": sorted(rows["bid"], reverse=True), "asks": sorted(rows["ask"])}).encode()

    def step(self, dice: random.Random) -> bytes:
        """Something that happens to some order."""
        self.micros += dice.choice((0, 0, 1000, 250_000))
        known = list(self.slow.orders)
        if dice.random() < 0.1:
            return self.event("created", dice.getrandbits(50) + 1, "bid", Decimal(999999999), Decimal(1), MARKET)
        if not known or dice.random() < 0.5:
            side = dice.choice(("bid", "ask"))
            price = Decimal(dice.randint(9900, 10000) if side == "bid" else dice.randint(10001, 10100)).scaleb(-2)
            size = Decimal(dice.randint(1, 5000)).scaleb(-3)
            return self.event("created", dice.getrandbits(50) + 1, side, price, size)
        number = dice.choice(known)
        side, price, size = self.slow.orders[number]
        return self.event("changed", number, side, price, size / 2) if dice.random() < 0.3 and size % 2 == 0 else (
            self.event("deleted", number, side, price, size))

    @property
    def trust(self) -> tuple[Trust, Reason]:
        _, trust, reason, *_ = self.feed.state(0)
        return Trust(trust), Reason(reason)

    def check(self) -> None:
        self.book.check()
        for side, rows in (("bid", self.book.bids()), ("ask", self.book.asks())):
            assert [(Decimal(price).scaleb(-self.decimals[0]), Decimal(size).scaleb(-self.decimals[1]))
                    for price, size in rows.tolist()] == self.slow.levels(side)


@pytest.mark.parametrize("seed", range(10))
def test_a_book_of_orders_and_the_events_around_it_join_wherever_it_was_taken(seed):
    dice, bench = random.Random(seed), Bench()
    for _ in range(dice.choice((0, 40))):
        bench.step(dice)                                    # before anybody listened
    events = [bench.step(dice) for _ in range(20)]
    taken = dice.randint(0, 20) if seed else 20             # the answer comes later than it was taken
    for number, event in enumerate(events):
        if number == taken:
            break
        bench.feed.message(event)
    answer = bench.rest()                                   # it knows more than what was heard so far
    assert bench.feed.splice(0, answer) == Splice.SPLICED
    for event in events[taken:]:
        bench.feed.message(event)
    bench.check()
    for _ in range(200):
        bench.feed.message(bench.step(dice))
        bench.check()
    assert bench.trust == (Trust.VERIFIED, Reason.NONE)
    counts = bench.row.counts()
    assert counts["gaps"] == counts["malformed"] == 0


def test_an_answer_older_than_the_first_event_will_not_do():
    bench = Bench()
    old = bench.rest()
    bench.micros += 5
    bench.send("created", 1)
    assert bench.feed.splice(0, old) == Splice.OLD
    assert bench.feed.splice(0, bench.rest()) == Splice.SPLICED
    bench.check()


def test_a_hole_in_the_chain_takes_the_book_until_there_is_a_newer_answer():
    bench = Bench()
    bench.send("created", 1)
    bench.feed.splice(0, bench.rest())
    assert bench.trust == (Trust.VERIFIED, Reason.NONE)
    bench.micros += 1000
    bench.event("created", 2, "bid", Decimal(98), Decimal(1))     # nobody hears it
    before = bench.rest()
    bench.micros += 1000
    bench.send("created", 3)
    assert bench.trust == (Trust.SUSPECT, Reason.GAP)
    assert bench.feed.wants() == [(0, True, False)]
    bench.send("changed", 3, size="0.5")
    assert bench.feed.splice(0, before) == Splice.OLD
    assert bench.feed.splice(0, bench.rest()) == Splice.SPLICED
    bench.check()
    assert bench.trust == (Trust.VERIFIED, Reason.NONE)
    assert bench.row["gaps"] == 1


def test_an_event_that_comes_twice_is_no_hole_and_a_taker_is_but_a_link():
    bench = Bench()
    bench.send("created", 1)
    bench.feed.splice(0, bench.rest())
    event = bench.event("created", 2, "bid", Decimal(98), Decimal(1))
    for _ in range(2):
        bench.feed.message(event)
    for subtype in (2, 4, 6):
        bench.send("created", 50 + subtype, price="0", subtype=subtype)
        bench.send("deleted", 50 + subtype, price="0", size="0", subtype=subtype)
    bench.send("deleted", 2, price="98", size="0")
    bench.check()
    assert bench.trust == (Trust.VERIFIED, Reason.NONE)
    assert (bench.row["old_dropped"], bench.row["gaps"]) == (1, 0)


def test_events_without_a_chain_prove_nothing():
    bench = Bench()
    bench.chained = False
    bench.send("created", 1)
    bench.feed.splice(0, bench.rest())
    bench.send("created", 2)
    bench.check()
    assert bench.trust[0] == Trust.UNVERIFIED


@pytest.mark.parametrize("change", [
    {"id": 0}, {"id": -1}, {"id": "x"}, {"order_type": 2}, {"order_type": None}, {"order_subtype": "x"},
    {"microtimestamp": "1.5"}, {"price_str": "-1"}, {"price_str": "0"}, {"price_str": None}, {"amount_str": "-1"},
    {"amount_str": "1x"}])
def test_what_is_no_order_is_malformed_and_believed_by_nobody(change):
    bench = Bench()
    bench.send("created", 1)
    bench.feed.splice(0, bench.rest())
    event = json.loads(bench.event("created", 2, "bid", Decimal(98), Decimal(1)))
    event["data"] |= change
    bench.feed.message(json.dumps(event).encode())
    assert bench.row["malformed"] == 1
    assert bench.trust == (Trust.SUSPECT, Reason.MALFORMED)


@pytest.mark.parametrize("answer", [
    *(b'{"microtimestamp":"1","bids":[%s],"asks":[]}' % row for row in (
        b'["1","1","x"]', b'["1","1","5","6"]', b'["1","-1","5"]', b'["1","1",0]', b"7")),
    b'{"microtimestamp":"1","bids":[]}', b'{"bids":[],"asks":[]}', b"[]"])
def test_what_is_no_book_of_orders_is_refused(answer):
    assert Bench().feed.splice(0, answer) == Splice.MALFORMED


def test_an_empty_book_is_one():
    bench = Bench()
    assert bench.feed.splice(0, bench.rest()) == Splice.SPLICED
    bench.send("created", 1)
    bench.check()


def test_a_day_of_2015_order_by_order():
    """The log has neither ids of events nor microseconds, and begins amid the day: so it is chained here, and what was
    placed before it is nowhere. Every five hundredth event is compared."""
    bench = Bench((2, 8))
    assert bench.feed.splice(0, bench.rest()) == Splice.SPLICED
    count = 0
    for line in read("ob-analytics/2015-05-01.log").splitlines():
        time, event, text = line.split(b" ", 2)
        if not event.startswith(b"order_") or event == b"order_book":
            continue
        order = json.loads(text)
        bench.micros = max(bench.micros, BEGUN + int(time) * 1000)
        kind = event.decode().removeprefix("order_")
        if Decimal(order["price"]) <= 0 or Decimal(order["price"]) >= 10**6:
            continue                                        # of market orders
        bench.feed.message(bench.event(kind, order["id"], ("bid", "ask")[order["order_type"]], Decimal(order["price"]),
                                       Decimal(order["amount"])))
        count += 1
        if count % 500 == 0:
            bench.check()
    bench.check()
    assert count > 40_000
    assert bench.trust[0] >= Trust.SUSPECT
    assert bench.row["malformed"] == bench.row["gaps"] == bench.row["finer"] == 0
