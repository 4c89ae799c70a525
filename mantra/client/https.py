"""https: REST answers (snapshots, instrument lists), one kept-alive connection at a time."""
from __future__ import annotations

import http.client
import socket
import ssl
from types import TracebackType
from urllib.parse import urlsplit

from mantra.core.transport import proxy_for
from mantra.errors import Closed, ConfigurationError, ConnectError, VenueError

LARGEST = 64 << 20      # bytes of an answer
AGENT = "mantra"


class Rest:
    """GETs below `base` ("https://host:port"). `ca_file` replaces the default trust store. One thread at a time, but
    `close` may come from any."""

    def __init__(self, base: str, *, ca_file: str | None = None, timeout: float = 10.0) -> None:
        parts = urlsplit(base)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError(f"{base}: not a REST address (http://host:port or https://...)")
        self.base = base
        self._host, self._port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
        self._context = ssl.create_default_context(cafile=ca_file) if parts.scheme == "https" else None
        self._timeout = timeout
        self._connection: http.client.HTTPConnection | None = None
        self._closed = False

    def get(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """(status, headers by lower-case name, body). ConnectError: no connection; VenueError: no usable answer."""
        for fresh in (self._connection is None, True):
            try:
                return self._get(path)
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError) as error:
                self._drop()            # a kept-alive connection that the server had given up: once more, afresh
                if fresh:
                    raise VenueError(f"{self.base}{path}: the server closed the connection ({error})") from None
            except (socket.timeout, TimeoutError):
                self._drop()
                raise VenueError(f"{self.base}{path}: no answer within {self._timeout:g} s") from None
            except ssl.SSLCertVerificationError as error:
                self._drop()
                raise ConnectError(f"{self.base}: the certificate is refused: {error.verify_message}") from None
            except (OSError, http.client.HTTPException) as error:
                self._drop()
                raise ConnectError(f"{self.base}: {error or type(error).__name__}") from None
        raise AssertionError("the second try returns or raises")

    def _get(self, path: str) -> tuple[int, dict[str, str], bytes]:
        if self._closed:
            raise Closed(f"{self.base}: closed")
        if self._connection is None:
            self._connection = self._connect()
        self._connection.request("GET", path, headers={"User-Agent": AGENT, "Accept": "application/json"})
        answer = self._connection.getresponse()
        body = answer.read(LARGEST + 1)
        if len(body) > LARGEST:
            self._drop()
            raise VenueError(f"{self.base}{path}: an answer of more than {LARGEST >> 20} MB")
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body

    def _connect(self) -> http.client.HTTPConnection:
        proxy = urlsplit(proxy_for(self._host, self._context is not None) or "")
        host, port = (proxy.hostname, proxy.port or 3128) if proxy.hostname else (self._host, self._port)
        made: http.client.HTTPConnection
        if self._context is None:
            made = http.client.HTTPConnection(host, port, timeout=self._timeout)
        else:
            made = http.client.HTTPSConnection(host, port, timeout=self._timeout, context=self._context)
        if proxy.hostname:
            made.set_tunnel(self._host, self._port)
        return made

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """End it; a `get` under way on another thread fails."""
        self._closed = True
        connection = self._connection
        if connection is not None and connection.sock is not None:
            try:
                connection.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self._drop()

    def __enter__(self) -> Rest:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()
