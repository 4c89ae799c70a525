/* The doorbell: whoever waits is woken (not by the 1 ms limit alone), nobody sleeps past a ring, a dead waiter costs one
 * system call. Two waiters, so that one's ring disarming the other would show. */
// threads
#include <pthread.h>

#include "check.h"
#include "mantra/doorbell.h"

#define ROUNDS 300

static mantra_doorbell bell;
static _Atomic uint64_t turn[3]; /* one queue each, of one number */

static bool
moved(void *turn_)
{
    return atomic_load_explicit((_Atomic uint64_t *)turn_, memory_order_acquire) != 0;
}

/* Wait for our number, hand it to the next thread, ring. */
static void *
pass_on(void *place_)
{
    mantra_waiting waiting = {.ready = moved, .what = place_};
    _Atomic uint64_t *mine = place_, *next = mine == &turn[2] ? &turn[0] : mine + 1;
    for (int round = 0; round < ROUNDS; round++) {
        CHECK(mantra_doorbell_until(&bell, &waiting, (mantra_idle){0, 4}, INT64_C(10000000000)));
        uint64_t number = atomic_exchange(mine, 0);
        atomic_store_explicit(next, number + 1, memory_order_release);
        mantra_doorbell_ring(&bell);
    }
    return NULL;
}

int
main(void)
{
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, pass_on, &turn[i]);
    atomic_store(&turn[0], 1);
    mantra_doorbell_ring(&bell);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    CHECK(atomic_load(&turn[0]) == 3 * ROUNDS + 1);

    /* Nobody waits: no timeout, no change. An armed bell of a waiter that died is disarmed by the next ring. */
    mantra_waiting waiting = {.ready = moved, .what = &turn[1]};
    const mantra_idle idles[] = {{0, 0}, {10, 4}, {MANTRA_ALWAYS, 0}, {0, MANTRA_ALWAYS}};
    for (int i = 0; i < 4; i++) {
        CHECK(!mantra_doorbell_until(&bell, &waiting, idles[i], 0) && !mantra_doorbell_until(NULL, &waiting, idles[i], 1000));
        mantra_doorbell_end(&bell, &waiting); /* ended: once */
        CHECK(mantra_doorbell_until(&bell, &waiting, idles[i], INT64_C(10000000000)));
        CHECK(mantra_waiting_over(&waiting) && !mantra_waiting_over(&waiting));
    }
    uint32_t seen = mantra_doorbell_seen(&bell);
    CHECK(atomic_load(&bell.armed) == 1);
    mantra_doorbell_ring(&bell);
    CHECK(atomic_load(&bell.armed) == 0 && atomic_load(&bell.word) == seen + 1);
    mantra_doorbell_ring(&bell);
    CHECK(atomic_load(&bell.word) == seen + 1);
    mantra_doorbell_wait(&bell, seen, INT64_MAX); /* rung since: returns at once; and never sleeps beyond 1 ms anyhow */
    mantra_doorbell_wait(&bell, seen + 1, INT64_MAX);
    return 0;
}
