"""book: the bid and ask ladders of one venue's instrument, in memory that others may read while it changes.

Prices are ticks, sizes lots: integers. Copies are consistent: of the state after some whole venue message.
"""
from time import monotonic
from typing import NamedTuple

import numpy as np

cimport cython
from libc.string cimport strlen

from mantra.core.region cimport Region, mantra_region, mantra_region_grow

from mantra.errors import LayoutMismatch, RegionError

BID, ASK = 1, 2
SAME, ABSENT = MANTRA_BOOK_SAME, MANTRA_BOOK_ABSENT
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

    def write(self, *changes: tuple[int, int, int], bint whole=False, stamp: tuple[int, int, int] | None = None,
              judge: tuple[int, int, int] | None = None, instrument: int | None = None) -> list[int]:
        """One message to readers, as a feed writes it: levels (side, price, size) set, of size 0 removed, or with `whole`
        all replaced by these, in any order. Per change its level's rank (0 the best; past the best 256 it may count levels
        that are gone), or SAME, or ABSENT (not there).

        `stamp`: (sequence, venue_time_ns, position); `judge`: (trust, reason, trust_since_ns); `instrument`: another id.
        RegionError: the ceiling is reached, or memory is short; the book is as it was.
        """
        self.writing()
        cdef size_t i, count = len(changes)
        cdef bytearray memory = bytearray((count + 1) * sizeof(mantra_change))
        cdef mantra_change *rows = <mantra_change *><char *>memory
        cdef list ranks = []
        for i, (side, price, size) in enumerate(changes):
            if side not in (BID, ASK) or size < 0:
                raise ValueError(f"side {side}, size {size}: sides are 1 (bid) and 2 (ask), sizes are lots from 0 on")
            rows[i].kind, rows[i].price, rows[i].size = side, price, size
        cdef int failed = 0 if whole else mantra_book_room(&self.book, sum(size > 0 for _, _, size in changes))
        mantra_book_begin(&self.book)
        try:
            if whole:
                failed = mantra_book_load(&self.book, rows, count)
            elif not failed:
                ranks = [mantra_book_apply(&self.book, rows[i].kind, rows[i].price, rows[i].size) for i in range(count)]
            if not failed:
                if stamp is not None:
                    mantra_book_stamp(&self.book, stamp[0], stamp[1], stamp[2])
                if judge is not None:
                    mantra_book_judge(&self.book, judge[0], judge[1], judge[2])
                if instrument is not None:
                    mantra_book_rename(&self.book, instrument)
        finally:
            mantra_book_end(&self.book)
        if failed:
            image = self.image(0)
            raise RegionError(f"book '{self.name or '(private)'}' has {image.bid_count} bids and {image.ask_count} asks "
                              f"and no room for more: its ceiling is {image.ceiling} levels a side, or memory is short")
        return ranks

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
