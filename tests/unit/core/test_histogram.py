"""The histogram's Python face; its arithmetic is tested in tests/c."""
from __future__ import annotations

import contextlib
import os

import numpy as np
import pytest

from mantra.core.histogram import Histogram
from mantra.core.region import Region
from mantra.errors import LayoutMismatch, RegionError


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


def test_an_array_is_recorded_as_its_values_one_by_one() -> None:
    values = np.random.default_rng(7).lognormal(9, 3, 5_000).astype(np.uint64)
    one_by_one, at_once = Histogram.create(), Histogram.create()
    for value in values.tolist():
        one_by_one.record(value)
    at_once.record_many(values)
    at_once.record_many(values[:0])
    assert [array.tolist() for array in at_once.buckets()] == [array.tolist() for array in one_by_one.buckets()]
    assert (at_once.count, at_once.max, at_once.min, at_once.mean) == \
        (5_000, one_by_one.max, one_by_one.min, one_by_one.mean)
    for wrong in (values.astype(np.int64), values[::2], values.reshape(2, -1)):
        with pytest.raises(ValueError, match=r"uffer|contiguous"):
            at_once.record_many(wrong)


def test_buckets_are_what_was_counted_least_first() -> None:
    histogram = Histogram.create()
    assert [array.tolist() for array in histogram.buckets()] == [[], []]
    for ns in (900, 7, 7, 1 << 30):
        histogram.record(ns)
    values, counts = histogram.buckets()
    assert values[:2].tolist() == [7, 900]
    assert int(values[2]) == pytest.approx(1 << 30, rel=1 / 1024)
    assert counts.tolist() == [2, 1, 1]


def test_a_percentile_outside_the_hundred_is_refused() -> None:
    with pytest.raises(ValueError, match="not between"):
        Histogram.create().percentile(101)


def test_a_region_too_small_for_a_histogram_is_refused() -> None:
    with Region.create(f"test-{os.getpid()}.small", 64, kind="histogram", fingerprint=1) as region:
        with pytest.raises(LayoutMismatch, match="of 64 bytes"):
            Histogram.open(region.name or "")


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
