"""Books derived from orders over sockets: what goes wrong is seen, counted and healed, and never silently wrong."""
from __future__ import annotations

import pytest

from mantra.core.messages import Reason, Trust
from tests.end_to_end.feeds import DOWN, SYNCHRONISING, Feeds, Fleet, until
from tests.end_to_end.simulated import Child

NAMES = ("bitfinex", "bitstamp")
GAP = (Trust.SUSPECT, Reason.GAP)


@pytest.fixture(scope="module", params=["threads", "poller"])
def fleet(request):
    with Child("--venues", ",".join(NAMES), "--instruments", "eth-btc", "--unlimited") as child, \
            Feeds(child.endpoints, NAMES, mode="orders", reader=request.param) as feeds:
        yield Fleet(child, [feeds.settle()])


@pytest.fixture(params=NAMES)
def venue(request):
    return request.param


def test_a_cut_connection_is_down_at_once_and_made_again(fleet, venue):
    fleet.strike(venue, lambda one: one.order(venue, cut=1), [DOWN, SYNCHRONISING], ["reconnects", "down_ns"])


def test_a_lost_event_is_a_gap_and_the_orders_are_taken_anew(fleet, venue):
    fleet.strike(venue, lambda one: one.order(venue, drop=1), [GAP], ["gaps", "resyncs"])


def test_a_checksum_over_orders_that_does_not_hold_is_noticed(fleet):
    fleet.strike("bitfinex", lambda one: one.order("bitfinex", checksum=1), [(Trust.SUSPECT, Reason.CHECKSUM)],
                 ["checksums_failed", "resyncs"])


def test_nothing_is_believed_while_the_venue_stands_still(fleet):
    def pause(one):
        one.order("bitfinex", maintenance="2s")
        until(lambda: one.trust("bitfinex") < Trust.UNVERIFIED, "the book is doubted")
        until(lambda: one.ask("bitfinex", "/v2/platform/status") == [1], "it is over")

    fleet.strike("bitfinex", pause, [DOWN, SYNCHRONISING], ["reconnects"])


def test_an_announced_restart_is_noticed_by_nobody(fleet):
    venue = "bitstamp"
    marks, connects = ([ask(one) for one in fleet.feeds]
                       for ask in (lambda one: one.mark(venue), lambda one: one.count(venue, "connects")))
    reader = fleet.feeds[0].system.spine.reader("orders.bitstamp", on_lap="count")
    fleet.feeds[0].order(venue, reconnect="6s")
    for one, mark, before in zip(fleet.feeds, marks, connects, strict=True):
        until(lambda: one.count(venue, "connects") == before + 1, "a successor is connected")  # noqa: B023
        one.heals(venue)
        assert one.seen(venue, mark) <= {(one.live(venue), Reason.NONE)}
    told = list(reader)
    anew = [at for at, order in enumerate(told) if order.order_id == 0]
    assert len(anew) == 1, "the successor's orders, once"
    assert len({order.order_id for order in told[anew[0] + 1:]}) > 500


def test_both_books_of_a_venue_stand_side_by_side_and_agree(fleet, tmp_path):
    file = tmp_path / "both.toml"
    file.write_text('name = "both"\n' + "".join(
        f'[[node]]\nname = "{mode}"\nkind = "listener"\nvenue = "bitstamp"\nmode = "{mode}"\n'
        for mode in ("book", "orders")))
    with Feeds(fleet.child.endpoints, ("bitstamp",), topology=str(file)) as feeds:
        levels, orders = (feeds.system.book(name, "ethbtc") for name in ("bitstamp", "bitstamp-orders"))

        def agree():
            ours, theirs = levels.image(), orders.image()
            return theirs.trust == Trust.VERIFIED and ours.trust == Trust.UNVERIFIED and all(
                len(mine) > 100 and mine.tolist() == his.tolist()
                for mine, his in ((ours.bids, theirs.bids), (ours.asks, theirs.asks)))

        until(agree, "the two books agree")
        assert {order.venue for order, _ in zip(feeds.system.read("orders", 5), range(3), strict=False)} == {1}
