"""Capturing as its users see it: attached and killed at any moment, on a disk that is full, over feeds of its own."""
from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from mantra.archive import capture as module
from mantra.capture import main
from mantra.runtime.settings import read
from mantra.runtime.spine import Spine
from mantra.topologies.system import System
from mantra.venues.instrument import InstrumentTable
from tests.end_to_end.feeds import until
from tests.end_to_end.simulated import Child
from tests.unit.archive.capturing import Capturing, Feed, Kept, private_run


def capture(*arguments):
    return subprocess.Popen([sys.executable, "-m", "mantra", "capture", *map(str, arguments)], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.fixture
def run():
    with Spine.create(f"test-capture-{os.getpid()}") as spine:
        yield spine, [Feed(spine, number) for number in range(2)]


def test_a_killed_capture_loses_what_it_had_not_written_and_nothing_else(run, tmp_path):
    spine, feeds = run
    draw = random.Random()
    for turn in range(3):
        out = tmp_path / str(turn)
        capturing = capture("--out", out, "--run", spine.run, "--flush", 0.02)
        until(lambda out=out: list(out.glob("*.part")), "it has begun")
        (part,), end = out.glob("*.part"), time.monotonic() + draw.uniform(0.1, 0.6)
        while time.monotonic() < end or part.stat().st_size < 10_000:
            feeds[draw.randrange(2)].move(30)
        capturing.send_signal(signal.SIGKILL)
        capturing.communicate()
        found = Kept(out)
        assert [path.suffix for path in found.files] == [".part"]
        assert len(found.problems) <= 1     # the last record, if it was cut off
        assert not found.gaps
        for feed in feeds:
            mine = found.messages[f"updates.{feed.name}"]
            assert sorted(mine) == list(range(min(mine), max(mine) + 1))
            assert all(row == feed.made["update"][position].tobytes() for position, row in mine.items())


def test_ctrl_c_writes_what_waits_and_closes_the_file_within_a_second(run, tmp_path):
    _, feeds = run
    for feed in feeds:
        feed.joined = feed.updates.position
    capturing = capture("--out", tmp_path, "--json")
    until(lambda: list(tmp_path.glob("*.part")), "it has begun")
    for _ in range(20):
        for feed in feeds:
            feed.move(20)
        feeds[0].reset(1)
        time.sleep(0.01)
    began = time.monotonic()
    capturing.send_signal(signal.SIGINT)
    said, errors = capturing.communicate(timeout=20)
    assert time.monotonic() - began < 3.0       # 0.2 s where nobody else is
    assert capturing.returncode == 0, errors
    found, told = Kept(tmp_path), json.loads(said.splitlines()[-1])
    found.agree(feeds)
    assert [path.suffix for path in found.files] == [".mantra"]
    assert (told["state"], told["lost"], told["unwritten"]) == ("complete", 0, 0)
    assert told["messages"] == sum(map(len, found.messages.values()))
    assert told["bytes"] == found.files[0].stat().st_size


def test_it_ends_with_the_run_that_it_is_attached_to(tmp_path):
    name = f"test-capture-{os.getpid()}"
    owner = subprocess.Popen([sys.executable, "-c", (
        "import sys; from mantra.runtime.spine import Spine\n"
        "with Spine.create(sys.argv[1]) as spine:\n"
        "    spine.queue('updates.a', 'update'); print(flush=True); input()"), name],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    owner.stdout.readline()
    capturing = capture("--out", tmp_path, "--run", name)
    until(lambda: list(tmp_path.glob("*.part")), "it has begun")
    owner.communicate(b"\n")
    _, errors = capturing.communicate(timeout=20)
    assert capturing.returncode == 0
    assert f"the run {name} has ended" in errors


def test_it_ends_when_it_fails_and_says_of_what(run, tmp_path, monkeypatch, capsys):
    def fail(_):
        raise MemoryError

    monkeypatch.setattr(module.Capture, "_take", fail)
    monkeypatch.setattr("mantra.capture.on_stop", lambda _: None)
    began = time.monotonic()
    assert main(["--out", str(tmp_path), "--run", run[0].run, "--duration", "5"]) == 1
    assert time.monotonic() - began < 4.0
    assert "mantra capture: MemoryError" in capsys.readouterr().err


def test_a_disk_that_is_really_full(tmp_path, monkeypatch):
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", tmp_path], capture_output=True)
    if mounted.returncode:
        pytest.skip("may not mount a tmpfs")
    monkeypatch.setattr(module, "ROUND_S", 0.001)
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    try:
        spine, (feed,) = private_run(1)
        kept = Capturing(spine, tmp_path, flush=0.001)
        files = kept.capture.files
        kept.until(lambda: feed.move(50) or files.why, 1000)
        assert files.why == "No space left on device"
        feed.move(100)
        kept.step(5)
        assert all(not problem for problem in Kept(tmp_path).problems)
        subprocess.run(["mount", "-o", "remount,size=10m", tmp_path], check=True)
        kept.until(lambda: not files.why)
        feed.move(100)
        kept.end()
        found = Kept(tmp_path)
        found.books_agree(feed)
        assert [path.suffix for path in found.files] == [".mantra", ".mantra"]
        assert not found.problems
        made = sum(map(len, feed.made.values())) - feed.joined
        assert kept.capture.unwritten == made - sum(map(len, found.messages.values())) > 0
        assert sum(gap.lost for gap in found.gaps) == kept.capture.unwritten
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_one_line_keeps_every_queue_of_a_topology_and_the_books_that_follow_are_its_own(tmp_path):
    names, topology = ("binance", "kraken", "bitfinex"), tmp_path / "mine.toml"
    topology.write_text(f'capture = {{out = "{tmp_path}", flush = 0.3}}\n' + "".join(
        f'[[node]]\nname = "{name}"\nkind = "listener"\n' for name in names) +
        '[[node]]\nname = "best"\nkind = "bbo"\nreads = ["tops"]\nwrites = ["world"]\n')
    with Child("--venues", ",".join(names), "--instruments", "eth-btc,btc-usdt") as child:
        settings = read(venues=names, instruments=("all",), endpoints=child.path, topology=str(topology))
        with System(settings, table=InstrumentTable()) as system:
            spine = system.spine
            books = {name: spine.book(*name.split(".", 1)) for name in spine.book_names()}
            until(lambda: all(book.image(0).trust >= 3 for book in books.values()), "all are live")
            time.sleep(0.5)
    found = Kept(tmp_path)
    assert not found.gaps
    assert {queue.split(".")[0] for queue, messages in found.messages.items() if messages} == {
        "updates", "trades", "tops", "world"}
    mine = {(queue.split(".")[1], instrument): book[:2] for (queue, instrument), book in found.books.items()}
    assert len(mine) == len(books)
    for name, book in books.items():
        image = book.image()
        assert mine[name.split(".")[0], image.instrument] == [dict(image.bids.tolist()), dict(image.asks.tolist())]


def test_feeds_of_its_own_are_captured_and_without_any_it_says_what_to_do(tmp_path):
    with Child("--venues", "binance,bitstamp", "--instruments", "eth-btc") as child:
        capturing = capture("--out", tmp_path, "--endpoints", child.path, "--duration", 1.5, "--json", "--flush", 0.5)
        said, errors = capturing.communicate(timeout=40)
    told = json.loads(said.splitlines()[-1])
    assert capturing.returncode == 0, errors
    assert told["streams"]["updates"]["written"] > 0
    assert told["streams"]["trades"]["written"] > 0
    assert sum(map(len, Kept(tmp_path).messages.values())) == told["messages"]
    lonely = capture("--out", tmp_path)
    assert "--simulated" in lonely.communicate()[1]
    assert lonely.returncode == 2
