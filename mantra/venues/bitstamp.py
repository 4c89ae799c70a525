"""bitstamp: Bitstamp spot, WebSocket v2 (probed 2026-09).

One channel per subscribe frame. Book channels carry neither numbers nor checksums: a snapshot is spliced by
microtimestamp, a lost diff cannot be noticed, so a book here is never better than unverified. An unknown market is
acknowledged and stays silent: symbols must come from the instrument list.
"""
from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from mantra.errors import VenueError
from mantra.venues.venue import (
    UNVERIFIED,
    Acknowledged,
    Control,
    Endpoints,
    Heartbeat,
    Limits,
    Listing,
    Mode,
    Nothing,
    Rate,
    Refused,
    Request,
    Restart,
    Venue,
    decimal_text,
    loads,
    parse,
    rows,
)

BOOK_CHANNEL = {"book": "diff_order_book_", "top": "order_book_"}


class Bitstamp(Venue):
    name = "bitstamp"
    id = 1
    decoder = "bitstamp"
    scheme = "time"
    live_trust = {"book": UNVERIFIED, "top": UNVERIFIED}  # noqa: RUF012
    home = Endpoints("wss://ws.bitstamp.net", "https://www.bitstamp.net")
    limits = Limits(
        channels=1024,
        frame_bytes=511,
        rates={
            "connect": (Rate(10, 10.0),),       # not published: manners
            "send": (Rate(100, 1.0),),          # not published: manners
            "rest": (Rate(400, 1.0), Rate(10_000, 600.0)),
        },
    )
    # Quiet markets are silent for a minute; only the heartbeat, answered within a round trip, tells life.
    heartbeat, silence_s, max_age_s = Heartbeat('{"event":"bts:heartbeat"}', 15.0), 25.0, 89 * 86400.0
    dense_trade_ids = False
    when_refused = "Bitstamp refuses this address or region, and offers no other public host"

    def channels(self, symbols: Sequence[str], mode: Mode, trades: bool) -> list[str]:
        prefixes = [BOOK_CHANNEL[mode]] + ["live_trades_"] * trades
        return [prefix + symbol.lower() for symbol in symbols for prefix in prefixes]

    def url(self, symbols: Sequence[str], mode: Mode, trades: bool) -> str:
        return self.endpoints.websocket

    def _texts(self, event: str, symbols: Sequence[str], mode: Mode, trades: bool) -> list[str]:
        return [json.dumps({"event": event, "data": {"channel": channel}}, separators=(",", ":"))
                for channel in self.channels(symbols, mode, trades)]

    def subscribe_texts(self, symbols: Sequence[str], mode: Mode, trades: bool) -> list[str]:
        return self._texts("bts:subscribe", symbols, mode, trades)

    def unsubscribe_texts(self, symbols: Sequence[str], mode: Mode, trades: bool) -> list[str]:
        return self._texts("bts:unsubscribe", symbols, mode, trades)

    def expected_acks(self, symbols: Sequence[str], mode: Mode, trades: bool) -> frozenset[str]:
        return frozenset(self.channels(symbols, mode, trades))

    def control(self, text: bytes) -> Control:
        frame: Any = parse(self.name, "a control frame", text)
        event = frame.get("event") if isinstance(frame, dict) else None
        if event == "bts:subscription_succeeded":
            return Acknowledged((str(frame.get("channel", "")),))
        if event == "bts:request_reconnect":
            return Restart(5.0)                 # "within a few seconds"
        if event == "bts:error":
            data = frame.get("data")
            why = str(data.get("message", data)) if isinstance(data, dict) else str(data)
            return Refused(why, (frame["channel"],) if frame.get("channel") else ())
        return Nothing()

    def snapshot(self, symbol: str, levels: int) -> Request:
        """The whole book, whatever `levels`. The last parameter keeps a cached answer, up to 1 s old, away."""
        return Request(f"/api/v2/order_book/{quote(symbol)}/?group=1&_={uuid.uuid4().hex}")

    def snapshot_symbol(self, url: str) -> str | None:
        parts = urlsplit(url).path.strip("/").split("/")
        return parts[-1] if len(parts) >= 2 and parts[-2] == "order_book" else None

    def instruments_request(self) -> Request:
        return Request("/api/v2/markets/")

    def lists_instruments(self, url: str) -> bool:
        return urlsplit(url).path.strip("/").split("/")[-1] in ("markets", "trading-pairs-info")

    def parse_instruments(self, body: bytes) -> list[Listing]:
        """Reads `/markets/`, and `/trading-pairs-info/` of before 2025, which recordings have."""
        rows = parse(self.name, "an instrument list", body)
        try:
            return [self._listing(row) for row in rows if row.get("market_type", "SPOT") == "SPOT"]
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise VenueError(f"bitstamp sent an instrument list without {error}: {body[:80]!r}") from None

    def _listing(self, row: dict[str, Any]) -> Listing:
        base, counter = row["name"].split("/")
        value = row["minimum_order_value"] if "minimum_order_value" in row else row["minimum_order"].split()[0]
        lot = decimal_text(f"1e-{int(row['base_decimals'])}")
        return Listing(
            venue=self.name,
            symbol=row["market_symbol"] if "market_symbol" in row else row["url_symbol"],
            base=row.get("base_currency", base).upper(),
            quote=row.get("counter_currency", counter).upper(),
            tick=decimal_text(f"1e-{int(row['counter_decimals'])}"),
            lot=lot,
            min_size=decimal_text(row.get("minimum_order_amount")) or lot,
            min_value=decimal_text(value),
            max_size=decimal_text(row.get("maximum_order_amount")),
            status=row["trading"],
            tradable=row["trading"] == "Enabled",
        )

    def numbers(self, text: bytes) -> Iterator[tuple[str, str, str]]:
        frame = loads(text)
        channel, data = str(frame.get("channel", "")), frame.get("data", frame)
        if isinstance(data, dict):
            symbol = channel.rsplit("_", 1)[-1]
            if "price_str" in data:
                yield symbol, str(data["price_str"]), str(data.get("amount_str"))
            else:
                yield from rows(symbol, data.get("bids"), data.get("asks"))

    def spellings(self, symbol: str) -> list[str]:
        return [symbol]
