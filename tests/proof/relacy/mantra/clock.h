/* clock.h - in place of the real one: what doorbell.h needs to compile; no scenario lets time pass. */
#ifndef MANTRA_CLOCK_H
#define MANTRA_CLOCK_H

#include "mantra/base.h"

static inline int64_t
mantra_monotonic_ns(void)
{
    return 0;
}

#endif
