/* book.h - the L2 ladders of one book, in memory that others may read while it changes.
 *
 *   0          64         128                 128 + 16*(capacity+4)       128 + 32*(capacity+4)
 *   | version, | counts,  | bids: {price,     | asks                      |
 *   |  state   | capacity |  size} best last  |  best last                |
 *
 * One writer; readers copy and retry. A venue message is one write section (begin .. end), so a reader sees whole
 * messages only. Every word is a relaxed atomic: a torn copy is a value to discard, not UB. Levels are sorted with the
 * best last, so that an update near the top of the book moves little, wherever the other ten thousand levels are.
 *
 * Nor does an update far from the top move much: there a level that goes leaves a hole, and one that comes takes the
 * nearest.
 *
 *   0                                      deep                           count      capacity
 *   | 91 | 93 | (94) | 95 | (95) | (95) | 97 | 98 | 99 | 100 | ... | 612 |           |     (94): a hole, of size 0
 *   |<--------- levels and holes --------->|<------- levels only -------->|
 *
 * A hole has a price, so prices never fall from place to place and the search needs no more than that; where several
 * are equal the first is the level's. The best levels (MANTRA_BOOK_NEAR of them at least, or all) have no holes among
 * them: tops and checksums take them by place. When removals have used these up, the next stretch is squeezed. A side
 * of fewer than four times as many levels has no deep part, and no holes.
 *
 * Memory is reserved at a ceiling and backed for `capacity` levels a side. Growth doubles the capacity and moves the
 * asks up: memory grows at its end only, and a book doubles a few times in its life. */
#ifndef MANTRA_BOOK_H
#define MANTRA_BOOK_H

#include <sched.h>

#include "mantra/messages.h"
#include "mantra/seqlock.h"

#define MANTRA_BOOK_CEILING 65536 /* levels a side, unless said otherwise */
#define MANTRA_BOOK_START 1024    /* levels a side backed by memory at first */
#define MANTRA_BOOK_SLACK 4       /* levels past each side that moves may overrun: they go by four */
#define MANTRA_BOOK_WINDOW 16     /* levels next to the best that are searched at once */
#define MANTRA_BOOK_NEAR 256      /* best levels that have no holes among them, at least; four times, at most */
#define MANTRA_BOOK_REACH 128     /* places each way in which a hole is looked for */
#define MANTRA_BOOK_GAP 16        /* places made where there is none */

enum {
    MANTRA_BOOK_SAME = -1,   /* the level was so already */
    MANTRA_BOOK_ABSENT = -2, /* a removal of a level that is not there */
    MANTRA_BOOK_FULL = -3,   /* no room for the level, or no memory for the room */
    MANTRA_BOOK_BUSY = -4,   /* a reader found no quiet moment, or the writer died inside a message */
};

typedef struct mantra_level {
    _Atomic int64_t price, size;
} mantra_level;

typedef struct mantra_book_header {
    _Atomic uint64_t version;    /* the seqlock's; odd: a message is being applied */
    _Atomic uint64_t generation; /* of the image: counts the times all levels were replaced */
    _Atomic uint64_t sequence;   /* the venue's */
    _Atomic int64_t venue_time_ns, trust_since_ns;
    _Atomic uint64_t position; /* of the feed's update queue: the first update that is not yet in this image */
    _Atomic uint32_t instrument;
    _Atomic uint8_t venue, trust, reason;
    uint8_t unused;
    _Atomic uint64_t growths;
    _Atomic uint32_t count[2];          /* [kind - MANTRA_BID]: places in use, by levels or holes */
    _Atomic uint32_t capacity, ceiling; /* places a side */
    _Atomic uint32_t holes[2];          /* of the places in use; all below place `deep` */
    _Atomic uint32_t deep[2], plain[2], full[2]; /* the writer's: see mantra_book_divide() */
    uint8_t reserved[16];
    mantra_level levels[];
} mantra_book_header;

_Static_assert(sizeof(mantra_level) == 16, "a level never straddles a cache line");
_Static_assert(offsetof(mantra_book_header, count) == 64 && offsetof(mantra_book_header, levels) == 128, "as drawn");

/* What two builds must agree on to share a book; its FNV-1a is the region's fingerprint. */
#define MANTRA_BOOK_LAYOUT                                                                                  \
    "book 2: version generation sequence:u64 venue_time_ns trust_since_ns:i64 position:u64 instrument:u32 " \
    "venue trust reason:u8 growths:u64@56 bids asks capacity ceiling bid_holes ask_holes:u32@64 "           \
    "bids[capacity+4] asks[capacity+4]:{price size:i64}@128 best last, size 0: a hole"

/* A change to a book. */
typedef struct mantra_change {
    int64_t price, size; /* ticks, lots; size 0 removes the level */
    uint8_t kind;        /* MANTRA_BID or MANTRA_ASK */
} mantra_change;

typedef struct mantra_book {
    mantra_book_header *header;
    int (*back)(void *owner, size_t bytes); /* back this many bytes with memory, 0 when done; NULL: all is there */
    void *owner;
} mantra_book;

#define MANTRA_BOOK_GET(book, field) atomic_load_explicit(&(book)->header->field, memory_order_relaxed)
#define MANTRA_BOOK_SET(book, field, value) atomic_store_explicit(&(book)->header->field, value, memory_order_relaxed)

static inline size_t
mantra_book_bytes(size_t levels)
{
    return sizeof(mantra_book_header) + 2 * (levels + MANTRA_BOOK_SLACK) * sizeof(mantra_level);
}

/* The places from `from` on have no holes: how many of them are left without from now on? From place `plain` on, a
 * removal leaves MANTRA_BOOK_NEAR of them at least. With `full` places in use, one more is too many for them, or for the
 * memory there is. */
static inline void
mantra_book_divide(mantra_book *book, size_t side, uint32_t from)
{
    const uint32_t count = MANTRA_BOOK_GET(book, count[side]), capacity = MANTRA_BOOK_GET(book, capacity);
    const uint32_t deep = count - from < 4 * MANTRA_BOOK_NEAR ? from : count - 2 * MANTRA_BOOK_NEAR;
    MANTRA_BOOK_SET(book, deep[side], deep);
    MANTRA_BOOK_SET(book, plain[side], deep ? deep + MANTRA_BOOK_NEAR : 0);
    MANTRA_BOOK_SET(book, full[side], (uint32_t)mantra_min_u64(capacity, deep + 4 * MANTRA_BOOK_NEAR));
}

/* An empty book in zeroed, 64-byte aligned memory of mantra_book_bytes(ceiling), backed for `capacity` levels a
 * side. */
static inline void
mantra_book_init(mantra_book *book, void *memory, uint32_t capacity, uint32_t ceiling, uint32_t instrument,
                 uint8_t venue)
{
    *book = (mantra_book){.header = memory};
    MANTRA_BOOK_SET(book, instrument, instrument);
    MANTRA_BOOK_SET(book, venue, venue);
    MANTRA_BOOK_SET(book, trust, MANTRA_DOWN);
    MANTRA_BOOK_SET(book, capacity, capacity < ceiling ? capacity : ceiling);
    MANTRA_BOOK_SET(book, ceiling, ceiling);
    mantra_book_divide(book, 0, 0);
    mantra_book_divide(book, 1, 0);
}

static inline mantra_seqlock *
mantra_book_lock(const mantra_book *book)
{
    return (mantra_seqlock *)(void *)&book->header->version;
}

/* ---- the writer's side ---- */

/* Everything the writer does to a book stands between begin and end. Not nested. */
static inline void
mantra_book_begin(mantra_book *book)
{
    mantra_seqlock_begin(mantra_book_lock(book));
}

static inline void
mantra_book_end(mantra_book *book)
{
    mantra_seqlock_end(mantra_book_lock(book));
}

static inline void
mantra_book_stamp(mantra_book *book, uint64_t sequence, int64_t venue_time_ns, uint64_t position)
{
    MANTRA_BOOK_SET(book, sequence, sequence);
    MANTRA_BOOK_SET(book, venue_time_ns, venue_time_ns);
    MANTRA_BOOK_SET(book, position, position);
}

static inline void
mantra_book_judge(mantra_book *book, uint8_t trust, uint8_t reason, int64_t since_ns)
{
    MANTRA_BOOK_SET(book, trust, trust);
    MANTRA_BOOK_SET(book, reason, reason);
    MANTRA_BOOK_SET(book, trust_since_ns, since_ns);
}

/* Another scale generation of the instrument: an id of its own. */
static inline void
mantra_book_rename(mantra_book *book, uint32_t instrument)
{
    MANTRA_BOOK_SET(book, instrument, instrument);
}

static inline mantra_level *
mantra_book_side(const mantra_book *book, size_t side)
{
    return book->header->levels + side * ((size_t)MANTRA_BOOK_GET(book, capacity) + MANTRA_BOOK_SLACK);
}

/* How many levels a side has. */
static inline uint32_t
mantra_book_count(const mantra_book *book, size_t side)
{
    return MANTRA_BOOK_GET(book, count[side]) - MANTRA_BOOK_GET(book, holes[side]);
}

static inline int64_t
mantra_level_price(const mantra_level *level)
{
    return atomic_load_explicit(&level->price, memory_order_relaxed);
}

static inline int64_t
mantra_level_size(const mantra_level *level)
{
    return atomic_load_explicit(&level->size, memory_order_relaxed);
}

static inline void
mantra_level_set(mantra_level *level, int64_t price, int64_t size)
{
    atomic_store_explicit(&level->price, price, memory_order_relaxed);
    atomic_store_explicit(&level->size, size, memory_order_relaxed);
}

static inline void
mantra_level_copy(mantra_level *to, const mantra_level *from)
{
    mantra_level_set(to, mantra_level_price(from), mantra_level_size(from));
}

/* Room for `levels` on each side in all. Returns 0, or MANTRA_BOOK_FULL when that is past the ceiling or memory is
 * short: then the book is as it was. Inside a section or between two. */
static inline int
mantra_book_reserve(mantra_book *book, size_t levels)
{
    const uint32_t capacity = MANTRA_BOOK_GET(book, capacity), ceiling = MANTRA_BOOK_GET(book, ceiling);
    if (MANTRA_LIKELY(levels <= capacity))
        return 0;
    if (levels > ceiling)
        return MANTRA_BOOK_FULL;
    uint64_t wider = capacity ? capacity : 1;
    while (wider < levels)
        wider *= 2;
    wider = mantra_min_u64(wider, ceiling);
    if (book->back != NULL && book->back(book->owner, mantra_book_bytes(wider)) != 0)
        return MANTRA_BOOK_FULL;
    const bool inside = MANTRA_BOOK_GET(book, version) & 1;
    if (!inside)
        mantra_book_begin(book);
    const mantra_level *from = mantra_book_side(book, 1);
    MANTRA_BOOK_SET(book, capacity, (uint32_t)wider);
    MANTRA_BOOK_SET(book, growths, MANTRA_BOOK_GET(book, growths) + 1);
    mantra_level *to = mantra_book_side(book, 1);
    for (size_t i = MANTRA_BOOK_GET(book, count[1]); i-- > 0;)
        mantra_level_copy(&to[i], &from[i]);
    for (size_t side = 0; side < 2; side++)
        mantra_book_divide(book, side, MANTRA_BOOK_GET(book, deep[side]));
    if (!inside)
        mantra_book_end(book);
    return 0;
}

/* Room for `levels` more on either side: what a writer asks before it applies a message of as many changes. */
static inline int
mantra_book_room(mantra_book *book, size_t levels)
{
    uint32_t bids = MANTRA_BOOK_GET(book, count[0]), asks = MANTRA_BOOK_GET(book, count[1]);
    if (MANTRA_LIKELY((bids > asks ? bids : asks) + levels <= MANTRA_BOOK_GET(book, capacity)))
        return 0;
    bids = mantra_book_count(book, 0);
    asks = mantra_book_count(book, 1);
    return mantra_book_reserve(book, (bids > asks ? bids : asks) + levels);
}

/* How many of `count` levels are worse than `key`. `mirror` is 0 for bids and -1 for asks: ~price turns the order of
 * asks round, so that on both sides a larger key is better. Near the best all of a window is compared, without
 * branches: sixteen independent compares cost less than one wrong guess. Past it: strides of 16, 256, ... from the
 * best, then halving, where the number of steps is fixed and their outcome is added, not branched on. */
static inline size_t
mantra_book_find(const mantra_level *levels, size_t count, int64_t key, int64_t mirror)
{
    size_t low = 0, high = count;
    if (MANTRA_LIKELY(count >= MANTRA_BOOK_WINDOW)) {
        size_t better = 0;
        MANTRA_UNROLL
        for (size_t i = 0; i < MANTRA_BOOK_WINDOW; i++)
            better += (mantra_level_price(&levels[count - 1 - i]) ^ mirror) >= key;
        high -= better;
        if (better < MANTRA_BOOK_WINDOW)
            return high;
    }
    for (size_t back = 16 * MANTRA_BOOK_WINDOW; back <= count; back *= 16) {
        if ((mantra_level_price(&levels[count - back]) ^ mirror) < key) {
            low = count - back + 1;
            break;
        }
        high = count - back;
    }
    for (size_t left = high - low; left > 0; left /= 2) {
        const size_t half = (left + 1) / 2;
        low += half & -(size_t)((mantra_level_price(&levels[low + half - 1]) ^ mirror) < key);
    }
    return low;
}

/* Copy four levels from `from` to `to`, which may overlap: all are loaded before any is stored. Most of a deep update
 * is this, so x86-64 does it sixteen bytes at a time (a third faster at 10,000 levels: as fast as memmove). In
 * assembly: it is no C access, so no data race to reason about; the CPU never tears an aligned eight bytes of it and
 * keeps stores in order, which is what the seqlock needs of relaxed words. */
static inline void
mantra_level_copy4(mantra_level *to, const mantra_level *from)
{
#if defined(__x86_64__)
    typedef long long both __attribute__((vector_size(16)));
    both level0, level1, level2, level3;
    __asm__ volatile("movdqa (%[from]), %[level0]\n\tmovdqa 16(%[from]), %[level1]\n\t"
                     "movdqa 32(%[from]), %[level2]\n\tmovdqa 48(%[from]), %[level3]\n\t"
                     "movdqa %[level0], (%[to])\n\tmovdqa %[level1], 16(%[to])\n\t"
                     "movdqa %[level2], 32(%[to])\n\tmovdqa %[level3], 48(%[to])"
                     : [level0] "=&x"(level0), [level1] "=&x"(level1), [level2] "=&x"(level2), [level3] "=&x"(level3)
                     : [from] "r"(from), [to] "r"(to)
                     : "memory");
#else
    const int64_t price0 = mantra_level_price(&from[0]), size0 = mantra_level_size(&from[0]);
    const int64_t price1 = mantra_level_price(&from[1]), size1 = mantra_level_size(&from[1]);
    const int64_t price2 = mantra_level_price(&from[2]), size2 = mantra_level_size(&from[2]);
    const int64_t price3 = mantra_level_price(&from[3]), size3 = mantra_level_size(&from[3]);
    mantra_level_set(&to[0], price0, size0);
    mantra_level_set(&to[1], price1, size1);
    mantra_level_set(&to[2], price2, size2);
    mantra_level_set(&to[3], price3, size3);
#endif
}

/* Open a gap of `by` places at levels[at], or close one. What lies past `count` is moved along, and is nobody's. */
static inline void
mantra_book_open(mantra_level *levels, size_t at, size_t count, size_t by)
{
    size_t i = at + (count - at) / 4 * 4;
    mantra_level_copy4(&levels[i + by], &levels[i]);
    while (i > at) {
        i -= 4;
        mantra_level_copy4(&levels[i + by], &levels[i]);
    }
}

static inline void
mantra_book_close(mantra_level *levels, size_t at, size_t count)
{
    do {
        mantra_level_copy4(&levels[at], &levels[at + 1]);
        at += 4;
    } while (at + 1 < count);
}

/* ---- holes ---- */

/* `count`, less the holes that are the last of so many places. */
static inline size_t
mantra_book_trim(const mantra_level *levels, size_t count)
{
    while (count > 0 && mantra_level_size(&levels[count - 1]) == 0)
        count--;
    return count;
}

/* Squeeze the holes out of the places from `from` on. */
MANTRA_COLD void
mantra_book_squeeze(mantra_book *book, size_t side, uint32_t from)
{
    mantra_level *levels = mantra_book_side(book, side);
    const uint32_t count = MANTRA_BOOK_GET(book, count[side]);
    uint32_t to = from;
    for (uint32_t i = from; i < count; i++) {
        mantra_level_copy(&levels[to], &levels[i]);
        to += mantra_level_size(&levels[to]) != 0;
    }
    MANTRA_BOOK_SET(book, count[side], to);
    MANTRA_BOOK_SET(book, holes[side], MANTRA_BOOK_GET(book, holes[side]) - (count - to));
    mantra_book_divide(book, side, from);
}

/* Where too few levels without holes are left, squeeze the next stretch, and if that was mere holes, another. */
static inline void
mantra_book_draw_near(mantra_book *book, size_t side)
{
    uint32_t deep;
    while ((deep = MANTRA_BOOK_GET(book, deep[side])) > 0 &&
           MANTRA_UNLIKELY(MANTRA_BOOK_GET(book, count[side]) - deep < MANTRA_BOOK_NEAR))
        mantra_book_squeeze(book, side, deep > MANTRA_BOOK_NEAR ? deep - MANTRA_BOOK_NEAR : 0);
}

/* A place of the deep part for a level that belongs before levels[at]: the nearest hole's, the levels between having
 * moved by one. Where none is near, all that is better moves, and leaves a few more: they are the new level's equals.
 * NULL: the side is full. */
static inline mantra_level *
mantra_book_place(mantra_book *book, size_t side, size_t at, int64_t price)
{
    mantra_level *levels = mantra_book_side(book, side);
    const uint32_t count = MANTRA_BOOK_GET(book, count[side]), deep = MANTRA_BOOK_GET(book, deep[side]);
    const uint32_t holes = MANTRA_BOOK_GET(book, holes[side]);
    for (size_t away = 0; holes && away < MANTRA_BOOK_REACH; away++) {
        if (at + away < deep && mantra_level_size(&levels[at + away]) == 0) {
            for (size_t i = at + away; i > at; i--)
                mantra_level_copy(&levels[i], &levels[i - 1]);
            MANTRA_BOOK_SET(book, holes[side], holes - 1);
            return &levels[at];
        }
        if (away < at && mantra_level_size(&levels[at - 1 - away]) == 0) {
            for (size_t i = at - 1 - away; i < at - 1; i++)
                mantra_level_copy(&levels[i], &levels[i + 1]);
            MANTRA_BOOK_SET(book, holes[side], holes - 1);
            return &levels[at - 1];
        }
    }
    if (count == MANTRA_BOOK_GET(book, full[side]))
        return NULL;
    const uint32_t gap = (uint32_t)mantra_min_u64(MANTRA_BOOK_GET(book, capacity) - count, MANTRA_BOOK_GAP);
    mantra_book_open(levels, at, count, gap);
    for (size_t i = at + 1; i < at + gap; i++)
        mantra_level_set(&levels[i], price, 0);
    MANTRA_BOOK_SET(book, count[side], count + gap);
    MANTRA_BOOK_SET(book, holes[side], holes + gap - 1);
    mantra_book_divide(book, side, deep + gap);
    return &levels[at];
}

/* ---- a level ---- */

MANTRA_COLD int mantra_book_apply_full(mantra_book *book, size_t side, int64_t price, int64_t size);

/* mantra_book_apply() where there are no holes. `at`: how many of the `count` places are worse. */
static inline int
mantra_book_apply_near(mantra_book *book, size_t side, mantra_level *levels, uint32_t count, size_t at, int64_t price,
                       int64_t size)
{
    if (at < count && mantra_level_price(&levels[at]) == price) {
        if (size == 0) {
            mantra_book_close(levels, at, count);
            MANTRA_BOOK_SET(book, count[side], count - 1);
        }
        else if (mantra_level_size(&levels[at]) == size)
            return MANTRA_BOOK_SAME;
        else
            atomic_store_explicit(&levels[at].size, size, memory_order_relaxed);
        return (int)(count - 1 - at);
    }
    if (size == 0)
        return MANTRA_BOOK_ABSENT;
    if (MANTRA_UNLIKELY(count == MANTRA_BOOK_GET(book, full[side])))
        return mantra_book_apply_full(book, side, price, size);
    mantra_book_open(levels, at, count, 1);
    mantra_level_set(&levels[at], price, size);
    MANTRA_BOOK_SET(book, count[side], count + 1);
    return (int)(count - at);
}

/* And where there are, or soon too few levels without. */
static __attribute__((noinline)) int
mantra_book_apply_far(mantra_book *book, size_t side, mantra_level *levels, uint32_t count, size_t at, int64_t price,
                      int64_t size)
{
    if (at >= MANTRA_BOOK_GET(book, deep[side])) {
        const int rank = mantra_book_apply_near(book, side, levels, count, at, price, size);
        mantra_book_draw_near(book, side);
        return rank;
    }
    mantra_level *level = &levels[at];
    const uint32_t holes = MANTRA_BOOK_GET(book, holes[side]);
    const bool there = mantra_level_price(level) == price;
    const int64_t was = there ? mantra_level_size(level) : 0;
    if (size == was)
        return size == 0 ? MANTRA_BOOK_ABSENT : MANTRA_BOOK_SAME;
    if (there)
        MANTRA_BOOK_SET(book, holes[side], holes + (size == 0) - (was == 0));
    else if (MANTRA_UNLIKELY((level = mantra_book_place(book, side, at, price)) == NULL))
        return mantra_book_apply_full(book, side, price, size);
    mantra_level_set(level, price, size);
    if (MANTRA_UNLIKELY(size == 0 && holes >= count / 2))
        mantra_book_squeeze(book, side, 0);
    return (int)(count - there - at);
}

/* Set the level at `price` to `size`; 0 removes it. Returns the level's rank (0: best) or one of MANTRA_BOOK_*. Past the
 * best MANTRA_BOOK_NEAR levels the rank may count holes. */
static inline int
mantra_book_apply(mantra_book *book, uint8_t kind, int64_t price, int64_t size)
{
    const size_t side = (size_t)kind - MANTRA_BID;
    const int64_t mirror = -(int64_t)side;
    const uint32_t count = MANTRA_BOOK_GET(book, count[side]);
    mantra_level *levels = mantra_book_side(book, side);
    const size_t at = mantra_book_find(levels, count, price ^ mirror, mirror);
    if (MANTRA_UNLIKELY(at < MANTRA_BOOK_GET(book, plain[side])))
        return mantra_book_apply_far(book, side, levels, count, at, price, size);
    return mantra_book_apply_near(book, side, levels, count, at, price, size);
}

/* A level more than `full` allows: first make the part without holes shorter, or use up the holes. */
MANTRA_COLD int
mantra_book_apply_full(mantra_book *book, size_t side, int64_t price, int64_t size)
{
    const uint32_t deep = MANTRA_BOOK_GET(book, deep[side]);
    if (MANTRA_BOOK_GET(book, count[side]) - deep == 4 * MANTRA_BOOK_NEAR)
        mantra_book_divide(book, side, deep);
    else if (MANTRA_BOOK_GET(book, holes[side]))
        mantra_book_squeeze(book, side, 0);
    else
        return MANTRA_BOOK_FULL;
    return mantra_book_apply(book, (uint8_t)(MANTRA_BID + side), price, size);
}

/* The size of the level at `price`, 0 where there is none. For the writer. */
static inline int64_t
mantra_book_size(const mantra_book *book, uint8_t kind, int64_t price)
{
    const size_t side = (size_t)kind - MANTRA_BID;
    const int64_t mirror = -(int64_t)side;
    const uint32_t count = MANTRA_BOOK_GET(book, count[side]);
    const mantra_level *levels = mantra_book_side(book, side);
    const size_t at = mantra_book_find(levels, count, price ^ mirror, mirror);
    return at < count && mantra_level_price(&levels[at]) == price ? mantra_level_size(&levels[at]) : 0;
}

static inline void
mantra_book_clear(mantra_book *book)
{
    for (size_t side = 0; side < 2; side++) {
        MANTRA_BOOK_SET(book, count[side], 0);
        MANTRA_BOOK_SET(book, holes[side], 0);
        mantra_book_divide(book, side, 0);
    }
}

/* Replace all levels by `changes`, an image: any order, a price named twice has the last size named, sizes of 0 are
 * no levels. Linear when each side is sorted either way, as venues send it. Returns 0, or MANTRA_BOOK_FULL and the book
 * is as it was. */
static inline int
mantra_book_load(mantra_book *book, const mantra_change *changes, size_t count)
{
    size_t of_side[2] = {0, 0};
    int64_t first[2] = {0, 0}, last[2] = {0, 0};
    for (size_t i = 0; i < count; i++) {
        const size_t side = (size_t)changes[i].kind - MANTRA_BID;
        last[side] = changes[i].price;
        if (of_side[side]++ == 0)
            first[side] = changes[i].price;
    }
    if (mantra_book_reserve(book, of_side[0] > of_side[1] ? of_side[0] : of_side[1]) != 0)
        return MANTRA_BOOK_FULL;
    mantra_book_clear(book);
    for (size_t side = 0; side < 2; side++) {
        /* Worst first, every level is put after the last: nothing moves. */
        const bool best_first = side == 0 ? first[0] > last[0] : first[1] < last[1];
        const int64_t mirror = -(int64_t)side;
        mantra_level *levels = mantra_book_side(book, side);
        size_t held = 0;
        for (size_t i = 0; i < count; i++) {
            const mantra_change *change = &changes[best_first ? count - 1 - i : i];
            if ((size_t)change->kind - MANTRA_BID != side || change->size == 0)
                continue;
            const int64_t key = change->price ^ mirror;
            size_t at = held;
            if (held > 0 && (mantra_level_price(&levels[held - 1]) ^ mirror) >= key)
                at = mantra_book_find(levels, held, key, mirror);
            if (at < held && mantra_level_price(&levels[at]) == change->price) {
                if (!best_first) /* else this is the one named before, and the last one counts */
                    atomic_store_explicit(&levels[at].size, change->size, memory_order_relaxed);
                continue;
            }
            mantra_book_open(levels, at, held++, 1);
            mantra_level_set(&levels[at], change->price, change->size);
        }
        MANTRA_BOOK_SET(book, count[side], (uint32_t)held);
        mantra_book_divide(book, side, 0);
    }
    return 0;
}

/* The best level of a side; false when it has none. For the writer: others copy. */
static inline bool
mantra_book_best(const mantra_book *book, uint8_t kind, int64_t *price, int64_t *size)
{
    const size_t side = (size_t)kind - MANTRA_BID;
    const uint32_t count = MANTRA_BOOK_GET(book, count[side]);
    if (count == 0)
        return false;
    const mantra_level *best = mantra_book_side(book, side) + count - 1;
    *price = mantra_level_price(best);
    *size = mantra_level_size(best);
    return true;
}

/* The level of that rank (0: best); false when the side has fewer. For the writer. */
static inline bool
mantra_book_rank(const mantra_book *book, uint8_t kind, uint32_t rank, int64_t *price, int64_t *size)
{
    const size_t side = (size_t)kind - MANTRA_BID;
    const uint32_t near = MANTRA_BOOK_GET(book, count[side]) - MANTRA_BOOK_GET(book, deep[side]);
    if (rank >= mantra_book_count(book, side))
        return false;
    const uint32_t passed = rank < near ? rank : near;
    const mantra_level *level = mantra_book_side(book, side) + MANTRA_BOOK_GET(book, count[side]) - passed;
    for (uint32_t left = rank + 1 - passed; left > 0;) /* holes may be among the others */
        left -= mantra_level_size(--level) != 0;
    *price = mantra_level_price(level);
    *size = mantra_level_size(level);
    return true;
}

/* The price of the worst level of a side that has one. For the writer, in a section. */
static inline int64_t
mantra_book_worst(mantra_book *book, uint8_t kind)
{
    const size_t side = (size_t)kind - MANTRA_BID;
    const mantra_level *worst = mantra_book_side(book, side);
    if (MANTRA_UNLIKELY(mantra_level_size(worst) == 0))
        mantra_book_squeeze(book, side, 0);
    return mantra_level_price(worst);
}

static inline bool
mantra_book_crossed(const mantra_book *book)
{
    int64_t bid, ask, size;
    return mantra_book_best(book, MANTRA_BID, &bid, &size) && mantra_book_best(book, MANTRA_ASK, &ask, &size) &&
           bid >= ask;
}

/* ---- the readers' side ---- */

typedef int64_t mantra_row[2]; /* price, size */

/* A consistent copy. The reader gives the arrays: `room` rows for each side, best first (0: state only). */
typedef struct mantra_book_image {
    mantra_row *levels[2];
    uint32_t room;
    uint32_t copied[2]; /* rows filled */
    uint32_t count[2];  /* levels the book has */
    uint32_t capacity, ceiling, instrument;
    uint8_t venue, trust, reason;
    uint64_t version, generation, sequence, position, growths;
    int64_t venue_time_ns, trust_since_ns;
} mantra_book_image;

/* One attempt; false when a message was being applied meanwhile, and what was copied is to be thrown away. */
static inline bool
mantra_book_try_copy(const mantra_book *book, mantra_book_image *out)
{
    out->version = mantra_seqlock_look(mantra_book_lock(book));
    if (out->version & 1)
        return false;
    out->generation = MANTRA_BOOK_GET(book, generation);
    out->sequence = MANTRA_BOOK_GET(book, sequence);
    out->position = MANTRA_BOOK_GET(book, position);
    out->growths = MANTRA_BOOK_GET(book, growths);
    out->venue_time_ns = MANTRA_BOOK_GET(book, venue_time_ns);
    out->trust_since_ns = MANTRA_BOOK_GET(book, trust_since_ns);
    out->instrument = MANTRA_BOOK_GET(book, instrument);
    out->venue = MANTRA_BOOK_GET(book, venue);
    out->trust = MANTRA_BOOK_GET(book, trust);
    out->reason = MANTRA_BOOK_GET(book, reason);
    out->ceiling = MANTRA_BOOK_GET(book, ceiling);
    out->capacity = MANTRA_BOOK_GET(book, capacity);
    for (size_t side = 0; side < 2; side++) {
        const uint32_t count = MANTRA_BOOK_GET(book, count[side]);
        const uint32_t holes = MANTRA_BOOK_GET(book, holes[side]);
        /* torn: do not even look where it points */
        if (count > out->capacity || out->capacity > out->ceiling || holes > count)
            return false;
        const mantra_level *levels = book->header->levels + side * ((size_t)out->capacity + MANTRA_BOOK_SLACK);
        uint32_t copied = 0;
        for (uint32_t i = count; i > 0 && copied < out->room; i--) {
            int64_t *row = out->levels[side][copied]; /* of a hole: the next level's too */
            row[0] = mantra_level_price(&levels[i - 1]);
            row[1] = mantra_level_size(&levels[i - 1]);
            copied += row[1] != 0;
        }
        out->copied[side] = copied;
        out->count[side] = count - holes;
    }
    return mantra_seqlock_unchanged(mantra_book_lock(book), out->version);
}

/* Between attempts. A section lasts well under a microsecond per change, so the first attempts spin; a writer that was
 * descheduled inside one needs the CPU. */
static inline void
mantra_book_rest(uint32_t attempt)
{
    if (attempt < 64)
        MANTRA_PAUSE();
    else
        sched_yield();
}

/* Copy, as often as it takes up to `attempts`. Returns 0 or MANTRA_BOOK_BUSY. */
static inline int
mantra_book_copy(const mantra_book *book, mantra_book_image *out, uint32_t attempts)
{
    for (uint32_t attempt = 0; attempt < attempts; attempt++) {
        if (mantra_book_try_copy(book, out))
            return 0;
        mantra_book_rest(attempt);
    }
    return MANTRA_BOOK_BUSY;
}

#endif
