"""The past of a book equals what a list of every whole book says, and another's word is held against it."""
from __future__ import annotations

import random

import pytest

from mantra.core.book import Book
from mantra.core.messages import Kind, Update
from mantra.core.queue import Queue
from mantra.listener.past import Past


class Walk:
    """A book changed at random, every state of it remembered with its number and arrival."""

    def __init__(self, seed: int = 0, capacity: int = 4096) -> None:
        self.draw = random.Random(seed)
        self.book, self.updates = Book.create(None, 1, 0), Queue.create(None, "update", capacity)
        self.producer = self.updates.producer()
        self.levels: dict[tuple[int, int], int] = {}
        self.states: list[tuple[int, int, dict[tuple[int, int], int]]] = []
        self.number, self.arrival = 100, 1_000
        self.message(*((kind, price, 5) for kind, prices in ((1, range(80, 100)), (2, range(101, 121)))
                       for price in prices))

    def message(self, *changes: tuple[int, int, int]) -> None:
        self.number += self.draw.choice([1, 1, 7])
        self.arrival += self.draw.choice([1, 50])
        self.book.write(*changes, stamp=(self.number, 0, self.producer.position + len(changes)))
        for kind, price, size in changes:
            self.producer.produce(Update(instrument=1, kind=kind, price=price, size=size, sequence=self.number,
                                         origin=self.arrival))
            self.levels.pop((kind, price), None)
            if size:
                self.levels[kind, price] = size
        self.states.append((self.number, self.arrival, dict(self.levels)))

    def step(self) -> None:
        levels = self.draw.sample([(1, price) for price in range(80, 100)] + [(2, price) for price in range(101, 121)],
                                  self.draw.randint(1, 4))
        self.message(*((kind, price, self.draw.choice([0, 1, 2, 3, 4])) for kind, price in levels))


@pytest.mark.parametrize("seed", range(20))
def test_every_moment_of_any_walk_is_known(seed: int) -> None:
    walk = Walk(seed)
    for _ in range(30):
        walk.step()
    past = Past(walk.book, walk.updates)
    states = [walk.states[-1]]
    for _ in range(100):
        walk.step()
        states.append(walk.states[-1])
        if walk.draw.random() < 0.1:
            assert past.follow()
    assert past.follow()
    assert (past.first, past.sequence) == (states[0][0], states[-1][0])
    for number, arrival, levels in states:
        assert past.differences(levels, 10**6, number) == (len(levels), [])
        assert past.differences(levels, 10**6, arrival, arrival)[1] == []
        for level in walk.draw.sample(sorted(levels), 3):       # a size that it did not have then is found
            compared, differ = past.differences(levels | {level: 9}, 10**6, number)
            assert (compared, [one.level for one in differ]) == (len(levels), [level])
            assert levels[level] in [one.size for one in differ[0].had]
            ghost = {key: size for key, size in levels.items() if key != level}
            assert past.differences(ghost, 10**6, number)[1]
        first, last = sorted(walk.draw.sample(range(states[0][1], states[-1][1]), 2))
        held = [state[2] for one, state in enumerate(states) if state[1] <= last
                and (one + 1 == len(states) or states[one + 1][1] > first)]
        for level, size in {(1, 90): 2, (2, 110): 3, (1, 95): 0}.items():
            told = {one.size for one in past.had(level, first, last, by_number=False)}
            assert told == {state.get(level, 0) for state in held}
            assert (size in told) == any(state.get(level, 0) == size for state in held)


def test_what_a_message_changed_may_have_had_any_size_in_its_middle() -> None:
    walk = Walk()
    past = Past(walk.book, walk.updates)
    walk.number += 10
    walk.message((1, 99, 7), (2, 101, 0))
    assert past.follow()
    middle = {**walk.states[0][2], (1, 99): 6, (1, 98): 9}
    compared, differ = past.differences(middle, 10**6, walk.number - 5)
    assert [(one.level, one.theirs) for one in differ] == [((1, 98), 9)]
    assert compared == len(middle) - 2
    assert {one.level for one in past.differences(middle, 10**6, walk.number)[1]} == {(1, 99), (1, 98), (2, 101)}


def test_a_side_that_may_go_on_is_compared_no_further_than_it_was_told() -> None:
    walk = Walk()
    past = Past(walk.book, walk.updates)
    assert past.follow()
    told = {level: size for level, size in walk.levels.items() if 95 <= level[1] <= 105}     # five levels a side
    assert past.differences(told, 5, walk.number) == (10, [])
    assert len(past.differences(told, 6, walk.number)[1]) == 30, "a side of fewer levels than asked for ends there"


def test_a_past_that_was_lapped_or_taken_anew_begins_again() -> None:
    walk = Walk(capacity=64)
    past = Past(walk.book, walk.updates)
    for _ in range(100):
        walk.step()
    assert not past.follow()
    assert past.follow()
    assert past.differences(walk.levels, 100, walk.number)[1] == []
    for kind, known in ((Kind.RESET, False), (Kind.TRUST, True)):
        walk.book.write(stamp=(walk.number, 0, walk.producer.position + 1))
        walk.producer.produce(Update(instrument=1, kind=kind, sequence=walk.number))
        assert past.follow() == known
    walk.book.write(instrument=2)
    assert not past.follow()
