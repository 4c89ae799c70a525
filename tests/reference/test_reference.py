"""The reference against the venues' own words: their tickers, their rules, the counts in the descriptions."""
from bisect import bisect_right
from decimal import Decimal

import pytest

from mantra.tape.lines import read as tape_lines
from tests.data import data
from tests.reference import binance, bitstamp
from tests.reference.messages import Diff, Image, Ticker, Trade
from tests.reference.recording import lines
from tests.reference.replay import RECORDINGS, Result, replay, walk


@pytest.mark.parametrize(("name", "applied", "old", "trades", "deletes", "unknown"), [
    ("cryptofeed binance", 172, 5, 2, 33, 0),
    ("cryptofeed bitstamp", 615, 102, 10, 736, 0),
    ("2021-04-17 binance", 590, 24, 24, 398, 30),
    ("2021-04-17 bitstamp", 527, 114, 16, 887, 0),
    ("hftbacktest spot", 6493, 2, 9757 + 10147, 142_449, 26_140),
])
def test_recordings_replay_without_a_gap_or_a_cross(name, applied, old, trades, deletes, unknown):
    result = replay(name)
    assert (sum(result.applied.values()), result.total("old")) == (applied, old)
    assert len(result.trades) == trades
    assert (result.total("deletes"), result.total("unknown_deletes")) == (deletes, unknown)
    assert (result.total("gaps"), result.crossed) == (0, 0)
    assert result.books.keys() == result.synchronisers.keys()


@pytest.mark.parametrize(("name", "sizes"), [
    ("cryptofeed binance", {"NKNUSDT": (614, 994), "RUNEEUR": (222, 468)}),
    ("cryptofeed bitstamp", {"sgbeur": (82, 436), "ethusd": (2013, 1977)}),
    ("2021-04-17 bitstamp", {"btcusd": (4931, 2466), "gusdusd": (23, 26)}),
])
def test_final_books_have_as_many_levels_as_ever(name, sizes):
    books = replay(name).books
    assert {symbol: (len(books[symbol].bids()), len(books[symbol].asks())) for symbol in sizes} == sizes


@pytest.mark.parametrize(("name", "agreeing", "compared"), [
    ("hftbacktest spot", 6491, 6493),       # the other two lie between two tickers
    ("cryptofeed binance", 159, 159),
    ("2021-04-17 binance", 567, 567),
])
def test_binance_tops_equal_the_venues_own_ticker(name, agreeing, compared):
    tickers, tops = {}, []
    for step in walk(name):
        if isinstance(step.message, Ticker):
            tickers.setdefault(step.symbol, []).append(step.message)
        elif isinstance(step.message, Diff):
            tops.append((step.symbol, step.message.last, step.book.best()))
    agree = seen = 0
    for symbol, update, best in tops:
        known = tickers.get(symbol, [])
        place = bisect_right(known, update, key=lambda ticker: ticker.id)
        if place:       # the same or the last earlier update id
            seen += 1
            agree += best == (known[place - 1].bid, known[place - 1].ask)
    assert (agree, seen) == (agreeing, compared)


def test_the_bitstamp_overlap_of_snapshot_and_diffs_is_proven_where_there_are_diffs():
    proofs = {symbol: each.proven for symbol, each in replay("cryptofeed bitstamp").synchronisers.items()}
    assert proofs.pop("sgbeur") is None
    assert set(proofs.values()) == {True}


@pytest.mark.parametrize("name", RECORDINGS)
def test_the_tape_reads_the_same_lines(name):
    venue, paths = RECORDINGS[name]
    records = tape_lines([data(path) for path in paths], venue)
    assert [(record.kind, record.text, record.url) for record in records] == [line[1:] for line in lines(*paths)]


def diff(first, last, price="1", size="1"):
    return Diff("X", first, last, 0, [("bid", Decimal(price), Decimal(size))])


def image(last):
    return Image(None, last, 0, [(Decimal(1), Decimal(5))], [])


def test_binance_refuses_a_snapshot_older_than_what_it_has_buffered():
    book = binance.Synchroniser()
    book.on_diff(diff(10, 12))
    book.on_diff(diff(13, 14))
    assert list(book.on_snapshot(image(9))) == []
    assert book.id is None
    assert list(book.on_snapshot(image(12))) == [image(12), diff(13, 14)]
    assert book.id == 14


def test_binance_splices_a_snapshot_within_a_diff():
    book = binance.Synchroniser()
    book.on_diff(diff(10, 12))
    assert list(book.on_snapshot(image(11))) == [image(11), diff(10, 12)]


def test_binance_discards_its_book_at_a_gap_and_starts_over():
    book = binance.Synchroniser()
    list(book.on_snapshot(image(9)))
    assert book.on_diff(diff(10, 10))
    assert not book.on_diff(diff(12, 13))
    assert (book.gaps, book.id, book.book.bids()) == (1, None, [])
    assert list(book.on_snapshot(image(12))) == [image(12), diff(12, 13)]


def test_bitstamp_drops_a_diff_of_the_snapshots_own_time():
    book = bitstamp.Synchroniser()
    book.on_diff(diff(7, 7, size="9"))
    book.on_diff(diff(8, 8, size="0.00000"))
    assert list(book.on_snapshot(image(7))) == [image(7), diff(8, 8, size="0.00000")]
    assert (book.proven, book.old, book.deletes, book.book.bids()) == (True, 1, 1, [])


def test_a_step_shows_the_book_just_after_its_message():
    result = Result({})
    for step in walk("cryptofeed bitstamp", result):
        if isinstance(step.message, Diff):
            for side, price, size in step.message.changes:
                assert step.book.sides[side].get(price, Decimal(0)) == size


def test_a_level_of_price_zero_is_left_out():
    text = b'{"timestamp":"1","microtimestamp":"2","bids":[["1.5","2"],["0.00","9"]],"asks":[]}'
    assert bitstamp.decode(text) == Image(None, 2, 2000, [(Decimal("1.5"), Decimal(2))], [])


@pytest.mark.parametrize(("decode", "text", "message"), [
    (binance.decode, b'{"e":"trade","E":1672515782136,"s":"BNBBTC","t":12345,"p":"0.001","q":"100","T":1672515782136,'
                     b'"m":true,"M":true}',
     Trade("BNBBTC", 12345, Decimal("0.001"), Decimal(100), "sell", 1672515782136_000_000)),
    (binance.decode, b'{"stream":"bnbbtc@depth10@100ms","data":{"lastUpdateId":160,"bids":[["0.0024","10"]],'
                     b'"asks":[["0.0026","100"]]}}',
     Image("BNBBTC", 160, 0, [(Decimal("0.0024"), Decimal(10))], [(Decimal("0.0026"), Decimal(100))])),
    (binance.decode, b'{"result":null,"id":1}', None),
    (bitstamp.decode, b'{"data":{"id":542327128,"timestamp":"1772723751","amount":0.241,"amount_str":"0.241000",'
                      b'"price":2090.22,"price_str":"2090.22","type":0,"microtimestamp":"1772723751946000"},'
                      b'"channel":"live_trades_ethusd","event":"trade"}',
     Trade("ethusd", 542327128, Decimal("2090.22"), Decimal("0.241"), "buy", 1772723751946000_000)),
    (bitstamp.decode, b'{"event":"bts:heartbeat","channel":"","data":{"status":"success"}}', None),
])
def test_messages_quoted_in_the_documents_are_understood(decode, text, message):
    assert decode(text) == message
