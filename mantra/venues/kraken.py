"""kraken: Kraken spot, WebSocket v2, and v1, which is still served (documents of 2025-26).

Every update carries a checksum of the book's best ten levels as text, so a book is believed as long as they agree; one
that fails is subscribed anew, alone. A book has as many levels as were asked for, and we cut it to them, because of a
level that falls out Kraken does not tell. Ten are never asked for: a deletion would leave nothing behind the ten.

Symbols are v2's (BTC/USD); v1 and REST write XBT for BTC and XDG for DOGE. `Endpoints.api` "v1": the older protocol.
"""
from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any
from urllib.parse import quote

from mantra.venues import venue
from mantra.venues.venue import Control, Listing, Mode, Rate, Request, decimal_text

LEVELS: Mapping[Mode, int] = {"book": 1000, "top": 25}      # of 10, 25, 100, 500, 1000
CHANNELS = {"1": "book", "2": "trade"}                      # by the number of our request: a refusal names no channel
NO_MORE = "3"                                               # ... of one to unsubscribe
SYMBOLS_PER_FRAME = 50
MOST_REST_LEVELS = 500
OLDER = {"BTC": "XBT", "DOGE": "XDG"}
NEWER = {older: newer for newer, older in OLDER.items()}
TRADING = ("online", "limit_only", "post_only")


class Kraken(venue.Venue):
    name = "kraken"
    id = 4
    decoder = "kraken"
    schemes = {"book": "stream", "top": "stream"}  # noqa: RUF012
    proofs = frozenset({"checksums"})
    spread = "symbol"
    live_trust = {"book": venue.VERIFIED, "top": venue.VERIFIED}  # noqa: RUF012
    home = venue.Endpoints("wss://ws.kraken.com", "https://api.kraken.com")
    limits = venue.Limits(channels=200, frame_bytes=4096, rates={   # channels: not published, but so many for L3
        "connect": (Rate(150, 600.0),),
        "send": (Rate(20, 1.0),),           # not published: manners
        "rest": (Rate(15, 45.0),),
    }, ban_s=600.0)
    # A heartbeat comes every second in which nothing else does; who says nothing for a minute is closed.
    heartbeat = venue.Heartbeat('{"method":"ping"}', 4.0)
    stale_s, silence_s, max_age_s = 5.0, 10.0, 23.5 * 3600
    book_url = re.compile(r"/0/public/Depth\?(?:.*&)?pair=([^&]+)")
    list_url = re.compile(r"/0/public/AssetPairs(?:\?|$)")
    depth_said = re.compile(rb'"(?:depth": ?|book-)(\d+)')
    dense_trade_ids = True                  # v1's trades have no ids at all
    offers = venue.Offers(
        books="snapshot and updates in the stream, 1000 levels a side; 25 in mode top",
        trades="every trade, numbered without holes, the last 50 at first", bbo="", orders="",
        verified_by="a checksum of 10 levels a side with every update",
        cannot_prove="levels below the tenth, until they rise into the ten")
    when_refused = "Kraken refuses this address or region, and offers no other public host"

    def __init__(self, endpoints: venue.Endpoints | None = None) -> None:
        super().__init__(endpoints)
        self.v1 = self.endpoints.api == "v1"
        if self.v1:
            self.heartbeat = venue.Heartbeat('{"event":"ping"}', 4.0)
        self._paused: set[str] = set()      # connections that were told of a maintenance

    def channels(self, symbols: Sequence[str], mode: Mode, trades: bool) -> list[str]:
        names = ["book"] + ["trade"] * trades
        return [f"{name} {symbol}" for symbol in symbols for name in names]

    def url(self, symbols: Sequence[str], mode: Mode, trades: bool) -> str:
        return self.endpoints.websocket + ("" if self.v1 else "/v2")

    def keep(self, mode: Mode, depth: int) -> int:
        return LEVELS[mode]

    def subscribe_texts(self, symbols: Sequence[str], mode: Mode, trades: bool) -> list[str]:
        return [text for number, channel in list(CHANNELS.items())[:1 + trades]
                for text in self._texts("subscribe", number, channel, symbols, mode)]

    def unsubscribe_texts(self, symbols: Sequence[str], mode: Mode) -> list[str]:
        return self._texts("unsubscribe", NO_MORE, "book", symbols, mode)

    def _texts(self, verb: str, number: str, channel: str, symbols: Sequence[str], mode: Mode) -> list[str]:
        depth = {"depth": LEVELS[mode]} if channel == "book" else {}
        snapshot = {"snapshot": True} if verb == "subscribe" else {}
        texts, left = [], iter(symbols)
        while some := list(islice(left, SYMBOLS_PER_FRAME)):
            frame: dict[str, Any] = {
                "event": verb, "pair": [renamed(symbol, OLDER) for symbol in some],
                "subscription": {"name": channel, **depth}, "reqid": int(number),
            } if self.v1 else {
                "method": verb, "params": {"channel": channel, "symbol": some, **depth, **snapshot},
                "req_id": int(number),
            }
            texts.append(json.dumps(frame, separators=(",", ":")))
        return texts

    def control(self, text: bytes) -> Control:
        frame: Any = venue.parse(self.name, "a control frame", text)
        if not isinstance(frame, dict):
            return None
        told = frame.get("data")
        if isinstance(told, list) and told and isinstance(told[0], dict):
            return self._status(str(told[0].get("connection_id")), told[0].get("system"))
        if frame.get("event") == "systemStatus":
            return self._status(str(frame.get("connectionID")), frame.get("status"))
        result, details = frame.get("result"), frame.get("subscription")
        result, details = (part if isinstance(part, dict) else {} for part in (result, details))
        why, number = frame.get("error", frame.get("errorMessage")), str(frame.get("req_id", frame.get("reqid")))
        channel = result.get("channel") or details.get("name") or CHANNELS.get(number)
        symbol = result.get("symbol") or frame.get("symbol") or frame.get("pair")
        if symbol is None and (found := re.search(r"\S+/\S+$", str(why))):
            symbol = found[0]               # "Currency pair not supported XXX/USD"
        keys = (f"{channel} {renamed(str(symbol), NEWER)}",) if channel and symbol else ()
        if why is None:
            granted = "subscribe" if frame.get("success") else "subscribed"
            return venue.Acknowledged(keys) if keys and granted in (frame.get("method"), frame.get("status")) else None
        if number == NO_MORE:
            return None                     # it was not there: what this should have led to
        if "already subscribed" in str(why).lower():
            return venue.Acknowledged(keys)
        return venue.Refused(str(why), keys)

    def _status(self, connection: str, system: Any) -> Control:
        """What trading may do changed. The stream and its checksums go on, so that books need nothing, except after a
        maintenance: then the engine has started anew, and of a quiet book it would say nothing for long."""
        if system == "maintenance":
            self._paused.add(connection)
        elif system == "online" and connection in self._paused:
            self._paused.discard(connection)
            return venue.Restart(0.0)
        return None if system == "online" else venue.Refused(f"its system is in the state {system!r}")

    def snapshot(self, symbol: str, levels: int) -> Request:
        """A REST book of 500 levels a side at most. It has neither number nor checksum: to compare with, not to use."""
        pair = renamed(symbol, OLDER).replace("/", "")
        return Request(f"/0/public/Depth?pair={quote(pair)}&count={min(levels, MOST_REST_LEVELS)}")

    def instruments_request(self) -> Request:
        return Request("/0/public/AssetPairs")

    def listings(self, answer: Any) -> list[Listing]:
        """Reads the answer of AssetPairs, and v2's `instrument` snapshot, which says the same of the same names."""
        if answer.get("channel") == "instrument":
            return [self._listing(row["symbol"], row["price_increment"], row["qty_increment"], row.get("qty_min"),
                                  row.get("cost_min"), row["status"]) for row in answer["data"]["pairs"]]
        if answer["error"]:
            raise ValueError(f"pairs but {answer['error']}")
        return [self._listing(renamed(row["wsname"], NEWER), row.get("tick_size", f"1e-{row['pair_decimals']}"),
                              f"1e-{row['lot_decimals']}", row.get("ordermin"), row.get("costmin"),
                              row.get("status", "online"))
                for row in answer["result"].values() if "wsname" in row]       # without: dark pools

    def _listing(self, symbol: str, tick: object, lot: object, least: object, value: object, status: str) -> Listing:
        base, quoted = symbol.split("/")
        return Listing(
            venue=self.name, symbol=symbol, base=base.upper(), quote=quoted.upper(), tick=decimal_text(tick),
            lot=decimal_text(lot), max_size="", min_size=decimal_text(least), min_value=decimal_text(value),
            status=status, tradable=status in TRADING)

    def numbers(self, text: bytes) -> Iterator[tuple[str, str, str]]:
        try:
            frame = json.loads(text, parse_float=str)
        except (ValueError, RecursionError):
            return
        if isinstance(frame, list) and len(frame) > 3 and str(frame[-2]).startswith(("book", "trade")):
            symbol = renamed(str(frame[-1]), NEWER)
            for part in frame[1:-2]:
                yield from venue.rows(symbol, *(part.values() if isinstance(part, dict) else [part]))
        elif not isinstance(frame, dict):
            return
        elif frame.get("channel") in ("book", "trade") and isinstance(frame.get("data"), list):
            for part in frame["data"]:
                sides = [part.get("bids"), part.get("asks"), [part]] if isinstance(part, dict) else []
                for row in (row for side in sides if isinstance(side, list) for row in side):
                    if isinstance(row, dict) and "price" in row:
                        yield str(part.get("symbol")), str(row["price"]), str(row.get("qty"))
        elif isinstance(frame.get("result"), dict):
            for book in frame["result"].values():               # a REST book, under the name of its pair
                if isinstance(book, dict):
                    yield from venue.rows("", book.get("bids"), book.get("asks"))

    def spellings(self, symbol: str) -> list[str]:
        return list(dict.fromkeys((symbol, renamed(symbol, OLDER))))


def renamed(symbol: str, codes: Mapping[str, str]) -> str:
    return "/".join(codes.get(code, code) for code in symbol.split("/"))
