"""binance: Binance spot's streams and REST, spoken from its side (JSON streams as documented in July 2026).

Streams: <s>@depth@100ms, <s>@depth5|10|20@100ms, <s>@bookTicker, <s>@trade, <s>@aggTrade; any other name is
acknowledged and stays silent, as in life. REST: depth, exchangeInfo. Every number has eight decimals. Banned is who
goes on after refusals: beyond the weights, and with a third connection that says too much in a second.
"""
from __future__ import annotations

import json
import re
from collections import Counter
from itertools import groupby
from typing import Any

from websockets.http11 import Response

from mantra.simulator.market import Flow, Habits, Trade, World
from mantra.simulator.server import Connection, Venue, answer, compact
from mantra.simulator.source import Image, Listed, Listing, fixed, rows_json

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
WEIGHT_PER_MINUTE = 6000
BAN_SECONDS = 120.0
SKIPPED = 1000          # numbers that a fault leaves out
METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS")
PARTIAL = (5, 10, 20)
UNTRADED = Listed("LUNABTC", "LUNA", "BTC", 8, 2)       # a venue also lists what does not trade


class Binance(Venue):
    name = "binance"
    diff_channel = "@depth@"
    ping_interval = 20.0
    pong_timeout = 60.0
    connection_life = 24 * 3600.0
    inbound_per_second = 5              # pings, pongs and JSON
    overruns = (2, 300.0, BAN_SECONDS)
    connects = (300, 300.0, 0.0)        # more are refused; no ban is documented

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.aggregates: Counter[str] = Counter()
        self.minute = 0
        self.weight = 0
        self.refused = 0

    @staticmethod
    def listing(world: World, seed: str, start_ns: int, rate: float | None = None) -> Listing:
        base, quote = world.instrument.base, world.instrument.quote
        decimals = STEPS.get(world.instrument.name, (4, 2))
        flow = Flow(world, HABITS, decimals, f"{seed}/binance", start_ns, rate)
        return Listing(Listed(base + quote, base, quote, *decimals), flow, pad_to=8)

    # WebSocket

    def admit(self, connection: Connection, path: str, query: dict[str, str]) -> Response | None:
        if path == "/stream":
            streams = query.get("streams", "")
        elif path == "/ws" or path.startswith("/ws/"):
            streams = path[4:]
        else:
            return answer(404, "", "text/plain")
        names = [name for name in streams.split("/") if name]
        if len(names) > STREAMS_PER_CONNECTION:
            return answer(400, "", "text/plain")
        connection.api = "combined" if path == "/stream" else "raw"
        for name in names:
            self.subscribe(connection, name)
        return None

    async def heard(self, connection: Connection, text: str) -> None:
        reply = self._reply(connection, text)
        (connection.acknowledge if reply.startswith('{"result":null') else connection.say)(reply)

    def _reply(self, connection: Connection, text: str) -> str:
        try:
            request = json.loads(text)
        except ValueError as error:
            return _error(3, f"Invalid JSON: expected value at line 1 column {getattr(error, 'colno', 1)}")
        if not isinstance(request, dict) or "method" not in request:
            return _error(2, f"Invalid request: missing field `method` at line 1 column {len(text)}")
        method, names, number = request["method"], request.get("params", []), request.get("id")
        if method not in METHODS:
            expected = ", ".join(f"`{name}`" for name in METHODS)
            return _error(2, f"Invalid request: unknown variant `{method}`, expected one of {expected} "
                             f"at line 1 column {text.find(str(method)) + len(str(method)) + 1}")
        if isinstance(number, (bool, float, list, dict)) or (isinstance(number, str) and len(number) > 36):
            return _error(2, "Invalid request: request ID must be an integer, a string (36 characters at most) or null")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            return _error(2, "Invalid request: params must be an array of strings")
        if method == "SUBSCRIBE" and len({*connection.channels, *names}) > STREAMS_PER_CONNECTION:
            return _error(2, "Invalid request: too many parameters")
        if method != "LIST_SUBSCRIPTIONS":
            for name in names:
                (self.subscribe if method == "SUBSCRIBE" else self.unsubscribe)(connection, name)
        result = list(connection.channels) if method == "LIST_SUBSCRIPTIONS" else None
        return compact({"result": result, "id": number})

    def spell(self, connection: Connection, channel: str, message: str) -> str:
        return f'{{"stream":"{channel}","data":{message}}}' if connection.api == "combined" else message

    def notice(self, connection: Connection, what: str) -> str:
        event = f'{{"e":"serverShutdown","E":{self.told(self.clock()) // 1_000_000}}}'
        return self.spell(connection, "!serverShutdown", event) if what == "reconnect" else ""

    # Its own recordings

    @classmethod
    def replay(cls, text: str, known: dict[Any, Any]) -> list[tuple[str, Any]]:
        match = re.match(r'\{"stream":"([^!"][^"]*)","data":', text)
        return [(match[1], text[match.end():-1])] if match else []

    @classmethod
    def symbol_of(cls, where: str) -> str:
        return where.partition("symbol=")[2].partition("&")[0] or where.partition("@")[0].upper()

    @classmethod
    def recorded_book(cls, channel: str, message: str) -> Image:
        book = json.loads(message)
        if "lastUpdateId" in book:
            return Image("", book["lastUpdateId"], book["bids"], book["asks"], whole=True)
        return Image(book["s"], book["u"], book["b"], book["a"])

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
        symbol, book = listing.listed.symbol, listing.flow.book
        stream = symbol.lower()
        # Fills of one taker's order at one price are one aggregate.
        for (_, price), fills in groupby(trades, lambda trade: (trade.order, trade.price)):
            first, size = listing.trades + 1, 0
            for trade in fills:
                listing.trades += 1
                size += trade.size
                at, maker = self.told(trade.time_ns) // 1_000_000, "true" if trade.sell else "false"
                self.publish(f"{stream}@trade", (
                    f'{{"e":"trade","E":{at},"s":"{symbol}","t":{listing.trades},"p":"{listing.price(price)}",'
                    f'"q":"{listing.size(trade.size)}","T":{at},"m":{maker},"M":true}}'))
            self.aggregates[symbol] += 1
            self.publish(f"{stream}@aggTrade", (
                f'{{"e":"aggTrade","E":{at},"s":"{symbol}","a":{self.aggregates[symbol]},"p":"{listing.price(price)}",'
                f'"q":"{listing.size(size)}","f":{first},"l":{listing.trades},"T":{at},"m":{maker},"M":true}}'))
        best = book.top(1)
        if best != listing.top:
            listing.top = best
            ((bid, bid_size),), ((ask, ask_size),) = (listing.rows(side) for side in best)
            self.publish(f"{stream}@bookTicker", (f'{{"u":{book.sequence},"s":"{symbol}","b":"{bid}","B":"{bid_size}",'
                                                  f'"a":"{ask}","A":"{ask_size}"}}'))

    def on_window(self, listing: Listing) -> None:
        symbol, book = listing.listed.symbol, listing.flow.book
        stream = symbol.lower()
        changed, first, listing.sent = book.take(), listing.sent + 1, book.sequence
        if any(changed) and self.wanted(channel := f"{stream}@depth@100ms"):
            if self.faults.hits("skip", channel):
                first, book.sequence = first + SKIPPED, book.sequence + SKIPPED
                listing.sent = book.sequence
            bids, asks = listing.json(changed)
            self.publish(channel, (f'{{"e":"depthUpdate","E":{self.told(book.time_ns) // 1_000_000},"s":"{symbol}",'
                                   f'"U":{first},"u":{book.sequence},"b":{bids},"a":{asks}}}'))
        for levels in PARTIAL:
            if self.wanted(channel := f"{stream}@depth{levels}@100ms"):
                bids, asks = listing.json(book.top(levels))
                self.publish(channel, f'{{"lastUpdateId":{book.sequence},"bids":{bids},"asks":{asks}}}')

    # REST

    def rest(self, path: str, query: dict[str, str]) -> Response:
        if path == "/api/v3/exchangeInfo":
            weight, make = 20, self._exchange_info
        elif path == "/api/v3/depth":
            limit = int(query["limit"]) if query.get("limit", "").isdigit() else 100
            weight, make = 5 if limit <= 100 else 25 if limit <= 500 else 50 if limit <= 1000 else 250, self._depth
        else:
            return answer(404, "<html><body><h2>404 Not found</h2></body></html>", "text/html")
        refusal = self._charge(weight)
        if refusal is not None:
            return refusal
        body = make(query)
        used = {"X_MBX_USED_WEIGHT": str(self.weight), "X_MBX_USED_WEIGHT_1M": str(self.weight)}
        return body if isinstance(body, Response) else answer(200, body, "application/json;charset=UTF-8", **used)

    def _charge(self, weight: int) -> Response | None:
        """Take the weight from this minute's budget, or say how it is refused: 429, then 418 for who goes on."""
        now_ms = self.clock() // 1_000_000
        if now_ms // 60_000 != self.minute:
            self.minute, self.weight, self.refused = now_ms // 60_000, 0, 0
        self.weight += weight
        if not self.limits or self.weight <= WEIGHT_PER_MINUTE:
            return None
        self.refused += 1
        wait = 60.0 - now_ms // 1000 % 60
        if banned := self.refused > 10:
            self.ban(wait := BAN_SECONDS * self.ban_scale)
        return self.refusal(wait, banned)

    def refusal(self, wait: float, banned: bool) -> Response:
        if banned:
            until = self.clock() // 1_000_000 + int(1000 * wait)
            status, text = 418, f"Way too much request weight used; IP banned until {until}. "
        else:
            status = 429
            text = f"Too much request weight used; current limit is {WEIGHT_PER_MINUTE} request weight per 1 MINUTE. "
        text += f"Please use WebSocket Streams for live updates to avoid {'bans' if banned else 'polling the API'}."
        return answer(status, _error(-1003, text), Retry_After=str(1 + int(wait)))

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
        bids, asks = (rows_json(side[:min(int(limit), 5000)]) for side in (image.bids, image.asks))
        return f'{{"lastUpdateId":{image.sequence},"bids":{bids},"asks":{asks}}}'

    def _exchange_info(self, query: dict[str, str]) -> str | Response:
        rows = [*((listed, "TRADING") for listed in self.source.listed), (UNTRADED, "BREAK")]
        wanted = query.get("symbol")
        symbols = [_symbol(listed, status) for listed, status in rows if wanted in (None, listed.symbol)]
        if not symbols:
            return answer(400, _error(-1121, "Invalid symbol."))
        limit = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": WEIGHT_PER_MINUTE}
        return compact({"timezone": "UTC", "serverTime": self.told(self.clock()) // 1_000_000, "rateLimits": [limit],
                        "exchangeFilters": [], "symbols": symbols})


def _error(code: int, message: str) -> str:
    return compact({"code": code, "msg": message})


def _symbol(listed: Listed, status: str) -> dict[str, Any]:
    tick, lot = fixed(1, listed.price_decimals, 8), fixed(1, listed.size_decimals, 8)
    return {
        "symbol": listed.symbol, "status": status, "baseAsset": listed.base, "baseAssetPrecision": 8,
        "quoteAsset": listed.quote, "quotePrecision": 8, "quoteAssetPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS_LIMIT", "TAKE_PROFIT_LIMIT"],
        "isSpotTradingAllowed": True, "isMarginTradingAllowed": False,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "1000000.00000000", "tickSize": tick},
            {"filterType": "LOT_SIZE", "minQty": lot, "maxQty": "9000.00000000", "stepSize": lot},
            {"filterType": "NOTIONAL", "minNotional": "5.00000000", "applyMinToMarket": True,
             "maxNotional": "9000000.00000000", "applyMaxToMarket": False, "avgPriceMins": 5},
        ],
        "permissions": [], "permissionSets": [["SPOT"]],
    }
