"""binance: Binance spot's streams and REST, spoken from its side (JSON streams as documented in July 2026).

Streams: <s>@depth[@100ms], <s>@depth5|10|20[@100ms], <s>@bookTicker, <s>@trade, <s>@aggTrade; any other name is
acknowledged and stays silent, as in life. REST: depth, exchangeInfo, ping, time. Every number has eight decimals.
"""
from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from websockets.http11 import Response

from mantra.simulator.market import ASK, BID, SECOND_NS, Flow, Habits, Instrument, Trade, World
from mantra.simulator.server import Connection, Venue, Window, answer, rows_json, say_all
from mantra.simulator.source import Change, Listed, Listing, fixed

# After hftbacktest's recording of BTCUSDT of 2024-08-08.
HABITS = Habits(
    levels=1500, changes=15.0, burst=1.3, removals=0.47, nearness=((1, 0.07), (10, 0.19), (100, 0.53), (1500, 1.0)),
    trades=7.0, window_ns=100_000_000, window_tail_ns=0, counted=True, gap=5e-6,
)
# (price, size) decimals of the steps
STEPS = {
    "BTC-USDT": (2, 5), "ETH-USDT": (2, 4), "ETH-BTC": (5, 4), "SOL-USDT": (2, 3), "BTC-USD": (2, 5), "ETH-USD": (2, 4),
}

STREAMS_PER_CONNECTION = 1024
CONNECTS_PER_5_MINUTES = 300
WEIGHT_PER_MINUTE = 6000
BAN_SECONDS = 120
METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")
COMBINED, MICROSECONDS = 0, 1           # places in Connection.form
PARTIAL = (5, 10, 20)


def listing(instrument: Instrument, world: World, *, seed: str, start_ns: int, rate: float | None) -> Listing:
    """This instrument as Binance lists it."""
    price_decimals, size_decimals = STEPS.get(instrument.name, (4, 2))
    symbol = instrument.base + instrument.quote
    listed = Listed(symbol, instrument.base, instrument.quote, price_decimals, size_decimals)
    flow = Flow(world, HABITS, seed=f"{seed}/binance", start_ns=start_ns, price_step=10.0**-price_decimals,
                size_step=10.0**-size_decimals, rate=rate)
    return Listing(listed, flow, pad_to=8)


class Binance(Venue):
    name = "binance"
    ping_interval = 20.0
    pong_timeout = 60.0
    connection_life = 24 * 3600.0
    inbound_per_second = 5              # pings, pongs and JSON

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.connects = Window(CONNECTS_PER_5_MINUTES, 300.0)
        self.minute = 0
        self.weight = 0
        self.refused = 0
        self.banned_until_ms = 0

    # WebSocket

    def admit(self, connection: Connection, path: str, query: dict[str, str]) -> Response | None:
        if self.limits and not self.connects.admits(connection.loop.time()):
            return self.limited()
        micro = query.get("timeUnit", "").upper() == "MICROSECOND"
        if path == "/stream":
            streams = query.get("streams", "")
        elif path == "/ws" or path.startswith("/ws/"):
            streams = path[4:]
        else:
            return answer(404, "", "text/plain")
        names = [name for name in streams.split("/") if name]
        if len(names) > STREAMS_PER_CONNECTION:
            return answer(400, "", "text/plain")
        connection.form = (path == "/stream", micro)
        for name in names:
            self.subscribe(connection, name)
        return None

    async def heard(self, connection: Connection, text: str) -> None:
        connection.say(self._reply(connection, text))

    def _reply(self, connection: Connection, text: str) -> str:
        try:
            request = json.loads(text)
        except ValueError as error:
            line, column = getattr(error, "lineno", 1), getattr(error, "colno", 1)
            return _error(3, f"Invalid JSON: expected value at line {line} column {column}")
        if not isinstance(request, dict) or "method" not in request:
            return _error(2, f"Invalid request: missing field `method` at line 1 column {len(text)}")
        method, parameters, number = request["method"], request.get("params", []), request.get("id")
        if method not in METHODS:
            expected = ", ".join(f"`{name}`" for name in METHODS)
            return _error(2, f"Invalid request: unknown variant `{method}`, expected one of {expected} "
                             f"at line 1 column {text.find(str(method)) + len(str(method)) + 1}")
        if isinstance(number, (bool, float, list, dict)) or (isinstance(number, str) and len(number) > 36):
            return _error(2, "Invalid request: request ID must be an integer, a string (36 characters at most) or null")
        result: Any = None
        if method in ("SUBSCRIBE", "UNSUBSCRIBE"):
            if not isinstance(parameters, list) or not all(isinstance(name, str) for name in parameters):
                return _error(2, "Invalid request: params must be an array of strings")
            change = self.subscribe if method == "SUBSCRIBE" else self.unsubscribe
            if method == "SUBSCRIBE" and len({*connection.channels, *parameters}) > STREAMS_PER_CONNECTION:
                return _error(2, "Invalid request: too many parameters")
            for name in parameters:
                change(connection, name)
        elif method == "LIST_SUBSCRIPTIONS":
            result = list(connection.channels)
        elif not isinstance(parameters, list) or parameters[:1] != ["combined"]:
            return _error(0, "Unknown property", number)
        elif method == "GET_PROPERTY":
            result = connection.form[COMBINED]
        elif len(parameters) != 2 or not isinstance(parameters[1], bool):
            return _error(1, "Invalid value type: expected Boolean")
        else:
            connection.form = (parameters[1], connection.form[MICROSECONDS])
        return json.dumps({"result": result, "id": number}, separators=(",", ":"))

    def spell(self, channel: str, payload: str, form: tuple[bool, ...]) -> str:
        return f'{{"stream":"{channel}","data":{payload}}}' if form[COMBINED] else payload

    def announce_restart(self) -> None:
        def text(connection: Connection) -> str:
            event = f'{{"e":"serverShutdown","E":{_time(self.clock(), connection.form)}}}'
            return self.spell("!serverShutdown", event, connection.form)
        say_all(self.connections, text)

    # Its own recordings

    @classmethod
    def replay(cls, text: str) -> tuple[str, str] | None:
        match = re.match(r'\{"stream":"([^"]+)","data":', text)
        return (match[1], text[match.end():-1]) if match else None

    @classmethod
    def symbol_of(cls, channel: str) -> str:
        return channel.partition("@")[0].upper()

    @classmethod
    def recorded_change(cls, channel: str, payload: str) -> Change | None:
        if not payload.startswith('{"e":"depthUpdate"'):
            return None
        event = json.loads(payload)
        return Change(event["s"], event["u"], event["b"], event["a"])

    @classmethod
    def recorded_snapshot(cls, url: str | None, text: str, symbol: str) -> Change:
        picture = json.loads(text)
        named = dict(parse_qsl(urlsplit(url or "").query)).get("symbol", symbol)
        return Change(named, picture["lastUpdateId"], picture["bids"], picture["asks"])

    @classmethod
    def recorded_instruments(cls, text: str) -> list[Listed]:
        found = []
        for row in json.loads(text)["symbols"] if '"symbols":' in text[:2000] else ():
            filters = {one["filterType"]: one for one in row["filters"]}
            steps = filters["PRICE_FILTER"]["tickSize"], filters["LOT_SIZE"]["stepSize"]
            price_decimals, size_decimals = (len(step.partition(".")[2].rstrip("0")) for step in steps)
            found.append(Listed(row["symbol"], row["baseAsset"], row["quoteAsset"], price_decimals, size_decimals))
        return found

    # The market's messages

    def on_step(self, listing: Listing, trades: list[Trade]) -> None:
        symbol, marks, book = listing.listed.symbol, listing.marks, listing.flow.book
        stream = symbol.lower()
        number = marks.setdefault("trade", 1_000_000 + listing.flow.orders)
        merged: list[tuple[Trade, int, int, int]] = []      # an aggregate: (first match, size, first id, last id)
        for trade in trades:
            number += 1
            self._trade(listing, f"{stream}@trade", trade, number)
            if merged and merged[-1][0].order == trade.order and merged[-1][0].price == trade.price:
                first, size, first_id, _ = merged[-1]
                merged[-1] = (first, size + trade.size, first_id, number)
            else:
                merged.append((trade, trade.size, number, number))
        marks["trade"] = number
        for trade, size, first_id, last_id in merged:
            marks["aggregate"] = marks.get("aggregate", number // 2) + 1
            self._aggregate(listing, f"{stream}@aggTrade", trade, size, marks["aggregate"], first_id, last_id)
        bid, ask = book.keys[BID][0], book.keys[ASK][0]
        best = (bid, book.sizes[BID][bid], ask, book.sizes[ASK][ask])
        if best != listing.best:
            listing.best = best
            if self.wanted(channel := f"{stream}@bookTicker"):
                bids, asks = (listing.rows(side) for side in book.top(1))
                ticker = (f'{{"u":{book.sequence},"s":"{symbol}","b":"{bids[0][0]}","B":"{bids[0][1]}",'
                          f'"a":"{asks[0][0]}","A":"{asks[0][1]}"}}')
                self.publish_same(channel, ticker)

    def _trade(self, listing: Listing, channel: str, trade: Trade, number: int) -> None:
        if self.wanted(channel):
            def payload(form: tuple[bool, ...]) -> str:
                at = _time(trade.time_ns, form)
                return (f'{{"e":"trade","E":{at},"s":"{listing.listed.symbol}","t":{number},'
                        f'"p":"{listing.price(trade.price)}","q":"{listing.size(trade.size)}","T":{at},'
                        f'"m":{"true" if trade.sell else "false"},"M":true}}')
            self.publish(channel, payload)

    def _aggregate(
        self, listing: Listing, channel: str, trade: Trade, size: int, number: int, first: int, last: int
    ) -> None:
        if self.wanted(channel):
            def payload(form: tuple[bool, ...]) -> str:
                at = _time(trade.time_ns, form)
                return (f'{{"e":"aggTrade","E":{at},"s":"{listing.listed.symbol}","a":{number},'
                        f'"p":"{listing.price(trade.price)}","q":"{listing.size(size)}","f":{first},"l":{last},'
                        f'"T":{at},"m":{"true" if trade.sell else "false"},"M":true}}')
            self.publish(channel, payload)

    def on_window(self, listing: Listing) -> None:
        book, marks, now_ns = listing.flow.book, listing.marks, listing.flow.book.time_ns
        stream = listing.listed.symbol.lower()
        changed = book.take()
        slow = listing.slow
        for side, rows in zip(slow, changed, strict=True):
            side.update(price for price, _ in rows)
        if any(changed):
            self._diff(listing, f"{stream}@depth@100ms", "fast", changed)
        tops = ["@100ms"]
        if now_ns - marks.get("second", 0) >= SECOND_NS:
            marks["second"] = now_ns
            tops.append("")
            if any(slow):
                bids = [(price, book.sizes[BID].get(-price, 0)) for price in sorted(slow[BID], reverse=True)]
                asks = [(price, book.sizes[ASK].get(price, 0)) for price in sorted(slow[ASK])]
                slow[BID].clear()
                slow[ASK].clear()
                self._diff(listing, f"{stream}@depth", "slow", (bids, asks))
        for levels in PARTIAL:
            for speed in tops:
                if self.wanted(channel := f"{stream}@depth{levels}{speed}"):
                    bid_rows, ask_rows = (rows_json(listing.rows(side)) for side in book.top(levels))
                    text = f'{{"lastUpdateId":{book.sequence},"bids":{bid_rows},"asks":{ask_rows}}}'
                    self.publish_same(channel, text)

    def _diff(
        self, listing: Listing, channel: str, mark: str, changed: tuple[list[tuple[int, int]], list[tuple[int, int]]]
    ) -> None:
        book = listing.flow.book
        first = listing.marks[mark] + 1
        listing.marks[mark] = book.sequence
        if self.wanted(channel):
            bids, asks = (rows_json(listing.rows(side)) for side in changed)
            self.publish(channel, lambda form: (
                f'{{"e":"depthUpdate","E":{_time(book.time_ns, form)},"s":"{listing.listed.symbol}",'
                f'"U":{first},"u":{book.sequence},"b":{bids},"a":{asks}}}'))

    # REST

    def rest(self, path: str, query: dict[str, str]) -> Response:
        routes: dict[str, Callable[[dict[str, str]], str | Response]] = {
            "/api/v3/depth": self._depth, "/api/v3/exchangeInfo": self._exchange_info, "/api/v3/ping": lambda _: "{}",
            "/api/v3/time": lambda _: f'{{"serverTime":{self.clock() // 1_000_000}}}',
        }
        route = routes.get(path.rstrip("/"))
        if route is None:
            return answer(404, "<html><body><h2>404 Not found</h2></body></html>", "text/html")
        refusal = self._charge(_weight(path, query))
        if refusal is not None:
            return refusal
        body = route(query)
        used = {"X_MBX_USED_WEIGHT": str(self.weight), "X_MBX_USED_WEIGHT_1M": str(self.weight)}
        return body if isinstance(body, Response) else answer(200, body, "application/json;charset=UTF-8", **used)

    def _charge(self, weight: int) -> Response | None:
        """Take the weight from this minute's budget, or say how it is refused: 429, then 418 for who goes on."""
        now_ms = self.clock() // 1_000_000
        if now_ms < self.banned_until_ms:
            return _banned(self.banned_until_ms, now_ms)
        if now_ms // 60_000 != self.minute:
            self.minute, self.weight, self.refused = now_ms // 60_000, 0, 0
        self.weight += weight
        if not self.limits or self.weight <= WEIGHT_PER_MINUTE:
            return None
        self.refused += 1
        if self.refused > 10:
            self.banned_until_ms = now_ms + BAN_SECONDS * 1000
            return _banned(self.banned_until_ms, now_ms)
        return self.limited()

    def limited(self) -> Response:
        seconds = 60 - self.clock() // SECOND_NS % 60
        text = (f"Too much request weight used; current limit is {WEIGHT_PER_MINUTE} request weight per 1 MINUTE. "
                "Please use WebSocket Streams for live updates to avoid polling the API.")
        return answer(429, _error(-1003, text), Retry_After=str(seconds))

    def _depth(self, query: dict[str, str]) -> str | Response:
        symbol, limit = query.get("symbol", ""), query.get("limit", "100")
        if not symbol:
            text = "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed."
            return answer(400, _error(-1102, text))
        for name, value, legal in (("symbol", symbol, "^[A-Z0-9-_.]{1,20}$"), ("limit", limit, "^[0-9]{1,20}$")):
            if not re.fullmatch(legal, value):
                text = f"Illegal characters found in parameter '{name}'; legal range is '{legal}'."
                return answer(400, _error(-1100, text))
        image = self.picture(symbol)
        if image is None:
            return answer(400, _error(-1121, "Invalid symbol."))
        levels = min(int(limit), 5000)
        return (f'{{"lastUpdateId":{image.sequence},"bids":{rows_json(image.bids[:levels])},'
                f'"asks":{rows_json(image.asks[:levels])}}}')

    def _exchange_info(self, query: dict[str, str]) -> str | Response:
        names = [query["symbol"]] if "symbol" in query else None
        try:
            names = json.loads(query["symbols"]) if "symbols" in query else names
        except ValueError:
            return answer(400, _error(-1100, "Illegal characters found in parameter 'symbols'."))
        # A venue also lists what does not trade.
        rows = [*((listed, "TRADING") for listed in self.source.listed()), (UNTRADED, "BREAK")]
        symbols = [_symbol(listed, status) for listed, status in rows if names is None or listed.symbol in names]
        if names is not None and len(symbols) != len(names):
            return answer(400, _error(-1121, "Invalid symbol."))
        limits = [("REQUEST_WEIGHT", "MINUTE", 1, WEIGHT_PER_MINUTE), ("ORDERS", "SECOND", 10, 100),
                  ("ORDERS", "DAY", 1, 200000), ("RAW_REQUESTS", "MINUTE", 5, 300000)]
        return json.dumps({
            "timezone": "UTC", "serverTime": self.clock() // 1_000_000,
            "rateLimits": [{"rateLimitType": kind, "interval": interval, "intervalNum": number, "limit": limit}
                           for kind, interval, number, limit in limits],
            "exchangeFilters": [], "symbols": symbols,
        }, separators=(",", ":"))


UNTRADED = Listed("LUNABTC", "LUNA", "BTC", 8, 2)


def _error(code: int, message: str, number: Any = None) -> str:
    error = {"code": code, "msg": message} if number is None else {"code": code, "msg": message, "id": number}
    return json.dumps(error, separators=(",", ":"))


def _banned(until_ms: int, now_ms: int) -> Response:
    text = (f"Way too much request weight used; IP banned until {until_ms}. "
            "Please use WebSocket Streams for live updates to avoid bans.")
    return answer(418, _error(-1003, text), Retry_After=str(1 + (until_ms - now_ms) // 1000))


def _time(time_ns: int, form: tuple[bool, ...]) -> int:
    return time_ns // (1_000 if form[MICROSECONDS] else 1_000_000)


def _weight(path: str, query: dict[str, str]) -> int:
    if path.startswith("/api/v3/exchangeInfo"):
        return 20
    if path.startswith("/api/v3/depth"):
        limit = int(query["limit"]) if query.get("limit", "").isdigit() else 100
        return 5 if limit <= 100 else 25 if limit <= 500 else 50 if limit <= 1000 else 250
    return 1


def _symbol(listed: Listed, status: str) -> dict[str, Any]:
    tick, lot = fixed(1, listed.price_decimals, 8), fixed(1, listed.size_decimals, 8)
    return {
        "symbol": listed.symbol, "status": status, "baseAsset": listed.base, "baseAssetPrecision": 8,
        "quoteAsset": listed.quote, "quotePrecision": 8, "quoteAssetPrecision": 8, "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS_LIMIT", "TAKE_PROFIT_LIMIT"],
        "icebergAllowed": True, "ocoAllowed": True, "otoAllowed": True, "opoAllowed": True,
        "quoteOrderQtyMarketAllowed": True, "allowTrailingStop": True, "cancelReplaceAllowed": True,
        "amendAllowed": True, "pegInstructionsAllowed": True,
        "isSpotTradingAllowed": True, "isMarginTradingAllowed": False,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "1000000.00000000", "tickSize": tick},
            {"filterType": "LOT_SIZE", "minQty": lot, "maxQty": "9000.00000000", "stepSize": lot},
            {"filterType": "ICEBERG_PARTS", "limit": 100},
            {"filterType": "MARKET_LOT_SIZE", "minQty": "0.00000000", "maxQty": "90.00000000",
             "stepSize": "0.00000000"},
            {"filterType": "NOTIONAL", "minNotional": "5.00000000", "applyMinToMarket": True,
             "maxNotional": "9000000.00000000", "applyMaxToMarket": False, "avgPriceMins": 5},
            {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": 200},
        ],
        "permissions": [], "permissionSets": [["SPOT"]], "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
        "allowedSelfTradePreventionModes": ["EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH"],
    }
