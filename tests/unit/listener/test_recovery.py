"""Snapshots off the feeds' threads: fetched, paced, refused, late, and never in the way of the end."""
from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mantra import venues
from mantra.client.governor import Governor
from mantra.client.https import LONGEST_BLOCK_S, patience
from mantra.core.clock import Clock
from mantra.errors import MantraError, VenueError
from mantra.listener.recovery import SnapshotDesk
from mantra.venues.venue import Endpoints, Rate, Request


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        status, headers, body = self.server.answer(self.path)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.answer = lambda path: (200, {}, path.encode())
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


class Desk:
    """A desk at `port`, and what it delivered."""

    def __init__(self, port, rates=()):
        self.clock = Clock()
        self.governor = Governor(self.clock, {"rest": rates})
        address = f"http://127.0.0.1:{port}"
        self.desk = SnapshotDesk(venues.get("binance", Endpoints("ws://nowhere", address)), self.governor, self.clock)
        self.answers, self.arrived = [], threading.Semaphore(0)

    def fetch(self, path, delay=0.0, weight=1):
        self.desk.fetch(None if path is None else Request(path, weight), self.done, delay)

    def done(self, answer, asked_at):
        self.answers.append(answer)
        self.arrived.release()

    def wait(self, count=1):
        for _ in range(count):
            assert self.arrived.acquire(timeout=10)
        return self.answers


@pytest.fixture
def desk(server):
    desk = Desk(server.server_address[1])
    yield desk
    desk.desk.close()


def test_answers_come_back_and_later_ones_after_earlier_ones(desk):
    desk.fetch("/late", 0.3)
    desk.fetch("/soon")
    desk.fetch(None, 0.1)
    assert desk.wait(3) == [b"/soon", b"", b"/late"]


def test_a_refusal_is_an_answer_that_says_so(server, desk):
    server.answer = lambda path: (503, {}, b"maintenance")
    desk.fetch("/x")
    error, = desk.wait()
    assert isinstance(error, VenueError)
    assert "HTTP 503 to /x: b'maintenance'" in str(error)


@pytest.mark.parametrize("status", [418, 429])
def test_too_many_requests_hold_up_all_of_that_venue(server, desk, status):
    server.answer = lambda path: (status, {"Retry-After": "77"}, b"")
    desk.fetch("/x")
    desk.wait()
    assert 70 < desk.governor.reserve("rest") <= 77


@pytest.mark.parametrize(("text", "seconds"), [
    ("5", 5.0), ("0", 0.0), ("", 10.0), ("-3", 10.0), ("nan", 10.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 10.0),
    ("99999999999", LONGEST_BLOCK_S), ("٣", 10.0),
])
def test_retry_after_is_a_number_of_seconds_or_ten(text, seconds):
    assert patience(text) == seconds


def test_whatever_a_server_answers_the_desk_goes_on(server, desk):
    answers = [(200, {"Transfer-Encoding": "chunked"}, b"zz"), (429, {"Retry-After": "soon"}, b""), (999, {}, b"x")]
    server.answer = lambda path: answers.pop()
    desk.governor.block = lambda *_: None       # or the next answer would be ten seconds away
    for _ in range(3):
        desk.fetch("/x")
        desk.wait()
    assert all(isinstance(answer, MantraError) for answer in desk.answers)
    server.answer = lambda path: (200, {}, b"fine")
    desk.fetch("/x")
    assert desk.wait()[-1] == b"fine"


@pytest.mark.parametrize("situation", ["no answer", "paced", "waiting"])
def test_it_closes_at_once_whatever_it_waits_for(situation):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        desk = Desk(mute.getsockname()[1], [Rate(1, 3600.0)] if situation == "paced" else ())
        desk.governor.reserve("rest")
        desk.fetch("/x", 3600.0 if situation == "waiting" else 0.0)
        if situation == "no answer":
            connection, _ = mute.accept()
            connection.recv(1)
        desk.desk.close()
        assert not [thread for thread in desk.desk._threads if thread.is_alive()]
        assert desk.answers == []


def test_what_a_lost_connection_still_wanted_is_not_fetched_any_more(desk):
    desk.desk.fetch(Request("/of-the-old-connection", 1), desk.done, 0.05, lambda: False)
    desk.fetch("/of-the-new-one", 0.1)
    assert desk.wait() == [b"/of-the-new-one"]
