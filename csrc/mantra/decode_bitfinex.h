/* decode_bitfinex.h - Bitfinex WebSocket v2, public channels, and REST books.
 *
 *   {"event":"subscribed","channel":"book","chanId":232956,"symbol":"tMNABTC","prec":"P0",...}
 *   [232956,[[0.00002505,2,684.8],[2.6e-7,1,-77.5]],1,1618677545894]     the book: [price, orders, size (asks: negative)]
 *   [232956,[0.00002505,0,1],2,1618677545901]      one level; of no orders: it is gone, and the 1 tells the side
 *   [433290,[34753006045,7294.7,-1.5],...]         likewise of an R0 book, order by order; of price 0: it is gone
 *   [232956,"cs",-1175357890,3,...]   [232959,"te",[id,ms,size (sold: negative),price],4,...]   [232956,"hb",5,...]
 *   | channel | payload    | number, time |       behind the payload stands what the connection asked for by flags
 *
 * Messages name but a number for their channel, so an acknowledgement makes a route. One reading serves the usual
 * spelling and any other: what it does not like is passed over, checked, so that the message's number still counts. */
#ifndef MANTRA_DECODE_BITFINEX_H
#define MANTRA_DECODE_BITFINEX_H

#include "mantra/crc32.h"
#include "mantra/levels.h"

/* mantra_decoder.flags: the venue's, as it acknowledged them; ours: it is in maintenance, books stand still */
#define MANTRA_BITFINEX_SEQ_ALL (UINT64_C(1) << 16)
#define MANTRA_BITFINEX_BULK_UPDATES (UINT64_C(1) << 29)
#define MANTRA_BITFINEX_FROZEN (UINT64_C(1) << 63)

#define MANTRA_BITFINEX_MAINTENANCE 20060 /* codes of events: it begins; the channel is subscribed already */
#define MANTRA_BITFINEX_DUPLICATE 10301

/* mantra_route.kind */
enum {
    MANTRA_BITFINEX_OTHER, /* tickers, funding, aggregated books: of no interest */
    MANTRA_BITFINEX_TRADES,
    MANTRA_BITFINEX_FRESH, /* a book whose snapshot is yet to come: in bulk, updates are lists as well */
    MANTRA_BITFINEX_BOOK,
};

#define MANTRA_BITFINEX_MEMBERS(X) X(event) X(channel) X(chanId) X(symbol) X(prec) X(flags) X(status) X(code) \
    X(platform)
enum {
#define MANTRA_BITFINEX_ENUM(name) MANTRA_BITFINEX_##name,
    MANTRA_BITFINEX_MEMBERS(MANTRA_BITFINEX_ENUM) MANTRA_BITFINEX_COUNT
};
static const mantra_span mantra_bitfinex_names[] = {MANTRA_BITFINEX_MEMBERS(MANTRA_JSON_NAME)};

/* A connection has 25 channels: looking at each beats anything cleverer. */
static inline mantra_route *
mantra_bitfinex_route(const mantra_decoder *decoder, uint64_t channel)
{
    for (uint32_t i = 0; i < decoder->route_count; i++)
        if (decoder->routes[i].channel == channel)
            return &decoder->routes[i];
    return NULL;
}

/* Route an acknowledged channel; the one that carried the same before is of no more interest. */
static inline int
mantra_bitfinex_subscribed(mantra_decoder *decoder, const char *const *at, const char *end)
{
    const mantra_span channel = mantra_json_text_at(at[MANTRA_BITFINEX_channel], end);
    const mantra_span symbol = mantra_json_text_at(at[MANTRA_BITFINEX_symbol], end);
    const mantra_span precision = mantra_json_text_at(at[MANTRA_BITFINEX_prec], end);
    mantra_route new = {.kind = MANTRA_BITFINEX_OTHER};
    if (mantra_json_integer_at(at[MANTRA_BITFINEX_chanId], end, &new.channel) || !channel.text || !symbol.text)
        return MANTRA_MALFORMED;
    new.book = (uint32_t)mantra_find_symbol(decoder->symbols, symbol); /* UINT32_MAX: not ours */
    if (*symbol.text == 't' && MANTRA_SPAN_IS(channel, "trades"))
        new.kind = MANTRA_BITFINEX_TRADES;
    else if (*symbol.text == 't' && MANTRA_SPAN_IS(channel, "book") &&
             (decoder->orders ? MANTRA_SPAN_IS(precision, "R0") : MANTRA_SPAN_IS(precision, "P0")))
        new.kind = MANTRA_BITFINEX_FRESH;
    for (uint32_t i = 0; i < decoder->route_count; i++) {
        mantra_route *old = &decoder->routes[i];
        const uint8_t kind = old->kind == MANTRA_BITFINEX_BOOK ? MANTRA_BITFINEX_FRESH : old->kind;
        if (old->book == new.book && kind == new.kind)
            old->kind = MANTRA_BITFINEX_OTHER;
    }
    mantra_route *route = mantra_bitfinex_route(decoder, new.channel);
    if (!route && decoder->route_count == decoder->route_capacity)
        return MANTRA_TOO_MANY;
    *(route ? route : &decoder->routes[decoder->route_count++]) = new;
    decoder->routed = true;
    return MANTRA_CONTROL;
}

/* {"event":...}; these have no number. */
MANTRA_COLD int
mantra_bitfinex_event(mantra_decoder *decoder, const char *text, size_t size)
{
    const char *at[MANTRA_BITFINEX_COUNT] = {0}, *const end = text + size;
    mantra_json json = {text, end};
    uint64_t number;
    if (mantra_json_members(&json, mantra_bitfinex_names, at, MANTRA_BITFINEX_COUNT, MANTRA_BITFINEX_platform) ||
        mantra_json_finish(&json))
        return MANTRA_MALFORMED;
    const mantra_span event = mantra_json_text_at(at[MANTRA_BITFINEX_event], end);
    if (!event.text)
        return MANTRA_MALFORMED;
    if (MANTRA_SPAN_IS(event, "pong"))
        return MANTRA_HEARTBEAT;
    if (MANTRA_SPAN_IS(event, "subscribed"))
        return mantra_bitfinex_subscribed(decoder, at, end);
    if (MANTRA_SPAN_IS(event, "error") && !mantra_json_integer_at(at[MANTRA_BITFINEX_code], end, &number) &&
        number == MANTRA_BITFINEX_DUPLICATE && !mantra_json_integer_at(at[MANTRA_BITFINEX_chanId], end, &number) &&
        at[MANTRA_BITFINEX_symbol] && !mantra_bitfinex_route(decoder, number))
        return mantra_bitfinex_subscribed(decoder, at, end); /* its acknowledgement was lost */
    if (MANTRA_SPAN_IS(event, "unsubscribed")) {
        if (mantra_json_integer_at(at[MANTRA_BITFINEX_chanId], end, &number))
            return MANTRA_MALFORMED;
        mantra_route *route = mantra_bitfinex_route(decoder, number);
        if (route)
            *route = decoder->routes[--decoder->route_count];
    }
    const mantra_span status = mantra_json_text_at(at[MANTRA_BITFINEX_status], end);
    if (MANTRA_SPAN_IS(event, "conf") && MANTRA_SPAN_IS(status, "OK")) {
        if (mantra_json_integer_at(at[MANTRA_BITFINEX_flags], end, &number))
            return MANTRA_MALFORMED;
        decoder->flags = number | (decoder->flags & MANTRA_BITFINEX_FROZEN);
    }
    if (MANTRA_SPAN_IS(event, "info") &&
        ((at[MANTRA_BITFINEX_platform] && !mantra_json_integer_at(at[MANTRA_BITFINEX_status], end, &number) && !number) ||
         (!mantra_json_integer_at(at[MANTRA_BITFINEX_code], end, &number) && number == MANTRA_BITFINEX_MAINTENANCE)))
        decoder->flags |= MANTRA_BITFINEX_FROZEN; /* until the next connection: Python sees to it when it is over */
    return MANTRA_CONTROL;
}

/* The rest of a number whose sign tells a side: its magnitude, and whether there was a minus. */
static inline int
mantra_bitfinex_signed(mantra_json *json, uint8_t decimals, int64_t *magnitude, bool *negative)
{
    *negative = mantra_json_peek(json) == '-';
    const int status = mantra_json_decimal(json, decimals, magnitude);
    *magnitude = *negative ? -*magnitude : *magnitude;
    return status;
}

/* size] behind the comma, of a level or an order. */
static inline int
mantra_bitfinex_size(mantra_json *json, mantra_scale scale, int64_t *size, uint8_t *kind)
{
    bool ask;
    const int status = mantra_bitfinex_signed(json, scale.size_decimals, size, &ask);
    if (status)
        return status;
    *kind = ask ? MANTRA_ASK : MANTRA_BID;
    return mantra_json_next(json, '[') == 0 && *size > 0 ? 0 : MANTRA_MALFORMED;
}

/* price, orders, size] behind its bracket. */
static inline int
mantra_bitfinex_level(mantra_decoder *decoder, mantra_json *json, mantra_scale scale)
{
    mantra_change *change = &decoder->changes[decoder->change_count];
    uint64_t orders;
    if (decoder->change_count == decoder->change_capacity)
        return MANTRA_TOO_MANY;
    int status = mantra_json_decimal(json, scale.price_decimals, &change->price);
    if (status)
        return status;
    if (mantra_json_next(json, '[') != 1 || mantra_json_integer(json, &orders) || mantra_json_next(json, '[') != 1)
        return MANTRA_MALFORMED;
    status = mantra_bitfinex_size(json, scale, &change->size, &change->kind);
    change->size = orders ? change->size : 0;
    if (MANTRA_LIKELY(change->price > 0))
        decoder->change_count++;
    else
        decoder->unpriced++;
    return status;
}

/* id, price, size] behind its bracket. */
static inline int
mantra_bitfinex_order(mantra_decoder *decoder, mantra_json *json, mantra_scale scale)
{
    mantra_order_change *order = &decoder->orders[decoder->order_count];
    if (decoder->order_count == decoder->order_capacity)
        return MANTRA_TOO_MANY;
    if (mantra_json_integer(json, &order->id) || order->id == 0 || mantra_json_next(json, '[') != 1)
        return MANTRA_MALFORMED;
    int status = mantra_json_decimal(json, scale.price_decimals, &order->price);
    if (status)
        return status;
    if (mantra_json_next(json, '[') != 1 || order->price < 0)
        return MANTRA_MALFORMED;
    status = mantra_bitfinex_size(json, scale, &order->size, &order->kind);
    order->size = order->price ? order->size : 0;
    decoder->order_count++;
    return status;
}

/* One level (or order, if `raw`), or a list of them: a change, all there is, or an error. */
static inline int
mantra_bitfinex_book(mantra_decoder *decoder, mantra_json *json, uint32_t book, bool fresh, bool raw)
{
    const mantra_scale scale = decoder->scales[book];
    int more = mantra_json_enter(json, '[');
    const bool list = more == 0 || mantra_json_peek(json) == '[';
    decoder->book = book;
    while (more > 0) {
        if (list && mantra_json_enter(json, '[') != 1)
            return MANTRA_MALFORMED;
        const int status = MANTRA_UNLIKELY(raw) ? mantra_bitfinex_order(decoder, json, scale)
                                                : mantra_bitfinex_level(decoder, json, scale);
        if (status)
            return status;
        more = list ? mantra_json_next(json, '[') : 0;
    }
    if (more < 0)
        return MANTRA_MALFORMED;
    if (list && (fresh || !(decoder->flags & MANTRA_BITFINEX_BULK_UPDATES)))
        return raw ? MANTRA_ORDER_BOOK : MANTRA_SNAPSHOT;
    return raw ? MANTRA_ORDERS : MANTRA_DIFF;
}

/* [id,ms,size,price] */
static inline int
mantra_bitfinex_trade(mantra_decoder *decoder, mantra_json *json, uint32_t book)
{
    const mantra_scale scale = decoder->scales[book];
    mantra_print *trade = decoder->trades;
    uint64_t time;
    bool sold;
    decoder->book = book;
    if (decoder->trade_capacity < 1)
        return MANTRA_TOO_MANY;
    if (mantra_json_enter(json, '[') != 1 || mantra_json_integer(json, &trade->trade_id) ||
        mantra_json_next(json, '[') != 1 || mantra_json_integer(json, &time) ||
        mantra_venue_time(time, &trade->venue_time_ns) || mantra_json_next(json, '[') != 1)
        return MANTRA_MALFORMED;
    int status = mantra_bitfinex_signed(json, scale.size_decimals, &trade->size, &sold);
    if (status == 0 && mantra_json_next(json, '[') == 1)
        status = mantra_json_decimal(json, scale.price_decimals, &trade->price);
    else
        status = status ? status : MANTRA_MALFORMED;
    if (status)
        return status;
    trade->side = sold ? MANTRA_SELL : MANTRA_BUY;
    return mantra_json_next(json, '[') == 0 ? mantra_trade_done(decoder) : MANTRA_MALFORMED;
}

/* A signed 32-bit number. */
static inline int
mantra_bitfinex_checksum(mantra_decoder *decoder, mantra_json *json, uint32_t book)
{
    int64_t value;
    decoder->book = book;
    if (mantra_json_decimal(json, 0, &value) || value < INT32_MIN || value > INT32_MAX)
        return MANTRA_MALFORMED;
    decoder->checksum = (uint32_t)(int32_t)value;
    decoder->checked = true;
    return MANTRA_CHECKSUM;
}

/* What stands between the channel and the tail. The cursor ends behind it, or, where it is no JSON, at the end. */
static inline int
mantra_bitfinex_payload(mantra_decoder *decoder, mantra_route *route, mantra_json *json)
{
    const uint8_t kind = route ? route->kind : MANTRA_BITFINEX_OTHER;
    const bool of_book = (kind == MANTRA_BITFINEX_FRESH || kind == MANTRA_BITFINEX_BOOK) &&
                         !(decoder->flags & MANTRA_BITFINEX_FROZEN);
    mantra_span word = {0};
    int status = route ? MANTRA_IGNORED : MANTRA_EARLY;
    if (mantra_json_peek(json) == '"') {
        const bool broken = mantra_json_string(json, &word);
        if (!broken && MANTRA_SPAN_IS(word, "hb")) {
            decoder->book = of_book ? route->book : UINT32_MAX;
            return MANTRA_HEARTBEAT;
        }
        if (broken || mantra_json_next(json, '[') != 1) {
            json->at = json->end;
            return MANTRA_MALFORMED;
        }
    }
    const char *start = json->at;
    const bool read = of_book ? !word.text || MANTRA_SPAN_IS(word, "cs")
                              : kind == MANTRA_BITFINEX_TRADES && MANTRA_SPAN_IS(word, "te");
    if (read && route->book == UINT32_MAX)
        status = MANTRA_UNKNOWN;
    else if (read && !of_book)
        status = mantra_bitfinex_trade(decoder, json, route->book);
    else if (read && word.text)
        status = mantra_bitfinex_checksum(decoder, json, route->book);
    else if (read)
        status = mantra_bitfinex_book(decoder, json, route->book, kind == MANTRA_BITFINEX_FRESH, decoder->orders);
    if (read && of_book && !word.text)
        route->kind = MANTRA_BITFINEX_BOOK; /* even if it was not to be read: no later message is the snapshot */
    if (!read || status < 0) {
        json->at = start;
        if (mantra_json_skip(json))
            json->at = json->end;
    }
    return status;
}

/* [channel,payload,number,time] */
static inline int
mantra_bitfinex_frame(mantra_decoder *decoder, mantra_json *json)
{
    uint64_t channel, tail[2];
    unsigned count = 0;
    int more;
    if (mantra_json_enter(json, '[') != 1 || mantra_json_integer(json, &channel) || mantra_json_next(json, '[') != 1)
        return MANTRA_MALFORMED;
    const int status = mantra_bitfinex_payload(decoder, mantra_bitfinex_route(decoder, channel), json);
    while ((more = mantra_json_next(json, '[')) > 0)
        if (count == 2 || mantra_json_integer(json, &tail[count++]))
            return MANTRA_MALFORMED;
    if (more < 0 || mantra_json_finish(json))
        return MANTRA_MALFORMED;
    /* Milliseconds since 1970 are beyond any count of messages. */
    const bool timed = count == 2 || (count == 1 && tail[0] >= UINT64_C(1000000000000));
    int64_t time = 0;
    if ((timed && mantra_venue_time(tail[count - 1], &time)) ||
        (count == timed && (decoder->flags & MANTRA_BITFINEX_SEQ_ALL)))
        return MANTRA_MALFORMED; /* it was to be numbered */
    decoder->numbered = count > timed;
    decoder->number = decoder->numbered ? tail[0] : 0;
    if (status != MANTRA_TRADES) {
        decoder->first = decoder->last = decoder->number;
        decoder->venue_time_ns = time;
    }
    return status;
}

static inline int
mantra_decode_bitfinex(mantra_decoder *decoder, const char *text, size_t size)
{
    mantra_json json = {text, text + size};
    mantra_decoder_begin(decoder);
    decoder->book = UINT32_MAX;
    return MANTRA_LIKELY(mantra_json_peek(&json) == '[') ? mantra_bitfinex_frame(decoder, &json)
                                                         : mantra_bitfinex_event(decoder, text, size);
}

/* The answer of /v2/book/<symbol>/P0, for decoder->book: MANTRA_IMAGE, or an error. */
static inline int
mantra_decode_bitfinex_snapshot(mantra_decoder *decoder, const char *text, size_t size)
{
    mantra_json json = {text, text + size}, whole = json;
    mantra_decoder_begin(decoder);
    decoder->first = decoder->last = 0;
    if (mantra_json_skip(&whole) || mantra_json_finish(&whole))
        return MANTRA_MALFORMED;
    const int status = mantra_bitfinex_book(decoder, &json, decoder->book, true, false);
    return status == MANTRA_SNAPSHOT ? MANTRA_IMAGE : status < 0 ? status : MANTRA_MALFORMED;
}

/* value * 10^-decimals (not 0) as JavaScript prints it, which is how the venue does: plain, without trailing zeros;
 * from seven places behind the point on as 6.6e-7. Returns its length; MANTRA_DECIMAL_BYTES are enough. */
static inline size_t
mantra_bitfinex_print(char *out, int64_t value, uint8_t decimals)
{
    char *at = out;
    uint64_t digits = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    for (*at = '-', at += value < 0; decimals && digits % 10 == 0; decimals--)
        digits /= 10;
    unsigned count = 1;
    while (count < 20 && digits >= mantra_powers_of_ten[count])
        count++;
    const unsigned places = decimals - count + 1; /* of the first digit, behind the point; if count <= decimals */
    if (count > decimals || places < 7)
        return (size_t)(at - out) + mantra_decimal_text(at, (int64_t)digits, decimals);
    at += mantra_decimal_text(at, (int64_t)digits, (uint8_t)(count - 1));
    *at++ = 'e';
    *at++ = '-';
    return (size_t)(at - out) + mantra_decimal_text(at, (int64_t)places, 0);
}

#define MANTRA_BITFINEX_CHECKED 25 /* levels a side */

/* CRC-32 of bid price:bid size:ask price:-ask size:... by rank, where a side has one. */
static inline uint32_t
mantra_checksum_bitfinex(const mantra_book *book, mantra_scale scale, mantra_scale printed)
{
    char text[4 * MANTRA_BITFINEX_CHECKED * MANTRA_DECIMAL_BYTES], *at = text;
    (void)printed;
    for (uint32_t i = 0; i < MANTRA_BITFINEX_CHECKED; i++) {
        for (size_t side = 0; side < 2; side++) {
            const uint32_t count = MANTRA_BOOK_GET(book, count[side]);
            if (i >= count)
                continue;
            const mantra_level *level = mantra_book_side(book, side) + count - 1 - i;
            const int64_t size = mantra_level_size(level);
            at += mantra_bitfinex_print(at, mantra_level_price(level), scale.price_decimals);
            *at++ = ':';
            at += mantra_bitfinex_print(at, side ? -size : size, scale.size_decimals);
            *at++ = ':';
        }
    }
    return mantra_crc32(0, text, (size_t)(at - text) - (at > text));
}

/* Does order `a` stand before `b` of the same side? The better price, then the smaller id. */
static inline bool
mantra_bitfinex_before(const mantra_resting *a, const mantra_resting *b)
{
    return a->price == b->price ? a->id < b->id : (a->price < b->price) == (a->size < 0);
}

/* Likewise of order ids in place of prices. The best are looked for among all: there are five hundred, and it is asked
 * for every other second. */
static inline uint32_t
mantra_checksum_bitfinex_orders(const mantra_orders *orders, mantra_scale scale)
{
    char text[4 * MANTRA_BITFINEX_CHECKED * MANTRA_DECIMAL_BYTES], *at = text;
    mantra_resting best[2][MANTRA_BITFINEX_CHECKED];
    uint32_t count[2] = {0, 0};
    const mantra_resting *order = mantra_orders_table(orders), *const end = order + orders->capacity;
    for (; order < end; order++) {
        const size_t side = order->size < 0;
        uint32_t rank = count[side];
        if (order->id == 0)
            continue;
        if (rank < MANTRA_BITFINEX_CHECKED)
            count[side]++;
        else if (!mantra_bitfinex_before(order, &best[side][--rank]))
            continue;
        for (; rank > 0 && mantra_bitfinex_before(order, &best[side][rank - 1]); rank--)
            best[side][rank] = best[side][rank - 1];
        best[side][rank] = *order;
    }
    for (uint32_t i = 0; i < MANTRA_BITFINEX_CHECKED; i++) {
        for (size_t side = 0; side < 2; side++) {
            if (i >= count[side])
                continue;
            at += mantra_decimal_text(at, (int64_t)best[side][i].id, 0);
            *at++ = ':';
            at += mantra_bitfinex_print(at, best[side][i].size, scale.size_decimals);
            *at++ = ':';
        }
    }
    return mantra_crc32(0, text, (size_t)(at - text) - (at > text));
}

#endif
