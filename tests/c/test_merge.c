/* The merge: the earliest published of what waits, batches whole, laps told, abandoned batches given up; against a slow
 * model, and with a producer thread to each queue. */
// threads
#include <pthread.h>

#include "check.h"
#include "mantra/merge.h"

#define QUEUES 4
#define EACH 20000

static mantra_queue queues[QUEUES];

static mantra_queue
queue_of(uint64_t capacity)
{
    mantra_region region;
    char error[MANTRA_REGION_ERROR];
    const mantra_region_spec spec = {.kind = "queue", .layout = ""};
    CHECK(!mantra_region_create(&region, NULL, mantra_queue_bytes(capacity, 64), 0, &spec, error));
    return mantra_queue_attach(mantra_region_payload(&region), capacity, 64, offsetof(mantra_update, flags));
}

static void
start(mantra_merge_source *sources, uint64_t capacity)
{
    mantra_update scratch;
    memset(sources, 0, QUEUES * sizeof *sources);
    for (int i = 0; i < QUEUES; i++) {
        queues[i] = queue_of(capacity);
        sources[i].consumer = mantra_consumer_at(&queues[i], MANTRA_NEWEST, &scratch);
    }
}

/* Everything is published first; then the order is: head with the least stamp, its batch to the end, again. */
static void
order_is_the_slow_models(uint64_t seed)
{
    enum { LONG = 200 };
    static mantra_merge_source sources[QUEUES];
    mantra_update all[QUEUES][LONG] = {0}, message;
    size_t counts[QUEUES], at[QUEUES] = {0};
    uint32_t source;
    start(sources, 256);
    for (int i = 0; i < QUEUES; i++) {
        mantra_producer producer;
        CHECK(!mantra_producer_open(&producer, &queues[i], (uint16_t)i));
        counts[i] = check_random(&seed) % LONG;
        for (uint64_t n = 0, now = 1000; n < counts[i]; n++) {
            now += check_random(&seed) % 50;
            mantra_stamp(&all[i][n], now - check_random(&seed) % 500, now, (uint16_t)i);
            all[i][n].sequence = n;
            all[i][n].flags = n + 1 < counts[i] && check_random(&seed) % 3 == 0;
            mantra_produce(&producer, &all[i][n]);
        }
    }
    mantra_merge merge = mantra_merge_of(sources, QUEUES);
    for (int batch = QUEUES;;) {
        int best = batch;
        for (int i = 0; i < QUEUES && batch == QUEUES; i++)
            if (at[i] < counts[i]
                && (best == QUEUES || mantra_published_cycles(all[i][at[i]].origin, all[i][at[i]].published)
                                          < mantra_published_cycles(all[best][at[best]].origin, all[best][at[best]].published)))
                best = i;
        if (best == QUEUES)
            break;
        CHECK(mantra_merge_ready(&merge) && mantra_merge_next(&merge, &message, &source) == 1);
        CHECK(source == (uint32_t)best && memcmp(&message, &all[best][at[best]], sizeof message) == 0);
        batch = all[best][at[best]++].flags ? best : QUEUES;
    }
    CHECK(!mantra_merge_ready(&merge) && mantra_merge_next(&merge, &message, &source) == 0);
}

static void *
produce_batches(void *queue)
{
    mantra_producer producer;
    mantra_update message = {0};
    uint64_t seed = (uint64_t)(uintptr_t)queue;
    CHECK(!mantra_producer_open(&producer, queue, 0));
    while (producer.position < EACH) {
        uint64_t size = 1 + check_random(&seed) % 5;
        for (uint64_t i = 0; i < size; i++) {
            message.sequence = i;
            message.flags = i + 1 < size;
            mantra_produce(&producer, &message);
        }
    }
    return NULL;
}

/* Threads: batches come whole, or are dropped after a -1; everything is read or counted as lost. */
static void
threads_batches_are_whole(void)
{
    static mantra_merge_source sources[QUEUES];
    pthread_t threads[QUEUES];
    uint64_t next = 0, done = 0;
    uint32_t source, batch = QUEUES;
    mantra_update message;
    start(sources, 64);
    mantra_merge merge = mantra_merge_of(sources, QUEUES);
    for (int i = 0; i < QUEUES; i++)
        pthread_create(&threads[i], NULL, produce_batches, &queues[i]);
    while (done < QUEUES || mantra_merge_ready(&merge)) {
        int got = mantra_merge_next(&merge, &message, &source);
        if (got > 0) {
            CHECK(batch == QUEUES || source == batch);
            CHECK(message.sequence == (batch == QUEUES ? 0 : next));
            next = message.sequence + 1;
            batch = message.flags ? source : QUEUES;
        } else if (got < 0 && source == batch) {
            batch = QUEUES;
        } else if (got == 0) {
            done = 0;
            for (int i = 0; i < QUEUES; i++)
                done += mantra_produced(&queues[i]) >= EACH;
        }
    }
    for (int i = 0; i < QUEUES; i++)
        pthread_join(threads[i], NULL);
}

static void
an_abandoned_batch_is_given_up(void)
{
    static mantra_merge_source sources[QUEUES];
    mantra_producer broken, whole;
    mantra_update message = {.flags = MANTRA_MORE}, seen;
    uint32_t source;
    start(sources, 8);
    mantra_merge merge = mantra_merge_of(sources, QUEUES);
    CHECK(!mantra_producer_open(&broken, &queues[1], 0) && !mantra_producer_open(&whole, &queues[2], 0));
    mantra_produce(&broken, &message);
    CHECK(mantra_merge_next(&merge, &seen, &source) == 1 && source == 1);
    message.flags = 0;
    mantra_produce(&whole, &message);
    for (int i = 0; i < 1000; i++) /* its producer lives: everybody waits for the rest of the batch */
        CHECK(mantra_merge_next(&merge, &seen, &source) == 0);
    mantra_producer_close(&broken);
    int got = 0;
    for (int i = 0; i < 1000 && !got; i++)
        got = mantra_merge_next(&merge, &seen, &source);
    CHECK(got == -1 && source == 1);
    CHECK(mantra_merge_next(&merge, &seen, &source) == 1 && source == 2);
}

int
main(void)
{
    for (uint64_t seed = 0; seed < 50; seed++)
        order_is_the_slow_models(seed);
    threads_batches_are_whole();
    an_abandoned_batch_is_given_up();
    return 0;
}
