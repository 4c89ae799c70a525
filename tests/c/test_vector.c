/* The vector and the seqlock: never torn, never older than before, never waiting for a writer that stopped; the twin that
 * does not check is caught. */
// threads
#include <pthread.h>

#include "check.h"
#include "mantra/vector.h"

#define WORDS 47
#define SLOT_BYTES (8 * (WORDS + 1))

static _Alignas(64) uint8_t memory[sizeof(mantra_vector_header) + 2 * SLOT_BYTES];
static _Alignas(64) _Atomic uint64_t locked[1 + WORDS]; /* as a mantra_seqlock */
static mantra_vector vector;
static _Atomic bool stop;

static void *
write_on(void *unused)
{
    uint64_t message[WORDS];
    for (uint64_t n = 1; !atomic_load(&stop); n++) {
        for (uint64_t word = 0; word < WORDS; word++)
            message[word] = n + word;
        mantra_vector_write(&vector, 0, message);
        mantra_seqlock_write((mantra_seqlock *)(void *)locked, message, WORDS);
    }
    return unused;
}

static uint64_t
torn(const uint64_t *message)
{
    for (uint64_t word = 1; word < WORDS; word++)
        if (message[word] != message[0] + word)
            return 1;
    return 0;
}

static uint64_t
read_on(int reads, bool twin)
{
    uint64_t message[WORDS] = {0}, last = 0, found = 0;
    const mantra_seqlock *lock = (const mantra_seqlock *)(void *)locked;
    for (int i = 0; i < reads; i++) {
        if (twin) {
            mantra_words_load(lock->words, message, WORDS);
            found += message[0] && torn(message);
            continue;
        }
        uint64_t version = mantra_vector_read(&vector, 0, message);
        CHECK(version == 0 || (message[0] == version && !torn(message)));
        CHECK(version >= last);
        last = version;
        uint64_t seen = mantra_seqlock_read(lock, message, WORDS);
        CHECK(seen == UINT64_MAX || seen == 0 || (message[0] == seen / 2 && !torn(message)));
    }
    return found;
}

static void *
reader(void *unused)
{
    read_on(50000, false);
    return unused;
}

int
main(void)
{
    pthread_t writer, other;
    uint64_t message[WORDS] = {7}, seen[WORDS];
    vector = mantra_vector_attach(memory, 1, SLOT_BYTES);
    CHECK(mantra_vector_read(&vector, 0, seen) == 0 && mantra_vector_version(&vector, 0) == 0);

    pthread_create(&writer, NULL, write_on, NULL);
    pthread_create(&other, NULL, reader, NULL);
    read_on(50000, false);
    uint64_t caught = 0;
    for (int attempt = 0; attempt < 500 && !caught; attempt++)
        caught = read_on(10000, true);
    CHECK(caught > 0);
    pthread_join(other, NULL);
    atomic_store(&stop, true);
    pthread_join(writer, NULL);

    /* A writer that died half-way leaves the value before, and its successor carries on. */
    for (int i = 0; i < 4; i++) {
        uint64_t before = mantra_vector_version(&vector, 0);
        mantra_vector_write(&vector, 0, message);
        CHECK(mantra_vector_version(&vector, 0) == before + 1);
        mantra_seqlock *next = mantra_vector_copy(&vector, 0, before + 2);
        atomic_store(&next->version, (before + 2) << MANTRA_NUMBER_SHIFT | MANTRA_WRITING);
        atomic_store(&next->words[0], 99);
        CHECK(mantra_vector_read(&vector, 0, seen) == before + 1 && seen[0] == 7);
        mantra_vector_write(&vector, 0, message);
        CHECK(mantra_vector_read(&vector, 0, seen) == before + 4 && seen[0] == 7); /* before + 2 was given up */
    }
    mantra_seqlock *lock = (mantra_seqlock *)(void *)locked;
    mantra_seqlock_begin(lock);
    CHECK(mantra_seqlock_read(lock, seen, WORDS) == UINT64_MAX);
    mantra_seqlock_write(lock, message, WORDS); /* the successor of one killed in there */
    CHECK(mantra_seqlock_read(lock, seen, WORDS) % 2 == 0 && seen[0] == 7);
    return 0;
}
