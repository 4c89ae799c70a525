/* fuzz_pack.c - any messages come back from their block as they were; a damaged block is refused or read as something,
 * within its bounds. */
#include <stdlib.h>

#include "fuzz.h"
#include "mantra/pack.h"

#define MOST 300

static void
unpack(const mantra_block *block, const mantra_layout *layout, const mantra_pack_input *from, bool whole)
{
    const size_t count = (size_t)block->messages + 1;
    mantra_unpacked to = {malloc(count * layout->size), malloc(count * sizeof(uint16_t)), malloc(count * sizeof(uint64_t)),
                          malloc(((size_t)block->images + 1) * sizeof(mantra_pack_image)),
                          malloc(((size_t)block->image_levels + 1) * 16)};
    const int result = mantra_unpack(block, layout, &to);
    CHECK(result == 0 || !whole);
    for (uint32_t i = 0, feed[2] = {0}; whole && i < block->messages; i++) { /* each feed's, in its order */
        const mantra_pack_run *run = &from->runs[to.feeds[i]];
        CHECK(to.feeds[i] < 2 && to.positions[i] == run->position + feed[to.feeds[i]]);
        CHECK(memcmp(to.messages + i * layout->size,
                     from->messages + (run->first + feed[to.feeds[i]]++) * layout->size, layout->size) == 0);
    }
    free(to.messages);
    free(to.feeds);
    free(to.positions);
    free(to.images);
    free(to.levels);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 4)
        return 0;
    const mantra_layout *layout = mantra_layout_at(data[0] % 8 < 5 ? 0 : data[0] % 8 - 4u);
    const size_t harm = data[1] % 8;
    const uint8_t *harms = data + 2;
    data += 2 + 2 * harm;
    if (size < 2 + 2 * harm + 2)
        return 0;
    size -= 2 + 2 * harm;
    /* Messages near one another, as they are in life: bytes are laid over the message before. */
    const uint32_t count = (uint32_t)mantra_min_u64(size / 5, MOST);
    uint8_t *messages = calloc(count + 1u, layout->size);
    for (uint32_t i = 0; i < count; i++) {
        if (i)
            memcpy(messages + i * layout->size, messages + (i - 1) * layout->size, layout->size);
        const uint8_t *change = data + 5 * i;
        uint8_t *at = messages + i * layout->size + change[0] % layout->size;
        memcpy(at, change + 1, mantra_min_u64(4, layout->size - change[0] % layout->size));
    }
    int64_t levels[][2] = {{5, 1}, {4, 9}, {6, 2}, {INT64_MAX, 1}};
    const mantra_pack_image image = {.feed = 1, .position = 7, .venue = 1, .count = {2, 2}, .levels = levels};
    const mantra_pack_run runs[] = {{3, 0, count / 2, 0}, {5, count / 2, count - count / 2, 1}};
    const mantra_pack_input from = {.messages = messages, .runs = runs, .images = &image, .run_count = 2,
                                    .image_count = layout == mantra_layout_at(0), .message_count = count, .layout = layout};
    mantra_block block;
    CHECK(mantra_pack(&from, &block) == 0);
    for (uint32_t i = 0; i < block.columns; i++)
        memset(block.column[i].data + block.column[i].size, 0, MANTRA_COLUMN_SLACK);
    unpack(&block, layout, &from, true);
    for (size_t i = 0; i < harm; i++) {
        mantra_column *column = &block.column[harms[2 * i] % block.columns];
        if (column->size)
            column->data[harms[2 * i + 1] % column->size] ^= (uint8_t)(1 + i * 37);
        if (harms[2 * i] > 250 && column->size)
            column->size--;
        if (harms[2 * i] == 249)
            block.messages++;
        if (harms[2 * i] == 248)
            block.images++;
    }
    unpack(&block, layout, &from, false);
    mantra_pack_free(&block);
    free(messages);
    return 0;
}
