/* play.h - recorded messages go the way live ones do, into books, tops and queues, in one call without the GIL.
 *
 *   reel: a block, decoded   | 1 4 5 9 |
 *                            | 2 3 8   |  -> earliest first -> book -> top -> queues, as the audience has room
 *
 * Updates are published as they were recorded, origin and publishing in virtual cycles (clock.h: a nanosecond each); the
 * books follow from them as readers' do: an update sets its level, and a book that was replaced is an image. Tops follow
 * from the books by the feed's own rule (hot_path.h): when one of the first levels changed, or trust did. Where tops
 * were recorded, these are published instead. */
#ifndef MANTRA_PLAY_H
#define MANTRA_PLAY_H

#include "mantra/audience.h"
#include "mantra/feed.h"

enum { MANTRA_PLAY_UPDATES, MANTRA_PLAY_TRADES, MANTRA_PLAY_ORDERS, MANTRA_PLAY_TOPS, MANTRA_PLAY_NOTHING };
#define MANTRA_NO_BOOK UINT32_MAX

/* What happens before messages[before] to a book, or (MANTRA_NO_BOOK) to all of a feed: these miss something then. */
typedef struct mantra_reel_image {
    uint64_t before, position;
    uint32_t feed, book;
    bool told;          /* messages[before] is the RESET that tells of it */
    mantra_change *changes;
    uint64_t count;
    uint64_t generation, sequence;
    int64_t venue_time_ns, trust_since_ns;
    uint32_t trust, reason;
} mantra_reel_image;

typedef struct mantra_reel {
    uint8_t *messages;
    int64_t *times;     /* UTC ns of publishing, never falling */
    uint16_t *feeds;    /* of the player's */
    uint32_t *books;
    const uint64_t *positions; /* in the queues that were recorded */
    uint64_t size, count, at;
    mantra_reel_image *images;
    uint64_t image_count, image_at;
    uint64_t capture;   /* who recorded: its positions are of one kind */
    uint32_t family;
} mantra_reel;

typedef struct mantra_played {
    mantra_feed_book book;      /* .state LIVE: whole; .spliced: the origin of its last RESET */
    uint32_t feed;
    bool told;                  /* its image is there, and the RESET that tells of it comes next */
    int best;                   /* of the batch under way */
} mantra_played;

typedef struct mantra_play {
    mantra_clock *clock;
    mantra_doorbell *doorbell;
    mantra_feed *feeds;
    mantra_played *books;
    uint32_t book_count;
    mantra_reel **reels;
    uint32_t reel_count;
    mantra_audience *audience;
    mantra_queue *queues;       /* the run's, by number; header NULL: none */
    uint32_t queue_count;
    uint64_t least;             /* slots of the smallest of them */
    uint64_t room;              /* messages that may be published before the next look at the audience */
    uint32_t landing;           /* books, the last ones, that a jump has yet to tell of */
    uint64_t ahead;             /* cycles less UTC: time was set back so far in all */
    bool silent;                /* books alone */
    mantra_waiting waiting;     /* woken: come back */
    _Atomic uint32_t stopping;  /* wait for nobody any more */
    double speed;               /* recorded ns a ns; 0: as fast as the audience takes it */
    int64_t anchor_ns, anchor_time; /* that moment of the recording was played then; anchor_ns 0: say so with the next */
    int64_t time;               /* of what was played last */
    uint64_t messages, waits, told, images, differing;
    uint64_t digest[4];
} mantra_play;

/* ---- the audience */

static inline uint64_t
mantra_play_most(const mantra_play *play)
{
    return play->least - play->least / 4;
}

/* How many messages may be published before anybody can be lapped: nobody, not even who takes a seat this moment, is
 * then further behind than the smallest ring holds; nor is who reads what others make of these messages, one of each. */
static inline void
mantra_play_look(mantra_play *play)
{
    const uint64_t used = atomic_load_explicit(&play->audience->used, memory_order_acquire);
    const uint64_t most = mantra_play_most(play);
    uint64_t behind = 0;
    for (uint64_t i = 0; i < used; i++) {
        const mantra_seat *seat = &play->audience->seats[i];
        if (atomic_load_explicit(&seat->identity, memory_order_acquire) == 0)
            continue;
        const uint64_t number = atomic_load_explicit(&seat->queue, memory_order_relaxed);
        const uint64_t position = atomic_load_explicit(&seat->position, memory_order_acquire);
        if (number >= play->queue_count || play->queues[number].header == NULL)
            continue;
        const uint64_t produced = mantra_produced(&play->queues[number]);
        behind += produced > position ? produced - position : 0;
    }
    play->room = behind < most ? most - behind : 0;
}

/* Is there room for so many? If not, that is tried again after a moment in which others read. Who died is not waited
 * for. */
MANTRA_COLD bool
mantra_play_room(mantra_play *play, uint64_t need)
{
    mantra_play_look(play);
    if (play->room >= need)
        return true;
    if (++play->waits % 1024 == 0)
        mantra_audience_clear(play->audience);
    mantra_doorbell_ring(play->doorbell);
    nanosleep(&(struct timespec){0, 20000}, NULL);
    mantra_play_look(play);
    return play->room >= need;
}

/* In the middle of a batch, of one that is more than rings hold, nothing else will do, unless all is to end. */
MANTRA_COLD void
mantra_play_wait(mantra_play *play)
{
    while (!mantra_play_room(play, 1))
        if (atomic_load_explicit(&play->stopping, memory_order_relaxed))
            play->room = UINT64_MAX;
}

/* ---- publishing */

/* What was published last is one less of what there is room for, and goes into the digest. */
static inline void
mantra_play_published(mantra_play *play, const mantra_producer *producer)
{
    const mantra_queue *queue = &producer->queue;
    const mantra_seqlock *slot = mantra_queue_slot(queue, producer->position - 1);
    for (uint32_t i = 0; i < queue->words; i++) {
        uint64_t *lane = &play->digest[i & 3];
        *lane = (*lane ^ atomic_load_explicit(&slot->words[i], memory_order_relaxed)) * UINT64_C(0x9E3779B97F4A7C15);
        *lane ^= *lane >> 29;
    }
    play->room--;
}

static inline void
mantra_play_publish(mantra_play *play, mantra_producer *producer, const void *message)
{
    if (MANTRA_UNLIKELY(play->room == 0))
        mantra_play_wait(play);
    mantra_produce(producer, message);
    mantra_play_published(play, producer);
}

static inline void
mantra_play_top(mantra_play *play, mantra_feed *feed, mantra_feed_book *book, int64_t venue_time_ns, uint64_t origin,
                uint64_t now)
{
    if (play->silent)
        return;
    if (MANTRA_UNLIKELY(play->room == 0))
        mantra_play_wait(play);
    feed->replaying = origin == book->spliced;
    mantra_feed_publish_top(feed, book, venue_time_ns, origin, now);
    mantra_play_published(play, feed->tops);
}

/* ---- books */

/* Trust is as recorded; but a book of which something is missing is no better than suspect. */
static inline bool
mantra_play_judge(mantra_feed_book *book, uint8_t trust, uint8_t reason, int64_t since_ns)
{
    if (trust > MANTRA_VERIFIED || (book->state != MANTRA_BOOK_LIVE && trust > MANTRA_SUSPECT)) {
        trust = MANTRA_SUSPECT;
        reason = MANTRA_REASON_SYNCHRONISING;
    }
    if (MANTRA_LIKELY(trust == book->trust && reason == book->reason))
        return false;
    if (trust != book->trust)
        book->trust_since_ns = since_ns;
    book->trust = trust;
    book->reason = reason;
    return true;
}

/* `count` updates of one book and, at most, one batch, which `ends` with them. */
static inline void
mantra_play_change(mantra_play *play, mantra_feed *feed, mantra_played *played, const mantra_update *updates,
                   size_t count, bool ends)
{
    mantra_feed_book *book = &played->book;
    const mantra_update *last = &updates[count - 1];
    const uint64_t now = mantra_published_cycles(last->origin, last->published);
    mantra_book_begin(&book->book);
    if (MANTRA_UNLIKELY(last->instrument != book->instrument)) { /* another generation of its scale */
        mantra_book_clear(&book->book);
        mantra_book_rename(&book->book, last->instrument);
        book->instrument = last->instrument;
        book->state = MANTRA_BOOK_HOLDING;
    }
    if (MANTRA_UNLIKELY(mantra_book_room(&book->book, count) != 0)) {
        MANTRA_COUNT_BOOK(feed, book, full, 1);
        book->state = MANTRA_BOOK_HOLDING;
    }
    for (size_t i = 0; i < count; i++)
        if (MANTRA_LIKELY(updates[i].kind == MANTRA_BID || updates[i].kind == MANTRA_ASK)) {
            if (MANTRA_UNLIKELY(book->state != MANTRA_BOOK_LIVE))
                continue;
            const int rank = mantra_book_apply(&book->book, updates[i].kind, updates[i].price, updates[i].size);
            played->best = rank >= 0 && rank < played->best ? rank : played->best;
        } else {
            played->best = 0;
        }
    book->sequence = last->sequence;
    const uint8_t told = last->flags >> MANTRA_REASON_SHIFT;
    const bool anew = told || last->kind == MANTRA_TRUST || last->kind == MANTRA_RESET || last->trust != book->trust;
    const bool retrusted = anew && mantra_play_judge(book, last->trust, told, (int64_t)(now - play->ahead));
    mantra_feed_describe(feed, book, last->venue_time_ns, count);
    mantra_book_end(&book->book);
    played->best = retrusted ? 0 : played->best;
    if (!ends)
        return;
    if (played->best < MANTRA_DEPTH && feed->scheme != MANTRA_BY_IMAGE)
        mantra_play_top(play, feed, book, last->venue_time_ns, last->origin, now);
    played->best = MANTRA_DEPTH;
}

/* Tell everybody that a book is another now (RESET), or trusted otherwise (TRUST). */
static inline void
mantra_play_tell(mantra_play *play, mantra_feed *feed, mantra_feed_book *book, uint8_t kind, uint64_t now)
{
    const int64_t venue_time_ns = MANTRA_BOOK_GET(&book->book, venue_time_ns);
    book->spliced = kind == MANTRA_RESET ? now : book->spliced;
    mantra_book_begin(&book->book);
    mantra_feed_describe(feed, book, venue_time_ns, 1);
    mantra_book_end(&book->book);
    const mantra_update update = {
        .origin = now,
        .published = mantra_pack_published(0, feed->publisher),
        .price = kind == MANTRA_RESET ? (int64_t)MANTRA_BOOK_GET(&book->book, generation) : 0,
        .sequence = book->sequence,
        .venue_time_ns = venue_time_ns,
        .instrument = book->instrument,
        .venue = feed->venue,
        .kind = kind,
        .flags = (uint8_t)(book->reason << MANTRA_REASON_SHIFT),
        .trust = book->trust,
    };
    mantra_play_top(play, feed, book, venue_time_ns, now, now);
    mantra_play_publish(play, feed->updates, &update);
    play->told++;
    mantra_doorbell_hurry(play->doorbell);
}

/* Are these other levels than the book's? */
static inline bool
mantra_play_differs(const mantra_book *book, const mantra_reel_image *image)
{
    const mantra_change *change = image->changes, *const end = change + image->count; /* each side's best come first */
    for (size_t side = 0; side < 2; side++) {
        const mantra_level *level = mantra_book_side(book, side) + MANTRA_BOOK_GET(book, count[side]);
        uint32_t left = mantra_book_count(book, side);
        for (; change < end && (size_t)change->kind == MANTRA_BID + side; change++) {
            if (left-- == 0)
                return true;
            do
                level--;
            while (mantra_level_size(level) == 0); /* a hole */
            if (mantra_level_price(level) != change->price || mantra_level_size(level) != change->size)
                return true;
        }
        if (left > 0)
            return true;
    }
    return false;
}

/* A book's image comes: what it says is so from its position on. (Blocks overlap: it may be passed already.) */
static inline void
mantra_play_image(mantra_play *play, const mantra_reel_image *image, uint64_t now)
{
    mantra_feed *feed = &play->feeds[image->feed];
    mantra_played *played = &play->books[image->book];
    mantra_feed_book *book = &played->book;
    if (image->position < feed->next_number)
        return;
    const uint8_t trust = book->trust;
    const bool whole = book->state == MANTRA_BOOK_LIVE && !image->told;
    const bool differs = image->told || mantra_play_differs(&book->book, image);
    play->images += whole;
    play->differing += whole && differs;
    mantra_book_begin(&book->book);
    book->state = !differs || mantra_book_load(&book->book, image->changes, image->count) == 0 ? MANTRA_BOOK_LIVE
                                                                                              : MANTRA_BOOK_HOLDING;
    MANTRA_BOOK_SET(&book->book, generation, image->generation);
    book->sequence = image->sequence;
    mantra_play_judge(book, (uint8_t)image->trust, (uint8_t)image->reason, image->trust_since_ns);
    book->trust_since_ns = image->trust_since_ns;
    mantra_feed_describe(feed, book, image->venue_time_ns, 0);
    mantra_book_end(&book->book);
    played->told = image->told;
    if ((differs || (!whole && trust != book->trust)) && !image->told && !play->silent)
        mantra_play_tell(play, feed, book, MANTRA_RESET, now);
}

/* Something of a feed is missing. */
static inline void
mantra_play_miss(mantra_play *play, uint32_t feed, uint64_t now)
{
    for (uint32_t i = 0; i < play->book_count; i++) {
        mantra_feed_book *book = &play->books[i].book;
        if (play->books[i].feed != feed || book->state != MANTRA_BOOK_LIVE)
            continue;
        book->state = MANTRA_BOOK_HOLDING;
        if (book->trust > MANTRA_SUSPECT) {
            book->trust = MANTRA_SUSPECT;
            book->reason = MANTRA_REASON_GAP;
            book->trust_since_ns = (int64_t)(now - play->ahead);
            if (!play->silent)
                mantra_play_tell(play, &play->feeds[feed], book, MANTRA_TRUST, now);
        }
    }
}

/* A top that was recorded. Where levels were not, it is all there is to know of the book. */
static inline void
mantra_play_recorded_top(mantra_play *play, mantra_feed *feed, mantra_played *played, const mantra_top *top)
{
    mantra_feed_book *book = &played->book;
    if (book->state != MANTRA_BOOK_LIVE) {
        const int64_t *const price[2] = {top->bid_price, top->ask_price}, *const size[2] = {top->bid_size, top->ask_size};
        const uint16_t count[2] = {top->bid_count, top->ask_count};
        mantra_book_begin(&book->book);
        mantra_book_clear(&book->book);
        for (size_t side = 0; side < 2; side++)
            for (size_t i = 0; i < count[side]; i++)
                mantra_book_apply(&book->book, (uint8_t)(MANTRA_BID + side), price[side][i], size[side][i]);
        mantra_book_stamp(&book->book, top->sequence, top->venue_time_ns, feed->updates->position);
        mantra_book_judge(&book->book, top->trust, top->reason, top->trust_since_ns);
        mantra_book_end(&book->book);
        book->sequence = top->sequence;
        book->trust = top->trust;
        book->reason = top->reason;
    }
    if (play->silent)
        return;
    mantra_vector_write(feed->latest_tops, book->slot, top);
    mantra_play_publish(play, feed->tops, top);
    MANTRA_COUNT_BOOK(feed, book, tops, 1);
}

/* Another capture than the one before: its positions begin anew. */
static inline void
mantra_play_captured(mantra_feed *feed, uint64_t capture)
{
    if (MANTRA_UNLIKELY(feed->heard != capture))
        feed->next_number = 0;
    feed->heard = capture;
}

/* Forget what a book was. */
static inline void
mantra_play_clear(mantra_played *played)
{
    mantra_feed_book *book = &played->book;
    mantra_book_begin(&book->book);
    mantra_book_clear(&book->book);
    mantra_book_end(&book->book);
    book->state = MANTRA_BOOK_HOLDING;
    book->trust = MANTRA_DOWN;
    book->reason = MANTRA_REASON_SYNCHRONISING;
    book->sequence = 0;
    played->told = false;
    played->best = MANTRA_DEPTH;
}

/* ---- the loop */

/* What comes before the message that is next, or behind the last. */
static inline void
mantra_play_images(mantra_play *play, mantra_reel *reel)
{
    for (; reel->image_at < reel->image_count && reel->images[reel->image_at].before <= reel->at; reel->image_at++) {
        const mantra_reel_image *image = &reel->images[reel->image_at];
        const int64_t time = reel->count == 0 ? 0 : reel->times[reel->at < reel->count ? reel->at : reel->count - 1];
        const uint64_t now = (uint64_t)(time > play->time ? time : play->time) + play->ahead;
        mantra_play_captured(&play->feeds[image->feed], reel->capture);
        if (image->book != MANTRA_NO_BOOK)
            mantra_play_image(play, image, now);
        else
            mantra_play_miss(play, image->feed, now);
    }
}

/* The next messages of a reel, up to `most` of what was published at once; how many. */
static inline size_t
mantra_play_next(mantra_play *play, mantra_reel *reel, size_t most)
{
    const uint16_t at = reel->feeds[reel->at];
    mantra_feed *feed = &play->feeds[at];
    mantra_producer *const producers[] = {feed->updates, feed->trades, feed->orders, feed->tops, NULL};
    mantra_producer *producer = producers[reel->family];
    const uint8_t *messages = reel->messages + reel->at * reel->size;
    size_t count = 1;
    mantra_play_images(play, reel);
    if (play->time < reel->times[reel->at]) {
        play->time = reel->times[reel->at];
        mantra_clock_advance(play->clock, (uint64_t)play->time + play->ahead);
    }
    if (reel->family == MANTRA_PLAY_TOPS) {
        mantra_play_recorded_top(play, feed, &play->books[reel->books[reel->at]], (const mantra_top *)(const void *)messages);
    } else if (reel->family == MANTRA_PLAY_UPDATES) {
        const mantra_update *updates = (const mantra_update *)(const void *)messages;
        const uint32_t book = reel->books[reel->at];
        const uint64_t end = reel->image_at < reel->image_count && reel->images[reel->image_at].before < reel->count
                                 ? reel->images[reel->image_at].before : reel->count;
        if (updates[0].kind == MANTRA_RESET) {
            play->books[book].book.spliced = updates[0].origin;
            if (!play->books[book].told)
                play->books[book].book.state = MANTRA_BOOK_HOLDING; /* its image is still to come */
            play->books[book].told = false;
        }
        while (updates[count - 1].flags & MANTRA_MORE && count < most && reel->at + count < end &&
               reel->feeds[reel->at + count] == at && reel->books[reel->at + count] == book)
            count++;
        mantra_play_change(play, feed, &play->books[book], updates, count, !(updates[count - 1].flags & MANTRA_MORE));
        mantra_play_captured(feed, reel->capture);
        feed->next_number = reel->positions[reel->at + count - 1] + 1;
    }
    if (reel->family < MANTRA_PLAY_TOPS && !play->silent) {
        for (size_t i = 0; i < count; i++)
            mantra_play_publish(play, producer, messages + i * reel->size);
        if (reel->family == MANTRA_PLAY_UPDATES)
            MANTRA_COUNT_BOOK(feed, &play->books[reel->books[reel->at]].book, updates, count);
        else if (reel->family == MANTRA_PLAY_TRADES)
            MANTRA_COUNT(feed, trades, 1);
    }
    mantra_doorbell_hurry(play->doorbell);
    reel->at += count;
    if (reel->at == reel->count)
        mantra_play_images(play, reel);
    play->messages += reel->family < MANTRA_PLAY_NOTHING ? count : 0;
    return count;
}

/* Why mantra_play_run() came back. */
enum { MANTRA_PLAYED_UNTIL, MANTRA_PLAYED_MOST, MANTRA_PLAYED_WOKEN, MANTRA_PLAYED_LONG };

/* Up to what time may be played now? Sleeps until that is `next`, or `deadline`. */
static inline int64_t
mantra_play_due(mantra_play *play, int64_t next, int64_t deadline)
{
    if (play->speed <= 0 || play->silent)
        return INT64_MAX;
    int64_t now = mantra_monotonic_ns();
    if (play->anchor_ns == 0) {
        play->anchor_ns = now;
        play->anchor_time = play->time > 0 ? play->time : next;
    }
    const double ahead = (double)(next - play->anchor_time) / play->speed - (double)(now - play->anchor_ns);
    int64_t left = ahead > 5e6 ? 5000000 : (int64_t)ahead;
    left = left < deadline - now ? left : deadline - now;
    if (left > 0) {
        const struct timespec nap = {0, left};
        nanosleep(&nap, NULL);
        now = mantra_monotonic_ns();
    }
    const int64_t due = play->anchor_time + (int64_t)((double)(now - play->anchor_ns) * play->speed);
    if (due > play->time) { /* time passes between messages too */
        play->time = due < next ? due : next;
        mantra_clock_advance(play->clock, (uint64_t)play->time + play->ahead);
    }
    return due;
}

/* Room for what comes next: a batch whole, its top, and what is told before and behind it. Who asks for something in
 * the loop that he reads in is answered between batches, and could wait for ever amid one. */
static inline uint64_t
mantra_play_need(const mantra_play *play, const mantra_reel *reel)
{
    uint64_t count = 1, need = 1;
    if (reel->family == MANTRA_PLAY_UPDATES)
        for (const mantra_update *update = (const mantra_update *)(const void *)reel->messages + reel->at;
             update->flags & MANTRA_MORE && reel->at + count < reel->count; update++)
            count++;
    for (uint64_t i = reel->image_at; i < reel->image_count && reel->images[i].before <= reel->at + count; i++)
        need += 2 * (uint64_t)(reel->images[i].book == MANTRA_NO_BOOK ? play->book_count : 1);
    return mantra_min_u64(need + count, mantra_play_most(play));
}

/* Play what is earlier than `until`, `most` messages (or, `whole`, batches) of it, for `slice_ns` at most. */
static inline int
mantra_play_run(mantra_play *play, int64_t until, uint64_t most, bool whole, int64_t slice_ns)
{
    const int64_t deadline = mantra_monotonic_ns() + slice_ns;
    int64_t due = INT64_MIN;
    for (uint64_t played = 0, looked = 0; played < most;) {
        mantra_reel *first = NULL;
        if (MANTRA_UNLIKELY(play->landing > 0)) {
            if (play->room >= 2 || mantra_play_room(play, 2)) {
                mantra_played *book = &play->books[play->book_count - play->landing--];
                mantra_play_tell(play, &play->feeds[book->feed], &book->book, MANTRA_RESET,
                                 (uint64_t)play->time + play->ahead);
                continue;
            }
            if (mantra_waiting_over(&play->waiting))
                return MANTRA_PLAYED_WOKEN;
            if (mantra_monotonic_ns() >= deadline)
                return MANTRA_PLAYED_LONG;
            continue;
        }
        for (uint32_t i = 0; i < play->reel_count; i++) {
            mantra_reel *reel = play->reels[i];
            if (reel->at < reel->count && (first == NULL || reel->times[reel->at] < first->times[first->at]))
                first = reel;
        }
        if (first == NULL || first->times[first->at] >= until) {
            mantra_doorbell_ring(play->doorbell);
            return MANTRA_PLAYED_UNTIL;
        }
        const uint64_t need = play->silent ? 0 : mantra_play_need(play, first);
        const bool pressed = play->room < need;
        if (first->times[first->at] > due || pressed || looked == 0) {
            mantra_doorbell_ring(play->doorbell);
            if (mantra_waiting_over(&play->waiting))
                return MANTRA_PLAYED_WOKEN;
            if (mantra_monotonic_ns() >= deadline)
                return MANTRA_PLAYED_LONG;
            due = mantra_play_due(play, first->times[first->at], deadline);
            looked = 1024;
            if (first->times[first->at] > due || (pressed && !mantra_play_room(play, need)))
                continue;
        }
        mantra_play_next(play, first, whole ? SIZE_MAX : 1);
        played++;
        looked--;
    }
    mantra_doorbell_ring(play->doorbell);
    return MANTRA_PLAYED_MOST;
}

#endif
