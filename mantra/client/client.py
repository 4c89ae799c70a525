"""client, LAYER 1: a connected transport for one protocol.

A client connects once and hands over a `Transport` whose next byte is the first of the venue's feed. It knows no venue.
To add a protocol, subclass `Client` and name it in `SCHEMES`; `client(url)` then builds it.
"""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import lru_cache
from os import PathLike, fspath
from typing import Any
from urllib.parse import urlsplit

from mantra.core.transport import TLSContext, Transport
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


class Address:
    """Where to connect: `url` of scheme `plain`, or over TLS `plain` + "s"; ConfigurationError for any other. `ca_file`
    replaces the default trust store, `timeout` (s) bounds connecting and each wait."""

    def __init__(self, url: str, plain: str, ca_file: str | PathLike[str] | None, timeout: float) -> None:
        self.url, self.parts, self.timeout = url, urlsplit(url), timeout
        self.ca_file = None if ca_file is None else fspath(ca_file)
        self.secure = self.parts.scheme != plain
        if self.parts.scheme not in (plain, f"{plain}s") or not self.parts.hostname:
            raise ConfigurationError(f"{url}: not an address of the form {plain}://host:port/path or {plain}s://...")
        try:
            self.port = self.parts.port or (443 if self.secure else 80)
        except ValueError:
            raise ConfigurationError(f"{url}: the port is not a number from 0 to 65535") from None

    def open(self, transport: Transport) -> None:
        """Connect `transport`; see `Transport.open`."""
        tls = tls_context(self.ca_file) if self.secure else None
        transport.open(self.parts.hostname or "", self.port, tls=tls, timeout=self.timeout)
        transport.settimeout(self.timeout)


@lru_cache(maxsize=16)
def tls_context(ca_file: str | None) -> TLSContext:
    """One context per trust store: reading a system's store takes some 10 ms."""
    return TLSContext(ca_file)


SCHEMES: dict[str, Callable[..., Client]] = {}


def client(url: str, **options: Any) -> Client:
    """The client for `url`'s scheme (ws, wss); `options` go to its constructor. ConfigurationError: unknown scheme."""
    from mantra.client import websocket  # noqa: F401  (registers itself; here, because it imports this contract)

    scheme = urlsplit(url).scheme
    if scheme not in SCHEMES:
        known = ", ".join(sorted(SCHEMES))
        raise ConfigurationError(f"{url}: no client for the scheme {scheme!r}; there is {known}")
    return SCHEMES[scheme](url, **options)
