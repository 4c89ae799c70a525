/* tracking.h - every message carries when its first bytes arrived, when it was published, and by whom.
 *
 *   origin      cycles at the first byte
 *   published   cycles from origin to publishing << 16 | publisher        (mantra_pack_published, messages.h)
 *
 * Producing what a consumed message led to passes its origin on; so the age of anything is one subtraction. */
#ifndef MANTRA_TRACKING_H
#define MANTRA_TRACKING_H

#include "mantra/messages.h"

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

/* Fill the tracking of any message: its first two words. `now` a little before `origin` (another core's counter) is 0. */
static inline void
mantra_stamp(void *message, uint64_t origin, uint64_t now, uint16_t publisher)
{
    const uint64_t tracking[] = {origin, mantra_pack_published(now > origin ? now - origin : 0, publisher)};
    memcpy(message, tracking, sizeof tracking);
}

#endif
