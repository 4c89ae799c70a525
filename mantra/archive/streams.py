"""streams: what a capture keeps: families of queues, and the tapes of a run; each gathered until it is a block."""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from mantra.core.gather import Gather
from mantra.core.ledger import Row
from mantra.core.messages import LAYOUTS, Kind
from mantra.core.pack import Packer
from mantra.core.tape import TapeReader
from mantra.errors import ConfigurationError
from mantra.runtime.spine import Spine
from mantra.tape.raw import LAYOUT, RawPacker

if TYPE_CHECKING:
    from mantra.archive.capture import Capture

MOST = {"update": 131_072}
FEWER = 16_384          # messages in a block of another kind
TAKES = 32              # from a family in a round, at most; each up to 9,362 updates
IMAGED = 500_000        # images and their levels, after which a block is closed: each takes four bytes or so
KEY_FRAME = 11          # updates for every level of an image: they take about eight times its bytes
RAW = 1 << 15           # number of the tapes' stream: those of queues count from 1

Held = dict[int, tuple[int, int]]     # by feed: position of the first message, how many


class Stream(ABC):
    """What its blocks held, and what was gathered since the last. `make` makes what gathers."""

    def __init__(self, number: int, name: str, message: str, layout: str, make: Callable[[], Any]) -> None:
        self.number, self.message, self._make = number, message, make
        self.told = {"name": name, "message": message, "layout": layout}    # for the table of a file
        self.taken = self.written = self.bytes = 0
        self.packer, self.held = make(), Held()
        self.imaged = 0         # images, and levels of them

    def cut(self) -> tuple[Any, Held]:
        """What is a block now; what comes next will be another."""
        was = self.packer, self.held
        self.packer, self.held, self.imaged = self._make(), {}, 0
        return was

    @abstractmethod
    def take(self, capture: Capture) -> int:
        """Gather what waits; how many it was."""

    @property
    @abstractmethod
    def lost(self) -> int:
        """How many were overwritten before they were read."""


class Queues(Stream):
    """A family of queues."""

    def __init__(self, number: int, name: str, message: str, spine: Spine) -> None:
        super().__init__(number, name, message, LAYOUTS[message],
                         lambda: Packer(message, MOST.get(message, FEWER)))
        self.gather = Gather(message, spine.tracked())

    def take(self, capture: Capture) -> int:
        taken = self.taken
        for _ in range(TAKES):
            messages, runs = self.gather.take()
            if not len(messages):
                break
            at = 0
            for feed, count, position, lost in runs:
                if lost:
                    capture.miss({feed: (position - lost, lost)})
                for start in range(at, at + count, FEWER):
                    part = messages[start:min(at + count, start + FEWER)]
                    if self.packer.room < len(part):
                        capture.flush(self)
                    self.packer.add(feed, part, position + start - at)
                    first, held = self.held.get(feed, (position, 0))
                    self.held[feed] = first, held + len(part)
                at += count
            if self.message == "update" and len(resets := np.flatnonzero(messages["kind"] == Kind.RESET)):
                feeds = np.repeat([run[0] for run in runs], [run[1] for run in runs])[resets]
                for key in set(zip(feeds.tolist(), messages["instrument"][resets].tolist(), strict=True)):
                    capture.image(key)
            self.taken += len(messages)
        self.gather.rest()
        return self.taken - taken

    @property
    def lost(self) -> int:
        return self.gather.lost


class Tapes(Stream):
    """All tapes of a run (mantra/tape/raw.py)."""

    def __init__(self, spine: Spine) -> None:
        if not spine.tapes():
            raise ConfigurationError(f"run {spine.run!r} has no tapes: start it with --raw, or me with feeds")
        super().__init__(RAW, "raw", "", LAYOUT, RawPacker)
        self._spine = spine
        self._readers: dict[str, tuple[int, TapeReader]] = {}

    def look(self, numbers: dict[str, int], row: Callable[[str], Row | None]) -> dict[int, str]:
        """For tapes that are new, numbered among the feeds: those that there are."""
        for feed in self._spine.tapes():
            if (name := f"raw.{feed}") not in self._readers:
                number = numbers.setdefault(name, len(numbers))
                self._readers[name] = number, self._spine.tape(feed).reader(row=row(feed.removesuffix("-next")))
        return {number: name for name, (number, _) in self._readers.items()}

    def take(self, capture: Capture) -> int:
        taken = self.taken
        for number, reader in self._readers.values():
            while len((batch := reader.batch())[0]):
                self.packer.add(number, *batch)
                self.taken += len(batch[0])
                if self.packer.room <= 0:
                    capture.flush(self)
        return self.taken - taken

    @property
    def lost(self) -> int:
        return sum(reader.lost for _, reader in self._readers.values())
