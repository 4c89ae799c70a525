/* feed.h - what a feed is, how far its books are believed, and how that is published.
 *
 * A feed is one connection: its transport, its frames, its venue's decoder, its books and its queues. One thread runs
 * it and is the only writer of all of them. hot_path.h takes messages to books, receive.h takes bytes to messages. */
#ifndef MANTRA_FEED_H
#define MANTRA_FEED_H

#include "mantra/book.h"
#include "mantra/clock.h"
#include "mantra/decode.h"
#include "mantra/doorbell.h"
#include "mantra/frame.h"
#include "mantra/histogram.h"
#include "mantra/ledger.h"
#include "mantra/queue.h"
#include "mantra/tape.h"
#include "mantra/top.h"
#include "mantra/tracking.h"
#include "mantra/transport.h"
#include "mantra/vector.h"

enum { MANTRA_BY_IDS, MANTRA_BY_TIME, MANTRA_BY_IMAGE, MANTRA_BY_STREAM };

/* What proves a venue's books (mantra_feed.proofs). */
enum { MANTRA_PROOF_IDS = 1, MANTRA_PROOF_NUMBERS = 2, MANTRA_PROOF_CHECKSUMS = 4 };

/* State of a book in its feed; trust, which others see, follows from it. */
enum {
    MANTRA_BOOK_IDLE,    /* not connected or not asked for: messages are of no use */
    MANTRA_BOOK_HOLDING, /* waits for a snapshot; messages are held back (BY_STREAM: are of no use) */
    MANTRA_BOOK_LIVE,
};

/* What a book wants from Python (mantra_feed_book.wants). */
enum { MANTRA_WANTS_SNAPSHOT = 1, MANTRA_WANTS_SCALE = 2 };

/* Why mantra_feed_run() came back. */
enum {
    MANTRA_EVENT_NONE = 0,
    MANTRA_EVENT_TEXT = 1,     /* feed->text is for the subscriber: acknowledgement, error, restart notice */
    MANTRA_EVENT_WANTS = 2,    /* some book wants something */
    MANTRA_EVENT_WOKEN = 3,    /* another thread called mantra_transport_wake() */
    MANTRA_EVENT_DEADLINE = 4,
    MANTRA_EVENT_CLOSED = 5,   /* the venue closed: feed->close_code, 0 without a close frame */
    MANTRA_EVENT_FAILED = 6,   /* the transport failed */
    MANTRA_EVENT_PROTOCOL = 7, /* not WebSocket: feed->protocol_error of frame.h */
    MANTRA_EVENT_SILENT = 8,   /* nothing received for longer than the venue's rule allows */
};

/* A second look at what a snapshot said (mantra_feed_book.looked), by Python. */
enum { MANTRA_LOOK_AHEAD, MANTRA_LOOK_AGREED, MANTRA_LOOK_GIVEN_UP };

/* A best bid and offer that the venue named apart from its book. It may have left one out that lasted but an instant (2
 * of 5,694 in Binance's recording of 2024-08-08): a book is doubted when so many in a row disagree. */
#define MANTRA_WITNESS_DOUBTS 3
typedef struct mantra_witness {
    uint64_t sequence;         /* 0: none yet */
    int64_t price[2], size[2];
    uint32_t doubts;           /* disagreements in a row */
} mantra_witness;

typedef struct mantra_feed_book {
    mantra_book book;
    mantra_ledger_row *ledger; /* of this book; the feed's has the sum */
    uint32_t instrument;
    uint32_t slot;             /* in the run's vector of tops */
    uint8_t state, wants;
    uint8_t trust, reason;
    uint8_t looked;            /* MANTRA_LOOK_*: is the snapshot what the venue says when asked again? */
    mantra_orders orders;      /* .slots NULL: the venue tells of levels */
    char link[MANTRA_LINK_BYTES]; /* of the last message about orders, if `linked` */
    bool linked;
    uint64_t spliced;          /* the snapshot's sequence: what is older is in it */
    bool proven;               /* BY_STREAM: its snapshot was numbered or a checksum agreed, since the last doubt */
    bool failed;               /* its last checksum did not agree */
    bool chained;              /* the stream has been seen to reach back to the snapshot, or to follow it without a hole */
    uint64_t sequence;         /* the last message applied */
    uint64_t streamed;         /* the newest message of this connection, applied or not */
    uint64_t needed;           /* a snapshot older than this leaves a hole before the first held message */
    uint32_t held;             /* messages held back */
    uint32_t behind;           /* messages in a row that were older than the book */
    int64_t told[2];           /* by side: the worst price that a cut snapshot told of; 0: it told of all */
    uint64_t last_trade_id;    /* 0: none yet */
    bool traded;               /* on this connection */
    int64_t overlap_ns;        /* trades until then, venue's time, may have come over the connection before; 0: none */
    uint64_t crossed_at;       /* cycles; 0: not crossed */
    uint64_t heard;            /* cycles; kept where channels have heartbeats */
    mantra_witness witness;
    int64_t trust_since_ns;
    int64_t distrusted_since_ns;   /* below unverified; 0: it is not */
} mantra_feed_book;

/* Held back: `size` bytes of text follow this, then padding to 8. What it leads to has the snapshot's origin: that is
 * what it waited for. */
typedef struct mantra_held {
    uint32_t size, book;
} mantra_held;

#define MANTRA_HELD_EARLY UINT32_MAX /* mantra_held.book: it came before its channel was acknowledged */

#define MANTRA_BEHIND_LIMIT 256 /* no venue is late by so many: it has begun to count anew, and the book stands still */
#define MANTRA_NEEDS_MESSAGE UINT64_MAX /* `needed`: the next message will tell how new the snapshot must be */

typedef struct mantra_feed {
    /* given */
    const mantra_clock *clock;
    mantra_transport *transport;       /* NULL for a recording */
    mantra_frames frames;
    mantra_decode decode, decode_snapshot;
    mantra_orders_checksum orders_checksum;
    mantra_checksum checksum;          /* NULL: the venue has none, or they are not looked at */
    mantra_decoder decoder;
    mantra_feed_book *books;
    uint32_t book_count;
    mantra_producer *updates, *trades, *tops;
    mantra_producer *orders;           /* NULL: books are kept by level */
    mantra_vector *latest_tops;
    mantra_doorbell *doorbell;
    mantra_ledger_row *ledger;
    mantra_histogram *socket_to_top;   /* NULL: not measured */
    mantra_tracker *tracker;           /* NULL: messages are not timed */
    mantra_tape_writer *tape;          /* NULL: nobody wants one */
    uint8_t *held;
    size_t held_size, held_capacity;
    uint32_t index;                    /* among the feeds of a poller */
    uint16_t publisher;
    uint8_t venue, scheme, live_trust, proofs;
    bool looks_twice;                  /* a snapshot is believed fully only after a second look */
    bool dense_trades;                 /* trade ids rise by one per instrument: a jump is a loss */
    uint32_t snapshot_levels;          /* a side of a snapshot with so many may have more; 0: snapshots are whole */
    uint32_t keep;                     /* levels a side that the venue's own book has; 0: all */
    int64_t first_number;              /* of a connection's messages; -1: it may begin anywhere */
    uint64_t cross_believed;           /* cycles that a cross may last, as it does at this venue in good order */
    uint64_t cross_limit;              /* ... and then be suspect, before the book is resynchronised */
    /* liveness, in cycles; 0: not looked at */
    uint64_t heartbeat_every, stale_after, silent_after, channel_silent_after;
    uint8_t heartbeat_opcode;
    uint16_t heartbeat_size;
    uint8_t heartbeat[128];
    /* running */
    uint64_t origin;                   /* of the bytes being read */
    uint64_t split_origin;             /* of the first bytes of a message that is not complete yet; 0: none */
    uint64_t begun, published_at;      /* the message at work: since when; when it was published. 0: not told, not yet */
    uint64_t heard, next_heartbeat;
    uint64_t look_at;                  /* when a book has to be looked at although nothing arrives; UINT64_MAX: never */
    uint64_t next_number;              /* of the connection's messages */
    bool counting;                     /* next_number is known */
    uint32_t behind;                   /* messages in a row that were numbered lower */
    uint64_t overlap_from, overlap_to; /* trades that the connection before published while this one was there already */
    bool stale, replaying;
    uint64_t resets;                   /* books replaced, in all: who plays a recording takes their images */
    const uint8_t *text;
    size_t text_size;
    uint16_t close_code;
    int protocol_error;
    uint32_t wanting;                  /* books whose wants are not zero */
} mantra_feed;

#define MANTRA_COUNT(feed, counter, n) mantra_ledger_add((feed)->ledger, MANTRA_COUNT_##counter, (n))
#define MANTRA_COUNT_BOOK(feed, book, counter, n) \
    (MANTRA_COUNT(feed, counter, n), mantra_ledger_add((book)->ledger, MANTRA_COUNT_##counter, (n)))

/* Put on the tape, if one is wanted, what the feed was told or said. All that changes what it publishes is there, with the
 * time that it was done by, in the order in which it was done: so a feed that is told the same again publishes the same. */
static inline void
mantra_feed_note(mantra_feed *feed, uint8_t kind, uint16_t book, uint8_t argument, uint64_t origin, const void *text,
                 size_t size)
{
    if (MANTRA_UNLIKELY(feed->tape != NULL))
        mantra_tape_write(feed->tape, kind, book, argument, origin, text, size);
}

static inline void
mantra_feed_want(mantra_feed *feed, mantra_feed_book *book, uint8_t what)
{
    feed->wanting += book->wants == 0;
    book->wants |= what;
}

static inline void
mantra_feed_publish_top(mantra_feed *feed, mantra_feed_book *book, int64_t venue_time_ns, uint64_t origin, uint64_t now)
{
    const uint64_t head[MANTRA_TOP_WORDS] = {
        origin,
        mantra_pack_published(now - origin, feed->publisher),
        book->sequence,
        (uint64_t)venue_time_ns,
        (uint64_t)book->trust_since_ns,
        mantra_word(book->instrument, feed->venue, book->trust, book->reason,
                    feed->replaying ? MANTRA_FROM_SNAPSHOT : 0),
    };
    mantra_seqlock *latest = mantra_vector_begin(feed->latest_tops, book->slot);
    mantra_seqlock *queued = mantra_produce_begin(feed->tops);
    mantra_top_store(&book->book, head, latest->words, queued->words);
    mantra_vector_end(latest);
    mantra_produce_end(feed->tops, queued);
    MANTRA_COUNT_BOOK(feed, book, tops, 1);
    mantra_doorbell_hurry(feed->doorbell);
}

/* Before and after each message, where they are timed: one record each, from stamps taken anyway where it was
 * published. Its wait is behind other messages of the same bytes. The time from a split message's first bytes to its
 * last is the wire's (the delta of `published`), and what follows the publishing of a top, queueing the updates, the
 * next one's wait. */
static inline void
mantra_feed_timing(mantra_feed *feed)
{
    if (!feed->begun)
        feed->begun = mantra_clock_cycles(feed->clock);
    feed->published_at = 0;
}

static inline void
mantra_feed_timed(mantra_feed *feed, uint64_t origin)
{
    const uint64_t done = feed->published_at ? feed->published_at : mantra_clock_cycles(feed->clock);
    const uint64_t wire = feed->origin > origin ? feed->origin - origin : 0;
    mantra_tracker_record(feed->tracker, origin, mantra_pack_published(wire, feed->publisher), feed->begun, done,
                          mantra_ledger_get(feed->ledger, MANTRA_COUNT_messages) - 1, MANTRA_SOCKET, 1);
    feed->begun = done;
}

/* One update; `published` as mantra_pack_published() makes it. */
static inline void
mantra_feed_update(mantra_feed *feed, const mantra_feed_book *book, uint8_t kind, uint8_t flags, int64_t price,
                   int64_t size, int64_t venue_time_ns, uint64_t origin, uint64_t published)
{
    _Static_assert(offsetof(mantra_update, instrument) == 48 && offsetof(mantra_update, trust) == 55, "as stored here");
    mantra_seqlock *slot = mantra_produce_begin(feed->updates);
    mantra_word_store(&slot->words[0], origin);
    mantra_word_store(&slot->words[1], published);
    mantra_word_store(&slot->words[2], (uint64_t)price);
    mantra_word_store(&slot->words[3], (uint64_t)size);
    mantra_word_store(&slot->words[4], book->sequence);
    mantra_word_store(&slot->words[5], (uint64_t)venue_time_ns);
    mantra_word_store(&slot->words[6], mantra_word(book->instrument, feed->venue, kind, flags, book->trust));
    mantra_produce_end(feed->updates, slot);
}

/* mantra_update.flags of what tells of trust anew. */
static inline uint8_t
mantra_feed_why(const mantra_feed_book *book)
{
    return (uint8_t)(book->reason << MANTRA_REASON_SHIFT);
}

/* The header fields that go with the levels; inside the book's write section. */
static inline void
mantra_feed_describe(mantra_feed *feed, mantra_feed_book *book, int64_t venue_time_ns, uint64_t updates_to_come)
{
    mantra_book_stamp(&book->book, book->sequence, venue_time_ns, feed->updates->position + updates_to_come);
    mantra_book_judge(&book->book, book->trust, book->reason, book->trust_since_ns);
}

/* What the book's own record says of its trust; how long it was not to be used is summed up. */
MANTRA_COLD void
mantra_feed_retrust(mantra_feed *feed, mantra_feed_book *book, uint8_t trust, uint8_t reason, uint64_t now)
{
    if (book->trust != trust) {
        book->trust_since_ns = mantra_clock_utc_ns(feed->clock, now);
        if (trust < MANTRA_UNVERIFIED && !book->distrusted_since_ns) {
            book->distrusted_since_ns = book->trust_since_ns;
        } else if (trust >= MANTRA_UNVERIFIED && book->distrusted_since_ns) {
            const int64_t lasted = book->trust_since_ns - book->distrusted_since_ns;
            MANTRA_COUNT_BOOK(feed, book, distrusted_ns, lasted > 0 ? (uint64_t)lasted : 0);
            book->distrusted_since_ns = 0;
        }
    }
    book->trust = trust;
    book->reason = reason;
}

/* Trust changes without a level changing: everybody is told at once. */
static inline void
mantra_feed_trust(mantra_feed *feed, mantra_feed_book *book, uint8_t trust, uint8_t reason, uint64_t origin)
{
    if (book->trust == trust && book->reason == reason)
        return;
    const uint64_t now = mantra_clock_cycles(feed->clock);
    mantra_feed_retrust(feed, book, trust, reason, now);
    const int64_t venue_time_ns = MANTRA_BOOK_GET(&book->book, venue_time_ns);
    mantra_book_begin(&book->book);
    mantra_feed_describe(feed, book, venue_time_ns, 1);
    mantra_book_end(&book->book);
    mantra_feed_update(feed, book, MANTRA_TRUST, mantra_feed_why(book), 0, 0, venue_time_ns, origin,
                       mantra_pack_published(now - origin, feed->publisher));
    MANTRA_COUNT_BOOK(feed, book, updates, 1);
    mantra_feed_publish_top(feed, book, venue_time_ns, origin, now);
    mantra_doorbell_ring(feed->doorbell);
}

/* Lose faith in a book: it needs a snapshot (or, BY_IMAGE, the next message) to be believed again. BY_STREAM the
 * snapshot comes in the stream, after whatever was lost: so one is asked for, once, and what comes before it is of no
 * use. */
static inline void
mantra_feed_suspect(mantra_feed *feed, mantra_feed_book *book, uint8_t reason, uint64_t origin)
{
    if (book->state == MANTRA_BOOK_IDLE)
        return;
    mantra_feed_trust(feed, book, MANTRA_SUSPECT, reason, origin);
    book->crossed_at = 0;
    if (feed->scheme == MANTRA_BY_IMAGE)
        return;
    book->proven = false;
    book->witness = (mantra_witness){0};
    if (book->state == MANTRA_BOOK_LIVE) {
        if (book->chained)
            MANTRA_COUNT_BOOK(feed, book, resyncs, 1); /* else it was not synchronised yet */
        book->state = MANTRA_BOOK_HOLDING;
        book->needed = book->streamed;
    } else if (feed->scheme == MANTRA_BY_STREAM)
        return;
    if (feed->scheme == MANTRA_BY_TIME)
        book->needed = MANTRA_NEEDS_MESSAGE; /* what was lost has no number: only a later message bounds it */
    mantra_feed_want(feed, book, MANTRA_WANTS_SNAPSHOT);
}

MANTRA_COLD void
mantra_feed_suspect_all(mantra_feed *feed, uint8_t reason, uint64_t origin)
{
    for (uint32_t i = 0; i < feed->book_count; i++)
        mantra_feed_suspect(feed, &feed->books[i], reason, origin);
}

/* How far a live book deserves to be believed, and why no further. */
static inline uint8_t
mantra_feed_deserves(mantra_feed *feed, mantra_feed_book *book, uint8_t *reason, uint64_t origin)
{
    if (MANTRA_UNLIKELY(mantra_book_crossed(&book->book))) {
        if (!book->crossed_at) {
            book->crossed_at = origin;
            feed->look_at = mantra_min_u64(feed->look_at, origin + feed->cross_believed);
            MANTRA_COUNT_BOOK(feed, book, crosses, 1);
        }
        if ((int64_t)(origin - book->crossed_at) >= (int64_t)feed->cross_believed) { /* bytes may have waited for Python */
            *reason = MANTRA_REASON_CROSSED;
            return MANTRA_SUSPECT;
        }
    } else {
        book->crossed_at = 0;
    }
    if (MANTRA_UNLIKELY(book->failed)) {
        *reason = MANTRA_REASON_CHECKSUM;
        return MANTRA_SUSPECT;
    }
    if (MANTRA_UNLIKELY(feed->stale)) {
        *reason = MANTRA_REASON_SILENT; /* a snapshot came while the stream is silent */
        return MANTRA_STALE;
    }
    if (MANTRA_UNLIKELY(!book->proven) && feed->scheme == MANTRA_BY_STREAM) {
        *reason = feed->live_trust > MANTRA_UNVERIFIED ? MANTRA_REASON_SYNCHRONISING : MANTRA_REASON_NONE;
        return MANTRA_UNVERIFIED;
    }
    if (MANTRA_UNLIKELY(!book->chained) && feed->live_trust == MANTRA_VERIFIED) {
        *reason = MANTRA_REASON_SYNCHRONISING; /* the snapshot may be older than the stream: its first message will tell */
        return MANTRA_UNVERIFIED;
    }
    if (MANTRA_UNLIKELY(feed->looks_twice && book->looked != MANTRA_LOOK_AGREED)) {
        *reason = MANTRA_REASON_SYNCHRONISING;
        return book->looked == MANTRA_LOOK_GIVEN_UP ? MANTRA_UNVERIFIED : (uint8_t)(feed->live_trust - 1);
    }
    *reason = MANTRA_REASON_NONE;
    return feed->live_trust;
}

/* After levels changed; the caller publishes. Returns whether trust itself changed. */
static inline bool
mantra_feed_judge(mantra_feed *feed, mantra_feed_book *book, uint64_t origin)
{
    uint8_t reason;
    const uint8_t trust = mantra_feed_deserves(feed, book, &reason, origin);
    if (MANTRA_LIKELY(trust == book->trust && reason == book->reason))
        return false;
    mantra_feed_retrust(feed, book, trust, reason, mantra_clock_cycles(feed->clock));
    return true;
}

/* Something was learnt about a live book although no level changed. */
static inline void
mantra_feed_rejudge(mantra_feed *feed, mantra_feed_book *book, uint64_t origin)
{
    uint8_t reason;
    if (book->state == MANTRA_BOOK_LIVE) {
        const uint8_t trust = mantra_feed_deserves(feed, book, &reason, origin);
        mantra_feed_trust(feed, book, trust, reason, origin);
    }
}

/* After a snapshot: how deep does it tell of the book? */
static inline void
mantra_feed_told(const mantra_feed *feed, mantra_feed_book *book)
{
    for (size_t side = 0; side < 2; side++) {
        const bool cut = feed->snapshot_levels && mantra_book_count(&book->book, side) >= feed->snapshot_levels;
        book->told[side] = cut ? mantra_book_worst(&book->book, (uint8_t)(MANTRA_BID + side)) : 0;
    }
}

/* Has the market moved so far that the top holds levels which the snapshot did not tell of? Between them others may
 * stand, unknown until they change: the top would be wrong, and look right. */
static inline bool
mantra_feed_adrift(const mantra_feed_book *book)
{
    for (size_t side = 0; side < 2; side++) {
        const uint32_t count = MANTRA_BOOK_GET(&book->book, count[side]);
        const int64_t mirror = -(int64_t)side;
        if (book->told[side] &&
            (count < MANTRA_DEPTH ||
             (mantra_level_price(mantra_book_side(&book->book, side) + count - MANTRA_DEPTH) ^ mirror) <
                 (book->told[side] ^ mirror)))
            return true;
    }
    return false;
}

#endif
