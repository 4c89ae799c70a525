"""options: what the verbs of `mantra archive` have in common: what is asked for, how far they are, how they tell it."""
from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import datetime, timezone

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from mantra.archive.archive import moment
from mantra.core.messages import Kind, Reason, Side, Trust
from mantra.runtime.options import Parser

NAMED = {"kind": Kind, "side": Side, "trust": Trust, "reason": Reason}
STATES = {"whole": "green", "growing": "cyan", "unfinished": "yellow", "damaged": "red", "unreadable": "red"}
MOST = 20               # lines about what is missing
Chosen = tuple[str | None, str | None, int | None, int | None]      # venue, instrument, since and until (UTC ns)


def parser(verb: str, description: str, epilog: str, *, chooses: bool = True) -> Parser:
    """A verb's options: paths and --json; where it `chooses`, --venue, --instrument, --from and --to."""
    made = Parser(prog=f"mantra archive {verb}", formatter_class=argparse.RawDescriptionHelpFormatter,
                  description=description, epilog=epilog)
    add = made.add_argument
    add("paths", nargs="*", default=["."], metavar="PATH", help="folders of *.mantra, or files (default: this folder)")
    if chooses:
        add("--venue", metavar="V", help="only of this one")
        add("--instrument", metavar="NAME", help="only of this one: ETH-BTC")
        add("--from", dest="since", metavar="TIME", help="2026-01-31T12:00:00.5 (UTC where it names no zone), or ns")
        add("--to", dest="until", metavar="TIME", help="until before then")
    add("--json", action="store_true", help="one JSON object on the last line of standard output")
    return made


def chosen(options: argparse.Namespace) -> Chosen:
    since, until = (None if text is None else moment(text) for text in (options.since, options.until))
    return options.venue, options.instrument, since, until


def progress() -> Progress:
    """On standard error, while that is a terminal."""
    return Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())


def damaged(verb: str, problems: Sequence[str]) -> int:
    """Tell what could not be read; the exit code."""
    for problem in problems:
        print(f"mantra archive {verb}: {problem}", file=sys.stderr)
    return int(bool(problems))


def time_text(ns: int, digits: int = 9) -> str:
    """UTC as ISO text, which `--from` and its like read again."""
    seconds, fraction = divmod(ns, 10**9)
    try:
        told = datetime.fromtimestamp(seconds, timezone.utc).isoformat()[:19]
    except (ValueError, OverflowError):         # whatever somebody stamped
        return str(ns)
    return told + f".{fraction:09}"[:digits + 1] * bool(digits)


def size_text(count: float) -> str:
    """Bytes in five characters or so."""
    unit = 0
    while count >= 999.5 and unit < 4:
        count, unit = count / 1000, unit + 1
    return f"{count:.{1 if unit and count < 99.95 else 0}f} {('B', 'kB', 'MB', 'GB', 'TB')[unit]}"


def screen(least: int = 0) -> Console:
    """Standard output, at least so wide: a number that is cut off at the edge is another number."""
    return Console(width=max(Console().width if sys.stdout.isatty() else 200, least), highlight=False)


def columns(*names: str, right: Sequence[str] = ()) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in names:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold",
                         no_wrap=name not in ("file", "holds"))         # they give way on a narrow screen
    return table


def tell(console: Console, lines: Sequence[Text]) -> None:
    for line in lines[:MOST]:
        console.print(line)
    if len(lines) > MOST:
        console.print(f"and {len(lines) - MOST:,} more: --json has all")
