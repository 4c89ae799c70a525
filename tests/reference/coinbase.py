"""Coinbase spot, both generations, from its documentation (sections 4 to 6 of the venue page): one connection.

Recordings tell whose side a trade names: Exchange tickers have the taker's, and a trade at the ask was a taker's buy.
"""
from __future__ import annotations

import json
from decimal import Decimal
from itertools import pairwise

from tests.reference.book import Book
from tests.reference.messages import Trade

SIDES = {"bid": "bid", "buy": "bid", "offer": "ask", "sell": "ask"}
TAKERS = {"buy": "sell", "sell": "buy"}     # of the maker's side


def time_ns(text: str) -> int:
    """RFC 3339 in UTC, by the calendar of the standard library."""
    from datetime import datetime, timezone

    seconds, _, fraction = text.rstrip("Z").partition(".")
    whole = datetime.strptime(seconds, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    return int(whole.timestamp()) * 10**9 + int(fraction.ljust(9, "0"))


class Connection:
    """What was received on one socket."""

    def __init__(self) -> None:
        self.books: dict[str, Book] = {}
        self.trades: list[Trade] = []
        self.old_trades: list[Trade] = []                   # from before the subscription
        self.takers: dict[tuple[str, int], str] = {}        # by product and trade id, as tickers say
        self.numbers: list[int] = []
        self.deletes = self.unknown_deletes = self.crossed = self.updates = 0

    @property
    def lost(self) -> int:
        """Messages that the numbers say are missing."""
        return sum(later - number - 1 for number, later in pairwise([-1, *self.numbers]))

    def take(self, text: bytes) -> None:
        frame = json.loads(text, parse_float=Decimal)
        if "channel" in frame:
            self.numbers.append(frame["sequence_num"])
            for event in frame["events"]:
                if frame["channel"] == "l2_data":
                    self._book(event["product_id"], event["type"] == "snapshot",
                               [(row["side"], row["price_level"], row["new_quantity"]) for row in event["updates"]])
                elif frame["channel"] == "market_trades":
                    trades = self.old_trades if event["type"] == "snapshot" else self.trades
                    trades += sorted((self._trade(row) for row in event["trades"]), key=lambda trade: trade.id)
        elif frame["type"] == "snapshot":
            self._book(frame["product_id"], True, [("buy", *row) for row in frame["bids"]] +
                       [("sell", *row) for row in frame["asks"]])
        elif frame["type"] == "l2update":
            self._book(frame["product_id"], False, frame["changes"])
        elif frame["type"] in ("match", "last_match"):
            (self.trades if frame["type"] == "match" else self.old_trades).append(self._trade(frame))
        elif frame["type"] == "ticker":
            self.takers[frame["product_id"], frame["trade_id"]] = frame["side"]

    def _book(self, product: str, whole: bool, rows: list) -> None:
        if whole:
            self.books[product] = Book()
        self.updates += 0 if whole else len(rows)
        book = self.books[product]
        for side, price, size in rows:
            known = book.apply(SIDES[side], Decimal(price), Decimal(size))
            self.deletes += not Decimal(size)
            self.unknown_deletes += not known
        self.crossed += book.crossed()

    def _trade(self, row: dict) -> Trade:
        return Trade(row["product_id"], int(row["trade_id"]), Decimal(row["price"]), Decimal(row["size"]),
                     TAKERS[row["side"].lower()], time_ns(row["time"]))
