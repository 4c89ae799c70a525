"""Another reader of blocks, written from mantra/tape/FORMAT.md alone: slow, obvious, and none of mantra's code."""
from __future__ import annotations

import struct
from typing import Any

import zstandard

WORD = 2**64
ROOM, SLOTS, MEMORY = 65_534, 256, 4096


class Bits:
    def __init__(self, data: bytes) -> None:
        self.left = int.from_bytes(data, "little")

    def take(self, count: int) -> int:
        value = self.left % 2**count
        self.left >>= count
        return value


class Column:
    def __init__(self, data: bytes, bits: Bits | None, unit: int, plain: int) -> None:
        self.data, self.bits, self.unit, self.plain, self.at = data, bits, 1000**unit, bool(plain), 0

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def bucket(self, bucket: int, fineness: int) -> int:
        if bucket < 2 * 2**fineness:
            return bucket
        extra = (bucket >> fineness) - 1
        assert self.bits is not None
        return (((bucket - (extra << fineness)) << extra) + self.bits.take(extra)) % WORD

    def unsigned(self) -> int:
        return self.bucket(self.byte(), 2) * self.unit % WORD

    def signed(self) -> int:
        token = self.byte()
        value = self.bucket(token >> 1, 1)
        return (-value if token & 1 else value) * self.unit % WORD


def signed(value: int) -> int:
    return (value + 2**63) % WORD - 2**63


def mix(value: int) -> int:
    return (value * 0x9E3779B97F4A7C15 % WORD) >> 40


class Book:
    """Levels of a source, as far as the block has told of them."""

    def __init__(self, columns: list[Column], source: tuple[int, ...], slots: list[int]) -> None:
        self.columns, self.slots, self.units = columns, slots, source[7:9]
        room = 64
        while room < source[5] and room < MEMORY:
            room *= 2
        self.memory, self.context = [0] * room, 0
        self.empty()

    def empty(self) -> None:
        self.sides: list[list[int]] = [[], []]      # keys, best first

    def level(self, ask: int, before: int) -> tuple[int, int, int]:
        """price, size, and the rank before for the next."""
        rank_column, (offset, size_column, slot) = self.columns[14 + self.context], self.columns[19:22]
        keys, token = self.sides[ask], rank_column.byte()
        self.context = 1 + 2 * (token >> 5 & 1) + (token % 32 < 3)
        step = rank_column.bucket(token & 31, 1)
        rank, what = before - step if token & 32 else before + step, token >> 6
        if what < 2:
            key = keys[rank]
        else:
            how = offset.byte()
            distance = offset.bucket(how >> 1, 1)
            if not keys:
                key = signed(WORD - 1 - distance if how & 1 else distance)
            else:
                key = signed(keys[rank] + distance + 1 if how & 1 else keys[rank - 1] - distance - 1)
        price = -key - 1 if ask else key
        if what == 1:
            del keys[rank]
        if what in (1, 3):
            return price * self.units[0], 0, rank
        if what == 2 and len(keys) < ROOM:
            keys.insert(rank, key)
        cell, how = mix((2 * price + ask) % WORD) % len(self.memory), size_column.byte()
        if how == 0:
            size = self.memory[cell]
        elif how == 1:
            size = self.slots[slot.byte()]
        else:
            size = size_column.bucket(how - 2, 2)
            self.slots[mix(size) % SLOTS] = size
        self.memory[cell] = size
        return price * self.units[0], size * self.units[1], rank + 1


def read(body: bytes, fields: list[tuple[str, int, int]] | None = None) -> list[dict[str, Any]]:
    """Messages and images (those have "bids") in the order of publishing; `fields`: name, bytes and count of each of a
    message that is no update, all."""
    codec, _, count, _, rows, source_count, _, _, first = struct.unpack_from("<BBHIIIIIQ", body)
    assert codec == 1
    raw, at = [], 32 + 12 * count
    for number in range(count):
        size, stored, unit, plain, coded = struct.unpack_from("<IIBBH", body, 32 + 12 * number)
        data = body[at:at + stored]
        at += stored
        data = zstandard.ZstdDecompressor().decompress(data, max_output_size=size) if coded else data
        raw.append((data, unit, plain))
    assert at == len(body)
    streams = {1: [0], 7: [4, 5, 6]} | ({13: [9, 10, 11, 12], 22: [*range(14, 21)], 24: [23]} if fields is None else
                                        {8: list(range(9, count))})
    bits = {column: Bits(raw[stream][0]) for stream, of in streams.items() for column in of}
    for of in streams.values():
        for column in of:
            bits[column] = bits[of[0]]
    columns = [Column(data, bits.get(number), unit, plain) for number, (data, unit, plain) in enumerate(raw)]

    sources, last = [], [0] * 4
    for _ in range(source_count):
        last = [(old + columns[0].signed()) % WORD for old in last]
        sources.append((*last, *(columns[0].unsigned() for _ in range(5))))
    stamps: list[list[tuple[int, int, int, int]]] = [[] for _ in sources]       # of each source's rows
    time = first
    for place in range(rows):
        number = columns[2].byte() + 256 * columns[3].byte()
        time = (time + columns[4].signed()) % WORD
        stamps[number].append((place, time, columns[5].unsigned(), columns[6].signed()))
    found: list[list[dict[str, Any]]] = [[] for _ in range(rows)]
    jumps = [0] * rows
    if fields is None:
        slots, sequence, venue_time = [0] * SLOTS, 0, 0
        for source, stamp in zip(sources, stamps, strict=True):
            book = Book(columns, source, slots)
            for place, published, delta, jumps[place] in stamp:
                sequence, venue_time = update_row(columns, book, source, (published, delta), (sequence, venue_time),
                                                  found[place])
    else:
        for source, stamp in zip(sources, stamps, strict=True):
            for place, published, delta, jumps[place] in stamp:
                found[place].append({"feed": source[0], "origin": (published - delta) % WORD,
                                     "published": delta << 16 | source[1]})
        order = [place for stamp in stamps for place, *_ in stamp]
        values = [(name, size) for name, size, many in fields[2:] for _ in range(many)]
        for column, (name, size) in zip(columns[9:], values, strict=True):
            value = 0
            for place in order:
                told = column.signed()
                value = told if column.plain else (value + told) % WORD
                found[place][0].setdefault(name, []).append(value % 256**size)
    position: dict[int, int] = {}
    for jump, row in zip(jumps, found, strict=True):
        for nth, message in enumerate(row):
            if "bids" not in message:
                feed = message["feed"]
                message["position"] = (position.get(feed, 0) + (jump if nth == 0 else 0)) % WORD
                position[feed] = message["position"] + 1
    return [message for row in found for message in row]


def update_row(columns: list[Column], book: Book, source: tuple[int, ...], stamp: tuple[int, int],
               since: tuple[int, int], to: list[dict[str, Any]]) -> tuple[int, int]:
    head = columns[8].byte()
    what, more, trust = head & 7, head >> 3 & 1, head >> 4
    sequence, venue_time = (since[0] + columns[9].signed()) % WORD, (since[1] + columns[10].signed()) % WORD
    feed, publisher, venue, instrument = source[:4]
    common = {"feed": feed, "venue": venue, "instrument": instrument, "sequence": sequence, "trust": trust,
              "venue_time_ns": signed(venue_time)}
    stamped = common | {"origin": (stamp[0] - stamp[1]) % WORD, "published": stamp[1] << 16 | publisher}
    if what in (0, 4):
        sizes, before = [columns[11].unsigned(), columns[12].unsigned()], 0
        if what == 4:
            odd = columns[23]
            image = common | {"position": odd.unsigned(), "generation": odd.unsigned(),
                              "trust_since_ns": odd.unsigned(), "reason": odd.byte(), "bids": [], "asks": []}
            book.empty()
            to.append(image)
        for ask, size in enumerate(sizes):
            before = book.context = 0
            for nth in range(size):
                price, lots, before = book.level(ask, before)
                if what == 4:
                    image["asks" if ask else "bids"].append((price, lots))
                else:
                    final = nth + 1 == size and (ask or not sizes[1])
                    to.append(stamped | {"kind": 1 + ask, "price": price, "size": lots, "flags": more if final else 1})
        return sequence, venue_time
    kind, flags = {1: 0, 2: 3}.get(what, 0), more
    if what == 3:
        kind, flags, stamped["trust"] = (columns[23].byte() for _ in range(3))
    to.append(stamped | {"kind": kind, "flags": flags, "price": signed(columns[23].signed()),
                         "size": signed(columns[23].signed())})
    if what == 1:
        book.empty()
    return sequence, venue_time
