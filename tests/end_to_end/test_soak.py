"""The soak, short; and that it catches systems which are wrong."""
from __future__ import annotations

import pytest

from tests.end_to_end.soak import Soak


def test_five_venues_at_their_worst_are_never_wrong_unseen():
    report = Soak(6.0, 4, ["binance", "bitstamp", "bitfinex", "coinbase", "kraken"]).run()
    assert report["wrong"] == []
    assert all(report["injected"].values())
    assert sum(report["judged"].values()) > 50


@pytest.mark.parametrize(("twin", "venue"), [("checksums", "kraken"), ("gaps", "bitstamp")])
def test_a_system_that_claims_more_than_it_looks_at_is_caught(twin, venue):
    report = Soak(20.0, 1, [venue], twin).run()
    assert any("never was so" in one["what"] for one in report["wrong"])
