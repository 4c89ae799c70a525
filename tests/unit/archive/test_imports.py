"""Imported recordings: the segment has what was published, when it was received; hostile files are told of."""
from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

from mantra import venues
from mantra.archive import imports, tardis
from mantra.client.recorded import Recorded
from mantra.core import ticks
from mantra.core.messages import Kind, Side, Trust
from mantra.core.pack import unpack
from mantra.replay import Replay
from mantra.tape import lines
from mantra.tape.segment import SegmentReader
from tests.data import data

BOOKS = "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount"
TRADES = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount"
T = 1_600_000_000_000_000


def blocks(path, stream):
    with SegmentReader(path) as reader:
        assert reader.whole
        assert not reader.problems
        message = {one.name: one.message for one in reader.table.streams.values()}[stream]
        return reader.table, [unpack(message, reader.body(record)) for record in reader.blocks(stream)]


def run(capsys, *arguments):
    code = imports.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, (json.loads(out.splitlines()[-1]) if "--json" in arguments and code == 0 else out), err


def applied(archived):
    """The books that images and updates lead to, by instrument: [bids, asks], each {price: size}."""
    books = {}
    for block in archived:
        images = list(block.images)
        for at, update in enumerate([*block.messages.tolist(), None]):
            while images and images[0].before <= at:
                image = images.pop(0).image
                books[image.instrument] = [dict(side.tolist()) for side in image[:2]], image.position
            if update is None:
                break
            _, _, price, size, _, _, instrument, _, kind, _, _ = update
            if instrument in books and block.positions[at] >= books[instrument][1] and kind in (Kind.BID, Kind.ASK):
                side = books[instrument][0][kind - Kind.BID]
                side.pop(price, None)
                if size:
                    side[price] = size
    return {instrument: sides for instrument, (sides, _) in books.items()}


@pytest.mark.parametrize("venue", ["binance", "bitstamp", "bitfinex", "coinbase", "kraken", "okx"])
def test_a_segment_holds_what_a_replay_publishes_at_the_times_that_were_recorded(tmp_path, capsys, venue):
    paths = [data("cryptofeed")]
    code, told, _ = run(capsys, "--out", tmp_path, "--venue", venue, *paths, "--json")
    assert code == 0
    recorded = Recorded(venues.get(venue), lines.read(paths, venue))
    replay = Replay(recorded.venue, recorded)
    published = {name: replay.spine.queue(f"{name}.{venue}").consumer("oldest") for name in ("updates", "trades")}
    replay.once()
    table, archived = blocks(told["file"], "updates")
    updates = np.concatenate([block.messages for block in archived])
    expected = published["updates"].batch(limit=100_000)
    assert (updates["instrument"] == expected["instrument"] + 1).all()
    for field in ("price", "size", "sequence", "venue_time_ns", "venue", "kind", "flags", "trust"):
        assert (updates[field] == expected[field]).all(), field
    assert told["updates"] == len(updates)
    assert told["archive_bytes"] == (tmp_path / told["file"]).stat().st_size
    assert set(updates["origin"].tolist()) <= {*recorded.times_ns, *(each.time_ns for each in recorded.snapshots)}
    assert not (updates["published"] >> 16).any()
    assert (np.concatenate([block.positions for block in archived]) == np.arange(len(updates))).all()
    assert applied(archived) == {index + 1: [dict(side.tolist()) for side in (book.bids(), book.asks())]
                                 for index, book in enumerate(replay.books) if book.image(0).generation}
    assert [(row.name, row.price_decimals) for row in table.instruments.values()] == [
        (symbol.name, symbol.price_decimals) for symbol in replay.symbols]
    trades = [block.messages for block in blocks(told["file"], "trades")[1]]
    assert told["trades"] == sum(map(len, trades)) == len(published["trades"].batch(limit=100_000))


def test_blocks_are_of_a_minute_and_a_book_that_moves_much_has_its_image_again(tmp_path, capsys):
    path = data("hftbacktest/usdm/btcusdt_20240718")
    _, told, _ = run(capsys, "--out", tmp_path, "--venue", "binance", path, "--json")
    _, archived = blocks(told["file"], "updates")
    assert [len(block.images) for block in archived] == [1, 0, 1]
    assert all(np.ptp(block.messages["origin"]) <= 60e9 for block in archived)
    whole = applied(archived)
    assert applied(archived[2:]) == whole       # from its image on alone
    assert told["images"] == 2


def test_an_archive_numbers_an_instrument_once_and_a_finer_scale_of_it_anew(tmp_path, capsys):
    books = [("A", "1.5"), ("B", "2"), ("A", "1.5"), ("A", "0.000000000001"), ("A", "3")]
    for ms, (symbol, price) in enumerate(books):
        path = csv(tmp_path / "a.csv", BOOKS, f"binance,{symbol},{T},{T + 1000 * ms},true,bid,{price},1")
        assert run(capsys, "--out", tmp_path / "a", path)[0] == 0
    tables = [blocks(path, "updates")[0] for path in sorted((tmp_path / "a").glob("*.mantra"))]
    found = [next(iter(table.instruments.values())) for table in tables]
    assert [(row.id, row.name, row.generation, row.price_decimals) for row in found] == [
        (1, "A", 0, 8), (2, "B", 0, 8), (1, "A", 0, 8), (3, "A", 1, 12), (3, "A", 1, 12)]


def csv(path, columns, *rows):
    path.write_text("\n".join([columns, *rows]) + "\n")
    return path


def test_tardis_books_and_trades_are_exact_and_a_snapshot_replaces_the_book(tmp_path, capsys):
    book = csv(tmp_path / "book.csv", BOOKS,
               f"deribit,BTC-PERPETUAL,{T},{T + 100},false,bid,1,1",                 # before any snapshot: of no use
               f"deribit,BTC-PERPETUAL,{T},{T + 200},true,bid,6421.0,10000",
               f"deribit,BTC-PERPETUAL,{T},{T + 200},true,ask,6421.5,18640",
               f"deribit,BTC-PERPETUAL,{T},{T + 300},true,ask,6422,0.1234567890123",      # the snapshot's second part
               f"deribit,BTC-PERPETUAL,{T},{T + 400},false,bid,6420.5,7",
               f"deribit,BTC-PERPETUAL,{T},{T + 400},false,bid,6421.0,0",
               "deribit,BTC-PERPETUAL,nonsense", f"deribit,BTC-PERPETUAL,{T},{T + 450},false,bid,nan,1",
               f"deribit,BTC-PERPETUAL,{T},{T + 500},true,bid,6400,1e-3")
    trades = csv(tmp_path / "trades.csv", TRADES, f"deribit,BTC-PERPETUAL,{T},{T + 250},282a0445-0e3a,sell,6421,2152",
                 f"deribit,BTC-PERPETUAL,{T + 1},{T + 250},77,buy,6421.5,1")
    (tmp_path / "trades.csv.gz").write_bytes(gzip.compress(trades.read_bytes()))
    code, told, err = run(capsys, "--out", tmp_path / "a", book, tmp_path / "trades.csv.gz", "--json")
    assert (code, told["skipped_lines"]) == (0, 2)
    assert "book.csv: 2 lines could not be read" in err
    table, archived = blocks(told["file"], "updates")
    (block,) = archived
    (scale,) = table.instruments.values()
    assert (scale.name, scale.price_decimals, scale.size_decimals) == ("BTC-PERPETUAL", 8, 13)
    assert list(table.venues.values()) == ["deribit"]
    rows = [(Kind(kind), ticks.text(price, 8, True), ticks.text(size, 13, True), origin - T * 1000, trust)
            for origin, _, price, size, _, _, _, _, kind, _, trust in block.messages.tolist() if kind != Kind.RESET]
    assert rows == [(Kind.TRUST, "0", "0", 100_000, Trust.SUSPECT),
                    (Kind.ASK, "6422", "0.1234567890123", 300_000, Trust.UNVERIFIED),
                    (Kind.BID, "6420.5", "7", 400_000, Trust.UNVERIFIED),
                    (Kind.BID, "6421", "0", 400_000, Trust.UNVERIFIED)]
    assert [ticks.text(price, 8, True) for each in block.images for price in each.image.bids[:, 0].tolist()] == [
        "6421", "6400"]
    assert applied(archived)[1] == [{640_000_000_000: 10**10}, {}]
    (block,) = blocks(told["file"], "trades")[1]
    assert block.messages["trade_id"].tolist() == [tardis.trade_id("282a0445-0e3a"), 77]
    assert block.messages["side"].tolist() == [Side.SELL, Side.BUY]
    assert block.messages["venue_time_ns"].tolist() == [T * 1000, T * 1000 + 1000]


@pytest.mark.parametrize("path", [
    "tardis/csv/deltas_1.csv", "tardis/csv/deltas_with_snapshot.csv", "tardis/csv/trades_1.csv",
    "test_data/tardis/deribit_incremental_book_L2_BTC-PERPETUAL.csv"])
def test_tardis_files_of_others_are_read(tmp_path, capsys, path):
    code, told, err = run(capsys, "--out", tmp_path, data(f"nautilus_trader/{path}"), "--json")
    assert (code, told["skipped_lines"], told["malformed"], err) == (0, 0, 0, "")
    assert told["updates"] + told["trades"] > 1


@pytest.mark.parametrize(("content", "said"), [
    (b"\x00\xff" * 100, "--venue: whose frames are they"), (b"", "--venue: whose frames are they"),
    (BOOKS.encode() + b"\nnonsense\n", "files of no exchange"),
    (b"\x1f\x8b nonsense", "--venue: whose frames are they")])
def test_what_is_no_recording_is_one_line(tmp_path, capsys, content, said):
    (tmp_path / "file").write_bytes(content)
    code, _, err = run(capsys, "--out", tmp_path, tmp_path / "file")
    assert (code, err.count("\n")) == (2, 1)
    assert said in err
    assert imports.main(["--out", str(tmp_path), "--venue", "binance", str(tmp_path / "file")]) == 2
    assert not list(tmp_path.glob("*.mantra*"))


def test_a_venue_that_it_is_not_and_a_segment_that_is_there_are_told(tmp_path, capsys):
    path = data("cryptofeed/BINANCE.ws.1.0")
    code, _, err = run(capsys, "--out", tmp_path, "--venue", "kraken", path)
    assert code == 2
    assert "is --venue right?" in err
    assert run(capsys, "--out", tmp_path, "--venue", "binance", path)[0] == 0
    code, _, err = run(capsys, "--out", tmp_path, "--venue", "binance", path)
    assert code == 1
    assert "exists already" in err
    assert len(list(tmp_path.glob("*.mantra*"))) == 1


def test_changes_without_a_book_are_told_to_be_missing(tmp_path, capsys):
    path = data("cryptofeed/BITSTAMP.ws.1.0.zst")
    code, told, err = run(capsys, "--out", tmp_path, "--venue", "bitstamp", path, "--json")
    assert code == 0
    assert sum(told["waiting"].values()) == 717
    assert "messages waited in vain for a book" in err


def test_a_block_that_images_fill_is_closed(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(imports, "IMAGED", 3000)
    path = data("cryptofeed/KRAKEN.ws.50.0.zst")
    told = run(capsys, "--out", tmp_path / "many", "--venue", "kraken", path, "--json")[1]
    monkeypatch.undo()
    whole = run(capsys, "--out", tmp_path / "one", "--venue", "kraken", path, "--json")[1]
    many, one = (blocks(each["file"], "updates")[1] for each in (told, whole))
    assert len(many) > len(one)
    assert applied(many) == applied(one)
