/* fuzz_bitstamp.c - the bitstamp decoder, for books kept by level and by order: any bytes are a verdict, never a wrong
 * value nor a read past the padding. */
#include "fuzz.h"
#include "mantra/decode_bitstamp.h"

static const char *const names[][2] = {{"ethbtc", "btcusd"}};

static void
same_orders(const mantra_decoder *a, const mantra_decoder *b)
{
    CHECK(a->order_count == b->order_count && a->linked == b->linked);
    CHECK(!a->linked || (memcmp(a->link, b->link, sizeof a->link) == 0 && memcmp(a->before, b->before, sizeof a->link) == 0));
    for (uint32_t i = 0; i < a->order_count; i++) {
        CHECK(a->orders[i].id && a->orders[i].price > 0 && a->orders[i].size >= 0);
        CHECK(a->orders[i].id == b->orders[i].id && a->orders[i].price == b->orders[i].price);
        CHECK(a->orders[i].size == b->orders[i].size && a->orders[i].kind == b->orders[i].kind);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static fuzz_decoder first, second;
    static mantra_order_change orders[2][FUZZ_CHANGES];
    fuzz_decode(mantra_decode_bitstamp, mantra_decode_bitstamp_snapshot, names, 1, data, size);
    fuzz_decoder_init(&first, names, 1, 0);
    fuzz_decoder_init(&second, names, 1, 0);
    mantra_decoder *a = &first.decoder, *b = &second.decoder;
    a->orders = orders[0];
    b->orders = orders[1];
    a->order_capacity = b->order_capacity = FUZZ_CHANGES;
    char *texts[2] = {fuzz_text(data, size, FUZZ_PADDING_A), fuzz_text(data, size, FUZZ_PADDING_B)};
    int kind = mantra_decode_bitstamp(a, texts[0], size);
    fuzz_same(kind, a, mantra_decode_bitstamp(b, texts[1], size), b);
    CHECK(kind == MANTRA_MALFORMED || fuzz_valid(texts[0], size));
    if (kind == MANTRA_ORDERS)
        same_orders(a, b);
    a->book = b->book = 1;
    kind = mantra_decode_bitstamp_snapshot(a, texts[0], size);
    fuzz_same(kind, a, mantra_decode_bitstamp_snapshot(b, texts[1], size), b);
    CHECK(kind == MANTRA_MALFORMED || fuzz_valid(texts[0], size));
    if (kind == MANTRA_ORDER_BOOK)
        same_orders(a, b);
    free(texts[0]);
    free(texts[1]);
    return 0;
}
