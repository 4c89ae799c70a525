"""Books whose snapshots come in the stream, fed by a decoder in Python: proofs, gaps, cuts, parts, and bad decoders."""
from __future__ import annotations

import json
import time

import pytest

from mantra.core.hot_path import Feed
from mantra.core.messages import Kind as UpdateKind
from mantra.core.messages import Reason, Trust
from mantra.runtime.spine import Spine
from mantra.venues.decoder import Kind, Part

BIDS, ASKS = [["10.0", "1"], ["9.5", "2"], ["9.0", "3"]], [["10.5", "1"], ["11.0", "2"], ["11.5", "3"]]


class Scripted:
    """Frames are JSON lists of parts' fields. The checksum counts the levels: enough to agree or not."""

    checksum_levels = 2

    def message(self, text):
        return [Part(Kind[fields.pop("kind")], **fields) for fields in json.loads(text)]

    def book(self, text):
        return self.message(text)[0]

    def checksum(self, bids, asks):
        return int("".join(f"{len(side)}" for side in (bids, asks)))


class Bench:
    def __init__(self, *symbols, decoder=None, live_trust=Trust.VERIFIED, dense_trades=True, **options):
        self.spine = Spine.private()
        queues = {name: self.spine.queue(f"{name}.feed", message)
                  for name, message in (("updates", "update"), ("trades", "trade"), ("tops", "top"))}
        self.row = self.spine.ledger.row("feed", 9)
        self.feed = Feed("feed", venue=9, decoder=decoder or Scripted(), scheme="stream", live_trust=live_trust,
                         publisher=1, clock=self.spine.clock, doorbell=self.spine.doorbell, ledger=self.row,
                         updates=queues["updates"].producer(), trades=queues["trades"].producer(),
                         tops=queues["tops"].producer(), latest_tops=self.spine.tops, held_bytes=1 << 16,
                         dense_trades=dense_trades, **options)
        self.books, self.rows = [], []
        for number, symbol in enumerate(symbols or ("A",)):
            book, slot = self.spine.make_book("venue", 9, symbol, number)
            row = self.spine.book_ledger.row(f"feed {symbol}", 9, self.row.feed, number)
            self.feed.add_book(book, slot, [symbol], number, 2, 3, row)
            self.books.append(book)
            self.rows.append(row)
        self.updates, self.trades, self.tops = (queue.consumer() for queue in queues.values())
        self.feed.begin()
        self.drain()

    def drain(self):
        return list(self.updates), list(self.trades), list(self.tops)

    def say(self, *parts):
        return self.feed.message(json.dumps(parts).encode())

    def snapshot(self, symbol="A", bids=BIDS, asks=ASKS, **fields):
        return self.say({"kind": "SNAPSHOT", "symbol": symbol, "bids": bids, "asks": asks, **fields})

    def diff(self, symbol="A", bids=(), asks=(), **fields):
        return self.say({"kind": "DIFF", "symbol": symbol, "bids": list(bids), "asks": list(asks), **fields})

    def trust(self, index=0):
        _, trust, reason, *_ = self.feed.state(index)
        return Trust(trust), Reason(reason)


def test_a_numbered_snapshot_makes_a_verified_book_and_a_gap_makes_every_book_of_the_connection_suspect():
    bench = Bench("A", "B", proofs=("numbers",), first_number=0)
    bench.snapshot("A", number=0)
    bench.snapshot("B", number=1)
    bench.diff("A", bids=[["10.1", "4"]], number=2)
    assert [bench.trust(0), bench.trust(1)] == [(Trust.VERIFIED, Reason.NONE)] * 2
    bench.diff("A", bids=[["10.2", "4"]], number=5)
    assert [bench.trust(0), bench.trust(1)] == [(Trust.SUSPECT, Reason.GAP)] * 2
    assert (bench.row["gaps"], bench.row["lost"]) == (1, 2)
    assert [row["gaps"] for row in bench.rows] == [1, 1]
    assert bench.feed.wants() == [(0, True, False), (1, True, False)]
    assert bench.books[0].bids()[0].tolist() == [1010, 4000]     # what came after the loss is not applied
    bench.snapshot("B", number=6)
    assert bench.trust(1) == (Trust.VERIFIED, Reason.NONE)
    assert bench.trust(0) == (Trust.SUSPECT, Reason.GAP)
    assert bench.rows[0]["resyncs"] == 1


def test_a_lower_number_is_dropped_and_the_first_may_not_be_missing():
    bench = Bench(proofs=("numbers",), first_number=0)
    bench.snapshot(number=0)
    bench.diff(bids=[["10.1", "1"]], number=1)
    bench.diff(bids=[["10.1", "0"]], number=0)
    assert bench.trust() == (Trust.VERIFIED, Reason.NONE)
    assert (bench.row["old_dropped"], bench.books[0].bids()[0].tolist()) == (1, [1010, 1000])
    late = Bench(proofs=("numbers",), first_number=0)
    late.say({"kind": "CONTROL", "number": 1})
    assert (late.row["gaps"], late.row["lost"]) == (1, 1)


def test_numbers_of_controls_and_heartbeats_count():
    bench = Bench(proofs=("numbers",), first_number=1)
    for number, kind in enumerate(("CONTROL", "HEARTBEAT", "IGNORED"), 1):
        bench.say({"kind": kind, "number": number})
    bench.snapshot(number=4)
    assert (bench.row["gaps"], bench.trust()) == (0, (Trust.VERIFIED, Reason.NONE))


def test_without_numbers_a_book_is_unverified_until_a_checksum_agrees():
    bench = Bench(proofs=("numbers", "checksums"))
    bench.snapshot()
    assert bench.trust() == (Trust.UNVERIFIED, Reason.SYNCHRONISING)
    bench.diff(bids=[["10.1", "1"]], checksum=22)
    assert bench.trust() == (Trust.VERIFIED, Reason.NONE)
    assert bench.rows[0]["checksums_ok"] == bench.row["checksums_ok"] == 1


def test_a_book_is_never_published_as_verified_with_a_failed_checksum():
    bench = Bench(proofs=("checksums",))
    bench.snapshot(checksum=22)
    bench.drain()
    bench.diff(bids=[["10.1", "1"]], checksum=21)
    updates, _, tops = bench.drain()
    assert {update.trust for update in updates} == {Trust.SUSPECT}
    assert [(top.trust, top.reason) for top in tops] == [(Trust.SUSPECT, Reason.CHECKSUM)]
    assert bench.feed.wants() == [(0, True, False)]
    bench.diff(bids=[["10.3", "1"]], checksum=22)        # it waits for a snapshot: an agreeing diff heals nothing
    assert bench.trust() == (Trust.SUSPECT, Reason.CHECKSUM)
    bench.snapshot(checksum=22)
    assert bench.trust() == (Trust.VERIFIED, Reason.NONE)
    assert bench.row["distrusted_ns"] > 0


def test_a_snapshot_with_a_wrong_checksum_is_not_believed():
    bench = Bench(proofs=("checksums",))
    bench.snapshot(checksum=9)
    assert bench.trust() == (Trust.SUSPECT, Reason.CHECKSUM)
    assert bench.feed.wants() == [(0, True, False)]


def test_with_checksums_off_nothing_is_compared_and_nothing_proven():
    bench = Bench(proofs=("checksums",), checksums=False)
    bench.snapshot(checksum=9)
    assert bench.trust() == (Trust.UNVERIFIED, Reason.SYNCHRONISING)
    assert bench.row["checksums_failed"] == 0


def test_levels_beyond_the_venues_window_are_cut_and_published_as_removed():
    bench = Bench(keep=3, live_trust=Trust.UNVERIFIED)
    bench.snapshot(bids=[*BIDS, ["8.5", "4"]])
    assert [row[0] for row in bench.books[0].bids().tolist()] == [1000, 950, 900]
    bench.drain()
    bench.diff(bids=[["10.2", "7"], ["10.1", "6"]], asks=[["10.5", "0"]])
    assert [row[0] for row in bench.books[0].bids().tolist()] == [1020, 1010, 1000]
    updates, _, _ = bench.drain()
    assert [(update.kind, update.price, update.size) for update in updates] == [
        (UpdateKind.BID, 1020, 7000), (UpdateKind.BID, 1010, 6000), (UpdateKind.ASK, 1050, 0),
        (UpdateKind.BID, 900, 0), (UpdateKind.BID, 950, 0)]
    assert [update.flags & 1 for update in updates] == [1, 1, 1, 1, 0]


def test_a_frame_about_several_books_is_applied_part_by_part():
    bench = Bench("A", "B", proofs=("numbers",), first_number=0)
    bench.say(*({"kind": "SNAPSHOT", "symbol": symbol, "bids": BIDS, "asks": ASKS, "number": 0} for symbol in "AB"))
    assert [bench.trust(0), bench.trust(1)] == [(Trust.VERIFIED, Reason.NONE)] * 2
    assert bench.row["messages"] == 1
    assert [row["messages"] for row in bench.rows] == [1, 1]


def test_a_message_that_does_not_follow_the_last_makes_its_book_suspect():
    bench = Bench("A", "B", live_trust=Trust.VERIFIED)
    bench.snapshot("A", link=1)
    bench.snapshot("B", link=1)
    bench.diff("A", bids=[["10.1", "1"]], link=2, before=1)
    bench.diff("A", bids=[["10.1", "9"]], link=2, before=1)      # it came twice
    assert bench.books[0].bids()[0].tolist() == [1010, 1000]
    assert [bench.trust(0), bench.trust(1)] == [(Trust.VERIFIED, Reason.NONE)] * 2
    bench.diff("A", bids=[["10.1", "1"]], link=4, before=3)
    assert [bench.trust(0), bench.trust(1)] == [(Trust.SUSPECT, Reason.GAP), (Trust.VERIFIED, Reason.NONE)]


def test_old_trades_fill_the_hole_of_a_reconnect_and_nothing_else():
    bench = Bench()
    old = [[number, "buy", "10", "1", 0] for number in (3, 4, 5)]
    bench.say({"kind": "TRADES", "symbol": "A", "trades": old, "history": True})
    assert bench.drain()[1] == []
    bench.say({"kind": "TRADES", "symbol": "A", "trades": [[6, "sell", "10", "1", 0]]})
    assert [trade.trade_id for trade in bench.drain()[1]] == [6]
    bench.feed.begin()
    again = [[number, "buy", "10", "1", 0] for number in (5, 6, 7, 8)]
    bench.say({"kind": "TRADES", "symbol": "A", "trades": again, "history": True})
    assert [trade.trade_id for trade in bench.drain()[1]] == [7, 8]
    assert bench.row["trade_gaps"] == 0
    bench.say({"kind": "TRADES", "symbol": "A", "trades": [[11, "buy", "10", "1", 0]]})
    assert bench.rows[0]["trade_gaps"] == 2


def test_text_finer_than_the_scale_asks_for_another():
    bench = Bench()
    bench.snapshot(bids=[["10.001", "1"]])
    assert bench.trust() == (Trust.SUSPECT, Reason.SCALE)
    assert bench.feed.wants() == [(0, False, True)]


def test_a_malformed_message_of_no_known_book_makes_all_suspect():
    bench = Bench("A", "B", live_trust=Trust.UNVERIFIED)
    bench.snapshot("A")
    bench.snapshot("B")
    assert bench.feed.message(b"garbage") < 0
    assert [bench.trust(0), bench.trust(1)] == [(Trust.SUSPECT, Reason.MALFORMED)] * 2


@pytest.mark.parametrize("answer", [
    None, 7, [7], [Part("DIFF", "A")], [Part(99, "A")], [Part(Kind.DIFF)], [Part(Kind.DIFF, "A", bids=[("1",)])],
    [Part(Kind.DIFF, "A", bids=[("x", "1")])], [Part(Kind.DIFF, "A", bids=[("1", "-1")])],
    [Part(Kind.DIFF, "A", bids=[(1.5, 2.5)])], [Part(Kind.TRADES, "A", trades=[(1, "up", "1", "1", 0)])],
    [Part(Kind.TRADES, "A", trades=[(-1, "buy", "1", "1", 0)])], [Part(Kind.DIFF, "A", number="1")],
    [Part(Kind.DIFF, "A", checksum="no")], [Part(Kind.TRADES, "A", trades=[(1, "buy", "0", "1", 0)])],
])
def test_a_decoder_in_python_that_answers_nonsense_is_counted_as_malformed(answer):
    class Bad:
        def message(self, text):
            return answer

    bench = Bench(decoder=Bad())
    bench.say()
    assert bench.row["malformed"] == 1


def test_a_decoder_may_answer_nothing_and_symbols_that_are_not_ours():
    bench = Bench()
    assert bench.say() == 0
    bench.diff("elsewhere")
    assert (bench.row["malformed"], bench.row["unknown_symbols"]) == (0, 1)


def test_defects_of_a_decoder_do_not_flood_the_log(caplog):
    class Bad:
        def message(self, text):
            raise RuntimeError("oh no")

    bench = Bench(decoder=Bad())
    for _ in range(100):
        bench.say()
    assert bench.row["malformed"] == 100
    assert 1 <= len(caplog.records) <= 5
    assert "oh no" in caplog.text


def test_links_are_compared_whole():
    bench = Bench(live_trust=Trust.VERIFIED)
    bench.snapshot(link=1 << 40)
    bench.diff(bids=[["10.1", "1"]], link=(1 << 40) + 256, before=1 << 40)
    assert (bench.row["old_dropped"], bench.books[0].bids()[0].tolist()) == (0, [1010, 1000])
    bench.diff(bids=[["10.2", "1"]], link=(1 << 40) + 257, before=(1 << 40) + 512)
    assert bench.trust() == (Trust.SUSPECT, Reason.GAP)


def test_lower_numbers_are_a_new_count_only_when_they_come_in_a_row():
    bench = Bench(proofs=("numbers",), first_number=0)
    bench.snapshot(number=0)
    for number in range(1, 400):
        bench.diff(bids=[["10.1", str(number)]], number=number)
        bench.say({"kind": "HEARTBEAT", "number": number})        # every message comes twice
    assert bench.trust() == (Trust.VERIFIED, Reason.NONE)
    assert (bench.row["old_dropped"], bench.row["gaps"], bench.row["lost"]) == (399, 0, 0)


def test_a_new_snapshot_begins_the_time_of_a_cross_anew():
    bench = Bench(live_trust=Trust.UNVERIFIED, cross_believed_seconds=0.15, cross_seconds=0.15)
    crossed = {"bids": [["11.0", "1"]], "asks": [["10.5", "1"]]}
    bench.snapshot(**crossed)
    time.sleep(0.35)
    bench.snapshot(**crossed)
    assert bench.trust()[0] == Trust.UNVERIFIED
    assert bench.row["crosses"] == 2
    bench.diff(bids=[["11.0", "2"]])
    assert (bench.trust()[0], bench.row["resyncs"]) == (Trust.UNVERIFIED, 0)


def test_what_concerns_one_book_is_counted_in_its_own_row_as_well():
    bench = Bench("A", "B")
    bench.snapshot("B", bids=[["10.0", "1"], ["0", "5"]])
    assert [row["unpriced"] for row in (bench.row, *bench.rows)] == [1, 0, 1]


def test_a_book_with_more_changes_than_a_promotion_has_room_for_is_not_verified_before_its_snapshot():
    bench, heir = Bench(proofs=("numbers",), first_number=0), Bench(proofs=("numbers",), first_number=0)
    bids = [[str(40_000 - price), "1"] for price in range(33_000)]
    heir.snapshot(bids=bids, asks=[[str(40_001 + price), "1"] for price in range(33_000)], number=0)
    assert heir.trust() == (Trust.VERIFIED, Reason.NONE)
    bench.feed.adopt(heir.feed, 0)
    if len(bench.books[0].bids()) < len(bids):
        assert bench.trust()[0] == Trust.SUSPECT
    assert bench.feed.wants() == [(0, True, False)]


def test_trades_that_an_heir_heard_are_told_whatever_it_heard_last():
    bench, heir = Bench("A", "B", dense_trades=False), Bench("A", "B", dense_trades=False)
    heir.say({"kind": "TRADES", "symbol": "A", "trades": [[7, "buy", "10", "1", 5]]})
    heir.say({"kind": "TRADES", "symbol": "B", "trades": [[3, "buy", "10", "1", 4]], "history": True})
    told = heir.spine.queue("trades.feed").consumer("oldest", on_lap="count")
    bench.feed.adopt(heir.feed, 0)
    bench.feed.retell(told.batch().view("u1"))
    assert [trade.trade_id for trade in bench.trades] == [7]
