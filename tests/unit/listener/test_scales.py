"""Generations of an instrument: opened for text that fits one, refused for text that fits none."""
from __future__ import annotations

import json

import pytest

from mantra import venues
from mantra.listener.scales import Scales
from mantra.runtime.spine import Spine
from mantra.venues.instrument import InstrumentTable


class Bench:
    def __init__(self, price=8, size=8):
        self.table = InstrumentTable()
        self.scales = Scales(self.table)
        self.spine = Spine.private()
        self.moves = []
        self.current = self.scales.follow(self.table.scale_for("ETH-USD", price, size), self.moves.append)

    def text(self, *levels):
        body = {"timestamp": "1", "microtimestamp": "1", "bids": [list(level) for level in levels], "asks": []}
        return json.dumps({"data": body, "channel": "diff_order_book_ethusd", "event": "data"}).encode()

    def outgrown(self, text):
        new = self.scales.outgrown(self.current, venues.get("bitstamp"), text, self.spine)
        self.current = new or self.current
        return new


def test_finer_text_opens_a_generation_that_holds_it():
    bench = Bench()
    new = bench.outgrown(bench.text(("1.0000000001", "1")))
    assert (new.generation, new.price_decimals, new.size_decimals) == (1, 10, 8)
    assert bench.moves == [new]


def test_a_larger_number_takes_decimals_that_nobody_used():
    bench = Bench(price=10)
    new = bench.outgrown(bench.text(("9999999999.0", "1")))
    assert new is not None
    assert new.price_decimals <= 8


@pytest.mark.parametrize("level", [
    ("0.0000000000000000000000001", "1"), ("1e-400", "1"), ("1e300", "1"), ("1", "1e19"),
    ("123456789012.12345678901", "1"), ("NaN", "1"),
])
def test_text_that_no_scale_holds_opens_no_generation_and_stops_nobody(level):
    bench = Bench()
    assert bench.outgrown(bench.text(level)) is None
    assert bench.moves == []
    assert len(bench.table) == 1


@pytest.mark.parametrize("nonsense", ["Infinity", "None", "1e999999999"])
def test_nonsense_beside_a_finer_number_is_passed_over(nonsense):
    new = Bench().outgrown(Bench().text(("1.0000000001", nonsense)))
    assert (new.price_decimals, new.size_decimals) == (10, 8)


def test_one_absurd_number_does_not_spoil_the_scale_for_later_ones():
    bench = Bench()
    assert bench.outgrown(bench.text(("1e-30", "1"))) is None
    assert bench.outgrown(bench.text(("1e30", "1"))) is None
    new = bench.outgrown(bench.text(("1.000000001", "1")))
    assert new is not None
    assert new.price_decimals == 9


def test_texts_that_no_one_scale_holds_end_after_a_few_generations():
    bench = Bench()
    fine, large = bench.text(("1.000000000001", "1")), bench.text(("99999999999", "1"))
    for _ in range(50):
        bench.outgrown(fine)
        bench.outgrown(large)
    assert len(bench.table) < 6
