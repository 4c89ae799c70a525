/* The C half of bench_book.py: one write section per update, best of several passes over the same updates, each from the
 * same start. Standard input: three counts as int64 (levels, updates, passes), then rows of side, price, size. Standard
 * output: ns per update of the book, of a plain array (binary search and memmove, nobody may read it meanwhile), and
 * the final levels, both books having agreed on them. (gnu11: clock_gettime) */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "mantra/book.h"

typedef struct row { int64_t side, price, size; } row;
typedef struct plain { int64_t price, size; } plain;

static plain *sides[2];
static size_t counts[2];

static int
plain_apply(size_t side, int64_t price, int64_t size)
{
    plain *levels = sides[side];
    size_t low = 0, high = counts[side];
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (side == 0 ? levels[middle].price < price : levels[middle].price > price)
            low = middle + 1;
        else
            high = middle;
    }
    const bool there = low < counts[side] && levels[low].price == price;
    if (there && size != 0)
        levels[low].size = size;
    else if (there)
        memmove(&levels[low], &levels[low + 1], (--counts[side] - low) * sizeof *levels);
    else if (size != 0) {
        memmove(&levels[low + 1], &levels[low], (counts[side]++ - low) * sizeof *levels);
        levels[low] = (plain){price, size};
    }
    return (int)(counts[side] - low);
}

static double
now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

int
main(void)
{
    int64_t given[3];
    if (fread(given, sizeof given, 1, stdin) != 1)
        return 1;
    const size_t start = (size_t)given[0], updates = (size_t)given[1];
    row *rows = malloc((start + updates) * sizeof *rows);
    const uint32_t ceiling = 65536;
    void *memory = aligned_alloc(64, mantra_round_up(mantra_book_bytes(ceiling), 64));
    sides[0] = malloc(2 * ceiling * sizeof(plain));
    sides[1] = sides[0] + ceiling;
    if (fread(rows, sizeof *rows, start + updates, stdin) != start + updates)
        return 1;
    double best = 1e18, best_plain = 1e18;
    mantra_book book;
    for (int64_t pass = 0; pass < given[2]; pass++) {
        memset(memory, 0, mantra_book_bytes(ceiling));
        mantra_book_init(&book, memory, ceiling, ceiling, 1, 0);
        counts[0] = counts[1] = 0;
        for (size_t i = 0; i < start; i++) {
            mantra_book_apply(&book, (uint8_t)rows[i].side, rows[i].price, rows[i].size);
            plain_apply((size_t)rows[i].side - 1, rows[i].price, rows[i].size);
        }
        const row *row = rows + start;
        double began = now_ns();
        for (size_t i = 0; i < updates; i++, row++) {
            mantra_book_begin(&book);
            mantra_book_apply(&book, (uint8_t)row->side, row->price, row->size);
            mantra_book_end(&book);
        }
        const double took = now_ns() - began;
        best = took < best ? took : best;
        row = rows + start;
        began = now_ns();
        for (size_t i = 0; i < updates; i++, row++)
            plain_apply((size_t)row->side - 1, row->price, row->size);
        const double took_plain = now_ns() - began;
        best_plain = took_plain < best_plain ? took_plain : best_plain;
    }
    printf("%.3f %.3f\n", best / (double)updates, best_plain / (double)updates);
    for (size_t side = 0; side < 2; side++)
        for (size_t i = counts[side], rank = 0; i-- > 0; rank++) {
            int64_t price, size;
            if (!mantra_book_rank(&book, (uint8_t)(side + MANTRA_BID), (uint32_t)rank, &price, &size) ||
                price != sides[side][i].price || size != sides[side][i].size ||
                mantra_book_count(&book, side) != counts[side])
                return 2;
            printf("%zu %" PRId64 " %" PRId64 "\n", side + 1, sides[side][i].price, sides[side][i].size);
        }
    return 0;
}
