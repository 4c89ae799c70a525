"""Bitfinex as the simulator speaks it, levels and orders, read as its documents say."""
import json
import time
from decimal import Decimal

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.data import data, read
from tests.end_to_end.feeds import LONG
from tests.end_to_end.simulated import Child
from tests.end_to_end.slow_client import get
from tests.end_to_end.stream_client import GARBAGE, Bitfinex, Lexeme

SYMBOLS = "tETHBTC", "tBTCUST", "tVETBTC", "tTESTBTC:TESTUSD"


@pytest.fixture(scope="module")
def venue():
    with Child("--venues", "bitfinex", "--instruments", "eth-btc,btc-usdt", "--unlimited", "--hasten", "30") as child:
        yield child.endpoints["bitfinex"]


@pytest.fixture
def client(venue):
    made = []

    def opened(**options):
        made.append(Bitfinex(venue, **options))
        return made[-1]
    yield opened
    for one in made:
        one.close()


def order(venue, what):
    status, _, body = get(f"{venue['rest']}/simulator/{what}")
    assert status == 200, body


def frame_of(frame):
    """The channel's number, of frames that have one."""
    return frame[0] if isinstance(frame, list) else None


def subscribed(one, count):
    one.until(lambda frame: len(one.channels) == count and len(one.rows) == sum(
        channel["channel"] == "book" for channel in one.channels.values()))


@pytest.mark.parametrize("length", ["1", "25", "250"])
def test_windows_of_levels_stay_full_true_and_checked(client, length):
    one = client()
    for symbol in SYMBOLS:
        one.book(symbol, length=length)
    subscribed(one, len(SYMBOLS))
    one.pump(1.2)           # the client checks every number, checksum, removal and length on the way
    one.settle()
    assert one.checked >= len(SYMBOLS)
    for symbol in SYMBOLS:
        bids, asks = one.rows[one.id(symbol)]
        assert len(asks) == int(length)
        assert len(bids) == int(length) or symbol == "tVETBTC"      # its bids end at 1e-8
        assert one.was_true(symbol, depth=max(1, int(length) - 1))
    if length != "1":
        prices = {price for price in one.rows[one.id("tVETBTC")][0] if "e-7" in price}
        assert prices
        assert any("e-" in row[2] for row in one.rows[one.id("tTESTBTC:TESTUSD")][0].values())


def test_orders_add_up_to_levels_and_their_checksum_is_of_order_numbers(client):
    one = client(flags=65536 + 131072 + 32768)
    for symbol in SYMBOLS:
        one.book(symbol, prec="R0", length="250")
    subscribed(one, len(SYMBOLS))
    one.pump(1.2)
    one.settle()
    assert one.checked >= len(SYMBOLS)
    for symbol in SYMBOLS:
        assert one.was_true(symbol, depth=25)
        assert all(len(rows) == 250 for rows in one.rows[one.id(symbol, prec="R0")][1:])
    assert all(abs(int(frame[-1]) / 1000 - time.time()) < 10 for frame in one.frames if isinstance(frame, list))


def test_levels_count_their_orders(client):
    one = client()
    one.book("tETHBTC", length="25")
    one.book("tETHBTC", prec="R0", length="250")
    subscribed(one, 2)
    one.pump(0.5)
    one.settle()
    levels, orders = one.rows[one.id("tETHBTC")], one.rows[one.id("tETHBTC", prec="R0")]
    for side in (0, 1):
        counts = {}
        for _, price, _ in orders[side].values():
            counts[price] = counts.get(price, 0) + 1
        for price, count, _ in list(levels[side].values())[:10]:
            assert counts[price] == int(count)


def test_changes_come_in_bundles_for_who_asked(client):
    one = client(flags=65536 + 536870912)
    one.book("tETHBTC", prec="R0", length="250")
    one.pump(1.5)
    updates = [frame[1] for frame in one.frames if isinstance(frame, list) and isinstance(frame[1], list)][1:]
    assert all(isinstance(update[0], list) for update in updates)
    assert any(len(update) > 1 for update in updates)
    assert one.was_true("tETHBTC", depth=25)


def test_a_taker_may_stand_in_the_book_for_a_moment(client):
    one = client()
    for symbol in SYMBOLS:
        one.book(symbol, length="25")
    subscribed(one, len(SYMBOLS))
    one.until(lambda frame: any(map(one.crossed, SYMBOLS)))
    one.until(lambda frame: not any(map(one.crossed, SYMBOLS)))


def test_frames_may_come_before_their_acknowledgement(client):
    one = client()
    early = set()
    for _ in range(60):
        one.book("tETHBTC", length="25")
        one.until(lambda frame: isinstance(frame, dict) and frame["event"] == "subscribed")
        number = one.frames[-1]["chanId"]
        early |= {"hb" if frame[1] == "hb" else "data" for frame in one.frames[:-1] if frame_of(frame) == number}
        one.send(event="unsubscribe", chanId=int(number))
        one.until(lambda frame: isinstance(frame, dict) and frame["event"] == "unsubscribed")
        one.channels, one.rows, one.early, one.frames = {}, {}, [], []
        if early == {"hb", "data"}:
            return
    pytest.fail(f"only {early} came early in 60 subscriptions")


def test_trades_are_told_at_once_and_confirmed_later_after_those_of_before(client):
    one = client()
    one.subscribe("trades", "tBTCUST")
    one.until(lambda frame: isinstance(frame, list) and frame[1] == "tu")
    frames = [frame for frame in one.frames if isinstance(frame, list) and frame[1] != "hb"]
    before = [int(row[0]) for row in frames[0][1]]
    assert before == sorted(before, reverse=True)
    told = [frame[2] for frame in frames if frame[1] == "te"]
    confirmed = [frame[2] for frame in frames if frame[1] == "tu"]
    assert told
    assert int(told[0][0]) > max(before, default=0)
    assert confirmed
    assert all(row in told for row in confirmed)
    assert all(Decimal(row[2]) and Decimal(row[3]) > 0 for row in told)


def test_tickers_pings_and_heartbeats(client):
    one, began = client(flags=65536), time.monotonic()
    one.subscribe("ticker", "tETHBTC")
    one.send(event="ping", cid=7)
    assert one.until(lambda frame: "event" in frame and frame["event"] == "pong")["cid"] == "7"
    for _ in range(3):
        one.until(lambda frame: isinstance(frame, list) and frame[1] == "hb")
    assert time.monotonic() - began > 0.9       # every fifteen seconds, thirty times faster
    tickers = [frame[1] for frame in one.frames if isinstance(frame, list) and frame[1] != "hb"]
    assert Decimal(tickers[0][0]) < Decimal(tickers[0][2])
    assert len(tickers[0]) == 10


@pytest.mark.parametrize(("request_", "code"), [
    ({"event": "subscribe", "channel": "book", "symbol": "tNOPEUSD", "prec": "P0", "len": "25"}, 10300),
    ({"event": "subscribe", "channel": "book", "symbol": "tETHBTC", "prec": "P9"}, 10300),
    ({"event": "subscribe", "channel": "book", "symbol": "tETHBTC", "len": "7"}, 10300),
    ({"event": "subscribe", "channel": "candles", "symbol": "tETHBTC"}, 10302),
    ({"event": "unsubscribe", "chanId": "x"}, 10400), ({"event": "unsubscribe", "chanId": 5}, 10401),
    ({"event": "nonsense"}, 10000),
])
def test_errors_name_the_request(client, request_, code):
    one = client()
    one.send(**request_)
    error = one.until(lambda frame: "event" in frame and frame["event"] == "error")
    assert error["code"] == str(code)
    assert {key: value for key, value in request_.items() if key != "event" and isinstance(value, str)}.items() <= (
        error.items())


def test_a_channel_twice_is_refused_and_so_is_the_37th():
    with Child("--venues", "bitfinex", "--instruments",
               ",".join(f"{base}-usd" for base in ("aaa", "bbb", "ccc", "ddd", "eee", "fff", "ggg", "hhh", "iii")),
               "--ban-scale", "0.02") as child:
        one = Bitfinex(child.endpoints["bitfinex"])
        symbols = [symbol for symbol in one.rest("/v2/conf/pub:list:pair:exchange")[1][0] if symbol.endswith("USD")]
        for symbol in symbols[:9]:
            for length in ("1", "25", "100", "250"):
                one.book(f"t{symbol}", length=length)
        one.until(lambda frame: len(one.channels) == 36)
        one.subscribe("ticker", "tAAAUSD")
        assert one.until(lambda frame: "event" in frame and frame["event"] == "error")["code"] == "10305"
        one.book("tAAAUSD", length="25")
        error = one.until(lambda frame: "event" in frame and frame["event"] == "error")
        assert (error["code"], error["chanId"] in one.channels) == ("10301", True)
        one.close()
        url = child.endpoints["bitfinex"]["websocket"] + "/ws/2"
        for _ in range(19):
            with connect(url):
                pass
        for _ in range(2):      # the 21st within a minute, and who goes on
            with pytest.raises(InvalidStatus, match="429"):
                connect(url).__enter__()


def test_who_subscribes_to_nothing_is_cut_off(venue):
    one = Bitfinex(venue)
    with pytest.raises(ConnectionClosed):   # a minute, thirty times faster
        one.pump(LONG)
    one.close()


def test_after_a_maintenance_books_are_silent_until_subscribed_again(venue, client):
    one = client()
    one.book("tETHBTC")
    subscribed(one, 1)
    order(venue, "now?maintenance=1")
    assert one.until(lambda frame: "event" in frame and frame["event"] == "info" and "code" in frame)["code"] == "20060"
    begins = len(one.frames)
    assert one.until(lambda frame: "event" in frame and frame["event"] == "info")["code"] == "20061"
    assert len(one.frames) == begins + 1
    one.pump(1.0)
    assert {frame[1] for frame in one.frames[begins + 1:]} <= {"hb"}
    one.send(event="unsubscribe", chanId=int(one.id("tETHBTC")))
    one.channels, one.rows = {}, {}
    one.book("tETHBTC")
    one.until(lambda frame: one.rows)
    one.pump(0.5)
    assert one.was_true("tETHBTC", depth=20)
    order(venue, "now?reconnect=100ms")
    assert one.until(lambda frame: "event" in frame and frame["event"] == "info")["code"] == "20051"


@pytest.mark.parametrize(("fault", "what"), [("drop", r"\d+ after \d+"), ("skip", r"\d+ after \d+"),
                                             ("checksum", "tETHBTC P0")])
def test_what_is_lost_shows_in_the_numbers_and_checksums(venue, client, fault, what):
    one = client()
    one.book("tETHBTC")
    subscribed(one, 1)
    order(venue, f"now?{fault}=1")
    with pytest.raises(AssertionError, match=what):
        one.pump(LONG)


def test_a_lost_change_without_numbers_shows_in_the_checksum(venue, client):
    one = client(flags=131072)
    one.book("tETHBTC", length="25")
    subscribed(one, 1)
    order(venue, "now?drop=3")
    with pytest.raises(AssertionError, match="tETHBTC"):
        one.pump(LONG)


def test_rest_lists_maps_and_shows_books(client):
    one = client()
    pairs, codes, infos = one.rest("/v2/conf/pub:list:pair:exchange,pub:map:currency:sym,pub:info:pair")[1]
    assert pairs == ["ETHBTC", "BTCUST", "VETBTC", "TESTBTC:TESTUSD"]
    assert ["UST", "USDT"] in codes
    assert all(info[3] == "0.00004" for _, info in infos)
    book = one.rest("/v2/book/tETHBTC/P0?len=25")[1]
    assert [amount > 0 for _, _, amount in book] == [True] * 25 + [False] * 25
    assert one.rest("/v2/book/tNOPE/P0") == (500, ["error", 10020, "symbol: invalid"])
    assert one.rest("/v2/book/tETHBTC/P0?len=7") == (500, ["error", 10020, "len: invalid"])
    orders = one.rest("/v2/book/tETHBTC/R0?len=25")[1]
    assert all(number > 10**9 for number, _, _ in orders)


def test_the_slow_client_agrees_with_the_venues_own_checksums():
    """So that what it says of the simulator counts."""
    for line in read("checksum-vectors/checksums.jsonl").decode().splitlines():
        vector = json.loads(line)
        if vector["venue"] != "bitfinex":
            continue
        one = Bitfinex.__new__(Bitfinex)
        one.flags, one.rows, one.early, one.checked = 0, {}, [], 0
        first = json.loads(vector["frames"][0], parse_float=Lexeme, parse_int=Lexeme)
        one.channels = {first[0]: {"channel": "book", "symbol": vector["symbol"], "prec": "P0", "len": "250"}}
        for frame in vector["frames"]:
            one.apply(json.loads(frame, parse_float=Lexeme, parse_int=Lexeme))
        assert one.checksum(first[0]) == vector["checksum_signed"]


def test_the_recording_is_served_verbatim():
    files = [str(data(f"cryptofeed/{name}")) for name in ("BITFINEX.0", "BITFINEX.ws.11.0")]
    with Child("--venue", "bitfinex", "--speed", "0", "--recording", *files) as child:
        one = Bitfinex(child.endpoints["bitfinex"])
        symbols = [f"t{pair}" for pair in one.rest("/v2/conf/pub:list:pair:exchange")[1][0]]
        assert len(symbols) == 7
        for symbol in symbols:
            one.book(symbol, length="100")
            one.subscribe("trades", symbol)
        one.read_all()
        books = [frame for frame in one.frames if isinstance(frame, list) and frame[1] != "hb"
                 and one.channels[frame[0]]["channel"] == "book"]
        assert len(books) == 7 + 1593
        for symbol in symbols:
            book = one.rest(f"/simulator/book?symbol={symbol}")[1]
            for mine, side in zip(one.levels(symbol), ("bids", "asks"), strict=True):
                assert mine == {Decimal(price): Decimal(size) for price, size in book[side]}
        late = Bitfinex(child.endpoints["bitfinex"])
        late.book("tIOTETH", length="100")
        subscribed(late, 1)
        assert late.levels("tIOTETH") == one.levels("tIOTETH")
        one.close()
        late.close()


def test_garbage_is_answered_or_passed_over(client):
    one = client()
    for text in GARBAGE:
        one.socket.send(text)
    one.book("tETHBTC")
    subscribed(one, 1)
