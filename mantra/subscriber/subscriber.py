"""subscriber: LAYER 2, the contract: asks a connected transport for feeds, the way its venue wants it.

A subscriber knows texts and grants, nothing of sockets or books. Another protocol (FIX logon and market-data request,
say) is another subclass, named in `PROTOCOLS`; `subscriber` builds it, and the listener sees only this.
"""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from mantra.client.governor import Governor
from mantra.core.clock import Clock
from mantra.errors import ConfigurationError
from mantra.venues.venue import Control, Mode, Venue

Send = Callable[[str], bool]


class Subscriber(ABC):
    """Asks for the feeds of one connection and knows what was granted."""

    @abstractmethod
    def url(self) -> str:
        """Where the client connects for these feeds."""

    @abstractmethod
    def another(self, venue: Venue, governor: Governor) -> Subscriber:
        """One that asks `venue`, the same one, for the same on another connection."""

    @abstractmethod
    def begin(self) -> None:
        """A new connection is up: everything is to be asked for again."""

    @abstractmethod
    def renew(self, symbols: Sequence[str]) -> None:
        """The book channels of `symbols`, and no others, are to end and begin anew: that brings snapshots, which tell
        that they were granted."""

    @abstractmethod
    def pump(self, send: Send) -> float | None:
        """Send what pacing allows by now (`send` says False: the transport failed), also what was not acknowledged in
        time; seconds until it wants to be called again, None when it need not be."""

    @abstractmethod
    def control(self, text: bytes) -> Control:
        """What the venue said, after taking note of it."""

    @abstractmethod
    def proven(self, symbols: Sequence[str]) -> None:
        """The books of `symbols` came: what is lost can only be their acknowledgements."""

    @property
    @abstractmethod
    def sent(self) -> bool:
        """Nothing waits for the venue's pace."""

    @property
    @abstractmethod
    def granted(self) -> bool:
        """Everything asked for has been acknowledged."""

    @abstractmethod
    def missing(self) -> list[str]:
        """What was asked for as often as makes sense and not acknowledged; empty while there is still hope."""


PROTOCOLS: dict[str, Callable[..., Subscriber]] = {}     # by the scheme of the venue's address


def subscriber(venue: Venue, symbols: Sequence[str], mode: Mode, trades: bool, governor: Governor,
               clock: Clock) -> Subscriber:
    """The subscriber for `symbols` at `venue` in the protocol of its address. ConfigurationError: none speaks that."""
    from mantra.subscriber import websocket  # noqa: F401  (registers itself; here, because it imports this contract)

    scheme = urlsplit(venue.endpoints.websocket).scheme
    if scheme not in PROTOCOLS:
        raise ConfigurationError(f"{venue.endpoints.websocket}: no subscriber for the scheme {scheme!r}; there is "
                                 f"{', '.join(sorted(PROTOCOLS))}")
    return PROTOCOLS[scheme](venue, symbols, mode, trades, governor, clock)
