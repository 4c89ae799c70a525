"""The hot path fed by hand: sequence rules, holding back, trust, scales, trades."""
from __future__ import annotations

import json
import socket
from contextlib import contextmanager

import numpy as np
import pytest

from mantra import venues
from mantra.core.clock import Clock
from mantra.core.hot_path import PADDING, Event, Feed, FeedPoller, Splice
from mantra.core.messages import SOCKET, Kind, Reason, Side, Trust
from mantra.core.transport import Transport
from mantra.errors import ConfigurationError
from mantra.runtime.spine import Spine


class Bench:
    """One feed with one or two books, and readers of what it publishes."""

    def __init__(self, venue_name="binance", *, symbols=("ETHBTC",), mode="book", held_bytes=1 << 20, depth=10,
                 clock=None, timed=False, **options):
        venue = venues.get(venue_name)
        self.spine = Spine.private(clock=clock)
        self.row = self.spine.ledger.row("feed", venue.id)
        queues = {name: self.spine.queue(f"{name}.feed", message)
                  for name, message in (("updates", "update"), ("trades", "trade"), ("tops", "top"))}
        self.feed = Feed("feed", venue=venue.id, decoder=venue.decoder,
                         scheme=venue.schemes[mode], live_trust=venue.live_trust[mode],
                         publisher=7, clock=self.spine.clock,
                         doorbell=self.spine.doorbell, ledger=self.row, updates=queues["updates"].producer(),
                         trades=queues["trades"].producer(), tops=queues["tops"].producer(),
                         latest_tops=self.spine.tops, depth=depth if mode == "top" else 0,
                         dense_trades=venue.dense_trade_ids, held_bytes=held_bytes,
                         tracker=self.spine.tracker("feed", 7) if timed else None, **options)
        self.books = []
        for number, symbol in enumerate(symbols):
            book, slot = self.spine.make_book(venue_name, venue.id, symbol, 10 + number)
            self.feed.add_book(book, slot, venue.spellings(symbol), 10 + number, 4, 3)
            self.books.append(book)
        self.updates, self.trades, self.tops = (queue.consumer() for queue in queues.values())
        self.feed.begin()
        self.drain()

    def drain(self):
        return list(self.updates), list(self.trades), list(self.tops)

    def send(self, **fields):
        return self.feed.message(json.dumps(fields).encode())

    def diff(self, first, last, bids=(), asks=(), symbol="ETHBTC"):
        return self.send(e="depthUpdate", E=1700000000000, s=symbol, U=first, u=last, b=list(bids), a=list(asks))

    def snapshot(self, last, bids=(("1.0", "5"),), asks=(("1.1", "6"),), index=0):
        body = {"lastUpdateId": last, "bids": list(bids), "asks": list(asks)}
        return self.feed.splice(index, json.dumps(body).encode())

    def live(self, last, bids=(("1.0", "5"),), asks=(("1.1", "6"),)):
        """Synchronised, and seen to be: the stream reaches back to the snapshot."""
        self.diff(last, last)
        assert self.snapshot(last, bids, asks) == Splice.SPLICED
        self.drain()

    @property
    def trust(self):
        return Trust(self.feed.state(0)[1])

    @property
    def reason(self):
        return Reason(self.feed.state(0)[2])


def test_messages_are_held_until_a_snapshot_and_then_applied_in_order():
    bench = Bench()
    bench.diff(8, 9, [("1.0", "9")])
    bench.diff(10, 12, [("0.9", "1")])
    bench.diff(13, 13, [("1.0", "2")])
    assert bench.drain() == ([], [], [])
    assert bench.trust == Trust.SUSPECT
    assert bench.reason == Reason.SYNCHRONISING
    assert bench.snapshot(10) == Splice.SPLICED
    assert bench.trust == Trust.VERIFIED
    assert bench.books[0].bids().tolist() == [[10000, 2000], [9000, 1000]]
    updates, _, tops = bench.drain()
    assert [update.kind for update in updates] == [Kind.RESET, Kind.TRUST, Kind.BID, Kind.BID]
    assert [update.sequence for update in updates] == [10, 10, 12, 13]
    assert tops[-1].bids[0] == (10000, 2000)
    assert tops[-1].sequence == 13
    assert bench.row["old_dropped"] == 1
    assert bench.row["buffered"] == 3


def test_a_snapshot_older_than_the_first_held_message_is_refused():
    bench = Bench()
    bench.diff(20, 21, [("1.0", "9")])
    assert bench.snapshot(18) == Splice.OLD
    assert bench.trust == Trust.SUSPECT
    assert bench.snapshot(19) == Splice.SPLICED
    assert bench.feed.state(0)[3] == 21


def test_messages_of_futures_name_the_end_of_the_last_and_their_ids_have_holes():
    bench = Bench()
    bench.send(e="depthUpdate", E=1700000000000, s="ETHBTC", U=15, u=20, pu=12, b=[["1.0", "7"]], a=[])
    assert bench.snapshot(17) == Splice.SPLICED
    bench.send(e="depthUpdate", E=1700000000000, s="ETHBTC", U=25, u=30, pu=20, b=[["1.0", "8"]], a=[])
    assert (bench.trust, bench.feed.state(0)[3], bench.row["gaps"]) == (Trust.VERIFIED, 30, 0)
    bench.send(e="depthUpdate", E=1700000000000, s="ETHBTC", U=41, u=42, pu=40, b=[["1.0", "9"]], a=[])
    assert (bench.reason, bench.row["gaps"]) == (Reason.GAP, 1)
    bench.send(e="depthUpdate", E=1700000000000, s="ETHBTC", U=43, u=44, pu=44, b=[], a=[])
    assert bench.row["malformed"] == 1


def test_a_snapshot_is_not_verified_before_the_stream_was_seen_to_join_it():
    bench = Bench()
    bench.snapshot(10)
    assert (bench.trust, bench.reason) == (Trust.UNVERIFIED, Reason.SYNCHRONISING)
    bench.diff(11, 11, [("1.0", "7")])
    assert bench.trust == Trust.VERIFIED


def test_a_snapshot_older_than_the_stream_is_no_gap():
    bench = Bench()
    bench.snapshot(10)
    bench.diff(13, 13, [("1.0", "7")])
    assert bench.trust == Trust.SUSPECT
    assert bench.reason == Reason.SYNCHRONISING
    assert bench.row["gaps"] == 0
    assert bench.feed.wants() == [(0, True, False)]
    assert bench.snapshot(12) == Splice.SPLICED
    assert bench.trust == Trust.VERIFIED


def test_a_gap_makes_the_book_suspect_at_once_and_a_newer_snapshot_heals_it():
    bench = Bench()
    bench.live(10)
    bench.diff(13, 14, [("1.0", "9")])
    updates, _, tops = bench.drain()
    assert bench.row["gaps"] == bench.row["resyncs"] == 1
    assert tops[-1].trust == Trust.SUSPECT
    assert tops[-1].reason == Reason.GAP
    assert updates[-1].kind == Kind.TRUST
    assert bench.feed.wants() == [(0, True, False)]
    assert bench.feed.wants() == []
    assert bench.snapshot(11) == Splice.OLD, "11 does not reach the first message after the gap"
    assert bench.snapshot(12) == Splice.SPLICED
    assert bench.trust == Trust.VERIFIED
    assert bench.books[0].bids().tolist() == [[10000, 9000]]


def test_a_gap_inside_what_was_held_asks_for_another_snapshot_and_keeps_the_rest():
    bench = Bench()
    bench.diff(11, 12, [("0.9", "1")])
    bench.diff(15, 16, [("0.8", "1")])
    bench.diff(17, 17, [("0.7", "1")])
    assert bench.snapshot(10) == Splice.SPLICED
    assert bench.trust == Trust.SUSPECT
    assert bench.feed.wants() == [(0, True, False)]
    assert bench.snapshot(13) == Splice.OLD
    assert bench.snapshot(14) == Splice.SPLICED
    assert bench.trust == Trust.VERIFIED
    assert [price for price, _ in bench.books[0].bids().tolist()] == [10000, 8000, 7000]


def test_duplicates_and_old_messages_change_nothing():
    bench = Bench()
    bench.live(10)
    bench.diff(11, 12, [("0.9", "1")])
    bench.drain()
    bench.diff(11, 12, [("0.9", "3")])
    bench.diff(5, 10, [("0.9", "4")])
    assert bench.drain() == ([], [], [])
    assert bench.row["old_dropped"] == 3


def test_only_changes_are_published_and_only_a_new_top_makes_a_top():
    bench = Bench()
    bench.live(10, [(f"{1 - n / 100:.2f}", "1") for n in range(20)])
    bench.diff(11, 11, [("1.00", "1"), ("0.81", "7")])     # the first is as it was, the second is the 20th level
    updates, _, tops = bench.drain()
    assert [(update.price, update.size, update.more) for update in updates] == [(8100, 7000, False)]
    assert tops == []
    bench.diff(12, 12, [("1.00", "0"), ("0.5", "0")], [("1.1", "0")])
    updates, _, tops = bench.drain()
    assert [(update.kind, update.price, update.more) for update in updates] == [
        (Kind.BID, 10000, True), (Kind.ASK, 11000, False)]
    assert tops[-1].bids[0] == (9900, 1000)
    assert tops[-1].asks == []
    assert bench.row["unknown_deletes"] == 1


def test_a_crossed_book_is_suspect_only_while_it_is_crossed():
    bench = Bench()
    bench.live(10)
    bench.diff(11, 11, [("1.2", "1")])
    assert bench.trust == Trust.SUSPECT
    assert bench.reason == Reason.CROSSED
    updates, _, tops = bench.drain()
    assert tops[-1].trust == Trust.SUSPECT
    assert (updates[-1].trust, updates[-1].reason) == (Trust.SUSPECT, Reason.CROSSED), "readers of updates are told why"
    bench.diff(12, 12, [("1.2", "0")])
    assert bench.trust == Trust.VERIFIED
    assert bench.row["crosses"] == 1


def test_a_cross_that_lasts_is_resynchronised():
    bench = Bench(cross_seconds=0.0)
    bench.live(10)
    bench.diff(11, 11, [("1.2", "1")])
    bench.diff(12, 12, [("1.3", "1")])
    assert bench.feed.wants() == [(0, True, False)]
    assert bench.row["resyncs"] == 1


@pytest.mark.parametrize(("venue", "trust"), [("binance", Trust.VERIFIED), ("bitstamp", Trust.SUSPECT)])
def test_malformed_text_is_counted_and_doubted_where_a_loss_would_not_show(venue, trust):
    bench = Bench(venue)
    if venue == "binance":
        bench.live(10)
    else:
        body = {"timestamp": "1", "microtimestamp": "10", "bids": [["1.0", "5"]], "asks": [["1.1", "6"]]}
        assert bench.feed.splice(0, json.dumps(body).encode()) == Splice.SPLICED
        assert bench.trust == Trust.UNVERIFIED
    assert bench.feed.message(b'{"data":{"timestamp":') < 0
    assert bench.row["malformed"] == 1
    assert bench.trust == trust


def test_text_finer_than_the_scale_is_never_rounded():
    bench = Bench()
    bench.live(10)
    bench.diff(11, 11, [("1.00001", "1")])
    assert bench.row["finer"] == 1
    assert bench.trust == Trust.SUSPECT
    assert bench.reason == Reason.SCALE
    assert bench.feed.wants() == [(0, True, True)]
    assert b"1.00001" in bench.feed.text
    bench.feed.rescale(0, 99, 5, 3)
    tops = bench.drain()[2]
    assert (tops[-2].instrument, tops[-2].trust) == (10, Trust.DOWN), "nobody goes on showing the old generation"
    assert (tops[-1].instrument, tops[-1].bids) == (99, [])
    assert bench.snapshot(11, [("1.00001", "1")]) == Splice.SPLICED
    assert bench.books[0].bids().tolist() == [[100001, 1000]]
    bench.diff(12, 12)
    assert bench.trust == Trust.VERIFIED


def test_a_snapshot_finer_than_the_scale_is_refused_whole():
    bench = Bench()
    assert bench.snapshot(10, [("1.0", "0.00001")]) == Splice.FINER
    assert bench.books[0].bids().tolist() == []


def test_without_room_to_hold_what_was_dropped_is_counted_and_an_older_snapshot_refused():
    bench = Bench(held_bytes=4096)
    for number in range(100):
        bench.diff(100 + number, 100 + number, [("1.0", str(number + 1))])
    assert bench.row["overflowed"] > 50
    assert bench.snapshot(100) == Splice.OLD
    assert bench.snapshot(199) == Splice.SPLICED
    assert bench.trust == Trust.VERIFIED


def test_trades_carry_the_aggressor_and_a_missing_id_is_counted():
    bench = Bench()
    for number, maker_is_buyer in ((5, True), (6, False), (6, False), (9, False)):
        bench.send(e="trade", E=1, s="ETHBTC", t=number, p="1.5", q="2", T=1672515782136, m=maker_is_buyer, M=True)
    trades = bench.drain()[1]
    assert [(trade.trade_id, trade.side) for trade in trades] == [(5, Side.SELL), (6, Side.BUY), (9, Side.BUY)]
    assert (trades[0].price, trades[0].size, trades[0].publisher) == (15000, 2000, 7)
    assert bench.row["trade_gaps"] == 2
    assert bench.row["old_dropped"] == 1


def test_top_mode_reads_the_first_levels_and_does_nothing_when_they_are_the_same():
    bench = Bench(mode="top", depth=2)
    levels = {"bids": [["1.0", "1"], ["0.9", "1"], ["0.8", "1"]], "asks": [["1.1", "1"], ["1.2", "1"]]}
    bench.send(stream="ethbtc@depth20@100ms", data={"lastUpdateId": 5, **levels})
    top = bench.drain()[2][-1]
    assert (top.bids, top.trust) == ([(10000, 1000), (9000, 1000)], Trust.UNVERIFIED)
    levels["bids"][2] = ["0.7", "1"]
    bench.send(stream="ethbtc@depth20@100ms", data={"lastUpdateId": 6, **levels})
    assert bench.drain()[2] == []
    assert bench.row["unchanged"] == 1
    levels["bids"][1] = ["0.85", "1"]
    bench.send(stream="ethbtc@depth20@100ms", data={"lastUpdateId": 7, **levels})
    assert bench.drain()[2][-1].bids[1] == (8500, 1000)
    assert bench.updates.read() is None, "there are no diffs in this mode"


def test_the_end_of_a_connection_takes_every_book_down_and_the_next_begins_anew():
    bench = Bench(symbols=("ETHBTC", "BTCUSDT"))
    bench.snapshot(10)
    bench.snapshot(10, index=1)
    bench.drain()
    bench.feed.end(Reason.DISCONNECTED)
    assert [(top.instrument, top.trust) for top in bench.drain()[2]] == [(10, Trust.DOWN), (11, Trust.DOWN)]
    bench.diff(11, 11, [("1.0", "7")])
    assert bench.drain() == ([], [], []), "a straggler changes nothing"
    bench.feed.begin()
    assert bench.trust == Trust.SUSPECT
    bench.diff(30, 30, [("1.0", "7")])
    assert bench.snapshot(28) == Splice.OLD
    assert bench.snapshot(29) == Splice.SPLICED
    assert bench.books[0].bids().tolist() == [[10000, 7000]]


def test_an_image_in_book_mode_or_a_stranger_changes_nothing():
    bench = Bench()
    bench.snapshot(10)
    bench.drain()
    bench.send(stream="ethbtc@depth20@100ms", data={"lastUpdateId": 50, "bids": [["9", "9"]], "asks": []})
    bench.diff(11, 11, [("1.0", "7")], symbol="XRPBTC")
    assert bench.drain() == ([], [], [])
    assert bench.row["unknown_symbols"] == 1


def test_what_cannot_be_routed_is_refused():
    bench = Bench()
    book, slot = bench.spine.make_book("binance", 0, "OTHER", 12)
    with pytest.raises(ConfigurationError, match="route"):
        bench.feed.add_book(book, slot, ["ethbtc"], 12, 4, 3)
    with pytest.raises(ConfigurationError, match="route"):
        bench.feed.add_book(book, slot, ["x" * 32], 12, 4, 3)


def bitstamp_diff(bench, time, bids=(), asks=(), channel="diff_order_book_ethusd"):
    data = {"timestamp": "1", "microtimestamp": str(time), "bids": list(bids), "asks": list(asks)}
    return bench.send(data=data, channel=channel, event="data")


def bitstamp_snapshot(bench, time, bids=(("1.0", "5"),), asks=(("1.1", "6"),)):
    body = {"timestamp": "1", "microtimestamp": str(time), "bids": list(bids), "asks": list(asks)}
    return bench.feed.splice(0, json.dumps(body).encode())


def test_a_live_book_never_goes_back_to_a_snapshot_that_came_twice():
    bench = Bench("bitstamp", symbols=("ethusd",))
    bitstamp_diff(bench, 90)
    assert bitstamp_snapshot(bench, 95) == Splice.SPLICED
    bitstamp_diff(bench, 100, [("1.0", "9")])
    bench.drain()
    assert bitstamp_snapshot(bench, 95) == Splice.SPLICED
    assert bench.books[0].bids().tolist() == [[10000, 9000]], "what came after 95 is not held any more"
    assert bench.drain() == ([], [], [])


def image(bench, last, bid, size="1"):
    levels = {"bids": [[bid, size]], "asks": [["1.1", "1"]]}
    return bench.send(stream="ethbtc@depth20@100ms", data={"lastUpdateId": last, **levels})


def test_an_image_that_was_dropped_is_not_what_the_next_is_compared_with():
    bench = Bench(mode="top")
    image(bench, 10, "1.00")
    image(bench, 9, "0.98")         # late, dropped
    image(bench, 11, "0.98")
    assert bench.books[0].bids().tolist() == [[9800, 1000]]


def test_an_unchanged_image_counts_for_what_is_late():
    bench = Bench(mode="top")
    image(bench, 10, "1.00")
    image(bench, 12, "1.00")
    image(bench, 11, "0.98")
    assert bench.books[0].bids().tolist() == [[10000, 1000]]
    assert bench.row["old_dropped"] == 1


def test_a_venue_that_begins_to_count_anew_does_not_freeze_a_book_for_ever():
    bench = Bench()
    bench.live(1_000_000)
    for number in range(1, 300):
        bench.diff(number, number, [("1.0", str(number))])
        if bench.trust < Trust.UNVERIFIED:
            break
    assert bench.reason == Reason.GAP
    assert bench.feed.wants() == [(0, True, False)]
    assert bench.snapshot(number - 2) == Splice.OLD
    assert bench.snapshot(number - 1) == Splice.SPLICED
    assert bench.trust == Trust.VERIFIED
    assert bench.books[0].bids().tolist() == [[10000, number * 1000]]


def test_a_venue_whose_images_begin_to_count_anew_does_not_freeze_a_top_for_ever():
    bench = Bench(mode="top")
    image(bench, 1_000_000, "1.00")
    for number in range(1, 300):
        image(bench, number, "0.98", str(number))
    assert bench.books[0].bids().tolist() == [[9800, 299_000]]


def test_readers_of_updates_hear_of_trust_that_changes_with_no_level():
    bench = Bench()
    bench.snapshot(10)
    bench.drain()
    bench.diff(11, 11, [("1.0", "5")])      # as it was
    updates, _, tops = bench.drain()
    assert [(update.kind, update.trust, update.sequence) for update in updates] == [(Kind.TRUST, Trust.VERIFIED, 11)]
    assert tops[-1].trust == Trust.VERIFIED
    assert bench.books[0].image().position == 2 + 1


def test_a_snapshot_that_is_crossed_for_a_moment_is_given_its_time():
    bench = Bench()
    bench.diff(11, 11, [("0.5", "1")])
    bench.diff(12, 12, [("1.2", "0")])
    assert bench.snapshot(10, [("1.2", "1"), ("1.0", "1")]) == Splice.SPLICED
    assert bench.trust == Trust.VERIFIED
    assert bench.row["resyncs"] == 0


def test_a_level_without_a_price_is_left_out_of_a_book_and_counted():
    bench = Bench("bitstamp", symbols=("ethusd",))
    bitstamp_diff(bench, 90, [("0.00", "1")])
    assert bitstamp_snapshot(bench, 95, bids=[("1.0", "5"), ("0", "3")]) == Splice.SPLICED
    assert bench.books[0].bids().tolist() == [[10000, 5000]]
    bitstamp_diff(bench, 100, [("-1", "1"), ("0.9", "1")])
    assert bench.books[0].bids().tolist() == [[10000, 5000], [9000, 1000]]
    assert bench.row["unpriced"] == 3
    assert bench.row["malformed"] == 0
    assert bench.trust == Trust.UNVERIFIED


def test_a_top_that_left_what_a_cut_snapshot_told_of_is_taken_anew():
    bench = Bench(snapshot_levels=20)
    asks = [[f"{2 + n / 100:.2f}", "1"] for n in range(20)]
    bench.live(10, [[f"{1 - n / 100:.2f}", "1"] for n in range(20)], asks)
    bench.diff(11, 11, [("0.70", "3"), ("0.60", "3")])      # between them others may stand that were never mentioned
    for number in range(10):
        bench.diff(12 + number, 12 + number, [(f"{1 - number / 100:.2f}", "0")])
        assert bench.trust == Trust.VERIFIED, "ten levels that the snapshot told of are left"
    bench.diff(22, 22, [("0.90", "0")])
    assert (bench.trust, bench.reason) == (Trust.SUSPECT, Reason.SYNCHRONISING)
    assert bench.feed.wants() == [(0, True, False)]
    bench.diff(23, 23)
    assert bench.snapshot(22, [[f"{0.89 - n / 100:.2f}", "1"] for n in range(20)], asks) == Splice.SPLICED
    assert bench.trust == Trust.VERIFIED


def test_a_snapshot_shorter_than_asked_for_tells_of_the_whole_book():
    bench = Bench(snapshot_levels=20)
    bench.live(10, [["1.00", "1"]], [["2.00", "1"]])
    bench.diff(11, 11, [("0.50", "1"), ("1.00", "0")])
    assert bench.trust == Trust.VERIFIED


def bitstamp(**options):
    bench = Bench("bitstamp", symbols=("ethbtc",), **options)

    def diff(time, bids=(), asks=()):
        return bench.send(data={"timestamp": "1", "microtimestamp": str(time), "bids": list(bids), "asks": list(asks)},
                          channel="diff_order_book_ethbtc", event="data")

    def snapshot(time, *, settled=False):
        text = {"timestamp": "1", "microtimestamp": str(time), "bids": [["1.0", "5"]], "asks": [["1.1", "6"]]}
        return bench.feed.splice(0, json.dumps(text).encode(), settled)

    return bench, diff, snapshot


def test_without_numbers_a_snapshot_must_be_as_new_as_the_first_message_after_the_loss():
    bench, diff, snapshot = bitstamp()
    assert snapshot(100) == Splice.OLD, "it may be older than the subscription"
    diff(105, [["1.0", "7"]])
    assert snapshot(104) == Splice.OLD
    assert snapshot(105) == Splice.SPLICED
    assert bench.trust == Trust.UNVERIFIED


def test_in_a_quiet_market_a_snapshot_asked_for_long_after_the_loss_will_do():
    bench, diff, snapshot = bitstamp()
    assert snapshot(100, settled=True) == Splice.SPLICED
    diff(105)
    bench.feed.message(b"{")
    assert bench.trust == Trust.SUSPECT
    assert snapshot(104, settled=True) == Splice.OLD, "older than what was applied before the loss"
    assert snapshot(105, settled=True) == Splice.SPLICED


@pytest.mark.parametrize("held", [False, True])
def test_without_numbers_a_message_older_than_the_last_is_a_loss(held):
    bench, diff, snapshot = bitstamp()
    diff(100)
    if not held:
        snapshot(100)
    diff(110, [["1.0", "7"]])
    diff(105, [["0.9", "7"]])
    assert bench.trust == Trust.SUSPECT
    assert bench.row["gaps"] == 1
    diff(120)
    assert snapshot(109) == Splice.OLD
    assert snapshot(110) == Splice.SPLICED
    assert bench.trust == Trust.UNVERIFIED


def test_without_numbers_the_same_message_twice_is_no_loss():
    bench, diff, snapshot = bitstamp()
    diff(100)
    snapshot(100)
    diff(110, [["1.0", "7"]])
    diff(110, [["1.0", "7"]])
    assert (bench.trust, bench.row["gaps"]) == (Trust.UNVERIFIED, 0)


def test_a_snapshot_is_trusted_one_step_less_until_a_second_look_agrees():
    for bench, step in ((Bench(looks_twice=True), Trust.UNVERIFIED), (bitstamp(looks_twice=True)[0], Trust.SUSPECT)):
        if step == Trust.UNVERIFIED:
            bench.diff(10, 10)
            bench.snapshot(10)
        else:
            text = {"timestamp": "1", "microtimestamp": "9", "bids": [["1.0", "5"]], "asks": [["1.1", "6"]]}
            bench.feed.splice(0, json.dumps(text).encode())
        assert (bench.trust, bench.reason) == (step, Reason.SYNCHRONISING)
        bench.drain()
        bench.feed.looked(0, False)
        assert bench.trust == Trust.UNVERIFIED, "the venue contradicts itself"
        bench.feed.looked(0, True)
        assert bench.trust == step + 1
        assert bench.drain()[2][-1].trust == step + 1


def test_a_venue_that_counts_its_trades_anew_after_a_connection_is_believed():
    bench = Bench()
    trade = {"e": "trade", "E": 1700000000000, "s": "ETHBTC", "p": "1.0", "q": "1", "T": 1700000000000, "m": True}
    bench.send(**trade, t=100)
    bench.send(**trade, t=50)
    assert [one.trade_id for one in bench.drain()[1]] == [100]
    bench.feed.end(Reason.DISCONNECTED)
    bench.feed.begin()
    bench.send(**trade, t=7)
    bench.send(**trade, t=8)
    assert [one.trade_id for one in bench.drain()[1]] == [7, 8]


def test_every_message_is_timed_whatever_became_of_it():
    bench = Bench(timed=True, clock=Clock.virtual(1_000))
    records = bench.spine.queue("timings.feed", "timing").consumer("oldest")
    bench.live(10)
    bench.diff(11, 11, [("1.0", "7")])
    bench.send(e="trade", E=1, s="ETHBTC", t=1, p="1.0", q="1", T=1, m=True, M=True)
    bench.spine.clock.advance(5)
    bench.diff(3, 4)                # old
    bench.feed.message(b"nonsense")
    found = list(records)
    assert [record.position for record in found] == list(range(bench.row["messages"])) == [0, 1, 2, 3, 4]
    assert {(record.queue, record.actor, record.publisher, record.count) for record in found} == {(SOCKET, 7, 7, 1)}
    assert [(record.origin, record.consumed, record.busy) for record in found] == (
        [(1000, 1000, 0)] * 3 + [(1005, 1005, 0)] * 2)


def test_a_feed_is_timed_up_to_its_published_tops():
    bench = Bench(timed=True)
    records = bench.spine.queue("timings.feed", "timing").consumer()
    bench.live(10)
    list(records)
    bench.diff(11, 11, [("1.0", "7")])
    (top,), (record,) = bench.drain()[2], records
    assert record.origin == top.origin
    assert record.consumed + record.busy == top.published_cycles
    assert record.consumed >= record.origin


@contextmanager
def connected(feed):
    """The venue's end of a socket that `feed` reads."""
    with socket.create_server(("127.0.0.1", 0)) as server, \
            Transport.connect("127.0.0.1", server.getsockname()[1]) as transport:
        venue, _ = server.accept()
        with venue:
            feed.attach(transport)
            yield venue
            feed.attach(None)


def frames(*messages):
    """WebSocket frames of these messages (bytes, or what JSON makes of them), each under 126 bytes."""
    texts = [message if isinstance(message, bytes) else json.dumps(message).encode() for message in messages]
    return b"".join(bytes([0x81, len(text)]) + text for text in texts)


CROSSED = {"bids": [["1.2", "5"]], "asks": [["1.1", "6"]]}


def test_a_cross_is_not_older_than_the_bytes_that_waited_for_its_snapshot():
    bench = Bench()
    with connected(bench.feed) as venue:
        diff = {"e": "depthUpdate", "E": 1700000000000, "s": "ETHBTC", "U": 8, "u": 8, "b": [["1.0", "1"]], "a": []}
        venue.sendall(frames({"result": None, "id": 1}, diff))
        assert bench.feed.run(5) == Event.TEXT
        bench.snapshot(7, **CROSSED)
        bench.feed.run(0.05)
    synchronised, trust, reason, sequence, _ = bench.feed.state(0)
    assert (synchronised, trust, reason, sequence) == (True, Trust.SUSPECT, Reason.CROSSED, 8)


def test_a_poller_looks_again_at_a_book_whose_snapshot_is_crossed():
    bench = Bench(cross_seconds=0.05)
    poller = FeedPoller(bench.spine.clock, 1)
    with connected(bench.feed):
        poller.add(0, bench.feed)
        poller.wake()
        assert poller.run(60)[0] == Event.WOKEN
        bench.snapshot(7, **CROSSED)
        assert poller.run(2)[0] == Event.WANTS
        poller.remove(0)
    assert bench.feed.wants() == [(0, True, False)]


def early(held_bytes=1 << 16):
    """A Bitfinex feed whose connection numbers its messages."""
    bench = Bench("bitfinex", symbols=("tBTCUSD",), proofs=("numbers",), first_number=1, held_bytes=held_bytes)
    bench.send(event="conf", status="OK", flags=65536)
    return bench


SUBSCRIBED = {"event": "subscribed", "channel": "book", "chanId": 7, "symbol": "tBTCUSD", "prec": "P0"}


def test_an_early_snapshot_without_what_followed_it_is_not_believed():
    bench = early(held_bytes=160)
    bench.feed.message(b"[7,[[100,1,2],[101,1,-2]],1]")
    bench.feed.message(b"[7,[100,1,3]," + b" " * 100 + b"2]")
    bench.send(**SUBSCRIBED)
    assert bench.feed.state(0)[:2] == (False, Trust.SUSPECT)
    assert (bench.row["buffered"], bench.row["overflowed"]) == (2, 2)


def test_an_early_snapshot_that_the_scale_cannot_hold_is_asked_for_again_and_not_read_when_it_is_gone():
    bench = early()
    with connected(bench.feed) as venue:
        venue.sendall(frames(b"[7,[[100.00001,1,2],[101,1,-2]],1]", b"[7,[100,1,3],2]", SUBSCRIBED))
        assert bench.feed.run(5) == Event.TEXT
        assert json.loads(bench.feed.text) == SUBSCRIBED
        assert bench.feed.run(0.05) == Event.DEADLINE
    assert bench.feed.wants() == []
    assert (bench.row["malformed"], bench.feed.state(0)[0]) == (1, False)


def test_what_a_control_message_reveals_does_not_wait_for_the_next_message():
    bench = early()
    with connected(bench.feed) as venue:
        bench.send(**SUBSCRIBED)
        bench.feed.message(b"[7,[[100,1,2],[101,1,-2]],1]")
        bench.send(event="unsubscribed", status="OK", chanId=7)
        bench.feed.message(b"[7,[100.00001,1,2],2]")
        assert bench.feed.state(0)[:2] == (True, Trust.VERIFIED)
        venue.sendall(frames(SUBSCRIBED))
        assert bench.feed.run(5) == Event.TEXT
        assert bench.feed.run(0.05) == Event.WANTS
    assert bench.feed.wants() == [(0, True, False)]


def test_a_recording_is_played_at_its_own_times_and_halts_where_a_book_was_replaced():
    """A time that steps back is kept, and published no earlier than the last."""
    def frame(kind, price):
        row = {"symbol": "ETH/BTC", "bids": [{"price": price, "qty": 1.0}], "asks": [], "checksum": 0}
        return json.dumps({"channel": "book", "type": kind, "data": [row]}).encode()

    bench = Bench("kraken", symbols=("ETH/BTC",), clock=Clock.virtual(1_000), checksums=False)
    texts = [frame("snapshot", 1.0), frame("update", 1.1), b"{malformed", frame("snapshot", 1.2)]
    offsets = np.cumsum([0, *(len(text) + PADDING for text in texts)], dtype=np.uint64)
    padded = np.frombuffer(b"".join(text + bytes(PADDING) for text in texts), np.uint8)
    times, kinds = np.array([2_000, 3_000, 2_500, 4_000]), np.zeros(4, np.int8)
    with pytest.raises(IndexError):
        bench.feed.recorded(padded, offsets, times[:3], kinds, 0, 4)
    assert bench.feed.recorded(padded, offsets, times, kinds, 0, 4) == 1
    assert [(update.kind, update.origin, update.published_cycles) for update in bench.drain()[0]] == [(0, 2_000, 2_000)]
    assert bench.feed.recorded(padded, offsets, times, kinds, 1, 4) == 4
    updates = [(update.kind, update.origin, update.published_cycles) for update in bench.drain()[0]]
    assert updates == [(Kind.BID, 3_000, 3_000), (Kind.TRUST, 2_500, 3_000), (Kind.RESET, 4_000, 4_000)]
    assert kinds.tolist() == [6, 1, -1, 6]
