"""The simulated venues, seen through a client that shares no code with them or with mantra's client."""
import json
import time
from pathlib import Path

import pytest
import websocket

from tests.data import data
from tests.end_to_end.feeds import LONG, mark, until
from tests.end_to_end.simulated import Child
from tests.end_to_end.slow_client import CLIENTS, BinanceClient, Gap, get

SYMBOLS = {"binance": "ETHBTC", "bitstamp": "ethbtc", "kraken": "ETH/BTC"}
FAST = ("--rate", "40", "--instruments", "eth-btc", "--unlimited")


@pytest.fixture(scope="module")
def venues():
    with Child(*FAST) as child:
        yield child.endpoints


@pytest.fixture
def order(venues):
    """Steer a venue, and leave it faultless."""
    def steer(venue, what):
        status, _, body = get(f"{venues[venue]['rest']}/simulator/{what}")
        assert status == 200, body
        return json.loads(body)
    yield steer
    for venue in CLIENTS:
        steer(venue, "faults?bytewise=0")


@pytest.fixture
def client(venues):
    made = []

    def connect(venue, symbol=None):
        made.append(CLIENTS[venue](venues[venue], symbol or SYMBOLS[venue]))
        return made[-1]
    yield connect
    for one in made:
        one.close()


@pytest.mark.parametrize("venue", CLIENTS)
def test_a_book_spliced_as_documented_equals_the_true_book(client, venue):
    reader = client(venue)
    for _ in range(4):
        reader.pump(10)
        assert reader.equals_truth()
        assert not reader.book.crossed()
        assert reader.book.unknown == 0 or venue == "binance"


def was(reader, depth):
    """What the venue says of the best `depth` levels of the reader's book."""
    best = (sorted(side.items(), reverse=place == 0) for place, side in enumerate((reader.book.bids, reader.book.asks)))
    return reader.rest(f"/simulator/was?symbol={reader.symbol}&depth={depth}&mark="
                       + mark(*(rows[:depth or None] for rows in best)))


@pytest.mark.parametrize("venue", CLIENTS)
def test_the_venue_knows_its_own_book_by_its_mark_and_for_how_long_it_is_old(client, venue):
    reader, began = client(venue), time.monotonic()
    reader.pump(5)
    depths = (1, 10, 25) if venue == "kraken" else (0, 1, 10, 1000)
    for depth in depths:
        told = was(reader, depth)
        assert told["true"], depth
        assert told["ago_ms"] < 1000 * (time.monotonic() - began)
    time.sleep(1.0)
    assert 500 < was(reader, depths[-1])["ago_ms"] < 1000 * (time.monotonic() - began)
    price = max(reader.book.bids)
    reader.book.bids[price] += 1
    for depth in depths:
        assert was(reader, depth) == {"true": False, "ago_ms": None}
    reader.book.bids[price] -= 1
    assert was(reader, depths[0])["true"]


@pytest.mark.parametrize("venue", CLIENTS)
@pytest.mark.parametrize("fault", ["duplicate=0.3", "fragment=0.5", "bytewise=1"])
def test_faults_that_lose_nothing_leave_the_book_true(client, order, venue, fault):
    order(venue, f"faults?{fault}")
    reader = client(venue)
    reader.pump(30)
    assert reader.equals_truth()


@pytest.mark.parametrize("fault", ["drop", "reorder", "skip"])
def test_a_lost_or_late_binance_message_shows_as_a_gap(client, order, fault):
    reader = client("binance")
    reader.pump(5)
    before = order("binance", "state")["injected"].get(fault, 0)
    assert order("binance", f"now?{fault}=1")["ordered"] == {fault: 1}
    with pytest.raises(Gap):
        reader.pump(20)
    state = order("binance", "state")
    assert state["injected"][fault] == before + 1
    assert state["injected_on"]["ethbtc@depth@100ms"][fault] >= 1
    reader.book = None          # begin again, as documented
    reader.waiting.clear()
    reader.pump(5)
    assert reader.equals_truth()


def test_a_lost_bitstamp_message_is_noticed_by_nobody_and_the_book_is_wrong(client, order):
    reader = client("bitstamp")
    reader.pump(5)
    order("bitstamp", "now?drop=20")
    reader.pump(3)
    assert not reader.equals_truth()


@pytest.mark.parametrize("venue", CLIENTS)
def test_a_book_that_crosses_is_the_venues_own_and_passes(client, order, venue):
    reader = client(venue)
    reader.pump(5)
    assert order(venue, "now?cross=400ms")["injected_on"][SYMBOLS[venue]]["cross"] >= 1
    while not reader.book.crossed():
        reader.pump(1)
    assert was(reader, 10)["true"]
    reader.pump(2)
    assert not reader.book.crossed()
    assert reader.equals_truth()


@pytest.mark.parametrize("venue", CLIENTS)
def test_a_cut_ends_the_connection_and_a_new_one_works(client, order, venue):
    reader = client(venue)
    reader.pump(5)
    order(venue, "faults?cut=300ms")        # on average
    with pytest.raises((websocket.WebSocketException, OSError)):
        reader.pump(1000)
    order(venue, "faults?cut=1h")
    reader = client(venue)
    reader.pump(5)
    assert reader.equals_truth()


@pytest.mark.parametrize("venue", CLIENTS)
def test_a_stall_is_silence_on_an_open_socket_and_nothing_is_lost(client, order, venue):
    reader = client(venue)
    reader.pump(5)
    order(venue, "now?stall=2s")
    reader.socket.settimeout(0.3)
    with pytest.raises(websocket.WebSocketTimeoutException):
        reader.pump(1000)
    reader.socket.settimeout(LONG)
    reader.pump(20)
    assert reader.equals_truth()


@pytest.mark.parametrize(("venue", "symbol"), SYMBOLS.items())
def test_a_restart_drops_everybody_refuses_and_comes_back(client, order, venues, venue, symbol):
    reader = client(venue)
    before = reader.pump(5).sequence
    order(venue, "now?restart=1500ms")
    with pytest.raises((websocket.WebSocketException, OSError)):
        reader.pump(1000)
    with pytest.raises(OSError, match="refused"):
        client(venue)
    time.sleep(1.7)
    reader = client(venue)
    after = reader.pump(5).sequence
    assert reader.equals_truth()
    assert after >= before + {"binance": 900_000, "bitstamp": 1, "kraken": 0}[venue]


def test_planned_restarts_are_announced_in_the_words_of_the_venue(venues, order):
    raw = websocket.create_connection(venues["binance"]["websocket"] + "/ws", timeout=60)
    combined = websocket.create_connection(venues["binance"]["websocket"] + "/stream", timeout=60)
    bitstamp = websocket.create_connection(venues["bitstamp"]["websocket"], timeout=60)
    for venue in CLIENTS:
        order(venue, "now?reconnect=100ms")
    assert raw.recv().startswith('{"e":"serverShutdown","E":')
    assert combined.recv().startswith('{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":')
    assert bitstamp.recv() == '{"event":"bts:request_reconnect","channel":"","data":null}'
    for one in (raw, combined, bitstamp):
        assert one.recv_data(control_frame=True)[0] == websocket.ABNF.OPCODE_CLOSE


@pytest.mark.parametrize(("venue", "path"), [
    ("binance", "/api/v3/depth?symbol=ETHBTC&limit=5000"), ("bitstamp", "/api/v2/order_book/ethbtc/?_=")])
def test_rest_can_refuse_and_can_be_wrong(venues, order, venue, path):
    def ask(number):
        status, headers, body = get(f"{venues[venue]['rest']}{path}&n={number}")
        return status, headers, json.loads(body) if body.startswith("{") else body
    order(venue, "now?refuse=1")
    assert ask(1)[0] == 503
    order(venue, "now?limit=1")
    status, headers, body = ask(2)
    if venue == "binance":
        assert (status, body["code"]) == (429, -1003)
        assert int(headers["Retry-After"]) <= 60
    else:
        assert (status, body["response_code"]) == (400, "400.002")
    order(venue, "now?snapshot=12")
    kinds = set()
    for number in range(3, 15):
        assert ask(number)[0] == 200
    kinds = {name for name in order(venue, "state")["injected"] if name.startswith("snapshot ")}
    assert kinds == {"snapshot crossed", "snapshot old", "snapshot ghost"}


def test_a_venue_can_refuse_a_place(client, order):
    order("binance", "now?block=1")
    with pytest.raises(websocket.WebSocketBadStatusException, match="451"):
        client("binance")
    client("binance")


def test_both_venues_speak_tls_with_a_certificate_that_can_be_checked():
    with Child(*FAST, "--tls") as child:
        assert Path(child.endpoints["binance"]["ca_file"]).exists()
        for venue, symbol in SYMBOLS.items():
            reader = CLIENTS[venue](child.endpoints[venue], symbol)
            reader.pump(5)
            assert reader.equals_truth()
            with pytest.raises(OSError, match="certificate verify failed"):
                websocket.create_connection(child.endpoints[venue]["websocket"], timeout=60)
            reader.close()
    assert not Path(child.endpoints["binance"]["ca_file"]).exists()


RECORDINGS = {
    "binance": (("cryptofeed/BINANCE.ws.1.0", "cryptofeed/BINANCE.http.0.0", "cryptofeed/BINANCE.0"), "NKNUSDT", 150),
    "bitstamp": (("cryptofeed/BITSTAMP.ws.1.0", "cryptofeed/BITSTAMP.http.0.0", "cryptofeed/BITSTAMP.0"), "ethusd", 85),
}


@pytest.mark.parametrize("speed", ["0", "100"])
@pytest.mark.parametrize("venue", RECORDINGS)
def test_a_recording_is_a_venue_at_any_speed(venue, speed):
    files, symbol, messages = RECORDINGS[venue]
    with Child("--venue", venue, "--speed", speed, "--recording", *(str(data(file)) for file in files)) as child:
        reader = CLIENTS[venue](child.endpoints[venue], symbol)
        state = until(lambda: (told := reader.rest("/simulator/state"))["played"] == told["of"] and told, "is played")
        reader.socket.settimeout(1.0)
        with pytest.raises(websocket.WebSocketTimeoutException):
            reader.pump(10**6)
        assert reader.seen == messages < state["of"]
        assert reader.equals_truth()
        reader.close()


def test_a_recorded_snapshot_in_the_stream_belongs_to_its_symbol():
    file = data("hftbacktest/spot/btcusdt_20240808")
    with Child("--venue", "binance", "--speed", "100", "--recording", str(file)) as child:
        reader = BinanceClient(child.endpoints["binance"], "BTCUSDT")
        reader.pump(200)
        assert not reader.book.crossed()
        listed = reader.rest("/api/v3/exchangeInfo?symbol=BTCUSDT")["symbols"][0]
        assert (listed["baseAsset"], listed["quoteAsset"]) == ("BTC", "USDT")
        assert listed["filters"][0]["tickSize"] == "0.01000000"
        reader.close()
