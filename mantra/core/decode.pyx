"""decode: one venue message's text to exact changes and trades, as tests and tools want it.

The feed calls the C functions itself; this face is for looking at single messages, so it makes Python objects.
"""
import time
from collections import namedtuple
from enum import IntEnum

from libc.stdlib cimport calloc, free

from mantra.core.ticks cimport MANTRA_FINER, MANTRA_MALFORMED, MANTRA_MAX_DECIMALS, MANTRA_PADDING


class Decoding(IntEnum):
    """What a message was; negative: nothing of it may be used."""

    IGNORED = MANTRA_IGNORED
    DIFF = MANTRA_DIFF
    IMAGE = MANTRA_IMAGE
    TRADES = MANTRA_TRADES
    UNCHANGED = MANTRA_UNCHANGED
    CONTROL = MANTRA_CONTROL
    MALFORMED = MANTRA_MALFORMED
    FINER = MANTRA_FINER
    UNKNOWN = MANTRA_UNKNOWN
    TOO_MANY = MANTRA_TOO_MANY


Decoded = namedtuple("Decoded", "kind book first last venue_time_ns changes trades")

cdef enum:
    CHANGE_CAPACITY = 65536
    TRADE_CAPACITY = 1024


cdef class Decoder:
    """Decoder(venue, symbols, scales, depth=0): `symbols[i]`, a spelling or a tuple of spellings, means book i;
    `scales[i]` is its (price decimals, size decimals); `depth` levels a side are read of an image, 0: all."""

    def __cinit__(self, str venue not None, symbols: Sequence[str | tuple[str, ...]],
                  scales: Sequence[tuple[int, int]], int depth=0):
        cdef uint32_t capacity = 16
        self.message = mantra_decode_binance if venue == "binance" else mantra_decode_bitstamp
        self.snapshot = mantra_decode_binance_snapshot if venue == "binance" else mantra_decode_bitstamp_snapshot
        if venue not in ("binance", "bitstamp"):
            raise ValueError(f"no decoder for {venue!r}")
        if len(symbols) != len(scales) or depth < 0:
            raise ValueError("one scale for each symbol, and a depth of at least 0")
        self.symbols = [(names,) if isinstance(names, str) else tuple(names) for names in symbols]
        while capacity < 2 * sum(map(len, self.symbols)):
            capacity *= 2
        self.slots = <mantra_symbol *>calloc(capacity, sizeof(mantra_symbol))
        self.scales = <mantra_scale *>calloc(len(scales) + 1, sizeof(mantra_scale))
        self.decoder.images = <mantra_image_text *>calloc(len(scales) + 1, sizeof(mantra_image_text))
        self.decoder.changes = <mantra_change *>calloc(CHANGE_CAPACITY, sizeof(mantra_change))
        self.decoder.trades = <mantra_print *>calloc(TRADE_CAPACITY, sizeof(mantra_print))
        if not (self.slots and self.scales and self.decoder.images and self.decoder.changes and self.decoder.trades):
            raise MemoryError
        mantra_symbols_init(&self.table, self.slots, capacity)
        for index, names in enumerate(self.symbols):
            price_decimals, size_decimals = scales[index]
            if not (0 <= price_decimals <= MANTRA_MAX_DECIMALS and 0 <= size_decimals <= MANTRA_MAX_DECIMALS):
                raise ValueError(f"scale {scales[index]}: 0 to {MANTRA_MAX_DECIMALS} decimals")
            self.scales[index].price_decimals = price_decimals
            self.scales[index].size_decimals = size_decimals
            for name in names:
                spelling = name.encode()
                if mantra_symbols_add(&self.table, spelling, len(spelling), index):
                    raise ValueError(f"{name!r} is empty, too long, or already another book")
        self.decoder.symbols = &self.table
        self.decoder.scales = self.scales
        self.decoder.depth = depth
        self.decoder.change_capacity = CHANGE_CAPACITY
        self.decoder.trade_capacity = TRADE_CAPACITY

    def __dealloc__(self):
        free(self.slots)
        free(self.scales)
        free(self.decoder.images)
        free(self.decoder.changes)
        free(self.decoder.trades)

    def decode(self, bytes text not None) -> Decoded:
        """Decode one message: Decoded(kind, book index, first, last, UTC ns, [(side, ticks, lots)], [trade tuples])."""
        cdef bytes padded = text + bytes(MANTRA_PADDING)
        return self.answer(self.message(&self.decoder, padded, len(text)))

    def decode_snapshot(self, bytes text not None, uint32_t book) -> Decoded:
        """Decode a REST book snapshot of book index `book`."""
        cdef bytes padded = text + bytes(MANTRA_PADDING)
        if book >= len(self.symbols):
            raise IndexError(f"{len(self.symbols)} books, not {book}")
        self.decoder.book = book
        return self.answer(self.snapshot(&self.decoder, padded, len(text)))

    cdef object answer(self, int kind):
        cdef uint32_t i
        cdef mantra_decoder *d = &self.decoder
        if kind <= 0 or kind == MANTRA_CONTROL:
            return Decoded(Decoding(kind), None, 0, 0, 0, [], [])
        changes = [("", "bid", "ask")[d.changes[i].kind] for i in range(d.change_count)]
        return Decoded(
            Decoding(kind), d.book, d.first, d.last, d.venue_time_ns,
            [(side, d.changes[i].price, d.changes[i].size) for i, side in enumerate(changes)],
            [(d.trades[i].trade_id, ("", "buy", "sell")[d.trades[i].side], d.trades[i].price, d.trades[i].size,
              d.trades[i].venue_time_ns) for i in range(d.trade_count)])

    def time_ns(self, frames: Sequence[bytes], int repeat=1) -> int:
        """Nanoseconds for decoding all `frames` (list of bytes) once, the best of `repeat` passes; for benchmarks."""
        cdef list padded = [frame + bytes(MANTRA_PADDING) for frame in frames]
        cdef size_t count = len(padded), i
        cdef const char **texts = <const char **>calloc(count + 1, sizeof(char *))
        cdef size_t *sizes = <size_t *>calloc(count + 1, sizeof(size_t))
        if not texts or not sizes:
            free(texts)
            free(sizes)
            raise MemoryError
        for i in range(count):
            texts[i] = padded[i]
            sizes[i] = len(frames[i])
        best = None
        for _ in range(repeat):
            start = time.perf_counter_ns()
            with nogil:
                for i in range(count):
                    self.message(&self.decoder, texts[i], sizes[i])
            elapsed = time.perf_counter_ns() - start
            best = elapsed if best is None else min(best, elapsed)
        free(texts)
        free(sizes)
        return best
