/* tape.h - all that a feed is told and says, byte for byte: a broadcast ring of records of any length.
 *
 *   0         64                  576       2624
 *   | claimed | where records     | writers | bytes ... capacity (a power of two), around and around ...
 *   | written | begin: 64 marks   |
 *   | number  |
 *
 *   record    | origin 8 | number 8 | size 4 | book 2 | kind 1 | argument 1 | text ... to a multiple of 8
 *
 * One producer, the connection's thread; it waits for nobody. Any reader, of any process, sees every record, unless it is
 * lapped: then it knows by how many bytes and records, and goes on at the oldest mark (the first record that begins in each
 * 64th of the ring). Positions count bytes for ever; words are relaxed atomics, as in seqlock.h, and wrap around the end.
 *
 *   producer                                reader, at r
 *   claimed = end         (relaxed)         r < written?        (acquire: pairs with the release below)
 *   fence                 (release) --.     words               (relaxed)
 *   words                 (relaxed)    `->  fence               (acquire: who saw any newer word ...)
 *   written = end         (release)         claimed - r > capacity?     (relaxed: ... sees that it was claimed: lapped)
 *
 * A producer killed anywhere leaves what was written readable; who takes its place says that a record is missing. A record
 * longer than half the ring is not kept, and that is said too. gnu11, as region.h is. */
#ifndef MANTRA_TAPE_H
#define MANTRA_TAPE_H

#include "mantra/region.h"
#include "mantra/seqlock.h"
#include "mantra/writers.h"

/* What a record is: KIND(name, number, what `book`, `argument` and the text are). Their numbers are written to disk. */
#define MANTRA_TAPE_KINDS(KIND)                                                                                        \
    KIND(MESSAGE, 1, "a frame came: opcode, payload")                                                                  \
    KIND(SENT, 2, "a frame was sent: opcode, payload")                                                                 \
    KIND(OPENED, 3, "the connection is up: JSON of what it is")                                                        \
    KIND(CLOSED, 4, "it is gone: reason")                                                                              \
    KIND(REST, 5, "an answer came: book, what it was for, url, newline, body")                                         \
    KIND(HOLE, 6, "records are missing: why, how many, their bytes")                                                   \
    KIND(SUSPECT, 7, "faith in a book was lost: book, reason")                                                         \
    KIND(LOOKED, 8, "a second look at it: book, did it agree?")                                                        \
    KIND(REFUSED, 9, "the venue does not serve it: book")                                                              \
    KIND(EXPECTED, 10, "it was asked for again: book")                                                                 \
    KIND(RESCALED, 11, "it goes on, on another scale: book, JSON")                                                     \
    KIND(STALE, 12, "nothing was heard for too long")                                                                  \
    KIND(FRESH, 13, "something was heard again")                                                                       \
    KIND(TIMED, 14, "books were looked at by the clock")                                                               \
    KIND(ADOPTED, 15, "it goes on over its successor's connection: JSON")

enum {
#define MANTRA_TAPE_ENUM(name, number, text) MANTRA_TAPE_##name = (number),
    MANTRA_TAPE_KINDS(MANTRA_TAPE_ENUM)
};

enum { MANTRA_TAPE_LOOK = 0, MANTRA_TAPE_SPLICE = 1, MANTRA_TAPE_SETTLED = 2 };     /* what a REST answer was for */
enum { MANTRA_TAPE_LAPPED = 1, MANTRA_TAPE_TOO_LONG = 2, MANTRA_TAPE_KILLED = 3 };  /* why there is a hole */

typedef struct mantra_tape_record {
    uint64_t origin; /* cycles */
    uint64_t number; /* in its ring */
    uint32_t size;   /* of the text */
    uint16_t book;
    uint8_t kind, argument;
} mantra_tape_record;
_Static_assert(sizeof(mantra_tape_record) == 24, "three words");

#define MANTRA_TAPE_HEAD (sizeof(mantra_tape_record) / 8)
#define MANTRA_TAPE_MARKS 64u
#define MANTRA_TAPE_LEAST 4096u

typedef struct mantra_tape_header {
    _Atomic uint64_t claimed, written; /* positions: overwritten may be what is before claimed, read what is before written */
    _Atomic uint64_t number;           /* of the next record */
    uint8_t rest_of_line[MANTRA_CACHE_LINE - 24];
    _Atomic uint64_t marks[MANTRA_TAPE_MARKS];
    mantra_writers writers;
} mantra_tape_header;
_Static_assert(sizeof(mantra_tape_header) == 576 + 8 * MANTRA_WRITERS, "as drawn");

typedef struct mantra_tape {
    mantra_tape_header *header;
    _Atomic uint64_t *words;
    uint64_t capacity; /* bytes */
    uint32_t section;  /* a mark's share of them is 1 << section */
} mantra_tape;

static inline size_t
mantra_tape_bytes(uint64_t capacity)
{
    return sizeof(mantra_tape_header) + (size_t)capacity;
}

/* Over zeroed memory of mantra_tape_bytes, or what another process made there; `capacity`: a power of two, MANTRA_TAPE_LEAST
 * at least. */
static inline mantra_tape
mantra_tape_attach(uint8_t *memory, uint64_t capacity)
{
    return (mantra_tape){
        .header = (mantra_tape_header *)(void *)memory,
        .words = (_Atomic uint64_t *)(void *)(memory + sizeof(mantra_tape_header)),
        .capacity = capacity,
        .section = (uint32_t)__builtin_ctzll(capacity / MANTRA_TAPE_MARKS),
    };
}

static inline size_t
mantra_tape_span(size_t text_size)
{
    return sizeof(mantra_tape_record) + mantra_round_up(text_size, 8);
}

/* ---- writing */

typedef struct mantra_tape_writer {
    mantra_tape tape;
    uint64_t position, claimed, number, section;
} mantra_tape_writer;

static inline void
mantra_tape_put(const mantra_tape *tape, uint64_t at, const void *from, size_t words)
{
    const size_t room = tape->capacity / 8, begin = at / 8 & (room - 1), first = mantra_min_u64(words, room - begin);
    mantra_words_store(tape->words + begin, from, first);
    if (MANTRA_UNLIKELY(first < words))
        mantra_words_store(tape->words, (const char *)from + 8 * first, words - first);
}

static inline void
mantra_tape_write(mantra_tape_writer *writer, uint8_t kind, uint16_t book, uint8_t argument, uint64_t origin,
                  const void *text, size_t size)
{
    const mantra_tape *tape = &writer->tape;
    const uint64_t lost[2] = {1, size};
    if (MANTRA_UNLIKELY(mantra_tape_span(size) > tape->capacity / 2)) {
        kind = MANTRA_TAPE_HOLE;
        argument = MANTRA_TAPE_TOO_LONG;
        text = lost;
        size = sizeof lost;
    }
    const uint64_t from = writer->position, end = from + mantra_tape_span(size);
    const mantra_tape_record record = {origin, writer->number, (uint32_t)size, book, kind, argument};
    if (MANTRA_LIKELY(end > writer->claimed)) /* a dead producer may have claimed more */
        atomic_store_explicit(&tape->header->claimed, writer->claimed = end, memory_order_relaxed);
    atomic_thread_fence(memory_order_release); /* readers must see the claim before they can see any new word */
    if (MANTRA_UNLIKELY(from >> tape->section != writer->section)) {
        writer->section = from >> tape->section;
        mantra_word_store(&tape->header->marks[writer->section % MANTRA_TAPE_MARKS], from);
    }
    mantra_tape_put(tape, from, &record, MANTRA_TAPE_HEAD);
    mantra_tape_put(tape, from + sizeof record, text, size / 8);
    if (size % 8) {
        uint64_t tail = 0;
        memcpy(&tail, (const char *)text + size / 8 * 8, size % 8);
        mantra_tape_put(tape, end - 8, &tail, 1);
    }
    mantra_word_store(&tape->header->number, ++writer->number);
    atomic_store_explicit(&tape->header->written, writer->position = end, memory_order_release);
}

/* Become the producer. -1: there is one, alive. What a dead one had begun is a hole, and claimed only ever grows. */
static inline int
mantra_tape_open(mantra_tape_writer *writer, const mantra_tape *tape, uint64_t now)
{
    bool inherited = false;
    if (mantra_writers_join(&tape->header->writers, 1, &inherited) < 0)
        return -1;
    *writer = (mantra_tape_writer){
        .tape = *tape,
        .position = atomic_load_explicit(&tape->header->written, memory_order_acquire),
        .claimed = atomic_load_explicit(&tape->header->claimed, memory_order_relaxed),
        .number = atomic_load_explicit(&tape->header->number, memory_order_relaxed),
        .section = UINT64_MAX,
    };
    if (writer->claimed > writer->position) {
        const uint64_t lost[2] = {1, writer->claimed - writer->position};
        mantra_tape_write(writer, MANTRA_TAPE_HOLE, 0, MANTRA_TAPE_KILLED, now, lost, sizeof lost);
    }
    return 0;
}

/* Give the place back; a no-op in a forked child, which never had it. */
static inline void
mantra_tape_close(mantra_tape_writer *writer)
{
    mantra_writers_leave(&writer->tape.header->writers, 0);
}

/* ---- reading */

typedef struct mantra_tape_reader {
    mantra_tape tape;
    uint64_t position;
    uint64_t expected;         /* number of the next record; UINT64_MAX: any */
    uint64_t lost, lost_bytes; /* records that were overwritten before they were read */
} mantra_tape_reader;

enum { MANTRA_TAPE_NOTHING = 0, MANTRA_TAPE_RECORD = 1, MANTRA_TAPE_OVERRUN = -1, MANTRA_TAPE_NO_ROOM = -2 };

static inline void
mantra_tape_get(const mantra_tape *tape, uint64_t at, void *to, size_t words)
{
    const size_t room = tape->capacity / 8, begin = at / 8 & (room - 1), first = mantra_min_u64(words, room - begin);
    mantra_words_load(tape->words + begin, to, first);
    if (MANTRA_UNLIKELY(first < words))
        mantra_words_load(tape->words, (char *)to + 8 * first, words - first);
}

/* Was nothing of what was loaded from `at` on overwritten by then? */
static inline bool
mantra_tape_intact(const mantra_tape *tape, uint64_t at)
{
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(&tape->header->claimed, memory_order_relaxed) - at <= tape->capacity;
}

/* The oldest record worth starting from: the first, before the first lap; then the first mark behind an eighth of the ring,
 * as a head start. */
static inline uint64_t
mantra_tape_oldest(const mantra_tape *tape)
{
    const uint64_t written = atomic_load_explicit(&tape->header->written, memory_order_acquire);
    const uint64_t claimed = atomic_load_explicit(&tape->header->claimed, memory_order_relaxed);
    const uint64_t safe = tape->capacity - tape->capacity / 8;
    const uint64_t from = claimed > tape->capacity ? mantra_min_u64(claimed - safe, written) : 0;
    for (uint64_t section = from >> tape->section; section <= written >> tape->section; section++) {
        const uint64_t mark =
            atomic_load_explicit(&tape->header->marks[section % MANTRA_TAPE_MARKS], memory_order_relaxed);
        if (mark >> tape->section == section && mark >= from && mark < written)
            return mark;
    }
    return written;
}

/* Read on from the oldest record, or (`newest`) only what comes. */
static inline mantra_tape_reader
mantra_tape_reader_at(const mantra_tape *tape, bool newest)
{
    const uint64_t from = newest ? atomic_load_explicit(&tape->header->written, memory_order_acquire)
                                 : mantra_tape_oldest(tape);
    return (mantra_tape_reader){*tape, from, from ? UINT64_MAX : 0, 0, 0};
}

static inline int
mantra_tape_lapped(mantra_tape_reader *reader)
{
    const uint64_t oldest = mantra_tape_oldest(&reader->tape);
    reader->lost_bytes += oldest - reader->position;
    reader->position = oldest;
    return MANTRA_TAPE_OVERRUN;
}

/* The next record, and its text if that, rounded up to words, fits into `room`. OVERRUN: it was lapped, and goes on further
 * on; `lost` says how many records when the next one has been read. */
static inline int
mantra_tape_read(mantra_tape_reader *reader, mantra_tape_record *record, void *text, size_t room)
{
    const mantra_tape *tape = &reader->tape;
    const uint64_t at = reader->position;
    if (at == atomic_load_explicit(&tape->header->written, memory_order_acquire))
        return MANTRA_TAPE_NOTHING;
    mantra_tape_get(tape, at, record, MANTRA_TAPE_HEAD);
    if (MANTRA_UNLIKELY(!mantra_tape_intact(tape, at)))
        return mantra_tape_lapped(reader);
    const size_t size = mantra_round_up(record->size, 8);
    if (MANTRA_UNLIKELY(size > room))
        return MANTRA_TAPE_NO_ROOM;
    mantra_tape_get(tape, at + sizeof *record, text, size / 8);
    if (MANTRA_UNLIKELY(!mantra_tape_intact(tape, at)))
        return mantra_tape_lapped(reader);
    reader->position = at + sizeof *record + size;
    if (MANTRA_UNLIKELY(record->number != reader->expected && reader->expected != UINT64_MAX))
        reader->lost += record->number - reader->expected;
    reader->expected = record->number + 1;
    return MANTRA_TAPE_RECORD;
}

#endif
