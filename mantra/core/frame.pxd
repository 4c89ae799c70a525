from libc.stdint cimport uint8_t, uint32_t, uint64_t


cdef extern from "mantra/frame.h" nogil:
    enum:
        MANTRA_PADDING
        MANTRA_FRAME_HEADER
        MANTRA_FRAME_TEXT
        MANTRA_FRAME_BINARY
        MANTRA_FRAME_CLOSE
        MANTRA_FRAME_PING
        MANTRA_FRAME_PONG
        MANTRA_FRAME_OVERSIZED

    ctypedef struct mantra_frame:
        uint8_t *payload
        size_t size
        uint8_t opcode

    ctypedef struct mantra_frames:
        uint8_t *buffer
        size_t capacity, head, tail
        size_t max_message
        uint64_t growths
        int ended

    const char *mantra_frame_error(int error)
    int mantra_frames_init(mantra_frames *frames, size_t capacity, size_t max_message)
    void mantra_frames_free(mantra_frames *frames)
    void mantra_frames_reset(mantra_frames *frames)
    size_t mantra_frames_room(mantra_frames *frames, uint8_t **to)
    void mantra_frames_received(mantra_frames *frames, size_t bytes)
    int mantra_frames_next(mantra_frames *frames, mantra_frame *out)
    size_t mantra_frame_write(uint8_t *out, uint8_t opcode, const void *payload, size_t size, uint32_t mask)


cdef class Frames:
    cdef mantra_frames frames
    cdef drain(self, list found)
