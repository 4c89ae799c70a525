/* Views at the edges: sums that overflow, venues that are none, counts that are too large; then any tops at all. */
#include "check.h"
#include "mantra/world.h"

static mantra_world_state state;

static mantra_top
top_of(uint8_t venue, uint8_t trust, int64_t price, int64_t size)
{
    mantra_top top = {.instrument = 9, .venue = venue, .trust = trust, .bid_count = 1, .ask_count = 1};
    top.bid_price[0] = price;
    top.bid_size[0] = top.ask_size[0] = size;
    top.ask_price[0] = price + 1;
    return top;
}

static void
sums_that_overflow_saturate(void)
{
    memset(&state, 0, sizeof state);
    state.sum = true;
    for (uint8_t venue = 0; venue < 3; venue++) {
        const mantra_top top = top_of(venue, MANTRA_VERIFIED, 100, INT64_MAX - 1);
        CHECK(mantra_world_put(&state, &top, MANTRA_UNVERIFIED) & MANTRA_WORLD_BIDS || venue == 2);
    }
    CHECK(state.view.bid_count == 1 && state.view.bid_size[0] == INT64_MAX && state.view.bid_venues[0] == 7);
}

static void
larger_size_stands_first_at_equal_price_and_venues_may_cross(void)
{
    memset(&state, 0, sizeof state);
    const mantra_top small = top_of(0, MANTRA_VERIFIED, 100, 1), large = top_of(1, MANTRA_VERIFIED, 100, 2);
    const mantra_top above = top_of(2, MANTRA_VERIFIED, 200, 1), down = top_of(1, MANTRA_DOWN, 100, 2);
    CHECK(mantra_world_put(&state, &small, MANTRA_UNVERIFIED) == 7);
    CHECK(mantra_world_put(&state, &large, MANTRA_UNVERIFIED) == 7 && state.view.bid_venues[0] == 2);
    CHECK(mantra_world_put(&state, &large, MANTRA_UNVERIFIED) == 0);
    CHECK(mantra_world_put(&state, &above, MANTRA_UNVERIFIED) == 7);
    CHECK(state.view.bid_price[0] == 200 && state.view.ask_price[0] == 101 && state.view.sequence == 3);
    CHECK(mantra_world_put(&state, &down, MANTRA_UNVERIFIED) == 7 && state.view.bid_count == 2);
    CHECK(state.view.trust[1] == MANTRA_DOWN && state.view.trust[2] == MANTRA_VERIFIED);
    mantra_top why = down;
    why.reason = MANTRA_REASON_DISCONNECTED;
    CHECK(mantra_world_put(&state, &why, MANTRA_UNVERIFIED) == MANTRA_WORLD_TRUST && state.view.reason[1] == why.reason);
    why.trust_since_ns = INT64_C(1700000000999999999);
    CHECK(mantra_world_put(&state, &why, MANTRA_UNVERIFIED) == MANTRA_WORLD_TRUST);
    CHECK(state.view.trust_since_s[1] == 1700000000 && mantra_world_put(&state, &why, MANTRA_UNVERIFIED) == 0);
}

static void
any_bytes_for_a_top_stay_within_the_view(void)
{
    uint64_t seed = 5;
    memset(&state, 0, sizeof state);
    for (int i = 0; i < 20000; i++) {
        mantra_top top;
        uint64_t words[sizeof top / 8];
        for (size_t j = 0; j < sizeof top / 8; j++)
            words[j] = check_random(&seed);
        memcpy(&top, words, sizeof top);
        top.trust &= 7;
        state.sum = i & 1;
        mantra_world_put(&state, &top, MANTRA_UNVERIFIED);
        CHECK(state.view.bid_count <= MANTRA_DEPTH && state.view.ask_count <= MANTRA_DEPTH);
    }
}

int
main(void)
{
    sums_that_overflow_saturate();
    larger_size_stands_first_at_equal_price_and_venues_may_cross();
    any_bytes_for_a_top_stay_within_the_view();
    return 0;
}
