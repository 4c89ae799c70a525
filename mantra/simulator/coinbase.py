"""coinbase: Coinbase's two APIs on one port, spoken from their side: Advanced Trade (as recorded in August 2026) and
Exchange (as recorded in April 2021 and documented in 2026). A client's first subscription says which one it speaks.

Advanced Trade: level2, market_trades, ticker, heartbeats, one `channel` a message; whole books in the stream (BTC-USD's
is some MB, as in life), every frame of a connection numbered. Exchange: level2_batch, matches, ticker, heartbeat; no
numbers; level2, level3 and full want a login. Books are told every 50 ms, with the removal of what came and went
meanwhile. A trade's side is its maker's, in both (in the recording, trades at the ask are SELL). REST:
/api/v3/brokerage/market/products and product_book of Advanced Trade, /products and /products/<id>/book?level=2 of
Exchange.
"""
from __future__ import annotations

import json
import math
import random
import re
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from websockets.http11 import Response

from mantra.simulator.market import SECOND_NS, Flow, Habits, Sides, Trade, World
from mantra.simulator.server import Connection, Venue, Window, answer, compact
from mantra.simulator.source import Image, Listed, Listing, Rows, fixed, plain, rows_json

# After cryptofeed's recording of BTC-USD of August 2026.
HABITS = Habits(
    levels=2000, changes=6.0, burst=0.55, removals=0.22, nearness=((1, 0.01), (10, 0.03), (100, 0.18), (2000, 1.0)),
    trades=1.0, window_ns=50_000_000, window_tail_ns=10_000_000, counted=True, gap=3e-5,
)
LEVELS = {"BTC-USD": 34_000, "ETH-USD": 15_000}     # of asks; bids end sooner, at a price of 0
# (price, size) decimals of the steps
STEPS = {"BTC-USDT": (2, 8), "BTC-USD": (2, 8), "ETH-USD": (2, 8), "ETH-USDT": (2, 8), "ETH-BTC": (6, 8)}

MESSAGES_PER_SECOND = {"at": 8, "ex": 100}
SILENT_SECONDS = 5.0            # until who subscribes to nothing is closed
IDLE_SECONDS = 75.0             # until who is told nothing is closed: that is what heartbeats are for
TRADES_NS = TICKER_NS = 250_000_000
TRADES_SHOWN = 100
TOGETHER = 0.05                 # share of book events that wait for the next one, of any product, to share its frame
AT_CHANNELS = ("level2", "market_trades", "ticker", "ticker_batch", "candles", "status", "heartbeats")
EX_CHANNELS = ("level2_batch", "matches", "ticker", "heartbeat", "status")
EX_PRIVATE = ("level2", "level3", "full", "user", "balance")
LOGIN = ("level2, level3, and full channels now require authentication. "
         "https://docs.cloud.coinbase.com/exchange/docs/websocket-auth")
DELISTED = Listed("LUNA-USD", "LUNA", "USD", 8, 2)

Frame = tuple[str, str]         # the text before and after its number


class Numbered(NamedTuple):
    """A trade, its number and its place in the product's sequence, in which trades are not the only events."""

    number: int
    sequence: int
    trade: Trade


@dataclass
class Said:
    """What was told of a product, and what is next."""

    listing: Listing
    sequence: int = 0
    volume: int = 0
    trades: deque[Numbered] = field(default_factory=lambda: deque(maxlen=TRADES_SHOWN))
    last: Numbered | None = None
    waiting: list[Numbered] = field(default_factory=list)       # for Advanced Trade's next message
    trades_ns: int = 0
    ticker_ns: int = 0
    ticker: str = ""


class Coinbase(Venue):
    name = "coinbase"
    diff_channel = "level2"
    requests = ((10, 1.0),)
    connection_life = math.inf          # not published
    connects = (8, 1.0, 0.0)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.messages = {api: Window(count, 1.0) for api, count in MESSAGES_PER_SECOND.items()}     # of one address
        self.dice = random.Random("together")
        self.said: dict[str, Said] = {}
        self.held: list[tuple[str, str]] = []       # (channel, event) that waits for company

    @staticmethod
    def listing(world: World, seed: str, start_ns: int, rate: float | None = None) -> Listing:
        base, quote = world.instrument.base, world.instrument.quote
        levels = LEVELS.get(world.instrument.name, HABITS.levels)
        decimals = STEPS.get(world.instrument.name, (4, 8))
        habits = replace(HABITS, levels=levels, nearness=(*HABITS.nearness[:-1], (levels, 1.0)))
        flow = Flow(world, habits, decimals, f"{seed}/coinbase", start_ns, rate)
        return Listing(Listed(f"{base}-{quote}", base, quote, *decimals), flow)

    # WebSocket

    def admit(self, connection: Connection, path: str, query: dict[str, str]) -> Response | None:
        return None if path in ("", "/") else answer(404, "", "text/plain")

    async def heard(self, connection: Connection, text: str) -> None:
        try:
            request = json.loads(text)
            kind = request["type"]
        except (ValueError, TypeError, KeyError, RecursionError):
            connection.say(_error("Malformed JSON"))
            return
        api = connection.api or ("at" if isinstance(request.get("channel"), str) else "ex")
        if self.limits and not self.messages[api].admits(connection.loop.time()):
            connection.say(_error("rate limit exceeded"))
        elif kind not in ("subscribe", "unsubscribe"):
            connection.say(_error("Type has to be either subscribe or unsubscribe"))
        elif api == "at":
            self._heard_at(connection, request, kind == "subscribe")
        else:
            self._heard_ex(connection, request, kind == "subscribe")

    def _speaks(self, connection: Connection, api: str) -> None:
        if not connection.api:
            connection.api, connection.number = api, -1

    def _heard_at(self, connection: Connection, request: dict[str, Any], subscribe: bool) -> None:
        channel, products = request.get("channel"), _names(request.get("product_ids"))
        if channel not in AT_CHANNELS:
            connection.say(_error("failed to subscribe" if channel else "channel is required"))
            return
        # USD and USDC are one book, which goes by the name of USD.
        listed = {one.symbol for one in self.source.listed}
        alias = {f"{one[:-3]}USDC": one for one in listed if one.endswith("-USD")}
        names = [f"{channel}:{product if product in listed else alias.get(product, product)}" for product in products]
        if channel == "heartbeats":
            names = ["heartbeats:heartbeats"]
        elif not names or any(name.partition(":")[2] not in listed for name in names):
            connection.say(_error("failed to subscribe"))
            return
        self._speaks(connection, "at")
        first = self.dice.random() < 0.2            # acknowledged before the first data, or after it
        if subscribe and first:
            self._acknowledge_at(connection, names, channel)
        for name in names:
            if not subscribe:
                self.unsubscribe(connection, name)
            elif name not in connection.channels:
                self._begin_at(connection, channel, name)
        if not (subscribe and first):
            self._acknowledge_at(connection, [], channel)

    def _acknowledge_at(self, connection: Connection, extra: Iterable[str], channel: str) -> None:
        """All that is subscribed now, in the venue's order, which is none."""
        found = self._by_channel(sorted({*connection.channels, *extra}))
        connection.acknowledge(self._number(connection, self._frame(
            "subscriptions", compact({"subscriptions": found}))), channel)

    def _by_channel(self, names: Iterable[str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name in names:
            found.setdefault(re.split("[:/]", name)[0], []).append(self.symbol_of(name))
        for products in found.values():
            self.dice.shuffle(products)
        return found

    def _begin_at(self, connection: Connection, channel: str, name: str) -> None:
        """Subscribe, with what there is to begin with."""
        product = self.symbol_of(name)
        image = self._whole(product) if channel == "level2" else None
        self.subscribe(connection, name)
        said = self.said.get(product)
        if image is not None and (image.bids or image.asks):
            event = self._book_event("snapshot", product, image.bids, image.asks)
            self._deliver(connection, name, self._frame("l2_data", event))
        elif channel == "market_trades" and said and said.trades:
            self._deliver(connection, name, self._frame(channel, self._trades_event("snapshot", said, said.trades)))
        elif channel == "ticker" and said and said.ticker:
            self._deliver(connection, name, self._frame(channel, _ticker_event("snapshot", said.ticker)))

    def _heard_ex(self, connection: Connection, request: dict[str, Any], subscribe: bool) -> None:
        shared, names = request.get("product_ids"), list[str]()
        listed = {one.symbol for one in self.source.listed}
        channels = request.get("channels")
        for channel in channels if isinstance(channels, list) else ():
            of, products = channel, shared
            if isinstance(channel, dict):
                of, products = channel.get("name"), channel.get("product_ids") or shared
            if of in EX_PRIVATE:
                connection.say(_error("Failed to subscribe", LOGIN))
                return
            if of not in EX_CHANNELS:
                connection.say(_error("Failed to subscribe", f"{of} is not a valid channel"))
                return
            for product in _names(products):        # one that is wrong fails all
                if product not in listed:
                    why = "delisted" if product == DELISTED.symbol else "not a valid product"
                    connection.say(_error("Failed to subscribe", f"{product} is {why}"))
                    return
                names.append(f"{of}/{product}")
        if not names:
            connection.say(_error("Failed to subscribe", "no channels or product_ids provided"))
            return
        self._speaks(connection, "ex")
        new = [name for name in names if name not in connection.channels]
        images = {name: self._whole(self.symbol_of(name)) for name in new if subscribe and name.startswith("level2")}
        for name in names:
            (self.subscribe if subscribe else self.unsubscribe)(connection, name)
        connection.acknowledge(compact({"type": "subscriptions", "channels": [
            {"name": of, "product_ids": products, "account_ids": None}
            for of, products in self._by_channel(connection.channels).items()]}))
        for name in new if subscribe else ():
            self._begin_ex(connection, name, images.get(name))

    def _begin_ex(self, connection: Connection, name: str, image: Image | None) -> None:
        channel, _, product = name.partition("/")
        said = self.said.get(product)
        if image is not None and (image.bids or image.asks):
            connection.deliver(f'{{"type":"snapshot","product_id":"{product}","asks":{rows_json(image.asks)},'
                               f'"bids":{rows_json(image.bids)},"time":"{_micros(self.told(self.clock()))}"}}', name)
        elif said and said.last and channel in ("matches", "ticker"):
            connection.deliver(self._match("last_match", said, said.last) if channel == "matches" else
                               self._ticker_ex(said, said.last), name)

    def _whole(self, product: str) -> Image | None:
        """The book for a new subscriber, with nothing on its way that is in it already."""
        image = self.snapshot(product)
        self._let_go()
        return image

    def tick(self, connection: Connection, now: float) -> None:
        if not connection.api:
            if now - connection.heard_at > SILENT_SECONDS / self.hasten:
                connection.end(1008, "no subscription")
            return
        if now - connection.sent_at > IDLE_SECONDS / self.hasten:
            connection.end(1001, "idle")
        for name, told in connection.channels.items():
            if name.startswith("heartbeat") and told != int(now):
                connection.channels[name] = int(now)
                connection.say(self._heartbeat(connection, self.symbol_of(name), now))

    def _heartbeat(self, connection: Connection, product: str, now: float) -> str:
        time_ns = self.told(self.clock())
        if connection.api == "at":
            at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(time_ns // SECOND_NS)) + f".{time_ns % SECOND_NS:09d}"
            return self._number(connection, self._frame("heartbeats", (
                f'{{"current_time":"{at} +0000 UTC m=+{now:.9f}","heartbeat_counter":{int(now)}}}')))
        said = self.said.get(product)
        number, sequence = (said.listing.trades, self._sequence(said)) if said else (0, 0)
        return (f'{{"type":"heartbeat","last_trade_id":{number},"product_id":"{product}","sequence":{sequence},'
                f'"time":"{_micros(time_ns)}"}}')

    def spell(self, connection: Connection, channel: str, message: Any) -> str:
        if isinstance(message, str):
            return message
        return "" if set(message[2:]) & connection.channels.keys() else self._number(connection, message, channel)

    def _number(self, connection: Connection, frame: Frame, channel: str = "") -> str:
        connection.number += 2 if self.faults.hits("skip", channel) else 1
        return f"{frame[0]}{connection.number}{frame[1]}"

    def _deliver(self, connection: Connection, channel: str, frame: Frame) -> None:
        connection.deliver(self._number(connection, frame, channel), channel)

    def _frame(self, channel: str, events: str) -> Frame:
        at = _nanos(self.told(self.clock()))
        return f'{{"channel":"{channel}","timestamp":"{at}","sequence_num":', f',"events":[{events}]}}'

    # Its own recordings

    @classmethod
    def replay(cls, text: str, known: dict[Any, Any]) -> list[tuple[str, Any]]:
        if match := re.match(r'\{"channel":"(l2_data|market_trades|ticker|candles)",.*?"sequence_num":(?=\d)', text):
            channel = "level2" if match[1] == "l2_data" else match[1]
            tail = text[match.end():].lstrip("0123456789")
            of = [f"{channel}:{product}" for product in dict.fromkeys(re.findall(r'"product_id":"([^"]+)"', text))]
            # Of several products: verbatim to who has the first one, and to who has but another.
            return [(one, (match[0], tail, *of[:place > 0])) for place, one in enumerate(of)]
        if match := re.match(r'\{"type":"(snapshot|l2update|match|last_match|ticker)",', text):
            channel = "matches" if "match" in match[1] else "ticker" if match[1] == "ticker" else "level2_batch"
            product = re.search(r'"product_id":"([^"]+)"', text)
            return [(f"{channel}/{product[1]}", text)] if product else []
        return []

    @classmethod
    def symbol_of(cls, where: str) -> str:
        found = re.search(r"product_id=([^&]+)|products/([^/]+)|[:/]([^:/]*)$", where)
        return next(filter(None, found.groups()), "") if found else ""

    @classmethod
    def recorded_book(cls, channel: str, message: Any) -> Image:
        book = json.loads(message if isinstance(message, str) else f"{message[0]}0{message[1]}")
        if "events" in book:
            events = [event for event in book["events"] if event["product_id"] == cls.symbol_of(channel)]
            bids, asks = ([(row["price_level"], row["new_quantity"]) for event in events for row in event["updates"]
                           if row["side"] == side] for side in ("bid", "offer"))
            return Image("", 0, bids, asks, whole=any(event["type"] == "snapshot" for event in events))
        if book.get("type") == "l2update":
            bids, asks = ([(price, size) for of, price, size in book["changes"] if of == side]
                          for side in ("buy", "sell"))
            return Image(book["product_id"], 0, bids, asks)
        if "pricebook" in book:
            book = book["pricebook"]
            bids, asks = ([(row["price"], row["size"]) for row in book[side]] for side in ("bids", "asks"))
        else:
            bids, asks = ([(row[0], row[1]) for row in book[side]] for side in ("bids", "asks"))
        return Image(book.get("product_id", ""), 0, bids, asks, whole=True)

    @classmethod
    def recorded_instruments(cls, text: str) -> list[Listed]:
        rows = json.loads(text)
        if isinstance(rows, dict):
            rows = [row for row in rows.get("products", ()) if not row["alias"]]
            name, base, quote, tick = "product_id", "base_currency_id", "quote_currency_id", "price_increment"
        else:
            name, base, quote, tick = "id", "base_currency", "quote_currency", "quote_increment"
        return [Listed(row[name], row[base], row[quote], _decimals(row[tick]), _decimals(row["base_increment"]))
                for row in rows]

    # The market's messages

    def on_step(self, listing: Listing, trades: list[Trade]) -> None:
        product = listing.listed.symbol
        said = self.said.get(product) or self.said.setdefault(product, Said(listing))
        for trade in trades:
            listing.trades += 1
            said.sequence = self._sequence(said) + 1
            said.volume += trade.size
            said.last = one = Numbered(listing.trades, said.sequence, trade)
            said.waiting.append(one)
            if self.wanted(name := f"matches/{product}"):
                self.publish(name, self._match("match", said, one))
            if self.wanted(name := f"ticker/{product}"):
                self.publish(name, self._ticker_ex(said, one))

    @staticmethod
    def _sequence(said: Said) -> int:
        return max(said.sequence, said.listing.flow.book.sequence)

    def on_window(self, listing: Listing) -> None:
        product, book = listing.listed.symbol, listing.flow.book
        said = self.said.get(product) or self.said.setdefault(product, Said(listing))
        changed = book.take()
        if any(changed):
            self._tell_book(listing, product, changed)
        if said.waiting and book.time_ns - said.trades_ns >= TRADES_NS:
            said.trades_ns = book.time_ns
            self.publish(f"market_trades:{product}", self._frame(
                "market_trades", self._trades_event("update", said, said.waiting)))
            said.trades += said.waiting
            said.waiting = []
        if book.time_ns - said.ticker_ns >= TICKER_NS and (ticker := self._ticker_at(said)) != said.ticker:
            said.ticker_ns, said.ticker = book.time_ns, ticker
            self.publish(f"ticker:{product}", self._frame("ticker", _ticker_event("update", ticker)))

    def _tell_book(self, listing: Listing, product: str, changed: Sides) -> None:
        bids, asks = map(listing.rows, changed)
        if self.wanted(name := f"level2:{product}"):
            waited = bool(self.held)
            self.held.append((name, self._book_event("update", product, bids, asks)))
            if waited or self.dice.random() >= TOGETHER:
                self._let_go()
        if self.wanted(name := f"level2_batch/{product}"):
            changes = ",".join(f'["{side}","{price}","{size}"]' for side, rows in (("buy", bids), ("sell", asks))
                               for price, size in rows)
            self.publish(name, f'{{"type":"l2update","product_id":"{product}","changes":[{changes}],'
                               f'"time":"{_micros(self.told(listing.flow.book.time_ns))}"}}')

    def _let_go(self) -> None:
        """Send the book events that waited, all in one frame for who subscribed to all of them."""
        held, self.held = self.held, []
        readers = {connection: None for name, _ in held for connection in self.subscribers.get(name, ())}
        for connection in readers:
            mine = [(name, event) for name, event in held if name in connection.channels]
            self._deliver(connection, mine[-1][0], self._frame("l2_data", ",".join(event for _, event in mine)))

    def _book_event(self, kind: str, product: str, bids: Rows, asks: Rows) -> str:
        at = _nanos(self.told(self.clock()) // 1000 * 1000)
        rows = ",".join(
            f'{{"side":"{side}","event_time":"{at}","price_level":"{plain(price)}","new_quantity":"{plain(size)}"}}'
            for side, levels in (("bid", bids), ("offer", asks)) for price, size in levels)
        return f'{{"type":"{kind}","product_id":"{product}","updates":[{rows}]}}'

    def _trades_event(self, kind: str, said: Said, trades: Iterable[Numbered]) -> str:
        """Newest first."""
        product = said.listing.listed.symbol
        rows = ",".join(
            f'{{"product_id":"{product}","trade_id":"{one.number}","price":"{price}","size":"{size}",'
            f'"time":"{_nanos(self.told(one.trade.time_ns) // 1000 * 1000)}","side":"{_maker(one.trade).upper()}"}}'
            for one in reversed(list(trades)) for price, size in [_spelt(said, one.trade)])
        return f'{{"type":"{kind}","trades":[{rows}]}}'

    def _match(self, kind: str, said: Said, one: Numbered) -> str:
        price, size = _spelt(said, one.trade)
        return (f'{{"type":"{kind}","trade_id":{one.number},"maker_order_id":"{_uuid(one.sequence)}",'
                f'"taker_order_id":"{_uuid(one.trade.order)}","side":"{_maker(one.trade)}","size":"{size}",'
                f'"price":"{price}","product_id":"{said.listing.listed.symbol}","sequence":{one.sequence},'
                f'"time":"{_micros(self.told(one.trade.time_ns))}"}}')

    def _ticker_ex(self, said: Said, one: Numbered) -> str:
        price, size = _spelt(said, one.trade)
        (bid, bid_size), (ask, ask_size) = _best(said.listing)
        volume = said.listing.size(said.volume)
        return (f'{{"type":"ticker","sequence":{one.sequence},"product_id":"{said.listing.listed.symbol}",'
                f'"price":"{price}","open_24h":"{price}","volume_24h":"{volume}","low_24h":"{price}","high_24h":"{price}",'
                f'"volume_30d":"{volume}","best_bid":"{bid}","best_bid_size":"{bid_size}","best_ask":"{ask}",'
                f'"best_ask_size":"{ask_size}","side":"{"sell" if one.trade.sell else "buy"}",'
                f'"time":"{_micros(self.told(one.trade.time_ns))}","trade_id":{one.number},"last_size":"{size}"}}')

    @staticmethod
    def _ticker_at(said: Said) -> str:
        (bid, bid_size), (ask, ask_size) = ((plain(price), plain(size)) for price, size in _best(said.listing))
        price, volume = _spelt(said, said.last.trade)[0] if said.last else bid, plain(said.listing.size(said.volume))
        return (f'{{"type":"ticker","product_id":"{said.listing.listed.symbol}","price":"{price}",'
                f'"volume_24_h":"{volume}","low_24_h":"{price}","high_24_h":"{price}","low_52_w":"{price}","high_52_w":"{price}",'
                f'"price_percent_chg_24_h":"0.09601107287722","best_bid":"{bid}","best_ask":"{ask}",'
                f'"best_bid_quantity":"{bid_size}","best_ask_quantity":"{ask_size}"}}')

    # REST

    def rest(self, path: str, query: dict[str, str]) -> Response:
        parts = path.strip("/").split("/")
        listed = [*self.source.listed, DELISTED]
        if parts == ["products"]:
            return answer(200, json.dumps([_product_ex(one) for one in listed]))
        if len(parts) == 3 and (parts[0], parts[2]) == ("products", "book"):
            return self._book_ex(parts[1], query.get("level", "1"))
        if path == "/api/v3/brokerage/market/products":
            symbols = {one.symbol for one in listed}
            rows = [_product_at(one, "") for one in listed]
            rows += [_product_at(one, one.symbol) for one in listed
                     if one.quote == "USD" and f"{one.base}-USDC" not in symbols]
            return answer(200, json.dumps({"products": rows, "num_products": len(rows), "pagination": None}))
        if path == "/api/v3/brokerage/market/product_book":
            return self._book_at(query)
        return answer(404, '{"message":"NotFound"}')

    def refusal(self, wait: float, banned: bool) -> Response:
        return answer(429, '{"message":"Public rate limit exceeded"}')

    def _book_ex(self, product: str, level: str) -> Response:
        image = self.picture(product)
        if image is None:
            return answer(404, '{"message":"NotFound"}')
        if level not in ("1", "2"):
            return answer(400, '{"message":"Invalid level"}')
        bids, asks = ([[price, size, 1] for price, size in (side if level == "2" else side[:1])]
                      for side in (image.bids, image.asks))
        return answer(200, json.dumps({"sequence": image.sequence, "bids": bids, "asks": asks, "auction_mode": False,
                                       "auction": None, "time": _micros(self.told(self.clock()))}))

    def _book_at(self, query: dict[str, str]) -> Response:
        product, limit = query.get("product_id", ""), query.get("limit", "")
        image = self.picture(product) or self.picture(re.sub("-USDC$", "-USD", product))
        if image is None:
            return answer(404, '{"error":"NOT_FOUND","error_details":"valid product_id is required",'
                               '"message":"valid product_id is required"}')
        bids, asks = ([{"price": plain(price), "size": plain(size)} for price, size in side[:int(limit or 0) or None]]
                      for side in (image.bids, image.asks))
        return answer(200, json.dumps({"pricebook": {"product_id": image.symbol, "bids": bids, "asks": asks,
                                                     "time": _micros(self.told(self.clock()))}}))


def _names(asked: Any) -> list[str]:
    return [str(one) for one in asked] if isinstance(asked, list) else []


def _product_at(listed: Listed, alias: str) -> dict[str, Any]:
    """As the venue lists it, or, with `alias`, that of the same book in USDC."""
    quote = "USDC" if alias else listed.quote
    tick, lot = fixed(1, listed.price_decimals), fixed(1, listed.size_decimals)
    return {
        "product_id": f"{listed.base}-{quote}", "price": "", "base_increment": lot, "quote_increment": tick,
        "quote_min_size": "1", "quote_max_size": "150000000", "base_min_size": lot, "base_max_size": "3400",
        "is_disabled": False, "new": False, "status": "delisted" if listed is DELISTED else "online",
        "cancel_only": False, "limit_only": False,
        "post_only": False, "trading_disabled": listed is DELISTED, "auction_mode": False,
        "product_type": "SPOT", "quote_currency_id": quote, "base_currency_id": listed.base, "alias": alias,
        "alias_to": [f"{listed.base}-USDC"] if listed.quote == "USD" and not alias else [], "view_only": False,
        "price_increment": tick, "display_name": f"{listed.base}-{quote}", "product_venue": "CBE"}


def _product_ex(listed: Listed) -> dict[str, Any]:
    return {
        "id": listed.symbol, "base_currency": listed.base, "quote_currency": listed.quote,
        "quote_increment": fixed(1, listed.price_decimals), "base_increment": fixed(1, listed.size_decimals),
        "display_name": f"{listed.base}/{listed.quote}", "min_market_funds": "1", "margin_enabled": False,
        "post_only": False, "limit_only": False, "cancel_only": False, "trading_disabled": listed is DELISTED,
        "status": "delisted" if listed is DELISTED else "online", "status_message": "", "fx_stablecoin": False,
        "max_slippage_percentage": "0.02000000", "auction_mode": False}


def _best(listing: Listing) -> list[tuple[str, str]]:
    """(price, size) of the best bid and ask."""
    return [row for side in listing.flow.book.top(1) for row in listing.rows(side)]


def _spelt(said: Said, trade: Trade) -> tuple[str, str]:
    """Price and size of a trade."""
    return plain(said.listing.price(trade.price)), plain(said.listing.size(trade.size))


def _maker(trade: Trade) -> str:
    return "buy" if trade.sell else "sell"


def _ticker_event(kind: str, ticker: str) -> str:
    return f'{{"type":"{kind}","tickers":[{ticker}]}}'


def _decimals(step: str) -> int:
    return len(plain(step).partition(".")[2])


def _micros(time_ns: int) -> str:
    return f"{_nanos(time_ns // SECOND_NS * SECOND_NS)[:-1]}.{time_ns % SECOND_NS // 1000:06d}Z"


def _nanos(time_ns: int) -> str:
    """RFC 3339, without zeros at the end."""
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time_ns // SECOND_NS))
    return plain(f"{at}.{time_ns % SECOND_NS:09d}") + "Z"


def _uuid(number: int) -> str:
    return f"{number >> 48 & 0xffffffff:08x}-{number >> 32 & 0xffff:04x}-4000-8000-{number & 0xffffffff:012x}"


def _error(message: str, reason: str = "") -> str:
    error = {"type": "error", "message": message} | ({"reason": reason} if reason else {})
    return compact(error)
