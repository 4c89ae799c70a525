"""pack: messages of one stream as a block: columns, each coded by what it is."""
import json
from libc.stdint cimport uint32_t, uint64_t

from typing import NamedTuple

import numpy
import zstandard

from mantra.core.book import BookImage
from mantra.core.messages import DTYPES
from mantra.errors import ArchiveError


class Source(NamedTuple):
    """Who a block has messages of."""

    feed: int
    venue: int
    instrument: int
    messages: int
    images: int


class Image(NamedTuple):
    """A book as it was before `messages[before]`."""

    before: int
    feed: int
    image: BookImage


class Block(NamedTuple):
    """What was added to a packer, in the order of publishing."""

    messages: NDArray[numpy.void]
    feeds: NDArray[numpy.uint16]
    positions: NDArray[numpy.uint64]
    images: list[Image]


class Packer:
    """Gathers messages of one stream until they are a block."""

    def __init__(self, str message not None, uint32_t most=131_072):
        self.message, self.most = message, most
        self._clear()

    def _clear(self):
        self.batches, self.images, self.held = [], [], 0

    @property
    def count(self) -> int:
        return self.held

    @property
    def room(self) -> int:
        return self.most - self.held

    def add(self, int feed, messages, uint64_t position) -> None:
        if len(messages) > self.room:
            raise ValueError(f"{len(messages)} messages, and room for {self.room}")
        if messages.dtype != DTYPES[self.message]:
            raise ValueError(f"not messages of {self.message!r}")
        self.batches.append((feed, messages.copy(), position))
        self.held += len(messages)

    def image(self, int feed, image) -> None:
        self.images.append((feed, image, sum(len(batch) for _, batch, _ in self.batches)))

    def _published(self):
        if not self.held:
            return numpy.zeros(1, numpy.uint64)
        return numpy.concatenate([batch["origin"] + (batch["published"] >> numpy.uint64(16)) for _, batch, _ in self.batches])

    @property
    def first(self) -> int:
        return int(self._published().min())

    @property
    def last(self) -> int:
        return int(self._published().max())

    def pack(self, int level=3) -> bytes:
        batches = [batch for _, batch, _ in self.batches] or [numpy.empty(0, DTYPES[self.message])]
        feeds = [numpy.full(len(batch), feed, numpy.uint16) for feed, batch, _ in self.batches]
        positions = [numpy.arange(p, p + len(batch), dtype=numpy.uint64) for _, batch, p in self.batches]
        raw = numpy.concatenate(batches)
        rows = numpy.concatenate([numpy.empty(0, numpy.uint16), *feeds]), numpy.concatenate(
            [numpy.empty(0, numpy.uint64), *positions])
        times, order, last = self._published(), [], {}
        for at in range(len(raw)):      # a feed's order is kept
            feed = int(rows[0][at])
            last[feed] = max(int(times[at]), last.get(feed, 0))
            order.append((last[feed], at))
        order = [at for _, at in sorted(order)]
        rank = {at: n for n, at in enumerate(order)}
        images = []
        for feed, image, after in self.images:
            before = min((rank[at] for at in range(after, len(raw)) if rows[0][at] == feed and rows[1][at] >= image.position),
                         default=len(raw))
            images.append([before, feed, [value.tolist() if hasattr(value, "tolist") else value for value in image]])
        header = json.dumps([len(raw), images]).encode()
        body = len(header).to_bytes(4, "little") + header + raw[order].tobytes() + rows[0][order].tobytes() + rows[1][order].tobytes()
        self._clear()
        return zstandard.ZstdCompressor(level).compress(body)


def _open(str message, body):
    try:
        text = zstandard.ZstdDecompressor().decompress(body, max_output_size=1 << 30)
        size = int.from_bytes(text[:4], "little")
        count, images = json.loads(text[4:4 + size])
        at, dtype = 4 + size, DTYPES[message]
        messages = numpy.frombuffer(text, dtype, count, at)
        at += messages.nbytes
        feeds = numpy.frombuffer(text, numpy.uint16, count, at)
        positions = numpy.frombuffer(text, numpy.uint64, count, at + feeds.nbytes)
        whole = [Image(before, feed, BookImage(*(numpy.array(value, numpy.int64).reshape(-1, 2) if isinstance(value, list) else value
                                                 for value in image))) for before, feed, image in images]
        return messages, feeds, positions, whole
    except (ValueError, zstandard.ZstdError, TypeError) as error:
        raise ArchiveError(f"a block of {message!r} is damaged: {error}") from None


def unpack(str message not None, body, *, only=None) -> Block:
    """The messages of a block; `only`: of these (venue, instrument). ArchiveError: it is damaged."""
    messages, feeds, positions, images = _open(message, body)
    if only is not None:
        wanted = numpy.zeros(len(messages), bool)
        for venue, instrument in only:
            wanted |= (messages["venue"] == venue) & (messages["instrument"] == instrument)
        index = numpy.concatenate([[0], numpy.cumsum(wanted)])
        images = [Image(int(index[i.before]), i.feed, i.image) for i in images if (i.image.venue, i.image.instrument) in only]
        messages, feeds, positions = messages[wanted], feeds[wanted], positions[wanted]
    return Block(messages.copy(), feeds.copy(), positions.copy(), images)


def sources(str message not None, body) -> list[Source]:
    """Who a block has messages of."""
    messages, feeds, _, images = _open(message, body)
    found = {}
    if "venue" in messages.dtype.names and "instrument" in messages.dtype.names:
        for feed, venue, instrument in zip(feeds.tolist(), messages["venue"].tolist(), messages["instrument"].tolist()):
            found[feed, venue, instrument] = found.get((feed, venue, instrument), 0) + 1
    else:
        for feed in feeds.tolist():
            found[feed, 0, 0] = found.get((feed, 0, 0), 0) + 1
    held = {}
    for each in images:
        key = (each.feed, each.image.venue, each.image.instrument)
        held[key] = held.get(key, 0) + 1
    return [Source(*key, found.get(key, 0), held.get(key, 0)) for key in sorted(found.keys() | held.keys())]
