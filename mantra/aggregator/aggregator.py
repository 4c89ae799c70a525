"""aggregator: LAYER 4, many listeners' tops become one view of the world.

An aggregator is an actor that reads queues and writes one; what it does with them is compiled (mantra.core.aggregate)
and runs without the GIL, so that a busy Python thread in the same process delays no view.
"""
from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from mantra.core.aggregate import Hop, WorldMerger
from mantra.core.ledger import Ledger
from mantra.core.merge import Merge
from mantra.core.messages import Trust
from mantra.core.queue import Producer
from mantra.errors import ConfigurationError
from mantra.runtime.actor import Actor
from mantra.runtime.spine import Spine

IDLE_NS = 3600 * 10**9       # a hop stays compiled this long; `wake` ends it at once


class HopActor(Actor):
    """An actor whose step is a compiled hop: `reads` queue families of one message, `writes` one queue."""

    message = "top"          # of the queues read
    writing = "world"        # of the queue written

    def __init__(self, name: str, reads: Sequence[str], writes: Sequence[str]) -> None:
        super().__init__(name, reads, writes)
        if len(self.writes) != 1:
            raise ConfigurationError(f"{name} writes one queue, not {len(self.writes)}")
        self._hop: Hop | None = None

    @abstractmethod
    def hop(self, spine: Spine, merge: Merge, producer: Producer) -> Hop:
        """The compiled hop from `merge` to `producer`."""

    def setup(self, spine: Spine) -> None:
        names = [name for family in self.reads for name in spine.queue_names(family)]
        queues = [spine.queue(name, self.message) for name in names]
        if not queues:
            raise ConfigurationError(f"{self.name} reads {', '.join(self.reads)}: there is no such queue")
        hop = self.hop(spine, Merge(queues, doorbell=spine.doorbell, tracker=spine.tracked()),
                       spine.writer(self.writes[0], self.writing))
        ledger = spine.ledger if spine.owner else Ledger.open(f"{spine.run}.ledger", write=True)
        rows = {row.name: row for row in ledger.rows()}
        hop.feeds = [rows.get(name.partition(".")[2]) for name in names]
        self._hop = hop

    def step(self, spine: Spine) -> int:
        assert self._hop is not None
        return self._hop.step(0 if self.stopping.is_set() else IDLE_NS)

    def wake(self) -> None:
        if (hop := self._hop) is not None:      # taken once: teardown may be under way
            hop.wake()

    def teardown(self, spine: Spine) -> None:
        self._hop = None

    @property
    def counts(self) -> dict[str, int]:
        """published; lost (overwritten before they were read); unknown (messages of instruments the run has not)."""
        hop = self._hop
        return {} if hop is None else {"published": hop.published, "lost": hop.lost, "unknown": hop.unknown}


class Aggregator(HopActor):
    """Merge tops into world views: the queue written, and the newest of every instrument in the vector of that name.

    `least_trust`: venues trusted less contribute nothing ("unverified" by default: gaps, silence and crosses are out).
    """

    summed = False

    def __init__(self, name: str, reads: Sequence[str], writes: Sequence[str], *,
                 least_trust: str | int = "unverified") -> None:
        super().__init__(name, reads, writes)
        try:
            self._least_trust = Trust[least_trust.upper()] if isinstance(least_trust, str) else Trust(least_trust)
        except (KeyError, ValueError):
            raise ConfigurationError(f"{name}: least_trust {least_trust!r} is not one of "
                                     f"{', '.join(trust.name.lower() for trust in Trust)}") from None

    def hop(self, spine: Spine, merge: Merge, producer: Producer) -> WorldMerger:
        return WorldMerger(merge, producer, spine.clock, instruments=spine.instrument_rows,
                           latest=spine.latest(self.writes[0]), doorbell=spine.doorbell, tops=spine.tops,
                           latency=spine.histogram(f"socket_to_{self.writes[0]}.{self.name}"),
                           least_trust=self._least_trust, summed=self.summed)
