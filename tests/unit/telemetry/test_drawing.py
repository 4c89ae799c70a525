"""Numbers as people read them, and what tables are drawn with."""
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mantra.telemetry.drawing import SECOND, age, amount, bar, duration, spark


def test_durations_ages_and_rates_are_short() -> None:
    assert [duration(ns) for ns in (0, 831, 999.7, 1_240, 12_100_000, 2.5e9)] == [
        "0 ns", "831 ns", "1.00 µs", "1.24 µs", "12.1 ms", "2.50 s"]
    assert [age(s * SECOND) for s in (-1, 3, 247, 7_500, 273_600)] == ["0s", "3s", "4m07s", "2h05m", "3d04h"]
    assert [amount(n) for n in (0, 0.44, 3.44, 812.4, 999.6, 35_000, 1_200_000)] == [
        "0", "0.4", "3.4", "812", "1.0k", "35.0k", "1.2M"]


@given(st.floats(0, 1), st.integers(1, 40), st.booleans())
def test_bars_fill_their_column_and_show_the_least_amount(fraction: float, width: int, leftwards: bool) -> None:
    text = bar(fraction, width, "red", leftwards=leftwards).plain
    assert len(text) == width
    assert text.strip()


def test_sparks_show_the_newest_values() -> None:
    assert spark([1, 9, 1, 9], 3) == "█▁█"
    assert spark([], 3) == "   "
