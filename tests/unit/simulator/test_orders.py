"""The order-by-order view of a book: it adds up, takes what came first, and shows windows of the best."""
import itertools

import pytest

from mantra.simulator.market import ASK, BID, World
from mantra.simulator.orders import Orders, window
from mantra.simulator.source import instrument
from tests.unit.simulator.test_market import listing


def followed(steps, name="btc-usdt"):
    """(orders, events, trades) of each step."""
    flow = listing("bitstamp", name, world=World(instrument(name), "7")).flow
    orders = Orders(flow.book, itertools.count(1).__next__, "7")
    yield flow.book, orders, [], []
    for _ in range(steps):
        trades = flow.step()
        yield flow.book, orders, list(orders.follow(trades)), trades
        if flow.window_over:
            flow.published()


def test_every_level_is_the_sum_of_its_orders_after_any_number_of_steps():
    for book, orders, _, _ in followed(600):
        for side in (BID, ASK):
            assert {key: sum(one.values()) for key, one in orders.levels[side].items()} == book.sizes[side]
            assert orders.keys[side] == book.keys[side]
            assert orders.queue[side] == sorted(
                (key, number) for key, one in orders.levels[side].items() for number in one)


def test_events_alone_make_the_orders():
    mine = None
    for _, orders, events, _ in followed(600):
        now = {number: (side, key, size) for side in (BID, ASK)
               for key, one in orders.levels[side].items() for number, size in one.items()}
        mine = dict(now) if mine is None else mine
        for event in events:
            assert mine.get(event.number, (event.side, event.key, 0)) == (event.side, event.key, event.before)
            mine[event.number] = event.side, event.key, event.after
            if not event.after:
                del mine[event.number]
        assert mine == now


def test_takers_take_all_they_traded_from_what_came_first():
    taken = 0
    for _, _, events, trades in followed(3000):
        fills = [event for event in events if event.taker]
        assert sum(event.before - event.after for event in fills) == sum(trade.size for trade in trades)
        assert {event.taker for event in fills} == {trade.order for trade in trades}
        for _, level in itertools.groupby(fills, lambda event: (event.side, event.key, event.taker)):
            numbers = [event.number for event in level]
            assert numbers == sorted(numbers)
            taken += len(numbers) > 1
    assert taken


@pytest.mark.parametrize("length", [1, 25])
def test_who_is_told_of_a_window_has_the_best_levels_and_orders_after_each_event(length):
    flow = listing("bitstamp").flow
    orders = Orders(flow.book, itertools.count(1).__next__, "7")
    levels, queue = ([set(one[:length]) for one in sides] for sides in (orders.keys, orders.queue))
    for _ in range(300):
        for event in orders.follow(flow.step()):
            moved = [(queue, orders.queue, (event.key, event.number), event.before, event.after)]
            if not event.more:
                moved.append((levels, orders.keys, event.key, event.level_before, event.level_after))
            for mine, entries, entry, before, after in moved:
                side = mine[event.side]
                for one, gone in window(entries[event.side], entry, before, after, length):
                    (side.remove if gone else side.add)(one)
                assert sorted(side) == entries[event.side][:length]
        if flow.window_over:
            flow.published()


def test_a_window_tells_what_leaves_and_what_enters():
    assert window([1, 2, 3, 4], 2, 5, 6, 3) == [(2, False)]
    assert window([1, 2, 3, 4], 4, 5, 6, 3) == []
    assert window([1, 2, 3, 4], 2, 0, 6, 3) == [(4, True), (2, False)]
    assert window([1, 2], 2, 0, 6, 3) == [(2, False)]
    assert window([1, 3, 4], 2, 6, 0, 3) == [(2, True), (4, False)]
    assert window([1, 3], 2, 6, 0, 3) == [(2, True)]
    assert window([1, 3, 4], 9, 6, 0, 3) == []
