/* decode_kraken.h - Kraken spot: WebSocket v2 (objects), v1 (arrays), REST books, and the checksum of a book's text.
 *
 *   {"channel":"book","type":"update","data":[{"symbol":"ETH/USD","bids":[{"price":1797.24,"qty":0.43393711}],
 *    "asks":[],"checksum":3329440863,"timestamp":"2025-05-06T09:17:26.208075Z"}]}
 *   [1920,{"a":[["0.042990","364630.28272081","1618678145.920470"]]},{"b":[],"c":"4105471083"},"book-1000","SC/EUR"]
 *
 * Kraken's own spelling is read as it passes. Anything else is checked whole first, members noted where they stand,
 * then taken from there; then a frame may hold several symbols, each a part.
 *
 * The checksum is over the digits of the best ten levels as Kraken prints them, always with the decimals of the pair.
 * So `printed` learns them from the snapshot's numbers: the most that any has, should one have dropped its trailing
 * zeros. A change with more of them says that the pair has become finer. Where that guesses wrong the checksum fails,
 * and the next snapshot teaches anew. */
#ifndef MANTRA_DECODE_KRAKEN_H
#define MANTRA_DECODE_KRAKEN_H

#include "mantra/crc32.h"
#include "mantra/levels.h"
#include "mantra/venue_time.h"

/* Members that some kind of message needs; all others are only checked. Those of v1's book stand in order of reading:
 * asks first. */
#define MANTRA_KRAKEN_MEMBERS(X)                                                                                       \
    X(channel) X(type) X(data) X(method) X(event) X(symbol) X(side) X(price) X(qty) X(trade_id) X(timestamp)           \
    X(checksum) X(asks) X(bids) X(as) X(bs) X(a) X(b) X(c) X(result)
enum {
#define MANTRA_KRAKEN_ENUM(name) MANTRA_KRAKEN_##name,
    MANTRA_KRAKEN_MEMBERS(MANTRA_KRAKEN_ENUM) MANTRA_KRAKEN_COUNT
};
static const mantra_span mantra_kraken_names[] = {MANTRA_KRAKEN_MEMBERS(MANTRA_JSON_NAME)};

/* What the parts of a message are (decoder->flags, from its first call to its last), if neither of these kinds:
 * MANTRA_SNAPSHOT, MANTRA_DIFF, MANTRA_TRADES. */
enum { MANTRA_KRAKEN_HISTORY = 100 };

/* How numbers are read here, and how they turn out to be printed. */
typedef struct mantra_kraken_reading {
    mantra_places places[2]; /* of price, size */
    uint8_t printed[2];
} mantra_kraken_reading;

static inline mantra_kraken_reading
mantra_kraken_begin(const mantra_decoder *decoder, bool anew)
{
    const mantra_scale scale = decoder->scales[decoder->book], printed = decoder->printed[decoder->book];
    return (mantra_kraken_reading){
        {mantra_places_of(scale.price_decimals), mantra_places_of(scale.size_decimals)},
        {anew ? 0 : printed.price_decimals, anew ? 0 : printed.size_decimals},
    };
}

static inline void
mantra_kraken_learn(mantra_decoder *decoder, const mantra_kraken_reading *reading)
{
    decoder->printed[decoder->book] = (mantra_scale){reading->printed[0], reading->printed[1]};
}

/* Decimals that a number would be printed with in plain: 1.50 two, 1e-8 eight, 1e5 none. */
MANTRA_COLD unsigned
mantra_kraken_decimals(const char *number, const char *behind)
{
    const char *exponent = number;
    int64_t decimals = 0, shift = 0;
    bool fraction = false;
    for (; exponent < behind && (*exponent | 0x20) != 'e'; exponent++) {
        decimals += fraction;
        fraction |= *exponent == '.';
    }
    for (const char *p = exponent; p < behind; p++)
        if (mantra_is_digit(*p) && shift < 1000000)
            shift = shift * 10 + (*p - '0');
    decimals += exponent < behind && exponent[1] == '-' ? shift : -shift;
    return decimals < 0 ? 0 : decimals > MANTRA_MAX_DECIMALS ? MANTRA_MAX_DECIMALS : (unsigned)decimals;
}

/* One price (which 0) or size (1), bare or in quotes. */
static inline int
mantra_kraken_number(mantra_json *json, mantra_kraken_reading *reading, unsigned which, int64_t *out)
{
    const bool quoted = mantra_json_peek(json) == '"';
    const char *number = json->at + quoted;
    unsigned count = mantra_count_digits(mantra_load_digits(number)), after = 0;
    const char *behind = number + count;
    const bool point = *behind == '.';
    if (point) {
        after = mantra_count_digits(mantra_load_digits(behind + 1));
        behind += 1 + after;
    }
    if (MANTRA_UNLIKELY(behind > json->end || mantra_is_digit(*behind) || (*behind | 0x20) == 'e' ||
                        (point && !after) || !mantra_places_read(&reading->places[which], number, count, after, out))) {
        behind = number;
        const int status = mantra_decimal_any(&behind, json->end, reading->places[which].decimals, out);
        if (status)
            return status;
        after = mantra_kraken_decimals(number, behind);
    }
    reading->printed[which] = after > reading->printed[which] ? (uint8_t)after : reading->printed[which];
    json->at = behind + quoted;
    return quoted && (behind >= json->end || *behind != '"') ? MANTRA_MALFORMED : 0;
}

/* ["price","volume","seconds.micros"], perhaps with "r" (a level come back into the depth), and REST's, whose seconds
 * are bare. The newest time is the message's. */
static inline int
mantra_kraken_level_v1(mantra_decoder *decoder, mantra_json *json, mantra_kraken_reading *reading,
                       mantra_change *change)
{
    int64_t time_ns;
    if (mantra_json_enter(json, '[') != 1)
        return MANTRA_MALFORMED;
    for (unsigned which = 0; which < 2; which++) {
        const int status = mantra_kraken_number(json, reading, which, which ? &change->size : &change->price);
        if (status)
            return status;
        if (mantra_json_next(json, '[') != 1)
            return MANTRA_MALFORMED;
    }
    const bool quoted = mantra_json_peek(json) == '"';
    json->at += quoted;
    if (mantra_time_seconds(&json->at, json->end, &time_ns) || (quoted && !MANTRA_JSON_EXPECT(json, "\"")))
        return MANTRA_MALFORMED;
    decoder->venue_time_ns = time_ns > decoder->venue_time_ns ? time_ns : decoder->venue_time_ns;
    const int more = mantra_json_next(json, '[');
    return more == 0 || (more == 1 && mantra_json_skip(json) == 0 && mantra_json_next(json, '[') == 0)
               ? 0 : MANTRA_MALFORMED;
}

/* {"price":1797.24,"qty":0.43393711} in any spelling. */
MANTRA_COLD int
mantra_kraken_level_spelt(mantra_json *json, mantra_kraken_reading *reading, mantra_change *change)
{
    const char *at[MANTRA_KRAKEN_COUNT] = {0};
    if (mantra_json_members(json, mantra_kraken_names, at, MANTRA_KRAKEN_COUNT, MANTRA_KRAKEN_COUNT) ||
        !at[MANTRA_KRAKEN_price] || !at[MANTRA_KRAKEN_qty])
        return MANTRA_MALFORMED;
    mantra_json price = {at[MANTRA_KRAKEN_price], json->end}, size = {at[MANTRA_KRAKEN_qty], json->end};
    const int status = mantra_kraken_number(&price, reading, 0, &change->price);
    return status ? status : mantra_kraken_number(&size, reading, 1, &change->size);
}

static inline int
mantra_kraken_level_v2(mantra_json *json, mantra_kraken_reading *reading, mantra_change *change)
{
    const char *const start = json->at;
    if (MANTRA_LIKELY(MANTRA_JSON_EXPECT(json, "{\"price\":") &&
                      mantra_kraken_number(json, reading, 0, &change->price) == 0 &&
                      MANTRA_JSON_EXPECT(json, ",\"qty\":") &&
                      mantra_kraken_number(json, reading, 1, &change->size) == 0 && MANTRA_JSON_EXPECT(json, "}")))
        return 0;
    json->at = start;
    return mantra_kraken_level_spelt(json, reading, change);
}

/* One side, from where its array stands. */
static inline int
mantra_kraken_levels(mantra_decoder *decoder, mantra_json *json, mantra_kraken_reading *reading, uint8_t kind, bool v2)
{
    int more = mantra_json_enter(json, '[');
    while (more > 0) {
        if (decoder->change_count == decoder->change_capacity)
            return MANTRA_TOO_MANY;
        mantra_change *change = &decoder->changes[decoder->change_count];
        const int status = v2 ? mantra_kraken_level_v2(json, reading, change)
                              : mantra_kraken_level_v1(decoder, json, reading, change);
        if (status)
            return status;
        if (change->size < 0)
            return MANTRA_MALFORMED;
        change->kind = kind;
        decoder->change_count += change->price > 0;
        decoder->unpriced += change->price <= 0;
        more = mantra_json_next(json, '[');
        mantra_json_space(json);
    }
    return more;
}

/* The sides of a book from where they stand (asks, bids; NULL: there is none), its checksum: `kind`, or an error. */
static inline int
mantra_kraken_book(mantra_decoder *decoder, const char *const sides[2], const char *checksum, const char *end, int kind,
                   bool v2)
{
    mantra_kraken_reading reading = mantra_kraken_begin(decoder, kind != MANTRA_DIFF);
    uint64_t sum = 0;
    for (unsigned i = 0; i < 2; i++) {
        const unsigned side = v2 ? 1 - i : i; /* in the order in which the venue writes them */
        const uint8_t level = side ? MANTRA_BID : MANTRA_ASK;
        mantra_json json = {sides[side], end};
        const int status = sides[side] ? mantra_kraken_levels(decoder, &json, &reading, level, v2) : 0;
        if (status)
            return status;
    }
    if (checksum && (mantra_json_integer_at(checksum, end, &sum) || sum > UINT32_MAX))
        return MANTRA_MALFORMED;
    decoder->checked = checksum != NULL;
    decoder->checksum = (uint32_t)sum;
    decoder->first = decoder->last = 0;
    if (kind != MANTRA_IMAGE) /* REST prints otherwise than the stream */
        mantra_kraken_learn(decoder, &reading);
    return kind;
}

static inline int
mantra_kraken_time_at(const char *value, const char *end, int64_t *out_ns)
{
    const mantra_span text = mantra_json_text_at(value, end);
    const char *at = text.text;
    return at && mantra_time_rfc3339(&at, at + text.size, out_ns) == 0 && at == text.text + text.size
               ? 0 : MANTRA_MALFORMED;
}

/* ---- trades ---- */

/* Another trade of decoder->book, its side and time known, from where its price and size stand: 0, or an error. */
static inline int
mantra_kraken_trade(mantra_decoder *decoder, const char *price_at, const char *size_at, const char *end)
{
    const mantra_scale scale = decoder->scales[decoder->book];
    mantra_print *trade = &decoder->trades[decoder->trade_count];
    mantra_json price = {price_at, end}, size = {size_at, end};
    int status = mantra_json_decimal(&price, scale.price_decimals, &trade->price);
    if (status == 0)
        status = mantra_json_decimal(&size, scale.size_decimals, &trade->size);
    if (status == 0 && (trade->price <= 0 || trade->size < 0))
        status = MANTRA_MALFORMED;
    decoder->trade_count += status == 0;
    return status;
}

/* All trades of a part are there. History is told oldest first, whichever way it came. */
static inline int
mantra_kraken_traded(mantra_decoder *decoder)
{
    mantra_print *first = decoder->trades, *last = first + decoder->trade_count - 1;
    if (decoder->history && first->trade_id > last->trade_id)
        for (mantra_print *a = first, *b = last; a < b; a++, b--) {
            const mantra_print moved = *a;
            *a = *b;
            *b = moved;
        }
    decoder->first = first->trade_id;
    decoder->last = last->trade_id;
    decoder->venue_time_ns = last->venue_time_ns;
    return MANTRA_TRADES;
}

/* {"symbol","side","price","qty","trade_id","timestamp"} */
static inline int
mantra_kraken_trade_v2(mantra_decoder *decoder, const char *const *at, const char *end)
{
    mantra_print *trade = &decoder->trades[decoder->trade_count];
    const mantra_span side = mantra_json_text_at(at[MANTRA_KRAKEN_side], end);
    const bool sold = MANTRA_SPAN_IS(side, "sell");
    if (!at[MANTRA_KRAKEN_price] || !at[MANTRA_KRAKEN_qty] || (!sold && !MANTRA_SPAN_IS(side, "buy")) ||
        mantra_json_integer_at(at[MANTRA_KRAKEN_trade_id], end, &trade->trade_id) ||
        mantra_kraken_time_at(at[MANTRA_KRAKEN_timestamp], end, &trade->venue_time_ns))
        return MANTRA_MALFORMED;
    trade->side = sold ? MANTRA_SELL : MANTRA_BUY;
    return mantra_kraken_trade(decoder, at[MANTRA_KRAKEN_price], at[MANTRA_KRAKEN_qty], end);
}

/* [["price","volume","seconds.micros","b" or "s",...],...]: v1's have no ids. */
static inline int
mantra_kraken_trades_v1(mantra_decoder *decoder, mantra_json json)
{
    const char *at[4];
    mantra_span text;
    for (int more = mantra_json_enter(&json, '['); more; more = mantra_json_next(&json, '[')) {
        mantra_print *trade = &decoder->trades[decoder->trade_count];
        if (decoder->trade_count == decoder->trade_capacity)
            return MANTRA_TOO_MANY;
        int inner = more < 0 ? more : mantra_json_enter(&json, '[');
        unsigned count = 0;
        for (; inner > 0; inner = mantra_json_next(&json, '['), count++) {
            mantra_json_space(&json);
            if (count < 4)
                at[count] = json.at;
            if (mantra_json_skip(&json))
                return MANTRA_MALFORMED;
        }
        if (inner < 0 || count < 4 || !(text = mantra_json_text_at(at[2], json.end)).text)
            return MANTRA_MALFORMED;
        const char *time = text.text, *behind = text.text + text.size;
        if (mantra_time_seconds(&time, behind, &trade->venue_time_ns) || time != behind)
            return MANTRA_MALFORMED;
        text = mantra_json_text_at(at[3], json.end);
        if (!MANTRA_SPAN_IS(text, "b") && !MANTRA_SPAN_IS(text, "s"))
            return MANTRA_MALFORMED;
        trade->side = *text.text == 'b' ? MANTRA_BUY : MANTRA_SELL;
        trade->trade_id = 0;
        const int status = mantra_kraken_trade(decoder, at[0], at[1], json.end);
        if (status)
            return status;
    }
    return decoder->trade_count ? mantra_kraken_traded(decoder) : MANTRA_IGNORED;
}

/* ---- messages ---- */

/* The part at decoder->rest: one book, or as many trades in a row as are of one. */
static inline int
mantra_kraken_part(mantra_decoder *decoder, const char *end)
{
    mantra_json json = {decoder->rest, end};
    const bool trades = decoder->flags == MANTRA_TRADES || decoder->flags == MANTRA_KRAKEN_HISTORY;
    int status;
    mantra_decoder_begin(decoder);
    decoder->history = decoder->flags == MANTRA_KRAKEN_HISTORY;
    do {
        const char *at[MANTRA_KRAKEN_COUNT] = {0}, *const here = json.at;
        const bool unclear = mantra_json_members(&json, mantra_kraken_names, at, MANTRA_KRAKEN_COUNT,
                                                 MANTRA_KRAKEN_COUNT) != 0;
        const mantra_span symbol = mantra_json_text_at(at[MANTRA_KRAKEN_symbol], end);
        const int32_t book = symbol.text ? mantra_find_symbol(decoder->symbols, symbol) : -1;
        decoder->rest = here;
        if (decoder->trade_count &&
            (unclear || (uint32_t)book != decoder->book || decoder->trade_count == decoder->trade_capacity))
            return mantra_kraken_traded(decoder); /* this one is another part */
        decoder->book = (uint32_t)book;
        if (unclear || !symbol.text)
            status = MANTRA_MALFORMED;
        else if (book < 0)
            status = MANTRA_UNKNOWN;
        else if (trades)
            status = decoder->trade_capacity ? mantra_kraken_trade_v2(decoder, at, end) : MANTRA_TOO_MANY;
        else if (!at[MANTRA_KRAKEN_asks] || !at[MANTRA_KRAKEN_bids] ||
                 (at[MANTRA_KRAKEN_timestamp] &&
                  mantra_kraken_time_at(at[MANTRA_KRAKEN_timestamp], end, &decoder->venue_time_ns)))
            status = MANTRA_MALFORMED;
        else
            status = mantra_kraken_book(decoder, &at[MANTRA_KRAKEN_asks], at[MANTRA_KRAKEN_checksum], end,
                                        (int)decoder->flags, true);
        if (unclear) {
            json.at = here;
            mantra_json_skip(&json); /* the text is known to be JSON */
        }
        mantra_json_space(&json);
        decoder->rest = *json.at == ',' ? ++json.at : NULL;
    } while (status == 0 && decoder->rest);
    return status ? status : mantra_kraken_traded(decoder);
}

/* Any v2 message, and v1's events. */
static inline int
mantra_kraken_object(mantra_decoder *decoder, mantra_json json)
{
    const char *at[MANTRA_KRAKEN_COUNT] = {0}, *const end = json.end;
    if (mantra_json_members(&json, mantra_kraken_names, at, MANTRA_KRAKEN_COUNT, MANTRA_KRAKEN_COUNT) ||
        mantra_json_finish(&json))
        return MANTRA_MALFORMED;
    const mantra_span channel = mantra_json_text_at(at[MANTRA_KRAKEN_channel], end);
    const mantra_span type = mantra_json_text_at(at[MANTRA_KRAKEN_type], end);
    const unsigned verb = at[MANTRA_KRAKEN_event] ? MANTRA_KRAKEN_event : MANTRA_KRAKEN_method;
    const mantra_span said = mantra_json_text_at(at[verb], end);
    if (MANTRA_SPAN_IS(said, "pong") || MANTRA_SPAN_IS(said, "heartbeat") || MANTRA_SPAN_IS(channel, "heartbeat")) {
        decoder->book = UINT32_MAX;
        return MANTRA_HEARTBEAT;
    }
    if (said.text || MANTRA_SPAN_IS(channel, "status"))
        return MANTRA_CONTROL;
    const bool trades = MANTRA_SPAN_IS(channel, "trade");
    if (!trades && !MANTRA_SPAN_IS(channel, "book"))
        return channel.text ? MANTRA_IGNORED : MANTRA_MALFORMED;
    const bool whole = MANTRA_SPAN_IS(type, "snapshot");
    if (!at[MANTRA_KRAKEN_data] || (!whole && !MANTRA_SPAN_IS(type, "update")))
        return MANTRA_MALFORMED;
    decoder->flags = trades ? whole ? MANTRA_KRAKEN_HISTORY : MANTRA_TRADES : whole ? MANTRA_SNAPSHOT : MANTRA_DIFF;
    json = (mantra_json){at[MANTRA_KRAKEN_data], end};
    const int more = mantra_json_enter(&json, '[');
    if (more <= 0)
        return more;
    decoder->rest = json.at;
    return mantra_kraken_part(decoder, end);
}

/* Any v1 message but its events: [channel, value or two, channel's name, pair], whole. */
static inline int
mantra_kraken_array(mantra_decoder *decoder, mantra_json json)
{
    const char *values[5], *at[MANTRA_KRAKEN_COUNT] = {0}, *const end = json.end;
    unsigned count = 0;
    int more = mantra_json_enter(&json, '[');
    for (; more > 0; more = mantra_json_next(&json, '['), count++) {
        mantra_json_space(&json);
        if (count < 5)
            values[count] = json.at;
        if (mantra_json_skip(&json))
            return MANTRA_MALFORMED;
    }
    if (more < 0 || mantra_json_finish(&json) || count < 4 || count > 5)
        return MANTRA_MALFORMED;
    const mantra_span name = mantra_json_text_at(values[count - 2], end);
    const mantra_span symbol = mantra_json_text_at(values[count - 1], end);
    const bool trades = MANTRA_SPAN_IS(name, "trade");
    if (!name.text || !symbol.text)
        return MANTRA_MALFORMED;
    if (!trades && !MANTRA_SPAN_STARTS(name, "book-"))
        return MANTRA_IGNORED;
    const int32_t book = mantra_find_symbol(decoder->symbols, symbol);
    decoder->book = (uint32_t)book;
    if (book < 0)
        return MANTRA_UNKNOWN;
    if (trades)
        return count == 4 ? mantra_kraken_trades_v1(decoder, (mantra_json){values[1], end}) : MANTRA_MALFORMED;
    for (unsigned i = 1; i < count - 2; i++) {
        json = (mantra_json){values[i], end};
        if (mantra_json_members(&json, mantra_kraken_names, at, MANTRA_KRAKEN_COUNT, MANTRA_KRAKEN_COUNT))
            return MANTRA_MALFORMED;
    }
    const bool whole = at[MANTRA_KRAKEN_as] || at[MANTRA_KRAKEN_bs];
    if (whole == (at[MANTRA_KRAKEN_a] || at[MANTRA_KRAKEN_b]))
        return MANTRA_MALFORMED; /* neither, or both */
    return mantra_kraken_book(decoder, &at[whole ? MANTRA_KRAKEN_as : MANTRA_KRAKEN_a], at[MANTRA_KRAKEN_c], end,
                              whole ? MANTRA_SNAPSHOT : MANTRA_DIFF, false);
}

/* Any message, its members in any order. */
MANTRA_COLD int
mantra_kraken_message(mantra_decoder *decoder, const char *text, size_t size)
{
    mantra_json json = {text, text + size};
    mantra_decoder_begin(decoder);
    return mantra_json_peek(&json) == '[' ? mantra_kraken_array(decoder, json) : mantra_kraken_object(decoder, json);
}

/* A book of v2 byte for byte as Kraken spells it. 0: it is none, or has an error. */
static inline int
mantra_kraken_usual_v2(mantra_decoder *decoder, mantra_json json)
{
    mantra_span name;
    uint64_t checksum;
    if (!MANTRA_JSON_EXPECT(&json, "{\"channel\":\"book\",\"type\":\""))
        return 0;
    const bool whole = !MANTRA_JSON_EXPECT(&json, "update");
    if ((whole && !MANTRA_JSON_EXPECT(&json, "snapshot")) || !MANTRA_JSON_EXPECT(&json, "\",\"data\":[{\"symbol\":") ||
        mantra_json_string(&json, &name) || name.escaped)
        return 0;
    const int32_t book = mantra_symbols_find(decoder->symbols, name.text, name.size);
    if (book < 0)
        return 0;
    mantra_decoder_begin(decoder);
    decoder->book = (uint32_t)book;
    mantra_kraken_reading reading = mantra_kraken_begin(decoder, whole);
    if (!MANTRA_JSON_EXPECT(&json, ",\"bids\":") || mantra_kraken_levels(decoder, &json, &reading, MANTRA_BID, true) ||
        !MANTRA_JSON_EXPECT(&json, ",\"asks\":") || mantra_kraken_levels(decoder, &json, &reading, MANTRA_ASK, true) ||
        !MANTRA_JSON_EXPECT(&json, ",\"checksum\":") || mantra_integer(&json.at, json.end, &checksum) ||
        checksum > UINT32_MAX)
        return 0;
    if (MANTRA_JSON_EXPECT(&json, ",\"timestamp\":\"") &&
        (mantra_time_rfc3339(&json.at, json.end, &decoder->venue_time_ns) || !MANTRA_JSON_EXPECT(&json, "\"")))
        return 0;
    if (!MANTRA_JSON_EXPECT(&json, "}]}") || json.at != json.end)
        return 0;
    decoder->checked = true;
    decoder->checksum = (uint32_t)checksum;
    decoder->first = decoder->last = 0;
    mantra_kraken_learn(decoder, &reading);
    return whole ? MANTRA_SNAPSHOT : MANTRA_DIFF;
}

/* A change of v1's book byte for byte as Kraken spells it. 0: it is none, or has an error. The pair, and with it the
 * scale, stands last: what the tail seems to say is believed once the reading has come to it. */
static inline int
mantra_kraken_usual_v1(mantra_decoder *decoder, mantra_json json)
{
    const char *const symbol = json.end - json.at < 64 ? NULL : mantra_json_quote_before(json.end - 2);
    uint64_t number;
    const int32_t book = symbol == NULL ? -1 : mantra_symbols_find(decoder->symbols, symbol + 1,
                                                                   (size_t)(json.end - 2 - (symbol + 1)));
    if (book < 0 || !MANTRA_JSON_EXPECT(&json, "[") || mantra_integer(&json.at, json.end, &number) ||
        !MANTRA_JSON_EXPECT(&json, ",{"))
        return 0;
    mantra_decoder_begin(decoder);
    decoder->book = (uint32_t)book;
    mantra_kraken_reading reading = mantra_kraken_begin(decoder, false);
    const bool asks = MANTRA_JSON_EXPECT(&json, "\"a\":");
    if (asks && mantra_kraken_levels(decoder, &json, &reading, MANTRA_ASK, false))
        return 0;
    if ((!asks || MANTRA_JSON_EXPECT(&json, "},{")) &&
        (!MANTRA_JSON_EXPECT(&json, "\"b\":") || mantra_kraken_levels(decoder, &json, &reading, MANTRA_BID, false)))
        return 0;
    if (!MANTRA_JSON_EXPECT(&json, ",\"c\":\"") || mantra_integer(&json.at, json.end, &number) || number > UINT32_MAX)
        return 0;
    decoder->checksum = (uint32_t)number;
    if (!MANTRA_JSON_EXPECT(&json, "\"},\"book-") || mantra_integer(&json.at, json.end, &number) ||
        !MANTRA_JSON_EXPECT(&json, "\",") || json.at != symbol || memcmp(json.end - 2, "\"]", 2) != 0)
        return 0;
    decoder->checked = true;
    decoder->first = decoder->last = 0;
    mantra_kraken_learn(decoder, &reading);
    return MANTRA_DIFF;
}

static inline int
mantra_decode_kraken(mantra_decoder *decoder, const char *text, size_t size)
{
    const mantra_json json = {text, text + size};
    if (MANTRA_UNLIKELY(decoder->rest != NULL))
        return mantra_kraken_part(decoder, json.end);
    const int status = *text == '[' ? mantra_kraken_usual_v1(decoder, json) : mantra_kraken_usual_v2(decoder, json);
    return MANTRA_LIKELY(status != 0) ? status : mantra_kraken_message(decoder, text, size);
}

/* The answer of /0/public/Depth, for decoder->book: MANTRA_IMAGE, or an error.
 * {"error":[],"result":{"XXBTZUSD":{"asks":[["price","volume",seconds],...],"bids":[...]}}} */
static inline int
mantra_decode_kraken_snapshot(mantra_decoder *decoder, const char *text, size_t size)
{
    const char *at[MANTRA_KRAKEN_COUNT] = {0}, *const end = text + size;
    mantra_json json = {text, end};
    mantra_span pair;
    mantra_decoder_begin(decoder);
    if (mantra_json_members(&json, mantra_kraken_names, at, MANTRA_KRAKEN_COUNT, MANTRA_KRAKEN_COUNT) ||
        mantra_json_finish(&json) || !at[MANTRA_KRAKEN_result])
        return MANTRA_MALFORMED;
    json = (mantra_json){at[MANTRA_KRAKEN_result], end};
    if (mantra_json_enter(&json, '{') != 1 || mantra_json_key(&json, &pair) ||
        mantra_json_members(&json, mantra_kraken_names, at, MANTRA_KRAKEN_COUNT, MANTRA_KRAKEN_COUNT) ||
        !at[MANTRA_KRAKEN_asks] || !at[MANTRA_KRAKEN_bids])
        return MANTRA_MALFORMED;
    return mantra_kraken_book(decoder, &at[MANTRA_KRAKEN_asks], NULL, end, MANTRA_IMAGE, false);
}

/* ---- the checksum ---- */

/* From ticks to the integer whose digits are printed: (ticks >> dropped) * factor, exactly. Decimals that are not
 * printed are zeros, so they are divided away by multiplying with the inverse of 5^dropped modulo 2^64; were they not,
 * the digits would be wrong, and the checksum would tell. Fast below `limit`. */
typedef struct mantra_kraken_print {
    uint64_t limit, factor;
    unsigned added, dropped;
} mantra_kraken_print;

static inline mantra_kraken_print
mantra_kraken_print_of(uint8_t decimals, uint8_t printed)
{
    const unsigned added = printed > decimals ? (unsigned)(printed - decimals) : 0;
    const unsigned dropped = decimals > printed ? (unsigned)(decimals - printed) : 0;
    mantra_kraken_print print = {
        .limit = added > 16 ? 0 : dropped > 2 ? UINT64_MAX : mantra_powers_of_ten[16 + dropped - added],
        .factor = mantra_powers_of_ten[added], .added = added, .dropped = dropped};
    for (unsigned i = 0; i < dropped; i++)
        print.factor *= UINT64_C(0xCCCCCCCCCCCCCCCD); /* 1/5 */
    return print;
}

/* Eight digits as characters less '0', the first in the lowest byte. Paul Khuong, "How to print integers really
 * fast", 2017. */
static inline uint64_t
mantra_digits_of(uint64_t value)
{
    const uint64_t halves = value / 10000 | value % 10000 << 32;
    const uint64_t top = (halves * 10486 >> 20) & UINT64_C(0x0000007F0000007F);
    const uint64_t pairs = ((halves - 100 * top) << 16) + top;
    const uint64_t tens = (pairs * 103 >> 10) & UINT64_C(0x000F000F000F000F);
    return tens + ((pairs - 10 * tens) << 8);
}

static inline void
mantra_store_digits(char *out, uint64_t digits)
{
    digits |= UINT64_C(0x3030303030303030);
    memcpy(out, &digits, 8);
}

MANTRA_COLD char *
mantra_kraken_print_long(char *end, uint64_t value, const mantra_kraken_print *print)
{
    for (unsigned i = 0; i < print->added; i++)
        *--end = '0';
    for (unsigned i = 0; i < print->dropped; i++)
        value /= 10;
    for (; value; value /= 10)
        *--end = (char)('0' + value % 10);
    return end;
}

/* Print a number so that it ends at `end`: where it starts. Text grows to the front, so that whole words can be stored
 * whatever the number of digits: what is too much lies before the start, where the next number goes. `alike`: all have
 * about as many digits, so that looking whether they are few pays. */
static inline char *
mantra_kraken_print_before(char *end, uint64_t value, const mantra_kraken_print *print, bool alike)
{
    if (MANTRA_UNLIKELY(value >= print->limit))
        return mantra_kraken_print_long(end, value, print);
    value = (value >> print->dropped) * print->factor;
    const uint64_t front = alike && value < 100000000 ? 0 : value / 100000000;
    const uint64_t back = mantra_digits_of(value - front * 100000000);
    mantra_store_digits(end - 8, back);
    if (alike && value < 100000000)
        return end - 8 + __builtin_ctzll(back | UINT64_C(1) << 63) / 8;
    const uint64_t digits = mantra_digits_of(front);
    mantra_store_digits(end - 16, digits);
    const int zeros = digits ? __builtin_ctzll(digits) : 64 + __builtin_ctzll(back | UINT64_C(1) << 63);
    return end - 16 + zeros / 8;
}

#define MANTRA_KRAKEN_LEVELS 10 /* a side, whatever the depth */

/* Kraken's checksum of a book: the digits of the best asks, then bids; of each level price, size; without points and
 * leading zeros. */
static inline uint32_t
mantra_checksum_kraken(const mantra_book *book, mantra_scale scale, mantra_scale printed)
{
    const mantra_kraken_print prices = mantra_kraken_print_of(scale.price_decimals, printed.price_decimals);
    const mantra_kraken_print sizes = mantra_kraken_print_of(scale.size_decimals, printed.size_decimals);
    char text[16 + 2 * MANTRA_KRAKEN_LEVELS * 2 * (20 + MANTRA_MAX_DECIMALS)], *start = text + sizeof text;
    for (size_t side = 0; side < 2; side++) { /* from the back: bids, then asks */
        const uint32_t count = MANTRA_BOOK_GET(book, count[side]);
        const uint32_t shown = count < MANTRA_KRAKEN_LEVELS ? count : MANTRA_KRAKEN_LEVELS;
        const mantra_level *level = mantra_book_side(book, side) + count - shown;
        for (uint32_t n = 0; n < shown; n++, level++) {
            start = mantra_kraken_print_before(start, (uint64_t)mantra_level_size(level), &sizes, false);
            start = mantra_kraken_print_before(start, (uint64_t)mantra_level_price(level), &prices, true);
        }
    }
    return mantra_crc32(0, start, (size_t)(text + sizeof text - start));
}

#endif
