"""market: seeded order flow, from which the simulated venues make their books and trades.

    World (fair price, activity)  one per instrument, shared by the venues: their mids move together
      +-> Flow  one per venue and instrument: chases the price, trades, places and cancels around it
            +-> Book  the venue's true book; every change is numbered and can be undone for a while

Pure and deterministic: the same seed and start time give the same changes, trades and times, whoever listens. Prices
and sizes are integers (counts of the venue's price and size step); floats exist only inside the dice. The numbers
imitated are those of the recordings: levels per message, how many are removals, how near the top, and how they burst.
"""
from __future__ import annotations

import math
import random
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

BID, ASK = 0, 1
SECOND_NS = 1_000_000_000
WORLD_STEP_NS = 25_000_000
HISTORY_NS = 20 * SECOND_NS      # how long the past of a book can be asked for

Levels = list[tuple[int, int]]      # (price, size), best first
Sides = tuple[Levels, Levels]       # bids, asks


@dataclass(frozen=True)
class Instrument:
    """What is traded, and how lively it is. `price` in quote units; `activity` 1 is Binance's BTC-USDT."""

    base: str
    quote: str
    price: float = 25.0
    activity: float = 0.2
    unit: float = 10.0          # median order size in base units
    levels: int = 1 << 20       # per side, at most
    pace: float = 1.0           # of its messages and trades, where 1 is as many as its venue knows

    @property
    def name(self) -> str:
        return f"{self.base}-{self.quote}"


@dataclass(frozen=True)
class Habits:
    """How a venue's book behaves: what a `Flow` imitates."""

    levels: int                              # per side, about
    changes: float                           # levels touched between two book messages, when all is calm
    burst: float                             # sigma of the logarithm of activity
    removals: float                          # share of changes that remove a level
    nearness: Sequence[tuple[float, float]]  # (rank, share of changes at this rank or nearer the top)
    trades: float                            # takers a second
    window_ns: int                           # between two book messages, at the least
    window_tail_ns: int                      # plus so much on average, exponentially distributed
    counted: bool                            # the sequence counts changes; otherwise it is the time in microseconds
    gap: float                               # between levels near the top, as a share of the price


class Trade(NamedTuple):
    """One match. `order` numbers the taker's order: a sweep of several levels is several trades of one order."""

    price: int
    size: int
    sell: bool          # the taker's side
    order: int
    time_ns: int


class Moment(NamedTuple):
    """A book as it once was, until the next moment; good until that is asked for."""

    since_ns: int
    keys: tuple[list[int], list[int]]
    sizes: tuple[dict[int, int], dict[int, int]]
    undone: list[tuple[int, int, int, int]]     # (side, key, size after, size before) from the moment after this one


class World:
    """The fair price of one instrument and how busy its market is, on a grid of 25 ms."""

    def __init__(self, instrument: Instrument, seed: str) -> None:
        self.instrument = instrument
        self.dice = random.Random(f"{seed}/world/{instrument.name}")
        self.fair = instrument.price
        self.mood = 0.0
        self.last = 0
        self.path: deque[tuple[float, float]] = deque([(self.fair, self.mood)], maxlen=1024)

    def at(self, step: int) -> tuple[float, float]:
        """(fair price, mood) at this step of the grid; mood is a standard normal that lasts about a second."""
        dice = self.dice
        while self.last < step:
            self.last += 1
            self.mood = 0.97 * self.mood + 0.243 * dice.gauss(0.0, 1.0)
            # Prices stand, then jump; the busier the market, the more often. About 50 % a year.
            if dice.random() < 0.04 * math.exp(0.8 * self.mood):
                self.fair *= math.exp(dice.gauss(0.0, 6e-5))
                # Keep a long run within sight of where it began, so that after a week it still looks like this market.
                self.fair *= (self.instrument.price / self.fair) ** 1e-4
            self.path.append((self.fair, self.mood))
        return self.path[max(step - self.last - 1, -len(self.path))]


class Book:
    """A venue's true book. Keys are prices, negated for bids, ascending: the best level of either side comes first."""

    def __init__(self, counted: bool, sequence: int) -> None:
        self.counted = counted
        self.singly = False                     # the venue tells each change by itself, so each is a moment of its own
        self.sequence = sequence
        self.time_ns = 0
        self.keys: tuple[list[int], list[int]] = ([], [])
        self.sizes: tuple[dict[int, int], dict[int, int]] = ({}, {})
        self.touched: tuple[dict[int, int], dict[int, int]] = ({}, {})     # with the size of before
        self.stamp = sequence                   # what the sequence becomes with a change, where it counts microseconds
        self.history: deque[tuple[int, int, int, int, int]] = deque()

    def begin(self, time_ns: int, skew_ns: int = 0) -> None:
        """What changes now, changes at this time; the venue's clock may be off, but its sequence never goes back."""
        self.time_ns = time_ns
        self.stamp = max(self.sequence + 1, (time_ns + skew_ns) // 1000)
        while self.history and self.history[0][1] < time_ns - HISTORY_NS:
            self.history.popleft()

    def set(self, side: int, key: int, size: int) -> None:
        """Make the level `key` of `side` hold `size`; 0 removes it."""
        sizes, keys = self.sizes[side], self.keys[side]
        before = sizes.get(key, 0)
        if before == size:
            return
        if size == 0:
            del sizes[key]
            del keys[bisect_left(keys, key)]
        else:
            if before == 0:
                insort(keys, key)
            sizes[key] = size
        self.time_ns += self.singly
        self.history.append((self.sequence, self.time_ns, side, key, before))
        self.sequence = self.sequence + 1 if self.counted else self.stamp
        self.touched[side].setdefault(key, before)

    def top(self, levels: int) -> Sides:
        """The best levels of both sides."""
        return self._rows(self.sizes, [keys[:levels] for keys in self.keys])

    def take(self, net: bool = False) -> Sides:
        """What changed since the last call, with the sizes of now; 0 is removed. `net`: not what is again as it was."""
        changed = [sorted(key for key, before in touched.items() if not net or sizes.get(key, 0) != before)
                   for touched, sizes in zip(self.touched, self.sizes, strict=True)]
        for touched in self.touched:
            touched.clear()
        return self._rows(self.sizes, changed)

    def past(self, *, sequence: int | None = None, time_ns: int | None = None) -> tuple[int, Levels, Levels] | None:
        """(sequence, bids, asks) as they were at an earlier sequence or time; None when that is forgotten."""
        sizes = (dict(self.sizes[BID]), dict(self.sizes[ASK]))
        reached = self.sequence
        for before_sequence, changed_ns, side, key, before in reversed(self.history):
            if (sequence is not None and reached <= sequence) or (time_ns is not None and changed_ns <= time_ns):
                break
            if before:
                sizes[side][key] = before
            else:
                sizes[side].pop(key, None)
            reached = before_sequence
        else:
            if sequence is not None and reached > sequence:
                return None
        return reached, *self._rows(sizes, [sorted(side) for side in sizes])

    def moments(self) -> Iterator[Moment]:
        """The book now and, going back, after each step that the history knows."""
        keys, sizes = (list(self.keys[BID]), list(self.keys[ASK])), (dict(self.sizes[BID]), dict(self.sizes[ASK]))
        since, undone = self.history[-1][1] if self.history else 0, list[tuple[int, int, int, int]]()
        yield Moment(since, keys, sizes, undone)
        for _, changed_ns, side, key, before in reversed(self.history):
            if changed_ns != since:
                since = changed_ns
                yield Moment(since, keys, sizes, undone)
                undone = []
            undone.append((side, key, sizes[side].get(key, 0), before))
            if not before:
                del sizes[side][key]
                del keys[side][bisect_left(keys[side], key)]
            else:
                if key not in sizes[side]:
                    insort(keys[side], key)
                sizes[side][key] = before
        yield Moment(0, keys, sizes, undone)

    @staticmethod
    def _rows(sizes: Sequence[dict[int, int]], keys: Sequence[list[int]]) -> Sides:
        bids, asks = sizes
        return [(-key, bids.get(key, 0)) for key in keys[BID]], [(key, asks.get(key, 0)) for key in keys[ASK]]


class View:
    """The best `depth` levels of a book as its subscribers have them, where a venue shows no more."""

    def __init__(self, book: Book, depth: int) -> None:
        self.book, self.depth = book, depth
        self.shown = self._best()

    def _best(self) -> list[set[int]]:
        return [set(keys[:self.depth]) for keys in self.book.keys]

    def take(self, changed: Sides) -> tuple[Sides, Sides]:
        """Of all that `changed`: (set or removed in view, come into view unchanged). What is pushed out is not told."""
        shown, self.shown = self.shown, self._best()
        news, came = [], []
        for side, sign in ((BID, -1), (ASK, 1)):
            sizes, now, before = self.book.sizes[side], self.shown[side], shown[side]
            touched = {sign * price for price, _ in changed[side]}
            news.append([(price, size) for price, size in changed[side]
                         if (key := sign * price) in now or (not size and key in before)])
            came.append([(sign * key, sizes[key]) for key in sorted(now - before - touched)])
        return (news[0], news[1]), (came[0], came[1])


class Flow:
    """One instrument's order flow at one venue: `step` at each `due_ns`, then `published` when `window_over`."""

    def __init__(self, world: World, habits: Habits, decimals: Sequence[int], seed: str, start_ns: int,
                 rate: float | None = None) -> None:
        """`decimals` of the price and the size step; `rate`: book messages a second, as the venue does by default."""
        price_step, lots = 10.0 ** -decimals[0], max(1.0, world.instrument.unit * 10.0 ** decimals[1])
        self.world = world
        self.habits = habits
        self.dice = dice = random.Random(f"{seed}/{world.instrument.name}")
        self.start_ns = start_ns
        self.price_step = price_step
        self.scale = 1.0 if rate is None else SECOND_NS / rate / (habits.window_ns + habits.window_tail_ns)
        self.scale /= world.instrument.pace
        self.most_steps = 12 if world.instrument.pace >= 1 else 1   # REST is not to be ahead of the stream for seconds
        self.liveliness = world.instrument.activity ** 0.5
        self.median_size = math.log(lots)
        self.round_size = 10 ** max(0, round(math.log10(lots)) - 1)
        self.noise = 0.0
        self.orders = dice.randrange(10**6, 10**9)
        self.book = Book(habits.counted, dice.randrange(10**8, 10**10) if habits.counted else start_ns // 1000)
        self.book.begin(start_ns)
        self.skew_ns = 0
        self.crossed: int | None = None         # key of the bid that crosses the book
        # Levels further out lie further apart, as they do in life.
        self.gap = max(1.0, world.fair * habits.gap / price_step)
        for side in (BID, ASK):
            key = math.floor(world.fair / price_step) * (-1 if side == BID else 1) + side
            for rank in range(min(habits.levels, world.instrument.levels)):
                if side == BID and key >= 0:    # prices are positive: where steps are coarse, the book is shorter
                    break
                self.book.set(side, key, self._size())
                key += 1 + int(dice.expovariate(1.0 / self.gap) * (1 + rank / 100))
        self.levels = (len(self.book.keys[BID]), len(self.book.keys[ASK]))
        self.book.history.clear()
        self.book.take()
        self.due_ns = start_ns
        self.published()

    def published(self) -> None:
        """Choose when the next book message is due, and cut the time until then into steps of about 25 ms."""
        habits = self.habits
        window = habits.window_ns + habits.window_tail_ns * self.dice.expovariate(1.0)
        # However quiet the market: a cross lasts no longer than elsewhere.
        self.window_ns = max(1, int(window * (self.scale if self.crossed is None else 1.0)))
        self.steps_left = self.steps = max(1, min(self.most_steps, self.window_ns // WORLD_STEP_NS))
        self.due_ns += self.window_ns // self.steps

    @property
    def window_over(self) -> bool:
        return self.steps_left == 0

    def step(self) -> list[Trade]:
        """Let the market live until `due_ns`; the trades it made, in order."""
        self.steps_left -= 1
        now = self.due_ns
        self.book.begin(now, self.skew_ns)
        if self.crossed is not None:
            self.book.set(BID, self.crossed, 0)
            self.crossed = None
        fair, mood = self.world.at((now - self.start_ns) // WORLD_STEP_NS)
        activity = self.liveliness * math.exp(self.habits.burst * mood)
        self.noise = 0.95 * self.noise + self.dice.gauss(0.0, 0.02 * self.gap)
        centre = fair / self.price_step + self.noise
        trades: list[Trade] = []
        self._chase(centre, trades)
        self._takers(activity, trades)
        self._quote(centre)
        self._churn(centre, activity)
        if self.steps_left:
            self.due_ns += self.window_ns // self.steps
        return trades

    def cross(self, now_ns: int, duration_ns: int) -> None:
        """A bid beyond the best ask stands there for so long, and nothing else happens meanwhile."""
        if self.crossed is None:
            self.book.begin(max(now_ns, self.book.time_ns + 1), self.skew_ns)
            self.crossed = -self.book.keys[ASK][0] - self.dice.randrange(1, 5)
            self.book.set(BID, self.crossed, self._size())
        self.due_ns = max(self.due_ns, self.book.time_ns) + duration_ns

    def _size(self) -> int:
        size = max(1, int(math.exp(self.dice.gauss(self.median_size, 1.3))))
        if self.dice.random() < 0.25:                           # people like round numbers
            size = max(1, size // self.round_size) * self.round_size
        return size

    def _fill(self, side: int, key: int, size: int, trades: list[Trade]) -> None:
        """A taker takes `size` of this level, from one to three makers."""
        left = size
        while left:
            part = left if self.dice.random() < 0.6 else self.dice.randint(1, left)
            trades.append(Trade(abs(key), part, side == BID, self.orders, self.book.time_ns))
            left -= part
        self.book.set(side, key, self.book.sizes[side][key] - size)

    def _chase(self, centre: float, trades: list[Trade]) -> None:
        """Levels the price has run through are taken or cancelled, and the other side follows it."""
        book, dice = self.book, self.dice
        for side, limit in ((BID, -centre), (ASK, centre)):
            keys = book.keys[side]
            through = min(bisect_left(keys, math.ceil(limit)), len(keys) - 2)
            if through <= 0:
                continue
            self.orders += 1
            taken = dice.randint(0, min(through, 4))
            for key in keys[:through]:
                if taken > 0:
                    taken -= 1
                    self._fill(side, key, book.sizes[side][key], trades)
                else:
                    book.set(side, key, 0)
            other, stop = 1 - side, -book.keys[side][0]
            for _ in range(through):
                key = math.ceil(-limit) + int(dice.expovariate(1.0 / (self.gap * through)))
                if key > stop and key not in book.sizes[other] and (other == ASK or key < 0):
                    book.set(other, key, self._size())
            # A short book must not run out of levels where the price goes.
            while len(keys) < self.levels[side] // 2 and (side == ASK or keys[-1] < -1):
                book.set(side, keys[-1] + 1 + int(dice.expovariate(1.0 / self.gap)) * (side == ASK or keys[-1] < -100),
                         self._size())

    def _takers(self, activity: float, trades: list[Trade]) -> None:
        book, dice = self.book, self.dice
        expected = self.habits.trades * activity * self.window_ns / self.steps / SECOND_NS * self.world.instrument.pace
        for _ in range(min(20, int(expected + dice.random()))):
            side = BID if dice.random() < 0.5 else ASK
            left = 1 + self._size() // 2
            self.orders += 1
            first = book.keys[side][0]
            for key in book.keys[side][:5]:
                if not left or len(book.keys[side]) <= 10 or key > first + 4 * self.gap:
                    break
                size = min(left, book.sizes[side][key])
                self._fill(side, key, size, trades)
                left -= size

    def _quote(self, centre: float) -> None:
        """Market makers close a spread that has opened further than the market is used to."""
        for side in (BID, ASK):
            for _ in range(3):
                if self.book.keys[side][0] - (-centre if side == BID else centre) <= 1.5 * self.gap:
                    break
                key = self._place(side, 0, centre)
                if key is not None and self.dice.random() < 0.7:
                    self.book.set(side, key, self._size())

    def _rank(self, levels: int) -> int:
        """How far from the top the next change happens, by the venue's habits."""
        share = self.dice.random()
        low_rank, low_share = 1.0, 0.0
        for rank, upto in self.habits.nearness:
            if share <= upto:
                ratio = (share - low_share) / (upto - low_share)
                found = int(low_rank * (rank / low_rank) ** ratio + 0.5) - 1 if rank > 1 else 0
                return found if found < levels else self.dice.randrange(levels)
            low_rank, low_share = rank, upto
        return self.dice.randrange(levels)

    def _churn(self, centre: float, activity: float) -> None:
        """Place, change and cancel, so many and so near the top as the habits say."""
        book, dice, habits = self.book, self.dice, self.habits
        expected = habits.changes * activity / self.steps
        for _ in range(int(expected + dice.random())):
            side = BID if dice.random() < 0.5 else ASK
            keys = book.keys[side]
            rank = self._rank(len(keys))
            # Count pulls back to what the venue usually has: what is removed too often is placed more often.
            pull = (len(keys) - self.levels[side]) / self.levels[side]
            removal = min(0.95, max(0.02, habits.removals * (0.5 if rank == 0 else 1.1) + 2.0 * pull))
            roll = dice.random()
            if roll < removal and len(keys) > 10:
                book.set(side, keys[rank], 0)
            elif roll < 2 * removal - 2.0 * pull and (key := self._place(side, rank, centre)) is not None:
                book.set(side, key, self._size())
            else:
                book.set(side, keys[rank], self._size())

    def _place(self, side: int, rank: int, centre: float) -> int | None:
        """A free price just before the level at `rank`; None where the levels are dense."""
        keys, dice = self.book.keys[side], self.dice
        if rank == 0:
            # Better than the best, short of the other side and of what the price is worth.
            nearest = max(1 - self.book.keys[1 - side][0], math.ceil(-centre if side == BID else centre))
            room = keys[0] - nearest
            return nearest + min(int(dice.expovariate(5.0 / self.gap)), room - 1) if room > 0 else None
        for at in range(rank, min(rank + 12, len(keys))):
            room = keys[at] - keys[at - 1]
            if room > 1:
                return keys[at - 1] + dice.randrange(1, room)
        return None
