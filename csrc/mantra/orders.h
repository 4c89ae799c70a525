/* orders.h - the resting orders of one book, by id; from what changes there its levels follow.
 *
 *   slots:   | ... | table of `capacity`: | id (0: free) | price | size, of asks negative | ... |
 *            0     capacity               2 * capacity
 *
 * Open addressing, at most half full, nothing marked as deleted. A table lies behind all smaller ones, so growing moves
 * each order once into memory that was reserved from the beginning: nothing is allocated, and pages that no table has
 * come to are none. A level's size is the sum of its orders, exactly, so it is 0 when the last of them is gone. */
#ifndef MANTRA_ORDERS_H
#define MANTRA_ORDERS_H

#include "mantra/book.h"

#define MANTRA_ORDERS_START 1024 /* slots at first */

/* An order as a message tells of it: what it is now. */
typedef struct mantra_order_change {
    uint64_t id;         /* not 0 */
    int64_t price, size; /* ticks, lots; size 0: it is gone, and the rest counts for nothing */
    uint8_t kind;        /* MANTRA_BID or MANTRA_ASK */
} mantra_order_change;

typedef struct mantra_resting {
    uint64_t id;
    int64_t price, size;
} mantra_resting;

typedef struct mantra_orders {
    mantra_resting *slots;
    uint32_t capacity, most; /* of the table, and the largest it may become: powers of two */
    uint32_t count;
} mantra_orders;

/* Memory, zeroed, for tables of up to `most` slots: half as many orders. */
static inline size_t
mantra_orders_bytes(uint32_t most)
{
    return 2 * (size_t)most * sizeof(mantra_resting);
}

static inline void
mantra_orders_init(mantra_orders *orders, void *memory, uint32_t most)
{
    *orders = (mantra_orders){memory, MANTRA_ORDERS_START < most ? MANTRA_ORDERS_START : most, most, 0};
}

static inline mantra_resting *
mantra_orders_table(const mantra_orders *orders)
{
    return orders->slots + orders->capacity;
}

static inline void
mantra_orders_clear(mantra_orders *orders)
{
    memset(mantra_orders_table(orders), 0, orders->capacity * sizeof(mantra_resting));
    orders->count = 0;
}

/* Where an id would like to be. */
static inline uint32_t
mantra_orders_home(const mantra_orders *orders, uint64_t id)
{
    return (uint32_t)(id * UINT64_C(0x9E3779B97F4A7C15) >> 32) & (orders->capacity - 1);
}

/* The order's slot, or the free one where it would go. */
static inline mantra_resting *
mantra_orders_find(const mantra_orders *orders, uint64_t id)
{
    mantra_resting *table = mantra_orders_table(orders);
    uint32_t at = mantra_orders_home(orders, id);
    while (table[at].id != id && table[at].id != 0)
        at = (at + 1) & (orders->capacity - 1);
    return &table[at];
}

/* Room for `more` orders; MANTRA_BOOK_FULL: that is past the ceiling, and everything is as it was. */
static inline int
mantra_orders_room(mantra_orders *orders, size_t more)
{
    const size_t wanted = 2 * (orders->count + more);
    if (MANTRA_UNLIKELY(wanted > orders->most))
        return MANTRA_BOOK_FULL;
    while (MANTRA_UNLIKELY(wanted > orders->capacity)) {
        const mantra_resting *from = mantra_orders_table(orders), *const end = from + orders->capacity;
        orders->capacity *= 2;
        memset(mantra_orders_table(orders), 0, orders->capacity * sizeof *from);
        for (; from < end; from++)
            if (from->id)
                *mantra_orders_find(orders, from->id) = *from;
    }
    return 0;
}

/* Free a slot, and move up what was put off by whoever stood there. */
static inline void
mantra_orders_free(mantra_orders *orders, mantra_resting *slot)
{
    mantra_resting *table = mantra_orders_table(orders);
    const uint32_t mask = orders->capacity - 1;
    uint32_t hole = (uint32_t)(slot - table);
    for (uint32_t at = (hole + 1) & mask; table[at].id; at = (at + 1) & mask)
        if (((at - mantra_orders_home(orders, table[at].id)) & mask) >= ((at - hole) & mask)) {
            table[hole] = table[at];
            hole = at;
        }
    table[hole].id = 0;
    orders->count--;
}

/* Add lots to the level at `price`, noting what it has become. Returns its rank, or MANTRA_BOOK_FULL. */
static inline int
mantra_book_add(mantra_book *book, uint8_t kind, int64_t price, int64_t lots, mantra_change *change)
{
    *change = (mantra_change){.price = price, .kind = kind};
    if (__builtin_add_overflow(mantra_book_size(book, kind, price), lots, &change->size))
        return MANTRA_BOOK_FULL;
    return mantra_book_apply(book, kind, price, change->size);
}

/* Take note of an order, for which there is room; its levels follow. `changes`: room for two, what became of them;
 * *best: the best rank that changed. `was`: what the order was before (id 0: it was not). Returns how many levels
 * changed, or MANTRA_BOOK_ABSENT (an order that was not there is gone), or MANTRA_BOOK_FULL (a level's sum overflows: all
 * is to be taken anew). */
static inline int
mantra_orders_apply(mantra_orders *orders, mantra_book *book, const mantra_order_change *order, mantra_resting *was,
                    mantra_change *changes, int *best)
{
    mantra_resting *slot = mantra_orders_find(orders, order->id);
    const mantra_resting old = *was = *slot;
    const uint8_t old_kind = old.size < 0 ? MANTRA_ASK : MANTRA_BID;
    const int64_t old_lots = old.size < 0 ? -old.size : old.size;
    int ranks[2] = {0}, count = 0;
    if (order->size == 0) {
        if (old.id == 0)
            return MANTRA_BOOK_ABSENT;
        mantra_orders_free(orders, slot);
    } else {
        orders->count += old.id == 0;
        *slot = (mantra_resting){order->id, order->price, order->kind == MANTRA_ASK ? -order->size : order->size};
    }
    /* Where it stays at its level one change tells both: the level was not gone in between. */
    const bool stays = old.id && order->size && old.price == order->price && old_kind == order->kind;
    if (old.id && !(stays && old_lots == order->size)) {
        ranks[count] = mantra_book_add(book, old_kind, old.price, (stays ? order->size : 0) - old_lots, &changes[count]);
        count++;
    }
    if (order->size && !stays) {
        ranks[count] = mantra_book_add(book, order->kind, order->price, order->size, &changes[count]);
        count++;
    }
    for (int i = 0; i < count; i++) {
        if (ranks[i] == MANTRA_BOOK_FULL)
            return MANTRA_BOOK_FULL;
        *best = ranks[i] < *best ? ranks[i] : *best;
    }
    return count;
}

#endif
