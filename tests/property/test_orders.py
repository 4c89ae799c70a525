"""Books derived from orders against a dictionary of them: any walk, at any moment; what is published rebuilds both."""
from __future__ import annotations

import random
from decimal import Decimal

import pytest

from mantra import venues
from mantra.client.feed import bare_feed
from mantra.core.hot_path import Feed
from mantra.core.messages import Kind, Reason, Side, Trust
from mantra.runtime.spine import Spine
from tests.reference.orders import Orders

ACK = b'{"event":"subscribed","channel":"book","chanId":7,"symbol":"tBTCUSD","prec":"R0","freq":"F0","len":"250"}'
CONF = b'{"event":"conf","status":"OK","flags":229376}'
SIZES = [Decimal(text) for text in ("0.5", "1", "2.25", "0.001", "17")]


class Bench:
    """A feed of one R0 book, its readers, and the slow model of it."""

    def __init__(self) -> None:
        venue = venues.get("bitfinex")
        self.spine = Spine.private()
        self.feed: Feed = bare_feed(self.spine, "feed", venue, "orders")
        self.row = self.spine.ledger.row("feed", venue.id)
        self.book, slot = self.spine.make_book(venue.books("orders"), venue.id, "tBTCUSD", 10)
        self.feed.add_book(self.book, slot, ["tBTCUSD"], 10, 2, 3)
        self.orders, self.updates, self.tops = (
            self.spine.queue(f"{name}.feed").consumer() for name in ("orders", "updates", "tops"))
        self.slow, self.number = Orders(), 0
        self.feed.begin()
        for text in (CONF, ACK):
            self.feed.message(text)

    def send(self, payload: str) -> None:
        self.number += 1
        self.feed.message(f"[7,{payload},{self.number},1700000000{self.number % 1000:03}]".encode())

    def row_of(self, number: int) -> str:
        side, price, size = self.slow.orders[number]
        return f"[{number},{price},{'-' * (side == 'ask')}{size}]"

    def snapshot(self) -> None:
        def best_first(number: int) -> tuple[bool, Decimal, int]:
            side, price, _ = self.slow.orders[number]
            return side == "ask", price if side == "ask" else -price, number

        self.send(f"[{','.join(map(self.row_of, sorted(self.slow.orders, key=best_first)))}]")

    def place(self, number: int, side: str, price: Decimal, size: Decimal) -> None:
        self.slow.set(number, side, price, size)
        self.send(self.row_of(number))

    def remove(self, number: int, side: str = "bid") -> None:
        side = self.slow.orders.pop(number, (side,))[0]
        self.send(f"[{number},0,{'-' * (side == 'ask')}1]")

    @property
    def trust(self) -> Trust:
        return Trust(self.feed.state(0)[1])

    def check(self) -> None:
        self.book.check()
        for side, rows in (("bid", self.book.bids()), ("ask", self.book.asks())):
            assert [(Decimal(price).scaleb(-2), Decimal(size).scaleb(-3)) for price, size in rows.tolist()] == (
                self.slow.levels(side))


def price_of(dice: random.Random, side: str) -> Decimal:
    return Decimal(dice.randint(9900, 10000) if side == "bid" else dice.randint(10001, 10100)).scaleb(-2)


@pytest.mark.parametrize("seed", range(12))
def test_levels_equal_the_sum_of_the_orders_after_any_walk(seed):
    dice, bench = random.Random(seed), Bench()
    most = (5, 60, 1500)[seed % 3]      # of which the last makes the table grow, more than once
    for number in range(1, most):
        side = dice.choice(("bid", "ask"))
        bench.slow.set(dice.getrandbits(40) + 1 if seed % 2 else number, side, price_of(dice, side), dice.choice(SIZES))
    bench.snapshot()
    bench.check()
    for step in range(300):
        known = list(bench.slow.orders)
        deed = dice.random()
        if deed < 0.4 or not known:
            side = dice.choice(("bid", "ask"))
            bench.place(dice.getrandbits(40) + 1, side, price_of(dice, side), dice.choice(SIZES))
        elif deed < 0.7:
            number = dice.choice(known)
            side, price, _ = bench.slow.orders[number]
            stays = dice.random() < 0.5
            bench.place(number, side, price if stays else price_of(dice, side), dice.choice(SIZES))
        else:
            bench.remove(dice.choice(known))
        bench.check()
        if step % 29 == 0:
            bench.send(f'"cs",{bench.slow.bitfinex_checksum()}')
    counts = bench.row.counts()
    assert (counts["checksums_ok"], counts["checksums_failed"]) == (11, 0)
    assert counts["malformed"] == counts["unknown_deletes"] == counts["gaps"] == 0
    assert bench.trust == Trust.VERIFIED
    bench.slow.orders.clear()
    bench.snapshot()
    bench.check()


def test_readers_of_the_queues_alone_can_rebuild_orders_and_levels():
    dice, bench = random.Random(7), Bench()
    levels: dict[int, dict[int, int]] = {Kind.BID: {}, Kind.ASK: {}}
    orders: dict[int, tuple[int, int, int]] = {}
    for step in range(400):
        if step == 200:
            bench.slow.orders.clear()
        if step in (0, 200):
            for number in range(1, 50):
                side = dice.choice(("bid", "ask"))
                bench.slow.set(number + step, side, price_of(dice, side), dice.choice(SIZES))
            bench.snapshot()
        elif dice.random() < 0.5:
            side = dice.choice(("bid", "ask"))
            bench.place(dice.randint(1, 300), side, price_of(dice, side), dice.choice(SIZES))
        else:
            bench.remove(dice.choice(list(bench.slow.orders)))
        for update in bench.updates:
            if update.kind == Kind.RESET:
                levels = {Kind.BID: dict(bench.book.bids().tolist()), Kind.ASK: dict(bench.book.asks().tolist())}
            elif update.kind == Kind.TRUST:
                pass
            elif update.size:
                levels[update.kind][update.price] = update.size
            else:
                levels[update.kind].pop(update.price)
        for order in bench.orders:
            more = order.flags
            if order.order_id == 0:
                orders.clear()
            elif order.size:
                orders[order.order_id] = order.side, order.price, order.size
            else:
                side, price, _ = orders.pop(order.order_id)
                assert (side, price) == (order.side, order.price)
        assert not more, "a batch ends with its message"
        assert levels == {Kind.BID: dict(bench.book.bids().tolist()), Kind.ASK: dict(bench.book.asks().tolist())}
        assert orders == {number: (Side.SELL if side == "ask" else Side.BUY, int(price.scaleb(2)), int(size.scaleb(3)))
                          for number, (side, price, size) in bench.slow.orders.items()}


def test_a_checksum_over_orders_that_does_not_hold_asks_for_them_anew():
    bench = Bench()
    bench.place(1, "bid", Decimal(99), Decimal(1))
    assert bench.trust == Trust.SUSPECT             # nothing before a snapshot
    bench.snapshot()
    bench.place(2, "bid", Decimal(99), Decimal(2))
    assert bench.trust == Trust.VERIFIED
    bench.send(f'"cs",{bench.slow.bitfinex_checksum() ^ 1}')
    assert (bench.trust, Reason(bench.feed.state(0)[2])) == (Trust.SUSPECT, Reason.CHECKSUM)
    assert bench.feed.wants() == [(0, True, False)]
    bench.feed.message(ACK)
    bench.snapshot()
    bench.check()
    assert bench.trust == Trust.VERIFIED


def test_orders_that_are_not_there_are_counted_and_move_nothing():
    bench = Bench()
    bench.slow.set(1, "bid", Decimal(99), Decimal(1))
    bench.snapshot()
    bench.remove(5)
    bench.check()
    assert bench.row["unknown_deletes"] == 1
    assert bench.trust == Trust.VERIFIED


def test_an_order_may_change_sides_and_a_level_outlives_its_first_order():
    bench = Bench()
    for number, size in ((1, "1"), (2, "2")):
        bench.slow.set(number, "bid", Decimal(99), Decimal(size))
    bench.snapshot()
    bench.remove(1)
    bench.check()
    assert bench.book.bids().tolist() == [[9900, 2000]]
    bench.place(2, "ask", Decimal(101), Decimal(3))
    bench.check()
    bench.place(2, "ask", Decimal(101), Decimal(3))     # said again
    bench.check()


def test_more_orders_than_the_ceiling_and_sums_beyond_a_number_are_never_believed():
    bench = Bench()
    bench.slow.set(1, "bid", Decimal(99), Decimal(9 * 10**15))
    bench.snapshot()
    bench.place(2, "bid", Decimal(99), Decimal(9 * 10**15))
    assert bench.trust == Trust.SUSPECT
    bench.feed.message(ACK)
    bench.slow.orders.pop(2)
    bench.snapshot()
    assert bench.trust == Trust.VERIFIED
    rows = ",".join(f"[{number},99,1]" for number in range(1, 131_074))
    bench.feed.message(ACK)
    bench.send(f"[{rows}]")
    assert bench.trust == Trust.SUSPECT


def test_a_gap_takes_the_orders_of_the_connection():
    bench = Bench()
    bench.slow.set(1, "bid", Decimal(99), Decimal(1))
    bench.snapshot()
    bench.number += 1
    bench.place(2, "bid", Decimal(98), Decimal(1))
    assert (bench.trust, Reason(bench.feed.state(0)[2])) == (Trust.SUSPECT, Reason.GAP)
