"""Feeds reading simulated venues, and a judge that compares every book they claim to be right with the venue's own."""
from __future__ import annotations

import dataclasses
import json
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from decimal import Decimal
from hashlib import blake2b
from urllib.parse import urlencode

from mantra import venues
from mantra.core import ticks
from mantra.core.merge import Merge
from mantra.core.messages import Reason, Trust
from mantra.runtime.settings import Settings
from mantra.topologies.system import System
from mantra.venues.instrument import InstrumentTable
from mantra.venues.venue import Heartbeat
from tests.end_to_end.simulated import Child

NAMES = ("binance", "bitstamp")
STREAMS = ("bitfinex", "coinbase", "kraken")        # their snapshots come in the stream
SYMBOLS = {"binance": "ETHBTC", "bitstamp": "ethbtc", "bitfinex": "tETHBTC", "coinbase": "ETH-BTC", "kraken": "ETH/BTC"}
PROVEN = {"bitfinex": 25, "kraken": 10}     # levels to compare where a venue shows or proves not all
DOWN = (Trust.DOWN, Reason.DISCONNECTED)
SYNCHRONISING = (Trust.SUSPECT, Reason.SYNCHRONISING)
LONG = 60.0         # nothing here takes so long, on the busiest machine


def patient(name, endpoints, *, heartbeat=0.4, silence=1.6, max_age=3600.0):
    """A venue whose limits are short enough to be waited for, and that may be asked as often as tests need."""
    venue = venues.get(name, endpoints)
    venue.heartbeat = Heartbeat(venue.heartbeat.text, heartbeat)
    venue.limits = dataclasses.replace(venue.limits, rates={})
    venue.stale_s, venue.silence_s, venue.max_age_s = 1.5 * heartbeat, silence, max_age
    return venue


def mark(bids, asks):
    """The mark of these levels ((price, size) as text, Decimal or int, each a value): what /simulator/was asks for."""
    total = 0
    for side, rows in (("b", bids), ("a", asks)):
        for row in rows:
            texts = [f"{Decimal(value).normalize():f}" for value in row]
            total += int.from_bytes(blake2b(":".join([side, *texts]).encode(), digest_size=8).digest(), "big")
    return f"{total % 2**64:016x}"


def until(condition, what, seconds=LONG):
    """`condition()`, as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what() if callable(what) else what}"
        time.sleep(0.01)
    return found


class Feeds:
    """A run of `names` over simulated venues at `endpoints` ({venue: {"websocket", "rest"}})."""

    def __init__(self, endpoints, names=NAMES, *, instruments=("eth-btc",), patience=None, run=None,
                 services=None, **settings):
        self.endpoints = endpoints
        self.names = names
        made = venues_at(endpoints, names, patience or {})
        if run is not None:
            settings |= {"run": run, "named": frozenset({"run"})}
        self.system = System(Settings(venues=tuple(names), instruments=tuple(instruments), **settings),
                             table=InstrumentTable(), venues=made, services=services)
        self.wrong = []
        self.judged = dict.fromkeys(names, 0)
        self._ending = threading.Event()
        self._judge = threading.Thread(target=self._judge_all, daemon=True)

    def __enter__(self):
        self.system.start()
        self.tops = {name: [] for name in self.names}
        self._judge.start()
        self._reader = threading.Thread(target=self._read_tops, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, kind, *_):
        self._ending.set()
        self._judge.join()
        self._reader.join()
        threads = [tile.actor.name for tile in self.system.tiles]
        self.system.stop()
        if kind is None:
            assert not self.wrong, self.wrong[:3]
            assert not [name for name, tile in zip(threads, self.system.tiles, strict=True) if tile.running]
            assert self.system.failure() is None

    # The venues' side

    def ask(self, venue, path, post=False):
        request = urllib.request.Request(self.endpoints[venue]["rest"] + path, method="POST" if post else "GET")
        with urllib.request.urlopen(request, timeout=LONG) as answer:
            return json.load(answer)

    def order(self, venue, **what):
        return self.ask(venue, f"/simulator/now?{urlencode(what)}", True)

    def faults(self, venue, **rates):
        return self.ask(venue, f"/simulator/faults?{urlencode(rates)}", True)

    # Our side

    def book(self, venue):
        return self.system.book(self.system._venues[venue].books(self.system.settings.mode), SYMBOLS[venue])

    def trust(self, venue):
        return Trust(self.book(venue).image(1).trust)

    def live(self, venue):
        """How far this venue's book is trusted when all is well."""
        made = self.system._venues[venue]
        return Trust(made.live_trust[self.system.settings.mode])

    def count(self, venue, counter):
        number = venues.NAMES.index(venue)
        return sum(row[counter] for row in self.system.spine.ledger.rows() if row.venue == number)

    def healthy(self, venue):
        return self.trust(venue) >= self.live(venue)

    def settle(self, *names):
        """Until these venues' books (all) are trusted fully."""
        for name in names or self.names:
            until(lambda name=name: self.healthy(name), lambda name=name: f"{name} is {self.trust(name)!r}")
        return self

    def heals(self, venue):
        """It is trusted again, and judged right at least twice since."""
        until(lambda: self.healthy(venue), lambda: f"{venue} is {self.trust(venue)!r}")
        before = self.judged[venue]
        until(lambda: self.judged[venue] >= before + 2, f"{venue} is judged")

    def world_venues(self):
        """Who stands in the newest world view; and the trust it shows of each."""
        world = self.system.spine.worlds.read(0)
        masks = 0 if world is None else sum({mask for _, _, mask in [*world.bids, *world.asks]})
        return {name for name in self.names if masks >> venues.NAMES.index(name) & 1}

    def seen(self, venue, least=0):
        """{(trust, reason)} of the tops published since `mark`, number `least`."""
        return {(Trust(top.trust), top.reason) for top in self.tops[venue][least:]}

    def mark(self, venue):
        return len(self.tops[venue])

    def _read_tops(self):
        spine = self.system.spine
        merge = Merge(spine.queues("tops", "top"), doorbell=spine.doorbell)
        while not self._ending.is_set():
            merge.wait(0.1)
            for top in merge:
                self.tops[venues.NAMES[top.venue]].append(top)

    # The judge

    def _judge_all(self):
        while not self._ending.wait(0.1):
            for venue in self.names:
                self._judge_one(venue)

    def _judge_one(self, venue, looks=0):
        image = self.book(venue).image()
        if image.trust < self.live(venue):
            return
        if venue in STREAMS or self.system.settings.mode == "orders":
            self._judge_stream(venue, image, looks)
            return
        try:
            true = self.ask(venue, f"/simulator/book?symbol={SYMBOLS[venue]}&sequence={image.sequence}")
        except (OSError, ValueError):
            return                  # the venue is gone, or remembers only so much
        scale = next(row for row in self.system.spine.instruments() if row.id == image.instrument)
        depth = self.system.settings.depth if self.system.settings.mode == "top" else None

        def counted(rows):
            return [(ticks.ticks(price, scale.price_decimals), ticks.ticks(size, scale.size_decimals))
                    for price, size in rows]

        mine = [[tuple(row) for row in side[:depth].tolist()] for side in (image.bids, image.asks)]
        his = [counted(true[side][:depth]) for side in ("bids", "asks")]
        self.judged[venue] += 1
        if true["sequence"] == image.sequence and mine != his:
            missing = [len(set(a) ^ set(b)) for a, b in zip(mine, his, strict=True)]
            self.wrong.append(f"{venue} at {image.sequence} ({Trust(image.trust)!r}): {missing} levels differ; "
                              f"best {mine[0][:2]} {mine[1][:2]}, truly {his[0][:2]} {his[1][:2]}")

    def _judge_stream(self, venue, image, looks):
        """Whose books have no number of the venue's: was it ever true, in the last seconds?"""
        scale = next(row for row in self.system.spine.instruments() if row.id == image.instrument)
        keep = self.system._venues[venue].keep(self.system.settings.mode, self.system.settings.depth)
        depth = PROVEN.get(venue, keep)
        mine = [[(Decimal(price).scaleb(-scale.price_decimals), Decimal(size).scaleb(-scale.size_decimals))
                 for price, size in side[:depth or None].tolist()] for side in (image.bids, image.asks)]
        query = urlencode({"symbol": SYMBOLS[venue], "depth": depth, "mark": mark(*mine)})
        try:
            answer = self.ask(venue, f"/simulator/was?{query}")
        except (OSError, ValueError):
            return
        if not answer["true"] and looks < 3 and (venue == "bitfinex" or self.system.settings.mode == "orders"):
            time.sleep(0.03)        # told level by level, order by order: in between the book is as it never was
            return self._judge_one(venue, looks + 1)
        self.judged[venue] += 1
        if not answer["true"]:
            self.wrong.append(f"{venue} at {image.sequence} ({Trust(image.trust)!r}): never was so; best {mine[0][:2]} "
                              f"{mine[1][:2]}")


def venues_at(endpoints, names, patience):
    return [patient(name, venues.Endpoints(**endpoints[name]), **patience) for name in names]


@contextmanager
def simulated_feeds(*arguments, names=NAMES, instruments=("eth-btc",), **settings):
    """Simulated venues and Feeds that read them, settled."""
    with Child("--venues", ",".join(names), "--instruments", ",".join(instruments), *arguments) as child, \
            Feeds(child.endpoints, names, instruments=instruments, **settings) as feeds:
        feeds.child = child
        yield feeds.settle()


class Fleet:
    """Four runs over the same venues; `child` simulates them."""

    def __init__(self, child, feeds):
        self.child, self.feeds = child, feeds

    def strike(self, venue, do, sees, counts, *, heals=True):
        """`do(one of the runs)`: all tops show one of `sees`, all `counts` rise, the world does without the venue
        meanwhile, and everything heals."""
        for one in self.feeds:
            one.settle(venue)
        marks = [one.mark(venue) for one in self.feeds]
        before = [{name: one.count(venue, name) for name in counts} for one in self.feeds]
        do(self.feeds[0])
        for one, mark, was in zip(self.feeds, marks, before, strict=True):
            what = one.system.settings.mode, one.system.settings.reader
            for trust, reason in sees:
                until(lambda: (trust, reason) in one.seen(venue, mark),  # noqa: B023
                      lambda: f"{what}: {trust!r} {reason!r}, but {one.seen(venue, mark)}")  # noqa: B023
            if heals:
                one.heals(venue)
            for name in counts:
                until(lambda: one.count(venue, name) > was[name], f"{what}: {name} rises")  # noqa: B023
