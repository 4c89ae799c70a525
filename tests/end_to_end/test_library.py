"""mantra as a library: feeds in this process, and a second process that joins late and misses nothing."""
from __future__ import annotations

import os
import subprocess
import sys

import pytest

import mantra
from mantra.core.messages import Trust
from mantra.errors import ConfigurationError, UnknownSymbol
from mantra.topologies.system import Simulated, System
from mantra.venues.instrument import InstrumentTable

LATE_JOINER = """
import sys, time
import mantra
from mantra.core.messages import Kind

with mantra.attach(sys.argv[1]) as run:
    for venue, symbol in (("binance", "ETHBTC"), ("bitstamp", "ethbtc")):
        image, updates = run.follow(venue, symbol)
        ladder = {Kind.BID: dict(image.bids.tolist()), Kind.ASK: dict(image.asks.tolist())}
        ends, compared = time.monotonic() + 1, 0
        while time.monotonic() < ends or compared < 4:
            for update in updates:
                if update.instrument == image.instrument and update.kind in ladder:
                    if update.size:
                        ladder[update.kind][update.price] = update.size
                    else:
                        del ladder[update.kind][update.price]
                if update.kind == Kind.RESET:
                    raise SystemExit("a reset: nothing went wrong, there should be none")
                now = run.book(venue, symbol).image()
                if now.position == updates.position:
                    assert ladder[Kind.BID] == dict(now.bids.tolist()), venue
                    assert ladder[Kind.ASK] == dict(now.asks.tolist()), venue
                    compared += 1
            updates.wait(0.1)
print("equal")
"""


@pytest.fixture(scope="module")
def simulated():
    with Simulated(["binance", "bitstamp"], ["eth-btc", "btc-usdt"]) as venues:
        yield venues


@pytest.fixture
def system(simulated, tmp_path):
    with mantra.start(["binance", "bitstamp"], ["ETH-BTC", "btc/usdt"], endpoints=simulated.endpoints, home=tmp_path,
                      run=f"test-library-{os.getpid()}") as system:
        yield system


def wait_for(system, trusts):
    """Until the four books are trusted so."""
    seen = {}
    for top in system.read("tops", timeout=60, on_lap="count"):
        seen[top.venue, top.instrument] = Trust(top.trust)
        if len(seen) == 4 and set(seen.values()) <= trusts:
            return
    raise AssertionError(seen)


def test_tops_updates_trades_and_worlds_arrive_as_objects_and_as_arrays(system):
    wait_for(system, {Trust.VERIFIED, Trust.UNVERIFIED})
    top = next(iter(system.read("tops.binance", timeout=60)))
    assert top.bids[0][0] < top.asks[0][0]
    assert next(iter(system.read("updates", timeout=60))).instrument in (1, 2)
    assert next(iter(system.read("trades", timeout=60))).size > 0
    world = next(iter(system.read("world", timeout=60)))
    assert {bid[2] for bid in world.bids} <= {1, 2}
    batch = next(iter(system.batches("updates.binance", timeout=60)))
    assert batch["price"].dtype == "int64"
    assert set(batch["venue"]) == {0}
    book = system.book("bitstamp", "ethbtc")
    assert book.bids(5).shape == (5, 2)
    assert book.bids(5)[0, 0] < book.asks(5)[0, 0]


def test_a_process_that_joins_late_holds_the_very_same_books(system):
    wait_for(system, {Trust.VERIFIED, Trust.UNVERIFIED})
    done = subprocess.run([sys.executable, "-c", LATE_JOINER, system.spine.run], capture_output=True, text=True,
                          timeout=60)
    assert done.stdout.strip() == "equal", done.stderr


def test_a_pin_for_nobody_is_told(simulated, tmp_path, caplog):
    pins = {"binanse": 0, "best": 0}
    with mantra.start("binance", "ETH-BTC", endpoints=simulated.endpoints, home=tmp_path, pin=pins):
        assert "no actor is called 'binanse'; there are best, binance, binance.0" in caplog.text
        assert "'best';" not in caplog.text


def test_leaving_takes_everything_along(simulated, tmp_path):
    name = f"test-leaving-{os.getpid()}"
    with mantra.start(["binance"], ["eth-btc"], endpoints=simulated.endpoints, home=tmp_path, run=name) as system:
        tiles = list(system.tiles)
        with mantra.attach(name) as run:
            assert [instrument.name for instrument in run.instruments()] == ["ETH-BTC"]
    assert not any(tile.running for tile in tiles)
    with pytest.raises(ConfigurationError, match="no run"):
        mantra.attach(name)


def test_a_symbol_that_a_venue_does_not_list_is_refused_with_a_suggestion(simulated, tmp_path):
    with pytest.raises(UnknownSymbol, match="ETH-BTC"):
        mantra.start(["binance"], ["ethbtx"], endpoints=simulated.endpoints, home=tmp_path)


def test_both_shipped_topologies_run_and_differ_only_in_wiring(simulated):
    from mantra.runtime.settings import read

    settings = read(venues="binance,bitstamp", instruments="eth-btc", endpoints=simulated.endpoints, topology="depth",
                    run=f"test-depth-{os.getpid()}")
    with System(settings, table=InstrumentTable()).start() as system:
        families = {family: next(iter(system.read(family, timeout=60)))
                    for family in ("world", "liquidity", "tops.calm")}
    assert families["liquidity"].instrument == families["world"].instrument == families["tops.calm"].instrument
