"""Slow, obvious clients of the venues whose books come in the stream: `websockets`, json, Decimal, dictionaries.

They share no code with mantra's client or with the simulator; what the documents promise they assert as they read.
"""
from __future__ import annotations

import json
import time
import zlib
from contextlib import ExitStack, suppress
from decimal import Decimal
from urllib.parse import urlencode

from websockets.sync.client import connect

from tests.end_to_end.feeds import LONG, mark
from tests.end_to_end.slow_client import get

GARBAGE = ("", "nonsense", "[]", "7", '"text"', "{}", "null", "[" * 5000, '{"type":"subscribe"}', '{"type":7}',
           '{"type":"subscribe","channel":["level2"],"product_ids":{}}', '{"event":"conf","flags":"all"}',
           '{"type":"subscribe","channel":"level2","product_ids":[["ETH-BTC"],{},null,7]}',
           '{"type":"subscribe","channels":7}', '{"type":"subscribe","channels":[7,null,{},[]],"product_ids":7}',
           '{"type":"subscribe","channels":[{"name":[]}]}',
           '{"type":"subscribe","channels":["matches"],"product_ids":[{}]}',
           '{"event":["subscribe"]}', '{"event":"subscribe","channel":{},"symbol":[],"prec":{},"len":[]}',
           '{"event":"subscribe","channel":"book","symbol":"tETHBTC","prec":["P0"],"len":{}}',
           '{"event":"unsubscribe","chanId":[]}', '{"event":"ping","cid":{"a":[]}}')


class Lexeme(str):
    """A number as it was written."""


class StreamClient:
    """One connection; `books` {symbol: ({bid price: size}, {ask price: size})}, `frames` all that was read."""

    path = ""

    def __init__(self, endpoint):
        self.endpoint = endpoint
        self.opened = ExitStack()
        self.socket = self.opened.enter_context(
            connect(endpoint["websocket"] + self.path, max_size=None, max_queue=None, compression=None,
                    close_timeout=0.3))
        self.books, self.frames = {}, []

    def send(self, **request):
        self.socket.send(json.dumps(request))

    def read(self, timeout=LONG):
        frame = json.loads(self.socket.recv(timeout), parse_float=Lexeme, parse_int=Lexeme)
        self.frames.append(frame)
        self.apply(frame)
        return frame

    def until(self, wanted, timeout=LONG):
        """Read until `wanted(frame)` is true; that frame."""
        deadline = time.monotonic() + timeout
        while not wanted(frame := self.read(max(0.0, deadline - time.monotonic()))):
            pass
        return frame

    def pump(self, seconds):
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                self.read(left)
            except TimeoutError:
                return

    def settle(self, moment=0.003):
        """Read until nothing comes for a moment."""
        with suppress(TimeoutError):
            while True:
                self.read(moment)

    def read_all(self):
        """Read a recording to its end."""
        played, of = 0, 1
        while played < of:
            self.settle(0.05)
            _, told = self.rest("/simulator/state")
            played, of = told["played"], told["of"]
        self.settle(0.5)

    def set(self, symbol, side, price, size):
        """Make a level what the venue says; it may remove one that came and went between two messages."""
        level = self.books[symbol][side]
        if Decimal(size):
            level[Decimal(price)] = Decimal(size)
        else:
            level.pop(Decimal(price), None)

    def levels(self, symbol):
        return self.books[symbol]

    def crossed(self, symbol):
        bids, asks = self.levels(symbol)
        return max(bids) >= min(asks)

    def rest(self, path):
        status, _, body = get(self.endpoint["rest"] + path)
        return status, json.loads(body)

    def was_true(self, symbol, depth=0, looks=5):
        """Was this book, its best `depth` levels (0: all of them), ever the venue's within the last seconds?

        What is on its way is read first, and looked again then: between two frames of one change a book may be none
        that was.
        """
        self.settle()
        bids, asks = self.levels(symbol)
        sides = sorted(bids.items(), reverse=True)[:depth or None], sorted(asks.items())[:depth or None]
        query = urlencode({"symbol": symbol, "depth": depth, "mark": mark(*sides)})
        was = self.rest(f"/simulator/was?{query}")[1]["true"]
        return was or (looks > 1 and self.was_true(symbol, depth, looks - 1))

    def close(self):
        self.opened.close()


class AdvancedTrade(StreamClient):
    """Coinbase Advanced Trade."""

    numbers = None          # of the last frame

    def subscribe(self, channel, *products):
        self.send(type="subscribe", channel=channel, product_ids=products)

    def apply(self, frame):
        if "sequence_num" not in frame:
            return
        number = int(frame["sequence_num"])
        assert number == (0 if self.numbers is None else self.numbers + 1), f"{number} after {self.numbers}"
        self.numbers = number
        for event in frame["events"] if frame["channel"] == "l2_data" else ():
            symbol = event["product_id"]
            if event["type"] == "snapshot":
                self.books[symbol] = {}, {}
            for row in event["updates"]:
                self.set(symbol, row["side"] == "offer", row["price_level"], row["new_quantity"])


class Exchange(StreamClient):
    """Coinbase Exchange."""

    def subscribe(self, channels, *products):
        self.send(type="subscribe", channels=channels, product_ids=products)

    def apply(self, frame):
        symbol = frame.get("product_id")
        if frame["type"] == "snapshot":
            self.books[symbol] = tuple({Decimal(price): Decimal(size) for price, size in frame[side]}
                                       for side in ("bids", "asks"))
        for side, price, size in frame["changes"] if frame["type"] == "l2update" else ():
            self.set(symbol, side == "sell", price, size)


class Bitfinex(StreamClient):
    """Bitfinex. `rows` {channel's id: ({key: row}, {key: row})}: of P0 by price, of R0 by order, all as written."""

    path = "/ws/2"
    number = checked = 0

    def __init__(self, endpoint, flags=65536 + 131072):
        super().__init__(endpoint)
        self.flags, self.channels, self.rows, self.early = flags, {}, {}, []
        self.send(event="conf", flags=flags)

    def subscribe(self, channel, symbol, **more):
        self.send(event="subscribe", channel=channel, symbol=symbol, **more)

    def book(self, symbol, prec="P0", length="25"):
        self.subscribe("book", symbol, prec=prec, len=length)

    def id(self, symbol, channel="book", prec="P0"):
        return next(number for number, of in self.channels.items()
                    if (of["symbol"], of["channel"], of.get("prec", prec)) == (symbol, channel, prec))

    def apply(self, frame):
        if isinstance(frame, dict):
            if frame["event"] == "subscribed":
                self.channels[frame["chanId"]] = frame
                for early in [early for early in self.early if early[0] == frame["chanId"]]:
                    self.early.remove(early)
                    self.data(early)
            return
        if self.flags & 65536:
            number = int(frame[-1 if not self.flags & 32768 else -2])
            assert number == self.number + 1, f"{number} after {self.number}"
            self.number = number
        if frame[0] in self.channels:
            self.data(frame)
        else:
            self.early.append(frame)

    def data(self, frame):
        channel, payload = self.channels[frame[0]], frame[1]
        if channel["channel"] != "book" or payload == "hb":
            return
        if payload == "cs":
            self.checked += 1
            assert int(frame[2]) == self.checksum(frame[0]), f"{channel['symbol']} {channel['prec']}"
            return
        if frame[0] not in self.rows:
            self.rows[frame[0]] = {}, {}
        elif not isinstance(payload[0], list):
            payload = [payload]
        for row in payload:
            key, gone = (row[0], row[1] == "0")
            side = self.rows[frame[0]][row[2].startswith("-")]
            if gone:
                assert side.pop(key, None), f"{channel['symbol']}: {key} was not there"
            else:
                side[key] = row
            assert len(side) <= int(channel["len"]), f"{channel['symbol']}: more than {channel['len']} levels"

    def levels(self, symbol):
        number = next(number for number in self.rows if self.channels[number]["symbol"] == symbol)
        price, levels = int(self.channels[number]["prec"] == "R0"), ({}, {})
        for side, rows in zip(levels, self.rows[number], strict=True):
            for row in rows.values():
                side[Decimal(row[price])] = side.get(Decimal(row[price]), 0) + abs(Decimal(row[2]))
        return levels

    def checksum(self, number):
        raw = self.channels[number]["prec"] == "R0"
        price = (lambda row: (Decimal(row[1]), int(row[0]))) if raw else (lambda row: (Decimal(row[0]), 0))
        bids = sorted(self.rows[number][0].values(), key=lambda row: (-price(row)[0], price(row)[1]))[:25]
        asks = sorted(self.rows[number][1].values(), key=price)[:25]
        parts = []
        for rank in range(25):
            for side in (bids, asks):
                if rank < len(side):
                    parts += [side[rank][0], side[rank][2]]
        found = zlib.crc32(":".join(parts).encode())
        return found - 2**32 if found >= 2**31 else found


class BitstampOrders(StreamClient):
    """Bitstamp's live_orders of one market over its REST book of orders: `orders` {id: (side, price, amount)}."""

    def __init__(self, endpoint, market):
        super().__init__(endpoint)
        self.market, self.orders, self.last, self.waiting, self.trades = market, None, None, [], []
        for channel in (f"live_orders_{market}", f"live_trades_{market}"):
            self.send(event="bts:subscribe", data={"channel": channel})
        self.until(lambda frame: frame["event"].startswith("order"))
        _, book = self.rest(f"/api/v2/order_book/{market}/?group=2&_={time.time_ns()}")
        self.orders = {number: (side, Decimal(price), Decimal(amount))
                       for side, rows in enumerate((book["bids"], book["asks"])) for price, amount, number in rows}
        self.since = int(book["microtimestamp"])
        for frame in self.waiting:
            self.change(frame)

    def apply(self, frame):
        if frame["event"] == "trade":
            self.trades.append(frame["data"])
        elif frame["event"].startswith("order"):
            assert self.last in (None, frame["pre_event_id"]), f"{frame['pre_event_id']} after {self.last}"
            self.last = frame["event_id"]
            if self.orders is None:
                self.waiting.append(frame)
            else:
                self.change(frame)

    def change(self, frame):
        order, kind = frame["data"], frame["event"]
        if int(order["microtimestamp"]) <= self.since:
            return
        if order["order_subtype"] == "2":       # in the book before it is matched, with no price
            assert order["price_str"] == ("999999999" if order["order_type"] == "0" else "0")
            return
        number = order["id_str"]
        assert (number in self.orders) is (kind != "order_created"), f"{kind} {number}"
        if kind == "order_deleted":
            del self.orders[number]
        else:
            self.orders[number] = int(order["order_type"]), Decimal(order["price_str"]), Decimal(order["amount_str"])

    def levels(self, symbol):
        levels = {}, {}
        for side, price, amount in self.orders.values():
            levels[side][price] = levels[side].get(price, 0) + amount
        return levels
