// threads
/* The clock: spans and UTC agree with the OS, also with one that is slewed, stepped and put to sleep; what is read belongs
 * together; virtual time is moved by many and never goes back. */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>

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
    const uint64_t day = (UINT64_C(86400000000000) << 8) / (clock.ns_per_cycle >> 48), base = mantra_clock_look(&clock).base_cycles;
    const int64_t ahead = mantra_clock_utc_ns(&clock, base + day) - mantra_clock_utc_ns(&clock, base);
    if (base > day)
        CHECK(mantra_clock_utc_ns(&clock, base) - mantra_clock_utc_ns(&clock, base - day) == ahead);
    CHECK(ahead > 86000000000000 && ahead < 86800000000000);
}

/* An OS of ours: true time passes, and each of its clocks has its own view of that. Readings are up to 20 ns off. */
typedef struct {
    double ghz, raw_pace;        /* of the counter, and CLOCK_MONOTONIC_RAW's per true ns */
    long double cycles, raw, utc; /* now; a double has not the digits */
    double utc_pace;             /* NTP's doing */
    uint64_t noise;
} fake_os;

static void
pass(fake_os *os, double ns)
{
    os->cycles += ns * os->ghz;
    os->raw += ns * os->raw_pace;
    os->utc += ns * os->utc_pace;
}

static int64_t
noise(fake_os *os)
{
    os->noise = os->noise * 6364136223846793005u + 1442695040888963407u;
    return (int64_t)(os->noise >> 33) % 41 - 20;
}

static int64_t
steer(mantra_clock *clock, fake_os *os)
{
    const uint64_t window = (uint64_t)(40 * os->ghz);
    const mantra_moment raw = {(uint64_t)os->cycles, window, (int64_t)os->raw + noise(os)};
    const mantra_moment utc = {(uint64_t)os->cycles, window, (int64_t)os->utc + noise(os)};
    return mantra_clock_follow(clock, raw, utc);
}

static int64_t
off(const mantra_clock *clock, const fake_os *os)
{
    return llabs(mantra_clock_utc_ns(clock, (uint64_t)os->cycles) - (int64_t)os->utc);
}

/* A second at a time: within the bound that is published all the while, and to `most` ns when steered again. */
static void
run(mantra_clock *clock, fake_os *os, int seconds, int64_t most)
{
    for (int i = 0; i < seconds; i++) {
        for (int tenth = 0; tenth < 10; tenth++) {
            pass(os, 1e8);
            CHECK(off(clock, os) <= mantra_clock_error_ns(clock, (uint64_t)os->cycles));
        }
        CHECK(llabs(steer(clock, os)) <= most);
    }
}

/* ns per cycle, in parts per 10^9 of what it is by CLOCK_MONOTONIC_RAW */
static double
rate_error(const mantra_clock *clock, const fake_os *os)
{
    const double truth = os->raw_pace / os->ghz;
    return ((double)clock->ns_per_cycle / (double)(UINT64_C(1) << 56) - truth) / truth * 1e9;
}

static void
started(mantra_clock *clock, fake_os *os, double wrong)
{
    *os = (fake_os){.ghz = 2.3, .raw_pace = 1 + 8e-6, .cycles = 5e12, .raw = 1e13, .utc = 1.7e18, .utc_pace = 1, .noise = 7};
    *clock = (mantra_clock){.kind = MANTRA_CLOCK_CYCLES};
    clock->ns_per_cycle = (uint64_t)((double)(UINT64_C(1) << 56) * os->raw_pace / os->ghz * (1 + wrong));
    clock->from_cycles = (uint64_t)os->cycles;
    clock->from_ns = (int64_t)os->raw;
    pass(os, 2e7);
    clock->last_cycles = (uint64_t)os->cycles;
    clock->last_ns = (int64_t)os->raw;
    mantra_clock_base(clock, (mantra_moment){(uint64_t)os->cycles, 92, (int64_t)os->utc});
}

static void
check_against_a_fake_os(void)
{
    mantra_clock clock;
    fake_os os;

    /* Steady: the rate is refined, UTC is within nanoseconds of the OS's once its pace is known. */
    started(&clock, &os, 3e-6);
    CHECK(fabs(rate_error(&clock, &os)) > 2900);
    run(&clock, &os, 2, 20000);
    CHECK(fabs(rate_error(&clock, &os)) < 100);
    run(&clock, &os, 1000, 200);
    CHECK(fabs(rate_error(&clock, &os)) < 0.1);
    CHECK(mantra_clock_look(&clock).steps == 0 && llabs(mantra_clock_look(&clock).drift_ppb + 8000) < 200);

    /* Slewed, and back: followed, and no step. The spans' rate is not touched by it. */
    os.utc_pace = 1 + 4e-4;
    run(&clock, &os, 1, 410000);
    run(&clock, &os, 60, 200);
    CHECK(llabs(mantra_clock_look(&clock).drift_ppb - 392000) < 400);
    os.utc_pace = 1;
    run(&clock, &os, 1, 410000);
    run(&clock, &os, 5, 200);
    CHECK(mantra_clock_look(&clock).steps == 0 && fabs(rate_error(&clock, &os)) < 0.1);

    /* Stepped forth and back: each counted once, with its size and time, and followed at once. */
    const double sizes[] = {5e7, -2e9, 6e5, 3.6e12};
    for (int i = 0; i < 4; i++) {
        os.utc += sizes[i];
        pass(&os, 1e9);
        CHECK(llabs(steer(&clock, &os) - (int64_t)sizes[i]) < 400);
        const mantra_clock_state state = mantra_clock_look(&clock);
        CHECK(state.steps == (uint64_t)i + 1 && llabs(state.step_ns - (int64_t)sizes[i]) < 400);
        CHECK(llabs(state.stepped_utc_ns - (int64_t)os.utc) < 100);
        run(&clock, &os, 3, 300);
        CHECK(mantra_clock_look(&clock).steps == (uint64_t)i + 1);
    }
    CHECK(fabs(rate_error(&clock, &os)) < 0.1);

    /* The machine slept for an hour: the OS's UTC went on, its other clock did not, the counter did, or not, or began anew. */
    const double counter[] = {3.6e12 * 2.3, 0, -1e12};
    for (int i = 0; i < 3; i++) {
        os.utc += 3.6e12;
        os.cycles += counter[i];
        const uint64_t before = mantra_clock_look(&clock).steps;
        pass(&os, 1e9);
        steer(&clock, &os);
        CHECK(mantra_clock_look(&clock).steps == before + (i > 0)); /* where the counter went on, so did our UTC */
        run(&clock, &os, 3, 2000);
        CHECK(fabs(rate_error(&clock, &os)) < 100);
        run(&clock, &os, 100, 200);
        CHECK(fabs(rate_error(&clock, &os)) < 1);
    }

    /* A rate that was measured badly, or is another after a move, is right after three steerings. */
    started(&clock, &os, 2e-3);
    for (int i = 0; i < 3; i++) {
        pass(&os, 1e9);
        steer(&clock, &os);
    }
    CHECK(fabs(rate_error(&clock, &os)) < 100);
    os.ghz = 2.9;
    for (int i = 0; i < 3; i++) {
        pass(&os, 1e9);
        steer(&clock, &os);
    }
    CHECK(fabs(rate_error(&clock, &os)) < 100);
    run(&clock, &os, 10, 2000);
}

static mantra_clock page;
static _Atomic int stop;

/* Every state that is told says the same in all its words. */
static void *
look(void *unused)
{
    uint64_t last = 0;
    while (!stop) {
        const mantra_clock_state state = mantra_clock_look(&page);
        CHECK(state.base_cycles >= last);
        last = state.base_cycles;
        CHECK(state.base_utc_ns == (int64_t)last && state.utc_per_cycle == last && state.error_ns == (int64_t)last);
        CHECK(state.drift_ppb == (int64_t)last && state.steps == last && state.stepped_utc_ns == (int64_t)last);
    }
    return unused;
}

static void
check_that_what_is_read_belongs_together(void)
{
    pthread_t readers[2];
    for (int i = 0; i < 2; i++)
        CHECK(pthread_create(&readers[i], NULL, look, NULL) == 0);
    for (uint64_t n = 1; n <= 1000000; n++) {
        const int64_t same = (int64_t)n;
        mantra_clock_tell(&page, &(mantra_clock_state){n, same, n, same, same, n, same, same});
    }
    stop = 1;
    for (int i = 0; i < 2; i++)
        pthread_join(readers[i], NULL);
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
    check_against_a_fake_os();
    check_that_what_is_read_belongs_together();

    mantra_clock_start_virtual(&shared, 1000);
    CHECK(mantra_clock_steer(&shared) == 0 && mantra_clock_utc_ns(&shared, 1234) == 1234);
    CHECK(mantra_clock_error_ns(&shared, 5000000) == 0);
    pthread_t threads[3];
    int64_t offsets[3] = {0, 1, 2};
    for (int i = 0; i < 3; i++)
        CHECK(pthread_create(&threads[i], NULL, push, &offsets[i]) == 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    CHECK(mantra_clock_cycles(&shared) == 1000 + 1999 * 4 + 2);
    return 0;
}
