/* tracking.h - every message carries when its first bytes arrived, when it was published, and by whom; every actor's
 * time is accounted for, and no actor's code mentions it.
 *
 *   origin      cycles at the first byte
 *   published   cycles from origin to publishing << 16 | publisher        (mantra_pack_published, messages.h)
 *
 *                published    consumed              consumed the next, or found nothing
 *   ... in its queue | ------------ | ------- busy ------- |        one mantra_timing per message, in the actor's ring
 *
 * Producing what a consumed message led to passes its origin on; so the age of anything is one subtraction. An actor
 * has one tracker (so a tracker has one thread). What its consumers, producers and merges are given it, they tell it.
 *
 * Stamps are rdtscp. On a Xeon at 2.3 GHz rdtsc costs 10 ns, rdtscp 16, lfence and rdtsc 17; but rdtsc does not wait
 * for the loads before it. Where messages waited on another core's lines, their least hundredth seemed 23 ns old by it
 * and was 115, and some seemed not to be published yet. So the counter is read once per message consumed and once per
 * message produced, and costs what it costs. A lag (what waits in the queue) is for who looks: the producer's line is
 * not touched here. A hop of 64-byte messages (consume, produce) takes 8 ns, with its stamp 27, timed 50: the second
 * stamp and the record. A venue's message is stamped anyway: 5 to 10 more of 193 (bench/bench_timing.py). */
#ifndef MANTRA_TRACKING_H
#define MANTRA_TRACKING_H

#include "mantra/clock.h"
#include "mantra/queue.h"

static inline uint64_t
mantra_published_cycles(uint64_t origin, uint64_t published)
{
    return origin + (published >> 16);
}

static inline uint16_t
mantra_publisher(uint64_t published)
{
    return (uint16_t)published;
}

/* Fill the tracking of any message, its first two words. `now` a little before `origin` (another core's counter): 0. */
static inline void
mantra_stamp(void *message, uint64_t origin, uint64_t now, uint16_t publisher)
{
    const uint64_t tracking[] = {origin, mantra_pack_published(now > origin ? now - origin : 0, publisher)};
    memcpy(message, tracking, sizeof tracking);
}

typedef struct mantra_tracker {
    const mantra_clock *clock;
    mantra_producer *timings; /* of "timing"; NULL: origins are passed on and nothing is recorded */
    uint64_t origin;          /* of what is produced next; 0: it begins here */
    uint16_t actor;
    bool working;             /* on what the rest tells of */
    uint16_t queue;
    uint32_t count;
    uint64_t tracking[2], consumed, position;
} mantra_tracker;

/* Small fields are put together in a register: see mantra_word. */
static inline void
mantra_tracker_record(mantra_tracker *tracker, uint64_t origin, uint64_t published, uint64_t consumed, uint64_t done,
                      uint64_t position, uint16_t queue, uint32_t count)
{
    const uint64_t record[sizeof(mantra_timing) / 8] = {
        [offsetof(mantra_timing, origin) / 8] = origin,
        [offsetof(mantra_timing, published) / 8] = published,
        [offsetof(mantra_timing, consumed) / 8] = consumed,
        [offsetof(mantra_timing, busy) / 8] = done - consumed,
        [offsetof(mantra_timing, position) / 8] = position,
        [offsetof(mantra_timing, queue) / 8] = queue | (uint64_t)tracker->actor << 16 | (uint64_t)count << 32,
    };
    mantra_produce(tracker->timings, record);
}

static inline void
mantra_tracker_done(mantra_tracker *tracker, uint64_t now)
{
    if (tracker->working)
        mantra_tracker_record(tracker, tracker->tracking[0], tracker->tracking[1], tracker->consumed, now,
                              tracker->position, tracker->queue, tracker->count);
    tracker->working = false;
}

/* `count` messages were consumed at once; this is the first of them, with tracking: who waited longest tells of all. */
static inline void
mantra_tracker_consumed_many(mantra_tracker *tracker, const void *message, uint16_t queue, uint64_t position,
                             uint32_t count)
{
    uint64_t tracking[2];
    memcpy(tracking, message, sizeof tracking);
    tracker->origin = tracking[0];
    if (tracker->timings == NULL)
        return;
    const uint64_t now = mantra_clock_cycles(tracker->clock);
    mantra_tracker_done(tracker, now);
    memcpy(tracker->tracking, tracking, sizeof tracking);
    tracker->consumed = now;
    tracker->position = position;
    tracker->queue = queue;
    tracker->count = count;
    tracker->working = true;
}

/* `consumer` gave this message just now: what was under way is done, this is begun. */
static inline void
mantra_tracker_took(mantra_tracker *tracker, const mantra_consumer *consumer, const void *message)
{
    mantra_tracker_consumed_many(tracker, message, consumer->queue.number, consumer->position - 1, 1);
}

/* Nothing waits: what was under way is done. Who reads all there is and then acts on it still passes its origin on. */
static inline void
mantra_tracker_idle(mantra_tracker *tracker)
{
    if (tracker->working)
        mantra_tracker_done(tracker, mantra_clock_cycles(tracker->clock));
}

/* A wait, or the end of a step: what is produced next comes of nothing consumed before. */
static inline void
mantra_tracker_rest(mantra_tracker *tracker)
{
    mantra_tracker_idle(tracker);
    tracker->origin = 0;
}

/* Fill the tracking of a message about to be produced. */
static inline void
mantra_tracker_stamp(const mantra_tracker *tracker, void *message)
{
    const uint64_t now = mantra_clock_cycles(tracker->clock);
    mantra_stamp(message, tracker->origin ? tracker->origin : now, now, tracker->actor);
}

#endif
