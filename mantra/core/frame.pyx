"""frame: WebSocket frames found in place in a receive buffer (client's side, RFC 6455)."""
from libc.string cimport memcpy

from mantra.core.transport cimport mantra_random_mask

from typing import NamedTuple

from mantra.errors import ProtocolError

TEXT = MANTRA_FRAME_TEXT
BINARY = MANTRA_FRAME_BINARY
CLOSE = MANTRA_FRAME_CLOSE
PING = MANTRA_FRAME_PING
PONG = MANTRA_FRAME_PONG


class Frame(NamedTuple):
    """A whole message, or a control frame."""

    opcode: int
    payload: bytes


cdef class Frames:
    """A server's bytes in, whole messages and control frames out.

    `capacity` bytes of buffer grow by doubling, up to what a message of `max_message` bytes needs.
    """

    def __cinit__(self, size_t max_message=16 << 20, size_t capacity=64 << 10):
        if max_message < 125 or max_message >> 40:
            raise ValueError(f"max_message is {max_message}: 125 bytes to 1 TB")
        if mantra_frames_init(&self.frames, capacity, max_message) < 0:
            raise MemoryError

    def __dealloc__(self):
        mantra_frames_free(&self.frames)

    @property
    def capacity(self) -> int:
        """Bytes of buffer now."""
        return self.frames.capacity

    @property
    def growths(self) -> int:
        """How often the buffer was doubled."""
        return self.frames.growths

    @property
    def closed(self) -> bool:
        """A close frame was read (or an error met): nothing follows."""
        return self.frames.ended != 0

    def reset(self) -> None:
        """Forget all bytes: a new connection follows."""
        mantra_frames_reset(&self.frames)

    def feed(self, bytes data not None) -> list[Frame]:
        """Append received bytes and return the list of `Frame` they complete; ProtocolError after those before it."""
        cdef const char *at = data
        cdef size_t left = len(data), room
        cdef uint8_t *to
        found = []
        while left:
            room = mantra_frames_room(&self.frames, &to)
            if room == 0:
                raise MemoryError
            if room > left:
                room = left
            memcpy(to, at, room)
            mantra_frames_received(&self.frames, room)
            at += room
            left -= room
            try:
                self.drain(found)
            except ProtocolError:
                if found:
                    return found    # the error stays, and is raised by the next call
                raise
        if not data:
            self.drain(found)
        return found

    cdef drain(self, list found):
        cdef mantra_frame frame
        cdef int outcome
        while True:
            outcome = mantra_frames_next(&self.frames, &frame)
            if outcome == 0:
                return
            if outcome < 0:
                code = 1009 if outcome == MANTRA_FRAME_OVERSIZED else 1002
                raise ProtocolError(mantra_frame_error(outcome).decode(), code)
            found.append(Frame(frame.opcode, (<char *>frame.payload)[:frame.size]))


def frame_bytes(int opcode, bytes payload not None, mask: int | None = None) -> bytes:
    """A client's frame, masked with 4 random bytes, or with `mask` (tests)."""
    cdef size_t size = len(payload)
    cdef uint32_t key = mantra_random_mask() if mask is None else mask
    cdef bytearray out = bytearray(size + MANTRA_FRAME_HEADER)
    size = mantra_frame_write(<uint8_t *><char *>out, opcode, <const char *>payload, size, key)
    return bytes(memoryview(out)[:size])
