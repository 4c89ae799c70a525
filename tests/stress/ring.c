/* ring.c - a producer or a consumer of a queue of world-sized messages, as a process of its own, to be killed at any time.
 *   ring produce NAME            until killed: every word of the message at position p is p * (2 * word + 1)
 *   ring consume NAME            until SIGTERM, then prints: read lost torn gaps
 *   ring consume-unchecked NAME  the broken twin, which does not look at the version a second time */
#include <signal.h>
#include <stdio.h>

#include "mantra/queue.h"

#define WORDS 63

static volatile sig_atomic_t stop;

static void
on_signal(int number)
{
    (void)number;
    stop = 1;
}

static void
produce(const mantra_queue *queue)
{
    mantra_producer producer;
    uint64_t message[WORDS];
    if (mantra_producer_open(&producer, queue, 1))
        exit(4);
    puts("ready");
    fflush(stdout);
    while (!stop) {
        for (uint64_t word = 0; word < WORDS; word++)
            message[word] = producer.position * (2 * word + 1);
        mantra_produce(&producer, message);
    }
    mantra_producer_close(&producer);
}

static void
consume(const mantra_queue *queue, bool checked)
{
    uint64_t message[WORDS] = {0}, read = 0, torn = 0, gaps = 0, start = mantra_produced(queue), lost = 0;
    mantra_consumer consumer = mantra_consumer_at(queue, start, message);
    puts("ready");
    fflush(stdout);
    while (!stop) {
        int got;
        uint64_t position = consumer.position;
        if (checked) {
            got = mantra_consume(&consumer, message);
            position = consumer.position - 1; /* holes may have been skipped on the way */
        } else {
            const mantra_seqlock *slot = mantra_queue_slot(queue, position);
            got = mantra_consumer_ready(&consumer);
            if (got && mantra_seqlock_look(slot) >> MANTRA_LAP_SHIFT != mantra_queue_lap(queue, position)) {
                consumer.position = mantra_produced(queue);
                continue;
            }
            mantra_words_load(slot->words, message, WORDS);
            consumer.position += (uint64_t)got;
        }
        if (got != 1)
            continue;
        bool whole = true;
        for (uint64_t word = 0; word < WORDS; word++)
            whole = whole && message[word] == position * (2 * word + 1);
        torn += !whole;
        read++;
    }
    lost = consumer.lost;
    gaps = checked && read + lost + consumer.holes != consumer.position - start;
    printf("%llu %llu %llu %llu\n", (unsigned long long)read, (unsigned long long)lost, (unsigned long long)torn,
           (unsigned long long)gaps);
}

int
main(int count, char **arguments)
{
    char error[MANTRA_REGION_ERROR];
    mantra_region region;
    if (count != 3)
        return 2;
    bool producing = strcmp(arguments[1], "produce") == 0;
    signal(SIGTERM, on_signal);
    if (mantra_region_open(&region, arguments[2], producing, error)) {
        fprintf(stderr, "%s\n", error);
        return 3;
    }
    const mantra_region_header *header = mantra_region_head(&region);
    mantra_queue queue = mantra_queue_attach(mantra_region_payload(&region), header->capacity, (uint32_t)header->slot_bytes, 0);
    if (producing)
        produce(&queue);
    else
        consume(&queue, strcmp(arguments[1], "consume") == 0);
    return 0;
}
