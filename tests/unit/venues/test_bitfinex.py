"""bitfinex: what is said to it, and what its answers are taken to mean."""
import json

import pytest

from mantra.errors import VenueError
from mantra.venues import get
from mantra.venues.instrument import InstrumentTable, ObservedScale, listed_scale
from mantra.venues.venue import Acknowledged, Refused, Request, Restart
from tests.data import read

SUBSCRIBED = b'{"event":"subscribed","channel":"%s","chanId":%d,"symbol":"%s","prec":"P0","len":"250","pair":"X"}'


@pytest.fixture
def venue():
    return get("bitfinex")


@pytest.mark.parametrize(("mode", "length"), [("book", "250"), ("top", "25")])
def test_flags_are_asked_for_first_then_each_channel_in_a_frame_of_its_own(venue, mode, length):
    frames = [json.loads(text) for text in venue.subscribe_texts(["tBTCUSD", "tDUSK:USD"], mode, True)]
    assert frames[0] == {"event": "conf", "flags": 229376}
    assert [(frame["channel"], frame["symbol"]) for frame in frames[1:]] == [
        ("book", "tBTCUSD"), ("trades", "tBTCUSD"), ("book", "tDUSK:USD"), ("trades", "tDUSK:USD")]
    assert {(frame["prec"], frame["freq"], frame["len"]) for frame in frames if frame.get("channel") == "book"} == {
        ("P0", "F0", length)}
    assert all(len(text) <= venue.limits.frame_bytes for text in venue.subscribe_texts(["tX" * 15], mode, True))
    assert venue.url([], mode, True) == "wss://api-pub.bitfinex.com/ws/2"


def test_channels_are_granted_by_name_and_symbol(venue):
    assert venue.expected_acks(["tBTCUSD"], "book", True) == {"conf", "book tBTCUSD", "trades tBTCUSD"}
    assert venue.expected_acks(["tBTCUSD"], "top", False) == {"conf", "book tBTCUSD"}
    assert venue.control(b'{"event":"conf","status":"OK","flags":229376}') == Acknowledged(("conf",))
    assert venue.control(SUBSCRIBED % (b"book", 7, b"tBTCUSD")) == Acknowledged(("book tBTCUSD",))


@pytest.mark.parametrize(("text", "meaning"), [
    (b'{"event":"info","version":2,"serverId":"x","platform":{"status":1}}', None),
    (b'{"event":"info","code":20051,"msg":"Stopping"}', Restart(0.0)),
    (b'{"event":"info","code":20060,"msg":"Entering in Maintenance mode"}', Restart(0.0, True)),
    (b'{"event":"info","code":20061,"msg":"Maintenance ended"}', Restart(0.0, True)),
    (b'{"event":"conf","status":"FAILED","flags":1}', Refused("flags: FAILED", ("conf",))),
    (b'{"channel":"book","symbol":"tNOPEUSD","prec":"P0","len":"25","event":"error","msg":"symbol: invalid",'
     b'"code":10300,"pair":"NOPEUSD"}', Refused("symbol: invalid (code 10300)", ("book tNOPEUSD",))),
    (b'{"event":"error","msg":"subscribe: dup","code":10301,"channel":"trades","chanId":5,"symbol":"tBTCUSD"}',
     Acknowledged(("trades tBTCUSD",))),
    (b'{"event":"error","msg":"channel: unknown","code":10302,"channel":"bok","symbol":"tBTCUSD"}',
     Refused("channel: unknown (code 10302)", ("bok tBTCUSD",))),
    (b'{"event":"error","msg":"subscribe: limit","code":10305,"channel":"book","symbol":"tBTCUSD"}',
     Refused("subscribe: limit (code 10305)", ("book tBTCUSD",))),
    (b'{"event":"error","msg":"event: invalid","code":10000}', Refused("event: invalid (code 10000)")),
    (b'{"event":"unsubscribed","status":"OK","chanId":5}', None),
    (b"[]", None),
])
def test_control_frames(venue, text, meaning):
    assert venue.control(text) == meaning


def test_a_channel_is_left_by_the_number_that_its_acknowledgement_named(venue):
    assert venue.unsubscribe_texts(["tBTCUSD"], "book") == []
    venue.control(SUBSCRIBED % (b"book", 7, b"tBTCUSD"))
    venue.control(SUBSCRIBED % (b"trades", 8, b"tBTCUSD"))
    venue.control(SUBSCRIBED % (b"book", 9, b"tETHUSD"))
    assert venue.unsubscribe_texts(["tBTCUSD", "tETHUSD"], "book") == ['{"event":"unsubscribe","chanId":7}',
                                                                     '{"event":"unsubscribe","chanId":9}']
    assert venue.unsubscribe_texts(["tBTCUSD"], "book") == []


def test_a_second_subscription_tells_the_number_of_the_first(venue):
    venue.control(b'{"event":"error","msg":"subscribe: dup","code":10301,"channel":"book","chanId":5,"symbol":"tX"}')
    assert venue.unsubscribe_texts(["tX"], "book") == ['{"event":"unsubscribe","chanId":5}']


def test_text_that_is_not_json_is_the_venues_error(venue):
    with pytest.raises(VenueError, match=r"bitfinex sent .* not JSON"):
        venue.control(b"<html>")
    for answer in (b"{}", b"[]", b'["error",10020,"x"]', b"[1]", b"[[1]]"):
        with pytest.raises(VenueError, match="instrument list"):
            venue.parse_instruments(answer)


@pytest.mark.parametrize(("levels", "length"), [(1, 1), (10, 25), (100, 100), (250, 250), (5000, 250)])
def test_a_rest_book_is_as_long_as_it_may_be(venue, levels, length):
    request = venue.snapshot("tDUSK:USD", levels)
    assert request == Request(f"/v2/book/tDUSK:USD/P0?len={length}")
    assert venue.snapshot_symbol(venue.endpoints.rest + request.path) == "tDUSK:USD"


def test_only_the_list_of_pairs_is_one(venue):
    home = venue.endpoints.rest
    assert venue.lists_instruments(home + venue.instruments_request().path)
    assert venue.lists_instruments(f"{home}/v2/conf/pub:list:pair:exchange")
    assert not venue.lists_instruments(f"{home}/v2/conf/pub:list:pair:future")
    assert not venue.lists_instruments(f"{home}/v2/conf/pub:list:currency")


def test_the_instrument_list_as_recorded(venue):
    body = read("cryptofeed/BITFINEX.0").split(b"\n")[0].split(b": ", 1)[1]
    rows = {row.symbol: row for row in venue.parse_instruments(body)}
    assert len(rows) > 250
    assert rows["tBTCUST"].name == "BTC-USDT"
    assert rows["tAAVE:USD"].name == "AAVE-USD"
    assert rows["tIOTETH"].name == "IOTA-ETH"
    assert rows["tTESTBTC:TESTUSD"].name == "TESTBTC-TESTUSD"


def test_the_instrument_list_of_today_names_sizes_and_usual_codes(venue):
    answer = [["BTCUSD", "BTCUST", "DUSK:UST", "BTCF0:USTF0", "XBB:YYY"],
              [["BTCUSD", [None, None, None, "0.00004", "2000.0", None]],
               ["DUSK:UST", [None, None, None, "4.0", "250000"]]],
              [["UST", "USDt"], ["XBB", "Xbb2"]]]
    rows = {row.name: row for row in venue.parse_instruments(json.dumps(answer).encode())}
    assert set(rows) == {"BTC-USD", "BTC-USDT", "DUSK-USDT", "XBB2-YYY"}
    bitcoin = rows["BTC-USD"]
    assert (bitcoin.symbol, bitcoin.tick, bitcoin.lot) == ("tBTCUSD", "", "0.00000001")
    assert (bitcoin.min_size, bitcoin.max_size, bitcoin.tradable) == ("0.00004", "2000", True)
    assert rows["BTC-USDT"].max_size == ""


def test_small_prices_are_exact_on_the_scale_of_the_list_or_open_a_finer_one(venue):
    (row,) = venue.parse_instruments(b'[["PEPUSD"]]')
    assert listed_scale([row]) == (8, 8)                # 7e-7 and 1e-8 are whole ticks of it
    table, seen = InstrumentTable(), ObservedScale()
    first = table.for_listings([row])
    venue.control(SUBSCRIBED % (b"book", 7, b"tPEPUSD"))
    for symbol, price, size in venue.numbers(b"[7,[1.2345e-6,2,-31250000.5],3,1618677545894]"):
        assert (symbol, price, size) == ("tPEPUSD", "1.2345e-6", "31250000.5")
        seen.level(price, size)
    assert (seen.price.decimals(first.price_decimals), seen.size.decimals(first.size_decimals)) == (10, 8)


@pytest.mark.parametrize(("text", "numbers"), [
    (b"[7,[[60400,1,0.5],[7e-7,0,-1]],1]", [("tX", "60400", "0.5"), ("tX", "7e-7", "1")]),
    (b"[7,[60400.10,1,-0.50]]", [("tX", "60400.10", "0.50")]),
    (b'[8,"te",[1,2,-0.25,1e-5],4]', [("tX", "1e-5", "0.25")]),
    (b"[8,[[1,2,-0.25,3],[1,2,1,4]]]", [("tX", "3", "0.25"), ("tX", "4", "1")]),
    (b"[[60400,1,-0.5],[1,2,3]]", [("", "60400", "0.5"), ("", "1", "3")]),
    (b'[7,"hb",1]', []), (b'[7,"cs",-5,1]', []), (b"[7,[]]", []), (b"[9,[1,2,3]]", []), (b"[5,[1,2,3]]", []),
    (b"[7]", []), (b"[]", []), (b"3", []), (b'{"event":"info"}', []), (b"<html>", []),
    (b'["error",10020,"x"]', []), (b"[[1,2]]", []),
])
def test_numbers_of_a_message(venue, text, numbers):
    for channel, number, symbol in ((b"book", 7, b"tX"), (b"trades", 8, b"tX"), (b"book", 9, b"fUST")):
        assert list(venue.numbers(SUBSCRIBED % (channel, number, symbol))) == []
    assert list(venue.numbers(text)) == numbers
