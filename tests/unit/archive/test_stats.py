"""Stats: what they say of a recording is what its README says, and of an archive what a slow count does."""
from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from mantra.archive import imports, stats
from mantra.archive.archive import Archive
from mantra.core.messages import Flag, Kind
from tests.data import data

README = {      # of the recordings, "What the recordings show"
    "depthcharge/kraken_btcusd_d10_20260816.first-16000-chars.ndjson": ("kraken", {
        "instrument": "BTC/USD", "per_second": 10.9, "peak_second": 15, "removals": 0.26, "best": [0.06, 1.0, 1.0],
        "bytes": [217, 252, 252, 252], "levels": [2, 3, 3, 3], "between_ms": [0.08, 5.93, 391.93, 821.0, 821.0]}),
    "cryptofeed/KRAKEN.ws.50.0.zst": ("kraken", {
        "instrument": "XMR/USD", "per_second": 29.0, "peak_second": 68, "removals": 0.41, "best": [0.2, 0.71, 0.99],
        "bytes": [102, 103, 104, 152], "levels": [1, 1, 1, 2], "between_ms": [2.0, 12.16, 77.16, 350.79, 1220.04]})}


def ran(capsys, *arguments):
    code = stats.main([*map(str, arguments), "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out.splitlines()[-1]) if code == 0 else None, err


@pytest.mark.parametrize("name", README)
def test_a_recording_is_told_as_its_readme_does(capsys, name):
    venue, expected = README[name]
    code, told, _ = ran(capsys, data(name), "--venue", venue)
    assert code == 0
    (book,) = (book for book in told["books"] if book["instrument"] == expected["instrument"])
    for key, value in expected.items():
        found = list(book[key].values()) if isinstance(book[key], dict) else book[key]
        if key in ("best", "removals", "per_second"):
            found = np.round(found, 1 if key == "per_second" else 2).tolist()
        assert found == value, key


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A book of which every message is known, as Tardis has it, in an archive."""
    folder = tmp_path_factory.mktemp("stats")
    rows = ["exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount"]
    for us, whole, side, price, size in (
            (0, True, "bid", 10, 1), (0, True, "bid", 9, 1), (0, True, "ask", 11, 1),
            (2_000, False, "bid", 9, 5), (2_500, False, "bid", 10, 0), (2_500, False, "ask", 12, 1),
            (9_000, False, "bid", 9, 2), (1_200_000, False, "ask", 11, 0)):
        time = 1_600_000_000_000_000 + us
        rows.append(f"bitmex,XBTUSD,{time},{time},{str(whole).lower()},{side},{price},{size}")
    (folder / "book.csv").write_text("\n".join(rows))
    assert imports.main(["--out", str(folder / "a"), str(folder / "book.csv")]) == 0
    return folder / "a"


def test_an_archive_is_told_from_when_its_book_was_whole(capsys, recorded):
    code, told, _ = ran(capsys, recorded)
    assert code == 0
    (book,) = told["books"]
    assert (book["venue"], book["instrument"], book["messages"], book["updates"]) == ("bitmex", "XBTUSD", 4, 5)
    assert book["removals"] == 0.4
    assert book["best"] == {"1": 0.6, "10": 1.0, "100": 1.0}       # 10 gone, then 9, 11 gone; 9 behind 10, 12 behind 11
    assert book["bursts_ms"] == {"1": 2, "10": 3, "100": 3}
    assert (book["peak_second"], book["seconds"]) == (3, 1.198)
    updates = Archive([recorded]).updates().array()
    assert book["updates"] == np.isin(updates["kind"], (Kind.BID, Kind.ASK)).sum()
    assert book["messages"] == ((updates["flags"] & Flag.MORE == 0) & (updates["kind"] != Kind.RESET)
                                & (updates["kind"] != Kind.TRUST)).sum()
    assert told["streams"]["updates"]["messages"] == len(updates)
    assert told["gaps"] == {"places": 0, "messages": 0}


def test_it_is_drawn_in_the_terminal_and_as_a_picture(tmp_path, capsys, recorded, monkeypatch):
    assert stats.main([str(recorded)]) == 0
    out = capsys.readouterr().out
    assert "bitmex XBTUSD" in out
    assert "rank of a level" in out
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert stats.main([str(recorded), "--png", str(tmp_path / "a.png")]) == 2
    assert "pip install 'mantra[plot]'" in capsys.readouterr().err
    monkeypatch.undo()
    pytest.importorskip("matplotlib")
    assert stats.main([str(recorded), "--png", str(tmp_path / "a.png")]) == 0
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
