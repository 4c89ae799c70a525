"""A run made by hand: actors whose timings are what a test says, told through the same rings as everybody's."""
from __future__ import annotations

import itertools
import os

from mantra.core.messages import SOCKET, ActorState, Timing, Top, World
from mantra.core.queue import Queue
from mantra.runtime.spine import Spine

NAMES = (f"test-{os.getpid()}-telemetry-{number}" for number in itertools.count())


class HandMade:
    """A feed "binance.0" (0), an aggregator "best" (512) and a strategy "model" (513); times in microseconds."""

    def __init__(self) -> None:
        self.spine = Spine.create(next(NAMES))
        self.start = self.spine.clock.cycles()
        self.numbers, self.rings, self.queues = {}, {}, {}
        self.spine.ledger.row("binance.0", 0)
        for name, kind, number in (("binance.0", "feed", 0), ("best", "bbo", None), ("model", "quoter", None)):
            self.numbers[name] = self.spine.add_actor(name, kind, number)
            self.spine.change_actor(self.numbers[name], state=ActorState.RUNNING)
            self.ring(name)
        for name, message in (("tops.binance.0", "top"), ("world", "world")):
            self.queue(name, message)
        self.producers = {name: queue.producer() for name, queue in self.queues.items()}

    def queue(self, name: str, message: str) -> None:
        self.queues[name] = Queue.create(f"{self.spine.run}.{name}", message, 64, number=100 + len(self.queues))

    def ring(self, name: str, capacity: int = 64) -> None:
        self.rings[name] = self.spine.queue(f"timings.{name}", "timing", capacity).producer()

    def at(self, us: float) -> int:
        return self.start + round(us * self.spine.clock.mhz)

    def stamp(self, origin_us: float, published_us: float, publisher: str) -> dict[str, int]:
        delta = self.at(published_us) - self.at(origin_us)
        return {"origin": self.at(origin_us), "published": delta << 16 | self.numbers[publisher]}

    def publish(self, queue: str, origin_us: float, published_us: float, publisher: str) -> None:
        kind = Top if queue.startswith("tops") else World
        self.producers[queue].produce(kind(**self.stamp(origin_us, published_us, publisher)))

    def tell(self, actor: str, queue: str | None, position: int, origin_us: float, published_us: float,
             publisher: str, consumed_us: float, busy_us: float, count: int = 1) -> None:
        """One record of what `actor` took from `queue` (None: its socket)."""
        self.rings[actor].produce(Timing(
            **self.stamp(origin_us, published_us, publisher), consumed=self.at(consumed_us), position=position,
            busy=self.at(busy_us) - self.start, actor=self.numbers[actor], count=count,
            queue=SOCKET if queue is None else self.queues[queue].number))

    def message(self, position: int, us: float) -> None:
        """Bytes that came at `us`: 10 us later a top, taken after 5, in 2 a world, taken after 20, worked on for 50."""
        self.tell("binance.0", None, position, us, us, "binance.0", us, 12)
        self.publish("tops.binance.0", us, us + 10, "binance.0")
        self.tell("best", "tops.binance.0", position, us, us + 10, "binance.0", us + 15, 3)
        self.publish("world", us, us + 17, "best")
        self.tell("model", "world", position, us, us + 17, "best", us + 37, 50)

    def __enter__(self) -> HandMade:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for queue in self.queues.values():
            queue.close()
        self.spine.close()
