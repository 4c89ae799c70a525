/* vector.h - the latest value of a message, slot by slot, read without ever waiting for its writer.
 *
 *   0      64        2112
 *   | many | writers | slot 0 | slot 1 | ...
 *
 *   slot      | version, message | version, message |      two copies; versions as writers.h draws them
 *
 * A slot keeps its last two values: the copy with the greater number is the latest, and the next write goes to the
 * other one, under the next number (even numbers are the first copy's). So a reader always finds a settled value even
 * while the next is being written, and a writer killed in the middle harms nothing: its number is given up for the next
 * but one. A reader tries again only when two whole writes passed during its copy.
 *
 * One writer per slot: plain stores. Many: a write is claimed by one compare-and-swap on its copy's version. Who finds
 * another in the middle of it waits for that one (a write is nanoseconds), for as long as it lives; a dead writer's
 * copy is taken over. Readers wait for nobody. gnu11, as region.h is. */
#ifndef MANTRA_VECTOR_H
#define MANTRA_VECTOR_H

#include <sched.h>

#include "mantra/messages.h"
#include "mantra/seqlock.h"
#include "mantra/writers.h"

typedef struct mantra_vector_header {
    uint32_t many; /* of its maker: 1 for many writers per slot */
    uint8_t rest_of_line[MANTRA_CACHE_LINE - 4];
    mantra_writers writers;
} mantra_vector_header;
_Static_assert(sizeof(mantra_vector_header) == MANTRA_CACHE_LINE + 8 * MANTRA_WRITERS, "as drawn");

typedef struct mantra_vector {
    mantra_vector_header *header;
    uint8_t *slots;
    uint32_t capacity;
    uint32_t slot_bytes; /* of one copy: version and message, whole cache lines */
    uint32_t words;      /* of the message */
    uint16_t writer;     /* of many: ours, by mantra_vector_join */
} mantra_vector;

static inline size_t
mantra_vector_bytes(uint32_t capacity, uint32_t slot_bytes)
{
    return sizeof(mantra_vector_header) + (size_t)2 * capacity * slot_bytes;
}

/* Over zeroed, 64-byte aligned memory of mantra_vector_bytes (with header->many set first), or over what another
 * process made there. */
static inline mantra_vector
mantra_vector_attach(uint8_t *memory, uint32_t capacity, uint32_t slot_bytes)
{
    mantra_vector_header *header = (mantra_vector_header *)(void *)memory;
    return (mantra_vector){.header = header, .slots = memory + sizeof *header, .capacity = capacity,
                           .slot_bytes = slot_bytes, .words = (slot_bytes - 8) / 8};
}

static inline mantra_seqlock *
mantra_vector_copy(const mantra_vector *vector, uint32_t slot, uint64_t write)
{
    return (mantra_seqlock *)(void *)(vector->slots + (2 * (size_t)slot + (write & 1)) * vector->slot_bytes);
}

/* A slot at one moment: the number of its latest value (0: it has none), and where and as what the next one goes. */
typedef struct mantra_vector_look {
    uint64_t latest, next, held; /* held: the version found where `next` goes */
} mantra_vector_look;

static inline mantra_vector_look
mantra_vector_look_at(const mantra_vector *vector, uint32_t slot)
{
    const mantra_seqlock *const copy[2] = {mantra_vector_copy(vector, slot, 0), mantra_vector_copy(vector, slot, 1)};
    for (;;) {
        const uint64_t version[2] = {mantra_seqlock_look(copy[0]), mantra_seqlock_look(copy[1])};
        const uint64_t number[2] = {version[0] >> MANTRA_NUMBER_SHIFT, version[1] >> MANTRA_NUMBER_SHIFT};
        const uint64_t even = mantra_version_settled(version[0]) ? number[0] : 0;
        const uint64_t odd = mantra_version_settled(version[1]) ? number[1] : 0;
        const uint64_t latest = even > odd ? even : odd;
        /* the latest, or a write under way, or given up */
        const uint64_t newest = number[0] > number[1] ? number[0] : number[1];
        /* Neither is settled: so it may seem when a write passes between the two looks. */
        if (MANTRA_UNLIKELY(latest == 0 && newest > 0) && mantra_seqlock_look(copy[0]) != version[0])
            continue;
        return (mantra_vector_look){latest, newest + (newest == latest ? 1 : 2), version[(latest + 1) & 1]};
    }
}

/* Number of the latest value of `slot`: grows with every write, by one unless a writer was killed; 0: never written. */
static inline uint64_t
mantra_vector_version(const mantra_vector *vector, uint32_t slot)
{
    return mantra_vector_look_at(vector, slot).latest;
}

/* One of many: take a number, for one thread. -1: 256 of the living have one. */
static inline int
mantra_vector_join(mantra_vector *vector)
{
    bool inherited = false;
    const int writer = mantra_writers_join(&vector->header->writers, MANTRA_WRITERS, &inherited);
    if (writer < 0)
        return -1;
    vector->writer = (uint16_t)writer;
    for (uint64_t i = 0; inherited && i < 2 * (uint64_t)vector->capacity; i++)
        mantra_writers_bury(&mantra_vector_copy(vector, (uint32_t)(i / 2), i)->version, vector->writer);
    return 0;
}

static inline void
mantra_vector_leave(mantra_vector *vector)
{
    mantra_writers_leave(&vector->header->writers, vector->writer);
}

/* Of many: claim the next write of `slot`. */
MANTRA_COLD mantra_seqlock *
mantra_vector_claim(mantra_vector *vector, uint32_t slot)
{
    for (uint32_t times = 1;; times++) {
        mantra_vector_look look = mantra_vector_look_at(vector, slot);
        mantra_seqlock *copy = mantra_vector_copy(vector, slot, look.next);
        if (MANTRA_UNLIKELY(look.held & MANTRA_WRITING)
            && (times % 64 || mantra_writers_alive(&vector->header->writers, mantra_version_writer(look.held)))) {
            MANTRA_PAUSE();
            if (times % 16 == 0)
                sched_yield();
            continue;
        }
        const uint64_t claim = look.next << MANTRA_NUMBER_SHIFT | (uint64_t)vector->writer << MANTRA_WRITER_SHIFT
                               | MANTRA_WRITING;
        /* Acquire: the words that the copy held must not land on top of ours. Release: as in mantra_vector_begin. */
        if (atomic_compare_exchange_strong_explicit(&copy->version, &look.held, claim, memory_order_acq_rel,
                                                    memory_order_relaxed))
            return copy;
    }
}

/* Where the next value of `slot` goes: fill its words, then mantra_vector_end() settles them. */
static inline mantra_seqlock *
mantra_vector_begin(mantra_vector *vector, uint32_t slot)
{
    mantra_seqlock *copy;
    if (MANTRA_UNLIKELY(vector->header->many)) {
        copy = mantra_vector_claim(vector, slot);
    } else {
        const uint64_t next = mantra_vector_look_at(vector, slot).next;
        copy = mantra_vector_copy(vector, slot, next);
        /* Release: who sees this write begun sees the one before settled, or it might find no value at all. */
        atomic_store_explicit(&copy->version, next << MANTRA_NUMBER_SHIFT | MANTRA_WRITING, memory_order_release);
    }
    atomic_thread_fence(memory_order_release);
    return copy;
}

static inline void
mantra_vector_end(mantra_seqlock *copy)
{
    const uint64_t writing = atomic_load_explicit(&copy->version, memory_order_relaxed);
    atomic_store_explicit(&copy->version, writing & ~MANTRA_WRITING, memory_order_release);
}

static inline void
mantra_vector_write(mantra_vector *vector, uint32_t slot, const void *message)
{
    mantra_seqlock *copy = mantra_vector_begin(vector, slot);
    mantra_words_store(copy->words, message, vector->words);
    mantra_vector_end(copy);
}

/* Copy the latest message out; returns its number, 0 (and leaves `message` alone) when there is none yet. */
static inline uint64_t
mantra_vector_read(const mantra_vector *vector, uint32_t slot, void *message)
{
    for (;;) {
        const uint64_t latest = mantra_vector_version(vector, slot);
        if (latest == 0)
            return 0;
        const mantra_seqlock *copy = mantra_vector_copy(vector, slot, latest);
        const uint64_t seen = mantra_seqlock_look(copy);
        mantra_words_load(copy->words, message, vector->words);
        if (!(seen & MANTRA_HOLE) && mantra_seqlock_unchanged(copy, seen))
            return seen >> MANTRA_NUMBER_SHIFT;
        MANTRA_PAUSE();
    }
}

#endif
