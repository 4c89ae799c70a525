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
    def begin(self, send: Send) -> None:
        """A new connection is up: ask for everything again, through `send` (False: the transport failed)."""

    @abstractmethod
    def pump(self) -> float | None:
        """Send what pacing allows by now; seconds until it wants to be called again, None when it need not be."""

    @abstractmethod
    def control(self, text: bytes) -> Control:
        """What the venue said, after taking note of it."""

    @property
    @abstractmethod
    def granted(self) -> bool:
        """Everything asked for has been acknowledged."""

    @abstractmethod
    def missing(self) -> list[str]:
        """What was asked for and not acknowledged in time; empty while there is still time."""


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
