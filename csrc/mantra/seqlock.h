/* seqlock.h - one writer, many readers; the writer never waits.
 *
 *   0         8            8 + 8*words
 *   | version | payload ... |    even: settled, odd: being written
 *
 * Words are relaxed atomics: a torn read is a value to discard, not undefined behaviour. Two fences make it right by
 * C11 (and so on Arm), after Boehm, "Can seqlocks get along with programming language memory models?", 2012:
 *
 *   writer                              reader
 *   version = odd      (relaxed)        seen = version      (acquire: pairs with the settling release)
 *   fence              (release) --.    words               (relaxed)
 *   words              (relaxed)    `-> fence               (acquire: a reader that saw any new word ...)
 *   version = even     (release)        version == seen?    (relaxed: ... must now see that version is odd or newer)
 */
#ifndef MANTRA_SEQLOCK_H
#define MANTRA_SEQLOCK_H

#include "mantra/base.h"

typedef struct mantra_seqlock {
    _Atomic uint64_t version;
    _Atomic uint64_t words[];
} mantra_seqlock;
_Static_assert(offsetof(mantra_seqlock, words) == 8, "payload follows version");

static inline void
mantra_word_store(_Atomic uint64_t *to, uint64_t word)
{
    atomic_store_explicit(to, word, memory_order_relaxed);
}

/* The seven words of a one-line slot are written out; of longer ones eight a turn. */
#define MANTRA_WORDS_EACH(words, each)                   \
    do {                                                 \
        if (MANTRA_LIKELY((words) == 7)) {               \
            MANTRA_UNROLL                                \
            for (size_t i = 0; i < 7; i++)               \
                each;                                    \
        } else {                                         \
            MANTRA_UNROLL_8                              \
            for (size_t i = 0; i < (words); i++)         \
                each;                                    \
        }                                                \
    } while (0)

static inline void
mantra_word_copy_in(_Atomic uint64_t *to, const void *from)
{
    uint64_t word;
    memcpy(&word, from, 8); /* any alignment, any type */
    atomic_store_explicit(to, word, memory_order_relaxed);
}

static inline void
mantra_word_copy_out(const _Atomic uint64_t *from, void *to)
{
    const uint64_t word = atomic_load_explicit(from, memory_order_relaxed);
    memcpy(to, &word, 8);
}

static inline void
mantra_words_store(_Atomic uint64_t *to, const void *from, size_t words)
{
    MANTRA_WORDS_EACH(words, mantra_word_copy_in(&to[i], (const char *)from + 8 * i));
}

static inline void
mantra_words_load(const _Atomic uint64_t *from, void *to, size_t words)
{
    MANTRA_WORDS_EACH(words, mantra_word_copy_out(&from[i], (char *)to + 8 * i));
}

/* Writer: everything stored (relaxed) between begin and end is seen whole or not at all. A version left odd by a writer
 * that was killed here is taken up by the next begin. */
static inline void
mantra_seqlock_begin(mantra_seqlock *lock)
{
    uint64_t version = atomic_load_explicit(&lock->version, memory_order_relaxed);
    atomic_store_explicit(&lock->version, version | 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release); /* readers must see "odd" before they can see any new word */
}

static inline void
mantra_seqlock_end(mantra_seqlock *lock)
{
    uint64_t version = atomic_load_explicit(&lock->version, memory_order_relaxed);
    atomic_store_explicit(&lock->version, version + 1, memory_order_release);
}

static inline void
mantra_seqlock_write(mantra_seqlock *lock, const void *payload, size_t words)
{
    mantra_seqlock_begin(lock);
    mantra_words_store(lock->words, payload, words);
    mantra_seqlock_end(lock);
}

/* Reader: the version to give to mantra_seqlock_unchanged after loading; odd: being written, do not bother. */
static inline uint64_t
mantra_seqlock_look(const mantra_seqlock *lock)
{
    return atomic_load_explicit(&lock->version, memory_order_acquire);
}

/* True: everything loaded since that look belongs together. */
static inline bool
mantra_seqlock_unchanged(const mantra_seqlock *lock, uint64_t seen)
{
    atomic_thread_fence(memory_order_acquire);
    return !(seen & 1) && atomic_load_explicit(&lock->version, memory_order_relaxed) == seen;
}

/* One try: the settled version that was read, or UINT64_MAX when the payload may be torn. */
static inline uint64_t
mantra_seqlock_read(const mantra_seqlock *lock, void *payload, size_t words)
{
    uint64_t seen = mantra_seqlock_look(lock);
    mantra_words_load(lock->words, payload, words);
    return mantra_seqlock_unchanged(lock, seen) ? seen : UINT64_MAX;
}

#endif
