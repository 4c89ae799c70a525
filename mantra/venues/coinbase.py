"""coinbase: Coinbase spot, Advanced Trade (2026); `api = "exchange"`: the older Exchange protocol of institutions.

Books come by the stream: a snapshot of everything (tens of thousands of levels in one frame), then changes. Advanced
Trade numbers all messages of a connection, so a loss is seen at once, but not whose it was; Exchange numbers nothing.

USD and USDC are one book: subscribed to BTC-USDC, the venue answers BTC-USD. The product list says which (400 of 405
products in USDC), and such a listing has the symbol of the book that it is.
"""
from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

from mantra.venues import venue
from mantra.venues.venue import Control, Endpoints, Listing, Mode, Rate, Request, decimal_text

EXCHANGE = Endpoints("wss://ws-feed.exchange.coinbase.com", "https://api.exchange.coinbase.com", api="exchange")
FLAGS = ("is_disabled", "trading_disabled", "view_only", "cancel_only", "auction_mode")    # no market, or none to trust
PRODUCT = re.compile(r"[A-Z0-9]+-[A-Z0-9]+")


class Coinbase(venue.Venue):
    name = "coinbase"
    id = 3
    decoder = "coinbase"
    schemes = {"book": "stream"}  # noqa: RUF012
    proofs = frozenset({"numbers"})
    spread = "connection"
    live_trust = {"book": venue.VERIFIED}  # noqa: RUF012
    home = Endpoints("wss://advanced-trade-ws.coinbase.com", "https://api.coinbase.com")
    # Nothing is published of channels or lengths; a subscription of so many products is far from any usual limit.
    limits = venue.Limits(channels=64, frame_bytes=8192, rates={
        "connect": (Rate(8, 1.0),),
        "send": (Rate(8, 1.0, reserved=1),),    # for an answer to the venue's ping
        "rest": (Rate(10, 1.0),),
    })
    # The venue's own heartbeats come every second, so that we need not ask for life.
    answer_s = 10.0                 # a snapshot may have several MB
    heartbeat, stale_s, silence_s, max_age_s = venue.Heartbeat(None, 0.0), 3.0, 6.0, 89 * 86400.0
    book_channels = {"book": "level2:{}"}  # noqa: RUF012
    trade_channel = "market_trades:{}"
    book_url = re.compile(r"(?:/product_book\?(?:.*&)?product_id=|/products/(?=[^/]+/book))([^/&?]+)")
    list_url = re.compile(r"/products(?:\?|$)")
    dense_trade_ids = True
    first_number = 0
    alone = frozenset({"BTC-USD", "ETH-USD"})
    offers = venue.Offers(
        books="every level, changes every 50 ms; snapshots of up to 5 MB in the stream",
        trades="every trade, ids without holes", bbo="", orders="",
        verified_by="a number on every message of a connection (Exchange: nothing)",
        cannot_prove="that a snapshot is the venue's book; the side of a trade, whose document is silent (taken as the "
                     "maker's, as 51 of 51 recorded trades show). Exchange: that nothing was lost")
    when_refused = ("Coinbase refuses this address or region; Coinbase Exchange may not: give --endpoints a file with "
                    f'[coinbase] websocket = "{EXCHANGE.websocket}", rest = "{EXCHANGE.rest}", api = "exchange"')

    def __init__(self, endpoints: Endpoints | None = None) -> None:
        super().__init__(endpoints)
        self._exchange = self.endpoints.api == "exchange"
        if self._exchange:
            self.proofs, self.live_trust = frozenset(), {"book": venue.UNVERIFIED}
            self.channel_silent_s = 5.0     # its heartbeats are each product's, one a second

    def _ask(self, verb: str, symbols: Sequence[str], channels: Sequence[str]) -> list[str]:
        """Advanced Trade wants a message for each channel."""
        asked: list[dict[str, Any]] = [{"channels": list(channels)}] if self._exchange else [
            {"channel": channel} for channel in channels]
        return [json.dumps({"type": verb, "product_ids": list(symbols), **what}, separators=(",", ":"))
                for what in asked]

    def subscribe_texts(self, symbols: Sequence[str], mode: Mode, trades: bool) -> list[str]:
        """Heartbeats first: a connection without a subscription is closed after five seconds."""
        books, traded, life = (("level2_batch", "matches", "heartbeat") if self._exchange else
                               ("level2", "market_trades", "heartbeats"))
        return self._ask("subscribe", symbols, [life, books, *[traded] * trades])

    def unsubscribe_texts(self, symbols: Sequence[str], mode: Mode) -> list[str]:
        return self._ask("unsubscribe", symbols, ["level2_batch" if self._exchange else "level2"])

    def control(self, text: bytes) -> Control:
        frame: Any = venue.parse(self.name, "a control frame", text)
        if not isinstance(frame, dict):
            return None
        if frame.get("type") == "error":
            why = ": ".join(str(frame[key]) for key in ("message", "reason") if frame.get(key)) or str(frame)
            # One product that does not exist fails a request whole; it is the only one that Exchange names.
            named = PRODUCT.match(str(frame.get("reason", "")))
            return venue.Refused(why, tuple(self.channels([named[0]], "book", True)) if named else ())
        # An answer lists everything that is subscribed by now, in any order.
        keys: list[str] = []
        with contextlib.suppress(LookupError, TypeError, AttributeError):       # of a shape that was never seen
            for row in frame.get("channels", ()):
                keys += _keys(row["name"], row["product_ids"])
            for event in frame.get("events", ()):
                for channel, products in event["subscriptions"].items():
                    keys += _keys(channel, products)
        return venue.Acknowledged(tuple(keys))

    def snapshot(self, symbol: str, levels: int) -> Request:
        """Exchange gives the whole book, whatever `levels`."""
        return Request(f"/products/{quote(symbol)}/book?level=2" if self._exchange else
                       f"/api/v3/brokerage/market/product_book?product_id={quote(symbol)}&limit={levels}")

    def instruments_request(self) -> Request:
        return Request("/products" if self._exchange else "/api/v3/brokerage/market/products?product_type=SPOT")

    def listings(self, answer: Any) -> list[Listing]:
        """Reads the lists of both generations. The books' own names come first: other names lead to the same."""
        rows = answer["products"] if isinstance(answer, dict) else answer
        found = [self._listing(row) for row in rows if row.get("product_type", "SPOT") == "SPOT"]
        return sorted(found, key=lambda row: row.symbol != row.name)

    def _listing(self, row: dict[str, Any]) -> Listing:
        name = row.get("product_id") or row["id"]
        base, counter = name.rsplit("-", 1)     # base_currency is another's at some: BTCAUCTION-USD
        flags = [flag for flag in FLAGS if row.get(flag)]
        return Listing(
            venue=self.name, symbol=row.get("alias") or name, base=base, quote=counter,
            tick=decimal_text(row.get("price_increment") or row["quote_increment"]),
            lot=decimal_text(row["base_increment"]), max_size=decimal_text(row.get("base_max_size")),
            status=", ".join([row["status"], *flags]), tradable=row["status"] == "online" and not flags,
            min_size=decimal_text(row.get("base_min_size")),
            min_value=decimal_text(row.get("quote_min_size") or row.get("min_market_funds")))

    def numbers(self, text: bytes) -> Iterator[tuple[str, str, str]]:
        frame = venue.loads(text)
        with contextlib.suppress(LookupError, TypeError, AttributeError):       # of a shape that was never seen
            symbol = str(frame.get("product_id", ""))
            for event in frame.get("events", ()):
                for row in event.get("updates", ()):
                    yield str(event["product_id"]), str(row["price_level"]), str(row["new_quantity"])
                for row in event.get("trades", ()):
                    yield str(row["product_id"]), str(row["price"]), str(row["size"])
            if frame.get("type") in ("match", "last_match"):
                yield symbol, str(frame["price"]), str(frame["size"])
            yield from venue.rows(symbol, frame.get("bids"), frame.get("asks"))
            yield from venue.rows(symbol, [row[1:] for row in frame.get("changes", ())])
            for row in (row for side in ("bids", "asks") for row in frame["pricebook"][side]):
                yield "", str(row["price"]), str(row["size"])


def _keys(channel: str, products: Sequence[str]) -> list[str]:
    """Of `expected_acks`. Exchange has answered level2, level2_50 and level2_batch to the same request."""
    name = "level2" if channel.startswith("level2") else "market_trades" if channel == "matches" else channel
    return [f"{name}:{product.lower()}" for product in products]
