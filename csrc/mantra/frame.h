/* frame.h - WebSocket frames (RFC 6455), found in place in the buffer that `recv` filled. Client's side.
 *
 *   buffer                                                                      + capacity
 *   | done | message so far |  done  | head: not read yet | tail: room ... | 64 readable |
 *          fragments, side by side     one incomplete frame once drained     MANTRA_PADDING
 *
 * One loop: room, recv, received, then next until it answers 0. Nothing is copied but the second and later fragments of
 * a message (so that a message is contiguous) and, where the buffer ends, the incomplete rest. A message stays where it
 * is until the next `room`. Text is not checked to be UTF-8 here: whoever reads it (the JSON scanner) does. */
#ifndef MANTRA_FRAME_H
#define MANTRA_FRAME_H

#include "mantra/base.h"

#include <stdlib.h>

#define MANTRA_FRAME_HEADER 14       /* the longest header, a client's mask included */
#define MANTRA_FRAMES_ROOM 4096      /* never offer `recv` less, unless at the ceiling */

enum {
    MANTRA_FRAME_CONTINUATION = 0,
    MANTRA_FRAME_TEXT = 1,
    MANTRA_FRAME_BINARY = 2,
    MANTRA_FRAME_CLOSE = 8,
    MANTRA_FRAME_PING = 9,
    MANTRA_FRAME_PONG = 10,
};

/* Why a stream of frames cannot be read any further; it stays so. */
enum {
    MANTRA_FRAME_MASKED = -1,             /* a server must not mask */
    MANTRA_FRAME_RESERVED = -2,           /* reserved bits: an extension nobody agreed on */
    MANTRA_FRAME_OPCODE = -3,
    MANTRA_FRAME_CONTROL_FRAGMENTED = -4,
    MANTRA_FRAME_CONTROL_LONG = -5,       /* over 125 bytes */
    MANTRA_FRAME_OVERSIZED = -6,          /* the message would exceed max_message: known from its header */
    MANTRA_FRAME_ORDER = -7,              /* continuation of nothing, or a new message inside a fragmented one */
    MANTRA_FRAME_LENGTH = -8,             /* not the shortest form, or over 63 bits */
    MANTRA_FRAME_CLOSE_PAYLOAD = -9,      /* one byte, or a code that must not be sent */
};

static inline const char *
mantra_frame_error(int error)
{
    static const char *const texts[] = {
        "no error", "masked frame from the server", "reserved bits set", "unknown opcode", "fragmented control frame",
        "control frame over 125 bytes", "message larger than the maximum", "continuation out of order",
        "length not in its shortest form", "bad close payload",
    };
    return error <= 0 && error >= MANTRA_FRAME_CLOSE_PAYLOAD ? texts[-error] : "unknown error";
}

typedef struct mantra_frame {
    uint8_t *payload;
    size_t size;
    uint8_t opcode; /* TEXT or BINARY: a whole message; CLOSE, PING, PONG */
} mantra_frame;

typedef struct mantra_frames {
    uint8_t *buffer;
    size_t capacity, head, tail;
    size_t message, message_size; /* fragments so far: offset, bytes */
    size_t max_message, ceiling;  /* of one message; of the capacity */
    uint64_t growths;
    int ended;                    /* 0 open, 1 after a close frame, negative: the error */
    uint8_t message_opcode;
    bool fragmented;              /* a message has begun and not ended */
} mantra_frames;

/* 0, or -1 without memory. */
static inline int
mantra_frames_init(mantra_frames *f, size_t capacity, size_t max_message)
{
    memset(f, 0, sizeof *f);
    /* Drained, the buffer holds at most one incomplete message and a header: at the ceiling there is always room. */
    f->max_message = max_message;
    f->ceiling = max_message + MANTRA_FRAMES_ROOM;
    f->capacity = capacity < MANTRA_FRAMES_ROOM ? MANTRA_FRAMES_ROOM : capacity;
    if (f->capacity > f->ceiling)
        f->capacity = f->ceiling;
    f->buffer = (uint8_t *)calloc(1, f->capacity + MANTRA_PADDING);
    return f->buffer ? 0 : -1;
}

static inline void
mantra_frames_free(mantra_frames *f)
{
    free(f->buffer);
    memset(f, 0, sizeof *f);
}

/* Forget everything received: the buffer serves a new connection. */
static inline void
mantra_frames_reset(mantra_frames *f)
{
    f->head = f->tail = f->message = f->message_size = 0;
    f->ended = 0;
    f->fragmented = false;
}

/* Move what is alive to the front; double when that was more than half, so that moving stays linear in what arrives. */
static inline void
mantra_frames_compact(mantra_frames *f)
{
    const size_t kept = f->fragmented ? f->message_size : 0, unread = f->tail - f->head;
    memmove(f->buffer, f->buffer + f->message, kept);
    memmove(f->buffer + kept, f->buffer + f->head, unread);
    f->message = 0;
    f->head = kept;
    f->tail = kept + unread;
    if (f->tail > f->capacity / 2 && f->capacity < f->ceiling) {
        const size_t capacity = f->capacity * 2 < f->ceiling ? f->capacity * 2 : f->ceiling;
        uint8_t *buffer = (uint8_t *)realloc(f->buffer, capacity + MANTRA_PADDING);
        if (buffer) { /* without memory the old one goes on; full, `room` answers 0 */
            memset(buffer + capacity, 0, MANTRA_PADDING);
            f->buffer = buffer;
            f->capacity = capacity;
            f->growths++;
        }
    }
}

/* Where received bytes go, and how many may. 0 only without memory, or when `next` was not called until it gave 0. */
static inline size_t
mantra_frames_room(mantra_frames *f, uint8_t **to)
{
    if (f->head == f->tail && !f->fragmented)
        f->head = f->tail = 0; /* the usual case: everything was read; stay on the same warm pages */
    else if (f->capacity - f->tail < MANTRA_FRAMES_ROOM)
        mantra_frames_compact(f);
    *to = f->buffer + f->tail;
    return f->capacity - f->tail;
}

static inline void
mantra_frames_received(mantra_frames *f, size_t bytes)
{
    f->tail += bytes;
}

static inline uint64_t
mantra_big_endian(const uint8_t *at, size_t bytes)
{
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++)
        value = value << 8 | at[i];
    return value;
}

static inline bool
mantra_close_payload_ok(const uint8_t *payload, size_t size)
{
    if (size < 2)
        return size == 0;
    const uint64_t code = mantra_big_endian(payload, 2);
    const bool reserved = code == 1004 || code == 1005 || code == 1006; /* never sent, only reported */
    return (code >= 1000 && code <= 1014 && !reserved) || (code >= 3000 && code < 5000);
}

/* The next message or control frame: 1, or 0 when bytes are missing (and for ever after a close frame), or an error.
 * Control frames between fragments come out in their order. */
static inline int
mantra_frames_next(mantra_frames *f, mantra_frame *out)
{
    if (MANTRA_UNLIKELY(f->ended != 0))
        return f->ended < 0 ? f->ended : 0;
    for (;;) {
        uint8_t *at = f->buffer + f->head;
        const size_t left = f->tail - f->head;
        size_t header = 2;
        if (left < header)
            return 0;
        const uint8_t opcode = at[0] & 0x0f;
        const bool final = at[0] & 0x80, control = opcode & 0x08;
        uint64_t size = at[1] & 0x7f;
        if (MANTRA_UNLIKELY(at[1] & 0x80))
            return f->ended = MANTRA_FRAME_MASKED;
        if (MANTRA_UNLIKELY(at[0] & 0x70))
            return f->ended = MANTRA_FRAME_RESERVED;
        if (MANTRA_UNLIKELY((opcode & 0x07) > 2))
            return f->ended = MANTRA_FRAME_OPCODE;
        if (MANTRA_UNLIKELY(control)) {
            if (!final)
                return f->ended = MANTRA_FRAME_CONTROL_FRAGMENTED;
            if (size > 125)
                return f->ended = MANTRA_FRAME_CONTROL_LONG;
        } else if (MANTRA_UNLIKELY((opcode == MANTRA_FRAME_CONTINUATION) != f->fragmented)) {
            return f->ended = MANTRA_FRAME_ORDER;
        }
        if (size >= 126) {
            const size_t bytes = size == 126 ? 2 : 8;
            header += bytes;
            if (left < header)
                return 0;
            size = mantra_big_endian(at + 2, bytes);
            if (MANTRA_UNLIKELY(size < (bytes == 2 ? 126u : 65536u) || size >> 63))
                return f->ended = MANTRA_FRAME_LENGTH;
        }
        if (MANTRA_UNLIKELY(!control && size > f->max_message - (f->fragmented ? f->message_size : 0)))
            return f->ended = MANTRA_FRAME_OVERSIZED; /* refused before any of it is waited for */
        if (left - header < size)
            return 0;
        f->head += header + size;
        out->payload = at + header;
        out->size = size;
        out->opcode = opcode;
        if (MANTRA_LIKELY(final && !f->fragmented && !control))
            return 1;
        if (control) {
            if (opcode == MANTRA_FRAME_CLOSE) {
                if (!mantra_close_payload_ok(out->payload, size))
                    return f->ended = MANTRA_FRAME_CLOSE_PAYLOAD;
                f->ended = 1;
            }
            return 1;
        }
        if (!f->fragmented) {
            f->fragmented = true;
            f->message = (size_t)(out->payload - f->buffer);
            f->message_size = size;
            f->message_opcode = opcode;
            continue;
        }
        memmove(f->buffer + f->message + f->message_size, out->payload, size);
        f->message_size += size;
        if (final) {
            out->payload = f->buffer + f->message;
            out->size = f->message_size;
            out->opcode = f->message_opcode;
            f->fragmented = false;
            return 1;
        }
    }
}

/* One client frame, masked with `mask` (from mantra_random_mask; RFC 6455 10.3 says why it must not be guessable).
 * `out` holds size + MANTRA_FRAME_HEADER bytes and may not overlap `payload`. Returns the bytes written. */
static inline size_t
mantra_frame_write(uint8_t *out, uint8_t opcode, const void *payload, size_t size, uint32_t mask)
{
    size_t at = 0;
    out[at++] = 0x80 | opcode;
    const size_t bytes = size < 126 ? 0 : size < 65536 ? 2 : 8;
    out[at++] = (uint8_t)(0x80 | (bytes == 0 ? size : bytes == 2 ? 126 : 127));
    for (size_t i = bytes; i-- > 0;)
        out[at++] = (uint8_t)(size >> (8 * i));
    uint8_t key[4];
    memcpy(key, &mask, 4);
    memcpy(out + at, key, 4);
    at += 4;
    for (size_t i = 0; i < size; i++)
        out[at + i] = ((const uint8_t *)payload)[i] ^ key[i & 3];
    return at + size;
}

#endif
