"""The doors that only tell: what venues offer, what they list."""
from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from mantra import venues
from tests.end_to_end.simulated import Child


def mantra(*arguments, home, code=0, columns="100"):
    done = subprocess.run([sys.executable, "-m", "mantra", *arguments], capture_output=True, text=True, timeout=60,
                          env={**os.environ, "MANTRA_HOME": str(home), "COLUMNS": columns})
    assert done.returncode == code, done.stderr
    return done


def test_venues_tells_of_each_what_proves_it_and_what_does_not_in_a_hundred_columns(tmp_path):
    said = mantra("venues", home=tmp_path).stdout
    assert all(len(line) <= 100 for line in said.splitlines())
    plain = " ".join(re.sub("[^ -~]", " ", said).split())
    facts = json.loads(mantra("venues", "--json", home=tmp_path).stdout)
    assert set(facts) == set(venues.VENUES)
    for name, fact in facts.items():
        assert {"cannot_prove", "resynchronises", "limits", "stale_s", "spread"} <= set(fact)
        assert name in plain
        assert fact["verified_by"] or venues.get(name).live_trust["book"] == 3
    assert list(json.loads(mantra("venues", "bitstamp", "--json", home=tmp_path).stdout)) == ["bitstamp"]
    assert "did you mean binance" in mantra("venues", "binanc", home=tmp_path, code=2).stderr


@pytest.fixture
def endpoints():
    with Child("--venues", "binance,bitstamp", "--instruments", "eth-btc,btc-usdt") as child:
        yield child.path


def test_instruments_are_searched_at_all_venues_or_one(tmp_path, endpoints):
    done = mantra("instruments", "ethbtc", "--endpoints", str(endpoints), "--json", home=tmp_path)
    told = json.loads(done.stdout)
    assert [(row["venue"], row["name"]) for row in told["instruments"]] == [
        ("binance", "ETH-BTC"), ("bitstamp", "ETH-BTC")]
    assert all(row["tick"] and row["lot"] and row["min_value"] for row in told["instruments"])
    assert "asked just now" in done.stderr
    only = mantra("instruments", "*-usdt", "--venue", "binance", "--endpoints", str(endpoints), home=tmp_path)
    assert "BTCUSDT" in only.stdout
    assert "btcusdt" not in only.stdout
    assert "no instrument fits" in mantra("instruments", "nosuch", "--endpoints", str(endpoints), home=tmp_path).stderr


def test_instruments_offline_without_a_list_fail_in_a_line_that_says_what_to_do(tmp_path):
    done = mantra("instruments", "--venue", "binance", "--offline", home=tmp_path, code=1)
    assert "ask once without --offline" in done.stderr
    assert "give one" in mantra("instruments", "--refresh", "--offline", home=tmp_path, code=2).stderr
