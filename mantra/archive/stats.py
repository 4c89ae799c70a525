"""stats: what a recording is like: how fast, in what bursts, how deep, how near the best: `mantra archive stats`.

An archive has what changed its books. A recording of frames also names levels that were as it says already, or never
there: so its messages are a little larger, and more of them removals.
"""
from __future__ import annotations

import argparse
import json
import sys
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.bar import Bar
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from mantra import venues
from mantra.archive.archive import Archive, moment
from mantra.archive.exports import SNAPSHOT, whole
from mantra.client.recorded import Recorded, RecordedFeed, Survey
from mantra.core.messages import Flag, Kind
from mantra.core.plugin import Kind as Part
from mantra.errors import ConfigurationError
from mantra.runtime.options import Parser, door
from mantra.tape import lines
from mantra.venues.venue import Venue

BEST = (1, 10, 100)
BURSTS_MS = (1, 10, 100)
SPARKS = "▁▂▃▄▅▆▇█"

Change = tuple[int, int, int]       # side, price, size


@dataclass
class Shape:
    """What is known of one book's messages, from the moment on when it was whole. Sides are cut to `keep` levels, if it
    is not 0. A level's rank is how many better ones there were on its side when its message came to it."""

    venue: str
    instrument: str
    keep: int = 0
    times: list[int] = field(default_factory=list)      # ns; 0: not told
    levels: list[int] = field(default_factory=list)     # in each
    bytes: list[int] = field(default_factory=list)      # of frames, where there are any
    removals: int = 0
    ranks: Counter[int] = field(default_factory=Counter)
    sides: dict[int, list[int]] = field(default_factory=dict)      # prices, the better the less; none: not whole yet

    def replace(self, changes: Sequence[Change]) -> None:
        """The whole book."""
        self.sides = {side: sorted(-price if side == Kind.BID else price for of, price, _ in changes if of == side)
                      for side in (Kind.BID, Kind.ASK)}

    def change(self, changes: Sequence[Change]) -> list[int]:
        """Levels; their ranks."""
        ranks = []
        for side, price, size in changes:
            prices, key = self.sides[side], -price if side == Kind.BID else price
            rank = bisect_left(prices, key)
            there = rank < len(prices) and prices[rank] == key
            if size and not there:
                prices.insert(rank, key)
            elif there and not size:
                del prices[rank]
            ranks.append(rank)
        for prices in self.sides.values() if self.keep else ():
            del prices[self.keep:]
        return ranks

    def message(self, time_ns: int, changes: Sequence[Change], size: int = 0) -> None:
        """A change to it; `size`: of the frame."""
        if not self.sides or not changes:
            return
        self.times.append(time_ns)
        self.levels.append(len(changes))
        if size:
            self.bytes.append(size)
        self.removals += sum(not size for _, _, size in changes)
        self.ranks.update(self.change(changes))

    def told(self) -> dict[str, Any]:
        """As `--json` has it."""
        levels, times = np.array(self.levels), np.sort(np.array(self.times))
        total = max(1, int(levels.sum()))
        told = {"venue": self.venue, "instrument": self.instrument, "messages": len(levels),
                "updates": int(levels.sum()), "levels": spread(levels, (50, 90, 99)),
                "removals": round(self.removals / total, 3),
                "best": {str(n): round(sum(self.ranks[rank] for rank in range(n)) / total, 3) for n in BEST}}
        if self.bytes:
            told["bytes"] = spread(np.array(self.bytes), (50, 90, 99))
        if len(times) > 1 and times[0] > 0:
            told |= rates(times)
        return told


def spread(numbers: NDArray[Any], percents: Sequence[int], digits: int = 0) -> dict[str, float]:
    """Percentiles, and the largest; each is one of the numbers."""
    ordered = np.sort(numbers)
    found = {f"p{percent}": ordered[len(ordered) * percent // 100] for percent in percents} | {"max": ordered[-1]}
    return {name: round(float(value), digits) if digits else int(value) for name, value in found.items()}


def rates(times: NDArray[np.int64]) -> dict[str, Any]:
    """How messages at these times (ns, in order) come."""
    span = max(int(times[-1] - times[0]), 1)
    bursts = {str(ms): int((np.searchsorted(times, times + ms * 10**6, "left") - np.arange(len(times))).max())
              for ms in BURSTS_MS}
    seconds = times // 10**9 - times[0] // 10**9
    return {"seconds": round(span / 1e9, 3), "per_second": round(len(times) * 1e9 / span, 1),
            "peak_second": int(np.bincount(seconds).max()), "bursts_ms": bursts,
            "between_ms": spread(np.diff(times) / 1e6, (10, 50, 90, 99), 2)}


def of_archive(archive: Archive, chosen: tuple[Any, ...], progress: Progress) -> list[Shape]:
    """The books of an archive."""
    task = progress.add_task("reading", total=sum(entry.streams.get("updates", [0])[0] for entry in archive.entries))
    shapes: dict[tuple[int, int], Shape] = {}
    names = {row[1]: entry.named(row[1]) for entry in archive.entries for row in entry.held}
    held = {reader_venue: name for entry in archive.entries for reader_venue, name in archive._reader(
        entry.path).table.venues.items()}
    for rows in whole(archive, *chosen):
        progress.advance(task, len(rows))
        pairs = np.unique(rows[["venue", "instrument"]])
        for venue, instrument in pairs.tolist():
            key = venue, instrument
            if key not in shapes:
                shapes[key] = Shape(held.get(venue, str(venue)), names.get(instrument, str(instrument)))
            mine = rows[(rows["venue"] == venue) & (rows["instrument"] == instrument)] if len(pairs) > 1 else rows
            take(shapes[key], mine)
    return [shape for shape in shapes.values() if shape.levels]


def take(shape: Shape, rows: NDArray[np.void]) -> None:
    """Updates of one book."""
    times, kinds, flags = rows["origin"].tolist(), rows["kind"], rows["flags"]
    changes = rows[["kind", "price", "size"]].tolist()
    start = 0
    for stop in (np.flatnonzero(flags & Flag.MORE == 0) + 1).tolist():
        if kinds[start] == Kind.RESET:
            shape.replace([])
            start += 1
        levels = [change for change in changes[start:stop] if change[0] in (Kind.BID, Kind.ASK)]
        if start < stop and flags[start] & SNAPSHOT:
            shape.change(levels)
        elif levels:
            shape.message(times[start], levels)
        start = stop


def of_recording(venue: Venue, paths: Sequence[Path], progress: Progress) -> list[Shape]:
    """The books of a recording of frames, as they are told."""
    def pieces() -> Iterator[Recorded]:
        return Recorded.pieces(venue, lines.read(paths, venue.name))

    task = progress.add_task("reading", total=None)
    survey = Survey(venue, pieces())
    progress.update(task, total=survey.messages)
    made = RecordedFeed(venue, survey.symbols, keep=survey.depth)
    made.feed.begin()
    shapes = [Shape(venue.name, symbol.name, survey.depth) for symbol in survey.symbols]
    for piece in pieces():
        at = 0
        for before, index, snapshot in [*made.snapshots(piece), (len(piece), -1, None)]:
            for number in range(at, before):
                text = piece[number]
                for kind, book, changes in made.feed.told(text):
                    if kind == Part.DIFF:
                        shapes[book].message(piece.times_ns[number], changes, len(text))
                    elif kind == Part.SNAPSHOT:
                        shapes[book].replace(changes)
            progress.advance(task, before - at)
            at = before
            if snapshot is not None and (levels := made.feed.levels_of(index, snapshot.body)) is not None:
                shapes[index].replace(levels[1])
    return [shape for shape in shapes if shape.levels]


def result(shapes: Sequence[Shape], archive: Archive | None) -> dict[str, Any]:
    """What `--json` says: every book, the liveliest first, and of an archive what it costs and lacks."""
    told: dict[str, Any] = {"books": sorted((shape.told() for shape in shapes), key=lambda book: -book["messages"])}
    if archive is not None:
        sums = {name: [sum(entry.streams.get(name, [0, 0, 0])[n] for entry in archive.entries) for n in (0, 2)]
                for name in archive.streams}
        told["streams"] = {name: {"messages": count, "bytes": size, "bytes_per_message": round(size / max(1, count), 3)}
                           for name, (count, size) in sums.items()}
        told["bytes"] = sum(entry.bytes for entry in archive.entries)
        told["gaps"] = {"places": len(archive.gaps()), "messages": sum(max(0, gap.messages) for gap in archive.gaps())}
        told["problems"] = archive.problems
    return told


COLUMNS = (("book", ""), ("messages", ""), ("a second, mean (peak)", ""), ("bytes", "p50 90 99 max"),
           ("levels", "p50 90 99 max"), ("removals", ""), ("best 1 10 100", ""), ("ms between", "p10 50 90 99 max"),
           ("in 1 10 100 ms", "most"))


def table(books: Sequence[dict[str, Any]]) -> Table:
    shown = Table(box=None, pad_edge=False)
    framed = any("bytes" in book for book in books)
    for name, below in COLUMNS:
        if framed or name != "bytes":
            shown.add_column(f"{name}\n{below}".strip(), justify="left" if name == "book" else "right")
    for book in books:
        cells = {
            "book": f"{book['venue']} {book['instrument']}", "messages": f"{book['messages']:,}",
            "a second, mean (peak)": f"{book['per_second']} ({book['peak_second']})" if "seconds" in book else "",
            "bytes": joined(book.get("bytes")), "levels": joined(book["levels"]), "removals": f"{book['removals']:.0%}",
            "best 1 10 100": "/".join(f"{100 * share:.0f}" for share in book["best"].values()) + " %",
            "ms between": joined(book.get("between_ms")), "in 1 10 100 ms": joined(book.get("bursts_ms"))}
        shown.add_row(*(cells[name] for name, _ in COLUMNS if framed or name != "bytes"))
    return shown


def joined(numbers: dict[str, Any] | None) -> str:
    return "/".join(map(str, (numbers or {}).values()))


def draw(shape: Shape, console: Console) -> None:
    """One book's messages over time, and how many levels they have, how near the best, how long after the last."""
    width = max(20, min(console.width, 120) - 14)
    times = np.sort(np.array(shape.times))
    if len(times) > 1 and times[0] > 0:
        counts, edges = np.histogram(times, width)
        console.print(f"\n{shape.venue} {shape.instrument}: messages in {duration((edges[1] - edges[0]) / 1e9)} each, "
                      f"{counts.min()} to {counts.max()}")
        console.print("".join(SPARKS[7 * (count - counts.min()) // max(1, np.ptp(counts))] for count in counts))
        bars(console, "ms after the one before", np.diff(times) / 1e6, width)
    bars(console, "levels in a message", np.array(shape.levels), width)
    bars(console, "rank of a level, 1 the best", np.repeat([rank + 1 for rank in shape.ranks], [*shape.ranks.values()]),
         width)


def bars(console: Console, title: str, numbers: NDArray[Any], width: int) -> None:
    """How often numbers fall between powers of four."""
    console.print(f"\n{title}")
    powers = np.floor(np.log(np.maximum(numbers, 2.0**-8)) / np.log(4.0)).astype(int)
    counts = np.bincount(powers - powers.min())
    for at, count in enumerate(counts.tolist(), powers.min()):
        grid = Table.grid(padding=(0, 1))
        grid.add_row(f"{f'{4.0**at:.3g}' if at < 0 else f'{4**at:,}':>9}", Bar(counts.max(), 0, count, width=width - 8),
                     f"{count / len(numbers):.1%}")
        console.print(grid)


def duration(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def plot(shapes: Sequence[Shape], path: Path) -> None:
    """The same of all books as a picture. ConfigurationError: there is no matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigurationError("--png needs matplotlib: pip install 'mantra[plot]'") from None
    figure = Figure(figsize=(12, 8), layout="constrained")
    rate, levels, ranks, between = figure.subplots(2, 2).flat
    for shape in shapes:
        name, times = f"{shape.venue} {shape.instrument}", np.sort(np.array(shape.times))
        if len(times) > 1 and times[0] > 0:
            seconds = np.bincount(times // 10**9 - times[0] // 10**9)
            rate.plot(seconds, label=name, linewidth=0.8)
            curve(between, np.diff(times) / 1e6, name)
        curve(levels, np.array(shape.levels), name)
        curve(ranks, np.repeat([rank + 1 for rank in shape.ranks], [*shape.ranks.values()]), name)
    rate.set(title="messages in each second", xlabel="s")
    for axes, title in ((levels, "levels in a message"), (ranks, "rank of a level, 1 the best"),
                        (between, "ms after the message before")):
        axes.set(title=title, xscale="log", ylabel="share of all up to there", ylim=(0, 1))
    levels.legend(fontsize="small")
    figure.savefig(path, dpi=120)


def curve(axes: Any, numbers: NDArray[Any], name: str) -> None:
    ordered = np.sort(numbers)
    at = np.unique(np.linspace(0, len(ordered) - 1, 2000).astype(int))
    axes.plot(np.maximum(ordered[at], 1e-3), (at + 1) / len(ordered), label=name)


EPILOG = """\
PATH is an archive (folders of segments, or segments), or, with --venue, a recording of frames as `mantra archive
import` reads it. An archive has the levels that changed its books; a recording also those that were as it says already,
or never there. Counted from when a book was whole:
  messages, a second, peak  that changed the book; peak: of a second of the clock
  levels                    in each                         removals      of size 0
  best 1 10 100             levels with fewer better ones on their side than that, as their messages found them
  ms between, in 1 10 100 ms    messages in one book's order; most that came in so short a time
  bytes                     of frames;                      streams       of an archive: what they cost in it
"""


def parser() -> argparse.ArgumentParser:
    made = Parser(prog="mantra archive stats", formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EPILOG,
                  description="Describe a recording: how fast it is, in what bursts, how deep, how near the best.")
    made.add_argument("paths", nargs="+", metavar="PATH")
    made.add_argument("--venue", metavar="V", help="of an archive only these; of a recording whose frames they are")
    made.add_argument("--instrument", metavar="I", help="only this one")
    made.add_argument("--from", dest="since", metavar="TIME", help="of an archive: from then on")
    made.add_argument("--to", dest="until", metavar="TIME", help="of an archive: before then")
    made.add_argument("--png", type=Path, metavar="FILE", help="draw it, too")
    made.add_argument("--json", action="store_true", help="one JSON object on the last line of standard output")
    return made


@door("mantra archive stats", interrupted=1)
def main(argv: Sequence[str] | None = None) -> int:
    options = parser().parse_args(argv)
    archive = None
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        if options.venue in venues.VENUES and not any(map(is_archive, map(Path, options.paths))):
            shapes = of_recording(venues.get(options.venue), lines.files(options.paths, options.venue), progress)
        else:
            archive = Archive(options.paths)
            archive._known(options.venue, options.instrument)
            since, until = (None if text is None else moment(text) for text in (options.since, options.until))
            shapes = of_archive(archive, (options.venue, options.instrument, since, until), progress)
    shapes = sorted((shape for shape in shapes if options.instrument in (None, shape.instrument)),
                    key=lambda shape: -len(shape.levels))
    if not shapes:
        raise ConfigurationError("no message there changes a book")
    told = result(shapes, archive)
    if options.png:
        plot(shapes[:10], options.png)
    if options.json:
        print(json.dumps(told))
        return 0
    console = Console()
    console.print(table(told["books"]))
    draw(shapes[0], console)
    for name, stream in told.get("streams", {}).items():
        console.print(f"{name}: {stream['messages']:,} in {stream['bytes']:,} bytes, "
                      f"{stream['bytes_per_message']} each")
    if archive is not None:
        console.print(f"lost: {told['gaps']['messages']:,} messages in {told['gaps']['places']} places")
    for problem in archive.problems if archive is not None else ():
        print(f"mantra archive stats: {problem}", file=sys.stderr)
    return 0


def is_archive(path: Path) -> bool:
    return path.name.endswith((".mantra", ".mantra.part")) or (path.is_dir() and any(path.glob("*.mantra*")))


if __name__ == "__main__":
    sys.exit(main())
