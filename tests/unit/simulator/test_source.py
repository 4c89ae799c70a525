"""How the venues spell numbers."""
from decimal import Decimal

import pytest

from mantra.simulator.binance import Binance
from mantra.simulator.market import World
from mantra.simulator.source import MarketSource, fixed, instrument


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


def test_instruments_have_two_sides():
    assert instrument("eth-btc").name == "ETH-BTC"
    assert instrument("Foo-Bar").name == "FOO-BAR"
    for wrong in ("ethbtc", "eth-", "-btc", "eth-btc-usd", ""):
        with pytest.raises(ValueError, match="write BASE-QUOTE"):
            instrument(wrong)
