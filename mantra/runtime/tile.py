"""tile: one actor on one thread, pinned if asked; what it raises is told once, counted, and handled as its policy says.

    starting --> running --> stopped            on-failure: restarting, after 100 ms, 200, 400, ... at most 5 s;
        |  ^        |                           too many restarts, or never: failed
        |  '- restarting <- it raised -> failed

An actor in a process of its own (mantra.runtime.process) lives on a tile too: the tile's thread waits for the process.
"""
from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mantra.core.doorbell import IDLING
from mantra.core.messages import ActorState
from mantra.core.region import process_identity
from mantra.errors import ConfigurationError
from mantra.runtime.actor import Actor, Failed
from mantra.runtime.settings import one_of, whole
from mantra.runtime.spine import Spine

log = logging.getLogger("mantra.tile")
LONGEST_PAUSE_S = 5.0
HEALTHY_S = 60.0            # who ran so long has all its restarts again
DRAIN_S = 0.2               # for what waits when an actor is to end
RULES = {"core": whole(0, 2**31 - 1, optional=True), "idle": one_of(*IDLING), "restart": one_of("never", "on-failure"),
         "pause_ms": whole(0, 3_600_000), "most_restarts": whole(0, 2**31 - 1)}


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How an actor runs, and what becomes of it when it fails."""

    core: int | None = None         # None: wherever there is time
    idle: str = "adapt"             # spin, yield, park; adapt: what fits the CPUs
    restart: str = "never"          # never, on-failure
    pause_ms: int = 100             # before the first restart; twice as long before each further one
    most_restarts: int = 10         # then it has failed
    vital: bool | None = None       # the run ends when it fails; None: if it is mantra's own

    def check(self, name: str) -> None:
        """ConfigurationError, in one line, when a field breaks its rule."""
        for field, (rule, allows) in RULES.items():
            if not allows(value := getattr(self, field)):
                raise ConfigurationError(f"{name}: {field} must be {rule}, not {value!r}")
        if self.core is not None and self.core not in os.sched_getaffinity(0):
            raise ConfigurationError(f"{name}: there is no core {self.core} here; choose from "
                                     f"{sorted(os.sched_getaffinity(0))}")


class Tile:
    """Run `actor` on a thread of its own until it is stopped, or fails for good; `again` makes the next one to try.

    Its state stands in the run's actors, for everybody to see. `error`: what it failed of.
    """

    def __init__(self, actor: Actor, spine: Spine, policy: Policy | None = None, *, kind: str = "",
                 again: Callable[[], Actor] | None = None) -> None:
        self.policy = policy or Policy()
        self.policy.check(actor.name)
        self.actor = actor
        self.name = actor.name
        self.error: BaseException | None = None
        self.state = ActorState.STARTING
        self.restarts = self.failures = 0
        self._tries = 0                             # restarts since it was healthy
        self._since = time.monotonic()
        self._again = again or (lambda: actor)
        self._is_set_up = False
        self._stopping = actor.stopping = threading.Event()
        self._end = float("inf")                    # of draining
        self._numbers = actor.numbers
        if not self._numbers and spine.owner:
            core = -1 if self.policy.core is None else self.policy.core
            self._numbers = [spine.add_actor(self.name, kind or type(actor).__name__.lower(), core=core)]
        self.spine = spine.for_actor(self.name, self._numbers[0] if self._numbers else spine.number, self.policy.idle)
        self._thread = threading.Thread(target=self.run, name=f"mantra-{self.name}", daemon=True)

    def setup(self) -> None:
        """Set the actor up. A ConfigurationError is raised; anything else is told and handled once the tile starts."""
        log.info("%r", self)
        try:
            self._set_up()
        except ConfigurationError:
            raise
        except Exception as error:
            self._failed("setup", error)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask the actor to end, when it has read what waits; does not wait for that."""
        self._end = time.monotonic() + DRAIN_S
        self._stopping.set()
        self.actor.wake()
        self.spine.wake()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end; True if it came."""
        if self._thread.ident is None:
            self._tear_down()
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def run(self) -> None:
        """The actor's life, on the calling thread."""
        Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(self.name[:15])
        if self.policy.core is not None:
            os.sched_setaffinity(0, {self.policy.core})     # 0: this thread
        while True:
            if self._is_set_up:
                self._guarded("step", self._loop)
            self._tear_down()
            if self._stopping.is_set():
                return self._say(ActorState.STOPPED)
            if (pause := self._pause()) is None:
                return self._say(ActorState.FAILED)
            self._say(ActorState.RESTARTING)
            if self._stopping.wait(pause):
                return self._say(ActorState.STOPPED)
            self.restarts += 1
            self.error = None
            self._guarded("setup", self._set_up_again)

    def _set_up_again(self) -> None:
        self.actor = self._again()
        self.actor.stopping = self._stopping
        self._set_up()

    def _set_up(self) -> None:
        self._since = time.monotonic()
        self.actor.setup(self.spine)
        self._is_set_up = True

    def _loop(self) -> None:
        self._say(ActorState.RUNNING)
        actor, spine, stopping = self.actor, self.spine, self._stopping
        while not stopping.is_set():
            if not actor.step(spine):
                self._rest()
        while actor.reads and actor.step(spine) and time.monotonic() < self._end:
            pass        # its writers have ended before it: what they wrote is read

    def _rest(self) -> None:
        """Nothing waits: idle as told, a millisecond at most."""
        spine = self.spine
        spine.rest()
        if len(spine.readers) == 1:
            spine.readers[0].wait(0.001)            # compiled, and without the GIL
        elif self.policy.idle == "yield":
            os.sched_yield()
        elif self.policy.idle != "spin":
            seen = spine.doorbell.seen()
            if not self.actor.step(spine):
                spine.doorbell.wait(0.001, seen)

    def _tear_down(self) -> None:
        if self._is_set_up:
            self._is_set_up = False
            self._guarded("teardown", lambda: self.actor.teardown(self.spine))
        self.spine.release()

    def _guarded(self, what: str, call: Callable[[], None]) -> None:
        try:
            call()
        except BaseException as error:
            self._failed(what, error)

    def _failed(self, what: str, error: BaseException) -> None:
        """Tell of it once, with its traceback from the actor on, and count it."""
        if what == "setup" and self._stopping.is_set():
            return      # it was interrupted
        self.failures += 1
        if what != "teardown":
            self.error = error
        if not (isinstance(error, Failed) and error.told):
            trace = error.__traceback__
            while trace is not None and trace.tb_next is not None and trace.tb_frame.f_code.co_filename == __file__:
                trace = trace.tb_next
            log.error("%s failed in its %s: %s", self.name, what, error or type(error).__name__,
                      exc_info=None if isinstance(error, Failed | ConfigurationError) else (type(error), error, trace))

    def _pause(self) -> float | None:
        """Seconds until it is tried again; None: it is not."""
        if self.policy.restart == "never":
            return None
        if time.monotonic() - self._since > HEALTHY_S:
            self._tries = 0
        if self._tries >= self.policy.most_restarts:
            log.error("%s is given up after %d restarts", self.name, self._tries)
            return None
        self._tries += 1
        return min(LONGEST_PAUSE_S, self.policy.pause_ms / 1000 * 2.0**min(self._tries - 1, 32))

    def _say(self, state: ActorState) -> None:
        self.state = state
        log.info("%r", self)
        changed = {"state": state, "restarts": self.restarts, "failures": self.failures,
                   "identity": self.actor.identity or process_identity(), "process": bool(self.actor.identity)}
        if state == ActorState.RUNNING:
            changed["started_utc_ns"] = self.spine.clock.utc_ns()
        for number in self._numbers if self.spine.owner else ():
            self.spine.change_actor(number, **changed)

    def __repr__(self) -> str:
        where = "" if self.policy.core is None else f", core {self.policy.core}"
        return f"<Tile {self.name}: {self.state.name.lower()}{where}, idle: {self.spine.doorbell.idling}>"
