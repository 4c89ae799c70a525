"""decode_coinbase: what the messages of both generations become, at the edges."""
import json
from itertools import permutations

import pytest

from tests.c.decoding import Decoder, Decoding
from tests.data import data

TIME, TIME_NS = "2026-04-07T14:30:01.456789Z", 1775572201_456789000
CHANGES = [("bid", 1050, 1250), ("ask", 1060, 0)]
UPDATES = [{"side": "bid", "event_time": TIME, "price_level": "10.50", "new_quantity": "1.25"},
           {"side": "offer", "event_time": "1970-01-01T00:00:00Z", "price_level": "10.6", "new_quantity": "0.000"}]
TRADE = {"product_id": "BTC-USD", "trade_id": "22381691", "price": "10.5", "size": "0.5",
         "time": "2024-10-04T07:13:31.088388Z", "side": "BUY"}
TOLD = (22381691, "sell", 1050, 500, 1728026011_088388000)
MATCH = {"type": "match", "trade_id": 22381691, "maker_order_id": "2a0da34e", "taker_order_id": "3c82abaa",
         "side": "buy", "size": "0.5", "price": "10.50", "product_id": "BTC-USD", "sequence": 177100030,
         "time": "2024-10-04T07:13:31.088388Z"}


def text(value) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def decoder():
    return Decoder("coinbase", ["ETH-USD", "BTC-USD"], [(8, 8), (2, 3)])


def event(kind="update", product="BTC-USD", updates=UPDATES):
    return {"type": kind, "product_id": product, "updates": updates}


def traded(*trades, kind="update"):
    return {"type": kind, "trades": list(trades)}


def advanced(*events, channel="l2_data", number=7, **more):
    return {"channel": channel, "client_id": "", "timestamp": TIME, "sequence_num": number, "events": list(events),
            **more}


def changed(what, **members):
    return {key: value for key, value in {**what, **members}.items() if value is not ...}


UPDATE = {"type": "l2update", "product_id": "BTC-USD", "changes": [["buy", "10.50", "1.25"], ["sell", "10.6", "0.000"]],
          "time": TIME}
SNAPSHOT = {"type": "snapshot", "product_id": "BTC-USD", "asks": [["10.6", "3"]],
            "bids": [["10.5", "1.25"], ["10.4", "2"]]}


@pytest.mark.parametrize("kind", ["update", "snapshot"])
def test_a_book_message_is_read_in_any_order_of_its_members(kind):
    parts = event(kind, updates=[dict(row) for row in UPDATES])
    for frame in (advanced(parts), changed(advanced(parts), client_id=...), dict(reversed(advanced(parts).items())),
                  advanced(dict(reversed(parts.items()))), advanced(parts, more={"channel": "user", "events": []}),
                  advanced(changed(parts, updates=[dict(reversed(row.items())) for row in UPDATES])),
                  advanced(changed(parts, updates=[changed(row, event_time=..., x=[{}]) for row in UPDATES]))):
        for spelled in (text(frame), json.dumps(frame, indent=2).encode()):
            answer = decoder().decode(spelled)
            assert answer.kind is (Decoding.DIFF if kind == "update" else Decoding.SNAPSHOT)
            assert (answer.book, answer.number, answer.venue_time_ns) == (1, 7, TIME_NS)
            assert answer.changes == CHANGES


@pytest.mark.parametrize("zero", ["0", "0.0", "0.00", "0.000000", "0.00000000", "0e0", "0E-9"])
def test_zero_removes_a_level_however_it_is_spelled(zero):
    updates = [changed(UPDATES[0], new_quantity=zero)]
    for frame in (advanced(event(updates=updates)), changed(UPDATE, changes=[["buy", "10.50", zero]])):
        assert decoder().decode(text(frame)).changes == [("bid", 1050, 0)]


def test_events_of_several_products_are_parts_with_one_number():
    eth = [{"side": "offer", "event_time": TIME, "price_level": "3000.1", "new_quantity": "2"}]
    parts = decoder().parts(text(advanced(event("snapshot"), event("update", "ETH-USD", eth),
                                          event("update", "XRP-USD"), event(updates=[UPDATES[1]]))))
    assert [(part.kind, part.book, part.number) for part in parts] == [
        (Decoding.SNAPSHOT, 1, 7), (Decoding.DIFF, 0, 7), (Decoding.UNKNOWN, None, 7), (Decoding.DIFF, 1, 7)]
    assert [part.changes for part in parts] == [CHANGES, [("ask", 300010000000, 200000000)], [], [CHANGES[1]]]
    assert {part.venue_time_ns for part in parts if part.book is not None} == {TIME_NS}


def test_a_part_that_can_not_be_used_does_not_hide_the_next():
    finer = [changed(UPDATES[0], price_level="10.501")]
    for first, kind in ((event(updates=finer), Decoding.FINER), (event(updates=None), Decoding.MALFORMED),
                        (event("other"), Decoding.MALFORMED),
                        (event(updates=[UPDATES[0]] * 70000), Decoding.TOO_MANY)):
        parts = decoder().parts(text(advanced(first, event())))
        assert [part.kind for part in parts] == [kind, Decoding.DIFF]
        assert parts[1].changes == CHANGES


def test_trades_are_told_in_rising_order_with_the_takers_side():
    newest = changed(TRADE, trade_id="22381693", side="SELL")
    between = changed(TRADE, trade_id="22381692")
    for rows in ((newest, between, TRADE), (TRADE, between, newest)):
        answer = decoder().decode(text(advanced(traded(*rows), channel="market_trades")))
        assert (answer.kind, answer.book, answer.number) == (Decoding.TRADES, 1, 7)
        assert answer.trades == [TOLD, (TOLD[0] + 1, *TOLD[1:]), (TOLD[0] + 2, "buy", *TOLD[2:])]
        assert (answer.first, answer.last) == (22381691, 22381693)


def test_trades_of_several_products_are_parts():
    eth = [changed(TRADE, product_id="ETH-USD", trade_id=str(number)) for number in (9, 8)]
    frame = advanced(traded(TRADE, *eth), traded(), traded(eth[0], changed(TRADE, product_id="XRP-USD")),
                     channel="market_trades")
    parts = decoder().parts(text(frame))
    assert [(part.kind, part.book, [trade[0] for trade in part.trades]) for part in parts] == [
        (Decoding.TRADES, 1, [22381691]), (Decoding.TRADES, 0, [8, 9]), (Decoding.IGNORED, None, []),
        (Decoding.TRADES, 0, [9]), (Decoding.UNKNOWN, None, [])]
    assert {part.number for part in parts} == {7}


def test_what_was_traded_before_the_subscription_is_told_as_history():
    told = decoder()
    for frame, history in ((advanced(traded(TRADE, kind="snapshot"), channel="market_trades"), True),
                           (advanced(traded(TRADE), channel="market_trades"), False),
                           (changed(MATCH, type="last_match"), True), (MATCH, False)):
        assert told.decode(text(frame)).trades == [TOLD]
        assert told.state.contents.history == history


def test_exchange_books_and_matches_are_read_in_any_order_of_their_members():
    for members in permutations(UPDATE.items()):
        answer = decoder().decode(text(dict(members)))
        assert (answer.kind, answer.book, answer.number, answer.venue_time_ns) == (Decoding.DIFF, 1, None, TIME_NS)
        assert answer.changes == CHANGES
    for members in permutations({**SNAPSHOT, "time": TIME}.items()):
        answer = decoder().decode(text(dict(members)))
        assert (answer.kind, answer.book, answer.venue_time_ns) == (Decoding.SNAPSHOT, 1, TIME_NS)
        assert sorted(answer.changes) == [("ask", 1060, 3000), ("bid", 1040, 2000), ("bid", 1050, 1250)]
    assert decoder().decode(text(SNAPSHOT)).kind is Decoding.SNAPSHOT
    assert decoder().decode(text(dict(sorted(MATCH.items())))).trades == [TOLD]


@pytest.mark.parametrize(("frame", "kind"), [
    (advanced({"subscriptions": {"level2": ["BTC-USD"]}}, channel="subscriptions"), Decoding.CONTROL),
    (advanced({"current_time": "2026-04-07 14:30:10.000000000 +0000 UTC m=+1.2", "heartbeat_counter": "42"},
              channel="heartbeats"), Decoding.HEARTBEAT),
    (advanced({"type": "snapshot", "tickers": [{"type": "ticker"}]}, channel="ticker"), Decoding.IGNORED),
    (advanced({"type": "update", "candles": []}, channel="candles"), Decoding.IGNORED),
    (advanced({"type": "snapshot", "orders": [{"order_id": "a"}]}, channel="user"), Decoding.IGNORED),
    (advanced(), Decoding.IGNORED),
    (advanced(event(product="XRP-USD")), Decoding.UNKNOWN),
    (advanced(event(updates=[changed(UPDATES[0], new_quantity="0.0001")])), Decoding.FINER),
    (advanced(event(updates=[changed(UPDATES[0], price_level="9" * 30)])), Decoding.FINER),
    (advanced(event("snapshot", updates=[UPDATES[0]] * 70000)), Decoding.TOO_MANY),
    (advanced(traded(*[TRADE] * 2000), channel="market_trades"), Decoding.TOO_MANY),
    (advanced(event(updates=[])), Decoding.DIFF),
    (advanced(event("snapshot", updates=[])), Decoding.SNAPSHOT),
    ({"type": "subscriptions", "channels": [{"name": "level2_50", "product_ids": ["BTC-USD"], "account_ids": None}]},
     Decoding.CONTROL),
    ({"type": "error", "message": "Failed to subscribe", "reason": "ETH-XYZ is not a valid product"}, Decoding.CONTROL),
    ({"type": "heartbeat", "sequence": 90, "last_trade_id": 20, "product_id": "BTC-USD", "time": TIME},
     Decoding.HEARTBEAT),
    ({"type": "ticker", "product_id": "BTC-USD", "best_bid": "1"}, Decoding.IGNORED),
    ({"type": "received", "product_id": "BTC-USD"}, Decoding.IGNORED),
    (changed(UPDATE, product_id="XRP-USD"), Decoding.UNKNOWN),
    (changed(MATCH, price="10.501"), Decoding.FINER),
    (changed(SNAPSHOT, bids=[["10.501", "1"]]), Decoding.FINER),
])
def test_messages_are_told_apart_and_all_of_advanced_trade_are_numbered(frame, kind):
    answer = decoder().decode(text(frame))
    assert (answer.kind, answer.number) == (kind, frame.get("sequence_num"))


@pytest.mark.parametrize("frame", [
    {}, [], 1, "x", None, {"type": 1}, {"channel": "l2_data"}, {"product_id": "BTC-USD"},
    *(advanced(event(), number=number) for number in (-1, 1.5, "x", None)),
    *(changed(advanced(event()), **member) for member in (
        {"timestamp": "yesterday"}, {"timestamp": ...}, {"events": {}}, {"events": ...})),
    advanced(1), advanced(None), advanced({}), advanced(changed(event(), type=...)),
    advanced(changed(event(), product_id=7)), advanced(changed(event(), updates=...)),
    advanced(event(updates={})), advanced(event(updates=[1])), advanced(event(updates=[[]])),
    *(advanced(event(updates=[changed(UPDATES[0], **member)])) for member in (
        {"side": "ask"}, {"side": ...}, {"price_level": ...}, {"new_quantity": "-1"}, {"new_quantity": None},
        {"price_level": "1x"}, {"price_level": " 1"}, {"price_level": ""}, {"price_level": []})),
    *(advanced(traded(changed(TRADE, **member)), channel="market_trades") for member in (
        {"side": "ask"}, {"side": ...}, {"price": "0"}, {"price": "-1"}, {"size": "-1"}, {"time": "now"}, {"time": ...},
        {"trade_id": "x"}, {"trade_id": 1.5}, {"product_id": ...}, {"product_id": None}, {"size": ...})),
    advanced(traded(TRADE, 1), channel="market_trades"),
    *(advanced(traded(*trades), channel="market_trades") for trades in (
        (changed(TRADE, product_id=...), TRADE), (TRADE, changed(TRADE, product_id=...)))),
    advanced({"type": "update", "trades": {}}, channel="market_trades"),
    *(changed(UPDATE, **member) for member in (
        {"changes": [["buy", "1"]]}, {"changes": [["bought", "1", "1"]]}, {"changes": ...}, {"time": "now"},
        {"product_id": ...})),
    changed(SNAPSHOT, bids=...), changed(SNAPSHOT, asks=[["1"]]),
    changed(MATCH, side="neither"), changed(MATCH, trade_id=...), changed(MATCH, time=1),
])
def test_what_is_no_message_is_malformed(frame):
    assert decoder().decode(text(frame)).kind is Decoding.MALFORMED


@pytest.mark.parametrize("level", ["0", "-1", "0.00"])
def test_a_level_that_nobody_can_trade_at_is_left_out(level):
    odd = changed(UPDATES[0], price_level=level)
    assert decoder().decode(text(advanced(event(updates=[UPDATES[0], odd, UPDATES[1]])))).changes == CHANGES


@pytest.mark.parametrize("frame", [advanced(event()), advanced(event(), event()), UPDATE, SNAPSHOT, MATCH,
                                   advanced(traded(TRADE), channel="market_trades")])
def test_no_truncation_repetition_or_disguise_is_accepted(frame):
    whole, told = text(frame), decoder()
    assert all(part.kind > 0 for part in told.parts(whole))
    for size in range(len(whole)):
        assert told.decode(whole[:size]).kind is Decoding.MALFORMED
    name = b'"channel"' if "channel" in frame else b'"type"'
    for broken in (whole + b"}", whole + whole, whole[:-1] + b',"type":"x","type":"x"}', whole + b"\x00",
                   whole.replace(name, name[:-2] + b"\\u00%02x\"" % name[-2], 1)):
        assert told.decode(broken).kind is Decoding.MALFORMED


@pytest.mark.parametrize(("answer", "last"), [
    ({"pricebook": {"product_id": "BTC-USD", "bids": [{"price": "10.5", "size": "1.25"}],
                    "asks": [{"price": "10.6", "size": "3"}], "time": TIME}, "last": "10.5", "mid_market": "1"}, 0),
    ({"sequence": 13051505638, "bids": [["10.5", "1.25", 3]], "asks": [["10.6", "3", 1]], "auction_mode": False,
      "auction": None, "time": TIME}, 13051505638),
])
def test_rest_books_of_both_generations(answer, last):
    found = decoder().decode_snapshot(text(answer), 1)
    assert (found.kind, found.book, found.last, found.venue_time_ns) == (Decoding.IMAGE, 1, last, TIME_NS)
    assert found.changes == [("ask", 1060, 3000), ("bid", 1050, 1250)]
    for broken in ({}, [], {"pricebook": {}}, {"bids": [], "asks": {}}, {"bids": [["1"]], "asks": []}):
        assert decoder().decode_snapshot(text(broken), 1).kind is Decoding.MALFORMED


@pytest.mark.parametrize(("name", "kind"), [
    ("l2_data_snapshot", Decoding.SNAPSHOT), ("l2_data_update", Decoding.DIFF), ("market_trades", Decoding.TRADES),
    ("heartbeats", Decoding.HEARTBEAT), ("subscriptions", Decoding.CONTROL), ("ticker", Decoding.IGNORED),
    ("candles", Decoding.IGNORED), ("user", Decoding.IGNORED)])
def test_the_fixtures_of_another_client_are_understood(name, kind):
    frame = data(f"nautilus_trader/coinbase/ws_{name}.json").read_bytes()
    answer = Decoder("coinbase", ["BTC-USD"], [(8, 8)]).decode(frame)
    assert (answer.kind, answer.number) == (kind, json.loads(frame)["sequence_num"])
    if kind is Decoding.TRADES:
        assert [(trade[0], trade[1]) for trade in answer.trades] == [(995098700, "sell"), (995098701, "buy")]
