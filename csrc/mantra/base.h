/* base.h - sizes and helpers that every other header may lean on. */
#ifndef MANTRA_BASE_H
#define MANTRA_BASE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define MANTRA_CACHE_LINE 64
#define MANTRA_DEPTH 10       /* levels per side of a top and of a world view */
#define MANTRA_PADDING 64     /* readable bytes behind any text that is scanned: whole words are loaded */
#define MANTRA_MAX_VENUES 16  /* a world view tells of each how far it is trusted */

#define MANTRA_LIKELY(x) __builtin_expect(!!(x), 1)
#define MANTRA_UNLIKELY(x) __builtin_expect(!!(x), 0)
/* Small, and called for every message: gcc else stops inlining these where a unit has grown, whatever made it grow. */
#define MANTRA_HOT static inline __attribute__((always_inline))
#define MANTRA_COLD static __attribute__((noinline, unused)) /* keeps what is rare out of what is hot */

/* Before a short loop of constant length: write its turns out. Neither compiler does it to atomics unasked. */
#if defined(__clang__)
#define MANTRA_UNROLL _Pragma("clang loop unroll(full)")
#define MANTRA_UNROLL_8 _Pragma("clang loop unroll_count(8)")
#else
#define MANTRA_UNROLL _Pragma("GCC unroll 32")
#define MANTRA_UNROLL_8 _Pragma("GCC unroll 8")
#endif

#if defined(__x86_64__)
#define MANTRA_PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define MANTRA_PAUSE() __asm__ volatile("yield")
#else
#error "mantra runs on x86-64 and 64-bit Arm"
#endif

_Static_assert(sizeof(void *) == 8, "64-bit only");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "little endian only");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "64-bit atomics must be lock-free: they live in shared memory");

static inline uint64_t
mantra_min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* What poll and epoll_wait take: milliseconds, rounded up, so that a wait never turns into a spin; negative: for
 * ever. */
static inline int
mantra_poll_ms(int64_t timeout_ns)
{
    const int64_t ms = timeout_ns < INT64_MAX - 999999 ? (timeout_ns + 999999) / 1000000 : INT32_MAX;
    return timeout_ns < 0 ? -1 : ms < INT32_MAX ? (int)ms : INT32_MAX;
}

static inline size_t
mantra_round_up(size_t value, size_t multiple)
{
    return (value + multiple - 1) / multiple * multiple;
}

#endif
