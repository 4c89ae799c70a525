/* decode_binance.h - Binance spot streams (raw and combined) and REST depth snapshots.
 *
 *   {"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":ms,"s":"BTCUSDT","U":1,"u":2,"b":[["p","q"]],"a":[]}}
 *   {"stream":"btcusdt@depth20@100ms","data":{"lastUpdateId":2,"bids":[["p","q"]],"asks":[]}}     no symbol inside
 *
 * Keys may come in any order: in the venue's own, levels are read as they pass; in any other they are passed over (and
 * checked) first and read once the message is known. What a key means depends on the event: `a` is a side, an id or a
 * price. So members are only noted where they stand, and a message's kind then takes what it needs. */
#ifndef MANTRA_DECODE_BINANCE_H
#define MANTRA_DECODE_BINANCE_H

#include "mantra/levels.h"

enum { /* members that some kind of message needs; all others are only checked */
    MANTRA_BINANCE_OTHER,
    MANTRA_BINANCE_TYPE,       /* e */
    MANTRA_BINANCE_EVENT_TIME, /* E */
    MANTRA_BINANCE_SYMBOL,     /* s */
    MANTRA_BINANCE_FIRST,      /* U */
    MANTRA_BINANCE_LAST,       /* u */
    MANTRA_BINANCE_B,          /* b */
    MANTRA_BINANCE_A,          /* a: asks, or an aggregated trade's id */
    MANTRA_BINANCE_TRADE_ID,   /* t */
    MANTRA_BINANCE_PRICE,      /* p */
    MANTRA_BINANCE_SIZE,       /* q */
    MANTRA_BINANCE_TIME,       /* T */
    MANTRA_BINANCE_MAKER,      /* m: the buyer was the maker */
    MANTRA_BINANCE_IMAGE_ID,   /* lastUpdateId */
    MANTRA_BINANCE_BIDS,
    MANTRA_BINANCE_ASKS,
    MANTRA_BINANCE_CONTROL,    /* result, code, msg, error or event */
    MANTRA_BINANCE_KEYS,
};
#define MANTRA_BINANCE_BIT(key) (1u << MANTRA_BINANCE_##key)

typedef struct mantra_binance_message {
    unsigned seen, integers;                 /* by key: noted in `values`; also whole numbers, in `numbers` */
    const char *values[MANTRA_BINANCE_KEYS]; /* where the value stands */
    uint64_t numbers[MANTRA_BINANCE_KEYS];
    mantra_span type, symbol;
    bool snapshot, diff;                     /* a REST answer; an event of type depthUpdate */
    int32_t image_book, diff_book;           /* whose levels are met, by stream or caller, by symbol; -1: not known */
    unsigned read;                           /* by key: levels that were read as they passed */
    mantra_image image;
} mantra_binance_message;

static inline unsigned
mantra_binance_key(mantra_span key)
{
    static const uint8_t letters[128] = {
        ['e'] = MANTRA_BINANCE_TYPE, ['E'] = MANTRA_BINANCE_EVENT_TIME, ['s'] = MANTRA_BINANCE_SYMBOL,
        ['U'] = MANTRA_BINANCE_FIRST, ['u'] = MANTRA_BINANCE_LAST, ['b'] = MANTRA_BINANCE_B, ['a'] = MANTRA_BINANCE_A,
        ['t'] = MANTRA_BINANCE_TRADE_ID, ['p'] = MANTRA_BINANCE_PRICE, ['q'] = MANTRA_BINANCE_SIZE,
        ['T'] = MANTRA_BINANCE_TIME, ['m'] = MANTRA_BINANCE_MAKER};
    if (key.size == 1)
        return letters[key.text[0] & 127]; /* one byte of a checked string is ASCII */
    if (MANTRA_SPAN_IS(key, "lastUpdateId"))
        return MANTRA_BINANCE_IMAGE_ID;
    if (MANTRA_SPAN_IS(key, "bids"))
        return MANTRA_BINANCE_BIDS;
    if (MANTRA_SPAN_IS(key, "asks"))
        return MANTRA_BINANCE_ASKS;
    if (MANTRA_SPAN_IS(key, "result") || MANTRA_SPAN_IS(key, "code") || MANTRA_SPAN_IS(key, "msg") ||
        MANTRA_SPAN_IS(key, "error") || MANTRA_SPAN_IS(key, "event"))
        return MANTRA_BINANCE_CONTROL;
    return MANTRA_BINANCE_OTHER;
}

/* The levels of a diff, or of one side of an image. */
static inline int
mantra_binance_levels(mantra_decoder *decoder, mantra_json *json, mantra_binance_message *message, unsigned key)
{
    unsigned side = key == MANTRA_BINANCE_A || key == MANTRA_BINANCE_ASKS;
    mantra_span text;
    decoder->book = (uint32_t)(message->diff ? message->diff_book : message->image_book);
    message->read |= 1u << key;
    if (message->diff || message->snapshot)
        return mantra_json_levels(decoder, json, side ? MANTRA_ASK : MANTRA_BID, 0, &text);
    return mantra_image_side(decoder, json, &message->image, side);
}

/* One member of the message: note it, or read it where it is clear what it is. */
static inline int
mantra_binance_member(mantra_decoder *decoder, mantra_json *json, mantra_binance_message *message, mantra_span name)
{
    unsigned key = mantra_binance_key(name), bit = 1u << key;
    char c = mantra_json_peek(json);
    if (key == MANTRA_BINANCE_OTHER)
        return mantra_json_skip(json);
    if (message->seen & bit && key != MANTRA_BINANCE_CONTROL)
        return MANTRA_MALFORMED; /* two values for one key: which is meant? */
    message->seen |= bit;
    message->values[key] = json->at;
    if (mantra_is_digit(c)) {
        const char *start = json->at;
        if (mantra_integer(&json->at, json->end, &message->numbers[key]) == 0 &&
            (*json->at == ',' || *json->at == '}')) {
            message->integers |= bit;
            return 0;
        }
        json->at = start;
    } else if (key == MANTRA_BINANCE_TYPE && c == '"') {
        int status = mantra_json_string(json, &message->type);
        message->diff = status == 0 && MANTRA_SPAN_IS(message->type, "depthUpdate");
        return status;
    } else if (key == MANTRA_BINANCE_SYMBOL && c == '"') {
        int status = mantra_json_string(json, &message->symbol);
        if (status == 0 && message->diff)
            message->diff_book = mantra_find_symbol(decoder->symbols, message->symbol);
        return status;
    } else if (message->diff ? message->diff_book >= 0 && (key == MANTRA_BINANCE_B || key == MANTRA_BINANCE_A)
                             : message->image_book >= 0 && (key == MANTRA_BINANCE_BIDS || key == MANTRA_BINANCE_ASKS)) {
        return mantra_binance_levels(decoder, json, message, key);
    }
    return mantra_json_skip(json);
}

/* All members of the object here. */
static inline int
mantra_binance_members(mantra_decoder *decoder, mantra_json *json, mantra_binance_message *message)
{
    mantra_span key;
    int more = mantra_json_enter(json, '{');
    for (; more > 0; more = mantra_json_next(json, '{')) {
        if (mantra_json_key(json, &key) || key.escaped)
            return MANTRA_MALFORMED;
        int status = mantra_binance_member(decoder, json, message, key);
        if (status)
            return status;
    }
    return more;
}

/* Levels that were passed over because they came before what says whose they are. */
static inline int
mantra_binance_passed(mantra_decoder *decoder, const char *end, mantra_binance_message *message, unsigned key)
{
    mantra_json json = {message->values[key], end};
    return message->read >> key & 1 ? 0 : mantra_binance_levels(decoder, &json, message, key);
}

static inline int
mantra_binance_diff(mantra_decoder *decoder, const char *end, mantra_binance_message *message)
{
    const unsigned numbers = MANTRA_BINANCE_BIT(EVENT_TIME) | MANTRA_BINANCE_BIT(FIRST) | MANTRA_BINANCE_BIT(LAST);
    const unsigned sides = MANTRA_BINANCE_BIT(B) | MANTRA_BINANCE_BIT(A);
    const unsigned foreign = MANTRA_BINANCE_BIT(BIDS) | MANTRA_BINANCE_BIT(ASKS);
    if ((message->integers & numbers) != numbers || (message->seen & (sides | foreign)) != sides ||
        !message->symbol.text)
        return MANTRA_MALFORMED;
    if (mantra_venue_time(message->numbers[MANTRA_BINANCE_EVENT_TIME], &decoder->venue_time_ns))
        return MANTRA_MALFORMED;
    decoder->first = message->numbers[MANTRA_BINANCE_FIRST];
    decoder->last = message->numbers[MANTRA_BINANCE_LAST];
    if (decoder->first > decoder->last)
        return MANTRA_MALFORMED;
    if (message->diff_book < 0) /* not known while its levels passed */
        message->diff_book = mantra_find_symbol(decoder->symbols, message->symbol);
    if (message->diff_book < 0)
        return MANTRA_UNKNOWN;
    int status = mantra_binance_passed(decoder, end, message, MANTRA_BINANCE_B);
    if (status == 0)
        status = mantra_binance_passed(decoder, end, message, MANTRA_BINANCE_A);
    return status ? status : MANTRA_DIFF;
}

static inline int
mantra_binance_trade(mantra_decoder *decoder, const char *end, mantra_binance_message *message, unsigned id)
{
    const unsigned numbers = MANTRA_BINANCE_BIT(TIME) | 1u << id;
    const unsigned others = MANTRA_BINANCE_BIT(PRICE) | MANTRA_BINANCE_BIT(SIZE) | MANTRA_BINANCE_BIT(MAKER);
    if ((message->integers & numbers) != numbers || (message->seen & others) != others || !message->symbol.text)
        return MANTRA_MALFORMED;
    const char maker = *message->values[MANTRA_BINANCE_MAKER];
    mantra_print *trade = decoder->trades;
    int32_t book = mantra_find_symbol(decoder->symbols, message->symbol);
    if (maker != 't' && maker != 'f')
        return MANTRA_MALFORMED;
    if (book < 0)
        return MANTRA_UNKNOWN;
    decoder->book = (uint32_t)book;
    if (decoder->trade_capacity < 1)
        return MANTRA_TOO_MANY;
    mantra_json price = {message->values[MANTRA_BINANCE_PRICE], end};
    mantra_json size = {message->values[MANTRA_BINANCE_SIZE], end};
    int status = mantra_json_decimal(&price, decoder->scales[book].price_decimals, &trade->price);
    if (status == 0)
        status = mantra_json_decimal(&size, decoder->scales[book].size_decimals, &trade->size);
    if (status)
        return status;
    if (trade->price <= 0 || trade->size < 0 ||
        mantra_venue_time(message->numbers[MANTRA_BINANCE_TIME], &trade->venue_time_ns))
        return MANTRA_MALFORMED;
    trade->trade_id = decoder->first = decoder->last = message->numbers[id];
    trade->side = maker == 't' ? MANTRA_SELL : MANTRA_BUY;
    decoder->venue_time_ns = trade->venue_time_ns;
    decoder->trade_count = 1;
    return MANTRA_TRADES;
}

/* A partial-depth image, or a snapshot. */
static inline int
mantra_binance_image(mantra_decoder *decoder, const char *end, mantra_binance_message *message)
{
    const unsigned sides = MANTRA_BINANCE_BIT(BIDS) | MANTRA_BINANCE_BIT(ASKS);
    if (!(message->integers & MANTRA_BINANCE_BIT(IMAGE_ID)) || (message->seen & sides) != sides)
        return MANTRA_MALFORMED;
    if (message->image_book < 0)
        return MANTRA_UNKNOWN;
    decoder->first = decoder->last = message->numbers[MANTRA_BINANCE_IMAGE_ID];
    int status = mantra_binance_passed(decoder, end, message, MANTRA_BINANCE_BIDS);
    if (status == 0)
        status = mantra_binance_passed(decoder, end, message, MANTRA_BINANCE_ASKS);
    if (status)
        return status;
    return message->snapshot ? MANTRA_IMAGE : mantra_image_finish(decoder, end, &message->image);
}

/* The whole message as text says it, before the verdict on early errors. */
MANTRA_COLD int
mantra_binance_message_kind(mantra_decoder *decoder, const char *text, size_t size)
{
    mantra_binance_message message;
    mantra_json json = {text, text + size};
    mantra_span key, stream = {0};
    bool data = false, image_stream = false;
    message.seen = message.integers = message.read = 0;
    message.type = message.symbol = (mantra_span){0};
    message.snapshot = message.diff = false;
    message.image_book = message.diff_book = -1;
    message.image = (mantra_image){0};
    decoder->change_count = decoder->trade_count = decoder->unpriced = 0;
    decoder->venue_time_ns = 0;
    if (mantra_json_peek(&json) == '[') /* arrays of tickers, raw */
        return mantra_json_skip(&json) || mantra_json_finish(&json) ? MANTRA_MALFORMED : MANTRA_IGNORED;
    int more = mantra_json_enter(&json, '{');
    for (; more > 0; more = mantra_json_next(&json, '{')) {
        int status = mantra_json_key(&json, &key);
        if (status || key.escaped)
            return MANTRA_MALFORMED;
        if (MANTRA_SPAN_IS(key, "stream")) {
            if (stream.text || mantra_json_string(&json, &stream))
                return MANTRA_MALFORMED;
            const char *at = memchr(stream.text, '@', stream.size);
            if (at && stream.text + stream.size - at > 6 && memcmp(at, "@depth", 6) == 0 && mantra_is_digit(at[6])) {
                const mantra_span symbol = {stream.text, (size_t)(at - stream.text), stream.escaped};
                image_stream = true;
                message.image_book = mantra_find_symbol(decoder->symbols, symbol);
            }
        } else if (MANTRA_SPAN_IS(key, "data")) {
            if (data)
                return MANTRA_MALFORMED;
            data = true;
            status = mantra_json_peek(&json) == '{' ? mantra_binance_members(decoder, &json, &message)
                                                    : mantra_json_skip(&json);
        } else {
            status = mantra_binance_member(decoder, &json, &message, key);
        }
        if (status)
            return status;
    }
    if (more < 0 || mantra_json_finish(&json))
        return MANTRA_MALFORMED;
    if (message.diff)
        return mantra_binance_diff(decoder, text + size, &message);
    if (MANTRA_SPAN_IS(message.type, "trade"))
        return mantra_binance_trade(decoder, text + size, &message, MANTRA_BINANCE_TRADE_ID);
    if (MANTRA_SPAN_IS(message.type, "aggTrade"))
        return mantra_binance_trade(decoder, text + size, &message, MANTRA_BINANCE_A);
    if (message.type.text)
        return MANTRA_SPAN_IS(message.type, "serverShutdown") ? MANTRA_CONTROL : MANTRA_IGNORED;
    if (image_stream || message.seen & MANTRA_BINANCE_BIT(IMAGE_ID))
        return mantra_binance_image(decoder, text + size, &message);
    if (message.seen & MANTRA_BINANCE_BIT(CONTROL))
        return MANTRA_CONTROL;
    /* A book ticker names no type; of a combined stream of another name nothing is expected. */
    const unsigned ticker = MANTRA_BINANCE_BIT(LAST) | MANTRA_BINANCE_BIT(SYMBOL);
    return stream.text || (message.seen & ticker) == ticker ? MANTRA_IGNORED : MANTRA_MALFORMED;
}

/* A book diff or a trade byte for byte as the venue spells it, raw or combined. 0: it is neither, or has an error. */
static inline int
mantra_binance_usual(mantra_decoder *decoder, const char *text, size_t size)
{
    mantra_json json = {text, text + size};
    mantra_span name;
    mantra_print *trade = decoder->trades;
    uint64_t event_time, time;
    if (MANTRA_JSON_EXPECT(&json, "{\"stream\":\"")) {
        json.at--;
        if (mantra_json_string(&json, &name) || !MANTRA_JSON_EXPECT(&json, ",\"data\":"))
            return 0;
        json.end--; /* the outer brace is looked at in the end */
    }
    const bool diff = MANTRA_JSON_EXPECT(&json, "{\"e\":\"depthUpdate\",\"E\":");
    if (!diff && !MANTRA_JSON_EXPECT(&json, "{\"e\":\"trade\",\"E\":"))
        return 0;
    if (mantra_integer(&json.at, json.end, &event_time) || !MANTRA_JSON_EXPECT(&json, ",\"s\":") ||
        mantra_json_string(&json, &name))
        return 0;
    const int32_t book = name.escaped ? -1 : mantra_symbols_find(decoder->symbols, name.text, name.size);
    if (book < 0)
        return 0;
    const mantra_scale scale = decoder->scales[book];
    decoder->book = (uint32_t)book;
    decoder->change_count = decoder->trade_count = decoder->unpriced = 0;
    if (diff) {
        if (!MANTRA_JSON_EXPECT(&json, ",\"U\":") || mantra_integer(&json.at, json.end, &decoder->first) ||
            !MANTRA_JSON_EXPECT(&json, ",\"u\":") || mantra_integer(&json.at, json.end, &decoder->last) ||
            decoder->first > decoder->last || mantra_venue_time(event_time, &decoder->venue_time_ns) ||
            !MANTRA_JSON_EXPECT(&json, ",\"b\":") || mantra_json_levels(decoder, &json, MANTRA_BID, 0, &name) ||
            !MANTRA_JSON_EXPECT(&json, ",\"a\":") || mantra_json_levels(decoder, &json, MANTRA_ASK, 0, &name))
            return 0;
    } else {
        if (decoder->trade_capacity < 1 || !MANTRA_JSON_EXPECT(&json, ",\"t\":") ||
            mantra_integer(&json.at, json.end, &trade->trade_id) || !MANTRA_JSON_EXPECT(&json, ",\"p\":\"") ||
            mantra_decimal(&json.at, json.end, scale.price_decimals, &trade->price) ||
            !MANTRA_JSON_EXPECT(&json, "\",\"q\":\"") ||
            mantra_decimal(&json.at, json.end, scale.size_decimals, &trade->size) ||
            !MANTRA_JSON_EXPECT(&json, "\",\"T\":") || mantra_integer(&json.at, json.end, &time) ||
            mantra_venue_time(time, &trade->venue_time_ns) || trade->price <= 0 || trade->size < 0)
            return 0;
        const bool sold = MANTRA_JSON_EXPECT(&json, ",\"m\":true,\"M\":true");
        if (!sold && !MANTRA_JSON_EXPECT(&json, ",\"m\":false,\"M\":true"))
            return 0;
        trade->side = sold ? MANTRA_SELL : MANTRA_BUY;
        decoder->first = decoder->last = trade->trade_id;
        decoder->venue_time_ns = trade->venue_time_ns;
        decoder->trade_count = 1;
    }
    const bool combined = json.end != text + size;
    if (!MANTRA_JSON_EXPECT(&json, "}") || json.at != json.end || (combined && *json.end != '}'))
        return 0;
    return diff ? MANTRA_DIFF : MANTRA_TRADES;
}

static inline int
mantra_decode_binance(mantra_decoder *decoder, const char *text, size_t size)
{
    int status = mantra_binance_usual(decoder, text, size);
    if (MANTRA_UNLIKELY(status == 0))
        status = mantra_verdict(mantra_binance_message_kind(decoder, text, size), text, size);
    return status;
}

/* The answer of /api/v3/depth, for decoder->book: MANTRA_IMAGE, or an error. */
static inline int
mantra_decode_binance_snapshot(mantra_decoder *decoder, const char *text, size_t size)
{
    mantra_binance_message message = {.snapshot = true, .image_book = (int32_t)decoder->book};
    mantra_json json = {text, text + size};
    decoder->change_count = decoder->trade_count = decoder->unpriced = 0;
    decoder->venue_time_ns = 0;
    int status = mantra_binance_members(decoder, &json, &message);
    if (status == 0)
        status = mantra_json_finish(&json) ? MANTRA_MALFORMED : mantra_binance_image(decoder, text + size, &message);
    return mantra_verdict(status, text, size);
}

#endif
