/* ticks.h - decimal text to exact integers of an instrument's scale, and back.
 *
 *   "61837.630000", 2 decimals -> 6183763        value = text * 10^decimals, exactly, or an error; never rounded
 *   |  k  | . | n  |                             eight bytes a side are read at once (SWAR) in the common form
 *
 * Text is a JSON number, whether it stands bare or inside quotes: -?(0|[1-9][0-9]*)(.[0-9]+)?([eE][+-]?[0-9]+)?
 * Functions take a cursor and leave it behind the number; what must follow it is the caller's to check. They load whole
 * words, so MANTRA_PADDING readable bytes follow `end`, but nothing at or past `end` ever counts. */
#ifndef MANTRA_TICKS_H
#define MANTRA_TICKS_H

#include "mantra/base.h"

#define MANTRA_MAX_DECIMALS 18    /* 10^18 is the largest power of ten below 2^63 */
#define MANTRA_DECIMAL_BYTES 24   /* room that mantra_decimal_text needs: sign, point, 20 digits, NUL */

/* Errors of everything that reads text; decode.h continues the list. */
enum {
    MANTRA_MALFORMED = -1,
    MANTRA_FINER = -2,  /* a number has digits below the instrument's scale, or overflows it */
};

/* How many decimals a tick and a lot stand for. */
typedef struct mantra_scale {
    uint8_t price_decimals, size_decimals;
} mantra_scale;

static const uint64_t mantra_powers_of_ten[20] = {
    UINT64_C(1), UINT64_C(10), UINT64_C(100), UINT64_C(1000), UINT64_C(10000), UINT64_C(100000), UINT64_C(1000000),
    UINT64_C(10000000), UINT64_C(100000000), UINT64_C(1000000000), UINT64_C(10000000000), UINT64_C(100000000000),
    UINT64_C(1000000000000), UINT64_C(10000000000000), UINT64_C(100000000000000), UINT64_C(1000000000000000),
    UINT64_C(10000000000000000), UINT64_C(100000000000000000), UINT64_C(1000000000000000000),
    UINT64_C(10000000000000000000)};

static inline bool
mantra_is_digit(char c)
{
    return (uint8_t)(c - '0') < 10;
}

/* Eight characters less '0' each, the first in the lowest byte. */
static inline uint64_t
mantra_load_digits(const char *text)
{
    uint64_t word;
    memcpy(&word, text, 8);
    return word ^ UINT64_C(0x3030303030303030);
}

/* The top bit of each of the eight that is no digit. */
static inline uint64_t
mantra_mark_others(uint64_t digits)
{
    const uint64_t low = UINT64_C(0x7F7F7F7F7F7F7F7F); /* 0x76 lifts what is above 9 to the top bit and no further */
    return (digits | ((digits & low) + UINT64_C(0x7676767676767676))) & ~low;
}

/* How many of the eight are digits before the first that is not. */
static inline unsigned
mantra_count_digits(uint64_t digits)
{
    uint64_t others = mantra_mark_others(digits);
    return others ? (unsigned)__builtin_ctzll(others) >> 3 : 8;
}

/* The number that eight digits spell; bytes in front of the first digit are zero. */
static inline uint64_t
mantra_eight_digits(uint64_t digits)
{
    const uint64_t pairs = UINT64_C(0x000000FF000000FF);
    digits = digits * 10 + (digits >> 8);
    return ((digits & pairs) * (100 + (UINT64_C(1000000) << 32)) +
            ((digits >> 16) & pairs) * (1 + (UINT64_C(10000) << 32))) >> 32;
}

/* The first `count` (1 to 8) of eight digits as a number. */
static inline uint64_t
mantra_leading_digits(uint64_t digits, unsigned count)
{
    return mantra_eight_digits(digits << (64 - 8 * count));
}

/* Any number, one character at a time: mantissa * 10^exponent, the mantissa without trailing zeros. */
MANTRA_COLD int
mantra_decimal_any(const char **at, const char *end, uint8_t decimals, int64_t *out)
{
    const char *p = *at, *start;
    uint64_t mantissa = 0;
    int64_t exponent = 0, zeros = 0; /* zeros: seen since the last other digit, so perhaps trailing */
    const bool negative = p < end && *p == '-';
    bool wide = false;               /* more digits than 64 bits hold, so it fits no scale at all */
    p += negative;
    start = p;
    for (bool fraction = false; p < end; p++) {
        if (*p == '.' && !fraction && p > start) {
            fraction = true;
            start = p + 1;
            continue;
        }
        if (!mantra_is_digit(*p))
            break;
        if (!fraction && p == start + 1 && *start == '0')
            return MANTRA_MALFORMED;
        exponent -= fraction;
        zeros++;
        if (*p != '0') {
            for (; zeros && !wide; zeros--)
                wide = __builtin_mul_overflow(mantissa, 10u, &mantissa);
            wide |= __builtin_add_overflow(mantissa, (uint64_t)(*p - '0'), &mantissa);
            zeros = 0;
        } else if (mantissa == 0) {
            zeros = 0;
        }
    }
    if (p == start)
        return MANTRA_MALFORMED;
    exponent += zeros;
    if (p < end && (*p == 'e' || *p == 'E')) {
        int64_t written = 0;
        bool below = ++p < end && *p == '-';
        if (p < end && (*p == '-' || *p == '+'))
            p++;
        for (start = p; p < end && mantra_is_digit(*p); p++)
            if (written < INT64_C(1000000000000)) /* more than any text's length: enough to decide */
                written = written * 10 + (*p - '0');
        if (p == start)
            return MANTRA_MALFORMED;
        exponent += below ? -written : written;
    }
    *at = p;
    const int64_t shift = exponent + decimals;
    if (wide || (mantissa != 0 && (shift < 0 || shift > MANTRA_MAX_DECIMALS ||
                                   __builtin_mul_overflow(mantissa, mantra_powers_of_ten[shift], &mantissa) ||
                                   mantissa > (uint64_t)INT64_MAX + negative)))
        return MANTRA_FINER;
    *out = (int64_t)(negative ? 0 - mantissa : mantissa);
    return 0;
}

/* What reading at a scale needs, so that the common form is read without a branch on the scale. */
typedef struct mantra_places {
    uint64_t beyond;          /* bytes of eight fraction digits that are below the scale */
    uint64_t whole, fraction; /* factors: of the whole part; of the fraction's first eight digits at most */
    unsigned shift, most;     /* bits that align a fraction's digits; digits left of the point that can not overflow */
    uint8_t decimals;
} mantra_places;

static inline mantra_places
mantra_places_of(uint8_t decimals)
{
    unsigned read = decimals < 8 ? decimals : 8;
    return (mantra_places){
        .beyond = read < 8 ? ~UINT64_C(0) << (8 * read) : 0,
        .whole = mantra_powers_of_ten[decimals],
        .fraction = mantra_powers_of_ten[decimals - read],
        .shift = read ? 64 - 8 * read : 0,
        .most = decimals > 10 ? (unsigned)MANTRA_MAX_DECIMALS - decimals : 8,
        .decimals = decimals,
    };
}

/* `count` digits, a point and `after` digits as ticks; no point where `after` is 0. False: not of the common form (more
 * than eight digits a side, a leading zero, digits below the scale, none), to be read the slow way. */
static inline bool
mantra_places_read(const mantra_places *places, const char *text, unsigned count, unsigned after, int64_t *out)
{
    if (MANTRA_UNLIKELY(count - 1 >= places->most || after > 8))
        return false;
    uint64_t digits = mantra_load_digits(text), fraction = 0;
    uint64_t whole = mantra_leading_digits(digits, count);
    bool odd = count > 1 && (digits & 0xFF) == 0; /* 007 */
    if (MANTRA_LIKELY(after)) {
        fraction = mantra_load_digits(text + count + 1) & (~UINT64_C(0) >> (64 - 8 * after));
        odd |= (fraction & places->beyond) != 0;
        fraction = mantra_eight_digits(fraction << places->shift) * places->fraction;
    }
    *out = (int64_t)(whole * places->whole + fraction);
    return !odd;
}

/* Read a number as an exact count of 10^-decimals (at most MANTRA_MAX_DECIMALS). 0, MANTRA_MALFORMED, MANTRA_FINER. */
static inline int
mantra_decimal(const char **at, const char *end, uint8_t decimals, int64_t *out)
{
    const mantra_places places = mantra_places_of(decimals);
    const char *p = *at;
    bool negative = *p == '-';
    p += negative;
    unsigned count = mantra_count_digits(mantra_load_digits(p)), after = 0;
    const char *behind = p + count;
    bool point = *behind == '.';
    if (point) {
        after = mantra_count_digits(mantra_load_digits(behind + 1));
        behind += 1 + after;
    }
    /* Errors, too, are decided by the slow reading, and nothing at `end` or behind it counts. */
    int64_t value;
    if (MANTRA_UNLIKELY(behind > end || mantra_is_digit(*behind) || (*behind | 0x20) == 'e' || (point && !after) ||
                        !mantra_places_read(&places, p, count, after, &value)))
        return mantra_decimal_any(at, end, decimals, out);
    *out = negative ? -value : value;
    *at = behind;
    return 0;
}

/* Read a whole number without sign, fraction or exponent (ids, times). 0, MANTRA_MALFORMED (also past 2^64 - 1). */
MANTRA_HOT int
mantra_integer(const char **at, const char *end, uint64_t *out)
{
    const char *p = *at;
    uint64_t value = 0, digits = mantra_load_digits(p);
    unsigned count = mantra_count_digits(digits);
    if (count == 8 && end - p >= 16) { /* long ids and times: two words, then the rest */
        value = mantra_eight_digits(digits);
        digits = mantra_load_digits(p += 8);
        count = mantra_count_digits(digits);
        if (count == 8) {
            value = value * 100000000 + mantra_eight_digits(digits);
            p += 8;
        } else if (count) {
            value = value * mantra_powers_of_ten[count] + mantra_leading_digits(digits, count);
            p += count;
        }
    }
    for (; p < end && mantra_is_digit(*p); p++)
        if (__builtin_mul_overflow(value, 10u, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value))
            return MANTRA_MALFORMED;
    if (p > end || p == *at || (**at == '0' && p > *at + 1))
        return MANTRA_MALFORMED;
    *out = value;
    *at = p;
    return 0;
}

/* Write value * 10^-decimals as plain text, all decimals shown, NUL at the end. Returns its length. */
static inline size_t
mantra_decimal_text(char *out, int64_t value, uint8_t decimals)
{
    char digits[MANTRA_DECIMAL_BYTES];
    uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    unsigned count = 0;
    size_t size = 0;
    do {
        digits[count++] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest || count <= decimals);
    if (value < 0)
        out[size++] = '-';
    while (count) {
        if (count == decimals)
            out[size++] = '.';
        out[size++] = digits[--count];
    }
    out[size] = '\0';
    return size;
}

#endif
