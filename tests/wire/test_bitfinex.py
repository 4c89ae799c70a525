"""Bitfinex's recordings, message by message, against the slow reference."""
from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal

import pytest

from mantra import venues
from mantra.client.recorded import Recorded, Survey
from mantra.replay import Replay
from mantra.tape import lines
from tests.c.decoding import Decoder, Decoding
from tests.data import data
from tests.reference.bitfinex import Book, Connection

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
    symbols = Survey(recording.venue, [recording]).symbols
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


def played(texts: list[bytes]) -> Replay:
    venue = venues.get("bitfinex")
    replay = Replay(venue, Recorded(venue, [lines.Record(0, "message", text) for text in texts]))
    replay.once()
    return replay


def trusts(replay: Replay) -> dict[str, str]:
    return {name: book["trust"] for name, book in replay.result(books=True)["books"].items()}


@pytest.mark.parametrize(("path", "trust"), [(RECORDINGS[0], "verified"), (RECORDINGS[1], "unverified")])
def test_books_equal_the_reference_level_for_level(path, trust):
    replay, slow = played(list(recorded(path))), reference(path)
    books = replay.result(books=True)["books"]
    assert set(slow.books) == set(books)
    for symbol, book in slow.books.items():
        for side in ("bid", "ask"):
            assert [(Decimal(price), Decimal(size)) for price, size in books[symbol][f"{side}s"]] == book.levels(side)
    counts = replay.row.counts()
    assert set(trusts(replay).values()) == {trust}
    for name in ("malformed", "gaps", "crosses", "finer", "unknown_symbols", "unknown_deletes"):
        assert counts[name] == 0, name
    assert counts["trades"] == len(slow.trades)


OLD, MARKET = RECORDINGS[0], b"[225206,"        # tDOGUSD: its snapshot has number 17


def changed(change: Callable[[list[bytes]], None]) -> Replay:
    texts = list(recorded(OLD))
    change(texts)
    return played(texts)


def place(texts: list[bytes], number: int) -> int:
    """Where the message of that number stands."""
    return next(at for at, text in enumerate(texts) if text.startswith(b"[") and text.endswith(b",%d]" % number))


def signed(texts: list[bytes], at: int, wrong: int = 0) -> bytes:
    """What the venue would have sent of MARKET's checksum before message `at`, had it been asked to; without a number,
    for there is none left."""
    slow = Connection()
    for text in texts[:at]:
        slow.take(text)
    return MARKET + b'"cs",%d]' % (slow.books["tDOGUSD"].checksum() ^ wrong)


def test_a_lost_message_is_a_gap_and_no_book_of_the_connection_is_believed():
    replay = changed(lambda texts: texts.__delitem__(place(texts, 1000)))
    counts = replay.row.counts()
    assert (counts["gaps"], counts["lost"]) == (1, 1)
    assert set(trusts(replay).values()) == {"suspect"}


def test_a_message_that_comes_twice_changes_nothing():
    replay = changed(lambda texts: texts.insert(place(texts, 1003), texts[place(texts, 1000)]))
    assert replay.row.counts()["old_dropped"] == 1
    assert set(trusts(replay).values()) == {"verified"}
    assert replay.result(books=True)["books"] == played(list(recorded(OLD))).result(books=True)["books"]


def test_a_checksum_holds_after_any_message_and_one_that_does_not_takes_its_book_alone():
    def sign(texts: list[bytes]) -> None:
        for at in range(len(texts) - 1, 100, -97):
            texts.insert(at, signed(texts, at))

    def forge(texts: list[bytes]) -> None:
        texts.insert(500, signed(texts, 500, wrong=1))

    unnumbered = b'{"event":"conf","status":"OK","flags":131072}'
    texts = [unnumbered if b'"conf"' in text else text for text in recorded(OLD)]
    for change, ok, failed in ((sign, 17, 0), (forge, 0, 1)):
        after = list(texts)
        change(after)
        replay = played(after)
        counts = replay.row.counts()
        assert (counts["checksums_ok"], counts["checksums_failed"]) == (ok, failed)
        assert [name for name, trust in trusts(replay).items() if trust == "suspect"] == ["tDOGUSD"] * failed


def test_what_came_before_its_acknowledgement_is_applied_after_it():
    def late(texts: list[bytes]) -> None:
        ack = next(at for at, text in enumerate(texts) if b'"chanId":225206' in text and b'"book"' in text)
        texts.insert(place(texts, 300), texts.pop(ack))

    replay = changed(late)
    assert replay.row.counts()["buffered"] > 20
    assert replay.result(books=True)["books"] == played(list(recorded(OLD))).result(books=True)["books"]


def test_what_came_before_its_acknowledgement_and_a_gap_proves_nothing():
    def late(texts: list[bytes]) -> None:
        lost = next(at for at in range(place(texts, 100), len(texts)) if texts[at].startswith(MARKET))
        ack = next(at for at, text in enumerate(texts) if b'"chanId":225206' in text and b'"book"' in text)
        texts.insert(place(texts, 300), texts[ack])
        del texts[lost], texts[ack]

    replay = changed(late)
    assert replay.row.counts()["gaps"] == 1
    assert trusts(replay)["tDOGUSD"] == "suspect"


def test_a_number_as_small_as_the_venue_prints_is_exact():
    replay = played([
        b'{"event":"subscribed","channel":"book","chanId":1,"symbol":"tXRPBTC","prec":"P0"}',
        b"[1,[[7e-7,1,10000],[0.0000012345,1,-0.5]],1,1618677545894]"])
    book = Book()
    for row in json.loads("[[7e-7,1,10000],[0.0000012345,1,-0.5]]", parse_float=str, parse_int=str):
        book.set(*row)
    found = replay.result(books=True)["books"]["tXRPBTC"]
    assert [Decimal(price) for price, _ in (*found["bids"], *found["asks"])] == [Decimal("7e-7"), Decimal("1.2345e-6")]
    replay.feed.message(b'[1,"cs",%d,2,1618677545894]' % book.checksum())
    assert replay.row.counts()["checksums_ok"] == 1
