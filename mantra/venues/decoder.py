"""decoder: a venue's decoder written in Python: what it is called with, and what it answers.

`Venue.decoder` is then what makes one for a connection. mantra/venues/okx.py is an example.
"""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from mantra.core.plugin import Kind

__all__ = ["Kind", "Part", "PythonDecoder"]


class Part(NamedTuple):
    """One book's part of a frame. Prices and sizes are decimal text, as the venue wrote them: no float touches them."""

    kind: Kind
    symbol: str = ""                                        # one of `Venue.spellings`
    bids: Sequence[tuple[str, str]] = ()                    # (price, size); size "0" removes the level
    asks: Sequence[tuple[str, str]] = ()
    trades: Sequence[tuple[int, str, str, str, int]] = ()   # id, the taker's "buy" or "sell", price, size, UTC ns
    first: int = 0                                          # scheme "ids": the message's first sequence number
    last: int = 0                                           # ... and last; scheme "time": its time
    time_ns: int = 0                                        # the venue's, UTC
    number: int | None = None                               # among all messages of the connection
    checksum: int | None = None                             # of the book after this part
    link: int | None = None                                 # names this message, and `before` the one before it, of the
    before: int = 0                                         # same book: a loss shows
    history: bool = False                                   # trades made before we asked


class PythonDecoder(Protocol):
    """A connection's decoder. It may have `checksum(bids, asks) -> int` as well, given the best `checksum_levels`
    levels a side as (price, size) texts without trailing zeros."""

    def message(self, text: bytes) -> Iterable[Part]:
        """The parts of one frame, in their order. What it raises makes the frame malformed."""

    def book(self, text: bytes) -> Part:
        """The book that REST answered, as a SNAPSHOT."""
