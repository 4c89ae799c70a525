/* messages.h - every message, declared once.
 *
 * A message is a field list; its struct, its field table (offset, size, type: what numpy dtypes, Cython and archive
 * headers are derived from) and its layout fingerprint all come from that list. A queue or vector slot is the
 * seqlock's version word followed by the message, so a message is a multiple of 64 bytes less 8:
 *
 *   0         8        16          24
 *   | version | origin | published | payload ...      version: the slot's, not part of the struct
 *
 *   origin      cycles when the first bytes that led to this message arrived (see clock.h)
 *   published   cycles from origin to publishing << 16 | publisher id
 *
 * Prices are ticks, sizes are lots: integers on the instrument's own scale. Times are UTC nanoseconds. */
#ifndef MANTRA_MESSAGES_H
#define MANTRA_MESSAGES_H

#include "mantra/base.h"

/* How far a book can be trusted; larger is better, so that a policy is one comparison. */
enum {
    MANTRA_DOWN = 0,        /* not connected */
    MANTRA_STALE = 1,       /* nothing heard for longer than the feed's rule allows */
    MANTRA_SUSPECT = 2,     /* a gap, a cross, a failed checksum, or not yet synchronised */
    MANTRA_UNVERIFIED = 3,  /* this venue gives no proof */
    MANTRA_VERIFIED = 4,    /* the venue's checksum or an unbroken sequence says so */
};

/* Why a book is trusted less than it could be (mantra_top.reason). */
enum {
    MANTRA_REASON_NONE = 0,
    MANTRA_REASON_SYNCHRONISING = 1,
    MANTRA_REASON_GAP = 2,
    MANTRA_REASON_CROSSED = 3,
    MANTRA_REASON_MALFORMED = 4,
    MANTRA_REASON_SCALE = 5,        /* text finer than the scale, or overflow */
    MANTRA_REASON_FULL = 6,         /* more levels than the ceiling allows */
    MANTRA_REASON_SILENT = 7,
    MANTRA_REASON_DISCONNECTED = 8,
    MANTRA_REASON_CHECKSUM = 9,
    MANTRA_REASON_CONTRADICTED = 10, /* another word of the venue says otherwise: its best bid and offer, its REST book */
    MANTRA_REASON_REFUSED = 11,      /* the venue does not serve it */
};

/* mantra_update.kind */
enum {
    MANTRA_RESET = 0,       /* book replaced: price = generation; read the levels from the book's image */
    MANTRA_BID = 1,
    MANTRA_ASK = 2,
    MANTRA_TRUST = 3,       /* no level changed, trust did */
};

/* mantra_update.flags. Where trust is told anew (RESET, TRUST, the last update of a message that changed it) the upper
 * four bits say why it is no higher: MANTRA_REASON_*. */
enum { MANTRA_MORE = 1, MANTRA_REASON_SHIFT = 4 }; /* MORE: updates of the same venue message follow */

/* mantra_top.flags */
enum { MANTRA_FROM_SNAPSHOT = 2 }; /* a snapshot led to it: its time was spent on loading, and is no message's latency */

/* mantra_trade.side: the aggressor's; mantra_order.side */
enum { MANTRA_BUY = 1, MANTRA_SELL = 2 };

/* mantra_timing.queue of what did not come from a queue */
enum { MANTRA_SOCKET = 0xFFFF };

/* mantra_actor.state */
enum {
    MANTRA_ACTOR_STARTING = 1,
    MANTRA_ACTOR_RUNNING = 2,
    MANTRA_ACTOR_RESTARTING = 3,
    MANTRA_ACTOR_FAILED = 4,
    MANTRA_ACTOR_STOPPED = 5,
};

#define MANTRA_TRACKING(FIELD, ARRAY) \
    FIELD(uint64_t, origin)           \
    FIELD(uint64_t, published)

/* One level of one book changed; size 0: the level is gone. */
#define MANTRA_UPDATE_FIELDS(FIELD, ARRAY) \
    MANTRA_TRACKING(FIELD, ARRAY)          \
    FIELD(int64_t, price)                  \
    FIELD(int64_t, size)                   \
    FIELD(uint64_t, sequence)              \
    FIELD(int64_t, venue_time_ns)          \
    FIELD(uint32_t, instrument)            \
    FIELD(uint8_t, venue)                  \
    FIELD(uint8_t, kind)                   \
    FIELD(uint8_t, flags)                  \
    FIELD(uint8_t, trust)

#define MANTRA_TRADE_FIELDS(FIELD, ARRAY) \
    MANTRA_TRACKING(FIELD, ARRAY)         \
    FIELD(int64_t, price)                 \
    FIELD(int64_t, size)                  \
    FIELD(uint64_t, trade_id)             \
    FIELD(int64_t, venue_time_ns)         \
    FIELD(uint32_t, instrument)           \
    FIELD(uint8_t, venue)                 \
    FIELD(uint8_t, side)                  \
    FIELD(uint8_t, flags)                 \
    FIELD(uint8_t, trust)

/* An order of a book that is kept order by order, as it is now; size 0: it is gone, from the price it had. order_id 0: all
 * orders known so far are void, and those of a snapshot follow. */
#define MANTRA_ORDER_FIELDS(FIELD, ARRAY) \
    MANTRA_TRACKING(FIELD, ARRAY)         \
    FIELD(int64_t, price)                 \
    FIELD(int64_t, size)                  \
    FIELD(uint64_t, order_id)             \
    FIELD(int64_t, venue_time_ns)         \
    FIELD(uint32_t, instrument)           \
    FIELD(uint8_t, venue)                 \
    FIELD(uint8_t, side)                  \
    FIELD(uint8_t, flags)                 \
    FIELD(uint8_t, trust)

/* The best levels of one venue's book, best first; entries past the counts are zero. */
#define MANTRA_TOP_FIELDS(FIELD, ARRAY)     \
    MANTRA_TRACKING(FIELD, ARRAY)           \
    FIELD(uint64_t, sequence)               \
    FIELD(int64_t, venue_time_ns)           \
    FIELD(int64_t, trust_since_ns)          \
    FIELD(uint32_t, instrument)             \
    FIELD(uint8_t, venue)                   \
    FIELD(uint8_t, trust)                   \
    FIELD(uint8_t, reason)                  \
    FIELD(uint8_t, flags)                   \
    FIELD(uint32_t, generation)             \
    FIELD(uint16_t, bid_count)              \
    FIELD(uint16_t, ask_count)              \
    ARRAY(int64_t, bid_price, MANTRA_DEPTH) \
    ARRAY(int64_t, bid_size, MANTRA_DEPTH)  \
    ARRAY(int64_t, ask_price, MANTRA_DEPTH) \
    ARRAY(int64_t, ask_size, MANTRA_DEPTH)

/* Many venues' tops seen as one book. bid_venues / ask_venues: bit v set where venue v stands behind that level
 * (one bit in a best-bid-and-offer view, several where sizes are summed). trust[v], reason[v], trust_since_s[v]: how far
 * venue v's book can be trusted, why no further, and since when (UTC seconds; all 0: nothing is known of it). */
#define MANTRA_WORLD_FIELDS(FIELD, ARRAY)      \
    MANTRA_TRACKING(FIELD, ARRAY)              \
    FIELD(uint64_t, sequence)                  \
    FIELD(int64_t, venue_time_ns)              \
    FIELD(uint32_t, instrument)                \
    FIELD(uint8_t, venue)                      \
    FIELD(uint8_t, flags)                      \
    FIELD(uint8_t, bid_count)                  \
    FIELD(uint8_t, ask_count)                  \
    ARRAY(uint8_t, trust, MANTRA_MAX_VENUES)   \
    ARRAY(uint8_t, reason, MANTRA_MAX_VENUES)  \
    ARRAY(uint32_t, trust_since_s, MANTRA_MAX_VENUES) \
    ARRAY(int64_t, bid_price, MANTRA_DEPTH)    \
    ARRAY(int64_t, bid_size, MANTRA_DEPTH)     \
    ARRAY(int64_t, ask_price, MANTRA_DEPTH)    \
    ARRAY(int64_t, ask_size, MANTRA_DEPTH)     \
    ARRAY(uint32_t, bid_venues, MANTRA_DEPTH)  \
    ARRAY(uint32_t, ask_venues, MANTRA_DEPTH)  \
    ARRAY(uint64_t, reserved, 4)

/* One scale generation of an instrument. A new generation is a new id, so an id alone fixes the meaning of ticks. */
#define MANTRA_INSTRUMENT_FIELDS(FIELD, ARRAY) \
    MANTRA_TRACKING(FIELD, ARRAY)              \
    ARRAY(uint8_t, name, 32)                   \
    FIELD(uint32_t, instrument)                \
    FIELD(uint16_t, generation)                \
    FIELD(uint8_t, price_decimals)             \
    FIELD(uint8_t, size_decimals)

/* Where time went: one message (or `count` of them, taken at once) as one actor saw it. Tracking is the consumed
 * message's own: so consumed - (origin + delta of published) is what it waited for in its queue. See tracking.h. */
#define MANTRA_TIMING_FIELDS(FIELD, ARRAY) \
    MANTRA_TRACKING(FIELD, ARRAY)          \
    FIELD(uint64_t, consumed)              \
    FIELD(uint64_t, busy)                  \
    FIELD(uint64_t, position)              \
    FIELD(uint16_t, queue)                 \
    FIELD(uint16_t, actor)                 \
    FIELD(uint32_t, count)                 \
    FIELD(uint64_t, reserved)

/* Who is at work in a run; slot of <run>.actors = number = the publisher id in what it publishes. */
#define MANTRA_ACTOR_FIELDS(FIELD, ARRAY) \
    MANTRA_TRACKING(FIELD, ARRAY)         \
    ARRAY(uint8_t, name, 48)              \
    ARRAY(uint8_t, kind, 16)              \
    FIELD(uint64_t, identity)             \
    FIELD(int64_t, started_utc_ns)        \
    FIELD(int64_t, core)                  \
    FIELD(uint32_t, restarts)             \
    FIELD(uint32_t, failures)             \
    FIELD(uint32_t, number)               \
    FIELD(uint8_t, state)                 \
    FIELD(uint8_t, process)               \
    FIELD(uint16_t, reserved)

/* X(struct name, field list) */
#define MANTRA_MESSAGES(X)                \
    X(update, MANTRA_UPDATE_FIELDS)       \
    X(trade, MANTRA_TRADE_FIELDS)         \
    X(order, MANTRA_ORDER_FIELDS)         \
    X(top, MANTRA_TOP_FIELDS)             \
    X(world, MANTRA_WORLD_FIELDS)         \
    X(instrument, MANTRA_INSTRUMENT_FIELDS) \
    X(timing, MANTRA_TIMING_FIELDS)       \
    X(actor, MANTRA_ACTOR_FIELDS)

#define MANTRA_MEMBER(type, name) type name;
#define MANTRA_MEMBERS(type, name, count) type name[count];
#define MANTRA_STRUCT(message, FIELDS) \
    typedef struct mantra_##message { FIELDS(MANTRA_MEMBER, MANTRA_MEMBERS) } mantra_##message; \
    _Static_assert((sizeof(mantra_##message) + 8) % MANTRA_CACHE_LINE == 0, "a slot is whole cache lines");
MANTRA_MESSAGES(MANTRA_STRUCT)

_Static_assert(sizeof(mantra_update) == 56, "one cache line with its version");
_Static_assert(sizeof(mantra_trade) == 56, "one cache line with its version");
_Static_assert(sizeof(mantra_order) == 56, "one cache line with its version");
_Static_assert(sizeof(mantra_timing) == 56, "one cache line with its version");
_Static_assert(sizeof(mantra_top) == 376, "six cache lines with its version");
_Static_assert(sizeof(mantra_world) == 568, "nine cache lines with its version");

#define MANTRA_MESSAGE_MAX sizeof(mantra_world) /* the largest */

/* The word of a message that begins with four bytes and ends in four small fields, as they lie in memory. What is
 * stored by the byte and loaded by the word at once makes a CPU wait until the bytes have left its store buffer,
 * several times longer than a load takes; so the hot path puts words together in a register. */
static inline uint64_t
mantra_word(uint32_t low, uint8_t fourth, uint8_t fifth, uint8_t sixth, uint8_t seventh)
{
    return low | (uint64_t)fourth << 32 | (uint64_t)fifth << 40 | (uint64_t)sixth << 48 | (uint64_t)seventh << 56;
}

/* What the field table says of a field. kind: 'u' unsigned, 'i' signed, as numpy spells them. */
typedef struct mantra_field {
    const char *name;
    uint32_t offset, count;
    uint8_t size;
    char kind;
} mantra_field;

typedef struct mantra_layout {
    const char *name;
    uint32_t size;
    uint32_t field_count;
    const mantra_field *fields;
} mantra_layout;

#define MANTRA_KIND(type) _Generic((type)0, int64_t: 'i', default: 'u')
#define MANTRA_FIELD_OF(message, type, name, count) {#name, offsetof(message, name), count, sizeof(type), MANTRA_KIND(type)},

#define MANTRA_TABLE(message, FIELDS)                                                        \
    static inline const mantra_layout *mantra_layout_##message(void)                         \
    {                                                                                        \
        typedef mantra_##message self;                                                       \
        static const mantra_field fields[] = {FIELDS(MANTRA_SELF_FIELD, MANTRA_SELF_ARRAY)}; \
        static const mantra_layout layout = {#message, sizeof(self), sizeof fields / sizeof *fields, fields}; \
        return &layout;                                                                      \
    }
#define MANTRA_SELF_FIELD(type, name) MANTRA_FIELD_OF(self, type, name, 1)
#define MANTRA_SELF_ARRAY(type, name, count) MANTRA_FIELD_OF(self, type, name, count)
MANTRA_MESSAGES(MANTRA_TABLE)

/* All layouts, by index; NULL past the last. */
static inline const mantra_layout *
mantra_layout_at(size_t index)
{
#define MANTRA_LAYOUT_CALL(message, FIELDS) mantra_layout_##message(),
    const mantra_layout *const layouts[] = {MANTRA_MESSAGES(MANTRA_LAYOUT_CALL)};
    return index < sizeof layouts / sizeof *layouts ? layouts[index] : NULL;
}

/* FNV-1a over every name, offset, size, kind and count: two builds that disagree on a layout disagree on this. */
static inline uint64_t
mantra_fingerprint_bytes(uint64_t hash, const void *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ ((const uint8_t *)bytes)[i]) * 1099511628211u;
    return hash;
}

static inline uint64_t
mantra_fingerprint(const mantra_layout *layout)
{
    uint64_t hash = mantra_fingerprint_bytes(14695981039346656037u, layout->name, strlen(layout->name));
    for (uint32_t i = 0; i < layout->field_count; i++) {
        const mantra_field *field = &layout->fields[i];
        const uint32_t numbers[] = {field->offset, field->count, field->size, (uint32_t)field->kind};
        hash = mantra_fingerprint_bytes(hash, field->name, strlen(field->name));
        hash = mantra_fingerprint_bytes(hash, numbers, sizeof numbers);
    }
    return hash;
}

/* published = delta << 16 | publisher. A delta past 2^48 cycles (a day) is cut to it. */
static inline uint64_t
mantra_pack_published(uint64_t delta, uint16_t publisher)
{
    return mantra_min_u64(delta, (UINT64_C(1) << 48) - 1) << 16 | publisher;
}

#endif
