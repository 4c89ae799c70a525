"""terminal: a run on one screen, read from outside: world view, trust, feeds, latencies.

`python -m mantra.ui.terminal --run NAME`, in a process of its own: it only reads shared memory, so the feeds do not
notice it. `Reader` takes a `Snapshot` of the run; everything below it is a pure function from that to rich text.
"""
from __future__ import annotations

import argparse
import contextlib
import os
import select
import shutil
import signal
import sys
import termios
import textwrap
import time
import tty
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from rich.console import Console
from rich.live import Live
from rich.text import Text

import mantra
from mantra.core import ticks
from mantra.core.histogram import Histogram
from mantra.runtime import child
from mantra.runtime.options import Parser, door
from mantra.runtime.spine import RunInstrument, Spine
from mantra.telemetry.collector import BookState, Feed, Feeds, books
from mantra.telemetry.drawing import (
    TRUST_STYLE,
    age,
    amount,
    bar,
    cells,
    duration,
    feeds,
    heading,
    line,
    spark,
    troubles,
    venue_style,
    wall,
)
from mantra.venues import NAMES

LATENCY_WINDOW_S = 10
SECOND = 1_000_000_000


# What is shown ---------------------------------------------------------------------------------------------------


class Level(NamedTuple):
    """One price level: ticks, lots, and the venues behind it, one bit each."""

    price: int
    size: int
    venues: int


class Market(NamedTuple):
    """One instrument's world view; best levels first."""

    name: str
    price_decimals: int
    size_decimals: int
    bids: tuple[Level, ...] = ()
    asks: tuple[Level, ...] = ()
    books: tuple[BookState, ...] = ()   # that were heard of, by venue
    mids: tuple[float, ...] = ()        # in ticks, one per refresh, newest last


class Latency(NamedTuple):
    """One path's latencies of the last seconds, in nanoseconds; `highest` of the whole run."""

    name: str
    rate: float
    p50: int
    p99: int
    p999: int
    highest: int


class Snapshot(NamedTuple):
    run: str
    utc_ns: int
    markets: tuple[Market, ...] = ()
    feeds: tuple[Feed, ...] = ()
    latencies: tuple[Latency, ...] = ()


# Reading it ------------------------------------------------------------------------------------------------------


class Reader:
    """Take snapshots of a run; remembers just enough to tell rates and the latest latencies."""

    def __init__(self, run: Spine) -> None:
        self.run = run
        self._histograms: dict[str, Histogram] = {}
        self._listed_ns = 0
        self._feeds = Feeds(run.ledger)
        self._mids: dict[int, deque[float]] = {}
        self._latencies: dict[str, deque[tuple[int, Histogram]]] = {}

    def read(self) -> Snapshot:
        """The run as it is now."""
        run, now = self.run, self.run.clock.utc_ns()
        heard: dict[str, list[BookState]] = {}
        for book in books(run):
            if book.trust:
                heard.setdefault(book.instrument, []).append(book)
        if now - self._listed_ns >= SECOND:         # new ones are rare, and finding them goes through the file system
            self._histograms, self._listed_ns = run.histograms(), now
        newest = {one.name: one for one in run.instruments()}       # of an instrument's scales the last one counts
        return Snapshot(run.run or "private", now,
                        tuple(self._market(one, heard.get(one.name, [])) for one in newest.values()),
                        self._feeds.read(now),
                        tuple(self._latency(name, histograms, now) for name, histograms in self._paths()))

    def _market(self, instrument: RunInstrument, books: list[BookState]) -> Market:
        mids = self._mids.setdefault(instrument.id, deque(maxlen=240))
        world = self.run.worlds.read(instrument.slot)
        bids, asks = (tuple(Level(*level) for level in getattr(world, side, ())) for side in ("bids", "asks"))
        if bids and asks:
            mids.append((bids[0].price + asks[0].price) / 2)
        return Market(instrument.name, instrument.price_decimals, instrument.size_decimals, bids, asks,
                      tuple(sorted(books, key=lambda book: NAMES.index(book.venue))), tuple(mids))

    def _paths(self) -> Iterator[tuple[str, list[Histogram]]]:
        """Every path, over all who measure it ("socket_to_top"), then each of several ("socket_to_top.binance-0")."""
        paths: dict[str, dict[str, Histogram]] = {}
        for name, histogram in sorted(self._histograms.items()):
            paths.setdefault(name.partition(".")[0], {})[name] = histogram
        yield from ((path, list(parts.values())) for path, parts in paths.items())
        yield from ((name, [histogram]) for parts in paths.values() if len(parts) > 1
                    for name, histogram in parts.items())

    def _latency(self, name: str, histograms: list[Histogram], now: int) -> Latency:
        total = Histogram.create()
        for histogram in histograms:
            total.merge(histogram)
        earlier = self._latencies.setdefault(name, deque([(now, Histogram.create())]))
        recent = total.since(earlier[0][1])
        seconds = (now - earlier[0][0]) / SECOND
        if now - earlier[-1][0] >= SECOND:
            earlier.append((now, total))
            if len(earlier) > LATENCY_WINDOW_S:
                earlier.popleft()
        return Latency(name, recent.count / seconds if seconds > 0 else 0.0, recent.percentile(50),
                       recent.percentile(99), recent.percentile(99.9), total.max)


# Numbers as text -------------------------------------------------------------------------------------------------


def fixed(value: int, decimals: int, shown: int) -> str:
    """`value` counts of 10^-decimals with `shown` places, exact unless `shown` is fewer than needed."""
    return f"{Decimal(value).scaleb(-decimals):,.{shown}f}"


def places(values: Iterable[int], decimals: int) -> int:
    """How many decimals it takes to show all of them exactly."""
    return max((len(ticks.text(value, decimals, True).partition(".")[2]) for value in values), default=0)


# Drawing ---------------------------------------------------------------------------------------------------------

def venues_of(mask: int) -> list[int]:
    return [venue for venue in range(mask.bit_length()) if mask >> venue & 1]


def title(view: Snapshot, selected: int, width: int) -> Text:
    """The run, the instruments to choose from (marked where some book of theirs is not trusted), the time."""
    left = Text(" mantra ", "bold black on cyan").append(f" {view.run} ", "bold")
    right = Text(f"{'← → instrument   q quit   ' if width >= 100 else ''}{wall(view.utc_ns)} UTC ", "grey62")
    doubted = [any(book.doubted for book in market.books) for market in view.markets]
    names = [f" {market.name}{'!' if doubt else ' '}" for market, doubt in zip(view.markets, doubted, strict=True)]
    first, room = 0, width - left.cell_len - right.cell_len - 2
    while first < selected and sum(len(name) + 1 for name in names[first:selected + 1]) > room:
        first += 1                                                  # scroll until the chosen one is in sight
    for i, name in enumerate(names[first:], first):
        left.append("‹" if i == first > 0 else " ").append(
            name, ("reverse bold " if i == selected else "") + ("dark_orange" if doubted[i] else "grey62"))
    return line(left, right, width)


def spread(market: Market) -> Text:
    """The spread in price and basis points; negative when venues cross each other, and said so."""
    if not (market.bids and market.asks):
        return Text("one side is empty" if market.bids or market.asks else "nothing yet", "grey62")
    ticks = market.asks[0].price - market.bids[0].price
    points = ticks / (market.asks[0].price + market.bids[0].price) * 20_000
    shown = places([ticks], market.price_decimals)
    text = Text("spread ", "grey62").append(fixed(ticks, market.price_decimals, shown), "bold")
    text.append(f"  {points:.2f} bp", "grey62")
    return text.append("  CROSSED", "bold magenta") if ticks < 0 else text


def world(market: Market, levels: int, width: int) -> list[Text]:
    """Both sides of the world view: sizes as bars in their venue's colour, prices meeting in the middle."""
    both = [*market.bids[:levels], *market.asks[:levels]]
    price_places = places((level.price for level in both), market.price_decimals)
    size_places = min(places((level.size for level in both), market.size_decimals), 5 if width >= 100 else 3)
    prices = {level: fixed(level.price, market.price_decimals, price_places) for level in both}
    sizes = {level: fixed(level.size, market.size_decimals, size_places) for level in both}
    price_width = max([5, *map(len, prices.values())])
    size_width = max([4, *map(len, sizes.values())])
    half = (width - 1) // 2
    names = 8 if width >= 70 else 4 if width >= 56 else 0
    bar_width = max(half - price_width - size_width - names - 8, 0)   # two between columns, one at each end
    most = max([1, *(level.size for level in both)])
    widths = [names, -size_width, bar_width, -price_width]              # of the bids; the asks mirror them

    def side(levels: Sequence[Level], i: int, bid: bool) -> list[Text | str]:
        if i >= len(levels):
            return [""] * 4
        level, venues = levels[i], venues_of(levels[i].venues) or [0]
        short = names if len(venues) == 1 else max(names // len(venues) - 1, 1)
        style, price_style = venue_style(NAMES[venues[0]]), "green" if bid else "red"
        return [Text("+").join(Text(NAMES[venue][:short], venue_style(NAMES[venue])) for venue in venues),
                Text(sizes[level], "" if names else style), bar(level.size / most, bar_width, style, leftwards=bid),
                Text(prices[level], f"bold {price_style}" if i == 0 else price_style)]

    def row(bid: Sequence[Text | str], ask: Sequence[Text | str], style: str = "") -> Text:
        left = cells(bid, widths, style)
        left.align("left", half)
        return left.append("│", "grey35").append_text(
            cells(ask[::-1], [-widths[3], bar_width, -size_width, names], style))

    venue = "venue" if names > 4 else ""
    return [row([venue, "size", "", "bid"], [venue, "size", "", "ask"], "grey50"),
            *(row(side(market.bids, i, True), side(market.asks, i, False)) for i in range(levels))]


def trusts(market: Market, utc_ns: int, width: int) -> list[Text]:
    """Each venue's book: its trust, why, since when, and its score in audits; in columns, as many to a line as fit. The
    time of day is told where that takes no more lines."""
    def cell(book: BookState, whole: bool) -> Text:
        style = TRUST_STYLE[book.trust]
        text = Text(no_wrap=True).append(f" {book.venue:<{longest}} ", venue_style(book.venue))
        text.append(f" {book.trust} ", style)
        if book.reason:
            text.append(f" {book.reason}", style.split(" on ")[-1])
        if book.since_utc_ns:
            past = age(utc_ns - book.since_utc_ns)
            text.append(f" since {wall(book.since_utc_ns)} ({past})" if whole else f" {past}", "grey62")
        audited, agreed = (book.counts.get(name, 0) for name in ("audited", "agreed"))
        if audited and (whole or agreed < audited):
            text.append(f" audit {agreed / audited:.1%}", "bold magenta" if agreed < audited else "grey62")
        return text

    def block(whole: bool) -> list[Text]:
        cells = [cell(book, whole) for book in market.books]
        wide = max((text.cell_len for text in cells), default=1)
        beside = max(width // wide, 1)
        rows: list[Text] = []
        for number, text in enumerate(cells):
            text.truncate(width, overflow="ellipsis")
            if number % beside == 0:
                rows.append(Text(no_wrap=True))
            rows[-1].pad_right(number % beside * wide - rows[-1].cell_len)
            rows[-1].append_text(text)
        return rows

    longest = max((len(book.venue) for book in market.books), default=0)
    whole, short = block(True), block(False)
    return whole if len(whole) <= len(short) else short


def feed_rows(view: Snapshot, room: int, width: int) -> list[Text]:
    """As many feeds as there is room for, troubled ones first, and a row for the others."""
    if len(view.feeds) <= room:
        return feeds(view.feeds, view.utc_ns, width)
    ranked = sorted(view.feeds, key=lambda feed: (feed.state == "live", -len(troubles(feed))))
    rest = ranked[max(room - 1, 0):]
    rates = amount(sum(feed.messages_rate for feed in rest))
    return [*feeds(ranked[:max(room - 1, 0)], view.utc_ns, width),
            Text(f" {len(rest)} more, {rates} msg/s", "grey62", no_wrap=True)]


def latencies(view: Snapshot, room: int, width: int) -> list[Text]:
    """A row per path; those of single feeds are set in, and are the first to go."""
    columns = 6 if width >= 68 else 5
    widths = [max(min(width - 10 * (columns - 1) - 1, 40), 12), -8, -8, -8, -8, -8][:columns]
    names = [f"latency, last {LATENCY_WINDOW_S} s", "p50", "p99", "p99.9", "run max", "per s"][:columns]
    rows = [cells(names, widths, "grey50")]
    for latency in view.latencies[:room]:
        path, _, who = latency.name.partition(".")
        label = Text(f"  {who}", "grey62") if who else Text(path.replace("_", " "))
        values = [duration(ns) if latency.rate or ns else "-" for ns in latency[2:]] + [amount(latency.rate)]
        rows.append(cells([label, *(Text(value, "grey62" if who else "") for value in values)][:columns], widths))
    return rows


def screen(view: Snapshot, selected: int, width: int, height: int, banner: str = "") -> Text:
    """The whole screen, exactly as many lines as there are; what matters least is left out first."""
    market = view.markets[selected % len(view.markets)] if view.markets else Market("no instrument yet", 0, 0)
    books = trusts(market, view.utc_ns, width)
    paths = sum("." not in latency.name for latency in view.latencies)
    top = [title(view, selected, width)]
    told = textwrap.wrap(banner, max(width - 2, 10), max_lines=2 if height >= 24 else 1, placeholder=" …")
    top += [line(f" {words}", "", width, "black on yellow") for words in told]
    least = len(top) + 2 + len(books) + 2 + 2                      # headings: book's two, feeds', latencies'
    spare = height - least - paths
    feed_room = max(1, min(len(view.feeds), spare - 5))            # five levels come before the third feed
    spare -= feed_room
    levels = max(1, min(max(len(market.bids), len(market.asks), 5), 10, spare))
    spare -= levels
    detail = min(len(view.latencies) - paths, max(spare - 4, 0))
    spare -= detail
    live = sum(feed.state == "live" for feed in view.feeds)
    air = [[Text()] if spare > i else [] for i in range(4)]
    label = Text(market.name, "bold").append(f"  {spark(market.mids, width // 4)}" if width >= 100 else "", "cyan")
    lines = [*top, *air[1], heading(label, spread(market), width), *world(market, levels, width), *air[3], *books,
             *air[0], heading(Text("feeds", "bold"), Text(f"{live} of {len(view.feeds)} live", "grey62"), width),
             *feed_rows(view, feed_room, width),
             *air[2], *latencies(view, paths + detail, width)][:height]
    for text in lines:
        text.truncate(width)
    return Text("\n", no_wrap=True, end="").join(lines)


# The program -----------------------------------------------------------------------------------------------------


STEERING = b" .ms<>+-"      # keys of `mantra replay`


class Keys:
    """Single keys from the terminal, whatever standard input is; none while it listens to another job, or is none."""

    _fd: int | None = None
    _saved: list[Any] | None = None

    def __enter__(self) -> Keys:
        with contextlib.suppress(OSError):
            self._fd = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
            if os.tcgetpgrp(self._fd) == os.getpgrp():
                self._saved = termios.tcgetattr(self._fd)
                tty.setcbreak(self._fd)
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd is not None:
            if self._saved is not None:
                termios.tcsetattr(self._fd, termios.TCSADRAIN, self._saved)
            os.close(self._fd)

    def wait(self, seconds: float) -> bytes:
        """What was typed within `seconds`; arrows are escape sequences."""
        listening = [self._fd] if self._fd is not None and self._saved is not None else []
        return b"".join(os.read(fd, 16) for fd in select.select(listening, [], [], seconds)[0])


def choose(selected: int, count: int, keys: bytes) -> int:
    """The instrument that these keys select: arrows, tab and n/p step, digits name."""
    forward = keys in (b"\x1b[C", b"\x1b[B", b"\x1bOC", b"\x1bOB", b"\t", b"n", b" ")
    back = keys in (b"\x1b[D", b"\x1b[A", b"\x1bOD", b"\x1bOA", b"\x1b[Z", b"p")
    if keys.isdigit() and 0 < int(keys) <= count:
        return int(keys) - 1
    return (selected + forward - back) % max(count, 1)


def show(reader: Reader, banner: str, refresh: float, keys_to: int | None = None) -> bool:
    """Draw until the run ends, or somebody presses q: then True. Keys that steer a playback go to `keys_to`."""
    region = reader.run.clock.region
    console = Console(highlight=False)
    selected, keys = 0, b""
    with Keys() as keyboard, Live(console=console, screen=True, auto_refresh=False) as live:
        while region is None or region.owner_alive:
            view = reader.read()
            selected = choose(selected, len(view.markets), keys)
            live.update(screen(view, selected, console.width, console.height, banner), refresh=True)
            keys = keyboard.wait(1 / refresh)
            if keys in (b"q", b"Q"):
                return True
            if keys_to is not None and keys and keys in STEERING:
                os.write(keys_to, keys)
                keys = b""
    return False


@door("mantra ui")
def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="mantra ui", description="A run on one screen.",
                    epilog="keys: arrows or digits choose the instrument, q leaves")
    add = parser.add_argument
    add("--run", help="name of the run (default: the only one there is)")
    add("--banner", default="", help="a line to keep in sight")
    add("--refresh", type=float, default=4, metavar="PER_SECOND", help="default 4")
    add("--once", action="store_true", help="print one screen after a second of watching, and leave")
    add("--keys-to", type=int, help=argparse.SUPPRESS)      # a pipe of who plays the run
    options = parser.parse_args(argv)
    if not 0 < options.refresh <= 60:
        parser.error("--refresh must be above 0, at most 60")
    if not options.once and not sys.stdout.isatty():
        parser.error("standard output is not a terminal: --once prints one screen")
    launcher = os.getppid() if "MANTRA_PARENT" in os.environ else None
    child.follow_parent()

    def leave(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)       # once: what follows gives the terminal its screen back
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, leave)
    with mantra.attach(options.run) as run:
        reader = Reader(run)
        if options.once:
            reader.read()
            time.sleep(1)
            size = shutil.get_terminal_size((100, 34))
            Console(width=size.columns, highlight=False).print(
                screen(reader.read(), 0, size.columns, size.lines - 1, options.banner))
        elif show(reader, options.banner, options.refresh, options.keys_to) and launcher is not None:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.kill(launcher, signal.SIGINT)    # who started us and the feeds together ends them together
    return 0


if __name__ == "__main__":
    sys.exit(main())
