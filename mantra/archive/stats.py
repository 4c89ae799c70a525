"""stats: what a recording is like: how fast, in what bursts, how deep, how near the best: `mantra archive stats`.

An archive has what changed its books. A recording of frames also names levels that were as it says already, or never
there: so its messages are a little larger, and more of them removals.
"""
from __future__ import annotations

import json
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress
from rich.table import Table

from mantra import venues
from mantra.archive.exports import Whole
from mantra.archive.options import Chosen, chosen, damaged, parser, progress, screen
from mantra.client.recorded import Recorded, RecordedFeed, Survey
from mantra.core.messages import Flag, Kind
from mantra.core.plugin import Kind as Part
from mantra.errors import ConfigurationError
from mantra.runtime.options import door
from mantra.tape import lines
from mantra.tape.segment import is_archive
from mantra.venues.venue import Venue

BEST = (1, 10, 100)
BURSTS_MS = (1, 10, 100)
SPARKS = "▁▂▃▄▅▆▇█"

Change = tuple[int, int, int]       # side, price, size


class Shape:
    """What is known of one book's messages, from the moment on when it was whole. Sides are cut to `keep` levels, if it
    is not 0. A level's rank is how many better ones there were on its side when its message came to it."""

    def __init__(self, venue: str, instrument: str, keep: int = 0) -> None:
        self.venue, self.instrument, self.keep, self.removals = venue, instrument, keep, 0
        self.times, self.levels, self.bytes = array("q"), array("l"), array("l")    # of each message: ns (0: not told)
        self.ranks = Counter[int]()
        self.sides: dict[int, list[int]] = {}       # prices, the better the less; none: it is not whole yet

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

    def when(self) -> NDArray[np.int64]:
        """The times in order; none where they were not told."""
        times = np.sort(np.array(self.times))
        return times if len(times) > 1 and times[0] > 0 else times[:0]

    def told(self) -> dict[str, Any]:
        """As `--json` has it."""
        levels, times, total = np.array(self.levels), self.when(), max(1, sum(self.levels))
        told = {"venue": self.venue, "instrument": self.instrument, "messages": len(levels),
                "updates": sum(self.levels), "levels": spread(levels, (50, 90, 99)),
                "removals": round(self.removals / total, 3),
                "best": {str(n): round(sum(self.ranks[rank] for rank in range(n)) / total, 3) for n in BEST}}
        if self.bytes:
            told["bytes"] = spread(np.array(self.bytes), (50, 90, 99))
        return told | (rates(times) if len(times) else {})


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


def of_archive(archive: Whole, asked: Chosen, progress: Progress) -> list[Shape]:
    """The books of an archive."""
    task = progress.add_task("reading", total=sum(entry.streams.get("updates", [0])[0] for entry in archive.entries))
    shapes: dict[tuple[int, int], Shape] = {}
    for rows in archive.rows("updates", *asked):
        for venue, number in np.unique(rows[["venue", "instrument"]]).tolist():
            if (venue, number) not in shapes:
                shapes[venue, number] = Shape(archive.names.get(venue, str(venue)), archive.scales[number].name)
            take(shapes[venue, number], rows[(rows["venue"] == venue) & (rows["instrument"] == number)])
        progress.advance(task, len(rows))
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
        if start < stop and flags[start] & Flag.FROM_SNAPSHOT:
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


def result(shapes: Sequence[Shape], archive: Whole | None) -> dict[str, Any]:
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


# Two tables, so that they fit on a screen.
COLUMNS: list[dict[str, Callable[[dict[str, Any]], str]]] = [{
    "messages\n": lambda book: f"{book['messages']:,}",
    "a second\nmean (peak)": lambda book: f"{book['per_second']} ({book['peak_second']})" if "seconds" in book else "",
    "removals\n": lambda book: f"{book['removals']:.0%}",
    "% in the best\n1/10/100": lambda book: "/".join(f"{100 * share:.0f}" for share in book["best"].values()),
    "at most in\n1/10/100 ms": lambda book: joined(book, "bursts_ms")}, {
    "levels\np50/90/99/max": lambda book: joined(book, "levels"),
    "bytes of a frame\np50/90/99/max": lambda book: joined(book, "bytes"),
    "ms between\np10/50/90/99/max": lambda book: joined(book, "between_ms")}]


def joined(book: dict[str, Any], what: str) -> str:
    return "/".join(f"{number:.3g}" if number < 100 else f"{number:.0f}" for number in book.get(what, {}).values())


def tables(books: Sequence[dict[str, Any]]) -> Iterator[Table]:
    for columns in COLUMNS:
        shown = Table(box=None, pad_edge=False)
        shown.add_column("book\n")
        cells = {name: [cell(book) for book in books] for name, cell in columns.items()}
        told = {name: texts for name, texts in cells.items() if any(texts)}
        for name in told:
            shown.add_column(name, justify="right", overflow="fold")
        for book, *texts in zip(books, *told.values(), strict=True):
            shown.add_row(f"{book['venue']} {book['instrument']}", *texts)
        yield shown


def draw(shape: Shape, width: int) -> None:
    """One book's messages over time, and how many levels they have, how near the best, how long after the last."""
    times = shape.when()
    if len(times):
        counts, edges = np.histogram(times, width)
        print(f"\n{shape.venue} {shape.instrument}: messages in {(edges[1] - edges[0]) / 1e9:.3g} s each, "
              f"{counts.min()} to {counts.max()}")
        print("".join(SPARKS[7 * (count - counts.min()) // max(1, np.ptp(counts))] for count in counts))
    for title, numbers in measured(shape).items():      # how often they fall between powers of four
        powers = np.floor(np.log(np.maximum(numbers, 2.0**-8)) / np.log(4.0)).astype(int)
        counts = np.bincount(powers - powers.min())
        print(f"\n{title}")
        for count, power in zip(counts.tolist(), range(powers.min(), powers.max() + 1), strict=True):
            bar = "█" * round((width - 20) * count / counts.max())
            print(f"{4.0**power:>9,.{3 if power < 0 else 0}f}  {bar} {count / len(numbers):.1%}")


def show(told: dict[str, Any], first: Shape) -> None:
    """For people."""
    console = screen()
    for table in tables(told["books"]):
        console.print(table)
    draw(first, min(console.width, 120) - 2)
    for name, stream in told.get("streams", {}).items():
        console.print(f"{name}: {stream['messages']:,} in {stream['bytes']:,} bytes, "
                      f"{stream['bytes_per_message']} each")
    if "gaps" in told:
        console.print(f"lost: {told['gaps']['messages']:,} messages in {told['gaps']['places']} places")


def measured(shape: Shape) -> dict[str, NDArray[Any]]:
    """What is drawn of a book."""
    times = shape.when()
    return ({"ms after the message before": np.diff(times) / 1e6} if len(times) else {}) | {
        "levels in a message": np.array(shape.levels),
        "rank of a level, 1 the best": np.repeat([rank + 1 for rank in shape.ranks], [*shape.ranks.values()])}


def plot(shapes: Sequence[Shape], path: Path) -> None:
    """The same of all books as a picture. ConfigurationError: there is no matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigurationError("--png needs matplotlib: pip install 'mantra[plot]'") from None
    figure = Figure(figsize=(12, 8), layout="constrained")
    rate, *others = figure.subplots(2, 2).flat
    rate.set(title="messages in each second", xlabel="s")
    titles = [*max(map(measured, shapes), key=len)]
    for shape in shapes:
        name, times = f"{shape.venue} {shape.instrument}", shape.when()
        rate.plot(np.bincount((times - times[:1].sum()) // 10**9), label=name, linewidth=0.8)
        for title, numbers in measured(shape).items():
            ordered = np.sort(numbers)
            at = np.unique(np.linspace(0, len(ordered) - 1, 2000).astype(int))
            axes = others[titles.index(title)]
            axes.plot(np.maximum(ordered[at], 1e-3), (at + 1) / len(ordered), label=name)
            axes.set(title=title, xscale="log", ylabel="share of all up to there", ylim=(0, 1))
    rate.legend(fontsize="small")
    figure.savefig(path, dpi=120)


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


@door("mantra archive stats", interrupted=1)
def main(argv: Sequence[str] | None = None) -> int:
    made = parser("stats", "Describe a recording: how fast it is, in what bursts, how deep, how near the best.", EPILOG)
    made.add_argument("--png", type=Path, metavar="FILE", help="draw it, too")
    options = made.parse_args(argv)
    archive = None
    with progress() as shown:
        if options.venue in venues.VENUES and not any(map(is_archive, map(Path, options.paths))):
            shapes = of_recording(venues.get(options.venue), lines.files(options.paths, options.venue), shown)
        else:
            archive, asked = Whole(options.paths), chosen(options)
            archive.known(*asked[:2])
            shapes = of_archive(archive, asked, shown)
    shapes = sorted((shape for shape in shapes if options.instrument in (None, shape.instrument)),
                    key=lambda shape: -len(shape.levels))
    if not shapes:
        raise ConfigurationError("no message there changes a book")
    told = result(shapes, archive)
    if options.png:
        plot(shapes[:10], options.png)
    if options.json:
        print(json.dumps(told))
    else:
        show(told, shapes[0])
    return damaged("stats", told.get("problems", ()))
