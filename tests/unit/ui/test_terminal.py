"""The terminal: numbers as people read them, and a screen that always fits."""
from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mantra.core.clock import Clock
from mantra.core.ledger import FeedState
from mantra.core.messages import Reason, Top, Trust, World
from mantra.runtime.spine import Spine
from mantra.telemetry.collector import BookState, Feed
from mantra.ui.terminal import (
    Latency,
    Level,
    Market,
    Reader,
    Snapshot,
    choose,
    fixed,
    places,
    screen,
    spread,
)
from mantra.venues import NAMES

NOW = 1_790_000_000_123_456_789
SECOND = 1_000_000_000
BINANCE, BITSTAMP = 1, 2   # as bits of a level's venues


def book(venue: int, trust: Trust, reason: Reason, since_ns: int, audited: int = 0, agreed: int = 0) -> BookState:
    return BookState("feed", NAMES[venue], "ETH-BTC", "ethbtc", trust.name.lower(),
                     reason.name.lower() if reason else "", since_ns, {"audited": audited, "agreed": agreed})


def market(name: str = "ETH-BTC", bid: int = 6_512_400, ask: int = 6_514_400) -> Market:
    bids = tuple(Level(bid - i * 1_000, (7 * i % 11 + 1) * 31_400_000, BINANCE << (i % 3 > 0)) for i in range(10))
    asks = tuple(Level(ask + i * 1_000, (5 * i % 7 + 1) * 27_100_000, BITSTAMP >> i % 2) for i in range(10))
    books = (book(0, Trust.VERIFIED, Reason.NONE, NOW - 133 * SECOND),
             book(1, Trust.SUSPECT, Reason.GAP, NOW - 3 * SECOND))
    return Market(name, 8, 8, bids, asks, books, tuple(float(bid + i % 7) for i in range(50)))


def snapshot(feeds: int = 2, instruments: int = 2) -> Snapshot:
    states = ["live", "synchronising", *["live"] * feeds]
    return Snapshot(
        "live", NOW, tuple(market(name) for name in ("ETH-BTC", "BTC-USDT", "SOL-USD")[:instruments]),
        tuple(Feed(f"{venue}-{i}", venue, states[i], NOW - 190 * SECOND, NOW - SECOND // 8, 812.0, 4_100.0, 180_000.0,
                   (3.0, 4.0, 5.0), {"gaps": 2, "resyncs": 3} if i == 1 else {})
              for i in range(feeds) for venue in ["bitstamp" if i else "binance"]),
        (Latency("socket_to_top", 843.0, 1_620, 8_130, 41_200, 12_300_000),
         Latency("socket_to_world", 843.0, 3_410, 15_300, 88_100, 14_300_000),
         Latency("socket_to_top.binance-0", 812.0, 1_600, 8_100, 41_200, 12_300_000)))


def lines(view: Snapshot, width: int, height: int, banner: str = "", selected: int = 0) -> list[str]:
    return screen(view, selected, width, height, banner).plain.split("\n")


@given(width=st.integers(24, 220), height=st.integers(8, 70), feeds=st.integers(0, 12), instruments=st.integers(0, 3),
       banner=st.sampled_from(["", "Simulated venues. Real ones: mantra live --instrument-name ethbtc"]))
@settings(max_examples=60, deadline=None)
def test_screen_fits_whatever_its_size(width: int, height: int, feeds: int, instruments: int, banner: str) -> None:
    text = screen(snapshot(feeds, instruments), 0, width, height, banner)
    assert len(text.plain.split("\n")) <= height
    assert all(part.cell_len <= width for part in text.split("\n"))


def test_an_ordinary_screen_shows_everything_asked_of_it() -> None:
    shown = lines(snapshot(), 80, 24, banner="Simulated venues")
    text = "\n".join(shown)
    for word in ("Simulated venues", "ETH-BTC", "0.065124 │ 0.065144", "spread 0.00002", "verified",
                 "2m13s", "suspect  gap", "binance-0", "live", "812", "gaps 2, resyncs 3", "1.62 µs",
                 "41.2 µs", "socket to world"):
        assert word in text, word
    assert sum("│" in row for row in shown) == 11   # ten levels and their heading
    assert "since 14:11:07 (2m13s)" in "\n".join(lines(snapshot(), 120, 40))


def test_another_instrument_can_be_chosen() -> None:
    assert "── BTC-USDT " in "\n".join(lines(snapshot(), 80, 24, selected=1))
    assert [choose(1, 3, key) for key in (b"\x1b[C", b"\x1b[D", b"\t", b"3", b"9", b"x", b"")] == [2, 0, 2, 2, 1, 1, 1]
    assert choose(2, 3, b"n") == 0
    many = snapshot()._replace(markets=tuple(market(f"COIN{n}-BTC") for n in range(40)))
    assert " COIN37-BTC! " in lines(many, 60, 20, selected=37)[0]
    assert choose(0, 0, b"n") == 0


def test_feeds_without_room_are_summed_and_the_troubled_ones_are_kept() -> None:
    text = "\n".join(lines(snapshot(feeds=12), 80, 24))
    assert "bitstamp-1 " in text
    assert "synchronising" in text
    assert "more, " in text


def test_a_crossed_world_is_said_and_never_corrected() -> None:
    assert spread(market(bid=6_514_400, ask=6_512_400)).plain == "spread -0.00002  -3.07 bp  CROSSED"
    assert spread(Market("ETH-BTC", 8, 8)).plain == "nothing yet"


@pytest.mark.parametrize(("value", "decimals", "shown", "text"), [
    (6_512_400, 8, 6, "0.065124"), (-5, 2, 2, "-0.05"), (123_456_789, 4, 4, "12,345.6789"), (7, 0, 0, "7"),
    (15, 1, 0, "2"), (-15, 1, 0, "-2"), (14, 1, 0, "1"), (5, 0, 2, "5.00"), (0, 8, 0, "0"),
])
def test_exact_integers_become_decimals(value: int, decimals: int, shown: int, text: str) -> None:
    assert fixed(value, decimals, shown) == text


def test_as_many_places_are_shown_as_any_value_needs() -> None:
    assert places([6_512_400, 6_512_000, 0], 8) == 6
    assert places([100], 2) == 0
    assert places([], 8) == 0


@pytest.fixture
def run() -> Iterator[Spine]:
    with Spine.private(clock=Clock.virtual(NOW)) as spine:
        spine.add_instrument(7, "ETH-BTC", 0, 8, 8)
        yield spine


def test_a_run_with_nothing_in_it_yet_is_shown_too(run: Spine) -> None:
    view = Reader(run).read()
    assert (view.markets[0].bids, view.feeds, view.latencies) == ((), (), ())
    assert "nothing yet" in "\n".join(lines(view, 80, 24))


FIVE = (book(0, Trust.VERIFIED, Reason.NONE, NOW - 7_500 * SECOND, 1_000, 1_000),
        book(1, Trust.UNVERIFIED, Reason.NONE, NOW - 200 * SECOND, 1_000, 981),
        book(2, Trust.SUSPECT, Reason.CHECKSUM, NOW - 3 * SECOND),
        book(3, Trust.STALE, Reason.SILENT, NOW - 12 * SECOND),
        book(4, Trust.DOWN, Reason.DISCONNECTED, NOW - 90 * SECOND))


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 30), (200, 60)])
def test_five_venues_tell_trust_why_since_when_and_what_an_audit_found_in_columns(width: int, height: int) -> None:
    several = tuple(market(name)._replace(books=FIVE if name == "SOL-USD" else FIVE[:1])
                    for name in ("ETH-BTC", "BTC-USDT", "SOL-USD"))
    shown = lines(snapshot(5)._replace(markets=several), width, height, selected=2)
    text = "\n".join(shown)
    told = ("binance   verified ", "2h05m", "bitstamp  unverified ", "audit 98.1%", "bitfinex  suspect  checksum ",
            "coinbase  stale  silent ", "kraken    down  disconnected ", "1m30s")
    assert [words for words in told if words not in text] == []
    assert "ETH-BTC   BTC-USDT   SOL-USD!" in shown[0]
    assert sum("│" in line for line in shown) >= 6, "five levels are left"


def test_reader_takes_books_trust_rates_and_latencies_from_shared_memory(run: Spine) -> None:
    row = run.ledger.row("binance-0", 0)
    row.set_state(FeedState.LIVE, NOW - SECOND)
    reader = Reader(run)
    reader.read()
    row.add("messages", 300)
    row.add("frames", 300)
    row.add("gaps", 2)
    run.tops.write(1, Top(instrument=7, venue=1, trust=2, reason=2, trust_since_ns=NOW - 5))
    run.book_ledger.row("bitstamp-0 ethbtc", 1, 0, 7).audit(100, 98)
    run.worlds.write(0, World(
        instrument=7, bid_count=1, bid_price=[100, *[0] * 9], bid_size=[5, *[0] * 9], bid_venues=[1, *[0] * 9],
        ask_count=2, ask_price=[102, 103, *[0] * 8], ask_size=[6, 1, *[0] * 8], ask_venues=[2, 3, *[0] * 8]))
    for who, ns in (("binance-0", 900), ("bitstamp-0", 700)):
        run.histogram(f"socket_to_top.{who}").record(ns)
    run.clock.advance(2 * SECOND)
    view = reader.read()
    assert view.markets[0].bids == (Level(100, 5, 1),)
    assert view.markets[0].asks == (Level(102, 6, 2), Level(103, 1, 3))
    (found,) = view.markets[0].books
    assert (found.venue, found.trust, found.reason, found.since_utc_ns) == ("bitstamp", "suspect", "gap", NOW - 5)
    assert (found.counts["audited"], found.counts["agreed"]) == (100, 98)
    assert view.markets[0].mids == (101.0,)
    assert (view.feeds[0].messages_rate, view.feeds[0].counts["gaps"]) == (150.0, 2)
    assert view.feeds[0].heard_ns == view.utc_ns
    assert [(path.name, path.p50, path.highest) for path in view.latencies] == [
        ("socket_to_top", 700, 900), ("socket_to_top.binance-0", 900, 900), ("socket_to_top.bitstamp-0", 700, 700)]


def test_latencies_are_of_the_last_seconds_only(run: Spine) -> None:
    histogram = run.histogram("socket_to_top")
    reader = Reader(run)
    histogram.record(5_000_000)
    for _ in range(12):
        reader.read()
        run.clock.advance(SECOND)
        histogram.record(100)
    (path,) = reader.read().latencies
    assert (path.p999, path.highest) == (100, 5_000_000)


@pytest.fixture
def named_run() -> Iterator[str]:
    with Spine.create(f"test-{os.getpid()}-terminal") as spine:
        spine.add_instrument(7, "ETH-BTC", 0, 8, 8)
        spine.latest("world")
        spine.ledger.row("binance.0", 0).set_state(FeedState.LIVE, spine.clock.utc_ns())
        assert spine.run is not None
        yield spine.run


def program(run: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "mantra.ui.terminal", "--run", run, *arguments]


def test_program_prints_one_screen_of_a_run_in_another_process(named_run: str) -> None:
    done = subprocess.run(program(named_run, "--once", "--banner", "hello"), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for word in (named_run, "hello", "ETH-BTC", "binance.0", "live"):
        assert word in done.stdout


def test_program_says_in_one_line_what_is_wrong(named_run: str) -> None:
    wrong = (program("no-such-run", "--once"), program(named_run), program(named_run, "--refresh", "0", "--once"))
    for command in wrong:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (2, "")
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("signalled", [False, True])
def test_program_draws_until_q_is_pressed_or_it_is_told_to_end_however_often(named_run: str, signalled: bool) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, program(named_run))
    screen_bytes, deadline = b"", time.monotonic() + 30
    while b"binance.0" not in screen_bytes and time.monotonic() < deadline:
        screen_bytes += os.read(terminal, 65536)
    if not signalled:
        os.write(terminal, b"q")
    while time.monotonic() < deadline:
        try:
            if signalled:
                os.kill(pid, signal.SIGTERM)
            if select.select([terminal], [], [], 0.002)[0]:
                screen_bytes += os.read(terminal, 65536)
        except OSError:     # the other end is closed: it ended
            break
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert b"\x1b[?1049l" in screen_bytes      # it gave the screen back
    assert b"KeyboardInterrupt" not in screen_bytes
