"""frame: WebSocket frames as a client writes them (RFC 6455); feeds read them in place, by csrc/mantra/frame.h."""
from mantra.core.transport cimport mantra_random_mask

TEXT, BINARY, CLOSE = MANTRA_FRAME_TEXT, MANTRA_FRAME_BINARY, MANTRA_FRAME_CLOSE
PING, PONG = MANTRA_FRAME_PING, MANTRA_FRAME_PONG


def frame_bytes(int opcode, bytes payload not None, mask: int | None = None) -> bytes:
    """A client's frame, masked with 4 random bytes, or with `mask` (tests)."""
    cdef size_t size = len(payload)
    cdef uint32_t key = mantra_random_mask() if mask is None else mask
    cdef bytearray out = bytearray(size + MANTRA_FRAME_HEADER)
    size = mantra_frame_write(<uint8_t *><char *>out, opcode, <const char *>payload, size, key)
    return bytes(memoryview(out)[:size])
