"""board: what the timekeeper shows, as pure functions from a snapshot and what its user chose to rich text.

Sections of rows (actors, queues, feeds, latencies, meters), one row chosen, and below them the distribution behind that
row; or the lineage of a message as a waterfall. `screen` draws all of it in as many lines as there are, `press` is what
a key does.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any, NamedTuple

from rich.text import Text

from mantra.telemetry.collector import STEPS, Actor, Distribution, Feed, Meter, QueueState, Snapshot
from mantra.telemetry.drawing import (
    SPARKS,
    STATE_STYLE,
    TRUST_STYLE,
    age,
    amount,
    cells,
    duration,
    feeds,
    heading,
    line,
    troubles,
    wall,
)
from mantra.telemetry.lineage import LineageState, Path

WAITED, WORKED, BAD = "sky_blue2", "spring_green3", "dark_orange"
KEYS = (("↑ ↓ tab", "choose a row, the next section"), ("s, S", "sort by the next column, the other way round; "
        "or click on a column's name"), ("/", "show rows whose name holds what you type; escape: all"),
        ("l", "lineage: where the time of a message went; ← → another message"), ("space", "pause the picture"),
        ("r", "reset: distributions, overruns and missed begin anew"), ("?", "this help"),
        ("q", "leave; the run goes on"))
ABOUT = (("waited", "latency: how long a message stood in its queue until the actor took it"),
         ("worked", "processing: until the actor took the next or found nothing; of a feed: from bytes to top"),
         ("busy", "share of one core's time spent working"), ("lag", "messages waiting now"),
         ("lost", "overruns: messages overwritten before they were taken"),
         ("missed", "timings that this program came too late for: distributions are then of a sample"))


@dataclass(frozen=True)
class Choice:
    """What the user chose: a row by section and name, an order by section, which rows, and what else is shown."""

    section: str = "actors"
    name: str = ""
    order: dict[str, tuple[str, bool]] = field(default_factory=dict)    # column, descending
    filter: str = ""
    typing: bool = False
    paused: bool = False
    help: bool = False
    lineage: str = ""


class Column(NamedTuple):
    """`width` as in `drawing.cells`; shown on screens of at least `least` columns."""

    name: str
    width: int
    least: int
    show: Callable[[Any], Text | str]
    key: Callable[[Any], Any]


class Section(NamedTuple):
    title: str
    columns: tuple[Column, ...]
    rows: Sequence[Any]         # each has a name
    right: str


class Row(NamedTuple):
    """A row that has no type of its own."""

    name: str
    value: Any


# The sections ----------------------------------------------------------------------------------------------------


def counted(n: int) -> Text | str:
    """A number that should be 0."""
    return Text(f"{n:,}" if n < 100_000 else amount(n), BAD) if n else Text("0", "grey50")


def column(name: str, width: int, of: str, show: Callable[[Any], Text | str] = str, style: str = "",
           least: int = 0) -> Column:
    """Of a row's attribute, shown by `show`."""
    key = attrgetter(of)
    return Column(name, width, least, lambda row: Text(style=style).append(show(key(row))), key)


def times(of: str, style: str, leasts: Sequence[int]) -> list[Column]:
    """p50 ... max of a row's distribution."""
    return [column(f"{of} {percent}", -7, f"{of}.{percent}",
                   lambda ns: Text(duration(ns)) if ns else Text("-", "grey50"), style, least)
            for percent, least in zip(("p50", "p90", "p99", "p999", "max"), leasts, strict=True)]


ACTORS = (
    column("actor", 14, "name", style="bold"),
    column("state", 10, "state", lambda state: Text(state, STATE_STYLE[state])),
    column("msg/s", -6, "rate", amount), column("busy", -6, "busy_share", "{:.1%}".format),
    column("lag", -6, "lag", counted), column("lost", -6, "overruns", counted),
    *times("latency", WAITED, (0, 152, 0, 152, 120)), *times("processing", WORKED, (0, 152, 0, 152, 120)))
QUEUES = (
    column("queue", 22, "name"), column("message", 8, "message", style="grey62", least=80),
    column("kind", 5, "kind", style="grey62", least=120),
    column("capacity", -8, "capacity", "{:,}".format, "grey62", 110),
    column("produced", -13, "produced", "{:,}".format), column("msg/s", -6, "rate", amount),
    column("writers", -7, "producers", least=100),
    column("lag", -6, "lag", counted),
    column("lost", -6, "overruns", counted),
    column("read by", 0, "read_by", lambda actors: actors or Text("nobody", "grey50")))
LATENCIES = (column("of the run", 34, "name", lambda name: name.replace("_", " ").replace(".", "  ", 1)),
             column("count", -11, "value.count", "{:,}".format), *times("value", "", (0, 80, 0, 90, 0)))
METERS = (column("meter", 34, "name"),
          column("value", -16, "value.value", "{:,.6g}".format),
          column("per s", -6, "value.rate", amount))
BOOKS = (column("book", 20, "name"),
         column("trust", 10, "trust", lambda trust: Text(trust, TRUST_STYLE.get(trust, ""))),
         column("why", 13, "reason"), column("since", 8, "since_utc_ns", lambda ns: wall(ns) if ns else ""),
         column("not trusted", -11, "counts", lambda counts: duration(counts.get("distrusted_ns", 0))),
         column("lost", 0, "losses", lambda lost: lost or "nothing"))
FEEDS = (column("feed", 0, "name"),)       # drawn by drawing.feeds


def sections(view: Snapshot, choice: Choice) -> list[Section]:
    """All that there is to show, chosen and in order; without those that are empty."""
    live = sum(feed.state == "live" for feed in view.feeds)
    running = sum(actor.state == "running" for actor in view.actors)
    missed = sum(actor.missed for actor in view.actors)
    timers = [Row(name, told) for name, told in (view.timers | view.histograms).items()]
    made = [
        Section("actors", ACTORS, view.actors, f"{running} of {len(view.actors)} running"
                + (f", {missed:,} timings missed" if missed else "")),
        Section("queues", QUEUES, view.queues, f"{amount(sum(queue.rate for queue in view.queues))} msg/s"),
        Section("feeds", FEEDS, view.feeds, f"{live} of {len(view.feeds)} live"),
        Section("books", BOOKS, view.books, "that lost something or are not trusted"),
        Section("latencies", LATENCIES, timers, f"{view.seconds:.0f} s watched"),
        Section("meters", METERS, [Row(f"{one.actor}.{one.name}", one) for one in view.counters + view.gauges],
                "counters and gauges")]
    result = []
    for section in made:
        rows = [row for row in section.rows if choice.filter.lower() in row.name.lower()]
        if section.title in choice.order:
            name, descending = choice.order[section.title]
            key = next(column.key for column in section.columns if column.name == name)
            rows.sort(key=key, reverse=descending)
        if rows:
            result.append(section._replace(rows=rows))
    return result


def chosen(view: Snapshot, choice: Choice) -> tuple[str, Any]:
    """The section and row under the cursor: the one chosen while it is there, else the first."""
    shown = sections(view, choice)
    for section in shown:
        if section.title == choice.section:
            return section.title, next((row for row in section.rows if row.name == choice.name), section.rows[0])
    return (shown[0].title, shown[0].rows[0]) if shown else ("", None)


def press(choice: Choice, view: Snapshot, key: str, character: str = "", others: Sequence[str] = ()) -> Choice:
    """What a key does to the choice; `others`: what lineage could be of."""
    if choice.typing:
        if key in ("enter", "escape"):
            return replace(choice, typing=False, filter=choice.filter if key == "enter" else "")
        if key == "backspace":
            return replace(choice, filter=choice.filter[:-1])
        return replace(choice, filter=choice.filter + (character if character.isprintable() else ""))
    if key == "escape":
        return replace(choice, help=False, lineage="", filter="")
    if key == "space":
        return replace(choice, paused=not choice.paused)
    if character == "?":
        return replace(choice, help=not choice.help)
    if character == "/":
        return replace(choice, typing=True, filter="", help=False, lineage="")
    if key == "l":
        return replace(choice, lineage="" if choice.lineage else default_message(view, choice, others), help=False)
    if choice.lineage:
        if key in ("left", "right") and others:
            place = others.index(choice.lineage) if choice.lineage in others else 0
            return replace(choice, lineage=others[(place + (1 if key == "right" else -1)) % len(others)])
        return choice
    shown = sections(view, choice)
    places = [(section.title, row.name) for section in shown for row in section.rows]
    if not places:
        return choice
    title, row = chosen(view, choice)
    at, titles = places.index((title, row.name)), [section.title for section in shown]
    if key in ("tab", "shift+tab"):
        next_title = titles[(titles.index(title) + (1 if key == "tab" else -1)) % len(titles)]
        at = next(i for i, (other, _) in enumerate(places) if other == next_title)
    elif character in ("s", "S"):
        names = [column.name for section in shown if section.title == title for column in section.columns]
        name = choice.order.get(title, (names[-1], False))[0]
        return order(choice, title, name if character == "S" else names[(names.index(name) + 1) % len(names)])
    else:
        at += {"up": -1, "k": -1, "down": 1, "j": 1, "pageup": -10, "pagedown": 10, "home": -len(places),
               "end": len(places)}.get(key, 0)
    section, name = places[min(max(at, 0), len(places) - 1)]
    return replace(choice, section=section, name=name)


def order(choice: Choice, section: str, column: str) -> Choice:
    """Sort `section` by `column`, most first; by the one it is sorted by already: the other way round."""
    name, descending = choice.order.get(section, ("", False))
    now = not descending if name == column else column not in ("actor", "queue", "feed", "state")
    return replace(choice, order=choice.order | {section: (column, now)})


def default_message(view: Snapshot, choice: Choice, others: Sequence[str]) -> str:
    """What lineage is of at first: the chosen queue's family, else what lies farthest from the sockets."""
    title, row = chosen(view, choice)
    if title == "queues":
        return str(row.name).partition(".")[0]
    return next((name for name in ("world", *others) if name in others), "world")


# Drawing ---------------------------------------------------------------------------------------------------------


def title(view: Snapshot, choice: Choice, width: int, keys: str = "") -> Text:
    left = Text(" mantra ", "bold black on cyan").append(f" timekeeper  {view.run} ", "bold")
    clock = view.clock
    if width >= 120:
        left.append(f"  {clock.kind} {clock.mhz:,.0f} MHz, UTC ± {duration(clock.error_ns)}"
                    + (f", set {clock.steps} times" if clock.steps else ""), "grey62")
    if choice.paused:
        left.append("  PAUSED ", "bold black on yellow")
    if choice.typing or choice.filter:
        left.append("  /", "bold yellow").append(choice.filter + ("▏" if choice.typing else ""), "yellow")
    now = f"{wall(view.utc_ns)} UTC "
    return line(left, Text((keys if left.cell_len + len(keys + now) < width else "") + now, "grey62"), width)


def table(section: Section, choice: Choice, selected: str, room: int, utc_ns: int, width: int) -> list[Text]:
    """A heading, the columns' names and as many rows as there is room for, the selected one in sight."""
    rows = section.rows
    at = next((i for i, row in enumerate(rows) if row.name == selected), 0)
    first = min(max(at - room // 2, 0), max(len(rows) - room, 0))
    part = rows[first:first + room]
    scrolled = f"{first + 1} to {first + len(part)} of {len(rows)}   " if len(part) < len(rows) else ""
    lines = [heading(Text(section.title, "bold"), Text(scrolled + section.right, "grey62"), width)]
    if section.title == "feeds":
        lines += feeds(part, utc_ns, width)
    else:
        columns = [column for column in section.columns if width >= column.least]
        used = sum(abs(column.width) + 2 for column in columns)
        widths = [column.width or max(width - used + 1, 8) for column in columns]
        if any(column.name.startswith("latency") for column in columns):
            lines.append(groups(columns, widths))
        lines.append(names(section.title, columns, widths, choice))
        lines += [cells([column.show(row) for column in columns], widths) for row in part]
    for i, row in enumerate(part, len(lines) - len(part)):
        lines[i].align("left", width)
        lines[i].apply_meta({"@click": f"app.choose({section.title!r}, {row.name!r})"})
        if row.name == selected:
            lines[i] = Text("▌", "cyan").append_text(lines[i][1:])
            lines[i].stylize("bold")
    return lines


def names(title: str, columns: Sequence[Column], widths: Sequence[int], choice: Choice) -> Text:
    """The columns' names; the one that the rows are in order of is marked, each can be clicked on."""
    sorted_by, descending = choice.order.get(title, ("", False))
    shown: list[Text] = []
    for column in columns:
        text = Text(column.name.rpartition(" ")[2].replace("p999", "p99.9") if column.width == -7 else column.name)
        if column.name == sorted_by:
            text = Text(f"{text.plain}{'↓' if descending else '↑'}", "bold")
        text.apply_meta({"@click": f"app.sort({title!r}, {column.name!r})"})
        shown.append(text)
    return cells(shown, widths, "grey50")


def groups(columns: Sequence[Column], widths: Sequence[int]) -> Text:
    """What several columns are of, in a line above their names."""
    text, at = Text(no_wrap=True), 1
    for of, label, style in (("latency", "waited in queue", WAITED), ("processing", "worked on it", WORKED)):
        mine = [i for i, column in enumerate(columns) if column.name.startswith(of)]
        begin = at + sum(abs(width) + 2 for width in widths[:mine[0]])
        end = begin + sum(abs(widths[i]) + 2 for i in mine) - 2
        text.append(" " * (begin - text.cell_len))
        text.append(f" {label} ".center(end - begin, "─"), style)
    return text


def histogram(told: Distribution, label: str, style: str, width: int, height: int) -> list[Text]:
    """A distribution drawn: its percentiles, bars over a logarithmic axis, the axis."""
    head = Text(f" {label}  ", style, no_wrap=True)
    if not told.count:
        return [head.append("nothing yet", "grey50"), *[Text()] * (height - 1)]
    for name, ns in (("p50", told.p50), ("p90", told.p90), ("p99", told.p99), ("p99.9", told.p999), ("max", told.max)):
        head.append(f"{name} ", "grey50").append(f"{duration(ns)}  ")
    head.append(f"of {amount(told.count)}", "grey50")       # what a narrow screen leaves out
    low = told.buckets[0][0].bit_length() - 1
    octaves = max(max(told.max, 1).bit_length() - low, 4)
    across = max(width - 3, 8) / octaves / STEPS     # cells a bucket; what is drawn is whole cells
    across = float(int(across)) if across >= 1 else 1 / math.ceil(1 / across)
    bars = [0] * math.ceil(octaves * STEPS * across)
    for value, n in told.buckets:
        first = int((step(value) - low * STEPS) * across)
        for i in range(first, max(first + int(across), first + 1)):
            bars[i] += n
    most = max(bars)
    rows = []
    for level in range(height - 2, 0, -1):
        above = (level - 1) * 8
        eighths = (max(min(round(n / most * (height - 2) * 8) - above, 8), level == 1 and n > 0) for n in bars)
        rows.append(Text("  " + "".join(SPARKS[n - 1] if n > 0 else " " for n in eighths), style, no_wrap=True))
    axis = " " * width
    for ns in (factor * 10**power for factor in (1, 2, 5) for power in range(13)):      # decades before what is between
        at = 2 + int((step(ns) - low * STEPS) * across)
        said = "╵" + duration(ns).replace(".00 ", " ").replace(".0 ", " ")
        if at >= 2 and not axis[at - 2:(end := at + len(said)) + 2].strip() and end < width:
            axis = axis[:at] + said + axis[end:]
    head.truncate(width, overflow="ellipsis")
    return [head, *rows, Text(axis, "grey50", no_wrap=True)]


def step(ns: int) -> int:
    """Which bucket a value falls into, counted from 1 ns."""
    return math.floor(math.log2(max(ns, 1)) * STEPS + 1e-9)


def detail(view: Snapshot, choice: Choice, height: int, width: int) -> list[Text]:
    """What is behind the chosen row."""
    kind, row = chosen(view, choice)
    name, right, lines = Text(row.name if row else "nothing", "bold"), "", []
    match row:
        case Actor():
            right = f"{row.kind}, pid {row.pid}" + (f", core {row.core}" if row.core >= 0 else "") + "".join(
                f", {what} {n:,}" for what, n in (("restarts", row.restarts), ("failures", row.failures),
                                                  ("timings missed", row.missed)) if n)
            drawn = [(row.latency, "waited", WAITED)] * (row.latency.count > 0) + [(row.processing, "worked", WORKED)]
            beside = len(drawn) > 1 and width >= 150
            size = (width // 2 - 1, height - 1) if beside else (width, (height - 1) // len(drawn))
            parts = [histogram(*part, *size) for part in drawn]
            lines = [cells(pair, (size[0], size[0])) for pair in zip(*parts, strict=True)] if beside else [
                text for part in parts for text in part]
        case QueueState():
            right = f"{row.message}, {row.kind}, {row.capacity:,} slots, writers {row.producers}" + "".join(
                f", {what} {n:,}" for what, n in (("abandoned", row.abandoned), ("burnt", row.burnt)) if n)
            widths = (24, -10, -8, -8, max(width - 64, 4))
            lines = [cells(("read by", "lag", "msg/s", "lost", ""), widths, "grey50")] + [
                cells((reader.actor, counted(reader.lag), amount(reader.rate), counted(reader.overruns),
                       Text("█" * round(min(reader.lag / row.capacity, 1.0) * widths[4]), BAD)), widths)
                for reader in row.readers]
        case Feed():
            right = f"{row.venue}, {row.state} for {age(view.utc_ns - row.since_ns)}"
            bad = {what for what, _ in troubles(row)}
            told = [Text(f"{what.replace('_', ' ')} ", "grey62").append(f"{n:,}", BAD if what in bad else "")
                    for what, n in row.counts.items() if n and not what.startswith(("state", "last_"))]
            across = max(width // 30, 1)
            lines = [cells(told[i:i + across], [28] * len(told[i:i + across])) for i in range(0, len(told), across)]
        case Row(value=Distribution()):
            lines = histogram(row.value, "ns", WORKED, width, height - 1)
        case Row(value=Meter()):
            right = f"{kind[:-1]} of {row.value.actor}"
    return [heading(name, Text(right, "grey62"), width), *lines][:height]


def waterfall(path: Path, width: int) -> list[Text]:
    """One way from the origin, a line per hop: its percentiles, and when it began and ended by the medians."""
    label = max([14, *(len(segment.who) + 10 for segment in path.segments)])
    percents = ("p50", "p90", "p99", "p999") if width >= label + 56 else ("p50", "p99")
    widths = [label, *[-8] * len(percents)]
    room = width - label - 10 * len(percents) - 5
    whole = sum(segment.ns.p50 for segment in path.segments) or 1

    def row(who: Text | str, told: Distribution, bar: Text) -> Text:
        values = (duration(getattr(told, percent)) for percent in percents)
        return cells([who, *values], widths).append("   ").append_text(bar)

    rows, began = [cells(["", *(name.replace("p999", "p99.9") for name in percents)], widths, "grey50")], 0
    for segment in path.segments:
        ended = began + segment.ns.p50
        first, last = (round(ns / whole * room) for ns in (began, ended))
        fill, style, says = ("░", WAITED, f"waits in {segment.who}") if segment.waited else (
            "█", WORKED, f"{segment.who} works")
        bar = Text(" " * min(first, max(room - 1, 0))).append(fill * (last - first) or "▏", style)
        rows.append(row(Text(says, style), segment.ns, bar))
        began = ended
    return [*rows, row(Text("origin to published", "bold"), path.total, Text("─" * room, "grey35"))]


def lineage(state: LineageState | None, height: int, width: int) -> list[Text]:
    """Every way that a message took, as many as there is room for."""
    if state is None:
        return []
    share = f"{state.matched / state.seen:.1%} of {state.seen:,} followed" if state.seen else "nothing published yet"
    head = Text("lineage of ").append(state.message, "bold")
    lines = [heading(head, Text(f"{share}   ← → another", "grey62"), width)]
    for path in state.paths:
        actors = [segment.who for segment in path.segments if not segment.waited]
        part = [Text(), Text(f" {' → '.join(actors)}  ", "bold").append(f"{path.total.count:,} messages", "grey62"),
                *waterfall(path, width)]
        if len(lines) + len(part) > height and len(lines) > 1:
            lines.append(Text(f" {len(state.paths)} ways in all", "grey62"))
            break
        lines += part
    return lines


def help_lines(width: int) -> list[Text]:
    lines = [heading(Text("keys", "bold"), Text("escape or ? closes this", "grey62"), width)]
    lines += [cells([Text(key, "bold"), what], [10, width - 14]) for key, what in KEYS]
    lines += [Text(), heading(Text("words", "bold"), Text("as used here", "grey62"), width)]
    return lines + [cells([Text(word, "bold"), what], [10, width - 14]) for word, what in ABOUT]


def screen(view: Snapshot, choice: Choice, followed: LineageState | None, width: int, height: int) -> list[Text]:
    """The whole screen, at most `height` lines of at most `width` cells."""
    lines = [title(view, choice, width, "/ filter   s sort   l lineage   ? help   q quit   ")]
    shown = sections(view, choice)
    if choice.help:
        lines += [Text(), *help_lines(width)]
    elif choice.lineage:
        lines += [Text(), *lineage(followed, height - 2, width)]
    elif not shown:
        lines += [Text(), Text(f" nothing is called {choice.filter!r}" if choice.filter else " nothing to see yet")]
    else:
        kind, row = chosen(view, choice)
        below = min(max(height // 4, 7), 14) if height >= 20 else 0
        heads = [3 if section.title == "actors" else 2 for section in shown]
        spare = height - 1 - below - sum(heads)
        rooms = share_out(spare, [len(section.rows) for section in shown])
        air = spare - sum(rooms) >= len(shown)
        for section, room in zip(shown, rooms, strict=True):
            if room > 0:
                lines += [Text()] * air
                lines += table(section, choice, row.name if section.title == kind else "", room, view.utc_ns, width)
        if below:
            room = min(height - len(lines) - air, 16)
            lines += [*[Text()] * air, *detail(view, choice, room, width)]
    for text in lines:
        text.truncate(width)
    return lines[:height]


def share_out(room: int, wanted: Sequence[int]) -> list[int]:
    """`room` lines among sections that want so many: one each in turn, the first section two."""
    given = [0] * len(wanted)
    while room > 0 and given != list(wanted):
        for i, most in enumerate(wanted):
            more = max(min(2 if i == 0 else 1, most - given[i], room), 0)
            given[i], room = given[i] + more, room - more
    return given


def plain(view: Snapshot, followed: LineageState | None, width: int) -> str:
    """Everything as aligned text, for pipes."""
    choice, lines = Choice(), [title(view, Choice(), width)]
    if followed is not None:
        lines += [Text(), *lineage(followed, 10_000, width)]
    else:
        for section in sections(view, choice):
            lines += [Text(), *table(section, choice, "", len(section.rows), view.utc_ns, width)]
    return "\n".join(text.plain.rstrip() for text in lines)
