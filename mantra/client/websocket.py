"""client/websocket: websocket-client shakes hands over the compiled transport; then its bytes belong to the feed."""
from __future__ import annotations

import contextlib
import struct
import threading
import time
from os import PathLike

import websocket

from mantra.client.client import SCHEMES, Address, Client
from mantra.client.https import BANS
from mantra.core.frame import CLOSE, frame_bytes
from mantra.core.transport import Transport
from mantra.errors import Closed, ConnectError

REFUSALS = {
    403: "the venue forbids it (often a blocked address or region); use another route, or --endpoints of another site",
    429: "too many requests; wait before connecting again",
    451: "the venue does not serve this region; use another of its sites (--endpoints), or another venue",
    503: "the venue is overloaded or in maintenance; try later",
}


class WebSocketClient(Client):
    """A WebSocket at `url` (ws:// or wss://), given to the caller right behind the server's handshake.

    `timeout` (s) bounds all of connecting. No extension is offered, so no frame is compressed.
    """

    def __init__(self, url: str, *, ca_file: str | PathLike[str] | None = None, timeout: float = 10.0) -> None:
        self.url = url
        self._address = Address(url, "ws", ca_file, timeout)
        self._transport = Transport()
        self._begun = threading.Lock()

    def connect(self) -> Transport:
        """See `Client.connect`. A second call is an error: make a new client."""
        if not self._begun.acquire(blocking=False):
            raise RuntimeError("a client connects once")
        transport = self._transport
        transport.deadline = time.monotonic() + self._address.timeout
        try:
            self._address.open(transport)
            self._shake_hands(transport)
        except BaseException:
            transport.close()
            raise
        transport.deadline = None
        transport.settimeout(None)
        return transport

    def _shake_hands(self, transport: Transport) -> None:
        socket = websocket.WebSocket()
        try:
            socket.connect(self.url, socket=transport, redirect_limit=0, suppress_origin=True)
        except websocket.WebSocketBadStatusException as error:
            why = REFUSALS.get(error.status_code, "")
            refusal = ConnectError(f"{self.url}: HTTP {error.status_code}{': ' if why else ''}{why}")
            if error.status_code in BANS:
                refusal.retry_after = str((error.resp_headers or {}).get("retry-after", ""))
            raise refusal from None
        except websocket.WebSocketTimeoutException:
            raise ConnectError(f"{self.url}: no WebSocket handshake within {self._address.timeout:g} s") from None
        except websocket.WebSocketConnectionClosedException:
            raise ConnectError(f"{self.url}: the server closed the connection during the handshake") from None
        except (OSError, ValueError, IndexError, websocket.WebSocketException) as error:
            self._refuse_redirect(socket)
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ConnectError(f"{self.url}: the answer is no WebSocket handshake ({reason[:120]})") from None
        self._refuse_redirect(socket)

    def _refuse_redirect(self, socket: websocket.WebSocket) -> None:
        """websocket-client would follow it with a socket of its own, or take it for a success."""
        answer = socket.handshake_response
        if answer is not None and answer.status != 101:
            target = answer.headers.get("location", "nowhere")
            raise ConnectError(f"{self.url}: redirected to {target[:120]}; name that address instead") from None

    def close(self) -> None:
        """End it, abruptly if a thread is inside (`goodbye` is the polite way, for the transport's owner)."""
        self._transport.close()


def goodbye(transport: Transport, code: int = 1000, reason: str = "") -> None:
    """Send a close frame and close; the owner's way to end. A peer that is gone already is no error."""
    payload = struct.pack("!H", code) + reason.encode()[:123]
    with contextlib.suppress(OSError, Closed):
        transport.send(frame_bytes(CLOSE, payload))
    transport.close()


SCHEMES.update(ws=WebSocketClient, wss=WebSocketClient)
