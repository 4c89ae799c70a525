"""Venues: what is said to them, and what their answers are taken to mean."""
import json

import pytest

from mantra.errors import ConfigurationError, VenueError
from mantra.venues import NAMES, VENUES, Endpoints, get, read_endpoints
from mantra.venues.venue import Acknowledged, Refused, Request, Restart
from tests.data import read

BINANCE, BITSTAMP = get("binance"), get("bitstamp")


def rest_answer(path, number=0):
    return read(path).split(b"\n")[number].split(b": ", 1)[1]


def test_ids_are_places_in_names():
    assert {name: venue.id for name, venue in VENUES.items()} == {name: NAMES.index(name) for name in VENUES}


def test_an_unknown_venue_is_refused_with_a_suggestion():
    with pytest.raises(ConfigurationError, match="did you mean binance"):
        get("binnance")


@pytest.mark.parametrize("venue", [BINANCE, BITSTAMP], ids=lambda venue: venue.name)
@pytest.mark.parametrize("mode", ["book", "top"])
@pytest.mark.parametrize("trades", [False, True])
def test_every_frame_sent_is_json_within_the_venue_limits(venue, mode, trades):
    symbols = [f"abcdefgh{number}usdt" for number in range(venue.limits.channels // 2)]
    texts = venue.subscribe_texts(symbols, mode, trades)
    assert all(json.loads(text) and len(text.encode()) <= venue.limits.frame_bytes for text in texts)
    assert len(set(venue.channels(symbols, mode, trades))) == len(symbols) * (
        1 + trades + (mode == "book" and bool(venue.bbo_channel)))


def test_binance_names_its_streams_in_the_url():
    assert BINANCE.url(["BTCUSDT", "ETHBTC"], "book", True) == (
        "wss://stream.binance.com:9443/stream?streams="
        "btcusdt@depth@100ms/btcusdt@trade/btcusdt@bookTicker/ethbtc@depth@100ms/ethbtc@trade/ethbtc@bookTicker")
    assert BINANCE.url(["BTCUSDT"], "top", False).endswith("?streams=btcusdt@depth20@100ms")
    assert BINANCE.subscribe_texts(["BTCUSDT"], "book", True) == []
    assert BINANCE.expected_acks(["BTCUSDT"], "book", True) == frozenset()


def test_binance_subscribes_by_frames_when_the_url_would_be_too_long():
    symbols = [f"SYMBOL{number}USDT" for number in range(400)]
    assert BINANCE.url(symbols, "book", True) == "wss://stream.binance.com:9443/stream"
    frames = [json.loads(text) for text in BINANCE.subscribe_texts(symbols, "book", True)]
    assert [name for frame in frames for name in frame["params"]] == BINANCE.channels(symbols, "book", True)
    acknowledged = {key for frame in frames
                    for key in BINANCE.control(json.dumps({"result": None, "id": frame["id"]}).encode()).keys}
    assert acknowledged == BINANCE.expected_acks(symbols, "book", True)


def test_symbols_beyond_ascii_are_percent_encoded_in_addresses():
    assert BINANCE.url(["币安USDT"], "book", False).endswith(
        "=%E5%B8%81%E5%AE%89usdt@depth@100ms/%E5%B8%81%E5%AE%89usdt@bookTicker")
    assert BINANCE.snapshot("币安USDT", 100).path == "/api/v3/depth?symbol=%E5%B8%81%E5%AE%89USDT&limit=100"


@pytest.mark.parametrize(("text", "meaning"), [
    (b'{"result":null,"id":1}', Acknowledged(("1",))),
    (b'{"result":["btcusdt@depth@100ms"],"id":3}', None),
    (b'{"code":2,"msg":"Invalid request: unknown variant","id":5}',
     Refused("Invalid request: unknown variant (code 2)", ("5",))),
    (b'{"error":{"code":3,"msg":"Invalid JSON"},"id":null}', Refused("Invalid JSON (code 3)")),
    (b'{"e":"serverShutdown","E":1770123456789}', Restart(0.0)),
    (b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1770123456789}}', Restart(0.0)),
    (b"[]", None),
])
def test_binance_control_frames(text, meaning):
    assert BINANCE.control(text) == meaning


@pytest.mark.parametrize(("text", "meaning"), [
    (b'{"event":"bts:subscription_succeeded","channel":"diff_order_book_btcusd","data":{}}',
     Acknowledged(("diff_order_book_btcusd",))),
    (b'{"event":"bts:unsubscription_succeeded","channel":"diff_order_book_btcusd","data":{}}', None),
    (b'{"event":"bts:heartbeat","channel":"","data":{"status":"success"}}', None),
    (b'{"event":"bts:request_reconnect","channel":"","data":null}', Restart(5.0)),
    (b'{"event":"bts:request_reconnect","channel":"","data":""}', Restart(5.0)),
    (b'{"event":"bts:error","channel":"","data":{"code":null,"message":"Bad subscription string."}}',
     Refused("Bad subscription string.")),
])
def test_bitstamp_control_frames(text, meaning):
    assert BITSTAMP.control(text) == meaning


@pytest.mark.parametrize("venue", [BINANCE, BITSTAMP], ids=lambda venue: venue.name)
def test_text_that_is_not_json_is_the_venues_error(venue):
    with pytest.raises(VenueError, match=rf"{venue.name} sent .* not JSON"):
        venue.control(b"<html>")
    with pytest.raises(VenueError, match="instrument list"):
        venue.parse_instruments(b'{"msg":"no"}')


@pytest.mark.parametrize(("levels", "limit", "weight"),
                         [(10, 100, 5), (100, 100, 5), (1000, 1000, 50), (9999, 5000, 250)])
def test_binance_snapshots_weigh_what_the_venue_says(levels, limit, weight):
    assert BINANCE.snapshot("NKNUSDT", levels) == Request(f"/api/v3/depth?symbol=NKNUSDT&limit={limit}", weight)


def test_bitstamp_snapshots_are_never_asked_for_twice_by_the_same_address():
    first, second = BITSTAMP.snapshot("btcusd", 10), BITSTAMP.snapshot("btcusd", 10)
    assert first.path.startswith("/api/v2/order_book/btcusd/?group=1&_=")
    assert first.path != second.path


@pytest.mark.parametrize(("venue", "url", "symbol", "listing"), [
    (BINANCE, "https://api.binance.com/api/v3/depth?symbol=NKNUSDT&limit=1000", "NKNUSDT", False),
    (BINANCE, "https://api.binance.com/api/v3/exchangeInfo", None, True),
    (BITSTAMP, "https://www.bitstamp.net/api/v2/order_book/sgbeur", "sgbeur", False),
    (BITSTAMP, "https://www.bitstamp.net/api/v2/order_book/sgbeur/?group=1&_=7", "sgbeur", False),
    (BITSTAMP, "https://www.bitstamp.net/api/v2/trading-pairs-info/", None, True),
    (BITSTAMP, "https://www.bitstamp.net/api/v2/markets/", None, True),
])
def test_recorded_addresses_say_what_they_fetched(venue, url, symbol, listing):
    assert (venue.snapshot_symbol(url), venue.lists_instruments(url)) == (symbol, listing)


def test_what_a_venue_asks_for_is_what_it_recognises():
    for venue in (BINANCE, BITSTAMP):
        assert venue.snapshot_symbol(venue.endpoints.rest + venue.snapshot("ethbtc", 10).path) == "ethbtc"
        assert venue.lists_instruments(venue.endpoints.rest + venue.instruments_request().path)


def test_binance_instrument_list_as_recorded():
    rows = {row.symbol: row for row in BINANCE.parse_instruments(rest_answer("cryptofeed/BINANCE.0"))}
    assert len(rows) == 1695
    assert sum(row.tradable for row in rows.values()) == 1222      # 40 more are TRADING, but not as spot
    bitcoin = rows["BTCUSDT"]
    assert (bitcoin.name, bitcoin.tick, bitcoin.lot) == ("BTC-USDT", "0.01", "0.00001")


def test_bitstamp_instrument_list_as_recorded():
    rows = {row.symbol: row for row in BITSTAMP.parse_instruments(rest_answer("cryptofeed/BITSTAMP.0"))}
    assert len(rows) == 140
    assert (rows["usdteur"].name, rows["usdteur"].tick, rows["usdteur"].lot) == ("USDT-EUR", "0.00001", "0.00001")
    assert rows["btcusd"].tradable


def test_bitstamp_instrument_list_of_today():
    row = (b'{"name":"BTC/USD","market_symbol":"btcusd","base_currency":"BTC","base_decimals":8,'
           b'"counter_currency":"USD","counter_decimals":0,"minimum_order_value":"10","trading":"Enabled","market_type":"SPOT"}')
    perpetual = row.replace(b"SPOT", b"PERPETUAL").replace(b'"btcusd"', b'"btcusd-perp"')
    (listing,) = BITSTAMP.parse_instruments(b"[" + row + b"," + perpetual + b"]")
    assert (listing.symbol, listing.name, listing.tick) == ("btcusd", "BTC-USD", "1")


def test_endpoints_come_from_a_file(tmp_path):
    (tmp_path / "ca.pem").write_text("")
    file = tmp_path / "endpoints.toml"
    file.write_text('[binance]\nwebsocket = "ws://127.0.0.1:1/"\nrest = "http://127.0.0.1:1/"\nca_file = "ca.pem"\n')
    found = read_endpoints(file)
    assert found == {"binance": Endpoints("ws://127.0.0.1:1", "http://127.0.0.1:1", str(tmp_path / "ca.pem"))}
    venue = get("binance", found["binance"])
    assert venue.url(["BTCUSDT"], "top", False) == "ws://127.0.0.1:1/stream?streams=btcusdt@depth20@100ms"
    assert get("binance").endpoints.rest == "https://api.binance.com"


@pytest.mark.parametrize(("text", "why"), [
    ("[binance", "cannot read"),
    ('[binanse]\nrest = ""', "no such venue"),
    ("binance = 1", "must be a table"),
    ('[binance]\nwebsocket = "http://x"\nrest = "http://x"', "websocket must be an address"),
    ('[binance]\nwebsocket = "ws://x"', "rest must be an address"),
    ('[binance]\nwebsocket = "ws://x"\nrest = "http://x"\nport = 1', "'port' is not"),
    ('[binance]\nwebsocket = "ws://x"\nrest = "http://x"\nca_file = "none.pem"', "does not exist"),
])
def test_a_bad_endpoints_file_is_one_line(tmp_path, text, why):
    file = tmp_path / "endpoints.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=why) as error:
        read_endpoints(file)
    assert "\n" not in str(error.value)
