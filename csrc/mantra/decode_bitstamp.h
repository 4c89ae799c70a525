/* decode_bitstamp.h - Bitstamp WebSocket v2 messages and REST book snapshots.
 *
 *   {"data":{"timestamp":"..","microtimestamp":"..","bids":[["p","s"]],"asks":[]},
 *    "channel":"diff_order_book_ethusd","event":"data"}
 *
 * The market, and with it the scale of every number, stands behind the data. So the message's tail is peeked at for a
 * channel, the data is read with what it promises, and when the forward reading fails or meets another channel
 * the message is read again without promise. The peek can cost time, never truth. */
#ifndef MANTRA_DECODE_BITSTAMP_H
#define MANTRA_DECODE_BITSTAMP_H

#include "mantra/levels.h"

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

/* {"timestamp","microtimestamp","bids","asks"}: a diff, an image or a snapshot of decoder->book. */
static inline int
mantra_bitstamp_book(mantra_decoder *decoder, mantra_json *json, int kind, mantra_image *image)
{
    bool timed = false;
    mantra_span key;
    decoder->change_count = decoder->unpriced = 0;
    *image = (mantra_image){0};
    int more = mantra_json_enter(json, '{');
    for (; more > 0; more = mantra_json_next(json, '{')) {
        int status = mantra_json_key(json, &key);
        if (status || key.escaped)
            return MANTRA_MALFORMED;
        if (MANTRA_SPAN_IS(key, "bids") || MANTRA_SPAN_IS(key, "asks")) {
            unsigned side = key.text[0] == 'a';
            if (kind == MANTRA_IMAGE) {
                status = mantra_image_side(decoder, json, image, side);
            } else if (image->start[side]) {
                status = MANTRA_MALFORMED;
            } else {
                image->start[side] = json->at;
                status = mantra_json_levels(decoder, json, side ? MANTRA_ASK : MANTRA_BID, 0, &image->text[side]);
            }
        } else if (MANTRA_SPAN_IS(key, "microtimestamp")) {
            status = timed || mantra_json_integer(json, &decoder->last) ||
                             decoder->last > INT64_MAX / 1000 ? MANTRA_MALFORMED : 0;
            timed = true;
        } else {
            status = mantra_json_skip(json);
        }
        if (status)
            return status;
    }
    if (more < 0 || !timed || !image->start[0] || !image->start[1])
        return MANTRA_MALFORMED;
    decoder->first = decoder->last;
    decoder->venue_time_ns = (int64_t)(decoder->last * 1000);
    return 0;
}

/* {"id","type","price_str","amount_str","microtimestamp",...}; the floats beside them are never read. */
static inline int
mantra_bitstamp_trade(mantra_decoder *decoder, mantra_json *json)
{
    const mantra_scale scale = decoder->scales[decoder->book];
    mantra_print *trade = decoder->trades;
    unsigned seen = 0;
    uint64_t number;
    mantra_span key;
    if (decoder->trade_capacity < 1)
        return MANTRA_TOO_MANY;
    int more = mantra_json_enter(json, '{');
    for (; more > 0; more = mantra_json_next(json, '{')) {
        int status = mantra_json_key(json, &key);
        unsigned field = 0;
        if (status || key.escaped)
            return MANTRA_MALFORMED;
        if (MANTRA_SPAN_IS(key, "id")) {
            field = 1;
            status = mantra_json_integer(json, &trade->trade_id);
        } else if (MANTRA_SPAN_IS(key, "type")) {
            field = 2;
            status = mantra_json_integer(json, &number) || number > 1 ? MANTRA_MALFORMED : 0;
            trade->side = status || number ? MANTRA_SELL : MANTRA_BUY;
        } else if (MANTRA_SPAN_IS(key, "price_str")) {
            field = 4;
            status = mantra_json_decimal(json, scale.price_decimals, &trade->price);
        } else if (MANTRA_SPAN_IS(key, "amount_str")) {
            field = 8;
            status = mantra_json_decimal(json, scale.size_decimals, &trade->size);
        } else if (MANTRA_SPAN_IS(key, "microtimestamp")) {
            field = 16;
            status = mantra_json_integer(json, &number) || number > INT64_MAX / 1000 ? MANTRA_MALFORMED : 0;
            trade->venue_time_ns = status ? 0 : (int64_t)(number * 1000);
        } else {
            status = mantra_json_skip(json);
        }
        if (status)
            return status;
        if (seen & field)
            return MANTRA_MALFORMED;
        seen |= field;
    }
    if (more < 0 || seen != 31 || trade->price <= 0 || trade->size < 0)
        return MANTRA_MALFORMED;
    decoder->trade_count = 1;
    decoder->first = decoder->last = trade->trade_id;
    decoder->venue_time_ns = trade->venue_time_ns;
    return 0;
}

static inline int
mantra_bitstamp_data(mantra_decoder *decoder, mantra_json *json, mantra_bitstamp_channel channel, mantra_image *image)
{
    decoder->book = (uint32_t)channel.book;
    return channel.kind == MANTRA_TRADES ? mantra_bitstamp_trade(decoder, json)
                                         : mantra_bitstamp_book(decoder, json, channel.kind, image);
}

/* One message; `peeked` is what its channel is expected to be, or nothing. A broken promise is an error here. */
MANTRA_COLD int
mantra_bitstamp_message(mantra_decoder *decoder, const char *text, size_t size, mantra_span peeked)
{
    mantra_json json = {text, text + size};
    mantra_span key, event = {0}, name = {0};
    mantra_bitstamp_channel channel = {MANTRA_IGNORED, -1};
    mantra_image image;
    const char *data = NULL;
    decoder->change_count = decoder->trade_count = decoder->unpriced = 0;
    if (peeked.text)
        channel = mantra_bitstamp_read_channel(decoder, peeked);
    bool promised = channel.book >= 0;
    int more = mantra_json_enter(&json, '{');
    for (; more > 0; more = mantra_json_next(&json, '{')) {
        int status = mantra_json_key(&json, &key);
        if (status || key.escaped)
            return MANTRA_MALFORMED;
        if (MANTRA_SPAN_IS(key, "data")) {
            if (data)
                return MANTRA_MALFORMED;
            data = json.at;
            status = promised ? mantra_bitstamp_data(decoder, &json, channel, &image) : mantra_json_skip(&json);
        } else if (MANTRA_SPAN_IS(key, "channel")) {
            status = name.text || mantra_json_string(&json, &name) || name.escaped ? MANTRA_MALFORMED : 0;
        } else if (MANTRA_SPAN_IS(key, "event")) {
            status = event.text || mantra_json_string(&json, &event) || event.escaped ? MANTRA_MALFORMED : 0;
        } else {
            status = mantra_json_skip(&json);
        }
        if (status)
            return status;
    }
    if (more < 0 || mantra_json_finish(&json) || !event.text)
        return MANTRA_MALFORMED;
    if (MANTRA_SPAN_STARTS(event, "bts:"))
        return MANTRA_SPAN_IS(event, "bts:heartbeat") ? MANTRA_IGNORED : MANTRA_CONTROL;
    if (!name.text || !data || (promised && name.text != peeked.text))
        return MANTRA_MALFORMED;
    if (!promised)
        channel = mantra_bitstamp_read_channel(decoder, name);
    if (channel.kind == MANTRA_IGNORED)
        return MANTRA_IGNORED;
    if (channel.kind == MANTRA_TRADES ? !MANTRA_SPAN_IS(event, "trade") : !MANTRA_SPAN_IS(event, "data"))
        return MANTRA_MALFORMED;
    if (channel.book < 0)
        return MANTRA_UNKNOWN;
    if (!promised) {
        json = (mantra_json){data, text + size};
        int status = mantra_bitstamp_data(decoder, &json, channel, &image);
        if (status)
            return status;
    }
    return channel.kind == MANTRA_IMAGE ? mantra_image_finish(decoder, text + size, &image) : channel.kind;
}

/* A book message byte for byte as the venue spells it, up to the tail that was peeked at. 0: not so, or an error. */
static inline int
mantra_bitstamp_usual(mantra_decoder *decoder, const char *text, size_t size, mantra_span peeked)
{
    const mantra_bitstamp_channel channel = mantra_bitstamp_read_channel(decoder, peeked);
    const bool wanted = channel.book >= 0 && (channel.kind == MANTRA_DIFF || channel.kind == MANTRA_IMAGE);
    mantra_json json = {text, text + size};
    mantra_image image = {0};
    uint64_t seconds;
    int status = 0;
    if (!wanted || text[size - 3] != 'a' || !MANTRA_JSON_EXPECT(&json, "{\"data\":{\"timestamp\":\"") ||
        mantra_integer(&json.at, json.end, &seconds) || !MANTRA_JSON_EXPECT(&json, "\",\"microtimestamp\":\"") ||
        mantra_integer(&json.at, json.end, &decoder->last) || !MANTRA_JSON_EXPECT(&json, "\",\"bids\":") ||
        decoder->last > INT64_MAX / 1000)
        return 0;
    decoder->book = (uint32_t)channel.book;
    decoder->first = decoder->last;
    decoder->venue_time_ns = (int64_t)(decoder->last * 1000);
    decoder->change_count = decoder->trade_count = decoder->unpriced = 0;
    for (unsigned side = 0; side < 2 && status == 0; side++) {
        if (side == 1 && !MANTRA_JSON_EXPECT(&json, ",\"asks\":"))
            return 0;
        status = channel.kind == MANTRA_IMAGE
                     ? mantra_image_side(decoder, &json, &image, side)
                     : mantra_json_levels(decoder, &json, side ? MANTRA_ASK : MANTRA_BID, 0, &image.text[side]);
    }
    if (status || *json.at != '}' || json.at + sizeof "},\"channel\":\"" - 1 != peeked.text)
        return 0;
    status = channel.kind == MANTRA_IMAGE ? mantra_image_finish(decoder, json.end, &image) : MANTRA_DIFF;
    return status > 0 ? status : 0;
}

static inline int
mantra_decode_bitstamp(mantra_decoder *decoder, const char *text, size_t size)
{
    const mantra_span peeked = mantra_bitstamp_peek(text, size);
    int status = peeked.text ? mantra_bitstamp_usual(decoder, text, size, peeked) : 0;
    if (MANTRA_LIKELY(status > 0))
        return status;
    status = mantra_bitstamp_message(decoder, text, size, peeked);
    if (status < 0 && peeked.text) /* perhaps only for what the peek promised */
        status = mantra_bitstamp_message(decoder, text, size, (mantra_span){0});
    return mantra_verdict(status, text, size);
}

/* The answer of /api/v2/order_book/<market>/?group=1, for decoder->book: MANTRA_IMAGE, or an error. */
static inline int
mantra_decode_bitstamp_snapshot(mantra_decoder *decoder, const char *text, size_t size)
{
    mantra_json json = {text, text + size};
    mantra_image image;
    decoder->trade_count = 0;
    int status = mantra_bitstamp_book(decoder, &json, MANTRA_DIFF, &image); /* as a diff: all levels, none remembered */
    if (status == 0)
        status = mantra_json_finish(&json) ? MANTRA_MALFORMED : MANTRA_IMAGE;
    return mantra_verdict(status, text, size);
}

#endif
