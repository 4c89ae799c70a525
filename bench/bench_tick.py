"""Bytes in memory to published top (decode, book, checksum, top, queues): mantra, cryptofeed's own handler, orjson.

    python -m pytest bench/bench_tick.py        recordings: $MANTRA_DATA, else ../shared/data

All three take the same recorded messages by turns, so a busy machine slows each of them; the least of many passes
counts. Every pass begins, untimed, from the books of the snapshots: those of REST, or the recording's first messages.
cryptofeed parses, keeps its books and calls back to nothing; orjson only makes Python objects of the text. Kraken's
checksums are verified by both, and by neither. The answer is checked: each of mantra's passes publishes the same and
leaves the books that the reference leaves (tests/wire), and cryptofeed's final books equal them level for level.
"""
from __future__ import annotations

import gc
import itertools
import logging
import platform
import time
from collections import defaultdict, deque
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, NamedTuple

import orjson
import pytest
from cryptofeed.defines import L2_BOOK, TRADES
from cryptofeed.exchanges import Binance, Bitfinex, Bitstamp, Coinbase, Kraken
from cryptofeed.symbols import Symbol, Symbols
from cryptofeed.types import OrderBook

from mantra import venues
from mantra.client.recorded import Recorded
from mantra.replay import Replay
from mantra.tape import lines
from tests.data import data


class Case(NamedTuple):
    """One venue's recording: a mark of the messages that both take for books and trades ("": all; where the venue
    numbers its messages none may be left out), and how many of these lead up to the last snapshot."""

    peer: Any
    paths: tuple[str, ...]
    mark: bytes = b""
    lead: int = 0
    cure: tuple[str, str] = ("", "")    # what the peer has to be given instead, to keep a right book


CASES = {
    "binance": Case(Binance, ("cryptofeed-2021-04-17/BINANCE.ws.1.0.zst", "cryptofeed-2021-04-17/BINANCE.http.0.0.zst"),
                    b'"e":"depthUpdate"'),
    "bitfinex": Case(Bitfinex, ("cryptofeed/BITFINEX.ws.11.0.zst",), lead=649),
    "bitstamp": Case(Bitstamp, ("cryptofeed/BITSTAMP.ws.1.0.zst", "cryptofeed/BITSTAMP.http.0.0.zst")),
    # Its handler looks for "ask" where the venue says "offer", and else keeps no asks of snapshots.
    "coinbase": Case(Coinbase, ("cryptofeed-v3/COINBASE.first-part.jsonl.zst",), lead=22, cure=('"offer"', '"ask"')),
    "kraken": Case(Kraken, ("cryptofeed/KRAKEN.ws.50.0.zst",), lead=22),
}
TARGET = 20             # times faster than cryptofeed
PASSES = 100
CONNECTION = SimpleNamespace(uuid="recorded", subscription={})


async def nothing(*_: Any) -> None:
    pass


class Cryptofeed:
    """Its feed handler without a connection."""

    def __init__(self, case: Case, replay: Replay, checksums: bool) -> None:
        self.case = case
        self.pairs = {symbol.name: Symbol(symbol.name, "X").normalized for symbol in replay.symbols}
        spelled = {pair: name.upper() if case.peer is Binance else name.replace("BTC/", "XBT/").replace("/BTC", "/XBT")
                   if case.peer is Kraken else name for name, pair in self.pairs.items()}
        Symbols.set(case.peer.id, spelled, {"instrument_type": dict.fromkeys(spelled, "spot")})
        self.feed = case.peer(symbols=list(spelled), channels=[L2_BOOK, TRADES], checksum_validation=checksums,
                              callbacks={L2_BOOK: nothing, TRADES: nothing})
        self.snapshots = [(self.pairs[found.symbol], orjson.loads(found.body)) for found in replay.recorded.snapshots]
        self.frames = [bytes(text).decode().replace(*case.cure) for text in replay.recorded]

    def restore(self) -> None:
        self.feed.last_update_id, self.feed._l2_book = {}, {}
        self.feed.handlers, self.feed.seq_no = {}, defaultdict(int)
        for pair, rest in self.snapshots:
            sides = {side: {Decimal(price): Decimal(size) for price, size, *_ in rest[side]}
                     for side in ("bids", "asks")}
            self.feed._l2_book[pair] = OrderBook(self.feed.id, pair, **sides)
            self.feed._l2_book[pair].delta = {}
            self.feed.last_update_id[pair] = rest.get("lastUpdateId") or rest["timestamp"]
        self._handle(self.frames[:self.case.lead])

    def run(self) -> None:
        self._handle(self.frames[self.case.lead:])

    def _handle(self, frames: list[str]) -> None:
        async def handle() -> None:
            for frame in frames:
                await self.feed.message_handler(frame, CONNECTION, 0.0)

        with pytest.raises(StopIteration):      # nothing in it waits: no event loop, which would cost it more
            handle().send(None)

    def books(self) -> dict[str, list[list[tuple[Decimal, Decimal]]]]:
        return {name: [sorted(getattr(book.book, side).to_dict().items()) for side in ("bids", "asks")]
                for name, pair in self.pairs.items() if (book := self.feed._l2_book.get(pair))}


def ours(replay: Replay) -> dict[str, list[list[tuple[Decimal, Decimal]]]]:
    books = replay.result(books=True)["books"]
    return {name: [sorted((Decimal(price), Decimal(size)) for price, size in book[side]) for side in ("bids", "asks")]
            for name, book in books.items()}


@pytest.mark.parametrize(("venue", "checksums"), [*((venue, True) for venue in CASES), ("kraken", False)])
def test_bytes_to_published_top(venue: str, checksums: bool, benchmark: Any,
                                capsys: pytest.CaptureFixture[str]) -> None:
    case, contract = CASES[venue], venues.get(venue)
    logging.getLogger("feedhandler").setLevel(logging.CRITICAL)     # it warns of each frame that it does not know
    records = (record for record in lines.read([data(path) for path in case.paths], venue)
               if record.kind != "message" or case.mark in record.text)
    replay = Replay(contract, Recorded(contract, records), checksums=checksums)
    peer, texts = Cryptofeed(case, replay, checksums), list(map(bytes, replay.recorded))
    everything, timed, recorded = len(texts), texts[case.lead:], replay.recorded
    count = len(timed)
    first = replay.timed()[1]
    best = {"cryptofeed": 1e9, "orjson": 1e9}
    turns = itertools.count()

    def between() -> None:      # every tenth time the others' turn, then what mantra's pass begins from
        if next(turns) % 10 == 0:
            peer.restore()
            gc.collect()
            for name, run in (("cryptofeed", peer.run), *[("orjson", lambda: deque(map(orjson.loads, timed), 0))] * 10):
                start = time.perf_counter_ns()
                run()
                best[name] = min(best[name], (time.perf_counter_ns() - start) / count)
        replay.restore()
        replay.feed.messages(recorded.texts, recorded.offsets, 0, case.lead)

    benchmark.pedantic(replay.feed.messages, (recorded.texts, recorded.offsets, case.lead, everything), setup=between,
                       rounds=PASSES)
    assert replay.timed()[1] == first
    counts = replay.row.counts()
    assert counts["gaps"] == counts["checksums_failed"] == counts["malformed"] == 0
    assert bool(counts["checksums_ok"]) == (venue == "kraken" and checksums)
    peer.restore()
    peer.run()
    mine, theirs = ours(replay), peer.books()
    assert theirs
    assert theirs == {name: mine[name] for name in theirs}
    ns = benchmark.stats.stats.min * 1e9 / count
    ratios = {name: round(least / ns, 1) for name, least in best.items()}
    benchmark.extra_info.update(ns_per_message=round(ns), ratios=ratios)
    with capsys.disabled():
        print(f"\n{venue}{'' if checksums else ', checksums off in both'}: {count} messages of "
              f"{sum(map(len, timed)) // count} bytes; Python {platform.python_version()} ({platform.machine()}), "
              f"ns per message: mantra {ns:.0f}, "
              + ", ".join(f"{name} {best[name]:.0f} ({ratios[name]}x)" for name in best))
    assert ratios["cryptofeed"] >= TARGET
