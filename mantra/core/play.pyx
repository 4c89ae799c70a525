"""play: recorded messages go the way live ones do, into books, tops and queues, without the GIL."""
import numpy
import numpy as np

from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset

from mantra.core.clock cimport mantra_clock_set
from mantra.core.doorbell cimport mantra_doorbell_end
from mantra.core.hot_path cimport MANTRA_BY_IMAGE
from mantra.core.ledger cimport Row
from mantra.core.messages cimport MANTRA_ASK, MANTRA_BID, MANTRA_DEPTH
from mantra.core.queue cimport Producer, Queue
from mantra.core.vector cimport Vector

from enum import IntEnum

from mantra.errors import ConfigurationError

FAMILIES = {"updates": MANTRA_PLAY_UPDATES, "trades": MANTRA_PLAY_TRADES, "orders": MANTRA_PLAY_ORDERS,
            "tops": MANTRA_PLAY_TOPS}


class Played(IntEnum):
    """Why `Deck.run` came back."""

    UNTIL = MANTRA_PLAYED_UNTIL     # all that was to be played is
    MOST = MANTRA_PLAYED_MOST
    WOKEN = MANTRA_PLAYED_WOKEN
    LONG = MANTRA_PLAYED_LONG


cdef class Reel:
    """Messages of the stream `family` ("updates", ...; any other: only moments, for what is missing then), in the order of `times` (UTC ns, never falling), stamped on the
    deck's clock; of each the deck's numbers of its feed and book, and its position in the queue of its `capture`."""

    def __init__(self, str family not None, messages, int64_t[::1] times not None, uint16_t[::1] feeds not None,
                 uint32_t[::1] books not None, const uint64_t[::1] positions not None, uint64_t capture):
        cdef uint8_t[::1] raw = messages.view(np.uint8)
        cdef Py_ssize_t count = len(messages)
        if not count == len(times) == len(feeds) == len(books) == len(positions):
            raise ValueError(f"{count} messages; times, feeds, books and positions are each one's")
        self.times, self.kept = np.asarray(times), (raw, feeds, books, positions)
        self.reel.family = FAMILIES.get(family, MANTRA_PLAY_NOTHING)
        self.reel.size, self.reel.count, self.reel.capture = messages.dtype.itemsize, count, capture
        if count:
            self.reel.messages, self.reel.times, self.reel.feeds = &raw[0], &times[0], &feeds[0]
            self.reel.books, self.reel.positions = &books[0], &positions[0]

    def __dealloc__(self):
        cdef uint64_t i
        for i in range(self.reel.image_count):
            free(self.reel.images[i].changes)
        free(self.reel.images)

    cdef mantra_reel_image *slot(self, uint64_t before, uint32_t feed, uint32_t book) except NULL:
        cdef uint64_t at = self.reel.image_count
        cdef mantra_reel_image *images = <mantra_reel_image *>realloc(self.reel.images,
                                                                      (at + 1) * sizeof(mantra_reel_image))
        if images is NULL or (at and images[at - 1].before > before):
            raise MemoryError if images is NULL else ValueError("images come in their order")
        self.reel.images, self.reel.image_count = images, at + 1
        memset(&images[at], 0, sizeof(mantra_reel_image))
        images[at].before, images[at].feed, images[at].book = before, feed, book
        return &images[at]

    def miss(self, uint64_t before, uint32_t feed) -> None:
        """Something is missing there: no book of this feed is whole until its next image."""
        self.slot(before, feed, MANTRA_NO_BOOK)

    def image(self, uint64_t before, uint32_t feed, uint32_t book, image, *, bint told=False) -> None:
        """What `book` is before that message (a BookImage). `told`: the message is the RESET that tells of it."""
        cdef mantra_reel_image *slot = self.slot(before, feed, book)
        cdef int64_t[:, ::1] rows
        cdef uint64_t i, n = 0
        slot.position = image.position
        slot.told = told
        slot.count = len(image.bids) + len(image.asks)
        slot.changes = <mantra_change *>calloc(slot.count + 1, sizeof(mantra_change))
        if slot.changes is NULL:
            raise MemoryError
        for kind, side in ((MANTRA_BID, image.bids), (MANTRA_ASK, image.asks)):
            if len(side):
                rows = np.ascontiguousarray(side, np.int64)
                for i in range(<uint64_t>rows.shape[0]):
                    slot.changes[n].kind, slot.changes[n].price, slot.changes[n].size = kind, rows[i, 0], rows[i, 1]
                    n += 1
        slot.generation, slot.sequence = image.generation, image.sequence
        slot.venue_time_ns, slot.trust_since_ns = image.venue_time_ns, image.trust_since_ns
        slot.trust, slot.reason = image.trust, image.reason

    def __len__(self) -> int:
        return self.reel.count


cdef class Deck:
    """Plays reels into the queues and books of a run whose clock is virtual. One thread at a time runs it; `wake` and
    `stop` are any thread's."""

    def __cinit__(self, Clock clock not None, Doorbell doorbell not None, Audience audience not None, *,
                  uint32_t most_feeds, uint32_t most_books, uint32_t most_queues):
        cdef mantra_play *play = &self.play
        self.clock, self.kept, self.reels = clock, [doorbell, audience], []
        self.most_feeds, self.most_books = most_feeds, most_books
        play.clock, play.doorbell, play.audience = clock.clock, doorbell.doorbell, audience.audience
        play.ahead = <uint64_t>(clock.cycles() - clock.utc_ns())
        play.feeds = <mantra_feed *>calloc(most_feeds, sizeof(mantra_feed))
        play.books = <mantra_played *>calloc(most_books, sizeof(mantra_played))
        play.queues = <mantra_queue *>calloc(most_queues, sizeof(mantra_queue))
        play.queue_count, play.least = most_queues, 1 << 32
        if not (play.feeds and play.books and play.queues):
            raise MemoryError
        self.load([])

    def __dealloc__(self):
        free(self.play.feeds)
        free(self.play.books)
        free(self.play.queues)
        free(self.play.reels)

    # What it plays into ------------------------------------------------------------------------------------------

    def add_feed(self, int venue, int publisher, Row ledger not None, Producer updates not None,
                 Producer trades not None, Producer tops not None, Producer orders, Vector latest_tops not None,
                 Doorbell doorbell not None, *, bint tops_recorded) -> int:
        """A feed's queues, and its number here. `tops_recorded`: they are not to be made from its books."""
        cdef uint32_t number = self.feed_count
        cdef mantra_feed *feed = &self.play.feeds[number]
        if number == self.most_feeds:
            raise ConfigurationError(f"at most {self.most_feeds} feeds are played at once")
        latest_tops.writing()
        ledger.owner.writing()
        feed.clock, feed.doorbell, feed.ledger = self.clock.clock, doorbell.doorbell, ledger.row
        feed.updates, feed.trades, feed.tops = &updates.producer, &trades.producer, &tops.producer
        feed.orders = NULL if orders is None else &orders.producer
        feed.latest_tops = &latest_tops.vector
        feed.publisher, feed.venue = publisher, venue
        feed.scheme = MANTRA_BY_IMAGE if tops_recorded else 0
        self.kept.append((ledger, updates, trades, tops, orders, latest_tops, doorbell))
        self.feed_count += 1
        return number

    def add_book(self, uint32_t feed, Book book not None, int slot, uint32_t instrument, Row ledger not None) -> int:
        """A book, its place in the vector of tops, its row of counters; its number here."""
        cdef uint32_t number = self.play.book_count
        cdef mantra_played *played = &self.play.books[number]
        if number == self.most_books:
            raise ConfigurationError(f"at most {self.most_books} books are played at once")
        ledger.owner.writing()
        played.book.book, played.book.slot, played.book.instrument = book.book, slot, instrument
        played.book.ledger = ledger.row
        played.feed, played.best = feed, MANTRA_DEPTH
        self.kept.append((book, ledger))
        self.play.book_count += 1
        return number

    def watch(self, Queue queue not None) -> None:
        """Wait for who reads this queue, ours or what others make of ours."""
        if queue.queue.number >= self.play.queue_count:
            raise ConfigurationError(f"at most {self.play.queue_count} queues are watched")
        self.play.queues[queue.queue.number] = queue.queue
        self.play.least = min(self.play.least, queue.capacity)
        self.kept.append(queue)

    # Playing -----------------------------------------------------------------------------------------------------

    def load(self, reels: list[Reel]) -> None:
        """Play these too; those that are played are let go."""
        cdef Reel reel
        self.reels = [*(each for each in self.reels if (<Reel>each).reel.at < (<Reel>each).reel.count), *reels]
        cdef mantra_reel **pointers = <mantra_reel **>realloc(self.play.reels, (len(self.reels) + 1) * sizeof(void *))
        if pointers is NULL:
            raise MemoryError
        self.play.reels, self.play.reel_count = pointers, 0
        for reel in self.reels:
            pointers[self.play.reel_count] = &reel.reel
            self.play.reel_count += 1
            if reel.reel.count == 0:
                with nogil:
                    mantra_play_images(&self.play, &reel.reel)

    def run(self, int64_t until, most: int | None = None, *, bint whole=True, double seconds=0.05) -> int:
        """Play what was published before `until` (UTC ns), at most `most` messages, or `whole` batches, for `seconds`;
        a Played says why it came back."""
        cdef uint64_t count = (1 << 62) if most is None else most
        cdef int64_t slice_ns = <int64_t>(seconds * 1e9)
        cdef int why
        with nogil:
            why = mantra_play_run(&self.play, until, count, whole, slice_ns)
        return why

    def wake(self) -> None:
        """End a run, this one or the next. Any thread."""
        mantra_doorbell_end(NULL, &self.play.waiting)

    def stop(self) -> None:
        """Wait for nobody any more. Any thread."""
        self.play.stopping = 1
        self.wake()

    def jump(self, int64_t utc_ns) -> None:
        """Go to another moment: books and reels are forgotten, and nobody is told of what is played until `land`."""
        cdef uint32_t i
        self.reels = []
        self.load([])
        for i in range(self.play.book_count):
            mantra_play_clear(&self.play.books[i])
        for i in range(self.feed_count):
            self.play.feeds[i].heard = <uint64_t>-1     # no capture: positions begin anew
        self.play.silent, self.play.time, self.play.landing = True, 0, 0
        if utc_ns < self.clock.utc_ns():
            mantra_clock_set(self.clock.clock, utc_ns)
        else:
            self.clock.advance_to(utc_ns)
        self.play.ahead = <uint64_t>(self.clock.cycles() - utc_ns)

    def land(self, int64_t utc_ns) -> None:
        """All that came before that moment was played: the next runs tell everybody of all books as they are, first."""
        self.play.silent, self.play.time, self.play.landing = False, utc_ns, self.play.book_count
        self.pace(self.play.speed)

    def pass_to(self, int64_t utc_ns) -> None:
        """Let time pass until then, although nothing is published."""
        self.play.time = max(self.play.time, utc_ns)
        self.clock.advance_to(utc_ns)

    def pace(self, double speed) -> None:
        """Play so many recorded seconds a second from here on; 0: as fast as they are read."""
        self.play.speed, self.play.anchor_ns = speed, 0

    @property
    def time(self) -> int:
        """UTC ns of the recording now."""
        return self.play.time

    @property
    def ahead(self) -> int:
        """Cycles less UTC ns, modulo 2**64: what stamps are ahead of times."""
        return self.play.ahead

    def counts(self) -> dict[str, int]:
        """Messages played; updates that were not recorded (of books that are another now, or miss something); images that were compared with books, and how many differed;
        times that it waited for readers."""
        return {"played": self.play.messages, "told": self.play.told, "images": self.play.images,
                "differing": self.play.differing, "waits": self.play.waits}

    def digest(self) -> bytes:
        """Of all that was published, in its order."""
        return (<char *>self.play.digest)[:32]
