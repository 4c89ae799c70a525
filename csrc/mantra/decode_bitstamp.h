/* decode_bitstamp.h - Bitstamp WebSocket v2 messages and REST book snapshots.
 *
 *   {"data":{"id":1,"order_type":0,"order_subtype":0,"microtimestamp":"..","amount_str":"..","price_str":"..",..},
 *    "channel":"live_orders_ethusd","event":"order_created","event_id":"..","pre_event_id":"..",..}
 *   {"data":{"timestamp":"..","microtimestamp":"..","bids":[["p","s"]],"asks":[]},
 *    "channel":"diff_order_book_ethusd","event":"data"}
 *
 * The market, and with it the scale of every number, stands behind the data. So the message's tail is peeked at for a
 * channel, and the venue's own spelling is read with what that promises. Anything else is checked whole first, members
 * noted where they stand, then taken from there. The peek can cost time, never truth. */
#ifndef MANTRA_DECODE_BITSTAMP_H
#define MANTRA_DECODE_BITSTAMP_H

#include "mantra/levels.h"

/* Members that some kind of message needs; all others are only checked. */
#define MANTRA_BITSTAMP_MEMBERS(X)                                                                                   \
    X(data) X(channel) X(event) X(microtimestamp) X(bids) X(asks) X(id) X(type) X(price_str) X(amount_str) \
    X(order_type) X(order_subtype) X(event_id) X(pre_event_id)
enum {
#define MANTRA_BITSTAMP_ENUM(name) MANTRA_BITSTAMP_##name,
    MANTRA_BITSTAMP_MEMBERS(MANTRA_BITSTAMP_ENUM) MANTRA_BITSTAMP_COUNT
};
static const mantra_span mantra_bitstamp_names[] = {MANTRA_BITSTAMP_MEMBERS(MANTRA_JSON_NAME)};

/* What a channel carries, as the kind that a message of it becomes; the market's book (-1: not ours). */
typedef struct mantra_bitstamp_channel {
    int kind;
    int32_t book;
} mantra_bitstamp_channel;

static inline mantra_bitstamp_channel
mantra_bitstamp_read_channel(const mantra_decoder *decoder, mantra_span name)
{
    mantra_bitstamp_channel channel = {MANTRA_IGNORED, -1};
    size_t prefix = 0;
    if (MANTRA_SPAN_STARTS(name, "diff_order_book_")) {
        channel.kind = MANTRA_DIFF;
        prefix = sizeof "diff_order_book_" - 1;
    } else if (MANTRA_SPAN_STARTS(name, "order_book_")) {
        channel.kind = MANTRA_IMAGE;
        prefix = sizeof "order_book_" - 1;
    } else if (MANTRA_SPAN_STARTS(name, "live_trades_")) {
        channel.kind = MANTRA_TRADES;
        prefix = sizeof "live_trades_" - 1;
    } else if (decoder->orders && MANTRA_SPAN_STARTS(name, "live_orders_")) {
        channel.kind = MANTRA_ORDERS;
        prefix = sizeof "live_orders_" - 1;
    }
    if (channel.kind != MANTRA_IGNORED)
        channel.book = mantra_symbols_find(decoder->symbols, name.text + prefix, name.size - prefix);
    return channel;
}

/* The channel that the tail seems to name: ...,"channel":"<name>","event":"data"} or "trade"}; empty: none seen. */
static inline mantra_span
mantra_bitstamp_peek(const char *text, size_t size)
{
    static const char data[] = "\",\"event\":\"data\"}", trade[] = "\",\"event\":\"trade\"}", key[] = ",\"channel\":\"";
    const char *end = text + size;
    mantra_span name = {0};
    if (size < 96)
        return name;
    if (memcmp(end - (sizeof data - 1), data, sizeof data - 1) == 0)
        end -= sizeof data - 1;
    else if (memcmp(end - (sizeof trade - 1), trade, sizeof trade - 1) == 0)
        end -= sizeof trade - 1;
    else
        return name;
    const char *start = mantra_json_quote_before(end);
    if (start && memcmp(++start - (sizeof key - 1), key, sizeof key - 1) == 0)
        name = (mantra_span){.text = start, .size = (size_t)(end - start)};
    return name;
}

/* {"timestamp","microtimestamp","bids","asks"}: a diff or an image of decoder->book; a snapshot as a diff. */
static inline int
mantra_bitstamp_book(mantra_decoder *decoder, const char *const *at, const char *end, int kind)
{
    if (mantra_json_integer_at(at[MANTRA_BITSTAMP_microtimestamp], end, &decoder->last) ||
        decoder->last > INT64_MAX / 1000)
        return MANTRA_MALFORMED;
    decoder->first = decoder->last;
    decoder->venue_time_ns = (int64_t)(decoder->last * 1000);
    return mantra_json_sides(decoder, &at[MANTRA_BITSTAMP_bids], end, kind);
}

/* {"id","type","price_str","amount_str","microtimestamp",...}; the floats beside them are never read. */
static inline int
mantra_bitstamp_trade(mantra_decoder *decoder, const char *const *at, const char *end)
{
    mantra_print *trade = decoder->trades;
    uint64_t type, time;
    if (decoder->trade_capacity < 1)
        return MANTRA_TOO_MANY;
    if (mantra_json_integer_at(at[MANTRA_BITSTAMP_id], end, &trade->trade_id) ||
        mantra_json_integer_at(at[MANTRA_BITSTAMP_type], end, &type) || type > 1 ||
        mantra_json_integer_at(at[MANTRA_BITSTAMP_microtimestamp], end, &time) || time > INT64_MAX / 1000 ||
        !at[MANTRA_BITSTAMP_price_str] || !at[MANTRA_BITSTAMP_amount_str])
        return MANTRA_MALFORMED;
    trade->side = type ? MANTRA_SELL : MANTRA_BUY;
    trade->venue_time_ns = (int64_t)(time * 1000);
    return mantra_json_trade(decoder, at[MANTRA_BITSTAMP_price_str], at[MANTRA_BITSTAMP_amount_str], end);
}

/* The name of an event in its market's chain. */
static inline bool
mantra_bitstamp_link(const char *value, const char *end, char link[MANTRA_LINK_BYTES])
{
    const mantra_span name = mantra_json_text_at(value, end);
    if (!name.text || name.size > MANTRA_LINK_BYTES)
        return false;
    memset(link, 0, MANTRA_LINK_BYTES);
    memcpy(link, name.text, name.size);
    return true;
}

/* Orders that take what is there and never rest: market, immediate or cancel, fill or kill. */
static inline bool
mantra_bitstamp_taker(uint64_t subtype)
{
    return subtype == 2 || subtype == 4 || subtype == 6;
}

/* {"id","order_type","order_subtype","price_str","amount_str","microtimestamp",...}: what rests of an order; where it
 * never does, a link in the chain and no more. */
static inline int
mantra_bitstamp_order(mantra_decoder *decoder, const char *const *at, const char *end, bool gone)
{
    const mantra_scale scale = decoder->scales[decoder->book];
    mantra_order_change *order = decoder->orders;
    uint64_t type, subtype = 0;
    if (decoder->order_capacity < 1)
        return MANTRA_TOO_MANY;
    if (mantra_json_integer_at(at[MANTRA_BITSTAMP_id], end, &order->id) || order->id == 0 ||
        mantra_json_integer_at(at[MANTRA_BITSTAMP_order_type], end, &type) || type > 1 ||
        (at[MANTRA_BITSTAMP_order_subtype] &&
         mantra_json_integer_at(at[MANTRA_BITSTAMP_order_subtype], end, &subtype)) ||
        mantra_json_integer_at(at[MANTRA_BITSTAMP_microtimestamp], end, &decoder->last) ||
        decoder->last > INT64_MAX / 1000 || !at[MANTRA_BITSTAMP_price_str] || !at[MANTRA_BITSTAMP_amount_str])
        return MANTRA_MALFORMED;
    decoder->first = decoder->last;
    decoder->venue_time_ns = (int64_t)(decoder->last * 1000);
    if (mantra_bitstamp_taker(subtype))
        return MANTRA_ORDERS;
    mantra_json price = {at[MANTRA_BITSTAMP_price_str], end}, size = {at[MANTRA_BITSTAMP_amount_str], end};
    int status = mantra_json_decimal(&price, scale.price_decimals, &order->price);
    if (status == 0)
        status = mantra_json_decimal(&size, scale.size_decimals, &order->size);
    if (status)
        return status;
    if (order->price <= 0 || order->size < 0)
        return MANTRA_MALFORMED;
    order->kind = type ? MANTRA_ASK : MANTRA_BID;
    order->size = gone ? 0 : order->size;
    decoder->order_count = 1;
    return MANTRA_ORDERS;
}

/* A side of [["price","size","id"],...]. */
static inline int
mantra_bitstamp_orders(mantra_decoder *decoder, const char *value, const char *end, uint8_t kind)
{
    const mantra_scale scale = decoder->scales[decoder->book];
    mantra_json json = {value, end};
    int more = mantra_json_enter(&json, '[');
    for (; more > 0; more = mantra_json_next(&json, '[')) {
        mantra_order_change *order = &decoder->orders[decoder->order_count];
        if (decoder->order_count == decoder->order_capacity)
            return MANTRA_TOO_MANY;
        if (mantra_json_enter(&json, '[') != 1)
            return MANTRA_MALFORMED;
        int status = mantra_json_decimal(&json, scale.price_decimals, &order->price);
        if (status == 0 && mantra_json_next(&json, '[') == 1)
            status = mantra_json_decimal(&json, scale.size_decimals, &order->size);
        else
            status = status ? status : MANTRA_MALFORMED;
        if (status)
            return status;
        if (mantra_json_next(&json, '[') != 1 || mantra_json_integer(&json, &order->id) || order->id == 0 ||
            mantra_json_next(&json, '[') != 0 || order->size < 0)
            return MANTRA_MALFORMED;
        order->kind = kind;
        if (order->price > 0)
            decoder->order_count++;
        else
            decoder->unpriced++;
    }
    return more;
}

/* Any message, its members in any order. */
MANTRA_COLD int
mantra_bitstamp_message(mantra_decoder *decoder, const char *text, size_t size)
{
    const char *at[MANTRA_BITSTAMP_COUNT] = {0}, *const end = text + size;
    mantra_json json = {text, end};
    mantra_decoder_begin(decoder);
    if (mantra_json_members(&json, mantra_bitstamp_names, at, MANTRA_BITSTAMP_COUNT, MANTRA_BITSTAMP_COUNT) ||
        mantra_json_finish(&json))
        return MANTRA_MALFORMED;
    const mantra_span event = mantra_json_text_at(at[MANTRA_BITSTAMP_event], end);
    const mantra_span name = mantra_json_text_at(at[MANTRA_BITSTAMP_channel], end);
    if (MANTRA_SPAN_STARTS(event, "bts:"))
        return MANTRA_SPAN_IS(event, "bts:heartbeat") ? MANTRA_IGNORED : MANTRA_CONTROL;
    if (!event.text || !name.text || event.escaped || name.escaped || !at[MANTRA_BITSTAMP_data])
        return MANTRA_MALFORMED;
    const mantra_bitstamp_channel channel = mantra_bitstamp_read_channel(decoder, name);
    if (channel.kind == MANTRA_IGNORED)
        return MANTRA_IGNORED;
    const bool gone = MANTRA_SPAN_IS(event, "order_deleted");
    if (channel.kind == MANTRA_TRADES   ? !MANTRA_SPAN_IS(event, "trade")
        : channel.kind == MANTRA_ORDERS ? !gone && !MANTRA_SPAN_IS(event, "order_created") &&
                                              !MANTRA_SPAN_IS(event, "order_changed")
                                        : !MANTRA_SPAN_IS(event, "data"))
        return MANTRA_MALFORMED;
    if (channel.book < 0)
        return MANTRA_UNKNOWN;
    decoder->book = (uint32_t)channel.book;
    decoder->linked = mantra_bitstamp_link(at[MANTRA_BITSTAMP_event_id], end, decoder->link) &&
                      mantra_bitstamp_link(at[MANTRA_BITSTAMP_pre_event_id], end, decoder->before);
    json = (mantra_json){at[MANTRA_BITSTAMP_data], end};
    memset(at, 0, sizeof at);
    if (mantra_json_members(&json, mantra_bitstamp_names, at, MANTRA_BITSTAMP_COUNT, MANTRA_BITSTAMP_COUNT))
        return MANTRA_MALFORMED;
    return channel.kind == MANTRA_TRADES   ? mantra_bitstamp_trade(decoder, at, end)
           : channel.kind == MANTRA_ORDERS ? mantra_bitstamp_order(decoder, at, end, gone)
                                           : mantra_bitstamp_book(decoder, at, end, channel.kind);
}

/* {"id":..} of a trade, and {"timestamp":..} of a book, as the venue spells them, up to the closing brace. */
static inline bool
mantra_bitstamp_usual_trade(mantra_decoder *decoder, mantra_json *json)
{
    const mantra_scale scale = decoder->scales[decoder->book];
    mantra_print *trade = decoder->trades;
    mantra_span number;
    uint64_t other, type, time;
    if (decoder->trade_capacity < 1 || !MANTRA_JSON_EXPECT(json, "{\"id\":") ||
        mantra_integer(&json->at, json->end, &trade->trade_id) || !MANTRA_JSON_EXPECT(json, ",\"timestamp\":\"") ||
        mantra_integer(&json->at, json->end, &other) || !MANTRA_JSON_EXPECT(json, "\",\"amount\":") ||
        mantra_json_number(json, &number) || !MANTRA_JSON_EXPECT(json, ",\"amount_str\":\"") ||
        mantra_decimal(&json->at, json->end, scale.size_decimals, &trade->size) ||
        !MANTRA_JSON_EXPECT(json, "\",\"price\":") || mantra_json_number(json, &number) ||
        !MANTRA_JSON_EXPECT(json, ",\"price_str\":\"") ||
        mantra_decimal(&json->at, json->end, scale.price_decimals, &trade->price) ||
        !MANTRA_JSON_EXPECT(json, "\",\"type\":") || mantra_integer(&json->at, json->end, &type) || type > 1 ||
        !MANTRA_JSON_EXPECT(json, ",\"microtimestamp\":\"") || mantra_integer(&json->at, json->end, &time) ||
        time > INT64_MAX / 1000 || !MANTRA_JSON_EXPECT(json, "\",\"buy_order_id\":") ||
        mantra_integer(&json->at, json->end, &other) || !MANTRA_JSON_EXPECT(json, ",\"sell_order_id\":") ||
        mantra_integer(&json->at, json->end, &other))
        return false;
    trade->side = type ? MANTRA_SELL : MANTRA_BUY;
    trade->venue_time_ns = (int64_t)(time * 1000);
    return mantra_trade_done(decoder) == MANTRA_TRADES;
}

static inline bool
mantra_bitstamp_usual_book(mantra_decoder *decoder, mantra_json *json, int kind, mantra_image *image)
{
    uint64_t seconds;
    int status = 0;
    if (!MANTRA_JSON_EXPECT(json, "{\"timestamp\":\"") || mantra_integer(&json->at, json->end, &seconds) ||
        !MANTRA_JSON_EXPECT(json, "\",\"microtimestamp\":\"") ||
        mantra_integer(&json->at, json->end, &decoder->last) || !MANTRA_JSON_EXPECT(json, "\",\"bids\":") ||
        decoder->last > INT64_MAX / 1000)
        return false;
    decoder->first = decoder->last;
    decoder->venue_time_ns = (int64_t)(decoder->last * 1000);
    for (unsigned side = 0; side < 2 && status == 0; side++) {
        if (side == 1 && !MANTRA_JSON_EXPECT(json, ",\"asks\":"))
            return false;
        status = kind == MANTRA_IMAGE
                     ? mantra_image_side(decoder, json, image, side)
                     : mantra_json_levels(decoder, json, side ? MANTRA_ASK : MANTRA_BID, 0, &image->text[side]);
    }
    return status == 0;
}

/* A message byte for byte as the venue spells it, up to the tail that was peeked at. 0: not so, or an error. */
static inline int
mantra_bitstamp_usual(mantra_decoder *decoder, const char *text, size_t size, mantra_span peeked)
{
    const mantra_bitstamp_channel channel = mantra_bitstamp_read_channel(decoder, peeked);
    mantra_json json = {text, text + size};
    mantra_image image = {0};
    if (channel.book < 0 || (text[size - 3] == 'e') != (channel.kind == MANTRA_TRADES) || /* "trade", "data" */
        !MANTRA_JSON_EXPECT(&json, "{\"data\":"))
        return 0;
    mantra_decoder_begin(decoder);
    decoder->book = (uint32_t)channel.book;
    if (!(channel.kind == MANTRA_TRADES ? mantra_bitstamp_usual_trade(decoder, &json)
                                        : mantra_bitstamp_usual_book(decoder, &json, channel.kind, &image)) ||
        *json.at != '}' || json.at + sizeof "},\"channel\":\"" - 1 != peeked.text)
        return 0;
    const int kind = channel.kind == MANTRA_IMAGE ? mantra_image_finish(decoder, json.end, &image) : channel.kind;
    return kind > 0 ? kind : 0;
}

static inline int
mantra_decode_bitstamp(mantra_decoder *decoder, const char *text, size_t size)
{
    const mantra_span peeked = mantra_bitstamp_peek(text, size);
    const int status = peeked.text ? mantra_bitstamp_usual(decoder, text, size, peeked) : 0;
    return MANTRA_LIKELY(status > 0) ? status : mantra_bitstamp_message(decoder, text, size);
}

/* The answer of /api/v2/order_book/<market>/, for decoder->book: with group=1 MANTRA_IMAGE, with group=2 and where books
 * are kept by order MANTRA_ORDER_BOOK, or an error. */
static inline int
mantra_decode_bitstamp_snapshot(mantra_decoder *decoder, const char *text, size_t size)
{
    const char *at[MANTRA_BITSTAMP_COUNT] = {0};
    mantra_json json = {text, text + size};
    mantra_decoder_begin(decoder);
    if (mantra_json_members(&json, mantra_bitstamp_names, at, MANTRA_BITSTAMP_COUNT, MANTRA_BITSTAMP_COUNT) ||
        mantra_json_finish(&json))
        return MANTRA_MALFORMED;
    const int kind = mantra_bitstamp_book(decoder, at, text + size, MANTRA_DIFF); /* all levels, none remembered */
    if (!decoder->orders || (kind == MANTRA_DIFF && decoder->change_count) || (kind != MANTRA_DIFF && kind != MANTRA_MALFORMED))
        return kind == MANTRA_DIFF ? MANTRA_IMAGE : kind;
    decoder->unpriced = 0;
    if (!at[MANTRA_BITSTAMP_bids] || !at[MANTRA_BITSTAMP_asks] || !decoder->venue_time_ns)
        return MANTRA_MALFORMED;
    int status = mantra_bitstamp_orders(decoder, at[MANTRA_BITSTAMP_bids], text + size, MANTRA_BID);
    if (status == 0)
        status = mantra_bitstamp_orders(decoder, at[MANTRA_BITSTAMP_asks], text + size, MANTRA_ASK);
    return status ? status : MANTRA_ORDER_BOOK;
}

#endif
