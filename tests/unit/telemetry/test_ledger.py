"""A run's ledger read, written, found again, and as a table."""
from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from mantra.core.messages import Top
from mantra.errors import ConfigurationError
from mantra.runtime.spine import Spine
from mantra.telemetry import ledger


@pytest.fixture(autouse=True)
def _home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MANTRA_HOME", str(tmp_path))


def told(name: str | None = None) -> tuple[Spine, dict[str, Any]]:
    """A run of two feeds: one lost something, in one of its two books."""
    spine = Spine(name, True, None)
    for slot, instrument in enumerate(("ETH-BTC", "BTC-USD")):
        spine.add_instrument(slot + 1, instrument, 0, 2, 8)
    for number, feed in enumerate(("binance.0", "kraken.0")):
        spine.ledger.row(feed, 4 * number).add("messages", 1000)
    for feed, venue, symbol, instrument in ((0, 0, "ETHBTC", 1), (0, 0, "BTCUSD", 2), (1, 4, "BTC/USD", 2)):
        row = spine.book_ledger.row(f"{spine.ledger[feed].name} {symbol}", venue, feed, instrument)
        row.add("messages", 500)
    for row in (spine.ledger[0], spine.book_ledger[1]):
        row.add("gaps", 2)
        row.add("lost", 7)
    spine.ledger[0].add("down_ns", 2_500_000_000)
    spine.book_ledger[2].audit(200, 199)
    since = spine.clock.utc_ns() - 5_000_000_000
    spine.tops.write(0, Top(instrument=2, venue=0, trust=2, reason=2, trust_since_ns=since, published=0))
    spine.tops.write(1, Top(instrument=2, venue=4, trust=4, trust_since_ns=since, published=1))
    return spine, ledger.read(spine)


def test_what_a_run_lost_is_read_with_its_names_and_how_it_is_trusted() -> None:
    spine, said = told()
    assert said["feeds"] == [
        {"feed": "binance.0", "venue": "binance",
         "counts": {"messages": 1000, "gaps": 2, "lost": 7, "down_ns": 2_500_000_000}},
        {"feed": "kraken.0", "venue": "kraken", "counts": {"messages": 1000}}]
    lossy = said["books"][1]
    assert (lossy["venue"], lossy["instrument"], lossy["symbol"], lossy["trust"], lossy["reason"]) == (
        "binance", "BTC-USD", "BTCUSD", "suspect", "gap")
    assert lossy["counts"].pop("distrusted_ns") >= 5_000_000_000, "until now, although it has not come back"
    assert lossy["counts"] == {"messages": 500, "gaps": 2, "lost": 7}
    assert said["books"][0]["trust"] == "", "nothing was heard of it"
    assert said["books"][2]["counts"] == {"messages": 500, "audits": 1, "audited": 200, "agreed": 199}
    assert ledger.verdict(said) == "lost or missed: binance.0: gaps 2, lost 7, down 2.50 s"
    assert ledger.verdict(said | {"feeds": said["feeds"][1:]}) == "nothing was lost"
    spine.close()


def test_a_table_leaves_out_what_is_nothing_everywhere_and_goes_on_below_when_it_is_too_wide() -> None:
    spine, said = told()
    spine.close()
    wide = ledger.table(said, "feed", 200)
    assert wide[0].split() == ["feed", "messages", "gaps", "lost", "down"]
    assert wide[1].split() == ["binance.0", "1,000", "2", "7", "2.50", "s"]
    assert wide[2].split() == ["kraken.0", "1,000"]
    narrow = ledger.table(said, "feed", 30)
    assert max(map(len, narrow)) <= 30
    assert [line.split()[0] for line in narrow if line] == ["feed", "binance.0", "kraken.0"] * 2
    books = ledger.table(said, "instrument", 200)
    assert "99.50%" in books[-1] or "99.50%" in "".join(books)
    assert any("suspect (gap)" in line for line in books)
    assert [line.split()[0] for line in ledger.table(said, "venue", 200)[1:]] == ["binance", "kraken"]


def test_of_many_books_only_those_with_a_loss_or_a_doubt_are_shown() -> None:
    spine, said = told()
    spine.close()
    said["books"] += [{"venue": "kraken", "instrument": f"C{i}-USD", "feed": "kraken.0", "trust": "verified",
                       "counts": {"messages": i}} for i in range(100)]
    lines = ledger.table(said, "instrument", 200)
    assert len(lines) == 3
    assert lines[-1] == "102 more books lost nothing and are trusted"


def test_the_last_fifty_ledgers_are_kept_and_found_by_the_name_of_their_run(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "running", lambda: [])      # whatever else runs on this machine
    spine, said = told()
    spine.close()
    for second in range(60):
        ledger.save(said | {"run": f"run-{second % 2}", "until_utc_ns": second * 10**9}, tmp_path)
    files = ledger.saved(tmp_path / "ledgers")
    assert len(files) == ledger.KEPT
    assert json.loads(files[0].read_text())["until_utc_ns"] == 10 * 10**9
    assert ledger.find(None)["until_utc_ns"] == 59 * 10**9
    assert ledger.find("run-0")["until_utc_ns"] == 58 * 10**9
    assert ledger.find(str(files[3]))["until_utc_ns"] == 13 * 10**9
    for nothing in ("run-2", str(tmp_path / "none.json")):
        with pytest.raises(ConfigurationError):
            ledger.find(nothing)
    (tmp_path / "other.json").write_text('{"run": 1}')
    with pytest.raises(ConfigurationError, match="it is no ledger"):
        ledger.find(str(tmp_path / "other.json"))


def test_the_door_prints_a_running_run_from_outside(capsys: pytest.CaptureFixture[str]) -> None:
    spine, _ = told(f"test-ledger-{os.getpid()}")
    try:
        assert ledger.main([spine.run or "", "--by", "instrument"]) == 0
        printed = capsys.readouterr().out
        assert "BTC-USD binance" in printed
        assert printed.splitlines()[-1].startswith("lost or missed: binance.0: gaps 2")
        assert ledger.main([spine.run or "", "--json"]) == 0
        assert len(json.loads(capsys.readouterr().out)["books"]) == 3
    finally:
        spine.close()
    assert ledger.main(["no-such-run"]) == 2
    assert "no run 'no-such-run'" in capsys.readouterr().err
