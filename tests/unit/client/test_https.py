"""REST against raw servers, that can answer anything."""
from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from mantra.client.https import Rest
from mantra.errors import Closed, ConfigurationError, ConnectError, VenueError


@contextmanager
def server(*answers: bytes | None, per_connection: int = 1000) -> Iterator[tuple[str, list[bytes]]]:
    """Answers the requests in their order, `per_connection` and then closing; None: silence until the client goes."""
    listener, requests, left = socket.create_server(("127.0.0.1", 0)), [], list(answers)

    def run() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                for _ in range(per_connection):
                    request = b""
                    while not request.endswith(b"\r\n\r\n"):
                        data = connection.recv(65536)
                        if not data:
                            break
                        request += data
                    if not request or not left:
                        break
                    requests.append(request)
                    answer = left.pop(0)
                    if answer is None:
                        connection.recv(1)
                        break
                    connection.sendall(answer)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", requests
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def ok(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nX-Used: 7\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def test_answers_come_over_one_connection_whatever_their_status() -> None:
    refusal = b"HTTP/1.1 429 Slow Down\r\nRetry-After: 5\r\nContent-Length: 2\r\n\r\nno"
    with server(ok(b"one"), refusal, ok(b"two")) as (url, requests), Rest(url) as rest:
        assert rest.get("/a?b=1") == (200, {"x-used": "7", "content-length": "3"}, b"one")
        status, headers, body = rest.get("/c")
        assert (status, headers["retry-after"], body) == (429, "5", b"no")
        assert rest.get("/d")[2] == b"two"
    assert [request.split()[1] for request in requests] == [b"/a?b=1", b"/c", b"/d"]


def test_a_connection_the_server_dropped_between_requests_is_opened_again() -> None:
    with server(ok(b"one"), ok(b"two"), ok(b"three"), per_connection=1) as (url, _), Rest(url) as rest:
        assert [rest.get("/")[2] for _ in range(3)] == [b"one", b"two", b"three"]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", "cut off"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nshort", "Incomplete"),
        (b"nothing like HTTP\r\n\r\n", "nothing like"),
        (b"", "without response"),
        (ok(b"x" * 1001), "larger than 1000"),
    ],
)
def test_an_unusable_answer_is_a_venue_error_in_one_line(answer: bytes, why: str) -> None:
    with server(answer, per_connection=1) as (url, _), Rest(url, max_bytes=1000) as rest:
        with pytest.raises(VenueError, match=why) as caught:
            rest.get("/")
        assert "\n" not in str(caught.value)


def test_a_silent_server_is_given_up() -> None:
    with server(None) as (url, _), Rest(url, timeout=0.2) as rest:
        with pytest.raises(VenueError, match=r"no answer within 0\.2 s"):
            rest.get("/")


def test_closing_ends_a_get_in_another_thread() -> None:
    with server(None) as (url, _):
        rest = Rest(url, timeout=30)
        timer = threading.Timer(0.1, rest.close)
        timer.start()
        with pytest.raises(Closed):
            rest.get("/")
        timer.join()
        with pytest.raises(Closed):
            rest.get("/")


def test_what_cannot_be_reached_or_is_no_address_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectError, match="refused"):
        Rest(f"http://127.0.0.1:{port}").get("/")
    for url in ("ws://x", "http://", "http://x:99999"):
        with pytest.raises(ConfigurationError):
            Rest(url)
    with pytest.raises(ConfigurationError, match="no such certificate file"):
        Rest("https://127.0.0.1:1", ca_file="missing.pem").get("/")
