"""The clock's Python face."""
from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from mantra.core.clock import Clock
from mantra.errors import RegionError


@pytest.mark.parametrize("source", ["auto", "os"])
def test_clock_tells_the_time_of_the_os(source: str) -> None:
    clock = Clock(source)
    before = time.time_ns()
    now = clock.utc_ns()
    assert before - 1_000_000 < now < time.time_ns() + 1_000_000
    assert clock.kind in ("cycles", "os")
    assert clock.error_ns < 1_000_000


def test_stamps_become_utc_and_spans_nanoseconds() -> None:
    clock = Clock()
    start, started = clock.cycles(), time.monotonic_ns()
    clock.sleep(0.02)
    span, slept = clock.ns(clock.cycles() - start), time.monotonic_ns() - started
    assert span >= 20_000_000
    assert abs(clock.to_utc(start) + span - clock.utc_ns()) < 5_000_000 + slept
    assert clock.to_utc(start) < clock.utc_ns()


def test_steering_follows_the_os() -> None:
    clock = Clock()
    clock.sleep(0.01)
    clock.steer()
    assert abs(clock.utc_ns() - time.time_ns()) < 10_000_000


def test_the_error_bound_grows_with_age_and_is_small_again_when_steered() -> None:
    clock = Clock()
    fresh = clock.error_ns
    clock.sleep(0.02)
    assert clock.error_ns >= fresh + 20_000_000 // 2000 - 1
    clock.steer()
    assert clock.error_ns < 1_000_000
    assert (clock.steps, clock.last_step) == (0, None)
    assert Clock.virtual(5).error_ns == 0


def test_virtual_time_moves_only_when_moved() -> None:
    clock = Clock.virtual(1_700_000_000_000_000_000)
    assert (clock.kind, clock.utc_ns(), clock.cycles()) == ("virtual", 1_700_000_000_000_000_000, clock.utc_ns())
    clock.advance(5)
    clock.sleep(1.5)
    assert clock.utc_ns() == 1_700_000_001_500_000_005
    clock.advance_to(1)
    assert clock.utc_ns() == 1_700_000_001_500_000_005
    assert clock.ns(7) == 7
    assert clock.steer() == 0


def test_waiting_on_a_virtual_clock_passes_time_unless_the_event_has_come() -> None:
    clock, event = Clock.virtual(0), threading.Event()
    assert clock.wait(event, 2.0) is False
    assert clock.utc_ns() == 2_000_000_000
    event.set()
    assert clock.wait(event, 2.0) is True
    assert clock.utc_ns() == 2_000_000_000


def test_waiting_on_a_real_clock_ends_with_the_event() -> None:
    event = threading.Event()
    threading.Timer(0.01, event.set).start()
    assert Clock().wait(event, 10.0) is True


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="only a virtual clock"):
        Clock().advance(1)
    with pytest.raises(ValueError, match="sundial"):
        Clock("sundial")


def test_a_published_clock_is_read_by_others_and_moved_by_its_owner_only() -> None:
    name = f"test-{os.getpid()}.clock"
    clock = Clock.virtual(1_000).publish(name)
    try:
        other = Clock.open(name)
        clock.advance(500)
        assert (other.kind, other.utc_ns(), other.cycles()) == ("virtual", 1_500, 1_500)
        with pytest.raises(RegionError, match="belongs to another"):
            other.advance(1)
        with pytest.raises(RegionError, match="published already"):
            clock.publish(name)
    finally:
        clock.close()
    clock.advance(1)
    assert clock.utc_ns() == 1_501
    with pytest.raises(RegionError):
        Clock.open(name)


def test_two_processes_agree_on_what_a_stamp_means() -> None:
    name = f"test-{os.getpid()}.clock"
    clock = Clock().publish(name)
    try:
        code = f"from mantra.core.clock import Clock; c = Clock.open({name!r}); n = c.cycles(); print(n, c.to_utc(n))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        cycles, utc = map(int, done.stdout.split())
        assert clock.to_utc(cycles) == utc
        assert cycles < clock.cycles()
    finally:
        clock.close()
