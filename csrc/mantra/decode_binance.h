/* decode_binance.h - Binance spot streams (raw and combined) and REST depth snapshots.
 *
 *   {"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":ms,"s":"BTCUSDT","U":1,"u":2,"b":[["p","q"]],"a":[]}}
 *   {"stream":"btcusdt@depth20@100ms","data":{"lastUpdateId":2,"bids":[["p","q"]],"asks":[]}}     no symbol inside
 *   {"stream":"btcusdt@bookTicker","data":{"u":2,"s":"BTCUSDT","b":"p","B":"q","a":"p","A":"q"}}   best bid and offer
 *
 * The venue's own spelling is read as it passes. Anything else is checked whole first, members noted where they stand
 * (keys may come in any order, and mean what the event says: `a` is a side, an id or a price), then taken from
 * there. */
#ifndef MANTRA_DECODE_BINANCE_H
#define MANTRA_DECODE_BINANCE_H

#include "mantra/levels.h"

/* Members that some kind of message needs; all others are only checked. m: the buyer was the maker. */
#define MANTRA_BINANCE_MEMBERS(X)                                                                     \
    X(e) X(E) X(s) X(U) X(u) X(b) X(a) X(B) X(A) X(t) X(p) X(q) X(T) X(m) X(pu) X(lastUpdateId) X(bids) \
    X(asks) X(stream) X(data) X(result) X(code) X(msg) X(error) X(event)
enum {
#define MANTRA_BINANCE_ENUM(name) MANTRA_BINANCE_##name,
    MANTRA_BINANCE_MEMBERS(MANTRA_BINANCE_ENUM) MANTRA_BINANCE_COUNT
};
static const mantra_span mantra_binance_names[] = {MANTRA_BINANCE_MEMBERS(MANTRA_JSON_NAME)};

/* The book of a partial-depth stream, "btcusdt@depth20@100ms"; -1: not ours, -2: a stream of another kind. */
static inline int32_t
mantra_binance_image_book(const mantra_decoder *decoder, mantra_span stream)
{
    const char *at = stream.text ? memchr(stream.text, '@', stream.size) : NULL;
    if (!at || stream.text + stream.size - at <= 6 || memcmp(at, "@depth", 6) != 0 || !mantra_is_digit(at[6]))
        return -2;
    return mantra_find_symbol(decoder->symbols,
                              (mantra_span){stream.text, (size_t)(at - stream.text), stream.escaped});
}

static inline int
mantra_binance_diff(mantra_decoder *decoder, const char *const *at, const char *end)
{
    uint64_t time;
    const mantra_span symbol = mantra_json_text_at(at[MANTRA_BINANCE_s], end);
    if (mantra_json_integer_at(at[MANTRA_BINANCE_E], end, &time) || mantra_venue_time(time, &decoder->venue_time_ns) ||
        mantra_json_integer_at(at[MANTRA_BINANCE_U], end, &decoder->first) ||
        mantra_json_integer_at(at[MANTRA_BINANCE_u], end, &decoder->last) || decoder->first > decoder->last ||
        !at[MANTRA_BINANCE_b] || !at[MANTRA_BINANCE_a] || at[MANTRA_BINANCE_bids] || at[MANTRA_BINANCE_asks] ||
        !symbol.text)
        return MANTRA_MALFORMED;
    if (at[MANTRA_BINANCE_pu]) { /* futures, in recordings: ids have holes, and each message names the end of the last */
        if (mantra_json_integer_at(at[MANTRA_BINANCE_pu], end, &decoder->first) || decoder->first >= decoder->last)
            return MANTRA_MALFORMED;
        decoder->first++;
    }
    const int32_t book = mantra_find_symbol(decoder->symbols, symbol);
    decoder->book = (uint32_t)book;
    return book < 0 ? MANTRA_UNKNOWN : mantra_json_sides(decoder, &at[MANTRA_BINANCE_b], end, MANTRA_DIFF);
}

static inline int
mantra_binance_trade(mantra_decoder *decoder, const char *const *at, const char *end, unsigned id)
{
    mantra_print *trade = decoder->trades;
    uint64_t time;
    const mantra_span symbol = mantra_json_text_at(at[MANTRA_BINANCE_s], end);
    const char maker = at[MANTRA_BINANCE_m] ? *at[MANTRA_BINANCE_m] : '\0';
    if (decoder->trade_capacity < 1)
        return MANTRA_TOO_MANY;
    if (mantra_json_integer_at(at[id], end, &trade->trade_id) ||
        mantra_json_integer_at(at[MANTRA_BINANCE_T], end, &time) || mantra_venue_time(time, &trade->venue_time_ns) ||
        !at[MANTRA_BINANCE_p] || !at[MANTRA_BINANCE_q] || (maker != 't' && maker != 'f') || !symbol.text)
        return MANTRA_MALFORMED;
    const int32_t book = mantra_find_symbol(decoder->symbols, symbol);
    decoder->book = (uint32_t)book;
    trade->side = maker == 't' ? MANTRA_SELL : MANTRA_BUY;
    return book < 0 ? MANTRA_UNKNOWN
                    : mantra_json_trade(decoder, at[MANTRA_BINANCE_p], at[MANTRA_BINANCE_q], end);
}

/* A partial-depth image, or as MANTRA_DIFF a snapshot: all levels, none remembered. */
static inline int
mantra_binance_image(mantra_decoder *decoder, const char *const *at, const char *end, int32_t book, int kind)
{
    if (mantra_json_integer_at(at[MANTRA_BINANCE_lastUpdateId], end, &decoder->last) || !at[MANTRA_BINANCE_bids] ||
        !at[MANTRA_BINANCE_asks])
        return MANTRA_MALFORMED;
    decoder->first = decoder->last;
    decoder->book = (uint32_t)book;
    return book < 0 ? MANTRA_UNKNOWN : mantra_json_sides(decoder, &at[MANTRA_BINANCE_bids], end, kind);
}

/* The best bid and offer after update `u`. */
static inline int
mantra_binance_ticker(mantra_decoder *decoder, const char *const *at, const char *end)
{
    const unsigned prices[] = {MANTRA_BINANCE_b, MANTRA_BINANCE_a}, sizes[] = {MANTRA_BINANCE_B, MANTRA_BINANCE_A};
    const mantra_span symbol = mantra_json_text_at(at[MANTRA_BINANCE_s], end);
    if (mantra_json_integer_at(at[MANTRA_BINANCE_u], end, &decoder->last) || !symbol.text)
        return MANTRA_MALFORMED;
    const int32_t book = mantra_find_symbol(decoder->symbols, symbol);
    decoder->book = (uint32_t)book;
    if (book < 0)
        return MANTRA_UNKNOWN;
    for (unsigned side = 0; side < 2; side++) {
        mantra_change *change = &decoder->changes[side];
        mantra_json price = {at[prices[side]], end}, size = {at[sizes[side]], end};
        if (!price.at || !size.at)
            return MANTRA_MALFORMED;
        int status = mantra_json_decimal(&price, decoder->scales[book].price_decimals, &change->price);
        if (status == 0)
            status = mantra_json_decimal(&size, decoder->scales[book].size_decimals, &change->size);
        if (status)
            return status;
        if (change->price < 0 || change->size < 0)
            return MANTRA_MALFORMED;
        change->kind = side ? MANTRA_ASK : MANTRA_BID;
    }
    decoder->change_count = 2;
    decoder->first = decoder->last;
    return MANTRA_WITNESS;
}

/* Any message, its members in any order. */
MANTRA_COLD int
mantra_binance_message(mantra_decoder *decoder, const char *text, size_t size)
{
    const char *at[MANTRA_BINANCE_COUNT] = {0}, *const end = text + size;
    mantra_json json = {text, end};
    mantra_decoder_begin(decoder);
    if (mantra_json_peek(&json) == '[') /* arrays of tickers, raw */
        return mantra_json_skip(&json) || mantra_json_finish(&json) ? MANTRA_MALFORMED : MANTRA_IGNORED;
    if (mantra_json_members(&json, mantra_binance_names, at, MANTRA_BINANCE_COUNT, MANTRA_BINANCE_data) ||
        mantra_json_finish(&json))
        return MANTRA_MALFORMED;
    const mantra_span stream = mantra_json_text_at(at[MANTRA_BINANCE_stream], end);
    if (at[MANTRA_BINANCE_stream] && !stream.text)
        return MANTRA_MALFORMED;
    const mantra_span type = mantra_json_text_at(at[MANTRA_BINANCE_e], end);
    if (MANTRA_SPAN_IS(type, "depthUpdate"))
        return mantra_binance_diff(decoder, at, end);
    if (MANTRA_SPAN_IS(type, "trade"))
        return mantra_binance_trade(decoder, at, end, MANTRA_BINANCE_t);
    if (MANTRA_SPAN_IS(type, "aggTrade"))
        return mantra_binance_trade(decoder, at, end, MANTRA_BINANCE_a);
    if (type.text)
        return MANTRA_SPAN_IS(type, "serverShutdown") ? MANTRA_CONTROL : MANTRA_IGNORED;
    const int32_t book = mantra_binance_image_book(decoder, stream);
    if (book >= -1 || at[MANTRA_BINANCE_lastUpdateId])
        return mantra_binance_image(decoder, at, end, book, MANTRA_IMAGE);
    for (unsigned key = MANTRA_BINANCE_result; key < MANTRA_BINANCE_COUNT; key++)
        if (at[key])
            return MANTRA_CONTROL;
    if (at[MANTRA_BINANCE_u] && at[MANTRA_BINANCE_B]) /* a book ticker names no type */
        return mantra_binance_ticker(decoder, at, end);
    return stream.text ? MANTRA_IGNORED : MANTRA_MALFORMED; /* of a combined stream of another name nothing is expected */
}

/* {"u":.. as the venue spells it, up to the closing brace. */
static inline bool
mantra_binance_usual_ticker(mantra_decoder *decoder, mantra_json *json)
{
    mantra_change *bid = &decoder->changes[0], *ask = &decoder->changes[1];
    mantra_span name;
    if (mantra_integer(&json->at, json->end, &decoder->last) || !MANTRA_JSON_EXPECT(json, ",\"s\":") ||
        mantra_json_string(json, &name) || name.escaped)
        return false;
    const int32_t book = mantra_symbols_find(decoder->symbols, name.text, name.size);
    if (book < 0)
        return false;
    const mantra_scale scale = decoder->scales[book];
    decoder->book = (uint32_t)book;
    decoder->change_count = 2;
    decoder->first = decoder->last;
    bid->kind = MANTRA_BID;
    ask->kind = MANTRA_ASK;
    return MANTRA_JSON_EXPECT(json, ",\"b\":\"") &&
           mantra_decimal(&json->at, json->end, scale.price_decimals, &bid->price) == 0 &&
           MANTRA_JSON_EXPECT(json, "\",\"B\":\"") &&
           mantra_decimal(&json->at, json->end, scale.size_decimals, &bid->size) == 0 &&
           MANTRA_JSON_EXPECT(json, "\",\"a\":\"") &&
           mantra_decimal(&json->at, json->end, scale.price_decimals, &ask->price) == 0 &&
           MANTRA_JSON_EXPECT(json, "\",\"A\":\"") &&
           mantra_decimal(&json->at, json->end, scale.size_decimals, &ask->size) == 0 &&
           MANTRA_JSON_EXPECT(json, "\"") && bid->price >= 0 && bid->size >= 0 && ask->price >= 0 && ask->size >= 0;
}

/* A book message, a trade or a book ticker byte for byte as the venue spells it, raw or combined. 0: it is none of
 * them, or has an error. */
static inline int
mantra_binance_usual(mantra_decoder *decoder, const char *text, size_t size)
{
    mantra_json json = {text, text + size};
    mantra_span name = {0};
    mantra_image image = {0};
    mantra_print *trade = decoder->trades;
    uint64_t event_time = 0, time;
    int32_t book;
    if (MANTRA_JSON_EXPECT(&json, "{\"stream\":\"")) {
        json.at--;
        if (mantra_json_string(&json, &name) || !MANTRA_JSON_EXPECT(&json, ",\"data\":"))
            return 0;
        json.end--; /* the outer brace is looked at in the end */
    }
    const bool diff = MANTRA_JSON_EXPECT(&json, "{\"e\":\"depthUpdate\",\"E\":");
    const bool whole = !diff && MANTRA_JSON_EXPECT(&json, "{\"lastUpdateId\":");
    const bool ticker = !diff && !whole && MANTRA_JSON_EXPECT(&json, "{\"u\":");
    if (ticker) {
        mantra_decoder_begin(decoder);
        const bool combined = json.end != text + size;
        return mantra_binance_usual_ticker(decoder, &json) && MANTRA_JSON_EXPECT(&json, "}") && json.at == json.end &&
                       (!combined || *json.end == '}')
                   ? MANTRA_WITNESS
                   : 0;
    }
    if (whole)
        book = mantra_binance_image_book(decoder, name);
    else if ((!diff && !MANTRA_JSON_EXPECT(&json, "{\"e\":\"trade\",\"E\":")) ||
             mantra_integer(&json.at, json.end, &event_time) || !MANTRA_JSON_EXPECT(&json, ",\"s\":") ||
             mantra_json_string(&json, &name))
        return 0;
    else
        book = name.escaped ? -1 : mantra_symbols_find(decoder->symbols, name.text, name.size);
    if (book < 0)
        return 0;
    const mantra_scale scale = decoder->scales[book];
    mantra_decoder_begin(decoder);
    decoder->book = (uint32_t)book;
    if (diff) {
        if (!MANTRA_JSON_EXPECT(&json, ",\"U\":") || mantra_integer(&json.at, json.end, &decoder->first) ||
            !MANTRA_JSON_EXPECT(&json, ",\"u\":") || mantra_integer(&json.at, json.end, &decoder->last) ||
            decoder->first > decoder->last || mantra_venue_time(event_time, &decoder->venue_time_ns) ||
            !MANTRA_JSON_EXPECT(&json, ",\"b\":") || mantra_json_levels(decoder, &json, MANTRA_BID, 0, &name) ||
            !MANTRA_JSON_EXPECT(&json, ",\"a\":") || mantra_json_levels(decoder, &json, MANTRA_ASK, 0, &name))
            return 0;
    } else if (whole) {
        if (mantra_integer(&json.at, json.end, &decoder->last) || !MANTRA_JSON_EXPECT(&json, ",\"bids\":") ||
            mantra_image_side(decoder, &json, &image, 0) || !MANTRA_JSON_EXPECT(&json, ",\"asks\":") ||
            mantra_image_side(decoder, &json, &image, 1))
            return 0;
        decoder->first = decoder->last;
    } else {
        if (decoder->trade_capacity < 1 || !MANTRA_JSON_EXPECT(&json, ",\"t\":") ||
            mantra_integer(&json.at, json.end, &trade->trade_id) || !MANTRA_JSON_EXPECT(&json, ",\"p\":\"") ||
            mantra_decimal(&json.at, json.end, scale.price_decimals, &trade->price) ||
            !MANTRA_JSON_EXPECT(&json, "\",\"q\":\"") ||
            mantra_decimal(&json.at, json.end, scale.size_decimals, &trade->size) ||
            !MANTRA_JSON_EXPECT(&json, "\",\"T\":") || mantra_integer(&json.at, json.end, &time) ||
            mantra_venue_time(time, &trade->venue_time_ns) || mantra_trade_done(decoder) != MANTRA_TRADES)
            return 0;
        const bool sold = MANTRA_JSON_EXPECT(&json, ",\"m\":true,\"M\":true");
        if (!sold && !MANTRA_JSON_EXPECT(&json, ",\"m\":false,\"M\":true"))
            return 0;
        trade->side = sold ? MANTRA_SELL : MANTRA_BUY;
    }
    const bool combined = json.end != text + size;
    if (!MANTRA_JSON_EXPECT(&json, "}") || json.at != json.end || (combined && *json.end != '}'))
        return 0;
    if (whole) {
        const int kind = mantra_image_finish(decoder, text + size, &image);
        return kind > 0 ? kind : 0;
    }
    return diff ? MANTRA_DIFF : MANTRA_TRADES;
}

static inline int
mantra_decode_binance(mantra_decoder *decoder, const char *text, size_t size)
{
    const int status = mantra_binance_usual(decoder, text, size);
    return MANTRA_LIKELY(status != 0) ? status : mantra_binance_message(decoder, text, size);
}

/* The answer of /api/v3/depth, for decoder->book: MANTRA_IMAGE, or an error. */
static inline int
mantra_decode_binance_snapshot(mantra_decoder *decoder, const char *text, size_t size)
{
    const char *at[MANTRA_BINANCE_COUNT] = {0};
    mantra_json json = {text, text + size};
    mantra_decoder_begin(decoder);
    if (mantra_json_members(&json, mantra_binance_names, at, MANTRA_BINANCE_COUNT, MANTRA_BINANCE_COUNT) ||
        mantra_json_finish(&json))
        return MANTRA_MALFORMED;
    const int kind = mantra_binance_image(decoder, at, text + size, (int32_t)decoder->book, MANTRA_DIFF);
    return kind == MANTRA_DIFF ? MANTRA_IMAGE : kind;
}

#endif
