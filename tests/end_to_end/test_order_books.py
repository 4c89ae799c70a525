"""Books derived from orders over sockets: what goes wrong is seen, counted and healed, and never silently wrong."""
from __future__ import annotations

import time
import urllib.request

import pytest

import mantra
from mantra.core.messages import Reason, Trust
from mantra.listener import witness
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


def order(child, venue, **what):
    told = "&".join(f"{name}={value}" for name, value in what.items())
    address = f"{child.endpoints[venue]['rest']}/simulator/now?{told}"
    urllib.request.urlopen(urllib.request.Request(address, method="POST"), timeout=60).close()


@pytest.fixture
def both(tmp_path):
    def topology(venue):
        file = tmp_path / "both.toml"
        file.write_text('name = "both"\n' + "".join(
            f'[[node]]\nname = "{mode}"\nkind = "listener"\nvenue = "{venue}"\nmode = "{mode}"\n'
            for mode in ("book", "orders")))
        return str(file)
    return topology


def test_a_lost_diff_that_nobody_can_see_is_contradicted_by_the_orders(both, monkeypatch):
    monkeypatch.setattr(witness, "EVERY_S", 0.4)
    with Child("--venues", "bitstamp", "--instruments", "eth-btc", "--unlimited") as child, \
            mantra.start("bitstamp", "eth-btc", endpoints=child.path, topology=both("bitstamp")) as system:
        levels, orders = (system.book(name, "ethbtc") for name in ("bitstamp", "bitstamp-orders"))
        until(lambda: orders.image(0).trust == Trust.VERIFIED and levels.image(0).trust == Trust.UNVERIFIED, "both")
        row = system.spine.ledger.row("book.0", 1)

        def contradicted():
            order(child, "bitstamp", drop=1)            # a diff, or an order's event: that is a gap, and is healed
            time.sleep(1.0)
            return row["contradicted"]

        until(contradicted, "the orders contradict the book", 60.0)
        until(lambda: levels.image(0).trust == Trust.UNVERIFIED, "it was taken anew")


def test_both_books_of_a_venue_stand_side_by_side_and_agree(fleet, both):
    with Feeds(fleet.child.endpoints, ("bitstamp",), topology=both("bitstamp")) as feeds:
        levels, orders = (feeds.system.book(name, "ethbtc") for name in ("bitstamp", "bitstamp-orders"))

        def agree():
            ours, theirs = levels.image(), orders.image()
            return theirs.trust == Trust.VERIFIED and ours.trust == Trust.UNVERIFIED and all(
                len(mine) > 100 and mine.tolist() == his.tolist()
                for mine, his in ((ours.bids, theirs.bids), (ours.asks, theirs.asks)))

        until(agree, "the two books agree")
        assert not feeds.system.spine.ledger.row("book.0", 1)["contradicted"]
        assert {order.venue for order, _ in zip(feeds.system.read("orders", 5), range(3), strict=False)} == {1}
