"""Every Binance and Bitstamp frame and snapshot of the recordings decodes as json and decimal read it."""
import json
from decimal import Decimal

import pytest

from mantra.tape.lines import read
from tests.c.decoding import Decoder, Decoding

from ..data import data

SCALE = (8, 8)
BINANCE = ["cryptofeed/BINANCE.ws.1.0", "cryptofeed-2021-04-17/BINANCE.ws.1.0", "hftbacktest/spot/btcusdt_20240808",
           "hftbacktest/spot/btcusdt_20240809"]
BITSTAMP = ["cryptofeed/BITSTAMP.ws.1.0", "cryptofeed-2021-04-17/BITSTAMP.ws.19.0"]
SNAPSHOTS = [("binance", "cryptofeed/BINANCE.http.0.0"), ("binance", "cryptofeed-2021-04-17/BINANCE.http.0.0"),
             ("bitstamp", "cryptofeed/BITSTAMP.http.0.0"), ("bitstamp", "cryptofeed-2021-04-17/BITSTAMP.http.18.0")]


def messages(path):
    return [record for record in read([data(path)]) if record.kind in ("message", "rest")]


def exact(number, decimals):
    scaled = Decimal(number).scaleb(decimals)
    assert scaled == int(scaled)
    return int(scaled)


def changes(bids, asks):
    return [(side, exact(price, SCALE[0]), exact(size, SCALE[1]))
            for side, levels in (("bid", bids), ("ask", asks)) for price, size in levels]


def binance_reference(frame):
    """(kind, symbol, first, last, time, changes, trades) of a Binance frame."""
    message = frame.get("data", frame)
    kind = message.get("e")
    if kind == "depthUpdate":
        return (Decoding.DIFF, message["s"], message["U"], message["u"], message["E"] * 10**6,
                changes(message["b"], message["a"]), [])
    if kind in ("trade", "aggTrade"):
        number = message["t" if kind == "trade" else "a"]
        trade = (number, "sell" if message["m"] else "buy", exact(message["p"], SCALE[0]),
                 exact(message["q"], SCALE[1]),
                 message["T"] * 10**6)
        return Decoding.TRADES, message["s"], number, number, message["T"] * 10**6, [], [trade]
    if "B" in message:
        best = changes([[message["b"], message["B"]]], [[message["a"], message["A"]]])
        return Decoding.WITNESS, message["s"], message["u"], message["u"], 0, best, []
    return Decoding.IGNORED, None, 0, 0, 0, [], []


def bitstamp_reference(frame):
    """The same of a Bitstamp frame."""
    message, (channel, _, market) = frame["data"], frame["channel"].rpartition("_")
    if frame["event"].startswith("bts:"):
        return Decoding.CONTROL, None, 0, 0, 0, [], []
    micros = int(message["microtimestamp"])
    if channel == "live_trades":
        trade = (message["id"], ("buy", "sell")[message["type"]], exact(message["price_str"], SCALE[0]),
                 exact(message["amount_str"], SCALE[1]), micros * 1000)
        return Decoding.TRADES, market, message["id"], message["id"], micros * 1000, [], [trade]
    assert channel == "diff_order_book"
    return Decoding.DIFF, market, micros, micros, micros * 1000, changes(message["bids"], message["asks"]), []


@pytest.mark.parametrize(("venue", "path"), [("binance", p) for p in BINANCE] + [("bitstamp", p) for p in BITSTAMP])
def test_every_frame_decodes_as_json_and_decimal_read_it(venue, path):
    frames = [record.text for record in messages(path) if record.kind == "message"]
    reference = binance_reference if venue == "binance" else bitstamp_reference
    expected = [reference(json.loads(frame)) for frame in frames]
    symbols = sorted({symbol for _, symbol, *_ in expected if symbol})
    decoder = Decoder(venue, symbols, [SCALE] * len(symbols))
    for frame, (kind, symbol, *rest) in zip(frames, expected, strict=True):
        answer = decoder.decode(frame)
        book = None if symbol is None else symbols.index(symbol)
        assert answer[:7] == (kind, book, *rest), frame
    assert len(frames) > 100


@pytest.mark.parametrize(("venue", "path"), SNAPSHOTS)
def test_every_snapshot_decodes_as_json_and_decimal_read_it(venue, path):
    decoder = Decoder(venue, ["a", "b"], [(0, 0), SCALE])
    count = 0
    for record in messages(path):
        reference = json.loads(record.text)
        if "bids" not in reference:
            continue
        count += 1
        answer = decoder.decode_snapshot(record.text, 1)
        number = int(reference["lastUpdateId" if venue == "binance" else "microtimestamp"])
        assert (answer.kind, answer.book, answer.first, answer.last) == (Decoding.IMAGE, 1, number, number)
        assert answer.venue_time_ns == (0 if venue == "binance" else number * 1000)
        assert answer.changes == changes(reference["bids"], reference["asks"])
    assert count >= 4
