// threads
/* The clock: spans and UTC agree with the OS, virtual time is moved by many and never goes back. */
#include <pthread.h>

#include "check.h"
#include "mantra/clock.h"

static void
check_against_the_os(uint64_t kind)
{
    mantra_clock clock;
    mantra_clock_start(&clock, kind, 5000000);
    const uint64_t from = mantra_clock_cycles(&clock);
    const int64_t os_from = mantra_os_ns(CLOCK_MONOTONIC_RAW);
    struct timespec nap = {0, 10000000};
    nanosleep(&nap, NULL);
    const int64_t os_span = mantra_os_ns(CLOCK_MONOTONIC_RAW) - os_from;
    const int64_t span = (int64_t)mantra_clock_ns(&clock, mantra_clock_cycles(&clock) - from);
    CHECK(span > os_span - 2000000 && span < os_span + 100000000); /* a busy machine may pause us in between */
    mantra_clock_steer(&clock);
    const int64_t before = mantra_os_ns(CLOCK_REALTIME);
    const int64_t utc = mantra_clock_utc_ns(&clock, mantra_clock_cycles(&clock));
    const int64_t after = mantra_os_ns(CLOCK_REALTIME);
    CHECK(utc > before - 1000000 && utc < after + 1000000);
    /* stamps on both sides of the base, a day away: no overflow, symmetric */
    const uint64_t day = (UINT64_C(86400000000000) << 8) / (clock.ns_per_cycle >> 48);
    const int64_t ahead = mantra_clock_utc_ns(&clock, clock.base_cycles + day) - mantra_clock_utc_ns(&clock, clock.base_cycles);
    if (clock.base_cycles > day)
        CHECK(mantra_clock_utc_ns(&clock, clock.base_cycles) - mantra_clock_utc_ns(&clock, clock.base_cycles - day) == ahead);
    CHECK(ahead > 86000000000000 && ahead < 86800000000000);
}

static mantra_clock shared;

static void *
push(void *offset)
{
    uint64_t last = 0;
    for (int64_t i = 0; i < 2000; i++) {
        mantra_clock_advance_to(&shared, 1000 + i * 4 + *(int64_t *)offset);
        const uint64_t now = mantra_clock_cycles(&shared);
        CHECK(now >= last && now >= (uint64_t)(1000 + i * 4 + *(int64_t *)offset));
        last = now;
    }
    return NULL;
}

int
main(void)
{
    if (mantra_cycles_invariant())
        check_against_the_os(MANTRA_CLOCK_CYCLES);
    check_against_the_os(MANTRA_CLOCK_OS);

    mantra_clock_start_virtual(&shared, 1000);
    CHECK(mantra_clock_steer(&shared) == 0 && mantra_clock_utc_ns(&shared, 1234) == 1234);
    pthread_t threads[3];
    int64_t offsets[3] = {0, 1, 2};
    for (int i = 0; i < 3; i++)
        CHECK(pthread_create(&threads[i], NULL, push, &offsets[i]) == 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    CHECK(mantra_clock_cycles(&shared) == 1000 + 1999 * 4 + 2);
    return 0;
}
