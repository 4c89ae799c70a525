"""binance: Binance spot, JSON streams (docs of 2026-07).

Streams are named in the URL, which costs none of the five frames a second that a client may send; only a list too long
for a URL is subscribed by frames. Books: diffs are numbered without holes, a REST snapshot is spliced by those numbers.
"""
from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

from mantra.venues import venue
from mantra.venues.venue import Control, Endpoints, Listing, Mode, Rate, Request, decimal_text

LONGEST_URL = 4000              # no limit is documented; web servers commonly refuse a request line beyond 8 kB
STREAMS_PER_FRAME = 100
SNAPSHOT_WEIGHTS = ((100, 5), (500, 25), (1000, 50), (5000, 250))


class Binance(venue.Venue):
    name = "binance"
    id = 0
    decoder = "binance"
    schemes = {"book": "ids", "top": "image"}  # noqa: RUF012
    proofs = frozenset({"ids"})
    spread = "symbol"
    # A partial book is whole in every frame, so no loss can make it wrong, but nothing proves that none was lost.
    live_trust = {"book": venue.VERIFIED, "top": venue.UNVERIFIED}  # noqa: RUF012
    home = Endpoints("wss://stream.binance.com:9443", "https://api.binance.com")
    limits = venue.Limits(channels=1024, frame_bytes=4096, rates={
        "connect": (Rate(300, 300.0),),
        "send": (Rate(5, 1.0, "connection", reserved=2),),  # a pong and a ping of ours may fall into one second
        "rest": (Rate(6000, 60.0),),
    })
    # The venue pings every 20 s only; ours cost a third of a frame a second.
    heartbeat, stale_s, silence_s, max_age_s = venue.Heartbeat(None, 3.0), 5.0, 10.0, 23.5 * 3600
    book_channels = {"book": "{}@depth@100ms", "top": "{}@depth20@100ms"}  # noqa: RUF012
    trade_channel = "{}@trade"
    bbo_channel = "{}@bookTicker"
    book_url = re.compile(r"/depth\?(?:.*&)?symbol=([^&]+)")
    list_url = re.compile(r"/exchangeInfo(?:\?|$)")
    dense_trade_ids = True
    offers = venue.Offers(
        books="diffs every 100 ms spliced onto a REST snapshot of up to 5,000 levels; 20 levels in mode top",
        trades="every trade, ids without holes", bbo="bookTicker, by update id", orders="",
        verified_by="update ids without holes, per symbol; a second snapshot",
        cannot_prove="levels beyond the snapshot, until they change; mode top: that no image was lost")
    when_refused = ("Binance refuses this address or region; its market-data hosts may not: give --endpoints a file "
                    'with [binance] websocket = "wss://data-stream.binance.vision", '
                    'rest = "https://data-api.binance.vision"')

    def _all_in_url(self, symbols: Sequence[str], mode: Mode, trades: bool) -> str | None:
        streams = "/".join(quote(channel, safe="@") for channel in self.channels(symbols, mode, trades))
        return f"?streams={streams}" if len(streams) <= LONGEST_URL else None

    def url(self, symbols: Sequence[str], mode: Mode, trades: bool) -> str:
        return f"{self.endpoints.websocket}/stream{self._all_in_url(symbols, mode, trades) or ''}"

    def subscribe_texts(self, symbols: Sequence[str], mode: Mode, trades: bool) -> list[str]:
        if self._all_in_url(symbols, mode, trades):
            return []
        names = self.channels(symbols, mode, trades)
        batches = [names[start:start + STREAMS_PER_FRAME] for start in range(0, len(names), STREAMS_PER_FRAME)]
        return [json.dumps({"method": "SUBSCRIBE", "params": batch, "id": number}, separators=(",", ":"),
                           ensure_ascii=False) for number, batch in enumerate(batches, 1)]

    def expected_acks(self, symbols: Sequence[str], mode: Mode, trades: bool) -> frozenset[str]:
        """Ids of the requests: an answer names no stream, and a misspelt one is granted as well."""
        return frozenset(str(number + 1) for number in range(len(self.subscribe_texts(symbols, mode, trades))))

    def control(self, text: bytes) -> Control:
        frame: Any = venue.parse(self.name, "a control frame", text)
        if not isinstance(frame, dict):
            return None
        data = frame.get("data")
        event = data if isinstance(data, dict) else frame
        if event.get("e") == "serverShutdown":
            return venue.Restart(0.0)       # "no lead time is promised"
        request = frame.get("id")
        keys = () if request is None else (str(request),)
        error = frame.get("error", frame)   # both shapes have been seen: {"code","msg"} and {"error":{"code","msg"}}
        if isinstance(error, dict) and "msg" in error:
            return venue.Refused(f"{error['msg']} (code {error.get('code')})", keys)
        return venue.Acknowledged(keys) if keys and frame.get("result", "") is None else None

    def snapshot(self, symbol: str, levels: int) -> Request:
        limit, weight = next(((n, w) for n, w in SNAPSHOT_WEIGHTS if levels <= n), SNAPSHOT_WEIGHTS[-1])
        return Request(f"/api/v3/depth?symbol={quote(symbol)}&limit={limit}", weight)

    def instruments_request(self) -> Request:
        return Request("/api/v3/exchangeInfo?showPermissionSets=false", 20)

    def listings(self, answer: Any) -> list[Listing]:
        return [self._listing(row) for row in answer["symbols"]]

    def _listing(self, row: dict[str, Any]) -> Listing:
        rules = {rule["filterType"]: rule for rule in row["filters"]}
        lot, value = rules.get("LOT_SIZE", {}), rules.get("NOTIONAL") or rules.get("MIN_NOTIONAL", {})
        return Listing(
            venue=self.name, symbol=row["symbol"], base=row["baseAsset"].upper(), quote=row["quoteAsset"].upper(),
            tick=decimal_text(rules.get("PRICE_FILTER", {}).get("tickSize")), lot=decimal_text(lot.get("stepSize")),
            max_size=decimal_text(lot.get("maxQty")), status=row["status"],
            tradable=row["status"] == "TRADING" and bool(row.get("isSpotTradingAllowed", True)),
            min_size=decimal_text(lot.get("minQty")), min_value=decimal_text(value.get("minNotional")))

    def numbers(self, text: bytes) -> Iterator[tuple[str, str, str]]:
        frame = venue.loads(text)
        data = frame.get("data", frame)
        if isinstance(data, dict):
            symbol = str(data.get("s") or str(frame.get("stream", "")).split("@")[0].upper())
            if data.get("e") == "depthUpdate":
                yield from venue.rows(symbol, data.get("b"), data.get("a"))
            elif "lastUpdateId" in data:
                yield from venue.rows(symbol, data.get("bids"), data.get("asks"))
            elif data.get("e") in ("trade", "aggTrade"):
                yield symbol, str(data.get("p")), str(data.get("q"))

    def spellings(self, symbol: str) -> list[str]:
        """Stream names spell it in lower case, the `s` of an event in upper case."""
        return [symbol.lower(), symbol.upper()]
