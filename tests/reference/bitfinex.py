"""Bitfinex spot, from its documentation (sections 3 to 5 of the venue page): one connection, all its books.

Numbers are kept as the text they came in: the checksum is over that.
"""
from __future__ import annotations

import json
import zlib
from decimal import Decimal

from tests.reference.book import Level
from tests.reference.messages import Trade


class Book:
    """Price and amount texts of each level by price."""

    def __init__(self) -> None:
        self.sides: dict[str, dict[Decimal, tuple[str, str]]] = {"bid": {}, "ask": {}}

    def set(self, price: str, count: str, amount: str) -> bool:
        """One entry; False: asked to delete a level that is not there."""
        side = self.sides["ask" if amount.startswith("-") else "bid"]
        if count != "0":
            side[Decimal(price)] = price, amount
            return True
        return side.pop(Decimal(price), None) is not None

    def texts(self, side: str) -> list[tuple[str, str]]:
        """(price, amount), best first."""
        levels = self.sides[side]
        return [levels[price] for price in sorted(levels, reverse=side == "bid")]

    def levels(self, side: str) -> list[Level]:
        return [(Decimal(price), abs(Decimal(amount))) for price, amount in self.texts(side)]

    def checksum(self) -> int:
        """Section 4.4, signed."""
        bids, asks = self.texts("bid"), self.texts("ask")
        texts = [text for rank in range(25) for side in (bids, asks) if rank < len(side) for text in side[rank]]
        value = zlib.crc32(":".join(texts).encode())
        return value - (1 << 32) if value >= 1 << 31 else value


class Connection:
    """What was received on one socket."""

    def __init__(self) -> None:
        self.flags = 0
        self.channels: dict[str, tuple[str, str]] = {}      # number: name, symbol
        self.books: dict[str, Book] = {}
        self.trades: list[Trade] = []
        self.numbers: list[int] = []
        self.checksums: list[bool] = []                     # held?
        self.heartbeats = self.early = self.deletes = self.unknown_deletes = 0
        self._due: set[str] = set()                         # channels whose snapshot is yet to come

    def take(self, text: bytes) -> str | None:
        """The symbol whose book this message changed."""
        frame = json.loads(text, parse_float=str, parse_int=str)
        if isinstance(frame, dict):
            self._event(frame)
            return None
        number, payload, *tail = frame
        if isinstance(payload, str) and payload != "hb":
            word, (payload, *tail) = payload, tail
        else:
            word = payload if payload == "hb" else ""
        if self.flags & 65536:
            self.numbers.append(int(tail[0]))
        name, symbol = self.channels.get(number, ("", ""))
        self.heartbeats += word == "hb"
        self.early += not name
        if word == "cs":
            self.checksums.append(self.books[symbol].checksum() == int(payload))
        elif word == "te" and name == "trades":
            id_, time, amount, price = payload
            self.trades.append(Trade(symbol, int(id_), Decimal(price), abs(Decimal(amount)),
                                     "sell" if amount.startswith("-") else "buy", int(time) * 10**6))
        elif name == "book" and not word and symbol.startswith("t"):
            self._book(number, symbol, payload)
            return symbol
        return None

    def _event(self, frame: dict) -> None:
        if frame["event"] == "conf" and frame["status"] == "OK":
            self.flags = int(frame["flags"])
        elif frame["event"] == "subscribed":
            self.channels[frame["chanId"]] = frame["channel"], frame["symbol"]
            self._due.add(frame["chanId"])
        elif frame["event"] == "unsubscribed":
            self.channels.pop(frame["chanId"], None)

    def _book(self, number: str, symbol: str, payload: list) -> None:
        rows = payload if not payload or isinstance(payload[0], list) else [payload]
        if number in self._due:
            self._due.discard(number)
            self.books[symbol] = Book()
        for price, count, amount in rows:
            self.deletes += count == "0"
            self.unknown_deletes += not self.books[symbol].set(price, count, amount)
