/* doorbell.h - one futex word per run, so that who waits for any queue can sleep.
 *
 *   | word | armed | ... 64 |      away from every slot: producers still know no consumer
 *
 *   waiter                                   ringer
 *   seen = mantra_doorbell_seen    arms      publishes
 *   looks at its queues once more            mantra_doorbell_ring: fence, armed? then word + 1, wake all
 *   mantra_doorbell_wait(seen)     sleeps
 *
 * Between arming and looking, and between publishing and checking, stands a sequentially consistent fence: at least one
 * side sees the other, and a ring between the look and the sleep changes the word, so the sleep ends at once. A ring
 * disarms, so a waiter that died costs the next ring one system call and nothing after. Sleeps last at most 1 ms in any
 * case. Spin on the queues first and arm only to sleep: while armed, every ring is a system call. Linux: -std=gnu11. */
#ifndef MANTRA_DOORBELL_H
#define MANTRA_DOORBELL_H

#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mantra/clock.h"

#define MANTRA_PARK_NS INT64_C(1000000)
#define MANTRA_ALWAYS UINT32_MAX

/* How to wait: look so often with a pause after each look, then so often giving the CPU away; then park.
 * MANTRA_ALWAYS of either: until the timeout. */
typedef struct mantra_idle {
    uint32_t spins, yields;
} mantra_idle;

typedef struct mantra_doorbell {
    _Atomic uint32_t word, armed;
    uint8_t rest[MANTRA_CACHE_LINE - 8];
} mantra_doorbell;
_Static_assert(sizeof(mantra_doorbell) == MANTRA_CACHE_LINE, "a line of its own");

/* What somebody waits for: that `ready(what)` holds, or that another thread says enough. */
typedef bool (*mantra_ready)(void *what);
typedef struct mantra_waiting {
    mantra_ready ready;
    void *what;
    _Atomic uint32_t woken;
    uint32_t looks; /* places that `ready` looks at: of many, spinning is so much dearer, and so much shorter (0: one) */
} mantra_waiting;

/* After publishing, once per batch. A fence and a load when nobody sleeps. */
static inline void
mantra_doorbell_ring(mantra_doorbell *bell)
{
    atomic_thread_fence(memory_order_seq_cst);
    if (MANTRA_LIKELY(!atomic_load_explicit(&bell->armed, memory_order_relaxed)))
        return;
    /* Disarm before the word moves: who arms after this has read a word that is about to move, or the moved one. */
    atomic_exchange_explicit(&bell->armed, 0, memory_order_acq_rel);
    atomic_fetch_add_explicit(&bell->word, 1, memory_order_release);
    syscall(SYS_futex, &bell->word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* After publishing in the middle of a batch, whose end rings in any case: no fence, so it wakes who has been asleep,
 * and may miss who goes to sleep this very moment. */
static inline void
mantra_doorbell_hurry(mantra_doorbell *bell)
{
    if (MANTRA_UNLIKELY(atomic_load_explicit(&bell->armed, memory_order_relaxed)))
        mantra_doorbell_ring(bell);
}

/* Arm, and remember the word. Look at the queues once more after this, then wait. */
static inline uint32_t
mantra_doorbell_seen(mantra_doorbell *bell)
{
    uint32_t seen = atomic_load_explicit(&bell->word, memory_order_acquire);
    atomic_store_explicit(&bell->armed, 1, memory_order_release);
    atomic_thread_fence(memory_order_seq_cst);
    return seen;
}

/* Sleep until rung since `seen`, or timeout_ns, or 1 ms, whichever is first. */
static inline void
mantra_doorbell_wait(mantra_doorbell *bell, uint32_t seen, int64_t timeout_ns)
{
    if (timeout_ns <= 0)
        return;
    struct timespec timeout = {0, timeout_ns < MANTRA_PARK_NS ? timeout_ns : MANTRA_PARK_NS};
    syscall(SYS_futex, &bell->word, FUTEX_WAIT, seen, &timeout, NULL, 0);
}

/* End a wait, this one or the next; any thread. */
static inline void
mantra_doorbell_end(mantra_doorbell *bell, mantra_waiting *waiting)
{
    atomic_store_explicit(&waiting->woken, 1, memory_order_release);
    if (bell)
        mantra_doorbell_ring(bell);
}

/* Was it ended? Once. */
static inline bool
mantra_waiting_over(mantra_waiting *waiting)
{
    return atomic_load_explicit(&waiting->woken, memory_order_relaxed) &&
           atomic_exchange_explicit(&waiting->woken, 0, memory_order_acq_rel);
}

static inline bool
mantra_waiting_done(mantra_waiting *waiting)
{
    return atomic_load_explicit(&waiting->woken, memory_order_acquire) || waiting->ready(waiting->what);
}

/* Wait until it is ready, ended, or timeout_ns, idling as told; to park without a bell is to take short sleeps. */
static inline bool
mantra_doorbell_until(mantra_doorbell *bell, mantra_waiting *waiting, mantra_idle idle, int64_t timeout_ns)
{
    if (mantra_waiting_done(waiting))
        return true;
    const int64_t deadline = mantra_monotonic_ns() + timeout_ns;
    if (waiting->looks > 1 && idle.spins != MANTRA_ALWAYS)
        idle.spins /= waiting->looks;
    for (uint32_t i = 1; i <= idle.spins; i++) {
        MANTRA_PAUSE();
        if (mantra_waiting_done(waiting))
            return true;
        if (idle.spins == MANTRA_ALWAYS && i % 256 == 0 && mantra_monotonic_ns() >= deadline)
            return false;
    }
    for (uint32_t i = 1; i <= idle.yields; i++) {
        sched_yield();
        if (mantra_waiting_done(waiting))
            return true;
        if (idle.yields == MANTRA_ALWAYS && i % 16 == 0 && mantra_monotonic_ns() >= deadline)
            return false;
    }
    for (int64_t left = timeout_ns;; left = deadline - mantra_monotonic_ns()) {
        uint32_t seen = bell ? mantra_doorbell_seen(bell) : 0;
        if (mantra_waiting_done(waiting))
            return true;
        if (left <= 0)
            return false;
        if (bell) {
            mantra_doorbell_wait(bell, seen, left);
        } else {
            struct timespec nap = {0, left < 50000 ? left : 50000};
            nanosleep(&nap, NULL);
        }
    }
}

#endif
