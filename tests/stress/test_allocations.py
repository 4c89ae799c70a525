"""Nothing is allocated per message between the socket and the published top, timing included: a call for a thousand
messages asks the allocator for as much as a call for one. Python's own objects count too (PYTHONMALLOC=malloc)."""
from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent

# In a process of its own, under the counting allocator: what each way of taking a few and many messages asked for.
COUNT = r"""
import ctypes, json, socket, sys
import numpy as np
from mantra import venues
from mantra.core.hot_path import PADDING, Event, FeedPoller
from mantra.core.transport import Transport
from mantra.client.feed import bare_feed
from mantra.runtime.spine import Spine

allocations = ctypes.CDLL(None).allocations
allocations.restype = ctypes.c_long
spine, FEW, MANY = Spine.private(), 3, 1500
number = 0


def feed_of(venue, symbol, first):
    global number
    number += 1
    name = f"{venue.name}-{number}"
    feed = bare_feed(spine, name, venue, most_books=1, tracker=spine.tracker(name, number),
                     socket_to_top=spine.histogram(f"socket_to_top.{number}"))
    book, slot = spine.make_book(venue.name, venue.id, f"{symbol}{number}", number)
    feed.add_book(book, slot, venue.spellings(symbol), number, 2, 3)
    feed.begin()
    assert feed.splice(0, first) == 0
    return feed


def binance(i):
    if i % 5 == 4:
        return (b'{"e":"trade","E":1700000000000,"s":"ETHBTC","t":%d,"p":"5.1","q":"1",'
                b'"T":1700000000000,"m":true,"M":true}' % i)
    return (b'{"e":"depthUpdate","E":1700000000000,"s":"ETHBTC","U":%d,"u":%d,"b":[["%d.5","%d"],["4.25","0"]],'
            b'"a":[["%d.5","2"]]}' % (i + 1, i + 2 if i % 5 == 3 else i + 1, i % 4 + 1, i % 3, i % 900 + 6))


def bitstamp(i):
    return (b'{"data":{"timestamp":"1700000000","microtimestamp":"%d","bids":[["%d.5","%d"]],"asks":[["%d.5","2"]]},'
            b'"channel":"diff_order_book_ethbtc","event":"data"}'
            % (1700000000000000 + i, i % 4 + 1, i % 3, i % 900 + 6))


KINDS = {
    "binance": (venues.get("binance"), "ETHBTC",
                b'{"lastUpdateId":0,"bids":[["4.5","1"]],"asks":[["6.5","1"]]}', binance),
    "bitstamp": (venues.get("bitstamp"), "ethbtc",
                 b'{"timestamp":"1","microtimestamp":"1","bids":[["4.5","1"]],"asks":[["6.5","1"]]}', bitstamp),
}


def asked(call):
    before = allocations()
    result = call()
    return allocations() - before, result


def recorded(feed, texts):
    joined = np.frombuffer(b"".join(text + bytes(PADDING) for text in texts), np.uint8)
    offsets = np.cumsum([0, *(len(text) + PADDING for text in texts)]).astype(np.uint64)
    count = len(texts)
    return asked(lambda: feed.messages(joined, offsets, 0, count))[0]


def one_by_one(feed, texts):
    def call():
        for text in texts:
            feed.message(text)
    return asked(call)[0]


def connected(feed, texts):
    listener = socket.create_server(("127.0.0.1", 0))
    transport = Transport.connect(*listener.getsockname()[:2])
    peer, _ = listener.accept()
    sizes = [bytes([len(text)]) if len(text) < 126 else bytes([126]) + len(text).to_bytes(2, "big") for text in texts]
    peer.sendall(b"".join(b"\x81" + size + text for size, text in zip(sizes, texts)) + b"\x88\x00")
    feed.attach(transport)
    return transport, peer, listener


def threaded(feed, texts):
    kept = connected(feed, texts)
    count, event = asked(lambda: feed.run(30.0))
    assert event == Event.CLOSED
    return count


def polled(feed, texts):
    kept, poller = connected(feed, texts), FeedPoller(feed.clock, 1)
    poller.add(0, feed)
    count, (event, _) = asked(lambda: poller.run(30.0))
    assert event == Event.CLOSED
    return count


found = {}
for name, (venue, symbol, first, text) in KINDS.items():
    for way in (recorded, threaded, polled, one_by_one):
        way(feed_of(venue, symbol, first), [text(i) for i in range(FEW)])      # what is made once is made
        counts = []
        for many in (FEW, MANY):
            feed = feed_of(venue, symbol, first)
            row = spine.ledger.row(f"{venue.name}-{number}", venue.id)
            counts.append(way(feed, [text(i) for i in range(many)]))
            assert spine.queue(f"timings.{venue.name}-{number}", "timing").produced == many
            assert row["messages"] == many and row["malformed"] == row["gaps"] == 0, row.counts()
            assert feed.state(0)[0] and row["tops"] > many // 2, row.counts()
        found[f"{name} {way.__name__}"] = counts
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[int]]:
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler to build the counting allocator")
    library = tmp_path_factory.mktemp("allocations") / "allocations.so"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", str(HERE / "allocations.c"), "-o", str(library)], check=True)
    done = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, timeout=100,
                          cwd=HERE.parents[1], env={**os.environ, "LD_PRELOAD": str(library), "PYTHONMALLOC": "malloc"})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("way", ["recorded", "threaded", "polled"])
@pytest.mark.parametrize("venue", ["binance", "bitstamp"])
def test_a_message_allocates_nothing_on_its_way_to_the_published_top(counts, venue, way):
    few, many = counts[f"{venue} {way}"]
    assert many == few


def test_the_count_catches_a_way_that_allocates_for_each_message(counts):
    for venue in ("binance", "bitstamp"):
        few, many = counts[f"{venue} one_by_one"]       # through Python: padded copies, numbers
        assert many - few > 1000
