from typing import NamedTuple

TEXT: int
BINARY: int
CLOSE: int
PING: int
PONG: int

class Frame(NamedTuple):
    opcode: int
    payload: bytes

class Frames:
    def __init__(self, max_message: int = ..., capacity: int = ...) -> None: ...
    @property
    def capacity(self) -> int: ...
    @property
    def growths(self) -> int: ...
    @property
    def closed(self) -> bool: ...
    def reset(self) -> None: ...
    def feed(self, data: bytes) -> list[Frame]: ...

def frame_bytes(opcode: int, payload: bytes, mask: int | None = None) -> bytes: ...
