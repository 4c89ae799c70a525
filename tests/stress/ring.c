/* ring.c - processes on one ring, killed and stopped at random moments, every message accounted for.
 *
 *   ring single KILLS    one producer after the other, each killed
 *   ring many KILLS      two producers survive, two others are killed, each is followed by another
 *   ring stall STOPS     four producers, two of them stopped anywhere for as long as the others take to lap them
 *
 * A message is as large as a world view: who wrote it, its running number, and words that follow from the two. Producers
 * wait for a steady reader (not when some are stopped: they shall be lapped), so it meets everything; a lazy one is lapped
 * all the time, and killed too. Prints: read lost holes abandoned burnt; exits 1 and says what is wrong when anything is.
 * A kill inside a write leaves a half-written slot, which is abandoned: so many kills landed there. -DWIDE sleeps between
 * stores, so that most do. */
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#ifdef WIDE
static void
linger(void)
{
    static unsigned stores;
    const struct timespec nap = {0, 1000};
    if (++stores % 16 == 0)
        nanosleep(&nap, NULL);
}

static inline void
store_after_a_while(_Atomic uint64_t *at, uint64_t value, memory_order order)
{
    linger();
    atomic_store_explicit(at, value, order);
}
#undef atomic_store_explicit
#define atomic_store_explicit(at, value, order) store_after_a_while(at, value, order)
#endif

#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "check.h"
#include "mantra/queue.h"

#ifndef PATIENCE
#define PATIENCE 60 /* seconds */
#endif

#ifndef CAPACITY
#define CAPACITY 64
#endif

enum { WORDS = 63, WRITERS = 1 << 13 };

typedef struct board { /* what the processes tell each other; not part of what is tested */
    _Atomic uint64_t stop, ended;      /* no more messages; nobody produces any more */
    _Atomic uint64_t position;         /* of the steady reader */
    _Atomic uint64_t read, lost, holes; /* by the steady reader, when it has ended */
    _Atomic uint64_t done[WRITERS];    /* by producer: messages that it knows it has published */
    _Atomic uint64_t seen[WRITERS];    /* by producer: the last that the steady reader has met */
} board;

static board *told;
static mantra_queue queue;
static bool paced;

static uint64_t
now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec;
}

static void
nap(uint64_t most_us, uint64_t *seed)
{
    const struct timespec time = {0, (long)(check_random(seed) % most_us) * 1000};
    nanosleep(&time, NULL);
}

static void
produce(unsigned self)
{
    mantra_producer producer;
    uint64_t message[WORDS];
    CHECK(!mantra_producer_open(&producer, &queue, (uint16_t)self));
    for (uint64_t n = 1; !told->stop; n++) {
        while (paced && !told->stop && mantra_produced(&queue) > told->position + CAPACITY / 2)
            sched_yield();
        for (uint64_t word = 0; word < WORDS; word++)
            message[word] = ((uint64_t)self << 40 | n) * (2 * word + 1);
        mantra_produce(&producer, message);
        told->done[self] = n;
    }
    mantra_producer_close(&producer);
}

/* To the end of all. Nothing torn, nobody's messages out of order, everything passed is read, lost or a hole. */
static void
consume(bool steady)
{
    uint64_t message[WORDS], last[WRITERS] = {0}, read = 0, missed = 0, seed = 7, started = now();
    mantra_consumer consumer = mantra_consumer_at(&queue, 0, message);
    for (;;) {
        const bool ended = told->ended;
        const int got = mantra_consume(&consumer, message);
        CHECK(read + (got == 1) + consumer.lost + consumer.holes == consumer.position);
        if (got == 1) {
            const uint64_t self = message[0] >> 40, n = message[0] & ((UINT64_C(1) << 40) - 1);
            for (uint64_t word = 0; word < WORDS; word++)
                CHECK(message[word] == message[0] * (2 * word + 1));
            CHECK(self < WRITERS && n > last[self]);
            missed += n - last[self] - 1;
            last[self] = n;
            read++;
        }
        if (steady)
            told->position = consumer.position;
        if (got == 0 && ended && consumer.position == mantra_queue_unused(&queue, 0))
            break;
        if (got == 0)
            sched_yield();
        else if (!steady && read % 16 == 0)
            nap(500, &seed);
        CHECK(now() - started < PATIENCE); /* nobody waits for ever on the dead */
    }
    CHECK(missed <= consumer.lost);
    if (!steady)
        return;
    for (unsigned self = 0; self < WRITERS; self++)
        told->seen[self] = last[self];
    told->read = read;
    told->lost = consumer.lost;
    told->holes = consumer.holes;
}

static pid_t
begin(void (*work)(unsigned), unsigned self)
{
    const pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* nobody outlives a storm that found something */
        work(self);
        _exit(0);
    }
    CHECK(pid > 0);
    return pid;
}

static void
consume_as(unsigned steady)
{
    consume(steady);
}

static void
finish(pid_t pid)
{
    kill(pid, SIGKILL);
    CHECK(waitpid(pid, NULL, 0) == pid);
}

static void
end(pid_t pid)
{
    int status = 1;
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

/* Slots that are being written. */
static uint64_t
unfinished(void)
{
    uint64_t count = 0;
    for (uint64_t i = 0; i < CAPACITY; i++)
        count += mantra_queue_slot(&queue, i)->version & MANTRA_WRITING;
    return count;
}

int
main(int count, char **arguments)
{
    if (count != 3)
        return 2;
    const bool many = strcmp(arguments[1], "single") != 0, stall = strcmp(arguments[1], "stall") == 0;
    const uint64_t times = strtoull(arguments[2], NULL, 10);
    const unsigned survivors = many ? 2 : 0, victims = many ? 2 : 1;
    unsigned writers = 0;
    uint64_t seed = (uint64_t)getpid();
    unsigned last[2] = {0}; /* by victim: the number of who takes its part now */
    pid_t steady, lazy, surviving[2], victim[2];
    CHECK(times < WRITERS - 8);

    const size_t size = mantra_round_up(sizeof(board), 64) + mantra_queue_bytes(CAPACITY, 8 * (WORDS + 1));
    uint8_t *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    told = (board *)(void *)memory;
    memory += mantra_round_up(sizeof(board), 64);
    ((mantra_queue_header *)(void *)memory)->many = many;
    queue = mantra_queue_attach(memory, CAPACITY, 8 * (WORDS + 1), 0);
    paced = !stall;

    steady = begin(consume_as, true);
    lazy = begin(consume_as, false);
    for (unsigned i = 0; i < survivors; i++)
        surviving[i] = begin(produce, writers++);
    for (unsigned i = 0; i < victims; i++)
        victim[i] = begin(produce, last[i] = writers++);
    for (uint64_t i = 0; i < times; i++) {
        const unsigned which = (unsigned)(check_random(&seed) % victims);
        nap(500, &seed);
        if (stall) {
            const uint64_t before = mantra_produced(&queue);
            kill(victim[which], SIGSTOP);
            for (int waits = 0; waits < 1000 && mantra_produced(&queue) < before + 2 * CAPACITY; waits++)
                nap(20, &seed);
            kill(victim[which], SIGCONT);
            continue;
        }
        finish(victim[which]);
        victim[which] = begin(produce, last[which] = writers++);
        if (i % 16 == 0) {
            finish(lazy);
            lazy = begin(consume_as, false);
        }
    }
    const uint64_t started = now();
    for (unsigned i = 0; i < victims; i++) /* the ring goes on */
        for (const uint64_t before = told->done[last[i]]; told->done[last[i]] < before + 2 * CAPACITY / victims;) {
            CHECK(now() - started < PATIENCE);
            sched_yield();
        }
    told->stop = 1;
    for (unsigned i = 0; i < survivors; i++)
        end(surviving[i]);
    for (unsigned i = 0; i < victims; i++)
        end(victim[i]);

    /* The last heirs. From here on, all is settled. */
    const mantra_queue_header *header = queue.header;
    for (uint32_t number = 0; number < MANTRA_WRITERS; number++)
        if (!mantra_writers_alive(&header->writers, number))
            mantra_queue_sweep(&queue, (uint16_t)number);
    CHECK(unfinished() == 0);
    told->ended = 1;
    end(steady);
    end(lazy);

    const uint64_t used = mantra_queue_unused(&queue, 0), counted = header->abandoned + header->burnt;
    uint64_t published = 0;
    for (unsigned self = 0; self < writers; self++) {
        CHECK(told->seen[self] <= told->done[self] + 1); /* 1: killed before it could tell */
        CHECK(told->lost || told->seen[self] >= told->done[self]);
        published += told->lost ? told->done[self] : told->seen[self];
    }
    CHECK(told->read + told->lost + told->holes == used);
    if (stall)
        CHECK(header->abandoned == 0 && used == published + counted);
    else /* counted, unless who took a slot over was killed in turn, before counting it */
        CHECK(told->lost == 0 && header->burnt == 0 && told->holes - counted <= 2 + times / 500);
    printf("%llu %llu %llu %llu %llu\n", (unsigned long long)told->read, (unsigned long long)told->lost,
           (unsigned long long)told->holes, (unsigned long long)header->abandoned, (unsigned long long)header->burnt);
    return 0;
}
