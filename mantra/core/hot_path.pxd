from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from mantra.core.book cimport mantra_book
from mantra.core.clock cimport Clock, mantra_clock
from mantra.core.decode cimport mantra_checksum, mantra_decode, mantra_decoder, mantra_orders, mantra_orders_checksum
from mantra.core.doorbell cimport mantra_doorbell
from mantra.core.frame cimport mantra_frames
from mantra.core.histogram cimport mantra_histogram
from mantra.core.ledger cimport mantra_ledger_row
from mantra.core.messages cimport mantra_trade
from mantra.core.plugin cimport Plugin
from mantra.core.poller cimport mantra_poller
from mantra.core.queue cimport mantra_producer
from mantra.core.tape cimport TapeWriter, mantra_tape_record, mantra_tape_writer
from mantra.core.tracking cimport mantra_tracker
from mantra.core.transport cimport Transport, mantra_transport
from mantra.core.vector cimport mantra_vector


cdef extern from "mantra/pages.h" nogil:
    void *mantra_pages_new(size_t size)
    void mantra_pages_free(void *memory)

cdef extern from "mantra/rerun.h" nogil:
    enum: MANTRA_BY_IDS, MANTRA_BY_TIME, MANTRA_BY_IMAGE, MANTRA_BY_STREAM, MANTRA_WANTS_SNAPSHOT
    enum: MANTRA_BOOK_LIVE
    enum: MANTRA_PROOF_IDS, MANTRA_PROOF_NUMBERS, MANTRA_PROOF_CHECKSUMS
    enum: MANTRA_WANTS_SCALE, MANTRA_EVENT_NONE, MANTRA_EVENT_TEXT, MANTRA_EVENT_WANTS, MANTRA_EVENT_WOKEN
    enum: MANTRA_EVENT_DEADLINE, MANTRA_EVENT_CLOSED, MANTRA_EVENT_FAILED, MANTRA_EVENT_PROTOCOL
    enum: MANTRA_EVENT_SILENT, MANTRA_SPLICED, MANTRA_SPLICE_OLD

    ctypedef struct mantra_feed_book:
        mantra_book book
        mantra_orders orders
        mantra_ledger_row *ledger
        uint32_t instrument, slot
        uint8_t state, wants, trust, reason
        uint64_t sequence
        uint32_t held
        uint64_t last_trade_id
        int64_t trust_since_ns, distrusted_since_ns

    ctypedef struct mantra_feed:
        const mantra_clock *clock
        mantra_transport *transport
        mantra_frames frames
        mantra_decode decode, decode_snapshot
        mantra_checksum checksum
        mantra_orders_checksum orders_checksum
        mantra_decoder decoder
        mantra_feed_book *books
        uint32_t book_count
        mantra_producer *updates
        mantra_producer *trades
        mantra_producer *tops
        mantra_producer *orders
        mantra_vector *latest_tops
        mantra_doorbell *doorbell
        mantra_ledger_row *ledger
        mantra_histogram *socket_to_top
        mantra_tracker *tracker
        mantra_tape_writer *tape
        uint8_t *held
        size_t held_capacity
        uint32_t index
        uint16_t publisher
        uint8_t venue, scheme, live_trust, proofs
        bint looks_twice
        bint dense_trades
        uint32_t snapshot_levels
        uint32_t keep
        int64_t first_number
        uint64_t cross_believed, cross_limit, heartbeat_every, stale_after, silent_after, channel_silent_after
        uint8_t heartbeat_opcode
        uint16_t heartbeat_size
        uint8_t *heartbeat
        uint64_t heard, begun, resets
        const uint8_t *text
        size_t text_size
        uint16_t close_code
        int protocol_error
        uint32_t wanting

    void mantra_feed_begin(mantra_feed *feed, uint64_t now)
    void mantra_feed_end(mantra_feed *feed, uint8_t reason, uint64_t now)
    int mantra_feed_message(mantra_feed *feed, const char *text, size_t size, uint64_t origin)
    int mantra_feed_splice(mantra_feed *feed, uint32_t index, const char *text, size_t size, bint settled, uint64_t origin)
    int mantra_feed_run(mantra_feed *feed, uint64_t deadline)
    void mantra_feed_rescale(mantra_feed *feed, uint32_t index, uint32_t instrument, uint64_t now)
    void mantra_feed_suspect(mantra_feed *feed, mantra_feed_book *book, uint8_t reason, uint64_t origin)

    void mantra_feed_note(mantra_feed *feed, uint8_t kind, uint16_t book, uint8_t argument, uint64_t origin,
                          const void *text, size_t size)
    void mantra_feed_refuse(mantra_feed *feed, uint32_t index, uint64_t now)
    void mantra_feed_expect(mantra_feed *feed, uint32_t index)
    void mantra_feed_looked(mantra_feed *feed, uint32_t index, bint agreed, uint64_t now)
    void mantra_feed_recall(mantra_feed *feed, uint32_t index, uint64_t generation, uint64_t last_trade_id,
                            int64_t venue_time_ns)
    bint mantra_feed_again(mantra_feed *feed, const mantra_tape_record *record, const char *text)

    ctypedef struct mantra_feeds:
        mantra_poller poller
        mantra_feed **feeds
        uint32_t count
        bint revisit

    void mantra_feeds_wake(mantra_feeds *all)
    int mantra_feeds_run(mantra_feeds *all, const mantra_clock *clock, uint64_t deadline, uint32_t *which)


cdef extern from "mantra/promote.h" nogil:
    bint mantra_feed_reached(const mantra_feed *feed, mantra_feed *heir)
    void mantra_feed_promote(mantra_feed *feed, mantra_feed *heir, uint64_t trades_since, uint64_t now)
    void mantra_feed_retell(mantra_feed *feed, const mantra_trade *trade)


cdef class Feed:
    cdef mantra_feed feed
    cdef readonly str name
    cdef readonly Clock clock
    cdef Transport transport
    cdef readonly TapeWriter tape   # None: nobody wants one
    cdef list kept                  # Python owners of everything the feed points to
    cdef bytes given                # the last message given by hand: `text` may point into it
    cdef list books_
    cdef Plugin plugin              # None: the decoder is a compiled one
    cdef uint32_t most_books
    cdef void *image_texts
    cdef void *symbol_slots
    cdef void *scales
    cdef void *printed
    cdef void *routes
    cdef void *spare                # the row of books that were given none
    cdef void *symbols
    cdef uint64_t cycles_of(self, double seconds)
    cdef _set_scale(self, uint32_t index, int price_decimals, int size_decimals)
    cdef _check(self, uint32_t index)
    cdef _answered(self, uint32_t index, uint8_t what_for, str url, bytes body, uint64_t now)
    cdef list _changes(self)


cdef class FeedPoller:
    cdef mantra_feeds all
    cdef readonly Clock clock
    cdef list attached              # Feed or None, by index
