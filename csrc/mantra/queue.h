/* queue.h - broadcast ring: every consumer sees every message, producers never wait and know no consumer.
 *
 *   0          64                                      128       2176
 *   | position | many | number | abandoned | burnt ... | writers | slot 0 | slot 1 | ... capacity (a power of two) ...
 *
 *   slot       | version | message ... |      whole cache lines; consumers poll the version and nothing else
 *   version    lap 46 | writer 16 | hole 1 | writing 1
 *
 * The message at position p is in slot p % capacity during lap p / capacity + 1 (0: never written). A version is thus
 * different for every message that a slot ever holds, and tells a consumer at p all it needs:
 *
 *   an older lap            nothing yet
 *   this lap, settled       read; the version, read again, says whether it was whole (seqlock.h's loads and fences)
 *   this lap, writing       wait; now and then ask whether the writer lives: a dead one's slot is a hole
 *   this lap, hole          there is no message at p and never will be: go on at p + 1
 *   a newer lap             p is overwritten: lapped
 *
 * One producer (spmc): plain stores. Many (mpmc): a position is claimed by one compare-and-swap on its slot's version,
 * so there is no moment between taking a position and saying whose it is. What is found there decides:
 *
 *   older lap, settled      swap in (this lap, me, writing): claimed
 *   older lap, writing, and its writer is dead     the same; what it left unfinished is `abandoned`
 *   older lap, writing, and its writer lives       it may write into the slot any time: nobody takes that over. Swap in
 *                           (this lap, its writer, hole | writing): this position is `burnt` for all; try the next
 *   this lap or newer       the position is used: the next one is tried
 *
 * A writer settles by compare-and-swap too. It fails when its slot was burnt, a whole lap after it was claimed: the
 * writer gives up the slot as a hole and produces its message again, further on. So versions only grow, whatever a
 * slot's words hold is settled by who wrote it or never, every consumer meets the same messages in the same order, and
 * positions used = messages + abandoned + burnt (that counts both the position skipped and the stalled writer's own; who
 * is killed between making a hole and counting it leaves it uncounted here: consumers count what they skip themselves).
 * Consumers wait for a living writer until it settles or until the ring has come round to it, whichever is first.
 *
 * A producer killed anywhere leaves at most one slot that is being written. `position` is a hint where to begin to
 * look, as it is stored after the slot, and by many; consumers read it when they start or were lapped. gnu11, as
 * region.h is. */
#ifndef MANTRA_QUEUE_H
#define MANTRA_QUEUE_H

#include "mantra/messages.h"
#include "mantra/region.h"
#include "mantra/seqlock.h"
#include "mantra/writers.h"

#define MANTRA_LAP_SHIFT MANTRA_NUMBER_SHIFT

typedef struct mantra_queue_header {
    _Atomic uint64_t position; /* of the next message; may lag behind the slots */
    uint8_t rest_of_line[MANTRA_CACHE_LINE - 8];
    uint32_t many, number;     /* of its maker: 1 for many producers; the run's number of this queue */
    _Atomic uint64_t abandoned, burnt;
    uint8_t rest_of_line_too[MANTRA_CACHE_LINE - 24];
    mantra_writers writers;
} mantra_queue_header;
_Static_assert(sizeof(mantra_queue_header) == 2 * MANTRA_CACHE_LINE + 8 * MANTRA_WRITERS, "as drawn");

typedef struct mantra_queue {
    mantra_queue_header *header;
    uint8_t *slots;
    uint64_t mask;
    uint32_t shift; /* capacity == 1 << shift */
    uint32_t slot_bytes, words;
    uint32_t flags_offset; /* of the message's flags (MANTRA_MORE); 0: every message stands alone */
    bool many;
    uint16_t number; /* the run's, for timings */
} mantra_queue;

typedef struct mantra_producer {
    mantra_queue queue;
    uint64_t position; /* of its next message, of many: at the earliest */
    uint16_t publisher, writer;
} mantra_producer;

typedef struct mantra_consumer {
    mantra_queue queue;
    uint64_t position, lost, holes;
    _Atomic uint64_t *taken; /* where it says how far it is (audience.h); NULL: nobody waits for it */
    uint32_t stuck;  /* times in a row that the slot was found being written */
    uint8_t joining; /* amid a batch whose beginning was missed, or behind a broken one: see mantra_consume */
} mantra_consumer;

static inline size_t
mantra_queue_bytes(uint64_t capacity, uint32_t slot_bytes)
{
    return sizeof(mantra_queue_header) + (size_t)capacity * slot_bytes;
}

/* Over zeroed, 64-byte aligned memory of mantra_queue_bytes (with header->many set first), or over what another process
 * made there. `capacity` is a power of two from 2, `slot_bytes` whole cache lines. Of many producers, batches mingle:
 * each message stands alone, and who wants batches tells them apart by their publisher. */
static inline mantra_queue
mantra_queue_attach(uint8_t *memory, uint64_t capacity, uint32_t slot_bytes, uint32_t flags_offset)
{
    mantra_queue_header *header = (mantra_queue_header *)(void *)memory;
    return (mantra_queue){
        .header = header,
        .slots = memory + sizeof(mantra_queue_header),
        .mask = capacity - 1,
        .shift = (uint32_t)__builtin_ctzll(capacity),
        .slot_bytes = slot_bytes,
        .words = (slot_bytes - 8) / 8,
        .flags_offset = header->many ? 0 : flags_offset,
        .many = header->many != 0,
        .number = (uint16_t)header->number,
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

/* The first position from `position` on that nobody has used. */
static inline uint64_t
mantra_queue_unused(const mantra_queue *queue, uint64_t position)
{
    for (;;) {
        const mantra_seqlock *slot = mantra_queue_slot(queue, position);
        const uint64_t version = atomic_load_explicit(&slot->version, memory_order_acquire);
        const uint64_t lap = version >> MANTRA_LAP_SHIFT;
        if (lap < mantra_queue_lap(queue, position))
            return position;
        position = ((lap - 1) << queue->shift | (position & queue->mask)) + 1; /* behind what this slot says */
    }
}

/* Position of the next message. Of many producers, one that stood still may have set the hint back: look on from
 * there. */
static inline uint64_t
mantra_produced(const mantra_queue *queue)
{
    const uint64_t hint = atomic_load_explicit(&queue->header->position, memory_order_acquire);
    return queue->many ? mantra_queue_unused(queue, hint) : hint;
}

static inline bool
mantra_queue_more(const mantra_queue *queue, const void *message)
{
    return queue->flags_offset && ((const uint8_t *)message)[queue->flags_offset] & MANTRA_MORE;
}

/* ---- producing */

/* How many producers are alive? Cold: reads /proc. */
static inline uint32_t
mantra_queue_producers(const mantra_queue *queue)
{
    return mantra_writers_count(&queue->header->writers);
}

/* Every slot that `writer`, who is dead, was writing becomes a hole. */
static inline void
mantra_queue_sweep(const mantra_queue *queue, uint16_t writer)
{
    for (uint64_t i = 0; i <= queue->mask; i++)
        if (mantra_writers_bury(&mantra_queue_slot(queue, i)->version, writer))
            atomic_fetch_add_explicit(&queue->header->abandoned, 1, memory_order_relaxed);
}

/* A batch that its producer did not end, killed or gone: the next message must not pass for more of it. */
static inline uint64_t
mantra_queue_break(const mantra_queue *queue, uint64_t position)
{
    mantra_seqlock *last = mantra_queue_slot(queue, position - 1), *next = mantra_queue_slot(queue, position);
    uint64_t message[MANTRA_MESSAGE_MAX / 8];
    if (position == 0 || !mantra_version_settled(atomic_load_explicit(&last->version, memory_order_acquire)))
        return position; /* nothing before, or a hole is there already */
    mantra_words_load(last->words, message, queue->words);
    if (!mantra_queue_more(queue, message))
        return position;
    atomic_store_explicit(&next->version, mantra_queue_lap(queue, position) << MANTRA_LAP_SHIFT | MANTRA_HOLE,
                          memory_order_release);
    atomic_fetch_add_explicit(&queue->header->abandoned, 1, memory_order_relaxed);
    return position + 1;
}

/* Become a producer. -1: the one there may be, or all of many, live. A dead one's place is taken where it stopped. Of
 * many there are fewer than slots, so that whoever stands still, there are slots to go on with. */
static inline int
mantra_producer_open(mantra_producer *producer, const mantra_queue *queue, uint16_t publisher)
{
    bool inherited = false;
    const uint32_t most = queue->many ? (uint32_t)mantra_min_u64(MANTRA_WRITERS, queue->mask) : 1;
    const int writer = mantra_writers_join(&queue->header->writers, most, &inherited);
    if (writer < 0)
        return -1;
    if (inherited)
        mantra_queue_sweep(queue, (uint16_t)writer);
    /* A hint that a killed one did not store: its last message was published, do not write it again. */
    const uint64_t position = mantra_queue_unused(queue, mantra_produced(queue));
    *producer = (mantra_producer){*queue, position, publisher, (uint16_t)writer};
    if (!queue->many) {
        producer->position = mantra_queue_break(queue, producer->position);
        atomic_store_explicit(&queue->header->position, producer->position, memory_order_release);
    }
    return 0;
}

/* Give the place back; a no-op in a forked child, which never had it. */
static inline void
mantra_producer_close(mantra_producer *producer)
{
    mantra_writers_leave(&producer->queue.header->writers, producer->writer);
}

/* Of many: claim the next position. */
MANTRA_COLD mantra_seqlock *
mantra_produce_claim(mantra_producer *producer)
{
    const mantra_queue *queue = &producer->queue;
    uint64_t position = atomic_load_explicit(&queue->header->position, memory_order_relaxed);
    if (position < producer->position)
        position = producer->position;
    for (;;) {
        mantra_seqlock *slot = mantra_queue_slot(queue, position);
        uint64_t version = atomic_load_explicit(&slot->version, memory_order_acquire);
        const uint64_t lap = mantra_queue_lap(queue, position);
        if (version >> MANTRA_LAP_SHIFT >= lap) {
            position = mantra_queue_unused(queue, position);
            continue;
        }
        uint16_t writer = producer->writer;
        uint64_t state = MANTRA_WRITING;
        if (MANTRA_UNLIKELY(version & MANTRA_WRITING)
            && mantra_writers_alive(&queue->header->writers, mantra_version_writer(version))) {
            writer = mantra_version_writer(version);
            state |= MANTRA_HOLE;
        }
        const uint64_t claim = lap << MANTRA_LAP_SHIFT | (uint64_t)writer << MANTRA_WRITER_SHIFT | state;
        /* Acquire: the words of the lap before, which the settling released, must not land on top of ours. */
        if (!atomic_compare_exchange_strong_explicit(&slot->version, &version, claim, memory_order_acquire,
                                                     memory_order_relaxed))
            continue;
        if (MANTRA_LIKELY(!(state & MANTRA_HOLE))) {
            if (MANTRA_UNLIKELY(version & MANTRA_WRITING) && !(version & MANTRA_HOLE))
                atomic_fetch_add_explicit(&queue->header->abandoned, 1, memory_order_relaxed);
            producer->position = position;
            return slot;
        }
        atomic_fetch_add_explicit(&queue->header->burnt, version & MANTRA_HOLE ? 1 : 2, memory_order_relaxed);
        position++;
    }
}

static inline uint64_t
mantra_produce_version(const mantra_producer *producer)
{
    return mantra_queue_lap(&producer->queue, producer->position) << MANTRA_LAP_SHIFT
           | (uint64_t)producer->writer << MANTRA_WRITER_SHIFT | MANTRA_WRITING;
}

/* Of many: settle what was claimed. False: it was burnt meanwhile; it is still ours. */
static inline bool
mantra_produce_settle(mantra_producer *producer, mantra_seqlock *slot)
{
    uint64_t version = mantra_produce_version(producer);
    if (MANTRA_UNLIKELY(!atomic_compare_exchange_strong_explicit(&slot->version, &version, version & ~MANTRA_WRITING,
                                                                 memory_order_release, memory_order_relaxed)))
        return false;
    _Atomic uint64_t *hint = &producer->queue.header->position;
    if (atomic_load_explicit(hint, memory_order_relaxed) <= producer->position)
        atomic_store_explicit(hint, producer->position + 1, memory_order_release);
    producer->position++;
    return true;
}

/* Of many: produce again what stands in a slot that was burnt while it was written. */
MANTRA_COLD void
mantra_produce_again(mantra_producer *producer, mantra_seqlock *slot)
{
    const size_t words = producer->queue.words;
    uint64_t message[MANTRA_MESSAGE_MAX / 8];
    do {
        mantra_words_load(slot->words, message, words);
        uint64_t version = atomic_load_explicit(&slot->version, memory_order_relaxed);
        while (!atomic_compare_exchange_weak_explicit(&slot->version, &version, version & ~MANTRA_WRITING,
                                                      memory_order_release, memory_order_relaxed)) {} /* again */
        slot = mantra_produce_claim(producer);
        atomic_thread_fence(memory_order_release);
        mantra_words_store(slot->words, message, words);
    } while (!mantra_produce_settle(producer, slot));
}

/* Where the next message goes: fill the slot's words, all of them, then mantra_produce_end(). */
static inline mantra_seqlock *
mantra_produce_begin(mantra_producer *producer)
{
    mantra_seqlock *slot;
    if (MANTRA_UNLIKELY(producer->queue.many)) {
        slot = mantra_produce_claim(producer);
    } else {
        slot = mantra_queue_slot(&producer->queue, producer->position);
        atomic_store_explicit(&slot->version, mantra_produce_version(producer), memory_order_relaxed);
    }
    atomic_thread_fence(memory_order_release); /* consumers must see "writing" before they can see any new word */
    return slot;
}

static inline void
mantra_produce_end(mantra_producer *producer, mantra_seqlock *slot)
{
    if (MANTRA_UNLIKELY(producer->queue.many)) {
        if (MANTRA_UNLIKELY(!mantra_produce_settle(producer, slot)))
            mantra_produce_again(producer, slot);
        return;
    }
    uint64_t writing = atomic_load_explicit(&slot->version, memory_order_relaxed);
    atomic_store_explicit(&slot->version, writing & ~MANTRA_WRITING, memory_order_release);
    atomic_store_explicit(&producer->queue.header->position, ++producer->position, memory_order_release);
}

/* Publish one complete message (slot_bytes - 8 bytes), stamped by the caller. */
static inline void
mantra_produce(mantra_producer *producer, const void *message)
{
    mantra_seqlock *slot = mantra_produce_begin(producer);
    mantra_words_store(slot->words, message, producer->queue.words);
    mantra_produce_end(producer, slot);
}

/* ---- consuming */

/* What stands at a consumer's position. */
enum { MANTRA_LAPPED = -1, MANTRA_NOTHING = 0, MANTRA_MESSAGE = 1, MANTRA_SKIP = 2 };

/* A slot is being written, as `version` says: will it ever be settled? Asked of the system at first when it has been
 * found so a few times in a row, then more and more rarely. */
MANTRA_COLD int
mantra_consumer_stuck(mantra_consumer *consumer, uint64_t version)
{
    const uint32_t times = ++consumer->stuck;
    if (times < 64 || ((times & (times - 1)) != 0 && times % 4096 != 0)
        || mantra_writers_alive(&consumer->queue.header->writers, mantra_version_writer(version)))
        return MANTRA_NOTHING;
    /* It may have settled, and left, between our two looks; if not, nobody ever will make a message of this. */
    const mantra_seqlock *slot = mantra_queue_slot(&consumer->queue, consumer->position);
    return atomic_load_explicit(&slot->version, memory_order_acquire) == version ? MANTRA_SKIP : MANTRA_NOTHING;
}

/* Something else than a settled message of this lap: what is it? */
static inline int
mantra_consumer_state(mantra_consumer *consumer, uint64_t version, uint64_t lap)
{
    if (MANTRA_LIKELY(version >> MANTRA_LAP_SHIFT < lap))
        return MANTRA_NOTHING;
    if (version >> MANTRA_LAP_SHIFT > lap)
        return MANTRA_LAPPED;
    return version & MANTRA_HOLE ? MANTRA_SKIP : mantra_consumer_stuck(consumer, version);
}

enum { MANTRA_JOINED, MANTRA_JOINING_NEW, MANTRA_JOINING_LAPPED, MANTRA_BROKEN };

/* A hole has been met. Whatever batch was under way there will not be continued. */
static inline void
mantra_consumer_skip(mantra_consumer *consumer)
{
    consumer->position++;
    consumer->holes++;
    consumer->stuck = 0;
    if (consumer->queue.flags_offset)
        consumer->joining = MANTRA_BROKEN;
}

/* Is there something to consume (a message, or the news of having been lapped)? Holes are skipped. */
static inline bool
mantra_consumer_ready(void *consumer_)
{
    mantra_consumer *consumer = consumer_;
    for (;; mantra_consumer_skip(consumer)) {
        const mantra_seqlock *slot = mantra_queue_slot(&consumer->queue, consumer->position);
        const uint64_t version = atomic_load_explicit(&slot->version, memory_order_acquire);
        const uint64_t lap = mantra_queue_lap(&consumer->queue, consumer->position);
        if (version >> MANTRA_LAP_SHIFT == lap && mantra_version_settled(version))
            return true;
        const int state = mantra_consumer_state(consumer, version, lap);
        if (state != MANTRA_SKIP)
            return state == MANTRA_LAPPED;
    }
}

/* What is at the consumer's position, the message itself to `message` if there is one. Moves nothing. */
static inline int
mantra_consumer_peek(mantra_consumer *consumer, void *message)
{
    const mantra_queue *queue = &consumer->queue;
    const mantra_seqlock *slot = mantra_queue_slot(queue, consumer->position);
    const uint64_t lap = mantra_queue_lap(queue, consumer->position);
    const uint64_t version = atomic_load_explicit(&slot->version, memory_order_acquire);
    if (version >> MANTRA_LAP_SHIFT != lap || !mantra_version_settled(version))
        return mantra_consumer_state(consumer, version, lap);
    mantra_words_load(slot->words, message, queue->words);
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(&slot->version, memory_order_relaxed) == version ? MANTRA_MESSAGE : MANTRA_LAPPED;
}

/* Read on from `position`; `why` (MANTRA_JOINING_*) is kept where a batch may be under way there: messages are then
 * dropped up to that batch's end. The message before tells, unless it is overwritten. `scratch` holds one message. */
static inline void
mantra_consumer_seek(mantra_consumer *consumer, uint64_t position, uint8_t why, void *scratch)
{
    consumer->joining = MANTRA_JOINED;
    consumer->stuck = 0;
    if (position > 0 && consumer->queue.flags_offset) {
        consumer->position = position - 1;
        const int before = mantra_consumer_peek(consumer, scratch);
        if (before == MANTRA_LAPPED || (before == MANTRA_MESSAGE && mantra_queue_more(&consumer->queue, scratch)))
            consumer->joining = why; /* nothing: still to come, so `position` is where a batch will begin */
    }
    consumer->position = position;
}

/* The oldest position worth starting from: all there is before the first lap, then an eighth of the ring less, as a
 * head start: the very oldest would be overwritten at once. */
static inline uint64_t
mantra_queue_oldest(const mantra_queue *queue, uint64_t produced)
{
    uint64_t capacity = queue->mask + 1, safe = capacity - (capacity / 8 ? capacity / 8 : 1);
    return produced > capacity ? produced - safe : 0;
}

/* All before its position is taken: who waits for this consumer may overwrite it. */
static inline void
mantra_consumer_tell(const mantra_consumer *consumer)
{
    if (MANTRA_UNLIKELY(consumer->taken != NULL))
        atomic_store_explicit(consumer->taken, consumer->position, memory_order_release);
}

/* Next message into `message`: 1; 0 nothing waiting; -1 lapped: `lost` says how many in all, `position` moved to the
 * oldest safe one, what was kept of an unfinished batch must be dropped, and the next call goes on. (-1 with `lost` as
 * before: a producer was killed, what was kept of its unfinished batch must be dropped.) The rest of a batch whose
 * beginning was missed is dropped here (and counted in `lost`, if it was a lap that missed it): batches are read
 * whole. */
static inline int
mantra_consume(mantra_consumer *consumer, void *message)
{
    mantra_consumer_tell(consumer);
    for (;;) {
        int got = mantra_consumer_peek(consumer, message);
        if (MANTRA_LIKELY(got == MANTRA_MESSAGE)) {
            if (MANTRA_UNLIKELY(consumer->joining == MANTRA_BROKEN)) {
                consumer->joining = MANTRA_JOINED;
                return -1;
            }
            consumer->position++;
            consumer->stuck = 0;
            if (MANTRA_LIKELY(!consumer->joining))
                return 1;
            consumer->lost += consumer->joining == MANTRA_JOINING_LAPPED;
            if (!mantra_queue_more(&consumer->queue, message))
                consumer->joining = MANTRA_JOINED;
            continue;
        }
        if (got == MANTRA_NOTHING)
            return 0;
        if (got == MANTRA_SKIP) {
            mantra_consumer_skip(consumer);
            continue;
        }
        /* A producer is at least writing here, one lap ahead; the count we can see of it may lag behind that. */
        uint64_t was = consumer->position, produced = mantra_produced(&consumer->queue);
        if (produced < was + consumer->queue.mask + 2)
            produced = was + consumer->queue.mask + 2;
        uint64_t oldest = mantra_queue_oldest(&consumer->queue, produced);
        consumer->lost += oldest - was;
        mantra_consumer_seek(consumer, oldest, MANTRA_JOINING_LAPPED, message);
        return -1;
    }
}

/* As many messages of one line as wait, up to `room`, one behind the other, while nothing is unusual: its place is kept
 * in registers, so it takes less than mantra_consume for each. When there is room left, mantra_consume says why. */
static inline size_t
mantra_consume_run(mantra_consumer *consumer, void *messages, size_t room)
{
    const mantra_queue queue = consumer->queue;
    const uint64_t from = consumer->position;
    uint64_t position = from;
    mantra_consumer_tell(consumer);
    if (MANTRA_UNLIKELY(queue.words != 7 || consumer->joining))
        return 0;
    for (; position < from + room; position++) {
        const mantra_seqlock *slot = mantra_queue_slot(&queue, position);
        const uint64_t version = atomic_load_explicit(&slot->version, memory_order_acquire);
        if (version >> MANTRA_LAP_SHIFT != mantra_queue_lap(&queue, position) || !mantra_version_settled(version))
            break;
        mantra_words_load(slot->words, (char *)messages + (position - from) * 56, 7);
        atomic_thread_fence(memory_order_acquire);
        if (atomic_load_explicit(&slot->version, memory_order_relaxed) != version)
            break;
    }
    if (position != from) /* it has moved on; while it has not, mantra_consume counts how often it looked */
        consumer->stuck = 0;
    consumer->position = position;
    return (size_t)(position - from);
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
