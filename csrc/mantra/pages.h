/* pages.h - large memory, zeroed, that costs what was touched of it, and that the system has again when it is freed.
 *
 * calloc() promises neither: glibc, once it was given a large block back, keeps the next ones in an arena for each thread,
 * and clears them by hand. Connections come and go with their successors, each on a thread of its own. POSIX and Linux
 * calls: compile with -std=gnu11. */
#ifndef MANTRA_PAGES_H
#define MANTRA_PAGES_H

#include <sys/mman.h>

#include "mantra/base.h"

/* NULL: there is no memory. Its size stands in a line before it. */
static inline void *
mantra_pages_new(size_t size)
{
    size += MANTRA_CACHE_LINE;
    size_t *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    *memory = size;
    return (char *)memory + MANTRA_CACHE_LINE;
}

static inline void
mantra_pages_free(void *memory)
{
    if (memory != NULL) {
        size_t *whole = (size_t *)((char *)memory - MANTRA_CACHE_LINE);
        munmap(whole, *whole);
    }
}

#endif
