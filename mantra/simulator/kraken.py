"""kraken: Kraken spot's WebSocket v2 (path /v2), v1 (path /) and REST, spoken from its side (as known in 2026).

Books of depth 10 to 1000, whose readers truncate them: no delete for a level that is pushed out, and it is sent again
when it comes back. Every update carries a checksum of the best ten levels over the text of their numbers, which v1
prints with at least five decimals and v2 with the pair's own. Trades with history, ticker (v1: and spread), instrument,
status, heartbeats, pings. REST: AssetPairs, Depth.
"""
from __future__ import annotations

import json
import random
import zlib
from collections import deque
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any, NamedTuple

from websockets.http11 import Response

from mantra.simulator.market import SECOND_NS, Flow, Habits, Trade, View, World
from mantra.simulator.server import Connection, Venue, Window, answer, compact
from mantra.simulator.source import Image, Listed, Listing, Rows, fixed

# After cryptofeed's recording of XMR/USD of April 2021 (28 messages a second, 1.0 levels each) and, for the share near
# the top, DepthCharge's of BTC/USD of August 2026; deep enough for depth 1000 to be truncated.
HABITS = Habits(
    levels=1300, changes=3.0, burst=1.0, removals=0.4, nearness=((1, 0.05), (10, 0.4), (100, 0.8), (1300, 1.0)),
    trades=2.0, window_ns=60_000_000, window_tail_ns=40_000_000, counted=True, gap=3e-5,
)
# (price, size) decimals
STEPS = {"BTC-USD": (1, 8), "BTC-USDT": (1, 8), "ETH-USD": (2, 8), "ETH-USDT": (2, 8), "ETH-BTC": (5, 8),
         "SOL-USDT": (2, 8), "XRP-USD": (5, 8)}
DEPTHS = (10, 25, 100, 500, 1000)
TRIGGERS = ("bbo", "trades")
FIELDS = {"book": ("depth",), "trade": (), "ticker": ("event_trigger",), "instrument": ()}
HISTORY_TRADES = 50
IDLE_SECONDS = 60.0
LEGACY = {"BTC": "XXBT", "ETH": "XETH", "XRP": "XXRP", "LTC": "XLTC", "DOGE": "XXDG", "USD": "ZUSD", "EUR": "ZEUR",
          "GBP": "ZGBP", "CAD": "ZCAD", "JPY": "ZJPY"}
V1 = {"BTC": "XBT", "DOGE": "XDG"}
USUAL = {v1: usual for usual, v1 in V1.items()}
# v1's names of channels: what they are here
NAMES = {"book": "book", "trade": "trade", "spread": "ticker-bbo", "ticker": "ticker-trades"}
V1_PRICE_DECIMALS = 5
UNTRADED = Listed("LUNA/USD", "LUNA", "USD", 8, 8)


def renamed(symbol: str, names: dict[str, str]) -> str:
    return "/".join(names.get(code, code) for code in symbol.split("/"))


def rfc3339(time_ns: int) -> str:
    moment = datetime.fromtimestamp(time_ns // SECOND_NS, timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ns // 1000 % 1_000_000:06d}Z"


def unix(time_ns: int) -> str:
    return f"{time_ns // SECOND_NS}.{time_ns // 1000 % 1_000_000:06d}"


def padded(price: str) -> str:
    whole, _, fraction = price.partition(".")
    return f"{whole}.{fraction.ljust(V1_PRICE_DECIMALS, '0')}"


def checksum(bids: Rows, asks: Rows) -> int:
    """CRC-32 over the best ten asks, then the best ten bids: price and size without point and leading zeros."""
    text = "".join(number.replace(".", "").lstrip("0") for row in (*asks[:10], *bids[:10]) for number in row)
    return zlib.crc32(text.encode())


def altered(rows: Rows, best: Rows) -> Rows:
    """The rows, one of the ten `best` among them with another last digit of its size; as they are where none is."""
    prices = {price for price, _ in best}
    at = next((at for at, (price, _) in enumerate(rows) if price in prices), None)
    if at is None:
        return rows
    price, size = rows[at]
    return [*rows[:at], (price, f"{size[:-1]}{(int(size[-1]) + 1) % 10}"), *rows[at + 1:]]


def _v2(channel: str, whole: bool, rows: str) -> str:
    return f'{{"channel":"{channel}","type":"{"snapshot" if whole else "update"}","data":[{rows}]}}'


@dataclass(frozen=True)
class Book:
    """A snapshot, or what a reader of so many levels is told; `best` ten levels of each side are those after it."""

    symbol: str
    depth: int
    bids: Rows
    asks: Rows
    best: tuple[Rows, Rows]
    time_ns: int
    whole: bool = False
    came: frozenset[str] = frozenset()      # prices that are told again because they came back into the depth
    wrong: int = 0                          # added to the checksum

    def garbled(self, dice: random.Random) -> Book:
        """With a checksum that does not fit: wrong itself, or right about a level that was altered."""
        bids, asks = altered(self.bids, self.best[0]), altered(self.asks, self.best[1])
        if dice.random() < 0.5 or (bids, asks) == (self.bids, self.asks):
            return replace(self, wrong=1)
        return replace(self, bids=bids, asks=asks)

    def _checksum(self, best: tuple[Rows, Rows]) -> int:
        return (checksum(*best) + self.wrong) % 2**32

    def v2(self) -> str:
        bids, asks = (",".join(f'{{"price":{price},"qty":{size}}}' for price, size in rows)
                      for rows in (self.bids, self.asks))
        when = "" if self.whole else f',"timestamp":"{rfc3339(self.time_ns)}"'
        return _v2("book", self.whole, f'{{"symbol":"{self.symbol}","bids":[{bids}],"asks":[{asks}],'
                                       f'"checksum":{self._checksum(self.best)}{when}}}')

    def v1(self, number: int) -> str:
        when = unix(self.time_ns)
        sides = {name: ",".join(f'["{padded(price)}","{size}","{when}"{_R if price in self.came else ""}]'
                                for price, size in rows) for name, rows in (("a", self.asks), ("b", self.bids))}
        if self.whole:
            objects = [f'{{"as":[{sides["a"]}],"bs":[{sides["b"]}]}}']
        else:
            bids, asks = ([(padded(price), size) for price, size in rows] for rows in self.best)
            objects = [f'{{"{name}":[{rows}]}}' for name, rows in sides.items() if rows]
            objects[-1] = f'{objects[-1][:-1]},"c":"{self._checksum((bids, asks))}"}}'
        return f'[{number},{",".join(objects)},"book-{self.depth}","{renamed(self.symbol, V1)}"]'


_R = ',"r"'


class Fill(NamedTuple):
    """One trade as this venue tells it."""

    number: int
    price: str
    size: str
    side: str
    kind: str
    time_ns: int


@dataclass(frozen=True)
class Fills:
    """Trades of one step of the market, or the last fifty."""

    symbol: str
    fills: tuple[Fill, ...]
    whole: bool = False

    def v2(self) -> str:
        rows = ",".join(
            f'{{"symbol":"{self.symbol}","side":"{one.side}","price":{one.price},"qty":{one.size},"ord_type":"{one.kind}",'
            f'"trade_id":{one.number},"timestamp":"{rfc3339(one.time_ns)}"}}' for one in self.fills)
        return _v2("trade", self.whole, rows)

    def v1(self, number: int) -> str:
        rows = ",".join(f'["{padded(one.price)}","{one.size}","{unix(one.time_ns)}","{one.side[0]}","{one.kind[0]}",""]'
                        for one in self.fills)
        return f'[{number},[{rows}],"trade","{renamed(self.symbol, V1)}"]'


@dataclass(frozen=True)
class Ticker:
    """The best prices and sizes, and what was traded since this venue began; `name` is v1's of the channel."""

    symbol: str
    name: str
    bid: tuple[str, str]
    ask: tuple[str, str]
    traded: dict[str, str]          # last, volume, vwap, low, high, change, change_pct
    time_ns: int
    whole: bool = False

    def v2(self) -> str:
        traded = ",".join(f'"{name}":{value}' for name, value in self.traded.items())
        return _v2("ticker", self.whole, (
            f'{{"symbol":"{self.symbol}","bid":{self.bid[0]},"bid_qty":{self.bid[1]},"ask":{self.ask[0]},'
            f'"ask_qty":{self.ask[1]},{traded},"timestamp":"{rfc3339(self.time_ns)}"}}'))

    def v1(self, number: int) -> str:
        (bid, bid_size), (ask, ask_size) = ((padded(price), size) for price, size in (self.bid, self.ask))
        if self.name == "spread":
            told = f'["{bid}","{ask}","{unix(self.time_ns)}","{bid_size}","{ask_size}"]'
        else:
            last, volume, vwap, low, high = (self.traded[name] for name in ("last", "volume", "vwap", "low", "high"))
            pairs = {"v": volume, "p": vwap, "l": padded(low), "h": padded(high), "o": padded(last)}
            days = ",".join(f'"{name}":["{value}","{value}"]' for name, value in pairs.items())
            told = (f'{{"a":["{ask}",{ask_size.partition(".")[0]},"{ask_size}"],'
                    f'"b":["{bid}",{bid_size.partition(".")[0]},"{bid_size}"],"c":["{padded(last)}","{volume}"],{days}}}')
        return f'[{number},{told},"{self.name}","{renamed(self.symbol, V1)}"]'


class Kraken(Venue):
    name = "kraken"
    diff_channel = "book-"
    connects = (150, 600.0, 600.0)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.views: dict[str, View] = {}                    # by channel: what its readers have
        self.trades: dict[str, deque[Fill]] = {}
        self.traded: dict[str, tuple[int, int, int, int, int, int]] = {}    # first, last, low, high, lots, ticks * lots
        self.ids: dict[str, int] = {}                       # v1's numbers of channels
        self.calm = Window(1, 5.0)                          # connects while in maintenance

    @staticmethod
    def listing(world: World, seed: str, start_ns: int, rate: float | None = None) -> Listing:
        base, quote = world.instrument.base, world.instrument.quote
        decimals = STEPS.get(world.instrument.name, (4, 8))
        flow = Flow(world, HABITS, decimals, f"{seed}/kraken", start_ns, rate)
        return Listing(Listed(f"{base}/{quote}", base, quote, *decimals), flow)

    # WebSocket

    def admit(self, connection: Connection, path: str, query: dict[str, str]) -> Response | None:
        if path not in ("/v2", "/", ""):
            return answer(404, "", "text/html")
        if self.limits and self.maintained and not self.calm.admits(connection.loop.time()):
            return self.refusal(5.0, banned=True)
        connection.api = "v2" if path == "/v2" else "v1"
        return None

    def greet(self, connection: Connection) -> None:
        number, system = connection.id.int >> 64 | 1 << 63, "maintenance" if self.maintained else "online"
        connection.say(
            f'{{"connectionID":{number},"event":"systemStatus","status":"{system}","version":"1.8.3"}}'
            if connection.api == "v1" else
            f'{{"channel":"status","data":[{{"api_version":"v2","connection_id":{number},"system":"{system}",'
            f'"version":"2.0.4"}}],"type":"update"}}')

    def notice(self, connection: Connection, what: str) -> str:
        if what != "reconnect":
            self.greet(connection)
        return ""

    def tick(self, connection: Connection, now: float) -> None:
        """A heartbeat when nothing was said for a second (v1: every second), once there is a subscription."""
        since = connection.beat_at if connection.api == "v1" else connection.sent_at
        if connection.channels and now - since >= 1.0 / self.hasten:
            connection.beat_at = now
            connection.say('{"event":"heartbeat"}' if connection.api == "v1" else '{"channel":"heartbeat"}')
        elif not connection.channels and now - connection.heard_at >= IDLE_SECONDS / self.hasten:
            connection.end(1000)

    async def heard(self, connection: Connection, text: str) -> None:
        began = self.told(self.clock())
        try:
            request = json.loads(text)
            if connection.api == "v1":
                self._heard_v1(connection, request)
            else:
                self._heard_v2(connection, request, began)
        except (AttributeError, KeyError, TypeError, ValueError):
            if connection.api == "v1":
                connection.say('{"errorMessage":"Malformed request","event":"error"}')
            else:
                connection.say(self._reply(began, error="Malformed request", success=False))

    def _reply(self, began: int, **fields: Any) -> str:
        """A v2 answer, its fields in alphabetical order like the venue's."""
        told = fields | {"time_in": rfc3339(began), "time_out": rfc3339(self.told(self.clock()))}
        return compact({name: value for name, value in told.items() if value is not None}, sort_keys=True)

    def _heard_v2(self, connection: Connection, request: dict[str, Any], began: int) -> None:
        method, number, asked = request["method"], request.get("req_id"), request.get("params") or {}
        if method == "ping":
            connection.say(self._reply(began, method="pong", req_id=number))
            return
        if method not in ("subscribe", "unsubscribe"):
            raise ValueError(method)
        name = asked["channel"]
        wrong = [field for field in asked if field not in ("channel", "symbol", "snapshot", *FIELDS.get(name, ()))]
        for symbol in asked["symbol"] if name != "instrument" else [None]:
            result = {"channel": name, "snapshot": asked.get("snapshot", name != "trade"), "symbol": symbol}
            kind, error = name, ""
            if name not in FIELDS:
                error = "Subscription name invalid"
            elif wrong:
                error = f"Unsupported field: '{wrong[0]}' for the given msg type: {method} {name}"
            elif name == "book":
                result["depth"] = asked.get("depth", 10)
                kind = f"book-{result['depth']}"
            elif name == "ticker":
                result["event_trigger"] = asked.get("event_trigger", "trades")
                kind = f"ticker-{result['event_trigger']}"
            channel = f"{kind} {symbol or ''}".strip()
            error = error or self._refused(connection, method, kind, symbol, channel)
            if error:
                connection.say(self._reply(began, error=error, method=method, req_id=number, success=False,
                                           symbol=symbol))
                continue
            if method == "unsubscribe":
                del result["snapshot"]
            result = {field: value for field, value in result.items() if value is not None}
            ack = self._reply(began, method=method, req_id=number, result=result, success=True)
            self._change(connection, method, channel, symbol, ack, bool(result.get("snapshot")))

    def _heard_v1(self, connection: Connection, request: dict[str, Any]) -> None:
        event, number = request["event"], request.get("reqid")
        again = {} if number is None else {"reqid": number}
        if event == "ping":
            connection.say(compact({"event": "pong", **again}, sort_keys=True))
            return
        if event not in ("subscribe", "unsubscribe"):
            raise ValueError(event)
        asked = request["subscription"]
        for pair in request["pair"]:
            name, symbol = asked["name"], renamed(pair, USUAL)
            told = {**again, "event": "subscriptionStatus", "pair": pair, "subscription": {"name": name}}
            kind = NAMES.get(name, "")
            if name == "book":
                told["subscription"]["depth"] = depth = asked.get("depth", 10)
                kind, name = f"book-{depth}", f"book-{depth}"
            channel = f"{kind} {symbol}"
            error = ("Subscription name invalid" if not kind
                     else f"Currency pair not in ISO 4217-A3 format {pair}" if "/" not in pair
                     else self._refused(connection, event, kind, symbol, channel).replace(symbol, pair))
            if error:
                told |= {"errorMessage": error, "status": "error"}
                connection.say(compact(told, sort_keys=True))
                continue
            told |= {"channelID": self.ids.setdefault(channel, 320 + 16 * len(self.ids)), "channelName": name,
                     "status": event + "d"}
            ack = compact(told, sort_keys=True)
            self._change(connection, event, channel, symbol, ack, kind != "trade")

    def _refused(self, connection: Connection, method: str, kind: str, symbol: str | None, channel: str) -> str:
        """What is wrong with this request; empty: nothing."""
        name, _, choice = kind.partition("-")
        if symbol is not None and symbol not in (listed.symbol for listed in self.source.listed):
            return f"Currency pair not supported {symbol}"
        if (name == "book" and choice not in map(str, DEPTHS)) or (name == "ticker" and choice not in TRIGGERS):
            return "Subscription depth not supported" if name == "book" else "Event trigger not supported"
        if method == "unsubscribe":
            return "" if channel in connection.channels else "Subscription Not Found"
        # One depth of a book for each connection.
        same = [f"book-{depth} {symbol}" for depth in DEPTHS] if name == "book" else [channel]
        return "Already subscribed" if any(one in connection.channels for one in same) else ""

    def _change(self, connection: Connection, method: str, channel: str, symbol: str | None, ack: str,
                snapshot: bool) -> None:
        if method == "unsubscribe":
            self.unsubscribe(connection, channel)
            connection.acknowledge(ack, channel)
            return
        first = self._first(channel, symbol or "") if snapshot or channel.startswith("book") else None
        self.subscribe(connection, channel, self.ids.setdefault(channel, 320 + 16 * len(self.ids)))
        connection.acknowledge(ack, channel)
        if first is not None and snapshot and (text := self._spelt(connection, channel, first)):
            connection.deliver(text, channel)

    def _first(self, channel: str, symbol: str) -> Book | Fills | Ticker | str | None:
        """What a new subscriber gets; None where a recording has not come to it."""
        kind = channel.partition(" ")[0]
        name, _, choice = kind.partition("-")
        if name == "instrument":
            return self._instruments()
        if name == "trade":
            return Fills(symbol, tuple(self.trades.get(symbol, ())), whole=True)
        listing = self.source.listing(symbol)
        if name == "ticker":
            return self._ticker(listing, choice, whole=True) if listing else None
        image = self.snapshot(symbol)
        if image is None:
            return None
        if listing is not None:
            self.views[channel] = View(listing.flow.book, int(choice))
        bids, asks = image.bids[:int(choice)], image.asks[:int(choice)]
        return Book(symbol, int(choice), bids, asks, (bids, asks), self.told(self.clock()), whole=True)

    def spell(self, connection: Connection, channel: str, message: Any) -> str:
        if isinstance(message, Book) and self.faults.hits("checksum", channel):
            message = message.garbled(self.faults.dice)
        return self._spelt(connection, channel, message)

    def _spelt(self, connection: Connection, channel: str, message: Any) -> str:
        """In the way this client speaks; what was recorded is said verbatim, and in one way only."""
        v1 = connection.api == "v1"
        if isinstance(message, str):
            return message if v1 == message.startswith("[") else ""
        return str(message.v1(connection.channels[channel]) if v1 else message.v2())

    # Its own recordings

    @classmethod
    def replay(cls, text: str, known: dict[Any, Any]) -> list[tuple[str, Any]]:
        message = json.loads(text)
        if isinstance(message, list):
            *_, name, pair = message
            return [(f"{name if name.startswith('book') else NAMES.get(name, name)} {renamed(pair, USUAL)}", text)]
        if message.get("result", {}).get("channel") == "book":
            known[message["result"]["symbol"]] = message["result"]["depth"]
        if message.get("channel") not in ("book", "trade"):
            return []
        symbol = message["data"][0]["symbol"]
        return [(f"book-{known.get(symbol, 10)} {symbol}" if message["channel"] == "book" else f"trade {symbol}", text)]

    @classmethod
    def symbol_of(cls, where: str) -> str:
        return where.partition(" ")[2]

    @classmethod
    def recorded_book(cls, channel: str, message: str) -> Image:
        found, keep = json.loads(message, parse_float=str, parse_int=str), int(channel[5:channel.index(" ")])
        if isinstance(found, list):
            sides: dict[str, Any] = {name: rows for one in found[1:-2] for name, rows in one.items()}
            whole = "as" in sides
            bids, asks = ([row[:2] for row in sides.get(name, ())] for name in (("bs", "as") if whole else ("b", "a")))
        else:
            whole, data = found["type"] == "snapshot", found["data"][0]
            bids, asks = ([(row["price"], row["qty"]) for row in data[name]] for name in ("bids", "asks"))
        return Image(cls.symbol_of(channel), 0, bids, asks, whole=whole, keep=keep)

    @classmethod
    def recorded_instruments(cls, text: str) -> list[Listed]:
        rows = json.loads(text).get("result", {}).values()
        names = [(renamed(row["wsname"], USUAL), row) for row in rows if "wsname" in row]
        return [Listed(name, name.partition("/")[0], name.partition("/")[2], row["pair_decimals"], row["lot_decimals"])
                for name, row in names]

    # The market's messages

    def on_step(self, listing: Listing, trades: list[Trade]) -> None:
        symbol, book = listing.listed.symbol, listing.flow.book
        if trades:
            self._trade(listing, trades)
            if self.wanted(channel := f"ticker-trades {symbol}"):
                self.publish(channel, self._ticker(listing, "trades"))
        best = book.keys[0][0], book.keys[1][0]
        if best != listing.top:
            listing.top = best
            if self.wanted(channel := f"ticker-bbo {symbol}"):
                self.publish(channel, self._ticker(listing, "bbo"))

    def _trade(self, listing: Listing, trades: list[Trade]) -> None:
        symbol, channel, fills = listing.listed.symbol, f"trade {listing.listed.symbol}", []
        first, _, low, high, lots, notional = self.traded.get(symbol, (trades[0].price, 0, 10**18, 0, 0, 0))
        for price, size, sell, order, time_ns in trades:
            listing.trades += 1 + 1000 * (self.wanted(channel) and self.faults.hits("skip", channel))
            fills.append(Fill(listing.trades, listing.price(price), listing.size(size), "sell" if sell else "buy",
                              ("market", "limit")[order % 2], self.told(time_ns)))
            low, high, lots, notional = min(low, price), max(high, price), lots + size, notional + price * size
        self.traded[symbol] = first, trades[-1].price, low, high, lots, notional
        self.trades.setdefault(symbol, deque(maxlen=HISTORY_TRADES)).extend(fills)
        self.publish(channel, Fills(symbol, tuple(fills)))

    def _ticker(self, listing: Listing, trigger: str, whole: bool = False) -> Ticker:
        book, symbol = listing.flow.book, listing.listed.symbol
        bid, ask = (listing.rows(side)[0] for side in book.top(1))
        now = -book.keys[0][0]
        first, last, low, high, lots, notional = self.traded.get(symbol, (now, now, now, now, 1, now))
        traded = {"last": listing.price(last), "volume": listing.size(lots), "vwap": listing.price(notional // lots),
                  "low": listing.price(low), "high": listing.price(high),
                  "change": f"{'-' if last < first else ''}{listing.price(abs(last - first))}",
                  "change_pct": f"{100 * (last - first) / first:.2f}"}
        name = "spread" if trigger == "bbo" else "ticker"
        return Ticker(symbol, name, bid, ask, traded, self.told(self.clock()), whole)

    def on_window(self, listing: Listing) -> None:
        symbol, book = listing.listed.symbol, listing.flow.book
        changed = book.take()
        for depth in DEPTHS:
            channel = f"book-{depth} {symbol}"
            if not self.wanted(channel):
                self.views.pop(channel, None)
                continue
            told, came = self.views[channel].take(changed)
            if not any(told) and not any(came):
                continue
            bids, asks = (listing.rows(told[side] + came[side]) for side in (0, 1))
            back = frozenset(price for side in came for price, _ in listing.rows(side))
            best_bids, best_asks = map(listing.rows, book.top(10))
            self.publish(channel, Book(symbol, depth, bids, asks, (best_bids, best_asks), self.told(book.time_ns),
                                       came=back))

    # REST

    def rest(self, path: str, query: dict[str, str]) -> Response:
        pairs = {_key(listed): (listed, status) for listed, status in (
            *((listed, "online") for listed in self.source.listed), (UNTRADED, "cancel_only"))}
        names = {name: key for key, (listed, _) in pairs.items()
                 for name in (key, _altname(listed), listed.symbol, renamed(listed.symbol, V1))}
        if path not in ("/0/public/AssetPairs", "/0/public/Depth"):
            return answer(404, '{"error":["EGeneral:Unknown method"]}')
        asked = [name for name in query.get("pair", "").split(",") if name]
        if not set(asked) <= set(names):
            return answer(200, '{"error":["EQuery:Unknown asset pair"]}')
        if path == "/0/public/AssetPairs":
            keys = [names[name] for name in asked] or list(pairs)
            return answer(200, compact({"error": [], "result": {key: _pair(*pairs[key]) for key in keys}}))
        count = query.get("count", "100")
        if len(asked) != 1 or not count.isdigit() or not 1 <= int(count) <= 500:
            return answer(200, '{"error":["EGeneral:Invalid arguments"]}')
        key, now = names[asked[0]], self.told(self.clock()) // SECOND_NS
        image = self.picture(pairs[key][0].symbol)
        sides = [",".join(f'["{padded(price)}","{size}",{now}]' for price, size in rows[:int(count)])
                 for rows in ((image.asks, image.bids) if image else ())] or ["", ""]
        return answer(200, f'{{"error":[],"result":{{"{key}":{{"asks":[{sides[0]}],"bids":[{sides[1]}]}}}}}}')

    def refusal(self, wait: float, banned: bool) -> Response:
        if banned:      # by what stands before the venue
            return answer(429, "error code: 1015", "text/plain", Retry_After=str(1 + int(wait)))
        return answer(200, '{"error":["EAPI:Rate limit exceeded"]}')

    def _instruments(self) -> str:
        codes = dict.fromkeys(code for listed in self.source.listed for code in (listed.base, listed.quote))
        assets = [{"id": code, "status": "enabled", "precision": 10, "precision_display": 5, "borrowable": False,
                   "collateral_value": 1.0} for code in codes]
        pairs = ",".join(
            f'{{"symbol":"{one.symbol}","base":"{one.base}","quote":"{one.quote}","status":"online",'
            f'"qty_precision":{one.size_decimals},"qty_increment":{10.0 ** -one.size_decimals!r},'
            f'"price_precision":{one.price_decimals},"price_increment":{fixed(1, one.price_decimals)},'
            f'"cost_precision":5,"cost_min":"0.5","qty_min":0.0001,"marginable":false,"has_index":true}}'
            for one in self.source.listed)
        return (f'{{"channel":"instrument","type":"snapshot","data":{{'
                f'"assets":{compact(assets)},"pairs":[{pairs}]}}}}')


def _altname(listed: Listed) -> str:
    return renamed(listed.symbol, V1).replace("/", "")


def _key(listed: Listed) -> str:
    """REST's own name of a pair: old assets among themselves have a letter before them."""
    codes = [LEGACY.get(code, "") for code in (listed.base, listed.quote)]
    return "".join(codes) if all(codes) else _altname(listed)


def _pair(listed: Listed, status: str) -> dict[str, Any]:
    return {
        "altname": _altname(listed), "wsname": renamed(listed.symbol, V1), "aclass_base": "currency",
        "base": LEGACY.get(listed.base, listed.base), "aclass_quote": "currency",
        "quote": LEGACY.get(listed.quote, listed.quote), "lot": "unit", "cost_decimals": 5,
        "pair_decimals": listed.price_decimals, "lot_decimals": listed.size_decimals, "lot_multiplier": 1,
        "leverage_buy": [], "leverage_sell": [], "fees": [[0, 0.4]], "fees_maker": [[0, 0.25]],
        "fee_volume_currency": "ZUSD", "margin_call": 80, "margin_stop": 40, "ordermin": "0.0001", "costmin": "0.5",
        "tick_size": fixed(1, listed.price_decimals), "status": status}
