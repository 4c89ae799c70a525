"""pack: messages of one stream as a block: columns, each coded by what it is (csrc/mantra/pack.h).

    body = head | directory, one entry a column | columns, under zstd where that helps            (little-endian)

A block is readable alone, and gives back what was added bit for bit; of an image, all but its book's growths and sizes.
"""
import struct
from typing import NamedTuple

import numpy
import zstandard

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memset, strcmp

from mantra.core.messages cimport mantra_layout_at

from mantra.core.book import BookImage
from mantra.core.messages import DTYPES
from mantra.errors import ArchiveError

CODEC = 1
_HEAD = struct.Struct("<BBHIIIIIQ")     # codec, 0, columns, messages, rows, sources, images, their levels, first time
_ENTRY = struct.Struct("<IIBBH")        # bytes, bytes as stored, unit, plain, zstd


class Source(NamedTuple):
    """Who a block has messages of."""

    feed: int
    venue: int
    instrument: int
    messages: int
    images: int


class Image(NamedTuple):
    """A book as it was before `messages[before]`, as far as its feed's messages go (`image.position`)."""

    before: int
    feed: int
    image: BookImage


class Block(NamedTuple):
    """What was added to a packer, in the order of publishing: messages, and of each its feed and its position there."""

    messages: NDArray[numpy.void]
    feeds: NDArray[numpy.uint16]
    positions: NDArray[numpy.uint64]
    images: list[Image]


cdef const mantra_layout *layout_of(str message) except NULL:
    cdef size_t index = 0
    name = message.encode()
    while mantra_layout_at(index) != NULL:
        if strcmp(mantra_layout_at(index).name, name) == 0:
            return mantra_layout_at(index)
        index += 1
    raise ValueError(f"no message {message!r}; there are {', '.join(DTYPES)}")


cdef class Packer:
    """Gathers messages of one stream until they are a block, `most` at a time.

    `count` messages are held; the earliest was published at `first` cycles, the latest at `last`."""

    def __cinit__(self, str message not None, uint32_t most=131_072):
        if not 0 < most <= MANTRA_PACK_MOST:
            raise ValueError(f"{most} messages in a block; it holds 1 to {MANTRA_PACK_MOST}")
        self.message, self.most, self.levels = message, most, []
        self.layout, self.dtype = layout_of(message), DTYPES[message]
        self.held = <uint8_t *>malloc(<size_t>most * self.layout.size)
        if self.held == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.held)
        free(self.runs)
        free(self.images)

    @property
    def room(self) -> int:
        """How many more messages there is room for."""
        return self.most - self.count

    def add(self, uint16_t feed, messages: NDArray[numpy.void], uint64_t position) -> None:
        """Messages (an array of the message's dtype) that stand in the queue of `feed` from `position` on. What lies
        between these and its last was lost. ValueError: there is no room."""
        cdef Py_buffer buffer
        cdef uint32_t count = len(messages), i
        cdef const uint64_t *tracking
        cdef uint64_t time
        if messages.dtype is not self.dtype and messages.dtype != self.dtype:
            raise ValueError(f"messages of {messages.dtype} added to a stream of {self.message!r}")
        if count > self.most - self.count:
            raise ValueError(f"{count} messages, and room for {self.room}")
        if count == 0:
            return
        if self.run_count == self.run_room:
            self.runs = <mantra_pack_run *>grown(self.runs, &self.run_room, sizeof(mantra_pack_run))
        if not messages.flags.c_contiguous:
            messages = numpy.ascontiguousarray(messages)
        PyObject_GetBuffer(messages, &buffer, PyBUF_SIMPLE)
        try:
            memcpy(self.held + <size_t>self.count * self.layout.size, buffer.buf, <size_t>count * self.layout.size)
        finally:
            PyBuffer_Release(&buffer)
        for i in range(count):
            tracking = <const uint64_t *>(self.held + <size_t>(self.count + i) * self.layout.size)
            time = tracking[0] + (tracking[1] >> 16)
            self.first = time if self.count + i == 0 or time < self.first else self.first
            self.last = time if self.count + i == 0 or time > self.last else self.last
        self.runs[self.run_count] = mantra_pack_run(position, self.count, count, feed)
        self.run_count += 1
        self.count += count

    def image(self, uint16_t feed, image: BookImage) -> None:
        """A book of `feed` as `Book.image()` gives it: whole before the update of `image.position`. Of updates only."""
        cdef mantra_pack_image *made
        cdef const int64_t[:, ::1] levels
        if self.message != "update":
            raise ValueError(f"images belong to a stream of updates, not of {self.message!r}")
        if self.image_count == self.image_room:
            self.images = <mantra_pack_image *>grown(self.images, &self.image_room, sizeof(mantra_pack_image))
        held = numpy.ascontiguousarray(numpy.concatenate([image.bids, image.asks]), numpy.int64)
        if len(held) > MANTRA_PACK_MOST - self.level_count or len(held) and int(held[:, 1].min()) <= 0:
            raise ValueError(f"an image of {len(held)} levels: sizes are lots from 1 on, and a block holds at most "
                             f"{MANTRA_PACK_MOST}")
        self.levels.append(held)
        self.level_count += len(held)
        made = &self.images[self.image_count]
        memset(made, 0, sizeof(made[0]))
        made.feed, made.venue, made.instrument, made.position = feed, image.venue, image.instrument, image.position
        made.trust, made.reason, made.trust_since_ns = image.trust, image.reason, image.trust_since_ns
        made.generation, made.sequence, made.venue_time_ns = image.generation, image.sequence, image.venue_time_ns
        made.count[0], made.count[1] = len(image.bids), len(image.asks)
        levels = held
        made.levels = <int64_t (*)[2]>&levels[0, 0] if len(held) else NULL
        self.image_count += 1

    def pack(self, int level=1) -> bytes:
        """The block's body, its columns under zstd of `level`; nothing is held any more."""
        cdef mantra_block block
        cdef mantra_pack_input input
        cdef uint32_t i
        cdef int failed
        input.messages, input.message_count, input.layout = self.held, self.count, self.layout
        input.runs, input.run_count = self.runs, self.run_count
        input.images, input.image_count = self.images, self.image_count
        with nogil:
            failed = mantra_pack(&input, &block)
        try:
            if failed:
                raise MemoryError("not enough memory for a block, or more than 65,535 sources in it")
            compressor = zstandard.ZstdCompressor(level, write_content_size=False, write_checksum=False)
            entries, columns = [], []
            for i in range(block.columns):
                raw = (<const char *>block.column[i].data)[:block.column[i].size]
                small = compressor.compress(raw) if len(raw) > 16 else raw
                coded = len(small) < len(raw)
                columns.append(small if coded else raw)
                entries.append(_ENTRY.pack(len(raw), len(small) if coded else len(raw), block.unit[i], block.plain[i], coded))
            head = _HEAD.pack(CODEC, 0, block.columns, block.messages, block.rows, block.sources, block.images,
                              block.image_levels, block.first)
        finally:
            mantra_pack_free(&block)
        self.count = self.run_count = self.image_count = self.level_count = self.first = self.last = 0
        self.levels = []
        return b"".join([head, *entries, *columns])


cdef void *grown(void *what, uint32_t *room, size_t size) except NULL:
    cdef uint32_t more = max(64, 2 * room[0])
    cdef void *made = realloc(what, more * size)
    if made == NULL:
        raise MemoryError
    room[0] = more
    return made


cdef object damaged(str message, str why):
    return ArchiveError(f"a block of {message!r} is damaged: {why}")


cdef list opened(str message, body, mantra_block *block, wanted):
    """Fill `block` from `body`: columns number 0 to `wanted`. Returns what must live as long as it."""
    cdef const uint8_t[::1] bytes_of
    cdef uint32_t i
    memset(block, 0, sizeof(block[0]))
    try:
        codec, _, block.columns, block.messages, block.rows, block.sources, block.images, block.image_levels, block.first = (
            _HEAD.unpack_from(body))
    except struct.error:
        raise damaged(message, "it is cut short") from None
    if codec != CODEC:
        raise ArchiveError(f"a block of {message!r} is coded in a way ({codec}) that this program does not know: use a later one")
    at, kept = _HEAD.size + block.columns * _ENTRY.size, []
    if block.columns > MANTRA_PACK_COLUMNS or len(body) < at:
        raise damaged(message, "it is cut short")
    decompressor = zstandard.ZstdDecompressor()
    for i in range(min(block.columns, wanted)):
        size, stored, block.unit[i], block.plain[i], coded = _ENTRY.unpack_from(body, _HEAD.size + i * _ENTRY.size)
        raw = body[at:at + stored]
        at += stored
        if len(raw) != stored or size > min(32 * MANTRA_PACK_MOST, stored << 15):       # what zstd can make of it
            raise damaged(message, "it is cut short")
        if coded:
            try:
                if zstandard.frame_content_size(raw) != -1:     # zstd would believe it rather than `size`
                    raise damaged(message, "a column claims a size of its own")
                raw = decompressor.decompress(raw, max_output_size=size)
            except zstandard.ZstdError as error:
                raise damaged(message, str(error)) from None
        if len(raw) != size:
            raise damaged(message, f"a column has {len(raw)} bytes instead of {size}")
        raw = bytes(raw) + bytes(MANTRA_COLUMN_SLACK)
        kept.append(raw)
        bytes_of = raw
        block.column[i].data, block.column[i].size = <uint8_t *>&bytes_of[0], size
    return kept


def sources(str message not None, body: bytes) -> list[Source]:
    """Who a block has messages of. ArchiveError: it is damaged."""
    cdef mantra_block block
    cdef mantra_pack_source *found
    kept = opened(message, memoryview(body), &block, MANTRA_PACK_LOW)
    if block.columns <= MANTRA_PACK_LOW or block.sources > block.column[0].size:
        raise damaged(message, "it counts more sources than it has")
    found = <mantra_pack_source *>malloc((block.sources + 1) * sizeof(mantra_pack_source))
    if found == NULL:
        raise MemoryError
    try:
        if not mantra_unpack_sources(&block, found):
            raise damaged(message, "its sources do not add up")
        told = {}
        for i in range(block.sources):      # a feed that was given another publisher counts once
            key = (found[i].feed, found[i].venue, found[i].instrument)
            messages, images = told.get(key, (0, 0))
            told[key] = (messages + found[i].messages, images + found[i].images)
        return [Source(*key, *counts) for key, counts in told.items()]
    finally:
        free(found)


def unpack(str message not None, body: bytes, *, only: Collection[tuple[int, int]] | None = None) -> Block:
    """What is in a block; `only`: of these (venue, instrument). ArchiveError: it is damaged."""
    cdef mantra_block block
    cdef mantra_unpacked to
    cdef const mantra_layout *layout = layout_of(message)
    cdef uint8_t[::1] messages_of
    cdef uint16_t[::1] feeds_of
    cdef uint64_t[::1] positions_of
    cdef int64_t[:, ::1] levels_of
    cdef mantra_pack_image *each
    cdef int failed
    cdef uint32_t i
    cdef uint64_t most = 0      # levels there can be
    kept = opened(message, memoryview(body), &block, MANTRA_PACK_COLUMNS)
    updates = message == "update"
    for i in range(<uint32_t>MANTRA_PACK_RANK, <uint32_t>MANTRA_PACK_OFFSET):
        most += block.column[i].size if updates else 0
    if (block.columns != mantra_pack_columns_of(layout) or block.rows != block.column[<int>MANTRA_PACK_LOW].size
            or block.messages > block.rows + most or block.images > block.rows or block.image_levels > most):
        raise damaged(message, "its counts do not fit its columns")
    messages = numpy.empty(block.messages, DTYPES[message])
    feeds, positions = numpy.empty(block.messages, numpy.uint16), numpy.empty(block.messages, numpy.uint64)
    levels = numpy.empty((block.image_levels + 1, 2), numpy.int64)
    to.images = <mantra_pack_image *>calloc(block.images + 1, sizeof(mantra_pack_image))
    if to.images == NULL:
        raise MemoryError
    try:
        levels_of = levels
        to.levels = <int64_t (*)[2]>&levels_of[0, 0]
        if block.messages:
            messages_of, feeds_of, positions_of = messages.view(numpy.uint8), feeds, positions
            to.messages, to.feeds, to.positions = &messages_of[0], &feeds_of[0], &positions_of[0]
        with nogil:
            failed = mantra_unpack(&block, layout, &to)
        if failed == -2:
            raise MemoryError
        if failed:
            raise damaged(message, "its columns contradict each other")
        images = []
        for i in range(block.images):
            each = &to.images[i]
            first = <uint64_t>(<char *>each.levels - <char *>to.levels) // 16
            bids, asks = levels[first:first + each.count[0]], levels[first + each.count[0]:first + each.count[0] + each.count[1]]
            images.append(Image(each.before, each.feed, BookImage(
                bids, asks, each.count[0], each.count[1], each.instrument, each.venue, each.trust, each.reason,
                each.trust_since_ns, each.generation, each.sequence, each.venue_time_ns, each.position, 0, 0, 0)))
    finally:
        free(to.images)
    if only is None:
        return Block(messages, feeds, positions, images)
    keys = messages["venue"].astype("u8") << numpy.uint64(32) | messages["instrument"]
    wanted = numpy.isin(keys, numpy.array([venue << 32 | instrument for venue, instrument in only], "u8"))
    before = numpy.concatenate([[0], numpy.cumsum(wanted)])
    return Block(messages[wanted], feeds[wanted], positions[wanted], [
        Image(int(before[image.before]), image.feed, image.image) for image in images
        if (image.image.venue, image.image.instrument) in only])
