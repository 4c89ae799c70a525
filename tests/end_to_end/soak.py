"""A seeded soak: all simulated venues misbehave at random while every book of several runs is held against theirs.

    scripts/soak --seconds 600 --seed 7

Five kinds of programs read the venues: books by a thread for each connection and by one poller, tops, and books made of
orders, each a run in a process of its own whose connections are replaced every 20 s. Each venue goes through its own
seeded storms (all faults of mantra/simulator/faults.py), is then left alone and has HEAL_S to heal, and then loses some
messages of which its proof tells: they must be in the ledger. All the time

    books    that claim to be right are asked for with their trust, and the venue whether they ever were so in the last
             10 seconds (/simulator/was). Verified: always. Unverified: unless the venue lost what it can not prove.
    runs     are watched: memory, shared memory, threads, files; and what they have not let go of when they end

What is wrong is told with the seed and the moment, and what was done to that venue before. Exit 1 then.
"""
from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter, defaultdict, deque
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlencode

import mantra
from mantra import venues
from mantra.core.messages import Reason, Trust
from mantra.core.region import Region
from mantra.errors import MantraError
from mantra.runtime import child
from mantra.runtime.options import Parser, positive_seconds
from tests.end_to_end.feeds import PROVEN, mark
from tests.end_to_end.simulated import Child

INSTRUMENTS = ("eth-btc", "btc-usdt")
SYMBOLS = {"binance": ("ETHBTC", "BTCUSDT"), "bitstamp": ("ethbtc", "btcusdt"), "bitfinex": ("tETHBTC", "tBTCUST"),
           "coinbase": ("ETH-BTC", "BTC-USDT"), "kraken": ("ETH/BTC", "BTC/USDT")}
RUNS = (("threads", "book", "threads"), ("poller", "book", "poller"), ("top", "top", "threads"),
        ("orders", "orders", "poller"))     # name, mode, reader
HEAL_S = 20.0           # after a storm, the last stall (6 s) included, every book is as good as its venue can be
DEPTH = 10              # levels of a top
LOOKS = 6               # a book told level by level, or order by order, is as it never was between two: look again,
MOST_LOOKS = 100        # and until it has moved on: of the last message of a change nobody knows yet that it is missing
UNPROVEN = {"drop", "snapshot"}     # what a venue without proofs can not tell: two wrong REST books in a row agree
# Storms: chances up to so much for each message or request; what happens once, for so many seconds.
CHANCES = {"drop": 0.03, "duplicate": 0.1, "reorder": 0.03, "fragment": 0.3, "checksum": 0.05, "skip": 0.01,
           "unacked": 0.3, "snapshot": 0.1, "refuse": 0.3, "limit": 0.2, "block": 0.3}
EVENTS = {"cut": (1, 1), "stall": (0.3, 6), "restart": (0.2, 1.5), "ban": (0.5, 3), "cross": (0.05, 2), "skew": (-5, 5),
          "reconnect": (0.01, 3), "maintenance": (0.2, 2)}
BETWEEN_S = 2.5         # events of a storm
# What a venue's proof sees: one fault -> where its channel's name has this, a counter that rises.
PROBES = {
    "binance": [("drop", {"@depth@": "gaps", "@trade": "trade_gaps"})],
    "bitfinex": [("drop", {"": "lost"}), ("checksum", {"": "checksums_failed"})],
    "coinbase": [("drop", {"": "lost"})],
    "kraken": [("checksum", {"": "checksums_failed"}), ("drop", {"trade": "trade_gaps"})],
}
NUMBERED = ("bitfinex", "coinbase")     # every message: what is lost is counted exactly
LOSE = {"drop": 0.02, "reorder": 0.02, "skip": 0.01, "duplicate": 0.02, "fragment": 0.1}
LOSSES = ("drop", "reorder", "skip")
COUNTERS = ("gaps", "lost", "trade_gaps", "checksums_failed", "crosses", "contradicted", "malformed", "old_dropped",
            "resyncs", "refused", "connects", "reconnects")
GROWTH_MB = 12          # of a run's memory, from the least of its second third to the least of its last


class Run:
    """A program that reads the venues, in a process of its own, seen from outside."""

    def __init__(self, soak, name, mode, reader):
        self.name, self.mode, self.twin = f"soak{os.getpid()}-{name}", mode, soak.twin
        self.venues = [venue for venue in soak.venues if mode in venues.get(venue).schemes]
        arguments = [self.name, mode, reader, str(soak.child.path), ",".join(self.venues), ",".join(INSTRUMENTS),
                     str(soak.seed), soak.home, *[soak.twin] * bool(soak.twin)]
        environment = {**os.environ, "MANTRA_PARENT": str(os.getpid())}
        self.process = subprocess.Popen([sys.executable, "-m", "tests.end_to_end.soak_run", *arguments],
                                        stdout=subprocess.PIPE, env=environment)
        self.samples = []

    def attach(self):
        if not self.process.stdout.readline():
            raise MantraError(f"{self.name} did not start")
        self.spine = mantra.attach(self.name)
        self.scales = {}

    def book(self, venue, symbol):
        return self.spine.book(venues.get(venue).books(self.mode), symbol)

    def scale(self, instrument):
        if instrument not in self.scales:
            self.scales = {row.id: row for row in self.spine.instruments()}
        return self.scales[instrument]

    def live_trust(self, venue):
        return venues.get(venue).live_trust[self.mode]

    def count(self, venue, counter):
        number = venues.NAMES.index(venue)
        return sum(row[counter] for row in self.spine.ledger.rows() if row.venue == number)

    def claims(self, image):
        """How far a book is to be believed; the twin that does not look at checksums claims as much as who does."""
        return Trust.VERIFIED if self.twin == "checksums" and image.trust == Trust.UNVERIFIED else image.trust

    def unhealthy(self, venue):
        """Why its books of this venue are not as good as they can be."""
        found = []
        for symbol in SYMBOLS[venue]:
            image = self.book(venue, symbol).image(1)
            if self.claims(image) < self.live_trust(venue):
                found.append(f"{self.name} {venue} {symbol}: {Trust(image.trust).name} {Reason(image.reason).name}")
        return found

    def sample(self, at):
        """(seconds, resident MB, shared MB, threads, files)"""
        process = Path("/proc", str(self.process.pid))
        fields = dict(line.split(":", 1) for line in process.joinpath("status").read_text().splitlines())
        shared = sum(info.size for info in Region.list(f"{self.name}."))
        own = int(fields["RssAnon"].split()[0]) / 1024
        self.samples.append((round(at, 1), round(own, 2), round(shared / 2**20, 2), int(fields["Threads"]),
                             len(os.listdir(process / "fd"))))

    def stop(self):
        """What it said at its end; closes our view of it."""
        with contextlib.suppress(AttributeError):
            self.spine.close()
        child.stop([self.process], 5.0)
        said = self.process.stdout.read().decode().strip()
        self.process.stdout.close()
        return json.loads(said) if said else None


class Soak:
    def __init__(self, seconds, seed, names, twin="", say=lambda line: None):
        self.seconds, self.seed, self.venues, self.twin, self.say = seconds, seed, names, twin, say
        self.wrong = []                             # what must not be
        self.judged, self.unproven = Counter(), Counter()   # by (run's mode, venue)
        self.ago_ms = defaultdict(list)
        self.healed = defaultdict(list)             # by venue: seconds
        self.done = {name: deque(maxlen=12) for name in names}      # to a venue, lately
        self.injected = {}
        self.counted = Counter()
        self.blind = dict.fromkeys(names, False)    # it lost what it can not prove
        self._over = threading.Event()
        self._lock = threading.Lock()

    # The venues' side ------------------------------------------------------------------------------------------

    def ask(self, venue, path, post=False):
        request = urllib.request.Request(self.child.endpoints[venue]["rest"] + path, method="POST" if post else "GET")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def steer(self, venue, what, **values):
        """Order faults; a venue that is restarting hears nothing."""
        spelt = {name: f"{value:.4g}" for name, value in values.items()}
        self.done[venue].append(f"{self.now():.2f} {what} {urlencode(spelt)}")
        for _ in range(100):
            with contextlib.suppress(OSError):
                return self.ask(venue, f"/simulator/{what}?{urlencode(spelt)}", post=True)
            time.sleep(0.1)
        raise MantraError(f"{venue} does not hear")

    def now(self):
        return time.monotonic() - self.began

    def fail(self, what, venue=None):
        heard = [line for path in sorted(Path(self.home).glob("*.log")) for line in [
            one for one in path.read_text().splitlines() if venue and venue in one][-4:]]
        with self._lock:
            self.wrong.append({"at": round(self.now(), 2), "what": what, "done": list(self.done.get(venue, ())),
                               "heard": heard})
        self.say(f"WRONG at {self.now():.1f} s: {what}")

    # One venue's fate ------------------------------------------------------------------------------------------

    def fate(self, venue):
        dice = random.Random(f"{self.seed}/{venue}/soak")
        try:
            if self.twin:
                self.steer(venue, "faults", drop=0.2, checksum=0.1)
                self._over.wait(self.seconds)
            while not self._over.is_set():
                self.storm(venue, dice)
                self.calm(venue)
                if not self._over.is_set():
                    self.lose(venue, dice)
        except Exception as error:
            self.fail(f"the soak itself: {error!r}", venue)

    def storm(self, venue, dice):
        rates = {name: dice.uniform(0, most) for name, most in CHANCES.items() if dice.random() < 0.4}
        if dice.random() < 0.1:
            rates["bytewise"] = 1
        self.blind[venue] = not venues.get(venue).proofs and not UNPROVEN.isdisjoint(rates)
        self.steer(venue, "faults", **rates or {"drop": 0})
        ends = self.now() + dice.uniform(5, 10)
        while (wait := min(dice.expovariate(1 / BETWEEN_S), ends - self.now())) > 0 and not self._over.wait(wait):
            if self.now() < ends:
                name = dice.choice(list(EVENTS))
                self.steer(venue, "now", **{name: dice.uniform(*EVENTS[name])} if name != "cut" else {"cut": 1})

    def calm(self, venue):
        """No more faults: how long does it take until all is well?"""
        self.steer(venue, "faults", drop=0)
        if self.blind[venue]:
            self.steer(venue, "now", cut=1)         # what it does not know to be wrong does not heal by itself
        began = self.now()
        while any(run.unhealthy(venue) for run in self.runs if venue in run.venues):
            if self.now() - began > HEAL_S:
                self.fail(f"not healed within {HEAL_S:.0f} s: " + "; ".join(
                    text for run in self.runs if venue in run.venues for text in run.unhealthy(venue)), venue)
                return
            time.sleep(0.02)
        self.healed[venue].append(self.now() - began)
        self._over.wait(0.5)
        self.blind[venue] = False

    def total(self, venue, counter):
        return sum(run.count(venue, counter) for run in self.runs if venue in run.venues)

    def lose(self, venue, dice):
        """Lose what the venue's proof can see: is it in the ledger?"""
        if venue in NUMBERED:
            self.lose_many(venue, dice)
        for fault, channels in PROBES.get(venue, ()):
            before, counts = self.state(venue), {name: self.total(venue, name) for name in channels.values()}
            self.steer(venue, "now", **{fault: 1})
            hit = self.until(lambda: self.struck(venue, fault, before), 4.0)    # noqa: B023
            counter = next((name for part, name in channels.items() if hit and part in hit), None)
            if counter is None:
                continue
            rises = self.until(lambda: self.total(venue, counter) > counts[counter], 8.0)     # noqa: B023
            if rises or self.unchanged(venue, before):
                self.counted[venue] += 1
                if not rises:
                    self.fail(f"{venue}: {fault} on {hit} is not in the ledger ({counter})", venue)
            self.calm(venue)

    def lose_many(self, venue, dice):
        before, lost = self.state(venue), self.total(venue, "lost")
        self.steer(venue, "faults", **LOSE)
        self._over.wait(dice.uniform(1, 3))
        self.calm(venue)
        time.sleep(1.0)                             # a next message shows that one was missing
        after = self.state(venue)
        if self.unchanged(venue, before):
            injected = sum(after["injected"].get(name, 0) - before["injected"].get(name, 0) for name in LOSSES)
            self.counted[venue] += injected
            if (ledger := self.total(venue, "lost") - lost) != injected:
                self.fail(f"{venue}: {injected} messages were lost, {ledger} are in the ledger", venue)

    def state(self, venue):
        return self.ask(venue, "/simulator/state")

    def unchanged(self, venue, before):
        """Is every connection the one it was? What a successor suffers before it is one is nobody's loss."""
        return all(self.state(venue)[name] == before[name] for name in ("connections", "open"))

    def struck(self, venue, fault, before):
        """The channel that a fault has struck since `before`."""
        now = self.state(venue)["injected_on"]
        return next((channel for channel, counts in now.items()
                     if counts.get(fault, 0) > before["injected_on"].get(channel, {}).get(fault, 0)), None)

    def until(self, condition, seconds):
        ends = time.monotonic() + seconds
        while not (found := condition()) and time.monotonic() < ends:
            time.sleep(0.05)
        return found

    # The judge -------------------------------------------------------------------------------------------------

    def judge_all(self):
        dice = random.Random(f"{self.seed}/judge")
        books = [(run, venue, symbol) for run in self.runs for venue in run.venues for symbol in SYMBOLS[venue]]
        while not self._judged.wait(0.01):
            try:
                self.judge(*dice.choice(books))
            except Exception as error:
                self.fail(f"the judge itself: {error!r}")
                return

    def judge(self, run, venue, symbol, look=0, before=0):
        blind = self.blind[venue]
        image = run.book(venue, symbol).image()
        if (claimed := run.claims(image)) < run.live_trust(venue):
            return
        scale = run.scale(image.instrument)
        here = venues.get(venue)
        depth = PROVEN.get(venue) or (DEPTH if run.mode == "top" else here.keep(run.mode, DEPTH))
        mine = [[(Decimal(price).scaleb(-scale.price_decimals), Decimal(size).scaleb(-scale.size_decimals))
                 for price, size in side[:depth or None].tolist()] for side in (image.bids, image.asks)]
        try:
            answer = self.ask(venue, "/simulator/was?" + urlencode(
                {"symbol": symbol, "depth": depth, "mark": mark(*mine)}))
        except (OSError, ValueError):
            return                                  # it is restarting
        if answer["true"]:
            self.judged[run.mode, venue] += 1
            self.ago_ms[venue].append(answer["ago_ms"])
        elif claimed < Trust.VERIFIED and (blind or self.blind[venue]):
            self.unproven[run.mode, venue] += 1
        elif look < (LOOKS if (piecemeal := venue == "bitfinex" or run.mode == "orders") else 1) or (
                piecemeal and image.sequence == before and look < MOST_LOOKS):
            time.sleep(0.02)
            self.judge(run, venue, symbol, look + 1, image.sequence)
        else:
            self.fail(f"{run.name} {venue} {symbol} ({Trust(image.trust).name} since "
                      f"{time.time() - image.trust_since_ns / 1e9:.2f} s) at {image.sequence} never was so; "
                      f"{self.differences(venue, symbol, image.sequence, mine)}", venue)

    def differences(self, venue, symbol, sequence, mine):
        """Rank, price, size here and there of the levels that are not as they were at the venue's `sequence`."""
        try:
            true = self.ask(venue, f"/simulator/book?symbol={symbol}&sequence={sequence}")
        except OSError as error:
            return f"best {mine[0][:2]} {mine[1][:2]} ({error})"
        told = []
        for side, name in zip(mine, ("bids", "asks"), strict=True):
            theirs = {Decimal(price): Decimal(size) for price, size in true[name]}
            prices = [price for price, _ in side]
            here = dict(side)
            told += [f"{name}[{sum(one < price if name == 'asks' else one > price for one in prices)}] {price} "
                     f"{here.get(price, 0)} != {theirs.get(price, 0)}"
                     for price in sorted(theirs.keys() | here.keys()) if here.get(price, 0) != theirs.get(price, 0)
                     and (price in here or len(side) < len(theirs))]
        return f"{len(told)} levels differ: {'; '.join(told[:8])}"

    # All of it -------------------------------------------------------------------------------------------------

    def run(self):
        began = time.monotonic()
        with contextlib.ExitStack() as stack:
            self.home = stack.enter_context(tempfile.TemporaryDirectory(prefix="mantra-soak-"))
            self.child = stack.enter_context(Child(
                "--venues", ",".join(self.venues), "--instruments", ",".join(INSTRUMENTS), "--seed", str(self.seed),
                "--unlimited", "--levels", "300"))
            self.runs = [Run(self, *kind) for kind in RUNS[:1 if self.twin else None]]
            self.runs = [run for run in self.runs if run.venues or run.stop()]
            stack.callback(self.end)
            for run in self.runs:
                run.attach()
            self.began = time.monotonic()
            self.live()
        left = [info.name for info in Region.list(f"soak{os.getpid()}-")]
        if left:
            self.fail(f"shared memory is left: {', '.join(left)}")
        return self.report(time.monotonic() - began)

    def live(self):
        self._judged = threading.Event()
        for venue in self.venues:
            self.calm(venue)
        self.healed.clear()                         # that was the start
        threads = [threading.Thread(target=self.fate, args=(venue,), daemon=True) for venue in self.venues]
        judge = threading.Thread(target=self.judge_all, daemon=True)
        for thread in (judge, *threads):
            thread.start()
        try:
            self.sample()
            told = self.now()
            while self.now() < self.seconds and not (self.twin and self.wrong):
                time.sleep(min(0.5, max(0.0, self.seconds - self.now())))
                for run in self.runs:
                    if run.process.poll() is not None:
                        return self.fail(f"{run.name} ended with exit code {run.process.returncode}")
                if self.now() - told >= max(5.0, self.seconds / 60):
                    told = self.now()
                    self.sample()
                    self.say(f"{told:.0f} s: {sum(self.judged.values())} judgements, "
                             f"{sum(map(len, self.healed.values()))} healings, "
                             f"{sum(run.samples[-1][1] for run in self.runs):.0f} MB in {len(self.runs)} runs, "
                             f"{len(self.wrong)} wrong")
        finally:
            self._over.set()
            for thread in threads:
                thread.join()
            self._over.clear()
            if not (self.twin and self.wrong):
                self.settle()
            self._judged.set()
            judge.join()

    def settle(self):
        """The end: nothing is wrong any more, and nothing grew."""
        for venue in self.venues:
            self.calm(venue)
        for _ in range(4):                          # one may have a successor beside it, which takes memory
            time.sleep(0.75)
            self.sample()
        for venue in self.venues:
            self.injected[venue] = self.state(venue)["injected"]
        for run in self.runs:
            grown = run.samples[len(run.samples) // 3:]
            for column, what in ((1, "memory"), (2, "shared memory")):
                first, last = (min(sample[column] for sample in part)
                               for part in (grown[:-len(grown) // 2], grown[-len(grown) // 2:]))
                if last > first + GROWTH_MB:
                    self.fail(f"{run.name}'s {what} grew from {first} to {last} MB")
        self.ledger = {venue: {name: self.total(venue, name) for name in COUNTERS} for venue in self.venues}

    def sample(self):
        for run in self.runs:
            run.sample(self.now())

    def end(self):
        for run in self.runs:
            said = run.stop()
            if run.process.returncode or said is None or said["threads"]:
                self.fail(f"{run.name} ended with {run.process.returncode}: {said}")

    def report(self, took):
        return {
            "seed": self.seed, "seconds": round(took, 1), "wrong": self.wrong,
            "judged": {f"{mode} {venue}": count for (mode, venue), count in sorted(self.judged.items())},
            "unproven": {f"{mode} {venue}": count for (mode, venue), count in sorted(self.unproven.items())},
            "injected": self.injected, "ledger": getattr(self, "ledger", {}), "counted": self.counted,
            "healing_s": {venue: sorted(round(one, 2) for one in some) for venue, some in self.healed.items()},
            "ago_ms": {venue: [round(sorted(some)[int(share * (len(some) - 1))]) for share in (0.5, 0.99, 1)]
                       for venue, some in self.ago_ms.items()},
            "memory": {run.name.partition("-")[2]: run.samples for run in self.runs},
        }


def table(report):
    """The report for people."""
    yield f"{'venue':<9} {'judged':>7} {'unproven':>8} {'healings':>8} {'p50':>5} {'max s':>6} {'counted':>7}  faults"
    for venue, injected in report["injected"].items():
        judged, unproven = (sum(count for name, count in report[which].items() if name.endswith(f" {venue}"))
                            for which in ("judged", "unproven"))
        times = report["healing_s"].get(venue) or [0.0]
        faults = " ".join(f"{name} {count}" for name, count in sorted(injected.items()))
        yield (f"{venue:<9} {judged:>7} {unproven:>8} {len(times):>8} {times[len(times) // 2]:>5.2f} {times[-1]:>6.2f} "
               f"{report['counted'].get(venue, 0):>7}  {faults}")
    yield ""
    for venue, counts in report["ledger"].items():
        yield f"{venue:<9} " + " ".join(f"{name} {count}" for name, count in counts.items() if count)
    yield ""
    for run, samples in report["memory"].items():
        first, last = samples[0], samples[-1]
        yield (f"{run:<9} {first[1]:.1f} to {last[1]:.1f} MB of its own, {first[2]:.1f} to {last[2]:.1f} MB shared, "
               f"{first[3]} to {last[3]} threads, {first[4]} to {last[4]} files")


def main(argv=None):
    parser = Parser(prog="soak", description=__doc__.partition("\n")[0], epilog="Memory is anonymous memory of a run.")
    add = parser.add_argument
    add("--seconds", type=positive_seconds, default=60.0, help="of faults (default: 60); healing comes after")
    add("--seed", type=int, default=1, help="of the markets and all faults (default: 1)")
    add("--venues", default=",".join(SYMBOLS), help="(default: %(default)s)")
    add("--json", action="store_true", help="one JSON object on the last line of standard output")
    options = parser.parse_args(argv)
    names = options.venues.split(",")
    if not set(names) <= set(SYMBOLS):
        parser.error(f"--venues: choose from {', '.join(SYMBOLS)}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        report = Soak(options.seconds, options.seed, names,
                      say=lambda line: print(f"soak: {line}", file=sys.stderr, flush=True)).run()
    except KeyboardInterrupt:
        return 1
    for line in table(report):
        print(line, file=sys.stderr)
    for one in report["wrong"]:
        print(f"WRONG at {one['at']} s of seed {options.seed}: {one['what']}", *one["done"], *one["heard"],
              sep="\n    ", file=sys.stderr)
    if report["wrong"]:
        print(f"again: scripts/soak --seconds {options.seconds:g} --seed {options.seed} --venues {options.venues}",
              file=sys.stderr)
    if options.json:
        print(json.dumps(report))
    return int(bool(report["wrong"]))


if __name__ == "__main__":
    sys.exit(main())
