"""actor: the contract of everything that runs.

An actor is `setup, step, teardown`. It owns what it writes and never blocks for long: `step` does what is waiting and
returns how much that was; a tile calls it again. It meets other actors only in the spine's queues and vectors.
"""
from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mantra.runtime.spine import Spine


class Actor(ABC):
    """One loop of the system.

    `reads` and `writes` are the queue families it touches ("tops" is every "tops.<feed>"), so that a topology can be
    checked before it starts. Compiled actors wait inside `step`, without the GIL, and come back when there is something
    for Python to do, or when `wake` is called from another thread. `stopping` is set by the tile when the actor is to
    end: whatever waits long inside `step` watches it.
    """

    name: str
    stopping: threading.Event
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()

    def setup(self, spine: Spine) -> None:  # noqa: B027 - an actor may have nothing to do here
        """Open queues and vectors; called once, on the thread that made the tile, before any actor steps."""

    @abstractmethod
    def step(self, spine: Spine) -> int:
        """Do what is waiting; return how much it was (0: nothing, the tile may rest)."""

    def wake(self) -> None:  # noqa: B027 - an actor may have nothing to do here
        """Make a waiting `step` return soon; called from any thread."""

    def teardown(self, spine: Spine) -> None:  # noqa: B027 - an actor may have nothing to do here
        """Let go of everything; called once, after the last step, whatever happened."""
