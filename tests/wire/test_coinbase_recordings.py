"""Coinbase's recordings of both generations: decoded, replayed and believed as the slow reference says."""
import json
import subprocess
import sys
from decimal import Decimal
from functools import cache

import pytest

from mantra import venues
from mantra.client.recorded import Recorded
from mantra.core.messages import Reason, Trust
from mantra.replay import Replay
from mantra.tape import lines
from mantra.tape.lines import Record
from tests.c.decoding import Decoder, Decoding
from tests.data import data
from tests.reference import recording
from tests.reference.coinbase import SIDES, TAKERS, Connection, time_ns

EXCHANGE = ("cryptofeed/COINBASE.0", "cryptofeed/COINBASE.ws.28.0")
ADVANCED = ("cryptofeed-v3/COINBASE.first-part.jsonl",)
SCALE = 8


@cache
def records(paths):
    return list(lines.read([data(path) for path in paths], "coinbase"))


def frames(paths):
    return [record.text for record in records(paths) if record.kind == "message"]


@cache
def reference(paths):
    connection = Connection()
    for frame in frames(paths):
        connection.take(frame)
    return connection


def played(of):
    replayed = Replay(venues.get("coinbase"), Recorded(venues.get("coinbase"), of))
    replayed.once()
    return replayed


def exact(number):
    scaled = Decimal(number).scaleb(SCALE)
    assert scaled == int(scaled)
    return int(scaled)


def expected(frame):
    """(kind, product, number, time, changes, trades) of a frame, from the documents."""
    number, channel, kind = frame.get("sequence_num"), frame.get("channel"), frame.get("type")
    time = time_ns(frame["timestamp"]) if channel else time_ns(frame["time"]) if "time" in frame else 0
    trades = []
    if channel in ("l2_data", "market_trades"):
        (event,) = frame["events"]
        if channel == "market_trades":
            product, trades = event["trades"][0]["product_id"], event["trades"]
        else:
            changes = [(row["side"], row["price_level"], row["new_quantity"]) for row in event["updates"]]
            product, whole = event["product_id"], event["type"] == "snapshot"
    elif kind in ("match", "last_match"):
        product, trades, time = frame["product_id"], [frame], 0
    elif kind in ("snapshot", "l2update"):
        product, whole = frame["product_id"], kind == "snapshot"
        changes = frame["changes"] if not whole else [("sell", *row) for row in frame["asks"]] + [
            ("buy", *row) for row in frame["bids"]]
    else:
        subscribed = channel == "subscriptions" or kind in ("subscriptions", "error")
        alive = channel == "heartbeats" or kind == "heartbeat"
        return (Decoding.CONTROL if subscribed else Decoding.HEARTBEAT if alive else Decoding.IGNORED, None, number, 0,
                [], [])
    if trades:
        told = sorted((int(row["trade_id"]), TAKERS[row["side"].lower()], exact(row["price"]), exact(row["size"]),
                       time_ns(row["time"])) for row in trades)
        return Decoding.TRADES, product, number, time, [], told
    return (Decoding.SNAPSHOT if whole else Decoding.DIFF, product, number, time,
            [(SIDES[side], exact(price), exact(size)) for side, price, size in changes], [])


@pytest.mark.parametrize("paths", [EXCHANGE, ADVANCED])
def test_every_frame_decodes_as_json_and_decimal_read_it_in_the_usual_spelling_and_in_others(paths):
    symbols = sorted(reference(paths).books)
    decoder = Decoder("coinbase", symbols, [(SCALE, SCALE)] * len(symbols))
    for frame in frames(paths):
        kind, product, number, time, changes, trades = expected(json.loads(frame))
        for text in (frame, b" " + frame):
            answer = decoder.decode(text)
            assert (answer.kind, answer.number) == (kind, number), frame[:200]
            assert product is None or (answer.book, answer.venue_time_ns) == (symbols.index(product), time), frame[:200]
            assert (answer.changes, answer.trades) == (changes, trades), frame[:200]


@pytest.mark.parametrize(("paths", "trust", "messages", "updates", "trades", "deletes"), [
    (EXCHANGE, "unverified", 9946, 9719, 97, 2634),
    (ADVANCED, "verified", 649, 2801, 58, 651),
])
def test_books_equal_the_reference_level_for_level(paths, trust, messages, updates, trades, deletes):
    replayed, slow = played(records(paths)), reference(paths)
    result = replayed.result(books=True)
    assert set(result["books"]) == set(slow.books)
    for symbol, book in slow.books.items():
        for side, levels in (("bids", book.bids()), ("asks", book.asks())):
            found = result["books"][symbol][side]
            assert [(Decimal(price), Decimal(size)) for price, size in found] == levels, symbol
        assert result["books"][symbol]["trust"] == trust
    counts = replayed.row.counts()
    assert not any(counts[name] for name in ("malformed", "gaps", "lost", "trade_gaps", "crosses", "finer", "full"))
    assert (counts["messages"], counts["trades"], len(slow.trades)) == (messages, trades, trades)
    assert (slow.updates, slow.deletes, slow.crossed) == (updates, deletes, 0)
    assert counts["unknown_deletes"] == slow.unknown_deletes


def test_the_numbers_of_advanced_trade_have_no_hole_over_all_channels():
    assert reference(ADVANCED).numbers == list(range(649))
    assert reference(EXCHANGE).numbers == []


def test_all_matches_of_exchange_have_the_side_that_its_ticker_gives_the_taker():
    slow = reference(EXCHANGE)
    told = {(trade.symbol, trade.id): trade.aggressor for trade in slow.old_trades + slow.trades}
    assert len(told) == 107
    assert {key: slow.takers[key] for key in told} == told


def test_all_trades_of_advanced_trade_at_the_best_price_or_beyond_have_the_side_of_their_taker():
    slow, agree, inside = Connection(), 0, 0
    for frame in frames(ADVANCED):
        slow.take(frame)
        while slow.trades:
            trade = slow.trades.pop()
            bid, ask = slow.books[trade.symbol].best() if trade.symbol in slow.books else (None, None)
            if bid and ask and (trade.price >= ask[0] or trade.price <= bid[0]):
                assert trade.aggressor == ("buy" if trade.price >= ask[0] else "sell")
                agree += 1
            else:
                inside += 1
    assert (agree, inside) == (51, 7)


@pytest.mark.parametrize("lost", ["l2_data", "heartbeats"])
def test_a_lost_message_of_any_channel_makes_every_book_of_the_connection_suspect(lost):
    tape = records(ADVANCED)
    gone = [at for at, record in enumerate(tape) if record.text.startswith(b'{"channel":"' + lost.encode())][7]
    replayed = played(tape[:gone] + tape[gone + 1:])
    counts = replayed.row.counts()
    assert (counts["gaps"], counts["lost"]) == (1, 1)
    assert {book["trust"] for book in replayed.result(books=True)["books"].values()} == {"suspect"}
    assert replayed.result(books=True)["books"]["BTC-USD"]["bids"][0] != []


def test_a_snapshot_after_a_loss_is_verified_again():
    tape = records(ADVANCED)
    frame = next(record for record in tape if b'"snapshot","product_id":"ETH-USD"' in record.text)
    lost = Record(frame.time_ns, "message", frame.text.replace(b'"sequence_num":21,', b'"sequence_num":700,'))
    assert lost.text != frame.text
    replayed = played([*tape, lost])
    books = replayed.result(books=True)["books"]
    assert {symbol: book["trust"] for symbol, book in books.items()} == {"BTC-USD": "suspect", "ETH-USD": "verified"}
    assert replayed.row.counts()["lost"] == 700 - 649


def snapshot(number, product, bids, asks):
    updates = [{"side": side, "event_time": "1970-01-01T00:00:00Z", "price_level": str(price), "new_quantity": "1"}
               for side, start, count, step in (("bid", 100_000, bids, -1), ("offer", 100_001, asks, 1))
               for price in range(start, start + step * count, step)]
    event = {"type": "snapshot", "product_id": product, "updates": updates}
    return Record(0, "message", json.dumps({"channel": "l2_data", "timestamp": "2026-08-09T21:05:48Z",
                                            "sequence_num": number, "events": [event]}, separators=(",", ":")).encode())


@pytest.mark.parametrize(("bids", "asks", "counted", "reason"), [
    (65_536, 65_536, None, Reason.NONE),
    (65_537, 1, "full", Reason.FULL),                   # of one side
    (65_537, 65_536, "malformed", Reason.MALFORMED),    # more than one message may have
])
def test_a_snapshot_beyond_what_fits_is_counted_and_costs_the_other_books_nothing(bids, asks, counted, reason):
    replayed = played([snapshot(0, "A-USD", 2, 2), snapshot(1, "B-USD", 2, 2), snapshot(2, "B-USD", bids, asks)])
    counts = replayed.row.counts()
    assert {name for name in ("full", "malformed", "gaps", "lost") if counts[name]} == ({counted} - {None})
    states = {symbol.name: replayed.feed.state(symbol.id)[1:3] for symbol in replayed.symbols}
    assert states == {"A-USD": (Trust.VERIFIED, Reason.NONE),
                      "B-USD": (Trust.SUSPECT if counted else Trust.VERIFIED, reason)}
    replayed.feed.message(snapshot(3, "B-USD", 3, 3).text)
    assert replayed.feed.state(1)[1:3] == (Trust.VERIFIED, Reason.NONE)


@pytest.mark.parametrize("paths", [EXCHANGE, ADVANCED])
def test_the_tape_reads_the_same_lines(paths):
    assert [(record.kind, record.text, record.url) for record in records(paths)] == [
        line[1:] for line in recording.lines(*paths)]


def test_the_door_replays_both_and_equal_passes():
    done = subprocess.run([sys.executable, "-m", "mantra.replay", "--venue", "coinbase", *map(str, map(data, ADVANCED)),
                           "--books", "--json", "--repeat", "2"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["frames"], len(result["books"]["BTC-USD"]["asks"])) == (649, 27237)
