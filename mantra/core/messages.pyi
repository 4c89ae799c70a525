from enum import IntEnum
from typing import Any

import numpy
from typing_extensions import Buffer, Self

DEPTH: int
MAX_VENUES: int

class Trust(IntEnum):
    DOWN = 0
    STALE = 1
    SUSPECT = 2
    UNVERIFIED = 3
    VERIFIED = 4

class Reason(IntEnum):
    NONE = 0
    SYNCHRONISING = 1
    GAP = 2
    CROSSED = 3
    MALFORMED = 4
    SCALE = 5
    FULL = 6
    SILENT = 7
    DISCONNECTED = 8
    CHECKSUM = 9

class Kind(IntEnum):
    RESET = 0
    BID = 1
    ASK = 2
    TRUST = 3

class Side(IntEnum):
    BUY = 1
    SELL = 2

class Flag(IntEnum):
    MORE = 1

class Message:
    def __init__(self, **fields: Any) -> None: ...
    @classmethod
    def from_bytes(cls, data: Buffer) -> Self: ...
    def to_bytes(self) -> bytes: ...
    def __bytes__(self) -> bytes: ...
    origin: int
    published: int
    published_cycles: int
    publisher: int

class Update(Message):
    price: int
    size: int
    sequence: int
    venue_time_ns: int
    instrument: int
    venue: int
    kind: int
    flags: int
    trust: int
    @property
    def more(self) -> bool: ...

class Trade(Message):
    price: int
    size: int
    trade_id: int
    venue_time_ns: int
    instrument: int
    venue: int
    side: int
    flags: int
    trust: int

class Top(Message):
    @property
    def bids(self) -> list[tuple[int, int]]: ...
    @property
    def asks(self) -> list[tuple[int, int]]: ...
    sequence: int
    venue_time_ns: int
    trust_since_ns: int
    instrument: int
    venue: int
    trust: int
    reason: int
    flags: int
    generation: int
    bid_count: int
    ask_count: int
    bid_price: tuple[int, ...]
    bid_size: tuple[int, ...]
    ask_price: tuple[int, ...]
    ask_size: tuple[int, ...]

class World(Message):
    @property
    def bids(self) -> list[tuple[int, int, int]]: ...
    @property
    def asks(self) -> list[tuple[int, int, int]]: ...
    @property
    def spread(self) -> int | None: ...
    sequence: int
    venue_time_ns: int
    instrument: int
    venue: int
    flags: int
    bid_count: int
    ask_count: int
    trust: tuple[int, ...]
    bid_price: tuple[int, ...]
    bid_size: tuple[int, ...]
    ask_price: tuple[int, ...]
    ask_size: tuple[int, ...]
    bid_venues: tuple[int, ...]
    ask_venues: tuple[int, ...]
    reserved: tuple[int, ...]

class InstrumentRow(Message):
    @property
    def name(self) -> str: ...
    instrument: int
    generation: int
    price_decimals: int
    size_decimals: int

class Format:
    name: str
    layout: str
    fingerprint: int
    message_bytes: int
    slot_bytes: int
    flags_offset: int
    type: type[Message]
    dtype: numpy.dtype[numpy.void]

DTYPES: dict[str, numpy.dtype[numpy.void]]
FINGERPRINTS: dict[str, int]
LAYOUTS: dict[str, str]
TYPES: dict[str, type[Message]]

def format_of(message: str | type[Message]) -> Format: ...
def format_at(name: str, layout: str, fingerprint: int) -> Format: ...
