"""Regions: named memory that is whole, really there, and refused when it is somebody else's."""
import multiprocessing
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from mantra.core.region import PREFIX, Region
from mantra.errors import LayoutMismatch, RegionError

SHM = Path(PREFIX).parent
fork = multiprocessing.get_context("fork")


@pytest.fixture
def name(request):
    """A name of this test's own; nothing of it may be left behind."""
    base = f"test-{os.getpid()}-{abs(hash(request.node.name)) % 10**8}"
    yield base
    for left in SHM.glob(f"mantra.{base}*"):
        left.unlink()


def elsewhere(code, *arguments):
    """Run `code` in another interpreter."""
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)


def test_a_region_is_listed_while_it_lives_and_gone_after_the_with_block(name):
    with Region.create(name, 1000, kind="test", layout="a 8: b u8@0", fingerprint=5, slot_bytes=64,
                       capacity=4) as region:
        info, = Region.list(name)
        assert (info.name, info.kind, info.fingerprint, info.slot_bytes, info.capacity) == (name, "test", 5, 64, 4)
        assert (info.size, info.owner_pid, info.owner_alive) == (1024, os.getpid(), True)
        assert info.layout == "a 8: b u8@0"
        assert info == region.info
        file = (SHM / f"mantra.{name}").stat()
        assert stat.S_IMODE(file.st_mode) == 0o600
        assert file.st_blocks * 512 >= 1024     # backed, not only promised
    assert Region.list(name) == []


@pytest.mark.parametrize("bad", ["", ".hidden", "a/b", "..", "a b", "ü", "x" * 128, "nul\0"])
def test_names_that_could_be_paths_are_refused(bad):
    with pytest.raises(RegionError):
        Region.create(bad, 64, kind="test")
    with pytest.raises(RegionError):
        Region.open(bad, kind="test")


def test_a_name_in_use_is_refused_and_stays_as_it_is(name):
    with Region.create(name, 64, kind="first"):
        with pytest.raises(RegionError, match="owner is running"):
            Region.create(name, 64, kind="second")
        assert Region.open(name, kind="first").owner_alive


def test_what_a_dead_owner_left_is_replaced_and_its_readers_keep_theirs(name):
    done = elsewhere("import os, sys; from mantra.core.region import Region\n"
                     "r = Region.create(sys.argv[1], 64, kind='old'); os._exit(0)", name)
    assert done.returncode == 0, done.stderr
    old = Region.open(name, kind="old")
    assert not old.owner_alive
    with Region.create(name, 128, kind="new") as new:
        assert new.size == 128
        assert (old.size, old.info.kind) == (64, "old")


def test_only_the_dead_are_removed_as_stale(name):
    done = elsewhere("import os, sys; from mantra.core.region import Region\n"
                     "r = [Region.create(sys.argv[1] + x, 64, kind='old') for x in 'ab']; os._exit(0)", name)
    assert done.returncode == 0, done.stderr
    with Region.create(name + "c", 64, kind="mine"):
        assert Region.remove_stale(name) == [name + "a", name + "b"]
        assert [info.name for info in Region.list(name)] == [name + "c"]


def test_an_interpreter_that_ends_leaves_no_region(name):
    done = elsewhere("import sys; from mantra.core.region import Region\nr = Region.create(sys.argv[1], 64, kind='x')\n"
                     "raise SystemExit(3)", name)
    assert done.returncode == 3
    assert Region.list(name) == []


def test_a_forked_child_cannot_take_its_parents_regions_away(name):
    def child(region):
        region.close()
        with pytest.raises(RegionError, match="another process"):
            region.unlink()
        assert Region.open(name, kind="test").owner_alive

    with Region.create(name, 64, kind="test") as region:
        process = fork.Process(target=child, args=(region,))
        process.start()
        process.join()
        assert process.exitcode == 0
        assert len(Region.list(name)) == 1


def test_closing_does_not_remove_a_successor_of_the_same_name(name):
    first = Region.create(name, 64, kind="test")
    first.unlink()
    with Region.create(name, 64, kind="test"):
        first.close()
        assert len(Region.list(name)) == 1


def test_foreign_kinds_layouts_and_files_are_refused(name):
    with Region.create(name, 64, kind="queue", layout="update 56: ...", fingerprint=0xAB):
        with pytest.raises(LayoutMismatch, match="is a queue, not a vector"):
            Region.open(name, kind="vector")
        with pytest.raises(LayoutMismatch, match=r"update 56: .*00ab.*00cd"):
            Region.open(name, kind="queue", fingerprint=0xCD)
    (SHM / f"mantra.{name}").write_bytes(b"somebody else's" * 100)
    for attempt in (Region.create, Region.open):
        with pytest.raises(RegionError, match="not mantra's"):
            attempt(name, *([64] if attempt is Region.create else []), kind="queue")
    assert Region.list(name) == []
    assert Region.remove_stale(name) == []


@pytest.mark.parametrize(("offset", "what"), [(8, "format"), (32, "shorter than its header")])
def test_another_format_or_a_cut_file_is_refused(name, offset, what):
    with Region.create(name, 64, kind="test"):
        with open(SHM / f"mantra.{name}", "r+b") as file:
            file.seek(offset)
            file.write((1 << 20).to_bytes(4, "little"))
        with pytest.raises(RegionError, match=what):
            Region.open(name, kind="test")


def test_a_region_grows_to_its_ceiling_and_readers_see_it(name):
    with Region.create(name, 64, ceiling=1 << 20, kind="test") as region:
        reader = Region.open(name, kind="test")
        before = (SHM / f"mantra.{name}").stat().st_blocks
        region.grow(1 << 19)
        assert region.size == reader.size == 1 << 19
        assert (SHM / f"mantra.{name}").stat().st_blocks - before >= (1 << 19) // 512 - 16
        region.grow(64)     # it never shrinks
        assert region.size == 1 << 19
        with pytest.raises(RegionError, match="its ceiling is 1048576"):
            region.grow((1 << 20) + 1)
        with pytest.raises(RegionError, match="only its owner"):
            reader.grow(1 << 20)


def test_too_little_shared_memory_is_one_clear_line_at_once(name):
    room = os.statvfs(SHM)
    with pytest.raises(RegionError, match=rf"needs \d+ bytes of {SHM}, which has \d+ free") as error:
        Region.create(name, room.f_blocks * room.f_frsize + (1 << 30), kind="test")
    assert "\n" not in str(error.value)
    assert Region.list(name) == []


def test_programs_with_a_folder_of_their_own_see_nothing_of_others(name, monkeypatch):
    code = ("import sys; from mantra.core.region import PREFIX, Region\n"
            "with Region.create(sys.argv[1], 64, kind='other'): print(PREFIX, len(Region.list()))")
    with Region.create(name, 64, kind="test"), tempfile.TemporaryDirectory(dir=SHM) as folder:
        monkeypatch.setenv("MANTRA_SHM", folder)
        assert elsewhere(code, name).stdout == f"{folder}/mantra. 1\n"
        assert Region.list(name)[0].kind == "test"
        monkeypatch.setenv("MANTRA_SHM", folder + "/none")
        assert f"cannot make a file in {folder}/none: No such file" in elsewhere(code, name).stderr


def test_private_memory_has_the_same_face_and_no_name():
    region = Region.create(None, 64, ceiling=4096, kind="test")
    region.grow(4096)
    assert (region.name, region.size, region.owner_alive) == (None, 4096, True)
    region.close()


def test_of_many_that_race_for_a_dead_name_one_wins(name):
    assert elsewhere("import os, sys; from mantra.core.region import Region\n"
                     "r = Region.create(sys.argv[1], 64, kind='old'); os._exit(0)", name).returncode == 0

    def racer(start, done, results):
        start.wait()
        try:
            region = Region.create(name, 64, kind="new")
        except RegionError:
            results.put(0)
        else:
            results.put(1)
            done.wait()     # a name that has been given back may be taken by another
            region.close()

    start, done, results = fork.Barrier(5), fork.Event(), fork.Queue()
    racers = [fork.Process(target=racer, args=(start, done, results)) for _ in range(5)]
    for each in racers:
        each.start()
    assert sum(results.get(timeout=10) for _ in racers) == 1
    done.set()
    for each in racers:
        each.join()
    assert Region.list(name) == []
