"""Single venue messages decoded to Python objects: decode_<venue>.h as tests and benches look at it."""
from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import c_bool, c_char, c_char_p, c_int64, c_size_t, c_uint8, c_uint32, c_uint64, c_void_p
from enum import IntEnum
from typing import NamedTuple

from tests.c.library import PADDING, library


class Decoding(IntEnum):
    """What a message was (csrc/mantra/decode.h); negative: nothing of it may be used."""

    IGNORED = 0
    DIFF = 1
    IMAGE = 2
    TRADES = 3
    UNCHANGED = 4
    CONTROL = 5
    SNAPSHOT = 6
    CHECKSUM = 7
    HEARTBEAT = 8
    EARLY = 9
    WITNESS = 10
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
    changes: list[tuple[str, int, int]]             # side, ticks, lots
    trades: list[tuple[int, str, int, int, int]]    # id, side, ticks, lots, UTC ns
    number: int | None = None                       # of the message on its connection
    checksum: int | None = None


class Change(ctypes.Structure):
    _fields_ = [("price", c_int64), ("size", c_int64), ("kind", c_uint8)]


class Print(ctypes.Structure):
    _fields_ = [("price", c_int64), ("size", c_int64), ("trade_id", c_uint64), ("venue_time_ns", c_int64),
                ("side", c_uint8)]


class OrderChange(ctypes.Structure):
    _fields_ = [("id", c_uint64), ("price", c_int64), ("size", c_int64), ("kind", c_uint8)]


class State(ctypes.Structure):
    """The beginning of a `decoding`: its mantra_decoder."""

    _fields_ = [("symbols", c_void_p), ("scales", c_void_p), ("images", c_void_p), ("depth", c_uint32),
                ("changes", ctypes.POINTER(Change)), ("change_capacity", c_uint32), ("trades", ctypes.POINTER(Print)),
                ("trade_capacity", c_uint32), ("orders", ctypes.POINTER(OrderChange)), ("order_capacity", c_uint32),
                ("book", c_uint32), ("change_count", c_uint32), ("trade_count", c_uint32), ("order_count", c_uint32),
                ("unpriced", c_uint32), ("first", c_uint64), ("last", c_uint64), ("venue_time_ns", c_int64),
                ("rest", c_void_p), ("number", c_uint64), ("checksum", c_uint32), ("numbered", c_bool),
                ("checked", c_bool), ("history", c_bool), ("linked", c_bool),
                ("link", c_char * 40), ("before", c_char * 40), ("routed", c_bool), ("flags", c_uint64),
                ("routes", c_void_p),
                ("route_count", c_uint32), ("route_capacity", c_uint32), ("printed", ctypes.POINTER(c_uint8)),
                ("context", c_void_p)]


class Decoder:
    """Decoder(venue, symbols, scales, depth=0): `symbols[i]`, a spelling or a tuple of spellings, means book i;
    `scales[i]` is its (price decimals, size decimals); `depth` levels a side are read of an image, 0: all."""

    def __init__(self, venue: str, symbols: Sequence[str | tuple[str, ...]], scales: Sequence[tuple[int, int]],
                 depth: int = 0) -> None:
        if len(symbols) != len(scales) or depth < 0:
            raise ValueError("one scale for each symbol, and a depth of at least 0")
        self.c = library("decoding")
        self.c.decoding_new.restype = ctypes.POINTER(State)
        self.c.decoding_time.restype = c_uint64
        self.c.decoding_checksum.restype = c_uint32
        assert self.c.decoding_size() == ctypes.sizeof(State), "State is not the mantra_decoder of decode.h"
        self.state = self.c.decoding_new(venue.encode(), depth)
        if not self.state:
            raise ValueError(f"no decoder for {venue!r}")
        self.symbols = [(names,) if isinstance(names, str) else tuple(names) for names in symbols]
        for index, names in enumerate(self.symbols):
            if not all(0 <= decimals <= 18 for decimals in scales[index]):
                raise ValueError(f"scale {scales[index]}: 0 to 18 decimals")
            for name in names:
                spelling = name.encode()
                if self.c.decoding_spell(self.state, spelling, c_size_t(len(spelling)), index, *scales[index]):
                    raise ValueError(f"{name!r} is empty, too long, or already another book")

    def __del__(self) -> None:
        if hasattr(self, "state"):
            self.c.decoding_free(self.state)

    def decode(self, text: bytes) -> Decoded:
        """Decode one message, which has one part."""
        (part,) = self.parts(text)
        return part

    def parts(self, text: bytes) -> list[Decoded]:
        """Decode one message, part by part."""
        padded, found = text + PADDING, []
        self.state.contents.rest = None
        while not found or self.state.contents.rest:
            found.append(self._answer(self.c.decoding_message(self.state, padded, c_size_t(len(text)))))
        return found

    def printed(self, book: int) -> tuple[int, int]:
        """(price, size) decimals that the venue prints for a book, as learnt so far."""
        return self.state.contents.printed[2 * book], self.state.contents.printed[2 * book + 1]

    def decode_snapshot(self, text: bytes, book: int) -> Decoded:
        """Decode a REST book snapshot of book index `book`."""
        if book >= len(self.symbols):
            raise IndexError(f"{len(self.symbols)} books, not {book}")
        return self._answer(self.c.decoding_snapshot(self.state, text + PADDING, c_size_t(len(text)), book))

    def checksum(self, book: int, levels: Sequence[tuple[str, int, int]]) -> int:
        """The venue's checksum of a book of these (side, ticks, lots), on the scale of book index `book`."""
        changes = (Change * len(levels))(*((price, size, 1 + (side == "ask")) for side, price, size in levels))
        return self.c.decoding_checksum(self.state, book, changes, c_size_t(len(levels)))

    def _answer(self, kind: int) -> Decoded:
        d = self.state.contents
        numbers = d.number if d.numbered else None, d.checksum if d.checked else None
        if kind <= 0 or kind in (Decoding.CONTROL, Decoding.HEARTBEAT, Decoding.EARLY):
            return Decoded(Decoding(kind), None, 0, 0, 0, [], [], *numbers)
        return Decoded(
            Decoding(kind), d.book, d.first, d.last, d.venue_time_ns,
            [(("", "bid", "ask")[each.kind], each.price, each.size) for each in d.changes[:d.change_count]],
            [(each.trade_id, ("", "buy", "sell")[each.side], each.price, each.size, each.venue_time_ns)
             for each in d.trades[:d.trade_count]], *numbers)

    def time_ns(self, frames: Sequence[bytes], repeat: int = 1) -> int:
        """Nanoseconds for decoding all `frames` once, the best of `repeat` passes."""
        texts = (c_char_p * len(frames))(*(frame + PADDING for frame in frames))
        sizes = (c_size_t * len(frames))(*map(len, frames))
        return min(self.c.decoding_time(self.state, texts, sizes, c_size_t(len(frames))) for _ in range(repeat))
