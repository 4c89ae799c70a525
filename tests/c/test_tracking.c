// threads
/* Trackers: origins, stamps and records; an outsider who reads an actor's ring finds records whole and in order. */
#include <pthread.h>

#include "check.h"
#include "mantra/tracking.h"

#define CAPACITY 256
#define MESSAGES 200000u

_Alignas(64) static uint8_t input_memory[1 << 15], ring_memory[1 << 15];
static mantra_queue input, ring;
static mantra_clock clock_;
static _Atomic bool done;

static void
set(void)
{
    memset(input_memory, 0, sizeof input_memory);
    memset(ring_memory, 0, sizeof ring_memory);
    CHECK(mantra_queue_bytes(CAPACITY, 64) <= sizeof input_memory);
    ((mantra_queue_header *)(void *)input_memory)->number = 9;
    input = mantra_queue_attach(input_memory, CAPACITY, 64, 0);
    ring = mantra_queue_attach(ring_memory, CAPACITY, 64, 0);
}

static void
check_one_by_one(void)
{
    uint64_t scratch[8];
    mantra_producer producer, timings;
    mantra_timing record;
    mantra_update update = {.origin = 700, .published = 200 << 16 | 3}, got, out = {0};
    set();
    mantra_clock_start_virtual(&clock_, 1000);
    CHECK(mantra_producer_open(&producer, &input, 3) == 0 && mantra_producer_open(&timings, &ring, 5) == 0);
    mantra_tracker tracker = {.clock = &clock_, .timings = &timings, .actor = 5};
    mantra_consumer reader = mantra_consumer_at(&input, MANTRA_NEWEST, scratch);
    mantra_consumer records = mantra_consumer_at(&ring, MANTRA_NEWEST, scratch);

    mantra_tracker_stamp(&tracker, &out); /* of nothing: it begins here */
    CHECK(out.origin == 1000 && out.published == 5);
    mantra_tracker_idle(&tracker);
    CHECK(mantra_consume(&records, &record) == 0);

    mantra_produce(&producer, &update);
    CHECK(mantra_consume(&reader, &got) == 1);
    mantra_tracker_took(&tracker, &reader, &got);
    mantra_clock_advance_to(&clock_, 1040);
    mantra_tracker_stamp(&tracker, &out);
    CHECK(out.origin == 700 && out.published == (340 << 16 | 5));
    CHECK(mantra_consume(&records, &record) == 0);
    mantra_tracker_idle(&tracker);
    mantra_tracker_idle(&tracker);
    CHECK(mantra_consume(&records, &record) == 1);
    CHECK(record.origin == 700 && record.published == (200 << 16 | 3) && record.consumed == 1000 && record.busy == 40);
    CHECK(record.position == 0 && record.queue == 9 && record.actor == 5 && record.count == 1 && record.reserved == 0);
    CHECK(mantra_consume(&records, &record) == 0);
    mantra_tracker_stamp(&tracker, &out); /* all was read, now it is acted upon */
    CHECK(out.origin == 700);
    mantra_tracker_rest(&tracker);
    mantra_tracker_stamp(&tracker, &out);
    CHECK(out.origin == 1040 && out.published == 5);
    mantra_producer_close(&producer);
    mantra_producer_close(&timings);
}

/* An actor that takes everything, and an outsider, slow at times, who reads its ring. */
static void *
act(void *unused)
{
    uint64_t scratch[8];
    mantra_producer producer, timings;
    mantra_update update = {0}, got;
    CHECK(mantra_producer_open(&producer, &input, 3) == 0 && mantra_producer_open(&timings, &ring, 5) == 0);
    mantra_tracker tracker = {.clock = &clock_, .timings = &timings, .actor = 5};
    mantra_consumer reader = mantra_consumer_at(&input, MANTRA_NEWEST, scratch);
    for (uint64_t i = 0; i < MESSAGES; i++) {
        update.origin = i;
        mantra_produce(&producer, &update);
        CHECK(mantra_consume(&reader, &got) == 1);
        mantra_tracker_took(&tracker, &reader, &got);
    }
    mantra_tracker_rest(&tracker);
    atomic_store(&done, true);
    return unused;
}

static void
check_from_outside(void)
{
    uint64_t scratch[8], seen = 0, end = 0;
    pthread_t actor;
    mantra_timing record;
    set();
    mantra_clock_start(&clock_, mantra_cycles_invariant() ? MANTRA_CLOCK_CYCLES : MANTRA_CLOCK_OS, 1000000);
    mantra_consumer records = mantra_consumer_at(&ring, MANTRA_NEWEST, scratch);
    CHECK(pthread_create(&actor, NULL, act, NULL) == 0);
    for (;;) {
        const bool last = atomic_load(&done);
        const int got = mantra_consume(&records, &record);
        if (got == 1) {
            CHECK(record.position == records.position - 1 && record.origin == record.position && record.queue == 9);
            CHECK(record.consumed >= end); /* one after the other, and never two at once */
            end = record.consumed + record.busy;
            seen++;
        } else if (got == 0 && last) {
            break;
        }
    }
    pthread_join(actor, NULL);
    CHECK(seen > 0 && seen + records.lost == MESSAGES);
}

int
main(void)
{
    check_one_by_one();
    check_from_outside();
    return 0;
}
