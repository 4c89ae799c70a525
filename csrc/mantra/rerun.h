/* rerun.h - a feed is told again what a tape says it was told, and so publishes again what it published.
 *
 * Its books depend on nothing but its calls and the times they were given, and the tape has them all, in their order:
 * frames, snapshots, what Python and the clock found out. What a feed measures itself differs: when it published, since when
 * it trusts. */
#ifndef MANTRA_RERUN_H
#define MANTRA_RERUN_H

#include "mantra/receive.h"

/* Take book `index` up where another was when its connection began: what it keeps from one to the next. */
static inline void
mantra_feed_recall(mantra_feed *feed, uint32_t index, uint64_t generation, uint64_t last_trade_id, int64_t venue_time_ns)
{
    mantra_feed_book *book = &feed->books[index];
    book->last_trade_id = last_trade_id;
    mantra_book_begin(&book->book);
    MANTRA_BOOK_SET(&book->book, generation, generation);
    MANTRA_BOOK_SET(&book->book, venue_time_ns, venue_time_ns);
    mantra_book_end(&book->book);
}

/* MANTRA_PADDING readable bytes follow `text`. False: it is nothing that this feed can have been told. */
static inline bool
mantra_feed_again(mantra_feed *feed, const mantra_tape_record *record, const char *text)
{
    const uint64_t at = record->origin;
    const uint32_t index = record->book;
    uint32_t instrument;
    const char *body;
    if (index >= feed->book_count)
        return false;
    switch (record->kind) {
    case MANTRA_TAPE_MESSAGE:
        if (record->argument == MANTRA_FRAME_TEXT || record->argument == MANTRA_FRAME_BINARY)
            mantra_feed_message(feed, text, record->size, at);
        break;
    case MANTRA_TAPE_REST:
        body = memchr(text, '\n', record->size);
        if (body == NULL)
            return false;
        if (record->argument != MANTRA_TAPE_LOOK)
            mantra_feed_splice(feed, index, body + 1, record->size - (size_t)(body + 1 - text),
                               record->argument == MANTRA_TAPE_SETTLED, at);
        break;
    case MANTRA_TAPE_OPENED:
        mantra_feed_begin(feed, at);
        break;
    case MANTRA_TAPE_RESCALED:
        if (record->size < sizeof instrument)
            return false;
        memcpy(&instrument, text, sizeof instrument);
        mantra_feed_rescale(feed, index, instrument, at);
        break;
    case MANTRA_TAPE_CLOSED:
        mantra_feed_end(feed, record->argument, at);
        break;
    case MANTRA_TAPE_SUSPECT:
        mantra_feed_suspect(feed, &feed->books[index], record->argument, at);
        break;
    case MANTRA_TAPE_LOOKED:
        mantra_feed_looked(feed, index, record->argument, at);
        break;
    case MANTRA_TAPE_REFUSED:
        mantra_feed_refuse(feed, index, at);
        break;
    case MANTRA_TAPE_EXPECTED:
        mantra_feed_expect(feed, index);
        break;
    case MANTRA_TAPE_STALE:
        mantra_feed_go_stale(feed, at);
        break;
    case MANTRA_TAPE_FRESH:
        mantra_feed_fresh(feed, at);
        break;
    case MANTRA_TAPE_TIMED:
        mantra_feed_look(feed, at);
        break;
    default: /* what was sent, and what is for the caller: ADOPTED, HOLE */
        break;
    }
    return true;
}

#endif
