"""look: `mantra archive list` and `show`: which files hold what, their messages, and a book as it was at an instant."""
from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mantra.archive.archive import Archive, moment, utc
from mantra.archive.catalogue import Entry, catalogue
from mantra.archive.options import NAMED, STATES, chosen, columns, damaged, parser, screen, size_text, tell, time_text
from mantra.core import ticks
from mantra.core.book import BookImage
from mantra.core.messages import Kind
from mantra.errors import ConfigurationError
from mantra.runtime.options import door
from mantra.tape.segment import Instrument
from mantra.venues import NAMES

# list ------------------------------------------------------------------------------------------------------------

@door("mantra archive list")
def list_main(argv: Sequence[str] | None = None) -> int:
    made = parser("list", "Which file holds which venue, instrument and time, how many messages, and what is known to "
                  "be missing.", """\
A file is whole (closed, its index is fine), growing (somebody writes it), unfinished (who wrote it was killed: all it
has can be read), damaged or unreadable (`mantra archive verify` says how far, `repair` mends). Damage within a block
is not looked for here. What whole files say is kept in catalogue.json beside them, and read from there.

  mantra archive list recordings --instrument ETH-BTC --from 2026-01-31 --to 2026-02-01
  mantra archive list recordings --instruments                   what there is, rather than where""")
    made.add_argument("--instruments", action="store_true", help="a line for each venue's instrument, not each file")
    options = made.parse_args(argv)
    *_, since, until = chosen(options)
    with Console(stderr=True).status("looking at files"):       # each for the first time takes some 30 ms
        entries = catalogue(options.paths)
    entries = [entry for entry in entries if _held(entry, options)
               and (since is None or entry.last_ns >= since or entry.state == "growing")
               and (until is None or entry.first_ns < until)]
    told: dict[str, Any] = {
        "files": [entry.told() for entry in entries], "bytes": sum(entry.bytes for entry in entries),
        "messages": sum(_messages(entry, options) for entry in entries), "lost": sum(entry.lost for entry in entries)}
    if options.json:
        print(json.dumps(told))
        return 0
    console = screen()
    console.print((_instruments if options.instruments else _files)(entries, options))
    tell(console, [Text(f"{entry.path.name}: {text}", style) for entry in entries for style, texts in (
        ("yellow", [f"{gap.lost:,} messages of {entry.feeds[gap.feed]} were missed, from position {gap.position:,} on; "
                    f"noticed {time_text(gap.utc_ns, 3)}" for gap in entry.gaps]), ("red", entry.problems))
        for text in texts])
    console.print(f"{len(entries)} files, {size_text(told['bytes'])}, {told['messages']:,} messages, "
                  f"{told['lost']:,} missed", style="dim")
    return 0


def _held(entry: Entry, options: argparse.Namespace) -> list[tuple[str, str, str, int]]:
    """What of a file is asked for: venue, instrument, stream, messages. Without a filter all files are."""
    held = [(venue, entry.named(number), stream, count) for venue, number, stream, count in entry.held
            if options.venue in (None, venue) and options.instrument in (None, entry.named(number), str(number))]
    return held if options.venue or options.instrument else held or [("", "", "", 0)]


def _messages(entry: Entry, options: argparse.Namespace) -> int:
    every = not (options.venue or options.instrument)
    return entry.messages if every else sum(count for *_, count in _held(entry, options))


def _files(entries: list[Entry], options: argparse.Namespace) -> Table:
    table = columns("file", "state", "from (UTC)", "to", "messages", "bytes", "missed", "holds",
                    right=("messages", "bytes", "missed"))
    for entry in entries:
        of = {venue: sorted({name for at, name, *_ in _held(entry, options) if at == venue}) for venue in entry.venues}
        few = sum(map(len, of.values())) < 4
        holds = ", ".join(f"{venue} {' '.join(names) if few else len(names)}" for venue, names in of.items() if names)
        times = [time_text(ns, 0).replace("T", " ") if ns else "" for ns in (entry.first_ns, entry.last_ns)]
        table.add_row(Text(entry.path.name), Text(entry.state, STATES[entry.state]), times[0],
                      times[1][11:] if times[1][:10] == times[0][:10] else times[1], f"{_messages(entry, options):,}",
                      size_text(entry.bytes), f"{entry.lost:,}" if entry.lost else "", Text(holds))
    return table


def _instruments(entries: list[Entry], options: argparse.Namespace) -> Table:
    counts: dict[tuple[str, str], Counter[str]] = {}
    for entry in entries:
        for venue, name, stream, count in _held(entry, options):
            if venue:
                counts.setdefault((venue, name), Counter())[stream] += count
    streams = sorted({stream for of in counts.values() for stream in of}, reverse=True)
    table = columns("venue", "instrument", *streams, right=streams)
    for (venue, name), of in sorted(counts.items()):
        table.add_row(Text(venue), Text(name), *(f"{of[stream]:,}" for stream in streams))
    return table


# show ------------------------------------------------------------------------------------------------------------

@door("mantra archive show")
def show_main(argv: Sequence[str] | None = None) -> int:
    made = parser("show", "Messages as they were published, in the order of time; or a book as it was.", """\
  mantra archive show recordings --venue kraken --instrument ETH-BTC --from 2026-01-31T12:00 --limit 50
  mantra archive show recordings --stream trades --json | jq .price      all of them, a JSON object a line
  mantra archive show recordings --venue kraken --instrument ETH-BTC --at 2026-01-31T12:00:00.5

utc is when a message was published, behind when its bytes came (origin). Prices and sizes are decimal text.""")
    made.add_argument("--stream", metavar="NAME", help="updates (default), trades, orders, or what else was recorded")
    made.add_argument("--limit", type=int, metavar="N", help="messages at most (default: 20; with --json: all)")
    made.add_argument("--at", metavar="TIME", help="the book of --venue and --instrument with all updates until then")
    made.add_argument("--depth", type=int, default=10, metavar="N", help="levels of it (default: 10)")
    options = made.parse_args(argv)
    if min(options.depth, 1 if options.limit is None else options.limit) < 1:
        made.error("--depth and --limit are 1 or more")
    if options.at is not None and None in (options.venue, options.instrument):
        made.error("--at: whose book? --venue and --instrument")
    archive = Archive(options.paths)
    if options.at is not None:
        return _book(archive, options)
    rows = _rows(archive, archive.messages(options.stream or "updates", *chosen(options)))
    if options.json:
        for row in islice(rows, options.limit):
            print(json.dumps(row))
    else:
        _print(list(islice(rows, (options.limit or 20) + 1)), options.limit or 20)
    return damaged("show", archive.problems)


def _rows(archive: Archive, messages: Any) -> Iterator[dict[str, Any]]:
    """Messages as people read them."""
    known = {row.id: row for row in archive.instruments()}
    for batch in messages:
        fields = [name for name in batch.dtype.names if name not in ("origin", "published", "reserved")]
        times = utc(batch).tolist()
        for ns, origin, published, *values in zip(times, batch["origin"].tolist(), batch["published"].tolist(),
                                                  *(batch[name].tolist() for name in fields), strict=True):
            raw = dict(zip(fields, values, strict=True))
            of = known.get(raw.get("instrument", -1))
            told = {name: _value(name, raw[name], of) for name in sorted(fields, key=_place)}
            if "kind" in raw:
                told |= {"flags": raw["flags"] & 15, "reason": _value("reason", raw["flags"] >> 4, None)}
            if raw.get("kind") in (Kind.RESET, Kind.TRUST):
                told |= {"price": raw["price"], "size": raw["size"]}        # no level: what they are, messages.h says
            yield {"utc": time_text(ns), **told, "origin_ns": origin, "publisher": published & 0xFFFF}


def _place(name: str) -> int:
    first = ("venue", "instrument", "kind", "side", "price", "size")
    return first.index(name) if name in first else len(first)


def _value(name: str, value: Any, instrument: Instrument | None) -> Any:
    if isinstance(value, list):
        return [_value(name, each, instrument) for each in value]
    if name == "venue" and value < len(NAMES):
        return NAMES[value]
    if name in NAMED and value in {each.value for each in NAMED[name]}:
        return NAMED[name](value).name.lower()
    if instrument is not None and name == "instrument":
        return instrument.name
    if instrument is not None and name.endswith(("price", "size")):
        return ticks.text(value, instrument.price_decimals if name.endswith("price") else instrument.size_decimals)
    return value


def _print(rows: list[dict[str, Any]], limit: int) -> None:
    if not rows:
        print("no message is of that")
        return
    texts = {name: [str(row[name]) for row in rows[:limit]] for name in rows[0]
             if name not in ("origin_ns", "publisher") and any(row[name] not in (0, "none") for row in rows)}
    texts["utc"] = [text[:26] for text in texts["utc"]]
    if "venue_time_ns" in texts:
        texts["venue time"] = [time_text(int(text), 3)[11:].removeprefix("00:00:00.000")
                               for text in texts.pop("venue_time_ns")]
    for name in texts.keys() & {"price", "size"}:       # zeros that say nothing
        while all(text.endswith("0") for text in texts[name] if "." in text) and "." in "".join(texts[name]):
            texts[name] = [text[:-1].rstrip(".") if "." in text else text for text in texts[name]]
    console = screen(sum(2 + max(map(len, [name, *cells])) for name, cells in texts.items()))
    table = columns(*texts, right=("price", "size", "sequence"))
    for cells in zip(*texts.values(), strict=True):
        table.add_row(*map(Text, cells))
    console.print(table)
    if len(rows) > limit:
        console.print("there are more: --limit, --from, --to", style="dim")


def _book(archive: Archive, options: argparse.Namespace) -> int:
    at = moment(options.at)
    book = archive.book(options.venue, options.instrument, at)
    if book is None:
        raise ConfigurationError(f"no book of {options.instrument} at {options.venue} was recorded until "
                                 f"{time_text(at)}")
    scale = {row.id: row for row in archive.instruments()}[book.instrument]
    sides = [[(ticks.text(price, scale.price_decimals), ticks.text(size, scale.size_decimals))
              for price, size in side[:options.depth].tolist()] for side in (book.bids, book.asks)]
    if options.json:
        print(json.dumps({
            "venue": options.venue, "instrument": scale.name, "at": time_text(at),
            **{name: str(_value(name, getattr(book, name), None)) for name in ("trust", "reason")},
            "trust_since": time_text(book.trust_since_ns),
            "generation": book.generation, "sequence": book.sequence, "venue_time_ns": book.venue_time_ns,
            "bid_count": book.bid_count, "ask_count": book.ask_count, "bids": sides[0], "asks": sides[1]}))
        return 0
    console = screen()
    console.print(_title(options.venue, scale.name, at, book))
    table = columns("size", "bid", "ask", "size", right=("size", "bid"))
    table.columns[3].justify = "right"
    for n in range(max(map(len, sides))):
        (bid, bid_size), (ask, ask_size) = (side[n] if n < len(side) else ("", "") for side in sides)
        table.add_row(bid_size, Text(bid, "green"), Text(ask, "red"), ask_size)
    console.print(table)
    console.print(f"{book.bid_count:,} bids, {book.ask_count:,} asks", style="dim")
    return 0


def _title(venue: str, name: str, at: int, book: BookImage) -> Text:
    why = f" ({_value('reason', book.reason, None)})" if book.reason else ""
    return Text(f"{venue} {name} at {time_text(at)} UTC: {_value('trust', book.trust, None)}{why}, "
                f"sequence {book.sequence:,}")
