"""tile: one actor on one thread, pinned if asked."""
from __future__ import annotations

import logging
import os
import threading

from mantra.core.doorbell import Doorbell
from mantra.errors import ConfigurationError
from mantra.runtime.actor import Actor
from mantra.runtime.spine import Spine

log = logging.getLogger("mantra.tile")


class Tile:
    """Run `actor` on a thread of its own until it is stopped or raises.

    An actor that raises is logged with its traceback, torn down and kept in `error`; the others go on.
    """

    def __init__(self, actor: Actor, spine: Spine, *, core: int | None = None) -> None:
        if core is not None and core not in os.sched_getaffinity(0):
            raise ConfigurationError(f"{actor.name}: there is no core {core} here; choose from "
                                     f"{sorted(os.sched_getaffinity(0))}")
        self.actor = actor
        self.error: BaseException | None = None
        self._spine = spine
        self._core = core
        self._stopping = actor.stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"mantra-{actor.name}", daemon=True)

    def setup(self) -> None:
        self.actor.setup(self._spine)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask the actor to end; does not wait."""
        self._stopping.set()
        self.actor.wake()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end; True if it came."""
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        if self._core is not None:
            os.sched_setaffinity(0, {self._core})   # 0: this thread
        doorbell: Doorbell = self._spine.doorbell
        try:
            while not self._stopping.is_set():
                seen = doorbell.seen()
                if not self.actor.step(self._spine):
                    doorbell.wait(0.001, seen)
        except BaseException as error:
            self.error = error
            log.exception("%s stopped: %s", self.actor.name, error)
        finally:
            try:
                self.actor.teardown(self._spine)
            except Exception:
                log.exception("%s: teardown failed", self.actor.name)
