/* vector.h - the latest value of a message, slot by slot, read without ever waiting for its writer.
 *
 *   slot   | seqlock: every even write | seqlock: every odd write |       write n settles one of them at version 2n
 *
 * A slot keeps its last two values: write n goes to the copy that does not hold write n - 1, so a reader always finds a
 * settled value even while the next is being written, and a writer killed in the middle harms nothing: its successor
 * writes n again. A reader tries again only when two whole writes passed during its copy. One writer per slot. */
#ifndef MANTRA_VECTOR_H
#define MANTRA_VECTOR_H

#include "mantra/seqlock.h"

typedef struct mantra_vector {
    uint8_t *slots;
    uint32_t capacity;
    uint32_t slot_bytes; /* of one copy: version and message, whole cache lines */
    uint32_t words;      /* of the message */
} mantra_vector;

static inline size_t
mantra_vector_bytes(uint32_t capacity, uint32_t slot_bytes)
{
    return (size_t)2 * capacity * slot_bytes;
}

/* Over zeroed, 64-byte aligned memory of mantra_vector_bytes, or over what another process made there. */
static inline mantra_vector
mantra_vector_attach(uint8_t *memory, uint32_t capacity, uint32_t slot_bytes)
{
    return (mantra_vector){memory, capacity, slot_bytes, (slot_bytes - 8) / 8};
}

static inline mantra_seqlock *
mantra_vector_copy(const mantra_vector *vector, uint32_t slot, uint64_t write)
{
    return (mantra_seqlock *)(void *)(vector->slots + (2 * (size_t)slot + (write & 1)) * vector->slot_bytes);
}

/* The last settled write of `slot`, counted from 1; 0: never written. */
static inline uint64_t
mantra_vector_version(const mantra_vector *vector, uint32_t slot)
{
    uint64_t even = mantra_seqlock_look(mantra_vector_copy(vector, slot, 0));
    uint64_t odd = mantra_seqlock_look(mantra_vector_copy(vector, slot, 1));
    /* A copy being written says 2n - 1 and holds nothing; halved, that is write n - 1, which the other copy holds. */
    return (even > odd ? even : odd) / 2;
}

/* Where the next value of `slot` goes: fill its words, then mantra_seqlock_end() settles them. */
static inline mantra_seqlock *
mantra_vector_begin(mantra_vector *vector, uint32_t slot)
{
    uint64_t write = mantra_vector_version(vector, slot) + 1;
    mantra_seqlock *copy = mantra_vector_copy(vector, slot, write);
    atomic_store_explicit(&copy->version, 2 * write - 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    return copy;
}

static inline void
mantra_vector_write(mantra_vector *vector, uint32_t slot, const void *message)
{
    mantra_seqlock *copy = mantra_vector_begin(vector, slot);
    mantra_words_store(copy->words, message, vector->words);
    mantra_seqlock_end(copy);
}

/* Copy the latest message out; returns its version, 0 (and leaves `message` alone) when there is none yet. */
static inline uint64_t
mantra_vector_read(const mantra_vector *vector, uint32_t slot, void *message)
{
    for (;;) {
        uint64_t write = mantra_vector_version(vector, slot);
        if (write == 0)
            return 0;
        const mantra_seqlock *copy = mantra_vector_copy(vector, slot, write);
        uint64_t seen = mantra_seqlock_look(copy);
        mantra_words_load(copy->words, message, vector->words);
        if (mantra_seqlock_unchanged(copy, seen))
            return seen / 2;
        MANTRA_PAUSE();
    }
}

#endif
