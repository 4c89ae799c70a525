"""The market model: it repeats itself exactly, is always a market, and looks like the recordings."""
from bisect import bisect_left
from collections import Counter
from itertools import combinations, pairwise
from statistics import median, quantiles

import pytest

from mantra.simulator.door import VENUES
from mantra.simulator.market import ASK, BID, View, World
from mantra.simulator.source import instrument

START_NS = 1_723_161_253_000_000_000


def listing(venue, name="btc-usdt", seed="7", world=None, rate=None):
    return VENUES[venue].listing(world or World(instrument(name), seed), seed, START_NS, rate)


def windows(flow, count):
    """(time, sequence, trades, (bids, asks) changed) of each book message."""
    for _ in range(count):
        trades = []
        while not flow.window_over:
            trades += flow.step()
        yield flow.book.time_ns, flow.book.sequence, trades, flow.book.take()
        flow.published()


@pytest.mark.parametrize("venue", VENUES)
def test_a_seed_gives_the_same_market_again_and_another_seed_another(venue):
    first, again, other = (list(windows(listing(venue, seed=seed).flow, 100)) for seed in ("7", "7", "8"))
    assert first == again
    assert first != other


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize("name", ["btc-usdt", "eth-btc", "xrp-usd", "doge-eur"])
def test_the_book_is_never_crossed_empty_or_disordered(venue, name):
    flow = listing(venue, name).flow
    for _ in windows(flow, 300):
        keys, sizes = flow.book.keys, flow.book.sizes
        assert keys[BID][-1] < 0        # bids are negated: every price is positive
        assert -keys[BID][0] < keys[ASK][0]
        for side in (BID, ASK):
            assert keys[side] == sorted(sizes[side])
            assert len(keys[side]) > 100
            assert min(sizes[side].values()) > 0


@pytest.mark.parametrize("venue", VENUES)
def test_the_changes_of_all_messages_make_the_book(venue):
    flow = listing(venue).flow
    bids, asks = (dict(side) for side in flow.book.top(10**6))
    for *_, changed in windows(flow, 200):
        for book, rows in zip((bids, asks), changed, strict=True):
            for price, size in rows:
                book[price] = size
    for book, rows in zip((bids, asks), flow.book.top(10**6), strict=True):
        assert {price: size for price, size in book.items() if size} == dict(rows)


@pytest.mark.parametrize("venue", VENUES)
def test_the_past_can_be_asked_for_by_sequence_and_by_time(venue):
    flow = listing(venue).flow
    kept = [(flow.book.sequence, at, *flow.book.top(10**6)) for at, *_ in windows(flow, 30)]
    for sequence, at, bids, asks in kept[5:]:
        assert flow.book.past(sequence=sequence) == (sequence, bids, asks)
        assert flow.book.past(time_ns=at) == (sequence, bids, asks)
    assert flow.book.past(sequence=1) is None


@pytest.mark.parametrize("venue", VENUES)
def test_the_moments_of_a_book_go_back_through_every_step(venue):
    flow = listing(venue).flow
    kept = {}
    for _ in range(200):
        flow.step()
        kept[flow.book.time_ns] = [dict(sizes) for sizes in flow.book.sizes]
        if flow.window_over:
            flow.published()
    states = [(since, [dict(side) for side in sizes], [list(side) for side in keys])
              for since, keys, sizes, _ in flow.book.moments()]
    for since, sizes, keys in states[:-1]:
        assert sizes == kept[since] if since in kept else flow.book.singly      # then each change is a moment
        assert keys == [sorted(side) for side in sizes]
    assert len(states) > 50


@pytest.mark.parametrize("depth", [1, 10, 100])
def test_a_view_is_kept_by_who_truncates(depth):
    flow = listing("kraken").flow
    view = View(flow.book, depth)
    cutting = [dict(side) for side in flow.book.top(depth)]
    returned = 0
    for *_, changed in windows(flow, 2000):
        news, came = view.take(changed)
        for side, best_first in ((BID, True), (ASK, False)):
            returned += len(came[side])
            for price, size in news[side] + came[side]:
                if size:
                    cutting[side][price] = size
                else:
                    del cutting[side][price]        # never of an unknown level
            cutting[side] = dict(sorted(cutting[side].items(), reverse=best_first)[:depth])
            assert cutting[side] == dict(flow.book.top(depth)[side])
    assert returned > 20


def test_a_cross_stands_until_the_next_step():
    flow = listing("binance").flow
    for _ in windows(flow, 3):
        pass
    due = flow.due_ns
    flow.cross(due, 5_000_000_000)
    assert -flow.book.keys[BID][0] > flow.book.keys[ASK][0]
    assert flow.due_ns >= due + 5_000_000_000
    flow.step()
    assert -flow.book.keys[BID][0] < flow.book.keys[ASK][0]


def test_a_clock_that_jumps_back_does_not_take_the_sequence_with_it():
    flow = listing("bitstamp").flow
    sequences = []
    for place in range(200):
        flow.skew_ns = (0, 3_000_000_000, -3_000_000_000)[place // 70]
        flow.step()
        sequences.append(flow.book.sequence)
        if flow.window_over:
            flow.published()
    assert sequences == sorted(sequences)
    assert max(after - before for before, after in pairwise(sequences)) > 2_000_000


def test_trades_take_what_the_book_loses():
    flow = listing("binance").flow
    seen = 0
    for _ in range(2000):
        flow.book.history.clear()
        traded = Counter()
        for trade in flow.step():
            traded[BID if trade.sell else ASK, -trade.price if trade.sell else trade.price] += trade.size
            seen += 1
        for (side, key), size in traded.items():
            held = [before for *_, changed, at, before in flow.book.history if (changed, at) == (side, key)]
            held.append(flow.book.sizes[side].get(key, 0))
            assert size <= sum(max(0, one - after) for one, after in pairwise(held))
        if flow.window_over:
            flow.published()
    assert seen > 100


def test_venues_of_one_world_move_together():
    world = World(instrument("btc-usdt"), "3")
    flows = [listing(venue, seed="3", world=world).flow for venue in VENUES]
    mids = [[] for _ in flows]
    for moment in range(1, 200):
        for place, flow in enumerate(flows):
            while flow.due_ns < START_NS + moment * 1_000_000_000:
                flow.step()
                if flow.window_over:
                    flow.published()
            bid, ask = flow.book.keys[BID][0], flow.book.keys[ASK][0]
            mids[place].append((ask - bid) / 2 * flow.price_step)
    for one, two in combinations(mids, 2):
        apart = [abs(first - second) for first, second in zip(one, two, strict=True)]
        assert median(apart) < 10 < max(one) - min(one)
        assert one != two


# (levels a message p50, p90), share of removals, share of levels inside the best 1, 10, 100: shared/data/README.md
RECORDED = {
    ("binance", "btc-usdt"): ((16, 70), 0.48, (0.07, 0.19, 0.53)),
    ("bitstamp", "eth-usd"): ((5, 12), 0.45, (0.09, 0.54, 1.00)),
    ("coinbase", "btc-usd"): ((4, 10), 0.27, (0.04, 0.08, 0.23)),
    ("bitfinex", "btc-usd"): ((1, 2), 0.30, (0.06, 0.57, 0.97)),
}


@pytest.mark.parametrize(("venue", "name"), RECORDED)
def test_messages_look_like_those_of_the_recordings(venue, name):
    (typical, large), removals, near = RECORDED[venue, name]
    flow = listing(venue, name).flow
    counts, removed, ranks = [], 0, []
    for *_, changed in windows(flow, 1500):
        counts.append(len(changed[0]) + len(changed[1]))
        for side, rows in enumerate(changed):
            for price, size in rows:
                removed += size == 0
                ranks.append(bisect_left(flow.book.keys[side], price if side == ASK else -price))
    assert typical / 1.5 <= median(counts) <= typical * 1.5
    assert large / 1.6 <= quantiles(counts, n=10)[-1] <= large * 1.6
    assert abs(removed / len(ranks) - removals) < 0.08
    for best, share in zip((1, 10, 100), near, strict=True):
        assert abs(sum(rank < best for rank in ranks) / len(ranks) - share) < 0.15


def test_a_rate_changes_how_often_and_not_how_much():
    slow, fast = (listing("binance", rate=rate).flow for rate in (10, 1000))
    sizes = []
    for flow in (slow, fast):
        made = list(windows(flow, 1000))
        sizes.append(sum(len(bids) + len(asks) for *_, (bids, asks) in made) / len(made))
    assert fast.book.time_ns - START_NS < (slow.book.time_ns - START_NS) / 50
    assert 0.4 < sizes[0] / sizes[1] < 2.5
