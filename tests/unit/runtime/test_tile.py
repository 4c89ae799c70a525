"""Tiles: an actor's life on a thread of its own."""
from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from mantra.core.messages import ActorState, Update
from mantra.errors import ConfigurationError
from mantra.runtime.actor import Actor
from mantra.runtime.spine import Spine
from mantra.runtime.tile import Policy, Tile


class Worker(Actor):
    """Notes what happens to it."""

    def __init__(self, fails_at=None, waits=False):
        super().__init__("worker", ("work",))
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
        self.comm = Path(f"/proc/self/task/{threading.get_native_id()}/comm").read_text().strip()
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


def run(worker, spine, *policy, **options):
    tile = Tile(worker, spine, *policy, **options)
    tile.setup()
    tile.start()
    assert worker.stepped.wait(10)
    return tile


def test_an_actor_is_set_up_stepped_and_torn_down_on_a_thread_of_its_name(spine):
    tile = run(worker := Worker(), spine)
    assert worker.thread.name == "mantra-worker"
    assert worker.comm == "worker", "as top -H shows it"
    assert tile.running
    assert spine.actors()[0].state == ActorState.RUNNING
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
    assert caplog.text.count("worker failed in its step: step failed") == 1
    assert caplog.text.count("Traceback") == 1
    (row,) = spine.actors()
    assert (row.name, row.state, row.failures, row.restarts) == ("worker", ActorState.FAILED, 1, 0)


def test_a_teardown_that_raises_ends_the_tile_all_the_same(spine, caplog):
    tile = run(Worker(fails_at="teardown"), spine)
    tile.stop()
    assert tile.join(10)
    assert "worker failed in its teardown: teardown failed" in caplog.text
    assert spine.actors()[0].failures == 1


def test_a_tile_never_started_has_nothing_to_join(spine):
    tile = Tile(Worker(), spine)
    tile.stop()
    assert tile.join(0)


def test_an_actor_is_pinned_to_the_core_named(spine):
    core = max(os.sched_getaffinity(0))
    tile = run(worker := Worker(), spine, Policy(core=core))
    tile.stop()
    assert tile.join(10)
    assert worker.cores == {core}
    assert core in os.sched_getaffinity(0)


def test_a_core_that_is_not_there_is_refused(spine):
    with pytest.raises(ConfigurationError, match="there is no core 4096 here"):
        Tile(Worker(), spine, Policy(core=4096))


def until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def restarted(spine, policy, fails_at, times):
    """A tile whose actor fails `times` times, each time a new one of them."""
    made = []

    def again():
        made.append(Worker(fails_at if len(made) < times else None))
        return made[-1]

    tile = Tile(again(), spine, policy, again=again)
    tile.setup()
    tile.start()
    return tile, made


@pytest.mark.parametrize("fails_at", ["setup", "step"])
def test_an_actor_that_fails_is_made_anew_when_its_policy_says_so(spine, caplog, fails_at):
    tile, made = restarted(spine, Policy(restart="on-failure", pause_ms=1), fails_at, 2)
    until(lambda: len(made) == 3 and made[-1].stepped.is_set())
    tile.stop()
    assert tile.join(10)
    assert (tile.restarts, tile.failures) == (2, 2)
    (row,) = spine.actors()
    assert (row.state, row.restarts, row.failures) == (ActorState.STOPPED, 2, 2)
    assert caplog.text.count("Traceback") == 2


def test_one_that_is_stopped_in_the_middle_of_its_restart_does_not_step(spine, caplog):
    class Slow(Worker):
        def setup(self, spine):
            super().setup(spine)
            assert not self.stopping.wait(10), "stopped"

    made = [Worker("step"), Slow()]
    tile = Tile(made[0], spine, Policy(restart="on-failure", pause_ms=1), again=lambda: made[1])
    tile.setup()
    tile.start()
    until(lambda: made[1].happened)
    tile.stop()
    assert tile.join(10)
    assert made[1].happened == ["setup"]
    assert tile.failures == 1


def test_one_that_fails_too_often_has_failed_for_good(spine, caplog):
    tile, made = restarted(spine, Policy(restart="on-failure", pause_ms=1, most_restarts=3), "step", 99)
    assert tile.join(10)
    assert len(made) == 4
    assert [worker.happened for worker in made] == [["setup", "step", "teardown"]] * 4
    assert tile.state == ActorState.FAILED
    assert "worker is given up after 3 restarts" in caplog.text


def test_a_pause_before_a_restart_doubles_and_ends_at_once_when_stopped(spine):
    tile, made = restarted(spine, Policy(restart="on-failure", pause_ms=3_600_000), "step", 99)
    until(lambda: tile.state == ActorState.RESTARTING)
    tile.stop()
    assert tile.join(1)
    assert len(made) == 1
    tile._tries = 0
    tile.policy = Policy(restart="on-failure", pause_ms=100)
    assert [tile._pause() for _ in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


class Echo(Actor):
    """Writes what it reads."""

    def setup(self, spine):
        self.work = spine.reader("work")
        self.done = spine.writer("done", message="update")

    def step(self, spine):
        count = 0
        for update in self.work:
            self.done.produce(update)
            count += 1
        return count


@pytest.mark.parametrize("idle", ["spin", "yield", "park", "adapt"])
def test_whoever_idles_reads_what_comes_and_what_was_written_before_it_is_stopped(spine, idle):
    work = spine.queue("work", "update").producer(doorbell=spine.doorbell)
    tile = Tile(Echo("echo", ("work",), ("done",)), spine, Policy(idle=idle))
    tile.setup()
    done = spine.reader("done")
    tile.start()
    work.produce(Update(price=1))
    assert done.wait(10)
    assert done.read()[1].price == 1
    for price in range(1000):
        work.produce(Update(price=price))
    tile.stop()
    assert tile.join(10)
    assert [update.price for update in done] == list(range(1000))
    assert idle in repr(tile)


def test_how_adapt_adapts_is_said(spine):
    assert "CPUs" in repr(Tile(Worker(), spine))


def test_what_an_actor_wrote_can_be_written_by_the_next(spine):
    spine.queue("work", "update")
    for _ in range(2):
        tile = Tile(Echo("echo", ("work",), ("done",)), spine)
        tile.setup()
        tile.start()
        tile.stop()
        assert tile.join(10)


@pytest.mark.parametrize("wrong", [{"idle": "doze"}, {"restart": "always"}, {"pause_ms": -1}, {"most_restarts": 0.5},
                                   {"core": "1"}])
def test_a_policy_that_is_none_is_one_line(spine, wrong):
    with pytest.raises(ConfigurationError, match=f"worker: {next(iter(wrong))} must be .*, not") as error:
        Tile(Worker(), spine, Policy(**wrong))
    assert len(str(error.value).splitlines()) == 1


class Beater(Actor):
    """Passes on what it reads after it has read everything; at rest it beats by itself."""

    def __init__(self):
        super().__init__("beater", ("one", "two"), ("beats",))
        self.rests = 0

    def setup(self, spine):
        self.inputs = [spine.reader(name) for name in self.reads]
        self.out = spine.writer("beats", "update")

    def step(self, spine):
        heard = [update for reader in self.inputs for update in reader]
        self.rests += not heard
        if heard or self.rests > 1:
            self.out.produce(Update(price=len(heard)))
        return len(heard)


def test_what_an_actor_writes_has_the_origin_of_what_it_read_in_that_step_or_none(spine):
    one, _, beats = (spine.queue(name, "update") for name in ("one", "two", "beats"))
    seen, tile = beats.consumer(), Tile(Beater(), spine)
    tile.setup()
    one.producer().produce(Update(origin=5))
    tile.start()
    passed, beaten = [next(iter_waiting(seen)) for _ in range(2)]
    tile.stop()
    assert tile.join(10)
    assert (passed.price, passed.origin) == (1, 5)
    assert beaten.price == 0
    assert beaten.origin > 5
    records = list(spine.timings("beater").consumer("oldest"))
    assert [(record.origin, record.queue, record.count) for record in records] == [(5, one.number, 1)]


def iter_waiting(consumer):
    while consumer.wait(10):
        yield from consumer
