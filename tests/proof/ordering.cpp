/* ordering.cpp - the real headers under relacy, which runs their threads in every order and lets a load see any value that
 * C11 lets it see: ordering SCENARIO ITERATIONS [TWIN]. Exits 1, with the interleaving, when a scenario's assertion fails.
 * TWIN is the number of one memory order in the headers, which is then weakened.
 *
 * Rings of two words a message, so that one can be torn, and mostly of two slots, so that everybody is lapped. */
#include <stdatomic.h>

#include "mantra/queue.h"
#include "mantra/vector.h"
#include "mantra/doorbell.h"

enum { ATOMS = 48, POSITIONS = 64, PROCESSES = 8, HOLE = 1 };

static bool asleep; /* in the kernel, whose own lock makes comparing and sleeping one step */

static long
proof_futex(const void *word, int operation, uint32_t value, ...)
{
    const proof_atomic<uint32_t> *at = static_cast<const proof_atomic<uint32_t> *>(word);
    if (operation == FUTEX_WAKE)
        asleep = false;
    else if (at->atom().fetch_add(0, rl::mo_acq_rel, $) == value)
        asleep = true;
    return 0;
}

/* ---- what a scenario's processes have in common: some may be killed */

template <typename scenario, int threads> struct world : rl::test_suite<scenario, threads> {
    rl::atomic<uint64_t> atoms[ATOMS], dead[PROCESSES];
    uint64_t done[PROCESSES]; /* messages that each process knows it has published */
    bool killed[PROCESSES];

    void begin(void)
    {
        proof.atoms = atoms;
        proof.used = 0;
        proof_dead = dead;
        memset(proof.mortal, 0, sizeof proof.mortal);
        memset(done, 0, sizeof done);
        memset(killed, 0, sizeof killed);
        for (int i = 0; i < PROCESSES; i++)
            dead[i].store(0, rl::mo_relaxed, $);
    }

    /* Half of the times, process `who` will be killed, before any of its accesses up to the `most`th. */
    void doom(int who, unsigned most)
    {
        proof.mortal[who] = rl::rand(2) ? (int)rl::rand(most) + 1 : 0;
    }

    /* Some begin late, or stall: threads take turns at random, so without this the first steps of all would always meet. */
    void late(void)
    {
        for (unsigned turns = rl::rand(2) * rl::rand(40); turns > 0; turns--)
            rl::yield(1, $);
    }

    void spare(void)
    {
        proof.mortal[rl::thread_index()] = 0;
    }

    void die(void)
    {
        spare();
        killed[rl::thread_index()] = true;
        dead[rl::thread_index() + 1].store(1, rl::mo_release, $);
    }

    /* The next message of process `self`: never the same twice, and its second word says whether it is whole. */
    void message_of(unsigned self, uint64_t *message)
    {
        message[0] = 1000 * (self + 1) + done[self] + 1;
        message[1] = ~message[0];
    }
};

/* ---- rings */

template <typename scenario, int threads> struct ring : world<scenario, threads> {
    using world<scenario, threads>::done, world<scenario, threads>::killed;
    alignas(64) uint8_t memory[sizeof(mantra_queue_header) + 4 * 64];
    mantra_queue queue;
    uint64_t at[POSITIONS]; /* what consumers found at each position: a message, HOLE, or 0: nobody was there */

    void make(uint64_t capacity, bool many)
    {
        this->begin();
        memset(memory, 0, sizeof memory);
        memset(at, 0, sizeof at);
        mantra_queue_header *header = (mantra_queue_header *)memory;
        header->many = many;
        queue = mantra_queue_attach(memory, capacity, 64, 0);
        queue.words = 2;
        header->position.make(0);
        header->abandoned.make(0);
        header->burnt.make(0);
        for (int i = 0; i < 4; i++)
            header->writers.identity[i].make(0);
        for (uint64_t i = 0; i < capacity; i++) {
            mantra_queue_slot(&queue, i)->version.make(0);
            mantra_queue_slot(&queue, i)->words[0].make(0);
            mantra_queue_slot(&queue, i)->words[1].make(0);
        }
    }

    void publish(mantra_producer *producer, unsigned self = rl::thread_index())
    {
        uint64_t message[2];
        this->message_of(self, message);
        mantra_seqlock *slot = mantra_produce_begin(producer);
        this->late();
        mantra_words_store(slot->words, message, 2);
        mantra_produce_end(producer, slot);
        done[self]++;
    }

    /* As mantra_producer_open, which refuses as many producers as there are slots: stopped, they would stop all. Here nobody
     * stops for ever, and a ring of two is soon lapped. */
    bool open(mantra_producer *producer)
    {
        if (!queue.many)
            return mantra_producer_open(producer, &queue, 0) == 0;
        bool inherited = false;
        const int writer = mantra_writers_join(&queue.header->writers, 4, &inherited);
        if (inherited)
            mantra_queue_sweep(&queue, (uint16_t)writer);
        *producer = {queue, mantra_produced(&queue), 0, (uint16_t)writer};
        return true;
    }

    /* Publish `count` messages as whoever this thread is; false: there was no place. */
    bool produce(int count)
    {
        bool joined = false;
        this->late();
        try {
            mantra_producer producer;
            joined = open(&producer);
            for (int n = 0; joined && n < count; n++)
                publish(&producer);
            if (joined)
                mantra_producer_close(&producer);
            this->spare();
        } catch (proof_killed &) {
            this->die();
        }
        return joined;
    }

    /* A message is whole, and everybody finds the same one at a position. */
    void found(uint64_t position, const uint64_t *message)
    {
        RL_ASSERT(message[0] >= 1000 && message[1] == ~message[0]);
        RL_ASSERT(position < POSITIONS && (at[position] == 0 || at[position] == message[0]));
        at[position] = message[0];
    }

    /* What is skipped as a hole is no message, now or later, to anybody. */
    void skipped(uint64_t position, uint64_t holes)
    {
        for (; holes > 0; holes--, position++) {
            RL_ASSERT(position < POSITIONS && at[position] <= HOLE);
            at[position] = HOLE;
        }
    }

    mantra_consumer consume(int tries)
    {
        uint64_t message[2];
        mantra_consumer consumer = mantra_consumer_at(&queue, 0, message);
        uint64_t read = 0;
        if (tries < POSITIONS)
            this->late();
        for (int i = 0; i < tries; i++) {
            const mantra_consumer before = consumer;
            consumer.stuck = 63; /* as if it had waited long: it asks at once whether a writer lives */
            if (i % 2)
                mantra_consumer_ready(&consumer);
            else if (mantra_consume(&consumer, message) == 1) {
                found(consumer.position - 1, message);
                read++;
            }
            skipped(before.position, consumer.holes - before.holes);
        }
        RL_ASSERT(read + consumer.lost + consumer.holes == consumer.position);
        return consumer;
    }

    /* When all is over: nobody alive is in the middle of anything, so a last reader comes to the end, and all positions
     * are accounted for. `lapped`: the ring may have gone round, otherwise every survivor's message is still there. */
    void settle(bool lapped)
    {
        const mantra_queue_header *header = queue.header;
        for (int i = 0; i < 4; i++) /* what a successor would do */
            if (!mantra_writers_alive(&header->writers, (uint32_t)i))
                mantra_queue_sweep(&queue, (uint16_t)i);
        const uint64_t used = mantra_queue_unused(&queue, 0);
        const mantra_consumer last = consume(4 * POSITIONS);
        RL_ASSERT(last.position == used);
        uint64_t published = 0, maybe = 0;
        for (int i = 0; i < threads; i++) {
            published += done[i];
            maybe += killed[i];
        }
        const uint64_t abandoned = atomic_load_explicit(&header->abandoned, memory_order_relaxed);
        const uint64_t holes = abandoned + atomic_load_explicit(&header->burnt, memory_order_relaxed);
        RL_ASSERT(abandoned <= maybe); /* nobody takes a living one's slot */
        /* Who is killed behind what it did, and before it counted that: a message, a slot taken over, or two burnt. */
        RL_ASSERT(used - holes >= published && used - holes <= published + 2 * maybe);
        RL_ASSERT(lapped || (last.lost == 0 && last.holes >= holes && last.holes <= holes + 2 * maybe));
        for (unsigned i = 0; i < threads; i++) { /* in order, and none missing unless it was overwritten */
            uint64_t before = 0;
            for (uint64_t position = 0; position < used; position++)
                if (at[position] / 1000 == i + 1) {
                    RL_ASSERT(at[position] % 1000 > before);
                    RL_ASSERT(lapped || at[position] % 1000 == before + 1);
                    before = at[position] % 1000;
                }
            RL_ASSERT(lapped || before == done[i] || (killed[i] && before == done[i] + 1));
        }
    }
};

/* One producer, two consumers, lapped. */
struct single : ring<single, 3> {
    void before() { make(2, false); }
    void thread(unsigned index) { index ? (void)consume(10) : (void)produce(4); }
    void after() { settle(true); }
};

/* One producer after the other: the first may be killed anywhere, the second takes its place. */
struct succession_of_single : ring<succession_of_single, 3> {
    void before()
    {
        make(4, false);
        doom(0, 16);
    }
    void thread(unsigned index)
    {
        if (index == 0)
            produce(2);
        else if (index == 1)
            for (int tries = 0; tries < 20 && !produce(1); tries++)
                rl::yield(1, $);
        else
            consume(12);
    }
    void after() { settle(false); }
};

/* Two producers and a consumer; who stalls is lapped, its slot burnt. */
struct many : ring<many, 3> {
    void before() { make(2, true); }
    void thread(unsigned index) { index < 2 ? (void)produce(3) : (void)consume(12); }
    void after() { settle(true); }
};

/* Room for everything: nothing may be missing. */
struct many_unlapped : ring<many_unlapped, 3> {
    void before()
    {
        make(4, true);
        doom(0, 24);
    }
    void thread(unsigned index) { index < 2 ? (void)produce(2) : (void)consume(12); }
    void after() { settle(false); }
};

/* One producer may be killed anywhere, the other goes on through its slot. */
struct many_killed : ring<many_killed, 3> {
    void before()
    {
        make(2, true);
        doom(0, 24);
    }
    void thread(unsigned index) { index < 2 ? (void)produce(3) : (void)consume(12); }
    void after() { settle(true); }
};

/* The killed one's number goes to a successor, while another producer laps both. */
struct succession_of_many : ring<succession_of_many, 4> {
    rl::atomic<uint64_t> over;
    void before()
    {
        make(2, true);
        doom(0, 10);
        over.store(0, rl::mo_relaxed, $);
    }
    void thread(unsigned index)
    {
        if (index == 0) {
            produce(1);
            over.store(1, rl::mo_relaxed, $);
        } else if (index == 1) {
            for (int tries = 0; tries < 4 && !over.load(rl::mo_relaxed, $); tries++)
                rl::yield(1, $);
            produce(2);
        } else if (index == 2) {
            produce(3);
        } else {
            consume(8);
        }
    }
    void after() { settle(true); }
};

/* Number 0 was a dead one's and goes to who joins now; two producers, here from the start, lap it, and a reader waits for
 * it: none of them may take the heir for the dead. */
struct heir : ring<heir, 4> {
    void before()
    {
        make(2, true);
        dead[PROCESSES - 1].store(1, rl::mo_relaxed, $);
        for (uint64_t number = 0; number < 3; number++)
            atomic_store_explicit(&queue.header->writers.identity[number], number ? number + 1 : PROCESSES - 1,
                                  memory_order_relaxed);
    }
    void thread(unsigned index)
    {
        mantra_producer producer = {queue, 0, 0, (uint16_t)index};
        late();
        if (index == 0)
            produce(1);
        else if (index == 3)
            consume(6);
        else
            publish(&producer);
    }
    void after() { settle(true); }
};

/* A producer settles its last message and leaves: who asks for it then does not take that message for a hole. */
struct leaving : ring<leaving, 2> {
    void before() { make(2, true); }
    void thread(unsigned index) { index ? (void)consume(8) : (void)produce(2); }
    void after() { settle(false); }
};

/* A producer's slot was burnt while it wrote: it writes again, into a slot that others are reading. */
struct again : ring<again, 3> {
    mantra_producer producer;
    mantra_seqlock *slot;
    void before()
    {
        make(4, true);
        uint64_t message[2];
        mantra_producer other = {queue, 0, 0, 1};
        producer = {queue, 0, 0, 0};
        for (uint64_t i = 0; i < 2; i++)
            atomic_store_explicit(&queue.header->writers.identity[i], i + 1, memory_order_relaxed);
        slot = mantra_produce_begin(&producer);
        message_of(0, message);
        mantra_words_store(slot->words, message, 2);
        for (int i = 0; i < 4; i++)
            publish(&other, 1); /* positions 1 2 3, 4 is burnt, 5: the next one is slot 2's */
    }
    void thread(unsigned index)
    {
        late();
        if (index == 0) {
            mantra_produce_end(&producer, slot);
            done[0]++;
        } else {
            uint64_t message[2];
            mantra_consumer consumer = mantra_consumer_at(&queue, 2, message);
            for (int i = 0; i < 3; i++)
                if (mantra_consume(&consumer, message) == 1)
                    found(consumer.position - 1, message);
        }
    }
    void after() { settle(true); }
};

/* Message 1 stands alone, 2 and 3 are a batch: who joins in the middle of it leaves it out. */
struct joining : ring<joining, 2> {
    void before()
    {
        make(4, false);
        queue.flags_offset = 8; /* the second word is the first one's complement, so even messages say that more follow */
    }
    void thread(unsigned index)
    {
        if (index == 0) {
            produce(3);
            return;
        }
        uint64_t message[2];
        late();
        mantra_consumer consumer = mantra_consumer_at(&queue, MANTRA_NEWEST, message);
        for (int i = 0, got = 0; i < 4 && !got; i++) {
            got = mantra_consume(&consumer, message) == 1;
            RL_ASSERT(!got || message[0] != 1003);
        }
    }
};

/* Runs are of one-line messages, seven words each. */
struct runs : ring<runs, 2> {
    void before()
    {
        make(2, false);
        queue.words = 7;
        for (uint64_t i = 0; i < 14; i++)
            if (i % 7 > 1)
                mantra_queue_slot(&queue, i / 7)->words[i % 7].make(0);
    }
    void thread(unsigned index)
    {
        uint64_t message[7];
        late();
        if (index == 0) {
            mantra_producer producer;
            mantra_producer_open(&producer, &queue, 0);
            for (int n = 0; n < 3; n++) {
                message_of(0, message);
                for (int word = 2; word < 7; word++)
                    message[word] = message[1];
                mantra_produce(&producer, message);
                done[0]++;
            }
            return;
        }
        mantra_consumer consumer = mantra_consumer_at(&queue, 0, message);
        for (int i = 0; i < 4; i++)
            if (mantra_consume_run(&consumer, message, 1)) {
                found(consumer.position - 1, message);
                for (int word = 2; word < 7; word++)
                    RL_ASSERT(message[word] == message[1]);
            } else {
                mantra_consume(&consumer, message);
            }
    }
};

/* Who waits sleeps by the doorbell: no message is published that it sleeps through. */
struct doorbell : ring<doorbell, 2> {
    mantra_doorbell bell;
    void before()
    {
        make(2, false);
        asleep = false;
        bell.word.make(0);
        bell.armed.make(0);
    }
    void thread(unsigned index)
    {
        if (index == 0) {
            mantra_producer producer;
            mantra_producer_open(&producer, &queue, 0);
            publish(&producer);
            mantra_doorbell_ring(&bell);
            return;
        }
        uint64_t message[2];
        mantra_consumer consumer = mantra_consumer_at(&queue, 0, message);
        for (int round = 0; round < 2 && !mantra_consumer_ready(&consumer); round++) { /* as mantra_doorbell_until */
            const uint32_t seen = mantra_doorbell_seen(&bell);
            if (mantra_consumer_ready(&consumer))
                return;
            mantra_doorbell_wait(&bell, seen, MANTRA_PARK_NS);
            while (asleep && !done[0])
                rl::yield(1, $);
            if (asleep)
                return;
        }
    }
    void after() { RL_ASSERT(!asleep || !done[0]); }
};

/* A wait is ended by another thread, which says why in a word of its own. */
struct ending : world<ending, 2> {
    mantra_doorbell bell;
    mantra_waiting waiting;
    proof_atomic<uint64_t> why;
    void before()
    {
        begin();
        asleep = false;
        bell.word.make(0);
        bell.armed.make(0);
        waiting = {[](void *) { return false; }, NULL, {0}};
        waiting.woken.make(0);
        why.make(0);
    }
    void thread(unsigned index)
    {
        if (index == 0) {
            atomic_store_explicit(&why, 1, memory_order_relaxed);
            mantra_doorbell_end(&bell, &waiting);
            done[0] = 1;
            return;
        }
        const uint32_t seen = mantra_doorbell_seen(&bell);
        if (!mantra_waiting_done(&waiting))
            mantra_doorbell_wait(&bell, seen, MANTRA_PARK_NS);
        if (mantra_waiting_over(&waiting))
            RL_ASSERT(atomic_load_explicit(&why, memory_order_relaxed) == 1);
    }
    void after() { RL_ASSERT(!asleep); }
};

/* ---- seqlocks and vectors */

struct seqlock : world<seqlock, 3> {
    alignas(64) uint8_t memory[24];
    mantra_seqlock *lock;
    void before()
    {
        begin();
        memset(memory, 0, sizeof memory);
        lock = (mantra_seqlock *)memory;
        lock->version.make(0);
        lock->words[0].make(0);
        lock->words[1].make(0);
    }
    void thread(unsigned index)
    {
        uint64_t message[2];
        for (int i = 0; i < 3; i++) {
            if (index == 0) {
                message_of(0, message);
                mantra_seqlock_write(lock, message, 2);
                done[0]++;
            } else {
                const uint64_t seen = mantra_seqlock_read(lock, message, 2);
                RL_ASSERT(seen == 0 || seen == UINT64_MAX || (message[0] == 1000 + seen / 2 && message[1] == ~message[0]));
            }
        }
    }
};

template <typename scenario, int threads> struct slots : world<scenario, threads> {
    using world<scenario, threads>::done, world<scenario, threads>::killed;
    alignas(64) uint8_t memory[sizeof(mantra_vector_header) + 2 * 64];
    mantra_vector vector;

    void make(bool many)
    {
        this->begin();
        memset(memory, 0, sizeof memory);
        mantra_vector_header *header = (mantra_vector_header *)memory;
        header->many = many;
        vector = mantra_vector_attach(memory, 1, 64);
        vector.words = 2;
        for (int i = 0; many && i < 4; i++)
            header->writers.identity[i].make(0);
        for (uint64_t copy = 0; copy < 2; copy++) {
            mantra_vector_copy(&vector, 0, copy)->version.make(0);
            mantra_vector_copy(&vector, 0, copy)->words[0].make(0);
            mantra_vector_copy(&vector, 0, copy)->words[1].make(0);
        }
    }

    void write(int count)
    {
        this->late();
        try {
            mantra_vector mine = vector;
            if (vector.header->many && mantra_vector_join(&mine))
                return;
            for (; count > 0; count--) {
                uint64_t message[2];
                this->message_of(rl::thread_index(), message);
                mantra_vector_write(&mine, 0, message);
                done[rl::thread_index()]++;
            }
            if (vector.header->many)
                mantra_vector_leave(&mine);
            this->spare();
        } catch (proof_killed &) {
            this->die();
        }
    }

    /* Never torn, never older than before. */
    uint64_t read(int times)
    {
        uint64_t message[2] = {0, 0}, last = 0, newest[PROCESSES] = {0};
        if (times > 1)
            this->late();
        for (int i = 0; i < times; i++) {
            const uint64_t version = mantra_vector_read(&vector, 0, message);
            RL_ASSERT(version >= last);
            last = version;
            if (version == 0)
                continue;
            RL_ASSERT(message[0] >= 1000 && message[1] == ~message[0]);
            RL_ASSERT(message[0] % 1000 >= newest[message[0] / 1000]);
            newest[message[0] / 1000] = message[0] % 1000;
        }
        return last;
    }

    void settle(void)
    {
        uint64_t published = 0;
        for (int i = 0; i < threads; i++)
            published += done[i];
        RL_ASSERT(read(1) >= published);
    }
};

struct vector_single : slots<vector_single, 3> {
    void before() { make(false); }
    void thread(unsigned index) { index ? (void)read(3) : write(4); }
    void after() { settle(); }
};

struct vector_many : slots<vector_many, 3> {
    void before() { make(true); }
    void thread(unsigned index) { index < 2 ? write(3) : (void)read(3); }
    void after() { settle(); }
};

/* One writer may be killed anywhere; a third takes its number while the second takes its slot. */
struct vector_killed : slots<vector_killed, 4> {
    void before()
    {
        make(true);
        doom(0, 16);
    }
    void thread(unsigned index) { index < 3 ? write(2) : (void)read(3); }
    void after() { settle(); }
};

template <typename scenario> static int
run(unsigned long iterations)
{
    rl::test_params parameters;
    parameters.iteration_count = iterations;
    parameters.execution_depth_limit = 4000;
    std::ostringstream quiet;
    parameters.progress_stream = &quiet;
    return !rl::simulate<scenario>(parameters);
}

int
main(int count, char **arguments)
{
    static const struct {
        const char *name;
        int (*run)(unsigned long);
    } scenarios[] = {
        {"single", run<single>},
        {"succession_of_single", run<succession_of_single>},
        {"many", run<many>},
        {"many_unlapped", run<many_unlapped>},
        {"many_killed", run<many_killed>},
        {"succession_of_many", run<succession_of_many>},
        {"heir", run<heir>},
        {"leaving", run<leaving>},
        {"again", run<again>},
        {"joining", run<joining>},
        {"runs", run<runs>},
        {"doorbell", run<doorbell>},
        {"ending", run<ending>},
        {"seqlock", run<seqlock>},
        {"vector_single", run<vector_single>},
        {"vector_many", run<vector_many>},
        {"vector_killed", run<vector_killed>},
    };
    for (const auto &scenario : scenarios)
        if (count >= 3 && !strcmp(arguments[1], scenario.name)) {
            proof_twin = count > 3 ? atoi(arguments[3]) : 0;
            return scenario.run(strtoul(arguments[2], NULL, 10));
        }
    return 2;
}
