"""A venue's address with somebody in between: frames slipped into its stream, other answers to its requests."""
from __future__ import annotations

import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit


def frame(payload, first=0x81, mask=False):
    """An RFC 6455 frame as a server sends it (or, masked, must not)."""
    size = len(payload)
    length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big")
    if mask:
        return bytes([first, length[0] | 0x80]) + length[1:] + bytes(4) + payload
    return bytes([first]) + length + payload


class Proxy:
    """Stands before the venue at `endpoints`; `.endpoints` are its own.

    `slip(bytes)` sends them to every WebSocket client after its next whole frame; `refuse` (a status, or None) answers
    handshakes; `rest(path)` may answer a GET: raw bytes after "HTTP/1.1 ", or None to let the venue do it. Instead of
    an answer both may be an Event, to be silent until then.
    """

    def __init__(self, endpoints):
        target = urlsplit(endpoints["rest"])
        self._target = target.hostname, target.port
        self._server = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._waiting = {}
        self.behind = endpoints["rest"]
        port = self._server.getsockname()[1]
        self.endpoints = {"websocket": f"ws://127.0.0.1:{port}", "rest": f"http://127.0.0.1:{port}"}
        self.refuse = None
        self.rest = lambda path: None
        self.last = b""                 # the newest text frame that went by
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._server.close()

    def slip(self, data):
        with self._lock:
            for client in self._waiting:
                self._waiting[client] += data

    def _accept(self):
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with client, suppress(OSError):
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += (byte := client.recv(1))
                if not byte:
                    return
            path = head.split()[1].decode()
            websocket = b"upgrade: websocket" in head.lower()
            status = self.refuse if websocket else self.rest(path)
            if status is not None:
                if isinstance(status, threading.Event):
                    status.wait()
                    return
                if isinstance(status, int):
                    status = f"{status} No\r\nContent-Length: 0\r\n\r\n".encode()
                client.sendall(b"HTTP/1.1 " + status)
                return
            with socket.create_connection(self._target) as venue:
                venue.sendall(head)
                upward = threading.Thread(target=self._copy, args=(client, venue), daemon=True)
                upward.start()
                if websocket:
                    self._frames(venue, client)
                else:
                    self._copy(venue, client)
                with suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _copy(source, sink):
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def _frames(self, venue, client):
        """Frame by frame, so that what is slipped in does not fall into the middle of one."""
        reader = venue.makefile("rb")
        while (line := reader.readline()) not in (b"\r\n", b""):
            client.sendall(line)
        client.sendall(line)
        with self._lock:
            self._waiting[client] = b""
        try:
            while len(start := reader.read(2)) == 2:
                size, extra = start[1], b""
                if size > 125:
                    extra = reader.read(2 if size == 126 else 8)
                    size = int.from_bytes(extra, "big")
                payload = reader.read(size)
                if start[0] == 0x81:
                    self.last = payload
                with self._lock:
                    slipped, self._waiting[client] = self._waiting[client], b""
                client.sendall(start + extra + payload + slipped)
        finally:
            with self._lock:
                del self._waiting[client]
