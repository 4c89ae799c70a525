"""scales: which generation of each instrument is current, for all listeners of this process.

Text that an instrument's scale can not hold opens its next generation: a new id, on which every venue's book of that
instrument starts again from a fresh snapshot, so that merged venues always count in the same ticks.
"""
from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from mantra.runtime.spine import Spine
from mantra.venues.instrument import Instrument, InstrumentTable, ObservedScale
from mantra.venues.venue import Venue

log = logging.getLogger("mantra.scales")

Moved = Callable[[Instrument], None]


class Scales:
    """The current generation of each instrument; listeners `follow` the names they keep books of."""

    def __init__(self, table: InstrumentTable) -> None:
        self._table = table
        self._current: dict[str, Instrument] = {}
        self._seen: dict[str, ObservedScale] = {}
        self._followers: dict[str, list[Moved]] = {}
        self._hopeless: set[int] = set()
        self._lock = threading.Lock()

    def follow(self, instrument: Instrument, moved: Moved) -> Instrument:
        """`moved` is called (on any thread) when the instrument gets another generation. Returns the current one."""
        with self._lock:
            self._followers.setdefault(instrument.name, []).append(moved)
            return self._current.setdefault(instrument.name, instrument)

    def outgrown(self, instrument: Instrument, venue: Venue, text: bytes, spine: Spine) -> Instrument | None:
        """`venue`'s `text` does not fit `instrument`'s scale: the generation to go on with; None: no scale holds it."""
        with self._lock:
            current = self._current[instrument.name]
            if current.id != instrument.id:
                return current                      # another venue's text has already moved it
            # All that did not fit so far counts, so that two texts that no scale holds cannot make it go to and fro.
            seen = self._seen.setdefault(instrument.name, ObservedScale())
            for _, price_text, size_text in venue.numbers(text):
                seen.level(price_text, size_text)
            price, size = seen.price.decimals(current.price_decimals), seen.size.decimals(current.size_decimals)
            if (price, size) == (current.price_decimals, current.size_decimals):
                if current.id not in self._hopeless:
                    self._hopeless.add(current.id)      # said once: such text may come with every message
                    log.error("%s: no 64-bit scale holds %s's %r", instrument.name, venue.name, text[:200])
                return None
            new = self._table.next_generation(instrument.name, price, size)
            self._current[instrument.name] = new
            spine.add_instrument(new.id, new.name, new.generation, new.price_decimals, new.size_decimals)
            followers = list(self._followers[instrument.name])
        log.warning("%s: generation %d counts in 10^-%d and 10^-%d", new.name, new.generation, price, size)
        for moved in followers:
            moved(new)
        return new
