"""Slow, obvious clients of simulated venues for tests: the documented procedures, json, Decimal, plain dictionaries.

They share no code with mantra's client or with the simulator.
"""
from __future__ import annotations

import json
import ssl
import time
import urllib.error
import urllib.request
import zlib
from decimal import Decimal

import websocket

from tests.end_to_end.feeds import LONG, mark

SIDES = ("bids", "asks")


class Gap(Exception):
    """The venue's own numbers say that a message is missing."""


def get(url, ca_file=None):
    """(status, headers, body) of a REST request."""
    context = ssl.create_default_context(cafile=ca_file) if ca_file else None
    try:
        with urllib.request.urlopen(url, timeout=LONG, context=context) as answer:
            return answer.status, dict(answer.headers), answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read().decode()


def levels(rows):
    return {Decimal(price): Decimal(size) for price, size in rows}


class SlowBook:
    """Levels by price, and the venue's number of the last message in them."""

    def __init__(self, picture, sequence):
        self.unknown = 0                # removals of what was not there
        self.bids, self.asks, self.sequence = levels(picture["bids"]), levels(picture["asks"]), sequence

    def apply(self, bids, asks, sequence):
        for book, rows in ((self.bids, bids), (self.asks, asks)):
            for price, size in levels(rows).items():
                if size:
                    book[price] = size
                else:
                    self.unknown += book.pop(price, None) is None
        self.sequence = sequence

    def crossed(self):
        return max(self.bids) >= min(self.asks)


class Client:
    """One connection to a venue's book of one symbol. `pump` reads until the book is so many messages further."""

    def __init__(self, endpoint, symbol):
        self.endpoint, self.symbol = endpoint, symbol
        self.waiting, self.book, self.applied, self.seen = [], None, 0, 0
        ca_file = endpoint.get("ca_file")
        self.socket = websocket.create_connection(
            endpoint["websocket"] + self.path(), timeout=LONG,
            sslopt={"ca_certs": ca_file} if ca_file else None)
        self.greet()

    def close(self):
        self.socket.close()

    def rest(self, path):
        status, _, body = get(self.endpoint["rest"] + path, self.endpoint.get("ca_file"))
        assert status == 200, (status, body)
        return json.loads(body)

    def pump(self, messages, timeout=LONG):
        end = time.monotonic() + timeout
        self.applied, tries = 0, 0
        while self.applied < messages:
            assert time.monotonic() < end, f"{self.applied} of {messages} messages applied"
            event = self.event(json.loads(self.socket.recv()))
            if event is None:
                continue
            self.seen += 1
            self.waiting.append(event)
            if self.book is None and tries < 40:
                tries += 1
                self.splice()
            if self.book is not None:
                for one in self.waiting:
                    self.take(one)
                self.waiting.clear()
        return self.book

    def true_book(self):
        """The simulator's own book at the sequence of ours."""
        told = self.rest(f"/simulator/book?symbol={self.symbol}&sequence={self.book.sequence}")
        return SlowBook(told, told["sequence"])

    def equals_truth(self):
        truth = self.true_book()
        return (truth.bids, truth.asks) == (self.book.bids, self.book.asks)


class BinanceClient(Client):
    """Section 4.4 of the venue's document."""

    def path(self):
        return f"/ws/{self.symbol.lower()}@depth@100ms"

    def greet(self):
        pass

    def event(self, message):
        return message if message.get("e") == "depthUpdate" else None

    def splice(self):
        picture = self.rest(f"/api/v3/depth?symbol={self.symbol}&limit=5000")
        sequence = picture["lastUpdateId"]
        if sequence < self.waiting[0]["U"]:
            return
        self.waiting = [event for event in self.waiting if event["u"] > sequence]
        if self.waiting and not self.waiting[0]["U"] <= sequence + 1 <= self.waiting[0]["u"]:
            return
        self.book = SlowBook(picture, sequence)

    def take(self, event):
        if event["u"] <= self.book.sequence:
            return
        if event["U"] > self.book.sequence + 1:
            raise Gap(f"{self.book.sequence} then {event['U']}")
        self.book.apply(event["b"], event["a"], event["u"])
        self.applied += 1


class BitstampClient(Client):
    """Section 4.3 of the venue's document. Nothing here can notice a lost message."""

    def path(self):
        return "/"

    def greet(self):
        self.channel = f"diff_order_book_{self.symbol}"
        self.socket.send(json.dumps({"event": "bts:subscribe", "data": {"channel": self.channel}}))
        answer = self.socket.recv()
        assert answer == f'{{"event":"bts:subscription_succeeded","channel":"{self.channel}","data":{{}}}}'

    def event(self, message):
        return message["data"] if message["event"] == "data" and message["channel"] == self.channel else None

    def splice(self):
        picture = self.rest(f"/api/v2/order_book/{self.symbol}/?group=1&_={time.time_ns()}")
        sequence = int(picture["microtimestamp"])
        if int(self.waiting[0]["microtimestamp"]) <= sequence:
            self.book = SlowBook(picture, sequence)

    def take(self, event):
        sequence = int(event["microtimestamp"])
        if sequence > self.book.sequence:
            self.book.apply(event["bids"], event["asks"], sequence)
            self.applied += 1


class KrakenClient(Client):
    """Sections 4.1 to 4.3 of the venue's document, v2: cut to the depth after each message, then the checksum holds."""

    depth = 25
    keep = None         # levels a side; as many as the depth
    version = "/v2"

    def path(self):
        return self.version

    def greet(self):
        assert json.loads(self.socket.recv())["channel"] == "status"
        self.ask({"method": "subscribe", "req_id": 1,
                  "params": {"channel": "book", "symbol": [self.symbol], "depth": self.depth}})

    def ask(self, request):
        self.socket.send(json.dumps(request))

    def pump(self, messages, timeout=LONG):
        end = time.monotonic() + timeout
        self.applied = 0
        while self.applied < messages:
            assert time.monotonic() < end, f"{self.applied} of {messages} messages applied"
            self.take(json.loads(self.socket.recv(), parse_float=str))
        return self.book

    def take(self, message):
        if isinstance(message, dict) and message.get("channel") == "book":
            (data,) = message["data"]
            rows = [[(row["price"], row["qty"]) for row in data[side]] for side in SIDES]
            self.update(rows, message["type"] == "snapshot", data["checksum"])

    def update(self, rows, whole, checksum):
        self.seen += 1
        if whole:
            self.book = SlowBook(dict(zip(SIDES, rows, strict=True)), 0)
        elif self.book is not None:
            self.book.apply(*rows, 0)
            for book, worst in ((self.book.bids, min), (self.book.asks, max)):
                while len(book) > (self.keep or self.depth):
                    del book[worst(book)]
        if checksum is not None and self.book is not None and self.checksum() != checksum:
            raise Gap(f"checksum {self.checksum()}, not {checksum}")
        self.applied += 1

    def checksum(self):
        """Over the best ten asks, then bids; a Decimal keeps the zeros that it was written with."""
        best = [*sorted(self.book.asks.items())[:10], *sorted(self.book.bids.items(), reverse=True)[:10]]
        text = "".join(f"{number:f}".replace(".", "").lstrip("0") for row in best for number in row)
        return zlib.crc32(text.encode())

    def equals_truth(self):
        best = (sorted(side.items(), reverse=place == 0) for place, side in enumerate((self.book.bids, self.book.asks)))
        return self.rest(f"/simulator/was?symbol={self.symbol}&depth={self.depth}&mark={mark(*best)}")["true"]


class KrakenV1Client(KrakenClient):
    """Section 4.5: the older generation."""

    version = "/"

    def greet(self):
        assert json.loads(self.socket.recv())["event"] == "systemStatus"
        pair = "/".join({"BTC": "XBT"}.get(code, code) for code in self.symbol.split("/"))
        self.ask({"event": "subscribe", "pair": [pair], "subscription": {"name": "book", "depth": self.depth}})

    def take(self, message):
        if isinstance(message, list) and message[-2] == f"book-{self.depth}":
            sides = {name: rows for part in message[1:-2] for name, rows in part.items()}
            whole = "as" in sides
            rows = [[row[:2] for row in sides.get(name, ())] for name in (("bs", "as") if whole else ("b", "a"))]
            self.again = {row[0] for rows in sides.values() for row in rows if row[3:] == ["r"]}
            self.update(rows, whole, None if whole else int(sides["c"]))


CLIENTS = {"binance": BinanceClient, "bitstamp": BitstampClient, "kraken": KrakenClient}
