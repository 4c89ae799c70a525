/* The tape: every record whole and in its order, none lost uncounted, whoever is killed; and twins that do not look twice,
 * or not early enough, are caught. */
// threads
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "check.h"
#include "mantra/tape.h"

enum { LONGEST = 1 << 16, CAPACITY = 1 << 13 };

static mantra_tape tape;
static _Atomic bool ended;
static bool careless;

static mantra_tape
tape_of(uint64_t capacity)
{
    uint8_t *memory = mmap(NULL, mantra_tape_bytes(capacity), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    return mantra_tape_attach(memory, capacity);
}

/* A record's text follows from its number: its length, and each of its bytes. */
static size_t
text_of(uint64_t number, uint8_t *text)
{
    uint64_t seed = number;
    const size_t size = check_random(&seed) % (number % 16 ? 300 : CAPACITY / 2 - 24 + 8); /* now and then too long */
    for (size_t i = 0; i < size; i++)
        text[i] = (uint8_t)(number * 7 + i);
    return size;
}

static bool
is_whole(const mantra_tape_record *record, const uint8_t *text)
{
    static _Thread_local uint8_t expected[LONGEST];
    const size_t size = text_of(record->number, expected);
    if (record->kind == MANTRA_TAPE_HOLE)
        return record->argument == MANTRA_TAPE_TOO_LONG && mantra_tape_span(size) > CAPACITY / 2;
    return record->kind == MANTRA_TAPE_MESSAGE && record->origin == record->number * 3 && record->size == size &&
           memcmp(text, expected, size) == 0;
}

static void *
write_all(void *records)
{
    static uint8_t text[LONGEST];
    mantra_tape_writer writer, second;
    CHECK(!mantra_tape_open(&writer, &tape, 0) && mantra_tape_open(&second, &tape, 0) == -1);
    for (uint64_t n = 0; n < *(uint64_t *)records; n++)
        mantra_tape_write(&writer, MANTRA_TAPE_MESSAGE, 7, 1, writer.number * 3, text, text_of(writer.number, text));
    mantra_tape_close(&writer);
    atomic_store(&ended, true);
    return NULL;
}

/* What mantra_tape_read() is when it does not look again behind reading the text. */
static int
read_carelessly(mantra_tape_reader *reader, mantra_tape_record *record, void *text)
{
    if (reader->position == atomic_load_explicit(&tape.header->written, memory_order_acquire))
        return MANTRA_TAPE_NOTHING;
    mantra_tape_get(&tape, reader->position, record, MANTRA_TAPE_HEAD);
    if (!mantra_tape_intact(&tape, reader->position))
        return mantra_tape_lapped(reader);
    sched_yield(); /* so that it is caught soon */
    mantra_tape_get(&tape, reader->position + sizeof *record, text, mantra_round_up(record->size, 8) / 8);
    reader->position += mantra_tape_span(record->size);
    reader->expected = UINT64_MAX;
    return MANTRA_TAPE_RECORD;
}

static void *
read_all(void *torn_)
{
    static _Thread_local uint8_t text[LONGEST];
    uint64_t *torn = torn_, read = 0, bytes = 0;
    mantra_tape_record record;
    mantra_tape_reader reader = mantra_tape_reader_at(&tape, false);
    const uint64_t from = reader.position;
    for (;;) {
        const bool last = atomic_load(&ended);
        const int got = careless ? read_carelessly(&reader, &record, text) : mantra_tape_read(&reader, &record, text, LONGEST);
        if (got == MANTRA_TAPE_NOTHING && last)
            break;
        if (got != MANTRA_TAPE_RECORD) {
            sched_yield();
            continue;
        }
        *torn += !is_whole(&record, text);
        read++;
        bytes += mantra_tape_span(record.size);
        if (!careless) {
            CHECK(record.book == 7 || record.kind == MANTRA_TAPE_HOLE);
            CHECK(from || reader.lost + read == record.number + 1);
            CHECK(from + bytes + reader.lost_bytes == reader.position);
        }
    }
    return NULL;
}

static uint64_t
stress(uint64_t records, bool twin)
{
    pthread_t threads[3];
    uint64_t torn[2] = {0, 0};
    tape = tape_of(CAPACITY);
    careless = twin;
    atomic_store(&ended, false);
    pthread_create(&threads[0], NULL, read_all, &torn[0]);
    pthread_create(&threads[1], NULL, read_all, &torn[1]);
    pthread_create(&threads[2], NULL, write_all, &records);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    return torn[0] + torn[1];
}

/* Writers killed at random moments, each followed by another: what was written is there, what was begun is a hole. */
static void
killed_writers(int times)
{
    static uint8_t text[LONGEST];
    uint64_t seed = (uint64_t)getpid(), read = 0, killed = 0;
    mantra_tape_record record;
    tape = tape_of(CAPACITY);
    mantra_tape_reader reader = mantra_tape_reader_at(&tape, false);
    for (int i = 0; i < times; i++) {
        uint64_t records = UINT64_MAX;
        const pid_t pid = fork();
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            write_all(&records);
        }
        for (uint64_t until = tape.header->written + check_random(&seed) % 50000; tape.header->written < until;)
            sched_yield();
        kill(pid, SIGKILL);
        CHECK(waitpid(pid, NULL, 0) == pid);
        for (int got; (got = mantra_tape_read(&reader, &record, text, LONGEST)) != MANTRA_TAPE_NOTHING;)
            if (got == MANTRA_TAPE_RECORD) {
                const bool hole = record.kind == MANTRA_TAPE_HOLE && record.argument == MANTRA_TAPE_KILLED;
                CHECK(hole || is_whole(&record, text));
                CHECK(reader.lost + ++read == record.number + 1);
                killed += hole;
            }
        CHECK(reader.position == tape.header->written);
    }
    CHECK(read > 0 && killed <= (uint64_t)times);
}

/* Killed between any two of its stores. */
static void
killed_writer(void)
{
    static uint8_t text[LONGEST];
    mantra_tape_record record;
    mantra_tape_writer first, second;
    tape = tape_of(MANTRA_TAPE_LEAST);
    mantra_tape_reader reader = mantra_tape_reader_at(&tape, false);
    CHECK(!mantra_tape_open(&first, &tape, 1));
    mantra_tape_write(&first, MANTRA_TAPE_SENT, 0, 1, 5, "hello", 5);
    atomic_store(&tape.header->claimed, first.position + 1000);
    mantra_tape_put(&tape, first.position, text, 20);
    atomic_store(&tape.header->writers.identity[0], ((UINT64_C(2) << 42) - 1)); /* pid 1, of another time */
    CHECK(!mantra_tape_open(&second, &tape, 9) && second.claimed == first.position + 1000);
    CHECK(mantra_tape_read(&reader, &record, text, 4) == MANTRA_TAPE_NO_ROOM && record.size == 5);
    CHECK(mantra_tape_read(&reader, &record, text, 8) == MANTRA_TAPE_RECORD && !memcmp(text, "hello", 5));
    CHECK(mantra_tape_read(&reader, &record, text, 16) == MANTRA_TAPE_RECORD && record.kind == MANTRA_TAPE_HOLE);
    CHECK(record.argument == MANTRA_TAPE_KILLED && record.origin == 9 && reader.lost == 0);
    CHECK(mantra_tape_read(&reader, &record, text, 16) == MANTRA_TAPE_NOTHING);
    mantra_tape_close(&second);
    CHECK(!mantra_tape_open(&first, &tape, 1)); /* somebody claimed more than was written: one more hole, at worst */
}

int
main(void)
{
    CHECK(stress(100000, false) == 0);
    uint64_t caught = 0;
    for (int attempt = 0; attempt < 50 && !caught; attempt++)
        caught = stress(20000, true);
    CHECK(caught > 0); /* the test sees torn records where there are any */
    killed_writers(50);
    killed_writer();
    return 0;
}
