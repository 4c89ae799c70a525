"""client, LAYER 1: a connected transport for one protocol.

A client connects once and hands over a `Transport` whose next byte is the first of the venue's feed. It knows no venue.
To add a protocol, subclass `Client` and name it in `SCHEMES`; `client(url)` then builds it.
"""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from mantra.core.transport import Transport
from mantra.errors import ConfigurationError


class Client(ABC):
    """One connection, to be made once."""

    @abstractmethod
    def connect(self) -> Transport:
        """Connect and shake hands, in the calling thread: a transport positioned at the feed's first byte.

        ConnectError says in one line why not; Closed when `close` was called meanwhile.
        """

    @abstractmethod
    def close(self) -> None:
        """End the connection, or the attempt at one. Any thread, any time, more than once."""


SCHEMES: dict[str, Callable[..., Client]] = {}


def client(url: str, **options: Any) -> Client:
    """The client for `url`'s scheme (ws, wss); `options` go to its constructor. ConfigurationError: unknown scheme."""
    from mantra.client import websocket  # noqa: F401  (registers itself; here, because it imports this contract)

    scheme = urlsplit(url).scheme
    if scheme not in SCHEMES:
        known = ", ".join(sorted(SCHEMES))
        raise ConfigurationError(f"{url}: no client for the scheme {scheme!r}; there is {known}")
    return SCHEMES[scheme](url, **options)
