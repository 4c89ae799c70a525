"""decode: what each venue's messages become, at the edges."""
import json

import pytest

from tests.c.decoding import Decoder, Decoding

LEVELS = {"bids": [["10.5", "1.25"], ["10.4", "0"]], "asks": [["10.6", "3"]]}
CHANGES = [("bid", 1050, 1250), ("bid", 1040, 0), ("ask", 1060, 3000)]


def text(value) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def binance(depth=0, scale=(2, 3)):
    return Decoder("binance", [("ethbtc", "ETHBTC"), ("btcusdt", "BTCUSDT")], [(8, 8), scale], depth)


def bitstamp(depth=0, scale=(2, 3)):
    return Decoder("bitstamp", ["ethbtc", "btcusd"], [(8, 8), scale], depth)


def depth_update(**changed):
    return {"e": "depthUpdate", "E": 1700000000123, "s": "BTCUSDT", "U": 5, "u": 7, "b": LEVELS["bids"],
            "a": LEVELS["asks"],
            **changed}


def binance_image(bids, asks, number=9, stream="btcusdt@depth20@100ms"):
    return text({"stream": stream, "data": {"lastUpdateId": number, "bids": bids, "asks": asks}})


def bitstamp_message(data=None, channel="diff_order_book_btcusd", event="data"):
    data = data or {"timestamp": "1700000000", "microtimestamp": "1700000000123456", **LEVELS}
    return {"data": data, "channel": channel, "event": event}


TRADE = {"e": "trade", "E": 1700000000124, "s": "BTCUSDT", "t": 12, "p": "10.50", "q": "0.125", "T": 1700000000123,
         "m": True,
         "M": True}
STAMP_TRADE = {"id": 542327128, "timestamp": "1700000000", "amount": 0.1249999, "amount_str": "0.125",
               "price": 10.49999,
               "price_str": "10.50", "type": 0, "microtimestamp": "1700000000123000", "buy_order_id": 1,
               "sell_order_id": 2}


@pytest.mark.parametrize("message", [
    depth_update(),
    {"stream": "btcusdt@depth@100ms", "data": depth_update()},
    {"data": depth_update(), "stream": "btcusdt@depth@100ms"},
    {"stream": "ethbtc@depth5", "data": depth_update()},                             # the symbol inside is what counts
    dict(sorted(depth_update().items())),                                            # sides before symbol and event
    dict(reversed({"s": "BTCUSDT", **depth_update()}.items())),
    {"a": LEVELS["asks"], "stream": "ethbtc@depth5", **depth_update()},
    depth_update(E=1700000000123000),                                                # microseconds
])
def test_a_binance_diff_is_read_in_any_order_of_its_keys(message):
    answer = binance().decode(text(message))
    assert (answer.kind, answer.book, answer.first, answer.last) == (Decoding.DIFF, 1, 5, 7)
    assert answer.venue_time_ns == 1700000000123 * 10**6
    assert sorted(answer.changes) == sorted(CHANGES)


def test_white_space_and_bare_numbers_change_nothing():
    message = json.dumps(depth_update(b=[[10.5, 1.25], [10.4, 0]]), indent=3).encode()
    assert sorted(binance().decode(b" \n" + message + b"\t ").changes) == sorted(CHANGES)


@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: {"stream": "btcusdt@trade", "data": m}])
def test_a_binance_trade_names_its_aggressor(wrap):
    answer = binance().decode(text(wrap(TRADE)))
    assert (answer.kind, answer.book) == (Decoding.TRADES, 1)
    assert answer.trades == [(12, "sell", 1050, 125, 1700000000123 * 10**6)]
    answer = binance().decode(text(wrap({**TRADE, "e": "aggTrade", "a": 3, "m": False})))
    assert answer.trades == [(3, "buy", 1050, 125, 1700000000123 * 10**6)]


@pytest.mark.parametrize(("message", "kind"), [
    ({"result": None, "id": 1}, Decoding.CONTROL),
    ({"result": ["btcusdt@depth"], "id": None}, Decoding.CONTROL),
    ({"code": 2, "msg": "Invalid request"}, Decoding.CONTROL),
    ({"e": "serverShutdown", "E": 1770123456789}, Decoding.CONTROL),
    ({"stream": "!serverShutdown", "data": {"e": "serverShutdown", "E": 1770123456789}}, Decoding.CONTROL),
    ({"event": {"e": "serverShutdown", "E": 1770123456789}}, Decoding.CONTROL),
    ({"u": 4, "s": "BTCUSDT", "b": "1", "B": "2", "a": "3", "A": "4"}, Decoding.WITNESS),
    ({"stream": "btcusdt@bookTicker", "data": {"u": 4, "s": "BTCUSDT", "b": "1", "B": "2", "a": "3", "A": "4"}},
     Decoding.WITNESS),
    ({"stream": "btcusdt@kline_1m", "data": {"e": "kline", "s": "BTCUSDT", "k": {"t": 1}}}, Decoding.IGNORED),
    ({"stream": "!ticker@arr", "data": [{"e": "24hrTicker"}]}, Decoding.IGNORED),
    ([{"e": "24hrMiniTicker"}], Decoding.IGNORED),
    (depth_update(s="XRPUSDT"), Decoding.UNKNOWN),
    ({**TRADE, "s": "btc"}, Decoding.UNKNOWN),
    ({"lastUpdateId": 1, "bids": [], "asks": []}, Decoding.UNKNOWN),
    ({"stream": "xrp@depth5", "data": {"lastUpdateId": 1, "bids": [], "asks": []}}, Decoding.UNKNOWN),
    (depth_update(b=[["10.501", "1"]]), Decoding.FINER),
    (depth_update(b=[["10.5", "0.00001"]]), Decoding.FINER),
    (depth_update(a=[["9" * 30, "1"]]), Decoding.FINER),
    (depth_update(a=[["1", "1"]] * 70000), Decoding.TOO_MANY),
])
def test_binance_messages_are_told_apart(message, kind):
    assert binance().decode(text(message)).kind is kind


@pytest.mark.parametrize("message", [
    {}, 1, "x", None, {"stream": 1}, {"stream": "btcusdt@depth5", "data": {}}, {"data": {}, "x": 1},
    depth_update(E="now"), depth_update(E=-1), depth_update(E=1.5), depth_update(U=8), depth_update(u=None),
    depth_update(s=3),
    depth_update(b={}), depth_update(b=None), depth_update(b=[["1"]]), depth_update(b=[["1", "2", "3"]]),
    depth_update(b=[[]]),
    depth_update(b=["1", "2"]),
    depth_update(b=[["1", "-1"]]),
    depth_update(b=[["", "1"]]), depth_update(b=[["1x", "1"]]), depth_update(b=[[None, "1"]]),
    depth_update(b=[["1 ", "1"]]),
    depth_update(bids=[]), depth_update(E=2**64 - 1),
    {k: v for k, v in depth_update().items() if k != "a"}, {k: v for k, v in depth_update().items() if k != "U"},
    {**TRADE, "p": "0"}, {**TRADE, "p": "-1"}, {**TRADE, "q": "-1"}, {**TRADE, "m": 1}, {**TRADE, "t": "x"},
    {**TRADE, "T": 1.5},
    {**TRADE, "p": "1e"}, {**TRADE, "p": []},
])
def test_what_is_no_binance_message_is_malformed(message):
    assert binance().decode(text(message)).kind is Decoding.MALFORMED


@pytest.mark.parametrize("level", [["0", "1"], ["0.00000000", "0"], ["-1", "1"], ["-0.5", "2"]])
def test_a_level_that_nobody_can_trade_at_is_left_out(level):
    answer = binance().decode(text(depth_update(b=[["10.5", "1.25"], level, ["10.4", "0"]])))
    assert answer.kind is Decoding.DIFF
    assert answer.changes == binance().decode(text(depth_update(b=[["10.5", "1.25"], ["10.4", "0"]]))).changes


def test_a_key_that_comes_twice_or_in_disguise_is_malformed():
    message = text(depth_update())
    for broken in (message[:-1] + b',"u":8}', message[:-1] + b',"a":[]}', message.replace(b'"u"', b'"\\u0075"'),
                   message[:-1] + b',"data":{},"data":{}}'):
        assert binance().decode(broken).kind is Decoding.MALFORMED


def test_a_finer_number_in_broken_text_is_malformed_not_finer():
    message = text(depth_update(b=[["10.501", "1"]]))
    assert binance().decode(message).kind is Decoding.FINER
    assert binance().decode(message[:-1]).kind is Decoding.MALFORMED


def test_symbols_beyond_ascii_are_found_raw_or_escaped():
    decoder = Decoder("binance", [("币安usdt", "币安USDT")], [(2, 3)])
    for ascii_only in (False, True):
        message = json.dumps(depth_update(s="币安USDT"), ensure_ascii=ascii_only, separators=(",", ":")).encode()
        assert decoder.decode(message).kind is Decoding.DIFF


@pytest.mark.parametrize("message", [
    bitstamp_message(),
    dict(reversed(bitstamp_message().items())),
    {"event": "data", "channel": "diff_order_book_btcusd", "data": bitstamp_message()["data"]},
    {**bitstamp_message(), "more": {"channel": "diff_order_book_ethbtc", "event": "data"}},
    {"data": bitstamp_message()["data"], "x": {"data": 1, "channel": "diff_order_book_ethbtc"},
     "channel": "diff_order_book_btcusd",
     "event": "data"},
])
def test_a_bitstamp_diff_is_read_wherever_its_channel_stands(message):
    for spaced in (text(message), json.dumps(message).encode()):
        answer = bitstamp().decode(spaced)
        assert (answer.kind, answer.book, answer.first, answer.last) == (Decoding.DIFF, 1, 1700000000123456,
                                                                         1700000000123456)
        assert answer.venue_time_ns == 1700000000123456000
        assert answer.changes == CHANGES


def test_a_tail_that_promises_the_wrong_market_changes_nothing():
    # what stands where the channel usually does is inside a string or another object, so only the peek believes it
    data = text(bitstamp_message()["data"])
    tail = b',"channel":"diff_order_book_ethbtc","event":"data"}'
    message = b'{"channel":"diff_order_book_btcusd","event":"data","data":' + data + b',"x":{"y":1' + tail + b"}"
    assert bitstamp().decode(message).changes == CHANGES
    message = b'{"channel":"diff_order_book_btcusd","event":"data","data":' + data + b',"x":{"y":1' + tail[:-1] + b"}}"
    assert bitstamp().decode(message).changes == CHANGES
    twice = b'{"channel":"diff_order_book_btcusd","data":' + data + tail
    assert bitstamp().decode(twice).kind is Decoding.MALFORMED


def test_a_bitstamp_trade_takes_its_text_never_its_floats():
    answer = bitstamp().decode(text(bitstamp_message(STAMP_TRADE, "live_trades_btcusd", "trade")))
    assert (answer.kind, answer.book) == (Decoding.TRADES, 1)
    assert answer.trades == [(542327128, "buy", 1050, 125, 1700000000123000000)]
    answer = bitstamp().decode(text(bitstamp_message({**STAMP_TRADE, "type": 1, "id": 2**60 + 1}, "live_trades_btcusd",
                                                     "trade")))
    assert answer.trades[0][:2] == (2**60 + 1, "sell")


@pytest.mark.parametrize(("message", "kind"), [
    ({"event": "bts:subscription_succeeded", "channel": "live_trades_batbtc", "data": {}}, Decoding.CONTROL),
    ({"event": "bts:error", "channel": "", "data": {"code": None, "message": "Bad"}}, Decoding.CONTROL),
    ({"event": "bts:request_reconnect", "channel": "", "data": None}, Decoding.CONTROL),
    ({"event": "bts:request_reconnect", "channel": "", "data": ""}, Decoding.CONTROL),
    ({"event": "bts:heartbeat", "channel": "", "data": {"status": "success"}}, Decoding.IGNORED),
    (bitstamp_message(channel="detail_order_book_btcusd"), Decoding.IGNORED),
    (bitstamp_message({"id": 1}, "live_orders_btcusd", "order_created"), Decoding.IGNORED),
    (bitstamp_message(channel="diff_order_book_xrpusd"), Decoding.UNKNOWN),
    (bitstamp_message(channel="diff_order_book_"), Decoding.UNKNOWN),
    (bitstamp_message({**bitstamp_message()["data"], "bids": [["10.501", "1"]]}), Decoding.FINER),
    (bitstamp_message({**bitstamp_message()["data"], "bids": [["10.5", "1"]] * 70000}), Decoding.TOO_MANY),
    (bitstamp_message(event="trade"), Decoding.MALFORMED),
    (bitstamp_message({**bitstamp_message()["data"], "bids": None}), Decoding.MALFORMED),
    (bitstamp_message({**bitstamp_message()["data"], "microtimestamp": "yesterday"}), Decoding.MALFORMED),
    (bitstamp_message({**bitstamp_message()["data"], "microtimestamp": str(2**64 - 1)}), Decoding.MALFORMED),
    (bitstamp_message({**STAMP_TRADE, "type": 2}, "live_trades_btcusd", "trade"), Decoding.MALFORMED),
    (bitstamp_message({**STAMP_TRADE, "price_str": "0"}, "live_trades_btcusd", "trade"), Decoding.MALFORMED),
    (bitstamp_message({"id": 1}, "live_trades_btcusd", "trade"), Decoding.MALFORMED),
    ({"event": "data"}, Decoding.MALFORMED),
    ({}, Decoding.MALFORMED),
    ([], Decoding.MALFORMED),
])
def test_bitstamp_messages_are_told_apart(message, kind):
    assert bitstamp().decode(text(message)).kind is kind


@pytest.mark.parametrize("venue", ["binance", "bitstamp"])
def test_no_truncation_or_trailing_text_is_accepted(venue):
    decoder, message = (binance(), text({"stream": "btcusdt@depth",
                                         "data": depth_update()})) if venue == "binance" else (
        bitstamp(), text(bitstamp_message()))
    assert decoder.decode(message).kind is Decoding.DIFF
    for size in range(len(message)):
        assert decoder.decode(message[:size]).kind is Decoding.MALFORMED
    for more in (b"}", b"{}", b"x", b"\x00", b",", message):
        assert decoder.decode(message + more).kind is Decoding.MALFORMED


def levels(count, start=1000, step=1):
    return [[f"{(start + step * i) / 100:.2f}", f"{i + 1}.000"] for i in range(count)]


@pytest.mark.parametrize("venue", ["binance", "bitstamp"])
def test_an_image_is_read_to_its_depth_and_noticed_when_unchanged(venue):
    decoder = binance(depth=3) if venue == "binance" else bitstamp(depth=3)

    def image(bids, asks, number=1700000000000001):
        return binance_image(bids, asks, number) if venue == "binance" else text(bitstamp_message(
            {"timestamp": "1700000000", "microtimestamp": str(number), "bids": bids, "asks": asks},
            "order_book_btcusd"))

    bids, asks = levels(50, 1000, -1), levels(50, 1001)
    expected = [("bid", 1000 - i, 1000 * (i + 1)) for i in range(3)] + [("ask", 1001 + i,
                                                                         1000 * (i + 1)) for i in range(3)]
    answer = decoder.decode(image(bids, asks))
    assert (answer.kind, answer.changes) == (Decoding.IMAGE, expected)
    answer = decoder.decode(image(bids, asks, 1700000000000002))
    assert (answer.kind, answer.changes, answer.last) == (Decoding.UNCHANGED, [], 1700000000000002)
    assert decoder.decode(image(bids[:3] + levels(9, 500), asks[:9])).kind is Decoding.UNCHANGED  # deeper levels only
    changed = [*asks[:2], ["10.03", "7"], *asks[3:]]
    answer = decoder.decode(image(bids, changed))
    assert answer.kind is Decoding.IMAGE
    assert sorted(answer.changes) == sorted([*expected[:5], ("ask", 1003, 7000)])
    assert decoder.decode(image(bids, changed)).kind is Decoding.UNCHANGED
    assert decoder.decode(image(bids[:2], changed)).kind is Decoding.IMAGE  # a level fewer
    assert decoder.decode(image(bids[:2], changed)).kind is Decoding.UNCHANGED
    answer = decoder.decode(image(bids[:3], changed))  # and one more again
    assert (answer.kind, len(answer.changes)) == (Decoding.IMAGE, 6)
    assert decoder.decode(image([], changed)).kind is Decoding.IMAGE
    assert decoder.decode(image([], changed)).kind is Decoding.UNCHANGED
    assert decoder.decode(image([], [])).changes == []
    assert decoder.decode(image([], [])).kind is Decoding.UNCHANGED
    broken = image(bids, asks).replace(b'"microtimestamp"', b'"microtimestamp').replace(b'"lastUpdateId"',
                                                                                        b'"lastUpdateI"')
    assert decoder.decode(broken).kind is Decoding.MALFORMED
    assert decoder.decode(image([], [])).kind is Decoding.UNCHANGED  # and left no trace
    assert decoder.decode(image(bids, asks)).changes == expected


@pytest.mark.parametrize("skipped", [b'["9.90","x{"]', b'["9.90","1"],', b"[]]", b'["9.90","\\u0031"]', b"[", b'"',
                                     b"{}", b"]"])
def test_what_is_passed_over_can_not_bring_down_the_reader(skipped):
    """Levels past the depth are only passed over: wrong ones either do no harm or are noticed, but change no value."""
    good = binance_image(levels(3, 1000, -1), levels(2, 1001))
    text = good.replace(b'["9.98","3.000"]', skipped)
    answer = binance(depth=2).decode(text)
    assert answer.kind in (Decoding.MALFORMED, Decoding.IMAGE)
    if answer.kind is Decoding.IMAGE:
        assert answer.changes == binance(depth=2).decode(good).changes


def test_spaced_images_are_skipped_by_grammar():
    message = json.dumps({"stream": "btcusdt@depth20", "data": {"lastUpdateId": 1, "bids": levels(30, 1000, -1),
                                                                "asks": levels(30, 1001)}}).encode()
    decoder = binance(depth=4)
    assert len(decoder.decode(message).changes) == 8
    assert decoder.decode(message).kind is Decoding.UNCHANGED
    decoder, empty = binance(depth=4), binance_image([], levels(2)).replace(b"[]", b"[ \n ]")
    assert [decoder.decode(empty).kind for _ in range(2)] == [Decoding.IMAGE, Decoding.UNCHANGED]


def test_images_too_long_to_remember_are_read_every_time():
    decoder = binance(depth=30)
    message = binance_image(levels(40, 1000, -1), levels(40, 1001))
    wide = binance_image([[p, s + "0" * 30] for p, s in levels(40, 1000, -1)], levels(40, 1001))
    for text_ in (message, wide, wide, message):
        assert len(decoder.decode(text_).changes) == 60


@pytest.mark.parametrize("venue", ["binance", "bitstamp"])
def test_a_snapshot_is_read_whole_and_remembers_nothing(venue):
    decoder = binance(depth=2) if venue == "binance" else bitstamp(depth=2)
    head = {"lastUpdateId": 77} if venue == "binance" else {"timestamp": "0", "microtimestamp": "77"}
    for spaced in (text({**head, **LEVELS}), json.dumps({**LEVELS, **head}).encode()):
        answer = decoder.decode_snapshot(spaced, 1)
        assert (answer.kind, answer.book, answer.first, answer.last) == (Decoding.IMAGE, 1, 77, 77)
        assert answer.changes == CHANGES
    for broken in ({}, head, LEVELS, {**head, "bids": []}, {"code": -1121, "msg": "Invalid symbol."}):
        assert decoder.decode_snapshot(text(broken), 1).kind is Decoding.MALFORMED
    assert decoder.decode_snapshot(text({**head, "bids": [["1.001", "1"]], "asks": []}), 1).kind is Decoding.FINER


def test_wrong_arguments_are_refused():
    for arguments in (("okx", [], []), ("binance", ["a"], []), ("binance", ["a", "a"], [(1, 1), (1, 1)]),
                      ("binance", ["a" * 32], [(1, 1)]), ("binance", [""], [(1, 1)]), ("binance", ["a"], [(19, 1)])):
        with pytest.raises(ValueError, match=r"."):
            Decoder(*arguments)
    with pytest.raises(IndexError):
        binance().decode_snapshot(b"{}", 2)


def test_many_symbols_of_every_length_are_each_found():
    names = sorted({f"{'x' * (i % 29)}{i % 10}" for i in range(290)} | {chr(97 + i) for i in range(26)})
    decoder = Decoder("bitstamp", names, [(2, 3)] * len(names))
    for index, name in enumerate(names):
        answer = decoder.decode(text(bitstamp_message(channel=f"diff_order_book_{name}")))
        assert (answer.kind, answer.book) == (Decoding.DIFF, index)
        assert decoder.decode(text(bitstamp_message(channel=f"diff_order_book_{name}y"))).kind is Decoding.UNKNOWN
