"""Meters: a counter, a gauge, a timer; one writes, everybody reads."""
import contextlib
import os

import pytest

from mantra.core.clock import Clock
from mantra.core.histogram import Histogram
from mantra.core.meter import Counter, Gauge, Timer
from mantra.errors import LayoutMismatch, RegionError

NAME = f"test-meter-{os.getpid()}"


def test_a_counter_counts_and_is_read_under_its_name():
    with Counter.create(NAME) as counter:
        counter.add()
        counter.add(2**40)
        other = Counter.open(NAME)
        assert counter.value == other.value == 2**40 + 1
        with pytest.raises(RegionError, match="opened for reading"):
            other.add()
        with pytest.raises(LayoutMismatch):
            Gauge.open(NAME)
        with pytest.raises(OverflowError):
            counter.add(-1)


def test_a_gauge_holds_any_float():
    with Gauge.create(NAME) as gauge:
        for value in (0.0, -1.25, 1e300, float("inf")):
            gauge.set(value)
            assert Gauge.open(NAME).value == value


def test_a_timer_counts_what_passes_in_its_block_even_when_that_raises():
    clock, histogram = Clock.virtual(0), Histogram.create()
    timer = Timer(clock, histogram)
    with timer:
        clock.advance(700)
    with contextlib.suppress(KeyError), timer:
        clock.advance(30)
        raise KeyError
    timer.record(5)
    assert (histogram.count, histogram.max, histogram.min) == (3, 700, 5)
