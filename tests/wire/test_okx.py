"""OKX's recording through the decoder in Python, against json, Decimal and zlib."""
from __future__ import annotations

import json
import zlib
from decimal import Decimal

import pytest

from mantra import venues
from mantra.client.recorded import Recorded
from mantra.replay import Replay
from mantra.tape import lines
from mantra.venues.venue import Acknowledged, Refused, Restart
from tests.data import data

RECORDING = "cryptofeed/OKX.ws.1.0"


@pytest.fixture(scope="module")
def recorded():
    return Recorded(venues.get("okx"), lines.read([data(RECORDING)], "okx"))


def test_every_checksum_holds_and_books_equal_a_slow_reading(recorded):
    books, trades, checked = {}, [], 0
    for text in recorded:
        frame = json.loads(bytes(text))
        for row in frame.get("data", ()):
            if frame["arg"]["channel"] == "trades":
                trades.append((int(row["tradeId"]), row["side"], Decimal(row["px"]), Decimal(row["sz"])))
            elif frame["arg"]["channel"] == "books":
                sides = books.setdefault(frame["arg"]["instId"], ({}, {}))
                for side, levels in zip(sides, (row["bids"], row["asks"]), strict=True):
                    side.update({Decimal(level[0]): level[:2] for level in levels})
                    for price in [price for price, (_, size) in side.items() if not Decimal(size)]:
                        del side[price]
                ranked = [[side[price] for price in sorted(side, reverse=not number)]
                          for number, side in enumerate(sides)]
                signed = ":".join(":".join(side[rank]) for rank in range(25) for side in ranked if rank < len(side))
                assert zlib.crc32(signed.encode()) == row["checksum"] & 0xFFFFFFFF
                checked += 1
    replayed = Replay(recorded.venue, recorded)
    published = replayed.spine.queue("trades.okx", "trade").consumer("oldest")
    replayed.once()
    assert (checked, replayed.row["checksums_ok"], replayed.row["checksums_failed"]) == (290, 290, 0)
    for symbol, book in replayed.result(books=True)["books"].items():
        assert book["trust"] == "verified"
        for side, reverse, rows in zip(books[symbol], (True, False), (book["bids"], book["asks"]), strict=True):
            assert [tuple(map(Decimal, side[price])) for price in sorted(side, reverse=reverse)] == [
                (Decimal(price), Decimal(size)) for price, size in rows]
    scales = {symbol.id: symbol for symbol in replayed.symbols}
    assert [(trade.trade_id, ("", "buy", "sell")[trade.side],
             Decimal(trade.price).scaleb(-scales[trade.instrument].price_decimals),
             Decimal(trade.size).scaleb(-scales[trade.instrument].size_decimals)) for trade in published] == trades


def book(action, sequence, before, checksum=0):
    row = {"bids": [["10", "1", "0", "1"]], "asks": [["11", "1", "0", "1"]], "ts": "1", "checksum": checksum,
           "seqId": sequence, "prevSeqId": before}
    return json.dumps({"arg": {"channel": "books", "instId": "A-B"}, "action": action, "data": [row]}).encode()


def test_todays_frames_are_proven_by_the_message_they_name_before_them():
    decoder = venues.get("okx").decoder()
    parts = [decoder.message(book(*frame))[0] for frame in (("snapshot", 10, -1), ("update", 17, 10))]
    assert [(part.kind.name, part.link, part.before, part.checksum) for part in parts] == [
        ("SNAPSHOT", 10, 0, None), ("DIFF", 17, 10, None)]


@pytest.mark.parametrize(("text", "meaning"), [
    (b'{"event":"subscribe","arg":{"channel":"books","instId":"BTC-USDT"}}', Acknowledged(("books BTC-USDT",))),
    (b'{"event":"error","code":"60018","msg":"Wrong URL or channel:books,instId:NO-NO doesn\'t exist"}',
     Refused("Wrong URL or channel:books,instId:NO-NO doesn't exist (code 60018)", ("books NO-NO",))),
    (b'{"event":"notice","code":"64008","msg":"The connection will soon be closed"}', Restart(30.0)),
    (b'{"event":"unsubscribe","arg":{"channel":"books","instId":"BTC-USDT"}}', None),
])
def test_what_okx_says_beside_data_is_understood(text, meaning):
    assert venues.get("okx").control(text) == meaning
