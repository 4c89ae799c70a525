"""The ledger's Python face."""
from __future__ import annotations

import contextlib
import os

import pytest

from mantra.core.ledger import COUNTERS, FeedState, Ledger
from mantra.core.region import PREFIX
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


def test_rows_of_thousands_of_books_are_found_and_read_at_once() -> None:
    ledger = Ledger.create(f"test-{os.getpid()}.books", rows=6000)
    try:
        for i in range(6000):
            ledger.row(f"kraken.COIN{i}-USD", 4, i // 40, i + 1).add("gaps", i % 2)
        row = ledger.row("kraken.COIN41-USD", 4, 7, 9000)       # another connection, another scale
        assert (row.feed, row.instrument, row["gaps"], len(ledger)) == (7, 9000, 1, 6000)
        table = Ledger.open(ledger.name or "").table()
        assert table["gaps"].sum() == 3000
        assert table[["name", "feed", "instrument"]][[0, 41, 5999]].tolist() == [
            (b"kraken.COIN0-USD", 0, 1), (b"kraken.COIN41-USD", 7, 9000), (b"kraken.COIN5999-USD", 149, 6000)]
        assert ledger[41].name == "kraken.COIN41-USD"
        with pytest.raises(IndexError):
            ledger[6000]
    finally:
        ledger.close()


def test_an_audit_by_another_process_is_counted_in_the_row() -> None:
    with contextlib.closing(Ledger.create(f"test-{os.getpid()}.books", rows=4)) as ledger:
        ledger.row("binance.ETHBTC", 0, 0, 1)
        auditor = Ledger.open(ledger.name or "", write=True)
        auditor[0].audit(100, 98)
        auditor[0].audit(50, 50)
        assert [ledger[0][name] for name in ("audits", "audited", "agreed")] == [2, 150, 148]
        with pytest.raises(RegionError, match="belongs to another"):
            Ledger.open(ledger.name or "")[0].audit(1, 1)


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
        with open(PREFIX + name, "r+b") as file:
            file.seek(1024)
            file.write((1 << 60).to_bytes(8, "little"))
        with pytest.raises(RegionError, match="says it has"):
            Ledger.open(name)
    with pytest.raises(RegionError):
        Ledger.open(name)
