"""Bitfinex's recordings, message by message, against the slow reference."""
from __future__ import annotations

from decimal import Decimal

import pytest

from mantra import venues
from mantra.client.recorded import Recorded
from mantra.replay import symbols_of
from mantra.tape import lines
from tests.c.decoding import Decoder, Decoding
from tests.data import data
from tests.reference.bitfinex import Connection

RECORDINGS = ["cryptofeed/BITFINEX.ws.11.0", "bbgo/bitfinex_ws_raw.jsonl"]


def recorded(path: str) -> Recorded:
    return Recorded(venues.get("bitfinex"), lines.read([data(path)], "bitfinex"))


def reference(path: str) -> Connection:
    connection = Connection()
    for text in recorded(path):
        connection.take(text)
    return connection


@pytest.mark.parametrize("path", RECORDINGS)
def test_every_message_leaves_the_books_that_the_reference_has(path):
    recording, slow = recorded(path), Connection()
    symbols = symbols_of(recording.venue, recording)
    scales = [(row.price_decimals, row.size_decimals) for row in symbols]
    decoder = Decoder("bitfinex", [row.name for row in symbols], scales)
    books: dict[str, dict[tuple[str, Decimal], Decimal]] = {}
    numbers, trades, compared = [], [], 0
    for text in recording:
        symbol, answer = slow.take(text), decoder.decode(text)
        numbers += [answer.number] * (answer.number is not None)
        trades += answer.trades
        assert answer.kind in (Decoding.SNAPSHOT, Decoding.DIFF) if symbol else answer.kind >= 0, text
        if symbol:
            scale = symbols[answer.book]
            assert scale.name == symbol
            if answer.kind is Decoding.SNAPSHOT:
                books[symbol] = {}
            for side, price, size in answer.changes:
                books[symbol][side, Decimal(price).scaleb(-scale.price_decimals)] = (
                    Decimal(size).scaleb(-scale.size_decimals))
            books[symbol] = {level: size for level, size in books[symbol].items() if size}
            assert books[symbol] == {(side, price): size for side in ("bid", "ask")
                                     for price, size in slow.books[symbol].levels(side)}
            compared += 1
    assert numbers == slow.numbers
    assert [trade[0] for trade in trades] == [trade.id for trade in slow.trades]
    assert compared > 1500


def test_the_recordings_are_what_their_description_says():
    old, new = map(reference, RECORDINGS)
    assert old.numbers == list(range(1, 1671))
    assert (old.deletes, old.unknown_deletes, old.early, len(old.books)) == (722, 0, 2, 7)
    assert (new.numbers, new.unknown_deletes, new.early, set(new.books)) == ([], 0, 0, {"tBTCUSD"})
    assert (len(old.trades), len(new.trades)) == (0, 8)
