"""Books whose snapshots come in the stream: what is lost is subscribed anew, alone, and nothing else is disturbed."""
from __future__ import annotations

from contextlib import ExitStack

import pytest

from mantra.core.messages import Reason, Trust
from tests.end_to_end.feeds import DOWN, STREAMS, SYNCHRONISING, Feeds, until
from tests.end_to_end.simulated import Child

GAP, CHECKSUM = (Trust.SUSPECT, Reason.GAP), (Trust.SUSPECT, Reason.CHECKSUM)
INSTRUMENTS = ("eth-btc", "btc-usdt")


@pytest.fixture(scope="module")
def feeds():
    with ExitStack() as stack:
        child = stack.enter_context(Child("--venues", ",".join(STREAMS), "--instruments", ",".join(INSTRUMENTS),
                                          "--unlimited"))
        feeds = stack.enter_context(Feeds(child.endpoints, STREAMS, instruments=INSTRUMENTS))
        for venue in feeds.system._venues.values():
            venue.answer_s = 0.7
        yield feeds


@pytest.fixture(params=STREAMS)
def venue(request, feeds):
    settle(feeds, request.param)
    return request.param


def settle(feeds, venue):
    """Until every book of the venue is trusted fully."""
    until(lambda: all(top.trust == feeds.live(venue) for top in feeds.system.spine.newest_tops()
                      if feeds.system.spine.ledger.rows()[top.publisher].name.startswith(venue)), f"{venue} settles")
    feeds.heals(venue)


def strike(feeds, venue, sees, **orders):
    """Order faults: tops show `sees`, and everything heals. Returns {(instrument, trust, reason)} of the tops since,
    and how much the connection's counters rose."""
    mark, names = feeds.mark(venue), ("connects", "resyncs", "gaps", "checksums_failed")
    before = [feeds.count(venue, name) for name in names]
    feeds.order(venue, **orders)
    for seen in sees:
        until(lambda: seen in feeds.seen(venue, mark), lambda: f"{venue}: {seen}, but {feeds.seen(venue, mark)}")  # noqa: B023
    settle(feeds, venue)
    rose = {name: feeds.count(venue, name) - was for name, was in zip(names, before, strict=True)}
    return {(top.instrument, top.trust, top.reason) for top in feeds.tops[venue][mark:]}, rose


def test_a_gap_in_the_numbers_of_a_connection_has_all_its_books_subscribed_anew(feeds):
    for venue in ("bitfinex", "coinbase"):
        settle(feeds, venue)
        for fault in ("skip", "reorder"):
            seen, rose = strike(feeds, venue, [GAP], **{fault: 1})
            assert {instrument for instrument, trust, _ in seen if trust == Trust.SUSPECT} == {1, 2}
            assert (rose["connects"], rose["gaps"] > 0, rose["resyncs"] >= 2) == (0, True, True)


def test_a_checksum_that_fails_has_its_book_alone_subscribed_anew(feeds):
    settle(feeds, "kraken")
    seen, rose = strike(feeds, "kraken", [CHECKSUM], checksum=1)
    assert len({instrument for instrument, trust, _ in seen if trust == Trust.SUSPECT}) == 1
    assert rose == {"connects": 0, "resyncs": 1, "gaps": 0, "checksums_failed": 1}


def test_lost_acknowledgements_keep_nothing_waiting(feeds, venue):
    assert strike(feeds, venue, [DOWN], unacked=2, cut=1)[1]["connects"] >= 1


@pytest.mark.parametrize(("orders", "sees"), [
    ({"cut": 1}, [DOWN, SYNCHRONISING]),
    ({"stall": "3s"}, [(Trust.STALE, Reason.SILENT), (Trust.DOWN, Reason.SILENT)]),
    ({"restart": "500ms"}, [DOWN, SYNCHRONISING]),
], ids=lambda value: next(iter(value)) if isinstance(value, dict) else "")
def test_a_connection_that_is_lost_is_made_again(feeds, venue, orders, sees):
    assert strike(feeds, venue, sees, **orders)[1]["connects"] >= 1
