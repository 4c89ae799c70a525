/* world.h - the tops of one instrument at many venues, seen as one book.
 *
 *   binance  bids 101 x 2, 100 x 5           best bid and offer:  101 x 4 bitstamp, 101 x 2 binance, 100 x 5 ...
 *   bitstamp bids 101 x 4,  99 x 1    ->     liquidity:           101 x 6 both,     100 x 5 binance,  99 x 1 ...
 *
 * A venue trusted less than the policy asks contributes nothing, and its trust is told all the same: a change of trust,
 * of its reason or its time alone makes a new view. Venues may cross each other: the best bid is then above the best ask,
 * and stays so. The ten best sums are exact although each venue gives ten levels only: where a venue's levels end, its
 * own ten stand before anything worse. */
#ifndef MANTRA_WORLD_H
#define MANTRA_WORLD_H

#include "mantra/messages.h"

/* What changed, as bits. */
enum { MANTRA_WORLD_BIDS = 1, MANTRA_WORLD_ASKS = 2, MANTRA_WORLD_TRUST = 4 };

/* One view of one instrument; private to who merges. Zeroed, it has seen nobody. */
typedef struct mantra_world_state {
    mantra_world view;
    bool sum;      /* given: liquidity instead of best bid and offer */
    uint32_t used; /* venues (bits) that contribute */
    mantra_top tops[MANTRA_MAX_VENUES];
} mantra_world_state;

typedef struct mantra_world_side {
    int64_t price[MANTRA_DEPTH], size[MANTRA_DEPTH];
    uint32_t venues[MANTRA_DEPTH];
    uint8_t count;
} mantra_world_side;

/* Merge one side of all that contribute, best first, larger first at equal price, then by venue; or one level per
 * price. Each venue's levels are sorted, so every step takes the best of the venues' next. */
static inline void
mantra_world_merge(const mantra_world_state *state, bool asks, mantra_world_side *out)
{
    const int64_t mirror = -(int64_t)asks; /* ~price turns the order of asks round: larger is better on both sides */
    uint8_t next[MANTRA_MAX_VENUES] = {0};
    memset(out, 0, sizeof *out);
    for (;;) {
        int64_t price = 0, size = 0;
        uint32_t from = MANTRA_MAX_VENUES;
        for (uint32_t left = state->used; left != 0; left &= left - 1) {
            const uint32_t venue = (uint32_t)__builtin_ctz(left);
            const mantra_top *top = &state->tops[venue];
            const size_t at = next[venue];
            if (at >= MANTRA_DEPTH || at >= (asks ? top->ask_count : top->bid_count))
                continue;
            const int64_t its_price = asks ? top->ask_price[at] : top->bid_price[at];
            const int64_t its_size = asks ? top->ask_size[at] : top->bid_size[at];
            if (from == MANTRA_MAX_VENUES || (its_price ^ mirror) > (price ^ mirror) ||
                (its_price == price && its_size > size)) {
                price = its_price;
                size = its_size;
                from = venue;
            }
        }
        if (from == MANTRA_MAX_VENUES)
            return;
        next[from]++;
        if (state->sum && out->count > 0 && out->price[out->count - 1] == price) {
            int64_t *total = &out->size[out->count - 1];
            if (__builtin_add_overflow(*total, size, total))
                *total = INT64_MAX;
            out->venues[out->count - 1] |= UINT32_C(1) << from;
            continue;
        }
        if (out->count == MANTRA_DEPTH)
            return;
        out->price[out->count] = price;
        out->size[out->count] = size;
        out->venues[out->count++] = UINT32_C(1) << from;
    }
}

/* Put a merged side where it belongs in a view; was it another one? */
static inline bool
mantra_world_place(const mantra_world_side *side, uint8_t *count, int64_t *price, int64_t *size, uint32_t *venues)
{
    if (side->count == *count && memcmp(side->price, price, sizeof side->price) == 0 &&
        memcmp(side->size, size, sizeof side->size) == 0 && memcmp(side->venues, venues, sizeof side->venues) == 0)
        return false;
    *count = side->count;
    memcpy(price, side->price, sizeof side->price);
    memcpy(size, side->size, sizeof side->size);
    memcpy(venues, side->venues, sizeof side->venues);
    return true;
}

/* Are one side's levels the same in two tops of one venue? */
static inline bool
mantra_world_same(const mantra_top *a, const mantra_top *b, bool asks)
{
    return asks ? a->ask_count == b->ask_count && memcmp(a->ask_price, b->ask_price, sizeof a->ask_price) == 0 &&
                      memcmp(a->ask_size, b->ask_size, sizeof a->ask_size) == 0
                : a->bid_count == b->bid_count && memcmp(a->bid_price, b->bid_price, sizeof a->bid_price) == 0 &&
                      memcmp(a->bid_size, b->bid_size, sizeof a->bid_size) == 0;
}

/* Take a venue's new top and bring state->view up to date; returns what changed in it (MANTRA_WORLD_*, 0: nothing, and
 * the view is as it was). Only a side whose levels at this venue changed is merged anew. */
static inline uint32_t
mantra_world_put(mantra_world_state *state, const mantra_top *top, uint8_t least_trust)
{
    if (MANTRA_UNLIKELY(top->venue >= MANTRA_MAX_VENUES))
        return 0;
    mantra_top *held = &state->tops[top->venue];
    mantra_world *view = &state->view;
    const uint32_t bit = UINT32_C(1) << top->venue;
    const bool was_used = (state->used & bit) != 0, used = top->trust >= least_trust;
    const bool bids = used != was_used || (used && !mantra_world_same(top, held, false));
    const bool asks = used != was_used || (used && !mantra_world_same(top, held, true));
    const uint32_t since_s = (uint32_t)(top->trust_since_ns / 1000000000);
    const bool trust = top->trust != held->trust || top->reason != held->reason ||
                       since_s != view->trust_since_s[top->venue];
    uint32_t changed = trust ? MANTRA_WORLD_TRUST : 0;
    *held = *top;
    state->used = used ? state->used | bit : state->used & ~bit;
    mantra_world_side side;
    if (bids) {
        mantra_world_merge(state, false, &side);
        if (mantra_world_place(&side, &view->bid_count, view->bid_price, view->bid_size, view->bid_venues))
            changed |= MANTRA_WORLD_BIDS;
    }
    if (asks) {
        mantra_world_merge(state, true, &side);
        if (mantra_world_place(&side, &view->ask_count, view->ask_price, view->ask_size, view->ask_venues))
            changed |= MANTRA_WORLD_ASKS;
    }
    if (changed == 0)
        return 0;
    view->origin = top->origin;
    view->sequence++;
    view->venue_time_ns = top->venue_time_ns;
    view->instrument = top->instrument;
    view->venue = top->venue;
    view->trust[top->venue] = top->trust;
    view->reason[top->venue] = top->reason;
    view->trust_since_s[top->venue] = since_s;
    return changed;
}

#endif
