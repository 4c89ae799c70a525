/* promote.h - a feed goes on over the connection of its successor, and who reads it notices nothing.
 *
 *   feed    old connection | public books and queues          new connection | public books and queues
 *   heir    new connection | private books and queues   ->    old connection | private books and queues
 *
 * The successor is a whole feed over the same books, in memory of its own, synchronised like any other. When it tells
 * at least what the feed has told (mantra_feed_reached), all that belongs to the connection changes places, and what
 * the new one knows better is published as one ordinary batch a book: no reset, and trust stays. Trades that both have
 * heard are told apart by what they say. Neither feed may be run meanwhile. */
#ifndef MANTRA_PROMOTE_H
#define MANTRA_PROMOTE_H

#include "mantra/hot_path.h"

#define MANTRA_EXCHANGE(a, b)                                                                                          \
    do {                                                                                                               \
        const __typeof__(a) kept_ = (a);                                                                               \
        (a) = (b);                                                                                                     \
        (b) = kept_;                                                                                                   \
    } while (0)

/* The changes that make `his` of `mine` (NULL: of nothing), best first, into decoder->changes. False: more than there is
 * room for. */
MANTRA_COLD bool
mantra_feed_differences(mantra_decoder *decoder, const mantra_book *mine, const mantra_book *his)
{
    decoder->change_count = 0;
    for (size_t side = 0; side < 2; side++) {
        const int64_t mirror = -(int64_t)side;
        const mantra_level *ours = mine ? mantra_book_side(mine, side) : NULL, *theirs = mantra_book_side(his, side);
        size_t i = mine ? MANTRA_BOOK_GET(mine, count[side]) : 0, j = MANTRA_BOOK_GET(his, count[side]);
        for (;;) {
            i = mantra_book_trim(ours, i);
            j = mantra_book_trim(theirs, j);
            if (!i && !j)
                break;
            const int64_t gone = i ? mantra_level_price(&ours[i - 1]) : 0;
            const int64_t here = j ? mantra_level_price(&theirs[j - 1]) : 0;
            const bool old = i && (!j || (gone ^ mirror) >= (here ^ mirror)), new = j && (!old || gone == here);
            const int64_t was = old ? mantra_level_size(&ours[--i]) : 0, is = new ? mantra_level_size(&theirs[--j]) : 0;
            if (was == is)
                continue;
            if (decoder->change_count == decoder->change_capacity / 2) /* as mantra_feed_apply() bounds a message */
                return false;
            decoder->changes[decoder->change_count++] =
                (mantra_change){.price = old ? gone : here, .size = is, .kind = (uint8_t)(MANTRA_BID + side)};
        }
    }
    return true;
}

/* Has the heir's book come as far as the feed's, whose connection is not read any more? Sequences tell where the venue
 * counts alike on all connections; else equal levels, or a later time, do. An image stream is silent while nothing
 * changes. */
static inline bool
mantra_feed_book_reached(const mantra_feed *feed, mantra_feed *heir, uint32_t index)
{
    const mantra_feed_book *mine = &feed->books[index], *his = &heir->books[index];
    if (mine->trust < MANTRA_UNVERIFIED)
        return true;
    if (his->trust < MANTRA_UNVERIFIED)
        return feed->scheme == MANTRA_BY_IMAGE && his->sequence == 0;
    if (feed->scheme != MANTRA_BY_STREAM)
        return his->sequence >= mine->sequence;
    return MANTRA_BOOK_GET(&his->book, venue_time_ns) > MANTRA_BOOK_GET(&mine->book, venue_time_ns) ||
           (mantra_feed_differences(&heir->decoder, &mine->book, &his->book) && heir->decoder.change_count == 0);
}

static inline bool
mantra_feed_reached(const mantra_feed *feed, mantra_feed *heir)
{
    for (uint32_t i = 0; i < feed->book_count; i++)
        if (!mantra_feed_book_reached(feed, heir, i))
            return false;
    return true;
}

/* Tell readers of orders all there are, in no order: they know those of the connection before. */
MANTRA_COLD void
mantra_feed_retell_orders(mantra_feed *feed, const mantra_feed_book *book, uint64_t now)
{
    mantra_decoder *decoder = &feed->decoder;
    const mantra_resting *order = mantra_orders_table(&book->orders), *const end = order + book->orders.capacity;
    uint32_t count = 0;
    for (; order < end && count < decoder->order_capacity; order++)
        if (order->id)
            decoder->orders[count++] =
                (mantra_order_change){order->id, order->price, order->size < 0 ? -order->size : order->size,
                                      order->size < 0 ? MANTRA_ASK : MANTRA_BID};
    feed->published_at = now;
    mantra_feed_tell_orders(feed, book, count, true, now);
}

/* `feed` goes on over the heir's connection. `trades_since`: where its queue of trades stood when the heir's began. */
MANTRA_COLD void
mantra_feed_promote(mantra_feed *feed, mantra_feed *heir, uint64_t trades_since, uint64_t now)
{
    mantra_decoder *decoder = &feed->decoder;
    MANTRA_EXCHANGE(*feed, *heir);
    decoder->checked = decoder->numbered = decoder->history = false; /* what follows is no message */
    /* What others know it by stays. */
    MANTRA_EXCHANGE(feed->updates, heir->updates);
    MANTRA_EXCHANGE(feed->trades, heir->trades);
    MANTRA_EXCHANGE(feed->tops, heir->tops);
    MANTRA_EXCHANGE(feed->orders, heir->orders);
    MANTRA_EXCHANGE(feed->latest_tops, heir->latest_tops);
    MANTRA_EXCHANGE(feed->doorbell, heir->doorbell);
    MANTRA_EXCHANGE(feed->ledger, heir->ledger);
    MANTRA_EXCHANGE(feed->socket_to_top, heir->socket_to_top);
    MANTRA_EXCHANGE(feed->tracker, heir->tracker);
    MANTRA_EXCHANGE(feed->tape, heir->tape);
    MANTRA_EXCHANGE(feed->index, heir->index);
    MANTRA_EXCHANGE(feed->publisher, heir->publisher);
    feed->overlap_to = feed->trades->position;
    feed->overlap_from = feed->overlap_to - mantra_min_u64(feed->overlap_to - trades_since, feed->trades->queue.mask + 1);
    for (uint32_t i = 0; i < feed->book_count; i++) {
        mantra_feed_book *book = &feed->books[i], *old = &heir->books[i];
        const uint8_t trust = book->trust, reason = book->reason;
        MANTRA_EXCHANGE(book->book, old->book);
        MANTRA_EXCHANGE(book->ledger, old->ledger);
        MANTRA_EXCHANGE(book->slot, old->slot);
        MANTRA_EXCHANGE(book->trust, old->trust);
        MANTRA_EXCHANGE(book->reason, old->reason);
        MANTRA_EXCHANGE(book->trust_since_ns, old->trust_since_ns);
        MANTRA_EXCHANGE(book->distrusted_since_ns, old->distrusted_since_ns);
        book->last_trade_id = old->last_trade_id;
        book->traded = old->traded;
        book->overlap_ns = mantra_feed_traded_until(feed, book->instrument);
        if (feed->scheme == MANTRA_BY_STREAM && !(feed->proofs & MANTRA_PROOF_NUMBERS))
            book->sequence = old->sequence + 1; /* it is our own counting, which goes on */
        if (book->state == MANTRA_BOOK_LIVE && book->sequence == 0 && trust < MANTRA_UNVERIFIED) {
            book->sequence = old->sequence; /* an image stream that said nothing yet: the last image holds */
        } else if (book->state == MANTRA_BOOK_LIVE && mantra_feed_differences(decoder, &book->book, &old->book)) {
            decoder->book = i;
            decoder->last = book->sequence;
            decoder->venue_time_ns = MANTRA_BOOK_GET(&old->book, venue_time_ns);
            if (feed->scheme != MANTRA_BY_IMAGE || decoder->change_count == 0)
                mantra_feed_apply(feed, book, now);
            else if (mantra_feed_differences(decoder, NULL, &old->book))
                mantra_feed_load(feed, book, false, now);
        } else if (book->state == MANTRA_BOOK_LIVE) {
            mantra_feed_suspect(feed, book, MANTRA_REASON_SYNCHRONISING, now); /* more than one batch can tell */
        } else {
            mantra_feed_trust(feed, book, trust, reason, now);
        }
        if (book->orders.slots)
            mantra_feed_retell_orders(feed, book, now);
    }
    mantra_doorbell_ring(feed->doorbell);
}

/* Publish a trade that the heir heard before it was promoted, unless the connection before has. */
MANTRA_COLD void
mantra_feed_retell(mantra_feed *feed, const mantra_trade *trade)
{
    for (uint32_t i = 0; i < feed->book_count; i++)
        if (feed->books[i].instrument == trade->instrument) {
            feed->decoder.trades[0] = (mantra_print){trade->price, trade->size, trade->trade_id, trade->venue_time_ns,
                                                     trade->side};
            feed->decoder.trade_count = 1;
            mantra_feed_trades(feed, &feed->books[i], trade->origin);
        }
}

#endif
