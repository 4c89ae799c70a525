"""The transport over real sockets: whatever blocks can be ended, whatever is sent arrives whole, TLS by its rules."""
from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import trustme

from mantra.core.transport import TLSContext, Transport, proxy_for, tls_library
from mantra.errors import Closed, ConnectError

Behaviour = Callable[[socket.socket], object]


class Authority:
    def __init__(self, directory: Path) -> None:
        self.authority = trustme.CA()
        self.path, self.own = directory / "ca.pem", directory / "server.pem"
        self.authority.cert_pem.write_to_path(str(self.path))
        self.authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(self.own))

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.own)
        return context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@contextmanager
def serving(behave: Behaviour, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """One connection after the other, each handed to `behave`."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with suppress(OSError), connection:
                behave(context.wrap_socket(connection, server_side=True) if context else connection)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def until_closed(connection: socket.socket) -> bytes:
    data = b""
    while chunk := connection.recv(65536):
        data += chunk
    return data


KINDS = ["plain", "compiled TLS", "Python TLS"]


@contextmanager
def connected(kind: str, authority: Authority, behave: Behaviour) -> Iterator[Transport]:
    context = None if kind == "plain" else authority.context()
    tls = None if kind == "plain" else TLSContext(authority.path, compiled=kind == "compiled TLS")
    with serving(behave, context) as port, Transport.connect("127.0.0.1", port, tls=tls) as transport:
        yield transport


def test_a_libssl_is_found_on_this_machine() -> None:
    assert (tls_library() or "").startswith("OpenSSL ")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["end", "close", "shutdown", "wake"])
def test_a_blocked_read_is_ended_by_another_thread(kind: str, how: str, authority: Authority) -> None:
    with connected(kind, authority, until_closed) as transport:
        timer = threading.Timer(0.05, getattr(transport, how))
        timer.start()
        with pytest.raises(InterruptedError if how == "wake" else Closed):
            transport.recv()
        timer.join()
        if how == "wake":
            assert transport.send(b"still usable") == 12


@pytest.mark.parametrize("kind", KINDS)
def test_a_blocked_send_is_ended_by_another_thread(kind: str, authority: Authority) -> None:
    done = threading.Event()
    with connected(kind, authority, lambda connection: done.wait(10)) as transport:
        timer = threading.Timer(0.2, transport.end)
        timer.start()
        with pytest.raises((Closed, OSError)):
            transport.send(bytes(64 << 20))
        timer.join()
        done.set()


@pytest.mark.parametrize("kind", KINDS)
def test_much_goes_through_whole_both_ways_when_the_peer_is_slow(kind: str, authority: Authority) -> None:
    data = bytes(range(256)) * 12_000

    def slow_echo(connection: socket.socket) -> None:
        received = bytearray()
        while len(received) < len(data):
            received += connection.recv(50_000)
            time.sleep(0.001)
        connection.sendall(received)
        until_closed(connection)

    with connected(kind, authority, slow_echo) as transport:
        transport.send(data)
        back, buffer = bytearray(), bytearray(100_000)
        while len(back) < len(data):
            back += buffer[: transport.recv_into(buffer)]
        assert back == data


@pytest.mark.parametrize("kind", KINDS)
def test_single_bytes_arrive_in_order(kind: str, authority: Authority) -> None:
    def bytewise(connection: socket.socket) -> None:
        for byte in range(200):
            connection.sendall(bytes([byte]))
        until_closed(connection)

    with connected(kind, authority, bytewise) as transport:
        assert b"".join(transport.recv(1) for _ in range(200)) == bytes(range(200))


@pytest.mark.parametrize("kind", KINDS)
def test_timeouts_are_a_sockets(kind: str, authority: Authority) -> None:
    with connected(kind, authority, until_closed) as transport:
        transport.settimeout(0.02)
        with pytest.raises(TimeoutError):
            transport.recv()
        transport.settimeout(0)
        with pytest.raises(BlockingIOError):
            transport.recv()
        transport.settimeout(None)
        transport.deadline = time.monotonic() + 0.02
        with pytest.raises(TimeoutError):
            transport.recv()


@pytest.mark.parametrize("kind", KINDS)
def test_what_came_before_the_end_is_read_before_the_end(kind: str, authority: Authority) -> None:
    def say_and_leave(connection: socket.socket) -> None:
        connection.sendall(b"last words")
        if isinstance(connection, ssl.SSLSocket):
            connection.unwrap()

    with connected(kind, authority, say_and_leave) as transport:
        assert transport.recv() == b"last words"
        assert transport.recv() == b""


@pytest.mark.parametrize("kind", KINDS[1:])
def test_an_end_without_close_notify_is_an_error_after_the_bytes(kind: str, authority: Authority) -> None:
    def cut_off(connection: socket.socket) -> None:
        connection.sendall(b"last words")
        connection.shutdown(socket.SHUT_RDWR)

    with connected(kind, authority, cut_off) as transport:
        assert transport.recv() == b"last words"
        for _ in range(2):
            with pytest.raises(OSError, match=r"close_notify|EOF"):
                transport.recv()


@pytest.mark.parametrize("kind", KINDS[1:])
def test_closing_says_goodbye(kind: str, authority: Authority) -> None:
    heard: list[bytes] = []
    with connected(kind, authority, lambda connection: heard.append(connection.recv(1))) as transport:
        transport.close()
    assert heard == [b""]      # an end without close_notify would have been an SSLError


def test_the_name_is_sent_and_old_tls_is_refused(authority: Authority) -> None:
    names, context = [], authority.context()
    context.sni_callback = lambda _, name, __: names.append(name)
    tls = TLSContext(authority.path)
    with serving(until_closed, context) as port:
        for host in ("localhost", "127.0.0.1"):
            Transport.connect(host, port, tls=tls).close()
    assert names == ["localhost", None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with serving(until_closed, context) as port, pytest.raises(ConnectError):
        Transport.connect("127.0.0.1", port, tls=tls)


def test_a_server_that_speaks_no_tls_or_nothing_is_given_up(authority: Authority) -> None:
    tls = TLSContext(authority.path)
    with serving(lambda connection: connection.sendall(b"220 smtp.example\r\n") or until_closed(connection)) as port:
        with pytest.raises(ConnectError, match=r"wrong version|protocol|record"):
            Transport.connect("127.0.0.1", port, tls=tls)
    with serving(until_closed) as port, pytest.raises(ConnectError, match=r"no answer within 0\.2 s"):
        Transport.connect("127.0.0.1", port, tls=tls, timeout=0.2)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl program")
@pytest.mark.parametrize(("version", "command"), [("-tls1_3", "K"), ("-tls1_3", "k"), ("-tls1_2", "r")],
                         ids=["key update asking for ours", "key update", "renegotiation"])
def test_new_keys_in_the_middle_go_unnoticed(version: str, command: str, authority: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", authority.own, version],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        while b"ACCEPT" not in server.stdout.readline():
            pass
        with Transport.connect("127.0.0.1", port, tls=TLSContext(authority.path)) as transport:
            transport.settimeout(10)

            def say(line: str) -> None:
                server.stdin.write(line.encode() + b"\n")
                server.stdin.flush()

            for _ in range(3):
                transport.send(b"ping\n")
                say("before")
                data = b""
                while b"before\n" not in data:
                    data += transport.recv()
                say(command)
                time.sleep(0.05)    # s_server takes its command only alone on a read
                say("after")
                data = b""
                while b"after\n" not in data:
                    data += transport.recv()
    finally:
        server.kill()
        assert server.stdout.read().count(b"ping\n") == 3
        server.wait()


def test_one_thread_at_a_time_is_inside(authority: Authority) -> None:
    with connected("plain", authority, until_closed) as transport:
        refused: list[Exception] = []

        def intrude() -> None:
            try:
                transport.recv()
            except RuntimeError as error:
                refused.append(error)
            transport.end()

        timer = threading.Timer(0.05, intrude)
        timer.start()
        with pytest.raises(Closed):
            transport.recv()
        timer.join()
        assert len(refused) == 1


def tunnel(requests: list[bytes], answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n") -> Behaviour:
    """An HTTP proxy: CONNECT, then bytes both ways."""

    def behave(connection: socket.socket) -> None:
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            request += connection.recv(4096)
        requests.append(request)
        connection.sendall(answer)
        if b" 200 " not in answer:
            return
        host, port = request.split()[1].decode().rsplit(":", 1)
        with socket.create_connection((host, int(port))) as onward:
            back = threading.Thread(target=pump, args=(onward, connection))
            back.start()
            pump(connection, onward)
            back.join()

    return behave


def pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("secure", [False, True])
def test_a_proxy_is_gone_through_with_its_password(secure: bool, authority: Authority) -> None:
    requests: list[bytes] = []
    context, tls = (authority.context(), TLSContext(authority.path)) if secure else (None, None)

    def greet(connection: socket.socket) -> None:
        connection.sendall(b"hello")
        until_closed(connection)

    with serving(greet, context) as port, serving(tunnel(requests)) as proxy:
        route = f"http://me:p%40ss@127.0.0.1:{proxy}"
        with Transport.connect("127.0.0.1", port, tls=tls, proxy=route) as transport:
            assert transport.recv() == b"hello"
    assert requests[0].startswith(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n".encode())
    assert b"Proxy-Authorization: Basic bWU6cEBzcw==" in requests[0]


def test_a_proxy_that_refuses_is_said() -> None:
    with serving(tunnel([], b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")) as proxy:
        with pytest.raises(ConnectError, match="407") as caught:
            Transport.connect("venue.example", 443, proxy=f"http://127.0.0.1:{proxy}")
        assert "\n" not in str(caught.value)
    with pytest.raises(ConnectError, match="not supported"):
        Transport.connect("venue.example", 443, proxy="socks5://127.0.0.1:1")


def test_the_environments_proxy_is_used_but_never_for_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert proxy_for("venue.example", True) == ""
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "near.example")
    assert proxy_for("venue.example", True) == "http://proxy.example:3128"
    assert [proxy_for(host, True) for host in ("near.example", "127.0.0.1", "localhost", "::1")] == [""] * 4
    assert proxy_for("venue.example", False) == ""


def test_a_name_nobody_knows_is_one_line() -> None:
    with pytest.raises(ConnectError, match="cannot be resolved"):
        Transport.connect("no-such-host.invalid", 443, proxy="")
