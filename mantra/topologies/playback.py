"""playback: a topology on history: a player stands where its listeners do, and everything else is as it is live.

    with mantra.play("recordings", speed=10, topology="mine.toml") as played:
        for world in played.read("world"):          # ends when all is played; nothing is missed, however slow this is
            ...
"""
from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mantra.archive.archive import Moment, moment
from mantra.archive.playback import Player
from mantra.core.merge import Merge
from mantra.errors import ConfigurationError
from mantra.listener.feed import Wanted
from mantra.listener.scales import Scales
from mantra.runtime.settings import Settings
from mantra.runtime.settings import read as read_settings
from mantra.runtime.tile import Tile
from mantra.runtime.topology import Node
from mantra.topologies.system import System
from mantra.venues.instrument import InstrumentTable

QUIET_S = 0.1       # without a message after the end: whoever makes others of them has made the last
SECOND = 10**9


class Playback(System):
    """A run whose feeds are played by `player`. It holds, with all ready, until it is first read, or `resume`d."""

    played = True

    def __init__(self, player: Player, settings: Settings, *,
                 services: Mapping[str, Sequence[str]] | None = None) -> None:
        super().__init__(settings, services=services, clock=player.clock(), table=InstrumentTable())
        if not any(node.kind == "listener" for node in self.topology.nodes):
            raise ConfigurationError(f"the topology {self.topology.name} has no listener to play for")
        self.player = player

    def _resolve(self, listeners: Sequence[Node]) -> dict[str, list[Wanted]]:
        return {}       # no venue is asked

    def _make_tiles(self, node: Node, wanted: Mapping[str, Sequence[Wanted]], scales: Scales) -> Iterator[Tile]:
        if node.kind != "listener":
            yield from super()._make_tiles(node, wanted, scales)
        elif not self.tiles:            # one for all
            yield Tile(self.player, self.spine, replace(node, vital=True), kind="player")

    def _leave_ledger(self) -> None:
        pass                            # it is history already

    # Steering --------------------------------------------------------------------------------------------------

    @property
    def time_ns(self) -> int:
        """UTC ns of the recording that is played just now."""
        return self.player.time_ns

    @property
    def done(self) -> bool:
        """Is all played?"""
        return self.player.done.is_set()

    def pause(self) -> None:
        self.player.do(lambda: self.player.hold(True))

    def resume(self) -> None:
        self.player.do(lambda: self.player.hold(False))

    def speed(self, speed: float | Literal["max"]) -> None:
        """So many recorded seconds a second from now on; "max": as fast as it is read."""
        self.player.do(lambda: self.player.pace(_pace(speed)))

    def step(self, count: int = 1, by: Literal["message", "batch", "second"] = "batch") -> int:
        """Play so much (a batch: what a venue's message led to) and hold. Returns the time then."""
        if by not in ("message", "batch", "second"):
            raise ConfigurationError(f"steps are by message, batch or second, not by {by!r}")
        self.player.do(lambda: self.player.play(*((count * SECOND, "ns") if by == "second" else (count, by))))
        return self.time_ns

    def seek(self, when: Moment) -> None:
        """Go on from there, back or forth: books are as they were then, and each tells so by a RESET."""
        self.player.do(lambda: self.player.seek(moment(when)))

    def wait(self, timeout: float | None = None) -> bool:
        """Play on until all is played; False: not within `timeout` seconds."""
        self.resume()
        return self.player.done.wait(timeout)

    def result(self, *, books: bool = False) -> dict[str, Any]:
        """What was played so far, counted; its digest; and every book."""
        return self.player.do(lambda: self.player.result(books=books))

    def readers(self) -> list[str]:
        """Processes beside this one that it waits for when they are slow."""
        audience = self.spine.audience
        return sorted({f"pid {pid}" for pid, *_ in (audience.readers() if audience else ()) if pid != os.getpid()})

    # Reading ---------------------------------------------------------------------------------------------------

    def read(self, family: str, timeout: float | None = None, **options: Any) -> Iterator[Any]:
        """As `Spine.read`, from this call on, and it ends when all is played. To read several families in one thread
        take turns: the player waits for the slowest reader."""
        return self._played(self._reader(family, **options), timeout, whole=False)

    def batches(self, family: str, timeout: float | None = None) -> Iterator[np.ndarray[Any, Any]]:
        """The same in numpy structured arrays."""
        return self._played(self._reader(family), timeout, whole=True)

    def _reader(self, family: str, **options: Any) -> Merge:
        """It is waited for while somebody has it, and no longer."""
        reader = self.spine.reader(family, **options)
        self.spine.readers.remove(reader)
        return reader

    def _played(self, reader: Merge, timeout: float | None, *, whole: bool) -> Iterator[Any]:
        if self.player.holds and not self.player.started:
            self.resume()
        heard = time.monotonic()
        while True:
            done = self.done or self.player.ended.is_set()
            if reader.wait(QUIET_S):
                heard = time.monotonic()
                if not whole:
                    yield from reader
                while whole and len(batch := reader.batch()):
                    yield batch
            elif done or (timeout is not None and time.monotonic() - heard > timeout):
                return


def _pace(speed: float | Literal["max"]) -> float:
    if speed == "max":
        return 0.0
    if not isinstance(speed, int | float) or not 0 < speed < float("inf"):
        raise ConfigurationError(f"speed is a number above 0, or max, not {speed!r}")
    return float(speed)


def play(path: str | Path | Sequence[str | Path], *, speed: float | Literal["max"] = "max", since: Moment | None = None,
         until: Moment | None = None, venues: Sequence[str] | str = (), instruments: Sequence[str] | str = (),
         services: Mapping[str, Sequence[str]] | None = None, **options: Any) -> Playback:
    """Play an archive (a folder, files) in this process, from `since` until `until`; `options` are fields of `Settings`
    (topology="mine.toml", run="history", pin=...). Use it in a `with` block."""
    return made(path, speed=speed, since=since, until=until, venues=venues, instruments=instruments, services=services,
                **options).start()


def made(path: str | Path | Sequence[str | Path], *, speed: float | Literal["max"] = "max", since: Moment | None = None,
         until: Moment | None = None, venues: Sequence[str] | str = (), instruments: Sequence[str] | str = (),
         services: Mapping[str, Sequence[str]] | None = None, **options: Any) -> Playback:
    """The same, not started yet."""
    player = Player("player", [path] if isinstance(path, str | Path) else path, speed=_pace(speed), since=since,
                    until=until, venues=_names(venues), instruments=_names(instruments))
    settings = read_settings(venues=player.venues(), instruments=[row.name for row in player.instruments.values()],
                             **options)
    return Playback(player, settings, services=services)


def _names(names: Sequence[str] | str) -> list[str]:
    return [name.strip() for name in (names.split(",") if isinstance(names, str) else names)]
