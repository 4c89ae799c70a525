"""Coinbase: what is said to it in both generations, and what its answers are taken to mean."""
import json
from dataclasses import replace

import pytest

from mantra.errors import ConfigurationError, UnknownSymbol, VenueError
from mantra.tape.lines import read as tape
from mantra.venues import get
from mantra.venues.coinbase import EXCHANGE
from mantra.venues.instrument import choose, resolve
from mantra.venues.venue import UNVERIFIED, VERIFIED, Acknowledged, Refused
from tests.data import data

ADVANCED, OLD = get("coinbase"), get("coinbase", EXCHANGE)
SYMBOLS = ["BTC-USD", "ETH-USD"]
FLAGS = ("is_disabled", "cancel_only", "limit_only", "post_only", "trading_disabled", "auction_mode", "view_only")
PRODUCT = {"product_id": "BTC-USD", "base_increment": "0.00000001", "quote_increment": "0.01",
           "price_increment": "0.05", "quote_min_size": "1", "base_min_size": "0.001", "base_max_size": "3400",
           "status": "online", "product_type": "SPOT", "quote_currency_id": "USD", "base_currency_id": "BTC",
           "alias": "", "alias_to": ["BTC-USDC"], "product_venue": "CBE", **dict.fromkeys(FLAGS, False)}


def listed(*rows, venue=ADVANCED):
    return venue.parse_instruments(json.dumps({"products": rows} if venue is ADVANCED else rows).encode())


def test_advanced_trade_is_asked_for_one_channel_a_message_and_always_for_heartbeats():
    frames = [json.loads(text) for text in ADVANCED.subscribe_texts(SYMBOLS, "book", True)]
    assert [frame["channel"] for frame in frames] == ["heartbeats", "level2", "market_trades"]
    assert all(frame["type"] == "subscribe" and frame["product_ids"] == SYMBOLS for frame in frames)
    assert len(ADVANCED.subscribe_texts(SYMBOLS, "book", False)) == 2
    assert [json.loads(text) for text in ADVANCED.unsubscribe_texts(["BTC-USD"], "book")] == [
        {"type": "unsubscribe", "product_ids": ["BTC-USD"], "channel": "level2"}]


def test_exchange_is_asked_for_all_in_one_message():
    assert [json.loads(text) for text in OLD.subscribe_texts(SYMBOLS, "book", True)] == [
        {"type": "subscribe", "product_ids": SYMBOLS, "channels": ["heartbeat", "level2_batch", "matches"]}]
    assert [json.loads(text) for text in OLD.unsubscribe_texts(SYMBOLS, "book")] == [
        {"type": "unsubscribe", "product_ids": SYMBOLS, "channels": ["level2_batch"]}]


@pytest.mark.parametrize("venue", [ADVANCED, OLD], ids=["advanced", "exchange"])
def test_a_full_connection_is_asked_for_in_frames_that_the_venue_takes(venue):
    symbols = [f"ABCDEFGH{number}-USDC" for number in range(venue.limits.channels // 2)]
    assert len(venue.expected_acks(symbols, "book", True)) == venue.limits.channels
    assert all(len(text) <= venue.limits.frame_bytes for text in venue.subscribe_texts(symbols, "book", True))


def test_only_advanced_trade_can_prove_a_book():
    assert (ADVANCED.proofs, ADVANCED.live_trust) == ({"numbers"}, {"book": VERIFIED})
    assert (OLD.proofs, OLD.live_trust) == (frozenset(), {"book": UNVERIFIED})
    assert OLD.url(SYMBOLS, "book", True) == "wss://ws-feed.exchange.coinbase.com"


@pytest.mark.parametrize(("venue", "frame"), [
    (ADVANCED, {"channel": "subscriptions", "sequence_num": 4, "events": [
        {"subscriptions": {"heartbeats": ["heartbeats"], "level2": SYMBOLS[::-1], "market_trades": SYMBOLS}}]}),
    *((OLD, {"type": "subscriptions", "channels": [
        {"name": name, "product_ids": SYMBOLS[::-1], "account_ids": None}, {"name": "matches", "product_ids": SYMBOLS},
        {"name": "heartbeat", "product_ids": SYMBOLS}]}) for name in ("level2", "level2_batch", "level2_50")),
])
def test_an_answer_acknowledges_all_that_is_subscribed_in_any_order(venue, frame):
    answer = venue.control(json.dumps(frame).encode())
    assert isinstance(answer, Acknowledged)
    expected = venue.expected_acks(SYMBOLS, "book", True)
    assert len(expected) == 4
    assert expected <= set(answer.keys)
    less = venue.control(json.dumps(frame).replace("ETH-USD", "BTC-USD").encode())
    assert not expected <= set(less.keys)


@pytest.mark.parametrize(("frame", "meaning"), [
    ({"type": "error", "message": "Failed to subscribe", "reason": "ETH-XYZ is not a valid product"},
     Refused("Failed to subscribe: ETH-XYZ is not a valid product", ("level2:eth-xyz", "market_trades:eth-xyz"))),
    ({"type": "error", "message": "Failed to subscribe", "reason": "LOOM-USDC is delisted"},
     Refused("Failed to subscribe: LOOM-USDC is delisted", ("level2:loom-usdc", "market_trades:loom-usdc"))),
    ({"type": "error", "message": "Failed to subscribe", "reason": "not_a_valid_channel is not a valid channel"},
     Refused("Failed to subscribe: not_a_valid_channel is not a valid channel")),
    ({"type": "error", "message": "Failed to subscribe", "reason": "level2 and full channels require authentication."},
     Refused("Failed to subscribe: level2 and full channels require authentication.")),
    ({"type": "error", "message": "authentication failure"}, Refused("authentication failure")),
    ({"type": "error"}, Refused("{'type': 'error'}")),
    ([], None), ({"channel": "subscriptions", "events": [{}]}, Acknowledged(())),
    ({"type": "subscriptions", "channels": ["level2"]}, Acknowledged(())),
])
def test_refusals_name_what_was_refused_where_the_venue_does(frame, meaning):
    assert ADVANCED.control(json.dumps(frame).encode()) == meaning


def test_text_that_is_not_json_is_the_venues_error():
    with pytest.raises(VenueError, match=r"coinbase sent .* not JSON"):
        ADVANCED.control(b"<html>")
    with pytest.raises(VenueError, match="instrument list"):
        ADVANCED.parse_instruments(b'{"message":"no"}')


def test_a_listing_has_steps_minimums_and_the_venues_word():
    (row,) = listed(PRODUCT)
    assert (row.symbol, row.name, row.tick, row.lot) == ("BTC-USD", "BTC-USD", "0.05", "0.00000001")
    assert (row.min_size, row.min_value, row.max_size) == ("0.001", "1", "3400")
    assert (row.status, row.tradable) == ("online", True)
    assert listed({**PRODUCT, "product_type": "FUTURE"}) == []
    (odd,) = listed({**PRODUCT, "product_id": "BTCAUCTION-USD"})
    assert odd.name == "BTCAUCTION-USD"         # its base_currency_id is BTC


@pytest.mark.parametrize(("flags", "tradable"), [
    ({"limit_only": True, "post_only": True}, True), ({"is_disabled": True}, False),
    ({"trading_disabled": True}, False), ({"view_only": True}, False),
    ({"cancel_only": True}, False), ({"auction_mode": True}, False),
    ({"status": "delisted"}, False), ({"status": ""}, False)])
def test_a_product_without_a_market_to_trust_is_not_tradable(flags, tradable):
    (row,) = listed({**PRODUCT, **flags})
    assert row.tradable == tradable
    assert tradable or flags.get("status", "") in row.status


def test_both_names_of_one_book_lead_to_its_symbol_and_no_other_name_does():
    usdc = {**PRODUCT, "product_id": "BTC-USDC", "alias": "BTC-USD", "alias_to": []}
    own = {**PRODUCT, "product_id": "USDT-USDC", "alias": "", "alias_to": []}
    rows = listed(PRODUCT, usdc, own, {**own, "product_id": "USDT-USD"})
    names = {"btcusd": "BTC-USD", "BTC-USD": "BTC-USD", "btcusdc": "BTC-USDC", "BTC/USDC": "BTC-USDC"}
    for wanted, name in names.items():
        row = resolve(wanted, rows)
        assert (row.symbol, row.name) == ("BTC-USD", name)
    assert resolve("usdtusdc", rows).symbol == "USDT-USDC"
    assert ADVANCED.spellings("BTC-USD") == ["BTC-USD"]
    with pytest.raises(UnknownSymbol, match="BTC-USDC"):
        resolve("btc-usdt", rows)


def test_a_book_with_two_names_is_kept_once():
    usdc = {**PRODUCT, "product_id": "BTC-USDC", "alias": "BTC-USD", "alias_to": []}
    here = listed(usdc, PRODUCT, {**PRODUCT, "product_id": "ETH-USD"})
    there = [replace(row, venue="binance", symbol=row.name.replace("-", "")) for row in here]
    rows = {"coinbase": here, "binance": there}
    names = {(venue, row.name) for chosen in choose(["all"], rows) for venue, row in chosen.items()}
    assert names == {("coinbase", "BTC-USD"), ("coinbase", "ETH-USD"), ("binance", "BTC-USD"), ("binance", "BTC-USDC"),
                     ("binance", "ETH-USD")}
    assert [list(chosen) for chosen in choose(["btc-usdc", "*-usd"], rows)] == [
        ["coinbase", "binance"], ["coinbase", "binance"], ["binance"]]
    assert [row.symbol for row in choose(["btc-usdc"], {"coinbase": here})[0].values()] == ["BTC-USD"]
    with pytest.raises(ConfigurationError, match="BTC-USD and BTC-USDC are one book at coinbase"):
        choose(["btc-usd", "btc-usdc"], rows)


def test_the_recorded_lists_of_both_generations():
    advanced, old = (next(record for record in tape([data(path)]) if record.kind == "rest")
                     for path in ("cryptofeed-v3/COINBASE.first-part.jsonl", "cryptofeed/COINBASE.0"))
    assert ADVANCED.lists_instruments(advanced.url)
    assert ADVANCED.lists_instruments(old.url)
    rows = ADVANCED.parse_instruments(advanced.text)
    assert (len(rows), sum(row.tradable for row in rows), len({row.symbol for row in rows})) == (920, 912, 520)
    own = {row.symbol for row in rows if row.quote == "USDC" and row.symbol == row.name}
    assert own == {"USDT-USDC", "EURC-USDC", "XSGD-USDC", "TGBP-USDC", "AUDD-USDC"}
    rows = {row.symbol: row for row in ADVANCED.parse_instruments(old.text)}
    assert len(rows) == 162
    assert (rows["SKL-EUR"].tick, rows["SKL-EUR"].lot, rows["SKL-EUR"].min_value) == ("0.0001", "0.1", "5")


@pytest.mark.parametrize("venue", [ADVANCED, OLD], ids=["advanced", "exchange"])
def test_what_is_asked_for_over_rest_is_recognised_in_a_recording(venue):
    assert venue.snapshot_symbol(venue.endpoints.rest + venue.snapshot("BTC-USD", 100).path) == "BTC-USD"
    assert venue.lists_instruments(venue.endpoints.rest + venue.instruments_request().path)
    for other in ("/products/BTC-USD", "/products/BTC-USD/trades", "/api/v3/brokerage/market/products/BTC-USD"):
        assert venue.snapshot_symbol(venue.endpoints.rest + other) is None
        assert not venue.lists_instruments(venue.endpoints.rest + other)


@pytest.mark.parametrize(("frame", "numbers"), [
    ({"channel": "l2_data", "events": [{"type": "update", "product_id": "A-B", "updates": [
        {"side": "bid", "price_level": "1.5", "new_quantity": "2"}]}]}, [("A-B", "1.5", "2")]),
    ({"channel": "market_trades", "events": [{"type": "update", "trades": [
        {"product_id": "A-B", "price": "1.5", "size": "2"}]}]}, [("A-B", "1.5", "2")]),
    ({"type": "snapshot", "product_id": "A-B", "bids": [["1.5", "2"]], "asks": [["1.6", "3"]]},
     [("A-B", "1.5", "2"), ("A-B", "1.6", "3")]),
    ({"type": "l2update", "product_id": "A-B", "changes": [["buy", "1.5", "0"]]}, [("A-B", "1.5", "0")]),
    ({"type": "match", "product_id": "A-B", "price": "1.5", "size": "2"}, [("A-B", "1.5", "2")]),
    ({"pricebook": {"bids": [{"price": "1.5", "size": "2"}], "asks": []}}, [("", "1.5", "2")]),
    ({"sequence": 3, "bids": [["1.5", "2", 7]], "asks": []}, [("", "1.5", "2")]),
    ({"type": "ticker", "product_id": "A-B", "price": "1.5"}, []), ({"type": "error"}, []), ([], []),
    ({"events": [1]}, []), ({"pricebook": 1}, []), ({"events": None}, []),
])
def test_numbers_that_a_scale_must_hold(frame, numbers):
    assert list(ADVANCED.numbers(json.dumps(frame).encode())) == numbers
