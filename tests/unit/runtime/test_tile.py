"""Tiles: an actor's life on a thread of its own."""
from __future__ import annotations

import os
import threading

import pytest

from mantra.errors import ConfigurationError
from mantra.runtime.actor import Actor
from mantra.runtime.spine import Spine
from mantra.runtime.tile import Tile


class Worker(Actor):
    """Notes what happens to it."""

    name = "worker"

    def __init__(self, fails_at=None, waits=False):
        self.happened, self.fails_at, self.waits = [], fails_at, waits
        self.stepped, self.woken = threading.Event(), threading.Event()

    def note(self, what):
        self.happened.append(what)
        if what == self.fails_at:
            raise RuntimeError(f"{what} failed")

    def setup(self, spine):
        self.note("setup")

    def step(self, spine):
        self.thread = threading.current_thread()
        self.cores = os.sched_getaffinity(0)
        self.stepped.set()
        if "step" not in self.happened:
            self.note("step")
        if self.waits:
            self.woken.wait()
        return 0

    def wake(self):
        self.woken.set()

    def teardown(self, spine):
        self.note("teardown")


@pytest.fixture
def spine():
    with Spine.private() as spine:
        yield spine


def run(worker, spine, **options):
    tile = Tile(worker, spine, **options)
    tile.setup()
    tile.start()
    assert worker.stepped.wait(10)
    return tile


def test_an_actor_is_set_up_stepped_and_torn_down_on_a_thread_of_its_name(spine):
    tile = run(worker := Worker(), spine)
    assert worker.thread.name == "mantra-worker"
    assert tile.running
    tile.stop()
    assert tile.join(10)
    assert worker.happened == ["setup", "step", "teardown"]
    assert tile.error is None


def test_a_step_that_waits_is_woken_to_end(spine):
    tile = run(worker := Worker(waits=True), spine)
    tile.stop()
    assert tile.join(10)
    assert worker.stopping.is_set()


def test_an_actor_that_raises_is_torn_down_and_its_error_kept(spine, caplog):
    tile = run(worker := Worker(fails_at="step"), spine)
    assert tile.join(10)
    assert str(tile.error) == "step failed"
    assert worker.happened == ["setup", "step", "teardown"]
    assert "worker stopped: step failed" in caplog.text


def test_a_teardown_that_raises_ends_the_tile_all_the_same(spine, caplog):
    tile = run(Worker(fails_at="teardown"), spine)
    tile.stop()
    assert tile.join(10)
    assert "teardown failed" in caplog.text


def test_a_tile_never_started_has_nothing_to_join(spine):
    tile = Tile(Worker(), spine)
    tile.stop()
    assert tile.join(0)


def test_an_actor_is_pinned_to_the_core_named(spine):
    core = max(os.sched_getaffinity(0))
    tile = run(worker := Worker(), spine, core=core)
    tile.stop()
    assert tile.join(10)
    assert worker.cores == {core}
    assert core in os.sched_getaffinity(0)


def test_a_core_that_is_not_there_is_refused(spine):
    with pytest.raises(ConfigurationError, match="there is no core 4096 here"):
        Tile(Worker(), spine, core=4096)
