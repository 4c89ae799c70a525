"""drawing: numbers and tables as text on a screen, and what every screen shows alike. Pure functions to rich text."""
from __future__ import annotations

import time
from collections.abc import Sequence

from rich.text import Text

from mantra.telemetry.collector import LOSSES, Feed
from mantra.venues import NAMES

SECOND = 1_000_000_000

# Of feeds, then of actors.
STATE_STYLE = {"live": "green", "synchronising": "yellow", "subscribing": "yellow", "connecting": "yellow",
               "waiting": "dark_orange", "refused": "bold red", "off": "red",
               "running": "green", "starting": "yellow", "restarting": "dark_orange", "failed": "bold red",
               "stopped": "grey62"}
TRUST_STYLE = {"down": "bold white on red", "stale": "black on dark_orange", "suspect": "bold white on red3",
               "unverified": "yellow", "verified": "green"}
VENUE_STYLE = ("gold3", "spring_green3", "sky_blue2", "dodger_blue2", "medium_purple1")
# What a feed lost, and what else it had to repair; the rest of the ledger is traffic.
TROUBLES = (*LOSSES, "resyncs", "reconnects", "crosses", "finer", "unknown_symbols", "refused", "unknown_deletes")


def duration(ns: float) -> str:
    """Three digits and a unit: 831 ns, 1.24 us, 12.1 ms, 2.50 s."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if ns >= size * 0.9995:
            value = ns / size
            return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f} {unit}"
    return f"{ns:.3g} ns"


def age(ns: int) -> str:
    """How long, for people: 3s, 4m07s, 2h05m, 3d04h."""
    seconds = max(ns, 0) // SECOND
    for unit, size, part, smaller in (("d", 86400, 3600, "h"), ("h", 3600, 60, "m"), ("m", 60, 1, "s")):
        if seconds >= size:
            return f"{seconds // size}{unit}{seconds % size // part:02d}{smaller}"
    return f"{seconds}s"


def amount(rate: float) -> str:
    """A rate in four characters or so: 0, 3.4, 812, 35.0k, 1.2M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if rate >= size * 0.9995:
            return f"{rate / size:.1f}{unit}"
    return f"{rate:.0f}" if rate >= 9.95 or rate == 0 else f"{rate:.1f}"


def wall(utc_ns: int) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(utc_ns // SECOND))


EIGHTHS = ("", *"▏▎▍▌▋▊▉")
SPARKS = "▁▂▃▄▅▆▇█"


def bar(fraction: float, width: int, style: str, *, leftwards: bool = False) -> Text:
    """A bar of `fraction` of `width` cells, to an eighth of a cell; `leftwards` grows from the right edge."""
    eighths = max(1, round(min(max(fraction, 0.0), 1.0) * width * 8)) if width else 0
    full, part = divmod(eighths, 8)
    blank, text = " " * (width - full - (part > 0)), Text(no_wrap=True)
    if not leftwards:
        return text.append("█" * full + EIGHTHS[part], style).append(blank)
    # There are no blocks that fill from the right: invert one that fills from the left.
    return text.append(blank).append(EIGHTHS[(8 - part) % 8], f"{style} reverse").append("█" * full, style)


def spark(values: Sequence[float], width: int) -> str:
    """The latest `width` values as a line of little bars."""
    values = values[-width:]
    if not values:
        return " " * width
    low, high = min(values), max(values)
    steps = (int((value - low) / (high - low) * 7.99) if high > low else 3 for value in values)
    return "".join(SPARKS[step] for step in steps).rjust(width)


def venue_style(venue: str) -> str:
    return VENUE_STYLE[NAMES.index(venue) % len(VENUE_STYLE)]


def line(left: Text | str, right: Text | str, width: int, style: str = "", fill: str = " ") -> Text:
    """One line, both ends set; the left end gives way when they do not fit."""
    left, right = Text().append(left), Text().append(right)
    right.truncate(width)
    left.truncate(max(width - right.cell_len - 1, 0), overflow="ellipsis")
    gap = width - left.cell_len - right.cell_len
    return Text(no_wrap=True, style=style).append_text(left).append(
        fill * gap, "grey35" if fill != " " else "").append_text(right)


def heading(words: Text, right: Text, width: int) -> Text:
    """A rule with words in it."""
    return line(Text("── ", "grey35").append_text(words).append(" "),
                Text(" ").append_text(right).append(" ──", "grey35"), width, fill="─")


def cells(values: Sequence[Text | str], widths: Sequence[int], style: str = "") -> Text:
    """A table row: a negative width is set right, 0 leaves the column out. What does not fit ends in an ellipsis."""
    text = Text(no_wrap=True, style=style)
    for value, width in zip(values, widths, strict=True):
        if width == 0:
            continue
        cell = Text().append(value)
        cell.truncate(abs(width), overflow="ellipsis")
        cell.align("right" if width < 0 else "left", abs(width))
        text.append("  " if text else " ").append_text(cell)
    return text


def troubles(feed: Feed) -> list[tuple[str, int]]:
    """What it lost or had to repair."""
    return [(name, feed.counts[name]) for name in TROUBLES if feed.counts.get(name)]


def feeds(rows: Sequence[Feed], utc_ns: int, width: int) -> list[Text]:
    """The column names, then a row per connection."""
    longest = max([4, *(len(feed.name) for feed in rows)])
    columns = [(name, size) for name, size, least in (              # the narrowest screen that has the column
        ("feed", min(longest, 16), 0), ("state", 13, 0), ("since", -6, 72), ("msg/s", -6, 0), ("upd/s", -6, 72),
        ("B/s", -6, 96), ("heard", -6, 0), ("rate", 16, 110)) if width >= least]
    used = sum(abs(size) + 2 for _, size in columns)
    columns.append(("lost, repaired", max(width - used - 1, 0)))
    names, widths = zip(*columns, strict=True)

    def row(feed: Feed) -> Text:
        silent = utc_ns - feed.heard_ns if feed.heard_ns else None
        lost = ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in troubles(feed))
        values: dict[str, Text | str] = {
            "feed": Text(feed.name, venue_style(feed.venue)),
            "state": Text(feed.state, STATE_STYLE[feed.state]),
            "since": Text(age(utc_ns - feed.since_ns) if feed.since_ns else "", "grey62"),
            "msg/s": amount(feed.messages_rate), "upd/s": amount(feed.updates_rate), "B/s": amount(feed.bytes_rate),
            "heard": Text("-" if silent is None else age(silent), "grey62"),
            "rate": Text(spark(feed.rates, 16), venue_style(feed.venue)),
            "lost, repaired": Text(lost or "nothing", "dark_orange" if lost else "grey50"),
        }
        return cells([values[name] for name in names], widths)

    return [cells(names, widths, "grey50"), *map(row, rows)]
