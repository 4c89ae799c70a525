/* venue_time.h - the times in venues' messages as nanoseconds since 1970, UTC.
 *
 *   2025-05-06T09:17:26.208075Z      RFC 3339 in UTC, 0 to 9 digits of the second (further ones are passed over)
 *   1618678133.365913                seconds with decimals
 *
 * Like ticks.h: a cursor is left behind the time, MANTRA_PADDING readable bytes follow `end`, nothing there counts. */
#ifndef MANTRA_VENUE_TIME_H
#define MANTRA_VENUE_TIME_H

#include "mantra/ticks.h"

/* The decimals of a second, if there are any: a point and digits. 0, MANTRA_MALFORMED. */
static inline int
mantra_time_fraction(const char **at, const char *end, uint32_t *out_ns)
{
    const char *p = *at + 1;
    *out_ns = 0;
    if (p >= end || p[-1] != '.')
        return 0;
    const uint64_t digits = mantra_load_digits(p);
    const unsigned count = (unsigned)mantra_min_u64(mantra_count_digits(digits), (uint64_t)(end - p));
    if (count == 0)
        return MANTRA_MALFORMED;
    *out_ns = (uint32_t)(mantra_leading_digits(digits, count) * mantra_powers_of_ten[9 - count]);
    p += count;
    if (count == 8) {
        *out_ns += p < end && mantra_is_digit(*p) ? (uint32_t)(*p - '0') : 0;
        while (p < end && mantra_is_digit(*p))
            p++;
    }
    *at = p;
    return 0;
}

/* YYYY-MM-DDTHH:MM:SS[.digits]Z of the years 1970 to 2261. 0, MANTRA_MALFORMED. A second of 60 is the next minute. */
static inline int
mantra_time_rfc3339(const char **at, const char *end, int64_t *out_ns)
{
    static const uint16_t before[12] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334}; /* days, from January */
    const char *p = *at;
    uint32_t fraction;
    if (end - p < 20 || p[4] != '-' || p[7] != '-' || (p[10] | 0x20) != 't' || p[13] != ':' || p[16] != ':')
        return MANTRA_MALFORMED;
    /* All fourteen digits in two words: 20250506 and 00091726. */
    const char plain[16] = {p[0], p[1],  p[2],  p[3],  p[5],  p[6],  p[8],  p[9],
                            '0',  '0',   p[11], p[12], p[14], p[15], p[17], p[18]};
    const uint64_t date = mantra_load_digits(plain), clock = mantra_load_digits(plain + 8);
    if (mantra_mark_others(date) | mantra_mark_others(clock))
        return MANTRA_MALFORMED;
    const uint32_t ymd = (uint32_t)mantra_eight_digits(date), hms = (uint32_t)mantra_eight_digits(clock);
    const uint32_t year = ymd / 10000, month = ymd / 100 % 100, day = ymd % 100;
    const uint32_t hour = hms / 10000, minute = hms / 100 % 100, second = hms % 100;
    if (year - 1970 > 2261 - 1970 || month - 1 > 11 || day == 0 || hour > 23 || minute > 59 || second > 60)
        return MANTRA_MALFORMED;
    const bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    const uint32_t length = month == 12 ? 31 : (uint32_t)(before[month] - before[month - 1]) + (leap && month == 2);
    const char *behind = p + 19;
    if (day > length || mantra_time_fraction(&behind, end, &fraction) || behind >= end || (*behind | 0x20) != 'z')
        return MANTRA_MALFORMED;
    const uint32_t past = year - 1; /* whole years; leap days up to the end of it, less those before 1970 */
    const uint32_t days = (year - 1970) * 365 + past / 4 - past / 100 + past / 400 - 477 + before[month - 1] +
                          (leap && month > 2) + day - 1;
    *out_ns = ((int64_t)days * 86400 + hour * 3600 + minute * 60 + second) * 1000000000 + fraction;
    *at = behind + 1;
    return 0;
}

/* Seconds, with or without decimals. 0, MANTRA_MALFORMED (also past what 64 bits of nanoseconds hold). */
static inline int
mantra_time_seconds(const char **at, const char *end, int64_t *out_ns)
{
    const char *p = *at;
    uint64_t seconds;
    uint32_t fraction;
    if (mantra_integer(&p, end, &seconds) || seconds >= INT64_MAX / 1000000000 ||
        mantra_time_fraction(&p, end, &fraction))
        return MANTRA_MALFORMED;
    *out_ns = (int64_t)seconds * 1000000000 + fraction;
    *at = p;
    return 0;
}

#endif
