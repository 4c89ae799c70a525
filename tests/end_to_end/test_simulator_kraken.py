"""The simulated Kraken against its document, section by section, through a client that shares no code with it."""
import asyncio
import json
import re
import time
from contextlib import closing
from itertools import pairwise

import pytest
import websocket

from mantra.simulator.faults import Faults
from mantra.simulator.kraken import Kraken, checksum
from mantra.simulator.source import MarketSource
from tests.data import data
from tests.end_to_end.feeds import LONG, until
from tests.end_to_end.simulated import Child
from tests.end_to_end.slow_client import Gap, KrakenClient, KrakenV1Client, get

CLIENTS = {"v2": KrakenClient, "v1": KrakenV1Client}


@pytest.fixture(scope="module")
def venue():
    with Child("--venues", "kraken", "--rate", "200", "--instruments", "eth-btc,btc-usdt") as child:
        yield child.endpoints["kraken"]


@pytest.fixture
def steer(venue):
    def order(what):
        status, _, body = get(f"{venue['rest']}/simulator/{what}")
        assert status == 200, body
        return json.loads(body)
    yield order
    order("faults?bytewise=0")


def connect(venue, version="/v2"):
    """A socket past the first word of the venue, which is returned too."""
    socket = websocket.create_connection(venue["websocket"] + version, timeout=60)
    return socket, json.loads(socket.recv())


def ask(socket, request, channels=()):
    """The first message after this request that is no data of these channels."""
    socket.send(request if isinstance(request, str) else json.dumps(request))
    while True:
        message = json.loads(socket.recv())
        if not isinstance(message, list) and message.get("channel") not in ("heartbeat", *channels):
            return message


def reader(venue, version, depth, symbol="ETH/BTC"):
    kind = CLIENTS[version]
    return closing(type(kind.__name__, (kind,), {"depth": depth})(venue, symbol))


# Section 3: connections

def test_the_first_word_is_the_status_with_an_id_beyond_63_bits(venue):
    socket, first = connect(venue)
    (status,) = first["data"]
    assert (first["channel"], status["api_version"], status["system"]) == ("status", "v2", "online")
    assert 2**63 <= status["connection_id"] < 2**64
    socket.close()
    socket, first = connect(venue, "/")
    assert (first["event"], first["status"]) == ("systemStatus", "online")
    socket.close()


def test_pings_are_answered_and_heartbeats_come_only_to_subscribers(venue):
    socket, _ = connect(venue)
    pong = ask(socket, {"method": "ping", "req_id": 101})
    assert {name: pong[name] for name in ("method", "req_id")} == {"method": "pong", "req_id": 101}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", pong["time_in"])
    socket.settimeout(1.5)
    with pytest.raises(websocket.WebSocketTimeoutException):
        socket.recv()
    socket.settimeout(LONG)
    began = time.monotonic()
    ask(socket, {"method": "subscribe", "params": {"channel": "instrument", "snapshot": False}})
    assert [json.loads(socket.recv()) for _ in range(2)] == [{"channel": "heartbeat"}] * 2
    assert time.monotonic() - began > 0.9
    socket.close()


def test_v1_beats_every_second_on_a_busy_connection_too(venue):
    socket, _ = connect(venue, "/")
    assert ask(socket, {"event": "ping", "reqid": 42}) == {"event": "pong", "reqid": 42}
    socket.send(json.dumps({"event": "subscribe", "pair": ["XBT/USDT"], "subscription": {"name": "book"}}))
    began, heard = time.monotonic(), []
    while heard.count({"event": "heartbeat"}) < 2:
        heard.append(json.loads(socket.recv()))
    assert time.monotonic() - began > 0.9
    assert len(heard) > 4
    socket.close()


def test_maintenance_is_announced_and_the_market_stands_still(venue, steer):
    with reader(venue, "v2", 25) as client:
        client.pump(2)
        began, told = time.monotonic(), []
        steer("now?maintenance=700ms")
        while len(told) < 2:
            message = json.loads(client.socket.recv(), parse_float=str)
            if message.get("channel") == "status":
                told.append(message["data"][0]["system"])
            client.take(message)
        assert told == ["maintenance", "online"]
        assert time.monotonic() - began > 0.6
        client.pump(5)
        assert client.equals_truth()


async def lasts(venue):
    """Seconds until the venue closes a connection that says nothing."""
    reader, writer = await asyncio.open_connection("127.0.0.1", venue.port)
    writer.write(b"GET /v2 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    began = time.monotonic()
    await asyncio.wait_for(reader.read(), LONG)
    writer.close()
    return time.monotonic() - began


class FewConnects(Kraken):
    connects = (3, 600.0, 600.0)


def test_who_neither_talks_nor_subscribes_is_closed_and_who_connects_too_often_is_banned_for_a_while():
    async def run():
        venue = FewConnects(MarketSource([]), faults=Faults(), ban_scale=0.001, hasten=100)
        await venue.start("127.0.0.1", 0)

        async def status():
            reader, writer = await asyncio.open_connection("127.0.0.1", venue.port)
            writer.write(b"GET /v2 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                         b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
            line = await asyncio.wait_for(reader.readline(), LONG)
            writer.close()
            return int(line.split()[1])
        try:
            assert await lasts(venue) > 0.5
            assert [await status() for _ in range(4)] == [101, 101, 429, 429]
            await asyncio.sleep(0.7)
            venue._connects.times.clear()       # ten minutes later
            assert await status() == 101
            assert venue.state()["bans"] == 1
        finally:
            await venue.stop()
    asyncio.run(run())


# Section 4: books

def test_there_is_one_acknowledgement_for_each_symbol_with_the_number_of_the_request(venue):
    socket, _ = connect(venue)
    socket.send(json.dumps({"method": "subscribe", "req_id": 7, "params": {
        "channel": "book", "symbol": ["ETH/BTC", "XXX/USD", "BTC/USDT"], "depth": 25}}))
    answers = []
    while len(answers) < 3:
        message = json.loads(socket.recv())
        if "method" in message:
            answers.append(message)
    assert {answer["req_id"] for answer in answers} == {7}
    assert [answer["success"] for answer in answers] == [True, False, True]
    assert answers[0]["result"] == {"channel": "book", "depth": 25, "snapshot": True, "symbol": "ETH/BTC"}
    assert (answers[1]["error"], answers[1]["symbol"]) == ("Currency pair not supported XXX/USD", "XXX/USD")
    assert "result" not in answers[1]
    socket.close()


@pytest.mark.parametrize(("version", "request_text", "error"), [
    ("/v2", {"method": "subscribe", "params": {"channel": "book", "symbol": ["ETH/BTC"], "depth": 7}},
     "Subscription depth not supported"),
    ("/v2", {"method": "subscribe", "params": {"channel": "status", "symbol": ["ETH/BTC"]}},
     "Subscription name invalid"),
    ("/v2", {"method": "subscribe", "params": {"channel": "book", "symbol": ["ETH/BTC"], "price": 5}},
     "Unsupported field: 'price' for the given msg type: subscribe book"),
    ("/", {"event": "subscribe", "pair": ["foobar"], "subscription": {"name": "ticker"}},
     "Currency pair not in ISO 4217-A3 format foobar"),
    ("/", {"event": "subscribe", "pair": ["ETH/XBT"], "subscription": {"name": "book", "depth": 7}},
     "Subscription depth not supported"),
    ("/v2", "nonsense", "Malformed request"), ("/", "[]", "Malformed request"),
])
def test_what_is_wrong_is_said(venue, version, request_text, error):
    socket, _ = connect(venue, version)
    answer = ask(socket, request_text)
    assert error in (answer.get("error"), answer.get("errorMessage"))
    socket.close()


def test_a_second_depth_is_refused_and_an_unsubscription_must_repeat_the_depth(venue):
    with reader(venue, "v2", 25) as client:
        client.pump(1)
        book = {"channel": "book", "symbol": ["ETH/BTC"]}

        def asked(method, depth):
            return ask(client.socket, {"method": method, "params": {**book, "depth": depth}}, ("book",))
        assert asked("subscribe", 100)["error"] == "Already subscribed"
        assert not asked("unsubscribe", 10)["success"]
        assert asked("unsubscribe", 25)["result"] == {"channel": "book", "depth": 25, "symbol": "ETH/BTC"}
        assert asked("subscribe", 100)["success"]
        snapshot = json.loads(client.socket.recv())
        assert (snapshot["type"], len(snapshot["data"][0]["bids"])) == ("snapshot", 100)


@pytest.mark.parametrize("version", CLIENTS)
@pytest.mark.parametrize("depth", [10, 25, 100, 500, 1000])
def test_every_checksum_holds_and_the_book_is_true_at_any_depth(venue, version, depth):
    with reader(venue, version, depth, "BTC/USDT") as client:
        for _ in range(3):
            client.pump(40)
            assert client.equals_truth()


def test_levels_pushed_out_are_not_deleted_and_come_back_marked_in_v1(venue):
    with reader(venue, "v1", 10, "BTC/USDT") as client:
        returned, unseen = 0, 0
        for _ in range(500):
            before = {*client.book.bids, *client.book.asks} if client.book else set()
            client.again = set()
            client.pump(1)
            returned += len(client.again)
            unseen += len(before - {*client.book.bids, *client.book.asks})
        assert returned > 5         # re-entered unchanged, with "r"
        assert unseen > 5
        client.keep = 10**6         # who does not truncate keeps what nobody deletes, until it crosses or fails
        with pytest.raises(Gap):
            client.pump(10**4)


def test_numbers_are_written_with_the_full_precision_of_the_pair(venue):
    socket, _ = connect(venue)
    socket.send(json.dumps({"method": "subscribe", "params": {"channel": "book", "symbol": ["ETH/BTC"]}}))
    level = r'\{"price":\d\.\d{5},"qty":\d+\.\d{8}\}'
    rows = rf"\[(?:{level}(?:,{level})*)?\]"
    shape = (r'\{"channel":"book","type":"(snapshot|update)","data":\[\{"symbol":"ETH/BTC",'
             rf'"bids":{rows},"asks":{rows},'
             r'"checksum":\d+(,"timestamp":"[-\d]{10}T[\d:]{8}\.\d{6}Z")?\}\]\}')
    kinds = []
    while kinds.count("update") < 10:
        text = socket.recv()
        if text.startswith('{"channel":"book"'):
            match = re.fullmatch(shape, text)
            assert match, text
            assert (match[1] == "update") == bool(match[2])
            kinds.append(match[1])
    assert kinds[0] == "snapshot" not in kinds[1:]
    socket.close()


def test_the_simulated_checksum_is_that_of_the_documents_vectors():
    asks = """45285.2 0.00100000 | 45286.4 1.54571953 | 45286.6 1.54571109 | 45289.6 1.54560911 | 45290.2 0.15890660 |
        45291.8 1.54553491 | 45294.7 0.04454749 | 45296.1 0.35380000 | 45297.5 0.09945542 | 45299.5 0.18772827"""
    bids = """45283.5 0.10000000 | 45283.4 1.54582015 | 45282.1 0.10000000 | 45281.0 0.10000000 | 45280.3 1.54592586 |
        45279.0 0.07990000 | 45277.6 0.03310103 | 45277.5 0.30000000 | 45277.3 1.54602737 | 45276.6 0.15445238"""
    assert checksum(*([tuple(row.split()) for row in side.split("|")] for side in (bids, asks))) == 3310070434


@pytest.mark.parametrize("version", CLIENTS)
def test_a_failed_checksum_can_be_asked_for_and_a_new_subscription_heals(venue, steer, version):
    with reader(venue, version, 25) as client:
        client.pump(3)
        steer("now?checksum=1")
        with pytest.raises(Gap):
            client.pump(1000)
        told = steer("state")
        assert told["injected_on"]["book-25 ETH/BTC"]["checksum"] >= 1
        book = {"event": "unsubscribe", "pair": ["ETH/XBT"], "subscription": {"name": "book", "depth": 25}}
        params = {"channel": "book", "symbol": ["ETH/BTC"], "depth": 25}
        for method in ("unsubscribe", "subscribe"):
            client.ask({**book, "event": method} if version == "v1" else {"method": method, "params": params})
        client.book = None
        client.pump(20)
        assert client.equals_truth()


def test_a_lost_acknowledgement_leaves_a_subscription_that_works(venue, steer):
    steer("now?unacked=1")
    with reader(venue, "v2", 25) as client:
        assert json.loads(client.socket.recv())["type"] == "snapshot"


def test_a_crossed_book_is_the_venues_own_and_passes(venue, steer):
    with reader(venue, "v2", 25) as client, reader(venue, "v2", 25, "BTC/USDT") as other:
        client.pump(2)
        other.pump(2)
        steer("now?cross=500ms")
        crossed = set()
        for one in (client, other) * 20:
            one.pump(1)
            crossed |= {one.symbol} if one.book.crossed() else set()
        assert len(crossed) == 1
        assert not client.book.crossed()
        assert not other.book.crossed()
        assert client.equals_truth()
        assert other.equals_truth()


# Sections 5 and 6

def test_trades_are_dense_have_a_history_and_the_takers_side(venue, steer):
    socket, _ = connect(venue)
    ask(socket, {"method": "subscribe", "params": {"channel": "trade", "symbol": ["BTC/USDT"], "snapshot": True}})
    numbers = []
    while len(numbers) < 60:
        message = json.loads(socket.recv())
        if message.get("channel") == "trade":
            assert (message["type"] == "snapshot") == (not numbers)
            assert all(row["side"] in ("buy", "sell") and row["qty"] > 0 for row in message["data"])
            numbers += [row["trade_id"] for row in message["data"]]
    assert len(numbers) > 10
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    steer("now?skip=1")
    while True:
        message = json.loads(socket.recv())
        if message.get("channel") == "trade":
            numbers += [row["trade_id"] for row in message["data"]]
            if numbers[-1] - numbers[0] >= len(numbers) + 999:
                break
    socket.close()


def test_the_ticker_says_the_best_prices_when_they_move(venue):
    socket, _ = connect(venue)
    ask(socket, {"method": "subscribe",
                 "params": {"channel": "ticker", "symbol": ["BTC/USDT"], "event_trigger": "bbo"}})
    seen = []
    while len(seen) < 20:
        message = json.loads(socket.recv())
        if message.get("channel") == "ticker":
            seen.append((message["data"][0]["bid"], message["data"][0]["ask"]))
    assert all(bid < ask for bid, ask in seen)
    assert all(one != other for one, other in pairwise(seen[1:]))
    socket.close()


# REST

def test_rest_lists_pairs_by_their_old_names_and_shows_a_book(venue):
    def rest(path):
        status, _, body = get(f"{venue['rest']}/0/public/{path}")
        return status, json.loads(body)
    pairs = rest("AssetPairs")[1]["result"]
    assert set(pairs) == {"XETHXXBT", "XBTUSDT", "LUNAUSD"}
    assert {name: pairs["XETHXXBT"][name] for name in ("altname", "wsname", "base", "pair_decimals", "tick_size")} == {
        "altname": "ETHXBT", "wsname": "ETH/XBT", "base": "XETH", "pair_decimals": 5, "tick_size": "0.00001"}
    assert pairs["LUNAUSD"]["status"] != "online"
    status, told = rest("Depth?pair=XBTUSDT&count=50")
    book = told["result"]["XBTUSDT"]
    assert (status, told["error"], len(book["asks"]), len(book["bids"])) == (200, [], 50, 50)
    assert float(book["bids"][0][0]) < float(book["asks"][0][0])
    assert rest("Depth?pair=NOSUCH") == (200, {"error": ["EQuery:Unknown asset pair"]})
    assert rest("Nosuch")[0] == 404


# Recordings

def test_a_recording_of_v1_is_a_venue_and_who_comes_later_gets_the_book_as_it_is():
    files = [str(data(f"cryptofeed/KRAKEN{part}")) for part in (".0", ".ws.50.0")]
    with Child("--venue", "kraken", "--speed", "0", "--recording", *files) as child:
        endpoint = child.endpoints["kraken"]
        for rounds in range(2):
            with reader(endpoint, "v1", 1000, "XMR/USD") as client:
                if rounds == 0:
                    until(lambda: (told := client.rest("/simulator/state"))["played"] == told["of"], "it is played")
                    with pytest.raises(AssertionError, match=r"84[67] of"):
                        client.pump(10**6, timeout=2)
                else:
                    client.pump(1)
                truth = client.rest("/simulator/book?symbol=XMR/USD")
                books = [{float(price): float(size) for price, size in truth[side]} for side in ("bids", "asks")]
                assert books == [{float(price): float(size) for price, size in side.items()}
                                 for side in (client.book.bids, client.book.asks)]


def test_a_recording_of_v2_keeps_to_its_depth(tmp_path):
    lines = data("depthcharge/kraken_btcusd_d10_20260816.first-16000-chars.ndjson").read_text().splitlines()
    file = tmp_path / "frames"
    file.write_text("\n".join(line.partition('"frame": ')[2][:-1] for line in lines if line.startswith('{"rx_ns"')
                              and '"dir"' not in line and line.endswith("}}")))
    with Child("--venue", "kraken", "--speed", "0", "--recording", str(file)) as child:
        endpoint = child.endpoints["kraken"]
        with reader(endpoint, "v2", 10, "BTC/USD") as client:
            client.pump(54)
            truth = client.rest("/simulator/book?symbol=BTC/USD")
            assert [len(truth["bids"]), len(truth["asks"])] == [10, 10]
            assert {float(price) for price, _ in truth["bids"]} == {float(price) for price in client.book.bids}
