"""decode_kraken: every frame of the documents, odd spellings, hostile text; the checksum of a book's text."""
import json
import zlib

import pytest

from tests.c.decoding import Decoder, Decoding

SYMBOLS = [("ETH/USD",), ("BTC/USD", "XBT/USD"), ("SC/EUR",)]
SCALES = [(2, 8), (8, 8), (6, 8)]


@pytest.fixture
def decoder():
    return Decoder("kraken", SYMBOLS, SCALES)


def book(symbol="ETH/USD", bids=((1797.24, 0.5),), asks=((1797.25, 2), (1797.5, 0)), kind="update", **more):
    sides = {side: [{"price": price, "qty": qty} for price, qty in rows] for side, rows in (("bids", bids),
                                                                                           ("asks", asks))}
    return {"symbol": symbol, **sides, "checksum": 7, "timestamp": "2025-05-06T09:17:26.208075Z", **more}


def v2(*data, channel="book", kind="update"):
    return {"channel": channel, "type": kind, "data": list(data)}


def trade(number, symbol="ETH/USD", side="sell", price=2.5, qty=40.0, **more):
    return {"symbol": symbol, "side": side, "price": price, "qty": qty, "ord_type": "market", "trade_id": number,
            "timestamp": "2023-09-25T07:49:37.708706Z", **more}


def text(value) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


CHANGES = [("bid", 179724, 50_000_000), ("ask", 179725, 200_000_000), ("ask", 179750, 0)]
NS = 1746523046208075000


@pytest.mark.parametrize("message", [
    v2(book()), dict(reversed(v2(book()).items())), v2(dict(reversed(book().items()))),
    {"data": [book()], "x": {"channel": "trade"}, "channel": "book", "type": "update"},
    v2(book(bids=[(1797.24, 0.5)], more={"symbol": "BTC/USD"})), v2(book(symbol="ETH\\/USD")),
])
def test_an_update_is_read_in_any_spelling(decoder, message):
    compact = text(message).replace(b"\\\\/", b"\\/")
    for spelt in (compact, b" " + compact, json.dumps(message, indent=1).replace("\\\\/", "\\/").encode(),
                  compact.replace(b"0.5}", b"5e-1}"), compact.replace(b'"qty":2}', b'"qty":2.00000000}'),
                  compact.replace(b'{"price":1797.25,"qty":2}', b'{"qty":0.2E+1,"price":17.9725e2}')):
        answer = decoder.decode(spelt)
        assert (answer.kind, answer.book, answer.checksum, answer.venue_time_ns) == (Decoding.DIFF, 0, 7, NS)
        assert answer.changes == CHANGES


def test_a_snapshot_needs_no_time_and_a_book_no_checksum(decoder):
    for kind, expected in (("snapshot", Decoding.SNAPSHOT), ("update", Decoding.DIFF)):
        bare = {name: value for name, value in book().items() if name not in ("timestamp", "checksum")}
        answer = decoder.decode(text(v2(bare, kind=kind)))
        assert (answer.kind, answer.checksum, answer.venue_time_ns) == (expected, None, 0)
        assert answer.changes == CHANGES
        answer = decoder.decode(text(v2(book(bids=[], asks=[], checksum=2**32 - 1), kind=kind)))
        assert (answer.kind, answer.checksum, answer.changes) == (expected, 2**32 - 1, [])


LEVEL = ["1797.24", "0.50000000", "1618678133.365913"]


@pytest.mark.parametrize(("parts", "kind", "changes", "checksum"), [
    ([{"b": [LEVEL], "c": "7"}], Decoding.DIFF, CHANGES[:1], 7),
    ([{"a": [LEVEL]}, {"b": [LEVEL], "c": "7"}], Decoding.DIFF, [("ask", *CHANGES[0][1:]), CHANGES[0]], 7),
    ([{"b": [LEVEL]}, {"a": [LEVEL], "c": "7"}], Decoding.DIFF, [("ask", *CHANGES[0][1:]), CHANGES[0]], 7),
    ([{"a": [LEVEL], "b": [LEVEL], "c": "7"}], Decoding.DIFF, [("ask", *CHANGES[0][1:]), CHANGES[0]], 7),
    ([{"b": [[*LEVEL, "r"]], "c": "4294967295"}], Decoding.DIFF, CHANGES[:1], 2**32 - 1),
    ([{"b": [LEVEL]}], Decoding.DIFF, CHANGES[:1], None),
    ([{"a": [], "c": "0"}], Decoding.DIFF, [], 0),
    ([{"as": [LEVEL], "bs": [LEVEL]}], Decoding.SNAPSHOT, [("ask", *CHANGES[0][1:]), CHANGES[0]], None),
    ([{"bs": [LEVEL], "as": []}], Decoding.SNAPSHOT, CHANGES[:1], None),
    ([{"as": [], "bs": []}], Decoding.SNAPSHOT, [], None),
])
def test_the_older_frames_have_one_object_or_two(decoder, parts, kind, changes, checksum):
    frame = [992, *parts, "book-1000", "ETH/USD"]
    for spelt in (text(frame), json.dumps(frame).encode(), b"\n" + text(frame)):
        answer = decoder.decode(spelt)
        assert (answer.kind, answer.book, answer.changes, answer.checksum) == (kind, 0, changes, checksum)
        assert answer.venue_time_ns == (1618678133365913000 if changes else 0)


def test_a_level_named_twice_is_told_twice_in_its_order(decoder):
    rows = [["1797.24", "1.0", "1618678133.4"], ["1797.24", "0.0", "1618678133.5"]]
    answer = decoder.decode(text([992, {"b": rows, "c": "7"}, "book-10", "ETH/USD"]))
    assert answer.changes == [("bid", 179724, 10**8), ("bid", 179724, 0)]
    assert answer.venue_time_ns == 1618678133500000000
    assert decoder.decode(text(v2(book(bids=[(1.5, 1), (1.5, 2)], asks=[])))).changes == [
        ("bid", 150, 10**8), ("bid", 150, 2 * 10**8)]


def test_a_frame_about_several_symbols_has_a_part_for_each(decoder):
    parts = decoder.parts(text(v2(book(), book("XXX/USD"), book("BTC/USD", bids=[(0.001, 1)]), book(bids=[(9.999, 1)]),
                                  {"symbol": "ETH/USD"}, book("XBT/USD", checksum=8))))
    assert [part.kind for part in parts] == [Decoding.DIFF, Decoding.UNKNOWN, Decoding.DIFF, Decoding.FINER,
                                             Decoding.MALFORMED, Decoding.DIFF]
    assert [(part.book, part.checksum) for part in parts if part.kind is Decoding.DIFF] == [(0, 7), (1, 7), (1, 8)]


def test_trades_of_one_symbol_are_a_part_and_history_is_told_oldest_first(decoder):
    told = [trade(5), trade(6, side="buy"), trade(1, "BTC/USD"), trade(7)]
    parts = decoder.parts(text(v2(*told, channel="trade")))
    assert [(part.kind, part.book, part.first, part.last) for part in parts] == [
        (Decoding.TRADES, 0, 5, 6), (Decoding.TRADES, 1, 1, 1), (Decoding.TRADES, 0, 7, 7)]
    assert parts[0].trades == [(5, "sell", 250, 4 * 10**9, 1695628177708706000),
                               (6, "buy", 250, 4 * 10**9, 1695628177708706000)]
    for numbers in ([3, 4, 5], [5, 4, 3]):
        (part,) = decoder.parts(text(v2(*map(trade, numbers), channel="trade", kind="snapshot")))
        assert [each[0] for each in part.trades] == [3, 4, 5]
        assert bool(decoder.state.contents.history)
    decoder.decode(text(v2(trade(6), channel="trade")))
    assert not decoder.state.contents.history
    parts = decoder.parts(text(v2(*(trade(number) for number in range(2500)), channel="trade")))
    assert [len(part.trades) for part in parts] == [1024, 1024, 452]        # as many as there is room for


def test_the_older_trades_have_no_numbers(decoder):
    frame = [993, [["354.11", "0.89594024", "1618678142.557535", "s", "l", ""],
                   ["354.12", "1", "1618678142.6", "b", "m", ""]], "trade", "XBT/USD"]
    for spelt in (text(frame), json.dumps(frame).encode()):
        assert decoder.decode(spelt).trades == [(0, "sell", 35411000000, 89594024, 1618678142557535000),
                                                (0, "buy", 35412000000, 10**8, 1618678142600000000)]
    assert decoder.decode(b'[993,[],"trade","XBT/USD"]').kind is Decoding.IGNORED


@pytest.mark.parametrize(("message", "kind"), [
    ({"channel": "heartbeat"}, Decoding.HEARTBEAT), ({"event": "heartbeat"}, Decoding.HEARTBEAT),
    ({"method": "pong", "req_id": 1, "time_in": "", "time_out": ""}, Decoding.HEARTBEAT),
    ({"event": "pong", "reqid": 42}, Decoding.HEARTBEAT),
    ({"channel": "status", "data": [{"connection_id": 18266300427528990701, "system": "online"}], "type": "update"},
     Decoding.CONTROL),
    ({"connectionID": 8305967186189583446, "event": "systemStatus", "status": "online"}, Decoding.CONTROL),
    ({"method": "subscribe", "result": {"channel": "book", "symbol": "ETH/USD"}, "success": True}, Decoding.CONTROL),
    ({"error": "Already subscribed", "method": "subscribe", "success": False}, Decoding.CONTROL),
    ({"channelID": 1664, "channelName": "book-1000", "event": "subscriptionStatus", "pair": "WAVES/EUR",
      "status": "subscribed", "subscription": {"depth": 1000, "name": "book"}}, Decoding.CONTROL),
    (v2({"symbol": "ETH/USD", "bid": 0.1}, channel="ticker"), Decoding.IGNORED),
    (v2({"symbol": "ETH/USD"}, channel="level3"), Decoding.IGNORED), (v2(channel="instrument"), Decoding.IGNORED),
    (v2(), Decoding.IGNORED), (v2(channel="trade"), Decoding.IGNORED),
    ([1668, {"a": ["13.25", 35, "35.7"], "b": []}, "ticker", "ETH/USD"], Decoding.IGNORED),
    ([1, ["1", "2"], "spread", "ETH/USD"], Decoding.IGNORED),
    (v2(book("XXX/USD")), Decoding.UNKNOWN), ([1, {"b": []}, "book-10", "XXX/USD"], Decoding.UNKNOWN),
    (v2(book(bids=[(1.001, 1)])), Decoding.FINER), (v2(book(bids=[(1, 1e-9)])), Decoding.FINER),
    (v2(book(bids=[(10**17, 1)])), Decoding.FINER), (v2(trade(1, price=1.001), channel="trade"), Decoding.FINER),
    ([1, {"b": [["1.001", "1", "1.5"]]}, "book-10", "ETH/USD"], Decoding.FINER),
    (v2(book(bids=[(1, 1)] * 70000)), Decoding.TOO_MANY),
    ([1, {"b": [["1", "1", "1.5"]] * 70000}, "book-10", "ETH/USD"], Decoding.TOO_MANY),
    ([1, [["1", "1", "1.5", "s"]] * 2000, "trade", "ETH/USD"], Decoding.TOO_MANY),
])
def test_messages_are_told_apart(decoder, message, kind):
    assert decoder.parts(text(message))[0].kind is kind


def without(name):
    return {key: value for key, value in book().items() if key != name}


@pytest.mark.parametrize("message", [
    {}, [], 1, None, "book", {"feed": "book"}, {"channel": 1}, {"event": 5}, {"channel": "book"}, {"method": None},
    v2(book(), kind="partial"), {"channel": "book", "type": "update", "data": {}},
    {"channel": "book", "type": "update", "data": None}, v2(7), v2([]), v2({}), v2(without("symbol")),
    v2(without("bids")), v2(without("asks")), v2(book(symbol=7)), v2(book(checksum=-1)), v2(book(checksum=2**32)),
    v2(book(checksum=1.5)), v2(book(checksum=None)), v2(book(timestamp="yesterday")), v2(book(timestamp=7)),
    v2(book(bids=[(1, -1)])), v2(book(bids=[(None, 1)])), v2(book(bids=[("", 1)])), v2(book(bids=[("1 ", 1)])),
    v2({**book(), "bids": [{"price": 1}]}), v2({**book(), "bids": [[1, 2]]}), v2({**book(), "bids": None}),
    *[v2({**trade(1), name: value}, channel="trade") for name, value in (
        ("side", "b"), ("price", 0), ("price", -1), ("qty", -1), ("trade_id", 1.5), ("trade_id", -1), ("trade_id", "x"),
        ("timestamp", None), ("symbol", None))],
    [1, {}, "book-10", "ETH/USD"], [1, {"b": [], "bs": []}, "book-10", "ETH/USD"], [1, {"b": []}, "book-10"],
    [1, {"b": []}, {"b": []}, "book-10", "ETH/USD"], [1, 2, 3, 4, "book-10", "ETH/USD"], [1, 7, "book-10", "ETH/USD"],
    [1, {"b": [["1", "1"]]}, "book-10", "ETH/USD"], [1, {"b": [["1", "1", "x"]]}, "book-10", "ETH/USD"],
    [1, {"b": [["1", "1", "1.5", "r", 1]]}, "book-10", "ETH/USD"], [1, {"b": [], "c": "x"}, "book-10", "ETH/USD"],
    [1, {"b": [["1", "-1", "1.5"]]}, "book-10", "ETH/USD"], [1, {"b": [], "c": "4294967296"}, "book-10", "ETH/USD"],
    [1, [["1", "1", "1.5", "x"]], "trade", "ETH/USD"], [1, [["1", "1", "1.5"]], "trade", "ETH/USD"],
    [1, [["1", "1", "1.5x", "s"]], "trade", "ETH/USD"], [1, [["0", "1", "1.5", "s"]], "trade", "ETH/USD"],
    [1, [[]], "trade", "ETH/USD"], [1, [7], "trade", "ETH/USD"], [1, {"b": []}, 7, "ETH/USD"],
])
def test_what_is_no_message_is_malformed(decoder, message):
    assert decoder.decode(text(message)).kind is Decoding.MALFORMED


def test_a_key_that_comes_twice_or_in_disguise_is_malformed(decoder):
    message = text(v2(book()))
    for broken in (message.replace(b'"bids"', b'"asks"'), message.replace(b'"checksum"', b'"\\u0063hecksum"'),
                   message[:-1] + b',"data":[]}', message.replace(b'"qty":2}', b'"qty":2,"qty":3}')):
        assert decoder.decode(broken).kind is Decoding.MALFORMED


@pytest.mark.parametrize("message", [
    v2(book()), v2(book(), kind="snapshot"), v2(trade(1), channel="trade"),
    [1, {"b": [LEVEL], "c": "7"}, "book-10", "ETH/USD"],
    [1, {"as": [LEVEL], "bs": []}, "book-10", "ETH/USD"], [1, [["1", "1", "1.5", "s"]], "trade", "ETH/USD"],
])
def test_no_truncation_or_trailing_text_is_accepted(decoder, message):
    whole = text(message)
    assert decoder.decode(whole).kind > 0
    for size in range(len(whole)):
        assert decoder.decode(whole[:size]).kind is Decoding.MALFORMED
    for more in (b"}", b"]", b"{}", b"x", b"\x00", b",", whole):
        assert decoder.decode(whole + more).kind is Decoding.MALFORMED


@pytest.mark.parametrize("level", [(0, 1), ("0.00000000", 0), (-1, 1)])
def test_a_level_that_nobody_can_trade_at_is_left_out(decoder, level):
    assert decoder.decode(text(v2(book(bids=[level, (1797.24, 0.5)])))).changes == CHANGES


def test_how_numbers_are_printed_is_learnt_from_a_snapshot_and_only_grows_by_a_change(decoder):
    def after(rows, kind):
        levels = ",".join(f'{{"price":{price},"qty":{qty}}}' for price, qty in rows)
        decoder.decode(f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"BTC/USD","bids":[{levels}],'
                       '"asks":[],"checksum":0}]}'.encode())
        return decoder.printed(1)

    assert after([("1797.30", "0.50000000"), ("1797.4", "1")], "snapshot") == (2, 8)
    assert after([("1797", "2.5")], "update") == (2, 8)
    assert after([("1797.301", "2.5")], "update") == (3, 8)
    assert after([("17.9e2", "1e-3")], "snapshot") == (0, 3)           # 1790, 0.001
    assert after([("1.25e1", "1.5E-7")], "update") == (1, 8)
    assert after([("1.123456789", "1")], "snapshot") == (1, 8)         # too fine for the scale: nothing was learnt
    assert after([], "snapshot") == (0, 0)
    assert decoder.printed(0) == (0, 0)


A_BIDS = """1797.24 0.43393711 | 1797.18 139.10616255 | 1797.13 139.10995927 | 1797.12 0.80386470 | 1797.07 139.11517673
| 1796.98 5.22282896 | 1796.97 12.17138476 | 1796.95 139.69390939 | 1796.88 4.21870000 | 1796.85 1.22932317"""
A_ASKS = """1797.25 1.40355852 | 1797.28 10.82400000 | 1797.29 139.09899871 | 1797.30 139.09783403
| 1797.37 139.09216827 | 1797.41 5.24638952 | 1797.42 0.01780330 | 1797.46 33.05700000
| 1797.48 3.11556555 | 1797.49 139.49306646"""
B_ASKS = """45285.2 0.00100000 | 45286.4 1.54571953 | 45286.6 1.54571109 | 45289.6 1.54560911 | 45290.2 0.15890660
| 45291.8 1.54553491 | 45294.7 0.04454749 | 45296.1 0.35380000 | 45297.5 0.09945542 | 45299.5 0.18772827"""
B_BIDS = """45283.5 0.10000000 | 45283.4 1.54582015 | 45282.1 0.10000000 | 45281.0 0.10000000 | 45280.3 1.54592586
| 45279.0 0.07990000 | 45277.6 0.03310103 | 45277.5 0.30000000 | 45277.3 1.54602737 | 45276.6 0.15445238"""


def snapshot(symbol, bids, asks):
    """Verbatim: json would drop zeros."""
    sides = [",".join('{{"price":{},"qty":{}}}'.format(*row.split()) for row in rows.split("|") if row.strip())
             for rows in (bids, asks)]
    return (f'{{"channel":"book","type":"snapshot","data":[{{"symbol":"{symbol}","bids":[{sides[0]}],'
            f'"asks":[{sides[1]}],"checksum":1}}]}}').encode()


@pytest.mark.parametrize("symbol", ["BTC/USD", "ETH/USD"])      # scales finer than, and as, printed
def test_the_checksums_of_the_documents_hold(decoder, symbol):
    number = [names[0] for names in SYMBOLS].index(symbol)
    levels = decoder.decode(snapshot(symbol, A_BIDS, A_ASKS)).changes
    assert decoder.checksum(number, levels) == 2606672715
    levels = [level for level in levels if level[:2] != ("ask", 17972900 * 10**(SCALES[number][0] - 4))]
    added = decoder.decode(b'{"channel":"book","type":"update","data":[{"symbol":"%s","bids":[],"asks":[{"price":'
                           b'1797.29,"qty":0.00000000},{"price":1797.52,"qty":1.56601318}],"checksum":3329440863,'
                           b'"timestamp":"2025-05-06T09:17:26.208075Z"}]}' % symbol.encode())
    assert decoder.checksum(number, [*levels, *(change for change in added.changes if change[2])]) == 3329440863
    levels = decoder.decode(snapshot(symbol, B_BIDS, B_ASKS)).changes
    assert decoder.checksum(number, levels) == 3310070434


def digits(*texts):
    return zlib.crc32("".join(text.replace(".", "").lstrip("0") for text in texts).encode())


@pytest.mark.parametrize(("scale", "rows"), [
    ((6, 8), "0.042990 364630.28272081"),                                   # leading zeros
    ((2, 8), "354.15000000 5.00000000"),                                    # more decimals than the scale has
    ((0, 0), "354.00000000 12345678901.00000000"), ((0, 0), "1.000000000000000000 9.00000000"),
    ((8, 8), "61837.6 1.25"), ((8, 2), "0.00000001 92233720368547758.07"), ((0, 0), "9223372036854775807 1"),
    ((18, 18), "1.5 9.223372036854775807"), ((18, 18), "9 0.000000000000000001"), ((10, 3), "10 10"),
    ((8, 8), "99999999 99999999.99999999"), ((8, 8), "100000000 100000000.00000000"), ((0, 0), "7 70000000"),
])
def test_any_scale_prints_the_digits_that_were_sent(scale, rows):
    decoder = Decoder("kraken", ["ETH/USD"], [scale])
    price, size = rows.split()
    answer = decoder.decode(snapshot("ETH/USD", rows, ""))
    assert answer.kind is Decoding.SNAPSHOT
    assert decoder.checksum(0, answer.changes) == digits(price, size)


def test_sides_shorter_than_ten_and_empty_books_have_checksums_too(decoder):
    rows = A_ASKS.split("|")
    for bids, asks in ((A_BIDS, "|".join(rows[:3])), ("", A_ASKS), (A_BIDS, "")):
        levels = decoder.decode(snapshot("ETH/USD", bids, asks)).changes
        assert decoder.checksum(0, levels) == digits(*asks.replace("|", " ").split(), *bids.replace("|", " ").split())
    assert decoder.checksum(0, decoder.decode(snapshot("ETH/USD", "", "")).changes) == 0


def test_only_the_best_ten_count(decoder):
    levels = decoder.decode(snapshot("ETH/USD", A_BIDS + "| 1700.00 1.0", A_ASKS + "|1800.00 2.0")).changes
    assert decoder.checksum(0, levels) == 2606672715
