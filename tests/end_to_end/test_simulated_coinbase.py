"""Coinbase as the simulator speaks it, Advanced Trade and Exchange, read as its documents say."""
import json
import time
from contextlib import suppress
from decimal import Decimal

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.data import data
from tests.end_to_end.feeds import LONG
from tests.end_to_end.simulated import Child
from tests.end_to_end.slow_client import get
from tests.end_to_end.stream_client import GARBAGE, AdvancedTrade, Exchange

PRODUCTS = "ETH-BTC", "BTC-USDT"


@pytest.fixture(scope="module")
def venue():
    with Child("--venues", "coinbase", "--instruments", "eth-btc,btc-usdt,btc-usd", "--unlimited") as child:
        yield child.endpoints["coinbase"]


@pytest.fixture
def client(venue):
    made = []

    def opened(kind):
        made.append(kind(venue))
        return made[-1]
    yield opened
    for one in made:
        one.close()


def order(venue, what):
    status, _, body = get(f"{venue['rest']}/simulator/{what}")
    assert status == 200, body


def counters(one):
    return [int(frame["events"][0]["heartbeat_counter"]) for frame in one.frames if frame["channel"] == "heartbeats"]


def test_advanced_trade_numbers_every_frame_and_its_books_are_true(client):
    one = client(AdvancedTrade)
    one.subscribe("level2", *PRODUCTS)
    one.subscribe("market_trades", *PRODUCTS)
    one.subscribe("ticker", *PRODUCTS)
    one.send(type="subscribe", channel="heartbeats")
    channels = {"l2_data", "market_trades", "ticker", "heartbeats", "subscriptions"}
    one.until(lambda frame: frame["channel"] == "heartbeats" and len(counters(one)) > 1 and {
        frame["channel"] for frame in one.frames} == channels)
    one.until(lambda frame: frame["channel"] == "l2_data" and len(frame["events"]) > 1)
    for product in PRODUCTS:
        assert not one.crossed(product)
        assert one.was_true(product)
    bids, _ = one.books["ETH-BTC"]
    del bids[sorted(bids)[len(bids) // 2]]
    assert not one.was_true("ETH-BTC")
    first, *_ = beats = counters(one)
    assert beats == list(range(first, first + len(beats)))


def test_a_subscription_list_is_cumulative_and_ends_with_what_was_unsubscribed(client):
    one = client(AdvancedTrade)
    one.subscribe("ticker", "ETH-BTC")
    one.subscribe("level2", *PRODUCTS)
    one.send(type="unsubscribe", channel="level2", product_ids=["ETH-BTC"])
    for _ in range(3):
        one.until(lambda frame: frame["channel"] == "subscriptions")
    lists = [frame["events"][0]["subscriptions"] for frame in one.frames if frame["channel"] == "subscriptions"]
    assert [{of: sorted(products) for of, products in each.items()} for each in lists] == [
        {"ticker": ["ETH-BTC"]}, {"ticker": ["ETH-BTC"], "level2": ["BTC-USDT", "ETH-BTC"]},
        {"ticker": ["ETH-BTC"], "level2": ["BTC-USDT"]}]
    later = [one.until(lambda frame: frame["channel"] == "l2_data") for _ in range(5)]
    assert {event["product_id"] for frame in later for event in frame["events"]} == {"BTC-USDT"}


def test_usdc_is_the_book_of_usd_and_the_largest_book_is_megabytes_in_one_frame(venue, client):
    one = client(AdvancedTrade)
    one.subscribe("level2", "BTC-USDC")
    one.until(lambda frame: frame["channel"] == "l2_data")
    assert list(one.books) == ["BTC-USD"]
    assert sum(map(len, one.books["BTC-USD"])) > 20_000
    assert len(json.dumps(one.frames[-1])) > 2 << 20
    rows = {row["product_id"]: row for row in one.rest("/api/v3/brokerage/market/products")[1]["products"]}
    assert rows["BTC-USD"]["alias_to"] == ["BTC-USDC"]
    assert (rows["BTC-USDC"]["alias"], rows["BTC-USDC"]["quote_currency_id"]) == ("BTC-USD", "USDC")
    assert rows["ETH-BTC"]["price_increment"] == "0.000001"
    assert rows["LUNA-USD"]["status"] == "delisted"


def test_exchange_books_are_true_and_both_sides_change_in_one_frame(client):
    def hearts():
        return [frame for frame in one.frames if frame["type"] == "heartbeat" and frame["product_id"] == "ETH-BTC"]

    one = client(Exchange)
    one.subscribe(["level2_batch", "heartbeat"], *PRODUCTS)
    one.until(lambda frame: frame["type"] == "heartbeat" and len(hearts()) > 1)
    one.until(lambda frame: frame["type"] == "l2update"
              and {change[0] for change in frame["changes"]} == {"buy", "sell"})
    assert one.frames[0]["type"] == "subscriptions"
    assert {channel["name"] for channel in one.frames[0]["channels"]} == {"level2_batch", "heartbeat"}
    for product in PRODUCTS:
        assert not one.crossed(product)
        assert one.was_true(product)
    assert int(hearts()[-1]["sequence"]) >= int(hearts()[0]["sequence"])


def test_both_apis_tell_the_same_trades_of_the_makers_side_after_those_before(client):
    one, two = client(AdvancedTrade), client(Exchange)
    one.subscribe("market_trades", "BTC-USDT")
    two.subscribe(["matches", "ticker"], "BTC-USDT")
    two.until(lambda frame: frame["type"] == "match")
    two.pump(2.5)
    one.pump(0.5)
    matches = {frame["trade_id"]: frame for frame in two.frames if "match" in frame["type"]}
    assert [frame["type"] for frame in two.frames if "match" in frame["type"]][:2] == ["last_match", "match"]
    ids = sorted(map(int, matches))
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    for frame in two.frames:
        if frame["type"] == "ticker" and frame["trade_id"] in matches:      # the taker's side, at the same sequence
            match = matches[frame["trade_id"]]
            assert (frame["sequence"], {frame["side"], match["side"]}) == (match["sequence"], {"buy", "sell"})
    events = [frame["events"][0] for frame in one.frames if frame["channel"] == "market_trades"]
    assert [event["type"] for event in events] == ["snapshot", *["update"] * (len(events) - 1)]
    told = [[int(trade["trade_id"]) for trade in event["trades"]] for event in events]
    assert all(ids == sorted(ids, reverse=True) for ids in told)        # newest first
    flat = [number for ids in told for number in reversed(ids)]
    assert flat == list(range(flat[0], flat[0] + len(flat)))            # the first new one follows the newest old one
    common = [trade for event in events for trade in event["trades"] if trade["trade_id"] in matches]
    assert common
    for trade in common:
        match = matches[trade["trade_id"]]
        assert (trade["side"].lower(), Decimal(trade["price"])) == (match["side"], Decimal(match["price"]))


@pytest.mark.parametrize(("request_", "words"), [
    ({"type": "subscribe", "channels": ["level2"], "product_ids": ["ETH-BTC"]}, "now require authentication"),
    ({"type": "subscribe", "channels": ["matches"], "product_ids": ["ETH-BTC", "ETH-XYZ"]},
     "ETH-XYZ is not a valid product"),
    ({"type": "subscribe", "channels": ["matches"], "product_ids": ["LUNA-USD"]}, "LUNA-USD is delisted"),
    ({"type": "subscribe", "channels": ["nothing"], "product_ids": ["ETH-BTC"]}, "nothing is not a valid channel"),
    ({"type": "subscribe", "channel": "level2", "product_ids": ["NO-SUCH"]}, "failed to subscribe"),
])
def test_one_thing_that_is_wrong_fails_the_whole_request(client, request_, words):
    one = client(Exchange)
    one.send(**request_)
    error = one.read()
    assert error["type"] == "error"
    assert words in error.get("reason", error["message"])
    with pytest.raises(TimeoutError):
        one.read(0.3)


def test_rest_serves_the_books_and_lists_of_both(client):
    one = client(AdvancedTrade)
    book = one.rest("/api/v3/brokerage/market/product_book?product_id=ETH-BTC&limit=7")[1]["pricebook"]
    assert (book["product_id"], len(book["bids"]), len(book["asks"])) == ("ETH-BTC", 7, 7)
    assert Decimal(book["bids"][0]["price"]) < Decimal(book["asks"][0]["price"])
    book = one.rest("/products/ETH-BTC/book?level=2")[1]
    assert len(book["bids"][0]) == 3
    assert len(book["asks"]) > 1000
    assert one.rest("/products/NO-SUCH/book?level=2") == (404, {"message": "NotFound"})
    assert {row["id"] for row in one.rest("/products")[1]} == {*PRODUCTS, "BTC-USD", "LUNA-USD"}


def test_limits_are_kept():
    with Child("--venues", "coinbase", "--instruments", "eth-btc", "--hasten", "20") as child:
        venue = child.endpoints["coinbase"]
        with connect(venue["websocket"]) as silent, pytest.raises(ConnectionClosed):
            silent.recv(LONG)                   # five seconds, twenty times faster
        one = AdvancedTrade(venue)
        for _ in range(9):
            one.subscribe("ticker", "ETH-BTC")
        assert "rate limit" in one.until(lambda frame: frame.get("type") == "error")["message"]
        assert 429 in [get(venue["rest"] + "/products")[0] for _ in range(12)]
        time.sleep(1.0)
        one.send(type="unsubscribe", channel="ticker", product_ids=["ETH-BTC"])
        with pytest.raises(ConnectionClosed):   # nothing to tell for 75 seconds, twenty times faster
            one.pump(LONG)


@pytest.mark.parametrize("fault", ["drop", "skip", "reorder"])
def test_what_is_lost_shows_in_the_numbers(venue, client, fault):
    one = client(AdvancedTrade)
    one.subscribe("level2", "ETH-BTC")
    one.until(lambda frame: one.books)
    order(venue, f"now?{fault}=1")
    with pytest.raises(AssertionError, match=r"\d+ after \d+"):
        one.pump(LONG)


def test_an_acknowledgement_can_be_lost_and_a_book_can_stay_crossed(venue, client):
    two = client(Exchange)
    order(venue, "now?unacked=1")
    two.subscribe(["matches"], "ETH-BTC")
    two.pump(0.5)
    assert "subscriptions" not in {frame["type"] for frame in two.frames}
    two.subscribe(["level2_batch"], *PRODUCTS)
    two.until(lambda frame: frame["type"] == "l2update")
    for _ in range(20):
        order(venue, "now?cross=300ms")         # of a product by chance
        with suppress(TimeoutError):
            two.until(lambda frame: any(map(two.crossed, PRODUCTS)), timeout=0.4)
            break
    else:
        pytest.fail("no book was crossed")
    two.pump(0.6)
    assert not any(map(two.crossed, PRODUCTS))


def test_the_recording_of_exchange_is_served_verbatim():
    files = [str(data(f"cryptofeed/{name}")) for name in ("COINBASE.0", "COINBASE.ws.28.0")]
    with Child("--venue", "coinbase", "--speed", "0", "--recording", *files) as child:
        one = Exchange(child.endpoints["coinbase"])
        listed = [row["id"] for row in one.rest("/products")[1] if row["status"] == "online"]
        assert len(listed) == 10
        one.subscribe(["level2_batch", "matches", "ticker"], *listed)
        one.read_all()
        kinds = [frame["type"] for frame in one.frames]
        assert {kind: kinds.count(kind) for kind in set(kinds)} == {
            "subscriptions": 1, "snapshot": 10, "l2update": 9719, "match": 97, "last_match": 10, "ticker": 107}
        for product in listed:
            book = one.rest(f"/simulator/book?symbol={product}")[1]
            for mine, side in zip(one.books[product], ("bids", "asks"), strict=True):
                assert mine == {Decimal(price): Decimal(size) for price, size in book[side]}
        late = Exchange(child.endpoints["coinbase"])        # a new subscriber has the book as it stands
        late.subscribe(["level2_batch"], "SKL-USD")
        late.until(lambda frame: frame["type"] == "snapshot")
        assert late.books["SKL-USD"] == one.books["SKL-USD"]
        one.close()
        late.close()


def test_the_recording_of_advanced_trade_is_served_verbatim_with_numbers_of_its_own():
    with Child("--venue", "coinbase", "--speed", "0", "--recording",
               str(data("cryptofeed-v3/COINBASE.first-part.jsonl"))) as child:
        one = AdvancedTrade(child.endpoints["coinbase"])
        for channel in ("level2", "market_trades", "ticker"):
            one.subscribe(channel, "BTC-USD", "ETH-USDC")
        one.read_all()
        kinds = [frame["channel"] for frame in one.frames]
        assert {kind: kinds.count(kind) for kind in set(kinds)} == {
            "subscriptions": 3, "l2_data": 478, "market_trades": 43, "ticker": 104}
        for product, levels in (("BTC-USD", 40_000), ("ETH-USD", 20_000)):
            book = one.rest(f"/simulator/book?symbol={product}")[1]
            assert sum(map(len, one.books[product])) > levels
            for mine, side in zip(one.books[product], ("bids", "asks"), strict=True):
                assert mine == {Decimal(price): Decimal(size) for price, size in book[side]}
        one.close()


def test_garbage_is_answered_or_passed_over(client):
    one = client(AdvancedTrade)
    for text in GARBAGE:
        one.socket.send(text)
    one.subscribe("level2", "ETH-BTC")
    one.until(lambda frame: one.books)
