"""client/recorded: a recording as a client: the bytes a venue sent, in memory, in the order they arrived.

Messages lie one after the other, each followed by the padding that the hot path may read past it, so that a pass over
all of them is one call without the GIL. REST books stand between them, where they arrived.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from mantra.core.hot_path import PADDING
from mantra.errors import ConfigurationError
from mantra.tape.lines import Record
from mantra.venues.venue import Listing, Venue


@dataclass(frozen=True)
class Snapshot:
    """A REST book that arrived after `before` messages; `symbol` is empty where the recording does not say."""

    before: int
    symbol: str
    body: bytes


class Recorded:
    """`records` of `venue`, loaded. `messages[i]` is `texts[offsets[i]:offsets[i + 1] - PADDING]`."""

    def __init__(self, venue: Venue, records: Iterable[Record]) -> None:
        self.venue = venue
        self.snapshots: list[Snapshot] = []
        self.listings: list[Listing] = []
        texts, offsets = bytearray(), [0]
        self.times_ns: list[int] = []
        for record in records:
            if record.kind == "message":
                texts += record.text
                texts += bytes(PADDING)
                offsets.append(len(texts))
                self.times_ns.append(record.time_ns)
            elif record.kind == "rest":
                self._rest(record, len(offsets) - 1)
        if len(offsets) == 1:
            raise ConfigurationError(f"the recording has no messages of {venue.name}")
        self.texts = np.frombuffer(bytes(texts), np.uint8)
        self.offsets = np.array(offsets, np.uint64)

    def _rest(self, record: Record, before: int) -> None:
        if record.url is None:
            self.snapshots.append(Snapshot(before, "", record.text))
        elif self.venue.lists_instruments(record.url):
            self.listings += self.venue.parse_instruments(record.text)
        elif symbol := self.venue.snapshot_symbol(record.url):
            self.snapshots.append(Snapshot(before, symbol, record.text))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> bytes:
        return self.texts[int(self.offsets[index]):int(self.offsets[index + 1]) - PADDING].tobytes()

    def __iter__(self) -> Iterator[bytes]:
        return (self[index] for index in range(len(self)))
