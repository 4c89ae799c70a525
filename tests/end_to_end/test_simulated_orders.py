"""Bitstamp's orders as the simulator tells them, read as its documents say."""
from decimal import Decimal

import pytest

from tests.end_to_end.feeds import LONG
from tests.end_to_end.simulated import Child
from tests.end_to_end.slow_client import get
from tests.end_to_end.stream_client import BitstampOrders


@pytest.fixture(scope="module")
def venue():
    with Child("--venues", "bitstamp", "--instruments", "eth-usd", "--rate", "20", "--unlimited") as child:
        yield child.endpoints["bitstamp"]


@pytest.fixture
def orders(venue):
    one = BitstampOrders(venue, "ethusd")
    yield one
    one.close()


def test_chained_orders_over_a_rest_book_add_up_to_the_true_book(orders):
    orders.until(lambda frame: {"order_created", "order_changed", "order_deleted"} <= {
        frame["event"] for frame in orders.frames})
    orders.pump(0.5)
    assert orders.was_true("ethusd")
    assert not orders.crossed("ethusd")


def test_takers_come_without_a_price_and_trades_name_orders_that_were_there(orders):
    orders.until(lambda frame: len(orders.trades) > 2)
    events = {}
    for frame in orders.frames:
        if frame["event"].startswith("order"):
            events.setdefault(frame["data"]["id_str"], []).append(frame)
    for trade in orders.trades:
        sell = trade["type"] == "1"
        taker, maker = (trade["sell_order_id"], trade["buy_order_id"])[::1 if sell else -1]
        assert [frame["event"] for frame in events[taker]] == ["order_created", "order_deleted"]
        assert {frame["data"]["order_subtype"] for frame in events[taker]} == {"2"}
        assert Decimal(events[taker][-1]["data"]["amount_str"]) == 0
        taken = [frame for frame in events[maker] if frame["event"] != "order_created"]
        assert any(Decimal(frame["data"]["price_str"]) == Decimal(trade["price_str"]) and
                   Decimal(frame["data"]["amount_traded"]) >= Decimal(trade["amount_str"]) for frame in taken)
    for frames in events.values():
        last = frames[-1]["data"]
        if frames[-1]["event"] == "order_deleted":      # filled, or cancelled with what was left of it
            assert Decimal(last["amount_str"]) + Decimal(last["amount_traded"]) <= Decimal(last["amount_at_create"])


def test_a_lost_event_breaks_the_chain(venue, orders):
    get(f"{venue['rest']}/simulator/now?drop=1")
    with pytest.raises(AssertionError, match="after"):
        orders.pump(LONG)


def test_the_best_orders_come_whole_and_rest_shows_them_in_three_ways(venue, orders):
    orders.send(event="bts:subscribe", data={"channel": "detail_order_book_ethusd"})
    data = orders.until(lambda frame: frame.get("channel") == "detail_order_book_ethusd" and frame["data"])["data"]
    assert [len(data[side]) for side in ("bids", "asks")] == [100, 100]
    bids = [Decimal(price) for price, _, _ in data["bids"]]
    assert bids == sorted(bids, reverse=True)
    assert len(set(bids)) < 100         # prices repeat
    sums = []
    for group, width in ((0, 2), (1, 2), (2, 3)):
        book = orders.rest(f"/api/v2/order_book/ethusd/?group={group}")[1]
        assert {len(row) for row in book["bids"]} == {width}
        sums.append(len(book["asks"]))
    assert sums[1] < min(sums[0], sums[2])
