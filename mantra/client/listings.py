"""listings: what venues list: asked for, kept on disk, read from there while young or when a venue says nothing."""
from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mantra.client.governor import Governor
from mantra.client.https import BANS, Rest, patience
from mantra.errors import MantraError, VenueError
from mantra.venues.instrument import load_listings, save_listings
from mantra.venues.venue import Listing, Venue

log = logging.getLogger("mantra.listings")

YOUNG_S = 86400.0
TELL_S = 5.0        # who has to wait longer for its turn says so


@dataclass(frozen=True)
class Listed:
    """A venue's instruments, and how old the list is."""

    listings: list[Listing]
    age_s: float = 0.0      # 0: asked for just now
    why: str = ""           # it is an old one: what was wrong with asking


def ask(venue: Venue, governor: Governor, home: Path | None = None) -> list[Listing]:
    """What `venue` lists now, which is kept for later. MantraError when it does not say."""
    for _ in range(2):
        status, headers, body = _get(venue, governor)
        if status not in BANS:
            break
        governor.block("rest", patience(headers.get("retry-after", ""), venue.limits.ban_s))
    if status in (403, 451):
        raise VenueError(f"{venue.name} answered HTTP {status}: {venue.when_refused}")
    if status != 200:
        raise VenueError(f"{venue.name} answered HTTP {status} to its instrument list: {body[:120]!r}")
    listings = venue.parse_instruments(body)
    save_listings(venue, listings, home)
    return listings


def _get(venue: Venue, governor: Governor) -> tuple[int, dict[str, str], bytes]:
    request = venue.instruments_request()
    if (wait := governor.reserve("rest", request.weight)) > TELL_S:
        log.warning("%s: its next request is allowed in %.0f s", venue.name, wait)
    if wait > 0:
        governor.acquire("rest", request.weight, cancel=threading.Event())
    rest = Rest(venue.endpoints.rest, ca_file=venue.endpoints.ca_file)
    try:
        return rest.get(request.path)
    finally:
        rest.close()


def listed(venue: Venue, governor: Governor, home: Path | None = None, *, fresh: bool = False,
           offline: bool = False) -> Listed:
    """The list on disk, where there is one; when that is older than a day it is asked for in the background, for next
    time. Else, or when it must be `fresh`, what the venue says now; the old one again when it says nothing. `offline`:
    nothing is asked. Only the real venue's list is ever kept."""
    listings, since = load_listings(venue, home)
    age_s = max(0.0, time.time() - since)
    if listings and offline:
        return Listed(listings, age_s, "not asked")
    if offline:
        raise VenueError(f"no list of {venue.name} at {venue.endpoints.rest} is kept here: ask once without --offline")
    if listings and not fresh:
        if age_s > YOUNG_S:
            threading.Thread(target=_refresh, args=(venue, governor, home), name=f"mantra-list-{venue.name}",
                             daemon=True).start()
        return Listed(listings, age_s)
    try:
        return Listed(ask(venue, governor, home))
    except MantraError as error:
        if not listings:
            raise
        return Listed(listings, age_s, str(error))


def _refresh(venue: Venue, governor: Governor, home: Path | None) -> None:
    try:
        ask(venue, governor, home)
    except MantraError as error:
        log.info("the old list of %s stays: %s", venue.name, error)


def of_all(venues: Mapping[str, Venue], get: Callable[[Venue], Listed]) -> dict[str, Listed | MantraError]:
    """`get` of all venues at once, or why it failed. Ctrl-C in the main thread ends the wait."""
    answers: queue.SimpleQueue[tuple[str, Listed | BaseException]] = queue.SimpleQueue()

    def run(name: str, venue: Venue) -> None:
        try:
            answers.put((name, get(venue)))
        except BaseException as error:
            answers.put((name, error))

    for name, venue in venues.items():
        threading.Thread(target=run, args=(name, venue), name=f"mantra-list-{name}", daemon=True).start()
    found: dict[str, Listed | MantraError] = {}
    for _ in venues:
        name, answer = answers.get()
        if isinstance(answer, BaseException) and not isinstance(answer, MantraError):
            raise answer
        found[name] = answer
    return {name: found[name] for name in venues}


def age(seconds: float) -> str:
    """In words."""
    for unit, name in ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds:.0f} seconds"
