/* region.h - in place of the real one: who lives is the scenario's to say.
 *
 * Each thread of a scenario is a process, whose identity is its number + 1. A killed process publishes its death as the
 * kernel does: everything it ever stored can be seen by who knows that it is dead. */
#ifndef MANTRA_REGION_H
#define MANTRA_REGION_H

#include "mantra/base.h"

static rl::atomic<uint64_t> *proof_dead; /* by identity */

static inline uint64_t
mantra_process_self(void)
{
    return rl::thread_index() + 1;
}

static inline bool
mantra_process_alive(uint64_t identity)
{
    return identity != 0 && !proof_dead[identity].load(rl::mo_acquire, $);
}

#endif
