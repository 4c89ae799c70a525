"""What goes wrong between a venue and its books, over sockets: seen at once, counted, healed, never silently wrong.

Four runs (books or tops, a thread for each connection or a poller) read the same simulated venues, so that each fault
is suffered by all of them at once. `Feeds` compares whatever they claim to be right with the venue's own book, all the
time.
"""
from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from contextlib import ExitStack

import pytest

from mantra.core.ledger import FeedState
from mantra.core.messages import Reason, Trust
from mantra.errors import UnknownSymbol
from tests.end_to_end.feeds import DOWN, NAMES, SYNCHRONISING, Feeds, Fleet, simulated_feeds, until
from tests.end_to_end.simulated import Child

KINDS = [{"mode": mode, "reader": reader} for mode in ("book", "top") for reader in ("threads", "poller")]
GAP = (Trust.SUSPECT, Reason.GAP)
PORTS = itertools.count(20_000 + os.getpid() % 12_000, 2)


@pytest.fixture(scope="module")
def fleet():
    with ExitStack() as stack:
        child = stack.enter_context(Child("--venues", ",".join(NAMES), "--instruments", "eth-btc", "--unlimited"))
        feeds = [stack.enter_context(Feeds(child.endpoints, NAMES, **kind)) for kind in KINDS]
        for one in feeds:
            one.settle()
        yield Fleet(child, feeds)


@pytest.fixture(params=NAMES)
def venue(request):
    return request.param


def test_a_cut_connection_is_down_at_once_and_made_again(fleet, venue):
    fleet.strike(venue, lambda one: one.order(venue, cut=1), [DOWN, SYNCHRONISING], ["reconnects", "down_ns"])


def test_a_silent_connection_is_stale_then_given_up(fleet, venue):
    fleet.strike(venue, lambda one: one.order(venue, stall="3s"),
                 [(Trust.STALE, Reason.SILENT), (Trust.DOWN, Reason.SILENT)], ["reconnects"])


def test_a_short_silence_is_stale_and_passes(fleet, venue):
    connects = [one.count(venue, "connects") for one in fleet.feeds]
    fleet.strike(venue, lambda one: one.order(venue, stall="1s"), [(Trust.STALE, Reason.SILENT)], [])
    assert [one.count(venue, "connects") for one in fleet.feeds] == connects


def test_a_restart_announced_in_time_is_noticed_by_nobody(fleet, venue):
    marks, connects = ([ask(one) for one in fleet.feeds]
                       for ask in (lambda one: one.mark(venue), lambda one: one.count(venue, "connects")))
    fleet.feeds[0].order(venue, reconnect="6s")
    for one, mark, before in zip(fleet.feeds, marks, connects, strict=True):
        until(lambda: one.count(venue, "connects") == before + 1, "a successor is connected")  # noqa: B023
        one.heals(venue)
        assert one.seen(venue, mark) <= {(one.live(venue), Reason.NONE)}


def test_a_restart_announced_too_late_is_followed_at_once(fleet, venue):
    marks, before = ([ask(one) for one in fleet.feeds]
                     for ask in (lambda one: one.mark(venue), lambda one: one.count(venue, "reconnects")))
    fleet.strike(venue, lambda one: one.order(venue, reconnect="0ms"), [], ["connects"])
    for one, mark, was in zip(fleet.feeds, marks, before, strict=True):     # unless a successor was faster yet
        assert (DOWN in one.seen(venue, mark)) == (one.count(venue, "reconnects") > was)


def test_a_venue_that_restarts_is_waited_for(fleet, venue):
    fleet.strike(venue, lambda one: one.order(venue, restart="700ms"), [DOWN, SYNCHRONISING], ["reconnects", "refused"])


def test_a_venue_that_refuses_the_place_is_asked_again_later(fleet, venue):
    fleet.strike(venue, lambda one: one.order(venue, block=8, cut=1), [DOWN], ["reconnects", "refused"])


def test_fragments_and_single_bytes_change_nothing(fleet, venue):
    marks = [one.mark(venue) for one in fleet.feeds]
    fleet.feeds[0].faults(venue, fragment=1, bytewise=1)
    try:
        for one in fleet.feeds:
            one.heals(venue)
    finally:
        fleet.feeds[0].faults(venue, drop=0)
    for one, mark in zip(fleet.feeds, marks, strict=True):
        assert one.seen(venue, mark) <= {(one.live(venue), Reason.NONE)}


def misbehave(one, venue, **rates):
    """For some messages of every channel."""
    one.faults(venue, **rates)
    try:
        time.sleep(1.2)
    finally:
        one.faults(venue, drop=0)


def test_duplicates_change_nothing(fleet, venue):
    marks = [one.mark(venue) for one in fleet.feeds]
    misbehave(fleet.feeds[0], venue, duplicate=1)
    for one, mark in zip(fleet.feeds, marks, strict=True):
        one.heals(venue)
        assert one.seen(venue, mark) <= {(one.live(venue), Reason.NONE)}
        assert one.count(venue, "old_dropped") + one.count(venue, "unchanged") > 0


def test_a_lost_message_of_a_numbered_stream_is_a_gap_and_resynchronised(fleet):
    books = Fleet(fleet.child, fleet.feeds[:2])

    books.strike("binance", lambda one: misbehave(one, "binance", drop=1), [GAP], ["gaps", "resyncs"])
    for one in fleet.feeds[2:]:
        one.heals("binance")        # a top is whole in every message


def test_messages_in_the_wrong_order_are_noticed_even_without_numbers(fleet, venue):
    books = Fleet(fleet.child, fleet.feeds[:2])
    before = [one.count(venue, "gaps") for one in books.feeds]

    def mix(one):
        for _ in range(5):              # a quiet second has no order
            misbehave(one, venue, reorder=1)
            if all(run.count(venue, "gaps") > was for run, was in zip(books.feeds, before, strict=True)):
                return

    books.strike(venue, mix, [GAP], ["gaps", "resyncs"])


def test_refused_snapshots_are_asked_for_again(fleet, venue):
    Fleet(fleet.child, fleet.feeds[:2]).strike(
        venue, lambda one: one.order(venue, refuse=4, cut=1), [DOWN, SYNCHRONISING], ["refused", "reconnects"])


def test_the_world_view_does_without_a_venue_at_once(fleet):
    one = fleet.feeds[0].settle()
    until(lambda: one.world_venues() == set(NAMES), one.world_venues)
    worlds = one.system.spine.queue("world", "world").consumer()
    one.order("binance", restart="1s")
    until(lambda: one.trust("binance") < Trust.UNVERIFIED, "binance is not trusted")
    until(lambda: one.world_venues() == {"bitstamp"}, one.world_venues)
    views = list(worlds)
    for view in views:              # the very message that shows less trust shows nothing of that venue
        standing = {mask for _, _, mask in [*view.bids, *view.asks]}
        assert view.trust[0] >= Trust.UNVERIFIED or not any(mask & 1 for mask in standing)
    one.heals("binance")
    until(lambda: one.world_venues() == set(NAMES), one.world_venues)


# Runs of their own


def test_a_venue_killed_without_a_word_is_found_again_at_its_address():
    port = next(PORTS)
    arguments = ("--venues", "binance,bitstamp", "--instruments", "eth-btc", "--port", str(port))
    with Child(*arguments) as first, Feeds(first.endpoints) as feeds:
        feeds.settle()
        marks = {name: feeds.mark(name) for name in NAMES}
        os.kill(first.process.pid, signal.SIGKILL)
        for name in NAMES:
            until(lambda name=name: DOWN in feeds.seen(name, marks[name]), f"{name} is down")
        until(lambda: feeds.world_venues() == set(), feeds.world_venues)
        until(lambda: feeds.count("binance", "refused") > 0, "connecting is refused")
        trades = {name: feeds.count(name, "trades") for name in NAMES}
        with Child(*arguments):
            for name in NAMES:
                feeds.heals(name)
                # It counts anew: what has lower numbers than before is no repetition.
                until(lambda name=name: feeds.count(name, "trades") > trades[name], f"{name} trades")


@pytest.mark.parametrize("reader", ["threads", "poller"])
def test_tls_connections_heal_as_well(reader):
    with simulated_feeds("--tls", reader=reader) as feeds:
        for name in NAMES:
            mark = feeds.mark(name)
            order_over_tls(feeds, name, "cut=1")
            until(lambda name=name, mark=mark: DOWN in feeds.seen(name, mark), f"{name} is down")
            until(lambda name=name: feeds.healthy(name), f"{name} heals")
            assert feeds.count(name, "reconnects") == 1


def test_unknown_symbols_are_refused_up_front_with_a_suggestion():
    threads = set(threading.enumerate())
    with Child("--venues", "binance,bitstamp", "--instruments", "eth-btc,btc-usdt") as child:
        feeds = Feeds(child.endpoints, instruments=("btc-usd",))
        with pytest.raises(UnknownSymbol, match="does not list btc-usd; it lists BTC-USDT"):
            feeds.system.start()
    assert set(threading.enumerate()) <= threads


def test_the_ledger_shows_what_a_feed_is_doing():
    with simulated_feeds(names=("bitstamp",)) as feeds:
        row, = feeds.system.spine.ledger.rows()
        assert row["state"] == FeedState.LIVE
        feeds.order("bitstamp", restart="1s")
        until(lambda: row["state"] == FeedState.WAITING, "it waits")
        feeds.heals("bitstamp")
        until(lambda: row["state"] == FeedState.LIVE, "it lives")


def order_over_tls(feeds, name, what):
    import ssl
    import urllib.request

    context = ssl.create_default_context(cafile=feeds.endpoints[name]["ca_file"])
    url = f"{feeds.endpoints[name]['rest']}/simulator/now?{what}"
    urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=60, context=context).read()
