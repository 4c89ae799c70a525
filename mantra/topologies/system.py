"""system: a topology brought to life: venues asked what they list, queues made, tiles started, services spawned.

    with mantra.start(["binance", "bitstamp"], ["ETH-BTC"]) as system:
        for top in system.read("tops", timeout=10):
            print(top)
"""
from __future__ import annotations

import contextlib
import logging
import os
import queue
import random
import secrets
import select
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from mantra import venues as venue_room
from mantra.aggregator.bbo import Bbo
from mantra.aggregator.conflate import Conflate
from mantra.aggregator.liquidity import Liquidity
from mantra.client.client import client
from mantra.client.governor import Backoff, Governor
from mantra.client.https import Rest
from mantra.core.clock import Clock
from mantra.core.messages import ActorState
from mantra.errors import ConfigurationError, MantraError, VenueError
from mantra.listener.feed import Plan, Wanted
from mantra.listener.listener import Listener, PollerListener, plan_connections
from mantra.listener.recovery import SnapshotDesk
from mantra.listener.scales import Scales
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
from mantra.venues.instrument import InstrumentTable, load_listings, resolve_all, save_listings
from mantra.venues.venue import Listing, Venue

log = logging.getLogger("mantra.system")

SHIPPED = {"bbo": bbo.nodes, "depth": depth.nodes}
# What a node of a kind becomes, called with (name, reads, writes, **options); kinds of one's own are added here.
ACTORS: dict[str, Callable[..., Actor]] = {"bbo": Bbo, "liquidity": Liquidity, "conflate": Conflate}
LISTENER_OPTIONS = {"venue", "mode", "trades", "per_connection", "depth", "reader"}
SERVICES = ("grpc", "terminal")
LISTENING = {"grpc": "mantra.service.grpc_server", "metrics": "mantra.telemetry.metrics"}    # those with an address
OWN = frozenset(("listener", *ACTORS))      # without them a run is none
STOP_WITHIN_S = 0.6


def load_topology(name: str, venues: Sequence[str]) -> Topology:
    """A shipped topology ("bbo", "depth") over these venues, or the one in a TOML file."""
    kinds = ("listener", *ACTORS, *SERVICES)
    if name in SHIPPED:
        return Topology(name, SHIPPED[name](venues), kinds)
    if not name.endswith(".toml"):
        raise ConfigurationError(f"no topology {name!r}: choose {', '.join(SHIPPED)}, or name a .toml file")
    return Topology.load(name, kinds)


def listed(venue: Venue) -> list[Listing]:
    """What `venue` lists now; from the copy on disk, with a warning, when it cannot be asked."""
    request = venue.instruments_request()
    rest = Rest(venue.endpoints.rest, ca_file=venue.endpoints.ca_file)
    try:
        status, _, body = rest.get(request.path)
        if status in (403, 451):
            raise VenueError(f"{venue.name} answered HTTP {status}: {venue.when_refused}")
        if status != 200:
            raise VenueError(f"{venue.name} answered HTTP {status} to its instrument list: {body[:120]!r}")
        listings = venue.parse_instruments(body)
    except MantraError as error:
        listings, since = load_listings(venue)
        if not listings or venue.endpoints.rest != venue.home.rest:
            raise
        log.warning("%s; going on with its instrument list of %s", error, time.strftime("%F", time.gmtime(since)))
    else:
        save_listings(venue, listings)
    finally:
        rest.close()
    return listings


def list_all(venues: Mapping[str, Venue]) -> dict[str, list[Listing]]:
    """`listed` of all venues at once; MantraError of the first that fails. Ctrl-C in the main thread ends the wait."""
    answers: queue.SimpleQueue[tuple[str, list[Listing] | BaseException]] = queue.SimpleQueue()

    def ask(name: str, venue: Venue) -> None:
        try:
            answers.put((name, listed(venue)))
        except BaseException as error:
            answers.put((name, error))

    for name, venue in venues.items():
        threading.Thread(target=ask, args=(name, venue), name=f"mantra-list-{name}", daemon=True).start()
    found: dict[str, list[Listing]] = {}
    for _ in venues:
        name, answer = answers.get()
        if isinstance(answer, BaseException):
            raise answer
        found[name] = answer
    return {name: found[name] for name in venues}


class System:
    """A run of this process. `start` it, read from it, `stop` it (or use it in a `with` block).

    `services`: which of the topology's services to start, and with what arguments: {"grpc": ["--listen", "..."]};
    "metrics" belongs to every topology.
    `venues`: to use instead of the shipped ones of their names, with other endpoints, patience or rules.
    """

    def __init__(self, settings: Settings, *, services: Mapping[str, Sequence[str]] | None = None,
                 clock: Clock | None = None, table: InstrumentTable | None = None,
                 venues: Sequence[Venue] = ()) -> None:
        if not settings.instruments:
            raise ConfigurationError("name at least one instrument")
        self.settings = settings
        self.topology = load_topology(settings.topology, settings.venues)
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
        self._desks: dict[str, SnapshotDesk] = {}
        self._governors: dict[str, Governor] = {}
        self._running = False
        self._stopped = threading.Event()
        self._steering = threading.Thread(target=self._steer, name="mantra-clock", daemon=True)
        for node in self.topology.nodes:
            if node.kind == "listener":
                self._venue(node)                   # wrong names are told before anything is asked of anybody

    # Life ------------------------------------------------------------------------------------------------------

    def start(self) -> System:
        """Ask the venues for their lists, then start everything; readers before those they read from."""
        listeners = [node for node in self.topology.nodes if node.kind == "listener"]
        wanted = self._resolve(listeners)
        self.spine = Spine.create(self.settings.run if "run" in self.settings.named else None, clock=self._clock)
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
            there = {node.name for node in self.topology.nodes} | {tile.name for tile in self.tiles}
            for name in set(self.settings.pin) - there:
                log.warning("pin: no actor is called %r; there are %s", name, ", ".join(sorted(there)))
            for tile in reversed(self.tiles):       # readers first: nothing is missed
                tile.start()
            self._steering.start()
            for node in self.topology.nodes:
                if node.kind in SERVICES and node.kind in self._wanted_services:
                    self._serve(node.name, node.kind)
            if "metrics" in self._wanted_services:
                self._serve("metrics", "metrics")
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
        self._stopped.set()
        for process in self.services.values():
            if process.poll() is None:
                process.terminate()
        for desk in self._desks.values():
            desk.close()
        deadline = time.monotonic() + STOP_WITHIN_S
        for rank in self.topology.ranks:
            tiles = [tile for node in rank for tile in self._tiles.get(node.name, ())]
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

    def __enter__(self) -> System:
        return self if self._running else self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.stop()

    def failure(self) -> str | None:
        """What ended that should not have, in one line. Where only metrics did, the log says so and the run goes on."""
        for tile in self.tiles:
            if tile.state == ActorState.FAILED and tile.policy.vital:
                return f"{tile.name} stopped: {tile.error}"
        if (metrics := self.services.get("metrics")) and metrics.poll() is not None:
            log.warning("metrics ended with exit code %d; the run goes on without", metrics.returncode)
            del self.services["metrics"]
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
        listings = list_all(venues)
        table = self._instrument_table()
        wanted: dict[str, list[Wanted]] = {name: [] for name in venues}
        for name in self.settings.instruments:
            found = resolve_all(name, listings)
            instrument = table.for_listings(list(found.values()))
            for venue, listing in found.items():
                wanted[venue].append(Wanted(listing.symbol, instrument))
        return {node.name: wanted[self._venue(node).name] for node in listeners}

    def _governor(self, venue: Venue) -> Governor:
        if venue.name not in self._governors:
            self._governors[venue.name] = Governor(self._clock, venue.limits.rates)
        return self._governors[venue.name]

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
        governor = self._governor(venue)
        desk = self._desks.setdefault(venue.name, SnapshotDesk(venue, governor, self._clock))
        # Deep snapshots weigh more: with many books a shallower one each keeps the start within a minute.
        levels = 5000 if len(wanted) <= 20 else 1000 if len(wanted) <= 100 else 100
        plans = [
            Plan(name=f"{node.name}.{number}", venue=venue, mode=mode,
                 depth=own.depth, wanted=part, client=lambda url: client(url, ca_file=venue.endpoints.ca_file),
                 subscriber=subscriber(venue, [row.symbol for row in part], mode, own.trades, governor, self._clock),
                 governor=governor, desk=desk, scales=scales, backoff=self._backoff, snapshot_levels=levels)
            for number, part in enumerate(plan_connections(wanted, venue, mode, own.trades, own.per_connection))]
        first = sum(len(tile.actor.numbers) for tile in self.tiles if isinstance(tile.actor, Listener | PollerListener))
        if own.reader == "poller":
            yield PollerListener(node.name, plans, first)
        else:
            for number, plan in enumerate(plans, first):
                yield Listener(plan, number)

    def _steer(self) -> None:
        """Keep the run's UTC with the OS's."""
        while not self._stopped.wait(1.0):
            self._clock.steer()

    def _serve(self, name: str, kind: str) -> None:
        """Start a service in a process of its own; one that listens says where before this returns."""
        arguments = self._wanted_services[kind]
        assert self.spine.run is not None
        if kind == "terminal":
            self.services[name] = child.spawn(
                "mantra.ui.terminal", ["--run", self.spine.run, *arguments], keyboard=True)
            return
        reader, writer = os.pipe()
        try:
            process = child.spawn(LISTENING[kind], ["--run", self.spine.run, "--ready-fd", str(writer), *arguments],
                                  pass_fds=(writer,))
        finally:
            os.close(writer)
        self.services[name] = process
        with os.fdopen(reader) as ready:
            line = ready.readline() if select.select([reader], [], [], 10.0)[0] else ""
        if not line or line.startswith("! "):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1.0 if line else 0.0)  # who said why is about to end, with the code that fits
            child.stop([process])
            error = ConfigurationError if process.returncode == 2 else MantraError
            raise error(line[2:].strip().replace("--listen", f"--{kind}") or f"the {name} service did not start")
        self.addresses[name] = line.strip()


def start(venues: Sequence[str] | str = ("binance", "bitstamp"), instruments: Sequence[str] | str = ("ETH-BTC",),
          **options: Any) -> System:
    """Start feeds of `instruments` at `venues` in this process; `options` are fields of `Settings` (mode="top",
    endpoints=..., topology="depth", reader="poller", ...). Use it in a `with` block."""
    return System(read_settings(venues=venues, instruments=instruments, **options)).start()


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

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.stop()
