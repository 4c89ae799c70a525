"""https: REST answers (snapshots, instrument lists): the standard library's HTTP over one kept-alive transport."""
from __future__ import annotations

import io
import threading
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from os import PathLike
from typing import Any

from mantra.client.client import Address
from mantra.core.transport import Transport
from mantra.errors import Closed, MantraError, VenueError

BANS = (418, 429)           # HTTP status: asked too much, wait
LONGEST_BLOCK_S = 600.0


def patience(retry_after: str, otherwise_s: float = 10.0) -> float:
    """Seconds that a Retry-After header asks for; `otherwise_s` where it is no number of them."""
    return min(float(retry_after), LONGEST_BLOCK_S) if retry_after.isascii() and retry_after.isdigit() else otherwise_s


class Rest:
    """GETs from `base_url`, one after the other, by one thread; any thread may `close`, which ends a GET under way.

    `timeout` (s) bounds connecting and each wait for the server, `max_bytes` an answer's body; `ca_file` replaces the
    default trust store. Answers are not compressed: a snapshot is some 100 kB, soon sent, and its text is what a
    recording keeps.
    """

    def __init__(self, base_url: str, *, ca_file: str | PathLike[str] | None = None, timeout: float = 10.0,
                 max_bytes: int = 64 << 20) -> None:
        self.base_url = base_url.rstrip("/")
        self.max_bytes = max_bytes
        self._address = Address(base_url, "http", ca_file, timeout)
        self._prefix = self._address.parts.path.rstrip("/")
        self._headers = {"Accept-Encoding": "identity", "User-Agent": "mantra",
                         "Host": self._address.parts.netloc.rpartition("@")[2]}
        self._http = HTTPConnection("unused")
        self._http.auto_open = 0        # it is given its socket
        self._transport: Transport | None = None
        self._lock = threading.Lock()
        self._closed = False

    def get(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """(status, headers by lower-case name, body), whatever the status is.

        ConnectError when the server cannot be reached, VenueError when its answer is no HTTP, late, too large or
        cut off, Closed after `close`. A kept-alive connection that the server dropped meanwhile is opened again, once.
        """
        while True:
            fresh = self._transport is None
            try:
                return self._get(path)
            except MantraError:
                self._drop()
                raise
            except (OSError, HTTPException) as error:
                self._drop()
                if fresh or not isinstance(error, ConnectionError):
                    why = getattr(error, "strerror", None) or str(error) or type(error).__name__
                    late = f"no answer within {self._address.timeout:g} s"
                    raise VenueError(f"{self.base_url}{path}: "
                                     f"{late if isinstance(error, TimeoutError) else why.splitlines()[0]}") from None

    def _get(self, path: str) -> tuple[int, dict[str, str], bytes]:
        if self._transport is None:
            self._connect()
        self._http.request("GET", self._prefix + path, headers=self._headers)
        answer = self._http.getresponse()
        body = answer.read(self.max_bytes + 1)
        if len(body) > self.max_bytes:
            raise VenueError(f"{self.base_url}{path}: the answer is larger than {self.max_bytes} bytes")
        if answer.length:       # read() with a limit does not say so itself
            raise VenueError(f"{self.base_url}{path}: the answer was cut off, {answer.length} bytes are missing")
        if answer.will_close:
            self._drop()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body

    def _connect(self) -> None:
        transport = Transport()
        with self._lock:
            if self._closed:
                raise Closed(f"{self.base_url}: closed")
            self._transport = transport
        self._address.open(transport)
        self._http.sock = _Socket(transport)

    def _drop(self) -> None:
        with self._lock:
            transport, self._transport = self._transport, None
        self._http.close()      # and forget the request it was at
        if transport is not None:
            transport.close()

    def close(self) -> None:
        """End a GET under way, and every later one. Any thread, more than once."""
        with self._lock:
            self._closed = True
            if self._transport is not None:
                self._transport.end()

    def __enter__(self) -> Rest:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Socket:
    """A transport, as http.client takes a socket. `close` leaves it open: the answer is still to be read."""

    def __init__(self, transport: Transport) -> None:
        self.sendall: Callable[[bytes], None] = transport.sendall
        self._transport = transport

    def makefile(self, *_: Any) -> io.BufferedReader:
        return io.BufferedReader(_Answer(self._transport))

    def close(self) -> None:
        pass


class _Answer(io.RawIOBase):
    """What a transport receives, as a file."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def readable(self) -> bool:
        return True

    def readinto(self, to: Any) -> int:
        return self._transport.recv_into(to)
