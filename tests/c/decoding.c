/* A venue's decoder with the memory that a feed gives it, for callers who are no feed. */
#include <stdlib.h>
#include <time.h>

#include "mantra/decoders.h"

enum { CHANGES = 65536, TRADES = 1024, SYMBOLS = 4096, BOOKS = 1024, ROUTES = 64 };

typedef struct decoding {
    mantra_decoder decoder;
    const mantra_dialect *dialect;
    mantra_symbols symbols;
    mantra_symbol slots[SYMBOLS];
    mantra_scale scales[BOOKS], printed[BOOKS];
    mantra_route routes[ROUTES];
    mantra_image_text images[BOOKS];
    mantra_change changes[CHANGES];
    mantra_print trades[TRADES];
} decoding;

decoding *
decoding_new(const char *venue, uint32_t depth)
{
    decoding *d = calloc(1, sizeof *d);
    if (d == NULL)
        return NULL;
    const mantra_dialect *dialect = mantra_dialect_named(venue);
    if (dialect == NULL) {
        free(d);
        return NULL;
    }
    mantra_symbols_init(&d->symbols, d->slots, SYMBOLS);
    d->dialect = dialect;
    d->decoder = (mantra_decoder){
        .symbols = &d->symbols, .scales = d->scales, .images = d->images, .depth = depth, .changes = d->changes,
        .change_capacity = CHANGES, .trades = d->trades, .trade_capacity = TRADES, .printed = d->printed, .routes = d->routes, .route_capacity = ROUTES};
    return d;
}

size_t
decoding_size(void)
{
    return sizeof(mantra_decoder);
}

void
decoding_free(decoding *d)
{
    free(d);
}

int
decoding_spell(decoding *d, const char *symbol, size_t size, int32_t book, uint8_t price_decimals, uint8_t size_decimals)
{
    d->scales[book] = (mantra_scale){price_decimals, size_decimals};
    return mantra_symbols_add(&d->symbols, symbol, size, book);
}

int
decoding_message(decoding *d, const char *text, size_t size)
{
    return d->dialect->message(&d->decoder, text, size);
}

int
decoding_snapshot(decoding *d, const char *text, size_t size, uint32_t book)
{
    d->decoder.book = book;
    return d->dialect->snapshot(&d->decoder, text, size);
}

/* The venue's checksum of a book of these levels, on the scale of book `book`. */
uint32_t
decoding_checksum(decoding *d, uint32_t book, const mantra_change *levels, size_t count)
{
    static _Alignas(MANTRA_CACHE_LINE) uint8_t memory[1 << 20];
    mantra_book whole;
    mantra_book_init(&whole, memset(memory, 0, sizeof memory), 4096, 4096, 0, 0);
    d->decoder.book = book;
    return mantra_book_load(&whole, levels, count) ? 0 : d->dialect->checksum(&d->decoder, &whole);
}

/* Nanoseconds for all texts once. */
uint64_t
decoding_time(decoding *d, const char *const *texts, const size_t *sizes, size_t count)
{
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (size_t i = 0; i < count; i++) {
        d->decoder.rest = NULL;
        do
            d->dialect->message(&d->decoder, texts[i], sizes[i]);
        while (d->decoder.rest);
    }
    clock_gettime(CLOCK_MONOTONIC, &to);
    return (uint64_t)((to.tv_sec - from.tv_sec) * 1000000000 + to.tv_nsec - from.tv_nsec);
}

/* value * 10^-decimals as JavaScript prints it. */
size_t
decoding_javascript_size(char *out, int64_t value, uint8_t decimals)
{
    return mantra_bitfinex_print(out, value, decimals);
}
