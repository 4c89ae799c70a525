"""Playing: what was captured comes again, bit for bit, waiting for its readers; books are right wherever it goes."""
from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

import mantra
from mantra import archive
from mantra.archive import capture as module
from mantra.core.messages import DTYPES, Kind, Trust
from mantra.core.pack import Packer, unpack
from mantra.errors import ConfigurationError, MantraError
from mantra.runtime.spine import ALSO, CAPACITY, MESSAGES
from mantra.tape.segment import SegmentReader, SegmentWriter

from .capturing import Capturing, Kept, private_run

FAMILIES = ("updates", "trades", "tops")


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """A captured session of two feeds with two books each, in some blocks, and what it was."""
    folder = tmp_path_factory.mktemp("session")
    patch = pytest.MonkeyPatch()
    patch.setattr(module, "ROUND_S", 0.001)
    spine, feeds = private_run(2)
    kept = Capturing(spine, folder, flush=0.01)
    kept.step()
    for turn in range(60):
        feeds[turn % 2].move(20)
        if turn % 20 == 19:
            feeds[1].reset(100)
        kept.step()
    kept.end()
    patch.undo()
    return SimpleNamespace(folder=folder, feeds=feeds, kept=Kept(folder), archive=archive.open(folder))


def collect(played, families=FAMILIES):
    """All that is published until the end, by family."""
    return rest(played, {family: played.spine.reader(family) for family in families})


def rest(played, readers):
    got = {family: [np.empty(0, reader.format.dtype)] for family, reader in readers.items()}
    played.resume()
    ending = False
    while True:
        ended = played.done
        took = 0
        for family, reader in readers.items():
            while len(batch := reader.batch()):
                got[family].append(batch.copy())
                took += 1
        if ended and not took and ending:
            return {family: np.concatenate(batches) for family, batches in got.items()}
        ending = ended and not took
        time.sleep(0.0005)


def of(messages, played, feed):
    """Those of a feed, without the RESETs that tell of a book whose image was taken when the capture joined."""
    number = [row.name for row in played.spine.ledger.rows()].index(feed)
    own = messages[messages["published"] & np.uint64(0xFFFF) == number]
    if "kind" in own.dtype.names:
        own = own[(own["kind"] != Kind.RESET) | (own["price"] != 0)]
    return told(own)


def told(messages):
    """All but stamps, and who published them."""
    return messages[[name for name in messages.dtype.names if name not in ("origin", "published")]].tolist()


def begins(updates):
    """When batches begin: here, other than in life, each update of them is published at a time of its own."""
    return archive.utc(updates)[np.flatnonzero(updates["flags"][:-1] & 1 == 0) + 1]


def levels(book):
    image = book.image()
    return image.bids.tolist(), image.asks.tolist()


def test_what_is_played_is_what_was_captured_and_twice_the_same(session):
    digests = set()
    for _ in range(2):
        with mantra.play(session.folder) as played:
            got = collect(played)
            result = played.result(books=True)
            for feed in session.feeds:
                for family, message in (("updates", "update"), ("trades", "trade")):
                    recorded = session.kept.messages[f"{family}.{feed.name}"]
                    rows = np.frombuffer(b"".join(recorded[at] for at in sorted(recorded)), DTYPES[message])
                    assert of(got[family], played, feed.name) == told(rows)
                for id, book in feed.books.items():
                    assert levels(played.book("binance", f"C{id}USDT")) == levels(book)
            updates = session.archive.updates().array()
            stamps = got["updates"]["origin"], got["updates"]["published"] >> np.uint64(16)
            assert {*zip(*map(np.ndarray.tolist, stamps), strict=True)} >= {
                *zip(updates["origin"].tolist(), (updates["published"] >> np.uint64(16)).tolist(), strict=True)}
            assert (result["updates"], result["trades"]) == (len(got["updates"]) - 4, len(got["trades"]))
            assert (result["told"], result["differing"], result["damaged"]) == (4, 0, 0)
            assert result["books"]["C0USDT"]["trust"] == "verified"
            digests.add(result["digest"])
    assert len(digests) == 1


def test_seeking_lands_on_the_books_of_that_moment_and_goes_on_from_there(session):
    draw, updates = random.Random(1), session.archive.updates().array()
    times = archive.utc(updates)
    with mantra.play(session.folder) as played:
        reader = played.spine.reader("updates")
        for moment in map(int, draw.choices(begins(updates)[9:-9], k=12)):
            played.seek(moment)
            assert played.time_ns == played.spine.clock.utc_ns() == moment
            resets = reader.batch()
            assert (resets["kind"] == Kind.RESET).all()
            assert sorted(resets["instrument"].tolist()) == [0, 1, 100, 101], "every book is another now"
            for id in (0, 1, 100, 101):
                past = session.archive.book("binance", id, moment - 1)
                if past.trust == Trust.VERIFIED:    # the archive does not guess what was between a RESET and its image
                    assert levels(played.book("binance", f"C{id}USDT")) == (past.bids.tolist(), past.asks.tolist())
            following = rest(played, {"updates": reader})["updates"]
            for id in (0, 1, 100, 101):
                assert told(following[following["instrument"] == id]) == told(
                    updates[(updates["instrument"] == id) & (times >= moment)])
            played.pause()


def test_paused_it_publishes_nothing_and_steps_as_it_is_told(session):
    with mantra.play(session.folder) as played:
        queues = [played.spine.queue(name) for name in played.spine.queue_names() if name.split(".")[0] in FAMILIES]

        def published():
            return sum(queue.produced for queue in queues)

        assert (published(), played.done) == (0, False), "it begins when somebody reads, or says so"
        played.step(5, by="message")
        assert played.result()["played"] == 5
        played.step(by="batch")
        after = played.result()["played"]
        assert after > 5
        first = played.time_ns
        assert played.step(by="second") <= first + 10**9
        played.seek(first)
        before = published()
        played.resume()
        played.pause()
        now = published()
        played.speed(0.001)
        time.sleep(0.02)
        assert published() == now >= before
        assert played.wait(0.01) is False, "a thousandth of the speed"
        played.speed("max")
        assert played.wait(5)


def test_who_steers_it_in_the_loop_that_reads_is_answered(session, monkeypatch):
    monkeypatch.setitem(CAPACITY, "top", 8)     # less than a seek has to tell; a batch and its top are most of it
    with mantra.play(session.folder) as played:
        start, resets = played.player.start_ns, 0
        for n, update in enumerate(played.read("updates")):
            resets += update.kind == Kind.RESET
            if n in (30, 60, 90):
                time.sleep(0.01)                # it is as far ahead as it may be
                played.pause()
                played.seek(start)
                played.resume()
        assert resets >= 4 * 4, "at first, and after each seek, every book is another"
        played.seek(start)
        reader = played.spine.reader("updates")
        with pytest.raises(MantraError, match="waits for a reader in this process"):
            played.step(by="second")
        assert len(reader.batch())


def test_who_left_the_loop_is_not_waited_for_and_who_is_in_it_when_all_ends_leaves(long):
    with mantra.play(long) as played:
        next(iter(played.read("updates")))
        assert played.wait(10)
        played.seek(played.player.start_ns)
        played.speed(0.001)
        last = threading.Thread(target=lambda: list(played.read("updates")), daemon=True)
        last.start()
    last.join(5)
    assert not last.is_alive()


def test_who_asks_a_player_that_has_ended_is_told(session):
    played = mantra.play(session.folder)
    with pytest.raises(ConfigurationError, match="is no time"):
        played.seek("tomorrow")
    played.stop()
    with pytest.raises(MantraError, match="has ended"):
        played.pause()


def test_speed_is_recorded_time_by_time(session):
    with mantra.play(session.folder, speed=1) as played:
        span = (played.player.end_ns - played.player.start_ns) / 1e9
        began = time.monotonic()
        assert played.wait(10)
        assert span - 0.02 < time.monotonic() - began < span + 0.5


SLOW = """
import sys, time, mantra
with mantra.attach(sys.argv[1]) as run:
    reader = run.reader("updates")
    print("here", flush=True)
    n = 0
    while n < int(sys.argv[2]):
        reader.wait(1.0)
        for update in reader:
            n += 1
            if n % 2000 == 0:
                time.sleep(0.002)
            if n == int(sys.argv[3]):
                time.sleep(60)
    print(n, reader.lost)
"""


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """More updates than a ring holds: 150,000, of one book."""
    folder = tmp_path_factory.mktemp("long")
    rows = np.zeros(150_000, DTYPES["update"])
    draw = np.random.default_rng(1)
    rows["kind"] = draw.integers(1, 3, len(rows))
    rows["price"], rows["size"], rows["trust"] = draw.integers(1, 200, len(rows)), draw.integers(0, 9, len(rows)), 4
    rows["price"] += 300 * (rows["kind"] == Kind.ASK)
    rows["origin"] = 10**18 + np.arange(len(rows)) * 10**6
    rows["kind"][0] = Kind.RESET
    write(folder, {"updates": [rows[:70_000], rows[70_000:]]})
    return folder


def write(folder, blocks, kinds=MESSAGES | ALSO, nameless=(), venue=(0, "binance"), instrument="ETH-BTC"):
    """A segment of one feed of a venue's, with these blocks of its streams."""
    stem = f"{len(list(folder.glob('*')))}.mantra"
    messages = MESSAGES | ALSO
    with SegmentWriter(folder / stem, {
            "capture": f"{folder} {stem}",
            "streams": {n: {"name": name, "message": kinds[name]} for n, name in enumerate(blocks)},
            "feeds": {n: f"{name}.{venue[1]}.0" for n, name in enumerate(blocks) if name not in nameless},
            "venues": dict([venue]),
            "instruments": [{"id": 0, "name": instrument, "generation": 0, "price_decimals": 2, "size_decimals": 2}],
            "clock": {"kind": "virtual", "ns_per_cycle": 1.0, "points": [[0, 0]]}}) as writer:
        for n, (name, parts) in enumerate(blocks.items()):
            position = 0
            for part in parts:
                packer = Packer(messages[name])
                packer.add(n, part, position)
                position += len(part)
                first, last, count = packer.first, packer.last, packer.count
                writer.block(n, packer.pack(), count, first, last)


def attached(played, count, sleeps=-1):
    process = subprocess.Popen([sys.executable, "-c", SLOW, played.spine.run, str(count), str(sleeps)],
                               stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "here\n"
    return process


def test_a_slow_reader_of_another_process_loses_nothing_at_full_speed(long):
    with mantra.play(long) as played:
        process = attached(played, 150_000)
        assert played.wait(30)
        assert process.communicate(timeout=30)[0] == "150000 0\n"
        assert played.result()["waits"] > 0


def test_a_reader_that_is_killed_is_not_waited_for(long):
    with mantra.play(long) as played:
        process = attached(played, 150_000, sleeps=100)
        assert not played.wait(0.3), "it waits for who sleeps"
        assert len(played.spine.audience.readers()) > 0
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert played.wait(10)


def test_it_can_be_ended_while_it_waits_for_somebody(long):
    with mantra.play(long) as played:
        process = attached(played, 150_000, sleeps=100)
        assert not played.wait(0.2)
        began = time.monotonic()
    assert time.monotonic() - began < 1.0
    process.kill()
    process.wait()


def test_parts_of_it_are_played_alone(session):
    updates = session.archive.updates(instrument="C100-USDT").array()
    times = archive.utc(updates)
    whole = begins(updates)
    since, until = int(whole[len(whole) // 3]), int(whole[2 * len(whole) // 3])
    with mantra.play(session.folder, instruments="c100*", venues="binance") as played:
        assert [row.name for row in played.instruments()] == ["C100-USDT"]
        assert told(collect(played)["updates"])[1:] == told(updates), "behind the RESET that tells of the first image"
    with mantra.play(session.folder, instruments=["C100-USDT"], since=since, until=until) as played:
        got = collect(played)["updates"]
        assert told(got) == told(updates[(times >= since) & (times < until)])
        past = session.archive.book("binance", "C100-USDT", until - 1)
        assert levels(played.book("binance", "C100USDT")) == (past.bids.tolist(), past.asks.tolist())
    for wrong, options in (("nothing of kraken", {"venues": "kraken"}), ("nothing to play", {"instruments": "eth*"}),
                           ("nothing was recorded", {"since": 10, "until": 20}), ("speed", {"speed": 0})):
        with pytest.raises(ConfigurationError, match=wrong):
            mantra.play(session.folder, **options)


def test_archives_of_other_tables_are_merged_in_the_order_of_time(tmp_path):
    for n, (venue, instrument) in enumerate((
            ((0, "binance"), "ETH-BTC"), ((4, "kraken"), "BTC-USDT"), ((4, "kraken"), "ETH-BTC"))):
        rows = np.zeros(300, DTYPES["update"])
        rows["origin"], rows["kind"], rows["price"] = 10**18 + np.arange(300) * 3000 + 1000 * n, Kind.BID, n + 1
        rows["size"], rows["venue"] = 1, venue[0]
        (tmp_path / str(n)).mkdir()
        write(tmp_path / str(n), {"updates": [rows[:200], rows[200:]]}, venue=venue, instrument=instrument)
    with mantra.play([tmp_path / str(n) for n in range(3)]) as played:
        names = {row.id: row.name for row in played.instruments()}
        got = collect(played)["updates"]
        assert got["price"].tolist() == [1, 2, 3] * 300
        assert [names[id] for id in got["instrument"][:3].tolist()] == ["ETH-BTC", "BTC-USDT", "ETH-BTC"]
        assert sorted(played.spine.book_names()) == ["binance.ETH-BTC", "kraken.BTC-USDT", "kraken.ETH-BTC"]


def test_tops_that_were_recorded_are_played_instead_of_made(tmp_path):
    rows = np.zeros(500, DTYPES["top"])
    rows["origin"] = 10**18 + np.arange(500) * 1000
    rows["bid_count"], rows["trust"], rows["sequence"] = 1, 4, np.arange(500)
    rows["bid_price"][:, 0], rows["bid_size"][:, 0] = np.arange(500) % 7 + 1, 3
    write(tmp_path, {"tops": [rows]})
    with mantra.play(tmp_path) as played:
        got = collect(played)["tops"]
        assert got["bid_price"].tolist() == rows["bid_price"].tolist()
        assert levels(played.book("binance", "ETH-BTC")) == ([[499 % 7 + 1, 3]], [])


@pytest.mark.parametrize("byte", [60, 9, None], ids=["body", "header", "gap"])
def test_what_is_missing_is_said_and_the_rest_is_played(session, tmp_path, byte):
    path = next(session.folder.glob("*.mantra"))
    with SegmentReader(path) as reader:
        blocks = reader.blocks("updates")
        block = blocks[len(blocks) // 2]
        body = unpack("update", reader.body(block))
        lost = len(body.messages)
        if byte is None:        # the capture was overtaken
            gaps = [{"feed": feed, "position": at, "lost": 1, "utc_ns": block.last_ns}
                    for feed, at in zip(body.feeds.tolist(), body.positions.tolist(), strict=True)]
            with SegmentWriter(tmp_path / path.name, reader.table.told() | {"gaps": gaps}) as writer:
                for one in reader.blocks():
                    if one != block:
                        writer.block(one.stream, reader.body(one), one.messages, one.first_ns, one.last_ns)
    if byte is not None:
        data = bytearray(path.read_bytes())
        data[block.offset + byte] ^= 0xFF
        if byte < 40:
            data[-8] ^= 0xFF        # nor is there an index
        (tmp_path / path.name).write_bytes(data)
    (tmp_path / "19991231.mantra").write_bytes(b"who knows")
    with mantra.play(tmp_path) as played:
        got = collect(played)
        result = played.result(books=True)
        assert (result["damaged"] > 0) == (byte is not None)
        assert len(got["updates"]) - result["told"] == len(session.archive.updates().array()) - lost
        suspect = {row["instrument"] for row in got["updates"] if (row["kind"], row["trust"]) == (Kind.TRUST, 2)}
        assert suspect <= set(got["tops"]["instrument"][got["tops"]["trust"] == Trust.SUSPECT].tolist())
        for feed in session.feeds:
            for id, book in feed.books.items():
                told = result["books"][f"C{id}USDT"]["trust"]
                assert told == "suspect" or levels(played.book("binance", f"C{id}USDT")) == levels(book)
        assert suspect


@pytest.mark.parametrize("whole", [True, False])
def test_no_book_is_trusted_that_misses_what_was_in_a_damaged_block(session, tmp_path, whole):
    (path,) = session.folder.glob("*.mantra")
    with SegmentReader(path) as reader:
        blocks = reader.blocks("updates")
    for block in blocks[-4:]:
        text = bytearray(path.read_bytes())
        text[block.offset + 60] ^= 1
        text[-1] ^= not whole       # without an index nobody knows whose it was
        (tmp_path / path.name).write_bytes(text)
        with mantra.play(tmp_path) as played:
            assert played.wait(10)
            images = [(played.book("binance", f"C{id}USDT").image(), book) for feed in session.feeds
                      for id, book in feed.books.items()]
            assert any(image.trust == Trust.SUSPECT for image, _ in images)
            for image, book in images:
                if image.trust == Trust.VERIFIED:
                    assert (image.bids.tolist(), image.asks.tolist()) == levels(book)


def test_no_nonsense_in_a_segment_ends_the_player(tmp_path):
    """Blocks of random bytes: their checksums are right, and nothing else need be."""
    draw = np.random.default_rng(7)
    for n in range(12):
        folder = tmp_path / str(n)
        folder.mkdir()
        blocks = {}
        for name, message in (("updates", "update"), ("trades", "trade"), ("tops", "top"), ("orders", "order")):
            rows = np.frombuffer(draw.bytes(300 * DTYPES[message].itemsize), DTYPES[message]).copy()
            rows["venue"] = 0
            rows["instrument"] %= 3
            if n % 3:
                rows["origin"] = 10**18 + np.arange(300) * 1000
                rows["published"] &= 0xFFFFFF
            if n % 2 and message == "update":
                rows["kind"] %= 4
                rows["price"] %= 1000
            blocks[name] = [rows[:100], rows[100:]]
        write(folder, blocks, MESSAGES | ALSO | ({"updates": "trade"} if n == 8 else {}), ["trades"] if n == 9 else ())
        with mantra.play(folder) as played:
            assert played.wait(10)
            played.seek(played.player.start_ns)
            result = played.result(books=True)
            assert result["played"] > 0 or n % 3 == 0
            assert not played.failure()
