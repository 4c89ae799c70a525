"""offers: `mantra venues`: what each venue gives, what proves its books, and what nothing does: its declarations."""
from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from mantra import venues
from mantra.client.listings import age
from mantra.runtime.options import Parser, door
from mantra.venues.venue import Venue

RESYNC = {
    "ids": "a new REST snapshot, spliced by update ids", "time": "a new REST snapshot, spliced by time",
    "image": "the next message, which is whole",
}
WORDS = {"connect": "connects", "send": "frames", "rest": "REST weight"}


@door("mantra venues")
def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="mantra venues", description="What each venue offers, how its books are verified, how far a "
                    "fault spreads, what it allows, and what it cannot prove.")
    parser.add_argument("venues", nargs="*", metavar="VENUE", help=f"of {', '.join(venues.VENUES)} (default: all)")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line of standard output")
    options = parser.parse_args(argv)
    chosen = [venues.get(name) for name in options.venues or venues.VENUES]
    if options.json:
        print(json.dumps({venue.name: facts(venue) for venue in chosen}))
        return 0
    table = Table("venue", "", "", show_lines=False, pad_edge=False)
    for venue in chosen:
        for number, (what, text) in enumerate(told(venue).items()):
            table.add_row(f"[bold]{venue.name}" if number == 0 else "", what, text)
        table.add_section()
    Console().print(table)
    return 0


def facts(venue: Venue) -> dict[str, Any]:
    """The same for programs."""
    return {
        "id": venue.id, "websocket": venue.endpoints.websocket, "rest": venue.endpoints.rest, **asdict(venue.offers),
        "modes": list(venue.schemes), "schemes": dict(venue.schemes), "proofs": sorted(venue.proofs),
        "spread": venue.spread, "resynchronises": resynchronises(venue), "cross_s": venue.cross_s,
        "limits": asdict(venue.limits), "alone": sorted(venue.alone), "ping_s": venue.heartbeat.interval_s,
        "stale_s": venue.stale_s, "silence_s": venue.silence_s, "channel_silent_s": venue.channel_silent_s,
        "max_age_s": venue.max_age_s,
    }


def told(venue: Venue) -> dict[str, str]:
    """By topic, in words; what the venue does not have is left out."""
    offers, limits = venue.offers, venue.limits
    rates = [f"{rate.count:,} {WORDS.get(kind, kind)} in {rate.seconds:g} s"
             f"{' per connection' if rate.per == 'connection' else ''}"
             f"{f' ({rate.reserved} kept for pongs and pings)' if rate.reserved else ''}"
             for kind, rules in limits.rates.items() for rate in rules]
    lines = {
        "books": offers.books, "trades": offers.trades, "BBO": offers.bbo, "orders (L3)": offers.orders,
        "verified by": offers.verified_by or "nothing: its books are never better than unverified",
        "cannot prove": offers.cannot_prove,
        "a fault": f"makes {'the' if venue.spread == 'symbol' else 'every'} book of its {venue.spread} suspect; "
                   f"healed by {resynchronises(venue)}",
        "a cross": f"is believed for {venue.cross_s:g} s" if venue.cross_s else "is never believed",
        "limits": "; ".join([f"{limits.channels:,} channels per connection, frames of {limits.frame_bytes:,} bytes",
                             *rates]),
        "alone": ", ".join(sorted(venue.alone)),
        "liveness": (f"asked every {beat:g} s" if (beat := venue.heartbeat.interval_s) else "beats by itself")
                    + f"; silent for {venue.stale_s:g} s: stale, for "
                    f"{venue.silence_s:g} s: connected again"
                    f"{f'; a channel for {venue.channel_silent_s:g} s: suspect' if venue.channel_silent_s else ''}"
                    f"; replaced after {age(venue.max_age_s)}",
    }
    return {what: text for what, text in lines.items() if text}


def resynchronises(venue: Venue) -> str:
    """What heals a book of mode "book"."""
    scheme = venue.schemes["book"]
    again = "unsubscribing and subscribing it" if "unsubscribe_texts" in vars(type(venue)) else "a new connection"
    return RESYNC.get(scheme, f"{again}: the snapshot comes in the stream")


if __name__ == "__main__":
    sys.exit(main())
