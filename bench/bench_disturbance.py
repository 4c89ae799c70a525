"""Does a feed under full load notice who looks? Its cost a message alone, and beside readers in other processes.

    python bench/bench_disturbance.py [--rate 200000] [--turns 10] [--json]

A feed of a named run takes Bitstamp diffs out of memory, each of which changes the top, in bursts of a millisecond's
messages (--rate 0: without a pause), timed and published as in a running system; on one core, while on another run

    timekeeper     mantra timekeeper, a picture every half second
    metrics        the exporter for Prometheus, scraped four times a second
    polled         a process that reads all of every queue, looking every half millisecond
    followed       a process that reads all of every queue and sleeps on the run's doorbell until more is there: the
                   feed then wakes it, a system call each time
    all            all of these together

Readers are stopped (SIGSTOP) while it is not their turn; turns alternate, so that all meet the same machine. The
ratio is of medians of the bursts' times. Checked: every message was published, and readers account for every position.
"""
from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mantra import venues
from mantra.client.feed import bare_feed
from mantra.core.doorbell import Doorbell
from mantra.runtime.spine import Spine
from mantra.telemetry.bench import cores

MESSAGES, SYMBOL, FIRST = 40_000, "btcusdt", 10**15
TEXT = ('{"data":{"timestamp":"1700000000","microtimestamp":"%d","bids":[["20000.01","0.%08d"]],'
        '"asks":[["20000.02","0.%08d"]]},"channel":"diff_order_book_' + SYMBOL + '","event":"data"}')
SNAPSHOT = b'{"timestamp":"1","microtimestamp":"1","bids":[["20000.00","1"]],"asks":[["20000.03","1"]]}'


def read(run: str, follow: bool) -> None:
    """Every queue, until told to end: then how many messages were read, and how many were overwritten before."""
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    with Spine.attach(run) as spine:
        bell: Doorbell = spine.doorbell
        readers = [spine.queue(name).consumer(on_lap="count") for name in spine.queue_names()]
        started, count = sum(each.position for each in readers), 0
        print("ready", flush=True)
        while not ended:
            seen = bell.seen() if follow else None
            got = sum(len(each.batch()) for each in readers)
            count += got
            if not got and follow:
                bell.wait(0.001, seen)
            elif not got:
                time.sleep(0.0005)
        lost = sum(each.lost for each in readers)
        right = started + count + lost == sum(each.position for each in readers)
        print(json.dumps({"read": count, "lost": lost, "right": right}), flush=True)


def scrape(address: str) -> None:
    """As Prometheus does, more often."""
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{address}/metrics") as answer:
            assert b"mantra_feed_messages_total" in answer.read()
            print("ready", flush=True)
        time.sleep(0.25)


class Load:
    """The feed, and its messages in memory."""

    def __init__(self, run: str, rate: float) -> None:
        bitstamp = venues.get("bitstamp")
        self.spine = Spine.create(run)
        number = self.spine.add_actor("bitstamp", "feed")
        self.feed = bare_feed(self.spine, "bitstamp", bitstamp, publisher=number, most_books=1,
                              tracker=self.spine.tracker("bitstamp", number),
                              socket_to_top=self.spine.histogram("socket_to_top.bitstamp"))
        self.feed.add_book(*self.spine.make_book("bitstamp", bitstamp.id, SYMBOL, 0), [SYMBOL], 0, 2, 8)
        texts = [(TEXT % (FIRST + i, 1 + i, 2 + i)).encode() + bytes(64) for i in range(MESSAGES)]
        self.texts = b"".join(texts)
        self.offsets = np.cumsum([0, *map(len, texts)]).astype(np.uint64)
        self.rate, self.burst = rate, max(1, int(rate / 1000)) if rate else 256
        self.row = self.spine.ledger.row("bitstamp", bitstamp.id)

    def turn(self) -> list[float]:
        """ns a message, of every burst."""
        self.feed.begin()
        self.feed.splice(0, SNAPSHOT)
        before, bursts, began = self.row["tops"], [], time.perf_counter()
        for at in range(0, MESSAGES, self.burst):
            while self.rate and time.perf_counter() < began + at / self.rate:
                pass
            until = min(at + self.burst, MESSAGES)
            bursts.append(self.spine.clock.ns(self.feed.messages(self.texts, self.offsets, at, until)) / (until - at))
        if self.row["tops"] - before != MESSAGES:
            sys.exit("bench_disturbance: a message changed no top")
        return bursts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=200_000, help="messages a second; 0: flat out")
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument("--read", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        what, how = options.read
        return scrape(what) if how == "scrape" else read(what, how == "follow")
    use = cores()
    if len(use) < 2:
        sys.exit("bench_disturbance: needs two cores")
    run = f"disturbance-{os.getpid()}"
    load = Load(run, options.rate)
    us = [sys.executable, __file__, "--read", run]
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    commands = {"timekeeper": [sys.executable, "-m", "mantra", "timekeeper", run, "--plain", "--interval", "0.5"],
                "metrics": [sys.executable, "-m", "mantra.telemetry.metrics", "--run", run, "--listen", address],
                "scraper": [*us[:3], address, "scrape"], "polled": [*us, "poll"], "followed": [*us, "follow"]}
    cases = {"alone": [], "timekeeper": ["timekeeper"], "metrics": ["metrics", "scraper"], "polled": ["polled"],
             "followed": ["followed"], "all": list(commands)}
    os.sched_setaffinity(0, {use[1]})       # children inherit it
    readers = {name: subprocess.Popen(command, text=True, stdout=subprocess.DEVNULL if name in ("timekeeper", "metrics")
                                      else subprocess.PIPE) for name, command in commands.items()}
    os.sched_setaffinity(0, {use[0]})
    found: dict[str, list[list[float]]] = {name: [] for name in cases}
    try:
        for name, reader in readers.items():
            if reader.stdout and reader.stdout.readline() != "ready\n":
                sys.exit(f"bench_disturbance: {name} did not start")
        time.sleep(1.0)                     # the timekeeper has drawn its first picture
        for reader in readers.values():
            reader.send_signal(signal.SIGSTOP)
        for _ in range(options.turns):
            for name, members in cases.items():
                for member in members:
                    readers[member].send_signal(signal.SIGCONT)
                time.sleep(0.05)
                found[name].append(load.turn())
                for member in members:
                    readers[member].send_signal(signal.SIGSTOP)
    finally:
        ends = {}
        for name, reader in readers.items():
            reader.send_signal(signal.SIGCONT)
            reader.terminate()
            ends[name] = reader.communicate(timeout=10)[0]
        load.spine.close()
    told = {name: json.loads(ends[name]) for name in ("polled", "followed")}
    if not all(each["right"] and each["read"] for each in told.values()):
        sys.exit(f"bench_disturbance: a reader lost its place: {told}")
    rows = {}
    print(f"{f'{options.rate:,.0f} messages/s' if options.rate else 'flat out':20}{'ns a message':>14}{'p99':>10}"
          f"{'of alone':>10}{'turns':>16}")
    for name, turns in found.items():
        medians = [statistics.median(bursts) for bursts in turns]
        alone = [statistics.median(bursts) for bursts in found["alone"]]
        rows[name] = {"ns": statistics.median(medians), "ratio": statistics.median(medians) / statistics.median(alone),
                      "p99_ns": float(np.percentile(np.concatenate(turns), 99)), "least": min(medians),
                      "most": max(medians)}
        print(f"  {name:18}{rows[name]['ns']:14.0f}{rows[name]['p99_ns']:10.0f}{rows[name]['ratio']:10.2f}"
              f"{min(medians):9.0f} -{max(medians):5.0f}")
    print("  ".join(f"{name}: {each['read']:,} read, {each['lost']:,} lapped" for name, each in told.items()))
    if options.json:
        print(json.dumps({"rate": options.rate, "cases": rows, "readers": told}))
    return None


if __name__ == "__main__":
    main()
