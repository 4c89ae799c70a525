/* merge.h - many queues of one message, read as one.
 *
 *   queue 0  . . a b|                 of what waits, the earliest published comes first; a batch (MANTRA_MORE), once
 *   queue 1  . . c d+ e|   ->  a c b d e          begun, is read to its end before another queue has its turn
 *   queue 2  . .
 *
 * One message per queue is held, so that the next decision is a comparison of stamps. "Waiting" is what had arrived
 * when asked: nothing is delayed to wait for a slower queue. A batch whose producer died or left before its end is
 * given up. gnu11, as region.h is. */
#ifndef MANTRA_MERGE_H
#define MANTRA_MERGE_H

#include "mantra/queue.h"
#include "mantra/tracking.h"

typedef struct mantra_merge_source {
    mantra_consumer consumer;
    uint64_t published; /* cycles; of the held message */
    bool holds;
    _Alignas(8) uint8_t message[MANTRA_MESSAGE_MAX];
} mantra_merge_source;

typedef struct mantra_merge {
    mantra_merge_source *sources; /* the caller's memory; consumers set, the rest zero; all of one message */
    uint32_t count;
    uint32_t batch; /* the source in the middle of a batch, or `count` */
    uint32_t empty; /* times in a row that it had nothing */
} mantra_merge;

static inline mantra_merge
mantra_merge_of(mantra_merge_source *sources, uint32_t count)
{
    return (mantra_merge){sources, count, count, 0};
}

/* In the middle of a batch for long: is there nobody to finish it? Rarely asked, as it reads /proc. */
static inline bool
mantra_merge_broken(mantra_merge *merge)
{
    return merge->batch < merge->count && ++merge->empty % 256 == 0
           && !mantra_queue_producers(&merge->sources[merge->batch].consumer.queue);
}

/* 1: a message; 0: nothing waits; -1: of `source`, messages were lost (its consumer's `lost` grew) or a batch broke
 * off: what is kept of its unfinished batch must be dropped, and the next call goes on. */
static inline int
mantra_merge_next(mantra_merge *merge, void *message, uint32_t *source)
{
    uint32_t first = merge->batch < merge->count ? merge->batch : 0;
    uint32_t last = merge->batch < merge->count ? merge->batch + 1 : merge->count;
    mantra_merge_source *best = NULL;
    for (uint32_t i = first; i < last; i++) {
        mantra_merge_source *each = &merge->sources[i];
        if (!each->holds) {
            int got = mantra_consume(&each->consumer, each->message);
            if (got == 0)
                continue;
            if (got < 0) {
                *source = i;
                merge->batch = merge->batch == i ? merge->count : merge->batch;
                return -1;
            }
            uint64_t tracking[2];
            memcpy(tracking, each->message, sizeof tracking);
            each->published = mantra_published_cycles(tracking[0], tracking[1]);
            each->holds = true;
        }
        if (best == NULL || (int64_t)(each->published - best->published) < 0)
            best = each;
    }
    if (best == NULL) {
        if (!mantra_merge_broken(merge))
            return 0;
        *source = merge->batch;
        merge->batch = merge->count;
        return -1;
    }
    *source = (uint32_t)(best - merge->sources);
    best->holds = false;
    memcpy(message, best->message, 8 * (size_t)best->consumer.queue.words);
    merge->batch = mantra_queue_more(&best->consumer.queue, best->message) ? *source : merge->count;
    merge->empty = 0;
    return 1;
}

/* Is there anything that mantra_merge_next would tell? In the middle of a batch that is only what comes of it. */
static inline bool
mantra_merge_ready(void *merge_)
{
    mantra_merge *merge = merge_;
    const bool inside = merge->batch < merge->count;
    for (uint32_t i = inside ? merge->batch : 0; i < (inside ? merge->batch + 1 : merge->count); i++)
        if (merge->sources[i].holds || mantra_consumer_ready(&merge->sources[i].consumer))
            return true;
    const bool broken = mantra_merge_broken(merge);
    merge->empty -= broken; /* mantra_merge_next is to find the same */
    return broken;
}

#endif
