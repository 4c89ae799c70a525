"""What one connection needs from Python, without a socket: connecting, cancelling, tasks, and planning."""
from __future__ import annotations

import random
import threading
from types import SimpleNamespace

import pytest

from mantra import venues
from mantra.client.client import Client
from mantra.client.governor import Backoff, Governor
from mantra.core.clock import Clock
from mantra.core.ledger import FeedState
from mantra.errors import Closed, ConfigurationError, ConnectError, VenueError
from mantra.listener.connection import Connection
from mantra.listener.feed import Plan, Wanted
from mantra.listener.planner import plan_connections
from mantra.listener.scales import Scales
from mantra.runtime.spine import Spine
from mantra.subscriber.subscriber import subscriber
from mantra.venues.instrument import Instrument, InstrumentTable

SNAPSHOT = b'{"lastUpdateId":1,"bids":[["1","1"]],"asks":[["2","1"]]}'


class Unreachable(Client):
    """Connects until it is closed, or fails at once."""

    def __init__(self, error=None):
        self.error, self.connecting, self.closed = error, threading.Event(), threading.Event()

    def connect(self):
        self.connecting.set()
        if self.error is not None:
            raise self.error
        assert self.closed.wait(10)
        raise Closed("closed")

    def close(self):
        self.closed.set()


class Desk:
    """Fetches nothing, but notes what it should: (path, done, delay, wanted)."""

    def __init__(self):
        self.asked = []

    def fetch(self, request, done, delay=0.0, wanted=None):
        self.asked.append((request.path, done, delay, wanted))


@pytest.fixture
def spine():
    with Spine.private() as spine:
        yield spine


def connection(spine, client, venue="binance", mode="book"):
    venue, table, clock = venues.get(venue), InstrumentTable(), Clock()
    wanted = [Wanted("ETHBTC", table.scale_for("ETH-BTC", 5, 4))]
    governor = Governor(clock, {})
    made = Connection(Plan(
        name="feed", venue=venue, mode=mode, depth=10, wanted=wanted, client=lambda url: client,
        subscriber=subscriber(venue, ["ETHBTC"], mode, True, governor, clock), governor=governor, desk=Desk(),
        scales=Scales(table), backoff=lambda: Backoff(random.Random(1)), snapshot_levels=5000))
    made.setup(spine, 0)
    return made


def test_a_refused_connection_is_counted_and_waits_longer_each_time(spine):
    feed, delays = connection(spine, Unreachable(ConnectError("HTTP 451: not here"))), []
    for _ in range(4):
        feed.connect()
        delays.append(feed.due - feed.clock.seconds())
    assert 0 < delays[0] < delays[1] < delays[2] < delays[3]
    assert feed.row["refused"] == 4
    assert feed.row["state"] == FeedState.WAITING


def test_a_blocked_place_is_told_what_to_use_instead(spine, caplog):
    connection(spine, Unreachable(ConnectError("HTTP 451: not here"))).connect()
    assert "data-stream.binance.vision" in caplog.text


def test_an_attempt_to_connect_ends_when_cancelled(spine):
    client = Unreachable()
    feed = connection(spine, client)
    thread = threading.Thread(target=feed.connect)
    thread.start()
    assert client.connecting.wait(10)
    feed.cancel()
    thread.join(10)
    assert not thread.is_alive()
    assert feed.transport is None


def test_an_attempt_that_was_cancelled_before_it_began_never_begins(spine):
    client = Unreachable()
    feed = connection(spine, client)
    feed.cancel()
    feed.connect()
    assert not client.connecting.is_set()


def test_tasks_posted_while_not_connected_run_in_order_on_the_feeds_own_thread(spine):
    feed, ran = connection(spine, Unreachable()), []
    poster = threading.Thread(target=lambda: [feed.post(lambda n=n: ran.append(n)) for n in range(3)])
    poster.start()
    poster.join()
    assert ran == []
    feed.tasks()
    assert ran == [0, 1, 2]


def test_a_snapshot_that_arrives_after_the_connection_was_lost_is_dropped(spine):
    feed = connection(spine, Unreachable())
    feed.recovery.want(feed.books[0])
    feed.plan.desk.asked[0][1](SNAPSHOT, 0)
    feed.tasks()
    assert feed.feed.books[0].image().bid_count == 0


@pytest.fixture
def connected(spine):
    """A connection that is up, as far as its snapshots can tell."""
    feed = connection(spine, Unreachable())
    feed.recovery.begin()
    feed.feed.begin()
    feed.transport = SimpleNamespace(wake=lambda: None)
    yield feed
    feed.transport = None


def answered(feed, answer, asked_at=0):
    """Give the answer to what was asked for last."""
    feed.plan.desk.asked[-1][1](answer, asked_at)
    feed.tasks()


def test_a_book_is_asked_for_once_until_it_arrived(connected):
    (book,), asked = connected.books, connected.plan.desk.asked
    connected.recovery.want(book)
    connected.recovery.want(book)
    assert [path for path, *_ in asked] == ["/api/v3/depth?symbol=ETHBTC&limit=5000"]
    answered(connected, SNAPSHOT)
    assert (book.asked, book.since, connected.feed.books[0].image().bid_count) == (False, None, 1)
    assert [path for path, *_ in asked[1:]] == ["/api/v3/depth?symbol=ETHBTC&limit=100"]        # the second look
    asked[0][1](SNAPSHOT, 0)                # it comes twice
    connected.tasks()
    assert len(asked) == 2


def test_an_answer_for_an_older_connection_is_not_wanted_any_more(connected):
    (book,), asked = connected.books, connected.plan.desk.asked
    connected.recovery.want(book)
    old = asked[0]
    connected.recovery.begin()
    assert not old[3]()
    connected.recovery.want(book)
    old[1](SNAPSHOT, 0)
    connected.tasks()
    assert book.asked
    assert asked[1][3]()
    answered(connected, SNAPSHOT)
    assert not book.asked


def test_asking_again_takes_longer_every_time_until_the_book_is_believed(connected):
    (book,), asked = connected.books, connected.plan.desk.asked
    connected.recovery.want(book)
    for _ in range(3):
        answered(connected, VenueError("not now"))
    delays = [delay for _, _, delay, _ in asked]
    assert delays[0] == 0.0
    assert delays[1] < delays[2] < delays[3]
    assert connected.row["refused"] == 3
    answered(connected, SNAPSHOT)
    answered(connected, SNAPSHOT)           # the second look agrees
    assert book.look is None
    assert book.backoff.next() <= 0.25


def instruments(count):
    return [Wanted(f"C{n}USDT", Instrument(n + 1, f"C{n}-USDT", 0, 8, 8)) for n in range(count)]


@pytest.mark.parametrize(("count", "trades", "most", "sizes"), [
    (0, True, None, []),
    (3, True, None, [3]),
    (1024, False, None, [512, 512]),
    (600, True, None, [341, 259]),
    (5, True, 2, [2, 2, 1]),
])
def test_instruments_are_spread_over_as_few_connections_as_the_channels_allow(count, trades, most, sizes):
    parts = plan_connections(instruments(count), venues.get("binance"), "book", trades, most)
    assert [len(part) for part in parts] == sizes
    assert [row for part in parts for row in part] == instruments(count)


def test_a_connection_without_instruments_is_no_plan():
    with pytest.raises(ConfigurationError, match="at least one"):
        plan_connections(instruments(1), venues.get("binance"), "book", True, 0)
