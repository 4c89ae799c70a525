/* gather.h - many queues of one message taken as they come: each queue's messages together, with their positions.
 *
 *   queue 0  . . a b|        messages  a b c d e f
 *   queue 1  . c d e|   ->   runs      (0, 2 of them), (1, 3), (2, 1)     one behind the other in their queue: where
 *   queue 2  . f|                                                         positions jump, another run begins
 *
 * For who keeps everything and puts it in order later (merge.h is for who needs an order at once). Who gathers sleeps by
 * the clock and arms no doorbell, so that no producer ever wakes him: he is late, and costs nobody anything. What tells
 * that he must not sleep longer is the slot a quarter of the ring ahead, a line that nobody writes meanwhile. */
#ifndef MANTRA_GATHER_H
#define MANTRA_GATHER_H

#include "mantra/clock.h"
#include "mantra/queue.h"

/* Does a quarter of the ring wait? */
static inline bool
mantra_consumer_pressed(const mantra_consumer *consumer)
{
    const mantra_queue *queue = &consumer->queue;
    const uint64_t ahead = consumer->position + (queue->mask + 1) / 4;
    const uint64_t version = atomic_load_explicit(&mantra_queue_slot(queue, ahead)->version, memory_order_relaxed);
    return version >> MANTRA_LAP_SHIFT >= mantra_queue_lap(queue, ahead);
}

/* One run of what waits, up to `room` messages from `*position` on; 0: nothing waits. What a lap or a killed producer
 * left of a batch is dropped, as `lost`. */
static inline size_t
mantra_gather_run(mantra_consumer *consumer, void *messages, size_t room, uint64_t *position)
{
    const size_t size = 8 * (size_t)consumer->queue.words;
    char *const out = messages;
    size_t count = 0;
    *position = consumer->position;
    while (count < room) {
        count += mantra_consume_run(consumer, out + count * size, room - count);
        if (count == room)
            break;
        const int got = mantra_consume(consumer, out + count * size);
        if (got == 0)
            break;
        if (got > 0 && consumer->position - 1 == *position + count) {
            count++;
        } else if (got > 0 && count > 0) {
            consumer->position--; /* it begins the next run */
            break;
        } else if (got > 0) {
            *position = consumer->position - 1;
            count = 1;
        } else {
            for (; count > 0 && mantra_queue_more(&consumer->queue, out + (count - 1) * size); count--)
                consumer->lost++;
            if (count > 0)
                break;
            *position = consumer->position;
        }
    }
    return count;
}

typedef struct mantra_gather {
    mantra_consumer *consumers;
    uint32_t count;
} mantra_gather;

/* Sleep until a consumer of these is pressed (true), or `timeout_ns` are over; looking every `tick_ns`. */
static inline bool
mantra_gather_wait(const mantra_gather *gathers, size_t count, int64_t timeout_ns, int64_t tick_ns)
{
    const int64_t until = mantra_monotonic_ns() + timeout_ns;
    for (;;) {
        for (size_t i = 0; i < count; i++)
            for (uint32_t k = 0; k < gathers[i].count; k++)
                if (mantra_consumer_pressed(&gathers[i].consumers[k]))
                    return true;
        const int64_t left = until - mantra_monotonic_ns();
        if (left <= 0)
            return false;
        const int64_t nap = left < tick_ns ? left : tick_ns;
        const struct timespec span = {.tv_sec = nap / 1000000000, .tv_nsec = nap % 1000000000};
        nanosleep(&span, NULL);
    }
}

#endif
