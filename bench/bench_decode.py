"""Bytes of one venue message to exact ticks: mantra's decoders against orjson.loads alone, on the same recorded frames.

    python bench/bench_decode.py [--seconds 2] [--json]        recordings: $MANTRA_DATA, else ../shared/data

Passes over all frames of a kind alternate between the two in one run and the fastest of each counts, so a busy machine
slows both or neither. orjson only makes Python objects of the text: numbers are still strings after it, so the ratio
understates. The answer is checked before anything is timed: every frame's changes and trades equal json + Decimal.
"""
from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import sys
import time
from pathlib import Path

import orjson

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mantra.tape.lines import read
from tests.c.decoding import Decoder, Decoding
from tests.data import FOLDER
from tests.wire.test_coinbase_recordings import expected
from tests.wire.test_decoded_recordings import SCALE, binance_reference, bitstamp_reference, changes

BITSTAMP = ["cryptofeed/BITSTAMP.ws.1.0.zst", "cryptofeed-2021-04-17/BITSTAMP.ws.19.0.zst"]
BINANCE = ["cryptofeed/BINANCE.ws.1.0", "hftbacktest/spot/btcusdt_20240808.zst"]
COINBASE, EXCHANGE = ["cryptofeed-v3/COINBASE.first-part.jsonl.zst"], ["cryptofeed/COINBASE.ws.28.0.zst"]


def recorded(paths: list[str], marks: bytes) -> list[bytes]:
    return [record.text for record in read([FOLDER / path for path in paths]) if record.kind == "message"
            and marks in record.text]


def images(count: int = 300) -> list[bytes]:
    """order_book frames of 100 levels a side; no recording has any, so they are made: a level near the top moves in
    every third, deeper ones in all."""
    walk = random.Random(1)
    sides = [[[f"{20000 + sign * (i + 1) * 0.01:.2f}", f"{walk.random() * 3:.8f}"] for i in range(100)]
             for sign in (-1, 1)]
    frames = []
    for number in range(count):
        sides[number & 1][walk.randrange(10, 100)][1] = f"{walk.random() * 3:.8f}"
        if number % 3 == 0:
            sides[1][walk.randrange(10)][1] = f"{walk.random() * 3:.8f}"
        frames.append(orjson.dumps({
            "data": {"timestamp": "1700000000", "microtimestamp": str(1700000000000000 + number), "bids": sides[0],
                     "asks": sides[1]}, "channel": "order_book_btcusd", "event": "data"}))
    return frames


def check(venue: str, decoder: Decoder, frames: list[bytes]) -> None:
    """Every frame decodes to what json and Decimal make of it; SystemExit where one does not."""
    reference = binance_reference if venue == "binance" else bitstamp_reference
    for frame in frames:
        answer, message = decoder.decode(frame), json.loads(frame)
        if venue == "coinbase":
            kind, _, number, at, levels, trades = expected(message)
            right = (answer.kind, answer.number, answer.venue_time_ns, answer.changes, answer.trades) == (
                kind, number, at, levels, trades)
        elif b'"order_book_' in frame:
            want = changes(message["data"]["bids"][:10], message["data"]["asks"][:10])
            right = answer.kind is Decoding.UNCHANGED or sorted(answer.changes) == sorted(want)
        else:
            kind, _, first, last, at, levels, trades = reference(message)
            right = (answer.kind, answer.first, answer.last, answer.venue_time_ns, answer.changes,
                     answer.trades) == (kind, first, last, at, levels, trades)
        if not right:
            sys.exit(f"wrong answer {answer} for {frame!r}")


def loads_ns(frames: list[bytes]) -> int:
    start = time.perf_counter_ns()
    for frame in frames:
        orjson.loads(frame)
    return time.perf_counter_ns() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2, help="for each kind of message")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    options = parser.parse_args()
    diffs = recorded(BITSTAMP, b'"channel":"diff_order_book_')
    diffs = [frame for frame in diffs if frame.endswith(b'"data"}')]
    kinds = {
        "bitstamp diff": ("bitstamp", diffs, 0),
        "bitstamp diff, 180-200 bytes": ("bitstamp", [frame for frame in diffs if 180 <= len(frame) <= 200], 0),
        "bitstamp image, top 10 of 100": ("bitstamp", images(), 10),
        "binance diff": ("binance", recorded(BINANCE, b'"e":"depthUpdate"'), 0),
        "binance trade": ("binance", recorded(BINANCE, b'"e":"trade"'), 0),
        "binance bookTicker, ignored": ("binance", recorded(BINANCE, b"@bookTicker")[:5000], 0),
        "coinbase snapshot": ("coinbase", recorded(COINBASE, b'"type":"snapshot","product_id"'), 0),
        "coinbase update": ("coinbase", recorded(COINBASE, b'"type":"update","product_id"'), 0),
        "coinbase trades": ("coinbase", recorded(COINBASE, b'"type":"update","trades"'), 0),
        "coinbase exchange update": ("coinbase", recorded(EXCHANGE, b'"type":"l2update"'), 0),
        "coinbase exchange match": ("coinbase", recorded(EXCHANGE, b'"type":"match"'), 0),
    }
    results = {}
    print(f"{'message':32}{'frames':>8}{'bytes':>8}{'mantra ns':>11}{'orjson ns':>11}{'ratio':>7}")
    for name, (venue, frames, depth) in kinds.items():
        symbols = sorted({frame.rpartition(b'","event"')[0].rpartition(b"_")[2].decode() for frame in frames}
                         if venue == "bitstamp" else
                         {re.search(r'"product_id":"([^"]+)"', frame.decode())[1] for frame in frames}
                         if venue == "coinbase" else {json.loads(frame)["data"]["s"] for frame in frames})
        decoder = Decoder(venue, symbols, [SCALE] * len(symbols), depth)
        check(venue, decoder, frames)
        ours = theirs = None
        end = time.perf_counter() + options.seconds
        while ours is None or time.perf_counter() < end:
            ours = min(ours or 1e18, decoder.time_ns(frames))
            theirs = min(theirs or 1e18, loads_ns(frames))
        result = {"frames": len(frames), "bytes": statistics.mean(map(len, frames)), "mantra_ns": ours / len(frames),
                  "orjson_ns": theirs / len(frames), "ratio": theirs / ours}
        results[name] = {key: round(value, 1) for key, value in result.items()}
        print(f"{name:32}{len(frames):8}{result['bytes']:8.0f}{result['mantra_ns']:11.1f}{result['orjson_ns']:11.1f}"
              f"{result['ratio']:7.1f}")
    if options.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
