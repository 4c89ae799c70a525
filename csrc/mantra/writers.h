/* writers.h - who may be writing into a region: a number for each, so that all can tell whether a slot's writer lives.
 *
 *   | identity 0 | identity 1 | ... 256 |      0: free; else who holds the number (pid and start, region.h)
 *
 * A slot that is being written names its writer's number. A number is given back when its holder has finished all it
 * began; one whose holder died is given to the next who joins, and that one first settles what the dead left
 * unfinished. So an unfinished slot whose number nobody alive holds will never be finished. Two threads of a process
 * hold two numbers.
 *
 * Looking at a writer costs a file of /proc: only ever done for a slot that stays unfinished. gnu11, as region.h is. */
#ifndef MANTRA_WRITERS_H
#define MANTRA_WRITERS_H

#include "mantra/region.h"

#define MANTRA_WRITERS 256u

/* The version of a slot that many may write. It only ever grows: what it says of its slot, it says once.
 *
 *   | number 46 | writer 16 | hole 1 | writing 1 |     writing: `writer` may be storing words; hole: it has no value
 */
#define MANTRA_WRITING UINT64_C(1)
#define MANTRA_HOLE UINT64_C(2)
#define MANTRA_WRITER_SHIFT 2
#define MANTRA_NUMBER_SHIFT 18

static inline uint16_t
mantra_version_writer(uint64_t version)
{
    return (uint16_t)(version >> MANTRA_WRITER_SHIFT);
}

static inline bool
mantra_version_settled(uint64_t version)
{
    return !(version & (MANTRA_WRITING | MANTRA_HOLE));
}

typedef struct mantra_writers {
    _Atomic uint64_t identity[MANTRA_WRITERS];
} mantra_writers;

/* A number for this thread, below `most`; -1: all are held by the living. *inherited: it was a dead one's, whose
 * unfinished slots the caller settles before it writes. */
static inline int
mantra_writers_join(mantra_writers *writers, uint32_t most, bool *inherited)
{
    const uint64_t self = mantra_process_self();
    if (self == UINT64_MAX) /* /proc cannot be read, or no descriptor is left: nobody could tell that it lives */
        return -1;
    for (uint32_t i = 0; i < most; i++) {
        uint64_t holder = atomic_load_explicit(&writers->identity[i], memory_order_acquire);
        while (!mantra_process_alive(holder)) {
            if (!atomic_compare_exchange_strong(&writers->identity[i], &holder, self))
                continue; /* somebody else joined, or left */
            *inherited = holder != 0;
            /* Who sees a version with this number, written after this fence, sees who holds the number. */
            atomic_thread_fence(memory_order_release);
            return (int)i;
        }
    }
    return -1;
}

/* Give a number back, with everything finished; a no-op in a forked child, which never had it. */
static inline void
mantra_writers_leave(mantra_writers *writers, uint32_t number)
{
    uint64_t self = mantra_process_self();
    atomic_compare_exchange_strong(&writers->identity[number], &self, 0);
}

/* Does anybody alive hold `number`, which a version said that was loaded with acquire? If not, and the version is still
 * the same, that writer has left its slot unfinished and nobody will finish it. */
static inline bool
mantra_writers_alive(const mantra_writers *writers, uint32_t number)
{
    const _Atomic uint64_t *holder = &writers->identity[number % MANTRA_WRITERS];
    return mantra_process_alive(atomic_load_explicit(holder, memory_order_acquire));
}

/* A slot that `number`, whose holder died, was writing: there is a hole. Returns whether this made it one. */
static inline bool
mantra_writers_bury(_Atomic uint64_t *slot_version, uint16_t number)
{
    uint64_t version = atomic_load_explicit(slot_version, memory_order_acquire);
    while (version & MANTRA_WRITING && mantra_version_writer(version) == number)
        if (atomic_compare_exchange_strong(slot_version, &version, (version | MANTRA_HOLE) & ~MANTRA_WRITING))
            return !(version & MANTRA_HOLE);
    return false;
}

/* How many of the living hold a number. */
static inline uint32_t
mantra_writers_count(const mantra_writers *writers)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < MANTRA_WRITERS; i++)
        count += mantra_writers_alive(writers, i);
    return count;
}

#endif
