/* clock.h - the cycle counter, and what its cycles are worth in nanoseconds and in UTC. (gnu11: clock_gettime)
 *
 * Every hop is stamped in cycles, one instruction and no call into the OS; a clock page says what they mean. It is
 * plain data and may lie in shared memory: an invariant counter's cycles mean the same to all processes of a machine.
 *
 *   0      8             16             24            32    40             48          56
 *   | kind | base_cycles | ns_per_cycle | base_utc_ns | now | steered_at   | drift_ppb | error_ns |
 *
 * kind says where cycles come from: the CPU's counter; the OS (a cycle is a nanosecond) where that counter is not
 * invariant; or `now`, virtual time, which somebody sets. The rate is measured once, against CLOCK_MONOTONIC_RAW, and
 * never changed: a span means the same whenever and wherever it is converted. UTC is the OS's, which NTP steers, so
 * base_utc_ns is moved after it now and then (mantra_clock_steer), one atomic word that nobody can read half. */
#ifndef MANTRA_CLOCK_H
#define MANTRA_CLOCK_H

#include <errno.h>
#include <time.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "mantra/base.h"

enum { MANTRA_CLOCK_CYCLES = 1, MANTRA_CLOCK_OS = 2, MANTRA_CLOCK_VIRTUAL = 3 };

typedef struct mantra_clock {
    uint64_t kind;
    uint64_t base_cycles;
    uint64_t ns_per_cycle;            /* 8.56 fixed point: counters from 4 MHz up, a day exact to a nanosecond */
    _Atomic int64_t base_utc_ns;      /* UTC at base_cycles, by the latest steering */
    _Atomic uint64_t now;             /* virtual clocks: the time, in ns; it never goes back */
    _Atomic uint64_t steered_at;      /* cycles */
    _Atomic int64_t drift_ppb;        /* how the OS's UTC ran against ours between the last two steerings */
    _Atomic int64_t error_ns;         /* half the time it took to read both clocks: the offset is right to this */
} mantra_clock;

_Static_assert(sizeof(mantra_clock) == MANTRA_CACHE_LINE, "one line, shared by all who convert");

/* The CPU's counter. rdtscp and isb wait until all earlier loads have their values, so a stamp is never older than the
 * data it stamps (a load-acquire's order); instructions after it may start before it is read, which moves a stamp by
 * nanoseconds only: not worth another fence, which costs as much as the stamp. */
static inline uint64_t
mantra_cycles(void)
{
#if defined(__x86_64__)
    unsigned core;
    return __builtin_ia32_rdtscp(&core);
#else
    uint64_t cycles;
    __asm__ volatile("isb; mrs %0, cntvct_el0" : "=r"(cycles)::"memory");
    return cycles;
#endif
}

/* Does the counter tick at one rate on all cores, whatever they do? Architectural on Arm. */
static inline bool
mantra_cycles_invariant(void)
{
#if defined(__x86_64__)
    unsigned a, b, c, d;
    const bool rdtscp = __get_cpuid(0x80000001, &a, &b, &c, &d) && (d >> 27 & 1);
    return rdtscp && __get_cpuid(0x80000007, &a, &b, &c, &d) && (d >> 8 & 1);
#else
    return true;
#endif
}

static inline int64_t
mantra_os_ns(clockid_t id)
{
    struct timespec time;
    clock_gettime(id, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static inline int64_t
mantra_monotonic_ns(void)
{
    return mantra_os_ns(CLOCK_MONOTONIC);
}

/* Now, in this clock's cycles. */
static inline uint64_t
mantra_clock_cycles(const mantra_clock *clock)
{
    if (MANTRA_LIKELY(clock->kind == MANTRA_CLOCK_CYCLES))
        return mantra_cycles();
    if (clock->kind == MANTRA_CLOCK_VIRTUAL)
        return atomic_load_explicit(&clock->now, memory_order_acquire);
    return (uint64_t)mantra_monotonic_ns();
}

/* Nanoseconds in a span of cycles. */
static inline uint64_t
mantra_clock_ns(const mantra_clock *clock, uint64_t cycle_span)
{
    return (uint64_t)((unsigned __int128)cycle_span * clock->ns_per_cycle >> 56);
}

/* UTC nanoseconds of a stamp, earlier or later than the clock itself. */
static inline int64_t
mantra_clock_utc_ns(const mantra_clock *clock, uint64_t cycles)
{
    const int64_t base = atomic_load_explicit(&clock->base_utc_ns, memory_order_relaxed);
    return cycles >= clock->base_cycles ? base + (int64_t)mantra_clock_ns(clock, cycles - clock->base_cycles)
                                        : base - (int64_t)mantra_clock_ns(clock, clock->base_cycles - cycles);
}

/* One moment on two clocks; right to half of `window` cycles. */
typedef struct mantra_moment {
    uint64_t cycles, window;
    int64_t ns;
} mantra_moment;

static inline mantra_moment
mantra_clock_moment(const mantra_clock *clock, clockid_t os)
{
    mantra_moment best = {0, UINT64_MAX, 0};
    for (int i = 0; i < 32; i++) { /* an interrupt between the readings widens the window: keep the narrowest */
        const uint64_t before = mantra_clock_cycles(clock);
        const int64_t ns = mantra_os_ns(os);
        const uint64_t window = mantra_clock_cycles(clock) - before;
        if (window < best.window)
            best = (mantra_moment){before + window / 2, window, ns};
    }
    return best;
}

/* Follow the OS's UTC; call about once a second, from one thread. Returns by how many ns ours was behind. */
static inline int64_t
mantra_clock_steer(mantra_clock *clock)
{
    if (clock->kind == MANTRA_CLOCK_VIRTUAL)
        return 0;
    const mantra_moment moment = mantra_clock_moment(clock, CLOCK_REALTIME);
    const int64_t behind = moment.ns - mantra_clock_utc_ns(clock, moment.cycles);
    const uint64_t since = atomic_load_explicit(&clock->steered_at, memory_order_relaxed);
    const uint64_t elapsed_ns = moment.cycles > since ? mantra_clock_ns(clock, moment.cycles - since) : 0;
    if (elapsed_ns > 0)
        atomic_store_explicit(&clock->drift_ppb, (int64_t)((__int128)behind * 1000000000 / (int64_t)elapsed_ns),
                              memory_order_relaxed);
    atomic_fetch_add_explicit(&clock->base_utc_ns, behind, memory_order_relaxed);
    atomic_store_explicit(&clock->steered_at, moment.cycles, memory_order_relaxed);
    atomic_store_explicit(&clock->error_ns, (int64_t)mantra_clock_ns(clock, moment.window) / 2, memory_order_relaxed);
    return behind;
}

/* Measure the rate over `settle_ns` (20 ms: to about a part in a million) and start. `kind`: CYCLES or OS; cycles of a
 * counter too slow for the fixed point (never met) become the OS's. */
static inline void
mantra_clock_start(mantra_clock *clock, uint64_t kind, int64_t settle_ns)
{
    *clock = (mantra_clock){.kind = kind, .ns_per_cycle = UINT64_C(1) << 56};
    if (kind == MANTRA_CLOCK_CYCLES) {
        const mantra_moment from = mantra_clock_moment(clock, CLOCK_MONOTONIC_RAW);
        struct timespec left = {.tv_sec = settle_ns / 1000000000, .tv_nsec = settle_ns % 1000000000};
        while (nanosleep(&left, &left) != 0 && errno == EINTR) {}
        const mantra_moment to = mantra_clock_moment(clock, CLOCK_MONOTONIC_RAW);
        const unsigned __int128 ns = (unsigned __int128)(to.ns - from.ns);
        const uint64_t cycles = to.cycles - from.cycles;
        if (cycles > 0 && ns / cycles < 256)
            clock->ns_per_cycle = (uint64_t)((ns << 56) / cycles);
        else
            clock->kind = MANTRA_CLOCK_OS;
    }
    const mantra_moment base = mantra_clock_moment(clock, CLOCK_REALTIME);
    clock->base_cycles = base.cycles;
    atomic_store_explicit(&clock->base_utc_ns, base.ns, memory_order_relaxed);
    atomic_store_explicit(&clock->steered_at, base.cycles, memory_order_relaxed);
    atomic_store_explicit(&clock->error_ns, (int64_t)mantra_clock_ns(clock, base.window) / 2, memory_order_relaxed);
}

/* Virtual time from `utc_ns` on: a cycle is a nanosecond of UTC. */
static inline void
mantra_clock_start_virtual(mantra_clock *clock, int64_t utc_ns)
{
    *clock = (mantra_clock){.kind = MANTRA_CLOCK_VIRTUAL, .base_cycles = (uint64_t)utc_ns,
                            .ns_per_cycle = UINT64_C(1) << 56, .base_utc_ns = utc_ns, .now = (uint64_t)utc_ns};
}

/* Move virtual time to `utc_ns`, from any thread; never back. */
static inline void
mantra_clock_advance_to(mantra_clock *clock, int64_t utc_ns)
{
    uint64_t now = atomic_load_explicit(&clock->now, memory_order_relaxed);
    while (now < (uint64_t)utc_ns
           && !atomic_compare_exchange_weak_explicit(&clock->now, &now, (uint64_t)utc_ns, memory_order_release,
                                                     memory_order_relaxed)) {}
}

#endif
