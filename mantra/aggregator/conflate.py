"""conflate: a transformer from updates (or tops) to tops, of every book the newest, at most once an interval."""
from __future__ import annotations

from collections.abc import Sequence

from mantra.aggregator.aggregator import HopActor
from mantra.core.aggregate import Conflator
from mantra.core.merge import Merge
from mantra.core.queue import Producer
from mantra.errors import ConfigurationError
from mantra.runtime.spine import Spine


class Conflate(HopActor):
    """Reads families of tops; or of updates, and then publishes what the run's books have become by them."""

    writing = "top"

    def __init__(self, name: str, reads: Sequence[str], writes: Sequence[str], *, interval_ms: float = 100) -> None:
        super().__init__(name, reads, writes)
        kinds = {family.split(".")[0] for family in self.reads}
        if kinds not in ({"tops"}, {"updates"}) or not interval_ms >= 0:
            raise ConfigurationError(f"{name} reads {', '.join(self.reads)} every {interval_ms} ms: it reads tops or "
                                     "updates, not both, and an interval is not negative")
        self.message = "top" if kinds == {"tops"} else "update"
        self._interval_ns = int(interval_ms * 1e6)

    def hop(self, spine: Spine, merge: Merge, producer: Producer) -> Conflator:
        books = [spine.book(*name.split(".", 1)) for name in spine.book_names()] if self.message == "update" else ()
        return Conflator(merge, producer, spine.clock, self._interval_ns, books=books, doorbell=spine.doorbell,
                         tops=spine.tops)
