"""Book updates against a plain array (binary search and memmove, which nobody could read meanwhile), in one run.

    python bench/bench_book.py [--json]        recordings: $MANTRA_DATA, else ../shared/data

Needs a C compiler. Every update is a write section of its own. Targets: 40 ns for typical updates near the top, and no
worse than logarithm plus move at 10,000 levels. The answer is checked: the final levels equal a slow sorted book's.
"""
from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mantra.tape.lines import read
from tests.c.decoding import Decoder
from tests.data import FOLDER
from tests.reference.ladder import ASK, BID, SlowBook

HERE = Path(__file__).resolve().parent
Rows = list[tuple[int, int, int]]


def walk(levels: int, away: float, count: int = 100_000, seed: int = 1) -> tuple[Rows, Rows]:
    """A book of `levels` a side on every other tick, and updates some ranks from the best, 45 % of them removals."""
    draw = random.Random(seed)
    middle = 10**6
    start = [row for i in range(levels - 1, -1, -1) for row in ((BID, middle - 2 * i, 1), (ASK, middle + 1 + 2 * i, 1))]
    updates = []
    for _ in range(count):
        ticks = min(int(draw.expovariate(1 / (2 * away))), 2 * levels - 1)
        side = draw.choice([BID, ASK])
        price = middle - ticks if side == BID else middle + 1 + ticks
        updates.append((side, price, 0 if draw.random() < 0.45 else draw.randrange(1, 1000)))
    return start, updates


def bottom(levels: int = 10_000, count: int = 2_000) -> tuple[Rows, Rows]:
    """The worst there is: a level put in and taken out below all others."""
    return [(BID, 10 + i, 1) for i in range(levels)], [(BID, 5, i % 2 ^ 1) for i in range(count)]


def recorded() -> tuple[Rows, Rows]:
    """Binance spot BTCUSDT, 346 s: the snapshot, and every level that the diffs after it change."""
    decoder = Decoder("binance", ["btcusdt", "BTCUSDT"], [(2, 5), (2, 5)])
    start: Rows = []
    updates: Rows = []
    for record in read([FOLDER / "hftbacktest/spot/btcusdt_20240808.zst"], "binance"):
        if b"lastUpdateId" in record.text:
            book = json.loads(record.text)
            start = [(side, round(float(price) * 100), round(float(size) * 100_000))
                     for side, key in ((BID, "bids"), (ASK, "asks")) for price, size in reversed(book[key])]
        elif start and b"depthUpdate" in record.text:
            changes = decoder.decode(record.text).changes
            updates += [(ASK if side == "ask" else BID, price, size) for side, price, size in changes]
    return start, updates


def measure(program: Path, start: Rows, updates: Rows, passes: int = 15) -> tuple[float, float]:
    """ns per update: the book's, the plain array's; the best of several passes."""
    counts = np.array([len(start), len(updates), passes], np.int64)
    given = counts.tobytes() + np.array(start + updates, np.int64).tobytes()
    lines = subprocess.run([str(program)], input=given, capture_output=True, check=True).stdout.decode().splitlines()
    slow = SlowBook()
    for change in start + updates:
        slow.apply(*change)
    expected = [f"{side} {price} {size}" for side in (BID, ASK) for price, size in slow.levels(side)]
    if lines[1:] != expected:
        sys.exit("bench_book: the final levels are not those of the reference")
    book, plain = lines[0].split()
    return float(book), float(plain)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cases = {
        "100 levels, some 5 from the best": walk(100, 5),
        "1,000 levels, some 5 from the best": walk(1_000, 5),
        "10,000 levels, some 5 from the best": walk(10_000, 5),
        "10,000 levels, some 50 from the best": walk(10_000, 50),
        "10,000 levels, some 500 from the best": walk(10_000, 500, 50_000),
        "10,000 levels, anywhere": walk(10_000, 10_000, 20_000),
        "10,000 levels, at the bottom": bottom(),
    }
    if (FOLDER / "hftbacktest").is_dir():
        cases["Binance BTCUSDT 2024-08-08, as recorded"] = recorded()
    results = {}
    with tempfile.TemporaryDirectory() as place:
        program = Path(place, "book_updates")
        compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()
        subprocess.run([*compiler, "-std=gnu11", "-O3", f"-I{HERE.parent / 'csrc'}", str(HERE / "book_updates.c"),
                        "-o", str(program)], check=True)
        for name, (start, updates) in cases.items():
            book, plain = measure(program, start, updates)
            results[name] = {"book_ns": book, "plain_ns": plain, "ratio": book / plain}
            print(f"{name:40} {book:9.1f} ns   plain array {plain:9.1f} ns   ratio {book / plain:5.2f}")
    if options.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
