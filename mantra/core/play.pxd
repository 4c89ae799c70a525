"""play: recorded messages go the way live ones do (csrc/mantra/play.h)."""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from mantra.core.audience cimport Audience, mantra_audience
from mantra.core.book cimport Book, mantra_change
from mantra.core.clock cimport Clock, mantra_clock
from mantra.core.doorbell cimport Doorbell, mantra_doorbell, mantra_waiting
from mantra.core.hot_path cimport mantra_feed, mantra_feed_book
from mantra.core.queue cimport mantra_queue

cdef extern from "mantra/play.h" nogil:
    enum: MANTRA_PLAY_UPDATES, MANTRA_PLAY_TRADES, MANTRA_PLAY_ORDERS, MANTRA_PLAY_TOPS, MANTRA_PLAY_NOTHING, MANTRA_NO_BOOK
    enum: MANTRA_PLAYED_UNTIL, MANTRA_PLAYED_MOST, MANTRA_PLAYED_WOKEN, MANTRA_PLAYED_LONG

    ctypedef struct mantra_reel_image:
        uint64_t before, position
        uint32_t feed, book
        bint told
        mantra_change *changes
        uint64_t count, generation, sequence
        int64_t venue_time_ns, trust_since_ns
        uint32_t trust, reason

    ctypedef struct mantra_reel:
        uint8_t *messages
        int64_t *times
        uint16_t *feeds
        uint32_t *books
        const uint64_t *positions
        uint64_t size, count, at
        mantra_reel_image *images
        uint64_t image_count, image_at, capture
        uint32_t family

    ctypedef struct mantra_played:
        mantra_feed_book book
        uint32_t feed
        int best

    ctypedef struct mantra_play:
        mantra_clock *clock
        mantra_doorbell *doorbell
        mantra_feed *feeds
        mantra_played *books
        uint32_t book_count
        mantra_reel **reels
        uint32_t reel_count
        mantra_audience *audience
        mantra_queue *queues
        uint32_t queue_count, landing
        uint64_t least, room, ahead
        bint silent
        mantra_waiting waiting
        uint32_t stopping
        double speed
        int64_t anchor_ns, time
        uint64_t messages, waits, told, images, differing
        uint64_t *digest

    void mantra_play_images(mantra_play *play, mantra_reel *reel)
    void mantra_play_clear(mantra_played *played)
    int mantra_play_run(mantra_play *play, int64_t until, uint64_t most, bint whole, int64_t slice_ns)


cdef class Reel:
    cdef mantra_reel reel
    cdef readonly object times      # UTC ns when each was published
    cdef object kept                # what else `reel` points to
    cdef mantra_reel_image *slot(self, uint64_t before, uint32_t feed, uint32_t book) except NULL


cdef class Deck:
    cdef mantra_play play
    cdef readonly Clock clock
    cdef list kept                  # Python owners of everything that `play` points to
    cdef list reels
    cdef uint32_t most_feeds, most_books, feed_count
