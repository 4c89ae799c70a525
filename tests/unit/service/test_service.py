"""Conflation, and how a state is encoded: no shared memory, no sockets, no clock."""
from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest

from mantra.core.messages import Reason, Trust
from mantra.errors import ConfigurationError
from mantra.runtime.serving import endpoint
from mantra.runtime.spine import RunInstrument
from mantra.service import mantra_pb2, orderbook_pb2
from mantra.service.grpc_server import summary, world
from mantra.service.service import Fanout, Pace, Topic, View

BTC = RunInstrument(slot=0, id=7, name="BTC-USD", generation=0, price_decimals=2, size_decimals=8)


def view(sequence=1, *, bids=((6812345, 150000000, 0b01),), asks=((6812346, 1, 0b10),), instrument=BTC,
         books=tuple((venue, 4, 0, 17) for venue in range(5))):
    return View(instrument, sequence, 1_000, 2_000, list(bids), list(asks), list(books))


class OneView:
    """What a Fanout reads, with one instrument whose state the test writes."""

    def __init__(self):
        self.state, self.written, self.reads = None, 0, 0

    def write(self, state):
        self.state, self.written = state, self.written + 1

    def instruments(self):
        return [BTC]

    def version(self, view, name):
        return (0, self.written) if self.written else None

    def read(self, view, name):
        self.reads += 1
        return self.state


def sequence_only(state, depth):
    return str(state.sequence).encode()


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("rate", [1, 3.5, 200])
def test_no_second_holds_more_turns_than_the_rate_whoever_comes_how_late(seed, rate):
    dice, pace, now, turns = random.Random(seed), Pace(rate), 0.0, []
    while len(turns) < 4 * rate + 10:
        if (wait := pace.wait(now)) > 0:
            now += wait + dice.choice([0, 1e-5, 1e-3, 2e-2]) * dice.random()     # woken late, as threads are
        else:
            turns.append(now)
            pace.spend(now)
            now += dice.choice([0, 1e-4]) + (dice.random() < 0.01) * dice.random() * 3      # sometimes there is nothing
    for first, after in zip(turns, turns[math.ceil(rate):], strict=False):
        assert after - first >= 1 - 1e-9


def test_turns_taken_a_little_late_still_come_close_to_the_rate():
    pace, now, turns = Pace(200), 0.0, 0
    while now < 10:
        now += max(pace.wait(now), 0) + 0.0004
        pace.spend(now)
        turns += 1
    assert 1990 <= turns <= 2000


def test_a_state_that_came_too_early_is_replaced_by_the_newest_when_its_turn_comes():
    views = OneView()
    topic = Topic(sequence_only, "world", "BTC-USD", 10, rate=200)
    assert topic.look(views, 0.0) == 0
    assert topic.newest == (0, b"")
    views.write(view(1))
    topic.look(views, 0.0)
    assert topic.newest == (1, b"1")
    for sequence in range(2, 100):
        views.write(view(sequence))
        assert 0 < topic.look(views, 0.001) <= 0.005
    assert topic.newest == (1, b"1")
    topic.look(views, 0.006)
    assert topic.newest == (2, b"99")
    assert views.reads == 2     # what nobody gets is not even read


def test_a_state_that_encodes_the_same_is_not_sent_again():
    views = OneView()
    topic = Topic(lambda state, depth: b"same", "world", "BTC-USD", 10, rate=200)
    for now in range(5):
        views.write(view(now))
        topic.look(views, float(now))
    assert topic.newest == (1, b"same")


def test_a_state_is_encoded_once_for_all_subscribers_and_never_without_any():
    views, changed = OneView(), []
    views.write(view(1))
    fanout = Fanout(views, 1e6, changed.append)
    topics = {id(fanout.subscribe(number, sequence_only, "world", "BTC-USD", 10)) for number in range(64)}
    assert len(topics) == 1
    assert views.reads == 1
    views.write(view(2))
    fanout.look()
    assert views.reads == 2
    assert [topic.newest[1] for topic in changed] == [b"2"]
    topic = changed[0]
    assert topic.subscribers == set(range(64))
    for number in range(64):
        fanout.unsubscribe(number, topic)
    views.write(view(3))
    fanout.look()
    assert views.reads == 2
    assert not fanout.wanted.is_set()
    assert fanout.subscribe(1, sequence_only, "world", "BTC-USD", 10).newest[1] == b"3"    # at once, not with the next


@pytest.mark.parametrize("seed", range(30))
def test_doubles_are_the_nearest_and_texts_are_exact(seed):
    dice = random.Random(seed)
    instrument = RunInstrument(0, 1, "A-B", 0, dice.randrange(0, 13), dice.randrange(0, 13))
    levels = [(dice.randrange(1, 2 ** dice.randrange(1, 63)), dice.randrange(1, 2 ** dice.randrange(1, 63)), 1 << venue)
              for venue in range(5)]
    state = view(instrument=instrument, bids=levels, asks=levels)
    doubles = orderbook_pb2.Summary.FromString(summary(state, 10))
    texts = mantra_pb2.World.FromString(world(state, 10))
    for (price, size, _), double, text in zip(levels, doubles.bids, texts.asks, strict=True):
        exact = Fraction(price, 10 ** instrument.price_decimals), Fraction(size, 10 ** instrument.size_decimals)
        assert (Fraction(text.price), Fraction(text.size)) == exact
        assert (double.price, double.amount) == tuple(map(float, exact))
        assert "e" not in text.price.lower()
        assert "." not in text.price or text.price[-1] not in "0."
    assert [level.exchange for level in doubles.asks] == ["binance", "bitstamp", "bitfinex", "coinbase", "kraken"]


def test_a_negative_spread_stays_negative():
    state = view(bids=[(10001, 1, 1)], asks=[(9950, 1, 2)])
    assert orderbook_pb2.Summary.FromString(summary(state, 10)).spread == -0.51
    assert mantra_pb2.World.FromString(world(state, 10)).spread == "-0.51"


def test_a_side_that_is_empty_leaves_no_spread():
    state = view(asks=())
    assert orderbook_pb2.Summary.FromString(summary(state, 10)).spread == 0
    answer = mantra_pb2.World.FromString(world(state, 10))
    assert (answer.spread, len(answer.bids), len(answer.asks)) == ("", 1, 0)


def test_a_world_carries_trust_times_sequence_and_all_venues_of_a_level():
    state = view(9, bids=[(100, 5, 0b10011)], books=[(0, 4, 0, 17), (1, 2, 3, 0)])
    answer = mantra_pb2.World.FromString(world(state, 10))
    assert (answer.instrument, answer.sequence, answer.origin_ns, answer.published_ns) == ("BTC-USD", 9, 1_000, 2_000)
    assert list(answer.bids[0].venues) == ["binance", "bitstamp", "kraken"]
    assert [(one.name, one.trust, one.since_ns, one.reason) for one in answer.venues] == [
        ("binance", mantra_pb2.VERIFIED, 17 * 10**9, mantra_pb2.NONE),
        ("bitstamp", mantra_pb2.SUSPECT, 0, mantra_pb2.CROSSED)]


@pytest.mark.parametrize("trust", list(Trust))
def test_the_compatible_service_leaves_out_what_is_not_trusted(trust):
    """Its clients can not be told: whatever the aggregator's own policy lets in."""
    state = view(bids=[(101, 7, 0b01), (100, 1, 0b10)], asks=[(102, 3, 0b11), (103, 1, 0b01)],
                 books=[(0, int(trust), 0, 17), (1, 4, 0, 17)])
    answer = orderbook_pb2.Summary.FromString(summary(state, 10))
    said = [[(level.exchange, level.amount) for level in side] for side in (answer.bids, answer.asks)]
    if trust >= Trust.UNVERIFIED:
        assert said == [[("binance", 7e-8), ("bitstamp", 1e-8)], [("binance", 3e-8), ("binance", 1e-8)]]
    else:
        assert said == [[("bitstamp", 1e-8)], [("bitstamp", 3e-8)]]
    assert answer.spread == (0.01 if trust >= Trust.UNVERIFIED else 0.02)


def test_every_trust_and_reason_has_its_name_in_the_interface():
    assert dict(mantra_pb2.Trust.items()) == {trust.name: trust.value for trust in Trust}
    assert dict(mantra_pb2.Reason.items()) == {reason.name: reason.value for reason in Reason}


def test_depth_cuts_both_sides():
    levels = [(100 - row, 1, 1) for row in range(10)]
    answer = mantra_pb2.World.FromString(world(view(bids=levels, asks=levels), 3))
    assert (len(answer.bids), len(answer.asks)) == (3, 3)


@pytest.mark.parametrize("listen", ["50051", ":50051", "here:", "here:x", "here:65536", "here:-1", ""])
def test_an_address_that_is_none_is_refused(listen):
    with pytest.raises(ConfigurationError, match="is not HOST:PORT"):
        endpoint(listen)


def test_an_address_may_be_ipv6():
    assert endpoint("[::1]:80") == ("::1", 80)
