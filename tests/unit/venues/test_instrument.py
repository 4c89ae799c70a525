"""Names and scales: what a user means, and integers that mean the same for ever."""
import re
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from decimal import Decimal

import pytest

from mantra.errors import ConfigurationError, UnknownSymbol
from mantra.venues import get
from mantra.venues.instrument import (
    Instrument,
    InstrumentTable,
    ObservedScale,
    choose,
    home,
    listed_scale,
    load_listings,
    matching,
    resolve,
    resolve_all,
    save_listings,
)
from mantra.venues.venue import Endpoints, Listing
from tests.data import read


def listing(venue, base, quote, tick="0.01", lot="0.00001", largest="", symbol=None, status="TRADING"):
    symbol = symbol or base + quote
    return Listing(venue, symbol, base, quote, tick, lot, largest, status, status == "TRADING")


BINANCE = [listing("binance", "ETH", "BTC"), listing("binance", "BTC", "USDT"), listing("binance", "BTC", "USDC"),
           listing("binance", "BTC", "BUSD"), listing("binance", "OLD", "BTC", status="BREAK")]
BITSTAMP = [listing("bitstamp", "ETH", "BTC", symbol="ethbtc"), listing("bitstamp", "BTC", "USD", symbol="btcusd"),
            listing("bitstamp", "BTC", "EUR", symbol="btceur")]


@pytest.mark.parametrize("wanted", ["ethbtc", "ETHBTC", "ETH-BTC", "eth/btc", "Eth_Btc", " eth-btc "])
def test_every_usual_spelling_is_understood_at_every_venue(wanted):
    found = resolve_all(wanted, {"binance": BINANCE, "bitstamp": BITSTAMP})
    assert {venue: row.symbol for venue, row in found.items()} == {"binance": "ETHBTC", "bitstamp": "ethbtc"}


def test_another_quote_currency_is_suggested_and_never_taken():
    with pytest.raises(UnknownSymbol, match=r"^binance does not list BTC-USD; it lists BTC-USDC, BTC-USDT, BTC-BUSD$"):
        resolve_all("BTC-USD", {"binance": BINANCE, "bitstamp": BITSTAMP})
    with pytest.raises(UnknownSymbol, match=r"^bitstamp does not list btcusdt; it lists BTC-USD, BTC-EUR$"):
        resolve_all("btcusdt", {"binance": BINANCE, "bitstamp": BITSTAMP})


def test_a_misspelling_is_answered_with_what_is_alike():
    with pytest.raises(UnknownSymbol, match="does not list etthbtc; it lists ETH-BTC"):
        resolve("etthbtc", BINANCE)


def test_an_instrument_that_does_not_trade_is_refused_with_its_status():
    with pytest.raises(UnknownSymbol, match=r"lists OLD-BTC but does not trade it now \(status BREAK\)"):
        resolve("oldbtc", BINANCE)


def test_a_name_with_two_meanings_must_be_written_with_its_hyphen():
    rows = [listing("x", "AB", "CUSD"), listing("x", "ABC", "USD")]
    with pytest.raises(UnknownSymbol, match="ambiguous at x: write AB-CUSD or ABC-USD"):
        resolve("abcusd", rows)
    assert resolve("ab-cusd", rows).base == "AB"
    with pytest.raises(UnknownSymbol, match="means AB-CUSD at x, ABC-USD at y"):
        resolve_all("abcusd", {"x": rows[:1], "y": rows[1:]})


@pytest.mark.parametrize(("rows", "scale"), [
    ([listing("binance", "BTC", "USDT", "0.01", "0.00001", "9000")], (8, 8)),
    ([listing("binance", "SHIB", "USDT", "0.00000001", "1", "46116860414")], (8, 5)),
    ([listing("bitstamp", "SHIB", "USD", "0.00000001", "1")], (8, 3)),      # no largest order named
    ([listing("kraken", "PEPE", "USD", "0.000000001", "0.00001", "46116860414")], (9, 5)),
    ([listing("a", "X", "Y", "0.01", "0.0000000001")], (8, 10)),            # increment before room
    ([listing("a", "ETH", "BTC", "0.000001", "0.0001", "100000"),
      listing("b", "ETH", "BTC", "0.00000001", "0.00000001")], (8, 8)),
])
def test_scales_have_room_below_the_increment_and_above_the_largest_value(rows, scale):
    assert listed_scale(rows) == scale


def test_no_listed_order_size_overflows_its_scale_at_binance():
    rows = get("binance").parse_instruments(read("cryptofeed/BINANCE.0").split(b"\n")[0].split(b": ", 1)[1])
    for row in rows:
        price_decimals, size_decimals = listed_scale([row])
        assert Decimal(row.max_size).scaleb(size_decimals + 1) < 2**63, row
        assert Decimal(row.tick).scaleb(price_decimals) >= 1
        assert Decimal(row.lot).scaleb(size_decimals) >= 1


LEVEL = re.compile(rb'\["([0-9.]+)", ?"([0-9.]+)"\]')


@pytest.mark.parametrize(("venue", "listings", "books"), [
    ("binance", "cryptofeed/BINANCE.0", "cryptofeed/BINANCE.http.0.0"),
    ("bitstamp", "cryptofeed/BITSTAMP.0", "cryptofeed/BITSTAMP.http.0.0"),
])
def test_scales_from_the_list_fit_every_level_of_the_recorded_books(venue, listings, books):
    venue = get(venue)
    rows = venue.parse_instruments(read(listings).split(b"\n")[0].split(b": ", 1)[1])
    for line in read(books).splitlines():
        symbol = venue.snapshot_symbol(line.split(b" ")[0].decode())
        scale = listed_scale([row for row in rows if row.symbol == symbol])
        for level in LEVEL.findall(line):
            for text, decimals in zip(level, scale, strict=True):
                ticks = Decimal(text.decode()).scaleb(decimals)
                assert ticks == int(ticks) < 2**63, (symbol, level, scale)


def test_an_observed_scale_holds_what_was_observed():
    seen = ObservedScale()
    seen.level("0.00000123", "123456789012.5")
    seen.level("1e-10", "0.00000000")
    assert seen.scale() == (10, 4)      # 12 digits and 2 in reserve leave 4
    assert ObservedScale().scale() == (8, 8)


def test_a_scale_stays_put_and_a_new_generation_is_a_new_id(tmp_path):
    path = tmp_path / "deep" / "instruments.txt"
    table = InstrumentTable.open(path)
    first = table.scale_for("ETH-BTC", 8, 8)
    assert first == Instrument(1, "ETH-BTC", 0, 8, 8)
    assert table.scale_for("ETH-BTC", 2, 2) == first
    second = table.next_generation("ETH-BTC", 10, 6)
    assert second == Instrument(2, "ETH-BTC", 1, 10, 6)
    again = InstrumentTable.open(path)
    assert list(again) == [first, second]
    assert again.find("ETH-BTC") == second
    assert again.find("BTC-USD") is None
    assert path.read_text().endswith("1 ETH-BTC 0 8 8\n2 ETH-BTC 1 10 6\n")


def test_two_processes_that_meet_the_same_overflow_share_one_new_generation(tmp_path):
    path = tmp_path / "instruments.txt"
    one, other = InstrumentTable.open(path), InstrumentTable.open(path)
    one.scale_for("SHIB-USD", 8, 8)
    other.scale_for("SHIB-USD", 8, 8)
    assert one.next_generation("SHIB-USD", 8, 3) == other.next_generation("SHIB-USD", 8, 3)
    assert len(InstrumentTable.open(path)) == 2


def test_a_listing_finer_than_the_table_opens_a_generation_at_once():
    table = InstrumentTable()
    coarse = listing("a", "X", "Y", "0.01", "0.01")
    fine = replace(coarse, venue="b", tick="0.0000000001")
    assert table.for_listings([coarse]).generation == 0
    assert table.for_listings([coarse, fine]) == Instrument(2, "X-Y", 1, 10, 8)
    assert table.for_listings([coarse]).generation == 1


def test_a_pattern_means_what_is_traded_wherever_it_is():
    listings = {"binance": BINANCE, "bitstamp": BITSTAMP}

    def chosen(*wanted):
        return {next(iter(rows.values())).name: sorted(rows) for rows in choose(wanted, listings)}

    assert chosen("btc-*") == {"BTC-USDT": ["binance"], "BTC-USDC": ["binance"], "BTC-BUSD": ["binance"],
                               "BTC-USD": ["bitstamp"], "BTC-EUR": ["bitstamp"]}
    assert chosen("*/BTC") == {"ETH-BTC": ["binance", "bitstamp"]}         # OLD-BTC is not traded
    assert len(chosen("all")) == 6
    assert chosen("eth-btc", "all")["ETH-BTC"] == ["binance", "bitstamp"]
    with pytest.raises(UnknownSymbol, match=r"nothing that fits doge\* is traded at binance, bitstamp"):
        chosen("doge*")
    with pytest.raises(UnknownSymbol, match="bitstamp does not list BTC-USDT"):
        chosen("all", "BTC-USDT")


@pytest.mark.parametrize(("pattern", "names"), [
    ("eth", ["ETH-BTC"]), ("ETHBTC", ["ETH-BTC"]), ("old", ["OLD-BTC"]), ("*-usd?", ["BTC-USDT", "BTC-USDC"]),
    ("btc/bu", ["BTC-BUSD"]), ("nothing", []), ("", [row.name for row in BINANCE])])
def test_a_search_finds_parts_and_globs(pattern, names):
    assert [row.name for row in matching(pattern, BINANCE)] == names


def test_thousands_of_rows_are_appended_under_one_lock(tmp_path, monkeypatch):
    table, waits = InstrumentTable.open(tmp_path / "instruments.txt"), []
    monkeypatch.setattr("os.fsync", waits.append)
    with table.together():
        rows = [table.for_listings([listing("a", f"A{number}", "B")]) for number in range(3000)]
        assert table.for_listings([listing("a", "A7", "B")]) == rows[7]
    assert len(waits) == 1
    assert list(InstrumentTable.open(tmp_path / "instruments.txt")) == rows


def append(path, name):
    return InstrumentTable.open(path).scale_for(name, 8, 8).id


def test_processes_append_at_once_without_losing_or_repeating_a_row(tmp_path):
    path = tmp_path / "instruments.txt"
    names = [f"A{number % 20}-B" for number in range(80)]
    with ProcessPoolExecutor(4) as pool:
        ids = list(pool.map(append, [path] * len(names), names))
    rows = list(InstrumentTable.open(path))
    assert sorted(row.name for row in rows) == sorted(set(names))
    assert ids == [next(row.id for row in rows if row.name == name) for name in names]


def test_a_row_torn_by_a_crash_is_replaced(tmp_path):
    path = tmp_path / "instruments.txt"
    InstrumentTable.open(path).scale_for("ETH-BTC", 8, 8)
    with path.open("a") as file:
        file.write("2 BTC-U")
    table = InstrumentTable.open(path)
    assert len(table) == 1
    assert table.scale_for("SOL-USD", 8, 8).id == 2
    assert [row.name for row in InstrumentTable.open(path)] == ["ETH-BTC", "SOL-USD"]


@pytest.mark.parametrize("row", ["1 ETH-BTC 0 8", "2 ETH-BTC 0 8 8", "1 ETH-BTC 0 8 eight", "{}"])
def test_a_damaged_table_is_refused_with_its_line(tmp_path, row):
    path = tmp_path / "instruments.txt"
    path.write_text("# mantra instruments 1\n" + row + "\n")
    with pytest.raises(ConfigurationError, match=r"instruments\.txt:2: not a row"):
        InstrumentTable.open(path)


def test_a_table_of_another_version_is_refused(tmp_path):
    path = tmp_path / "instruments.txt"
    path.write_text("# mantra instruments 2\n1 ETH-BTC 0 8 8 extra\n")
    with pytest.raises(ConfigurationError, match="of this version"):
        InstrumentTable.open(path)


@pytest.mark.parametrize("name", ["", "A B", "X" * 32])
def test_a_name_that_no_message_could_carry_is_refused(name):
    with pytest.raises(ConfigurationError, match="name is 1 to 31 bytes"):
        InstrumentTable().scale_for(name, 8, 8)


def test_home_follows_its_variables(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("MANTRA_HOME", raising=False)
    assert home() == tmp_path / "xdg" / "mantra"
    monkeypatch.setenv("MANTRA_HOME", str(tmp_path / "own"))
    assert home() == tmp_path / "own"
    assert InstrumentTable.open().scale_for("A-B", 1, 1).id == 1
    assert (tmp_path / "own" / "instruments.txt").is_file()


def test_lists_of_real_venues_are_kept_and_those_of_others_are_not(tmp_path):
    real = get("binance")
    assert load_listings(real, tmp_path) == ([], 0.0)
    save_listings(get("binance", Endpoints("ws://x", "http://x")), BINANCE[:1], tmp_path)
    assert load_listings(real, tmp_path) == ([], 0.0)
    save_listings(real, BINANCE, tmp_path)
    rows, kept_at = load_listings(real, tmp_path)
    assert rows == BINANCE
    assert kept_at > 0


def test_a_home_that_cannot_be_written_stops_no_run_for_a_list(tmp_path):
    (tmp_path / "listings").write_text("in the way")
    save_listings(get("binance"), BINANCE, tmp_path)
    with pytest.raises(ConfigurationError, match="set MANTRA_HOME"):
        InstrumentTable.open(tmp_path / "listings" / "instruments.txt").scale_for("A-B", 1, 1)
