"""okx: OKX spot, WebSocket v5, and an example: a venue written in Python alone, without a compiler.

A venue of your own is a file like this one: a subclass of `Venue` (what to say, what the answers mean, how fast it may
be asked) whose `decoder` is a class with `message`, and `VENUES["mine"] = Mine` in your program. From its parts of
frames on everything is as with the shipped venues: exact integers, splicing, trust, ledger, books in shared memory. It
costs the GIL and some 10 to 20 us a message instead of a quarter of one.

A book is a snapshot and updates in the stream. `prevSeqId` names the message before, so losses are seen; each message
used to carry a CRC-32 of 25 levels a side, which others have found to be 0 since. Read by pysimdjson, which touches
only what is asked for.
"""
from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

import simdjson

from mantra.venues import venue
from mantra.venues.decoder import Kind, Part
from mantra.venues.venue import Control, Endpoints, Listing, Mode, Rate, Request, decimal_text

BOOKS = "books"                     # 400 levels a side, every 100 ms
SYMBOLS_PER_FRAME = 100


class Decoder:
    """The frames of one connection (mantra.venues.decoder.PythonDecoder)."""

    checksum_levels = 25

    def __init__(self) -> None:
        self._parser = simdjson.Parser()

    def message(self, text: bytes) -> list[Part]:
        if text == b"pong":
            return [Part(Kind.HEARTBEAT)]
        frame: Any = self._parser.parse(text)
        if "event" in frame:
            return [Part(Kind.CONTROL)]
        channel, symbol = frame["arg"]["channel"], frame["arg"]["instId"]
        if channel == BOOKS:
            return [self._book(symbol, frame["action"], row) for row in frame["data"]]
        if channel == "trades":
            trades = [(int(row["tradeId"]), row["side"], row["px"], row["sz"], int(row["ts"]) * 1_000_000)
                      for row in frame["data"]]
            return [Part(Kind.TRADES, symbol, trades=trades)]
        return [Part(Kind.IGNORED)]

    def _book(self, symbol: str, action: str, row: Any) -> Part:
        bids, asks = ([(level[0], level[1]) for level in row[side]] for side in ("bids", "asks"))
        return Part(Kind.SNAPSHOT if action == "snapshot" else Kind.DIFF, symbol, bids, asks, link=row.get("seqId"),
                    before=max(0, row.get("prevSeqId", 0)), time_ns=int(row["ts"]) * 1_000_000,
                    checksum=row.get("checksum") or None)

    def book(self, text: bytes) -> Part:
        """The answer of /api/v5/market/books."""
        answer: Any = self._parser.parse(text)
        row = answer["data"][0]
        bids, asks = ([(level[0], level[1]) for level in row[side]] for side in ("bids", "asks"))
        return Part(Kind.SNAPSHOT, "", bids, asks, time_ns=int(row["ts"]) * 1_000_000)

    def checksum(self, bids: list[tuple[str, str]], asks: list[tuple[str, str]]) -> int:
        """CRC-32 of "bid price:bid size:ask price:ask size:..." from the best down, as far as each side goes."""
        parts = []
        for rank in range(self.checksum_levels):
            parts += [part for side in (bids, asks) if rank < len(side) for part in side[rank]]
        return zlib.crc32(":".join(parts).encode())


class Okx(venue.Venue):
    name = "okx"
    id = 5
    decoder = Decoder
    schemes = {"book": "stream"}  # noqa: RUF012
    proofs = frozenset({"checksums"})
    spread = "symbol"
    live_trust = {"book": venue.VERIFIED}  # noqa: RUF012
    home = Endpoints("wss://ws.okx.com:8443/ws/v5/public", "https://www.okx.com")
    limits = venue.Limits(channels=200, frame_bytes=16_384, rates={
        "connect": (Rate(3, 1.0),),
        "send": (Rate(480, 3600.0, per="connection"),),
        "rest": (Rate(40, 2.0),),
    })
    heartbeat, stale_s, silence_s, max_age_s = venue.Heartbeat("ping", 5.0), 8.0, 12.0, 23.5 * 3600
    book_channels = {"book": BOOKS}  # noqa: RUF012
    book_url = re.compile(r"/market/books\?(?:.*&)?instId=([^&]+)")
    list_url = re.compile(r"/public/instruments\?")
    dense_trade_ids = False                     # several trades at one price come as one, with the last one's id
    offers = venue.Offers(
        books="snapshot and updates every 100 ms in the stream, 400 levels a side",
        trades="every trade, alike prices in one", bbo="", orders="",
        verified_by="each message names the one before; checksums, where there still are some",
        cannot_prove="that the venue chained what it meant to send")
    when_refused = "OKX refuses this address or region"

    def channels(self, symbols: Sequence[str], mode: Mode, trades: bool) -> list[str]:
        return [f"{channel} {symbol}" for symbol in symbols for channel in [BOOKS] + ["trades"] * trades]

    def _texts(self, operation: str, names: Sequence[str]) -> list[str]:
        arguments = [dict(zip(("channel", "instId"), name.split(" "), strict=True)) for name in names]
        return [json.dumps({"op": operation, "args": arguments[start:start + SYMBOLS_PER_FRAME]}, separators=(",", ":"))
                for start in range(0, len(arguments), SYMBOLS_PER_FRAME)]

    def subscribe_texts(self, symbols: Sequence[str], mode: Mode, trades: bool) -> list[str]:
        return self._texts("subscribe", self.channels(symbols, mode, trades))

    def unsubscribe_texts(self, symbols: Sequence[str], mode: Mode) -> list[str]:
        return self._texts("unsubscribe", self.channels(symbols, mode, False))

    def control(self, text: bytes) -> Control:
        frame: Any = venue.parse(self.name, "a control frame", text)
        event = frame.get("event") if isinstance(frame, dict) else None
        if event == "subscribe":
            return venue.Acknowledged((f"{frame['arg']['channel']} {frame['arg'].get('instId', '')}",))
        if event == "error":
            refused = re.search(r"channel:([\w-]+),instId:([\w-]+)", str(frame.get("msg")))
            return venue.Refused(f"{frame.get('msg')} (code {frame.get('code')})",
                                 (f"{refused[1]} {refused[2]}",) if refused else ())
        if event == "notice":
            return venue.Restart(30.0)          # "the connection will soon be closed for a service upgrade"
        return None

    def snapshot(self, symbol: str, levels: int) -> Request:
        return Request(f"/api/v5/market/books?instId={quote(symbol)}&sz={min(400, levels)}")

    def instruments_request(self) -> Request:
        return Request("/api/v5/public/instruments?instType=SPOT")

    def listings(self, answer: Any) -> list[Listing]:
        return [Listing(venue=self.name, symbol=row["instId"], base=row["baseCcy"], quote=row["quoteCcy"],
                        tick=decimal_text(row["tickSz"]), lot=decimal_text(row["lotSz"]),
                        max_size=decimal_text(row.get("maxLmtSz")), min_size=decimal_text(row.get("minSz")),
                        status=row["state"], tradable=row["state"] == "live")
                for row in answer["data"]]

    def numbers(self, text: bytes) -> Iterator[tuple[str, str, str]]:
        frame = venue.loads(text)
        symbol, rows = str(frame.get("arg", {}).get("instId", "")), frame.get("data", [])
        for row in rows if isinstance(rows, list) else ():
            if "px" in row:
                yield symbol, row["px"], row["sz"]
            elif "bids" in row:
                yield from venue.rows(symbol, row["bids"], row["asks"])
