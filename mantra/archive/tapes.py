"""tapes: what a capture keeps of a run's tapes, for its stream "raw" (mantra/tape/raw.py)."""
from __future__ import annotations

from collections.abc import Callable

from mantra.core.ledger import Row
from mantra.core.tape import TapeReader
from mantra.errors import ConfigurationError
from mantra.runtime.spine import Spine
from mantra.tape.raw import LAYOUT, RawPacker


class Tapes:
    """All tapes of a run, read as they come, and what was gathered of them since the last block."""

    def __init__(self, spine: Spine, row: Callable[[str], Row | None]) -> None:
        if not spine.tapes():
            raise ConfigurationError(f"run {spine.run!r} has no tapes: start it with raw = true, or me with feeds")
        self._spine, self._row = spine, row
        self._readers: dict[str, tuple[int, TapeReader]] = {}
        self.number = 1 << 15               # of the stream: those of queues count from 1
        self.taken = self.written = self.bytes = 0
        self.packer = RawPacker()

    def look(self, numbers: dict[str, int]) -> dict[int, str]:
        """For tapes that are new, numbered among the feeds: those that there are."""
        for feed in self._spine.tapes():
            if (name := f"raw.{feed}") not in self._readers:
                number = numbers.setdefault(name, len(numbers))
                self._readers[name] = number, self._spine.tape(feed).reader(row=self._row(feed.removesuffix("-next")))
        return {number: name for name, (number, _) in self._readers.items()}

    def told(self) -> dict[int, dict[str, str]]:
        """For the table of a file."""
        return {self.number: {"name": "raw", "message": "", "layout": LAYOUT}}

    def take(self, full: Callable[[], None]) -> int:
        """What waits on all of them; `full` is called whenever a block is."""
        taken = 0
        for number, reader in self._readers.values():
            while len((batch := reader.batch())[0]):
                self.packer.add(number, *batch)
                taken += len(batch[0])
                if self.packer.room <= 0:
                    full()
        self.taken += taken
        return taken

    def cut(self) -> RawPacker:
        """What is a block now."""
        was, self.packer = self.packer, RawPacker()
        return was

    @property
    def lost(self) -> int:
        """Records overwritten before they were read."""
        return sum(reader.lost for _, reader in self._readers.values())
