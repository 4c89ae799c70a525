"""Faults: what a specification means, and that what is ordered happens exactly so often."""
import pytest

from mantra.errors import ConfigurationError
from mantra.simulator.faults import Faults, parse, seconds


def test_a_specification_is_chances_times_and_switches():
    assert parse("drop=0.001, cut=30s,stall=500ms,bytewise,reorder=0") == {
        "drop": 0.001, "cut": 30.0, "stall": 0.5, "bytewise": 1.0}
    assert parse("") == {}
    assert [seconds(text) for text in ("2", "1.5s", "250ms", "2m", "1h")] == [2.0, 1.5, 0.25, 120.0, 3600.0]


@pytest.mark.parametrize("spec", ["drop", "drop=2", "drop=x", "cut=soon", "explode=1", "bytewise=yes", "cut="])
def test_what_is_not_understood_is_named(spec):
    with pytest.raises(ConfigurationError, match=f"'{spec}'"):
        parse(spec)


def test_what_is_ordered_happens_so_often_and_is_counted():
    faults = Faults()
    faults.ordered["drop"] = 2
    assert faults.on_frames
    assert [faults.hits("drop") for _ in range(4)] == [True, True, False, False]
    assert faults.counts == {"drop": 2}
    assert not faults.on_frames


def test_a_chance_strikes_about_so_often_and_alike_for_a_seed():
    strikes = []
    for _ in range(2):
        faults = Faults("drop=0.1", seed="5")
        strikes.append([faults.hits("drop") for _ in range(5000)])
    assert strikes[0] == strikes[1]
    assert 400 < sum(strikes[0]) < 600
