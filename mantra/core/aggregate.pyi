from collections.abc import Sequence

from mantra.core.book import Book
from mantra.core.clock import Clock
from mantra.core.doorbell import Doorbell
from mantra.core.histogram import Histogram
from mantra.core.merge import Merge
from mantra.core.queue import Producer
from mantra.core.vector import Vector

class Hop:
    def step(self, budget_ns: int = 0) -> int: ...
    def wake(self) -> None: ...
    @property
    def lost(self) -> int: ...
    @property
    def unknown(self) -> int: ...
    @property
    def published(self) -> int: ...

class WorldMerger(Hop):
    def __init__(self, merge: Merge, output: Producer, clock: Clock, *, instruments: Vector, latest: Vector,
                 doorbell: Doorbell | None = None, tops: Vector | None = None, latency: Histogram | None = None,
                 least_trust: int = 3, summed: bool = False) -> None: ...

class Conflator(Hop):
    def __init__(self, merge: Merge, output: Producer, clock: Clock, interval_ns: int, *, books: Sequence[Book] = (),
                 doorbell: Doorbell | None = None, tops: Vector | None = None, most_books: int = 8192) -> None: ...
