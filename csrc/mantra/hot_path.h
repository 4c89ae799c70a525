/* hot_path.h - a venue's message becomes published updates in one call, without the GIL.
 *
 *   receive.h: recv -> origin -> frames -> | decode -> may this be applied? -> book -> top changed? -> publish, ring
 *
 * Nothing here allocates, locks or calls Python; what needs Python (an acknowledgement, a snapshot) comes back as an
 * event.
 *
 * A message is decoded whole before any of it is applied. Then a book's scheme decides:
 *
 *   BY_IDS    (Binance)  first <= sequence + 1 <= last, else messages were lost
 *   BY_TIME   (Bitstamp) newer than the last one; losses can not be seen, a wrong order can
 *   BY_IMAGE  every message is the whole top; nothing to splice
 *   BY_STREAM (Kraken, Bitfinex, Coinbase) the snapshot comes in the stream, then diffs in their order; a number on every
 *             message of the connection or a checksum of the book proves that none is missing
 *
 * A book without a snapshot holds its messages back (bounded, as received); mantra_feed_splice() loads the snapshot and
 * runs the held messages through the same rules, so there is one path into a book. */
#ifndef MANTRA_HOT_PATH_H
#define MANTRA_HOT_PATH_H

#include "mantra/feed.h"

/* Does the venue's checksum agree with the book as it stands? */
static inline void
mantra_feed_check(mantra_feed *feed, mantra_feed_book *book)
{
    const mantra_decoder *decoder = &feed->decoder;
    const uint32_t here = book->orders.slots ? feed->orders_checksum(&book->orders, decoder->scales[decoder->book])
                                             : feed->checksum(decoder, &book->book);
    book->failed = here != decoder->checksum;
    book->proven = !book->failed;
    if (MANTRA_LIKELY(book->proven))
        MANTRA_COUNT_BOOK(feed, book, checksums_ok, 1);
    else
        MANTRA_COUNT_BOOK(feed, book, checksums_failed, 1);
}

/* Cut both sides to what the venue's own book has: it says nothing of levels that fall out of it. They are noted as
 * removed behind the `changed` first changes. Returns how many changes there are now. */
static inline uint32_t
mantra_feed_cut(mantra_feed *feed, mantra_feed_book *book, uint32_t changed)
{
    mantra_change *changes = feed->decoder.changes;
    for (uint8_t kind = MANTRA_BID; kind <= MANTRA_ASK; kind++)
        while (MANTRA_UNLIKELY(mantra_book_count(&book->book, (size_t)kind - MANTRA_BID) > feed->keep)) {
            const int64_t price = mantra_book_worst(&book->book, kind);
            mantra_book_apply(&book->book, kind, price, 0);
            if (changed < feed->decoder.change_capacity)
                changes[changed++] = (mantra_change){.price = price, .kind = kind};
        }
    return changed;
}

/* The decoder's first `changed` changes were made to a live book, in a write section that ends here, down to rank `best`:
 * judge and publish. */
static inline void
mantra_feed_changed(mantra_feed *feed, mantra_feed_book *book, uint32_t changed, uint32_t absent, int best, uint64_t origin)
{
    const mantra_decoder *decoder = &feed->decoder;
    mantra_change *changes = decoder->changes;
    if (feed->keep)
        changed = mantra_feed_cut(feed, book, changed);
    if (decoder->checked && feed->checksum)
        mantra_feed_check(feed, book);
    const bool retrusted = mantra_feed_judge(feed, book, origin);
    if (MANTRA_UNLIKELY(retrusted && changed == 0))
        changes[changed++] = (mantra_change){.kind = MANTRA_TRUST};
    mantra_feed_describe(feed, book, decoder->venue_time_ns, changed);
    mantra_book_end(&book->book);
    const uint64_t now = feed->published_at = mantra_clock_cycles(feed->clock);
    if (best < MANTRA_DEPTH || retrusted) {
        mantra_feed_publish_top(feed, book, decoder->venue_time_ns, origin, now);
        if (feed->socket_to_top && !feed->replaying)
            mantra_histogram_record(feed->socket_to_top, mantra_clock_ns(feed->clock, now - origin));
    }
    const uint64_t published = mantra_pack_published(now - origin, feed->publisher);
    const uint8_t told = retrusted ? mantra_feed_why(book) : 0;
    for (uint32_t i = 0; i < changed; i++)
        mantra_feed_update(feed, book, changes[i].kind, i + 1 < changed ? MANTRA_MORE : told, changes[i].price,
                           changes[i].size, decoder->venue_time_ns, origin, published);
    MANTRA_COUNT_BOOK(feed, book, updates, changed);
    if (MANTRA_UNLIKELY(absent))
        MANTRA_COUNT_BOOK(feed, book, unknown_deletes, absent);
    if (MANTRA_UNLIKELY(book->failed))
        mantra_feed_suspect(feed, book, MANTRA_REASON_CHECKSUM, origin);
    else if (MANTRA_UNLIKELY(book->crossed_at && (int64_t)(origin - book->crossed_at) >
                                                     (int64_t)(feed->cross_believed + feed->cross_limit)))
        mantra_feed_suspect(feed, book, MANTRA_REASON_CROSSED, origin);
    else if (best < MANTRA_DEPTH && MANTRA_UNLIKELY(mantra_feed_adrift(book)))
        mantra_feed_suspect(feed, book, MANTRA_REASON_SYNCHRONISING, origin);
}

/* Apply a decoded diff to a live book and publish what it changed. */
static inline void
mantra_feed_apply(mantra_feed *feed, mantra_feed_book *book, uint64_t origin)
{
    mantra_decoder *decoder = &feed->decoder;
    mantra_change *changes = decoder->changes;
    const uint32_t count = decoder->change_count;
    /* Each level that comes may push one out, and both are published. */
    if (MANTRA_UNLIKELY(mantra_book_room(&book->book, count) != 0 || count > decoder->change_capacity / 2)) {
        MANTRA_COUNT_BOOK(feed, book, full, 1);
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
    mantra_feed_changed(feed, book, changed, absent, best, origin);
}

/* The last image's text is not in the book: the next must not be taken for unchanged because it equals that. */
static inline void
mantra_feed_forget(mantra_feed *feed, uint32_t index)
{
    if (feed->decoder.images)
        feed->decoder.images[index] = (mantra_image_text){0};
}

/* Tell of the decoder's first `count` orders; `anew`: there are no others. */
static inline void
mantra_feed_tell_orders(mantra_feed *feed, const mantra_feed_book *book, uint32_t count, bool anew, uint64_t origin)
{
    const mantra_decoder *decoder = &feed->decoder;
    mantra_order told = {
        .origin = origin,
        .published = mantra_pack_published(feed->published_at - origin, feed->publisher),
        .venue_time_ns = decoder->venue_time_ns,
        .instrument = book->instrument,
        .venue = feed->venue,
        .trust = book->trust,
        .flags = count ? MANTRA_MORE : 0,
    };
    if (anew)
        mantra_produce(feed->orders, &told);
    for (uint32_t i = 0; i < count; i++) {
        const mantra_order_change *order = &decoder->orders[i];
        told.order_id = order->id;
        told.price = order->price;
        told.size = order->size;
        told.side = order->kind == MANTRA_ASK ? MANTRA_SELL : MANTRA_BUY;
        told.flags = i + 1 < count ? MANTRA_MORE : 0;
        mantra_produce(feed->orders, &told);
    }
}

/* Apply decoded orders to a live book, whose levels follow from them, and publish both. */
static inline void
mantra_feed_apply_orders(mantra_feed *feed, mantra_feed_book *book, uint64_t origin)
{
    mantra_decoder *decoder = &feed->decoder;
    const uint32_t count = decoder->order_count;
    /* An order that moves changes two levels, and each of these may push one out. */
    if (MANTRA_UNLIKELY(mantra_book_room(&book->book, count) != 0 || mantra_orders_room(&book->orders, count) != 0 ||
                        count > decoder->change_capacity / 4)) {
        MANTRA_COUNT_BOOK(feed, book, full, 1);
        mantra_feed_suspect(feed, book, MANTRA_REASON_FULL, origin);
        return;
    }
    uint32_t changed = 0, known = 0, absent = 0;
    int best = MANTRA_DEPTH;
    book->sequence = decoder->last;
    mantra_book_begin(&book->book);
    for (uint32_t i = 0; i < count; i++) {
        mantra_order_change *order = &decoder->orders[i];
        mantra_resting was;
        const int levels = mantra_orders_apply(&book->orders, &book->book, order, &was, &decoder->changes[changed], &best);
        book->failed |= levels == MANTRA_BOOK_FULL; /* a sum overflows: as wrong as a checksum that does not hold */
        absent += levels == MANTRA_BOOK_ABSENT;
        if (MANTRA_LIKELY(levels >= 0)) {
            changed += (uint32_t)levels;
            decoder->orders[known] = *order;
            if (order->size == 0) {
                decoder->orders[known].price = was.price;
                decoder->orders[known].kind = was.size < 0 ? MANTRA_ASK : MANTRA_BID;
            }
            known++;
        }
    }
    mantra_feed_changed(feed, book, changed, absent, best, origin);
    mantra_feed_tell_orders(feed, book, known, false, origin);
}

/* All orders of a book anew, and its levels; inside its write section. 0 or MANTRA_BOOK_FULL. */
static inline int
mantra_feed_load_orders(mantra_feed *feed, mantra_feed_book *book)
{
    const uint32_t count = feed->decoder.order_count;
    int best = 0;
    mantra_orders_clear(&book->orders);
    mantra_book_clear(&book->book);
    if (mantra_orders_room(&book->orders, count) != 0 || mantra_book_reserve(&book->book, count) != 0)
        return MANTRA_BOOK_FULL;
    for (uint32_t i = count; i-- > 0;) { /* the best come first, so that each level is put behind the last */
        mantra_change changes[2];
        mantra_resting was;
        if (mantra_orders_apply(&book->orders, &book->book, &feed->decoder.orders[i], &was, changes, &best) ==
            MANTRA_BOOK_FULL)
            return MANTRA_BOOK_FULL;
    }
    return 0;
}

/* Replace the book by what was decoded. `reset`: a snapshot, announced as a new generation for readers of updates. */
static inline bool
mantra_feed_load(mantra_feed *feed, mantra_feed_book *book, bool reset, uint64_t origin)
{
    mantra_decoder *decoder = &feed->decoder;
    mantra_book_begin(&book->book);
    if ((book->orders.slots ? mantra_feed_load_orders(feed, book)
                            : mantra_book_load(&book->book, decoder->changes, decoder->change_count)) != 0) {
        /* Half of its orders may be there: nobody must see that as what it was before. */
        mantra_book_judge(&book->book, MANTRA_SUSPECT, MANTRA_REASON_FULL, book->trust_since_ns);
        mantra_book_end(&book->book);
        MANTRA_COUNT_BOOK(feed, book, full, 1);
        mantra_feed_suspect(feed, book, MANTRA_REASON_FULL, origin);
        return false;
    }
    if (feed->keep)
        mantra_feed_cut(feed, book, decoder->change_capacity);
    book->failed = false;
    book->proven = (decoder->numbered && (feed->proofs & MANTRA_PROOF_NUMBERS)) || decoder->linked;
    book->witness = (mantra_witness){0};
    if (decoder->checked && feed->checksum)
        mantra_feed_check(feed, book);
    book->state = MANTRA_BOOK_LIVE;
    book->sequence = book->spliced = decoder->last;
    book->behind = 0;
    book->chained = feed->scheme == MANTRA_BY_STREAM;
    mantra_feed_told(feed, book);
    book->looked = MANTRA_LOOK_AHEAD;
    if (reset) {
        book->crossed_at = 0; /* if it is, then anew */
        MANTRA_BOOK_SET(&book->book, generation, MANTRA_BOOK_GET(&book->book, generation) + 1);
    }
    mantra_feed_judge(feed, book, origin);
    mantra_feed_describe(feed, book, decoder->venue_time_ns, reset);
    mantra_book_end(&book->book);
    const uint64_t now = feed->published_at = mantra_clock_cycles(feed->clock);
    mantra_feed_publish_top(feed, book, decoder->venue_time_ns, origin, now);
    if (reset) {
        const int64_t generation = (int64_t)MANTRA_BOOK_GET(&book->book, generation);
        mantra_feed_update(feed, book, MANTRA_RESET, mantra_feed_why(book), generation, 0, decoder->venue_time_ns, origin,
                           mantra_pack_published(now - origin, feed->publisher));
        MANTRA_COUNT_BOOK(feed, book, updates, 1);
        feed->resets++;
        if (book->orders.slots)
            mantra_feed_tell_orders(feed, book, decoder->order_count, true, origin);
    } else if (feed->socket_to_top && !feed->replaying) {
        mantra_histogram_record(feed->socket_to_top, mantra_clock_ns(feed->clock, now - origin));
    }
    return true;
}

/* Append a message to those held back; false: there is no room. */
static inline bool
mantra_feed_append(mantra_feed *feed, uint32_t index, const char *text, size_t size)
{
    const size_t need = mantra_round_up(sizeof(mantra_held) + size, 8);
    if (feed->held_size + need + MANTRA_PADDING > feed->held_capacity)
        return false;
    const mantra_held entry = {(uint32_t)size, index};
    memcpy(feed->held + feed->held_size, &entry, sizeof entry);
    memcpy(feed->held + feed->held_size + sizeof entry, text, size);
    feed->held_size += need;
    return true;
}

/* Keep a message until the snapshot comes. When there is no room everything held is dropped, counted, and only a
 * snapshot that covers what was dropped will do. */
static inline void
mantra_feed_hold(mantra_feed *feed, mantra_feed_book *book, const char *text, size_t size)
{
    if (!mantra_feed_append(feed, feed->decoder.book, text, size)) {
        for (uint32_t i = 0; i < feed->book_count; i++) {
            mantra_feed_book *other = &feed->books[i];
            if (other->held) {
                MANTRA_COUNT_BOOK(feed, other, overflowed, other->held);
                other->held = 0;
                other->needed = MANTRA_NEEDS_MESSAGE;
            }
        }
        feed->held_size = 0;
        if (!mantra_feed_append(feed, feed->decoder.book, text, size)) {
            MANTRA_COUNT_BOOK(feed, book, overflowed, 1);
            book->needed = feed->decoder.last;
            return;
        }
    }
    const bool by_ids = feed->scheme == MANTRA_BY_IDS;
    const uint64_t reach = by_ids ? feed->decoder.first - 1 : feed->decoder.first;
    if (book->needed == MANTRA_NEEDS_MESSAGE || (by_ids && book->held == 0 && book->needed < reach))
        book->needed = reach;
    book->held++;
    MANTRA_COUNT_BOOK(feed, book, buffered, 1);
}

/* A message older than its book is dropped. True: so many came in a row that the venue must have begun to count
 * anew. */
static inline bool
mantra_feed_outdated(mantra_feed *feed, mantra_feed_book *book)
{
    MANTRA_COUNT_BOOK(feed, book, old_dropped, 1);
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
            MANTRA_COUNT_BOOK(feed, book, gaps, 1);
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
            MANTRA_COUNT_BOOK(feed, book, gaps, 1);
            MANTRA_COUNT_BOOK(feed, book, lost, decoder->first - book->sequence - 1);
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

/* The newest trade of `instrument` that the connection before published during the overlap (promote.h), venue's time. */
MANTRA_COLD int64_t
mantra_feed_traded_until(const mantra_feed *feed, uint32_t instrument)
{
    int64_t until = 0;
    for (uint64_t at = feed->overlap_from; at < feed->overlap_to; at++) {
        mantra_trade trade;
        mantra_words_load(mantra_queue_slot(&feed->trades->queue, at)->words, &trade, sizeof trade / 8);
        if (trade.instrument == instrument && trade.venue_time_ns > until)
            until = trade.venue_time_ns;
    }
    return until;
}

/* Did the connection before publish it? */
MANTRA_COLD bool
mantra_feed_repeats(const mantra_feed *feed, const mantra_feed_book *book, const mantra_print *print)
{
    const uint64_t end = feed->trades->position, room = feed->trades->queue.mask + 1;
    for (uint64_t at = end - mantra_min_u64(end - feed->overlap_from, room); at < feed->overlap_to; at++) {
        mantra_trade trade;
        mantra_words_load(mantra_queue_slot(&feed->trades->queue, at)->words, &trade, sizeof trade / 8);
        if (trade.instrument == book->instrument && trade.trade_id == print->trade_id && trade.price == print->price &&
            trade.size == print->size && trade.venue_time_ns == print->venue_time_ns)
            return true;
    }
    return false;
}

/* Orders of a live book against its rules. */
static inline void
mantra_feed_orders(mantra_feed *feed, mantra_feed_book *book, uint64_t origin)
{
    mantra_decoder *decoder = &feed->decoder;
    if (feed->scheme == MANTRA_BY_STREAM) {
        decoder->last = decoder->numbered ? decoder->number : book->sequence + 1;
    } else {
        const bool old = decoder->last < book->spliced; /* what is as old as the snapshot is harmless twice */
        const bool joined = book->linked && !book->chained; /* nothing proves what is not linked */
        book->chained |= joined;
        if (old) {
            if (joined)
                mantra_feed_rejudge(feed, book, origin);
            MANTRA_COUNT_BOOK(feed, book, old_dropped, 1);
            return;
        }
    }
    mantra_feed_apply_orders(feed, book, origin);
}

/* Where a book's messages are linked, one that does not follow the last tells that some were lost. False: it came
 * twice. */
static inline bool
mantra_feed_follows(mantra_feed *feed, mantra_feed_book *book, uint64_t origin)
{
    const mantra_decoder *decoder = &feed->decoder;
    if (book->linked && memcmp(book->link, decoder->link, sizeof book->link) == 0) {
        MANTRA_COUNT_BOOK(feed, book, old_dropped, 1);
        return false;
    }
    if (MANTRA_UNLIKELY(book->linked && memcmp(book->link, decoder->before, sizeof book->link) != 0)) {
        MANTRA_COUNT_BOOK(feed, book, gaps, 1);
        mantra_feed_suspect(feed, book, MANTRA_REASON_GAP, origin);
    }
    memcpy(book->link, decoder->link, sizeof book->link);
    book->linked = true;
    return true;
}

static inline void
mantra_feed_order_message(mantra_feed *feed, mantra_feed_book *book, const char *text, size_t size, uint64_t origin)
{
    const mantra_decoder *decoder = &feed->decoder;
    if (decoder->linked && !mantra_feed_follows(feed, book, origin))
        return;
    if (MANTRA_LIKELY(book->state == MANTRA_BOOK_LIVE))
        mantra_feed_orders(feed, book, origin);
    else if (book->state == MANTRA_BOOK_HOLDING && feed->scheme == MANTRA_BY_TIME)
        mantra_feed_hold(feed, book, text, size);
    else
        MANTRA_COUNT_BOOK(feed, book, old_dropped, 1);
    if (decoder->last > book->streamed)
        book->streamed = decoder->last;
}

static inline void
mantra_feed_trades(mantra_feed *feed, mantra_feed_book *book, uint64_t origin)
{
    const mantra_decoder *decoder = &feed->decoder;
    feed->published_at = mantra_clock_cycles(feed->clock);
    mantra_trade trade = {
        .origin = origin,
        .published = mantra_pack_published(feed->published_at - origin, feed->publisher),
        .instrument = book->instrument,
        .venue = feed->venue,
        .trust = feed->live_trust,
    };
    uint32_t published = 0;
    const bool in_order = feed->dense_trades || decoder->history;
    const uint64_t newest = decoder->trade_count ? decoder->trades[decoder->trade_count - 1].trade_id : 0;
    if (decoder->history && (!book->last_trade_id || (!book->traded && newest < book->last_trade_id))) {
        book->last_trade_id = newest; /* nothing was missed, or the venue began to count anew */
        book->traded = true;
        return;
    }
    for (uint32_t i = 0; i < decoder->trade_count; i++) {
        const mantra_print *print = &decoder->trades[i];
        if (MANTRA_UNLIKELY(print->venue_time_ns <= book->overlap_ns) && mantra_feed_repeats(feed, book, print))
            continue;
        if (!book->traded && print->trade_id <= book->last_trade_id && !decoder->history)
            book->last_trade_id = 0; /* a new connection repeats nothing: the venue began to count anew */
        book->traded = true;
        if (in_order && book->last_trade_id) {
            if (print->trade_id <= book->last_trade_id) {
                if (!decoder->history)
                    MANTRA_COUNT_BOOK(feed, book, old_dropped, 1);
                continue;
            }
            if (feed->dense_trades && print->trade_id > book->last_trade_id + 1)
                MANTRA_COUNT_BOOK(feed, book, trade_gaps, print->trade_id - book->last_trade_id - 1);
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
    MANTRA_COUNT_BOOK(feed, book, trades, published);
    mantra_doorbell_hurry(feed->doorbell);
}

/* A diff that comes after a newer one. Where messages have no numbers it may have changed what the newer one did not,
 * and it can not be applied any more: only a snapshot as new as the newest will do. True: that was so. */
MANTRA_COLD bool
mantra_feed_late(mantra_feed *feed, mantra_feed_book *book, uint64_t origin)
{
    if (feed->scheme != MANTRA_BY_TIME || book->state == MANTRA_BOOK_IDLE)
        return false;
    MANTRA_COUNT_BOOK(feed, book, gaps, 1);
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
mantra_feed_unpriced(mantra_feed *feed, mantra_feed_book *book)
{
    MANTRA_COUNT_BOOK(feed, book, unpriced, feed->decoder.unpriced);
    feed->decoder.unpriced = 0;
}

/* Give up what came early (BY_STREAM nothing else is held): a snapshot without all that followed it proves nothing. */
MANTRA_COLD void
mantra_feed_drop_early(mantra_feed *feed)
{
    mantra_held entry;
    for (size_t at = 0; at < feed->held_size; at += mantra_round_up(sizeof entry + entry.size, 8)) {
        memcpy(&entry, feed->held + at, sizeof entry);
        MANTRA_COUNT(feed, overflowed, 1);
    }
    feed->held_size = 0;
}

/* The message's place among its connection's: every one that is missing may have been any book's. False: it is older
 * than one that came before, and is dropped. */
MANTRA_COLD bool
mantra_feed_misnumbered(mantra_feed *feed, uint64_t origin)
{
    const uint64_t number = feed->decoder.number;
    if (feed->counting && number < feed->next_number && ++feed->behind < MANTRA_BEHIND_LIMIT) {
        MANTRA_COUNT(feed, old_dropped, 1);
        return false;
    }
    if (feed->counting) {
        MANTRA_COUNT(feed, gaps, 1);
        MANTRA_COUNT(feed, lost, number > feed->next_number ? number - feed->next_number : 0);
        for (uint32_t i = 0; i < feed->book_count; i++)
            if (feed->books[i].state == MANTRA_BOOK_LIVE)
                mantra_ledger_add(feed->books[i].ledger, MANTRA_COUNT_gaps, 1);
        mantra_feed_suspect_all(feed, MANTRA_REASON_GAP, origin);
        mantra_feed_drop_early(feed);
    }
    feed->counting = true;
    feed->behind = 0;
    feed->next_number = number + 1;
    return true;
}

/* What the venue last named as its best bid and offer stood until it names another. So when the book's sequence lies
 * between the two, the book's own best should be the first. */
static inline void
mantra_feed_witness(mantra_feed *feed, mantra_feed_book *book, uint64_t origin)
{
    const mantra_decoder *decoder = &feed->decoder;
    mantra_witness *seen = &book->witness;
    if (book->state != MANTRA_BOOK_LIVE || decoder->last <= seen->sequence)
        return;
    if (seen->sequence && seen->sequence <= book->sequence && book->sequence < decoder->last) {
        bool agrees = true;
        for (uint8_t kind = MANTRA_BID; kind <= MANTRA_ASK; kind++) {
            int64_t price = 0, size = 0;
            mantra_book_best(&book->book, kind, &price, &size);
            agrees &= price == seen->price[kind - MANTRA_BID] && size == seen->size[kind - MANTRA_BID];
        }
        seen->doubts = agrees ? 0 : seen->doubts + 1;
        if (MANTRA_LIKELY(agrees)) {
            MANTRA_COUNT_BOOK(feed, book, witnessed, 1);
        } else if (seen->doubts >= MANTRA_WITNESS_DOUBTS) {
            MANTRA_COUNT_BOOK(feed, book, contradicted, 1);
            mantra_feed_suspect(feed, book, MANTRA_REASON_CONTRADICTED, origin);
            return;
        }
    }
    *seen = (mantra_witness){.sequence = decoder->last, .doubts = seen->doubts};
    for (uint32_t i = 0; i < decoder->change_count; i++) {
        const mantra_change *change = &decoder->changes[i];
        seen->price[change->kind - MANTRA_BID] = change->price;
        seen->size[change->kind - MANTRA_BID] = change->size;
    }
}

/* A part of a message that was decoded as `kind`. */
static inline void
mantra_feed_part(mantra_feed *feed, int kind, const char *text, size_t size, uint64_t origin)
{
    mantra_decoder *decoder = &feed->decoder;
    mantra_feed_book *book = decoder->book < feed->book_count ? &feed->books[decoder->book] : NULL;
    if (MANTRA_LIKELY(book != NULL)) {
        if (MANTRA_UNLIKELY(decoder->unpriced))
            mantra_feed_unpriced(feed, book);
        mantra_ledger_add(book->ledger, MANTRA_COUNT_messages, 1);
        if (MANTRA_LIKELY(kind != MANTRA_TRADES)) /* another channel, often */
            book->heard = origin;
    } else if (MANTRA_UNLIKELY(kind > 0 && kind != MANTRA_CONTROL && kind != MANTRA_HEARTBEAT && kind != MANTRA_EARLY)) {
        kind = MANTRA_MALFORMED;
    }
    switch (kind) {
    case MANTRA_DIFF:
        if (feed->scheme == MANTRA_BY_STREAM) {
            if (decoder->linked && !mantra_feed_follows(feed, book, origin))
                break;
            if (MANTRA_LIKELY(book->state == MANTRA_BOOK_LIVE)) {
                book->sequence = decoder->numbered ? decoder->number : book->sequence + 1;
                decoder->last = book->sequence;
                mantra_feed_apply(feed, book, origin);
            } else {
                MANTRA_COUNT_BOOK(feed, book, old_dropped, 1); /* the snapshot to come has it */
            }
            break;
        }
        if (MANTRA_UNLIKELY(decoder->last < book->streamed) && mantra_feed_late(feed, book, origin))
            break;
        if (MANTRA_LIKELY(book->state == MANTRA_BOOK_LIVE)) {
            if (MANTRA_UNLIKELY(!mantra_feed_diff(feed, book, origin)))
                mantra_feed_hold(feed, book, text, size);   /* it comes after the snapshot that heals the loss */
        } else if (book->state == MANTRA_BOOK_HOLDING) {
            mantra_feed_hold(feed, book, text, size);
        }
        if (MANTRA_LIKELY(decoder->last > book->streamed))
            book->streamed = decoder->last;
        break;
    case MANTRA_ORDERS:
        mantra_feed_order_message(feed, book, text, size, origin);
        break;
    case MANTRA_SNAPSHOT:
    case MANTRA_ORDER_BOOK:
        if (feed->scheme != MANTRA_BY_STREAM || book->state == MANTRA_BOOK_IDLE) {
            MANTRA_COUNT_BOOK(feed, book, old_dropped, 1);
            break;
        }
        decoder->last = decoder->numbered ? decoder->number : book->sequence + 1;
        book->linked = decoder->linked;
        memcpy(book->link, decoder->link, sizeof book->link);
        feed->replaying = true;
        if (mantra_feed_load(feed, book, true, origin) && book->failed)
            mantra_feed_suspect(feed, book, MANTRA_REASON_CHECKSUM, origin);
        feed->replaying = false;
        break;
    case MANTRA_CHECKSUM:
        if (book->state == MANTRA_BOOK_LIVE && feed->checksum) {
            mantra_feed_check(feed, book);
            if (MANTRA_UNLIKELY(book->failed))
                mantra_feed_suspect(feed, book, MANTRA_REASON_CHECKSUM, origin);
            else
                mantra_feed_rejudge(feed, book, origin);
        }
        break;
    case MANTRA_IMAGE:
        if (feed->scheme != MANTRA_BY_IMAGE || book->state == MANTRA_BOOK_IDLE) {
            MANTRA_COUNT_BOOK(feed, book, old_dropped, 1);
            break;
        }
        if (MANTRA_UNLIKELY((decoder->last < book->sequence && !mantra_feed_outdated(feed, book)) ||
                            !mantra_feed_load(feed, book, false, origin)))
            mantra_feed_forget(feed, decoder->book);
        break;
    case MANTRA_UNCHANGED:
        MANTRA_COUNT_BOOK(feed, book, unchanged, 1);
        if (MANTRA_UNLIKELY(decoder->last < book->sequence && !mantra_feed_outdated(feed, book)))
            break;
        book->sequence = decoder->last;
        if (MANTRA_UNLIKELY(book->trust < MANTRA_UNVERIFIED))
            mantra_feed_rejudge(feed, book, origin);
        break;
    case MANTRA_WITNESS:
        mantra_feed_witness(feed, book, origin);
        break;
    case MANTRA_TRADES:
        mantra_feed_trades(feed, book, origin);
        break;
    case MANTRA_CONTROL:
        MANTRA_COUNT(feed, control, 1);
        break;
    case MANTRA_EARLY:
        MANTRA_COUNT(feed, buffered, 1);
        if (!mantra_feed_append(feed, MANTRA_HELD_EARLY, text, size)) {
            MANTRA_COUNT(feed, overflowed, 1);
            mantra_feed_drop_early(feed); /* snapshots among it: Python waits for one only so long */
        }
        break;
    case MANTRA_IGNORED:
    case MANTRA_HEARTBEAT:
        break;
    case MANTRA_UNKNOWN:
        MANTRA_COUNT(feed, unknown_symbols, 1);
        break;
    case MANTRA_FINER:
        MANTRA_COUNT(feed, finer, 1);
        feed->text = (const uint8_t *)text;   /* what the next scale must hold */
        feed->text_size = size;
        if (book) {
            mantra_ledger_add(book->ledger, MANTRA_COUNT_finer, 1);
            mantra_feed_suspect(feed, book, MANTRA_REASON_SCALE, origin);
            mantra_feed_want(feed, book, MANTRA_WANTS_SCALE);
        }
        break;
    default:
        /* Malformed. Where each book counts its messages the next one tells which book it was; elsewhere any book of
         * this connection may have missed a change. */
        MANTRA_COUNT(feed, malformed, 1);
        if (book) {
            mantra_ledger_add(book->ledger, MANTRA_COUNT_malformed, 1);
            mantra_feed_suspect(feed, book, MANTRA_REASON_MALFORMED, origin);
        } else if (feed->scheme == MANTRA_BY_TIME || feed->scheme == MANTRA_BY_STREAM) {
            mantra_feed_suspect_all(feed, MANTRA_REASON_MALFORMED, origin);
        }
    }
}

/* A channel was acknowledged: what came before is worked through, and what is still early stays. */
MANTRA_COLD void
mantra_feed_routed(mantra_feed *feed, uint64_t origin)
{
    size_t kept = 0;
    for (size_t at = 0; at < feed->held_size;) {
        mantra_held entry;
        memcpy(&entry, feed->held + at, sizeof entry);
        const size_t span = mantra_round_up(sizeof entry + entry.size, 8);
        const char *text = (const char *)feed->held + at + sizeof entry;
        int kind = MANTRA_EARLY;
        if (entry.book == MANTRA_HELD_EARLY) {
            feed->decoder.rest = NULL;
            feed->decoder.book = UINT32_MAX;
            kind = feed->decode(&feed->decoder, text, entry.size);
            if (kind == MANTRA_FINER) /* Python could not read the text any more: the next snapshot tells of the scale */
                kind = MANTRA_MALFORMED;
            if (kind != MANTRA_EARLY)
                mantra_feed_part(feed, kind, text, entry.size, origin);
        }
        if (kind == MANTRA_EARLY) {
            memmove(feed->held + kept, feed->held + at, span);
            kept += span;
        }
        at += span;
    }
    feed->held_size = kept;
}

/* One venue message, complete; MANTRA_PADDING readable bytes follow it. Returns the kind it was (decode.h); of several
 * parts MANTRA_CONTROL if one was that, else the last's. */
static inline int
mantra_feed_message(mantra_feed *feed, const char *text, size_t size, uint64_t origin)
{
    mantra_decoder *decoder = &feed->decoder;
    int kind, answer = MANTRA_IGNORED;
    if (feed->tracker)
        mantra_feed_timing(feed);
    MANTRA_COUNT(feed, messages, 1);
    decoder->rest = NULL;
    do {
        const char *from = decoder->rest;
        decoder->book = UINT32_MAX;
        kind = feed->decode(decoder, text, size);
        if (decoder->numbered && from == NULL) {
            if (MANTRA_LIKELY(decoder->number == feed->next_number && feed->counting)) {
                feed->next_number++;
                feed->behind = 0;
            } else if (!mantra_feed_misnumbered(feed, origin))
                break;
        }
        answer = answer == MANTRA_CONTROL ? answer : kind;
        mantra_feed_part(feed, kind, text, size, origin);
        if (MANTRA_UNLIKELY(decoder->rest != NULL && decoder->rest <= from))
            break; /* a decoder that does not go on must not hang us */
    } while (MANTRA_UNLIKELY(decoder->rest != NULL));
    decoder->rest = NULL;
    if (MANTRA_UNLIKELY(decoder->routed) && feed->held_size)
        mantra_feed_routed(feed, origin);
    if (feed->tracker)
        mantra_feed_timed(feed, origin);
    return answer;
}

/* What became of a snapshot. */
enum { MANTRA_SPLICED = 0, MANTRA_SPLICE_OLD = 1 }; /* or MANTRA_MALFORMED, MANTRA_FINER, MANTRA_TOO_MANY */

/* Load a snapshot (the venue's REST answer) into book `index`, then the messages held for it. MANTRA_SPLICE_OLD: it
 * does not reach the first held message; ask again. `settled`: it was asked for so long after the last loss that it is
 * newer even if the market has been too quiet for a message to prove it. */
static inline int
mantra_feed_splice(mantra_feed *feed, uint32_t index, const char *text, size_t size, bool settled, uint64_t origin)
{
    mantra_feed_book *book = &feed->books[index];
    if (book->state != MANTRA_BOOK_HOLDING)
        return MANTRA_SPLICED; /* it came twice: what was applied since is not held any more, so there is no way back */
    const uint32_t depth = feed->decoder.depth;
    feed->decoder.rest = NULL;
    feed->decoder.book = index;
    feed->decoder.depth = 0;
    const int kind = feed->decode_snapshot(&feed->decoder, text, size);
    feed->decoder.depth = depth;
    mantra_feed_unpriced(feed, book);
    if (kind != (book->orders.slots ? MANTRA_ORDER_BOOK : MANTRA_IMAGE)) {
        if (kind == MANTRA_FINER) {
            MANTRA_COUNT_BOOK(feed, book, finer, 1);
            mantra_feed_want(feed, book, MANTRA_WANTS_SCALE);
        } else {
            MANTRA_COUNT_BOOK(feed, book, malformed, 1);
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
            feed->decoder.rest = NULL;
            feed->decoder.book = UINT32_MAX;
            /* It was decoded once before it was held, so only the scale can be at fault now. */
            const int again = feed->decode(&feed->decoder, (const char *)feed->held + at + sizeof entry, entry.size);
            keep = again == MANTRA_DIFF && !mantra_feed_diff(feed, book, origin);
            if (again == MANTRA_ORDERS)
                mantra_feed_orders(feed, book, origin);
            else if (again != MANTRA_DIFF)
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
mantra_feed_begin(mantra_feed *feed, uint64_t now)
{
    feed->held_size = 0;
    feed->split_origin = 0;
    feed->stale = false;
    feed->heard = now;
    feed->next_heartbeat = now + feed->heartbeat_every;
    feed->look_at = feed->channel_silent_after ? now + feed->channel_silent_after : UINT64_MAX;
    feed->counting = feed->first_number >= 0;
    feed->next_number = (uint64_t)feed->first_number;
    feed->behind = 0;
    feed->decoder.route_count = 0;
    feed->decoder.flags = 0;
    for (uint32_t i = 0; i < feed->book_count; i++) {
        mantra_feed_book *book = &feed->books[i];
        book->held = 0;
        book->streamed = 0;
        book->needed = feed->scheme == MANTRA_BY_TIME ? MANTRA_NEEDS_MESSAGE : 0;
        book->traded = false;
        book->overlap_ns = 0;
        book->crossed_at = 0;
        book->heard = now;
        book->witness = (mantra_witness){0};
        book->proven = book->failed = book->linked = false;
        book->wants = 0;
        book->state = feed->scheme == MANTRA_BY_IMAGE ? MANTRA_BOOK_LIVE : MANTRA_BOOK_HOLDING;
        book->sequence = 0;
        mantra_feed_forget(feed, i);
        mantra_feed_trust(feed, book, MANTRA_SUSPECT, MANTRA_REASON_SYNCHRONISING, now);
    }
    feed->wanting = 0;
}

static inline void
mantra_feed_end(mantra_feed *feed, uint8_t reason, uint64_t now)
{
    for (uint32_t i = 0; i < feed->book_count; i++) {
        feed->books[i].state = MANTRA_BOOK_IDLE;
        mantra_feed_trust(feed, &feed->books[i], MANTRA_DOWN, reason, now);
    }
}

/* The venue does not serve book `index`. */
static inline void
mantra_feed_refuse(mantra_feed *feed, uint32_t index, uint64_t now)
{
    feed->books[index].state = MANTRA_BOOK_IDLE;
    mantra_feed_trust(feed, &feed->books[index], MANTRA_DOWN, MANTRA_REASON_REFUSED, now);
}

/* It is asked for (again): a snapshot in the stream is for it. */
static inline void
mantra_feed_expect(mantra_feed *feed, uint32_t index)
{
    if (feed->books[index].state == MANTRA_BOOK_IDLE)
        feed->books[index].state = MANTRA_BOOK_HOLDING;
}

/* A second look at it found what the snapshot said, or contradictions without end. */
static inline void
mantra_feed_looked(mantra_feed *feed, uint32_t index, bool agreed, uint64_t now)
{
    feed->books[index].looked = agreed ? MANTRA_LOOK_AGREED : MANTRA_LOOK_GIVEN_UP;
    mantra_feed_rejudge(feed, &feed->books[index], now);
}

/* Book `index` goes on, empty, as another scale generation of its instrument; a snapshot fills it. */
static inline void
mantra_feed_rescale(mantra_feed *feed, uint32_t index, uint32_t instrument, uint64_t now)
{
    mantra_feed_book *book = &feed->books[index];
    /* The old generation must not be left standing in anybody's view. */
    const uint8_t trust = book->trust, reason = book->reason;
    mantra_feed_trust(feed, book, MANTRA_DOWN, MANTRA_REASON_SCALE, now);
    mantra_book_begin(&book->book);
    mantra_book_clear(&book->book);
    if (book->orders.slots)
        mantra_orders_clear(&book->orders);
    MANTRA_BOOK_SET(&book->book, instrument, instrument);
    mantra_book_end(&book->book);
    book->instrument = instrument;
    book->sequence = 0;
    mantra_feed_forget(feed, index);
    book->proven = book->failed = false;
    book->witness = (mantra_witness){0};
    if (book->state == MANTRA_BOOK_LIVE && feed->scheme != MANTRA_BY_IMAGE) {
        book->state = MANTRA_BOOK_HOLDING;
        book->needed = book->streamed;
    }
    if (trust != MANTRA_DOWN)
        mantra_feed_trust(feed, book, MANTRA_SUSPECT, trust == MANTRA_SUSPECT ? reason : MANTRA_REASON_SCALE, now);
}

#endif
