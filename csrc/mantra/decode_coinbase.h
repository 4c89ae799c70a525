/* decode_coinbase.h - Coinbase: Advanced Trade ("channel") and the older Exchange ("type"), and REST books of both.
 *
 *   {"channel":"l2_data","timestamp":"..","sequence_num":14,"events":[{"type":"update","product_id":"BTC-USD",
 *     "updates":[{"side":"bid","event_time":"..","price_level":"65062.5","new_quantity":"0.00583"}]}]}
 *   {"type":"l2update","product_id":"SKL-BTC","changes":[["sell","0.00001306","660.5"]],"time":".."}
 *
 * The venue's own spelling is read as it passes: a snapshot has 5 MB. Anything else is checked whole first,
 * members noted where they stand, then taken from there: a part for each event, and for each run of one product's
 * trades in an event. Every Advanced Trade message is numbered, on all channels of a connection alike; what Exchange
 * sends has no number that a book could be checked by.
 *
 * Both generations name the MAKER's side of a trade. (Advanced Trade's documents do not say so; in a recording of 2026
 * all 51 trades at the best price or beyond it are a "SELL" at the ask or a "BUY" at the bid.) */
#ifndef MANTRA_DECODE_COINBASE_H
#define MANTRA_DECODE_COINBASE_H

#include "mantra/levels.h"
#include "mantra/venue_time.h"

/* Members that some kind of message needs; all others are only checked. Those of a level come first, then those of a
 * trade: that many are looked for in one. */
#define MANTRA_COINBASE_MEMBERS(X)                                                                               \
    X(price_level) X(new_quantity) X(side) X(price) X(size) X(trade_id) X(product_id) X(time) X(type) X(updates) \
    X(trades) X(changes) X(bids) X(asks) X(channel) X(timestamp) X(sequence_num) X(events) X(sequence) X(pricebook)
enum {
#define MANTRA_COINBASE_ENUM(name) MANTRA_COINBASE_##name,
    MANTRA_COINBASE_MEMBERS(MANTRA_COINBASE_ENUM) MANTRA_COINBASE_COUNT,
    MANTRA_COINBASE_OF_LEVEL = MANTRA_COINBASE_size + 1,
    MANTRA_COINBASE_OF_TRADE = MANTRA_COINBASE_time + 1,
};
static const mantra_span mantra_coinbase_names[] = {MANTRA_COINBASE_MEMBERS(MANTRA_JSON_NAME)};

/* What stands at decoder->rest (decoder->flags). */
enum { MANTRA_COINBASE_EVENT, MANTRA_COINBASE_TRADE, MANTRA_COINBASE_OLD_TRADE };

/* -- any message, its members in any order: text that is known to be JSON ------------------------------------------ */

/* A time at the cursor, quotes and all. */
static inline int
mantra_coinbase_time(mantra_json *json, int64_t *out_ns)
{
    if (mantra_json_peek(json) != '"')
        return MANTRA_MALFORMED;
    json->at++;
    return mantra_time_rfc3339(&json->at, json->end, out_ns) || json->at >= json->end || *json->at++ != '"';
}

static inline int
mantra_coinbase_time_at(const char *value, const char *end, int64_t *out_ns)
{
    mantra_json json = {value, end};
    return !value || mantra_coinbase_time(&json, out_ns) ? MANTRA_MALFORMED : 0;
}

/* The side that a level names: MANTRA_BID, MANTRA_ASK; 0: neither. */
static inline uint8_t
mantra_coinbase_side(const char *value, const char *end)
{
    const mantra_span side = mantra_json_text_at(value, end);
    return MANTRA_SPAN_IS(side, "bid") || MANTRA_SPAN_IS(side, "buy")       ? MANTRA_BID
           : MANTRA_SPAN_IS(side, "offer") || MANTRA_SPAN_IS(side, "sell") ? MANTRA_ASK
                                                                            : 0;
}

/* An array of levels in any of their shapes; `side` 0: every level names its own.
 * {"side","price_level","new_quantity"}  {"price","size"}  ["buy","price","size"]  ["price","size", ...] */
static inline int
mantra_coinbase_levels(mantra_decoder *decoder, const char *value, const char *end, uint8_t side)
{
    const mantra_scale scale = decoder->scales[decoder->book];
    mantra_json json = {value, end};
    int more = value ? mantra_json_enter(&json, '[') : MANTRA_MALFORMED;
    for (; more > 0; more = mantra_json_next(&json, '[')) {
        const char *at[MANTRA_COINBASE_OF_LEVEL] = {0};
        const char **const price = &at[MANTRA_COINBASE_price_level], **const size = &at[MANTRA_COINBASE_new_quantity];
        if (mantra_json_peek(&json) == '{') {
            if (mantra_json_members(&json, mantra_coinbase_names, at, MANTRA_COINBASE_OF_LEVEL, MANTRA_COINBASE_COUNT))
                return MANTRA_MALFORMED;
            if (side) {
                *price = at[MANTRA_COINBASE_price];
                *size = at[MANTRA_COINBASE_size];
            }
        } else {
            const char **const order[3] = {&at[MANTRA_COINBASE_side], price, size};
            unsigned i = side ? 1 : 0;
            int values = mantra_json_enter(&json, '[');
            for (; values > 0; values = mantra_json_next(&json, '[')) {
                (void)mantra_json_peek(&json);
                if (i < 3)
                    *order[i++] = json.at;
                if (mantra_json_skip(&json))
                    return MANTRA_MALFORMED;
            }
            if (values)
                return MANTRA_MALFORMED;
        }
        if (decoder->change_count == decoder->change_capacity)
            return MANTRA_TOO_MANY;
        mantra_change *const change = &decoder->changes[decoder->change_count];
        mantra_json number[2] = {{*price, end}, {*size, end}};
        change->kind = side ? side : mantra_coinbase_side(at[MANTRA_COINBASE_side], end);
        if (!change->kind || !*price || !*size)
            return MANTRA_MALFORMED;
        int status = mantra_json_decimal(&number[0], scale.price_decimals, &change->price);
        if (status == 0)
            status = mantra_json_decimal(&number[1], scale.size_decimals, &change->size);
        if (status)
            return status;
        if (change->size < 0)
            return MANTRA_MALFORMED;
        if (change->price > 0)
            decoder->change_count++;
        else
            decoder->unpriced++;
    }
    return more;
}

/* decoder->book by a product's name as it stands in a message. 0, MANTRA_MALFORMED, MANTRA_UNKNOWN. */
static inline int
mantra_coinbase_product(mantra_decoder *decoder, const char *value, const char *end)
{
    const mantra_span product = mantra_json_text_at(value, end);
    const int32_t book = product.text ? mantra_find_symbol(decoder->symbols, product) : -1;
    decoder->book = (uint32_t)book;
    return book >= 0 ? 0 : product.text ? MANTRA_UNKNOWN : MANTRA_MALFORMED;
}

/* The trade of these members into decoder->trades[count]. */
static inline int
mantra_coinbase_trade(mantra_decoder *decoder, const char *const *at, const char *end, uint32_t count)
{
    const mantra_scale scale = decoder->scales[decoder->book];
    const mantra_span maker = mantra_json_text_at(at[MANTRA_COINBASE_side], end);
    const bool bought = MANTRA_SPAN_IS(maker, "sell") || MANTRA_SPAN_IS(maker, "SELL");
    mantra_json price = {at[MANTRA_COINBASE_price], end}, size = {at[MANTRA_COINBASE_size], end};
    if (count >= decoder->trade_capacity)
        return MANTRA_TOO_MANY;
    mantra_print *trade = &decoder->trades[count];
    trade->side = bought ? MANTRA_BUY : MANTRA_SELL;
    if ((!bought && !MANTRA_SPAN_IS(maker, "buy") && !MANTRA_SPAN_IS(maker, "BUY")) || !price.at || !size.at ||
        mantra_json_integer_at(at[MANTRA_COINBASE_trade_id], end, &trade->trade_id) ||
        mantra_coinbase_time_at(at[MANTRA_COINBASE_time], end, &trade->venue_time_ns))
        return MANTRA_MALFORMED;
    int status = mantra_json_decimal(&price, scale.price_decimals, &trade->price);
    if (status == 0)
        status = mantra_json_decimal(&size, scale.size_decimals, &trade->size);
    return status ? status : trade->price > 0 && trade->size >= 0 ? 0 : MANTRA_MALFORMED;
}

/* decoder->trades, which Advanced Trade sends newest first, in the order in which they happened. */
static inline int
mantra_coinbase_trades(mantra_decoder *decoder, uint32_t count)
{
    mantra_print *trades = decoder->trades;
    const bool newest_first = trades[0].trade_id > trades[count - 1].trade_id;
    for (uint32_t i = 0, j = count - 1; newest_first && i < j; i++, j--) {
        const mantra_print newer = trades[i];
        trades[i] = trades[j];
        trades[j] = newer;
    }
    decoder->first = trades[0].trade_id;
    decoder->last = trades[count - 1].trade_id;
    decoder->trade_count = count;
    return MANTRA_TRADES;
}

/* Behind a value of the array of an event: the next event, NULL after the last. */
static inline const char *
mantra_coinbase_next_event(mantra_json *json)
{
    mantra_span key;
    int more = mantra_json_next(json, '{');
    for (; more > 0; more = mantra_json_next(json, '{'))
        if (mantra_json_key(json, &key) || mantra_json_skip(json))
            return NULL;
    return more == 0 && mantra_json_next(json, '[') > 0 ? json->at : NULL;
}

/* The trades at decoder->rest, as far as they are of one product. */
static inline int
mantra_coinbase_run(mantra_decoder *decoder, const char *end)
{
    mantra_json json = {decoder->rest, end};
    mantra_span product = {0};
    uint32_t count = 0;
    int status = 0, more = 1;
    decoder->rest = NULL;
    decoder->history = decoder->flags == MANTRA_COINBASE_OLD_TRADE;
    for (; more > 0; more = mantra_json_next(&json, '[')) {
        const char *at[MANTRA_COINBASE_OF_TRADE] = {0}, *const trade = json.at;
        if (mantra_json_members(&json, mantra_coinbase_names, at, MANTRA_COINBASE_OF_TRADE, MANTRA_COINBASE_COUNT))
            return MANTRA_MALFORMED;
        const mantra_span name = mantra_json_text_at(at[MANTRA_COINBASE_product_id], end);
        if (!name.text)
            return MANTRA_MALFORMED;
        if (!product.text) {
            product = name;
            status = mantra_coinbase_product(decoder, at[MANTRA_COINBASE_product_id], end);
        } else if (name.size != product.size || memcmp(name.text, product.text, name.size) != 0) {
            decoder->rest = trade;
            break;
        }
        if (status == 0)
            status = mantra_coinbase_trade(decoder, at, end, count++);
    }
    if (more == 0 && (decoder->rest = mantra_coinbase_next_event(&json)) != NULL)
        decoder->flags = MANTRA_COINBASE_EVENT;
    return status ? status : mantra_coinbase_trades(decoder, count);
}

static inline void
mantra_coinbase_begin(mantra_decoder *decoder)
{
    mantra_decoder_begin(decoder);
    decoder->book = UINT32_MAX;
    decoder->first = decoder->last = 0;
}

/* The event at decoder->rest, or as much of it as is one part; decoder->rest is behind that. */
static inline int
mantra_coinbase_event(mantra_decoder *decoder, const char *end)
{
    const char *at[MANTRA_COINBASE_COUNT] = {0}, *const event = decoder->rest;
    mantra_json json = {event, end};
    if (decoder->flags != MANTRA_COINBASE_EVENT)
        return mantra_coinbase_run(decoder, end);
    const bool object = mantra_json_members(&json, mantra_coinbase_names, at, MANTRA_COINBASE_COUNT,
                                            MANTRA_COINBASE_COUNT) == 0;
    decoder->rest = object && mantra_json_next(&json, '[') > 0 ? json.at : NULL;
    const mantra_span type = mantra_json_text_at(at[MANTRA_COINBASE_type], end);
    const bool whole = MANTRA_SPAN_IS(type, "snapshot");
    if (!object || (!whole && !MANTRA_SPAN_IS(type, "update")))
        return MANTRA_MALFORMED;
    if (at[MANTRA_COINBASE_trades]) {
        json.at = at[MANTRA_COINBASE_trades];
        const int more = mantra_json_enter(&json, '[');
        if (more <= 0)
            return more < 0 ? MANTRA_MALFORMED : MANTRA_IGNORED;
        decoder->flags = whole ? MANTRA_COINBASE_OLD_TRADE : MANTRA_COINBASE_TRADE;
        decoder->rest = json.at;
        return mantra_coinbase_run(decoder, end);
    }
    decoder->first = decoder->last = decoder->number;
    int status = mantra_coinbase_product(decoder, at[MANTRA_COINBASE_product_id], end);
    if (status == 0)
        status = mantra_coinbase_levels(decoder, at[MANTRA_COINBASE_updates], end, 0);
    return status ? status : whole ? MANTRA_SNAPSHOT : MANTRA_DIFF;
}

/* Both sides of a whole book, from where they stand, in the order in which the venue sends them. */
static inline int
mantra_coinbase_sides(mantra_decoder *decoder, const char *const *at, const char *end)
{
    const int status = mantra_coinbase_levels(decoder, at[MANTRA_COINBASE_asks], end, MANTRA_ASK);
    return status ? status : mantra_coinbase_levels(decoder, at[MANTRA_COINBASE_bids], end, MANTRA_BID);
}

/* A message of Exchange. Books have a time at most: there is nothing to see a loss by. */
static inline int
mantra_coinbase_exchange(mantra_decoder *decoder, const char *const *at, const char *end)
{
    const mantra_span type = mantra_json_text_at(at[MANTRA_COINBASE_type], end);
    const bool whole = MANTRA_SPAN_IS(type, "snapshot"), old = MANTRA_SPAN_IS(type, "last_match");
    const bool trade = old || MANTRA_SPAN_IS(type, "match"), heartbeat = MANTRA_SPAN_IS(type, "heartbeat");
    if (!type.text || type.escaped)
        return MANTRA_MALFORMED;
    if (MANTRA_SPAN_IS(type, "subscriptions") || MANTRA_SPAN_IS(type, "error"))
        return MANTRA_CONTROL;
    if (!whole && !trade && !heartbeat && !MANTRA_SPAN_IS(type, "l2update"))
        return MANTRA_IGNORED;
    int status = mantra_coinbase_product(decoder, at[MANTRA_COINBASE_product_id], end);
    if (status || heartbeat)
        return status ? status : MANTRA_HEARTBEAT;
    if (trade) {
        decoder->history = old;
        status = mantra_coinbase_trade(decoder, at, end, 0);
        return status ? status : mantra_coinbase_trades(decoder, 1);
    }
    if (at[MANTRA_COINBASE_time] && mantra_coinbase_time_at(at[MANTRA_COINBASE_time], end, &decoder->venue_time_ns))
        return MANTRA_MALFORMED;
    status = whole ? mantra_coinbase_sides(decoder, at, end)
                   : mantra_coinbase_levels(decoder, at[MANTRA_COINBASE_changes], end, 0);
    return status ? status : whole ? MANTRA_SNAPSHOT : MANTRA_DIFF;
}

MANTRA_COLD int
mantra_coinbase_message(mantra_decoder *decoder, const char *text, size_t size)
{
    const char *at[MANTRA_COINBASE_COUNT] = {0}, *const end = text + size;
    mantra_json json = {text, end};
    mantra_coinbase_begin(decoder);
    if (mantra_json_members(&json, mantra_coinbase_names, at, MANTRA_COINBASE_COUNT, MANTRA_COINBASE_COUNT) ||
        mantra_json_finish(&json))
        return MANTRA_MALFORMED;
    if (at[MANTRA_COINBASE_sequence_num]) {
        if (mantra_json_integer_at(at[MANTRA_COINBASE_sequence_num], end, &decoder->number))
            return MANTRA_MALFORMED;
        decoder->numbered = true;
    }
    if (!at[MANTRA_COINBASE_channel])
        return mantra_coinbase_exchange(decoder, at, end);
    const mantra_span channel = mantra_json_text_at(at[MANTRA_COINBASE_channel], end);
    if (!channel.text || channel.escaped || !decoder->numbered || !at[MANTRA_COINBASE_events])
        return MANTRA_MALFORMED;
    if (MANTRA_SPAN_IS(channel, "subscriptions"))
        return MANTRA_CONTROL;
    if (MANTRA_SPAN_IS(channel, "heartbeats"))
        return MANTRA_HEARTBEAT;
    if (!MANTRA_SPAN_IS(channel, "l2_data") && !MANTRA_SPAN_IS(channel, "market_trades"))
        return MANTRA_IGNORED;
    json.at = at[MANTRA_COINBASE_events];
    const int more = mantra_json_enter(&json, '[');
    if (more < 0 || mantra_coinbase_time_at(at[MANTRA_COINBASE_timestamp], end, &decoder->venue_time_ns))
        return MANTRA_MALFORMED;
    if (more == 0)
        return MANTRA_IGNORED;
    decoder->flags = MANTRA_COINBASE_EVENT;
    decoder->rest = json.at;
    return mantra_coinbase_event(decoder, end);
}

/* Another part of the message, which has the number and the time of the first. */
MANTRA_COLD int
mantra_coinbase_part(mantra_decoder *decoder, const char *end)
{
    const int64_t venue_time_ns = decoder->venue_time_ns;
    mantra_coinbase_begin(decoder);
    decoder->venue_time_ns = venue_time_ns;
    decoder->numbered = true;
    return mantra_coinbase_event(decoder, end);
}

/* -- byte for byte as the venue spells it; false: it is not, or has an error, and the reading above decides -------- */

/* Changes up to the bracket that closes them: {"side":"bid",...} of Advanced Trade, ["buy",...] of Exchange. */
static inline bool
mantra_coinbase_usual_changes(mantra_decoder *decoder, mantra_json *json, bool advanced)
{
    const mantra_scale scale = decoder->scales[decoder->book];
    mantra_change *change = decoder->changes, *const full = change + decoder->change_capacity;
    do {
        const bool bid = advanced ? MANTRA_JSON_EXPECT(json, "{\"side\":\"bid\",\"event_time\":\"")
                                  : MANTRA_JSON_EXPECT(json, "[\"buy\",\"");
        if (change == full || (!bid && !(advanced ? MANTRA_JSON_EXPECT(json, "{\"side\":\"offer\",\"event_time\":\"")
                                                  : MANTRA_JSON_EXPECT(json, "[\"sell\",\""))))
            return false;
        if (advanced) { /* the engine's time, 20 to 30 characters, is passed over */
            const uint32_t special = mantra_json_special(json->at) | mantra_json_special(json->at + 16) << 16;
            json->at += __builtin_ctz(special | 1u << 31);
            if (!MANTRA_JSON_EXPECT(json, "\",\"price_level\":\""))
                return false;
        }
        if (mantra_decimal(&json->at, json->end, scale.price_decimals, &change->price) ||
            !(advanced ? MANTRA_JSON_EXPECT(json, "\",\"new_quantity\":\"") : MANTRA_JSON_EXPECT(json, "\",\"")) ||
            mantra_decimal(&json->at, json->end, scale.size_decimals, &change->size) ||
            !(advanced ? MANTRA_JSON_EXPECT(json, "\"}") : MANTRA_JSON_EXPECT(json, "\"]")) || change->price <= 0 ||
            change->size < 0)
            return false;
        change++->kind = bid ? MANTRA_BID : MANTRA_ASK;
    } while (MANTRA_JSON_EXPECT(json, ","));
    decoder->change_count = (uint32_t)(change - decoder->changes);
    return MANTRA_JSON_EXPECT(json, "]");
}

/* decoder->book by the product named at the cursor. */
static inline bool
mantra_coinbase_usual_product(mantra_decoder *decoder, mantra_json *json)
{
    mantra_span name;
    if (mantra_json_string(json, &name) || name.escaped)
        return false;
    const int32_t book = mantra_symbols_find(decoder->symbols, name.text, name.size);
    decoder->book = (uint32_t)book;
    return book >= 0;
}

/* Trades of one product, up to the bracket that closes them. */
static inline bool
mantra_coinbase_usual_trades(mantra_decoder *decoder, mantra_json *json)
{
    uint32_t count = 0;
    do {
        const uint32_t book = decoder->book;
        mantra_print *trade = &decoder->trades[count];
        if (count == decoder->trade_capacity || !MANTRA_JSON_EXPECT(json, "{\"product_id\":") ||
            !mantra_coinbase_usual_product(decoder, json) || (count > 0 && decoder->book != book))
            return false;
        const mantra_scale scale = decoder->scales[decoder->book];
        if (!MANTRA_JSON_EXPECT(json, ",\"trade_id\":\"") || mantra_integer(&json->at, json->end, &trade->trade_id) ||
            !MANTRA_JSON_EXPECT(json, "\",\"price\":\"") ||
            mantra_decimal(&json->at, json->end, scale.price_decimals, &trade->price) || trade->price <= 0 ||
            !MANTRA_JSON_EXPECT(json, "\",\"size\":\"") ||
            mantra_decimal(&json->at, json->end, scale.size_decimals, &trade->size) || trade->size < 0 ||
            !MANTRA_JSON_EXPECT(json, "\",\"time\":") || mantra_coinbase_time(json, &trade->venue_time_ns) ||
            !MANTRA_JSON_EXPECT(json, ",\"side\":\""))
            return false;
        const bool bought = MANTRA_JSON_EXPECT(json, "SELL\"}");
        if (!bought && !MANTRA_JSON_EXPECT(json, "BUY\"}"))
            return false;
        trade->side = bought ? MANTRA_BUY : MANTRA_SELL;
        count++;
    } while (MANTRA_JSON_EXPECT(json, ","));
    return MANTRA_JSON_EXPECT(json, "]") && mantra_coinbase_trades(decoder, count) == MANTRA_TRADES;
}

/* {"channel":"l2_data",  or "market_trades", with one event, which is one product's. */
static inline int
mantra_coinbase_usual_advanced(mantra_decoder *decoder, mantra_json *json, bool books)
{
    (void)MANTRA_JSON_EXPECT(json, "\"client_id\":\"\",");
    if (!MANTRA_JSON_EXPECT(json, "\"timestamp\":") || mantra_coinbase_time(json, &decoder->venue_time_ns) ||
        !MANTRA_JSON_EXPECT(json, ",\"sequence_num\":") || mantra_integer(&json->at, json->end, &decoder->number) ||
        !MANTRA_JSON_EXPECT(json, ",\"events\":[{\"type\":\""))
        return 0;
    const bool whole = MANTRA_JSON_EXPECT(json, "snapshot");
    if (!whole && !MANTRA_JSON_EXPECT(json, "update"))
        return 0;
    if (books ? !MANTRA_JSON_EXPECT(json, "\",\"product_id\":") || !mantra_coinbase_usual_product(decoder, json) ||
                    !MANTRA_JSON_EXPECT(json, ",\"updates\":[") || !mantra_coinbase_usual_changes(decoder, json, true)
              : !MANTRA_JSON_EXPECT(json, "\",\"trades\":[") || !mantra_coinbase_usual_trades(decoder, json))
        return 0;
    if (!MANTRA_JSON_EXPECT(json, "}]}") || json->at != json->end)
        return 0;
    decoder->numbered = true;
    decoder->history = !books && whole;
    if (!books)
        return MANTRA_TRADES;
    decoder->first = decoder->last = decoder->number;
    return whole ? MANTRA_SNAPSHOT : MANTRA_DIFF;
}

/* {"type":"l2update","product_id":  */
static inline int
mantra_coinbase_usual_update(mantra_decoder *decoder, mantra_json *json)
{
    return mantra_coinbase_usual_product(decoder, json) && MANTRA_JSON_EXPECT(json, ",\"changes\":[") &&
                   mantra_coinbase_usual_changes(decoder, json, false) && MANTRA_JSON_EXPECT(json, ",\"time\":") &&
                   !mantra_coinbase_time(json, &decoder->venue_time_ns) && MANTRA_JSON_EXPECT(json, "}") &&
                   json->at == json->end
               ? MANTRA_DIFF
               : 0;
}

/* {"type":"snapshot","product_id":  */
static inline int
mantra_coinbase_usual_snapshot(mantra_decoder *decoder, mantra_json *json)
{
    mantra_span text;
    return mantra_coinbase_usual_product(decoder, json) && MANTRA_JSON_EXPECT(json, ",\"asks\":") &&
                   mantra_json_levels(decoder, json, MANTRA_ASK, 0, &text) == 0 &&
                   MANTRA_JSON_EXPECT(json, ",\"bids\":") &&
                   mantra_json_levels(decoder, json, MANTRA_BID, 0, &text) == 0 &&
                   (!MANTRA_JSON_EXPECT(json, ",\"time\":") ||
                    mantra_coinbase_time(json, &decoder->venue_time_ns) == 0) &&
                   MANTRA_JSON_EXPECT(json, "}") && json->at == json->end
               ? MANTRA_SNAPSHOT
               : 0;
}

static inline int
mantra_decode_coinbase(mantra_decoder *decoder, const char *text, size_t size)
{
    mantra_json json = {text, text + size};
    int status = 0;
    if (MANTRA_UNLIKELY(decoder->rest != NULL))
        return mantra_coinbase_part(decoder, json.end);
    mantra_coinbase_begin(decoder);
    if (MANTRA_JSON_EXPECT(&json, "{\"channel\":\"l2_data\","))
        status = mantra_coinbase_usual_advanced(decoder, &json, true);
    else if (MANTRA_JSON_EXPECT(&json, "{\"channel\":\"market_trades\","))
        status = mantra_coinbase_usual_advanced(decoder, &json, false);
    else if (MANTRA_JSON_EXPECT(&json, "{\"type\":\"l2update\",\"product_id\":"))
        status = mantra_coinbase_usual_update(decoder, &json);
    else if (MANTRA_JSON_EXPECT(&json, "{\"type\":\"snapshot\",\"product_id\":"))
        status = mantra_coinbase_usual_snapshot(decoder, &json);
    return MANTRA_LIKELY(status != 0) ? status : mantra_coinbase_message(decoder, text, size);
}

/* The book that REST answers, for decoder->book: MANTRA_IMAGE, or an error.
 * {"pricebook":{"bids":[{"price","size"}],"asks":[],"time"}}  {"sequence","bids":[["p","s",n]],"asks":[],"time"} */
static inline int
mantra_decode_coinbase_snapshot(mantra_decoder *decoder, const char *text, size_t size)
{
    const char *at[MANTRA_COINBASE_COUNT] = {0}, *const end = text + size;
    mantra_json json = {text, end};
    mantra_decoder_begin(decoder);
    decoder->last = 0;
    if (mantra_json_members(&json, mantra_coinbase_names, at, MANTRA_COINBASE_COUNT, MANTRA_COINBASE_pricebook) ||
        mantra_json_finish(&json) ||
        (at[MANTRA_COINBASE_sequence] && mantra_json_integer_at(at[MANTRA_COINBASE_sequence], end, &decoder->last)) ||
        (at[MANTRA_COINBASE_time] && mantra_coinbase_time_at(at[MANTRA_COINBASE_time], end, &decoder->venue_time_ns)))
        return MANTRA_MALFORMED;
    decoder->first = decoder->last;
    const int status = mantra_coinbase_sides(decoder, at, end);
    return status ? status : MANTRA_IMAGE;
}

#endif
