/* Times against the C library's own calendar, day by day; what is no time; text that ends where digits go on. */
#include <time.h>

#include "check.h"
#include "mantra/venue_time.h"

static int
rfc3339(const char *text, size_t size, int64_t *out)
{
    char padded[64 + MANTRA_PADDING];
    memset(padded, '9', sizeof padded); /* what follows never counts */
    memcpy(padded, text, strlen(text));
    const char *at = padded;
    const int status = mantra_time_rfc3339(&at, padded + size, out);
    CHECK(at == padded + (status ? 0 : strlen(text)));
    return status;
}

int
main(void)
{
    int64_t ns = 0;
    char text[64];
    for (time_t day = 0; day < 292 * 365; day++) { /* to 2261 */
        const time_t when = day * 86400 + day * 7919 % 86400;
        struct tm parts;
        gmtime_r(&when, &parts);
        const size_t size = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
        CHECK(rfc3339(text, size, &ns) == 0 && ns == when * 1000000000);
    }
    static const struct {
        const char *text;
        int64_t ns;
    } good[] = {
        {"2025-05-06T09:17:26.208075Z", 1746523046208075000}, {"2023-10-06T17:35:00.279389650Z", 1696613700279389650},
        {"1970-01-01T00:00:00Z", 0}, {"1970-01-01T00:00:00.000000001Z", 1}, {"1970-01-01T00:00:00.5Z", 500000000},
        {"1970-01-01T00:00:00.0000000019999Z", 1}, {"2024-02-29T00:00:00Z", 1709164800000000000},
        {"2016-12-31T23:59:60Z", 1483228800000000000}, {"1970-01-01t00:00:01z", 1000000000},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        const size_t size = strlen(good[i].text);
        CHECK(rfc3339(good[i].text, size, &ns) == 0 && ns == good[i].ns);
        for (size_t cut = 0; cut < size; cut++)
            CHECK(rfc3339(good[i].text, cut, &ns) == MANTRA_MALFORMED);
    }
    static const char *const bad[] = {
        "2025-05-06 09:17:26Z", "2025-05-06T09:17:26.Z", "2025-05-06T09:17:26", "2025-05-06T09:17:26+01:00",
        "2025-13-06T09:17:26Z", "2025-00-06T09:17:26Z", "2025-05-00T09:17:26Z", "2025-04-31T09:17:26Z",
        "2025-02-29T09:17:26Z", "2100-02-29T09:17:26Z", "2025-05-06T24:17:26Z", "2025-05-06T09:60:26Z",
        "2025-05-06T09:17:61Z", "1969-05-06T09:17:26Z", "2262-05-06T09:17:26Z", "202a-05-06T09:17:26Z",
        "2025-05-06T09:1::26Z", "2025-05-06T09:17:26.a1Z", "+025-05-06T09:17:26Z", "",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK(rfc3339(bad[i], strlen(bad[i]), &ns) == MANTRA_MALFORMED);

    static const struct {
        const char *text;
        int64_t ns; /* -1: none */
    } seconds[] = {
        {"1618678133.365913", 1618678133365913000}, {"1618678133", 1618678133000000000}, {"0.000000001", 1},
        {"1618678133.3", 1618678133300000000}, {"", -1}, {".5", -1}, {"1.", 1000000000}, {"01", -1}, {"-1", -1},
        {"9223372036", -1}, {"99999999999999999999", -1},
    };
    for (size_t i = 0; i < sizeof seconds / sizeof *seconds; i++) {
        const size_t size = strlen(seconds[i].text);
        memset(text, '7', sizeof text);
        memcpy(text, seconds[i].text, size);
        const char *at = text;
        const int status = mantra_time_seconds(&at, text + size, &ns);
        CHECK(status == (seconds[i].ns < 0 ? MANTRA_MALFORMED : 0) && (status || ns == seconds[i].ns));
    }
    return 0;
}
