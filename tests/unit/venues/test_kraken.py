"""kraken: what is said to it, and what its answers are taken to mean."""
import json

import pytest

from mantra.errors import VenueError
from mantra.venues import Endpoints, get
from mantra.venues.venue import Acknowledged, Refused, Request, Restart

SYMBOLS = ["BTC/USD", "ETH/USD", "DOGE/EUR"]


@pytest.fixture
def venue():
    return get("kraken")


@pytest.fixture
def older():
    return get("kraken", Endpoints("wss://ws.kraken.com", "https://api.kraken.com", api="v1"))


@pytest.mark.parametrize(("mode", "depth"), [("book", 1000), ("top", 25)])
def test_books_are_asked_for_deeper_than_ten_and_kept_so(venue, mode, depth):
    book, trades = map(json.loads, venue.subscribe_texts(SYMBOLS, mode, True))
    assert book["params"] == {"channel": "book", "symbol": SYMBOLS, "depth": depth, "snapshot": True}
    assert trades["params"] == {"channel": "trade", "symbol": SYMBOLS, "snapshot": True}
    assert book["req_id"] != trades["req_id"]
    assert venue.keep(mode, 10) == depth
    (gone,) = map(json.loads, venue.unsubscribe_texts(SYMBOLS, mode))
    assert (gone["method"], gone["params"]) == ("unsubscribe", {"channel": "book", "symbol": SYMBOLS, "depth": depth})


def test_the_older_protocol_is_asked_in_its_own_words_and_names(older):
    book, trades = map(json.loads, older.subscribe_texts(SYMBOLS, "book", True))
    assert (book["event"], book["pair"]) == ("subscribe", ["XBT/USD", "ETH/USD", "XDG/EUR"])
    assert (book["subscription"], trades["subscription"]) == ({"name": "book", "depth": 1000}, {"name": "trade"})
    (gone,) = map(json.loads, older.unsubscribe_texts(["BTC/USD"], "top"))
    assert (gone["event"], gone["pair"], gone["subscription"]) == ("unsubscribe", ["XBT/USD"],
                                                                  {"name": "book", "depth": 25})
    assert json.loads(older.heartbeat.text) == {"event": "ping"}


def test_many_symbols_are_asked_for_in_frames_within_the_limit(venue, older):
    symbols = [f"LONGNAME{number}/USDT" for number in range(120)]
    for each in (venue, older):
        texts = each.subscribe_texts(symbols, "book", True)
        assert len(texts) == 6
        assert all(len(text) <= each.limits.frame_bytes for text in texts)


def test_an_acknowledgement_comes_for_each_symbol(venue, older):
    assert venue.expected_acks(["BTC/USD"], "book", True) == {"book BTC/USD", "trade BTC/USD"}
    assert older.expected_acks(["BTC/USD"], "top", False) == {"book BTC/USD"}
    acknowledged = Acknowledged(("book BTC/USD",))
    assert venue.control(b'{"method":"subscribe","result":{"channel":"book","depth":10,"snapshot":true,"symbol":'
                         b'"BTC/USD"},"success":true,"time_in":"2025","time_out":"2025"}') == acknowledged
    assert older.control(b'{"channelID":1664,"channelName":"book-1000","event":"subscriptionStatus","pair":"XBT/USD",'
                         b'"status":"subscribed","subscription":{"depth":1000,"name":"book"}}') == acknowledged


@pytest.mark.parametrize(("text", "meaning"), [
    (b'{"error":"Currency pair not supported XXX/USD","method":"subscribe","req_id":1,"success":false,'
     b'"symbol":"XXX/USD"}',
     Refused("Currency pair not supported XXX/USD", ("book XXX/USD",))),
    (b'{"error":"Currency pair not supported XXX/USD","method":"subscribe","req_id":2,"success":false}',
     Refused("Currency pair not supported XXX/USD", ("trade XXX/USD",))),
    (b'{"error":"Symbol(s) not found","method":"subscribe","req_id":1,"success":false}',
     Refused("Symbol(s) not found")),
    (b'{"error":"Malformed request","success":false}', Refused("Malformed request")),
    (b'{"error":"Already subscribed","method":"subscribe","req_id":1,"success":false,"symbol":"BTC/USD"}',
     Acknowledged(("book BTC/USD",))),
    (b'{"errorMessage":"Currency pair not in ISO 4217-A3 format foobar","event":"subscriptionStatus","pair":"foobar",'
     b'"status":"error","subscription":{"name":"ticker"}}',
     Refused("Currency pair not in ISO 4217-A3 format foobar", ("ticker foobar",))),
    (b'{"errorMessage":"x","event":"subscriptionStatus","pair":"XDG/USD","status":"error",'
     b'"subscription":{"name":"book"}}',
     Refused("x", ("book DOGE/USD",))),
    (b'{"method":"unsubscribe","req_id":3,"result":{"channel":"book","depth":10,"symbol":"BTC/USD"},"success":true}',
     None),
    (b'{"error":"Subscription Not Found","method":"unsubscribe","req_id":3,"success":false,"symbol":"BTC/USD"}',
     None),
    (b'{"channelID":1,"channelName":"book-25","event":"subscriptionStatus","pair":"XBT/USD","status":"unsubscribed",'
     b'"reqid":3,"subscription":{"depth":25,"name":"book"}}', None),
    (b'{"channel":"status","data":[{"connection_id":18266300427528990701,"system":"online"}],"type":"update"}', None),
    (b'{"connectionID":8305967186189583446,"event":"systemStatus","status":"online","version":"1.8.3"}', None),
    (b'{"channel":"status","data":[{"connection_id":1,"system":"cancel_only"}],"type":"update"}',
     Refused("its system is in the state 'cancel_only'")),
    (b"[]", None), (b"{}", None), (b'{"data":[[]],"result":[],"subscription":7,"req_id":[]}', None),
])
def test_control_frames(venue, text, meaning):
    assert venue.control(text) == meaning


@pytest.mark.parametrize("status", [
    b'{"channel":"status","data":[{"connection_id":18266300427528990701,"system":"%s"}],"type":"update"}',
    b'{"connectionID":8305967186189583446,"event":"systemStatus","status":"%s","version":"1.8.3"}',
])
def test_after_a_maintenance_the_connection_is_made_anew_and_only_then(venue, status):
    assert venue.control(status % b"online") is None
    assert isinstance(venue.control(status % b"maintenance"), Refused)
    assert isinstance(venue.control(status % b"maintenance"), Refused)
    assert venue.control(status % b"online") == Restart(0.0)
    assert venue.control(status % b"online") is None
    assert isinstance(venue.control(status % b"post_only"), Refused)
    assert venue.control(status % b"online") is None


def test_text_that_is_not_json_is_the_venues_error(venue):
    with pytest.raises(VenueError, match=r"kraken sent .* not JSON"):
        venue.control(b"<html>")
    for answer in (b'{"msg":"no"}', b'{"error":["EGeneral:Unknown asset pair"],"result":{}}', b"[]"):
        with pytest.raises(VenueError, match="instrument list"):
            venue.parse_instruments(answer)


def test_symbols_are_those_of_v2_and_found_under_the_older_names_too(venue):
    assert venue.spellings("BTC/USD") == ["BTC/USD", "XBT/USD"]
    assert venue.spellings("ETH/BTC") == ["ETH/BTC", "ETH/XBT"]
    assert venue.spellings("ETH/USD") == ["ETH/USD"]
    listed = venue.listings({"error": [], "result": {
        "XXDGXXBT": {"altname": "XDGXBT", "wsname": "XDG/XBT", "base": "XXDG", "quote": "XXBT", "pair_decimals": 8,
                     "lot_decimals": 8, "tick_size": "0.00000001", "ordermin": "13", "costmin": "0.00002",
                     "status": "cancel_only"},
        "XXBTZUSD.d": {"altname": "XBTUSD.d", "base": "XXBT", "quote": "ZUSD", "pair_decimals": 1, "lot_decimals": 8}}})
    (doge,) = listed
    assert (doge.symbol, doge.name, doge.tick, doge.lot, doge.min_size, doge.min_value, doge.tradable) == (
        "DOGE/BTC", "DOGE-BTC", "0.00000001", "0.00000001", "13", "0.00002", False)


@pytest.mark.parametrize(("levels", "count"), [(10, 10), (500, 500), (5000, 500)])
def test_a_rest_book_is_asked_for_by_the_older_name(venue, levels, count):
    assert venue.snapshot("BTC/USD", levels) == Request(f"/0/public/Depth?pair=XBTUSD&count={count}")
    assert venue.snapshot_symbol("https://api.kraken.com/0/public/Depth?count=5&pair=XBTUSD") == "XBTUSD"
    assert venue.lists_instruments("https://api.kraken.com/0/public/AssetPairs")


@pytest.mark.parametrize(("text", "numbers"), [
    (b'{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":[{"price":1.50,"qty":7e-8}],"asks":[]}]}',
     [("BTC/USD", "1.50", "7e-8")]),
    (b'{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","price":2.50,"qty":40.0}]}',
     [("BTC/USD", "2.50", "40.0")]),
    (b'[1,{"a":[["3.10","1.0","5.0"]]},{"b":[["3.00","2","5.0","r"]],"c":"7"},"book-10","XBT/USD"]',
     [("BTC/USD", "3.10", "1.0"), ("BTC/USD", "3.00", "2")]),
    (b'[993,[["354.11","0.9","1618678142.5","s","l",""]],"trade","XMR/USD"]', [("XMR/USD", "354.11", "0.9")]),
    (b'{"error":[],"result":{"XXBTZUSD":{"asks":[["3.4","0.5",1688671200]],"bids":[["3.3","1.0",1688671200]]}}}',
     [("", "3.3", "1.0"), ("", "3.4", "0.5")]),
    (b'[1,["1","2"],"spread","XBT/USD"]', []), (b'{"channel":"heartbeat"}', []), (b"[1]", []), (b"7", []), (b"{", []),
    (b'{"channel":"book","data":[7,{"bids":7},{"asks":[7,{"qty":1}]}]}', []), (b'{"result":{"a":7}}', []),
    (b'[1,7,"book-10","XBT/USD"]', []), (b"[" * 100_000, []),
])
def test_numbers_are_the_text_that_a_scale_must_hold(venue, text, numbers):
    assert list(venue.numbers(text)) == numbers
