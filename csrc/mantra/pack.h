/* pack.h - a block: messages of one stream as columns, each coded by what it is, and back, bit for bit.
 *
 *   messages, by feed --rows--> sorted by time --sources--> columns          zstd over each is the caller's
 *
 * A *row* is what has one stamp: the levels of one venue message. Rows stand in the order of publishing; what they say is
 * grouped by *source* (feed, publisher, venue, instrument), so that a book is coded in one go and like stands by like.
 *
 *   of a row      source, time since the row before, delta from origin to publishing, jump of the feed's position
 *   of its source sequence and venue time since the last, how far trusted, how many bids and asks
 *   of a level    its rank in the running book from the level before it; where that level was not there, how far from its
 *                 nearer neighbour; its size: as last at this price, or one of 256 seen lately, or the number itself
 *
 * The running book holds prices only, and nothing but what the block itself has said: a block is readable alone. An
 * image (a whole book) is a row of levels in an empty book. Removals have no size, so sizes stand apart.
 *
 * Messages other than updates have a column per field: differences to the source's message before, or the values
 * themselves where those are smaller; in thousands, millions or billions where all are such. */
#ifndef MANTRA_PACK_H
#define MANTRA_PACK_H

#include <stdlib.h>

#include "mantra/columns.h"
#include "mantra/messages.h"
#include "mantra/tracking.h"

#define MANTRA_PACK_MOST (1u << 22)         /* messages of a block, and levels of its images: more is nonsense */
#define MANTRA_PACK_BOOK 65534u             /* prices of a side that are remembered: steps of ranks stay below 2^16 */
#define MANTRA_PACK_COLUMNS 256
#define MANTRA_PACK_SLOTS 256u
#define MANTRA_PACK_MEMORY 4096u

enum {
    MANTRA_PACK_SOURCES, MANTRA_PACK_SOURCE_BITS, MANTRA_PACK_LOW, MANTRA_PACK_HIGH, MANTRA_PACK_TIME, MANTRA_PACK_DELTA,
    MANTRA_PACK_POSITION, MANTRA_PACK_STREAM_BITS,
    /* updates */
    MANTRA_PACK_HEAD, MANTRA_PACK_SEQUENCE, MANTRA_PACK_VENUE_TIME, MANTRA_PACK_BIDS, MANTRA_PACK_ASKS,
    MANTRA_PACK_ROW_BITS, MANTRA_PACK_RANK, MANTRA_PACK_OFFSET = MANTRA_PACK_RANK + 5, MANTRA_PACK_SIZE, MANTRA_PACK_SLOT,
    MANTRA_PACK_LEVEL_BITS, MANTRA_PACK_ODD, MANTRA_PACK_ODD_BITS, MANTRA_PACK_LEVELS_COLUMNS,
    /* other messages */
    MANTRA_PACK_FIELD_BITS = MANTRA_PACK_HEAD, MANTRA_PACK_FIELDS,
};

/* What a row is; with MORE of its last message and its trust it is the byte `head`. */
enum { MANTRA_ROW_LEVELS, MANTRA_ROW_RESET, MANTRA_ROW_TRUST, MANTRA_ROW_ANY, MANTRA_ROW_IMAGE };

/* What a level is to the running book; the upper two bits of its rank's token. */
enum { MANTRA_LEVEL_CHANGED, MANTRA_LEVEL_GONE, MANTRA_LEVEL_NEW, MANTRA_LEVEL_NEVER };

/* Where a level's rank comes from: what is likely for a step depends on the one before it, whose columns stand apart. */
typedef struct mantra_pack_walk {
    uint32_t rank;    /* where the next level is, if it is the next */
    uint32_t context; /* 0: a side begins; 1 to 4: the last step was ahead, short and ahead, back, short and back */
} mantra_pack_walk;

static inline uint32_t
mantra_pack_context(uint8_t token)
{
    return 1u + (token >> 5 & 1u) * 2u + ((token & 31u) < 3u);
}

typedef struct mantra_pack_source {
    uint32_t feed, publisher, venue, instrument, rows, messages, images;
    uint32_t first;     /* of its rows, where they stand by source */
    uint64_t units[2];  /* all its prices are multiples of the first, its sizes of the second */
} mantra_pack_source;
#define MANTRA_PACK_SOURCE_NUMBERS 9

typedef struct mantra_pack_image {
    uint16_t feed;
    uint8_t venue, trust, reason;
    uint32_t instrument, generation;
    uint64_t position, sequence;
    int64_t trust_since_ns, venue_time_ns;
    uint32_t count[2];    /* bids, asks */
    uint32_t before;      /* read: messages before it */
    int64_t (*levels)[2]; /* price, size: bids, then asks, best first */
} mantra_pack_image;

/* Messages of one feed, as they were added. */
typedef struct mantra_pack_run {
    uint64_t position;
    uint32_t first, count;
    uint16_t feed;
} mantra_pack_run;

typedef struct mantra_pack_row {
    uint64_t time;         /* the latest of its feed so far */
    uint64_t position;
    uint32_t first, count; /* messages; an image's own number instead */
    uint32_t tie, source;
    uint32_t bids;         /* of count */
    uint8_t head;
    bool image;
} mantra_pack_row;

typedef struct mantra_block {
    uint32_t messages, rows, sources, images, image_levels, columns;
    uint64_t first;    /* time that the first row's is counted from */
    mantra_column column[MANTRA_PACK_COLUMNS];
    uint8_t unit[MANTRA_PACK_COLUMNS];  /* numbers are counted in 1000^unit */
    uint8_t plain[MANTRA_PACK_COLUMNS]; /* not differences */
} mantra_block;

static const uint64_t mantra_pack_units[] = {1, 1000, 1000000, 1000000000};

/* The running book: keys of a side's prices, ascending, the best at the end, so that what changes near it moves little. */
typedef struct mantra_pack_side {
    int64_t *keys;
    uint32_t count;
} mantra_pack_side;

typedef struct mantra_pack_book {
    mantra_pack_side sides[2];
    int64_t memory[MANTRA_PACK_MEMORY]; /* sizes by price */
    int64_t slots[MANTRA_PACK_SLOTS];   /* sizes by themselves, of the whole block */
    uint64_t mask;
} mantra_pack_book;

/* A unit to divide by, made ready: what is its multiple is divided by shifting and multiplying. */
typedef struct mantra_pack_unit {
    uint64_t unit, inverse;
    unsigned shift;
} mantra_pack_unit;

static inline mantra_pack_unit
mantra_pack_unit_made(uint64_t unit)
{
    const unsigned shift = (unsigned)__builtin_ctzll(unit);
    const uint64_t odd = unit >> shift;
    uint64_t inverse = odd; /* of three bits; each step doubles them */
    for (int i = 0; i < 5; i++)
        inverse *= 2 - odd * inverse;
    return (mantra_pack_unit){unit, inverse, shift};
}

/* The quotient, if `number` is a multiple; anything else if not. */
static inline int64_t
mantra_pack_in_units(int64_t number, const mantra_pack_unit *by)
{
    return (int64_t)((uint64_t)(number >> by->shift) * by->inverse);
}

/* The greatest unit of `number` and of all that `unit` was found for; of nothing yet: 0. */
static inline void
mantra_pack_unit_find(mantra_pack_unit *unit, int64_t number)
{
    if (unit->unit == 1 || number == 0)
        return;
    uint64_t a = number < 0 ? 0 - (uint64_t)number : (uint64_t)number, b = unit->unit;
    int64_t product;
    if (b && !__builtin_mul_overflow(mantra_pack_in_units(number, unit), (int64_t)b, &product) && product == number)
        return;
    while (b) {
        const uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    *unit = mantra_pack_unit_made(a);
}

static inline int64_t
mantra_pack_key(int64_t price, int side)
{
    return side ? ~price : price;
}

static inline uint64_t
mantra_pack_mix(uint64_t number)
{
    return (number * UINT64_C(0x9E3779B97F4A7C15)) >> 40;
}

static inline int64_t *
mantra_pack_remembered(mantra_pack_book *book, int64_t price, int side)
{
    return &book->memory[mantra_pack_mix((uint64_t)price * 2 + (uint64_t)side) & book->mask];
}

static inline void
mantra_pack_begin(mantra_pack_book *book, const mantra_pack_source *source)
{
    uint64_t room = 64;
    while (room < source->messages && room < MANTRA_PACK_MEMORY)
        room *= 2;
    book->mask = room - 1;
    memset(book->memory, 0, room * sizeof *book->memory);
    book->sides[0].count = book->sides[1].count = 0;
}

static inline void
mantra_pack_insert(mantra_pack_side *side, uint32_t rank, int64_t key)
{
    if (side->count >= MANTRA_PACK_BOOK)
        return;
    int64_t *at = side->keys + (side->count++ - rank);
    memmove(at + 1, at, rank * sizeof *at);
    *at = key;
}

static inline void
mantra_pack_remove(mantra_pack_side *side, uint32_t rank)
{
    int64_t *at = side->keys + (--side->count - rank);
    memmove(at, at + 1, rank * sizeof *at);
}

/* Writing ---------------------------------------------------------------------------------------------------- */

typedef struct mantra_pack_writer {
    mantra_block *block;
    mantra_bits stream, row, level, odd;
    mantra_pack_unit units[2];
    mantra_pack_book book;
} mantra_pack_writer;

static inline void
mantra_pack_level(mantra_pack_writer *to, int number, int64_t price, int64_t size, mantra_pack_walk *walk)
{
    mantra_column *columns = to->block->column;
    mantra_pack_side *side = &to->book.sides[number];
    const int64_t key = mantra_pack_key(price, number);
    const int64_t *low = side->keys;
    for (uint32_t left = side->count; left > 0;) { /* branchless: `low` comes to the first that is not less */
        const uint32_t half = left / 2;
        low = low[half] < key ? low + left - half : low;
        left = half;
    }
    const uint32_t at = (uint32_t)(low - side->keys), n = side->count;
    const bool known = at < n && *low == key;
    const uint32_t rank = known ? n - 1 - at : n - at;
    const unsigned what = size ? known ? MANTRA_LEVEL_CHANGED : MANTRA_LEVEL_NEW
                               : known ? MANTRA_LEVEL_GONE : MANTRA_LEVEL_NEVER;
    const bool back = rank < walk->rank;
    const uint8_t token = (uint8_t)(what << 6 | (unsigned)back << 5 | mantra_bucket_put(
        back ? walk->rank - rank : rank - walk->rank, 1, &to->level));
    mantra_column_put(&columns[MANTRA_PACK_RANK + walk->context], token);
    walk->context = mantra_pack_context(token);
    if (!known) {
        bool worse = n == 0 ? key < 0 : at == n ? true : false;
        uint64_t distance = n == 0 ? worse ? ~(uint64_t)key : (uint64_t)key : 0;
        if (n && at < n)
            distance = (uint64_t)low[0] - (uint64_t)key - 1;
        if (n && at > 0) {
            const uint64_t up = (uint64_t)key - (uint64_t)low[-1] - 1;
            worse = worse || up < distance;
            distance = worse ? up : distance;
        }
        const uint8_t bucket = mantra_bucket_put(distance, 1, &to->level);
        mantra_column_put(&columns[MANTRA_PACK_OFFSET], (uint8_t)(bucket << 1 | worse));
    }
    walk->rank = rank;
    if (size == 0) {
        if (known)
            mantra_pack_remove(side, rank);
        return;
    }
    walk->rank = rank + 1;
    if (!known)
        mantra_pack_insert(side, rank, key);
    int64_t *last = mantra_pack_remembered(&to->book, price, number);
    const uint64_t slot = mantra_pack_mix((uint64_t)size) % MANTRA_PACK_SLOTS;
    if (*last == size) {
        mantra_column_put(&columns[MANTRA_PACK_SIZE], 0);
    } else if (to->book.slots[slot] == size) {
        mantra_column_put(&columns[MANTRA_PACK_SIZE], 1);
        mantra_column_put(&columns[MANTRA_PACK_SLOT], (uint8_t)slot);
    } else {
        mantra_column_put(&columns[MANTRA_PACK_SIZE], (uint8_t)(2 + mantra_bucket_put((uint64_t)size, 2, &to->level)));
        to->book.slots[slot] = size;
    }
    *last = size;
}

/* An update that is one level of a row. */
static inline bool
mantra_pack_is_level(const mantra_update *update)
{
    return (update->kind == MANTRA_BID || update->kind == MANTRA_ASK) && update->size >= 0;
}

static inline bool
mantra_pack_is_usual(const mantra_update *update)
{
    return update->flags <= MANTRA_MORE && update->trust < 16
           && (mantra_pack_is_level(update) || update->kind == MANTRA_RESET || update->kind == MANTRA_TRUST);
}

/* Does `next` go on with the row that `update` is in? */
static inline bool
mantra_pack_joins(const mantra_update *update, const mantra_update *next)
{
    return update->flags == MANTRA_MORE && mantra_pack_is_level(update) && mantra_pack_is_level(next)
           && mantra_pack_is_usual(next) && update->kind <= next->kind && update->origin == next->origin
           && update->published == next->published && update->sequence == next->sequence
           && update->venue_time_ns == next->venue_time_ns && update->instrument == next->instrument
           && update->venue == next->venue && update->trust == next->trust;
}

/* Natural merge sort of rows by time and tie: what is added in turns of feeds is in order but for those. */
static inline bool
mantra_pack_before(const mantra_pack_row *a, const mantra_pack_row *b)
{
    return a->time != b->time ? a->time < b->time : a->tie < b->tie;
}

static inline void
mantra_pack_sort(mantra_pack_row *rows, mantra_pack_row *spare, uint32_t count)
{
    for (bool sorted = false; !sorted;) {
        uint32_t at = 0;
        sorted = true;
        while (at < count) {
            uint32_t middle = at + 1, end;
            while (middle < count && !mantra_pack_before(&rows[middle], &rows[middle - 1]))
                middle++;
            if (middle == count)
                break;
            for (end = middle + 1; end < count && !mantra_pack_before(&rows[end], &rows[end - 1]);)
                end++;
            /* Only the part of the left run that is after the right run's first has to move. */
            while (at < middle && !mantra_pack_before(&rows[middle], &rows[at]))
                at++;
            const uint32_t moved = middle - at;
            memcpy(spare, rows + at, moved * sizeof *rows);
            uint32_t left = 0, right = middle, out = at;
            while (left < moved)
                rows[out++] = right < end && mantra_pack_before(&rows[right], &spare[left]) ? rows[right++] : spare[left++];
            at = end;
            sorted = false;
        }
    }
}

typedef struct mantra_pack_input {
    const uint8_t *messages;
    const mantra_pack_run *runs;
    const mantra_pack_image *images;
    uint32_t run_count, image_count, message_count;
    const mantra_layout *layout;
} mantra_pack_input;

static inline void
mantra_pack_free(mantra_block *block)
{
    for (uint32_t i = 0; i < MANTRA_PACK_COLUMNS; i++)
        free(block->column[i].data);
    memset(block, 0, sizeof *block);
}

static inline bool
mantra_pack_room(mantra_block *block, int column, size_t size)
{
    block->column[column].data = malloc(size + MANTRA_COLUMN_SLACK);
    return block->column[column].data != NULL;
}

static inline uint8_t
mantra_pack_unit_of(uint64_t number, uint8_t unit)
{
    while (unit && (int64_t)number % (int64_t)mantra_pack_units[unit])
        unit--;
    return unit;
}

static inline uint64_t
mantra_pack_counted(uint64_t number, uint8_t unit)
{
    return unit ? (uint64_t)((int64_t)number / (int64_t)mantra_pack_units[unit]) : number;
}

/* Where a message has venue and instrument; SIZE_MAX: it has none. */
static inline size_t
mantra_pack_offset(const mantra_layout *layout, const char *name)
{
    for (uint32_t i = 0; i < layout->field_count; i++)
        if (strcmp(layout->fields[i].name, name) == 0 && layout->fields[i].count == 1)
            return layout->fields[i].offset;
    return SIZE_MAX;
}

/* Of a feed, while rows are made: all feeds there can be. */
typedef struct mantra_pack_feed {
    uint64_t latest;      /* time of its rows so far */
    uint64_t next;        /* position that its next row has, if nothing was lost */
    uint32_t first, last; /* of its rows, chained by `bids`; plus one, 0: none */
    uint32_t publisher;
} mantra_pack_feed;
#define MANTRA_PACK_FEEDS 65536u

/* Rows of the messages, in the order in which they were added; their number. `feeds`: zeros. */
static inline uint32_t
mantra_pack_rows(const mantra_pack_input *from, mantra_pack_row *rows, mantra_pack_feed *feeds)
{
    const bool updates = strcmp(from->layout->name, "update") == 0;
    const size_t size = from->layout->size;
    uint32_t count = 0;
    for (const mantra_pack_run *run = from->runs; run < from->runs + from->run_count; run++) {
        mantra_pack_feed *feed = &feeds[run->feed];
        for (uint32_t i = 0, n; i < run->count; i += n) {
            const uint8_t *message = from->messages + size * (run->first + i);
            n = 1;
            while (updates && i + n < run->count
                   && mantra_pack_joins((const mantra_update *)message + n - 1, (const mantra_update *)message + n))
                n++;
            uint64_t tracking[2];
            memcpy(tracking, message, sizeof tracking);
            const uint64_t time = mantra_published_cycles(tracking[0], tracking[1]);
            if (feed->last) {
                rows[feed->last - 1].bids = count + 1;
            } else {
                feed->first = count + 1;
                feed->publisher = mantra_publisher(tracking[1]);
                feed->latest = time;
            }
            feed->latest = feed->latest > time ? feed->latest : time;
            rows[count] = (mantra_pack_row){.time = feed->latest, .position = run->position + i, .first = run->first + i,
                                            .count = n, .tie = 2 * count + 1, .source = run->feed};
            feed->last = ++count;
        }
    }
    return count;
}

/* Images take their places: before the first row of their feed that is not wholly in them. */
static inline uint32_t
mantra_pack_place(const mantra_pack_input *from, mantra_pack_row *rows, uint32_t count, const mantra_pack_feed *feeds)
{
    for (uint32_t i = 0; i < from->image_count; i++) {
        const mantra_pack_image *image = &from->images[i];
        uint32_t at = feeds[image->feed].first;
        while (at && rows[at - 1].position + rows[at - 1].count <= image->position)
            at = rows[at - 1].bids;
        rows[count + i] = (mantra_pack_row){.time = at ? rows[at - 1].time : feeds[image->feed].latest, .first = i,
                                            .tie = at ? rows[at - 1].tie - 1 : UINT32_MAX, .source = image->feed,
                                            .image = true};
    }
    return count + from->image_count;
}

static inline int
mantra_pack_compare(const void *a_, const void *b_)
{
    const mantra_pack_source *a = a_, *b = b_;
    const uint64_t of_a = (uint64_t)a->feed << 32 | a->publisher, of_b = (uint64_t)b->feed << 32 | b->publisher;
    if (of_a != of_b)
        return of_a < of_b ? -1 : 1;
    if (a->venue != b->venue)
        return a->venue < b->venue ? -1 : 1;
    return a->instrument < b->instrument ? -1 : a->instrument > b->instrument;
}

/* Find the sources of rows, in `sources` (room for as many as rows, and one), by `slots` of `mask` + 1 zeros; rows are
 * given theirs. Returns how many. */
static inline uint32_t
mantra_pack_find_sources(const mantra_pack_input *from, mantra_pack_row *rows, uint32_t count,
                         const mantra_pack_feed *feeds, mantra_pack_source *sources, uint32_t *slots, uint32_t mask)
{
    const size_t venue = mantra_pack_offset(from->layout, "venue"), instrument = mantra_pack_offset(from->layout, "instrument");
    const bool named = venue != SIZE_MAX && instrument != SIZE_MAX;
    uint32_t found = 0;
    for (uint32_t i = 0; i < count; i++) {
        mantra_pack_source of = {.feed = rows[i].source};
        if (rows[i].image) {
            const mantra_pack_image *image = &from->images[rows[i].first];
            of.venue = image->venue;
            of.instrument = image->instrument;
            of.publisher = feeds[image->feed].publisher; /* who published it is not said of a book */
            of.images = 1;
        } else {
            const uint8_t *message = from->messages + from->layout->size * rows[i].first;
            uint64_t published;
            memcpy(&published, message + 8, sizeof published);
            of.publisher = mantra_publisher(published);
            of.messages = rows[i].count;
            if (named) {
                of.venue = message[venue];
                memcpy(&of.instrument, message + instrument, sizeof of.instrument);
            }
        }
        uint64_t hash = ((uint64_t)of.feed << 48) ^ ((uint64_t)of.publisher << 40) ^ ((uint64_t)of.venue << 32) ^ of.instrument;
        uint32_t slot = (uint32_t)mantra_pack_mix(hash) & mask;
        while (slots[slot] && mantra_pack_compare(&sources[slots[slot] - 1], &of))
            slot = (slot + 1) & mask;
        if (!slots[slot]) {
            sources[found] = of;
            slots[slot] = ++found;
        } else {
            sources[slots[slot] - 1].messages += of.messages;
            sources[slots[slot] - 1].images += of.images;
        }
        sources[slots[slot] - 1].rows++;
        rows[i].source = slots[slot] - 1;
    }
    return found;
}

static inline void
mantra_pack_put_sources(mantra_block *block, const mantra_pack_source *sources)
{
    mantra_column *column = &block->column[MANTRA_PACK_SOURCES];
    mantra_bits bits = {block->column[MANTRA_PACK_SOURCE_BITS].data, 0};
    mantra_pack_source last = {0};
    for (uint32_t i = 0; i < block->sources; i++) {
        const mantra_pack_source *of = &sources[i];
        mantra_signed_put(column, &bits, (uint64_t)of->feed - last.feed);
        mantra_signed_put(column, &bits, (uint64_t)of->publisher - last.publisher);
        mantra_signed_put(column, &bits, (uint64_t)of->venue - last.venue);
        mantra_signed_put(column, &bits, (uint64_t)of->instrument - last.instrument);
        mantra_unsigned_put(column, &bits, of->rows);
        mantra_unsigned_put(column, &bits, of->messages);
        mantra_unsigned_put(column, &bits, of->images);
        mantra_unsigned_put(column, &bits, of->units[0]);
        mantra_unsigned_put(column, &bits, of->units[1]);
        last = *of;
    }
    block->column[MANTRA_PACK_SOURCE_BITS].size = mantra_bits_bytes(&bits);
}

/* What is told of rows in the order of publishing. */
static inline void
mantra_pack_put_stream(const mantra_pack_input *from, mantra_block *block, const mantra_pack_row *rows,
                       const mantra_pack_source *sources, mantra_pack_feed *feeds)
{
    uint8_t *unit = &block->unit[MANTRA_PACK_TIME];
    mantra_bits bits = {block->column[MANTRA_PACK_STREAM_BITS].data, 0};
    for (int pass = 0; pass < 2; pass++) { /* the unit, then the numbers */
        uint64_t before = 0;
        bool begun = false;
        *unit = pass ? *unit : 3;
        for (uint32_t i = 0; i < block->rows; i++) {
            const mantra_pack_row *row = &rows[i];
            uint64_t tracking[2] = {0}, since = 0, jump = 0;
            if (!row->image) {
                memcpy(tracking, from->messages + from->layout->size * row->first, sizeof tracking);
                const uint64_t time = mantra_published_cycles(tracking[0], tracking[1]);
                block->first = begun ? block->first : time;
                since = begun ? time - before : 0;
                before = time;
                begun = true;
            }
            if (pass == 0) {
                *unit = mantra_pack_unit_of(since, *unit);
                continue;
            }
            if (!row->image) {
                uint64_t *next = &feeds[sources[row->source].feed].next;
                jump = row->position - *next;
                *next = row->position + row->count;
            }
            mantra_column_put(&block->column[MANTRA_PACK_LOW], (uint8_t)row->source);
            mantra_column_put(&block->column[MANTRA_PACK_HIGH], (uint8_t)(row->source >> 8));
            mantra_signed_put(&block->column[MANTRA_PACK_TIME], &bits, mantra_pack_counted(since, *unit));
            mantra_unsigned_put(&block->column[MANTRA_PACK_DELTA], &bits, tracking[1] >> 16);
            mantra_signed_put(&block->column[MANTRA_PACK_POSITION], &bits, jump);
        }
    }
    block->column[MANTRA_PACK_STREAM_BITS].size = mantra_bits_bytes(&bits);
}

/* Levels, sides told apart: the first `bids` of `count` are bids. */
static inline void
mantra_pack_put_levels(mantra_pack_writer *to, const int64_t *price, const int64_t *size, size_t stride, uint32_t bids,
                       uint32_t count)
{
    mantra_pack_walk walk = {0};
    for (uint32_t i = 0; i < count; i++) {
        walk = i == bids ? (mantra_pack_walk){0} : walk;
        mantra_pack_level(to, i >= bids, mantra_pack_in_units(price[i * stride], &to->units[0]),
                          mantra_pack_in_units(size[i * stride], &to->units[1]), &walk);
    }
}

static inline void
mantra_pack_put_row(mantra_pack_writer *to, const mantra_pack_input *from, const mantra_pack_row *row, uint64_t *sequence,
                    uint64_t *venue_time)
{
    mantra_column *columns = to->block->column, *odd = &columns[MANTRA_PACK_ODD];
    const mantra_update *updates = (const mantra_update *)from->messages + row->first, *last = updates + row->count - 1;
    const mantra_pack_image *image = row->image ? &from->images[row->first] : NULL;
    const int type = image                               ? MANTRA_ROW_IMAGE
                     : !mantra_pack_is_usual(updates)    ? MANTRA_ROW_ANY
                     : mantra_pack_is_level(updates)     ? MANTRA_ROW_LEVELS
                     : updates->kind == MANTRA_RESET     ? MANTRA_ROW_RESET
                                                         : MANTRA_ROW_TRUST;
    const uint64_t number = image ? image->sequence : updates->sequence;
    const uint64_t time = (uint64_t)(image ? image->venue_time_ns : updates->venue_time_ns);
    const uint8_t trust = image ? image->trust : type == MANTRA_ROW_ANY ? 0 : updates->trust;
    const bool more = !image && type != MANTRA_ROW_ANY && last->flags;
    mantra_column_put(&columns[MANTRA_PACK_HEAD], (uint8_t)(type | more << 3 | trust << 4));
    mantra_signed_put(&columns[MANTRA_PACK_SEQUENCE], &to->row, number - *sequence);
    mantra_signed_put(&columns[MANTRA_PACK_VENUE_TIME], &to->row,
                      mantra_pack_counted(time - *venue_time, to->block->unit[MANTRA_PACK_VENUE_TIME]));
    *sequence = number;
    *venue_time = time;
    if (type == MANTRA_ROW_LEVELS) {
        uint32_t bids = 0;
        while (bids < row->count && updates[bids].kind == MANTRA_BID)
            bids++;
        mantra_unsigned_put(&columns[MANTRA_PACK_BIDS], &to->row, bids);
        mantra_unsigned_put(&columns[MANTRA_PACK_ASKS], &to->row, row->count - bids);
        mantra_pack_put_levels(to, &updates->price, &updates->size, sizeof *updates / 8, bids, row->count);
    } else if (image) {
        mantra_unsigned_put(&columns[MANTRA_PACK_BIDS], &to->row, image->count[0]);
        mantra_unsigned_put(&columns[MANTRA_PACK_ASKS], &to->row, image->count[1]);
        mantra_unsigned_put(odd, &to->odd, image->position);
        mantra_unsigned_put(odd, &to->odd, image->generation);
        mantra_unsigned_put(odd, &to->odd, (uint64_t)image->trust_since_ns);
        mantra_column_put(odd, image->reason);
        to->book.sides[0].count = to->book.sides[1].count = 0;
        mantra_pack_put_levels(to, &image->levels[0][0], &image->levels[0][1], 2, image->count[0],
                               image->count[0] + image->count[1]);
    } else {
        if (type == MANTRA_ROW_ANY) {
            mantra_column_put(odd, updates->kind);
            mantra_column_put(odd, updates->flags);
            mantra_column_put(odd, updates->trust);
        }
        mantra_signed_put(odd, &to->odd, (uint64_t)updates->price);
        mantra_signed_put(odd, &to->odd, (uint64_t)updates->size);
        if (type == MANTRA_ROW_RESET)
            to->book.sides[0].count = to->book.sides[1].count = 0;
    }
}

/* Instruments have one scale at all venues: a venue's own prices and sizes are mostly multiples of more. */
static inline void
mantra_pack_find_units(const mantra_pack_input *from, const mantra_pack_row *rows, const uint32_t *order,
                       mantra_pack_source *source)
{
    mantra_pack_unit price = {0}, size = {0};
    for (uint32_t i = 0; i < source->rows; i++) {
        const mantra_pack_row *row = &rows[order[source->first + i]];
        const mantra_pack_image *image = row->image ? &from->images[row->first] : NULL;
        const mantra_update *update = (const mantra_update *)from->messages + (image ? 0 : row->first);
        for (uint32_t n = 0; image && n < image->count[0] + image->count[1]; n++) {
            mantra_pack_unit_find(&price, image->levels[n][0]);
            mantra_pack_unit_find(&size, image->levels[n][1]);
        }
        if (image || !mantra_pack_is_usual(update) || !mantra_pack_is_level(update))
            continue;
        for (const mantra_update *end = update + row->count; update < end; update++) {
            mantra_pack_unit_find(&price, update->price);
            mantra_pack_unit_find(&size, update->size);
        }
    }
    source->units[0] = price.unit ? price.unit : 1;
    source->units[1] = size.unit ? size.unit : 1;
}

static inline void
mantra_pack_put_updates(mantra_pack_writer *to, const mantra_pack_input *from, const mantra_pack_row *rows,
                        const uint32_t *order, const mantra_pack_source *sources)
{
    mantra_block *block = to->block;
    uint64_t sequence = 0, venue_time = 0;
    uint8_t unit = 3;
    for (uint32_t i = 0; i < block->rows; i++) {
        const mantra_pack_row *row = &rows[order[i]];
        const uint64_t time = (uint64_t)(row->image ? from->images[row->first].venue_time_ns
                                                    : ((const mantra_update *)from->messages)[row->first].venue_time_ns);
        unit = mantra_pack_unit_of(time - venue_time, unit);
        venue_time = time;
    }
    block->unit[MANTRA_PACK_VENUE_TIME] = unit;
    venue_time = 0;
    for (uint32_t s = 0; s < block->sources; s++) {
        mantra_pack_begin(&to->book, &sources[s]);
        to->units[0] = mantra_pack_unit_made(sources[s].units[0]);
        to->units[1] = mantra_pack_unit_made(sources[s].units[1]);
        for (uint32_t i = 0; i < sources[s].rows; i++)
            mantra_pack_put_row(to, from, &rows[order[sources[s].first + i]], &sequence, &venue_time);
    }
    block->column[MANTRA_PACK_ROW_BITS].size = mantra_bits_bytes(&to->row);
    block->column[MANTRA_PACK_LEVEL_BITS].size = mantra_bits_bytes(&to->level);
    block->column[MANTRA_PACK_ODD_BITS].size = mantra_bits_bytes(&to->odd);
}

/* The n-th value of a layout's fields but the tracking, arrays told element by element; false: there are no more. */
static inline bool
mantra_pack_field(const mantra_layout *layout, uint32_t n, mantra_field *found)
{
    for (uint32_t i = 2; i < layout->field_count; i++) {
        *found = layout->fields[i];
        if (n < found->count) {
            found->offset += n * found->size;
            return true;
        }
        n -= found->count;
    }
    return false;
}

static inline uint64_t
mantra_pack_load(const uint8_t *message, const mantra_field *field)
{
    uint64_t value = 0;
    memcpy(&value, message + field->offset, field->size);
    return value;
}

static inline void
mantra_pack_put_fields(mantra_block *block, const mantra_pack_input *from, const mantra_pack_row *rows,
                       const uint32_t *order)
{
    mantra_bits bits = {block->column[MANTRA_PACK_FIELD_BITS].data, 0};
    mantra_field field;
    for (uint32_t n = 0; mantra_pack_field(from->layout, n, &field); n++) {
        const uint32_t column = MANTRA_PACK_FIELDS + n;
        uint64_t last = 0, cost[2] = {0};
        uint8_t unit[2] = {3, 3};
        for (uint32_t i = 0; i < block->rows; i++) {
            const uint64_t value =
                mantra_pack_load(from->messages + from->layout->size * rows[order[i]].first, &field);
            const uint64_t numbers[2] = {value - last, value};
            for (int plain = 0; plain < 2; plain++) {
                const uint64_t number = numbers[plain];
                const uint64_t magnitude = (int64_t)number < 0 ? 0 - number : number;
                cost[plain] += magnitude ? 65u - (unsigned)__builtin_clzll(magnitude) : 0;
                unit[plain] = mantra_pack_unit_of(number, unit[plain]);
            }
            last = value;
        }
        block->plain[column] = cost[1] < cost[0];
        block->unit[column] = unit[block->plain[column]];
        last = 0;
        for (uint32_t i = 0; i < block->rows; i++) {
            const uint64_t value =
                mantra_pack_load(from->messages + from->layout->size * rows[order[i]].first, &field);
            mantra_signed_put(&block->column[column], &bits,
                              mantra_pack_counted(block->plain[column] ? value : value - last, block->unit[column]));
            last = value;
        }
    }
    block->column[MANTRA_PACK_FIELD_BITS].size = mantra_bits_bytes(&bits);
}

/* Columns a block of messages of `layout` has. */
static inline uint32_t
mantra_pack_columns_of(const mantra_layout *layout)
{
    mantra_field field;
    uint32_t columns = MANTRA_PACK_FIELDS;
    if (strcmp(layout->name, "update") == 0)
        return MANTRA_PACK_LEVELS_COLUMNS;
    while (mantra_pack_field(layout, columns - MANTRA_PACK_FIELDS, &field))
        columns++;
    return columns;
}

/* Columns with room for whatever comes; -1: not enough memory. */
static inline int
mantra_pack_make_room(mantra_block *block, bool updates)
{
    const size_t rows = block->rows, levels = (size_t)block->messages + block->image_levels;
    bool made = mantra_pack_room(block, MANTRA_PACK_SOURCES, MANTRA_PACK_SOURCE_NUMBERS * (size_t)block->sources)
                && mantra_pack_room(block, MANTRA_PACK_SOURCE_BITS, 8 * MANTRA_PACK_SOURCE_NUMBERS * (size_t)block->sources)
                && mantra_pack_room(block, MANTRA_PACK_STREAM_BITS, 24 * rows);
    for (int i = MANTRA_PACK_LOW; i <= MANTRA_PACK_POSITION; i++)
        made = made && mantra_pack_room(block, i, rows);
    for (uint32_t i = MANTRA_PACK_FIELDS; !updates && i < block->columns; i++)
        made = made && mantra_pack_room(block, (int)i, rows);
    if (!updates)
        return made && mantra_pack_room(block, MANTRA_PACK_FIELD_BITS, 8 * rows * (block->columns - MANTRA_PACK_FIELDS)) ? 0 : -1;
    for (int i = MANTRA_PACK_HEAD; i <= MANTRA_PACK_ASKS; i++)
        made = made && mantra_pack_room(block, i, rows);
    for (int i = MANTRA_PACK_RANK; i <= MANTRA_PACK_SLOT; i++)
        made = made && mantra_pack_room(block, i, levels);
    return made && mantra_pack_room(block, MANTRA_PACK_ROW_BITS, 32 * rows)
           && mantra_pack_room(block, MANTRA_PACK_LEVEL_BITS, 18 * levels) && mantra_pack_room(block, MANTRA_PACK_ODD, 8 * rows)
           && mantra_pack_room(block, MANTRA_PACK_ODD_BITS, 24 * rows) ? 0 : -1;
}

/* Pack `from`; -1: not enough memory. Free the block in either case. */
static inline int
mantra_pack(const mantra_pack_input *from, mantra_block *block)
{
    const bool updates = strcmp(from->layout->name, "update") == 0;
    const size_t most = (size_t)from->message_count + from->image_count;
    int failed = -1;
    uint32_t mask = 63;
    while (mask < 2 * most)
        mask = 2 * mask + 1;
    mantra_pack_row *rows = malloc((most + 1) * sizeof *rows), *spare = malloc((most + 1) * sizeof *spare);
    mantra_pack_source *sources = malloc((most + 1) * sizeof *sources);
    uint32_t *order = malloc((most + 1) * sizeof *order), *slots = calloc(mask + 1, sizeof *slots);
    mantra_pack_feed *feeds = calloc(MANTRA_PACK_FEEDS, sizeof *feeds);
    mantra_pack_writer *to = calloc(1, sizeof *to);
    int64_t *keys = malloc(2 * MANTRA_PACK_BOOK * sizeof *keys);
    memset(block, 0, sizeof *block);
    if (!rows || !spare || !sources || !order || !slots || !feeds || !to || !keys)
        goto done;
    block->messages = from->message_count;
    block->images = from->image_count;
    for (uint32_t i = 0; i < from->image_count; i++)
        block->image_levels += from->images[i].count[0] + from->images[i].count[1];
    block->rows = mantra_pack_place(from, rows, mantra_pack_rows(from, rows, feeds), feeds);
    block->sources = mantra_pack_find_sources(from, rows, block->rows, feeds, sources, slots, mask);
    for (uint32_t i = 0; i < block->sources; i++)
        sources[i].first = i;
    qsort(sources, block->sources, sizeof *sources, mantra_pack_compare);
    for (uint32_t i = 0; i < block->sources; i++)
        slots[sources[i].first] = i;
    mantra_pack_sort(rows, spare, block->rows);
    uint32_t first = 0;
    for (uint32_t i = 0; i < block->sources; first += sources[i++].rows)
        sources[i].first = first;
    for (uint32_t i = 0; i < block->rows; i++) {
        rows[i].source = slots[rows[i].source];
        order[sources[rows[i].source].first++] = i;
    }
    for (uint32_t i = 0; i < block->sources; i++) {
        sources[i].first -= sources[i].rows;
        if (updates)
            mantra_pack_find_units(from, rows, order, &sources[i]);
    }
    block->columns = mantra_pack_columns_of(from->layout);
    if (block->columns > MANTRA_PACK_COLUMNS || block->sources > UINT16_MAX || mantra_pack_make_room(block, updates))
        goto done;
    mantra_pack_put_sources(block, sources);
    mantra_pack_put_stream(from, block, rows, sources, feeds);
    *to = (mantra_pack_writer){.block = block, .row.data = block->column[MANTRA_PACK_ROW_BITS].data,
                               .level.data = block->column[MANTRA_PACK_LEVEL_BITS].data,
                               .odd.data = block->column[MANTRA_PACK_ODD_BITS].data,
                               .book.sides = {{keys, 0}, {keys + MANTRA_PACK_BOOK, 0}}};
    if (updates)
        mantra_pack_put_updates(to, from, rows, order, sources);
    else
        mantra_pack_put_fields(block, from, rows, order);
    failed = 0;
done:
    free(rows);
    free(spare);
    free(sources);
    free(order);
    free(slots);
    free(feeds);
    free(to);
    free(keys);
    return failed;
}

/* Reading ---------------------------------------------------------------------------------------------------- */

typedef struct mantra_unpack_row {
    uint32_t count, bids; /* messages, or levels of an image */
    uint32_t out;         /* of its first message, or its image's number */
    uint8_t head;
    uint64_t sequence, venue_time;
} mantra_unpack_row;

/* Where everything goes: messages, and of each its feed and position; images, and their levels. */
typedef struct mantra_unpacked {
    uint8_t *messages;
    uint16_t *feeds;
    uint64_t *positions;
    mantra_pack_image *images;
    int64_t (*levels)[2];
} mantra_unpacked;

typedef struct mantra_pack_reader {
    const mantra_block *block;
    uint64_t units[2]; /* of the source */
    mantra_reader column[MANTRA_PACK_COLUMNS]; /* streams of bits by bits */
    mantra_pack_book book;
} mantra_pack_reader;

static inline mantra_reader
mantra_pack_reader_of(const mantra_block *block, uint32_t column, bool bits)
{
    return (mantra_reader){block->column[column].data, 0, (uint64_t)block->column[column].size * (bits ? 8 : 1), false};
}

/* Who is in a block: `sources` has room for block->sources; false: it is damaged. Untold sums are checked. */
static inline bool
mantra_unpack_sources(const mantra_block *block, mantra_pack_source *sources)
{
    mantra_reader column = mantra_pack_reader_of(block, MANTRA_PACK_SOURCES, false);
    mantra_reader bits = mantra_pack_reader_of(block, MANTRA_PACK_SOURCE_BITS, true);
    mantra_pack_source last = {0};
    uint64_t rows = 0, messages = 0, images = 0;
    for (uint32_t i = 0; i < block->sources; i++) {
        last.feed += (uint32_t)mantra_signed_get(&column, &bits);
        last.publisher += (uint32_t)mantra_signed_get(&column, &bits);
        last.venue += (uint32_t)mantra_signed_get(&column, &bits);
        last.instrument += (uint32_t)mantra_signed_get(&column, &bits);
        last.first = (uint32_t)rows;
        last.rows = (uint32_t)mantra_unsigned_get(&column, &bits);
        last.messages = (uint32_t)mantra_unsigned_get(&column, &bits);
        last.images = (uint32_t)mantra_unsigned_get(&column, &bits);
        last.units[0] = mantra_unsigned_get(&column, &bits);
        last.units[1] = mantra_unsigned_get(&column, &bits);
        rows += last.rows;
        messages += last.messages;
        images += last.images;
        if (last.feed >= MANTRA_PACK_FEEDS || last.publisher > UINT16_MAX || last.venue > UINT8_MAX || rows > block->rows)
            return false;
        sources[i] = last;
    }
    return !column.broken && !bits.broken && rows == block->rows && messages == block->messages && images == block->images;
}

/* A level to `price` and `size`; false: no book could have said so. */
static inline bool
mantra_unpack_level(mantra_pack_reader *from, int number, mantra_pack_walk *walk, int64_t *price, int64_t *size)
{
    mantra_reader *column = from->column, *bits = &column[MANTRA_PACK_LEVEL_BITS];
    mantra_pack_side *side = &from->book.sides[number];
    const uint8_t token = mantra_column_get(&column[MANTRA_PACK_RANK + walk->context]);
    const uint32_t n = side->count, step = (uint32_t)mantra_bucket_get(token & 31, 1, bits);
    const uint32_t rank = token & 32 ? walk->rank - step : walk->rank + step;
    const unsigned what = token >> 6;
    walk->context = mantra_pack_context(token);
    int64_t key;
    if (what < MANTRA_LEVEL_NEW) {
        if (MANTRA_UNLIKELY(rank >= n))
            return false;
        key = side->keys[n - 1 - rank];
    } else {
        if (MANTRA_UNLIKELY(rank > n))
            return false;
        const uint8_t how = mantra_column_get(&column[MANTRA_PACK_OFFSET]);
        const uint64_t distance = mantra_bucket_get(how >> 1, 1, bits);
        const bool worse = how & 1;
        if (n == 0)
            key = (int64_t)(worse ? ~distance : distance);
        else if (worse ? rank == n : rank == 0)
            return false;
        else
            key = (int64_t)(worse ? (uint64_t)side->keys[n - 1 - rank] + distance + 1
                                  : (uint64_t)side->keys[n - rank] - distance - 1);
    }
    const int64_t counted = mantra_pack_key(key, number);
    *price = (int64_t)((uint64_t)counted * from->units[0]);
    walk->rank = rank;
    *size = 0;
    if (what == MANTRA_LEVEL_GONE)
        mantra_pack_remove(side, rank);
    if (what == MANTRA_LEVEL_GONE || what == MANTRA_LEVEL_NEVER)
        return true;
    walk->rank = rank + 1;
    if (what == MANTRA_LEVEL_NEW)
        mantra_pack_insert(side, rank, key);
    int64_t *last = mantra_pack_remembered(&from->book, counted, number);
    const uint8_t how = mantra_column_get(&column[MANTRA_PACK_SIZE]);
    if (how == 1) {
        *last = from->book.slots[mantra_column_get(&column[MANTRA_PACK_SLOT])];
    } else if (how > 1) {
        *last = (int64_t)mantra_bucket_get(how - 2u, 2, bits);
        from->book.slots[mantra_pack_mix((uint64_t)*last) % MANTRA_PACK_SLOTS] = *last;
    }
    *size = (int64_t)((uint64_t)*last * from->units[1]);
    return true;
}

/* What rows say, source by source; false: damaged. */
static inline bool
mantra_unpack_rows(mantra_pack_reader *from, mantra_unpack_row *rows)
{
    const mantra_block *block = from->block;
    mantra_reader *column = from->column, *bits = &column[MANTRA_PACK_ROW_BITS];
    const uint64_t unit = mantra_pack_units[block->unit[MANTRA_PACK_VENUE_TIME] & 3];
    uint64_t sequence = 0, venue_time = 0, messages = 0, levels = 0, told = 0, images = 0;
    for (uint32_t i = 0; i < block->rows; i++) {
        mantra_unpack_row *row = &rows[i];
        const uint8_t head = mantra_column_get(&column[MANTRA_PACK_HEAD]);
        const int type = head & 7;
        sequence += mantra_signed_get(&column[MANTRA_PACK_SEQUENCE], bits);
        venue_time += mantra_signed_get(&column[MANTRA_PACK_VENUE_TIME], bits) * unit;
        *row = (mantra_unpack_row){.count = 1, .head = head, .sequence = sequence, .venue_time = venue_time};
        if (type == MANTRA_ROW_LEVELS || type == MANTRA_ROW_IMAGE) {
            const uint64_t bids = mantra_unsigned_get(&column[MANTRA_PACK_BIDS], bits);
            const uint64_t asks = mantra_unsigned_get(&column[MANTRA_PACK_ASKS], bits);
            if (bids > MANTRA_PACK_MOST || asks > MANTRA_PACK_MOST || (type == MANTRA_ROW_LEVELS && bids + asks == 0))
                return false;
            row->bids = (uint32_t)bids;
            row->count = (uint32_t)(bids + asks);
            levels += row->count;
        }
        told += type == MANTRA_ROW_IMAGE ? row->count : 0;
        images += type == MANTRA_ROW_IMAGE;
        messages += type == MANTRA_ROW_IMAGE ? 0 : row->count;
        if (type > MANTRA_ROW_IMAGE || messages > block->messages || told > block->image_levels)
            return false;
    }
    for (int i = MANTRA_PACK_RANK; i < MANTRA_PACK_OFFSET; i++)
        levels -= column[i].end;
    bool broken = bits->broken || levels;
    for (int i = MANTRA_PACK_HEAD; i <= MANTRA_PACK_ASKS; i++)
        broken = broken || column[i].broken;
    return !broken && messages == block->messages && told == block->image_levels && images == block->images;
}

/* The order of the rows, and what all of them have: stamps, feeds and positions of their messages. `rows` (NULL: each
 * is one message) and `order` stand by source: `order` becomes each one's message. `taken`: by source; `next`: zeros. */
static inline bool
mantra_unpack_stream(mantra_pack_reader *from, const mantra_pack_source *sources, mantra_unpack_row *rows,
                     uint32_t *order, uint32_t *taken, uint64_t *next, size_t size, mantra_unpacked *to)
{
    const mantra_block *block = from->block;
    mantra_reader *column = from->column, *bits = &column[MANTRA_PACK_STREAM_BITS];
    const uint64_t unit = mantra_pack_units[block->unit[MANTRA_PACK_TIME] & 3];
    uint64_t time = block->first;
    uint32_t out = 0, images = 0;
    memset(taken, 0, block->sources * sizeof *taken);
    for (uint32_t i = 0; i < block->rows; i++) {
        const uint32_t low = mantra_column_get(&column[MANTRA_PACK_LOW]);
        const uint32_t number = low | (uint32_t)mantra_column_get(&column[MANTRA_PACK_HIGH]) << 8;
        time += mantra_signed_get(&column[MANTRA_PACK_TIME], bits) * unit;
        const uint64_t delta = mantra_unsigned_get(&column[MANTRA_PACK_DELTA], bits);
        const uint64_t jump = mantra_signed_get(&column[MANTRA_PACK_POSITION], bits);
        if (number >= block->sources || taken[number] == sources[number].rows)
            return false;
        const mantra_pack_source *source = &sources[number];
        const uint32_t at = source->first + taken[number]++;
        if (rows && (rows[at].head & 7) == MANTRA_ROW_IMAGE) {
            to->images[images] = (mantra_pack_image){.feed = (uint16_t)source->feed, .venue = (uint8_t)source->venue,
                                                     .instrument = source->instrument, .before = out};
            rows[at].out = images++; /* as many as block->images: mantra_unpack_rows counted them */
            continue;
        }
        const uint32_t count = rows ? rows[at].count : 1;
        const uint64_t tracking[2] = {time - delta, delta << 16 | source->publisher};
        order[at] = out;
        if (rows)
            rows[at].out = out;
        next[source->feed] += jump;
        for (uint32_t end = out + count; out < end; out++) {
            memcpy(to->messages + size * out, tracking, sizeof tracking);
            to->feeds[out] = (uint16_t)source->feed;
            to->positions[out] = next[source->feed]++;
        }
    }
    bool broken = bits->broken;
    for (int i = MANTRA_PACK_LOW; i <= MANTRA_PACK_POSITION; i++)
        broken = broken || column[i].broken;
    return !broken;
}

static inline bool
mantra_unpack_image(mantra_pack_reader *from, const mantra_unpack_row *row, mantra_pack_image *image)
{
    mantra_reader *odd = &from->column[MANTRA_PACK_ODD], *bits = &from->column[MANTRA_PACK_ODD_BITS];
    image->count[0] = row->bids;
    image->count[1] = row->count - row->bids;
    image->trust = row->head >> 4;
    image->sequence = row->sequence;
    image->venue_time_ns = (int64_t)row->venue_time;
    image->position = mantra_unsigned_get(odd, bits);
    image->generation = (uint32_t)mantra_unsigned_get(odd, bits);
    image->trust_since_ns = (int64_t)mantra_unsigned_get(odd, bits);
    image->reason = mantra_column_get(odd);
    from->book.sides[0].count = from->book.sides[1].count = 0;
    mantra_pack_walk walk = {0};
    for (uint32_t i = 0; i < row->count; i++) {
        walk = i == row->bids ? (mantra_pack_walk){0} : walk;
        if (!mantra_unpack_level(from, i >= row->bids, &walk, &image->levels[i][0], &image->levels[i][1]))
            return false;
    }
    return true;
}

/* The updates of a row: all but their tracking. */
static inline bool
mantra_unpack_updates(mantra_pack_reader *from, const mantra_pack_source *source, const mantra_unpack_row *row,
                      mantra_update *update)
{
    mantra_reader *odd = &from->column[MANTRA_PACK_ODD], *bits = &from->column[MANTRA_PACK_ODD_BITS];
    const int type = row->head & 7;
    const uint8_t more = row->head >> 3 & 1, trust = row->head >> 4, venue = (uint8_t)source->venue;
    mantra_pack_walk walk = {0};
    for (uint32_t i = 0; i < row->count; i++, update++) {
        uint8_t kind = type == MANTRA_ROW_RESET ? MANTRA_RESET : MANTRA_TRUST, flags = more, trusted = trust;
        int64_t price, size;
        if (type == MANTRA_ROW_LEVELS) {
            const bool ask = i >= row->bids;
            walk = i == row->bids ? (mantra_pack_walk){0} : walk;
            kind = ask ? MANTRA_ASK : MANTRA_BID;
            flags = i + 1 < row->count ? MANTRA_MORE : more;
            if (!mantra_unpack_level(from, ask, &walk, &price, &size))
                return false;
        } else {
            if (type == MANTRA_ROW_ANY) {
                kind = mantra_column_get(odd);
                flags = mantra_column_get(odd);
                trusted = mantra_column_get(odd);
            }
            price = (int64_t)mantra_signed_get(odd, bits);
            size = (int64_t)mantra_signed_get(odd, bits);
            if (type == MANTRA_ROW_RESET)
                from->book.sides[0].count = from->book.sides[1].count = 0;
        }
        const uint64_t rest[] = {(uint64_t)price, (uint64_t)size, row->sequence, row->venue_time,
                                 mantra_word(source->instrument, venue, kind, flags, trusted)};
        memcpy(&update->price, rest, sizeof rest);
    }
    return true;
}

static inline bool
mantra_unpack_levels(mantra_pack_reader *from, const mantra_pack_source *sources, const mantra_unpack_row *rows,
                     mantra_unpacked *to)
{
    uint64_t levels = 0;
    for (uint32_t s = 0; s < from->block->sources; s++) {
        mantra_pack_begin(&from->book, &sources[s]);
        memcpy(from->units, sources[s].units, sizeof from->units);
        for (uint32_t i = 0; i < sources[s].rows; i++) {
            const mantra_unpack_row *row = &rows[sources[s].first + i];
            if ((row->head & 7) == MANTRA_ROW_IMAGE) {
                mantra_pack_image *image = &to->images[row->out];
                image->levels = to->levels + levels;
                levels += row->count;
                if (!mantra_unpack_image(from, row, image))
                    return false;
            } else if (!mantra_unpack_updates(from, &sources[s], row, (mantra_update *)to->messages + row->out)) {
                return false;
            }
        }
    }
    bool broken = false;
    for (int i = MANTRA_PACK_RANK; i <= MANTRA_PACK_ODD_BITS; i++)
        broken = broken || from->column[i].broken;
    return !broken;
}

static inline bool
mantra_unpack_fields(mantra_pack_reader *from, const mantra_layout *layout, const uint32_t *order, uint8_t *messages)
{
    mantra_reader *bits = &from->column[MANTRA_PACK_FIELD_BITS];
    mantra_field field;
    for (uint32_t n = 0; mantra_pack_field(layout, n, &field); n++) {
        const uint32_t column = MANTRA_PACK_FIELDS + n;
        const uint64_t unit = mantra_pack_units[from->block->unit[column] & 3];
        uint64_t last = 0;
        for (uint32_t i = 0; i < from->block->rows; i++) {
            const uint64_t number = mantra_signed_get(&from->column[column], bits) * unit;
            last = from->block->plain[column] ? number : last + number;
            memcpy(messages + layout->size * order[i] + field.offset, &last, field.size);
        }
        if (from->column[column].broken)
            return false;
    }
    return !bits->broken;
}

/* Unpack `block` (foreign bytes: columns with MANTRA_COLUMN_SLACK behind them) to where `to` says, which has room for what
 * the block counts. 0; -1: it is damaged; -2: not enough memory. */
static inline int
mantra_unpack(const mantra_block *block, const mantra_layout *layout, mantra_unpacked *to)
{
    const bool updates = strcmp(layout->name, "update") == 0;
    const size_t size = layout->size, rows_room = (size_t)block->rows + 1, sources_room = (size_t)block->sources + 1;
    if (block->columns != mantra_pack_columns_of(layout) || block->messages > MANTRA_PACK_MOST
        || block->images > MANTRA_PACK_MOST || block->image_levels > MANTRA_PACK_MOST
        || block->rows > block->messages + block->images || block->sources > block->rows)
        return -1;
    int result = -2;
    mantra_pack_source *sources = malloc(sources_room * sizeof *sources);
    mantra_unpack_row *rows = updates ? malloc(rows_room * sizeof *rows) : NULL;
    uint32_t *order = malloc(rows_room * sizeof *order), *taken = malloc(sources_room * sizeof *taken);
    uint64_t *next = calloc(MANTRA_PACK_FEEDS, sizeof *next);
    mantra_pack_reader *from = calloc(1, sizeof *from);
    int64_t *keys = malloc(2 * MANTRA_PACK_BOOK * sizeof *keys);
    if (!sources || (updates && !rows) || !order || !taken || !next || !from || !keys)
        goto done;
    result = -1;
    from->block = block;
    from->book.sides[0].keys = keys;
    from->book.sides[1].keys = keys + MANTRA_PACK_BOOK;
    for (uint32_t i = 0; i < block->columns; i++)
        from->column[i] = mantra_pack_reader_of(block, i, i == MANTRA_PACK_STREAM_BITS || (updates
            ? i == MANTRA_PACK_ROW_BITS || i == MANTRA_PACK_LEVEL_BITS || i == MANTRA_PACK_ODD_BITS
            : i == MANTRA_PACK_FIELD_BITS));
    if (!mantra_unpack_sources(block, sources) || (updates && !mantra_unpack_rows(from, rows))
        || (!updates && (block->rows != block->messages || block->images || block->image_levels))
        || !mantra_unpack_stream(from, sources, rows, order, taken, next, size, to))
        goto done;
    if (updates ? mantra_unpack_levels(from, sources, rows, to) : mantra_unpack_fields(from, layout, order, to->messages))
        result = 0;
done:
    free(sources);
    free(rows);
    free(order);
    free(taken);
    free(next);
    free(from);
    free(keys);
    return result;
}

#endif
