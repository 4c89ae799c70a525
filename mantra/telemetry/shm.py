"""shm: mantra's shared memory as a person reads it: what there is, whose it is, what it holds, and what may go."""
from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mantra.core.book import Book
from mantra.core.clock import Clock
from mantra.core.histogram import Histogram
from mantra.core.ledger import FeedState, Ledger
from mantra.core.messages import DTYPES, Message
from mantra.core.meter import Counter, Gauge
from mantra.core.queue import Queue
from mantra.core.region import FORMAT, PREFIX, Region, RegionInfo
from mantra.core.vector import Vector
from mantra.errors import MantraError, RegionError
from mantra.runtime.options import Parser, door, positive_seconds
from mantra.telemetry.doctor import free_bytes
from mantra.telemetry.drawing import SECOND, age, amount

Told = dict[str, Any]       # of one thing, as --json tells it
FIELD = re.compile(r"(\w+) ([ui])(\d)(?:x(\d+))?@(\d+)")


def look(prefix: str = "") -> list[Told]:
    """Every region, and every file that is called like one, as `mantra shm list --json` tells it."""
    return [region(info) for info in Region.list(prefix)] + [
        {"name": _plain(name), "kind": "foreign", "note": "no region of mantra's, or not to be read"}
        for name in Region.foreign(prefix)]


def region(info: RegionInfo) -> Told:
    """What the header says, and of a queue where it stands. `note` says why when that is all there is to tell."""
    told: Told = {
        "name": info.name, "kind": info.kind, "message": "", "capacity": info.capacity, "slot_bytes": info.slot_bytes,
        "size": info.size, "ceiling": info.ceiling, "owner": info.owner_pid, "alive": info.owner_alive,
        "age_s": _age(info.name), "note": ""}
    if info.format != FORMAT:
        return told | {"note": f"of another mantra: format {info.format}, this one reads {FORMAT}"}
    if FIELD.search(info.layout):
        told["message"] = info.layout.split(" ")[0]
    try:
        if info.kind == "queue":
            queue = Queue.open(info.name)
            told |= {"produced": queue.produced, "producers": queue.producers, "many": queue.kind == "mpmc",
                     "abandoned": queue.abandoned, "burnt": queue.burnt}
    except (MantraError, OSError) as error:
        told["note"] = str(error)
    return told


def with_rates(regions: Sequence[Told], seconds: float) -> None:
    """Look at the queues a second time: what they carried meanwhile, per second, as `rate`."""
    began = time.monotonic()
    time.sleep(seconds)
    for told in regions:
        with contextlib.suppress(MantraError, OSError):     # gone since
            if "produced" in told:
                carried = max(0, Queue.open(told["name"]).produced - told["produced"])
                told["rate"] = round(carried / (time.monotonic() - began), 1)


def fields(layout: str) -> list[Told]:
    """A message's fields from its region's header; offsets in the message, which follows the slot's 8-byte version."""
    return [{"field": name, "type": f"{'u' * (sign == 'u')}int{8 * int(size)}{f'[{count}]' * bool(count)}",
             "offset": int(offset)} for name, sign, size, count, offset in FIELD.findall(layout)]


def inspect(name: str, limit: int = 10) -> Told:
    """Everything about one region: its header, its layout, and the newest that it holds, `limit` at most.

    RegionError: there is none, or it is not mantra's."""
    found = [info for info in Region.list(name) if info.name == name]
    if not found:
        raise RegionError(f"{PREFIX}{_plain(name)} is no region of mantra's" if name in Region.foreign(name) else
                          f"there is no region {_plain(name)!r}: `mantra shm list` tells which there are")
    told = region(found[0]) | {"fingerprint": f"{found[0].fingerprint:016x}", "layout": found[0].layout}
    if not told["note"] and told["kind"] in CONTENTS:
        if told["kind"] == "queue":
            with_rates([told], 0.3)
        told["fields"] = fields(told["layout"])
        try:
            told["holds"] = list(CONTENTS[told["kind"]](told, limit))
        except (MantraError, OSError) as error:
            told["note"] = str(error)
    return told


def _messages(told: Told, limit: int) -> Iterator[Told]:
    queue, face = Queue.open(told["name"]), _face(told)
    # A batch whose beginning is missed is left out whole: begin well before what is shown. A busy producer never ends.
    consumer = queue.consumer(max(0, queue.produced - 16 * limit), on_lap="count")
    newest = deque(((consumer.position - 1, message) for message in islice(consumer, 32 * limit)), limit)
    for position, message in newest:
        yield {"position": position, **face(message)}


def _slots(told: Told, limit: int) -> Iterator[Told]:
    vector, face = Vector.open(told["name"]), _face(told)
    filled = ((slot, message) for slot in range(len(vector)) if (message := vector.read(slot)) is not None)
    for slot, message in islice(filled, limit):
        yield {"slot": slot, "writes": vector.version(slot), **face(message)}


def _ladder(told: Told, limit: int) -> Iterator[Told]:
    image = Book.open(told["name"]).image(limit)
    yield {field: value.tolist() if hasattr(value, "tolist") else value for field, value in image._asdict().items()}


def _feeds(told: Told, limit: int) -> Iterator[Told]:
    for row in Ledger.open(told["name"]).rows()[:limit]:
        counts = {counter: count for counter, count in row.counts().items() if count}
        yield {"feed": row.name, "venue": row.venue, **counts, "state": FeedState(row["state"]).name.lower()}


def _percentiles(told: Told, limit: int) -> Iterator[Told]:
    histogram = Histogram.open(told["name"])
    yield {"count": histogram.count, "min_ns": histogram.min, "mean_ns": round(histogram.mean, 1),
           **{f"p{percent:g}_ns": histogram.percentile(percent) for percent in (50, 90, 99, 99.9)},
           "max_ns": histogram.max}


def _page(told: Told, limit: int) -> Iterator[Told]:
    clock = Clock.open(told["name"])
    yield {"kind": clock.kind, "mhz": round(clock.mhz, 6), "utc": _utc(clock.utc_ns()), "drift_ppb": clock.drift_ppb,
           "error_ns": clock.error_ns, "steps": clock.steps}


def _meter(told: Told, limit: int) -> Iterator[Told]:
    yield {"value": (Counter if told["kind"] == "counter" else Gauge).open(told["name"]).value}


CONTENTS: Mapping[str, Callable[[Told, int], Iterator[Told]]] = {
    "queue": _messages, "vector": _slots, "book": _ladder, "ledger": _feeds, "histogram": _percentiles, "clock": _page,
    "counter": _meter, "gauge": _meter}


def _face(told: Told) -> Callable[[Message], Told]:
    """What tells a message of this region: when it was published, by the run's clock while that is there, and all."""
    names, clock = DTYPES[told["message"]].names or (), None
    for run in sorted((info.name for info in Region.list() if info.kind == "clock"), key=len):
        if told["name"].startswith(f"{run.removesuffix('clock')}"):
            with contextlib.suppress(MantraError):
                clock = Clock.open(run)
    return lambda message: {
        "published_utc": _utc(clock.to_utc(message.published_cycles)) if clock and message.origin else "",
        "text": repr(message), "fields": {field: getattr(message, field) for field in names}}


def _utc(ns: int) -> str:
    with contextlib.suppress(ValueError, OverflowError):    # whatever somebody stamped
        return datetime.fromtimestamp(ns / 1e9, timezone.utc).isoformat(" ", "microseconds")[:26]
    return ""


def _age(name: str) -> float | None:
    """Seconds since it was made (of a book: or last grew)."""
    try:
        return round(max(0.0, time.time() - os.stat(PREFIX + name).st_mtime), 1)
    except OSError:
        return None


def _plain(name: str) -> str:
    """A file's name, whatever bytes it is made of, fit to be printed."""
    return name.encode(errors="backslashreplace").decode()


# The door --------------------------------------------------------------------------------------------------------

@door("mantra shm")
def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="mantra shm", description="Look at mantra's shared memory, and remove what the dead left.")
    verbs = parser.add_subparsers(dest="verb", metavar="list|inspect|clean", required=True, parser_class=Parser)
    shows = verbs.add_parser("list", help="every region: what it is, whose, how large, where it stands")
    shows.add_argument("prefix", nargs="?", default="", help="only names that begin so: a run's name, say")
    shows.add_argument("--rates", type=positive_seconds, metavar="SECONDS",
                       help="look again after that long, and tell what each queue carries a second")
    looks = verbs.add_parser("inspect", help="one region: its layout, and the newest that it holds")
    looks.add_argument("name", help="as `list` has it")
    looks.add_argument("--last", type=int, default=10, metavar="N", help="messages or slots, at most (%(default)s)")
    cleans = verbs.add_parser("clean", help="remove regions whose owner is dead, never a living one's")
    cleans.add_argument("prefix", nargs="?", default="", help="only names that begin so")
    cleans.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    for verb in (shows, looks, cleans):
        verb.add_argument("--json", action="store_true", help="one JSON object on the last line of standard output")
    options = parser.parse_args(argv)
    if options.verb == "inspect" and not 0 < options.last <= 10_000:
        looks.error("--last is 1 to 10000")
    said, show = {"list": _list, "inspect": _inspect, "clean": _clean}[options.verb](options)
    if options.json:
        print(json.dumps(said), flush=True)
    else:
        show(Console(width=None if sys.stdout.isatty() else 200, highlight=False))
    return 0


Said = tuple[Told, Callable[[Console], None]]


def _list(options: argparse.Namespace) -> Said:
    regions = look(options.prefix)
    if options.rates:
        with_rates(regions, options.rates)
    said = {"regions": regions, "bytes": sum(told.get("size", 0) for told in regions),
            "free_bytes": free_bytes(Path(PREFIX).parent)}

    def show(console: Console) -> None:
        table = Table("name", "kind", "message", box=None, pad_edge=False, header_style="dim")
        for heading in ("capacity", "size", "owner", "age", "produced", *(["per s"] if options.rates else [])):
            table.add_column(heading, justify="right")
        table.add_column("")
        for told in regions:
            alive = told.get("alive", True)
            owner = Text(f"{told.get('owner', '')}{'' if alive else ' dead'}", style="" if alive else "red")
            position = [f"{told['produced']:,}" if "produced" in told else ""]
            position += [f"{told['rate']:,.1f}" if "rate" in told else ""] * bool(options.rates)
            table.add_row(*map(Text, (told["name"], told["kind"], told.get("message", ""),
                                      f"{told['capacity']:,}" if told.get("capacity") else "", _size(told))), owner,
                          _ago(told.get("age_s")), *position, Text(_remark(told), style="yellow"))
        console.print(table if regions else f"no region{f' called {options.prefix}...' * bool(options.prefix)}")
        dead = sum(not told.get("alive", True) for told in regions)
        console.print(f"{len(regions)} regions, {amount(said['bytes'])}B; {amount(said['free_bytes'])}B free"
                      + f"; {dead} of dead owners: mantra shm clean" * bool(dead), style="dim")

    return said, show


def _inspect(options: argparse.Namespace) -> Said:
    said = inspect(options.name, options.last)

    def show(console: Console) -> None:
        owner = f"pid {said['owner']}, {'running' if said['alive'] else 'dead'}"
        for heading, told in (said | {"size": _size(said), "age_s": _ago(said["age_s"]), "owner": owner}).items():
            if told and heading not in ("fields", "holds", "layout", "alive", "ceiling"):
                console.print(Text(f"{heading.removesuffix('_s'):<12} {told}"), soft_wrap=True)
        if said.get("fields"):
            table = Table("field", "type", "offset", box=None, pad_edge=False, header_style="dim")
            for row in [{"field": "(version)", "type": "uint64", "offset": -8}, *said["fields"]]:
                table.add_row(row["field"], Text(row["type"]), f"{row['offset'] + 8:>6}")
            console.print(f"\na slot of {said['slot_bytes']} bytes", table, sep="\n")
        elif said["layout"]:
            console.print(Text(f"{'layout':<12} {said['layout']}"), soft_wrap=True)
        if said.get("holds"):
            console.print()
        for held in said.get("holds", ()):
            if "text" in held:
                where = f"#{held['position']:,}" if "position" in held else f"[{held['slot']}]"
                console.print(Text(f"{where:<10} {held['published_utc'][11:]}  {held['text']}"), soft_wrap=True)
            else:
                for key, value in held.items():
                    console.print(Text(f"{key:<22} {value}"), soft_wrap=True)

    return said, show


def _clean(options: argparse.Namespace) -> Said:
    removed = ([info.name for info in Region.list(options.prefix) if not info.owner_alive] if options.dry_run
               else Region.remove_stale(options.prefix))
    said = {"dry_run": options.dry_run, "removed": removed}

    def show(console: Console) -> None:
        for name in removed:
            console.print(Text(f"{'would remove' if options.dry_run else 'removed'} {name}"))
        console.print("" if removed else "nothing of a dead owner's", end="" if removed else "\n")

    return said, show


def _remark(told: Mapping[str, Any]) -> str:
    counts = [f"{told[what]:,} {what}" for what in ("abandoned", "burnt") if told.get(what)]
    return told["note"] or ", ".join(["many producers"] * told.get("many", False) + counts
                                     + ["nobody produces"] * (told.get("producers") == 0))


def _size(told: Mapping[str, Any]) -> str:
    size, ceiling = told.get("size", 0), told.get("ceiling", 0)
    return "" if not size else f"{amount(size)}B" + f" of {amount(ceiling)}B" * (ceiling > size)


def _ago(seconds: float | None) -> str:
    return "" if seconds is None else age(int(seconds * SECOND))


if __name__ == "__main__":
    sys.exit(main())
