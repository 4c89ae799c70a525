/* hot_path.h - bytes become published updates in one call, without the GIL.
 *
 *   recv -> origin -> frames -> decode -> may this be applied? -> book -> top changed? -> publish, ring
 *
 * A feed is one connection: its transport, its frames, its venue's decoder, its books and its queues. One thread runs it and
 * is the only writer of all of them. Nothing here allocates, locks or calls Python; what needs Python (connecting, an
 * acknowledgement, a snapshot) comes back as an event.
 *
 * A message is decoded whole before any of it is applied. Then a book's scheme decides:
 *
 *   BY_IDS    (Binance)  first <= sequence + 1 <= last, else messages were lost
 *   BY_TIME   (Bitstamp) newer than the last one; losses can not be seen, a wrong order can
 *   BY_IMAGE  every message is the whole top; nothing to splice
 *
 * A book without a snapshot holds its messages back (bounded, as received); mantra_feed_splice() loads the snapshot and
 * runs the held messages through the same rules, so there is one path into a book. */
#ifndef MANTRA_HOT_PATH_H
#define MANTRA_HOT_PATH_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* transport.h: ppoll */
#endif

#include "mantra/book.h"
#include "mantra/clock.h"
#include "mantra/decode.h"
#include "mantra/doorbell.h"
#include "mantra/frame.h"
#include "mantra/histogram.h"
#include "mantra/ledger.h"
#include "mantra/poller.h"
#include "mantra/queue.h"
#include "mantra/top.h"
#include "mantra/transport.h"
#include "mantra/vector.h"

enum { MANTRA_BY_IDS, MANTRA_BY_TIME, MANTRA_BY_IMAGE };

/* State of a book in its feed; trust, which others see, follows from it. */
enum {
    MANTRA_BOOK_IDLE,    /* not connected or not asked for: messages are of no use */
    MANTRA_BOOK_HOLDING, /* waits for a snapshot; messages are held back */
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

typedef struct mantra_feed_book {
    mantra_book book;
    uint32_t instrument;
    uint32_t slot;             /* in the run's vector of tops */
    uint8_t state, wants;
    uint8_t trust, reason;
    uint8_t looked;            /* MANTRA_LOOK_*: is the snapshot what the venue says when asked again? */
    bool chained;              /* the stream has been seen to reach back to the snapshot, or to follow it without a hole */
    uint64_t sequence;         /* the last message applied */
    uint64_t streamed;         /* the newest message of this connection, applied or not */
    uint64_t needed;           /* a snapshot older than this leaves a hole before the first held message */
    uint32_t held;             /* messages held back */
    uint32_t behind;           /* messages in a row that were older than the book */
    int64_t told[2];           /* by side: the worst price that a cut snapshot told of; 0: it told of all */
    uint64_t last_trade_id;    /* 0: none yet */
    bool traded;               /* on this connection */
    uint64_t crossed_at;       /* cycles; 0: not crossed */
    int64_t trust_since_ns;
} mantra_feed_book;

/* Held back: `size` bytes of text follow this, then padding to 8. What it leads to has the snapshot's origin: that is
 * what it waited for. */
typedef struct mantra_held {
    uint32_t size, book;
} mantra_held;

#define MANTRA_BEHIND_LIMIT 256 /* no venue is late by so many: it has begun to count anew, and the book stands still */
#define MANTRA_NEEDS_MESSAGE UINT64_MAX /* `needed`: the next message will tell how new the snapshot must be */

typedef struct mantra_feed {
    /* given */
    const mantra_clock *clock;
    mantra_transport *transport;       /* NULL for a recording */
    mantra_frames frames;
    mantra_decode decode, decode_snapshot;
    mantra_decoder decoder;
    mantra_feed_book *books;
    uint32_t book_count;
    mantra_producer *updates, *trades, *tops;
    mantra_vector *latest_tops;
    mantra_doorbell *doorbell;
    mantra_ledger_row *ledger;
    mantra_histogram *socket_to_top;   /* NULL: not measured */
    uint8_t *held;
    size_t held_size, held_capacity;
    uint32_t index;                    /* among the feeds of a poller */
    uint16_t publisher;
    uint8_t venue, scheme, live_trust;
    bool looks_twice;                  /* a snapshot is believed fully only after a second look */
    bool dense_trades;                 /* trade ids rise by one per instrument: a jump is a loss */
    uint32_t snapshot_levels;          /* a side of a snapshot with so many may have more; 0: snapshots are whole */
    uint64_t cross_limit;              /* cycles a cross may last before the book is resynchronised */
    /* liveness, in cycles */
    uint64_t heartbeat_every, stale_after, silent_after;
    uint8_t heartbeat_opcode;
    uint16_t heartbeat_size;
    uint8_t heartbeat[128];
    /* running */
    uint64_t origin;                   /* of the bytes being read */
    uint64_t split_origin;             /* of the first bytes of a message that is not complete yet; 0: none */
    uint64_t heard, next_heartbeat;
    bool stale, replaying;
    const uint8_t *text;
    size_t text_size;
    uint16_t close_code;
    int protocol_error;
    uint32_t wanting;                  /* books whose wants are not zero */
} mantra_feed;

#define MANTRA_COUNT(feed, counter, n) mantra_ledger_add((feed)->ledger, MANTRA_COUNT_##counter, (n))

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
    mantra_seqlock_end(latest);
    mantra_produce_end(feed->tops, queued);
    MANTRA_COUNT(feed, tops, 1);
    mantra_doorbell_hurry(feed->doorbell);
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

/* The header fields that go with the levels; inside the book's write section. */
static inline void
mantra_feed_describe(mantra_feed *feed, mantra_feed_book *book, int64_t venue_time_ns, uint64_t updates_to_come)
{
    mantra_book_stamp(&book->book, book->sequence, venue_time_ns, feed->updates->position + updates_to_come);
    mantra_book_judge(&book->book, book->trust, book->reason, book->trust_since_ns);
}

/* Trust changes without a level changing: everybody is told at once. */
static inline void
mantra_feed_trust(mantra_feed *feed, mantra_feed_book *book, uint8_t trust, uint8_t reason, uint64_t origin)
{
    if (book->trust == trust && book->reason == reason)
        return;
    const uint64_t now = mantra_clock_cycles(feed->clock);
    if (book->trust != trust)
        book->trust_since_ns = mantra_clock_utc_ns(feed->clock, now);
    book->trust = trust;
    book->reason = reason;
    const int64_t venue_time_ns = MANTRA_BOOK_GET(&book->book, venue_time_ns);
    mantra_book_begin(&book->book);
    mantra_feed_describe(feed, book, venue_time_ns, 1);
    mantra_book_end(&book->book);
    mantra_feed_update(feed, book, MANTRA_TRUST, 0, 0, 0, venue_time_ns, origin,
                       mantra_pack_published(now - origin, feed->publisher));
    MANTRA_COUNT(feed, updates, 1);
    mantra_feed_publish_top(feed, book, venue_time_ns, origin, now);
    mantra_doorbell_ring(feed->doorbell);
}

/* Lose faith in a book: it needs a snapshot (or, BY_IMAGE, the next message) to be believed again. */
static inline void
mantra_feed_suspect(mantra_feed *feed, mantra_feed_book *book, uint8_t reason, uint64_t origin)
{
    if (book->state == MANTRA_BOOK_IDLE)
        return;
    mantra_feed_trust(feed, book, MANTRA_SUSPECT, reason, origin);
    book->crossed_at = 0;
    if (feed->scheme == MANTRA_BY_IMAGE)
        return;
    if (book->state == MANTRA_BOOK_LIVE) {
        if (book->chained)
            MANTRA_COUNT(feed, resyncs, 1); /* else it was not synchronised yet */
        book->state = MANTRA_BOOK_HOLDING;
        book->needed = book->streamed;
    }
    if (feed->scheme == MANTRA_BY_TIME)
        book->needed = MANTRA_NEEDS_MESSAGE; /* what was lost has no number: only a later message bounds it */
    mantra_feed_want(feed, book, MANTRA_WANTS_SNAPSHOT);
}

/* How far a live book deserves to be believed, and why no further. */
static inline uint8_t
mantra_feed_deserves(mantra_feed *feed, mantra_feed_book *book, uint8_t *reason, uint64_t origin)
{
    if (MANTRA_UNLIKELY(mantra_book_crossed(&book->book))) {
        if (!book->crossed_at) {
            book->crossed_at = origin;
            MANTRA_COUNT(feed, crosses, 1);
        }
        *reason = MANTRA_REASON_CROSSED;
        return MANTRA_SUSPECT;
    }
    book->crossed_at = 0;
    if (MANTRA_UNLIKELY(feed->stale)) {
        *reason = MANTRA_REASON_SILENT; /* a snapshot came while the stream is silent */
        return MANTRA_STALE;
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
    if (trust != book->trust)
        book->trust_since_ns = mantra_clock_utc_ns(feed->clock, mantra_clock_cycles(feed->clock));
    book->trust = trust;
    book->reason = reason;
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
        const bool cut = feed->snapshot_levels && MANTRA_BOOK_GET(&book->book, count[side]) >= feed->snapshot_levels;
        book->told[side] = cut ? mantra_level_price(mantra_book_side(&book->book, side)) : 0;
    }
}

/* Has the market moved so far that the top holds levels which the snapshot did not tell of? Between them others may stand,
 * unknown until they change: the top would be wrong, and look right. */
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

/* Apply a decoded diff to a live book and publish what it changed. */
static inline void
mantra_feed_apply(mantra_feed *feed, mantra_feed_book *book, uint64_t origin)
{
    mantra_decoder *decoder = &feed->decoder;
    mantra_change *changes = decoder->changes;
    const uint32_t count = decoder->change_count;
    if (MANTRA_UNLIKELY(mantra_book_room(&book->book, count) != 0)) {
        MANTRA_COUNT(feed, full, 1);
        mantra_feed_suspect(feed, book, MANTRA_REASON_FULL, origin);
        return;
    }
    uint32_t changed = 0, absent = 0;
    int best = MANTRA_DEPTH;
    book->sequence = decoder->last;
    mantra_book_begin(&book->book);
    for (uint32_t i = 0; i < count; i++) {
        /* Field by field: a whole change can not be loaded before its parts have left the store buffer. */
        const uint8_t kind = changes[i].kind;
        const int64_t price = changes[i].price, size = changes[i].size;
        const int rank = mantra_book_apply(&book->book, kind, price, size);
        if (MANTRA_LIKELY(rank >= 0)) {
            if (MANTRA_UNLIKELY(changed < i))
                changes[changed] = (mantra_change){.price = price, .size = size, .kind = kind};
            changed++;
            best = rank < best ? rank : best;
        } else {
            absent += rank == MANTRA_BOOK_ABSENT;
        }
    }
    const bool retrusted = mantra_feed_judge(feed, book, origin);
    if (MANTRA_UNLIKELY(retrusted && changed == 0))
        changes[changed++] = (mantra_change){.kind = MANTRA_TRUST};
    mantra_feed_describe(feed, book, decoder->venue_time_ns, changed);
    mantra_book_end(&book->book);
    const uint64_t now = mantra_clock_cycles(feed->clock);
    if (best < MANTRA_DEPTH || retrusted) {
        mantra_feed_publish_top(feed, book, decoder->venue_time_ns, origin, now);
        if (feed->socket_to_top && !feed->replaying)
            mantra_histogram_record(feed->socket_to_top, mantra_clock_ns(feed->clock, now - origin));
    }
    const uint64_t published = mantra_pack_published(now - origin, feed->publisher);
    for (uint32_t i = 0; i < changed; i++)
        mantra_feed_update(feed, book, changes[i].kind, i + 1 < changed ? MANTRA_MORE : 0, changes[i].price,
                           changes[i].size, decoder->venue_time_ns, origin, published);
    MANTRA_COUNT(feed, updates, changed);
    if (MANTRA_UNLIKELY(absent))
        MANTRA_COUNT(feed, unknown_deletes, absent);
    if (MANTRA_UNLIKELY(book->crossed_at && origin - book->crossed_at > feed->cross_limit))
        mantra_feed_suspect(feed, book, MANTRA_REASON_CROSSED, origin);
    else if (best < MANTRA_DEPTH && MANTRA_UNLIKELY(mantra_feed_adrift(book)))
        mantra_feed_suspect(feed, book, MANTRA_REASON_SYNCHRONISING, origin);
}

/* The last image's text is not in the book: the next must not be taken for unchanged because it equals that. */
static inline void
mantra_feed_forget(mantra_feed *feed, uint32_t index)
{
    if (feed->decoder.images)
        feed->decoder.images[index] = (mantra_image_text){0};
}

/* Replace the book by what was decoded. `reset`: a snapshot, announced as a new generation for readers of updates. */
static inline bool
mantra_feed_load(mantra_feed *feed, mantra_feed_book *book, bool reset, uint64_t origin)
{
    mantra_decoder *decoder = &feed->decoder;
    mantra_book_begin(&book->book);
    if (mantra_book_load(&book->book, decoder->changes, decoder->change_count) != 0) {
        mantra_book_end(&book->book);
        MANTRA_COUNT(feed, full, 1);
        mantra_feed_suspect(feed, book, MANTRA_REASON_FULL, origin);
        return false;
    }
    book->state = MANTRA_BOOK_LIVE;
    book->sequence = decoder->last;
    book->behind = 0;
    book->chained = false;
    mantra_feed_told(feed, book);
    book->looked = MANTRA_LOOK_AHEAD;
    if (reset)
        MANTRA_BOOK_SET(&book->book, generation, MANTRA_BOOK_GET(&book->book, generation) + 1);
    mantra_feed_judge(feed, book, origin);
    mantra_feed_describe(feed, book, decoder->venue_time_ns, reset);
    mantra_book_end(&book->book);
    const uint64_t now = mantra_clock_cycles(feed->clock);
    mantra_feed_publish_top(feed, book, decoder->venue_time_ns, origin, now);
    if (reset) {
        const int64_t generation = (int64_t)MANTRA_BOOK_GET(&book->book, generation);
        mantra_feed_update(feed, book, MANTRA_RESET, 0, generation, 0, decoder->venue_time_ns, origin,
                           mantra_pack_published(now - origin, feed->publisher));
        MANTRA_COUNT(feed, updates, 1);
    } else if (feed->socket_to_top && !feed->replaying) {
        mantra_histogram_record(feed->socket_to_top, mantra_clock_ns(feed->clock, now - origin));
    }
    return true;
}

/* Keep a message until the snapshot comes. When there is no room everything held is dropped, counted, and only a snapshot
 * that covers what was dropped will do. */
static inline void
mantra_feed_hold(mantra_feed *feed, mantra_feed_book *book, const char *text, size_t size)
{
    const size_t need = mantra_round_up(sizeof(mantra_held) + size, 8);
    if (feed->held_size + need + MANTRA_PADDING > feed->held_capacity) {
        for (uint32_t i = 0; i < feed->book_count; i++) {
            mantra_feed_book *other = &feed->books[i];
            if (other->held) {
                MANTRA_COUNT(feed, overflowed, other->held);
                other->held = 0;
                other->needed = MANTRA_NEEDS_MESSAGE;
            }
        }
        feed->held_size = 0;
        if (sizeof(mantra_held) + size + MANTRA_PADDING > feed->held_capacity) {
            MANTRA_COUNT(feed, overflowed, 1);
            book->needed = feed->decoder.last;
            return;
        }
    }
    const bool by_ids = feed->scheme == MANTRA_BY_IDS;
    const uint64_t reach = by_ids ? feed->decoder.first - 1 : feed->decoder.first;
    if (book->needed == MANTRA_NEEDS_MESSAGE || (by_ids && book->held == 0 && book->needed < reach))
        book->needed = reach;
    book->held++;
    const mantra_held entry = {(uint32_t)size, feed->decoder.book};
    memcpy(feed->held + feed->held_size, &entry, sizeof entry);
    memcpy(feed->held + feed->held_size + sizeof entry, text, size);
    feed->held_size += need;
    MANTRA_COUNT(feed, buffered, 1);
}

/* A message older than its book is dropped. True: so many came in a row that the venue must have begun to count anew. */
static inline bool
mantra_feed_outdated(mantra_feed *feed, mantra_feed_book *book)
{
    MANTRA_COUNT(feed, old_dropped, 1);
    if (feed->replaying || ++book->behind < MANTRA_BEHIND_LIMIT)
        return false;
    book->behind = 0;
    book->sequence = book->streamed = 0;
    return true;
}

/* One decoded diff against the rules of its book. False: it revealed a loss and was not applied. */
static inline bool
mantra_feed_diff(mantra_feed *feed, mantra_feed_book *book, uint64_t origin)
{
    const mantra_decoder *decoder = &feed->decoder;
    if (decoder->last <= book->sequence) {
        if (MANTRA_UNLIKELY(mantra_feed_outdated(feed, book))) {
            MANTRA_COUNT(feed, gaps, 1);
            mantra_feed_suspect(feed, book, MANTRA_REASON_GAP, origin);
            return false;
        }
        if (!book->chained) {
            book->chained = true;
            mantra_feed_rejudge(feed, book, origin);
        }
        return true;
    }
    if (feed->scheme == MANTRA_BY_IDS && MANTRA_UNLIKELY(decoder->first > book->sequence + 1)) {
        if (book->chained) {
            MANTRA_COUNT(feed, gaps, 1);
            mantra_feed_suspect(feed, book, MANTRA_REASON_GAP, origin);
        } else {
            /* Nothing was lost: the stream began after the snapshot, which was too old. */
            mantra_feed_suspect(feed, book, MANTRA_REASON_SYNCHRONISING, origin);
        }
        return false;
    }
    book->chained = true;
    book->behind = 0;
    mantra_feed_apply(feed, book, origin);
    return true;
}

static inline void
mantra_feed_trades(mantra_feed *feed, mantra_feed_book *book, uint64_t origin)
{
    const mantra_decoder *decoder = &feed->decoder;
    mantra_trade trade = {
        .origin = origin,
        .published = mantra_pack_published(mantra_clock_cycles(feed->clock) - origin, feed->publisher),
        .instrument = book->instrument,
        .venue = feed->venue,
        .trust = feed->live_trust,
    };
    uint32_t published = 0;
    for (uint32_t i = 0; i < decoder->trade_count; i++) {
        const mantra_print *print = &decoder->trades[i];
        if (!book->traded && print->trade_id <= book->last_trade_id)
            book->last_trade_id = 0; /* a new connection repeats nothing: the venue began to count anew */
        book->traded = true;
        if (feed->dense_trades && book->last_trade_id) {
            if (print->trade_id <= book->last_trade_id) {
                MANTRA_COUNT(feed, old_dropped, 1);
                continue;
            }
            if (print->trade_id > book->last_trade_id + 1)
                MANTRA_COUNT(feed, trade_gaps, print->trade_id - book->last_trade_id - 1);
        }
        book->last_trade_id = print->trade_id;
        trade.price = print->price;
        trade.size = print->size;
        trade.trade_id = print->trade_id;
        trade.venue_time_ns = print->venue_time_ns;
        trade.side = print->side;
        trade.flags = i + 1 < decoder->trade_count ? MANTRA_MORE : 0;
        mantra_produce(feed->trades, &trade);
        published++;
    }
    MANTRA_COUNT(feed, trades, published);
    mantra_doorbell_hurry(feed->doorbell);
}

/* A diff that comes after a newer one. Where messages have no numbers it may have changed what the newer one did not, and
 * it can not be applied any more: only a snapshot as new as the newest will do. True: that was so. */
MANTRA_COLD bool
mantra_feed_late(mantra_feed *feed, mantra_feed_book *book, uint64_t origin)
{
    if (feed->scheme != MANTRA_BY_TIME || book->state == MANTRA_BOOK_IDLE)
        return false;
    MANTRA_COUNT(feed, gaps, 1);
    const bool anew = mantra_feed_outdated(feed, book);
    if (book->state == MANTRA_BOOK_LIVE)
        mantra_feed_suspect(feed, book, MANTRA_REASON_GAP, origin);
    if (anew)
        book->needed = MANTRA_NEEDS_MESSAGE;
    else if (book->needed < book->streamed || book->needed == MANTRA_NEEDS_MESSAGE)
        book->needed = book->streamed;
    return true;
}

MANTRA_COLD void
mantra_feed_unpriced(mantra_feed *feed)
{
    MANTRA_COUNT(feed, unpriced, feed->decoder.unpriced);
    feed->decoder.unpriced = 0;
}

/* One venue message, complete; MANTRA_PADDING readable bytes follow it. Returns the kind it was (decode.h). */
static inline int
mantra_feed_message(mantra_feed *feed, const char *text, size_t size, uint64_t origin)
{
    MANTRA_COUNT(feed, messages, 1);
    feed->decoder.book = UINT32_MAX;
    const int kind = feed->decode(&feed->decoder, text, size);
    if (MANTRA_UNLIKELY(feed->decoder.unpriced))
        mantra_feed_unpriced(feed);
    mantra_feed_book *book = feed->decoder.book < feed->book_count ? &feed->books[feed->decoder.book] : NULL;
    switch (kind) {
    case MANTRA_DIFF:
        if (MANTRA_UNLIKELY(feed->decoder.last < book->streamed) && mantra_feed_late(feed, book, origin))
            break;
        if (MANTRA_LIKELY(book->state == MANTRA_BOOK_LIVE)) {
            if (MANTRA_UNLIKELY(!mantra_feed_diff(feed, book, origin)))
                mantra_feed_hold(feed, book, text, size);   /* it comes after the snapshot that heals the loss */
        } else if (book->state == MANTRA_BOOK_HOLDING) {
            mantra_feed_hold(feed, book, text, size);
        }
        if (MANTRA_LIKELY(feed->decoder.last > book->streamed))
            book->streamed = feed->decoder.last;
        break;
    case MANTRA_IMAGE:
        if (feed->scheme != MANTRA_BY_IMAGE || book->state == MANTRA_BOOK_IDLE) {
            MANTRA_COUNT(feed, old_dropped, 1);
            break;
        }
        if (MANTRA_UNLIKELY((feed->decoder.last < book->sequence && !mantra_feed_outdated(feed, book)) ||
                            !mantra_feed_load(feed, book, false, origin)))
            mantra_feed_forget(feed, feed->decoder.book);
        break;
    case MANTRA_UNCHANGED:
        MANTRA_COUNT(feed, unchanged, 1);
        if (MANTRA_UNLIKELY(feed->decoder.last < book->sequence && !mantra_feed_outdated(feed, book)))
            break;
        book->sequence = feed->decoder.last;
        if (MANTRA_UNLIKELY(book->trust < MANTRA_UNVERIFIED))
            mantra_feed_rejudge(feed, book, origin);
        break;
    case MANTRA_TRADES:
        mantra_feed_trades(feed, book, origin);
        break;
    case MANTRA_CONTROL:
        MANTRA_COUNT(feed, control, 1);
        break;
    case MANTRA_IGNORED:
        break;
    case MANTRA_UNKNOWN:
        MANTRA_COUNT(feed, unknown_symbols, 1);
        break;
    case MANTRA_FINER:
        MANTRA_COUNT(feed, finer, 1);
        feed->text = (const uint8_t *)text;   /* what the next scale must hold */
        feed->text_size = size;
        if (book) {
            mantra_feed_suspect(feed, book, MANTRA_REASON_SCALE, origin);
            mantra_feed_want(feed, book, MANTRA_WANTS_SCALE);
        }
        break;
    default:
        /* Malformed. Where losses show in the sequence the next message tells which book it was; where they do not,
         * any book of this connection may have missed a change. */
        MANTRA_COUNT(feed, malformed, 1);
        if (book)
            mantra_feed_suspect(feed, book, MANTRA_REASON_MALFORMED, origin);
        else if (feed->scheme == MANTRA_BY_TIME)
            for (uint32_t i = 0; i < feed->book_count; i++)
                mantra_feed_suspect(feed, &feed->books[i], MANTRA_REASON_MALFORMED, origin);
    }
    return kind;
}

/* What became of a snapshot. */
enum { MANTRA_SPLICED = 0, MANTRA_SPLICE_OLD = 1 }; /* or MANTRA_MALFORMED, MANTRA_FINER, MANTRA_TOO_MANY */

/* Load a snapshot (the venue's REST answer) into book `index`, then the messages held for it. MANTRA_SPLICE_OLD: it does
 * not reach the first held message; ask again. `settled`: it was asked for so long after the last loss that it is newer
 * even if the market has been too quiet for a message to prove it. */
static inline int
mantra_feed_splice(mantra_feed *feed, uint32_t index, const char *text, size_t size, bool settled, uint64_t origin)
{
    mantra_feed_book *book = &feed->books[index];
    if (book->state != MANTRA_BOOK_HOLDING)
        return MANTRA_SPLICED; /* it came twice: what was applied since is not held any more, so there is no way back */
    const uint32_t depth = feed->decoder.depth;
    feed->decoder.book = index;
    feed->decoder.depth = 0;
    const int kind = feed->decode_snapshot(&feed->decoder, text, size);
    feed->decoder.depth = depth;
    mantra_feed_unpriced(feed);
    if (kind != MANTRA_IMAGE) {
        if (kind == MANTRA_FINER) {
            MANTRA_COUNT(feed, finer, 1);
            mantra_feed_want(feed, book, MANTRA_WANTS_SCALE);
        } else {
            MANTRA_COUNT(feed, malformed, 1);
        }
        return kind < 0 ? kind : MANTRA_MALFORMED;
    }
    if (feed->decoder.last < (settled && book->needed == MANTRA_NEEDS_MESSAGE ? book->streamed : book->needed))
        return MANTRA_SPLICE_OLD;
    feed->replaying = true;
    if (!mantra_feed_load(feed, book, true, origin)) {
        feed->replaying = false;
        return MANTRA_TOO_MANY;
    }
    size_t kept = 0;
    for (size_t at = 0; at < feed->held_size;) {
        mantra_held entry;
        memcpy(&entry, feed->held + at, sizeof entry);
        const size_t span = mantra_round_up(sizeof entry + entry.size, 8);
        bool keep = entry.book != index;
        if (!keep && book->state == MANTRA_BOOK_LIVE) {
            feed->decoder.book = UINT32_MAX;
            /* It was decoded once before it was held, so only the scale can be at fault now. */
            const int again = feed->decode(&feed->decoder, (const char *)feed->held + at + sizeof entry, entry.size);
            keep = again == MANTRA_DIFF && !mantra_feed_diff(feed, book, origin);
            if (again != MANTRA_DIFF)
                mantra_feed_suspect(feed, book, MANTRA_REASON_MALFORMED, origin);
            if (keep)
                book->needed = feed->decoder.first - 1;
        } else if (!keep) {
            keep = true;
        }
        if (keep) {
            memmove(feed->held + kept, feed->held + at, span);
            kept += span;
        } else {
            book->held--;
        }
        at += span;
    }
    feed->held_size = kept;
    feed->replaying = false;
    mantra_doorbell_ring(feed->doorbell);
    return MANTRA_SPLICED;
}

/* Begin (connected, asked for) or end (not connected) the life of every book on this connection. */
static inline void
mantra_feed_begin(mantra_feed *feed)
{
    const uint64_t now = mantra_clock_cycles(feed->clock);
    feed->held_size = 0;
    feed->split_origin = 0;
    feed->stale = false;
    feed->heard = now;
    feed->next_heartbeat = now + feed->heartbeat_every;
    for (uint32_t i = 0; i < feed->book_count; i++) {
        mantra_feed_book *book = &feed->books[i];
        book->held = 0;
        book->streamed = 0;
        book->needed = feed->scheme == MANTRA_BY_TIME ? MANTRA_NEEDS_MESSAGE : 0;
        book->traded = false;
        book->crossed_at = 0;
        book->wants = 0;
        book->state = feed->scheme == MANTRA_BY_IMAGE ? MANTRA_BOOK_LIVE : MANTRA_BOOK_HOLDING;
        book->sequence = 0;
        mantra_feed_forget(feed, i);
        mantra_feed_trust(feed, book, MANTRA_SUSPECT, MANTRA_REASON_SYNCHRONISING, now);
    }
    feed->wanting = 0;
}

static inline void
mantra_feed_end(mantra_feed *feed, uint8_t reason)
{
    const uint64_t now = mantra_clock_cycles(feed->clock);
    for (uint32_t i = 0; i < feed->book_count; i++) {
        feed->books[i].state = MANTRA_BOOK_IDLE;
        mantra_feed_trust(feed, &feed->books[i], MANTRA_DOWN, reason, now);
    }
}

/* Book `index` goes on, empty, as another scale generation of its instrument; a snapshot fills it. */
static inline void
mantra_feed_rescale(mantra_feed *feed, uint32_t index, uint32_t instrument)
{
    mantra_feed_book *book = &feed->books[index];
    const uint64_t now = mantra_clock_cycles(feed->clock);
    /* The old generation must not be left standing in anybody's view. */
    const uint8_t trust = book->trust, reason = book->reason;
    mantra_feed_trust(feed, book, MANTRA_DOWN, MANTRA_REASON_SCALE, now);
    mantra_book_begin(&book->book);
    mantra_book_clear(&book->book);
    MANTRA_BOOK_SET(&book->book, instrument, instrument);
    mantra_book_end(&book->book);
    book->instrument = instrument;
    book->sequence = 0;
    mantra_feed_forget(feed, index);
    if (book->state == MANTRA_BOOK_LIVE && feed->scheme != MANTRA_BY_IMAGE) {
        book->state = MANTRA_BOOK_HOLDING;
        book->needed = book->streamed;
    }
    if (trust != MANTRA_DOWN)
        mantra_feed_trust(feed, book, MANTRA_SUSPECT, trust == MANTRA_SUSPECT ? reason : MANTRA_REASON_SCALE, now);
}

static inline bool
mantra_feed_send(mantra_feed *feed, uint8_t opcode, const uint8_t *payload, size_t size)
{
    uint8_t out[MANTRA_FRAME_HEADER + 128];
    if (size > 128)
        return false;
    const size_t length = mantra_frame_write(out, opcode, payload, size, mantra_random_mask());
    return mantra_transport_send(feed->transport, out, length) == (ptrdiff_t)length;
}

/* Heartbeats and silence. Returns an event or MANTRA_EVENT_NONE; *wake_at: when to look again at the latest. */
static inline int
mantra_feed_timers(mantra_feed *feed, uint64_t now, uint64_t *wake_at)
{
    const uint64_t quiet = now > feed->heard ? now - feed->heard : 0;
    if (feed->silent_after && quiet >= feed->silent_after)
        return MANTRA_EVENT_SILENT;
    if (feed->stale_after && quiet >= feed->stale_after && !feed->stale) {
        feed->stale = true;
        for (uint32_t i = 0; i < feed->book_count; i++)
            if (feed->books[i].trust >= MANTRA_UNVERIFIED)
                mantra_feed_trust(feed, &feed->books[i], MANTRA_STALE, MANTRA_REASON_SILENT, now);
    }
    if (feed->heartbeat_every && now >= feed->next_heartbeat) {
        feed->next_heartbeat = now + feed->heartbeat_every;
        if (!mantra_feed_send(feed, feed->heartbeat_opcode, feed->heartbeat, feed->heartbeat_size))
            return MANTRA_EVENT_FAILED;
    }
    if (feed->heartbeat_every)
        *wake_at = mantra_min_u64(*wake_at, feed->next_heartbeat);
    if (feed->silent_after)
        *wake_at = mantra_min_u64(*wake_at, feed->heard + feed->silent_after);
    if (feed->stale_after && !feed->stale)
        *wake_at = mantra_min_u64(*wake_at, feed->heard + feed->stale_after);
    return MANTRA_EVENT_NONE;
}

/* Bytes were heard again: what was only stale is judged anew. */
static inline void
mantra_feed_fresh(mantra_feed *feed, uint64_t now)
{
    feed->stale = false;
    for (uint32_t i = 0; i < feed->book_count; i++)
        if (feed->books[i].trust == MANTRA_STALE)
            mantra_feed_rejudge(feed, &feed->books[i], now);
}

/* All complete frames in the buffer. */
static inline int
mantra_feed_frames(mantra_feed *feed)
{
    int event = MANTRA_EVENT_NONE;
    while (event == MANTRA_EVENT_NONE) {
        mantra_frame frame;
        const int got = mantra_frames_next(&feed->frames, &frame);
        if (got == 0)
            break;
        if (MANTRA_UNLIKELY(got < 0)) {
            MANTRA_COUNT(feed, protocol_errors, 1);
            feed->protocol_error = got;
            event = MANTRA_EVENT_PROTOCOL;
            break;
        }
        MANTRA_COUNT(feed, frames, 1);
        if (MANTRA_LIKELY(frame.opcode == MANTRA_FRAME_TEXT || frame.opcode == MANTRA_FRAME_BINARY)) {
            const uint64_t origin = feed->split_origin ? feed->split_origin : feed->origin;
            feed->split_origin = 0;
            const int kind = mantra_feed_message(feed, (const char *)frame.payload, frame.size, origin);
            if (MANTRA_UNLIKELY(kind == MANTRA_CONTROL)) {
                feed->text = frame.payload;
                feed->text_size = frame.size;
                event = MANTRA_EVENT_TEXT;
            } else if (MANTRA_UNLIKELY(feed->wanting)) {
                event = MANTRA_EVENT_WANTS;
            }
        } else if (frame.opcode == MANTRA_FRAME_PING) {
            if (!mantra_feed_send(feed, MANTRA_FRAME_PONG, frame.payload, frame.size))
                event = MANTRA_EVENT_FAILED;
        } else if (frame.opcode == MANTRA_FRAME_CLOSE) {
            feed->close_code = frame.size >= 2 ? (uint16_t)(frame.payload[0] << 8 | frame.payload[1]) : 0;
            event = MANTRA_EVENT_CLOSED;
        }
    }
    mantra_doorbell_ring(feed->doorbell); /* once for all of them */
    return event;
}

/* Read what has arrived, once, and work through it; transport->more says whether to come back at once. */
static inline int
mantra_feed_service(mantra_feed *feed)
{
    /* An event may have left complete frames behind. */
    int event = mantra_feed_frames(feed);
    if (event)
        return event;
    uint8_t *room;
    const size_t size = mantra_frames_room(&feed->frames, &room);
    if (MANTRA_UNLIKELY(size == 0)) {
        mantra_transport_fail(feed->transport, ENOMEM, "no memory for a message of this size");
        return MANTRA_EVENT_FAILED;
    }
    const bool split = feed->frames.head != feed->frames.tail || feed->frames.fragmented;
    const ptrdiff_t got = mantra_transport_receive(feed->transport, room, size);
    if (got > 0) {
        const uint64_t origin = mantra_clock_cycles(feed->clock);
        if (!split)
            feed->split_origin = 0;
        else if (!feed->split_origin)
            feed->split_origin = feed->origin;
        feed->origin = feed->heard = origin;
        mantra_frames_received(&feed->frames, (size_t)got);
        MANTRA_COUNT(feed, bytes, (uint64_t)got);
        mantra_ledger_set(feed->ledger, MANTRA_COUNT_last_receive_utc_ns,
                          (uint64_t)mantra_clock_utc_ns(feed->clock, origin));
        if (MANTRA_UNLIKELY(feed->stale))
            mantra_feed_fresh(feed, origin);
        return mantra_feed_frames(feed);
    }
    if (got == MANTRA_AGAIN)
        return MANTRA_EVENT_NONE;
    feed->close_code = 0;
    return got == 0 ? MANTRA_EVENT_CLOSED : MANTRA_EVENT_FAILED;
}

/* Run until something needs Python, or `deadline` (cycles). */
static inline int
mantra_feed_run(mantra_feed *feed, uint64_t deadline)
{
    uint64_t timer_at = 0;
    for (;;) {
        int event = mantra_feed_service(feed);
        if (event)
            return event;
        const uint64_t now = mantra_clock_cycles(feed->clock);
        if (now >= timer_at) {
            timer_at = deadline;
            event = mantra_feed_timers(feed, now, &timer_at);
            if (event)
                return event;
            if (now >= deadline)
                return MANTRA_EVENT_DEADLINE;
        }
        const uint64_t wait_ns = timer_at > now ? mantra_clock_ns(feed->clock, timer_at - now) : 0;
        if (mantra_transport_wait(feed->transport, (int64_t)wait_ns) == 2)
            return MANTRA_EVENT_WOKEN;
    }
}

/* Many feeds on one thread: a poller tile. */
typedef struct mantra_feeds {
    mantra_poller poller;
    mantra_feed **feeds;   /* NULL where there is none (any more) */
    uint32_t count;
    uint64_t timer_at;     /* when some feed has to be looked at although nothing arrived */
    bool revisit;          /* some feed may hold bytes that epoll does not know of: a handshake, TLS or an event left them */
    _Atomic uint32_t woken;
} mantra_feeds;

#define MANTRA_FEEDS_TURN 16 /* receives of one feed before the others have their turn */

/* One feed's turn: its event, or none when it has nothing more or the others are due. */
static inline int
mantra_feeds_turn(mantra_feeds *all, mantra_feed *feed, uint32_t *which)
{
    *which = feed->index;
    for (int turn = 0; turn < MANTRA_FEEDS_TURN; turn++) {
        const int event = mantra_feed_service(feed);
        if (event)
            all->revisit = true;    /* frames behind the one that asked for Python */
        if (event || !feed->transport->more)
            return event;
    }
    all->revisit = true;
    return MANTRA_EVENT_NONE;
}

/* Have `run` come back, this one or the next. Any thread. The flag, and not only the poller's descriptor: a wake that
 * arrives together with bytes must not be lost. */
static inline void
mantra_feeds_wake(mantra_feeds *all)
{
    atomic_store_explicit(&all->woken, 1, memory_order_release);
    mantra_poller_wake(&all->poller);
}

/* Serve all feeds until one needs Python: its event, *which its index. MANTRA_EVENT_DEADLINE and MANTRA_EVENT_WOKEN are
 * nobody's in particular. */
static inline int
mantra_feeds_run(mantra_feeds *all, const mantra_clock *clock, uint64_t deadline, uint32_t *which)
{
    for (;;) {
        void *ready[MANTRA_POLLER_BATCH];
        const uint64_t now = mantra_clock_cycles(clock);
        if (now >= all->timer_at) {
            all->timer_at = deadline;
            for (uint32_t i = 0; i < all->count; i++) {
                const int event = all->feeds[i] ? mantra_feed_timers(all->feeds[i], now, &all->timer_at) : 0;
                if (event) {
                    all->timer_at = 0;
                    *which = i;
                    return event;
                }
            }
        }
        if (MANTRA_UNLIKELY(all->revisit)) {
            all->revisit = false;
            for (uint32_t i = 0; i < all->count; i++) {
                const int event = all->feeds[i] ? mantra_feeds_turn(all, all->feeds[i], which) : 0;
                if (event) {
                    all->revisit = true;    /* the feeds behind this one as well */
                    return event;
                }
            }
        }
        const uint64_t until = mantra_min_u64(all->timer_at, deadline);
        const bool at_once = all->revisit || until <= now || atomic_load_explicit(&all->woken, memory_order_acquire);
        const uint64_t wait_ns = at_once ? 0 : mantra_clock_ns(clock, until - now);
        const int count = mantra_poller_wait(&all->poller, ready, MANTRA_POLLER_BATCH, (int64_t)wait_ns);
        for (int i = 0; i < count; i++) {
            const int event = mantra_feeds_turn(all, ready[i], which);
            if (event)
                return event;
        }
        /* Only now, so that who is woken all the time still reads. */
        if (atomic_exchange_explicit(&all->woken, 0, memory_order_acq_rel))
            return MANTRA_EVENT_WOKEN;
        if (now >= deadline)
            return MANTRA_EVENT_DEADLINE;
    }
}

#endif
