/* queue_latency.c - what crossing from one core to another costs, half a round trip each, interleaved in one run so that
 * all meet the same machine; then producing and consuming on one core. bench_queue.py builds, runs and judges it.
 *
 *   floor      one word, ping in one cache line, pong in another: each line has one writer and one polling reader, as a
 *              slot has. The writer must take the line from the reader, the reader take it back: two transfers a hop.
 *   one_line   ping and pong in the same line: ownership comes with the read, one transfer a hop. No message to a reader
 *              that may not write can do that; printed for comparison with tools that measure it so.
 *   queue      a whole message, there through one queue, back through another.
 *
 * Usage: queue_latency ROUNDS CPU CPU. Prints `name best median` in nanoseconds. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "mantra/doorbell.h"
#include "mantra/queue.h"
#include "mantra/tracking.h"

#define REPEATS 20
#define CAPACITY 1024

typedef struct { _Alignas(128) _Atomic uint64_t word; char rest[120]; } line;

static line lines[2];
static mantra_queue there, back;
static uint64_t rounds;
static int cpus[2];
static pthread_barrier_t gate;

static void
pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (pthread_setaffinity_np(pthread_self(), sizeof set, &set))
        exit(3);
}

static double
now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static mantra_queue
queue_of(void)
{
    mantra_region region;
    char error[MANTRA_REGION_ERROR];
    const mantra_region_spec spec = {.kind = "queue", .layout = "update"};
    if (mantra_region_create(&region, NULL, mantra_queue_bytes(CAPACITY, 64), 0, &spec, error))
        exit(4);
    return mantra_queue_attach(mantra_region_payload(&region), CAPACITY, 64, offsetof(mantra_update, flags));
}

/* Side 0 writes odd numbers to `ping`, side 1 answers with even ones in `pong`. */
static void
bare(int side, line *ping, line *pong)
{
    for (uint64_t i = 0; i < rounds; i++) {
        if (side == 0)
            atomic_store_explicit(&ping->word, 2 * i + 1, memory_order_release);
        while (atomic_load_explicit(side ? &ping->word : &pong->word, memory_order_acquire) != 2 * i + (side ? 1 : 2))
            MANTRA_PAUSE();
        if (side == 1)
            atomic_store_explicit(&pong->word, 2 * i + 2, memory_order_release);
    }
}

static double
through_queues(int side)
{
    mantra_producer producer;
    mantra_update message = {0};
    mantra_consumer consumer = mantra_consumer_at(side ? &there : &back, MANTRA_NEWEST, &message);
    if (mantra_producer_open(&producer, side ? &back : &there, 0))
        exit(5);
    pthread_barrier_wait(&gate); /* both have their consumers */
    double start = now_ns();
    for (uint64_t i = 0; i < rounds; i++) {
        message.sequence = i;
        if (side == 0)
            mantra_produce(&producer, &message);
        int got;
        while ((got = mantra_consume(&consumer, &message)) == 0)
            MANTRA_PAUSE();
        if (got != 1 || message.sequence != i)
            exit(6); /* fast and wrong is no result */
        if (side == 1)
            mantra_produce(&producer, &message);
    }
    double end = now_ns();
    mantra_producer_close(&producer);
    return end - start;
}

static int
ascending(const void *a, const void *b)
{
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

static void *
run(void *side_)
{
    static const char *const names[] = {"floor", "one_line", "queue"};
    double took[3][REPEATS];
    int side = *(int *)side_;
    pin(cpus[side]);
    for (int repeat = 0; repeat < REPEATS; repeat++)
        for (int what = 0; what < 3; what++) {
            if (side == 0)
                lines[0].word = lines[1].word = 0;
            pthread_barrier_wait(&gate);
            double start = now_ns();
            if (what < 2)
                bare(side, &lines[0], &lines[what == 0]);
            took[what][repeat] = what < 2 ? now_ns() - start : through_queues(side);
            pthread_barrier_wait(&gate);
        }
    for (int what = 0; side == 0 && what < 3; what++) {
        qsort(took[what], REPEATS, sizeof(double), ascending);
        printf("%s %.2f %.2f\n", names[what], took[what][0] / (double)rounds / 2, took[what][REPEATS / 2] / (double)rounds / 2);
    }
    return NULL;
}

/* Producing, consuming what waits, polling what is empty, ringing a bell nobody sleeps on: on one core. */
static void
alone(void)
{
    static const char *const names[] = {"produce", "consume", "poll", "ring"};
    static mantra_doorbell bell;
    enum { TURNS = 200, EACH = CAPACITY / 2 };
    double took[4][TURNS];
    mantra_producer producer;
    mantra_update message = {0};
    if (mantra_producer_open(&producer, &there, 0))
        exit(5);
    for (int turn = 0; turn < TURNS; turn++) {
        mantra_consumer consumer = mantra_consumer_at(&there, MANTRA_NEWEST, &message);
        uint64_t sum = 0, n = EACH;
        double at[5] = {now_ns()};
        for (uint64_t i = 0; i < n; i++) {
            message.sequence = i;
            mantra_produce(&producer, &message);
        }
        at[1] = now_ns();
        while (mantra_consume(&consumer, &message) == 1)
            sum += message.sequence;
        at[2] = now_ns();
        for (uint64_t i = 0; i < n; i++)
            sum += (uint64_t)mantra_consume(&consumer, &message);
        at[3] = now_ns();
        for (uint64_t i = 0; i < n; i++)
            mantra_doorbell_ring(&bell);
        at[4] = now_ns();
        if (sum != n * (n - 1) / 2)
            exit(6);
        for (int what = 0; what < 4; what++)
            took[what][turn] = at[what + 1] - at[what];
    }
    for (int what = 0; what < 4; what++) {
        qsort(took[what], TURNS, sizeof(double), ascending);
        printf("%s %.2f %.2f\n", names[what], took[what][0] / EACH, took[what][TURNS / 2] / EACH);
    }
}

int
main(int count, char **arguments)
{
    if (count != 4)
        return 2;
    rounds = strtoull(arguments[1], NULL, 10);
    cpus[0] = atoi(arguments[2]);
    cpus[1] = atoi(arguments[3]);
    there = queue_of();
    back = queue_of();
    pthread_barrier_init(&gate, NULL, 2);
    pthread_t threads[2];
    int sides[2] = {0, 1};
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, run, &sides[i]);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    alone();
    return 0;
}
