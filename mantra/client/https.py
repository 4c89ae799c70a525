"""https: REST answers (snapshots, instrument lists) over one kept-alive connection of the standard library."""
from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Mapping
from os import PathLike, fspath
from urllib.parse import urlsplit

from mantra.core.transport import proxy_for
from mantra.errors import Closed, ConfigurationError, ConnectError, VenueError


class Rest:
    """GETs from `base_url`, one after the other, by one thread; any thread may `close`, which ends a GET under way.

    `timeout` (s) bounds each wait for the server, `max_bytes` an answer's body; `ca_file` replaces the default trust
    store. Answers are not compressed: a snapshot is some 100 kB, soon sent, and its text is what a recording keeps.
    """

    def __init__(
        self,
        base_url: str,
        *,
        headers: Mapping[str, str] | None = None,
        ca_file: str | PathLike[str] | None = None,
        timeout: float = 10.0,
        max_bytes: int = 64 << 20,
    ) -> None:
        parts = urlsplit(base_url)
        try:
            port = parts.port
        except ValueError:
            raise ConfigurationError(f"{base_url}: the port is not a number from 0 to 65535") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError(f"{base_url}: not a REST address (http://host:port or https://...)")
        self.base_url = base_url.rstrip("/")
        self.timeout = timeout
        self.max_bytes = max_bytes
        self._host, self._port, self._secure = parts.hostname, port, parts.scheme == "https"
        self._prefix = parts.path.rstrip("/")
        self._headers = {"Accept-Encoding": "identity", "User-Agent": "mantra", **(headers or {})}
        self._ca_file = None if ca_file is None else fspath(ca_file)
        self._context: ssl.SSLContext | None = None
        self._connection: http.client.HTTPConnection | None = None
        self._lock = threading.Lock()
        self._closed = False

    def get(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """(status, headers by lower-case name, body), whatever the status is.

        ConnectError when the server cannot be reached, VenueError when its answer is no HTTP, late, too large or
        cut off, Closed after `close`. A kept-alive connection that the server dropped meanwhile is opened again, once.
        """
        while True:
            fresh = self._connection is None
            try:
                return self._get(path)
            except (ConnectError, VenueError):
                self._drop()
                raise
            except (OSError, http.client.HTTPException) as error:
                self._drop()
                if self._closed:
                    raise Closed(f"{self.base_url}: closed") from None
                if fresh or not isinstance(error, ConnectionError):
                    raise VenueError(f"{self.base_url}{path}: {self._explain(error)}") from None

    def _get(self, path: str) -> tuple[int, dict[str, str], bytes]:
        connection = self._connection or self._connect()
        connection.request("GET", self._prefix + path, headers=self._headers)
        answer = connection.getresponse()
        body = answer.read(self.max_bytes + 1)
        if len(body) > self.max_bytes:
            raise VenueError(f"{self.base_url}{path}: the answer is larger than {self.max_bytes} bytes")
        if answer.length:       # read() with a limit does not say so itself
            raise VenueError(f"{self.base_url}{path}: the answer was cut off, {answer.length} bytes are missing")
        if answer.will_close:
            self._drop()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body

    def _connect(self) -> http.client.HTTPConnection:
        proxy = proxy_for(self._host, self._secure)
        via = urlsplit(proxy if "//" in proxy else f"//{proxy}", scheme="http")
        host, port = (via.hostname or "", via.port or 80) if proxy else (self._host, self._port)
        connection: http.client.HTTPConnection
        if self._secure:
            connection = http.client.HTTPSConnection(host, port, timeout=self.timeout, context=self._trust())
        else:
            connection = http.client.HTTPConnection(host, port, timeout=self.timeout)
        if proxy:
            connection.set_tunnel(self._host, self._port)
        try:
            connection.connect()
        except OSError as error:
            raise ConnectError(f"{self.base_url}: {self._explain(error)}") from None
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            if self._closed:
                connection.close()
                raise Closed(f"{self.base_url}: closed")
            self._connection = connection
        return connection

    def _trust(self) -> ssl.SSLContext:
        if self._context is None:
            try:
                self._context = ssl.create_default_context(cafile=self._ca_file)
            except OSError as error:
                raise ConfigurationError(f"{self._ca_file}: certificates cannot be read ({error})") from None
        return self._context

    def _explain(self, error: Exception) -> str:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"certificate refused: {error.verify_message}"
        if isinstance(error, TimeoutError):
            return f"no answer within {self.timeout:g} s"
        if isinstance(error, socket.gaierror):
            return f"the name cannot be resolved ({error.strerror})"
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return str(reason).splitlines()[0]

    def _drop(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def close(self) -> None:
        """End a GET under way, and every later one. Any thread, more than once."""
        with self._lock:
            self._closed = True
            sock = self._connection.sock if self._connection else None
            if sock is not None:
                with contextlib.suppress(OSError):      # the peer was faster
                    sock.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Rest:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
