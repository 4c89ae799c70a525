"""ledger: what a run received, and what it lost, as a table: `mantra ledger`; and the file that a run leaves behind.

A run's counts are in shared memory (csrc/mantra/ledger.h), a row per feed and a row per book of each. When it ends they
are written to a file in `ledgers` of mantra's home, the last fifty of them, where the same command reads them.
"""
from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mantra.core.ledger import COUNTERS
from mantra.errors import ConfigurationError
from mantra.runtime.options import Parser, door
from mantra.runtime.spine import Spine, running
from mantra.telemetry.collector import LOSSES, books, nonzero
from mantra.telemetry.drawing import amount, duration
from mantra.venues import NAMES
from mantra.venues.instrument import home

KEPT = 50                   # files
MANY = 40                   # books: of more only those that lost something or are not trusted are printed
SECOND = 1_000_000_000
Counts = dict[str, int]


def read(run: Spine) -> dict[str, Any]:
    """A run's ledger as it is now: {"run", "began_utc_ns", "until_utc_ns", "feeds": [...], "books": [...]}; of each its
    names and the `counts` that are not 0; of books what `collector.books` says."""
    now, feeds = run.clock.utc_ns(), run.ledger.table()
    return {"run": run.run or "", "until_utc_ns": now,
            "began_utc_ns": min((actor.started_utc_ns for actor in run.actors()), default=now),
            "feeds": [{"feed": row["name"].decode(), "venue": NAMES[row["venue"]], "counts": counts}
                      for row, counts in zip(feeds, nonzero(feeds), strict=True)],
            "books": [vars(book) for book in books(run)]}


def lost(counts: Mapping[str, int]) -> str:
    """What these counts say was lost, in words; "": nothing."""
    return ", ".join(f"{name.removesuffix('_ns').replace('_', ' ')} {_shown(name, counts[name])}"
                     for name in (*LOSSES, "down_ns") if counts.get(name))


def verdict(told: Mapping[str, Any]) -> str:
    """What was lost, in a line; books say it again, so their feeds speak for them."""
    losses = [f"{feed['feed']}: {words}" for feed in told["feeds"] if (words := lost(feed["counts"]))]
    return f"lost or missed: {'; '.join(losses)}" if losses else "nothing was lost"


# On disk -----------------------------------------------------------------------------------------------------------


def save(told: Mapping[str, Any], folder: Path) -> Path:
    """Write what `read` told to a file below `folder`, and remove the oldest of too many. OSError."""
    folder = folder / "ledgers"
    folder.mkdir(parents=True, exist_ok=True)
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(told["until_utc_ns"] // SECOND))
    path = folder / f"{stamp}-{os.getpid()}-{told['run'] or 'private'}.json"
    scratch = path.with_suffix(".part")
    scratch.write_text(json.dumps(told) + "\n")
    scratch.replace(path)
    for old in saved(folder)[:-KEPT]:
        old.unlink(missing_ok=True)
    return path


def saved(folder: Path) -> list[Path]:
    """The files kept there, oldest first."""
    return sorted(folder.glob("*.json"))


def find(what: str | None) -> dict[str, Any]:
    """The ledger of a running run, of a file, or of the last run of that name that ended; without a name of the only
    run that is running, else of the last that ended. ConfigurationError."""
    runs, files = running(), saved(home() / "ledgers")
    if what is None and len(runs) > 1:
        raise ConfigurationError(f"several runs, name one of {', '.join(runs)}")
    if what in runs or (what is None and runs):
        with Spine.attach(what) as run:
            return read(run)
    if what is not None and (what.endswith(".json") or os.sep in what):
        files = [Path(what)]
    else:
        files = [path for path in files if what is None or path.stem.split("-", 2)[2] == what]
    if not files:
        raise ConfigurationError("no run is running, and none has left a ledger" if what is None else
                                 f"no run {what!r} is running or has left a ledger in {home() / 'ledgers'}")
    try:
        told = json.loads(files[-1].read_text())
        assert {"run", "feeds", "books", "began_utc_ns", "until_utc_ns"} <= told.keys()
    except (OSError, ValueError, AssertionError, AttributeError) as error:
        why = getattr(error, "strerror", None) or "it is no ledger"
        raise ConfigurationError(f"cannot read the ledger {files[-1]}: {why}") from None
    return dict(told)


# As a table --------------------------------------------------------------------------------------------------------


def rows(told: Mapping[str, Any], by: str) -> list[tuple[str, str, Counts]]:
    """(name, how it is trusted, counts) of every feed, venue, or book (by "instrument": venue and instrument)."""
    found: dict[str, tuple[str, Counts]] = {}
    for one in told["books" if by == "instrument" else "feeds"]:
        name = f"{one['instrument']} {one['venue']}" if by == "instrument" else one[by]
        trust = one.get("trust", "") + (f" ({one['reason']})" if one.get("reason") else "")
        before, counts = found.get(name, ("", {}))
        found[name] = trust or before, {key: counts.get(key, 0) + one["counts"].get(key, 0)
                                        for key in counts.keys() | one["counts"].keys()}
    return [(name, *found[name]) for name in (sorted(found) if by == "instrument" else found)]


def _shown(name: str, n: int) -> str:
    return duration(n) if name.endswith("_ns") else f"{amount(n)}B" if name == "bytes" else f"{n:,}"


def table(told: Mapping[str, Any], by: str, width: int) -> list[str]:
    """Lines of a table; columns that are 0 everywhere are left out, and what is too wide goes on below."""
    every = rows(told, by)
    shown = every if len(every) <= MANY else [row for row in every if lost(row[2]) or row[1].partition(" ")[0] not in (
        "", "verified", "unverified")]
    used = [name for name in COUNTERS if name not in ("audited", "agreed") and any(name in row[2] for row in shown)]
    columns = [(by, [row[0] for row in shown])]
    if any(row[1] for row in shown):
        columns.append(("trust", [row[1] for row in shown]))
    for name in used:
        columns.append((name.removesuffix("_ns").replace("_", " "),
                        [_shown(name, row[2][name]) if row[2].get(name) else "" for row in shown]))
    if any(row[2].get("audited") for row in shown):
        columns.append(("levels agree", [f"{row[2].get('agreed', 0) / row[2]['audited']:.2%}" if row[2].get("audited")
                                         else "" for row in shown]))
    lines: list[str] = []
    for block in _blocks(columns, width):
        lines += [""] * bool(lines) + block
    if len(shown) < len(every):
        lines += [f"{len(every) - len(shown):,} more books lost nothing and are trusted"]
    return lines


def _blocks(columns: Sequence[tuple[str, list[str]]], width: int) -> Iterator[list[str]]:
    """Columns beside each other as far as `width` goes, each block with the first one; headings a word a line."""
    first, rest = columns[0], list(columns[1:])
    while True:
        block, room = [first], width - _wide(first)
        while rest and (room >= _wide(rest[0]) + 2 or len(block) == 1):
            room -= _wide(rest[0]) + 2
            block.append(rest.pop(0))
        heads = [heading.split() for heading, _ in block]
        height = max(map(len, heads))
        tall = [[""] * (height - len(head)) + head + values for head, (_, values) in zip(heads, block, strict=True)]
        aligned = [[cell.ljust(_wide(column)) if column[0] in (first[0], "trust") else cell.rjust(_wide(column))
                    for cell in cells] for cells, column in zip(tall, block, strict=True)]
        yield ["  ".join(cells).rstrip() for cells in zip(*aligned, strict=True)]
        if not rest:
            return


def _wide(column: tuple[str, list[str]]) -> int:
    return max(map(len, [*column[0].split(), *column[1]]))


@door("mantra ledger")
def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="mantra ledger", description="What a run received and what it lost, counted.",
                    epilog="A run that has ended left its ledger in a file, the last fifty are kept; without a name: "
                           "the run that is running, else the last that ended.")
    add = parser.add_argument
    add("what", nargs="?", metavar="RUN|FILE", help="of which run, or which file of one")
    add("--by", choices=("feed", "instrument", "venue"), default="feed", help="a row for each (%(default)s)")
    add("--watch", action="store_true", help="again every second, until the run ends or Ctrl-C")
    add("--json", action="store_true", help="everything as one JSON object")
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    until = 0
    while True:
        told = find(options.what)
        if told["until_utc_ns"] == until:       # what is watched has ended
            return 0
        until = told["until_utc_ns"]
        if options.json:
            print(json.dumps(told | {"verdict": verdict(told)}), flush=True)
        else:
            clear = "\x1b[H\x1b[2J" if options.watch and sys.stdout.isatty() else ""
            lasted = duration(told["until_utc_ns"] - told["began_utc_ns"])
            lines = table(told, options.by, shutil.get_terminal_size((120, 40)).columns)
            print(f"{clear}run {told['run']}, {lasted}", "", *lines, "", verdict(told), sep="\n", flush=True)
        if not options.watch:
            return 0
        time.sleep(1.0)


if __name__ == "__main__":
    sys.exit(main())
