/* top.h - the best levels of one book, as a message.
 *
 *   book (best last)                      top (best first, zero past the counts)
 *   bids | ... | 99 | 100 |      ->       bid_price | 100 | 99 | ... |      ask_price | 101 | 102 | ... |  */
#ifndef MANTRA_TOP_H
#define MANTRA_TOP_H

#include "mantra/book.h"

/* Fill `top` from the book, for the book's writer. Origin, published and flags are left at 0 for who publishes. */
static inline void
mantra_top_fill(mantra_top *top, const mantra_book *book)
{
    memset(top, 0, sizeof *top);
    top->sequence = MANTRA_BOOK_GET(book, sequence);
    top->venue_time_ns = MANTRA_BOOK_GET(book, venue_time_ns);
    top->trust_since_ns = MANTRA_BOOK_GET(book, trust_since_ns);
    top->instrument = MANTRA_BOOK_GET(book, instrument);
    top->venue = MANTRA_BOOK_GET(book, venue);
    top->trust = MANTRA_BOOK_GET(book, trust);
    top->reason = MANTRA_BOOK_GET(book, reason);
    top->generation = (uint32_t)MANTRA_BOOK_GET(book, generation);
    int64_t *const price[2] = {top->bid_price, top->ask_price}, *const size[2] = {top->bid_size, top->ask_size};
    uint16_t *const filled[2] = {&top->bid_count, &top->ask_count};
    for (size_t side = 0; side < 2; side++) {
        const uint32_t count = MANTRA_BOOK_GET(book, count[side]);
        const uint32_t depth = count < MANTRA_DEPTH ? count : MANTRA_DEPTH;
        const mantra_level *best = mantra_book_side(book, side) + count;
        *filled[side] = (uint16_t)depth;
        for (uint32_t i = 0; i < depth; i++) {
            --best;
            price[side][i] = mantra_level_price(best);
            size[side][i] = mantra_level_size(best);
        }
    }
}

/* The words of a top before its levels. One more, whose lower half is `generation`, mantra_top_store() makes. */
enum { MANTRA_TOP_WORDS = offsetof(mantra_top, generation) / 8 };

static inline void
mantra_top_store_level(_Atomic uint64_t *to, int64_t price, int64_t size)
{
    mantra_word_store(to, (uint64_t)price);
    mantra_word_store(to + MANTRA_DEPTH, (uint64_t)size);
}

/* For the book's writer: the top goes from the book straight into two slots, a vector's and a queue's. Each level is
 * read once and no copy stands between. */
static inline void
mantra_top_store(const mantra_book *book, const uint64_t head[MANTRA_TOP_WORDS], _Atomic uint64_t *first,
                 _Atomic uint64_t *second)
{
    uint64_t last = (uint32_t)MANTRA_BOOK_GET(book, generation);
    for (size_t side = 0; side < 2; side++) {
        const uint32_t count = MANTRA_BOOK_GET(book, count[side]), depth = count < MANTRA_DEPTH ? count : MANTRA_DEPTH;
        const mantra_level *levels = mantra_book_side(book, side);
        const size_t at = MANTRA_TOP_WORDS + 1 + side * 2 * MANTRA_DEPTH;
        last |= (uint64_t)depth << (32 + 16 * side);
        MANTRA_UNROLL
        for (size_t i = 0; i < MANTRA_DEPTH; i++) {
            const int64_t price = i < depth ? mantra_level_price(&levels[count - 1 - i]) : 0;
            const int64_t size = i < depth ? mantra_level_size(&levels[count - 1 - i]) : 0;
            mantra_top_store_level(&first[at + i], price, size);
            mantra_top_store_level(&second[at + i], price, size);
        }
    }
    MANTRA_UNROLL
    for (size_t i = 0; i < MANTRA_TOP_WORDS; i++) {
        mantra_word_store(&first[i], head[i]);
        mantra_word_store(&second[i], head[i]);
    }
    mantra_word_store(&first[MANTRA_TOP_WORDS], last);
    mantra_word_store(&second[MANTRA_TOP_WORDS], last);
}

/* The same for a reader: 0, or MANTRA_BOOK_BUSY. Half a growth may be seen on the way, but whatever count and capacity
 * go together then, neither is past the ceiling, so nothing outside the book is touched. */
static inline int
mantra_top_read(mantra_top *top, const mantra_book *book, uint32_t attempts)
{
    for (uint32_t attempt = 0; attempt < attempts; attempt++) {
        const uint64_t seen = mantra_seqlock_look(mantra_book_lock(book));
        if (!(seen & 1)) {
            mantra_top_fill(top, book);
            if (mantra_seqlock_unchanged(mantra_book_lock(book), seen))
                return 0;
        }
        mantra_book_rest(attempt);
    }
    return MANTRA_BOOK_BUSY;
}

#endif
