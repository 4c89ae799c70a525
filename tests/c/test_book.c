// threads
/* Books against slow ladders indexed by price; deep ones, with holes; growth; images; and readers beside a writer. */
#include <pthread.h>

#include "check.h"
#include "mantra/promote.h"
#include "mantra/top.h"

#define PRICES 512

/* Is the book what it must be: counts within capacity, prices in order, holes counted, in the deep part only and behind
 * the level of their price? For the writer. */
static inline bool
mantra_book_sound(const mantra_book *book)
{
    const uint32_t capacity = MANTRA_BOOK_GET(book, capacity);
    if (capacity > MANTRA_BOOK_GET(book, ceiling))
        return false;
    for (size_t side = 0; side < 2; side++) {
        const mantra_level *levels = mantra_book_side(book, side);
        const uint32_t count = MANTRA_BOOK_GET(book, count[side]), deep = MANTRA_BOOK_GET(book, deep[side]);
        const uint32_t near = count - deep, full = MANTRA_BOOK_GET(book, full[side]);
        if (count > full || full > capacity || deep > count || near > 4 * MANTRA_BOOK_NEAR ||
            (deep && near < MANTRA_BOOK_NEAR))
            return false;
        uint32_t holes = 0;
        for (size_t i = 0; i < count; i++) {
            const int64_t key = mantra_level_price(&levels[i]) ^ -(int64_t)side, size = mantra_level_size(&levels[i]);
            const int64_t worse = i > 0 ? mantra_level_price(&levels[i - 1]) ^ -(int64_t)side : 0;
            holes += size == 0;
            if (size < 0 || (size == 0 && i >= deep) || (i > 0 && (size == 0 ? key < worse : key <= worse)))
                return false;
        }
        if (holes != MANTRA_BOOK_GET(book, holes[side]))
            return false;
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

/* size by price of a deep book */
enum { DEEP = 5000 };
static int64_t sizes[2][DEEP];

static void
equals_sizes(mantra_book *book)
{
    static int64_t rows[2][DEEP][2];
    mantra_book_image image = {.levels = {rows[0], rows[1]}, .room = DEEP};
    CHECK(mantra_book_sound(book) && mantra_book_copy(book, &image, 1) == 0);
    for (size_t side = 0; side < 2; side++) {
        const uint8_t kind = (uint8_t)(MANTRA_BID + side);
        uint32_t at = 0;
        int64_t price, size;
        for (int64_t i = 0; i < DEEP; i++) {
            const int64_t here = side == 0 ? DEEP - 1 - i : i;
            CHECK(mantra_book_size(book, kind, here) == sizes[side][here]);
            if (sizes[side][here] == 0)
                continue;
            CHECK(at < image.copied[side] && rows[side][at][0] == here && rows[side][at][1] == sizes[side][here]);
            CHECK(at % 97 || (mantra_book_rank(book, kind, at, &price, &size) && price == here && size == rows[side][at][1]));
            at++;
        }
        CHECK(at == image.copied[side] && at == image.count[side] && at == mantra_book_count(book, side));
        CHECK(!mantra_book_rank(book, kind, at, &price, &size));
        if (at > 0 && draw(8) == 0) /* it may squeeze */
            CHECK(mantra_book_worst(book, kind) == rows[side][at - 1][0] && mantra_book_sound(book));
    }
}

/* Bursts of changes near one another, anywhere or of the best, that put in, take out or both, or replace all: books grow
 * deep, get holes, use up what has none, and are full, holes or not. */
static void
deep_book_equals_its_sizes_after_any_walk(void)
{
    uint32_t holes = 0, full = 0, drawn = 0, squeezed = 0;
    for (int walk = 0; walk < 4; walk++) {
        const uint32_t ceiling = walk % 2 ? DEEP : DEEP / 2;
        mantra_book book = make(64, ceiling);
        memset(sizes, 0, sizeof sizes);
        for (int burst = 0; burst < 120; burst++) {
            const size_t side = (size_t)draw(2);
            const uint8_t kind = (uint8_t)(MANTRA_BID + side);
            const int64_t width = 1 + draw(burst % 5 ? 400 : 4000), from = draw((uint64_t)(DEEP - width));
            const int64_t stay = draw(10); /* of ten changes, as many leave a level there */
            const bool at_the_best = draw(3) == 0;
            for (int64_t step = 0; step < width; step++) {
                int64_t price = from + draw((uint64_t)width), size = draw(10) < stay ? 1 + draw(9) : 0;
                int64_t best, size_there;
                if (at_the_best && size == 0 && mantra_book_best(&book, kind, &best, &size_there))
                    price = best;
                const int64_t was = sizes[side][price];
                const uint32_t deep = MANTRA_BOOK_GET(&book, deep[side]), held = MANTRA_BOOK_GET(&book, holes[side]);
                const uint32_t levels = mantra_book_count(&book, side), other = mantra_book_count(&book, 1 - side);
                if (size && !was) /* holes take no room that levels need */
                    CHECK((mantra_book_room(&book, 1) == 0) == (levels < ceiling && other < ceiling));
                const int got = mantra_book_apply(&book, kind, price, size);
                if (size && !was && levels == ceiling) {
                    CHECK(got == MANTRA_BOOK_FULL);
                    full++;
                    continue;
                }
                sizes[side][price] = size;
                if (size == was) {
                    CHECK(got == (size ? MANTRA_BOOK_SAME : MANTRA_BOOK_ABSENT));
                } else if (step % 8 == 0) {
                    int rank = 0;
                    for (int64_t p = side ? 0 : price + 1; p < (side ? price : DEEP); p++)
                        rank += sizes[side][p] != 0;
                    CHECK(rank < MANTRA_BOOK_NEAR ? got == rank : got >= rank);
                }
                const uint32_t hold = MANTRA_BOOK_GET(&book, holes[side]);
                holes = holes > hold ? holes : hold;
                drawn += MANTRA_BOOK_GET(&book, deep[side]) < deep;
                squeezed += hold + 1 < held;
                CHECK(step % 128 || mantra_book_sound(&book));
            }
            equals_sizes(&book);
            if (burst % 40 == 39) { /* other levels, in no order */
                static mantra_change changes[DEEP], room[4 * DEEP];
                mantra_decoder decoder = {.changes = room, .change_capacity = 4 * DEEP};
                mantra_book loaded = make(64, DEEP);
                for (int64_t i = 0; i < DEEP; i++) {
                    const int64_t price = i / 2 * 1999 % DEEP;
                    changes[i] = (mantra_change){price, draw(100), (uint8_t)(MANTRA_BID + i % 2)};
                }
                CHECK(mantra_book_load(&loaded, changes, DEEP) == 0);
                CHECK(mantra_feed_differences(&decoder, &loaded, &book) && decoder.change_count > 0);
                for (uint32_t i = 0; i < decoder.change_count; i++) /* what an heir tells of a book with holes */
                    CHECK(mantra_book_apply(&loaded, room[i].kind, room[i].price, room[i].size) >= 0);
                equals_sizes(&loaded);
                CHECK(mantra_feed_differences(&decoder, &book, &loaded) && decoder.change_count == 0);
                free(loaded.header);
                memset(sizes, 0, sizeof sizes);
                for (int64_t i = 0; i < DEEP; i++)
                    sizes[i % 2][changes[i].price] = changes[i].size;
                CHECK(mantra_book_load(&book, changes, DEEP) == 0);
                equals_sizes(&book);
            }
        }
        mantra_book_clear(&book);
        memset(sizes, 0, sizeof sizes);
        equals_sizes(&book);
        free(book.header);
    }
    CHECK(holes > 500 && full > 50 && drawn > 50 && squeezed > 50); /* all of it happened */
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

/* The sequence of every message is the digest of all levels after it: a copy that mixes messages shows. */
static _Atomic int readers;

static uint64_t
digest(size_t side, int64_t price, int64_t size)
{
    uint64_t key = (uint64_t)(price * 2) + side;
    return check_random(&key) * (uint64_t)size;
}

enum { WIDE = 1600 };

/* Until all readers are content: books that grow deep, are taken down to little from anywhere or from the best, and are
 * replaced by a few levels. In between it rests, or no copy would be whole. */
static void *
write_messages(void *argument)
{
    mantra_book *book = argument;
    uint64_t sum = 0;
    for (int n = 0; atomic_load(&readers) > 0; n++) {
        const size_t side = (size_t)draw(2);
        const uint8_t kind = (uint8_t)(MANTRA_BID + side);
        const int64_t width = 1 + draw(64), from = draw((uint64_t)(WIDE - width));
        CHECK(mantra_book_room(book, (size_t)width) == 0);
        mantra_book_begin(book);
        for (int64_t i = 0; i < width; i++) {
            int64_t price = from + draw((uint64_t)width), there, size = n / 250 % 2 ? 0 : 1 + draw(9);
            if (size == 0 && i % 2 && mantra_book_best(book, kind, &price, &there) == false)
                break;
            sum += digest(side, price, size) - digest(side, price, sizes[side][price]);
            sizes[side][price] = size;
            mantra_book_apply(book, kind, price, size);
        }
        if (n % 1000 == 999) {
            const mantra_change few[] = {{1, 1, MANTRA_BID}, {2, 2, MANTRA_ASK}};
            memset(sizes, 0, sizeof sizes);
            sum = digest(0, 1, sizes[0][1] = 1) + digest(1, 2, sizes[1][2] = 2);
            CHECK(mantra_book_load(book, few, 2) == 0);
        }
        mantra_book_stamp(book, sum, n, (uint64_t)n);
        mantra_book_end(book);
        for (int64_t rest = draw(2000); rest > 0; rest--)
            MANTRA_PAUSE();
    }
    return NULL;
}

static void *
read_messages(void *argument)
{
    mantra_row *const levels = malloc(2 * WIDE * sizeof *levels);
    mantra_book_image image = {.levels = {levels, levels + WIDE}, .room = WIDE};
    uint32_t deep = 0, shallow = 0, torn = 0;
    while (deep < 200 || shallow < 200 || torn < 50) {
        if (!mantra_book_try_copy(argument, &image)) {
            torn += image.version % 2 == 0; /* a message began meanwhile */
            continue;
        }
        uint64_t sum = 0;
        for (size_t side = 0; side < 2; side++) {
            CHECK(image.copied[side] == image.count[side]);
            for (uint32_t i = 0; i < image.count[side]; i++)
                sum += digest(side, image.levels[side][i][0], image.levels[side][i][1]);
        }
        CHECK(sum == image.sequence && image.position == (uint64_t)image.venue_time_ns);
        deep += image.count[0] > 4 * MANTRA_BOOK_NEAR;
        shallow += image.count[0] < 2 * MANTRA_BOOK_NEAR;
    }
    atomic_fetch_sub(&readers, 1);
    free(levels);
    return NULL;
}

static void
readers_beside_a_writer_see_whole_messages_only(void)
{
    enum { READERS = 2 };
    mantra_book book = make(1, 2 * DEEP);
    pthread_t writer, reader[READERS];
    atomic_store(&readers, READERS);
    memset(sizes, 0, sizeof sizes);
    for (int i = 0; i < READERS; i++)
        CHECK(pthread_create(&reader[i], NULL, read_messages, &book) == 0);
    CHECK(pthread_create(&writer, NULL, write_messages, &book) == 0);
    for (int i = 0; i < READERS; i++)
        CHECK(pthread_join(reader[i], NULL) == 0);
    CHECK(pthread_join(writer, NULL) == 0);
    equals_sizes(&book);
    free(book.header);
}

int
main(void)
{
    book_equals_the_slow_ladder_after_any_walk();
    deep_book_equals_its_sizes_after_any_walk();
    image_in_any_order_equals_its_levels();
    book_refuses_what_is_past_its_ceiling_and_stays_as_it_was();
    readers_beside_a_writer_see_whole_messages_only();
    return 0;
}
