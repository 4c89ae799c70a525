/* fuzz.h - what the fuzz targets share: text in memory of its own, so that a read past its padding is caught, and a
 * decoder with all its room.
 *
 * Every target reads its input before two kinds of padding that both tempt: what follows the text never counts. */
#ifndef MANTRA_FUZZ_H
#define MANTRA_FUZZ_H

#include "check.h"
#include "mantra/levels.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline char *
fuzz_text(const uint8_t *data, size_t size, const char *padding)
{
    char *text = malloc(size + MANTRA_PADDING);
    size_t length = strlen(padding);
    if (size)
        memcpy(text, data, size);
    for (size_t i = 0; i < MANTRA_PADDING; i++)
        text[size + i] = padding[i % length];
    return text;
}
#define FUZZ_PADDING_A "1234567890"
#define FUZZ_PADDING_B "]]}\",\"a\":[[\"1"

#define FUZZ_CHANGES 256

typedef struct fuzz_decoder {
    mantra_decoder decoder;
    mantra_symbol slots[16];
    mantra_symbols symbols;
    mantra_scale scales[2], printed[2];
    mantra_image_text images[2];
    mantra_change changes[FUZZ_CHANGES];
    mantra_print trades[2];
    mantra_route routes[4];
} fuzz_decoder;

/* Two books under each of the names; book 1 has the coarser scale. */
static inline void
fuzz_decoder_init(fuzz_decoder *fuzz, const char *const names[][2], size_t count, uint32_t depth)
{
    memset(fuzz, 0, sizeof *fuzz);
    mantra_symbols_init(&fuzz->symbols, fuzz->slots, 16);
    for (size_t i = 0; i < count; i++)
        for (int32_t book = 0; book < 2; book++)
            CHECK(mantra_symbols_add(&fuzz->symbols, names[i][book], strlen(names[i][book]), book) == 0);
    fuzz->scales[0] = (mantra_scale){8, 8};
    fuzz->scales[1] = (mantra_scale){2, 5};
    fuzz->decoder = (mantra_decoder){.symbols = &fuzz->symbols, .scales = fuzz->scales, .images = fuzz->images,
                                     .depth = depth, .changes = fuzz->changes, .change_capacity = FUZZ_CHANGES,
                                     .trades = fuzz->trades, .trade_capacity = 2, .printed = fuzz->printed,
                                     .routes = fuzz->routes, .route_capacity = 4};
}

/* Same kind, and what counts for that kind is equal. */
static inline void
fuzz_same(int kind, const mantra_decoder *a, int other, const mantra_decoder *b)
{
    CHECK(kind == other);
    if (kind <= 0 || kind == MANTRA_CONTROL || kind == MANTRA_HEARTBEAT || kind == MANTRA_EARLY)
        return;
    CHECK(a->book == b->book && a->first == b->first && a->last == b->last && a->venue_time_ns == b->venue_time_ns);
    CHECK(a->change_count == b->change_count && a->trade_count == b->trade_count);
    CHECK(a->checked == b->checked && (!a->checked || a->checksum == b->checksum) && a->history == b->history);
    for (uint32_t i = 0; i < a->change_count; i++) {
        CHECK(a->changes[i].price == b->changes[i].price && a->changes[i].size == b->changes[i].size);
        CHECK(a->changes[i].kind == b->changes[i].kind && a->changes[i].size >= 0);
        CHECK(a->changes[i].price > 0 || kind == MANTRA_WITNESS); /* 0: nobody stands on that side */
    }
    for (uint32_t i = 0; i < a->trade_count; i++)
        CHECK(a->trades[i].price == b->trades[i].price && a->trades[i].size == b->trades[i].size &&
              a->trades[i].side == b->trades[i].side && a->trades[i].trade_id == b->trades[i].trade_id);
}

/* Is this text one well-formed document? */
static inline bool
fuzz_valid(const char *text, size_t size)
{
    mantra_json json = {text, text + size};
    return mantra_json_skip(&json) == 0 && mantra_json_finish(&json) == 0;
}

/* One message through a decoder that answers in parts, in three guises that must come to the same: before two kinds of
 * padding, and behind a space, which keeps it from being read as the venue's usual spelling. */
static inline void
fuzz_parts(mantra_decode message, const char *const names[][2], size_t count, const uint8_t *data, size_t size)
{
    static fuzz_decoder guises[3];
    char *texts[3] = {fuzz_text(data, size, FUZZ_PADDING_A), fuzz_text(data, size, FUZZ_PADDING_B),
                      malloc(size + 1 + MANTRA_PADDING)};
    texts[2][0] = ' ';
    memcpy(texts[2] + 1, texts[0], size + MANTRA_PADDING);
    for (unsigned i = 0; i < 3; i++)
        fuzz_decoder_init(&guises[i], names, count, 0);
    const mantra_decoder *first = &guises[0].decoder;
    for (size_t part = 0; part == 0 || first->rest; part++) {
        int kinds[3];
        for (unsigned i = 0; i < 3; i++) {
            mantra_decoder *decoder = &guises[i].decoder;
            kinds[i] = message(decoder, texts[i], size + (i == 2));
            CHECK(kinds[i] >= MANTRA_TOO_MANY && kinds[i] <= MANTRA_WITNESS);
            fuzz_same(kinds[0], first, kinds[i], decoder);
            CHECK(first->numbered == decoder->numbered && (!first->numbered || first->number == decoder->number));
            CHECK(memcmp(guises[0].printed, guises[i].printed, sizeof guises[i].printed) == 0);
            CHECK(first->rest ? decoder->rest - texts[i] == first->rest - texts[0] + (i == 2) : !decoder->rest);
        }
        CHECK(part <= size && (part || kinds[0] == MANTRA_MALFORMED || fuzz_valid(texts[0], size)));
    }
    for (unsigned i = 0; i < 3; i++)
        free(texts[i]);
}

/* What an image read to a depth holds is what the whole image holds of those levels. */
static inline void
fuzz_within(const mantra_decoder *top, const mantra_decoder *whole, uint32_t depth)
{
    uint32_t found = 0;
    for (uint8_t side = MANTRA_BID; side <= MANTRA_ASK; side++) {
        const mantra_change *level = NULL;
        uint32_t at = 0, rank = 0;
        for (uint32_t i = 0; i < whole->change_count && rank < depth; i++) {
            if (whole->changes[i].kind != side)
                continue;
            rank++;
            while (at < top->change_count && top->changes[at].kind != side)
                at++;
            CHECK(at < top->change_count);
            level = &top->changes[at++];
            CHECK(level->price == whole->changes[i].price && level->size == whole->changes[i].size);
            found++;
        }
    }
    CHECK(found == top->change_count);
}

/* One input through a venue's message and snapshot decoders, every promise checked. */
static inline void
fuzz_decode(mantra_decode message, mantra_decode snapshot, const char *const names[][2], size_t count,
            const uint8_t *data, size_t size)
{
    static fuzz_decoder whole, again, top;
    char *a = fuzz_text(data, size, FUZZ_PADDING_A), *b = fuzz_text(data, size, FUZZ_PADDING_B);
    fuzz_decoder_init(&whole, names, count, 0);
    fuzz_decoder_init(&again, names, count, 0);
    fuzz_decoder_init(&top, names, count, 2);
    int kind = message(&whole.decoder, a, size);
    fuzz_same(kind, &whole.decoder, message(&again.decoder, b, size), &again.decoder);
    CHECK(kind >= MANTRA_TOO_MANY && kind <= MANTRA_WITNESS && kind != MANTRA_UNCHANGED);
    CHECK(kind == MANTRA_MALFORMED || fuzz_valid(a, size));
    /* White space in front keeps it from being read as the venue's usual spelling: the general reading agrees. */
    char *spaced = malloc(size + 1 + MANTRA_PADDING);
    spaced[0] = ' ';
    memcpy(spaced + 1, a, size + MANTRA_PADDING);
    fuzz_same(kind, &whole.decoder, message(&again.decoder, spaced, size + 1), &again.decoder);
    free(spaced);
    if (kind == MANTRA_IMAGE) {
        CHECK(message(&top.decoder, a, size) == MANTRA_IMAGE);
        fuzz_within(&top.decoder, &whole.decoder, 2);
        CHECK(message(&top.decoder, b, size) == MANTRA_UNCHANGED);
        CHECK(top.decoder.change_count == 0 && top.decoder.last == whole.decoder.last);
    } else if (kind == MANTRA_DIFF || kind == MANTRA_TRADES) {
        fuzz_same(kind, &whole.decoder, message(&top.decoder, a, size), &top.decoder);
    } else {
        message(&top.decoder, b, size); /* less of it is read, so it may be an image for this one: only safety counts */
    }
    whole.decoder.book = again.decoder.book = 1;
    kind = snapshot(&whole.decoder, a, size);
    fuzz_same(kind, &whole.decoder, snapshot(&again.decoder, b, size), &again.decoder);
    CHECK(kind == MANTRA_MALFORMED || fuzz_valid(a, size));
    free(a);
    free(b);
}

#endif
