/* decode.h - what a venue's decoder is given and what it answers.
 *
 * A decoder reads one venue message (JSON text) completely, and only then may anything be applied: malformed text is an
 * error before it can be half a book. It fills `changes` or `trades` (capacity given; allocated by the feed) and the
 * numbers below, and says what kind of message it was. It knows text, not books: sequence rules live in hot_path.h.
 *
 * A message about several books is decoded in parts: each call answers one, and `rest` tells where to go on.
 *
 *   decoder->rest = NULL;
 *   do kind = decode(decoder, text, size); while (decoder->rest);      the first call checks the whole text */
#ifndef MANTRA_DECODE_H
#define MANTRA_DECODE_H

#include "mantra/orders.h"
#include "mantra/messages.h"
#include "mantra/symbols.h"
#include "mantra/ticks.h"

/* What a message was. Negative: nothing of it may be used. */
enum {
    MANTRA_IGNORED = 0,       /* understood, of no interest (a channel we did not ask for, a heartbeat's answer) */
    MANTRA_DIFF = 1,          /* changes to a book */
    MANTRA_IMAGE = 2,         /* all levels read replace the book (partial-depth stream, or a snapshot) */
    MANTRA_TRADES = 3,
    MANTRA_UNCHANGED = 4,     /* an image whose first levels are the same bytes as last time */
    MANTRA_CONTROL = 5,       /* acknowledgement, error, restart notice: for the subscriber, in Python */
    MANTRA_SNAPSHOT = 6,      /* the whole book, in the stream: replaces it */
    MANTRA_CHECKSUM = 7,      /* nothing but a checksum of the book as it stands */
    MANTRA_HEARTBEAT = 8,     /* nothing but life: of the channel of `book`, or of the connection (UINT32_MAX) */
    MANTRA_EARLY = 9,         /* of a channel not acknowledged yet: to be decoded again when one is (`routed`) */
    MANTRA_WITNESS = 10,      /* the best levels as they are at `last`, says the venue: compared, never applied */
    MANTRA_ORDERS = 11,       /* orders that changed: the levels follow from them */
    MANTRA_ORDER_BOOK = 12,   /* all orders there are: they replace the book */
    /* -1 and -2: MANTRA_MALFORMED and MANTRA_FINER, from ticks.h */
    MANTRA_UNKNOWN = -3,      /* a symbol this feed does not have */
    MANTRA_TOO_MANY = -4,     /* more changes than there is room for */
};

typedef struct mantra_print {
    int64_t price, size;
    uint64_t trade_id;
    int64_t venue_time_ns;
    uint8_t side;        /* the aggressor's: MANTRA_BUY, MANTRA_SELL */
} mantra_print;

/* The text of the first levels of a book's last image, to notice that nothing changed. One per book; zeroed means that
 * nothing is known, and a feed zeroes it whenever it drops the book. The bytes themselves are kept, not a hash:
 * comparing them is exact, and faster than hashing, since it needs no look at where the levels end. */
#define MANTRA_IMAGE_BYTES 1008
typedef struct mantra_image_text {
    uint32_t bytes_bids, bytes_asks;
    char text[MANTRA_IMAGE_BYTES]; /* bids, then asks; levels that do not fit are decoded every time */
} mantra_image_text;

/* Where a channel's messages go that name but a number, dealt anew on every connection. */
typedef struct mantra_route {
    uint64_t channel;
    uint32_t book;
    uint8_t kind;        /* the decoder's own */
} mantra_route;

#define MANTRA_LINK_BYTES 40 /* of the name of an event in a chain, behind which are zeros */

typedef struct mantra_decoder {
    /* given by the feed */
    const mantra_symbols *symbols;    /* venue spelling -> index of the book */
    const mantra_scale *scales;       /* by index of the book */
    mantra_image_text *images;        /* by index of the book; for MANTRA_UNCHANGED */
    uint32_t depth;                   /* levels per side to read of an image; the rest is skipped. 0: all */
    mantra_change *changes;
    uint32_t change_capacity;
    mantra_print *trades;
    uint32_t trade_capacity;
    mantra_order_change *orders;      /* NULL: books are kept by level, and messages about orders are of no interest */
    uint32_t order_capacity;
    /* answered */
    uint32_t book;                    /* index of the book */
    uint32_t change_count, trade_count, order_count;
    uint32_t unpriced;                /* levels of price 0 or less, left out: nobody can trade there, yet venues send them */
    uint64_t first, last;             /* venue sequence range of a diff or image (equal where the venue has but one) */
    int64_t venue_time_ns;            /* UTC; 0 where the message has none */
    const char *rest;                 /* the next part of this message; NULL: there is none, or a message begins */
    uint64_t number;                  /* of the message among all of its connection, if `numbered` */
    uint32_t checksum;                /* the venue's, of the book after this part, if `checked` */
    bool numbered, checked;
    bool history;                     /* these trades were made before we asked: news only to who missed them */
    bool linked;                      /* `link` names this message, `before` the one before it of the same book */
    char link[MANTRA_LINK_BYTES], before[MANTRA_LINK_BYTES];
    bool routed;                      /* a channel was acknowledged: what was early may be decoded now */
    /* kept from message to message; zeroed by the feed on a new connection, except `printed` */
    uint64_t flags;                   /* the decoder's own: how this connection talks */
    mantra_route *routes;
    uint32_t route_count, route_capacity;
    mantra_scale *printed;            /* by index of the book: decimals that the venue prints, where a checksum is of text */
    void *context;                    /* the decoder's own (one written in Python) */
} mantra_decoder;

/* Decode one message of `size` bytes; MANTRA_PADDING readable bytes follow it. Returns one of the kinds above. */
typedef int (*mantra_decode)(mantra_decoder *decoder, const char *text, size_t size);

/* The venue's checksum of decoder->book as it stands in `book`. */
typedef uint32_t (*mantra_checksum)(const mantra_decoder *decoder, const mantra_book *book);
typedef uint32_t (*mantra_orders_checksum)(const mantra_orders *orders, mantra_scale scale);

#endif
