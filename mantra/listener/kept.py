"""kept: what Python knows of one book of a connection, and who gets it the snapshots that it wants."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mantra.client.governor import Backoff
from mantra.listener.second_look import SecondLook
from mantra.venues.instrument import Instrument

if TYPE_CHECKING:
    from mantra.listener.connection import Connection


@dataclass(eq=False)
class Kept:
    """One book of a connection."""

    index: int
    symbol: str
    instrument: Instrument
    backoff: Backoff                    # of its snapshots, until one is believed
    asked: bool = False                 # a snapshot is on its way
    levels: int = 0                     # a side of it; 0: as planned for the first
    since: float | None = None          # not synchronised since then, seconds of the clock; None: it is
    hopeless: bool = False              # it met text which no scale holds, or no new connection heals it
    look: SecondLook | None = None      # its snapshot is not believed yet
    contradictions: int = 0             # second looks in a row that found its snapshot wrong
    due: float = 0.0                    # when it is asked for (again)
    failures: int = 0                   # in a row of its subscriptions
    lapses: int = 0                     # times in a row that it was believed, but not for long
    refused: bool = False               # by the venue: it is down, and asked for seldom


class Recovery:
    """How the books of one connection are synchronised; this one: by themselves, every message is whole."""

    splices = False                     # a book waits for its snapshot from the moment its connection begins

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.books = connection.books

    def begin(self) -> None:
        """The connection is new."""
        now = self.connection.clock.seconds()
        for book in self.books:
            book.asked, book.look, book.refused, book.levels = False, None, False, 0
            book.since = now if self.splices else None
            book.backoff.reset()

    def resume(self, heir: Sequence[Kept]) -> None:
        """The connection is another's, whose books were as its feed and `heir` say."""
        self.begin()
        for book in self.books:
            if self.connection.feed.state(book.index)[0]:
                book.since = None

    def acknowledged(self, books: Iterable[Kept]) -> None:
        """The venue granted their channels."""

    def want(self, book: Kept, *, again: bool | None = False) -> None:
        """`book` needs a snapshot: after a loss (again=False), still (None), as the last would not do (True)."""

    def pump(self) -> float | None:
        """Do what is due; seconds until there is more to do by itself."""
        return None
