/* levels.h - arrays of [price, size] pairs: what every venue's book messages are made of.
 *
 *   "bids":[["61837.63","0.50"],["61837.60","1.20"], ... ]]
 *           |<- the first `depth` levels ->|^ and the character behind them: a side's text
 *
 * A partial-depth image repeats levels that rarely change, so its sides' texts are first compared with the last's:
 * when both are the same bytes there is nothing to read. Levels past `depth` are passed over in 16-byte steps. */
#ifndef MANTRA_LEVELS_H
#define MANTRA_LEVELS_H

#include "mantra/decode.h"
#include "mantra/json_scan.h"

/* One number, bare or in quotes. */
static inline int
mantra_json_decimal(mantra_json *json, uint8_t decimals, int64_t *out)
{
    bool quoted = mantra_json_peek(json) == '"';
    json->at += quoted;
    int status = mantra_decimal(&json->at, json->end, decimals, out);
    if (status != MANTRA_MALFORMED && quoted && (json->at >= json->end || *json->at++ != '"'))
        return MANTRA_MALFORMED;
    return status;
}

/* One level. Venues send no white space between a level's parts, except in some REST answers. */
MANTRA_COLD int
mantra_json_level(mantra_json *json, mantra_scale scale, int64_t *price, int64_t *size)
{
    if (mantra_json_enter(json, '[') != 1)
        return MANTRA_MALFORMED;
    int status = mantra_json_decimal(json, scale.price_decimals, price);
    if (status)
        return status;
    if (mantra_json_next(json, '[') != 1)
        return MANTRA_MALFORMED;
    status = mantra_json_decimal(json, scale.size_decimals, size);
    if (status)
        return status;
    return mantra_json_next(json, '[') == 0 && *size >= 0 ? 0 : MANTRA_MALFORMED;
}

/* Bit i: byte i of 48 is no digit. */
static inline uint64_t
mantra_mask_others(const char *text)
{
    uint64_t mask = 0;
#if defined(__SSE2__) && !defined(MANTRA_PORTABLE)
    for (unsigned i = 0; i < 48; i += 16) {
        __m128i digits = _mm_sub_epi8(_mm_loadu_si128((const __m128i *)(const void *)(text + i)), _mm_set1_epi8('0'));
        __m128i found = _mm_cmpeq_epi8(_mm_min_epu8(digits, _mm_set1_epi8(9)), digits);
        mask |= (uint64_t)(uint16_t)~_mm_movemask_epi8(found) << i;
    }
#else
    for (unsigned i = 0; i < 48; i += 8) /* the multiplication gathers the eight top bits */
        mask |= (mantra_mark_others(mantra_load_digits(text + i)) >> 7) * UINT64_C(0x0102040810204080) >> 56 << i;
#endif
    return mask;
}

/* One level of the common form, ["61837.63","0.50"], within 48 bytes: where it ends. NULL: it is not of that form, or
 * would be an error; the slow reading decides. All four numbers' ends come from one mask, so that the next level's
 * start does not wait for the digits of this one. */
static inline const char *
mantra_level_compact(const char *p, const char *end, const mantra_places *prices, const mantra_places *sizes,
                     mantra_change *change)
{
    uint64_t others = mantra_mask_others(p) & ~UINT64_C(3);
    uint32_t word;
    memcpy(&word, p, 4);
    if ((word & 0xFFFF) != ('[' | '"' << 8))
        return NULL;
    unsigned ends[2][2]; /* of the price's and the size's whole part, and of all of it */
    unsigned start = 2;
    for (unsigned i = 0; i < 2; i++) {
        ends[i][0] = ends[i][1] = (unsigned)__builtin_ctzll(others | UINT64_C(1) << 48);
        others &= others - 1;
        if (p[ends[i][0]] == '.') {
            ends[i][1] = (unsigned)__builtin_ctzll(others | UINT64_C(1) << 48);
            others &= others - 1;
        }
        memcpy(&word, p + ends[i][1], 4);
        if (i == 0) {
            if ((word & 0xFFFFFF) != ('"' | ',' << 8 | '"' << 16))
                return NULL;
            others &= others - 1;
            others &= others - 1;
        }
    }
    if ((word & 0xFFFF) != ('"' | ']' << 8) || p + ends[1][1] + 2 > end)
        return NULL;
    const mantra_places *places[2] = {prices, sizes};
    int64_t values[2];
    for (unsigned i = 0; i < 2; i++) {
        unsigned count = ends[i][0] - start, after = ends[i][1] - ends[i][0];
        if (after == 1 || !mantra_places_read(places[i], p + start, count, after - (after != 0), &values[i]))
            return NULL;
        start = ends[i][1] + 3;
    }
    change->price = values[0];
    change->size = values[1];
    return values[0] > 0 ? p + ends[1][1] + 2 : NULL;
}

/* Pass over levels up to and including the bracket that closes their array. They are not used, so it is enough that
 * they can hide no other part of the message: no braces, lower-case letters, spaces or backslashes until "]]". */
static inline int
mantra_json_skip_levels(mantra_json *json)
{
    const char *p = json->at;
    for (; p < json->end; p++) {
#if defined(__SSE2__) && !defined(MANTRA_PORTABLE)
        for (; json->end - p >= 17; p += 16) {
            __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)p);
            __m128i next = _mm_loadu_si128((const __m128i *)(const void *)(p + 1));
            __m128i close = _mm_set1_epi8(']');
            __m128i ends = _mm_and_si128(_mm_cmpeq_epi8(bytes, close), _mm_cmpeq_epi8(next, close));
            __m128i above = _mm_or_si128(_mm_cmpgt_epi8(bytes, close), _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\')));
            __m128i odd = _mm_or_si128(above, _mm_cmplt_epi8(bytes, _mm_set1_epi8('"')));
            if (_mm_movemask_epi8(_mm_or_si128(ends, odd)))
                break;
        }
#endif
        if ((uint8_t)*p < '"' || (uint8_t)*p > ']' || *p == '\\')
            break;
        if (*p == ']' && p + 1 < json->end && p[1] == ']') {
            json->at = p + 2;
            return 0;
        }
    }
    /* White space, or something wrong: look properly, level by level. */
    for (int more = 1; more;) {
        more = mantra_json_next(json, '[');
        if (more < 0 || (more && mantra_json_skip(json)))
            return MANTRA_MALFORMED;
    }
    return 0;
}

/* Read up to `depth` levels (0: all) of the array here into the decoder's changes. `text`: what was read, for the next
 * comparison; for that the cursor must stand at the bracket. 0 or an error; after MANTRA_FINER and MANTRA_TOO_MANY the
 * cursor stands anywhere. */
static inline int
mantra_json_levels(mantra_decoder *decoder, mantra_json *json, uint8_t kind, uint32_t depth, mantra_span *text)
{
    const mantra_scale scale = decoder->scales[decoder->book];
    const mantra_places prices = mantra_places_of(scale.price_decimals), sizes = mantra_places_of(scale.size_decimals);
    mantra_change *start = decoder->changes + decoder->change_count, *change = start;
    mantra_change *full = decoder->changes + decoder->change_capacity;
    text->text = json->at + 1;
    int more = mantra_json_enter(json, '[');
    while (more > 0) {
        if (change == full)
            return MANTRA_TOO_MANY;
        const char *behind = mantra_level_compact(json->at, json->end, &prices, &sizes, change);
        if (MANTRA_LIKELY(behind != NULL)) {
            json->at = behind;
        } else {
            int status = mantra_json_level(json, scale, &change->price, &change->size);
            if (status)
                return status;
            if (MANTRA_UNLIKELY(change->price <= 0)) { /* Bitstamp has had such a bid in a snapshot */
                decoder->unpriced++;
                more = mantra_json_next(json, '[');
                continue;
            }
        }
        change++->kind = kind;
        if (depth && change == start + depth && mantra_json_peek(json) == ',') {
            text->size = (size_t)(json->at + 1 - text->text);
            decoder->change_count += depth;
            return mantra_json_skip_levels(json);
        }
        more = mantra_json_next(json, '[');
    }
    text->size = (size_t)(json->at - text->text);
    decoder->change_count += (uint32_t)(change - start);
    return more;
}

/* One side of an image while its message is read: 0 bids, 1 asks. */
typedef struct mantra_image {
    const char *start[2]; /* where the array stands */
    mantra_span text[2];
    bool same[2];         /* as in the last image, so not read yet */
} mantra_image;

/* One side of an image: noticed to be the same and passed over, or read. */
static inline int
mantra_image_side(mantra_decoder *decoder, mantra_json *json, mantra_image *image, unsigned side)
{
    if (mantra_json_peek(json) != '[')
        return MANTRA_MALFORMED;
    image->start[side] = json->at;
    if (decoder->depth && decoder->images) {
        const mantra_image_text *last = &decoder->images[decoder->book];
        size_t size = side ? last->bytes_asks : last->bytes_bids;
        const char *known = last->text + (side ? last->bytes_bids : 0);
        /* An empty side is kept as its bracket; a first level never starts with one that closes. */
        const char *levels = json->at + 1;
        if (size && (size_t)(json->end - levels) >= size && memcmp(levels, known, size) == 0) {
            image->same[side] = true;
            image->text[side] = (mantra_span){.text = levels, .size = size};
            json->at = levels + size;
            if (known[size - 1] == ']')
                return 0;
            json->at--; /* skipping starts at the comma */
            return mantra_json_skip_levels(json);
        }
    }
    return mantra_json_levels(decoder, json, side ? MANTRA_ASK : MANTRA_BID, decoder->depth, &image->text[side]);
}

/* The message is whole: MANTRA_UNCHANGED, or read the side that was passed over, remember both texts: MANTRA_IMAGE. */
static inline int
mantra_image_finish(mantra_decoder *decoder, const char *end, mantra_image *image)
{
    if (image->same[0] && image->same[1])
        return MANTRA_UNCHANGED;
    for (unsigned side = 0; side < 2; side++) {
        if (image->same[side]) {
            mantra_json json = {image->start[side], end};
            int status = mantra_json_levels(decoder, &json, side ? MANTRA_ASK : MANTRA_BID, decoder->depth,
                                            &image->text[side]);
            if (status)
                return status;
        }
    }
    if (decoder->depth && decoder->images) {
        mantra_image_text *last = &decoder->images[decoder->book];
        size_t bids = image->text[0].size, asks = image->text[1].size;
        bool fits = bids + asks <= MANTRA_IMAGE_BYTES;
        last->bytes_bids = fits ? (uint32_t)bids : 0;
        last->bytes_asks = fits ? (uint32_t)asks : 0;
        if (fits) {
            memcpy(last->text, image->text[0].text, bids);
            memcpy(last->text + bids, image->text[1].text, asks);
        }
    }
    return MANTRA_IMAGE;
}

/* The book of a symbol as it stands in a message, escaped where it is not ASCII and the venue likes it so; -1. */
static inline int32_t
mantra_find_symbol(const mantra_symbols *symbols, mantra_span symbol)
{
    char plain[6 * MANTRA_SYMBOL_BYTES];
    if (MANTRA_LIKELY(!symbol.escaped))
        return mantra_symbols_find(symbols, symbol.text, symbol.size);
    return symbol.size > sizeof plain ? -1 : mantra_symbols_find(symbols, plain, mantra_json_unescape(symbol, plain));
}

/* Both sides of a book message, from where they stand (bids, asks): `kind` is MANTRA_DIFF, or MANTRA_IMAGE, which may
 * turn out to be MANTRA_UNCHANGED. Returns the kind or an error. */
static inline int
mantra_json_sides(mantra_decoder *decoder, const char *const at[2], const char *end, int kind)
{
    mantra_image image = {0};
    for (unsigned side = 0; side < 2; side++) {
        mantra_json json = {at[side], end};
        if (!at[side])
            return MANTRA_MALFORMED;
        const uint8_t level = side ? MANTRA_ASK : MANTRA_BID;
        const int status = kind == MANTRA_IMAGE ? mantra_image_side(decoder, &json, &image, side)
                                                : mantra_json_levels(decoder, &json, level, 0, &image.text[side]);
        if (status)
            return status;
    }
    return kind == MANTRA_IMAGE ? mantra_image_finish(decoder, end, &image) : kind;
}

/* The one trade has been read: MANTRA_TRADES, or MANTRA_MALFORMED. */
static inline int
mantra_trade_done(mantra_decoder *decoder)
{
    const mantra_print *trade = decoder->trades;
    if (trade->price <= 0 || trade->size < 0)
        return MANTRA_MALFORMED;
    decoder->first = decoder->last = trade->trade_id;
    decoder->venue_time_ns = trade->venue_time_ns;
    decoder->trade_count = 1;
    return MANTRA_TRADES;
}

/* One trade of decoder->book whose id, side and time are known, from where its price and size stand. */
static inline int
mantra_json_trade(mantra_decoder *decoder, const char *price_at, const char *size_at, const char *end)
{
    const mantra_scale scale = decoder->scales[decoder->book];
    mantra_print *trade = decoder->trades;
    mantra_json price = {price_at, end}, size = {size_at, end};
    int status = mantra_json_decimal(&price, scale.price_decimals, &trade->price);
    if (status == 0)
        status = mantra_json_decimal(&size, scale.size_decimals, &trade->size);
    return status ? status : mantra_trade_done(decoder);
}

static inline void
mantra_decoder_begin(mantra_decoder *decoder)
{
    decoder->change_count = decoder->trade_count = decoder->order_count = decoder->unpriced = 0;
    decoder->venue_time_ns = 0;
    decoder->numbered = decoder->checked = decoder->history = decoder->linked = decoder->routed = false;
}

/* Venue time in microseconds, or milliseconds when it is too small for that before the year 5138 (or after 1973). */
static inline int
mantra_venue_time(uint64_t time, int64_t *out_ns)
{
    uint64_t unit = time < UINT64_C(100000000000000) ? 1000000 : 1000;
    if (time > INT64_MAX / unit)
        return MANTRA_MALFORMED;
    *out_ns = (int64_t)(time * unit);
    return 0;
}

#endif
