"""The histogram's Python face; its arithmetic is tested in tests/c."""
from __future__ import annotations

import contextlib
import os

import pytest

from mantra.core.histogram import Histogram
from mantra.errors import RegionError


def test_percentiles_are_exact_to_three_digits() -> None:
    histogram = Histogram.create()
    for ns in range(1, 100_001):
        histogram.record(ns)
    for percent in (1, 50, 99, 99.9):
        assert histogram.percentile(percent) == pytest.approx(percent * 1000, rel=1 / 1024)
    assert (histogram.count, histogram.min, histogram.max) == (100_000, 1, 100_000)
    assert histogram.percentile(100) == 100_000
    assert histogram.mean == pytest.approx(50_000.5)


def test_an_empty_histogram_says_zero() -> None:
    histogram = Histogram.create()
    assert (histogram.count, histogram.min, histogram.max, histogram.mean, histogram.percentile(50)) == (0, 0, 0, 0, 0)


def test_histograms_merge_and_what_lay_between_two_copies_is_their_difference() -> None:
    histogram, other = Histogram.create(), Histogram.create()
    histogram.record(10)
    earlier = histogram.copy()
    histogram.record(700)
    other.record(900)
    histogram.merge(other)
    between = histogram.since(earlier)
    assert (between.count, between.min, between.max, between.mean) == (2, 700, 900, 800.0)
    assert (earlier.count, histogram.count) == (1, 3)


def test_a_percentile_outside_the_hundred_is_refused() -> None:
    with pytest.raises(ValueError, match="not between"):
        Histogram.create().percentile(101)


def test_others_read_a_named_histogram_and_only_its_maker_writes() -> None:
    name = f"test-{os.getpid()}.latency"
    with contextlib.closing(Histogram.create(name)) as histogram:
        other = Histogram.open(name)
        histogram.record(42)
        assert (other.count, other.percentile(50)) == (1, 42)
        with pytest.raises(RegionError, match="belongs to another"):
            other.record(1)
    assert other.copy().max == 42   # the memory stays as long as somebody looks
    with pytest.raises(RegionError):
        Histogram.open(name)
