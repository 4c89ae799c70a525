// threads
/* Books against a slow ladder indexed by price; growth; images; and a reader beside a writer. */
#include <pthread.h>

#include "check.h"
#include "mantra/book.h"
#include "mantra/top.h"

#define PRICES 512

/* Is the book what it must be: counts within capacity, sorted, no empty level? For the writer, between messages. */
static inline bool
mantra_book_sound(const mantra_book *book)
{
    if (MANTRA_BOOK_GET(book, version) & 1 || MANTRA_BOOK_GET(book, capacity) > MANTRA_BOOK_GET(book, ceiling))
        return false;
    for (size_t side = 0; side < 2; side++) {
        const mantra_level *levels = mantra_book_side(book, side);
        const uint32_t count = MANTRA_BOOK_GET(book, count[side]);
        if (count > MANTRA_BOOK_GET(book, capacity))
            return false;
        for (size_t i = 0; i < count; i++) {
            const int64_t price = mantra_level_price(&levels[i]);
            if (mantra_level_size(&levels[i]) <= 0)
                return false;
            if (i > 0 && (price ^ -(int64_t)side) <= (mantra_level_price(&levels[i - 1]) ^ -(int64_t)side))
                return false;
        }
    }
    return true;
}

static uint64_t seed = 42;

static int64_t
draw(uint64_t below)
{
    return (int64_t)(check_random(&seed) % below);
}

static mantra_book
make(uint32_t capacity, uint32_t ceiling)
{
    mantra_book book;
    void *memory = aligned_alloc(64, mantra_round_up(mantra_book_bytes(ceiling), 64));
    CHECK(memory != NULL);
    memset(memory, 0, mantra_book_bytes(ceiling));
    mantra_book_init(&book, memory, capacity, ceiling, 7, 1);
    return book;
}

/* size by price; the rank of a price is counted the slow way */
static int64_t ladder[2][PRICES];

static int
slow_apply(size_t side, int64_t price, int64_t size)
{
    const int64_t before = ladder[side][price];
    if (size == 0 && before == 0)
        return MANTRA_BOOK_ABSENT;
    if (size == before)
        return MANTRA_BOOK_SAME;
    ladder[side][price] = size;
    int rank = 0;
    for (int64_t p = 0; p < PRICES; p++)
        rank += ladder[side][p] != 0 && (side == 0 ? p > price : p < price);
    return rank;
}

static void
equals_ladder(const mantra_book *book)
{
    static int64_t rows[2][PRICES][2];
    mantra_book_image image = {.levels = {rows[0], rows[1]}, .room = PRICES};
    CHECK(mantra_book_copy(book, &image, 1) == 0);
    CHECK(mantra_book_sound(book));
    for (size_t side = 0; side < 2; side++) {
        uint32_t at = 0;
        for (int64_t i = 0; i < PRICES; i++) {
            const int64_t price = side == 0 ? PRICES - 1 - i : i;
            if (ladder[side][price] == 0)
                continue;
            CHECK(at < image.copied[side] && rows[side][at][0] == price && rows[side][at][1] == ladder[side][price]);
            at++;
        }
        CHECK(at == image.copied[side] && at == image.count[side]);
    }
    mantra_top top;
    mantra_top_fill(&top, book);
    CHECK(top.bid_count == (image.count[0] < 10 ? image.count[0] : 10) && top.instrument == 7 && top.venue == 1);
    for (size_t i = 0; i < MANTRA_DEPTH; i++) {
        CHECK(top.bid_price[i] == (i < top.bid_count ? rows[0][i][0] : 0));
        CHECK(top.ask_size[i] == (i < top.ask_count ? rows[1][i][1] : 0));
    }
    /* What the writer publishes is that top, in both places, whatever was there before. */
    enum { WORDS = sizeof top / 8 };
    _Atomic uint64_t slots[2][WORDS];
    uint64_t head[WORDS], read[WORDS];
    memcpy(head, &top, sizeof top);
    memset(slots, 0xee, sizeof slots);
    mantra_top_store(book, head, slots[0], slots[1]);
    for (int i = 0; i < 2; i++) {
        mantra_words_load(slots[i], read, WORDS);
        CHECK(memcmp(read, &top, sizeof top) == 0);
    }
}

static void
book_equals_the_slow_ladder_after_any_walk(void)
{
    for (int walk = 0; walk < 16; walk++) {
        mantra_book book = make(4, PRICES);
        memset(ladder, 0, sizeof ladder);
        const uint64_t spread = 8 + (uint64_t)draw(PRICES - 8);
        for (int step = 0; step < 3000; step++) {
            const size_t side = (size_t)draw(2);
            const int64_t price = draw(spread), size = draw(3);
            CHECK(mantra_book_room(&book, 1) == 0 || MANTRA_BOOK_GET(&book, count[side]) == PRICES);
            mantra_book_begin(&book);
            CHECK(mantra_book_apply(&book, (uint8_t)(MANTRA_BID + side), price, size) == slow_apply(side, price, size));
            mantra_book_end(&book);
            if (step % 100 == 0)
                equals_ladder(&book);
        }
        equals_ladder(&book);
        free(book.header);
    }
}

static void
image_in_any_order_equals_its_levels(void)
{
    mantra_change changes[300];
    for (int order = 0; order < 3; order++) {
        mantra_book book = make(4, PRICES);
        memset(ladder, 0, sizeof ladder);
        for (int i = 0; i < 300; i++) {
            const int64_t price = order == 0 ? draw(PRICES) : order == 1 ? i / 2 : 299 - i / 2;
            changes[i] = (mantra_change){price, draw(3), (uint8_t)(MANTRA_BID + i % 2)};
            if (changes[i].size != 0) /* the last one counts */
                ladder[i % 2][price] = changes[i].size;
        }
        mantra_book_begin(&book);
        CHECK(mantra_book_load(&book, changes, 300) == 0);
        mantra_book_end(&book);
        equals_ladder(&book);
        free(book.header);
    }
}

static void
book_refuses_what_is_past_its_ceiling_and_stays_as_it_was(void)
{
    mantra_book book = make(2, 8);
    mantra_change changes[9];
    for (int i = 0; i < 9; i++)
        changes[i] = (mantra_change){i + 1, 1, MANTRA_BID};
    mantra_book_begin(&book);
    CHECK(mantra_book_load(&book, changes, 8) == 0 && MANTRA_BOOK_GET(&book, growths) == 1);
    CHECK(mantra_book_load(&book, changes, 9) == MANTRA_BOOK_FULL);
    CHECK(mantra_book_apply(&book, MANTRA_BID, 9, 1) == MANTRA_BOOK_FULL);
    CHECK(mantra_book_apply(&book, MANTRA_BID, 8, 2) == 0);
    mantra_book_end(&book);
    CHECK(mantra_book_room(&book, 1) == MANTRA_BOOK_FULL && mantra_book_sound(&book));
    int64_t price, size;
    CHECK(mantra_book_best(&book, MANTRA_BID, &price, &size) && price == 8 && size == 2);
    CHECK(!mantra_book_best(&book, MANTRA_ASK, &price, &size) && !mantra_book_crossed(&book));
    mantra_book_begin(&book);
    CHECK(mantra_book_apply(&book, MANTRA_ASK, INT64_MAX, 1) == 0 && mantra_book_apply(&book, MANTRA_ASK, 8, 1) == 0);
    mantra_book_end(&book);
    CHECK(mantra_book_crossed(&book) && mantra_book_sound(&book));
    free(book.header);
}

/* Every level of message n has size n, and so has the sequence: a copy that mixes messages shows. */
static _Atomic bool done;

static void *
write_messages(void *argument)
{
    mantra_book *book = argument;
    for (int64_t n = 1; n <= 20000; n++) {
        CHECK(mantra_book_room(book, 2) == 0);
        mantra_book_begin(book);
        const int64_t levels = 1 + n / 400;
        for (int64_t price = 0; price < levels; price++)
            for (uint8_t kind = MANTRA_BID; kind <= MANTRA_ASK; kind++)
                mantra_book_apply(book, kind, price, n);
        mantra_book_stamp(book, (uint64_t)n, n, (uint64_t)n);
        mantra_book_end(book);
    }
    atomic_store(&done, true);
    return NULL;
}

static void
reader_beside_a_writer_sees_whole_messages_only(void)
{
    static int64_t rows[2][128][2];
    mantra_book book = make(1, 128);
    mantra_book_image image = {.levels = {rows[0], rows[1]}, .room = 128};
    pthread_t writer;
    CHECK(pthread_create(&writer, NULL, write_messages, &book) == 0);
    bool last;
    do {
        last = atomic_load(&done);
        if (mantra_book_copy(&book, &image, 1000) != 0)
            continue;
        CHECK(image.count[0] == image.count[1] && image.position == image.sequence);
        for (size_t side = 0; side < 2; side++)
            for (uint32_t i = 0; i < image.count[side]; i++)
                CHECK(rows[side][i][1] == (int64_t)image.sequence);
    } while (!last);
    CHECK(pthread_join(writer, NULL) == 0 && image.sequence == 20000);
    CHECK(mantra_book_sound(&book) && MANTRA_BOOK_GET(&book, growths) == 6);
    free(book.header);
}

int
main(void)
{
    book_equals_the_slow_ladder_after_any_walk();
    image_in_any_order_equals_its_levels();
    book_refuses_what_is_past_its_ceiling_and_stays_as_it_was();
    reader_beside_a_writer_sees_whole_messages_only();
    return 0;
}
