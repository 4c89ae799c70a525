/* stdatomic.h - C11's atomics as relacy's, found before the system's when the real headers are compiled as C++.
 *
 * An atomic keeps its size and place: where C has a word, here is the number of one of relacy's atomics, which are larger.
 * atom() gives it, and is where a thread that may be killed dies: between any two accesses. */
#ifndef MANTRA_PROOF_STDATOMIC_H
#define MANTRA_PROOF_STDATOMIC_H

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>

/* What relacy's macros (new, free, errno ...) would break is included before them. */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <relacy/relacy.hpp>

#undef memory_order_relaxed
#undef memory_order_acquire
#undef memory_order_release
#undef memory_order_acq_rel
#undef memory_order_seq_cst
#define memory_order_relaxed rl::mo_relaxed
#define memory_order_acquire rl::mo_acquire
#define memory_order_release rl::mo_release
#define memory_order_acq_rel rl::mo_acq_rel
#define memory_order_seq_cst rl::mo_seq_cst

#define ATOMIC_LLONG_LOCK_FREE 2
#define _Generic(value, ...) 'u' /* which kind a field table names */
#define _Static_assert static_assert
#define __builtin_ia32_pause() rl::yield(1, $)
#define syscall(number, ...) proof_futex(__VA_ARGS__)

/* The headers' orders are numbered from 1 (ordering.py); the one named here is weakened: that is a twin. */
static int proof_twin;

static inline rl::memory_order
proof_order(int number, rl::memory_order order)
{
    return number != proof_twin ? order : order == rl::mo_seq_cst ? rl::mo_acq_rel : rl::mo_relaxed;
}

static inline void
proof_fence(rl::memory_order order)
{
    if (order != rl::mo_relaxed)
        rl::atomic_thread_fence(order, $);
}

struct proof_killed {}; /* thrown through a thread whose process dies here */

struct proof_world { /* of one iteration */
    rl::atomic<uint64_t> *atoms;
    uint64_t used;
    int mortal[8]; /* by thread: how many accesses until it is killed; 0: it is not */
    void step(void)
    {
        int *left = &mortal[rl::thread_index()];
        if (*left && --*left == 0)
            throw proof_killed();
    }
};
static proof_world proof;

template <typename T> struct proof_atomic {
    T number; /* from 1; 0: never made, so using it is a mistake of the scenario */
    void make(uint64_t value)
    {
        number = (T)++proof.used;
        proof.atoms[number].store(value, rl::mo_relaxed, $);
    }
    rl::atomic<uint64_t> &atom(void) const
    {
        if (!number || number > proof.used)
            std::fputs("an atomic that the scenario did not make\n", stderr), std::abort();
        proof.step();
        return proof.atoms[number];
    }
};

template <typename T> static inline T
atomic_load_explicit(const proof_atomic<T> *at, rl::memory_order order)
{
    return (T)at->atom().load(order, $);
}

template <typename T, typename V> static inline void
atomic_store_explicit(proof_atomic<T> *at, V value, rl::memory_order order)
{
    at->atom().store((T)value, order, $);
}

template <typename T, typename V> static inline T
atomic_exchange_explicit(proof_atomic<T> *at, V value, rl::memory_order order)
{
    return (T)at->atom().exchange((T)value, order, $);
}

template <typename T, typename V> static inline T
atomic_fetch_add_explicit(proof_atomic<T> *at, V value, rl::memory_order order)
{
    return (T)at->atom().fetch_add((T)value, order, $);
}

/* A failed swap's order is no stronger than a good one's, twins' too. */
static inline rl::memory_order
proof_failure(rl::memory_order good, rl::memory_order bad)
{
    return good == rl::mo_relaxed ? good : bad;
}

template <typename T, typename V> static inline bool
atomic_compare_exchange_strong_explicit(proof_atomic<T> *at, T *expected, V value, rl::memory_order good, rl::memory_order bad)
{
    uint64_t seen = *expected;
    const bool done = at->atom().compare_exchange_strong(seen, (uint64_t)value, good, $, proof_failure(good, bad), $);
    *expected = (T)seen;
    return done;
}

template <typename T, typename V> static inline bool
atomic_compare_exchange_weak_explicit(proof_atomic<T> *at, T *expected, V value, rl::memory_order good, rl::memory_order bad)
{
    uint64_t seen = *expected;
    const bool done = at->atom().compare_exchange_weak(seen, (uint64_t)value, good, $, proof_failure(good, bad), $);
    *expected = (T)seen;
    return done;
}

#define atomic_compare_exchange_strong(at, expected, value) \
    atomic_compare_exchange_strong_explicit(at, expected, value, memory_order_seq_cst, memory_order_seq_cst)
#define atomic_thread_fence(order) proof_fence(order)

static long proof_futex(const void *word, int operation, uint32_t value, ...);

#endif
