"""Exports: read back they are what the archive holds, to the integer; a reader of them has every book whole."""
from __future__ import annotations

import csv
import json
import random
import sys

import numpy as np
import pytest

from mantra.archive import exports, imports
from mantra.archive.archive import Archive
from mantra.core import ticks
from mantra.core.messages import Flag, Kind, Side, Trust
from mantra.core.pack import Packer
from mantra.tape.segment import SegmentWriter

T = 1_600_000_000_000_000
BOOK = "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount\n"
TRADES = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Three minutes of two instruments, as Tardis has them, in an archive; venue times are disordered, and ahead."""
    draw, folder = random.Random(5), tmp_path_factory.mktemp("archive")
    paths = []
    for symbol, price, decimals in (("XBTUSD", 10_000, 1), ("ETHUSD", 300, 2)):
        rows, trades = [BOOK], [TRADES]
        for second in range(180):
            whole = second in (3, 100)
            for side in ("bid", "ask"):
                for level in range(40 if whole else draw.randrange(5)):
                    at = price + (level + 1) * (1 if side == "ask" else -1) / 10**decimals
                    size = draw.choice([1, 17, 250]) if whole else draw.choice([0, 3, 99.5])
                    venue_us, local_us = T + second * 10**6 + draw.randrange(2 * 10**6), T + second * 10**6
                    rows.append(f"bitmex,{symbol},{venue_us},{local_us},"
                                f"{str(whole).lower()},{side},{at:.{decimals}f},{size}\n")
            trades.append(f"bitmex,{symbol},{T + second * 10**6 + 7},{T + second * 10**6 + 5},{second},"
                          f"{draw.choice(['buy', 'sell'])},{price},{second + 1}\n")
        for name, text in (("book", rows), ("trades", trades)):
            paths.append(folder / f"{symbol}.{name}.csv")
            paths[-1].write_text("".join(text))
    assert imports.main(["--out", str(folder / "archive"), *map(str, paths)]) == 0
    return folder / "archive"


def export(capsys, *arguments):
    code = exports.main([*map(str, arguments), "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out.splitlines()[-1]) if code == 0 else None, err


def final(rows):
    """The book that exported (kind, price, size) lead to."""
    sides = {Kind.BID: {}, Kind.ASK: {}}
    for kind, price, size in rows:
        if kind == Kind.RESET:
            sides = {Kind.BID: {}, Kind.ASK: {}}
        elif kind in sides:
            sides[kind].pop(price, None)
            if size:
                sides[kind][price] = size
    return [sides[Kind.BID], sides[Kind.ASK]]


def image(archive, instrument):
    book = archive.book("bitmex", instrument)
    return [dict(side.tolist()) for side in (book.bids, book.asks)]


def test_parquet_has_every_integer_and_says_what_it_counts(tmp_path, capsys, recorded):
    parquet = pytest.importorskip("pyarrow.parquet")
    code, told, _ = export(capsys, recorded, "--format", "parquet", "--out", tmp_path)
    assert code == 0
    archive = Archive([recorded])
    names = {row.name: row for row in archive.instruments()}
    by_id = {row.id: row.name for row in archive.instruments()}
    for stream in ("updates", "trades"):
        table = parquet.read_table(told[stream]["file"])
        assert json.loads(table.schema.field("price").metadata[b"decimals"]) == {
            name: row.price_decimals for name, row in names.items()}
        assert str(table.schema.field("received").type) == "timestamp[ns, tz=UTC]"
        rows = {name: column.to_pylist() if not name.endswith(("ed", "time")) else column.cast("int64").to_pylist()
                for name, column in zip(table.column_names, table.columns, strict=True)}
        own = [not snapshot for snapshot in rows.get("snapshot", [False] * table.num_rows)]
        expected = archive.messages(stream).array()
        mine = {name: [value for value, keep in zip(column, own, strict=True) if keep] for name, column in rows.items()}
        assert mine["received"] == expected["origin"].tolist()
        assert mine["published"] == (expected["origin"] + (expected["published"] >> np.uint64(16))).tolist()
        assert mine["instrument"] == [by_id[number] for number in expected["instrument"].tolist()]
        assert mine["venue_time"] == expected["venue_time_ns"].tolist()
        for name in ("price", "size"):
            assert mine[name] == expected[name].tolist()
        assert [Trust[name.upper()] for name in mine["trust"]] == expected["trust"].tolist()
        assert mine["more"] == (expected["flags"] & Flag.MORE != 0).tolist()
        kinds = ("kind", Kind) if stream == "updates" else ("side", Side)
        assert [kinds[1][name.upper()] for name in mine[kinds[0]]] == expected[kinds[0]].tolist()
    for name in names:
        whole = [(Kind[kind.upper()], price, size) for kind, price, size, of in zip(
            *(parquet.read_table(told["updates"]["file"])[each].to_pylist() for each in (
                "kind", "price", "size", "instrument")), strict=True) if of == name]
        assert final(whole) == image(archive, name)


@pytest.mark.parametrize("since", [None, f"{T + 60 * 10**6}000"])
def test_csv_has_exact_decimals_and_begins_with_whole_books(tmp_path, capsys, recorded, since):
    code, told, _ = export(capsys, recorded, "--format", "csv", "--out", tmp_path, "--instrument", "ETHUSD",
                           *(["--from", since] if since else []))
    assert code == 0
    archive = Archive([recorded])
    (scale,) = (row for row in archive.instruments() if row.name == "ETHUSD")
    expected = archive.updates(instrument="ETHUSD", since=since).array()
    with open(told["updates"]["file"], newline="") as file:
        rows = list(csv.DictReader(file))
    own = [row for row in rows if row["snapshot"] == "0"]
    assert [ticks.ticks(row["size"], scale.size_decimals) for row in own] == expected["size"].tolist()
    assert [(int(row["received"]), int(row["sequence"])) for row in own] == expected[["origin", "sequence"]].tolist()
    prices = [int(row["price"]) if row["kind"] == "reset" else ticks.ticks(row["price"], scale.price_decimals)
              for row in own]
    assert prices == expected["price"].tolist()
    assert {row["instrument"] for row in rows} == {"ETHUSD"}
    assert final((Kind[row["kind"].upper()], *(ticks.ticks(row[name], decimals) for name, decimals in (
        ("price", scale.price_decimals), ("size", scale.size_decimals)))) for row in rows) == image(archive, "ETHUSD")
    assert all(int(row["published"]) >= int(since or 0) for row in rows)


@pytest.mark.parametrize("late_ns", [exports.LATE_NS, 0])
def test_hftbacktest_hears_in_local_order_and_its_exchange_acts_in_the_venues(tmp_path, capsys, recorded, monkeypatch,
                                                                              late_ns):
    monkeypatch.setattr(exports, "LATE_NS", late_ns)
    out = tmp_path / "a.npz"
    code, _, err = export(capsys, recorded, "--format", "hftbacktest", "--out", out)
    assert (code, err.count("\n")) == (2, 1)
    assert "bitmex ETHUSD, bitmex XBTUSD" in err
    code, told, _ = export(capsys, recorded, "--format", "hftbacktest", "--out", out, "--instrument", "XBTUSD")
    data = np.load(out)["data"]
    assert data.dtype == exports.EVENT
    assert len(data) == told["rows"]
    assert (data["local_ts"] >= data["exch_ts"]).all()
    assert told["local_offset_ns"] > 0
    assert (told["told_twice"] > 0, told["clamped"] > 0) == (True, late_ns == 0)
    exchange, local = (data[data["ev"] & flag != 0] for flag in (exports.EXCH_EVENT, exports.LOCAL_EVENT))
    assert (np.diff(exchange["exch_ts"]) >= 0).all()
    assert (np.diff(local["local_ts"]) >= 0).all()
    archive = Archive([recorded])
    published = archive.updates(instrument="XBTUSD").array()
    events, trades = local["ev"] & 0xFF, archive.trades(instrument="XBTUSD").array()
    assert (events == exports.DEPTH_EVENT).sum() == np.isin(published["kind"], (Kind.BID, Kind.ASK)).sum()
    assert (events == exports.DEPTH_CLEAR_EVENT).sum() == 2
    (scale,) = (row for row in archive.instruments() if row.name == "XBTUSD")
    assert (local["qty"][events == exports.TRADE_EVENT] == trades["size"] / 10**scale.size_decimals).all()
    kinds = {exports.BUY_EVENT: Kind.BID, exports.SELL_EVENT: Kind.ASK, 0: Kind.RESET}
    told_books = final((kinds[int(ev) & (exports.BUY_EVENT | exports.SELL_EVENT)], px, qty) for ev, px, qty in zip(
        *(local[events != exports.TRADE_EVENT][name].tolist() for name in ("ev", "px", "qty")), strict=True))
    assert told_books == [{price / 10**scale.price_decimals: size / 10**scale.size_decimals
                           for price, size in side.items()} for side in image(archive, "XBTUSD")]


def test_what_was_lost_is_followed_by_the_book_as_it_is(tmp_path, recorded):
    """A second capture's file of the same, of which the middle was not written, and the next image tells the book."""
    opened = Archive([recorded])
    (path,) = recorded.glob("*.mantra")
    reader = opened._reader(path)
    table = reader.table.told()
    updates = opened.updates(instrument="XBTUSD").array()
    kept, lost = updates[:200], updates[200:260]
    book = opened.book("bitmex", "XBTUSD", int(lost["origin"][-1]))
    gap = {"feed": 1, "position": 200, "lost": 60, "utc_ns": int(lost["origin"][-1])}
    with SegmentWriter(tmp_path / "a.mantra", table | {"gaps": [gap]}) as writer:
        packer = Packer("update")
        packer.add(1, kept, 0)
        packer.image(1, book._replace(position=260))
        packer.add(1, updates[260:], 260)
        first, last, count = packer.first, packer.last, packer.count
        writer.block(1, packer.pack(), count, first, last)
    rows = np.concatenate(list(exports.Whole([tmp_path]).rows("updates")))
    assert final(rows[["kind", "price", "size"]].tolist()) == image(opened, "XBTUSD")
    assert ((rows["kind"] == Kind.RESET) & (rows["flags"] & Flag.FROM_SNAPSHOT != 0)).sum() == 1


def test_what_was_in_a_damaged_block_is_followed_by_the_book_as_it_is(tmp_path, capsys, recorded):
    (path,) = recorded.glob("*.mantra")
    opened, contents = Archive([recorded]), bytearray(path.read_bytes())
    first, second, *_ = opened._reader(path).blocks("updates")
    for block in (first, second):
        contents[block.offset + 100] ^= 1
        (tmp_path / "a.mantra").write_bytes(contents)
        code, _, err = export(capsys, tmp_path / "a.mantra", "--format", "csv", "--out", tmp_path / str(block.offset))
        assert (code, "is damaged" in err) == (1, True)
        rows = np.concatenate(list(exports.Whole([tmp_path / "a.mantra"]).rows("updates", None, "XBTUSD")))
        assert len(rows) < len(opened.updates(instrument="XBTUSD").array())
        whole = image(opened, "XBTUSD")
        assert (final(rows[["kind", "price", "size"]].tolist()) == whole) == (block == first), "none has come behind it"


def test_without_pyarrow_one_line_says_what_to_install(tmp_path, capsys, recorded, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    code, _, err = export(capsys, recorded, "--format", "parquet", "--out", tmp_path / "out")
    assert (code, err) == (2, "mantra archive export: Parquet needs pyarrow: pip install 'mantra[parquet]'\n")


@pytest.mark.parametrize(("arguments", "said"), [
    (["--venue", "nowhere"], "nothing of 'nowhere' was recorded"),
    (["--instrument", "X"], "nothing of 'X' was recorded"), (["--from", "yesterday"], "'yesterday' is no time")])
def test_what_is_not_there_is_told(tmp_path, capsys, recorded, arguments, said):
    code, _, err = export(capsys, recorded, "--format", "csv", "--out", tmp_path, *arguments)
    assert (code, err.count("\n")) == (2, 1)
    assert said in err
    assert not list(tmp_path.iterdir())
