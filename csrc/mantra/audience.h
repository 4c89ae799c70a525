/* audience.h - who reads a playback, and how far each has come, so that the player can wait for the slowest.
 *
 *   0      64
 *   | used | seat | seat | ...        seat, a line: | identity | queue | position |        identity 0: free
 *
 * A live run has no audience: its producers know no consumer. Where a run has one, who reads a queue and minds being
 * lapped takes a seat, and says there, before each look at the ring, what it has taken. Rings and their slots are as
 * ever. A free seat is at position 0: who takes it is waited for until he has said where he begins. */
#ifndef MANTRA_AUDIENCE_H
#define MANTRA_AUDIENCE_H

#include "mantra/region.h"

#define MANTRA_SEATS 2048u

typedef struct mantra_seat {
    _Alignas(MANTRA_CACHE_LINE) _Atomic uint64_t identity; /* of its process, region.h */
    _Atomic uint64_t queue;                                /* the run's number of it */
    _Atomic uint64_t position;                             /* what lies before has been taken */
} mantra_seat;

typedef struct mantra_audience {
    _Atomic uint64_t used; /* seats ever taken are below this */
    _Alignas(MANTRA_CACHE_LINE) mantra_seat seats[MANTRA_SEATS];
} mantra_audience;

/* A seat for a reader of `queue`; NULL: all are taken. */
static inline mantra_seat *
mantra_audience_join(mantra_audience *audience, uint16_t queue)
{
    for (uint64_t i = 0; i < MANTRA_SEATS; i++) {
        mantra_seat *seat = &audience->seats[i];
        uint64_t holder = 0;
        if (!atomic_compare_exchange_strong(&seat->identity, &holder, mantra_process_self()))
            continue;
        atomic_store_explicit(&seat->queue, queue, memory_order_relaxed);
        uint64_t used = atomic_load(&audience->used);
        while (used <= i && !atomic_compare_exchange_weak(&audience->used, &used, i + 1)) {} /* again */
        return seat;
    }
    return NULL;
}

static inline void
mantra_seat_free(mantra_seat *seat, uint64_t holder)
{
    if (atomic_load_explicit(&seat->identity, memory_order_relaxed) != holder)
        return; /* a forked child's, which never had it */
    atomic_store_explicit(&seat->position, 0, memory_order_relaxed);
    atomic_store_explicit(&seat->identity, 0, memory_order_release);
}

static inline void
mantra_audience_leave(mantra_seat *seat)
{
    mantra_seat_free(seat, mantra_process_self());
}

/* Give the seats of the dead back; one thread does. Cold: reads /proc. */
static inline void
mantra_audience_clear(mantra_audience *audience)
{
    for (uint64_t i = 0; i < atomic_load_explicit(&audience->used, memory_order_acquire); i++) {
        const uint64_t holder = atomic_load_explicit(&audience->seats[i].identity, memory_order_acquire);
        if (holder != 0 && !mantra_process_alive(holder))
            mantra_seat_free(&audience->seats[i], holder);
    }
}

#endif
