"""ledger: what arrived and what went missing, counted per feed."""
import hashlib
from enum import IntEnum

cimport cython

from mantra.core.region cimport Region

from mantra.errors import RegionError

COUNTERS = tuple(mantra_counter_name(i).decode() for i in range(MANTRA_COUNTERS))
MEANINGS = {name: mantra_counter_text(i).decode() for i, name in enumerate(COUNTERS)}
_LAYOUT = " ".join(COUNTERS)
_FINGERPRINT = int.from_bytes(hashlib.blake2b(_LAYOUT.encode(), digest_size=8).digest(), "little")
cdef dict INDEX = {name: i for i, name in enumerate(COUNTERS)}


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
    """One feed's counters, written by that feed's thread alone. Made by `Ledger.row`."""

    @property
    def name(self) -> str:
        return (<bytes>self.row.name).decode()

    @property
    def venue(self) -> int:
        """The venue's id."""
        return self.row.venue

    def __getitem__(self, str counter not None) -> int:
        """A counter by its name (`COUNTERS`); KeyError for another."""
        return mantra_ledger_get(self.row, INDEX[counter])

    def add(self, str counter not None, uint64_t n = 1) -> None:
        """Count `n` more."""
        self.owner.writing()
        mantra_ledger_add(self.row, INDEX[counter], n)

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
    """A row of counters per feed; whoever creates it adds rows, each row's own writer counts."""

    def __cinit__(self, Region region):
        self.ledger = <mantra_ledger *>region.payload()

    @staticmethod
    def create(str name = None, uint64_t rows = 256) -> Ledger:
        """An empty ledger with room for `rows` feeds, in shared memory or, without a name, private. RegionError."""
        cdef Ledger self = Ledger(Region.create(name, mantra_ledger_bytes(rows), kind="ledger", layout=_LAYOUT,
                                                fingerprint=_FINGERPRINT, slot_bytes=sizeof(mantra_ledger_row),
                                                capacity=rows))
        self.ledger.capacity = rows
        return self

    @staticmethod
    def open(str name not None) -> Ledger:
        """Read another process's ledger. RegionError: there is none; LayoutMismatch: another build's counters."""
        cdef Ledger self = Ledger(Region.open(name, kind="ledger", fingerprint=_FINGERPRINT))
        if self.ledger.capacity > (self.region.size - sizeof(mantra_ledger)) // sizeof(mantra_ledger_row):
            raise RegionError(f"ledger '{name}' of {self.region.size} bytes says it has {self.ledger.capacity} rows")
        return self

    cdef Row _row(self, uint64_t index):
        cdef Row row = Row.__new__(Row)
        row.owner, row.row = self, &self.ledger.rows[index]
        return row

    def row(self, str name not None, int venue) -> Row:
        """The row of that name, added when there is none. RegionError when the ledger is full, or the name too long."""
        self.writing()
        for row in self.rows():
            if row.name == name:
                return row
        cdef bytes text = name.encode()
        if mantra_ledger_claim(self.ledger, text, len(text), venue) is NULL:
            raise RegionError(f"no ledger row for {name!r}: names have up to 47 bytes, "
                              f"{mantra_ledger_used(self.ledger)} of {self.ledger.capacity} rows are taken")
        return self._row(mantra_ledger_used(self.ledger) - 1)

    def rows(self) -> list[Row]:
        """All rows in use, in the order they were added."""
        return [self._row(i) for i in range(mantra_ledger_used(self.ledger))]
