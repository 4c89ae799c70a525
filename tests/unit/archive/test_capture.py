"""Capturing: everything comes back from the files, and what does not is said there; files begin with whole books."""
from __future__ import annotations

import errno
import time
from concurrent.futures import wait
from types import SimpleNamespace

import pytest

from mantra.archive import capture as module
from mantra.archive.capture import BYTES, SECONDS, Capture, quantity
from mantra.archive.files import Files
from mantra.errors import ConfigurationError
from mantra.runtime.spine import Spine
from mantra.tape.segment import SegmentReader, SegmentWriter
from mantra.topologies.system import load_topology

from .capturing import Capturing, Feed, Kept, private_run


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, "ROUND_S", 0.001)
    monkeypatch.setattr(module, "LOOK_S", 0.002)
    monkeypatch.setattr(module, "RETRY_S", 0.002)


def test_everything_comes_back_bit_for_bit_with_the_books(tmp_path):
    spine, feeds = private_run()
    kept = Capturing(spine, tmp_path, flush=0.02)
    for turn in range(30):
        feeds[turn % 3].move(40)
        if turn % 7 == 6:
            feeds[0].reset(1)
        kept.step()
    kept.end()
    found = Kept(tmp_path)
    found.agree(feeds)
    assert not found.gaps
    assert not found.problems
    assert found.ledgers >= 2
    assert {row.name for row in found.instruments.values()} == {f"C{id}-USDT" for feed in feeds for id in feed.books}
    assert spine.counters()["capture", "messages"] == sum(map(len, found.messages.values()))
    assert [path.suffix for path in found.files] == [".mantra"]


def test_every_file_can_be_read_alone_and_begins_with_all_books(tmp_path):
    spine, feeds = private_run()
    kept = Capturing(spine, tmp_path, flush=0.005, rotate_bytes="20KB")
    while len(list(tmp_path.iterdir())) < 4:
        for feed in feeds:
            feed.move(20)
        kept.step()
    kept.step(3)
    kept.end()
    everything = Kept(tmp_path)
    everything.agree(feeds)
    assert [path.name for path in everything.files] == sorted(path.name for path in everything.files)
    last = everything.files[-1]
    for path in everything.files[:-1]:
        path.unlink()
    alone = Kept(tmp_path)
    assert alone.files == [last]
    for feed in feeds:
        alone.books_agree(feed)


def test_a_file_ends_where_a_span_of_utc_does(tmp_path):
    spine, feeds = private_run(1)
    kept = Capturing(spine, tmp_path, rotate=0.4)
    kept.until(lambda: feeds[0].move(1) or kept.capture.files.files == 4, 50_000)
    kept.end()
    Kept(tmp_path).agree(feeds)
    for path in sorted(tmp_path.iterdir())[1:]:
        assert 0 <= float(path.name.partition("T")[2][4:].partition("Z")[0]) % 0.4 < 0.3


def test_a_lap_is_in_the_ledger_and_in_the_file(tmp_path):
    spine, feeds = private_run(2, books=40)     # none is updated so often that it has another image anyway
    kept = Capturing(spine, tmp_path, flush=0.001)
    feeds[0].move(100)
    kept.step()
    before = feeds[0].updates.position
    while feeds[0].updates.position < before + 40_000:
        feeds[0].move(1000)
    kept.step(3)
    kept.end()
    found = Kept(tmp_path)
    mine = found.messages[f"updates.{feeds[0].name}"]
    (gap,) = found.gaps
    assert found.names[gap.feed] == f"updates.{feeds[0].name}"
    assert gap.position == before
    assert gap.lost == feeds[0].row["overruns"] == kept.capture.counts()["lost"]
    assert gap.lost == len(feeds[0].made["update"]) - feeds[0].joined - len(mine)
    assert all(row == feeds[0].made["update"][position].tobytes() for position, row in mine.items())
    for feed in feeds:
        found.books_agree(feed)


def test_a_book_has_another_image_after_so_many_updates(tmp_path):
    spine, (feed,) = private_run(1, books=1)
    kept = Capturing(spine, tmp_path, flush=0.001)
    for _ in range(12):
        feed.move(300)
        kept.step(2)
        wait(kept.capture._jobs)
    kept.end()
    images = Kept(tmp_path).images
    updates, levels = len(feed.made["update"]), sum(map(len, (feed.books[0].bids(), feed.books[0].asks())))
    assert 3 <= len(images) < 3 + updates / (8 * levels)
    Kept(tmp_path).agree([feed])


def test_a_quiet_book_has_another_image_too_when_others_are_busy(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ALL_FRAMES", 5)
    spine, (feed,) = private_run(1, books=2)
    kept, quiet = Capturing(spine, tmp_path, flush=0.001), feed.books.pop(1)
    for _ in range(24):
        feed.move(300)
        kept.step(2)
        wait(kept.capture._jobs)
    kept.end()
    images = [instrument for _, instrument, _ in Kept(tmp_path).images]
    levels = sum(len(side) for book in (quiet, feed.books[0]) for side in (book.bids(), book.asks()))
    assert 4 <= images.count(1) < 3 + len(feed.made["update"]) / levels


def test_images_are_more_blocks_where_they_are_many(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "IMAGED", 200)
    spine, (feed,) = private_run(1, books=20)
    kept = Capturing(spine, tmp_path)
    kept.step()
    kept.end()
    Kept(tmp_path).agree([feed])
    assert kept.capture.counts()["blocks"] > 5


def test_what_begins_while_it_runs_is_kept_from_its_beginning(tmp_path):
    spine, feeds = private_run(1)
    kept = Capturing(spine, tmp_path)
    kept.step(2)
    feeds.append(Feed(spine, 7))
    feeds[1].move(100)
    kept.until(lambda: kept.capture.counts()["messages"] > 100)
    feeds[1].move(100)
    kept.end()
    Kept(tmp_path).agree(feeds)


def test_what_was_overwritten_before_it_was_found_is_told(tmp_path):
    spine, _ = private_run(1)
    kept = Capturing(spine, tmp_path)
    kept.step(2)
    late = Feed(spine, 7)
    late.move(15_000)
    kept.until(lambda: kept.capture.counts()["messages"] > 100)
    kept.end()
    (gap,), lost = Kept(tmp_path).gaps, late.row["overruns"]
    assert (gap.position, gap.lost) == (0, lost)
    assert 0 < lost == len(late.made["update"]) - len(Kept(tmp_path).messages[f"updates.{late.name}"])


def test_any_queue_is_kept_whatever_it_carries(tmp_path):
    spine = Spine.private()
    tops, signals = spine.queue("tops.a", "top"), spine.queue("my.signals", "order")
    kept = Capturing(spine, tmp_path, reads=("tops", "my.signals"))
    for queue, many in ((tops, 1000), (signals, 3000)):
        producer = queue.producer()
        for number in range(many):
            producer.produce(queue.format.type(origin=number))
    kept.step()
    kept.end()
    found = Kept(tmp_path)
    assert {name: len(rows) for name, rows in found.messages.items()} == {"tops.a": 1000, "my.signals": 3000}
    with SegmentReader(found.files[0]) as reader:
        assert sorted((one.name, one.message) for one in reader.table.streams.values()) == [
            ("ledger", ""), ("my.signals", "order"), ("tops", "top")]


# Full disks --------------------------------------------------------------------------------------------------------


class Disk:
    """Refuses to append when it is full."""

    def __init__(self, monkeypatch):
        self.full = False
        append = SegmentWriter._append

        def guarded(writer, data):
            if self.full:
                raise OSError(errno.ENOSPC, "No space left on device")
            append(writer, data)

        monkeypatch.setattr(SegmentWriter, "_append", guarded)


def test_a_full_disk_stops_it_and_it_goes_on_in_a_new_file_when_there_is_room(tmp_path, monkeypatch):
    disk, (spine, feeds) = Disk(monkeypatch), private_run(2)
    kept = Capturing(spine, tmp_path, flush=0.001)
    capture, files = kept.capture, kept.capture.files

    def move(times):
        for _ in range(times):
            for feed in feeds:
                feed.move(10)
            kept.step(2)

    move(5)
    kept.until(lambda: not capture._jobs)
    before = sum(map(len, Kept(tmp_path).messages.values()))
    disk.full = True
    move(5)
    assert files.why == "No space left on device"
    wait(capture._jobs)
    assert sum(map(len, Kept(tmp_path).messages.values())) == before      # what is there can be read
    disk.full = False
    kept.until(lambda: not files.why)
    move(5)
    kept.end()
    found = Kept(tmp_path)
    counts = capture.counts()
    assert counts["stops"] == 1
    assert len(found.files) == 2
    assert all(path.suffix == ".mantra" for path in found.files)        # the first was closed when there was room
    for feed in feeds:
        found.books_agree(feed)
    made = sum(len(made) for feed in feeds for made in feed.made.values()) - sum(one.joined for one in feeds)
    assert counts["unwritten"] == made - sum(map(len, found.messages.values())) > 0
    assert sum(gap.lost for gap in found.gaps) == sum(one.row["unwritten"] for one in feeds) == counts["unwritten"]
    assert counts["lost"] == 0


def test_it_waits_for_room_from_the_start(tmp_path, monkeypatch):
    disk, (spine, (feed,)) = Disk(monkeypatch), private_run(1)
    disk.full = True
    kept = Capturing(spine, tmp_path, flush=0.001)
    feed.move(50)
    kept.until(lambda: kept.capture.files.why == "No space left on device")
    kept.until(lambda: list(tmp_path.iterdir()) == [])      # between two attempts
    disk.full = False
    kept.until(lambda: not kept.capture.files.why)
    feed.move(50)
    kept.end()
    Kept(tmp_path).books_agree(feed)
    assert kept.capture.unwritten > 0


def test_what_a_slow_disk_costs_is_in_the_file_to_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "WAITING", 1000)
    spine, (feed,) = private_run(1)
    kept, append = Capturing(spine, tmp_path, flush=0.001), SegmentWriter._append
    monkeypatch.setattr(SegmentWriter, "_append", lambda *given: time.sleep(0.01) or append(*given))
    for _ in range(20):
        feed.move(300)
        kept.step(2)
    kept.end()
    found = Kept(tmp_path)
    assert sum(gap.lost for gap in found.gaps) == kept.capture.unwritten > 0


def test_a_limit_is_a_full_disk_and_nothing_there_is_removed(tmp_path):
    spine, (feed,) = private_run(1)
    kept = Capturing(spine, tmp_path, flush=0.001, limit="200KB")
    kept.until(lambda: feed.move(100) or kept.capture.files.why, 500)
    assert kept.capture.files.why == "the limit is reached"
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    feed.move(500)
    kept.step(20)
    kept.end()
    assert size == sum(path.stat().st_size for path in tmp_path.iterdir()) <= 200_000
    assert kept.capture.unwritten > 0


def test_the_oldest_files_make_room_for_new_ones(tmp_path):
    spine, (feed,) = private_run(1)
    dead = tmp_path / "20200101T000000.000Z-other.mantra.part"
    dead.write_bytes(b"x" * 1000)
    kept = Capturing(spine, tmp_path, flush=0.001, rotate_bytes="10KB", keep_bytes="40KB")
    kept.until(lambda: feed.move(50) or kept.capture.files.files >= 8, 2000)
    kept.end()
    assert not dead.exists()
    assert 15_000 < sum(path.stat().st_size for path in tmp_path.iterdir()) <= 48_000
    Kept(tmp_path).books_agree(feed)


def test_what_cannot_be_removed_costs_room_and_nothing_else(tmp_path):
    spine, (feed,) = private_run(1)
    stays = tmp_path / "20190101T000000.000Z-other.mantra"
    stays.mkdir()
    kept = Capturing(spine, tmp_path, flush=0.001, keep_bytes="20KB")
    kept.until(lambda: feed.move(50) or kept.capture.files.files >= 8, 2000)
    kept.end()
    stays.rmdir()
    Kept(tmp_path).books_agree(feed)


def test_names_of_files_are_in_their_order_although_utc_is_set_back(tmp_path):
    times = iter([2 * 10**18, 10**18, 3 * 10**18, 3 * 10**18, 3 * 10**18])
    files, other = (Files(tmp_path, "run", SimpleNamespace(utc_ns=lambda: next(times)), sync_s=1.0) for _ in range(2))
    paths = [one.begin({}) or one.path for one in (files, files, files, other)]
    files.leave()
    other.leave()
    assert paths == sorted(paths) == sorted(tmp_path.iterdir()), "and nobody finds his name taken"


def test_a_folder_that_cannot_be_written_to_is_told_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    spine, _ = private_run(1)
    with pytest.raises(ConfigurationError, match="cannot write to"):
        Capturing(spine, tmp_path / "file")


# Options -----------------------------------------------------------------------------------------------------------


def test_quantities_have_units():
    assert [quantity("rotate", text, SECONDS) for text in ("1h", "15 m", 30, ".5s")] == [3600, 900, 30, 0.5]
    assert [quantity("limit", text, BYTES) for text in ("1GB", "1.5kb", 7)] == [1e9, 1500, 7]
    for text in ("0", "-1h", "1 parsec", "", "1e9", "nan"):
        with pytest.raises(ConfigurationError, match="rotate must be a number above 0 with s or m or h or d"):
            quantity("rotate", text, SECONDS)


@pytest.mark.parametrize(("options", "says"), [
    ({"level": 20}, "level must be 1 to 19"), ({"keep_days": "1h"}, "keep-days .* no unit"),
    ({"sync": "often"}, "sync")])
def test_wrong_options_are_told(options, says):
    with pytest.raises(ConfigurationError, match=says):
        Capture("capture", ("updates",), out="x", **options)


def test_queues_that_are_not_there_are_told(tmp_path):
    with pytest.raises(ConfigurationError, match="no queue of updates, trades"):
        Capturing(Spine.private(), tmp_path)


@pytest.mark.parametrize(("line", "reads", "options"), [
    ('"somewhere"', ("updates.a", "trades.a", "tops.a", "world"), {"out": "somewhere"}),
    ('{out = "somewhere", reads = ["world"], rotate = "15m"}', ("world",), {"out": "somewhere", "rotate": "15m"})])
def test_one_line_of_a_topology_is_a_capture(tmp_path, line, reads, options):
    path = tmp_path / "topology.toml"
    path.write_text(f'capture = {line}\n[[node]]\nname = "a"\nkind = "listener"\n'
                    '[[node]]\nname = "b"\nkind = "bbo"\nreads = ["tops"]\nwrites = ["world"]\n')
    (node,) = (node for node in load_topology(str(path), ()).nodes if node.kind == "capture")
    assert sorted(node.reads) == sorted(reads)
    assert node.options == options
    path.write_text("capture = 1\n")
    with pytest.raises(ConfigurationError, match="capture is a folder"):
        load_topology(str(path), ())
