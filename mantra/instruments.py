"""instruments: `mantra instruments`: what the venues list, searched; from lists kept on disk while these are young."""
from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mantra import venues
from mantra.client.governor import Governor
from mantra.client.listings import Listed, age, listed, of_all
from mantra.core.clock import Clock
from mantra.errors import ConfigurationError, MantraError
from mantra.runtime.options import Parser, door
from mantra.venues.instrument import home, matching
from mantra.venues.venue import Listing

COLUMNS = ("name", "venue", "symbol", "tick", "lot", "min_size", "min_value", "status")


@door("mantra instruments", interrupted=1)
def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(
        prog="mantra instruments", description="What the venues list, searched.",
        epilog="Lists are kept on disk, used for a day, then refreshed in the background. min_value is in the quote "
               "currency; what a venue does not say is left empty.")
    add = parser.add_argument
    add("pattern", nargs="?", default="", metavar="PATTERN", help="a part of a name or symbol (eth, ethbtc, BTC-USD), "
        "or a glob ('*-usdt'); default: all")
    add("--venue", "--venues", dest="venues", metavar="NAME[,NAME...]", help=f"of {', '.join(venues.VENUES)} "
        "(default: all)")
    add("--refresh", action="store_true", help="ask the venues now")
    add("--offline", action="store_true", help="ask nobody: only what is kept on disk")
    add("--endpoints", type=Path, metavar="FILE", help="TOML of addresses to use instead of the real venues'")
    add("--json", action="store_true", help="one JSON object on the last line of standard output")
    options = parser.parse_args(argv)
    if options.refresh and options.offline:
        raise ConfigurationError("--refresh asks the venues, --offline does not: give one of them")
    endpoints = venues.read_endpoints(options.endpoints) if options.endpoints else {}
    names = options.venues.split(",") if options.venues else list(endpoints) or list(venues.VENUES)
    chosen = {name: venues.get(name, endpoints.get(name)) for name in map(str.strip, names)}
    clock = Clock()
    found = of_all(chosen, lambda venue: listed(venue, Governor.of_machine(clock, venue, home()),
                                                fresh=options.refresh, offline=options.offline))
    return tell(options.pattern, found, as_json=options.json)


def tell(pattern: str, found: dict[str, Listed | MantraError], *, as_json: bool) -> int:
    """Print what fits; 1 when no venue had a list."""
    rows: list[Listing] = []
    lists: dict[str, dict[str, Any]] = {}
    for name, answer in found.items():
        if isinstance(answer, MantraError):
            lists[name] = {"error": str(answer)}
            print(f"mantra instruments: {answer}", file=sys.stderr)
            continue
        fits = matching(pattern, answer.listings)
        rows += fits
        lists[name] = {"listed": len(answer.listings), "fit": len(fits), "age_s": round(answer.age_s),
                       "why": answer.why}
        when = f"listed {age(answer.age_s)} ago" if answer.age_s else "asked just now"
        print(f"{name}: {len(fits):,} of {len(answer.listings):,} instruments, {when}"
              f"{f' ({answer.why})' if answer.why else ''}", file=sys.stderr)
    rows.sort(key=lambda row: (row.name, row.venue))
    if as_json:
        print(json.dumps({"lists": lists, "instruments": [asdict(row) | {"name": row.name} for row in rows]}))
    elif rows:
        table = Table(*(column.replace("_", " ") for column in COLUMNS), pad_edge=False, box=None)
        for row in rows:
            table.add_row(*(str(getattr(row, column)) for column in COLUMNS), style="" if row.tradable else "dim")
        Console().print(table)
    else:
        print(f"no instrument fits {pattern!r}", file=sys.stderr)
    return 1 if all("error" in one for one in lists.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
