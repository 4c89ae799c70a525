"""actor: the contract of everything that runs.

An actor is `setup, step, teardown`. It owns what it writes and never blocks for long: `step` does what is waiting and
returns how much that was; a tile calls it again. It meets other actors only in the spine's queues and vectors.
"""
from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mantra.errors import MantraError

if TYPE_CHECKING:
    from mantra.runtime.spine import Spine


class Failed(MantraError):
    """What an actor failed of, in full: a traceback of who noticed says nothing. `told`: the log has it already."""

    told = False


class Actor(ABC):
    """One loop of the system.

    `reads` and `writes` are the queue families it touches ("tops" is every "tops.<feed>"), as its topology says. The
    other options of its node are keyword arguments of its `__init__`. Compiled actors wait inside `step`, without the
    GIL, and come back when there is something for Python to do, or when `wake` is called from another thread.
    `stopping` is set by the tile when the actor is to end: whatever waits long inside `step` watches it.
    """

    numbers: Sequence[int] = ()     # of those it speaks for among the run's actors; none: its tile enters it
    identity = 0                    # of its process, when that is not this one

    def __init__(self, name: str, reads: Sequence[str] = (), writes: Sequence[str] = ()) -> None:
        self.name, self.reads, self.writes = name, tuple(reads), tuple(writes)
        self.stopping = threading.Event()

    def setup(self, spine: Spine) -> None:  # noqa: B027 - an actor may have nothing to do here
        """Open queues (`spine.reader`, `spine.writer`) and vectors; called once, before it steps."""

    @abstractmethod
    def step(self, spine: Spine) -> int | None:
        """Do what is waiting; return how much it was (0: nothing, the tile may rest)."""

    def wake(self) -> None:  # noqa: B027 - an actor may have nothing to do here
        """Make a waiting `step` return soon; called from any thread. Readers' `wait` is ended without it."""

    def teardown(self, spine: Spine) -> None:  # noqa: B027 - an actor may have nothing to do here
        """Let go of what is not the spine's; called once, after the last step, unless `setup` failed."""
