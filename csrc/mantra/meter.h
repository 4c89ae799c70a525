/* meter.h - a number of somebody's own, readable from outside: a counter that grows, or a gauge that is set.
 *
 *   | word | ... 64 |      a counter's count, or the bits of a gauge's double; one line each, so that nobody shares it
 *
 * One writer (a load and a store, no locked instruction), any number of readers; relaxed atomics, so nothing is
 * torn. */
#ifndef MANTRA_METER_H
#define MANTRA_METER_H

#include "mantra/base.h"

typedef struct mantra_meter {
    _Atomic uint64_t word;
    uint8_t rest_of_line[MANTRA_CACHE_LINE - 8];
} mantra_meter;

static inline uint64_t
mantra_meter_count(const mantra_meter *meter)
{
    return atomic_load_explicit(&meter->word, memory_order_relaxed);
}

static inline void
mantra_meter_add(mantra_meter *meter, uint64_t n)
{
    atomic_store_explicit(&meter->word, mantra_meter_count(meter) + n, memory_order_relaxed);
}

static inline double
mantra_meter_value(const mantra_meter *meter)
{
    const uint64_t bits = mantra_meter_count(meter);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline void
mantra_meter_set(mantra_meter *meter, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    atomic_store_explicit(&meter->word, bits, memory_order_relaxed);
}

#endif
