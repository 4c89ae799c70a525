/* queue.h - broadcast ring: every consumer sees every message, the producer never waits and knows no consumer.
 *
 *   0          64         128
 *   | producer | position | slot 0 | slot 1 | ... capacity (a power of two) ...
 *
 *   slot       | version | message ... |      whole cache lines; consumers poll the version and nothing else
 *   version    lap 47 | producer 16 | writing 1
 *
 * The message at position p is in slot p % capacity during lap p / capacity + 1 (0: never written). A version is thus
 * different for every message that a slot ever holds, and tells a consumer at p all it needs: an older lap or this lap
 * being written, nothing yet; this lap settled, read; a newer lap, p is overwritten: lapped. Loads and fences are those
 * of seqlock.h. A producer killed anywhere leaves at most one slot marked as being written, which the next producer
 * writes again.
 *
 * One producer now. The version word is already that of many: a claim will be one compare-and-swap on it, from the
 * version of an older lap to this lap with the claimer's id and the writing bit; the id says whose an unfinished slot is.
 *
 * Only the producer touches its two header lines while running: `position` is for who starts, or was lapped. gnu11, as
 * region.h is. */
#ifndef MANTRA_QUEUE_H
#define MANTRA_QUEUE_H

#include "mantra/messages.h"
#include "mantra/region.h"
#include "mantra/seqlock.h"

#define MANTRA_LAP_SHIFT 17
#define MANTRA_WRITING UINT64_C(1)

typedef struct mantra_queue_header {
    _Atomic uint64_t producer; /* identity (region.h) of the process that produces; 0: none */
    uint8_t rest_of_line[MANTRA_CACHE_LINE - 8];
    _Atomic uint64_t position; /* of the next message; may lag the slots by one */
    uint8_t rest_of_line_too[MANTRA_CACHE_LINE - 8];
} mantra_queue_header;
_Static_assert(sizeof(mantra_queue_header) == 2 * MANTRA_CACHE_LINE, "as drawn");

typedef struct mantra_queue {
    mantra_queue_header *header;
    uint8_t *slots;
    uint64_t mask;
    uint32_t shift; /* capacity == 1 << shift */
    uint32_t slot_bytes, words;
    uint32_t flags_offset; /* of the message's flags (MANTRA_MORE); 0: it has none, every message stands alone */
} mantra_queue;

typedef struct mantra_producer {
    mantra_queue queue;
    uint64_t position;
    uint16_t publisher;
} mantra_producer;

typedef struct mantra_consumer {
    mantra_queue queue;
    uint64_t position, lost;
    uint8_t joining; /* in the middle of a batch whose beginning was missed: see mantra_consume */
} mantra_consumer;

static inline size_t
mantra_queue_bytes(uint64_t capacity, uint32_t slot_bytes)
{
    return sizeof(mantra_queue_header) + (size_t)capacity * slot_bytes;
}

/* Over zeroed, 64-byte aligned memory of mantra_queue_bytes, or over what another process made there. `capacity` is a
 * power of two from 2, `slot_bytes` whole cache lines. */
static inline mantra_queue
mantra_queue_attach(uint8_t *memory, uint64_t capacity, uint32_t slot_bytes, uint32_t flags_offset)
{
    return (mantra_queue){
        .header = (mantra_queue_header *)(void *)memory,
        .slots = memory + sizeof(mantra_queue_header),
        .mask = capacity - 1,
        .shift = (uint32_t)__builtin_ctzll(capacity),
        .slot_bytes = slot_bytes,
        .words = (slot_bytes - 8) / 8,
        .flags_offset = flags_offset,
    };
}

static inline mantra_seqlock *
mantra_queue_slot(const mantra_queue *queue, uint64_t position)
{
    return (mantra_seqlock *)(void *)(queue->slots + (position & queue->mask) * queue->slot_bytes);
}

static inline uint64_t
mantra_queue_lap(const mantra_queue *queue, uint64_t position)
{
    return (position >> queue->shift) + 1;
}

/* Position of the next message. */
static inline uint64_t
mantra_produced(const mantra_queue *queue)
{
    return atomic_load_explicit(&queue->header->position, memory_order_acquire);
}

static inline bool
mantra_queue_more(const mantra_queue *queue, const void *message)
{
    return queue->flags_offset && ((const uint8_t *)message)[queue->flags_offset] & MANTRA_MORE;
}

/* ---- producing */

/* Is the process that claimed to produce here alive? Cold: reads /proc. */
static inline bool
mantra_queue_producing(const mantra_queue *queue)
{
    return mantra_process_alive(atomic_load_explicit(&queue->header->producer, memory_order_acquire));
}

/* Become the producer. -1: there is one, and it lives. A dead one's place is taken where it stopped. */
static inline int
mantra_producer_open(mantra_producer *producer, const mantra_queue *queue, uint16_t publisher)
{
    uint64_t holder = 0, self = mantra_process_self();
    while (!atomic_compare_exchange_strong(&queue->header->producer, &holder, self))
        if (mantra_process_alive(holder))
            return -1;
    *producer = (mantra_producer){*queue, mantra_produced(queue), publisher};
    /* Killed between settling a slot and counting it: that message was published, do not write it again. */
    while (atomic_load_explicit(&mantra_queue_slot(queue, producer->position)->version, memory_order_acquire) >> MANTRA_LAP_SHIFT
               == mantra_queue_lap(queue, producer->position)
           && !(atomic_load_explicit(&mantra_queue_slot(queue, producer->position)->version, memory_order_relaxed) & MANTRA_WRITING))
        producer->position++;
    atomic_store_explicit(&queue->header->position, producer->position, memory_order_release);
    return 0;
}

/* Give the place back; a no-op in a forked child, which never had it. */
static inline void
mantra_producer_close(mantra_producer *producer)
{
    uint64_t self = mantra_process_self();
    atomic_compare_exchange_strong(&producer->queue.header->producer, &self, 0);
}

/* Where the next message goes: fill the slot's words, all of them, then mantra_produce_end(). */
static inline mantra_seqlock *
mantra_produce_begin(mantra_producer *producer)
{
    const mantra_queue *queue = &producer->queue;
    mantra_seqlock *slot = mantra_queue_slot(queue, producer->position);
    uint64_t lap = mantra_queue_lap(queue, producer->position), settled = lap << MANTRA_LAP_SHIFT;
    settled |= (uint64_t)producer->publisher << 1;
    atomic_store_explicit(&slot->version, settled | MANTRA_WRITING, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    return slot;
}

static inline void
mantra_produce_end(mantra_producer *producer, mantra_seqlock *slot)
{
    uint64_t writing = atomic_load_explicit(&slot->version, memory_order_relaxed);
    atomic_store_explicit(&slot->version, writing & ~MANTRA_WRITING, memory_order_release);
    atomic_store_explicit(&producer->queue.header->position, ++producer->position, memory_order_release);
}

/* Publish one complete message (slot_bytes - 8 bytes), stamped by the caller. */
static inline void
mantra_produce(mantra_producer *producer, const void *message)
{
    mantra_seqlock *slot = mantra_produce_begin(producer);
    if (MANTRA_LIKELY(producer->queue.words == 7)) /* one cache line: let the compiler unroll */
        mantra_words_store(slot->words, message, 7);
    else
        mantra_words_store(slot->words, message, producer->queue.words);
    mantra_produce_end(producer, slot);
}

/* ---- consuming */

/* Is there something to consume (a message, or the news of having been lapped)? */
static inline bool
mantra_consumer_ready(const void *consumer_)
{
    const mantra_consumer *consumer = consumer_;
    uint64_t version =
        atomic_load_explicit(&mantra_queue_slot(&consumer->queue, consumer->position)->version, memory_order_relaxed);
    uint64_t lap = mantra_queue_lap(&consumer->queue, consumer->position);
    return version >> MANTRA_LAP_SHIFT > lap || (version >> MANTRA_LAP_SHIFT == lap && !(version & MANTRA_WRITING));
}

/* The message at the consumer's position: 1 read, 0 not there yet, -1 overwritten. Moves nothing. */
static inline int
mantra_consumer_peek(const mantra_consumer *consumer, void *message)
{
    const mantra_queue *queue = &consumer->queue;
    const mantra_seqlock *slot = mantra_queue_slot(queue, consumer->position);
    uint64_t lap = mantra_queue_lap(queue, consumer->position);
    uint64_t version = atomic_load_explicit(&slot->version, memory_order_acquire);
    if (version >> MANTRA_LAP_SHIFT < lap || (version >> MANTRA_LAP_SHIFT == lap && version & MANTRA_WRITING))
        return 0;
    if (MANTRA_UNLIKELY(version >> MANTRA_LAP_SHIFT > lap))
        return -1;
    if (MANTRA_LIKELY(queue->words == 7))
        mantra_words_load(slot->words, message, 7);
    else
        mantra_words_load(slot->words, message, queue->words);
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(&slot->version, memory_order_relaxed) == version ? 1 : -1;
}

enum { MANTRA_JOINED = 0, MANTRA_JOINING_NEW = 1, MANTRA_JOINING_LAPPED = 2 };

/* Read on from `position`; `why` (MANTRA_JOINING_*) is kept where a batch may be under way there: messages are then
 * dropped up to that batch's end. The message before tells, unless it is overwritten. `scratch` holds one message. */
static inline void
mantra_consumer_seek(mantra_consumer *consumer, uint64_t position, uint8_t why, void *scratch)
{
    consumer->joining = MANTRA_JOINED;
    if (position > 0 && consumer->queue.flags_offset) {
        consumer->position = position - 1;
        const int before = mantra_consumer_peek(consumer, scratch);
        if (before < 0 || (before == 1 && mantra_queue_more(&consumer->queue, scratch)))
            consumer->joining = why; /* 0: still to come, so `position` is where a batch will begin */
    }
    consumer->position = position;
}

/* The oldest position worth starting from: all there is before the first lap, then an eighth of the ring less, as a head
 * start: the very oldest would be overwritten at once. */
static inline uint64_t
mantra_queue_oldest(const mantra_queue *queue, uint64_t produced)
{
    uint64_t capacity = queue->mask + 1, safe = capacity - (capacity / 8 ? capacity / 8 : 1);
    return produced > capacity ? produced - safe : 0;
}

/* Next message into `message`: 1; 0 nothing waiting; -1 lapped: `lost` says how many in all, `position` moved to the oldest
 * safe one, what was kept of an unfinished batch must be dropped, and the next call goes on. The rest of a batch whose
 * beginning was missed is dropped here (and counted in `lost`, if it was a lap that missed it): batches are read whole. */
static inline int
mantra_consume(mantra_consumer *consumer, void *message)
{
    for (;;) {
        int got = mantra_consumer_peek(consumer, message);
        if (MANTRA_LIKELY(got == 1)) {
            consumer->position++;
            if (MANTRA_LIKELY(!consumer->joining))
                return 1;
            consumer->lost += consumer->joining == MANTRA_JOINING_LAPPED;
            if (!mantra_queue_more(&consumer->queue, message))
                consumer->joining = MANTRA_JOINED;
            continue;
        }
        if (got == 0)
            return 0;
        /* The producer is at least writing here, one lap ahead; the count we can see of it may lag behind that. */
        uint64_t was = consumer->position, produced = mantra_produced(&consumer->queue);
        if (produced < was + consumer->queue.mask + 2)
            produced = was + consumer->queue.mask + 2;
        uint64_t oldest = mantra_queue_oldest(&consumer->queue, produced);
        consumer->lost += oldest - was;
        mantra_consumer_seek(consumer, oldest, MANTRA_JOINING_LAPPED, message);
        return -1;
    }
}

#define MANTRA_NEWEST UINT64_MAX       /* only what comes next */
#define MANTRA_OLDEST (UINT64_MAX - 1) /* what the ring still holds */

/* A consumer from `position` on, which may be one of the two above. `scratch` holds one message. */
static inline mantra_consumer
mantra_consumer_at(const mantra_queue *queue, uint64_t position, void *scratch)
{
    mantra_consumer consumer = {.queue = *queue};
    uint64_t produced = mantra_produced(queue);
    if (position >= MANTRA_OLDEST)
        position = position == MANTRA_NEWEST ? produced : mantra_queue_oldest(queue, produced);
    mantra_consumer_seek(&consumer, position, MANTRA_JOINING_NEW, scratch);
    return consumer;
}

#endif
