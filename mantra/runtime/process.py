"""process: an actor in a process of its own. The same class as on a thread; one word of its node says which.

    Tile, in the run's process                           python -m mantra.runtime.process NAME KIND
      Process, the actor's stand-in   --- node, run, sys.path -->   attaches to the run, makes the actor, sets it up
                                      <-- ready, log records, why --   lives on a tile of its own
                                      --- SIGTERM, in time SIGKILL -->   reads what waits, tears down, ends

What the actor logs and raises comes out of the run's own log. When its process is gone, so are its regions.
"""
from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import pickle
import pkgutil
import queue
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from mantra.core.region import Region, process_identity
from mantra.errors import ConfigurationError, MantraError
from mantra.runtime import child
from mantra.runtime.actor import Actor, Failed
from mantra.runtime.spine import Spine
from mantra.runtime.tile import Policy, Tile
from mantra.runtime.topology import Node

log = logging.getLogger("mantra.tile")
END_WITHIN_S = 0.4


def make(node: Node, kind: Any = None) -> Actor:
    """The actor of a node: of class `kind`, or what its kind ("package.module:Class") names.

    ConfigurationError in one line when that cannot be imported, has no such option, or refuses a value."""
    if kind is None:
        if node.folder is not None and node.folder not in sys.path:
            sys.path.append(node.folder)
        try:
            kind = pkgutil.resolve_name(node.kind)
        except Exception as error:
            raise ConfigurationError(f"{node.name}: cannot import {node.kind}: {error}") from error
    try:
        actor = kind(node.name, node.reads, node.writes, **node.options)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{node.name}: {node.kind}: {error}") from error
    if not isinstance(actor, Actor):
        raise ConfigurationError(f"{node.name}: {node.kind} is not a class of actors")
    return actor


class Process(Actor):
    """Stands in for a node's actor, whose process it starts, waits for and ends."""

    def __init__(self, node: Node) -> None:
        super().__init__(node.name)     # reads nothing: its process does, to the end
        self._node = node
        self._process: subprocess.Popen[bytes] | None = None
        self._killer: threading.Timer | None = None
        self._pipe: Connection | None = None
        self._why: tuple[type[MantraError], str] | None = None

    def setup(self, spine: Spine) -> None:
        """Start it; returns when the actor is set up."""
        if spine.run is None:
            raise ConfigurationError(f"{self.name}: a private run cannot be joined by another process")
        spine.timings(self.name)
        self._pipe, writer = Pipe(duplex=False)
        level = logging.getLogger().getEffectiveLevel()
        given = (sys.path, self._node, spine.run, spine.number, writer.fileno(), level)
        try:
            with writer:
                self._process = child.spawn("mantra.runtime.process", [self.name, self._node.kind],
                                            pass_fds=(writer.fileno(),), given=pickle.dumps(given))
            self.identity = process_identity(self._process.pid)
            while (heard := self._hear()) is not None:
                if heard == "ready":
                    return
            self._raise()
        except BaseException:
            self.teardown(spine)
            raise

    def step(self, spine: Spine) -> int:
        """Until the process has ended, which it does only when asked to; Failed if not, or not as it should."""
        while self._hear() is not None:
            pass
        assert self._process is not None
        if not (self.stopping.is_set() and self._process.wait() in (0, -signal.SIGTERM)):
            self._raise()
        return 0

    def wake(self) -> None:
        if (process := self._process) is not None and process.poll() is None and self._killer is None:
            process.terminate()
            self._killer = threading.Timer(END_WITHIN_S, process.kill)
            self._killer.start()

    def teardown(self, spine: Spine) -> None:
        if self._killer is not None:
            self._killer.cancel()
        if self._process is not None:
            child.stop([self._process], END_WITHIN_S)
            Region.remove_stale(f"{spine.run}.")
        if self._pipe is not None:
            self._pipe.close()

    def _hear(self) -> object:
        """The next thing that the process says; None: it has ended (the pipe does not tell: its forks have it)."""
        assert self._pipe is not None
        assert self._process is not None
        while not self._pipe.poll(0.2):
            if self._process.poll() is not None:
                return None
            if self.stopping.is_set():      # since before there was a process to wake
                self.wake()
        try:
            heard: object = self._pipe.recv()
        except (EOFError, OSError):
            self._process.wait()
            return None
        if isinstance(heard, logging.LogRecord):
            logging.getLogger(heard.name).handle(heard)
        elif isinstance(heard, tuple):
            self._why = heard
        return heard

    def _raise(self) -> None:
        """What became of the process."""
        assert self._process is not None
        code = self._process.wait()
        if self._why is not None:
            error = self._why[0](self._why[1])
            if isinstance(error, Failed):
                error.told = True
            raise error
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        if self.stopping.is_set() and code == -signal.SIGKILL:
            how = f"did not end within {END_WITHIN_S} s, and was killed"
        raise Failed(f"its process {how}")


class Teller(logging.handlers.QueueHandler):
    """Writes log records, and whatever else is to be told, to the run's process."""

    def __init__(self, pipe: int) -> None:
        super().__init__(queue.SimpleQueue())
        self._pipe = Connection(pipe, readable=False)

    def enqueue(self, record: object) -> None:
        self.acquire()
        try:
            with contextlib.suppress(BrokenPipeError):      # the run is gone, and we soon
                self._pipe.send(record)
        finally:
            self.release()


def main() -> int:
    """The process; the run's own gave it stdin."""
    child.follow_parent()
    path, node, run, number, pipe, level = pickle.load(sys.stdin.buffer)
    sys.path[:] = path
    Path("/proc/self/comm").write_text(node.name[:15])
    teller = Teller(pipe)
    logging.basicConfig(level=level, handlers=[teller], format="%(message)s")
    log.setLevel(logging.WARNING)       # the run's own tile tells of this one's life

    def end(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    try:
        actor = make(node)
        actor.numbers = (number,)
        with Spine.attach(run) as spine:
            tile = Tile(actor, spine, Policy(core=node.core, idle=node.idle))
            tile.setup()
            if tile.error is None:
                teller.enqueue("ready")
            with contextlib.suppress(KeyboardInterrupt):
                tile.start()        # not on this thread: signals are to be heard whatever the actor does
                while tile.running:
                    time.sleep(0.05)    # an interrupted join would take the thread for ended (CPython 3.11)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            tile.stop()
            if not tile.join(2 * END_WITHIN_S):
                os._exit(1)     # the run would have killed it: there is none any more
            if tile.failures:
                teller.enqueue((Failed, str(tile.error) or type(tile.error).__name__))
                return 1
    except KeyboardInterrupt:
        pass
    except MantraError as error:
        kind = ConfigurationError if isinstance(error, ConfigurationError) else MantraError
        teller.enqueue((kind, str(error)))      # a class of the actor's own could not be told
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
