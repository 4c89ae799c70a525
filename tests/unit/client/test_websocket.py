"""The WebSocket client against real servers: `websockets` for what works, raw sockets for what misbehaves."""
from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import trustme
from websockets.sync.server import ServerConnection, serve

from mantra.client.client import client
from mantra.client.websocket import WebSocketClient, goodbye
from mantra.core.frame import TEXT, frame_bytes
from mantra.core.transport import TLSContext, Transport
from mantra.errors import Closed, ConfigurationError, ConnectError
from tests.c.framing import Frame, Frames


def echo(connection: ServerConnection) -> None:
    for message in connection:
        connection.send(message)


@contextmanager
def websocket_server(context: ssl.SSLContext | None = None) -> Iterator[int]:
    with serve(echo, "127.0.0.1", 0, ssl=context) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.socket.getsockname()[1]
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def raw_server(behave: Callable[[socket.socket], None]) -> Iterator[int]:
    """Accept connections one after the other and do with each whatever the test says."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                with suppress(OSError):
                    behave(connection)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


class Authority:
    """A certificate authority of the test's own, its certificate in a file."""

    def __init__(self, directory: Path) -> None:
        self.ca = trustme.CA()
        self.path = directory / "ca.pem"
        self.ca.cert_pem.write_to_path(str(self.path))

    def server_context(self, *names: str, expired: bool = False) -> ssl.SSLContext:
        ago = datetime.now(timezone.utc) - timedelta(days=2)
        certificate = self.ca.issue_cert(*names, not_before=ago if expired else None,
                                         not_after=ago + timedelta(days=1) if expired else None)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        return context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def read_frames(transport: Transport, count: int) -> list[Frame]:
    frames, found = Frames(), []
    transport.settimeout(10)
    while len(found) < count:
        data = transport.recv()
        assert data, "the server closed"
        found += frames.feed(data)
    return found


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_texts_come_back_whole_over_plain_and_tls(authority: Authority, secure: bool, host: str) -> None:
    context = authority.server_context("localhost", "127.0.0.1") if secure else None
    texts = [b"x" * size for size in (0, 1, 125, 126, 65535, 65536, 500_000)]
    with websocket_server(context) as port:
        transport = client(f"{'wss' if secure else 'ws'}://{host}:{port}/", ca_file=authority.path).connect()
        assert (transport.tls_version is not None) == secure
        for text in texts:
            transport.send(frame_bytes(TEXT, text))
            assert read_frames(transport, 1) == [(TEXT, text)]
        goodbye(transport)
        assert transport.closed
        with pytest.raises(Closed):
            transport.recv()


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(
    ("names", "expired", "why"),
    [(("other.example",), False, "mismatch"), (("127.0.0.1",), True, "expired"), ((), False, "issuer|self.signed")],
    ids=["other host", "expired", "unknown authority"],
)
def test_a_wrong_certificate_is_refused(
    authority: Authority, tmp_path: Path, compiled: bool, names: tuple[str, ...], expired: bool, why: str
) -> None:
    signer = authority if names else Authority(tmp_path)
    context = signer.server_context(*(names or ("127.0.0.1",)), expired=expired)
    with websocket_server(context) as port:
        tls = TLSContext(authority.path, compiled=compiled)
        assert tls.compiled == compiled
        with pytest.raises(ConnectError, match=f"certificate refused.*({why})"):
            Transport.connect("127.0.0.1", port, tls=tls)


def test_python_ssl_serves_where_no_libssl_is(authority: Authority) -> None:
    with websocket_server(authority.server_context("localhost")) as port:
        with Transport.connect("localhost", port, tls=TLSContext(authority.path, compiled=False)) as transport:
            import websocket

            shaking = websocket.WebSocket()
            shaking.connect(f"wss://localhost:{port}/", socket=transport)
            assert transport.tls_version == "TLSv1.3"
            for size in (1, 70_000, 1_000_000):
                transport.send(frame_bytes(TEXT, b"y" * size))
                assert read_frames(transport, 1) == [(TEXT, b"y" * size)]


def answer(text: bytes) -> Callable[[socket.socket], None]:
    def behave(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(text)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)

    return behave


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"HTTP/1.1 451 Unavailable For Legal Reasons\r\n\r\n", "451.*region"),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", "403.*blocked"),
        (b"HTTP/1.1 500 Oops\r\n\r\n", "500"),
        (b"HTTP/1.1 302 Found\r\nLocation: wss://elsewhere.example/\r\n\r\n", "redirected to wss://elsewhere.example/"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "no WebSocket handshake"),
        (b"220 smtp.example ESMTP\r\n\r\n", "no WebSocket handshake"),
        (b"", "closed"),
    ],
)
def test_a_refused_handshake_is_one_line_that_says_why(text: bytes, why: str) -> None:
    with raw_server(answer(text)) as port:
        with pytest.raises(ConnectError, match=why) as caught:
            WebSocketClient(f"ws://127.0.0.1:{port}/", timeout=5).connect()
        assert "\n" not in str(caught.value)


def trickle(connection: socket.socket) -> None:
    connection.recv(65536)
    for byte in b"HTTP/1.1 101 Switching Protocols\r\nX: " + b"x" * 10_000:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


@pytest.mark.parametrize("behave", [lambda connection: connection.recv(1 << 20) and connection.recv(1), trickle])
def test_a_server_that_never_finishes_its_handshake_is_given_up(behave: Callable[[socket.socket], None]) -> None:
    with raw_server(behave) as port:
        with pytest.raises(ConnectError, match=r"within 0\.3 s"):
            WebSocketClient(f"ws://127.0.0.1:{port}/", timeout=0.3).connect()


def test_closing_a_client_ends_its_connecting_in_another_thread() -> None:
    with raw_server(lambda connection: connection.recv(1 << 20) and connection.recv(1)) as port:
        connecting = WebSocketClient(f"ws://127.0.0.1:{port}/", timeout=30)
        timer = threading.Timer(0.1, connecting.close)
        timer.start()
        with pytest.raises(Closed):
            connecting.connect()
        timer.join()


def test_a_refused_port_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectError, match=rf"127\.0\.0\.1:{port}: Connection refused"):
        WebSocketClient(f"ws://127.0.0.1:{port}/").connect()


@pytest.mark.parametrize("url", ["http://x/", "ws://", "ws://x:99999/", "nonsense"])
def test_a_bad_address_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigurationError):
        WebSocketClient(url)
    if not url.startswith("ws"):
        with pytest.raises(ConfigurationError):
            client(url)


def test_a_missing_certificate_file_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="no such certificate file"):
        WebSocketClient("wss://127.0.0.1:1/", ca_file="missing.pem").connect()
