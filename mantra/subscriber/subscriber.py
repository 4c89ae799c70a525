"""subscriber: LAYER 2, the contract: asks a connected transport for feeds, the way its venue wants it.

A subscriber knows texts and grants, nothing of sockets or books. Another protocol (FIX logon and market-data request,
say) is another subclass, made by another builder; the listener sees only this.
"""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

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


Builder = Callable[[Venue, Sequence[str], Mode, bool, Any], Subscriber]
