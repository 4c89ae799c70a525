"""A segment gives back what was written; cut anywhere, bent anywhere, it loses at most the block that was hit."""
from __future__ import annotations

import itertools
import math
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mantra.core.clock import Clock
from mantra.core.messages import DTYPES, LAYOUTS
from mantra.core.pack import Packer, unpack
from mantra.errors import ArchiveError
from mantra.tape import segment
from mantra.tape.segment import Gap, Instrument, SegmentReader, SegmentWriter, Table, clock_told, pack_json

BASE = 1_700_000_000_000_000_000
TABLE = {"capture": "test-1", "writer": "tests", "feeds": {0: "updates.a", 1: "updates.b"},
         "venues": {0: "binance", 4: "kraken"},
         "streams": {1: {"name": "updates", "message": "update", "layout": LAYOUTS["update"]},
                     7: {"name": "ledger", "message": ""}},
         "instruments": [{"id": 9, "name": "ETH-BTC", "generation": 0, "price_decimals": 8, "size_decimals": 6}],
         "clock": {"kind": "virtual", "ns_per_cycle": 1.0, "points": [[0, 0]]}}


def packed(n: int, feed: int = 0, count: int = 5) -> tuple[np.ndarray, bytes]:
    """Block `n`: messages of second n."""
    messages = np.zeros(count, DTYPES["update"])
    messages["origin"] = BASE + n * 10**9 + np.arange(count)
    messages["price"], messages["size"] = n, np.arange(count) + 1
    messages["kind"], messages["venue"], messages["instrument"] = 1, 4 * feed, 9
    packer = Packer("update")
    packer.add(feed, messages, n * count)
    return messages, packer.pack()


def write(writer: SegmentWriter, n: int, feed: int = 0) -> np.ndarray:
    messages, body = packed(n, feed)
    writer.block(1, body, len(messages), int(messages["origin"][0]), int(messages["origin"][-1]))
    return messages


def written(path, blocks: int = 6) -> list[np.ndarray]:
    with SegmentWriter(path, TABLE) as writer:
        return [write(writer, n, n % 2) for n in range(blocks)]


def readable(reader: SegmentReader) -> dict[int, np.ndarray]:
    """The messages of every block that can be read, by its number."""
    found = {}
    for record in reader.blocks(1):
        try:
            messages = unpack("update", reader.body(record)).messages
            found[int(messages["price"][0])] = messages
        except ArchiveError:
            assert reader.problems
    return found


def test_what_was_written_is_read(tmp_path):
    expected = written(tmp_path / "a.mantra")
    with SegmentReader(tmp_path / "a.mantra") as reader:
        assert reader.whole
        assert reader.problems == []
        assert [n for n, _ in sorted(readable(reader).items())] == list(range(6))
        for n, messages in readable(reader).items():
            assert messages.tobytes() == expected[n].tobytes()
        assert reader.table.feeds == TABLE["feeds"]
        assert reader.table.venues == TABLE["venues"]
        assert reader.table.instruments == {9: Instrument(9, "ETH-BTC", 0, 8, 6)}
        assert [row.tolist() for row in reader.sources()] == [
            (2 + n + (n > 0), 9, 5, n % 2, 4 * (n % 2), 0) for n in range(6)]
    assert os.listdir(tmp_path) == ["a.mantra"]


def test_blocks_are_found_by_time_and_stream(tmp_path):
    written(tmp_path / "a.mantra")
    with SegmentReader(tmp_path / "a.mantra") as reader:
        second = [BASE + n * 10**9 for n in range(7)]
        assert [r.first_ns for r in reader.blocks("updates", since_ns=second[2], until_ns=second[4])] == second[2:4]
        assert [r.first_ns for r in reader.blocks(since_ns=second[2] + 4)] == second[2:6]
        assert [r.first_ns for r in reader.blocks(since_ns=second[2] + 5, until_ns=second[3] + 1)] == second[3:4]
        assert reader.blocks("ledger") == reader.blocks("nothing") == reader.blocks(until_ns=-1) == []


def test_a_day_of_blocks_is_searched_by_its_index(tmp_path):
    """A block every 5 s: the file is opened and searched by reading its end, not its blocks."""
    with SegmentWriter(tmp_path / "day.mantra", TABLE, sync_s=1e9) as writer:
        for n in range(0, 86_400, 5):
            writer.block(7, b"x" * 200, 1, BASE + n * 10**9, BASE + n * 10**9 + 999)
    with open(f"/proc/{os.getpid()}/io") as io:
        before = int(io.readline().split()[1])
        with SegmentReader(tmp_path / "day.mantra") as reader:
            found = reader.blocks("ledger", BASE + 40_000 * 10**9, BASE + 40_010 * 10**9)
        io.seek(0)
        read = int(io.readline().split()[1]) - before
    assert [record.first_ns for record in found] == [BASE + n * 10**9 for n in range(40_000, 40_010, 5)]
    assert read < (tmp_path / "day.mantra").stat().st_size / 4


def test_cut_at_every_offset_it_keeps_every_block_before_the_cut(tmp_path):
    expected = written(tmp_path / "a.mantra", 3)
    data = (tmp_path / "a.mantra").read_bytes()
    with SegmentReader(tmp_path / "a.mantra") as reader:
        ends = [record.offset + segment.HEAD + record.size for record in reader.blocks(1)]
    (tmp_path / "cut.mantra").write_bytes(data)
    for cut in reversed(range(len(data))):
        os.truncate(tmp_path / "cut.mantra", cut)
        if cut < segment.FILE_HEAD:
            with pytest.raises(ArchiveError, match="no mantra archive"):
                SegmentReader(tmp_path / "cut.mantra")
            continue
        with SegmentReader(tmp_path / "cut.mantra") as reader:
            found = readable(reader)
            assert list(found) == list(range(sum(end <= cut for end in ends))), cut
            assert all(found[n].tobytes() == expected[n].tobytes() for n in found)
            assert not reader.whole
            assert all(problem.offset >= end for problem in reader.problems for end in ends[:len(found)]), cut
            assert not found or reader.table.instruments[9].name == "ETH-BTC"


@pytest.mark.parametrize("whole", [True, False])
def test_a_bit_flipped_anywhere_loses_at_most_its_own_block_and_says_so(tmp_path, whole):
    writer = SegmentWriter(tmp_path / "a.mantra", TABLE)
    expected = [write(writer, n) for n in range(3)]
    writer.close() if whole else writer.leave()
    path = writer.path if whole else writer.part
    data, rng, file = path.read_bytes(), random.Random(1), os.open(path, os.O_WRONLY)
    for at in range(len(data)):
        os.pwrite(file, bytes([data[at] ^ 1 << rng.randrange(8)]), at)
        with SegmentReader(path) as reader:
            found = readable(reader)
            assert len(found) >= 2, at
            assert len(found) == 3 or reader.problems, at
            assert all(messages.tobytes() == expected[n].tobytes() for n, messages in found.items())
            assert reader.table.feeds == TABLE["feeds"]
        os.pwrite(file, data[at:at + 1], at)
    os.close(file)


def test_bytes_that_went_missing_or_were_added_lose_only_what_they_hit(tmp_path):
    expected = written(tmp_path / "a.mantra", 30)
    data, rng = (tmp_path / "a.mantra").read_bytes(), random.Random(2)
    for _ in range(100):
        at, length = rng.randrange(len(data) // 2), rng.randrange(1, 100)
        hit = data[:at] + (rng.randbytes(length) + data[at:] if rng.random() < 0.5 else data[at + length:])
        (tmp_path / "hit.mantra").write_bytes(hit)
        with SegmentReader(tmp_path / "hit.mantra") as reader:
            found = readable(reader)
            assert len(found) >= 28
            assert reader.problems
            assert all(messages.tobytes() == expected[n].tobytes() for n, messages in found.items())


def test_a_file_is_read_while_it_is_written(tmp_path):
    writer = SegmentWriter(tmp_path / "a.mantra", TABLE)
    with SegmentReader(writer.part) as reader:
        assert reader.growing
        for n in range(3):
            write(writer, n)
            reader.refresh()
            assert list(readable(reader)) == list(range(n + 1))
            assert len(reader.sources()) == n + 1
        with open(writer.part, "ab") as file:       # as if it were in the middle of the next one
            file.write(writer.part.read_bytes()[-100:][:50])
        reader.refresh()
        assert reader.problems == []
        writer.table({"feeds": {2: "updates.c"}})
        reader.refresh()
        assert reader.table.feeds[2] == "updates.c"
        writer.close()
        assert not reader.growing
        reader.refresh()
        assert reader.whole
        assert reader.digest == SegmentReader(writer.path).digest


def test_a_full_disk_leaves_the_file_as_it_was_and_writing_goes_on_later(tmp_path):
    writer = SegmentWriter(tmp_path / "a.mantra", TABLE)
    write(writer, 0)
    size, limits = writer.size, resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 60, limits[1]))
        with pytest.raises(OSError, match="File too large"):
            write(writer, 1)
        assert writer.part.stat().st_size == writer.size == size
        with pytest.raises(OSError, match="File too large"):
            writer.close()
        assert writer.part.stat().st_size == writer.size == size
        with SegmentReader(writer.part) as reader:
            assert list(readable(reader)) == [0]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    write(writer, 1)
    writer.close()
    with SegmentReader(writer.path) as reader:
        assert reader.whole
        assert list(readable(reader)) == [0, 1]


def write_until_killed(folder: Path, told: int) -> None:
    """A file of six blocks after another; the number of each block that was written goes to the pipe `told`."""
    for n in itertools.count():
        if n % 6 == 0:
            writer = SegmentWriter(folder / f"{n:06}.mantra", TABLE, sync_s=1e9)
        write(writer, n)
        os.write(told, n.to_bytes(4, "little"))
        if n % 6 == 5:
            writer.close()


def test_writers_that_are_killed_at_random_lose_no_block_that_they_have_written(tmp_path):
    dice, unfinished = random.Random(3), 0
    for round_ in range(25):
        folder = tmp_path / str(round_)
        folder.mkdir()
        told, telling = os.pipe()
        if (child := os.fork()) == 0:
            try:
                write_until_killed(folder, telling)
            finally:
                os._exit(1)
        os.close(telling)
        count = len(os.read(told, 4))
        time.sleep(dice.random() * 0.03)
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        while more := os.read(told, 1 << 16):
            count += len(more)
        os.close(told)
        found: set[int] = set()
        for path in sorted(folder.iterdir()):
            with SegmentReader(path) as reader:
                assert not reader.growing
                found |= readable(reader).keys()
                unfinished += not reader.whole
                assert reader.problems == [] or path.suffix == ".part"
        assert found in (set(range(count // 4)), set(range(count // 4 + 1)))        # killed before it could tell
    assert unfinished > 5


def test_a_power_cut_takes_only_what_was_not_synced(tmp_path, monkeypatch):
    """What the disk has then: all up to the last sync; of what came later some sectors, in any order, or none."""
    done: list[tuple[str, int, bytes]] = []
    real = os.pwrite
    monkeypatch.setattr(segment.os, "pwrite", lambda file, data, at: (
        done.append(("write", at, bytes(data))), real(file, data, at))[1])
    for name in ("fdatasync", "fsync"):
        monkeypatch.setattr(segment.os, name, lambda file: done.append(("sync", 0, b"")))
    monkeypatch.setattr(Path, "rename", lambda path, to: done.append(("rename", 0, b"")))
    with SegmentWriter(tmp_path / "a.mantra", TABLE, sync_s=1e9) as writer:
        expected = [write(writer, n) for n in range(12) if n % 4 or writer.sync() is None]
    monkeypatch.undo()
    renamed = [what for what, *_ in done].index("rename")
    assert "write" not in [what for what, *_ in done[renamed:]]
    assert done[renamed - 1][0] == "sync"
    whole = b"".join(data for what, _, data in done if what == "write")
    with SegmentReader(writer.part) as reader:
        ends = [record.offset + segment.HEAD + record.size for record in reader.blocks(1)]
    dice, cut = random.Random(4), tmp_path / "cut"
    for _ in range(300):
        past = done[:dice.randrange(len(done))]
        size = sum(len(data) for _, _, data in past)
        last = max([n for n, (what, *_) in enumerate(past) if what == "sync"], default=0)
        synced = sum(len(data) for _, _, data in past[:last])
        disk = bytearray(whole[:dice.randrange(synced, size + 1)])
        for sector in range(-(-synced // 64), len(disk) // 64 + 1):         # small ones, as the file is
            if dice.random() < 0.5:
                disk[sector * 64:(sector + 1) * 64] = bytes(len(disk[sector * 64:(sector + 1) * 64]))
        cut.write_bytes(disk)
        if synced < segment.FILE_HEAD:
            continue
        with SegmentReader(cut) as reader:
            found = readable(reader)
        assert found.keys() >= set(range(sum(end <= synced for end in ends)))
        assert all(messages.tobytes() == expected[n].tobytes() for n, messages in found.items())


def test_more_files_are_read_than_may_be_open_at_first(tmp_path):
    code = ("import resource, sys; from mantra.tape.segment import SegmentReader, files\n"
            "resource.setrlimit(resource.RLIMIT_NOFILE, (40, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))\n"
            "print(len([*map(SegmentReader, files([sys.argv[1]]))]))")
    for n in range(60):
        SegmentWriter(tmp_path / f"{n}.mantra", {}, sync_s=math.inf).close()
    assert subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True).stdout == "60\n"


def test_no_file_is_overwritten(tmp_path):
    written(tmp_path / "a.mantra")
    with pytest.raises(ArchiveError, match="exists"):
        SegmentWriter(tmp_path / "a.mantra", TABLE)
    writer = SegmentWriter(tmp_path / "b.mantra", TABLE)
    with pytest.raises(ArchiveError, match="exists"):
        SegmentWriter(tmp_path / "b.mantra", TABLE)
    writer.leave()


def test_a_newer_version_is_refused_and_said(tmp_path):
    written(tmp_path / "a.mantra")
    data = (tmp_path / "a.mantra").read_bytes()
    head = segment.FILE.pack(segment.MAGIC, 2)
    (tmp_path / "a.mantra").write_bytes(head + struct.pack("<I", zlib.crc32(head)) + data[segment.FILE_HEAD:])
    with pytest.raises(ArchiveError, match="version 2"):
        SegmentReader(tmp_path / "a.mantra")


def test_what_is_no_segment_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "text").write_text("hello " * 1000)
    (tmp_path / "empty").touch()
    for name in ("pipe", "text", "empty", "."):
        with pytest.raises(ArchiveError):
            SegmentReader(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        SegmentReader(tmp_path / "nowhere")


def sealed(kind: int, body: bytes, **fields: int) -> bytes:
    """A record whose checksums are right, whatever it says."""
    head = segment.RECORD.pack(int.from_bytes(segment.MARK, "little"), kind, 0, fields.get("stream", 0),
                               fields.get("messages", 0), fields.get("size", len(body)), fields.get("first_ns", 0), 0,
                               zlib.crc32(body))
    return head + struct.pack("<I", zlib.crc32(head)) + body + bytes(-len(body) % 8)


json_values = st.recursive(st.none() | st.integers() | st.floats() | st.text(max_size=5) | st.booleans(),
                           lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner,
                                                                                       max_size=3), max_leaves=6)
tables = st.dictionaries(st.sampled_from(["capture", "feeds", "venues", "streams", "instruments", "gaps", "clock"]),
                         json_values, max_size=3)
numbers = st.integers(0, 2**64 - 1) | st.integers(0, 2000)
records = st.one_of(
    st.builds(lambda told: sealed(segment.TABLE, pack_json(told)), tables),
    st.builds(lambda body, stream, size: sealed(segment.BLOCK, body, stream=stream, size=size), st.binary(max_size=40),
              st.sampled_from([1, 7, 9]), st.integers(0, 2**32 - 1) | st.integers(0, 40)),
    st.builds(lambda a, b, c, digest: sealed(segment.END, segment.ENDING.pack(a, b, c, digest)), numbers, numbers,
              numbers, st.binary(min_size=16, max_size=16)),
    st.binary(max_size=60), st.just(segment.MARK * 5))


def lying(rows: bytes, sources: bytes, count: int, where: list[int]) -> bytes:
    """An index, sources and an end that agree with each other, and with nothing else."""
    zstd = segment.zstandard.ZstdCompressor()
    index = sealed(segment.INDEX, zstd.compress(rows))
    held = sealed(segment.SOURCES, zstd.compress(sources), messages=count)
    at = segment.FILE_HEAD
    digest = segment.blake2b(rows, digest_size=16).digest()
    places = [at, at, at + len(index)] if not where else [where[0], at, where[1]]
    return index + held + sealed(segment.END, segment.ENDING.pack(*places, digest))


ends = st.builds(lying, st.integers(0, 3).flatmap(lambda n: st.binary(min_size=48 * n, max_size=48 * n)),
                 st.binary(max_size=64), st.integers(0, 2**32 - 1) | st.integers(0, 4),
                 st.just([]) | st.lists(numbers, min_size=2, max_size=2))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(records, max_size=6).map(b"".join) | ends)
@pytest.mark.filterwarnings("ignore:.*encountered in.*:RuntimeWarning")
def test_no_file_from_elsewhere_crashes_the_reader(tmp_path, body):
    head = segment.FILE.pack(segment.MAGIC, 1)
    (tmp_path / "a.mantra").write_bytes(head + struct.pack("<I", zlib.crc32(head)) + body)
    with SegmentReader(tmp_path / "a.mantra") as reader:
        for record in reader.blocks(since_ns=1, until_ns=2**63):
            with pytest.raises(ArchiveError):
                unpack("update", reader.body(record))
        reader.sources()
        reader.table.utc(np.array([0, 1, 2**63, 2**64 - 1], np.uint64))
        Table().add(reader.table.told())


def test_a_table_that_says_too_much_is_not_believed():
    row = {"id": 1, "name": "A", "generation": 0, "price_decimals": 8, "size_decimals": 8}
    for told in ({"instruments": [row | {"price_decimals": 10**9}]}, {"feeds": {"-1": "a"}}, {"feeds": ["a"]},
                 {"venues": {0: 1}}, {"clock": {"ns_per_cycle": 0}}, {"clock": {"points": [[1, 2, 3]]}},
                 {"clock": []}, {"gaps": [{"feed": 1}]}):
        with pytest.raises(ArchiveError):
            Table().add(told)
    table = Table()
    table.add({"feeds": {0: "a\x1b[31mb\n"}})
    assert table.feeds == {0: "a?[31mb?"}
    with pytest.raises(ArchiveError):       # 1 GB in 32 kB
        segment.unpack_json(segment.zstandard.ZstdCompressor().compress(bytes(1 << 30)))
    with pytest.raises(ArchiveError):
        segment.unpack_json(segment.zstandard.ZstdCompressor().compress(b"[" * 100_000))


def test_times_follow_the_calibration():
    table = Table()
    cycles = np.array([0, 500, 1000, 1500, 2000, 3000], np.uint64)
    assert table.utc(cycles).tolist() == cycles.tolist()        # nothing said: a cycle is a ns
    assert table.utc(np.array([BASE + 1], np.uint64)).tolist() == [BASE + 1]
    table.add({"clock": {"kind": "cycles", "ns_per_cycle": 0.5, "points": [[1000, BASE]]}})
    assert (table.utc(cycles) - BASE).tolist() == [-500, -250, 0, 250, 500, 1000]
    table.add({"clock": {"points": [[2000, BASE + 600]]}})
    assert (table.utc(cycles) - BASE).tolist() == [-500, -250, 0, 300, 600, 1100]
    clock = Clock()
    table = Table()
    table.add({"clock": clock_told(clock)})
    now = clock.cycles()
    assert abs(int(table.utc(np.array([now], np.uint64))[0]) - clock.to_utc(now)) < 1000


def test_gaps_and_later_tables_add_up(tmp_path):
    with SegmentWriter(tmp_path / "a.mantra", TABLE) as writer:
        writer.table({"gaps": [{"feed": 1, "position": 10, "lost": 5, "utc_ns": BASE}]})
        writer.table({"gaps": [{"feed": 0, "position": 3, "lost": 1, "utc_ns": BASE}], "clock": {"points": [[5, 6]]}})
    for index in (True, False):
        with SegmentReader(tmp_path / "a.mantra", index=index) as reader:
            assert reader.table.gaps == {Gap(0, 3, 1, BASE), Gap(1, 10, 5, BASE)}
            assert reader.table.points == {0: 0, 5: 6}
            assert reader.whole
