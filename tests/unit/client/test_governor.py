"""Pacing, on a clock that does not run by itself."""
from __future__ import annotations

import random
import threading

import pytest

from mantra.client.governor import Backoff, Governor
from mantra.core.clock import Clock
from mantra.venues.venue import Rate


class Paced:
    """A governor on a virtual clock: waiting moves the clock, so how long it waited can be read off."""

    def __init__(self, **rules: tuple[Rate, ...]) -> None:
        self.clock = Clock.virtual(0)
        self.governor = Governor(self.clock, rules)

    def acquire(self, kind: str, weight: int = 1) -> bool:
        return self.governor.acquire(kind, weight, cancel=threading.Event())

    def now(self) -> float:
        return self.clock.utc_ns() / 1e9


@pytest.mark.parametrize("seed", range(20))
def test_no_window_ever_holds_more_than_its_rule_allows(seed: int) -> None:
    source, rates = random.Random(seed), (Rate(10, 1.0), Rate(50, 60.0), Rate(7, 0.5))
    pace, done = Paced(rest=rates), []
    for _ in range(150):
        weight = source.choice([1, 1, 2, 5])
        assert pace.acquire("rest", weight)
        done.append((pace.now(), weight))
        if source.random() < 0.2:
            pace.clock.sleep(source.random() * 3)
    for end, _ in done:
        for rate in rates:
            inside = sum(weight for at, weight in done if end - rate.seconds + 1e-6 < at <= end)
            assert inside <= rate.count


def test_what_fits_does_not_wait_and_what_does_not_waits_no_longer_than_needed() -> None:
    pace = Paced(send=(Rate(4, 1.0),))
    for _ in range(4):
        pace.acquire("send")
    assert pace.now() == 0
    pace.acquire("send")
    assert pace.now() == pytest.approx(1.0, abs=1e-6)


def test_kinds_do_not_share_their_windows_and_a_kind_without_rules_is_free() -> None:
    pace = Paced(send=(Rate(1, 10.0),), connect=(Rate(1, 10.0),))
    for kind in ("send", "connect", *["rest"] * 1000):
        assert pace.acquire(kind)
    assert pace.now() == 0


def test_a_venue_that_asks_for_quiet_gets_it() -> None:
    pace = Paced(rest=(Rate(100, 1.0),))
    pace.governor.block("rest", 7.0)
    pace.governor.block("rest", 2.0)
    assert pace.acquire("rest")
    assert pace.now() == pytest.approx(7.0, abs=1e-6)


def test_waiting_ends_when_cancelled() -> None:
    pace, cancel, answers = Governor(Clock(), {"rest": (Rate(1, 3600),)}), threading.Event(), []
    assert pace.acquire("rest", cancel=cancel)
    threads = [threading.Thread(target=lambda: answers.append(pace.acquire("rest", cancel=cancel))) for _ in range(3)]
    for thread in threads:
        thread.start()
    cancel.set()
    for thread in threads:
        thread.join(5)
    assert answers == [False] * 3


def test_what_is_heavier_than_a_window_waits_for_an_empty_one() -> None:
    pace = Paced(rest=(Rate(10, 1.0),))
    assert pace.acquire("rest")
    assert pace.acquire("rest", 11)
    assert pace.now() == pytest.approx(1.0, abs=1e-6)


def test_threads_together_keep_the_rule() -> None:
    clock, cancel, done = Clock(), threading.Event(), []
    pace, start = Governor(clock, {"send": (Rate(5, 0.2),)}), clock.cycles()

    def five() -> None:
        for _ in range(5):
            assert pace.acquire("send", cancel=cancel)
            done.append(clock.ns(clock.cycles() - start) / 1e9)

    threads = [threading.Thread(target=five) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 15
    assert max(done) >= 0.4      # fifteen at five in 0.2 s


def test_backoff_doubles_is_capped_jittered_and_starts_again() -> None:
    backoff = Backoff(random.Random(1), first=1.0, longest=10.0)
    delays = [backoff.next() for _ in range(1000)]
    for delay, ceiling in zip(delays, [1.0, 2.0, 4.0, 8.0, *[10.0] * 996], strict=True):
        assert ceiling / 2 <= delay <= ceiling
    assert len(set(delays)) == len(delays)
    backoff.reset()
    assert backoff.next() <= 1.0
    again = Backoff(random.Random(1), first=1.0, longest=10.0)
    assert [again.next() for _ in range(1000)] == delays
