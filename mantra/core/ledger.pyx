"""ledger: what arrived and what went missing, counted per feed and per book."""
import hashlib
from enum import IntEnum

import numpy

cimport cython

from mantra.core.region cimport Region

from mantra.errors import RegionError

COUNTERS = tuple(mantra_counter_name(i).decode() for i in range(MANTRA_COUNTERS))
MEANINGS = {name: mantra_counter_text(i).decode() for i, name in enumerate(COUNTERS)}
_LAYOUT = " ".join(("venue feed instrument", *COUNTERS))
_FINGERPRINT = int.from_bytes(hashlib.blake2b(_LAYOUT.encode(), digest_size=8).digest(), "little")
_HEAD = {"name": f"S{MANTRA_LEDGER_NAME}", "venue": "u4", "feed": "u4", "instrument": "u4", "unused": "u4"}
DTYPE = numpy.dtype({"names": [*_HEAD, *COUNTERS], "formats": [*_HEAD.values(), *["u8"] * MANTRA_COUNTERS],
                     "itemsize": sizeof(mantra_ledger_row)})
cdef dict INDEX = {name: i for i, name in enumerate(COUNTERS)}
FIRST_ROWS = 64     # backed with memory at once; more as they are taken


class FeedState(IntEnum):
    """What a feed's connection is doing (counter `state`)."""

    OFF = MANTRA_FEED_OFF
    CONNECTING = MANTRA_FEED_CONNECTING
    SUBSCRIBING = MANTRA_FEED_SUBSCRIBING
    SYNCHRONISING = MANTRA_FEED_SYNCHRONISING
    LIVE = MANTRA_FEED_LIVE
    WAITING = MANTRA_FEED_WAITING
    REFUSED = MANTRA_FEED_REFUSED


@cython.no_gc
cdef class Row:
    """One feed's or one book's counters, written by the feed's thread alone. Made by `Ledger.row`."""

    @property
    def name(self) -> str:
        return (<bytes>self.row.name).decode()

    @property
    def venue(self) -> int:
        """The venue's id."""
        return self.row.venue

    @property
    def feed(self) -> int:
        """Index, in the ledger of feeds, of the feed that counts here."""
        return self.row.feed

    @property
    def instrument(self) -> int:
        """The book's instrument; 0: this is a feed's row."""
        return self.row.instrument

    def __getitem__(self, str counter not None) -> int:
        """A counter by its name (`COUNTERS`); KeyError for another."""
        return mantra_ledger_get(self.row, INDEX[counter])

    def add(self, str counter not None, uint64_t n = 1) -> None:
        """Count `n` more."""
        self.owner.writing()
        mantra_ledger_add(self.row, INDEX[counter], n)

    def unwritten(self, uint64_t n) -> None:
        """Count `n` messages that a capture could not write; any process and thread, as `audit`."""
        self.owner.writing()
        mantra_ledger_add_shared(self.row, MANTRA_COUNT_unwritten, n)

    def audit(self, compared: int, agreed: int) -> None:
        """Count one audit, of so many levels; any process that opened the ledger to write, any thread."""
        self.owner.writing()
        mantra_ledger_add_shared(self.row, MANTRA_COUNT_audits, 1)
        mantra_ledger_add_shared(self.row, MANTRA_COUNT_audited, compared)
        mantra_ledger_add_shared(self.row, MANTRA_COUNT_agreed, agreed)

    def set_state(self, state: int, int64_t utc_ns) -> None:
        """Say what the connection is doing since `utc_ns`; saying the same again keeps the first time."""
        self.owner.writing()
        if mantra_ledger_get(self.row, MANTRA_COUNT_state) != <uint64_t>state \
                or mantra_ledger_get(self.row, MANTRA_COUNT_state_since_utc_ns) == 0:
            mantra_ledger_set(self.row, MANTRA_COUNT_state_since_utc_ns, <uint64_t>utc_ns)
            mantra_ledger_set(self.row, MANTRA_COUNT_state, state)

    def counts(self) -> dict[str, int]:
        """Every counter and gauge by its name."""
        return {name: mantra_ledger_get(self.row, i) for i, name in enumerate(COUNTERS)}

    def __repr__(self) -> str:
        return f"Row({self.name}: {', '.join(f'{name} {n}' for name, n in self.counts().items() if n)})"


@cython.no_gc
cdef class Ledger(Shared):
    """A row of counters per feed, or per book; whoever creates it adds rows, each row's own writer counts."""

    def __cinit__(self, Region region):
        self.ledger = <mantra_ledger *>region.payload()
        self.index = {}

    @staticmethod
    def create(str name = None, uint64_t rows = 256) -> Ledger:
        """An empty ledger with room for `rows`, in shared memory or, without a name, private. RegionError."""
        cdef Ledger self = Ledger(Region.create(
            name, mantra_ledger_bytes(min(rows, FIRST_ROWS)), ceiling=mantra_ledger_bytes(rows), kind="ledger",
            layout=_LAYOUT, fingerprint=_FINGERPRINT, slot_bytes=sizeof(mantra_ledger_row), capacity=rows))
        self.ledger.capacity = rows
        return self

    @staticmethod
    def open(str name not None, bint write=False) -> Ledger:
        """Read another process's ledger, or `write` into its rows what an audit found. RegionError: there is none;
        LayoutMismatch: another build's counters."""
        cdef Ledger self = Ledger(Region.open(name, kind="ledger", fingerprint=_FINGERPRINT, write=write))
        if self.ledger.capacity > (self.region.region.ceiling - sizeof(mantra_ledger)) // sizeof(mantra_ledger_row) \
                or mantra_ledger_bytes(mantra_ledger_used(self.ledger)) > self.region.size:
            raise RegionError(f"ledger '{name}' of {self.region.size} bytes says it has {self.ledger.capacity} rows")
        return self

    cdef Row _row(self, uint64_t index):
        cdef Row row = Row.__new__(Row)
        row.owner, row.row = self, &self.ledger.rows[index]
        return row

    def row(self, str name not None, int venue, feed: int | None = None, uint32_t instrument=0) -> Row:
        """The row of that name, added when there is none; it is now of this `feed` (a feed's row: its own) and
        `instrument`. RegionError when the ledger is full, or the name too long."""
        self.writing()
        cdef uint64_t index = self.index.get(name, mantra_ledger_used(self.ledger))
        cdef uint32_t of_feed = index if feed is None else feed
        cdef bytes text = name.encode()
        if name in self.index:
            mantra_ledger_assign(&self.ledger.rows[index], of_feed, instrument)
            return self._row(index)
        if index < self.ledger.capacity and mantra_ledger_bytes(index + 1) > self.region.size:
            self.region.grow(mantra_ledger_bytes(min(2 * index, self.ledger.capacity)))
        if mantra_ledger_claim(self.ledger, text, len(text), venue, of_feed, instrument) is NULL:
            raise RegionError(f"no ledger row for {name!r}: names have up to {MANTRA_LEDGER_NAME - 1} bytes, "
                              f"{index} of {self.ledger.capacity} rows are taken")
        self.index[name] = index
        return self._row(index)

    def __getitem__(self, uint64_t index) -> Row:
        """The row at `index`, in the order they were added; IndexError past the last."""
        if index >= mantra_ledger_used(self.ledger):
            raise IndexError(f"row {index} of {mantra_ledger_used(self.ledger)}")
        return self._row(index)

    def __len__(self) -> int:
        return mantra_ledger_used(self.ledger)

    def rows(self) -> list[Row]:
        """All rows in use, in the order they were added."""
        return [self._row(i) for i in range(mantra_ledger_used(self.ledger))]

    def table(self) -> NDArray[numpy.void]:
        """All rows in use as they are now, an array of DTYPE; one call for thousands."""
        cdef uint64_t used = mantra_ledger_used(self.ledger)
        table = numpy.empty(used, DTYPE)
        cdef uint64_t[::1] words = table.view("u8")
        if used:
            with nogil:
                mantra_ledger_copy(self.ledger, used, &words[0])
        return table
