/* fuzz_bitfinex.c - the bitfinex decoder, a connection a line a message: any bytes are a verdict, never a wrong value nor a
 * read past the padding, and never more routes than there is room for. */
#include "fuzz.h"
#include "mantra/decode_bitfinex.h"

enum { ROUTES = 6 };

/* The channels that inputs may count on; a decoder minds the books of its own kind. */
static const char *const acknowledged[] = {
    "{\"event\":\"subscribed\",\"channel\":\"book\",\"chanId\":1,\"symbol\":\"tETHBTC\",\"prec\":\"P0\"}",
    "{\"event\":\"subscribed\",\"channel\":\"trades\",\"chanId\":2,\"symbol\":\"tETHBTC\"}",
    "{\"event\":\"subscribed\",\"channel\":\"book\",\"chanId\":3,\"symbol\":\"tBTCUSD\",\"prec\":\"R0\"}",
    "{\"event\":\"subscribed\",\"channel\":\"ticker\",\"chanId\":4,\"symbol\":\"tBTCUSD\"}",
};

static int
decode(mantra_decoder *decoder, const char *front, const void *data, size_t size, const char *padding)
{
    const size_t more = strlen(front);
    uint8_t *whole = malloc(more + size + 1);
    memcpy(whole, front, more);
    if (size)
        memcpy(whole + more, data, size);
    char *text = fuzz_text(whole, more + size, padding);
    const int kind = mantra_decode_bitfinex(decoder, text, more + size);
    CHECK(kind >= MANTRA_TOO_MANY && kind <= MANTRA_ORDER_BOOK && kind != MANTRA_IMAGE && kind != MANTRA_UNCHANGED);
    CHECK(kind == MANTRA_MALFORMED || fuzz_valid(text, more + size));
    CHECK(kind != MANTRA_MALFORMED || !decoder->numbered || fuzz_valid(text, more + size));
    CHECK(decoder->book < 2 || decoder->book == UINT32_MAX);
    CHECK(decoder->route_count <= ROUTES);
    free(text);
    free(whole);
    return kind;
}

/* The whole input as a connection of books kept by level, or by order. */
static void
connection(const uint8_t *data, size_t size, bool raw)
{
    static const char *const names[][2] = {{"tETHBTC", "tBTCUSD"}};
    static fuzz_decoder first, second, third;
    static mantra_route routes[3][ROUTES];
    static mantra_order_change orders[3][FUZZ_CHANGES];
    fuzz_decoder *const all[] = {&first, &second, &third};
    for (unsigned i = 0; i < 3; i++) {
        mantra_decoder *decoder = &all[i]->decoder;
        fuzz_decoder_init(all[i], names, 1, 0);
        decoder->routes = routes[i];
        decoder->route_capacity = ROUTES;
        decoder->orders = raw ? orders[i] : NULL;
        decoder->order_capacity = FUZZ_CHANGES;
        for (unsigned k = 0; k < 4; k++)
            CHECK(decode(decoder, "", acknowledged[k], strlen(acknowledged[k]), FUZZ_PADDING_A) == MANTRA_CONTROL);
    }
    const uint8_t *at = data, *const end = data + size;
    while (at < end) {
        const uint8_t *newline = memchr(at, '\n', (size_t)(end - at));
        const size_t length = (size_t)((newline ? newline : end) - at);
        mantra_decoder *a = &first.decoder, *b = &second.decoder;
        const int kind = decode(a, "", at, length, FUZZ_PADDING_A);
        fuzz_same(kind, a, decode(b, "", at, length, FUZZ_PADDING_B), b);
        fuzz_same(kind, a, decode(&third.decoder, " ", at, length, FUZZ_PADDING_B), &third.decoder);
        CHECK(a->numbered == b->numbered && a->number == b->number && a->book == b->book && a->flags == b->flags);
        CHECK(a->checked == b->checked && (!a->checked || a->checksum == b->checksum));
        CHECK(kind != MANTRA_ORDERS || (a->order_count == 1 && a->order_count == b->order_count) || a->flags);
        for (uint32_t i = 0; (kind == MANTRA_ORDERS || kind == MANTRA_ORDER_BOOK) && i < a->order_count; i++) {
            CHECK(a->orders[i].id && a->orders[i].price >= 0 && a->orders[i].size >= 0);
            CHECK(a->orders[i].id == b->orders[i].id && a->orders[i].price == b->orders[i].price);
            CHECK(a->orders[i].size == b->orders[i].size && a->orders[i].kind == b->orders[i].kind);
        }
        CHECK(a->route_count == b->route_count && a->route_count == third.decoder.route_count);
        at += length + (newline != NULL);
    }
    char *text = fuzz_text(data, size, FUZZ_PADDING_B);
    first.decoder.book = 1;
    const int kind = mantra_decode_bitfinex_snapshot(&first.decoder, text, size);
    CHECK(kind <= 0 || kind == MANTRA_IMAGE);
    CHECK(kind == MANTRA_MALFORMED || fuzz_valid(text, size));
    free(text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    connection(data, size, false);
    connection(data, size, true);
    return 0;
}
