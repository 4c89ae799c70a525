from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

class Decoding(IntEnum):
    IGNORED = 0
    DIFF = 1
    IMAGE = 2
    TRADES = 3
    UNCHANGED = 4
    CONTROL = 5
    MALFORMED = -1
    FINER = -2
    UNKNOWN = -3
    TOO_MANY = -4

class Decoded(NamedTuple):
    kind: Decoding
    book: int | None
    first: int
    last: int
    venue_time_ns: int
    changes: list[tuple[str, int, int]]
    trades: list[tuple[int, str, int, int, int]]

class Decoder:
    symbols: list[tuple[str, ...]]
    def __init__(
        self, venue: str, symbols: Sequence[str | tuple[str, ...]], scales: Sequence[tuple[int, int]], depth: int = 0
    ) -> None: ...
    def decode(self, text: bytes) -> Decoded: ...
    def decode_snapshot(self, text: bytes, book: int) -> Decoded: ...
    def time_ns(self, frames: Sequence[bytes], repeat: int = 1) -> int: ...
