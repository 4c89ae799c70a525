/* Many producers to one ring, many writers of one slot: nothing torn, nobody out of order, all positions accounted for; and
 * no access that is not atomic, which TSan would tell (of fences it knows nothing: tests/proof does). */
// threads
#include <pthread.h>

#include "check.h"
#include "mantra/queue.h"
#include "mantra/vector.h"

enum { WORDS = 63, SLOT_BYTES = 8 * (WORDS + 1), CAPACITY = 8, THREADS = 3, EACH = 20000 };

static _Alignas(64) uint8_t ring_memory[sizeof(mantra_queue_header) + CAPACITY * SLOT_BYTES];
static _Alignas(64) uint8_t slot_memory[sizeof(mantra_vector_header) + 2 * SLOT_BYTES];
static mantra_queue queue;
static _Atomic uint64_t ended;

static void
fill(uint64_t *message, uint64_t who, uint64_t n)
{
    for (uint64_t word = 0; word < WORDS; word++)
        message[word] = (who << 32 | n) * (2 * word + 1);
}

/* Whole, and newer than the last of its writer's. */
static void
look(const uint64_t *message, uint64_t *last)
{
    const uint64_t who = message[0] >> 32, n = message[0] & UINT32_MAX;
    for (uint64_t word = 0; word < WORDS; word++)
        CHECK(message[word] == message[0] * (2 * word + 1));
    CHECK(who < THREADS && n >= last[who]);
    last[who] = n;
}

static void *
write_on(void *who_)
{
    const uint64_t who = (uint64_t)(uintptr_t)who_;
    mantra_vector vector = mantra_vector_attach(slot_memory, 1, SLOT_BYTES);
    mantra_producer producer;
    uint64_t message[WORDS];
    CHECK(!mantra_producer_open(&producer, &queue, (uint16_t)who) && !mantra_vector_join(&vector));
    for (uint64_t n = 1; n <= EACH; n++) {
        fill(message, who, n);
        mantra_produce(&producer, message);
        if (n % 8 == 0)
            mantra_vector_write(&vector, 0, message);
    }
    mantra_producer_close(&producer);
    mantra_vector_leave(&vector);
    atomic_fetch_add(&ended, 1);
    return NULL;
}

static void *
read_on(void *unused)
{
    const mantra_vector vector = mantra_vector_attach(slot_memory, 1, SLOT_BYTES);
    uint64_t message[WORDS], last[THREADS] = {0}, latest[THREADS] = {0}, read = 0, version = 0;
    mantra_consumer consumer = mantra_consumer_at(&queue, 0, message);
    for (bool over = false; !over;) {
        over = atomic_load(&ended) == THREADS;
        for (int got; (got = mantra_consume(&consumer, message)) != 0;)
            if (got == 1) {
                look(message, last);
                read++;
            }
        const uint64_t now = mantra_vector_read(&vector, 0, message);
        CHECK(now >= version);
        version = now;
        if (now)
            look(message, latest);
    }
    CHECK(read + consumer.lost + consumer.holes == consumer.position);
    CHECK(consumer.position == mantra_produced(&queue));
    CHECK(version == THREADS * (EACH / 8));
    return unused;
}

int
main(void)
{
    pthread_t threads[THREADS + 2];
    ((mantra_queue_header *)(void *)ring_memory)->many = 1;
    ((mantra_vector_header *)(void *)slot_memory)->many = 1;
    queue = mantra_queue_attach(ring_memory, CAPACITY, SLOT_BYTES, 0);
    for (uintptr_t i = 0; i < THREADS + 2; i++)
        pthread_create(&threads[i], NULL, i < THREADS ? write_on : read_on, (void *)i);
    for (int i = 0; i < THREADS + 2; i++)
        pthread_join(threads[i], NULL);
    const uint64_t messages = THREADS * EACH, holes = queue.header->abandoned + queue.header->burnt;
    CHECK(queue.header->abandoned == 0 && mantra_produced(&queue) == messages + holes);
    return 0;
}
