"""bitstamp: Bitstamp's WebSocket v2 and REST, spoken from its side (as documented and probed until September 2026).

Channels: diff_order_book_<m>, order_book_<m> (top 100), live_trades_<m>, live_orders_<m>, detail_order_book_<m> (top
100 orders); unknown markets are acknowledged and stay silent, as in life. REST: order_book/<m>/?group=0|1|2 (cached up
to a second), markets/. Books carry no sequence and no checksum: microseconds of the last change are all a client gets;
orders are chained, each event naming the one before. Removals spell zero in several ways. A market is kept order by
order from when somebody first asks for that.
"""
from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from websockets.http11 import Response

from mantra.simulator.market import ASK, BID, Flow, Habits, Sides, Trade, World
from mantra.simulator.orders import Orders
from mantra.simulator.server import Connection, Venue, answer, compact
from mantra.simulator.source import Image, Listed, Listing, MarketSource, plain, rows_json

# After cryptofeed's recording of ethusd of January 2022.
HABITS = Habits(
    levels=1000, changes=5.0, burst=0.8, removals=0.42, nearness=((1, 0.01), (10, 0.44), (100, 1.0)),
    trades=0.3, window_ns=200_000_000, window_tail_ns=120_000_000, counted=False, gap=1e-4,
)
# (price, size) decimals, and how a zero is spelt there
STEPS = {
    "BTC-USD": (0, 8, "0.00000000"), "BTC-USDT": (2, 8, "0.00000000"), "ETH-USD": (2, 6, "0.00000000"),
    "ETH-USDT": (2, 6, "0.00000000"), "ETH-BTC": (8, 8, "0"), "XRP-USD": (5, 8, "0.00000"),
}

CHANNELS_PER_CONNECTION = 1024
FRAME_BYTES = 512
CACHE_NS = 1_000_000_000
TOP_NS = 80_000_000
TOP_LEVELS = 100
CHANNEL = re.compile(r"(diff_order_book|order_book|detail_order_book|live_trades|live_orders)_[a-z0-9\-_./]+")
LIMIT, MARKET = 0, 2                # subtypes of orders
NO_PRICE = ("999999999", "0")       # of market orders that buy and that sell
HEARTBEAT = '{"event":"bts:heartbeat","channel":"","data":{"status":"success"}}'


# Listed, but not to be traded as spot: a client has to leave them out.
UNTRADED = {"name": "LUNA/USD", "market_symbol": "lunausd", "base_currency": "LUNA", "base_decimals": 8,
            "counter_currency": "USD", "counter_decimals": 5, "minimum_order_value": "10", "trading": "Disabled",
            "instant_order_counter_decimals": 2, "instant_and_market_orders": "Disabled",
            "description": "Luna / U.S. dollar", "market_type": "SPOT"}
PERPETUAL = UNTRADED | {"name": "BTC/USD-PERP", "market_symbol": "btcusd-perp", "base_currency": "BTC",
                        "trading": "Enabled", "description": "Bitcoin perpetual", "market_type": "PERPETUAL"}


@dataclass
class Live:
    """A market order by order."""

    orders: Orders
    made: dict[int, tuple[int, int]] = field(default_factory=dict)      # order -> its size at first, what was traded
    count: int = 0                                                      # of events
    last: str = "00000000-0000-0000-0000-000000000020"                  # event's id


class Bitstamp(Venue):
    name = "bitstamp"
    diff_channel = "diff_order_book_"
    requests = ((400, 1.0), (10_000, 600.0))
    ping_interval = 54.0
    pong_timeout = 60.0
    connection_life = 90 * 24 * 3600.0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.cache: dict[str, tuple[int, str]] = {}
        self.live: dict[str, Live] = {}
        self.trade_id, self.order_id = 540_000_000, 1_983_000_000_000_000

    @staticmethod
    def listing(world: World, seed: str, start_ns: int, rate: float | None = None) -> Listing:
        base, quote = world.instrument.base, world.instrument.quote
        *decimals, zero = STEPS.get(world.instrument.name, (4, 8, "0.00000000"))
        flow = Flow(world, HABITS, decimals, f"{seed}/bitstamp", start_ns, rate)
        return Listing(Listed((base + quote).lower(), base, quote, *decimals), flow, zero=zero)

    # WebSocket

    def admit(self, connection: Connection, path: str, query: dict[str, str]) -> Response | None:
        return None if path in ("", "/") else answer(404, "", "text/html")

    async def heard(self, connection: Connection, text: str) -> None:
        if self.limits and len(text.encode()) > FRAME_BYTES:
            await connection.close(1009, "read limited at 513 bytes")
        elif reply := self._reply(connection, text):
            (connection.acknowledge if "subscription_succeeded" in reply else connection.say)(reply)
        else:
            connection.transport.close()

    def _reply(self, connection: Connection, text: str) -> str:
        """What the venue answers; nothing when it closes without a word."""
        try:
            request = json.loads(text)
            event = request["event"]
        except (ValueError, TypeError, KeyError):
            return _error("Incorrect JSON format.")
        if event == "bts:heartbeat":
            return HEARTBEAT
        data = request.get("data")
        channel = data.get("channel") if isinstance(data, dict) else None
        if event not in ("bts:subscribe", "bts:unsubscribe") or not isinstance(channel, str):
            return _error("Bad subscription string.")
        if channel.startswith("private-"):
            return _error("Connection is unauthorized.", 4009)
        if CHANNEL.fullmatch(channel) is None:
            return _error("Invalid channel provided.")
        if event == "bts:unsubscribe":
            self.unsubscribe(connection, channel)
            return f'{{"event":"bts:unsubscription_succeeded","channel":"{channel}","data":{{}}}}'
        if self.limits and len({*connection.channels, channel}) > CHANNELS_PER_CONNECTION:
            return ""
        if channel.startswith(("live_orders_", "detail_order_book_")):
            self._live(self.symbol_of(channel))
        self.subscribe(connection, channel)
        return f'{{"event":"bts:subscription_succeeded","channel":"{channel}","data":{{}}}}'

    def spell(self, connection: Connection, channel: str, message: Any) -> str:
        if not isinstance(message, str):
            data, event, chain = message
            return f'{{"data":{data},"channel":"{channel}","event":"{event}",{chain},"order_source":"orderbook"}}'
        event = "trade" if channel.startswith("live_trades_") else "data"
        return f'{{"data":{message},"channel":"{channel}","event":"{event}"}}'

    def notice(self, connection: Connection, what: str) -> str:
        return '{"event":"bts:request_reconnect","channel":"","data":null}' if what == "reconnect" else ""

    # Its own recordings

    @classmethod
    def replay(cls, text: str, known: dict[Any, Any]) -> list[tuple[str, Any]]:
        match = re.fullmatch(r'\{"data":(.*),"channel":"([^"]*)","event":"(?:data|trade)"\}', text)
        return [(match[2], match[1])] if match else []

    @classmethod
    def symbol_of(cls, where: str) -> str:
        return re.split("[_/]", where.partition("?")[0].rstrip("/"))[-1].lower()

    @classmethod
    def recorded_book(cls, channel: str, message: str) -> Image:
        book = json.loads(message)
        return Image(cls.symbol_of(channel), int(book["microtimestamp"]), book["bids"], book["asks"], whole=not channel)

    @classmethod
    def recorded_instruments(cls, text: str) -> list[Listed]:
        if not text.startswith("["):
            return []
        found = []
        for row in json.loads(text):        # markets/ and, until 2024, trading-pairs-info/
            base, _, quote = row["name"].partition("/")
            symbol = row.get("market_symbol") or row["url_symbol"]
            found.append(Listed(symbol, base, quote, row["counter_decimals"], row["base_decimals"]))
        return found

    # The market's messages

    def on_step(self, listing: Listing, trades: list[Trade]) -> None:
        symbol, book = listing.listed.symbol, listing.flow.book
        live = self.live.get(symbol)
        for trade, maker in self._tell_orders(listing, live, trades) if live else [
                (trade, _taker(trade.order) - 7) for trade in trades]:
            self.trade_id += 1 + trade.order % 3            # ids are shared by all markets
            price, size = listing.price(trade.price), listing.size(trade.size)
            time_ms = self.told(trade.time_ns) // 1_000_000
            taker = _taker(trade.order)
            buy, sell = (maker, taker) if trade.sell else (taker, maker)
            self.publish(f"live_trades_{symbol}", (
                f'{{"id":{self.trade_id},"timestamp":"{time_ms // 1000}",'
                f'"amount":{plain(size)},"amount_str":"{size}","price":{plain(price)},"price_str":"{price}",'
                f'"type":{int(trade.sell)},"microtimestamp":"{time_ms}000","buy_order_id":{buy},"sell_order_id":{sell}}}'))
        if book.sequence != listing.top and book.time_ns - listing.top_ns >= TOP_NS:
            listing.top, listing.top_ns = book.sequence, book.time_ns
            if self.wanted(channel := f"order_book_{symbol}"):
                self._book(listing, channel, book.top(TOP_LEVELS))
            if live and self.wanted(channel := f"detail_order_book_{symbol}"):
                self.publish(channel, _orders_json(listing, live.orders, TOP_LEVELS))

    def _live(self, symbol: str) -> Live | None:
        """The market order by order, from now on; None where there is no such market."""
        listings = self.source.listings if isinstance(self.source, MarketSource) else {}
        if symbol in listings and symbol not in self.live:
            book = listings[symbol].flow.book
            book.singly = True
            self.live[symbol] = Live(Orders(book, self._next_order, symbol))
        return self.live.get(symbol)

    def _next_order(self) -> int:
        self.order_id += 1 + self.order_id % 5
        return self.order_id

    def _tell_orders(self, listing: Listing, live: Live, trades: list[Trade]) -> list[tuple[Trade, int]]:
        """Publish what became of which order; the trades by whose orders were taken, [(trade, maker), ...]."""
        fills = []
        for taker, together in groupby(live.orders.follow(trades), lambda event: event.taker):
            events = list(together)
            total, side = sum(event.before - event.after for event in events), 1 - events[0].side
            if taker:       # seen in the book, with no price, before it is matched
                self._tell_order(listing, live, "order_created", _taker(taker), side, MARKET, 0, total, 0, total)
            for event in events:
                created, traded = live.made.pop(event.number, (event.before or event.after, 0))
                if taker:
                    traded += event.before - event.after
                    fills.append((Trade(abs(event.key), event.before - event.after, event.side == BID, taker,
                                        listing.flow.book.time_ns), event.number))
                if event.after:
                    live.made[event.number] = created, traded
                kind = "order_deleted" if not event.after else "order_changed" if event.before else "order_created"
                # One that was cancelled goes with what was left of it.
                left = event.after if event.after or taker else event.before
                self._tell_order(listing, live, kind, event.number, event.side, LIMIT, abs(event.key), left, traded,
                                 created)
            if taker:
                self._tell_order(listing, live, "order_deleted", _taker(taker), side, MARKET, 0, 0, total, total)
        return fills

    def _tell_order(self, listing: Listing, live: Live, kind: str, number: int, side: int, subtype: int, price: int,
                    amount: int, traded: int, created: int) -> None:
        micros = listing.flow.book.sequence
        at, live.count = f"{micros:016x}", live.count + 1
        before, live.last = live.last, f"{at[:8]}-{at[8:12]}-{at[12:]}-0000-{live.count & 0xffff:04x}02000020"
        if not self.wanted(channel := f"live_orders_{listing.listed.symbol}"):
            return
        spelt = listing.price(price) if price else NO_PRICE[side]
        size, taken, whole = (plain(listing.size(one)) for one in (amount, traded, created))
        self.publish(channel, ((
            f'{{"id":{number},"id_str":"{number}","order_type":{side},"order_subtype":{subtype},'
            f'"datetime":"{micros // 1_000_000}","microtimestamp":"{micros}","amount":{size},"amount_str":"{size}",'
            f'"amount_traded":"{taken}","amount_at_create":"{whole}","price":{plain(spelt)},"price_str":"{spelt}",'
            f'"is_liquidation":false}}'), kind, f'"event_id":"{live.last}","pre_event_id":"{before}"'))

    def on_window(self, listing: Listing) -> None:
        changed, channel = listing.flow.book.take(net=True), f"diff_order_book_{listing.listed.symbol}"
        if any(changed) and self.wanted(channel):
            self._book(listing, channel, changed)

    def _book(self, listing: Listing, channel: str, rows: Sides) -> None:
        sequence = listing.flow.book.sequence
        bids, asks = listing.json(rows)
        self.publish(channel, (f'{{"timestamp":"{sequence // 1_000_000}","microtimestamp":"{sequence}",'
                               f'"bids":{bids},"asks":{asks}}}'))

    # REST

    def rest(self, path: str, query: dict[str, str]) -> Response:
        parts = path.lower().strip("/").split("/")
        if parts == ["api", "v2", "markets"]:
            return answer(200, json.dumps([_market(listed) for listed in self.source.listed] + [UNTRADED, PERPETUAL]))
        if len(parts) == 4 and parts[:3] == ["api", "v2", "order_book"]:
            return self._order_book(parts[3], query)
        return answer(404, "", "text/html")

    def _order_book(self, market: str, query: dict[str, str]) -> Response:
        now = self.clock()
        url = f"{market}?{sorted(query.items())}"
        made, body = self.cache.get(url, (0, ""))
        if now - made >= CACHE_NS:
            group = query.get("group", "1")
            if group in ("0", "2") and (live := self._live(market)) and isinstance(self.source, MarketSource):
                body = _orders_json(self.source.listings[market], live.orders, 10**9, named=group == "2", space=" ")
            elif image := self.picture(market):
                # REST spells with spaces, the stream without.
                bids, asks = (rows_json(side, " ") for side in (image.bids, image.asks))
                body = (f'{{"timestamp": "{image.sequence // 1_000_000}", "microtimestamp": "{image.sequence}", '
                        f'"bids": {bids}, "asks": {asks}}}')
            else:
                return answer(404, "", "text/html")
            self.cache = {url: found for url, found in self.cache.items() if now - found[0] < CACHE_NS}
            self.cache[url] = now, body
        return answer(200, body)

    def refusal(self, wait: float, banned: bool) -> Response:
        return answer(400, json.dumps({"status": "error", "reason": {"__all__": ["Request rate limit exceeded."]},
                                       "response_code": "400.002"}))


def _orders_json(listing: Listing, orders: Orders, count: int, named: bool = True, space: str = "") -> str:
    """A book with a row for each order: price, amount and, if they are to be `named`, its number."""
    sides = []
    for side in (BID, ASK):
        rows = ([listing.price(abs(key)), listing.size(orders.levels[side][key][number]), *[str(number)] * named]
                for key, number in orders.queue[side][:count])
        quoted = ([f'"{text}"' for text in row] for row in rows)
        sides.append("[" + f",{space}".join(f"[{f',{space}'.join(row)}]" for row in quoted) + "]")
    return (f'{{"timestamp":{space}"{orders.book.sequence // 1_000_000}",{space}"microtimestamp":{space}'
            f'"{orders.book.sequence}",{space}"bids":{space}{sides[BID]},{space}"asks":{space}{sides[ASK]}}}')


def _taker(order: int) -> int:
    return 1_982_000_000_000_000 + order


def _market(listed: Listed) -> dict[str, Any]:
    return UNTRADED | {
        "name": f"{listed.base}/{listed.quote}", "market_symbol": listed.symbol, "base_currency": listed.base,
        "base_decimals": listed.size_decimals, "counter_currency": listed.quote, "trading": "Enabled",
        "counter_decimals": listed.price_decimals, "instant_and_market_orders": "Enabled",
        "description": f"{listed.base} / {listed.quote}"}


def _error(message: str, code: int | None = None) -> str:
    data = compact({"code": code, "message": message})
    return f'{{"event":"bts:error","channel":"","data":{data}}}'
