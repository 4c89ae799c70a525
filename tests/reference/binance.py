"""Binance spot, from its documentation (sections 4 to 6 of the venue page)."""
from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

from tests.reference.book import Book
from tests.reference.messages import Diff, Image, Ticker, Trade, changes, levels


def decode(text: bytes) -> Diff | Image | Trade | Ticker | None:
    """None: of no interest here (an answer to a request, a kline)."""
    frame = json.loads(text)
    stream, data = frame.get("stream", ""), frame.get("data", frame)
    event = data.get("e")
    if event == "depthUpdate":
        return Diff(data["s"], data["U"], data["u"], nanoseconds(data["E"]), changes(data["b"], data["a"]))
    if event == "trade":
        return trade(data, data["t"])
    if event == "aggTrade":
        return trade(data, data["a"])
    if "lastUpdateId" in data:
        symbol = stream.split("@")[0].upper() or None
        return Image(symbol, data["lastUpdateId"], 0, levels(data["bids"]), levels(data["asks"]))
    if stream.endswith("@bookTicker"):
        (bid,), (ask,) = levels([[data["b"], data["B"]]]), levels([[data["a"], data["A"]]])
        return Ticker(data["s"], data["u"], bid, ask)
    return None


def trade(data: dict, number: int) -> Trade:
    ((price, size),) = levels([[data["p"], data["q"]]])
    return Trade(data["s"], number, price, size, "sell" if data["m"] else "buy", nanoseconds(data["T"]))


def nanoseconds(time: int) -> int:
    """Milliseconds, or microseconds where the URL asked for them."""
    return time * (1_000_000 if time < 10**14 else 1_000)


def snapshot_symbol(url: str) -> str | None:
    parts = urlsplit(url)
    return parse_qs(parts.query)["symbol"][0] if parts.path.endswith("/depth") else None


class Synchroniser:
    """Section 4.4, step by step."""

    def __init__(self) -> None:
        self.book = Book()
        self.id: int | None = None          # last update id in the book; None: not synchronised
        self.buffer: list[Diff] = []
        self.gaps = self.old = self.unknown_deletes = self.deletes = 0

    def on_snapshot(self, image: Image) -> Iterator[Image | Diff]:
        """Yields what was applied, each as the book has just taken it: the image, then the diffs that waited for it."""
        if self.buffer and image.last < self.buffer[0].first:       # step 2: too old, another is needed
            return
        self.book.replace(image.bids, image.asks)                   # step 4
        self.id = image.last
        yield image
        waiting, self.buffer = self.buffer, []
        yield from (diff for diff in waiting if self.on_diff(diff))

    def on_diff(self, diff: Diff) -> bool:
        """True: applied."""
        if self.id is None:
            self.buffer.append(diff)                                # step 1
            return False
        if diff.last <= self.id:                                    # steps 3 and 5
            self.old += 1
            return False
        if diff.first > self.id + 1:                                # step 5: lost events
            self.gaps += 1
            self.book, self.id, self.buffer = Book(), None, [diff]
            return False
        for side, price, size in diff.changes:
            self.deletes += not size
            self.unknown_deletes += not self.book.apply(side, price, size)
        self.id = diff.last
        return True
