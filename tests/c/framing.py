"""A server's bytes in, whole messages and control frames out: frame.h as tests drive it."""
from __future__ import annotations

import ctypes
from ctypes import c_char_p, c_size_t, c_uint8, c_uint64, c_void_p
from typing import NamedTuple

from tests.c.library import library

OVERSIZED = -6      # MANTRA_FRAME_OVERSIZED


class ProtocolError(Exception):
    """The bytes break RFC 6455; `close_code` is what to close their connection with."""

    def __init__(self, text: str, close_code: int) -> None:
        super().__init__(text)
        self.close_code = close_code


class Frame(NamedTuple):
    """A whole message, or a control frame."""

    opcode: int
    payload: bytes


class Found(ctypes.Structure):
    _fields_ = [("payload", c_void_p), ("size", c_size_t), ("opcode", c_uint8)]


class Frames:
    """`capacity` bytes of buffer grow by doubling, up to what a message of `max_message` bytes needs."""

    def __init__(self, max_message: int = 16 << 20, capacity: int = 64 << 10) -> None:
        self.c = library("framing")
        self.c.framing_new.restype = c_void_p
        self.c.framing_push.restype = c_size_t
        self.c.framing_error.restype = c_char_p
        self.frames = c_void_p(self.c.framing_new(c_size_t(capacity), c_size_t(max_message)))

    def __del__(self) -> None:
        self.c.framing_free(self.frames)

    def _state(self) -> list[int]:
        state = (c_uint64 * 3)()
        self.c.framing_state(self.frames, state)
        return list(state)

    @property
    def capacity(self) -> int:
        return self._state()[0]

    @property
    def growths(self) -> int:
        return self._state()[1]

    @property
    def closed(self) -> bool:
        """A close frame was read (or an error met): nothing follows."""
        return bool(self._state()[2])

    def reset(self) -> None:
        self.c.framing_reset(self.frames)

    def feed(self, data: bytes) -> list[Frame]:
        """Append received bytes and return what they complete; ProtocolError after those before it."""
        found: list[Frame] = []
        while True:
            pushed = self.c.framing_push(self.frames, data, c_size_t(len(data)))
            if data and not pushed:
                raise MemoryError
            data = data[pushed:]
            try:
                self._drain(found)
            except ProtocolError:
                if found:
                    return found    # the error stays, and is raised by the next call
                raise
            if not data:
                return found

    def _drain(self, found: list[Frame]) -> None:
        frame = Found()
        while outcome := self.c.framing_next(self.frames, ctypes.byref(frame)):
            if outcome < 0:
                raise ProtocolError(self.c.framing_error(outcome).decode(), 1009 if outcome == OVERSIZED else 1002)
            found.append(Frame(frame.opcode, ctypes.string_at(frame.payload, frame.size)))
