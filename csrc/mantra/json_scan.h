/* json_scan.h - a cursor over one JSON document, pulled by the reader who knows what to expect.
 *
 *   {"data":{"bids":[["1.5","2"]]}}      enter '{' -> key -> (enter | string | number | skip) -> next ... -> finish
 *    ^ at                         ^ end
 *
 * Strict: grammar, UTF-8, control characters, lone surrogates, numbers beyond 64-bit integers or doubles and nesting
 * deeper than 64 are errors, so whatever is accepted here simdjson accepts with the same values. Nothing is copied or
 * allocated, nothing recurses. MANTRA_PADDING readable bytes follow `end`; what stands there never counts. */
#ifndef MANTRA_JSON_SCAN_H
#define MANTRA_JSON_SCAN_H

#include "mantra/base.h"
#include "mantra/ticks.h"

#if defined(__SSE2__) && !defined(MANTRA_PORTABLE)
#include <emmintrin.h>
#endif

#define MANTRA_JSON_DEPTH 64

typedef struct mantra_json {
    const char *at, *end;
} mantra_json;

/* A string's inside or a number's text, as it stands in the document. */
typedef struct mantra_span {
    const char *text;
    size_t size;
    bool escaped; /* holds a backslash: compare or use it only unescaped */
} mantra_span;

#define MANTRA_SPAN_IS(span, literal) \
    ((span).size == sizeof(literal) - 1 && memcmp((span).text, literal, sizeof(literal) - 1) == 0)
#define MANTRA_SPAN_STARTS(span, literal) \
    ((span).size >= sizeof(literal) - 1 && memcmp((span).text, literal, sizeof(literal) - 1) == 0)

static inline void
mantra_json_space(mantra_json *json)
{
    while (json->at < json->end && (uint8_t)*json->at <= ' ' &&
           (*json->at == ' ' || *json->at == '\n' || *json->at == '\r' || *json->at == '\t'))
        json->at++;
}

/* The next character that is no white space, not consumed; NUL at the end. */
static inline char
mantra_json_peek(mantra_json *json)
{
    mantra_json_space(json);
    return json->at < json->end ? *json->at : '\0';
}

/* Consume `open`, '{' or '['. 1: a member follows; 0: it was empty and is closed; MANTRA_MALFORMED. */
static inline int
mantra_json_enter(mantra_json *json, char open)
{
    if (mantra_json_peek(json) != open)
        return MANTRA_MALFORMED;
    json->at++;
    if (mantra_json_peek(json) != open + 2)
        return 1;
    json->at++;
    return 0;
}

/* After a member's value, inside `open`. 1: another member follows; 0: closed; MANTRA_MALFORMED. */
static inline int
mantra_json_next(mantra_json *json, char open)
{
    char c = mantra_json_peek(json);
    json->at++;
    if (c == ',')
        return 1;
    return c == open + 2 ? 0 : MANTRA_MALFORMED;
}
_Static_assert('}' == '{' + 2 && ']' == '[' + 2, "closing brackets are two behind the opening ones");

/* Bit i: byte i of 16 is a quote, a backslash, a control character or not ASCII. */
static inline uint32_t
mantra_json_special(const char *text)
{
#if defined(__SSE2__) && !defined(MANTRA_PORTABLE)
    __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)text);
    __m128i found = _mm_or_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('"')), _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\')));
    found = _mm_or_si128(found, _mm_cmplt_epi8(bytes, _mm_set1_epi8(' '))); /* signed: 0x80 and up are below, too */
    return (uint32_t)_mm_movemask_epi8(found);
#else
    uint32_t found = 0;
    for (unsigned i = 0; i < 16; i++)
        found |= (uint32_t)(text[i] == '"' || text[i] == '\\' || (int8_t)text[i] < ' ') << i;
    return found;
#endif
}

/* Length of the well-formed UTF-8 sequence of more than one byte here; 0: it is none. */
static inline unsigned
mantra_utf8_length(const char *text, const char *end)
{
    const uint8_t *p = (const uint8_t *)text;
    unsigned length = p[0] >= 0xF0 ? 4 : p[0] >= 0xE0 ? 3 : 2;
    if (p[0] < 0xC2 || p[0] > 0xF4 || end - text < (ptrdiff_t)length)
        return 0;
    for (unsigned i = 1; i < length; i++)
        if ((p[i] & 0xC0) != 0x80)
            return 0;
    /* Overlong forms, surrogates, past U+10FFFF. */
    if ((p[0] == 0xE0 && p[1] < 0xA0) || (p[0] == 0xED && p[1] > 0x9F) || (p[0] == 0xF0 && p[1] < 0x90) ||
        (p[0] == 0xF4 && p[1] > 0x8F))
        return 0;
    return length;
}

/* Four hexadecimal digits; -1: they are not. */
static inline int32_t
mantra_json_hex(const char *text)
{
    int32_t value = 0;
    for (unsigned i = 0; i < 4; i++) {
        char c = text[i];
        int digit = mantra_is_digit(c) ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1;
        if (digit < 0)
            return -1;
        value = value << 4 | digit;
    }
    return value;
}

/* The character that an escape sequence (text[0] is the backslash) means, and the sequence's length; -1: malformed. */
static inline int32_t
mantra_json_escape(const char *text, const char *end, unsigned *length)
{
    static const char plain[] = "\"\\/bfnrt", meaning[] = "\"\\/\b\f\n\r\t";
    if (end - text < 2)
        return -1;
    if (text[1] != 'u') {
        const char *found = text[1] ? strchr(plain, text[1]) : NULL;
        *length = 2;
        return found ? meaning[found - plain] : -1;
    }
    int32_t high = end - text < 6 ? -1 : mantra_json_hex(text + 2);
    *length = 6;
    if (high < 0xD800 || high > 0xDFFF)
        return high;
    bool pair = high <= 0xDBFF && end - text >= 12 && text[6] == '\\' && text[7] == 'u';
    int32_t low = pair ? mantra_json_hex(text + 8) : -1;
    *length = 12;
    return low < 0xDC00 || low > 0xDFFF ? -1 : 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
}

/* The rest of a string from its first byte that is neither plain nor the closing quote. */
MANTRA_COLD int
mantra_json_string_rest(mantra_json *json, const char *p, mantra_span *span)
{
    while (p < json->end) {
        uint32_t special = mantra_json_special(p);
        if (special == 0) {
            p += 16;
            continue;
        }
        p += __builtin_ctz(special);
        unsigned length;
        if (p >= json->end)
            break;
        if (*p == '"') {
            span->size = (size_t)(p - span->text);
            json->at = p + 1;
            return 0;
        }
        if (*p == '\\') {
            span->escaped = true;
            if (mantra_json_escape(p, json->end, &length) < 0)
                break;
        } else if ((uint8_t)*p < ' ' || (length = mantra_utf8_length(p, json->end)) == 0) {
            break;
        }
        p += length;
    }
    return MANTRA_MALFORMED;
}

static inline int
mantra_json_string(mantra_json *json, mantra_span *span)
{
    if (mantra_json_peek(json) != '"')
        return MANTRA_MALFORMED;
    const char *p = json->at + 1;
    uint32_t special = mantra_json_special(p);
    *span = (mantra_span){.text = p};
    if (MANTRA_LIKELY(special != 0)) {
        p += __builtin_ctz(special);
        if (MANTRA_LIKELY(*p == '"' && p < json->end)) {
            span->size = (size_t)(p - span->text);
            json->at = p + 1;
            return 0;
        }
    }
    return mantra_json_string_rest(json, span->text, span);
}

/* Write a string's meaning as UTF-8; `out` has room for span.size bytes. Returns its length. */
MANTRA_COLD size_t
mantra_json_unescape(mantra_span span, char *out)
{
    const char *p = span.text, *end = span.text + span.size;
    char *start = out;
    while (p < end) {
        unsigned length = 1;
        if (*p != '\\') {
            *out++ = *p++;
            continue;
        }
        uint32_t c = (uint32_t)mantra_json_escape(p, end, &length);
        p += length;
        if (c < 0x80) {
            *out++ = (char)c;
            continue;
        }
        if (c >= 0x10000) {
            *out++ = (char)(0xF0 | c >> 18);
            *out++ = (char)(0x80 | (c >> 12 & 0x3F));
        } else if (c >= 0x800) {
            *out++ = (char)(0xE0 | c >> 12);
        }
        *out++ = c >= 0x800 ? (char)(0x80 | (c >> 6 & 0x3F)) : (char)(0xC0 | c >> 6);
        *out++ = (char)(0x80 | (c & 0x3F));
    }
    return (size_t)(out - start);
}

/* An object's next key and its colon. */
static inline int
mantra_json_key(mantra_json *json, mantra_span *key)
{
    if (mantra_json_string(json, key) || mantra_json_peek(json) != ':')
        return MANTRA_MALFORMED;
    json->at++;
    return 0;
}

/* A number's text. A whole number must fit 64 bits (signed if negative); any other is refused from 10^308 on. */
static inline int
mantra_json_number(mantra_json *json, mantra_span *span)
{
    mantra_json_space(json);
    const char *p = json->at, *end = json->end, *start;
    bool negative = p < end && *p == '-';
    p += negative;
    for (start = p; p < end && mantra_is_digit(*p);)
        p++;
    int64_t whole = p - start, magnitude = whole;
    if (whole == 0 || (whole > 1 && *start == '0'))
        return MANTRA_MALFORMED;
    bool integer = true;
    if (p < end && *p == '.') {
        integer = false;
        for (start = ++p; p < end && mantra_is_digit(*p);)
            p++;
        if (p == start)
            return MANTRA_MALFORMED;
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        int64_t exponent = 0;
        integer = false;
        bool below = ++p < end && *p == '-';
        if (p < end && (*p == '-' || *p == '+'))
            p++;
        for (start = p; p < end && mantra_is_digit(*p); p++)
            exponent = exponent < 1000000 ? exponent * 10 + (*p - '0') : exponent;
        if (p == start)
            return MANTRA_MALFORMED;
        magnitude += below ? -exponent : exponent;
    }
    if (integer && whole > 18) {
        uint64_t value;
        const char *digits = p - whole;
        if (mantra_integer(&digits, p, &value) || (negative && value > (uint64_t)INT64_MAX + 1))
            return MANTRA_MALFORMED;
    } else if (magnitude > 308) {
        return MANTRA_MALFORMED;
    }
    *span = (mantra_span){.text = json->at, .size = (size_t)(p - json->at)};
    json->at = p;
    return 0;
}

/* A whole number, bare or in quotes. */
static inline int
mantra_json_integer(mantra_json *json, uint64_t *out)
{
    bool quoted = mantra_json_peek(json) == '"';
    json->at += quoted;
    if (mantra_integer(&json->at, json->end, out))
        return MANTRA_MALFORMED;
    if (quoted && (json->at >= json->end || *json->at++ != '"'))
        return MANTRA_MALFORMED;
    return 0;
}

/* true, false or null. */
static inline int
mantra_json_literal(mantra_json *json)
{
    char c = mantra_json_peek(json);
    const char *word = c == 't' ? "true" : c == 'f' ? "false" : "null";
    size_t size = c == 'f' ? 5 : 4;
    if ((size_t)(json->end - json->at) < size || memcmp(json->at, word, size) != 0)
        return MANTRA_MALFORMED;
    json->at += size;
    return 0;
}

/* Pass over one value of any kind, checking all of it. */
MANTRA_COLD int
mantra_json_skip(mantra_json *json)
{
    uint64_t objects = 0; /* bit 0: the innermost container is an object */
    unsigned depth = 0;
    mantra_span span;
    for (;;) {
        char c = mantra_json_peek(json);
        int more = 0;
        if (c == '"') {
            if (mantra_json_string(json, &span))
                return MANTRA_MALFORMED;
        } else if (c == '{' || c == '[') {
            if (depth++ == MANTRA_JSON_DEPTH)
                return MANTRA_MALFORMED;
            objects = objects << 1 | (c == '{');
            more = mantra_json_enter(json, c);
            if (more == 0) {
                objects >>= 1;
                depth--;
            }
        } else if (c == '-' || mantra_is_digit(c)) {
            if (mantra_json_number(json, &span))
                return MANTRA_MALFORMED;
        } else if (mantra_json_literal(json)) {
            return MANTRA_MALFORMED;
        }
        while (more == 0) { /* a value ended: what follows it, and how many containers end with it? */
            if (depth == 0)
                return 0;
            more = mantra_json_next(json, objects & 1 ? '{' : '[');
            if (more == 0) {
                objects >>= 1;
                depth--;
            }
        }
        if (more < 0 || ((objects & 1) && mantra_json_key(json, &span)))
            return MANTRA_MALFORMED;
    }
}

/* Consume exactly this text, if it stands here. For spellings that a venue is known to keep to. */
#define MANTRA_JSON_EXPECT(json, literal) mantra_json_expect(json, literal, sizeof(literal) - 1)
MANTRA_HOT bool
mantra_json_expect(mantra_json *json, const char *literal, size_t size)
{
    if (json->end - json->at < (ptrdiff_t)size || memcmp(json->at, literal, size) != 0)
        return false;
    json->at += size;
    return true;
}

/* The last quote in the 48 bytes in front of `end`, all of them readable; NULL: there is none. */
static inline const char *
mantra_json_quote_before(const char *end)
{
    for (const char *p = end - 16; p >= end - 48; p -= 16) {
#if defined(__SSE2__) && !defined(MANTRA_PORTABLE)
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)p);
        unsigned found = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('"')));
        if (found)
            return p + 31 - __builtin_clz(found);
#else
        for (int i = 15; i >= 0; i--)
            if (p[i] == '"')
                return p + i;
#endif
    }
    return NULL;
}

/* Nothing but white space may be left. */
static inline int
mantra_json_finish(mantra_json *json)
{
    mantra_json_space(json);
    return json->at == json->end ? 0 : MANTRA_MALFORMED;
}

/* The object here, all of it checked: notes where the values of those members stand that have one of `count` names; in
 * what name number `wrapper` holds (`count`: none) as well. A name that comes twice or in disguise is malformed: which
 * is meant? `values` are NULL before, and stay so for who is not there. */
MANTRA_COLD int
mantra_json_members(mantra_json *json, const mantra_span *names, const char **values, unsigned count, unsigned wrapper)
{
    mantra_span key;
    int more = mantra_json_enter(json, '{');
    for (; more > 0; more = mantra_json_next(json, '{')) {
        unsigned i = 0;
        if (mantra_json_key(json, &key) || key.escaped)
            return MANTRA_MALFORMED;
        while (i < count && !(names[i].size == key.size && names[i].text[0] == key.text[0] &&
                              memcmp(names[i].text, key.text, key.size) == 0))
            i++;
        if (i < count) {
            if (values[i])
                return MANTRA_MALFORMED;
            mantra_json_space(json);
            values[i] = json->at;
        }
        const bool within = i < count && i == wrapper && *json->at == '{';
        if (within ? mantra_json_members(json, names, values, count, count) : mantra_json_skip(json))
            return MANTRA_MALFORMED;
    }
    return more;
}
#define MANTRA_JSON_NAME(name) {.text = #name, .size = sizeof #name - 1},

/* Values that were noted: a string (no text: it is none), a whole number. */
static inline mantra_span
mantra_json_text_at(const char *value, const char *end)
{
    mantra_span text = {0};
    mantra_json json = {value, end};
    return value && mantra_json_string(&json, &text) == 0 ? text : (mantra_span){0};
}

static inline int
mantra_json_integer_at(const char *value, const char *end, uint64_t *out)
{
    mantra_json json = {value, end};
    if (!value || mantra_json_integer(&json, out) || *json.at == '.' || (*json.at | 0x20) == 'e')
        return MANTRA_MALFORMED;
    return 0;
}

#endif
