"""Bitstamp spot, from its documentation (sections 4 and 5 of the venue page)."""
from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from urllib.parse import urlsplit

from tests.reference.book import Book
from tests.reference.messages import Diff, Image, Trade, changes, levels


def decode(text: bytes) -> Diff | Image | Trade | None:
    """None: of no interest here (an acknowledgement, a heartbeat)."""
    frame = json.loads(text, parse_float=Decimal)
    channel, data = frame.get("channel", ""), frame.get("data")
    if channel == "" and "bids" in frame:                           # an answer of REST
        return image(None, frame)
    if frame["event"] == "data" and channel.startswith("diff_order_book_"):
        number = int(data["microtimestamp"])
        symbol = channel.removeprefix("diff_order_book_")
        return Diff(symbol, number, number, number * 1000, changes(data["bids"], data["asks"]))
    if frame["event"] == "data" and channel.startswith("order_book_"):
        return image(channel.removeprefix("order_book_"), data)
    if frame["event"] == "trade" and channel.startswith("live_trades_"):
        ((price, size),) = levels([[data["price_str"], data["amount_str"]]])
        aggressor = {0: "buy", 1: "sell"}[data["type"]]
        return Trade(channel.removeprefix("live_trades_"), data["id"], price, size, aggressor,
                     int(data["microtimestamp"]) * 1000)
    return None


def image(symbol: str | None, data: dict) -> Image:
    number = int(data["microtimestamp"])
    return Image(symbol, number, number * 1000, levels(data["bids"]), levels(data["asks"]))


def snapshot_symbol(url: str) -> str | None:
    parts = urlsplit(url).path.strip("/").split("/")
    return parts[parts.index("order_book") + 1] if "order_book" in parts else None


class Synchroniser:
    """Section 4.3. Nothing proves that no diff was lost, so there are no gaps to count.

    A recording cannot be asked for another snapshot: where the first diff is later than the snapshot the overlap is not
    proven, which `proven` says, and the book is kept all the same.
    """

    def __init__(self) -> None:
        self.book = Book()
        self.id: int | None = None          # microtimestamp of the book; None: not synchronised
        self.proven: bool | None = None     # None: no diff yet
        self.buffer: list[Diff] = []
        self.gaps = self.old = self.unknown_deletes = self.deletes = 0

    def on_snapshot(self, image: Image) -> Iterator[Image | Diff]:
        """Yields what was applied, each as the book has just taken it: the image, then the diffs that waited for it."""
        self.book.replace(image.bids, image.asks)
        self.id = image.last
        yield image
        waiting, self.buffer = self.buffer, []
        yield from (diff for diff in waiting if self.on_diff(diff))

    def on_diff(self, diff: Diff) -> bool:
        """True: applied."""
        if self.id is None:
            self.buffer.append(diff)                                # step 1
            return False
        if self.proven is None:
            self.proven = diff.last <= self.id                      # step 2
        if diff.last <= self.id:                                    # steps 3 and 4
            self.old += 1
            return False
        for side, price, size in diff.changes:
            self.deletes += not size
            self.unknown_deletes += not self.book.apply(side, price, size)
        self.id = diff.last
        return True
