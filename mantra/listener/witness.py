"""witness: a venue's two accounts of one book held against each other: kept by level, and derived from every order.

Where a run has both, every second the best levels that the orders lead to are compared with the book's own past: each
must have held that size at some moment around. One that did not, twice in a row, contradicts the book, which is then
suspect and taken anew. It finds what the stream of levels cannot prove, a lost diff of Bitstamp's for one.
"""
from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial

from mantra.core.messages import Kind, Reason, Trust
from mantra.listener.connection import Connection
from mantra.listener.kept import Kept
from mantra.listener.past import Level, Past
from mantra.runtime.actor import Actor
from mantra.runtime.spine import Spine

log = logging.getLogger("mantra.listener")

LEVELS = 50         # a side
EVERY_S = 1.0       # and so far may the two streams be apart


class Pair:
    """One symbol's two books: `kept` of `connection`, by level, and the one that `orders` lead to."""

    def __init__(self, spine: Spine, connection: Connection, kept: Kept, orders: Connection, its: Kept) -> None:
        self._clock, self.connection, self.kept = spine.clock, connection, kept
        self._levels, self._orders = connection.feed.books[kept.index], orders.feed.books[its.index]
        self._past = Past(self._levels, connection.updates)
        self._apart = spine.clock.ns(10**9)         # nanoseconds of 10^9 cycles
        self._since = spine.clock.cycles()
        self._said: dict[Level, int] = {}
        self._said_at = 0
        self._doubts: set[Level] = set()

    def look(self) -> bool:
        """Compare what was said at the last look, and listen again. True: the book is contradicted."""
        span = int(EVERY_S * 1e18 / self._apart)
        if not self._past.follow():
            self._since = self._clock.cycles()
        before, self._doubts, levels = self._doubts, set(), self._levels.image(0)
        if self._said and self._since <= self._said_at - span and levels.trust >= Trust.UNVERIFIED:
            _, differ = self._past.differences(self._said, LEVELS, self._said_at - span, self._said_at + span)
            self._doubts = {one.level for one in differ}
        image = self._orders.image(LEVELS)
        believed = image.trust >= Trust.UNVERIFIED and image.instrument == levels.instrument
        self._said_at = self._clock.cycles()
        self._said = {(int(kind), price): size for kind, side in ((Kind.BID, image.bids), (Kind.ASK, image.asks))
                      for price, size in side.tolist()} if believed else {}
        return bool(before & self._doubts)


class Witness(Actor):
    """Of one venue: the connections that keep its books by level, and those that keep them by order."""

    def __init__(self, name: str, levels: Sequence[Connection], orders: Sequence[Connection]) -> None:
        super().__init__(name, (), ())
        self._levels, self._orders = levels, orders

    def setup(self, spine: Spine) -> None:
        self._pairs = list(self._meet(spine))

    def _meet(self, spine: Spine) -> Iterator[Pair]:
        orders = {kept.symbol: (connection, kept) for connection in self._orders for kept in connection.books}
        for connection in self._levels:
            for kept in connection.books:
                if kept.symbol in orders:
                    yield Pair(spine, connection, kept, *orders[kept.symbol])

    def step(self, spine: Spine) -> int:
        spine.clock.wait(self.stopping, EVERY_S)
        for pair in self._pairs:
            if pair.look():
                log.warning("%s: the orders contradict the book of %s", pair.connection.name, pair.kept.symbol)
                pair.connection.post(partial(self._contradict, pair))
        return 1

    @staticmethod
    def _contradict(pair: Pair) -> None:
        """On the connection's own thread."""
        pair.connection.row.add("contradicted")
        pair.connection.feed.suspect(pair.kept.index, Reason.CONTRADICTED)
        pair.connection.serve_wants()
