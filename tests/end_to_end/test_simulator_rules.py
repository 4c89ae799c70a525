"""What the venues' documents say of limits, acknowledgements, errors and lists, asked of the simulated venues."""
import asyncio
import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
from decimal import Decimal
from itertools import pairwise

import pytest
import websocket

from mantra.simulator.binance import Binance
from mantra.simulator.door import VENUES
from mantra.simulator.faults import Faults
from mantra.simulator.source import MarketSource
from tests.end_to_end.simulated import Child
from tests.end_to_end.slow_client import get


@pytest.fixture(scope="module")
def venues():
    with Child("--rate", "20") as child:
        yield child.endpoints


@pytest.fixture
def binance(venues):
    socket = websocket.create_connection(venues["binance"]["websocket"] + "/ws", timeout=60)
    yield socket
    socket.close()


@pytest.fixture
def bitstamp(venues):
    socket = websocket.create_connection(venues["bitstamp"]["websocket"], timeout=60)
    yield socket
    socket.close()


def asked(socket, text):
    socket.send(text if isinstance(text, str) else json.dumps(text))
    return socket.recv()


def closed(socket):
    """(code, reason) of the close frame; other frames before it are passed over."""
    while True:
        opcode, payload = socket.recv_data(control_frame=True)
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            return struct.unpack("!H", payload[:2])[0], payload[2:].decode()


def subscribe(channel):
    return {"event": "bts:subscribe", "data": {"channel": channel}}


# Binance

def test_binance_acknowledges_lists_and_unsubscribes(binance):
    names = ["ethbtc@depth20", "nosuchthing@trade"]     # slow or silent, so that the answers come first
    assert asked(binance, {"method": "SUBSCRIBE", "params": names, "id": 1}) == '{"result":null,"id":1}'
    assert asked(binance, {"method": "UNSUBSCRIBE", "params": names[:1], "id": "x"}) == '{"result":null,"id":"x"}'
    assert asked(binance, {"method": "LIST_SUBSCRIPTIONS", "id": 3}) == '{"result":["nosuchthing@trade"],"id":3}'


@pytest.mark.parametrize(("text", "code"), [
    ('{"method":"SUSCRIBE","params":[],"id":1}', 2), ("nonsense", 3), ('{"id":1}', 2),
    ('{"method":"SUBSCRIBE","params":"btcusdt@trade","id":5}', 2), ('{"method":"SUBSCRIBE","params":[],"id":1.5}', 2),
])
def test_binance_says_what_was_wrong_with_a_request(binance, text, code):
    answer = json.loads(asked(binance, text))
    assert answer["code"] == code
    assert answer["msg"]


def test_binance_frames_have_the_documented_shape(venues):
    names = [f"btcusdt@{kind}" for kind in ("depth@100ms", "bookTicker", "trade", "depth5@100ms")]
    socket = websocket.create_connection(
        f"{venues['binance']['websocket']}/stream?streams={'/'.join(names)}", timeout=60)
    number, level = r'"\d+\.\d{8}"', r'\["\d+\.\d{8}","\d+\.\d{8}"\]'
    levels, millis = rf"\[(?:{level}(?:,{level})*)?\]", r"\d{13}"
    shapes = dict(zip(names, (
        rf'{{"e":"depthUpdate","E":{millis},"s":"BTCUSDT","U":\d+,"u":\d+,"b":{levels},"a":{levels}}}',
        rf'{{"u":\d+,"s":"BTCUSDT","b":{number},"B":{number},"a":{number},"A":{number}}}',
        rf'{{"e":"trade","E":{millis},"s":"BTCUSDT","t":\d+,"p":{number},"q":{number},"T":{millis},'
        r'"m":(?:true|false),"M":true}',
        rf'{{"lastUpdateId":\d+,"bids":{levels},"asks":{levels}}}',
    ), strict=True))
    seen, trades = set(), []
    while seen != set(names):
        text = socket.recv()
        name = json.loads(text)["stream"]
        seen.add(name)
        assert re.fullmatch(rf'{{"stream":"{name}","data":{shapes[name]}}}', text)
        if name.endswith("@trade"):
            trades.append(json.loads(text)["data"]["t"])
    assert trades == list(range(trades[0], trades[0] + len(trades)))
    socket.close()


def test_binance_closes_who_talks_too_much(binance):
    for number in range(6):
        binance.send(json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": number}))
    assert closed(binance) == (1008, "Too many requests")


def test_binance_takes_1024_streams_in_a_url_and_no_more(venues):
    def url(count):
        return venues["binance"]["websocket"] + "/stream?streams=" + "/".join(f"s{n}@trade" for n in range(count))
    websocket.create_connection(url(1024), timeout=60).close()
    with pytest.raises(websocket.WebSocketException, match="400"):
        websocket.create_connection(url(1025), timeout=60)


def test_binance_rest_names_what_is_wrong(venues):
    rest = venues["binance"]["rest"]
    wrong = {"": -1102, "symbol=NOSUCH": -1121, "symbol=ethbtc": -1100, "symbol=ETHBTC&limit=x": -1100}
    for query, code in wrong.items():
        status, _, body = get(f"{rest}/api/v3/depth?{query}")
        assert (status, json.loads(body)["code"]) == (400, code)
    status, headers, body = get(f"{rest}/api/v3/depth?symbol=ETHBTC&limit=7")
    assert (status, len(json.loads(body)["bids"]), len(json.loads(body)["asks"])) == (200, 7, 7)
    assert int(headers["X-MBX-USED-WEIGHT-1M"]) >= 5
    listed = {row["symbol"]: row for row in json.loads(get(f"{rest}/api/v3/exchangeInfo")[2])["symbols"]}
    assert listed["ETHBTC"]["status"] == "TRADING"
    assert listed["LUNABTC"]["status"] == "BREAK"
    assert get(f"{rest}/api/v4/depth")[0] == 404


def test_binance_refuses_beyond_its_weights_and_bans_who_goes_on():
    with Child("--venues", "binance", "--instruments", "eth-btc") as child:
        statuses = []
        for _ in range(70):     # 24 a minute are allowed; a new minute may begin on the way
            status, headers, body = get(child.endpoints["binance"]["rest"] + "/api/v3/depth?symbol=ETHBTC&limit=5000")
            statuses.append(status)
            if status == 418:
                break
        assert 24 <= statuses.count(200) <= 48
        assert 429 in statuses
        assert json.loads(body)["msg"].startswith("Way too much request weight used; IP banned until ")
        assert 0 < int(headers["Retry-After"]) <= 121


def test_binance_merges_the_fills_of_an_order_at_a_price(venues):
    socket = websocket.create_connection(
        f"{venues['binance']['websocket']}/stream?streams=btcusdt@trade/btcusdt@aggTrade", timeout=60)
    trades, merged = {}, []
    while sum(one["l"] - one["f"] for one in merged) < 2:
        data = json.loads(socket.recv())["data"]
        if data["e"] == "trade":
            trades[data["t"]] = data
        else:
            merged.append(data)
            parts = [trades[number] for number in range(data["f"], data["l"] + 1)]
            assert {(part["p"], part["m"], part["T"]) for part in parts} == {(data["p"], data["m"], data["T"])}
            assert sum(Decimal(part["q"]) for part in parts) == Decimal(data["q"])
    assert all(after["a"] == before["a"] + 1 and after["f"] == before["l"] + 1 for before, after in pairwise(merged))
    socket.close()


def test_binance_bans_who_talks_too_much_again_and_again():
    with Child("--venues", "binance", "--ban-scale", "0.01") as child:
        url = child.endpoints["binance"]["websocket"] + "/ws"
        for _ in range(3):
            socket = websocket.create_connection(url, timeout=60)
            for number in range(6):
                socket.send(json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": number}))
            assert closed(socket)[0] == 1008
        with pytest.raises(websocket.WebSocketBadStatusException, match="418"):
            websocket.create_connection(url, timeout=60)
        assert get(child.endpoints["binance"]["rest"] + "/api/v3/exchangeInfo")[0] == 418
        time.sleep(1.5)         # 120 s, scaled
        websocket.create_connection(url, timeout=60).close()


# Bitstamp

def test_bitstamp_acknowledges_even_what_it_does_not_list(bitstamp):
    for channel in ("order_book_fooxyz", "live_trades_ethbtc"):
        assert asked(bitstamp, subscribe(channel)) == (
            f'{{"event":"bts:subscription_succeeded","channel":"{channel}","data":{{}}}}')
    answer = asked(bitstamp, {"event": "bts:unsubscribe", "data": {"channel": "order_book_fooxyz"}})
    assert answer == '{"event":"bts:unsubscription_succeeded","channel":"order_book_fooxyz","data":{}}'
    assert asked(bitstamp, {"event": "bts:heartbeat"}) == (
        '{"event":"bts:heartbeat","channel":"","data":{"status":"success"}}')


@pytest.mark.parametrize(("text", "data"), [
    ("nonsense", '{"code":null,"message":"Incorrect JSON format."}'),
    ('{"event":"bts:subscribe","data":{}}', '{"code":null,"message":"Bad subscription string."}'),
    ('{"event":"bts:subscribe","data":{"channel":"prices_btcusd"}}',
     '{"code":null,"message":"Invalid channel provided."}'),
    ('{"event":"bts:subscribe","data":{"channel":"private-my_orders_ethusd-1"}}',
     '{"code":4009,"message":"Connection is unauthorized."}'),
])
def test_bitstamp_errors_are_its_own_and_name_no_channel(bitstamp, text, data):
    assert asked(bitstamp, text) == f'{{"event":"bts:error","channel":"","data":{data}}}'


def test_bitstamp_reads_no_frame_beyond_512_bytes(bitstamp):
    bitstamp.send(json.dumps(subscribe("order_book_" + "x" * 700)))
    assert closed(bitstamp) == (1009, "read limited at 513 bytes")


def test_bitstamp_closes_silently_at_the_1025th_channel(bitstamp):
    for number in range(1025):
        bitstamp.send(json.dumps(subscribe(f"order_book_m{number}")))
    for _ in range(1024):
        assert "bts:subscription_succeeded" in bitstamp.recv()
    with pytest.raises((websocket.WebSocketConnectionClosedException, ConnectionError)):
        bitstamp.recv()


def test_bitstamp_frames_have_the_documented_shape(bitstamp):
    shapes = {}
    level = r'\["\d+\.\d{2}","\d+\.\d{6,8}"\]'
    levels = rf"\[(?:{level}(?:,{level})*)?\]"
    book = rf'{{"timestamp":"\d{{10}}","microtimestamp":"\d{{16}}","bids":{levels},"asks":{levels}}}'
    trade = (r'{"id":\d+,"timestamp":"\d{10}","amount":[\d.]+,"amount_str":"\d+\.\d{6}","price":[\d.]+,'
             r'"price_str":"\d+\.\d{2}","type":[01],"microtimestamp":"\d{13}000","buy_order_id":\d+,"sell_order_id":\d+}')
    for channel, payload, event in (("diff_order_book_ethusdt", book, "data"), ("order_book_ethusdt", book, "data"),
                                    ("live_trades_ethusdt", trade, "trade")):
        bitstamp.send(json.dumps(subscribe(channel)))
        shapes[channel] = rf'{{"data":{payload},"channel":"{channel}","event":"{event}"}}'
    seen, zeros = set(), set()
    while seen != set(shapes) or not zeros:
        text = bitstamp.recv()
        message = json.loads(text)
        if message["event"] == "bts:subscription_succeeded":
            continue
        seen.add(message["channel"])
        assert re.fullmatch(shapes[message["channel"]], text), text
        if message["channel"].startswith("diff"):
            zeros |= {size for rows in (message["data"]["bids"], message["data"]["asks"]) for _, size in rows
                      if not float(size)}
        elif message["channel"].startswith("order"):
            assert len(message["data"]["bids"]) == len(message["data"]["asks"]) == 100
    assert zeros == {"0.00000000"}      # eight decimals, where live sizes have six


def test_bitstamp_rest_is_cached_unless_the_address_is_new(venues):
    rest = venues["bitstamp"]["rest"]
    url = rest + "/api/v2/order_book/ETHUSDT/?group=1"
    first, again = get(url)[2], get(url)[2]
    time.sleep(0.3)
    fresh = get(url + "&_=1")[2]
    assert first == again != fresh
    assert first.startswith('{"timestamp": "')
    assert get(rest + "/api/v2/order_book/nosuch/")[0] == 404
    rows = {row["market_symbol"]: row for row in json.loads(get(rest + "/api/v2/markets/")[2])}
    assert (rows["ethusdt"]["counter_decimals"], rows["ethusdt"]["base_decimals"]) == (2, 6)
    assert rows["lunausd"]["trading"] == "Disabled"
    assert rows["btcusd-perp"]["market_type"] == "PERPETUAL"


# All

REFUSED = {"binance": 418, "bitstamp": 400, "kraken": 429}
REQUESTS = {"binance": "/api/v3/exchangeInfo", "bitstamp": "/api/v2/markets/", "kraken": "/0/public/AssetPairs"}


@pytest.mark.parametrize("venue", REFUSED)
def test_an_address_can_be_banned_for_a_while(venues, venue):
    rest = venues[venue]["rest"]
    assert get(rest + REQUESTS[venue])[0] == 200
    assert get(rest + "/simulator/now?ban=500ms")[0] == 200
    assert get(rest + REQUESTS[venue])[0] == REFUSED[venue]
    with pytest.raises(websocket.WebSocketBadStatusException, match=str(REFUSED[venue])):
        websocket.create_connection(venues[venue]["websocket"] + "/ws" * (venue == "binance"), timeout=60)
    time.sleep(0.7)
    assert get(rest + REQUESTS[venue])[0] == 200


def test_the_clock_of_a_venue_can_be_off_and_jump(venues):
    socket = websocket.create_connection(venues["binance"]["websocket"] + "/ws/btcusdt@depth@100ms", timeout=60)
    rest = venues["binance"]["rest"]
    for skew in (-30, 40, 0):
        assert get(f"{rest}/simulator/now?skew={skew}")[0] == 200
        offsets, last = [], None
        while len(offsets) < 8:
            event = json.loads(socket.recv())
            offsets.append(event["E"] / 1000 - time.time())
            assert last in (None, event["U"] - 1)       # nothing is lost by it
            last = event["u"]
        assert abs(offsets[-1] - skew) < 2
    socket.close()


class FewConnects(Binance):
    connects = (3, 300.0, 0.0)


def test_connects_beyond_the_rule_are_refused():
    async def run():
        venue = FewConnects(MarketSource([]), faults=Faults())
        await venue.start("127.0.0.1", 0)
        statuses = []
        try:
            for _ in range(5):
                reader, writer = await asyncio.open_connection("127.0.0.1", venue.port)
                writer.write(b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                             b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
                statuses.append(int((await reader.readline()).split()[1]))
                writer.close()
        finally:
            await venue.stop()
        return statuses
    assert asyncio.run(run()) == [101, 101, 101, 429, 429]


class Impatient(Binance):
    ping_interval = 0.05
    pong_timeout = 0.2


async def frames_without_pong(port, key=b"dGhlIHNhbXBsZSBub25jZQ=="):
    """(opcode, payload) of all frames to a client that never answers; server frames are short and unmasked here."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + b"\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    data = await asyncio.wait_for(reader.read(), 3)
    writer.close()
    found = []
    while data:
        found.append((data[0] & 15, data[2:2 + data[1]]))
        data = data[2 + data[1]:]
    return found


def test_who_answers_no_ping_is_closed():
    async def run():
        venue = Impatient(MarketSource([]), faults=Faults())
        await venue.start("127.0.0.1", 0)
        try:
            return await frames_without_pong(venue.port)
        finally:
            await venue.stop()
    frames = asyncio.run(run())
    assert frames[0][0] == 9
    assert re.fullmatch(rb"\d{13}", frames[0][1])       # the time in milliseconds
    assert frames[-1] == (8, struct.pack("!H", 1008) + b"Pong timeout")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_when_told_and_leaves_nothing(number):
    child = Child("--tls", follow=False)
    socket = websocket.create_connection(child.endpoints["binance"]["websocket"] + "/ws/btcusdt@trade", timeout=60,
                                         sslopt={"ca_certs": child.endpoints["binance"]["ca_file"]})
    ca_file = child.endpoints["binance"]["ca_file"]
    assert get(child.endpoints["binance"]["rest"] + "/simulator/now?stall=60", ca_file)[0] == 200
    child.process.send_signal(number)
    assert child.process.wait(60) == 0
    assert not child.path.exists()
    assert not os.path.exists(ca_file)
    socket.close()
    child.stop()


def test_it_dies_with_its_parent():
    code = ("import os\nfrom tests.end_to_end.simulated import Child\n"
            "child = Child('--venues', 'bitstamp')\nprint(child.process.pid, flush=True)\nos._exit(0)")
    orphan = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{orphan}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return
        except FileNotFoundError:
            return
        time.sleep(0.02)
    os.kill(orphan, signal.SIGKILL)
    pytest.fail("the simulator outlived its parent")


@pytest.mark.parametrize(("arguments", "words"), [
    (["--venues", "mtgox"], "choose from binance, bitfinex"), (["--instruments", "ethbtc"], "write BASE-QUOTE"),
    (["--faults", "drop=7"], "write a chance"), (["--venue", "binance"], "--recording PATH"),
    (["--rate", "0"], "positive"), (["--levels", "5"], "20 or more"), (["--duration", "soon"], "is not a time"),
    (["--endpoints", "/nowhere/at/all.toml"], "/nowhere/at/all.toml"),
    (["--recording", "/nowhere", "--venue", "binance"], "no such recording"),
])
def test_a_bad_option_is_one_line_and_exit_2(arguments, words):
    done = subprocess.run([sys.executable, "-m", "mantra.simulator.door", *arguments], capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == 2
    assert words in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_named_port_that_is_taken_is_exit_2(venues):
    port = venues["binance"]["rest"].rpartition(":")[2]
    done = subprocess.run([sys.executable, "-m", "mantra.simulator.door", "--port", port], capture_output=True,
                          text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert f"{port}" in done.stderr
    assert "--port" in done.stderr


def test_json_is_the_last_line_of_standard_output():
    done = subprocess.run([sys.executable, "-m", "mantra.simulator.door", "--duration", "0.3", "--json"],
                          capture_output=True, text=True, timeout=60, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    assert set(told["venues"]) == set(VENUES)
    assert told["seconds"] >= 0.3
