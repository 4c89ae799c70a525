"""How the venues spell numbers."""
from decimal import Decimal
from hashlib import blake2b

import pytest

from mantra.simulator.binance import Binance
from mantra.simulator.market import World
from mantra.simulator.source import MarketSource, fixed, instrument, level_mark


@pytest.mark.parametrize(("value", "decimals", "pad_to", "text"), [
    (6183763, 2, 8, "61837.63000000"), (1, 5, 8, "0.00001000"), (0, 2, 8, "0.00000000"), (61838, 0, 0, "61838"),
    (7, 8, 0, "0.00000007"), (500, 2, 0, "5.00"), (42, 0, 8, "42.00000000"),
])
def test_numbers_have_as_many_decimals_as_the_venue_prints(value, decimals, pad_to, text):
    assert fixed(value, decimals, pad_to) == text
    assert Decimal(text) == Decimal(value).scaleb(-decimals)


def test_an_older_picture_has_an_older_sequence_and_other_levels():
    listed = Binance.listing(World(instrument("btc-usdt"), "1"), "1", start_ns=10**18)
    source = MarketSource([listed])
    for _ in range(40):
        listed.flow.step()
        if listed.flow.window_over:
            listed.flow.published()
    now, before = source.image("BTCUSDT"), source.image("BTCUSDT", age_ns=500_000_000)
    assert before.sequence < now.sequence
    assert (before.bids, before.asks) != (now.bids, now.asks)
    assert source.image("BTCUSDT", sequence=before.sequence) == before
    assert source.image("NOSUCH") is None


def marked(bids, asks, depth):
    return sum(level_mark(side, price, size, 2, 5) for side, rows in (("b", bids), ("a", asks))
               for price, size in rows[:depth or None]) % 2**64


@pytest.mark.parametrize("depth", [0, 1, 10])
def test_a_book_was_true_until_another_was_published(depth):
    listed = Binance.listing(World(instrument("btc-usdt"), "1"), "1", start_ns=10**18)
    book, said = listed.flow.book, []           # (mark, published at)
    for _ in range(400):
        listed.flow.step()
        if listed.flow.window_over:
            book.take()
            listed.published.append((book.time_ns, book.time_ns + 1000))
            said.append((marked(*book.top(10**6), depth), book.time_ns + 1000))
            listed.flow.published()
    now = said[-1][1]
    marks = [mark for mark, _ in said]
    for place, (mark, _) in list(enumerate(said))[::5]:
        again = next(at for at in range(len(said) - 1, -1, -1) if marks[at] == mark)
        after = next((at for at in range(again + 1, len(said)) if marks[at] != mark), None)
        true, until = listed.was(depth, mark, now)
        # Between two messages the book is already another, which nobody was told.
        assert true
        assert until >= (now if after is None else said[place + 1][1])
        assert until <= (now if after is None else said[after][1] + 12 * 100_000_000)
    assert listed.was(depth, (marks[-1] + 1) % 2**64, now) == (False, 0)
    assert listed.was(depth, marks[0], now + 12_000_000_000) == (False, 0)
    assert listed.was(depth, marks[-1], now + 12_000_000_000) == (True, now + 12_000_000_000)


def test_a_mark_is_over_plain_decimal_text():
    def of(text):
        return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
    assert level_mark("b", 6183763, 500, 2, 3) == of("b:61837.63:0.5")
    assert level_mark("a", 60000, 7, 0, 8) == of("a:60000:0.00000007")
    assert level_mark("a", 6000000, 100, 2, 0) == of("a:60000:100")


def test_instruments_have_two_sides():
    assert instrument("eth-btc").name == "ETH-BTC"
    assert instrument("Foo-Bar").name == "FOO-BAR"
    for wrong in ("ethbtc", "eth-", "-btc", "eth-btc-usd", ""):
        with pytest.raises(ValueError, match="write BASE-QUOTE"):
            instrument(wrong)
