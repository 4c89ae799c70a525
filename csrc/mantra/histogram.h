/* histogram.h - latencies counted in log-linear buckets: three digits from a nanosecond to 18 minutes, fixed memory.
 *
 *   0       8     16    24    32               64
 *   | count | sum | max | min | (rest of line) | counts[16384]
 *
 * Below 1,024 ns each bucket is one nanosecond. Above, every power of two is cut in 512: a value is told by the middle
 * of its bucket, at most 1/1024 away from it. As in Gil Tene's HdrHistogram, half its size for the same digits.
 * One writer, any number of readers: counts are relaxed atomics, so no count is ever torn, but a copy taken meanwhile
 * has each bucket at a moment of its own. Two histograms merge by adding; the later less the earlier is what lay
 * between. */
#ifndef MANTRA_HISTOGRAM_H
#define MANTRA_HISTOGRAM_H

#include "mantra/base.h"

#define MANTRA_HISTOGRAM_BUCKETS 16384u
#define MANTRA_HISTOGRAM_LIMIT (UINT64_C(1) << 40) /* ns; what is longer counts in the last bucket, max tells it */

typedef struct mantra_histogram {
    _Atomic uint64_t count, sum, max, min; /* min: UINT64_MAX - the least, so that zeroed memory is an empty one */
    uint64_t reserved[4];
    _Atomic uint64_t counts[MANTRA_HISTOGRAM_BUCKETS];
} mantra_histogram;

#define MANTRA_HISTOGRAM_BYTES sizeof(mantra_histogram)

_Static_assert(offsetof(mantra_histogram, counts) == MANTRA_CACHE_LINE, "totals share one line");

static inline uint32_t
mantra_histogram_bucket(uint64_t ns)
{
    if (ns < 1024)
        return (uint32_t)ns;
    if (MANTRA_UNLIKELY(ns >= MANTRA_HISTOGRAM_LIMIT))
        return MANTRA_HISTOGRAM_BUCKETS - 1;
    const uint32_t shift = 54 - (uint32_t)__builtin_clzll(ns); /* leaves ten bits: 512 to 1023 */
    return shift * 512 + (uint32_t)(ns >> shift);
}

/* The value that stands for a bucket: its middle. */
static inline uint64_t
mantra_histogram_value(uint32_t bucket)
{
    if (bucket < 1024)
        return bucket;
    const uint32_t shift = bucket / 512 - 1;
    return ((uint64_t)(bucket - shift * 512) << shift) + (UINT64_C(1) << shift >> 1);
}

/* One writer: a load and a store, no locked instruction. */
static inline void
mantra_histogram_bump(_Atomic uint64_t *word, uint64_t n)
{
    atomic_store_explicit(word, atomic_load_explicit(word, memory_order_relaxed) + n, memory_order_relaxed);
}

static inline void
mantra_histogram_raise(_Atomic uint64_t *word, uint64_t to)
{
    if (MANTRA_UNLIKELY(to > atomic_load_explicit(word, memory_order_relaxed)))
        atomic_store_explicit(word, to, memory_order_relaxed);
}

static inline void
mantra_histogram_record(mantra_histogram *histogram, uint64_t ns)
{
    mantra_histogram_bump(&histogram->counts[mantra_histogram_bucket(ns)], 1);
    mantra_histogram_bump(&histogram->count, 1);
    mantra_histogram_bump(&histogram->sum, ns);
    mantra_histogram_raise(&histogram->max, ns);
    mantra_histogram_raise(&histogram->min, UINT64_MAX - ns);
}

/* Add what `from` has counted; the caller is the only writer of `into`. */
static inline void
mantra_histogram_merge(mantra_histogram *into, const mantra_histogram *from)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < MANTRA_HISTOGRAM_BUCKETS; i++) {
        const uint64_t n = atomic_load_explicit(&from->counts[i], memory_order_relaxed);
        if (n > 0)
            mantra_histogram_bump(&into->counts[i], n);
        count += n;
    }
    mantra_histogram_bump(&into->count, count); /* of the buckets read, not of a moment before or after */
    mantra_histogram_bump(&into->sum, atomic_load_explicit(&from->sum, memory_order_relaxed));
    mantra_histogram_raise(&into->max, atomic_load_explicit(&from->max, memory_order_relaxed));
    mantra_histogram_raise(&into->min, atomic_load_explicit(&from->min, memory_order_relaxed));
}

/* Take away an earlier state of the same histogram. What is left knows max and min to its buckets' precision only. */
static inline void
mantra_histogram_subtract(mantra_histogram *later, const mantra_histogram *earlier)
{
    const uint64_t highest = atomic_load_explicit(&later->max, memory_order_relaxed);
    uint64_t count = 0, max = 0, min = 0;
    for (uint32_t i = 0; i < MANTRA_HISTOGRAM_BUCKETS; i++) {
        const uint64_t n = atomic_load_explicit(&later->counts[i], memory_order_relaxed)
                           - atomic_load_explicit(&earlier->counts[i], memory_order_relaxed);
        atomic_store_explicit(&later->counts[i], n, memory_order_relaxed);
        count += n;
        if (n > 0) {
            max = mantra_histogram_value(i);
            min = min ? min : UINT64_MAX - max;
        }
    }
    if (highest > atomic_load_explicit(&earlier->max, memory_order_relaxed))
        max = highest; /* the record fell in between: known exactly */
    atomic_store_explicit(&later->count, count, memory_order_relaxed);
    atomic_store_explicit(&later->sum, atomic_load_explicit(&later->sum, memory_order_relaxed)
                          - atomic_load_explicit(&earlier->sum, memory_order_relaxed), memory_order_relaxed);
    atomic_store_explicit(&later->max, max, memory_order_relaxed);
    atomic_store_explicit(&later->min, min, memory_order_relaxed);
}

/* The least value that `fraction` (0 to 1) of all are not above; 0 when empty. */
static inline uint64_t
mantra_histogram_quantile(const mantra_histogram *histogram, double fraction)
{
    const uint64_t max = atomic_load_explicit(&histogram->max, memory_order_relaxed);
    uint64_t count = 0, seen = 0;
    for (uint32_t i = 0; i < MANTRA_HISTOGRAM_BUCKETS; i++)
        count += atomic_load_explicit(&histogram->counts[i], memory_order_relaxed);
    if (count == 0)
        return 0;
    const double exact = fraction * (double)count;
    uint64_t rank = (uint64_t)exact + ((double)(uint64_t)exact < exact);
    rank = rank < 1 ? 1 : mantra_min_u64(rank, count);
    for (uint32_t i = 0; rank < count && i < MANTRA_HISTOGRAM_BUCKETS; i++) {
        seen += atomic_load_explicit(&histogram->counts[i], memory_order_relaxed);
        if (seen >= rank)
            return mantra_min_u64(mantra_histogram_value(i), max);
    }
    return max; /* the highest rank is known exactly */
}

#endif
