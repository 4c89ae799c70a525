"""Kraken's recordings, message by message, against the slow reference; and what the venue page says of them."""
from __future__ import annotations

import json
import re
import subprocess
import sys
from decimal import Decimal
from functools import cache

import pytest

from mantra import venues
from mantra.client.recorded import Recorded, Survey
from mantra.errors import ConfigurationError
from mantra.replay import Replay
from mantra.tape import lines
from tests.c.decoding import Decoder, Decoding
from tests.data import data, read
from tests.reference.kraken import Connection

BOOKS = {"cryptofeed/KRAKEN.ws.50.0": 4269, "depthcharge/kraken_btcusd_d10_20260816.first-16000-chars.ndjson": 54}
OTHERS = ["cryptofeed/KRAKEN.ws.48.0", "cryptofeed/KRAKEN.ws.49.0"]
V1, V2 = BOOKS


def recorded(path: str) -> Recorded:
    return Recorded(venues.get("kraken"), lines.read([data(path)], "kraken"))


@cache
def reference(path: str, depth: int | None = None) -> Connection:
    connection = Connection(depth)
    for text in recorded(path):
        connection.take(text)
    return connection


def played(texts: list[bytes], **options) -> Replay:
    venue = venues.get("kraken")
    replay = Replay(venue, Recorded(venue, [lines.Record(0, "message", text) for text in texts]), **options)
    replay.once()
    return replay


def exact(rows):
    return [(Decimal(price), Decimal(size)) for price, size in rows]


def same(replay: Replay, slow: Connection) -> None:
    books = replay.result(books=True)["books"]
    assert set(slow.books) == set(books)
    for symbol, book in slow.books.items():
        for side in ("bid", "ask"):
            assert exact(books[symbol][f"{side}s"]) == book.levels(side), symbol


@pytest.mark.parametrize("path", [*BOOKS, *OTHERS])
def test_the_recordings_are_what_the_venue_page_says(path):
    slow = reference(path)
    assert slow.checksums == [True] * BOOKS.get(path, 0)
    assert (slow.unknown_deletes, slow.crossed) == (0, set())
    assert (len(slow.books), len(slow.trades), slow.other) == {V1: (10, 0, 0), V2: (1, 0, 0), OTHERS[0]: (0, 10, 0),
                                                               OTHERS[1]: (0, 0, 18)}[path]


@pytest.mark.parametrize(("path", "depth"), [(V1, 25), (V1, 10), (V2, None), (V2, 5)])
def test_every_message_leaves_the_book_and_the_checksum_that_the_reference_has(path, depth):
    """At a smaller depth than was subscribed levels fall out all the time, and the checksum is the reference's own."""
    recording, slow = recorded(path), Connection(depth)
    symbols = Survey(recording.venue, [recording]).symbols
    scales = [(row.price_decimals, row.size_decimals) for row in symbols]
    decoder = Decoder("kraken", [tuple(recording.venue.spellings(row.name)) for row in symbols], scales)
    books: dict[str, dict[tuple[str, int], int]] = {}
    held = []
    for text in recording:
        changed, answer = slow.take(text), decoder.decode(text)
        assert (answer.kind in (Decoding.SNAPSHOT, Decoding.DIFF)) == bool(changed), text
        if not changed:
            continue
        symbol = symbols[answer.book].name
        assert changed == [symbol]
        if answer.kind is Decoding.SNAPSHOT:
            books[symbol] = {}
        book = books[symbol]
        for side, price, size in answer.changes:
            book[side, price] = size
        for side in ("bid", "ask"):
            levels = sorted((price for (which, price), size in book.items() if which == side and size),
                            reverse=side == "bid")[:slow.books[symbol].depth]
            kept = {(side, price): book[side, price] for price in levels}
            for key in [key for key in book if key[0] == side]:
                del book[key]
            book |= kept
        sum_here = decoder.checksum(answer.book, [(side, price, size) for (side, price), size in book.items()])
        assert sum_here == slow.books[symbol].checksum()
        held += [sum_here == answer.checksum] * (answer.checksum is not None)
    assert held == slow.checksums
    assert len(held) == BOOKS[path]
    assert all(held) or depth is not None


@pytest.mark.parametrize("path", BOOKS)
def test_books_equal_the_reference_level_for_level_and_every_checksum_holds(path):
    replay, slow = played(list(recorded(path))), reference(path)
    same(replay, slow)
    result = replay.result(books=True)
    assert result["checksums"] == {"ok": BOOKS[path], "failed": 0}
    assert {book["trust"] for book in result["books"].values()} == {"verified"}
    for name in ("malformed", "gaps", "crosses", "finer", "unknown_symbols", "unknown_deletes"):
        assert result["ledger"][name] == 0, name


@pytest.mark.parametrize("depth", [100, 25, 10, 1])
def test_a_book_cut_to_a_smaller_depth_equals_the_reference_cut_so(depth):
    slow = reference(V1, depth)
    replay = played(list(recorded(V1)), depth=depth, checksums=False)
    same(replay, slow)
    assert replay.row.counts()["unknown_deletes"] == slow.unknown_deletes > 0       # they had been cut away
    assert {book["trust"] for book in replay.result(books=True)["books"].values()} <= {"unverified", "suspect"}


def test_trades_equal_the_reference():
    replay, slow = played(list(recorded(OTHERS[0]))), reference(OTHERS[0])
    assert replay.row.counts()["trades"] == len(slow.trades) == 10
    decoder = Decoder("kraken", ["XMR/USD", "SC/EUR"], [(8, 8), (8, 8)])
    told = [("XMR/USD", "SC/EUR")[part.book] and (part.book, *trade) for text in recorded(OTHERS[0])
            for part in [decoder.decode(text)] for trade in part.trades]
    assert told == [(("XMR/USD", "SC/EUR").index(trade.symbol), 0, trade.aggressor, int(trade.price * 10**8),
                     int(trade.size * 10**8), trade.time_ns) for trade in slow.trades]


def test_one_digit_changed_anywhere_near_the_top_fails_the_checksum_and_its_book_alone():
    texts = list(recorded(V1))
    at = next(at for at in range(2000, len(texts)) if b'"XMR/USD"' in texts[at] and b'"0.00000000"' not in texts[at])
    texts[at] = re.sub(rb'(\d)(","1618)', lambda found: b"%d" % ((int(found[1]) + 1) % 10) + found[2], texts[at],
                       count=1)
    result = played(texts).result(books=True)
    assert result["checksums"]["failed"] == 1
    trusts = {symbol: book["trust"] for symbol, book in result["books"].items()}
    assert trusts.pop("XMR/USD") == "suspect"
    assert set(trusts.values()) == {"verified"}


def test_a_new_snapshot_in_the_stream_heals_the_book():
    texts = list(recorded(V2))
    whole = next(at for at, text in enumerate(texts) if b'"snapshot"' in text and b'"book","type"' in text)
    lost = texts[:whole + 3] + texts[whole + 4:whole + 6]
    assert played(lost).result(books=True)["books"]["BTC/USD"]["trust"] == "suspect"
    healed = played([*lost, *texts[whole:]])
    assert healed.result(books=True)["books"]["BTC/USD"]["trust"] == "verified"
    same(healed, reference(V2))


FIXTURES = "nautilus_trader/kraken"


@pytest.mark.parametrize(("name", "kind"), [
    ("ws_book_snapshot", Decoding.SNAPSHOT), ("ws_book_update", Decoding.DIFF), ("ws_trade_update", Decoding.TRADES),
    ("ws_ticker_snapshot", Decoding.IGNORED), ("ws_ohlc_update", Decoding.IGNORED), ("ws_pong", Decoding.HEARTBEAT),
    ("ws_l3_snapshot", Decoding.IGNORED), ("ws_l3_update_add", Decoding.IGNORED),
    ("ws_subscribe_response", Decoding.CONTROL), ("ws_add_order_response_failure", Decoding.CONTROL),
    ("ws_futures_book_delta", Decoding.MALFORMED),
])
def test_frames_written_over_many_lines_are_told_apart(name, kind):
    answer = Decoder("kraken", ["BTC/USD"], [(8, 8)]).decode(read(f"{FIXTURES}/{name}.json"))
    assert answer.kind is kind
    if kind is Decoding.TRADES:
        assert [trade[:2] for trade in answer.trades] == [(10218208, "buy"), (10218209, "sell")]
    if kind is Decoding.SNAPSHOT:
        assert len(answer.changes) == 6
        assert answer.venue_time_ns == 1696613755440295000


def test_a_rest_book_is_an_image_that_teaches_nothing_of_how_the_stream_prints():
    decoder, body = Decoder("kraken", ["BTC/USDT"], [(8, 8)]), read(f"{FIXTURES}/http_order_book.json")
    (levels,) = json.loads(body)["result"].values()
    answer = decoder.decode_snapshot(body, 0)
    assert answer.kind is Decoding.IMAGE
    assert sorted(answer.changes) == sorted(
        (side[:-1], int(Decimal(price) * 10**8), int(Decimal(size) * 10**8))
        for side in ("asks", "bids") for price, size, _ in levels[side])
    assert decoder.printed(0) == (0, 0)


def test_the_instrument_snapshot_and_the_rest_list_say_the_same_kind_of_thing():
    venue = venues.get("kraken")
    listed = {row.symbol: row for row in venue.parse_instruments(read("kraken-data-recorder/instrument_snapshot.json"))}
    assert len(listed) == 683
    btc = listed["BTC/USD"]
    assert (btc.name, btc.tick, btc.lot, btc.min_size, btc.min_value) == ("BTC-USD", "0.1", "0.00000001", "0.0001",
                                                                         "0.5")
    (older,) = [row for row in Recorded(venue, lines.read([data("cryptofeed/KRAKEN.0"), data(V1)])).listings
                if row.symbol == "BTC/USD"]
    assert (older.name, older.tick, older.lot, older.min_size) == ("BTC-USD", "0.1", "0.00000001", "0.0002")


def test_the_documentations_own_checksum_holds():
    for vector in map(json.loads, read("checksum-vectors/checksums.jsonl").splitlines()):
        if vector["venue"] == "kraken":
            decoder = Decoder("kraken", ["XBT/USD"], [(8, 8)])
            frame = json.dumps([1, {"as": [[*row, "1.5"] for row in vector["asks"]],
                                    "bs": [[*row, "1.5"] for row in vector["bids"]]}, "book-10", "XBT/USD"]).encode()
            assert decoder.checksum(0, decoder.decode(frame).changes) == vector["checksum"] == 974947235
            slow = Connection(10)
            slow.take(frame)
            assert slow.books["BTC/USD"].checksum() == vector["checksum"]


def test_a_recording_without_books_is_replayed_unless_it_is_another_venues():
    for path in (OTHERS[1], f"{FIXTURES}/ws_pong.json"):
        assert played(list(recorded(path))).result(books=True)["books"] == {}
    with pytest.raises(ConfigurationError, match=r"is --venue right\?"):
        played(list(recorded("cryptofeed/BINANCE.ws.1.0")))


def test_the_door_replays_both_protocols_with_equal_passes():
    for path, best in ((V1, "9.586075"), (V2, "62802.5")):
        done = subprocess.run([sys.executable, "-m", "mantra.replay", "--venue", "kraken", str(data(path)), "--books",
                               "--json", "--repeat", "2"], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout.splitlines()[-1])
        assert result["checksums"] == {"ok": BOOKS[path], "failed": 0}
        assert best in {book["bids"][0][0] for book in result["books"].values()}
