/* clock.h - the cycle counter, and what its cycles are worth in nanoseconds and in UTC. (gnu11: clock_gettime)
 *
 * Every hop is stamped in cycles, one instruction and no call into the OS; a clock page says what they mean. It is
 * plain data and may lie in shared memory: an invariant counter's cycles mean the same to all processes of a machine.
 *
 *   0      8              16    24        32                    48                   64             128           192
 *   | kind | ns_per_cycle | now | version | baseline: cycles,ns | last: cycles,raw | even versions' state | odd ... |
 *
 * kind says where cycles come from: the CPU's counter; the OS (a cycle is a nanosecond) where that counter is not
 * invariant; or `now`, virtual time, which somebody sets. Once a second the owner steers the page (mantra_clock_steer):
 *
 *   a span   is worth what CLOCK_MONOTONIC_RAW says, which nobody slews, over all the time since the start: a part in a
 *            million after the start's 20 ms, a part in 10^8 after seconds. It creeps and never jumps.
 *   UTC      is the OS's, which NTP steers: taken anew each time, and followed between at the pace of the last second.
 *            A slew is thus followed; what moved further than the OS slews was a step, and is counted.
 *
 * A stamp's UTC takes three numbers that fit together. They are written where nobody reads (the other of two states),
 * then the version says so: readers wait for no writer, not even for one killed midway, and look again only if a whole
 * steering passed during their few loads. mantra_clock_tell's fence makes sure that they notice. */
#ifndef MANTRA_CLOCK_H
#define MANTRA_CLOCK_H

#include <errno.h>
#include <time.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "mantra/seqlock.h"

enum { MANTRA_CLOCK_CYCLES = 1, MANTRA_CLOCK_OS = 2, MANTRA_CLOCK_VIRTUAL = 3 };

#define MANTRA_CLOCK_SLEW 2000              /* adjtimex slews UTC by one part in so many at most: 500 ppm */
#define MANTRA_CLOCK_BASELINE_NS 1000000000 /* a rate measured over less is not much better than the start's */

typedef struct mantra_clock_state {
    uint64_t base_cycles;
    int64_t base_utc_ns;      /* UTC at base_cycles */
    uint64_t utc_per_cycle;   /* ns_per_cycle at the OS's pace */
    int64_t error_ns;         /* half the time it took to read both clocks: base_utc_ns is right to this */
    int64_t drift_ppb;        /* of the OS's UTC against our spans, over the last second */
    uint64_t steps;           /* of the OS's UTC, since the start */
    int64_t step_ns;          /* the last: its size, and the time when it was seen; 0: none */
    int64_t stepped_utc_ns;
} mantra_clock_state;

#define MANTRA_CLOCK_WORDS (sizeof(mantra_clock_state) / 8)

typedef struct mantra_clock {
    uint64_t kind;
    _Atomic uint64_t ns_per_cycle;          /* 8.56 fixed point: counters from 4 MHz up, a day exact to a nanosecond */
    _Atomic uint64_t now;                   /* virtual clocks: the time, in ns; it never goes back */
    _Atomic uint64_t version;               /* its low bit says which state is good */
    uint64_t from_cycles, last_cycles;      /* the steerer's own: where the rate's baseline begins, the last steering */
    int64_t from_ns, last_ns;               /* CLOCK_MONOTONIC_RAW there */
    _Atomic uint64_t states[2][MANTRA_CLOCK_WORDS];
} mantra_clock;

_Static_assert(MANTRA_CLOCK_WORDS == 8, "a line each");
_Static_assert(offsetof(mantra_clock, states) == MANTRA_CACHE_LINE, "one line, shared by all who convert spans");

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

static inline uint64_t
mantra_clock_scale(uint64_t cycles, uint64_t per_cycle)
{
    return (uint64_t)((unsigned __int128)cycles * per_cycle >> 56);
}

/* Nanoseconds in a span of cycles. */
static inline uint64_t
mantra_clock_ns(const mantra_clock *clock, uint64_t cycle_span)
{
    return mantra_clock_scale(cycle_span, atomic_load_explicit(&clock->ns_per_cycle, memory_order_relaxed));
}

/* All that belongs together. */
static inline mantra_clock_state
mantra_clock_look(const mantra_clock *clock)
{
    mantra_clock_state state;
    uint64_t version;
    do {
        version = atomic_load_explicit(&clock->version, memory_order_acquire);
        mantra_words_load(clock->states[version & 1], &state, MANTRA_CLOCK_WORDS);
        atomic_thread_fence(memory_order_acquire);
    } while (MANTRA_UNLIKELY(atomic_load_explicit(&clock->version, memory_order_relaxed) != version));
    return state;
}

static inline void
mantra_clock_tell(mantra_clock *clock, const mantra_clock_state *state)
{
    const uint64_t version = atomic_load_explicit(&clock->version, memory_order_relaxed) + 1;
    atomic_thread_fence(memory_order_release); /* the version before this one is seen by who sees any new word */
    mantra_words_store(clock->states[version & 1], state, MANTRA_CLOCK_WORDS);
    atomic_store_explicit(&clock->version, version, memory_order_release);
}

static inline int64_t
mantra_clock_state_utc_ns(const mantra_clock_state *state, uint64_t cycles)
{
    return cycles >= state->base_cycles
               ? state->base_utc_ns + (int64_t)mantra_clock_scale(cycles - state->base_cycles, state->utc_per_cycle)
               : state->base_utc_ns - (int64_t)mantra_clock_scale(state->base_cycles - cycles, state->utc_per_cycle);
}

/* UTC nanoseconds of a stamp, earlier or later than the last steering. */
static inline int64_t
mantra_clock_utc_ns(const mantra_clock *clock, uint64_t cycles)
{
    const mantra_clock_state state = mantra_clock_look(clock);
    return mantra_clock_state_utc_ns(&state, cycles);
}

/* How far UTC of a stamp near the last steering can be from the OS's, if that was not stepped since: grows with age. */
static inline int64_t
mantra_clock_error_ns(const mantra_clock *clock, uint64_t cycles)
{
    const mantra_clock_state state = mantra_clock_look(clock);
    const uint64_t age = cycles > state.base_cycles ? cycles - state.base_cycles : state.base_cycles - cycles;
    if (clock->kind == MANTRA_CLOCK_VIRTUAL)
        return 0;
    return state.error_ns + (int64_t)(mantra_clock_ns(clock, age) / MANTRA_CLOCK_SLEW);
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

/* The rate, by one more reading of CLOCK_MONOTONIC_RAW. Where the two clocks did not keep step since the last one (the
 * machine slept, or was moved, and one of them with it) the baseline begins anew. What a new one's first second says
 * counts in any case, lest a rate that was wrong itself stays for ever. */
static inline void
mantra_clock_rate(mantra_clock *clock, mantra_moment raw)
{
    const int64_t span = raw.ns - clock->last_ns, length = raw.ns - clock->from_ns;
    bool torn = raw.cycles <= clock->last_cycles || span < 0;
    if (!torn && clock->from_cycles != clock->last_cycles) {
        const int64_t off = span - (int64_t)mantra_clock_ns(clock, raw.cycles - clock->last_cycles);
        const int64_t allowed = span / MANTRA_CLOCK_SLEW + 4 * (int64_t)mantra_clock_ns(clock, raw.window);
        torn = off > allowed || off < -allowed;
    }
    if (torn) {
        clock->from_cycles = raw.cycles;
        clock->from_ns = raw.ns;
    } else if (length >= MANTRA_CLOCK_BASELINE_NS) {
        const unsigned __int128 ns = (unsigned __int128)length << 56;
        const uint64_t rate = (uint64_t)(ns / (raw.cycles - clock->from_cycles));
        atomic_store_explicit(&clock->ns_per_cycle, rate, memory_order_relaxed);
    }
    clock->last_cycles = raw.cycles;
    clock->last_ns = raw.ns;
}

/* UTC begins here, without steps behind it. */
static inline void
mantra_clock_base(mantra_clock *clock, mantra_moment utc)
{
    const uint64_t rate = atomic_load_explicit(&clock->ns_per_cycle, memory_order_relaxed);
    const int64_t error_ns = (int64_t)mantra_clock_scale(utc.window, rate) / 2;
    mantra_clock_tell(clock, &(mantra_clock_state){utc.cycles, utc.ns, rate, error_ns, 0, 0, 0, 0});
}

/* Follow what the OS's clocks said just now; see mantra_clock_steer. */
static inline int64_t
mantra_clock_follow(mantra_clock *clock, mantra_moment raw, mantra_moment utc)
{
    const int64_t error_ns = (int64_t)mantra_clock_ns(clock, utc.window) / 2;
    const int64_t allowed = mantra_clock_error_ns(clock, utc.cycles) + error_ns;
    mantra_clock_state state = mantra_clock_look(clock);
    const int64_t behind = utc.ns - mantra_clock_state_utc_ns(&state, utc.cycles);
    if (clock->kind == MANTRA_CLOCK_CYCLES)
        mantra_clock_rate(clock, raw);
    const uint64_t rate = atomic_load_explicit(&clock->ns_per_cycle, memory_order_relaxed);
    const uint64_t passed = utc.cycles > state.base_cycles ? utc.cycles - state.base_cycles : 0;
    const int64_t span = (int64_t)mantra_clock_scale(passed, rate);
    if (behind > allowed || behind < -allowed) {
        state.steps++;
        state.step_ns = behind;
        state.stepped_utc_ns = utc.ns;
    } else if (span >= MANTRA_CLOCK_BASELINE_NS / 2) { /* over less, reading the clocks would be most of it */
        const int64_t ahead = utc.ns - state.base_utc_ns - span, most = span / MANTRA_CLOCK_SLEW;
        const int64_t slew = ahead > most ? most : ahead < -most ? -most : ahead;
        state.drift_ppb = (int64_t)((__int128)slew * 1000000000 / span);
    }
    state.base_cycles = utc.cycles;
    state.base_utc_ns = utc.ns;
    state.utc_per_cycle = rate + (uint64_t)((__int128)rate * state.drift_ppb / 1000000000);
    state.error_ns = error_ns;
    mantra_clock_tell(clock, &state);
    return behind;
}

/* Keep up with the OS's clocks; call about once a second, from one thread. Returns by how many ns UTC was behind. */
static inline int64_t
mantra_clock_steer(mantra_clock *clock)
{
    if (clock->kind == MANTRA_CLOCK_VIRTUAL)
        return 0;
    return mantra_clock_follow(clock, mantra_clock_moment(clock, CLOCK_MONOTONIC_RAW),
                               mantra_clock_moment(clock, CLOCK_REALTIME));
}

static inline void
mantra_clock_begin(mantra_clock *clock)
{
    mantra_clock_base(clock, mantra_clock_moment(clock, CLOCK_REALTIME));
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
            atomic_store_explicit(&clock->ns_per_cycle, (uint64_t)((ns << 56) / cycles), memory_order_relaxed);
        else
            clock->kind = MANTRA_CLOCK_OS;
        clock->from_cycles = from.cycles;
        clock->from_ns = from.ns;
        clock->last_cycles = to.cycles;
        clock->last_ns = to.ns;
    }
    mantra_clock_begin(clock);
}

/* Virtual time from `utc_ns` on: a cycle is a nanosecond of UTC. */
static inline void
mantra_clock_start_virtual(mantra_clock *clock, int64_t utc_ns)
{
    *clock = (mantra_clock){.kind = MANTRA_CLOCK_VIRTUAL, .ns_per_cycle = UINT64_C(1) << 56, .now = (uint64_t)utc_ns};
    mantra_clock_base(clock, (mantra_moment){(uint64_t)utc_ns, 0, utc_ns});
}

/* Move virtual time on to `cycles`, from any thread; it never goes back. */
static inline void
mantra_clock_advance(mantra_clock *clock, uint64_t cycles)
{
    uint64_t now = atomic_load_explicit(&clock->now, memory_order_relaxed);
    while (now < cycles && !atomic_compare_exchange_weak_explicit(&clock->now, &now, cycles, memory_order_release,
                                                                  memory_order_relaxed)) {}
}

static inline void
mantra_clock_advance_to(mantra_clock *clock, int64_t utc_ns)
{
    const mantra_clock_state state = mantra_clock_look(clock);
    mantra_clock_advance(clock, state.base_cycles + (uint64_t)(utc_ns - state.base_utc_ns));
}

/* UTC of virtual time is set, back or forth: a step, as somebody may set the OS's. Cycles do not notice. */
static inline void
mantra_clock_set(mantra_clock *clock, int64_t utc_ns)
{
    mantra_clock_state state = mantra_clock_look(clock);
    const uint64_t now = atomic_load_explicit(&clock->now, memory_order_relaxed);
    state.step_ns = utc_ns - mantra_clock_state_utc_ns(&state, now);
    state.stepped_utc_ns = utc_ns;
    state.steps++;
    state.base_cycles = now;
    state.base_utc_ns = utc_ns;
    mantra_clock_tell(clock, &state);
}

#endif
