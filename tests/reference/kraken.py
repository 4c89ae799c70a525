"""Kraken spot, from its documentation (sections 4 and 5 of the venue page): one connection, v2 or v1, all its books.

Numbers are kept as the text they came in: the checksum is over that. Symbols are v2's.
"""
from __future__ import annotations

import json
import zlib
from datetime import datetime, timezone
from decimal import Decimal

from tests.reference.book import Level
from tests.reference.messages import Trade

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class Book:
    """Price and size texts of each level by price."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.sides: dict[str, dict[Decimal, tuple[str, str]]] = {"bid": {}, "ask": {}}

    def texts(self, side: str) -> list[tuple[str, str]]:
        """(price, size), best first."""
        levels = self.sides[side]
        return [levels[price] for price in sorted(levels, reverse=side == "bid")]

    def levels(self, side: str) -> list[Level]:
        return [(Decimal(price), Decimal(size)) for price, size in self.texts(side)]

    def apply(self, side: str, rows: list[tuple[str, str]]) -> int:
        """The entries in their order. How many asked to delete a level that is not there."""
        levels, unknown = self.sides[side], 0
        for price, size in rows:
            if Decimal(size):
                levels[Decimal(price)] = price, size
            else:
                unknown += levels.pop(Decimal(price), None) is None
        return unknown

    def cut(self) -> None:
        """Section 4.2: after each message, to the depth that was subscribed."""
        for side, levels in self.sides.items():
            for price in sorted(levels, reverse=side == "bid")[self.depth:]:
                del levels[price]

    def checksum(self) -> int:
        """Section 4.3."""
        rows = self.texts("ask")[:10] + self.texts("bid")[:10]
        return zlib.crc32("".join(text.replace(".", "").lstrip("0") for row in rows for text in row).encode())


class Connection:
    """What was received on one socket; `depth` None: as its acknowledgements say."""

    def __init__(self, depth: int | None = None) -> None:
        self.depth = depth
        self.books: dict[str, Book] = {}
        self.trades: list[Trade] = []
        self.history: list[Trade] = []
        self.checksums: list[bool] = []             # held?
        self.heartbeats = self.controls = self.other = self.unknown_deletes = 0
        self.subscribed = 10
        self.crossed: set[str] = set()

    def take(self, text: bytes) -> list[str]:
        """The symbols whose books this message changed."""
        frame = json.loads(text, parse_float=str, parse_int=str)
        if isinstance(frame, list):
            return self._array(frame)
        if "heartbeat" in (frame.get("channel"), frame.get("event")) or "pong" in (frame.get("method"),
                                                                                   frame.get("event")):
            self.heartbeats += 1
        elif frame.get("channel") == "book":
            return [self._book(each["symbol"], frame["type"] == "snapshot",
                               *([(row["price"], row["qty"]) for row in each[side]] for side in ("asks", "bids")),
                               each.get("checksum")) for each in frame["data"]]
        elif frame.get("channel") == "trade":
            for each in frame["data"]:
                moment = datetime.fromisoformat(each["timestamp"].replace("Z", "+00:00")) - EPOCH
                micros = (moment.days * 86400 + moment.seconds) * 10**6 + moment.microseconds
                (self.history if frame["type"] == "snapshot" else self.trades).append(
                    Trade(each["symbol"], int(each["trade_id"]), Decimal(each["price"]), Decimal(each["qty"]),
                          each["side"], micros * 1000))
        elif frame.get("channel") in (None, "status"):
            self.controls += 1
            part = frame.get("result") or frame.get("subscription") or {}
            self.subscribed = int(part.get("depth", self.subscribed))
        else:
            self.other += 1
        return []

    def _array(self, frame: list) -> list[str]:
        _, *parts, name, pair = frame
        symbol = "/".join({"XBT": "BTC", "XDG": "DOGE"}.get(code, code) for code in pair.split("/"))
        if name == "trade":
            self.trades += [
                Trade(symbol, 0, Decimal(price), Decimal(size), {"b": "buy", "s": "sell"}[side],
                      int(Decimal(time) * 10**9)) for price, size, time, side, *_ in parts[0]]
        elif name.startswith("book-"):
            said = {key: value for part in parts for key, value in part.items()}
            asks, bids = ([(row[0], row[1]) for row in said.get(f"{side}s", said.get(side, []))] for side in "ab")
            return [self._book(symbol, "as" in said, asks, bids, said.get("c"))]
        else:
            self.other += 1
        return []

    def _book(self, symbol: str, whole: bool, asks: list[tuple[str, str]], bids: list[tuple[str, str]],
              checksum: str | None) -> str:
        if whole:
            self.books[symbol] = Book(self.depth or self.subscribed)
        book = self.books[symbol]
        self.unknown_deletes += book.apply("ask", asks) + book.apply("bid", bids)
        book.cut()
        if checksum is not None:
            self.checksums.append(book.checksum() == int(checksum))
        best = book.levels("bid")[:1], book.levels("ask")[:1]
        if all(best) and best[0][0][0] >= best[1][0][0]:
            self.crossed.add(symbol)
        return symbol
