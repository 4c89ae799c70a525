"""Every recording through the production path, against the slow reference, level for level."""
from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from functools import lru_cache

import pytest

from mantra import venues
from mantra.client.recorded import Recorded
from mantra.core.messages import DTYPES, Kind
from mantra.replay import Replay
from mantra.tape import lines
from tests.data import data
from tests.reference.messages import Diff, Ticker
from tests.reference.replay import RECORDINGS, replay, walk


@lru_cache(maxsize=1)
def recorded(name: str) -> Recorded:
    venue_name, paths = RECORDINGS[name]
    venue = venues.get(venue_name)
    return Recorded(venue, lines.read([data(path) for path in paths], venue_name))


def played(name: str) -> Replay:
    replayed = Replay(recorded(name).venue, recorded(name))
    replayed.once()
    return replayed


def decimals(rows):
    return [(Decimal(price), Decimal(size)) for price, size in rows]


@pytest.mark.parametrize("name", RECORDINGS)
def test_books_equal_the_reference_level_for_level(name):
    replayed, reference = played(name), replay(name)
    books = replayed.result(books=True)["books"]
    assert set(reference.books) <= set(books)
    for symbol, book in reference.books.items():
        assert decimals(books[symbol]["bids"]) == book.bids(), symbol
        assert decimals(books[symbol]["asks"]) == book.asks(), symbol
    counts = replayed.row.counts()
    assert counts["malformed"] == counts["gaps"] == counts["crosses"] == counts["finer"] == 0
    assert counts["trades"] == len(reference.trades)
    assert counts["unknown_deletes"] == reference.total("unknown_deletes")


@pytest.mark.parametrize("name", ["cryptofeed bitstamp", "2021-04-17 binance"])
def test_updates_and_resets_rebuild_every_book(name):
    """What a reader of the queue alone would hold: the image at each reset, then the updates."""
    replayed = Replay(recorded(name).venue, recorded(name))
    updates = replayed.spine.queue(f"updates.{recorded(name).venue.name}", "update").consumer("oldest")
    ladders = [{Kind.BID: {}, Kind.ASK: {}} for _ in replayed.books]
    replayed.feed.begin()
    position = 0
    snapshots = iter([*replayed._snapshots, None])
    following = next(snapshots)
    batches_open = 0
    while position < len(replayed.recorded) or following is not None:
        if following is not None and following[0] <= position:
            replayed.feed.splice(following[1], following[2])
            following = next(snapshots)
        else:
            replayed.feed.messages(replayed.recorded.texts, replayed.recorded.offsets, position, position + 1)
            position += 1
        for update in updates.batch(limit=4096):
            ladder = ladders[update["instrument"]]
            batches_open = int(update["flags"]) & 1
            if update["kind"] == Kind.RESET:
                # The image may already hold diffs that follow in the queue: applying those again changes nothing.
                book = replayed.books[update["instrument"]]
                ladder[Kind.BID] = dict(book.bids().tolist())
                ladder[Kind.ASK] = dict(book.asks().tolist())
            elif update["kind"] in (Kind.BID, Kind.ASK):
                if update["size"]:
                    ladder[update["kind"]][int(update["price"])] = int(update["size"])
                else:
                    del ladder[update["kind"]][int(update["price"])]
        assert not batches_open, "a batch ends with its message"
    for ladder, book in zip(ladders, replayed.books, strict=True):
        assert sorted(ladder[Kind.BID].items(), reverse=True) == list(map(tuple, book.bids().tolist()))
        assert sorted(ladder[Kind.ASK].items()) == list(map(tuple, book.asks().tolist()))


@pytest.mark.parametrize(("name", "least"), [("cryptofeed binance", 40), ("2021-04-17 binance", 300),
                                            ("hftbacktest spot", 5_000)])
def test_binances_book_tickers_witness_its_books(name, least):
    replayed = played(name)
    assert replayed.row["witnessed"] >= least
    assert replayed.row["contradicted"] == 0


@pytest.mark.parametrize("name", ["cryptofeed binance", "2021-04-17 binance"])
def test_published_tops_equal_binances_own_book_ticker(name):
    """bookTicker shares the depth stream's ids: at an id that both have, the best levels are the same."""
    replayed = Replay(recorded(name).venue, recorded(name))
    tops = replayed.spine.queue("tops.binance", "top").consumer("oldest")
    replayed.once()
    symbols = [symbol.name for symbol in replayed.symbols]
    scales = {symbol.name: (symbol.price_decimals, symbol.size_decimals) for symbol in replayed.symbols}
    tickers = {(step.symbol, step.message.id): step.message for step in walk(name)
               if isinstance(step.message, Ticker)}
    compared = 0
    for top in tops.batch(limit=100_000):
        symbol = symbols[top["instrument"]]
        ticker = tickers.get((symbol, int(top["sequence"])))
        if ticker is None or top["trust"] < 3:
            continue
        price, size = scales[symbol]
        for side, level in (("bid", ticker.bid), ("ask", ticker.ask)):
            assert Decimal(int(top[f"{side}_price"][0])).scaleb(-price) == level[0]
            assert Decimal(int(top[f"{side}_size"][0])).scaleb(-size) == level[1]
        compared += 1
    assert compared > 20


def test_dtypes_have_the_size_of_a_slot_less_its_version():
    assert {name: dtype.itemsize % 64 for name, dtype in DTYPES.items()} == dict.fromkeys(DTYPES, 56)


def test_a_lost_message_is_a_gap_and_the_book_is_not_believed_until_a_new_snapshot():
    name = "2021-04-17 binance"
    venue = recorded(name).venue
    records = list(lines.read([data(path) for path in RECORDINGS[name][1]], "binance"))
    diffs = [index for index, record in enumerate(records) if b"depthUpdate" in record.text]
    step = next(step for step in walk(name) if isinstance(step.message, Diff))
    lost = next(index for index in diffs[len(diffs) // 2:] if step.symbol.encode() in records[index].text)
    replayed = Replay(venue, Recorded(venue, records[:lost] + records[lost + 1:]))
    replayed.once()
    result = replayed.result(books=True)
    assert result["gaps"] == 1
    assert result["books"][step.symbol]["trust"] == "suspect"
    assert {book["trust"] for symbol, book in result["books"].items() if symbol != step.symbol} == {"verified"}


def test_the_door_prints_one_json_object_with_books_and_equal_passes():
    path = data("cryptofeed/BITSTAMP.ws.1.0").parent
    done = subprocess.run([sys.executable, "-m", "mantra.replay", "--venue", "bitstamp", str(path), "--books", "--json",
                           "--repeat", "3"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["frames"] == 747
    assert result["trades"] == 10
    assert result["ns_per_message"] > 0
    assert result["books"]["ethusd"]["bids"][0] == ["3800.78", "0.6"]


@pytest.mark.parametrize(("arguments", "says"), [
    (["--venue", "nowhere", "x"], "does not know the venue"),
    (["--venue", "binance", "no-such-file"], "no such recording"),
])
def test_a_wrong_name_is_one_line_and_exit_2(arguments, says):
    done = subprocess.run([sys.executable, "-m", "mantra.replay", *arguments], capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
