/* The ring: no torn message, no lost one uncounted, batches whole, a killed producer's slot written again; and a twin that
 * does not look at the version twice is caught. */
// threads
#include <pthread.h>
#include <sched.h>

#include "check.h"
#include "mantra/queue.h"
#include "mantra/tracking.h"

#define CAPACITY 8 /* small, so that everybody is lapped all the time */
#define WORDS 71

typedef struct { uint64_t words[WORDS]; } big; /* as large as a world view: wide enough to be torn */

static mantra_queue queue;
static _Atomic uint64_t total;
static _Atomic bool broken;

static mantra_queue
queue_of(uint64_t capacity, uint32_t slot_bytes, uint32_t flags_offset)
{
    mantra_region region; /* its memory is not unmapped: the program ends */
    char error[MANTRA_REGION_ERROR];
    const mantra_region_spec spec = {.kind = "queue", .layout = ""};
    CHECK(!mantra_region_create(&region, NULL, mantra_queue_bytes(capacity, slot_bytes), 0, &spec, error));
    return mantra_queue_attach(mantra_region_payload(&region), capacity, slot_bytes, flags_offset);
}

static void *
produce_all(void *unused)
{
    mantra_producer producer;
    big message;
    CHECK(!mantra_producer_open(&producer, &queue, 3));
    for (uint64_t i = 0, n = atomic_load(&total); i < n; i++) {
        for (int word = 0; word < WORDS; word++)
            message.words[word] = producer.position * (2 * (uint64_t)word + 1);
        mantra_produce(&producer, &message);
    }
    mantra_producer_close(&producer);
    return unused;
}

/* What peek is without its second look at the version. */
static int
peek_broken(const mantra_consumer *consumer, void *message)
{
    const mantra_seqlock *slot = mantra_queue_slot(&consumer->queue, consumer->position);
    uint64_t version = atomic_load_explicit(&slot->version, memory_order_acquire);
    uint64_t lap = mantra_queue_lap(&consumer->queue, consumer->position);
    if (version >> MANTRA_LAP_SHIFT != lap || version & MANTRA_WRITING)
        return version >> MANTRA_LAP_SHIFT > lap ? -1 : 0;
    mantra_words_load(slot->words, message, 8);
    sched_yield(); /* so that it is caught soon, however fast the copy */
    mantra_words_load(slot->words + 8, (uint64_t *)message + 8, consumer->queue.words - 8);
    return 1;
}

/* Read until the end; how many were torn. */
static void *
consume_all(void *torn_)
{
    uint64_t *torn = torn_, last = UINT64_MAX, read = 0;
    big message;
    mantra_consumer consumer = mantra_consumer_at(&queue, 0, &message);
    while (consumer.position < atomic_load(&total)) {
        int got;
        if (atomic_load(&broken)) {
            got = peek_broken(&consumer, &message);
            consumer.position += got > 0;
            if (got < 0)
                consumer.position = mantra_queue_oldest(&queue, mantra_produced(&queue));
        } else {
            got = mantra_consume(&consumer, &message);
        }
        if (got == 0)
            MANTRA_PAUSE();
        if (got <= 0)
            continue;
        uint64_t first = message.words[0];
        bool whole = first == consumer.position - 1;
        for (int word = 0; word < WORDS; word++)
            whole = whole && message.words[word] == first * (2 * (uint64_t)word + 1);
        *torn += !whole;
        CHECK(atomic_load(&broken) || last == UINT64_MAX || first > last);
        last = first;
        read++;
    }
    CHECK(atomic_load(&broken) || read + consumer.lost == atomic_load(&total));
    return NULL;
}

static uint64_t
stress(uint64_t messages, bool twin)
{
    pthread_t threads[3];
    uint64_t torn[2] = {0, 0};
    queue = queue_of(CAPACITY, 8 * (WORDS + 1), 0);
    atomic_store(&total, messages);
    atomic_store(&broken, twin);
    pthread_create(&threads[0], NULL, consume_all, &torn[0]);
    pthread_create(&threads[1], NULL, consume_all, &torn[1]);
    pthread_create(&threads[2], NULL, produce_all, NULL);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    return torn[0] + torn[1];
}

#define DEAD ((UINT64_C(2) << 42) - 1) /* pid 1, but started at another time */

static mantra_queue
queue_of_many(uint64_t capacity)
{
    mantra_queue ring = queue_of(capacity, 64, 0);
    ring.header->many = 1;
    return mantra_queue_attach((uint8_t *)ring.header, capacity, 64, 0);
}

/* Killed at any instruction of a write: consumers see a whole message or a hole, and the successor goes on behind it. */
static void
killed_producers(bool many)
{
    for (int stage = 0; stage < 4; stage++) {
        mantra_queue ring = many ? queue_of_many(4) : queue_of(4, 64, 0);
        const bool hole = stage == 1 || stage == 2;
        mantra_producer first, second, third;
        mantra_update message = {.sequence = 0}, seen;
        mantra_consumer consumer = mantra_consumer_at(&ring, 0, &seen), late = consumer;
        CHECK(!mantra_producer_open(&first, &ring, 1));
        CHECK(many || mantra_producer_open(&second, &ring, 2) == -1);
        for (; message.sequence < 5; message.sequence++) {
            mantra_produce(&first, &message);
            CHECK(mantra_consume(&consumer, &seen) == 1 && seen.sequence == message.sequence);
        }
        mantra_seqlock *slot = mantra_queue_slot(&ring, 5);
        uint64_t settled = mantra_queue_lap(&ring, 5) << MANTRA_LAP_SHIFT | (uint64_t)first.writer << MANTRA_WRITER_SHIFT;
        if (stage >= 1)
            atomic_store(&slot->version, settled | MANTRA_WRITING);
        if (stage >= 2)
            mantra_words_store(slot->words, &message, stage == 2 ? 3 : 7);
        if (stage == 3)
            atomic_store(&slot->version, settled); /* published, not counted */
        for (int i = 0; i < 5000; i++)
            CHECK(mantra_consume(&consumer, &seen) == (stage == 3 && i == 0)); /* its writer lives: wait */
        atomic_store(&ring.header->writers.identity[first.writer], DEAD);
        CHECK(mantra_queue_producers(&ring) == 0);
        for (int i = 0; hole && i < 5000; i++)
            CHECK(mantra_consume(&consumer, &seen) == 0); /* its writer is dead: found out without anybody's help */
        CHECK(consumer.holes == hole);
        CHECK(!mantra_producer_open(&second, &ring, 2));
        CHECK(second.writer == first.writer && mantra_queue_producers(&ring) == 1);
        CHECK(second.position == 5 + (stage > 0) && atomic_load(&ring.header->abandoned) == hole);
        message.sequence = second.position;
        mantra_produce(&second, &message);
        CHECK(mantra_consume(&consumer, &seen) == 1 && seen.sequence == second.position - 1);
        CHECK(consumer.lost == 0 && consumer.holes == hole);
        while (mantra_consume(&late, &seen) != 0) {}
        CHECK(late.position == consumer.position && late.holes == hole);
        mantra_producer_close(&second);
        CHECK(!mantra_producer_open(&third, &ring, 3));
    }
}

/* A living producer that stands still inside a write for laps: nobody takes its slot, its positions are burnt, its message
 * comes when it goes on. When it dies instead, who comes next takes the slot. */
static void
stalled_producer(bool dies)
{
    mantra_queue ring = queue_of_many(4);
    mantra_producer slow, quick;
    mantra_update message = {.sequence = 1000}, seen;
    mantra_consumer consumer = mantra_consumer_at(&ring, 0, &seen), early = consumer;
    CHECK(!mantra_producer_open(&slow, &ring, 1) && !mantra_producer_open(&quick, &ring, 2));
    mantra_seqlock *slot = mantra_produce_begin(&slow); /* position 0 */
    mantra_words_store(slot->words, &message, 7);
    for (uint64_t i = 0; i < 9; i++) { /* positions 1 2 3, not 4, 5 6 7, not 8, 9 10 11 */
        message.sequence = i;
        mantra_produce(&quick, &message);
        CHECK(quick.position == 2 + i + i / 3);
    }
    CHECK(atomic_load(&ring.header->burnt) == 3 && atomic_load(&ring.header->abandoned) == 0);
    CHECK(mantra_consume(&early, &seen) == -1);
    if (dies)
        atomic_store(&ring.header->writers.identity[slow.writer], DEAD);
    else
        mantra_produce_end(&slow, slot); /* at position 12, in the very slot it held */
    message.sequence = 9;
    mantra_produce(&quick, &message);
    uint64_t sum = 0, count = 0;
    for (int got; (got = mantra_consume(&consumer, &seen)) != 0;)
        if (got == 1) {
            count++;
            sum += seen.sequence;
        }
    CHECK(consumer.position == mantra_produced(&ring) && mantra_produced(&ring) == 13 + !dies);
    CHECK(count + consumer.lost + consumer.holes == consumer.position);
    CHECK(seen.sequence == 9 && (sum > 1000) == !dies);
    CHECK(atomic_load(&ring.header->burnt) == 3 && atomic_load(&ring.header->abandoned) == 0);
    mantra_producer_close(&quick);
}

/* Whatever is lost, what is read are whole batches, and nothing is lost uncounted. */
static void
batches_are_whole(uint64_t seed)
{
    mantra_queue ring = queue_of(UINT64_C(2) << check_random(&seed) % 5, 64, offsetof(mantra_update, flags));
    mantra_producer producer;
    mantra_update message = {0}, seen;
    mantra_consumer consumer = mantra_consumer_at(&ring, MANTRA_OLDEST, &seen);
    uint64_t read = 0, dropped = 0, expected = 0; /* expected: next member of the batch being read */
    CHECK(!mantra_producer_open(&producer, &ring, 0));
    for (int turn = 0; turn < 500; turn++) {
        uint64_t size = 1 + check_random(&seed) % 4;
        for (uint64_t i = 0; i < size; i++) {
            message.sequence = i; /* its place in the batch; price: the batch's size */
            message.price = (int64_t)size;
            message.flags = i + 1 < size ? MANTRA_MORE : 0;
            mantra_produce(&producer, &message);
            for (uint64_t tries = check_random(&seed) % 4; tries-- > 0;) {
                int got = mantra_consume(&consumer, &seen);
                if (got < 0) {
                    dropped += expected; /* what a consumer has to drop of an unfinished batch */
                    expected = 0;
                } else if (got) {
                    CHECK(seen.sequence == expected);
                    expected = seen.flags & MANTRA_MORE ? expected + 1 : 0;
                    CHECK(expected || seen.sequence + 1 == (uint64_t)seen.price);
                    read += expected ? 0 : (uint64_t)seen.price;
                }
            }
        }
    }
    CHECK(consumer.position == read + dropped + expected + consumer.lost);
}

int
main(void)
{
    CHECK(stress(100000, false) == 0);
    uint64_t caught = 0;
    for (int attempt = 0; attempt < 200 && !caught; attempt++)
        caught = stress(20000, true);
    CHECK(caught > 0); /* the test sees torn messages where there are any */
    killed_producers(false);
    killed_producers(true);
    stalled_producer(false);
    stalled_producer(true);
    for (uint64_t seed = 0; seed < 100; seed++)
        batches_are_whole(seed);
    CHECK(mantra_process_alive(mantra_process_self()) && !mantra_process_alive(0));

    mantra_update stamped = {0};
    mantra_stamp(&stamped, 1000, 1500, 42);
    CHECK(mantra_published_cycles(stamped.origin, stamped.published) == 1500 && mantra_publisher(stamped.published) == 42);
    mantra_stamp(&stamped, 1000, 900, 42); /* another core's counter, a little behind */
    CHECK(mantra_published_cycles(stamped.origin, stamped.published) == 1000);
    return 0;
}
