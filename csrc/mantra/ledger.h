/* ledger.h - what arrived and what went missing, counted per feed and per book, readable from other processes.
 *
 *   0          8      64
 *   | capacity | used | row | row | ...    row: | name[48] | venue | feed | instrument | - | counters ... |, whole lines
 *
 * A run has two: a row per feed (<run>.ledger), and a row per book (<run>.books), which says whose feed's row is at
 * work on it. A row has one writer, the feed's own thread: an addition is a plain load and store. Only what audits and
 * readers of its queues count is not that thread's, and is added atomically. Readers see every counter whole; two
 * counters read together may be a message apart. */
#ifndef MANTRA_LEDGER_H
#define MANTRA_LEDGER_H

#include "mantra/seqlock.h"

/* COUNT(name, what it counts): only ever grows. GAUGE(name, what it says): the latest value. */
#define MANTRA_LEDGER_COUNTERS(COUNT, GAUGE)                                                                           \
    COUNT(frames, "WebSocket frames received, control frames among them")                                              \
    COUNT(messages, "venue messages decoded")                                                                          \
    COUNT(updates, "level updates published")                                                                          \
    COUNT(trades, "trades published")                                                                                  \
    COUNT(tops, "tops published")                                                                                      \
    COUNT(bytes, "payload received")                                                                                   \
    COUNT(control, "messages handed to the subscriber")                                                                \
    COUNT(malformed, "refused: not what the venue documents")                                                          \
    COUNT(gaps, "holes in a sequence: a resync each")                                                                  \
    COUNT(lost, "sequence numbers in these holes: messages that never came")                                           \
    COUNT(trade_gaps, "trade ids that never came")                                                                     \
    COUNT(resyncs, "books taken anew from a snapshot")                                                                 \
    COUNT(reconnects, "connections made after the first")                                                              \
    COUNT(checksums_ok, "checksums that agreed")                                                                       \
    COUNT(checksums_failed, "checksums that did not: the book is taken anew")                                          \
    COUNT(witnessed, "best levels that the venue's own word on them confirmed")                                        \
    COUNT(contradicted, "times that another word of the venue (its best bid and offer, its REST book) said otherwise") \
    COUNT(unknown_deletes, "removals of levels that the book did not have")                                            \
    COUNT(unpriced, "levels of price 0 or less, left out")                                                             \
    COUNT(crosses, "messages that left a book crossed")                                                                \
    COUNT(finer, "numbers finer than the scale, or overflowing it")                                                    \
    COUNT(unknown_symbols, "messages for symbols this feed does not have")                                             \
    COUNT(old_dropped, "diffs older than the book's image, as the venue says to drop")                                 \
    COUNT(buffered, "diffs kept while waiting for a snapshot")                                                         \
    COUNT(overflowed, "diffs that this buffer had no room for")                                                        \
    COUNT(unchanged, "images whose first levels had not changed")                                                      \
    COUNT(protocol_errors, "frames that break RFC 6455: the connection ends")                                          \
    COUNT(full, "levels that a book at its ceiling refused")                                                           \
    COUNT(overruns, "messages overwritten before an aggregator or a capture came")                                     \
    COUNT(unwritten, "messages that a capture had no room for: its disk was full, or too slow")                        \
    COUNT(connects, "connections made")                                                                                \
    COUNT(refused, "connections or subscriptions that the venue refused")                                              \
    COUNT(down_ns, "time without a connection")                                                                        \
    COUNT(distrusted_ns, "time trusted less than unverified, until trust came back")                                   \
    COUNT(audits, "comparisons with the venue's REST book")                                                            \
    COUNT(audited, "levels compared by them")                                                                          \
    COUNT(agreed, "levels of these that were as the venue says")                                                       \
    GAUGE(last_receive_utc_ns, "when the last bytes arrived")                                                          \
    GAUGE(state, "what the connection is doing: MANTRA_FEED_...")                                                      \
    GAUGE(state_since_utc_ns, "since when it does")

enum {
#define MANTRA_COUNT_ENUM(name, text) MANTRA_COUNT_##name,
    MANTRA_LEDGER_COUNTERS(MANTRA_COUNT_ENUM, MANTRA_COUNT_ENUM)
    MANTRA_COUNTERS
};

/* The counters' names in their order, and what they say; NULL past the last. */
static inline const char *
mantra_counter_name(uint32_t counter)
{
#define MANTRA_COUNT_NAME(name, text) #name,
    static const char *const names[] = {MANTRA_LEDGER_COUNTERS(MANTRA_COUNT_NAME, MANTRA_COUNT_NAME)};
    return counter < MANTRA_COUNTERS ? names[counter] : NULL;
}

static inline const char *
mantra_counter_text(uint32_t counter)
{
#define MANTRA_COUNT_TEXT(name, text) text,
    static const char *const texts[] = {MANTRA_LEDGER_COUNTERS(MANTRA_COUNT_TEXT, MANTRA_COUNT_TEXT)};
    return counter < MANTRA_COUNTERS ? texts[counter] : NULL;
}

/* What a feed's connection is doing. Whether its books can be trusted is another question: see messages.h. */
enum {
    MANTRA_FEED_OFF = 0,
    MANTRA_FEED_CONNECTING = 1,
    MANTRA_FEED_SUBSCRIBING = 2,
    MANTRA_FEED_SYNCHRONISING = 3,
    MANTRA_FEED_LIVE = 4,
    MANTRA_FEED_WAITING = 5,     /* before it connects again */
    MANTRA_FEED_REFUSED = 6,     /* the venue does not want us; nobody tries again */
};

#define MANTRA_LEDGER_NAME 48

typedef struct mantra_ledger_row {
    _Alignas(MANTRA_CACHE_LINE) char name[MANTRA_LEDGER_NAME];
    uint32_t venue;
    _Atomic uint32_t feed;       /* index of the feed's row in the run's ledger of feeds; a feed's own is its own */
    _Atomic uint32_t instrument; /* of a book; a feed's row has none */
    uint32_t unused;
    _Atomic uint64_t counters[MANTRA_COUNTERS];
} mantra_ledger_row;

typedef struct mantra_ledger {
    uint64_t capacity;
    _Atomic uint64_t used;
    mantra_ledger_row rows[];
} mantra_ledger;

_Static_assert(offsetof(mantra_ledger, rows) == MANTRA_CACHE_LINE, "rows are whole lines: two writers share none");
_Static_assert(offsetof(mantra_ledger_row, counters) == MANTRA_CACHE_LINE, "what is counted begins a line");

static inline size_t
mantra_ledger_bytes(uint64_t rows)
{
    return sizeof(mantra_ledger) + (size_t)rows * sizeof(mantra_ledger_row);
}

static inline void
mantra_ledger_add(mantra_ledger_row *row, uint32_t counter, uint64_t n)
{
    _Atomic uint64_t *word = &row->counters[counter];
    atomic_store_explicit(word, atomic_load_explicit(word, memory_order_relaxed) + n, memory_order_relaxed);
}

/* The same where many may count at once. */
static inline void
mantra_ledger_add_shared(mantra_ledger_row *row, uint32_t counter, uint64_t n)
{
    atomic_fetch_add_explicit(&row->counters[counter], n, memory_order_relaxed);
}

static inline void
mantra_ledger_set(mantra_ledger_row *row, uint32_t counter, uint64_t value)
{
    atomic_store_explicit(&row->counters[counter], value, memory_order_relaxed);
}

static inline uint64_t
mantra_ledger_get(const mantra_ledger_row *row, uint32_t counter)
{
    return atomic_load_explicit(&row->counters[counter], memory_order_relaxed);
}

static inline uint64_t
mantra_ledger_used(const mantra_ledger *ledger)
{
    return mantra_min_u64(atomic_load_explicit(&ledger->used, memory_order_acquire), ledger->capacity);
}

/* Whose row it is: the feed that counts here may change, and so may the scale of a book's instrument. */
static inline void
mantra_ledger_assign(mantra_ledger_row *row, uint32_t feed, uint32_t instrument)
{
    atomic_store_explicit(&row->feed, feed, memory_order_relaxed);
    atomic_store_explicit(&row->instrument, instrument, memory_order_relaxed);
}

/* The first `rows` rows as they are now. */
static inline void
mantra_ledger_copy(const mantra_ledger *ledger, uint64_t rows, void *out)
{
    mantra_words_load((const _Atomic uint64_t *)(const void *)ledger->rows, out,
                      (size_t)rows * (sizeof(mantra_ledger_row) / 8));
}

/* Take the next free row; NULL when there is none. Only the ledger's owner adds rows, one thread at a time. A reader
 * sees a row once it is named. */
static inline mantra_ledger_row *
mantra_ledger_claim(mantra_ledger *ledger, const char *name, size_t name_bytes, uint32_t venue, uint32_t feed,
                    uint32_t instrument)
{
    const uint64_t used = mantra_ledger_used(ledger);
    if (used >= ledger->capacity || name_bytes >= MANTRA_LEDGER_NAME)
        return NULL;
    mantra_ledger_row *row = &ledger->rows[used];
    memset(row->name, 0, sizeof row->name);
    memcpy(row->name, name, name_bytes);
    row->venue = venue;
    mantra_ledger_assign(row, feed, instrument);
    atomic_store_explicit(&ledger->used, used + 1, memory_order_release);
    return row;
}

#endif
