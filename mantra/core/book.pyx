"""book: the bid and ask ladders of one venue's instrument, in memory that others may read while it changes.

Prices are ticks, sizes lots: integers. Copies are consistent: of the state after some whole venue message.
"""
from time import monotonic
from typing import NamedTuple

import numpy as np

cimport cython
from libc.stdlib cimport free, malloc
from libc.string cimport strlen

from mantra.core.region cimport Region, mantra_region, mantra_region_grow

from mantra.errors import LayoutMismatch, RegionError

BID, ASK = 1, 2
SAME, ABSENT = MANTRA_BOOK_SAME, MANTRA_BOOK_ABSENT
CEILING = MANTRA_BOOK_CEILING
PATIENCE_S = 1.0   # how long a reader tries before it says that there is no quiet moment

cdef extern from "mantra/messages.h" nogil:
    uint64_t mantra_fingerprint_bytes(uint64_t hash, const void *bytes, size_t size)

cdef str _LAYOUT = MANTRA_BOOK_LAYOUT.decode()
cdef object _FINGERPRINT = mantra_fingerprint_bytes(14695981039346656037u, MANTRA_BOOK_LAYOUT, strlen(MANTRA_BOOK_LAYOUT))


class BookImage(NamedTuple):
    """A book at one moment. bids, asks: int64 arrays (levels, 2) of price and size, best first.

    `position` is that of the feed's update queue: the first update that this image does not contain.
    """

    bids: NDArray[np.int64]
    asks: NDArray[np.int64]
    bid_count: int          # levels the book has; the arrays may be cut
    ask_count: int
    instrument: int
    venue: int
    trust: int
    reason: int
    trust_since_ns: int
    generation: int
    sequence: int
    venue_time_ns: int
    position: int
    growths: int
    capacity: int
    ceiling: int


cdef int _back(void *owner, size_t size) noexcept nogil:
    return mantra_region_grow(<mantra_region *>owner, size)


@cython.no_gc
cdef class Book(Shared):
    """One book; written by who created it, read by anyone who opens it by name."""

    def __cinit__(self, Region region):
        self.book.header = <mantra_book_header *>region.payload()
        if mantra_book_bytes(region.header().capacity) > region.region.ceiling:
            raise LayoutMismatch(f"book '{region.name}' says it has room for {region.info.capacity} levels a side; "
                                 f"its region has not")

    @staticmethod
    def create(str name, uint32_t instrument, uint8_t venue, uint32_t ceiling=MANTRA_BOOK_CEILING,
               uint32_t start=MANTRA_BOOK_START) -> Book:
        """An empty book of up to `ceiling` levels a side, `start` of them backed now; name None: private memory.

        RegionError: the name is taken or bad, or there is not enough shared memory.
        """
        if not 0 < ceiling <= 1 << 24:
            raise ValueError(f"a ceiling of {ceiling} levels; it must be 1 to {1 << 24}")
        start = max(1, min(start, ceiling))
        cdef Book self = Book(Region.create(name, mantra_book_bytes(start), ceiling=mantra_book_bytes(ceiling), kind="book",
                                            layout=_LAYOUT, fingerprint=_FINGERPRINT, slot_bytes=16, capacity=ceiling))
        mantra_book_init(&self.book, self.region.payload(), start, ceiling, instrument, venue)
        self.book.back = _back
        self.book.owner = &self.region.region
        return self

    @staticmethod
    def open(str name not None) -> Book:
        """Another program's book, to read. RegionError: there is none; LayoutMismatch: it is made otherwise."""
        return Book(Region.open(name, kind="book", fingerprint=_FINGERPRINT))

    def __repr__(self):
        image = self.image(0)
        return (f"<Book {self.name or '(private)'}: instrument {image.instrument}, venue {image.venue}, "
                f"{image.bid_count} bids, {image.ask_count} asks>")

    # ---- writing: each call is one message to readers

    def apply(self, uint8_t side, int64_t price, int64_t size) -> int:
        """Set one level (size 0 removes it). Returns its rank, 0 the best, or SAME, or ABSENT (nothing to remove).

        RegionError: the ceiling is reached, or memory is short; the book is as it was.
        """
        self.writing()
        cdef int rank = MANTRA_BOOK_FULL
        _check(side, size)
        if mantra_book_room(&self.book, 1) == 0 or size == 0:
            mantra_book_begin(&self.book)
            rank = mantra_book_apply(&self.book, side, price, size)
            mantra_book_end(&self.book)
        if rank == MANTRA_BOOK_FULL:
            raise self._full()
        return rank

    def apply_many(self, const int64_t[:, ::1] changes not None) -> int:
        """Apply rows of side, price, size as one message; returns how many changed a level. RegionError as `apply`."""
        self.writing()
        cdef Py_ssize_t i, count = changes.shape[0], changed = 0
        cdef int room
        _check_rows(changes)
        with nogil:
            room = mantra_book_room(&self.book, count)
            if room == 0:
                mantra_book_begin(&self.book)
                for i in range(count):
                    changed += mantra_book_apply(&self.book, <uint8_t>changes[i, 0], changes[i, 1], changes[i, 2]) >= 0
                mantra_book_end(&self.book)
        if room != 0:
            raise self._full()
        return changed

    def load(self, const int64_t[:, ::1] changes not None) -> None:
        """Replace all levels by rows of side, price, size, in any order. RegionError as `apply`."""
        self.writing()
        cdef Py_ssize_t i, count = changes.shape[0]
        cdef int failed
        _check_rows(changes)
        cdef mantra_change *rows = <mantra_change *>malloc((count + 1) * sizeof(mantra_change))
        if rows is NULL:
            raise MemoryError
        with nogil:
            for i in range(count):
                rows[i].kind, rows[i].price, rows[i].size = <uint8_t>changes[i, 0], changes[i, 1], changes[i, 2]
            mantra_book_begin(&self.book)
            failed = mantra_book_load(&self.book, rows, count)
            mantra_book_end(&self.book)
            free(rows)
        if failed:
            raise self._full()

    def stamp(self, uint64_t sequence, int64_t venue_time_ns, uint64_t position) -> None:
        """Say which venue message the book now contains, and which of the feed's updates it does not."""
        self.writing()
        mantra_book_begin(&self.book)
        mantra_book_stamp(&self.book, sequence, venue_time_ns, position)
        mantra_book_end(&self.book)

    def judge(self, uint8_t trust, uint8_t reason, int64_t since_ns) -> None:
        """Say how far the book can be trusted, why not further, and since when (UTC ns)."""
        self.writing()
        mantra_book_begin(&self.book)
        mantra_book_judge(&self.book, trust, reason, since_ns)
        mantra_book_end(&self.book)

    def restart(self, uint32_t instrument) -> None:
        """Empty, for another scale generation of the instrument, which is another instrument."""
        self.writing()
        mantra_book_begin(&self.book)
        mantra_book_clear(&self.book)
        mantra_book_rename(&self.book, instrument)
        mantra_book_end(&self.book)

    def _full(self):
        image = self.image(0)
        return RegionError(f"book '{self.name or '(private)'}' has {image.bid_count} bids and {image.ask_count} asks "
                           f"and no room for more: its ceiling is {image.ceiling} levels a side, or memory is short")

    # ---- reading

    cdef tuple _copy(self, object n, mantra_book_image *image):
        """(bids, asks), cut to `n` levels (None: all), with the state that belongs to them in `image`."""
        cdef int64_t[:, ::1] bid_rows, ask_rows
        cdef int failed
        deadline = monotonic() + PATIENCE_S
        if n is None:
            self._copy(0, image)
            image.room = max(image.count[0], image.count[1])
        else:
            image.room = max(0, min(n, self.region.region.ceiling // 32))
        while True:
            bids, asks = np.empty((max(1, image.room), 2), np.int64), np.empty((max(1, image.room), 2), np.int64)
            bid_rows, ask_rows = bids, asks
            image.levels[0] = <mantra_row *>&bid_rows[0, 0]
            image.levels[1] = <mantra_row *>&ask_rows[0, 0]
            with nogil:
                failed = mantra_book_copy(&self.book, image, 1024)
            if failed == 0 and (n is not None or max(image.count[0], image.count[1]) <= image.room):
                return bids[:image.copied[0]], asks[:image.copied[1]]
            if failed == 0:
                image.room = max(image.count[0], image.count[1])   # it has grown meanwhile
            elif monotonic() > deadline:
                raise RegionError(f"book '{self.name or '(private)'}' gave no quiet moment in {PATIENCE_S} s: " + (
                    "ask for fewer levels" if self.owner_alive else "its writer died in the middle of a message"))

    def bids(self, n: int | None = None) -> NDArray[np.int64]:
        """The best `n` bids (None: all): an int64 array (levels, 2) of price and size, best first."""
        cdef mantra_book_image image
        return self._copy(n, &image)[0]

    def asks(self, n: int | None = None) -> NDArray[np.int64]:
        """The best `n` asks (None: all): an int64 array (levels, 2) of price and size, best first."""
        cdef mantra_book_image image
        return self._copy(n, &image)[1]

    def image(self, n: int | None = None) -> BookImage:
        """Both sides, cut to `n` levels (None: all), and everything else that is known of the book, at one moment."""
        cdef mantra_book_image image
        bids, asks = self._copy(n, &image)
        return BookImage(bids, asks, image.count[0], image.count[1], image.instrument, image.venue, image.trust,
                         image.reason, image.trust_since_ns, image.generation, image.sequence, image.venue_time_ns,
                         image.position, image.growths, image.capacity, image.ceiling)

    def check(self) -> None:
        """AssertionError unless every side is sorted without equal prices, holds no empty level, and is all there."""
        image = self.image()
        for side, levels, count in (("bids", image.bids, image.bid_count), ("asks", image.asks, image.ask_count)):
            better = levels[:-1, 0] > levels[1:, 0] if side == "bids" else levels[:-1, 0] < levels[1:, 0]
            if len(levels) != count or not better.all() or not (levels[:, 1] > 0).all():
                raise AssertionError(f"{side} of {self!r} are not sorted, hold an empty level or are not {count}")


cdef int _check(int64_t side, int64_t size) except -1:
    if side != BID and side != ASK:
        raise ValueError(f"side {side}: 1 is bid, 2 is ask")
    if size < 0:
        raise ValueError(f"a size of {size} lots")
    return 0


cdef int _check_rows(const int64_t[:, ::1] changes) except -1:
    cdef Py_ssize_t i
    if changes.shape[1] != 3:
        raise ValueError(f"rows of {changes.shape[1]} columns: side, price, size are expected")
    for i in range(changes.shape[0]):
        _check(changes[i, 0], changes[i, 2])
    return 0
