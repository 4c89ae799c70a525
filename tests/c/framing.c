/* frame.h, for callers who are no feed. */
#include "mantra/frame.h"

mantra_frames *
framing_new(size_t capacity, size_t max_message)
{
    mantra_frames *frames = malloc(sizeof *frames);
    if (frames != NULL && mantra_frames_init(frames, capacity, max_message) == 0)
        return frames;
    free(frames);
    return NULL;
}

void
framing_free(mantra_frames *frames)
{
    mantra_frames_free(frames);
    free(frames);
}

/* Take as much of `data` as there is room for: how much. */
size_t
framing_push(mantra_frames *frames, const char *data, size_t size)
{
    uint8_t *to;
    size_t room = mantra_frames_room(frames, &to);
    room = room < size ? room : size;
    memcpy(to, data, room);
    mantra_frames_received(frames, room);
    return room;
}

int
framing_next(mantra_frames *frames, mantra_frame *out)
{
    return mantra_frames_next(frames, out);
}

void
framing_reset(mantra_frames *frames)
{
    mantra_frames_reset(frames);
}

void
framing_state(const mantra_frames *frames, uint64_t state[3])
{
    state[0] = frames->capacity;
    state[1] = frames->growths;
    state[2] = frames->ended != 0;
}

const char *
framing_error(int error)
{
    return mantra_frame_error(error);
}
