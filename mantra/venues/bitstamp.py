"""bitstamp: Bitstamp spot, WebSocket v2 (probed 2026-09).

One channel per subscribe frame. Book channels carry neither numbers nor checksums: a snapshot is spliced by
microtimestamp, a lost diff cannot be noticed, so a book here is never better than unverified. An unknown market is
acknowledged and stays silent: symbols must come from the instrument list.
"""
from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

from mantra.venues import venue
from mantra.venues.venue import Control, Endpoints, Listing, Mode, Rate, Request, decimal_text


class Bitstamp(venue.Venue):
    name = "bitstamp"
    id = 1
    decoder = "bitstamp"
    schemes = {"book": "time", "top": "image", "orders": "time"}  # noqa: RUF012
    proofs = frozenset()
    spread = "symbol"
    live_trust = {"book": venue.UNVERIFIED, "top": venue.UNVERIFIED, "orders": venue.VERIFIED}  # noqa: RUF012
    home = Endpoints("wss://ws.bitstamp.net", "https://www.bitstamp.net")
    limits = venue.Limits(channels=1024, frame_bytes=511, rates={
        "connect": (Rate(10, 10.0),),           # not published: manners
        "send": (Rate(100, 1.0),),              # not published: manners
        "rest": (Rate(400, 1.0), Rate(10_000, 600.0)),
    })
    # Quiet markets are silent for a minute; only the heartbeat, answered within a round trip, tells life.
    heartbeat = venue.Heartbeat('{"event":"bts:heartbeat"}', 5.0)
    stale_s, silence_s, max_age_s = 8.0, 12.0, 89 * 86400.0
    window_s = 1.0          # 0.11 to 0.3 s as recorded of spot, 0.6 of perpetuals
    book_channels = {"book": "diff_order_book_{}", "top": "order_book_{}", "orders": "live_orders_{}"}  # noqa: RUF012
    trade_channel = "live_trades_{}"
    book_url = re.compile(r"/order_book/([^/?]+)/?(?:\?|$)")
    list_url = re.compile(r"/(?:markets|trading-pairs-info)/?(?:\?|$)")
    dense_trade_ids = False
    offers = venue.Offers(
        books="diffs spliced onto a whole REST book by time; 100 levels in mode top", trades="every trade",
        bbo="", orders="live_orders, chained event ids",
        verified_by="mode orders: each event names the one before; a second look",
        cannot_prove="mode book: that no diff was lost, for they have neither numbers nor checksums")
    when_refused = "Bitstamp refuses this address or region, and offers no other public host"

    def subscribe_texts(self, symbols: Sequence[str], mode: Mode, trades: bool) -> list[str]:
        return [json.dumps({"event": "bts:subscribe", "data": {"channel": channel}}, separators=(",", ":"))
                for channel in self.channels(symbols, mode, trades)]

    def control(self, text: bytes) -> Control:
        frame: Any = venue.parse(self.name, "a control frame", text)
        event = frame.get("event") if isinstance(frame, dict) else None
        if event == "bts:subscription_succeeded":
            return venue.Acknowledged((str(frame.get("channel", "")),))
        if event == "bts:request_reconnect":
            return venue.Restart(5.0)                 # "within a few seconds"
        if event == "bts:error":
            data = frame.get("data")
            why = str(data.get("message", data)) if isinstance(data, dict) else str(data)
            return venue.Refused(why, (frame["channel"],) if frame.get("channel") else ())
        return None

    def snapshot(self, symbol: str, levels: int) -> Request:
        """The whole book, whatever `levels`. The last parameter keeps a cached answer, up to 1 s old, away."""
        return Request(f"/api/v2/order_book/{quote(symbol)}/?group=1&_={uuid.uuid4().hex}")

    def opening(self, symbol: str, levels: int, mode: Mode) -> Request:
        request = self.snapshot(symbol, levels)
        return Request(request.path.replace("group=1", "group=2")) if mode == "orders" else request

    def instruments_request(self) -> Request:
        return Request("/api/v2/markets/")

    def listings(self, answer: Any) -> list[Listing]:
        """Reads `/markets/`, and `/trading-pairs-info/` of before 2025, which recordings have."""
        return [self._listing(row) for row in answer if row.get("market_type", "SPOT") == "SPOT"]

    def _listing(self, row: dict[str, Any]) -> Listing:
        base, counter = row["name"].split("/")
        return Listing(
            venue=self.name, symbol=row["market_symbol"] if "market_symbol" in row else row["url_symbol"],
            base=row.get("base_currency", base).upper(), quote=row.get("counter_currency", counter).upper(),
            tick=_step(row["counter_decimals"]), lot=_step(row["base_decimals"]),
            max_size=decimal_text(row.get("maximum_order_amount")), status=row["trading"],
            tradable=row["trading"] == "Enabled", min_size=decimal_text(row.get("minimum_order_amount")),
            # The older list has "20.0 USD".
            min_value=decimal_text(row.get("minimum_order_value") or str(row.get("minimum_order", "")).split(" ")[0]))

    def numbers(self, text: bytes) -> Iterator[tuple[str, str, str]]:
        frame = venue.loads(text)
        channel, data = str(frame.get("channel", "")), frame.get("data", frame)
        if isinstance(data, dict):
            symbol = channel.rsplit("_", 1)[-1]
            if data.get("order_subtype") in (2, 4, 6):
                return                                # a taker, that has no price or none that counts
            if "price_str" in data:
                yield symbol, str(data["price_str"]), str(data.get("amount_str"))
            else:
                yield from venue.rows(symbol, data.get("bids"), data.get("asks"))


def _step(decimals: object) -> str:
    return decimal_text(f"1e-{decimals}")
