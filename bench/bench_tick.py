"""Bytes in memory to published top (decode, book, top, queues): mantra, cryptofeed's own handler, orjson.loads alone.

    python -m pytest bench/bench_tick.py        recordings: $MANTRA_DATA, else ../shared/data

All three take the same recorded messages by turns, so a busy machine slows each of them; the least of many passes
counts. Every pass begins from the books of the REST snapshots, restored untimed. cryptofeed parses, keeps its books and
calls back to nothing; orjson only makes Python objects of the text. The answer is checked: each of mantra's passes
publishes the same and leaves the books that the reference leaves (tests/wire), and cryptofeed's final books equal them
level for level.
"""
from __future__ import annotations

import itertools
import platform
import time
from collections import deque
from decimal import Decimal
from typing import Any

import orjson
import pytest
from cryptofeed.defines import L2_BOOK, TRADES
from cryptofeed.exchanges import Binance, Bitstamp
from cryptofeed.symbols import Symbol, Symbols
from cryptofeed.types import OrderBook

from mantra import venues
from mantra.client.recorded import Recorded
from mantra.replay import Replay
from mantra.tape import lines
from tests.data import data

RECORDINGS = {      # and which of their messages: those that both take for books and trades
    "bitstamp": (("cryptofeed/BITSTAMP.ws.1.0.zst", "cryptofeed/BITSTAMP.http.0.0.zst"), b""),
    "binance": (("cryptofeed-2021-04-17/BINANCE.ws.1.0.zst", "cryptofeed-2021-04-17/BINANCE.http.0.0.zst"),
                b'"e":"depthUpdate"'),
}
TARGETS = {"cryptofeed": 25, "orjson": 2}       # times faster, on the Bitstamp recording
PASSES = 200


async def nothing(*_: Any) -> None:
    pass


class Cryptofeed:
    """Its feed handler without a connection."""

    def __init__(self, venue: str, replay: Replay) -> None:
        made = {"binance": Binance, "bitstamp": Bitstamp}[venue]
        upper = venue == "binance"
        self.pairs = {symbol.name: Symbol(symbol.name, "X").normalized for symbol in replay.symbols}
        spelled = {pair: name.upper() if upper else name for name, pair in self.pairs.items()}
        Symbols.set(made.id, spelled, {"instrument_type": dict.fromkeys(spelled, "spot")})
        self.feed = made(symbols=list(spelled), channels=[L2_BOOK, TRADES],
                         callbacks={L2_BOOK: nothing, TRADES: nothing})
        self.snapshots = [(self.pairs[found.symbol], orjson.loads(found.body)) for found in replay.recorded.snapshots]
        self.frames = [text.decode() for text in replay.recorded]

    def restore(self) -> None:
        self.feed.last_update_id, self.feed._l2_book = {}, {}
        for pair, rest in self.snapshots:
            sides = {side: {Decimal(price): Decimal(size) for price, size, *_ in rest[side]}
                     for side in ("bids", "asks")}
            self.feed._l2_book[pair] = OrderBook(self.feed.id, pair, **sides)
            self.feed._l2_book[pair].delta = {}
            self.feed.last_update_id[pair] = rest.get("lastUpdateId") or rest["timestamp"]

    def run(self) -> None:
        async def handle() -> None:
            for frame in self.frames:
                await self.feed.message_handler(frame, None, 0.0)

        with pytest.raises(StopIteration):      # nothing in it waits: no event loop, which would cost it more
            handle().send(None)

    def books(self) -> dict[str, list[list[tuple[Decimal, Decimal]]]]:
        return {name: [sorted(side.to_dict().items()) for side in (book.book.bids, book.book.asks)]
                for name, pair in self.pairs.items() if (book := self.feed._l2_book.get(pair))}


def ours(replay: Replay) -> dict[str, list[list[tuple[Decimal, Decimal]]]]:
    books = replay.result(books=True)["books"]
    return {name: [sorted((Decimal(price), Decimal(size)) for price, size in book[side]) for side in ("bids", "asks")]
            for name, book in books.items()}


@pytest.mark.parametrize("venue", RECORDINGS)
def test_bytes_to_published_top(venue: str, benchmark: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (stream, rest), mark = RECORDINGS[venue]
    contract = venues.get(venue)
    records = (record for record in lines.read([data(stream), data(rest)], venue)
               if record.kind != "message" or mark in record.text)
    replay = Replay(contract, Recorded(contract, records))
    peer, texts = Cryptofeed(venue, replay), list(replay.recorded)
    count, recorded = len(texts), replay.recorded
    first = replay.timed()[1]
    best = {"cryptofeed": 1e9, "orjson": 1e9}

    turns = itertools.count()

    def between() -> None:      # every tenth time the others' turn, then what mantra's pass begins from
        if next(turns) % 10 == 0:
            peer.restore()
            for name, run in (("cryptofeed", peer.run), *[("orjson", lambda: deque(map(orjson.loads, texts), 0))] * 10):
                start = time.perf_counter_ns()
                run()
                best[name] = min(best[name], (time.perf_counter_ns() - start) / count)
        replay.restore()

    benchmark.pedantic(replay.feed.messages, (recorded.texts, recorded.offsets, 0, count), setup=between, rounds=PASSES)
    assert replay.timed()[1] == first
    peer.restore()
    peer.run()
    assert peer.books() == ours(replay)
    mine = benchmark.stats.stats.min * 1e9 / count
    ratios = {name: round(ns / mine, 1) for name, ns in best.items()}
    benchmark.extra_info.update(ns_per_message=round(mine), ratios=ratios)
    with capsys.disabled():
        print(f"\n{venue}: {count} messages of {sum(map(len, texts)) // count} bytes; "
              f"Python {platform.python_version()} ({platform.machine()}), ns per message: mantra {mine:.0f}, "
              + ", ".join(f"{name} {best[name]:.0f} ({ratios[name]}x)" for name in best))
    if venue == "bitstamp":
        assert all(ratios[name] >= least for name, least in TARGETS.items())
