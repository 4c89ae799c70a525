"""The ledger's Python face."""
from __future__ import annotations

import contextlib
import os

import pytest

from mantra.core.ledger import COUNTERS, FeedState, Ledger
from mantra.errors import RegionError


def test_rows_count_for_themselves_and_are_found_by_name() -> None:
    ledger = Ledger.create(rows=2)
    first, second = ledger.row("binance.0", 0), ledger.row("bitstamp.0", 1)
    first.add("frames", 3)
    ledger.row("binance.0", 0).add("frames")
    second.add("gaps")
    assert [(row.name, row.venue, row["frames"], row["gaps"]) for row in ledger.rows()] == [
        ("binance.0", 0, 4, 0), ("bitstamp.0", 1, 0, 1)]
    assert set(first.counts()) == set(COUNTERS)


def test_a_state_keeps_the_time_it_began() -> None:
    row = Ledger.create(rows=1).row("binance.0", 0)
    row.set_state(FeedState.LIVE, 100)
    row.set_state(FeedState.LIVE, 200)
    assert (row["state"], row["state_since_utc_ns"]) == (FeedState.LIVE, 100)
    row.set_state(FeedState.WAITING, 300)
    assert (row["state"], row["state_since_utc_ns"]) == (FeedState.WAITING, 300)


def test_a_full_ledger_and_a_long_name_are_refused() -> None:
    ledger = Ledger.create(rows=1)
    with pytest.raises(RegionError, match="47 bytes"):
        ledger.row("x" * 48, 0)
    ledger.row("binance.0", 0)
    with pytest.raises(RegionError, match="1 of 1 rows"):
        ledger.row("bitstamp.0", 1)


def test_a_counter_that_is_none_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        Ledger.create(rows=1).row("binance.0", 0).add("framez")


def test_others_read_a_named_ledger_and_only_its_maker_counts() -> None:
    name = f"test-{os.getpid()}.ledger"
    with contextlib.closing(Ledger.create(name, rows=4)) as ledger:
        other = Ledger.open(name)
        ledger.row("binance.0", 0).add("gaps", 2)
        (row,) = other.rows()
        assert (row.name, row["gaps"]) == ("binance.0", 2)
        for forbidden in (lambda: row.add("gaps"), lambda: other.row("new", 0), lambda: row.set_state(1, 1)):
            with pytest.raises(RegionError, match="belongs to another"):
                forbidden()
        with open(f"/dev/shm/mantra.{name}", "r+b") as file:
            file.seek(1024)
            file.write((1 << 60).to_bytes(8, "little"))
        with pytest.raises(RegionError, match="says it has"):
            Ledger.open(name)
    with pytest.raises(RegionError):
        Ledger.open(name)
