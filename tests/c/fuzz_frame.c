/* fuzz_frame.c - any bytes as a server's stream, cut anywhere: no bad access, and always the same frames.
 *
 * The stream goes once in large pieces into a large buffer, once in small ones into a small buffer; where it is cut is
 * drawn from its own bytes, so that a corpus of plain streams serves. */
#include "mantra/frame.h"

#include "check.h"

enum { MOST_FRAMES = 4096, MAX_MESSAGE = 20000 };

typedef struct {
    uint64_t hash;
    size_t size;
    uint8_t opcode;
} seen;

static int
drain(mantra_frames *frames, seen *found, size_t *count)
{
    mantra_frame frame;
    int outcome;
    while ((outcome = mantra_frames_next(frames, &frame)) == 1 && *count < MOST_FRAMES) {
        CHECK(frame.payload >= frames->buffer && frame.payload + frame.size <= frames->buffer + frames->capacity);
        uint64_t hash = UINT64_C(14695981039346656037);
        volatile uint8_t sink = 0;
        for (size_t i = 0; i < frame.size; i++)
            hash = (hash ^ frame.payload[i]) * UINT64_C(1099511628211);
        for (size_t i = 0; i < MANTRA_PADDING; i++)
            sink ^= frame.payload[frame.size + i]; /* a scanner may */
        (void)sink;
        found[(*count)++] = (seen){hash, frame.size, frame.opcode};
    }
    CHECK(frames->head <= frames->tail && frames->tail <= frames->capacity);
    return outcome;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static seen whole[MOST_FRAMES], cut[MOST_FRAMES];
    size_t whole_count = 0, cut_count = 0;
    int whole_end = 0, cut_end = 0;
    uint64_t seed = size;
    for (size_t i = 0; i < size; i++)
        seed = (seed ^ data[i]) * UINT64_C(1099511628211);
    const size_t longest = (size_t)1 << (check_random(&seed) % 13);

    mantra_frames frames;
    uint8_t *to;
    CHECK(mantra_frames_init(&frames, size + MANTRA_FRAMES_ROOM, MAX_MESSAGE) == 0);
    for (size_t at = 0; at < size;) { /* a buffer is never larger than a message needs: still several pieces */
        size_t room = mantra_frames_room(&frames, &to);
        CHECK(room > 0 || whole_count == MOST_FRAMES || frames.ended);
        if (room == 0)
            break;
        room = room < size - at ? room : size - at;
        memcpy(to, data + at, room);
        mantra_frames_received(&frames, room);
        at += room;
        if ((whole_end = drain(&frames, whole, &whole_count)) != 0)
            break;
    }
    mantra_frames_free(&frames);

    CHECK(mantra_frames_init(&frames, 0, MAX_MESSAGE) == 0);
    for (size_t at = 0; at < size;) {
        size_t room = mantra_frames_room(&frames, &to);
        const size_t piece = 1 + check_random(&seed) % longest;
        CHECK(room > 0 || cut_count == MOST_FRAMES || frames.ended);
        if (room == 0)
            break;
        room = room < piece ? room : piece;
        room = room < size - at ? room : size - at;
        memcpy(to, data + at, room);
        mantra_frames_received(&frames, room);
        at += room;
        if ((cut_end = drain(&frames, cut, &cut_count)) != 0)
            break;
    }
    mantra_frames_free(&frames);

    CHECK(whole_end == cut_end && whole_count == cut_count);
    for (size_t i = 0; i < whole_count; i++)
        CHECK(whole[i].hash == cut[i].hash && whole[i].size == cut[i].size && whole[i].opcode == cut[i].opcode);
    return 0;
}
