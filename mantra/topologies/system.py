"""system: a topology brought to life: venues asked what they list, queues made, tiles started, services spawned.

    with mantra.start(["binance", "bitstamp"], ["ETH-BTC"]) as system:
        for top in system.read("tops", timeout=10):
            print(top)
"""
from __future__ import annotations

import contextlib
import logging
import os
import random
import secrets
import select
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mantra import venues as venue_room
from mantra.aggregator.bbo import Bbo
from mantra.aggregator.conflate import Conflate
from mantra.aggregator.liquidity import Liquidity
from mantra.client.client import client
from mantra.client.governor import Backoff, Governor
from mantra.client.listings import Listed, age, listed, of_all
from mantra.core.clock import Clock
from mantra.core.messages import ActorState
from mantra.errors import ConfigurationError, MantraError, UnknownSymbol
from mantra.listener.connection import Connection
from mantra.listener.feed import Plan, Wanted
from mantra.listener.listener import Listener
from mantra.listener.planner import Estimate, estimate, first_levels, plan_connections
from mantra.listener.recovery import SnapshotDesk
from mantra.listener.scales import Scales
from mantra.listener.witness import Witness
from mantra.runtime import child
from mantra.runtime.actor import Actor
from mantra.runtime.process import Process, make
from mantra.runtime.settings import Settings
from mantra.runtime.settings import read as read_settings
from mantra.runtime.spine import RunInstrument, Spine
from mantra.runtime.tile import Tile
from mantra.runtime.topology import Node, Topology
from mantra.subscriber.subscriber import subscriber
from mantra.topologies import bbo, depth
from mantra.venues.instrument import InstrumentTable, choose, home
from mantra.venues.venue import Venue

if TYPE_CHECKING:
    from typing_extensions import Self

log = logging.getLogger("mantra.system")


def capture(*arguments: Any, **options: Any) -> Actor:
    """A Capture; who captures nothing does not wait 30 ms for its codecs."""
    from mantra.archive.capture import Capture

    return Capture(*arguments, **options)


SHIPPED = {"bbo": bbo.nodes, "depth": depth.nodes}
# What a node of a kind becomes, called with (name, reads, writes, **options); kinds of one's own are added here.
ACTORS: dict[str, Callable[..., Actor]] = {"bbo": Bbo, "liquidity": Liquidity, "conflate": Conflate, "capture": capture}
LISTENER_OPTIONS = {"venue", "mode", "trades", "witness", "per_connection", "depth", "reader", "raw"}
SERVICES = ("grpc", "terminal")
LISTENING = {"grpc": "mantra.service.grpc_server", "metrics": "mantra.telemetry.metrics"}    # those with an address
EVERYWHERE = ("metrics", "audit")           # beside the topology: they only look on
SILENT = {"terminal": "mantra.ui.terminal", "audit": "mantra.audit"}    # those without
OWN = frozenset(("listener", *ACTORS)) - {"capture"}    # without them a run is none
STOP_WITHIN_S = 0.6


def load_topology(name: str, venues: Sequence[str], nodes: Sequence[Node] = ()) -> Topology:
    """A shipped topology ("bbo", "depth") over these venues, or the one in a TOML file; or one of these `nodes`."""
    kinds = ("listener", *ACTORS, *SERVICES)
    if nodes or name in SHIPPED:
        return Topology(name, nodes or SHIPPED[name](venues), kinds)
    if not name.endswith(".toml"):
        raise ConfigurationError(f"no topology {name!r}: choose {', '.join(SHIPPED)}, or name a .toml file")
    return Topology.load(name, kinds)


class System:
    """A run of this process. `start` it, read from it, `stop` it (or use it in a `with` block).

    `services`: which of the topology's services to start, and with what arguments: {"grpc": ["--listen", "..."]};
    "metrics" and "audit" belong to every topology.
    `venues`: to use instead of the shipped ones of their names, with other endpoints, patience or rules. `nodes`:
    instead of those of the settings' topology.
    """

    played = False      # from an archive, by a player that waits for who reads
    inherited: tuple[int, ...] = ()     # file descriptors that services have, too

    def __init__(self, settings: Settings, *, services: Mapping[str, Sequence[str]] | None = None,
                 clock: Clock | None = None, table: InstrumentTable | None = None,
                 venues: Sequence[Venue] = (), nodes: Sequence[Node] = ()) -> None:
        if not settings.instruments:
            raise ConfigurationError("name at least one instrument")
        self.settings = settings
        self.topology = load_topology(settings.topology, settings.venues, nodes)
        self.services: dict[str, subprocess.Popen[bytes]] = {}
        self.addresses: dict[str, str] = {}
        self.spine: Spine
        self.tiles: list[Tile] = []
        self._tiles: dict[str, list[Tile]] = {}     # by node
        self._endpoints = {} if settings.endpoints is None else venue_room.read_endpoints(settings.endpoints)
        self._wanted_services = dict(services or {})
        self._clock = clock or Clock()
        self._table = table
        self._random = random.Random(settings.seed)
        self._venues: dict[str, Venue] = {venue.name: venue for venue in venues}
        self._asked: dict[str, dict[str, Any]] = {}     # where each listener's venue is, and what it wants
        self._desks: dict[str, SnapshotDesk] = {}
        self.paces: dict[str, Governor] = {}        # by venue
        self._making = threading.Lock()
        self.estimates: dict[str, Estimate] = {}    # of the start, by listener
        self._running = False
        self._stopped = threading.Event()
        self._steering = threading.Thread(target=self._steer, name="mantra-clock", daemon=True)
        for node in self.topology.nodes:
            if node.kind == "listener":
                self._venue(node)                   # wrong names are told before anything is asked of anybody

    # Life ------------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Ask the venues for their lists, then start everything; readers before those they read from."""
        listeners = [node for node in self.topology.nodes if node.kind == "listener"]
        wanted = self._resolve(listeners)
        self.spine = Spine.create(self.settings.run if "run" in self.settings.named else None, clock=self._clock,
                                  played=self.played)
        self._running = True
        try:
            scales = Scales(self._instrument_table())
            for rows in wanted.values():
                for row in rows:
                    i = row.instrument
                    self.spine.add_instrument(i.id, i.name, i.generation, i.price_decimals, i.size_decimals)
            for node in self.topology.nodes:        # writers first: a reader finds its queues
                for tile in self._make_tiles(node, wanted, scales):
                    self.tiles.append(tile)
                    self._tiles.setdefault(node.name, []).append(tile)
                    tile.setup()
                    if tile.error is not None and tile.policy.vital and tile.policy.restart == "never":
                        raise MantraError(f"{tile.name} did not start: {tile.error}")
            self.spine.say("venues", self._asked)
            for tile in self._witnesses():
                self.tiles.append(tile)
                tile.setup()
            there = {node.name for node in self.topology.nodes} | {tile.name for tile in self.tiles}
            for name in set(self.settings.pin) - there:
                log.warning("pin: no actor is called %r; there are %s", name, ", ".join(sorted(there)))
            for tile in reversed(self.tiles):       # readers first: nothing is missed
                tile.start()
            self._steering.start()
            for node in self.topology.nodes:
                if node.kind in SERVICES and node.kind in self._wanted_services:
                    self._serve(node.name, node.kind)
            for name in EVERYWHERE:
                if name in self._wanted_services:
                    self._serve(name, name)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End everything: services, which only know the newest, then writers before their readers, so that what was
        written is read; shared memory last. Within a second."""
        if not self._running:
            return
        self._running = False
        if self._steering.ident is not None:        # it did start
            self._leave_ledger()
        self._stopped.set()
        for process in self.services.values():
            if process.poll() is None:
                process.terminate()
        for desk in self._desks.values():
            desk.close()
        deadline = time.monotonic() + STOP_WITHIN_S
        ranks = [[node.name for node in rank] for rank in self.topology.ranks]
        witnesses = [name for name in self._tiles if not any(name in rank for rank in ranks)]
        for rank in (witnesses, *ranks):
            tiles = [tile for name in rank for tile in self._tiles.get(name, ())]
            for tile in tiles:
                tile.stop()
            half = time.monotonic() + (deadline - time.monotonic()) / 2     # who hangs leaves time for those after it
            for tile in tiles:
                tile.join(max(0.0, half - time.monotonic()))
        for tile in self.tiles:
            if not tile.join(max(0.0, deadline - time.monotonic())):
                log.warning("%s does not end; left behind", tile.name)
        if self._steering.ident is not None:
            self._steering.join()
        child.stop(list(self.services.values()), max(0.0, deadline - time.monotonic()))
        self.spine.close()

    def _leave_ledger(self) -> None:
        from mantra.telemetry import ledger  # which draws tables, too: `import mantra` should not load that

        try:
            ledger.save(ledger.read(self.spine), self.settings.home or home())
        except OSError as error:
            log.warning("the ledger of this run cannot be kept: %s", error)

    def __enter__(self) -> Self:
        return self if self._running else self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def failure(self) -> str | None:
        """What ended that should not have, in one line. Who only looked on is missed in the log, and not otherwise."""
        for tile in self.tiles:
            if tile.state == ActorState.FAILED and tile.policy.vital:
                return f"{tile.name} stopped: {tile.error}"
        for name in EVERYWHERE:
            if (service := self.services.get(name)) and service.poll() is not None:
                log.warning("%s ended with exit code %d; the run goes on without", name, service.returncode)
                del self.services[name]
        for name, process in self.services.items():
            if (code := process.poll()) or (code == 0 and name in self.addresses):
                return f"{name} ended with exit code {code}"
        return None

    @property
    def left(self) -> bool:
        """The user has left the terminal."""
        return any(process.poll() == 0 for name, process in self.services.items() if name not in self.addresses)

    # Reading ---------------------------------------------------------------------------------------------------

    def instruments(self) -> list[RunInstrument]:
        """Every instrument of the run, with the scale of its ticks and lots."""
        return self.spine.instruments()

    def read(self, family: str, timeout: float | None = None, **options: Any) -> Iterator[Any]:
        """See `Spine.read`."""
        return self.spine.read(family, timeout, **options)

    def batches(self, family: str, timeout: float | None = None) -> Iterator[np.ndarray[Any, Any]]:
        """See `Spine.batches`."""
        return self.spine.batches(family, timeout)

    def book(self, venue: str, symbol: str) -> Any:
        """The book of `venue`'s `symbol`; see mantra.core.book.Book."""
        return self.spine.book(venue, symbol)

    # Making ----------------------------------------------------------------------------------------------------

    def _venue(self, node: Node) -> Venue:
        name = str(node.options.get("venue", node.name))
        if name not in self._venues:
            self._venues[name] = venue_room.get(name, self._endpoints.get(name))
        return self._venues[name]

    def _instrument_table(self) -> InstrumentTable:
        if self._table is None:
            home = self.settings.home
            self._table = InstrumentTable.open(None if home is None else home / "instruments.txt")
        return self._table

    def _resolve(self, listeners: Sequence[Node]) -> dict[str, list[Wanted]]:
        """What each listener keeps. UnknownSymbol when a venue does not list an instrument."""
        venues = {venue.name: venue for venue in map(self._venue, listeners)}
        found = self._listings(venues, fresh=False)
        try:
            chosen = choose(self.settings.instruments, {name: answer.listings for name, answer in found.items()})
        except UnknownSymbol:
            if not any(answer.age_s for answer in found.values()):
                raise
            found = self._listings(venues, fresh=True)      # what is new is not in a list on disk
            chosen = choose(self.settings.instruments, {name: answer.listings for name, answer in found.items()})
        table = self._instrument_table()
        wanted: dict[str, list[Wanted]] = {name: [] for name in venues}
        with table.together():
            for rows in chosen:
                instrument = table.for_listings(list(rows.values()))
                for venue, listing in rows.items():
                    wanted[venue].append(Wanted(listing.symbol, instrument))
        return {node.name: wanted[self._venue(node).name] for node in listeners}

    def _listings(self, venues: Mapping[str, Venue], fresh: bool) -> dict[str, Listed]:
        """What these venues list; MantraError of the first that says nothing and of which nothing is kept."""
        found = of_all(venues, lambda venue: listed(venue, self._governor(venue), self.settings.home, fresh=fresh))
        for name, answer in found.items():
            if isinstance(answer, MantraError):
                raise answer
            if answer.why:
                log.warning("%s; going on with the instruments that %s listed %s ago", answer.why, name,
                            age(answer.age_s))
        return {name: answer for name, answer in found.items() if isinstance(answer, Listed)}

    def _governor(self, venue: Venue) -> Governor:
        with self._making:
            if venue.name not in self.paces:
                self.paces[venue.name] = Governor.of_machine(self._clock, venue, self.settings.home or home())
            return self.paces[venue.name]

    def _backoff(self) -> Backoff:
        return Backoff(random.Random(self._random.random()))

    def _make_tiles(self, node: Node, wanted: Mapping[str, Sequence[Wanted]], scales: Scales) -> Iterator[Tile]:
        if node.kind in SERVICES:
            return
        pin, vital = self.settings.pin, node.kind in OWN if node.vital is None else node.vital
        node = replace(node, core=pin.get(node.name, node.core), vital=vital)
        if node.kind == "listener":
            for actor in self._listeners(node, wanted[node.name], scales):
                yield Tile(actor, self.spine, replace(node, core=pin.get(actor.name, node.core)))
            return
        for name in node.writes:
            self.spine.queue(name, node.carries(name), many=node.shared)
        again = partial(Process, node) if node.process else partial(make, node, ACTORS.get(node.kind))
        yield Tile(again(), self.spine, node, kind=node.kind.rpartition(":")[2], again=again)

    def _witnesses(self) -> Iterator[Tile]:
        """Where a venue's books are kept both by level and by order, each venue's."""
        by_mode: dict[tuple[str, str], list[Connection]] = {}
        for tile in self.tiles:
            for connection in tile.actor.connections if isinstance(tile.actor, Listener) else ():
                by_mode.setdefault((connection.plan.venue.name, connection.plan.mode), []).append(connection)
        for name in sorted({venue for venue, mode in by_mode if mode == "orders"}):
            if levels := by_mode.get((name, "book")):
                node = Node(f"{name}-witness", "witness", vital=False)
                self._tiles.setdefault(node.name, []).append(
                    tile := Tile(Witness(node.name, levels, by_mode[name, "orders"]), self.spine, node))
                yield tile

    def _listeners(self, node: Node, wanted: Sequence[Wanted], scales: Scales) -> Iterator[Actor]:
        venue, options = self._venue(node), node.options
        if unknown := set(options) - LISTENER_OPTIONS:
            raise ConfigurationError(f"{node.name}: a listener has no option {min(unknown)!r}; "
                                     f"there are {', '.join(sorted(LISTENER_OPTIONS))}")
        if node.restart != "never":
            raise ConfigurationError(f"{node.name}: a listener is not restarted: it connects again by itself")
        try:
            own = replace(self.settings, **{key: value for key, value in options.items() if key != "venue"})
        except ConfigurationError as error:
            raise ConfigurationError(f"{node.name}: {error}") from None
        mode: Any = own.mode
        if mode not in venue.schemes:
            raise ConfigurationError(f"{node.name}: mode {mode!r}; {venue.name} has {' and '.join(venue.schemes)}")
        venue.witness = own.witness
        governor = self._governor(venue)
        desk = self._desks.setdefault(venue.name, SnapshotDesk(venue, governor, self._clock))
        symbols = [row.symbol for row in wanted]
        levels = first_levels(venue, symbols, mode, governor)
        parts = plan_connections(wanted, venue, mode, own.trades, own.per_connection)
        self.estimates[node.name] = estimate(parts, venue, mode, own.trades, levels, governor)
        plans = []
        for number, part in enumerate(parts):
            pace = governor.connection()
            plans.append(Plan(
                name=f"{node.name}.{number}", venue=venue, mode=mode, depth=own.depth, wanted=part,
                client=lambda url: client(url, ca_file=venue.endpoints.ca_file),
                subscriber=subscriber(venue, [row.symbol for row in part], mode, own.trades, pace, self._clock),
                governor=pace, desk=desk, scales=scales, backoff=self._backoff, snapshot_levels=levels, raw=own.raw))
        sure = venue.keep(mode, own.depth) or (own.depth if mode == "top" else levels // 10)
        self._asked[node.name] = {"venue": venue.name, "mode": mode, "levels": sure, "home": str(own.home or home()),
                                  **asdict(venue.endpoints)}
        first = sum(len(tile.actor.numbers) for tile in self.tiles if isinstance(tile.actor, Listener))
        if own.reader == "poller":
            yield Listener(node.name, plans, first)
        else:
            for number, plan in enumerate(plans, first):
                yield Listener(plan.name, [plan], number)

    def _steer(self) -> None:
        """Keep the run's UTC with the OS's."""
        while not self._stopped.wait(1.0):
            self._clock.steer()

    def _serve(self, name: str, kind: str) -> None:
        """Start a service in a process of its own; one that listens says where before this returns."""
        arguments = self._wanted_services[kind]
        assert self.spine.run is not None
        if kind in SILENT:
            self.services[name] = child.spawn(SILENT[kind], ["--run", self.spine.run, *arguments], keyboard=True,
                                              pass_fds=self.inherited)
            return
        reader, writer = os.pipe()
        try:
            process = child.spawn(LISTENING[kind], ["--run", self.spine.run, "--ready-fd", str(writer), *arguments],
                                  pass_fds=(writer,))
        finally:
            os.close(writer)
        self.services[name] = process
        with os.fdopen(reader) as ready:
            waiting = select.poll()         # select() itself takes no descriptor beyond 1,023
            waiting.register(reader, select.POLLIN)
            line = ready.readline() if waiting.poll(10_000) else ""
        if not line or line.startswith("! "):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1.0 if line else 0.0)  # who said why is about to end, with the code that fits
            child.stop([process])
            error = ConfigurationError if process.returncode == 2 else MantraError
            raise error(line[2:].strip().replace("--listen", f"--{kind}") or f"the {name} service did not start")
        self.addresses[name] = line.strip()


def of_endpoints(settings: Settings) -> Settings:
    """The same, where nobody named venues and a file of endpoints is given: with the venues in that file."""
    if settings.endpoints is None or "venues" in settings.named:
        return settings
    return replace(settings, venues=tuple(venue_room.read_endpoints(settings.endpoints)))


def start(venues: Sequence[str] | str | None = None, instruments: Sequence[str] | str = ("ETH-BTC",),
          **options: Any) -> System:
    """Start feeds of `instruments` at `venues` (None: those of `endpoints`, else the five) in this process; `options`
    are fields of `Settings` (mode="top", endpoints=..., topology="depth", reader="poller", ...). Use it in a `with`
    block."""
    return System(of_endpoints(read_settings(venues=venues, instruments=instruments, **options))).start()


class Simulated:
    """The simulated venues, on loopback, in a process of their own; `endpoints` is the file of their addresses."""

    def __init__(self, venues: Sequence[str], instruments: Sequence[str], *arguments: str) -> None:
        self.endpoints = Path(tempfile.gettempdir(), f"mantra-{secrets.token_hex(8)}.toml")     # they remove it
        self.process = child.spawn("mantra.simulator.door", [
            "--venues", ",".join(venues), "--instruments", ",".join(instruments),
            "--endpoints", str(self.endpoints), "--with-parent", *arguments])

    def wait(self, seconds: float = 15.0) -> Path:
        """The endpoints file, as soon as everything listens."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.endpoints.exists():
                return self.endpoints
            if self.process.poll() is not None:
                raise MantraError(f"the simulated venues ended with exit code {self.process.returncode} (see above)")
            time.sleep(0.02)
        raise MantraError(f"the simulated venues did not start within {seconds:.0f} s")

    def stop(self) -> None:
        child.stop([self.process])
        self.endpoints.unlink(missing_ok=True)      # unless they had to be killed

    def __enter__(self) -> Simulated:
        try:
            self.wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
