"""Instruments to connections, depth and time of a start."""
from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from mantra import venues
from mantra.client.governor import Governor
from mantra.core.clock import Clock
from mantra.listener.planner import deeper, estimate, first_levels, plan_connections


@dataclass(frozen=True)
class Symbol:
    symbol: str


def idle(venue):
    return Governor(Clock.virtual(0), venue.limits.rates)


def symbols(count, form="S{}USDT"):
    return [Symbol(form.format(number)) for number in range(count)]


def sizes(venue, wanted, trades=True, most=None):
    parts = plan_connections(wanted, venue, "book", trades, most)
    assert sorted(row.symbol for part in parts for row in part) == sorted(row.symbol for row in wanted)
    return [len(part) for part in parts]


def test_a_connection_has_no_more_channels_than_the_venue_allows():
    assert sizes(venues.get("bitfinex"), symbols(30, "t{}USD"), trades=False) == [25, 5]
    assert sizes(venues.get("bitfinex"), symbols(30, "t{}USD")) == [12, 12, 6]


def test_big_books_have_a_connection_to_themselves():
    venue = venues.get("bitstamp")
    venue.alone = frozenset({"S1USDT", "S3USDT"})
    assert sizes(venue, symbols(6)) == [1, 1, 4]


def test_a_frame_that_the_venue_would_refuse_is_never_needed():
    venue = venues.get("bitstamp")
    venue.subscribe_texts = lambda symbols, mode, trades: [",".join(symbols)]      # all in one, as some want it
    venue.limits = replace(venue.limits, frame_bytes=30)
    for part in plan_connections(symbols(20), venue, "book", False):
        assert len(",".join(row.symbol for row in part)) <= 30


@pytest.mark.parametrize(("count", "levels"), [(1, 5000), (19, 5000), (20, 1000), (96, 1000), (97, 500), (192, 500),
                                               (193, 100), (960, 100), (1543, 100)])
def test_snapshots_are_as_deep_as_lets_all_come_within_the_first_minute(count, levels):
    venue = venues.get("binance")
    assert first_levels(venue, [row.symbol for row in symbols(count)], "book", idle(venue)) == levels


def test_what_others_have_spent_makes_the_snapshots_of_a_restart_smaller():
    venue = venues.get("binance")
    governor, names = idle(venue), [row.symbol for row in symbols(19)]
    assert governor.reserve("rest", 19 * 250) == 0
    assert first_levels(venue, names, "book", governor) == 1000
    assert governor.reserve("rest", 1000) == 0
    assert first_levels(venue, names, "book", governor) == 100
    assert governor.reserve("rest", 250) == 0
    assert first_levels(venue, names, "book", governor) == 5000    # all must wait for the same end


def test_a_book_that_was_live_gets_a_deeper_snapshot_while_half_of_the_pace_is_free():
    venue, governor = venues.get("binance"), idle(venues.get("binance"))
    depths = []
    while governor.reserve("rest", 240) == 0:
        depths.append(deeper(venue, "ETHBTC", 100, governor))
    assert depths == [5000] * 11 + [1000] + [100] * 13


def test_where_weight_does_not_depend_on_depth_or_nothing_is_asked_the_deepest_will_do():
    assert first_levels(venues.get("bitstamp"), ["btcusd"] * 300, "book", idle(venues.get("bitstamp"))) == 5000
    assert first_levels(venues.get("binance"), ["BTCUSDT"] * 3000, "top", idle(venues.get("binance"))) == 5000


def test_the_estimate_is_that_of_the_slowest_rule():
    binance, bitfinex = venues.get("binance"), venues.get("bitfinex")
    wanted = symbols(2500)
    made = estimate(plan_connections(wanted, binance, "book", True), binance, "book", True, 100, idle(binance))
    assert (made.weight, made.seconds) == (12_500, 120.0)      # those of the third minute begin then
    wanted = symbols(1250, "t{}USD")
    made = estimate(plan_connections(wanted, bitfinex, "book", False), bitfinex, "book", False, 100, idle(bitfinex))
    assert (made.connections, made.weight, made.seconds) == (50, 0, 120.0)         # twenty connects a minute
