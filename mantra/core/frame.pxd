from libc.stdint cimport uint8_t, uint32_t


cdef extern from "mantra/frame.h" nogil:
    enum: MANTRA_FRAME_HEADER, MANTRA_FRAME_TEXT, MANTRA_FRAME_BINARY, MANTRA_FRAME_CLOSE, MANTRA_FRAME_PING
    enum: MANTRA_FRAME_PONG

    ctypedef struct mantra_frames:
        pass

    const char *mantra_frame_error(int error)
    int mantra_frames_init(mantra_frames *frames, size_t capacity, size_t max_message)
    void mantra_frames_free(mantra_frames *frames)
    void mantra_frames_reset(mantra_frames *frames)
    size_t mantra_frame_write(uint8_t *out, uint8_t opcode, const void *payload, size_t size, uint32_t mask)
