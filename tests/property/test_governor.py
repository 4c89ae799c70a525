"""Pacing against the venues' own rules: as their documents state them, counted by an obvious model at the venue's end.

The model knows nothing of grants: it sees messages arrive, each up to SLACK_S after it was sent, pongs and heartbeats
among them, and counts what came within any window.
"""
from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mantra import venues
from mantra.client import governor
from mantra.client.governor import ASK_AGAIN_S, SLACK, SLACK_S, Governor
from mantra.core.clock import Clock
from mantra.venues.venue import Endpoints, Limits, Rate

ROOT = Path(__file__).parent.parent.parent


@dataclass
class Documented:
    """One rule of a venue's document: what arrives at once or within `seconds` may not exceed `count`."""

    what: str
    count: int
    seconds: float
    arrivals: list[tuple[float, int]] = field(default_factory=list)

    def broken(self) -> int:
        """The most that was ever too much."""
        worst, inside, first = 0, 0, 0
        arrivals = sorted(self.arrivals)
        for at, weight in arrivals:
            inside += weight
            while arrivals[first][0] <= at - self.seconds:
                inside -= arrivals[first][1]
                first += 1
            worst = max(worst, inside - self.count)
        return worst


# What shared/venues/*.md says; "send" counts what the compiled path sends as well where the venue does.
RULES = {
    "binance": [("connect", 300, 300.0), ("send", 5, 1.0), ("rest", 6000, 60.0)],
    "bitstamp": [("rest", 400, 1.0), ("rest", 10_000, 600.0)],
    "bitfinex": [("connect", 20, 60.0), ("rest", 240, 60.0)],
    "coinbase": [("connect", 8, 1.0), ("send", 8, 1.0), ("rest", 10, 1.0)],
    "kraken": [("connect", 150, 600.0)],
}
WEIGHTS = ("1", "1", "2", "8")      # of what four processes ask for
BY_CONNECTION = {("binance", "send")}
COUNTS_PONGS = {"binance"}


def schedule(name: str, seed: int, slack_s: float, twin: Callable[[Governor], None] | None = None) -> list[Documented]:
    """Run random bursts of requests through governors; every rule of the venue, with what arrived there."""
    venue, dice, cancel, clock = venues.get(name), random.Random(seed), threading.Event(), Clock.virtual(0)
    made = Governor(clock, venue.limits.rates, slack_s=slack_s)
    connections = [made.connection() for _ in range(3)]
    for connection in connections if twin else ():
        twin(connection)
    rules: dict[tuple[str, int], list[Documented]] = {}

    def arrives(kind: str, weight: int, number: int) -> None:
        number = number if (name, kind) in BY_CONNECTION else 0
        for rule in rules.setdefault((kind, number), [Documented(*rule) for rule in RULES[name] if rule[0] == kind]):
            rule.arrivals.append((clock.seconds() + dice.random() * SLACK_S, weight))

    kinds = list({rule[0] for rule in RULES[name]})
    weights = [1, *(venue.snapshot("BTCUSD", levels).weight for levels in (100, 1000, 5000))]
    for _ in range(60):
        kind, number = dice.choice(kinds), dice.randrange(3)
        for _ in range(dice.choice([1, 10, 40])):
            weight = dice.choice(weights) if kind == "rest" else 1
            assert connections[number].acquire(kind, weight, cancel=cancel)
            arrives(kind, weight, number)
        clock.sleep(dice.choice([0.0, dice.expovariate(1.0)]))
    if name in COUNTS_PONGS:        # each connection answers a ping every 20 s, and sends its own
        end = clock.seconds()
        for (kind, _), pair in rules.items():
            for every in (20.0, venue.heartbeat.interval_s) if kind == "send" else ():
                at = dice.random() * every
                while at < end:
                    pair[0].arrivals.append((at + dice.random() * SLACK_S, 1))
                    at += every
    return [rule for pair in rules.values() for rule in pair]


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("seed", range(3))
def test_no_rule_of_a_venue_is_ever_broken_at_its_end(name: str, seed: int) -> None:
    rules = schedule(name, seed, SLACK_S)
    assert {rule.what for rule in rules} == {what for what, *_ in RULES[name]}
    assert {rule.what: rule.broken() for rule in rules if rule.broken() > 0} == {}


def without_reserve(made: Governor) -> None:
    for kind, rules in made._rates.items():
        made._pages[kind]._rules = [(rate.count, round((rate.seconds + SLACK_S) * 1e9)) for rate in rules]


def half_the_window(made: Governor) -> None:
    for page in made._pages.values():
        page._rules = [(count, span // 2) for count, span in page._rules]


@pytest.mark.parametrize(("twin", "slack_s", "kind"), [
    (without_reserve, SLACK_S, "send"), (half_the_window, SLACK_S, "rest"), (None, 0.0, "send")])
def test_the_model_notices_pongs_forgotten_and_windows_too_short_and_time_on_the_way(
        twin: Callable[[Governor], None] | None, slack_s: float, kind: str) -> None:
    broken = {rule.what for seed in range(5) for rule in schedule("binance", seed, slack_s, twin) if rule.broken() > 0}
    assert kind in broken


# Several processes ------------------------------------------------------------------------------------------------


def crowd(home: Path, seed: int, twin: str = "") -> list[tuple[int, int, int, int]]:
    """(earliest, latest, weight, process) of each grant that four processes took, which were killed and begun again at
    random, until all had some."""
    dice = random.Random(seed)

    def begin(number: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen([
            sys.executable, "-m", "tests.property.pacing", str(home), str(home / f"{number}.log"), WEIGHTS[number],
            "10", "0.1", twin], cwd=ROOT)

    def grants() -> list[tuple[int, int, int, int]]:
        return [(*map(int, line.split()), number) for number in range(4) if (home / f"{number}.log").exists()
                for line in (home / f"{number}.log").read_text().splitlines()]

    running = [begin(number) for number in range(4)]
    last, deadline = [0] * 4, time.monotonic() + 60.0
    try:
        while len(made := grants()) < 60 or min(sum(one[3] == n for one in made) for n in range(4)) < 3:
            assert time.monotonic() < deadline, "some process never got its turn"
            time.sleep(0.05)
            victim = dice.randrange(4)
            if (now := sum(one[3] == victim for one in grants())) > last[victim] + dice.randrange(9):
                last[victim] = now
                running[victim].send_signal(signal.SIGKILL)
                running[victim].wait()
                running[victim] = begin(victim)
    finally:
        for process in running:
            process.kill()
            process.wait()
    return grants()


def proven_excess(grants: list[tuple[int, int, int, int]], count: int, window_ns: int) -> int:
    """By how much a window was exceeded for certain, whatever held the processes up meanwhile."""
    ends = sorted({latest for _, latest, *_ in grants})
    return max(sum(weight for earliest, latest, weight, _ in grants if end - window_ns < earliest and latest <= end)
               for end in ends) - count


def test_processes_share_one_pace_through_every_death_and_each_gets_its_turn(tmp_path: Path) -> None:
    assert proven_excess(crowd(tmp_path, 3), 10, 100_000_000) <= 0


@pytest.mark.parametrize("twin", ["alone"])
def test_the_judge_notices_processes_that_do_not_share(tmp_path: Path, twin: str) -> None:
    assert proven_excess(crowd(tmp_path, 3, twin), 10, 100_000_000) > 0


# The file ---------------------------------------------------------------------------------------------------------


def shared(home: Path, count: int = 10, seconds: float = 60.0) -> Governor:
    venue = venues.get("binance", Endpoints("ws://127.0.0.1:1", "http://127.0.0.1:1"))
    venue.limits = Limits(1, 1, {"rest": (Rate(count, seconds),)})
    return Governor.of_machine(Clock(), venue, home)


def page_of(home: Path) -> Path:
    return next(home.glob("pace/*/binance.rest.*"))


def test_what_was_spent_and_what_was_forbidden_outlives_the_process(tmp_path: Path) -> None:
    assert all(shared(tmp_path).reserve("rest") == 0 for _ in range(10))
    assert 50 < shared(tmp_path).reserve("rest") <= 60 * (1 + SLACK)
    shared(tmp_path).block("rest", 500)
    assert 400 < shared(tmp_path).reserve("rest") <= 500


@pytest.mark.parametrize("seed", range(30))
def test_whatever_is_in_the_file_it_neither_fails_nor_waits_for_long(tmp_path: Path, seed: int) -> None:
    dice, pace = random.Random(seed), shared(tmp_path)
    for _ in range(12):
        pace.reserve("rest", turn=dice.getrandbits(64))
    path = page_of(tmp_path)
    size = path.stat().st_size
    with path.open("r+b") as file:
        for _ in range(dice.choice([0, 1, 50])):
            file.seek(dice.choice([dice.randrange(64), dice.randrange(size)]))
            file.write(dice.randbytes(dice.randrange(1, 40)))
        if dice.random() < 0.5:
            file.truncate(dice.randrange(size))
    for asker in (pace, shared(tmp_path)):
        waits = [asker.reserve("rest") for _ in range(30)]
        assert all(0 <= wait <= 60 * (1 + SLACK) + 10 * ASK_AGAIN_S for wait in waits)
        assert any(wait > 0 for wait in waits)          # it does count again


def test_a_damaged_file_is_begun_anew_and_said_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pace = shared(tmp_path)
    assert all(pace.reserve("rest") == 0 for _ in range(10))
    page_of(tmp_path).write_bytes(os.urandom(9000))
    assert pace.reserve("rest") == 0
    assert "damaged" in caplog.text


def test_a_file_that_was_removed_is_made_again_and_shared_again(tmp_path: Path) -> None:
    one, other = shared(tmp_path, 2), shared(tmp_path, 2)
    assert [pace.reserve("rest") for pace in (one, other)] == [0, 0]
    page_of(tmp_path).unlink()
    assert [pace.reserve("rest") == 0 for pace in (one, other, one)] == [True, True, False]


def test_without_a_place_for_the_file_it_paces_alone_and_says_so(
        tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "pace").write_text("in the way")
    pace = shared(tmp_path, 1)
    assert [pace.reserve("rest") > 0 for _ in range(2)] == [False, True]
    assert "not counted" in caplog.text


def test_files_that_count_no_more_are_removed(tmp_path: Path) -> None:
    shared(tmp_path).reserve("rest")
    old = page_of(tmp_path)
    os.utime(old, (0, time.time() - 2 * governor.FORGET_LOOPBACK_S))
    shared(tmp_path)
    assert not old.exists()


# Waiting ----------------------------------------------------------------------------------------------------------


def test_a_heavy_request_is_not_overtaken_for_ever_by_light_ones() -> None:
    clock = Clock.virtual(0)
    pace = Governor(clock, {"rest": (Rate(100, 60.0),)})
    assert pace.reserve("rest", 60) == 0
    assert pace.reserve("rest", 90, turn=7) > 0
    light = 0
    while pace.reserve("rest", 90, turn=7) > 0:
        light += pace.reserve("rest", 5, turn=8) == 0
        clock.sleep(1.0)
        assert clock.seconds() < 120
    assert light == 0       # they came later


def test_who_does_not_ask_again_loses_the_place() -> None:
    clock = Clock.virtual(0)
    pace = Governor(clock, {"rest": (Rate(10, 60.0),)})
    assert pace.reserve("rest", 5) == 0
    assert pace.reserve("rest", 10, turn=7) > 0     # and is never heard of again
    assert pace.reserve("rest", 5, turn=8) > 0
    clock.sleep(2.5)
    assert pace.reserve("rest", 5, turn=8) == 0


def test_a_look_at_the_pace_spends_nothing_and_can_ask_for_what_is_to_spare() -> None:
    pace = Governor(Clock.virtual(0), {"rest": (Rate(100, 60.0),)})
    for spent in range(10):
        assert (pace.peek("rest", 10) == 0, pace.peek("rest", 10, spare=0.5) == 0) == (True, spent < 5)
        assert pace.reserve("rest", 10) == 0
    assert pace.peek("rest") == pytest.approx(60.0)


def test_waiting_asks_once_a_second_and_no_more() -> None:
    clock, asked = Clock.virtual(0), []
    pace = Governor(clock, {"rest": (Rate(1, 60.0),)})
    real = pace.reserve
    pace.reserve = lambda *given, **named: asked.append(clock.seconds()) or real(*given, **named)  # type: ignore
    for _ in range(2):
        assert pace.acquire("rest", cancel=threading.Event())
    assert len(asked) <= 62
    assert clock.seconds() == pytest.approx(60.0, abs=1e-5)
