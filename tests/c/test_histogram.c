// threads
/* The histogram: every value lands within 1/1024, quantiles equal a sorted list's, copies taken meanwhile add up. */
#include <pthread.h>

#include "check.h"
#include "mantra/histogram.h"

static mantra_histogram histogram, copy, total;
static _Atomic int done;

static void
check_precision(uint64_t ns)
{
    const uint64_t value = mantra_histogram_value(mantra_histogram_bucket(ns));
    const uint64_t off = value > ns ? value - ns : ns - value;
    CHECK(off * 1024 <= ns);
}

static int
ascending(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void
check_quantiles(void)
{
    static uint64_t values[4001];
    uint64_t seed = 7;
    for (size_t i = 0; i < 4001; i++) {
        values[i] = check_random(&seed) >> (24 + check_random(&seed) % 40);
        mantra_histogram_record(&histogram, values[i]);
    }
    qsort(values, 4001, sizeof *values, ascending);
    for (uint64_t permille = 0; permille <= 1000; permille++) {
        const uint64_t rank = (permille * 4001 + 999) / 1000;
        const uint64_t exact = values[rank > 0 ? rank - 1 : 0];
        const uint64_t told = mantra_histogram_quantile(&histogram, (double)permille / 1000);
        CHECK((told > exact ? told - exact : exact - told) * 1000 <= exact);
    }
    CHECK(histogram.max == values[4000] && UINT64_MAX - histogram.min == values[0]);
}

static void *
record(void *unused)
{
    (void)unused;
    for (uint64_t i = 0; i < 200000; i++)
        mantra_histogram_record(&histogram, i & 0xffff);
    atomic_store(&done, 1);
    return NULL;
}

int
main(void)
{
    for (uint64_t ns = 0; ns < 100000; ns++)
        check_precision(ns);
    for (uint32_t bit = 2; bit < 40; bit++)
        for (int64_t near = -2; near <= 2; near++)
            check_precision((uint64_t)((INT64_C(1) << bit) + near));
    for (uint32_t i = 1; i < MANTRA_HISTOGRAM_BUCKETS; i++) /* buckets tile the range in order */
        CHECK(mantra_histogram_value(i) > mantra_histogram_value(i - 1)
              && mantra_histogram_bucket(mantra_histogram_value(i)) == i);
    CHECK(mantra_histogram_bucket(UINT64_MAX) == MANTRA_HISTOGRAM_BUCKETS - 1);
    CHECK(mantra_histogram_quantile(&histogram, 0.5) == 0);
    mantra_histogram_record(&histogram, UINT64_MAX); /* longer than the range: counted, and max tells it */
    CHECK(histogram.count == 1 && histogram.max == UINT64_MAX && mantra_histogram_quantile(&histogram, 1) == UINT64_MAX);

    memset(&histogram, 0, sizeof histogram);
    check_quantiles();

    memset(&histogram, 0, sizeof histogram);
    pthread_t writer;
    CHECK(pthread_create(&writer, NULL, record, NULL) == 0);
    do { /* differences of copies taken while it is written sum to everything, nothing twice */
        static mantra_histogram next, between;
        memset(&next, 0, sizeof next);
        memset(&between, 0, sizeof between);
        mantra_histogram_merge(&next, &histogram);
        mantra_histogram_merge(&between, &next);
        mantra_histogram_subtract(&between, &copy);
        mantra_histogram_merge(&total, &between);
        memcpy(&copy, &next, sizeof next);
    } while (!atomic_load(&done));
    pthread_join(writer, NULL);
    static mantra_histogram rest;
    mantra_histogram_merge(&rest, &histogram);
    mantra_histogram_subtract(&rest, &copy);
    mantra_histogram_merge(&total, &rest);
    CHECK(histogram.count == 200000 && total.count == 200000);
    for (uint32_t i = 0; i < MANTRA_HISTOGRAM_BUCKETS; i++)
        CHECK(total.counts[i] == histogram.counts[i]);
    return 0;
}
