"""Actors of one's own in a running system: on threads and in processes; killed, raising, hanging; stopped in order."""
from __future__ import annotations

import os
import signal
import textwrap

import pytest

import mantra
from mantra.core.messages import ActorState
from mantra.core.region import Region
from tests.end_to_end.feeds import until
from tests.end_to_end.simulated import Child
from tests.end_to_end.test_live import Live, descendants, processes

ACTORS = '''
import logging, sys, time
from mantra.core.messages import Update
from mantra.runtime.actor import Actor

class Fade(Actor):
    """A signal for every world; breaks where it is told to."""
    def __init__(self, name, reads, writes, *, breaks=""):
        super().__init__(name, reads, writes)
        self.breaks, self.wrote = breaks, 0
    def broken(self, where):
        if self.breaks == where:
            raise RuntimeError(f"{self.name} broke")
    def setup(self, spine):
        self.broken("setup")
        self.worlds = spine.reader("world", on_lap="count")
        self.signals = spine.writer(self.writes[0])
        self.seen = spine.counter("seen")
    def step(self, spine):
        for world in self.worlds:
            self.signals.produce(Update(instrument=world.instrument))
            self.seen.add()
            self.wrote += 1
            self.broken("step")
            while self.breaks == "hang":
                time.sleep(0.01)
    def teardown(self, spine):
        logging.getLogger("mine").warning("%s wrote %d", self.name, self.wrote)
        self.broken("teardown")

class Watch(Actor):
    """Counts signals."""
    count = 0
    def setup(self, spine):
        self.signals = spine.reader("signals")
    def step(self, spine):
        for signal in self.signals:
            self.count += 1
    def teardown(self, spine):
        logging.getLogger("mine").warning("%s read %d", self.name, self.count)
'''
FEEDS = '''
[[node]]
name = "binance"
kind = "listener"
[[node]]
name = "best"
kind = "bbo"
reads = ["tops"]
writes = ["world"]
'''
THREAD, PROCESS = "process = false", "process = true"


def fade(*more, name="fade", queue="signals"):
    return "\n".join(["[[node]]", f'name = "{name}"', 'kind = "my_actors:Fade"', 'reads = ["world"]',
                      f'writes = ["{queue}"]', 'message = "update"', *more, ""])


def watch(*more):
    return "\n".join(["[[node]]", 'name = "watch"', 'kind = "my_actors:Watch"', 'reads = ["signals"]', *more, ""])


@pytest.fixture(scope="module")
def simulated():
    with Child("--venues", "binance", "--instruments", "eth-btc") as child:
        yield child


@pytest.fixture
def live(simulated, tmp_path):
    """`mantra live` with these nodes beside the feeds."""
    (tmp_path / "my_actors.py").write_text(ACTORS)
    runs = []

    def start(*nodes):
        (tmp_path / "mine.toml").write_text(FEEDS + "".join(map(textwrap.dedent, nodes)))
        runs.append(Live(tmp_path, "--topology", str(tmp_path / "mine.toml"), "--endpoints", str(simulated.path),
                         "--instrument-name", "eth-btc", "--grpc", "off"))
        return runs[-1]

    yield start
    for run in runs:
        run.__exit__()


def actor(live, name="fade"):
    """Its row, once the run has it."""
    with mantra.attach(live.run) as run:
        return next(row for row in run.actors() if row.name == name)


def wrote(live, name="fade"):
    with mantra.attach(live.run) as run:
        return run.counters().get((name, "seen"), 0)


def said(live, text):
    """What it says in all, with the line breaks of the log taken out."""
    return " ".join(" ".join(live.lines).split()).count(text)


@pytest.mark.parametrize(("first", "second"), [(THREAD, PROCESS), (PROCESS, THREAD)])
def test_an_actor_is_the_same_on_a_thread_and_in_a_process_and_reads_all_before_it_ends(live, first, second):
    run = live(fade(first), watch(second)).started()
    row = until(lambda: wrote(run) > 20 and actor(run), "signals are written")
    assert (row.state, row.process, row.kind) == (ActorState.RUNNING, first == PROCESS, "Fade")
    assert (row.pid == run.process.pid) == (first == THREAD)
    assert len(descendants(run.process.pid)) == [first, second].count(PROCESS)
    with mantra.attach(run.run) as attached:
        signals = attached.reader("signals")
        assert signals.wait(60)
        _, one = signals.read()
        assert one.publisher == row.number
        assert one.origin, "as old as the bytes that it comes of"
    run.ends(signal.SIGINT)
    text = " ".join(" ".join(run.lines).split())
    assert f"watch read {text.split('fade wrote ')[1].split()[0]}" in text


def test_a_killed_process_is_started_again_and_leaves_nothing_behind(live):
    run = live(fade(PROCESS, 'restart = "on-failure"'), watch()).started()
    until(lambda: wrote(run) > 5, "signals are written")
    first = actor(run).pid
    os.kill(first, signal.SIGKILL)
    row = until(lambda: (row := actor(run)).restarts == 1 and row.state == ActorState.RUNNING and row, "it is back")
    assert row.failures == 1
    assert row.pid != first
    until(lambda: wrote(run) > 5, "signals are written again")
    assert all(info.owner_pid in (run.process.pid, row.pid) for info in Region.list(f"{run.run}."))
    assert said(run, "its process was killed by SIGKILL") == 1
    run.ends(signal.SIGTERM)


def test_actors_that_raise_are_told_of_once_each_and_the_rest_goes_on(live):
    nodes = {name: fade(where, f'breaks = "{breaks}"', name=name, queue=f"signals-{name}")
             for breaks in ("setup", "step", "teardown")
             for where, name in ((THREAD, f"{breaks}-thread"), (PROCESS, f"{breaks}-process"))}
    run = live(*nodes.values()).started()
    for name in nodes:
        state = ActorState.RUNNING if "teardown" in name else ActorState.FAILED
        row = until(lambda name=name, state=state: (row := actor(run, name)).state == state and row, name)
        assert (row.failures, row.restarts) == (state == ActorState.FAILED, 0)
    with mantra.attach(run.run) as attached:
        assert attached.reader("world").wait(60), "the rest goes on"
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(60) == 0
    run._reader.join(60)
    for name in nodes:
        assert said(run, f"RuntimeError: {name} broke") == 1
    assert not run.regions()


def test_one_that_is_vital_ends_the_run_when_it_fails(live):
    run = live(fade(PROCESS, 'breaks = "step"', "vital = true"), watch()).started()
    assert run.process.wait(60) == 1
    run._reader.join(60)
    assert said(run, "mantra live: fade stopped: fade broke") == 1
    assert not run.regions()


def test_those_that_hang_hold_nobody_up_when_the_run_ends(live):
    hangs = 'breaks = "hang"'
    run = live(fade(PROCESS, hangs), fade(THREAD, hangs, name="other", queue="others")).started()
    until(lambda: wrote(run) == wrote(run, "other") == 1, "they hang")
    below = descendants(run.process.pid)
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(60) == 0
    run._reader.join(60)
    assert said(run, "did not end within 0.4 s, and was killed") == said(run, "other does not end") == 1
    assert not run.regions()
    assert not set(below) & set(processes())


def test_a_process_that_hangs_ends_when_the_run_is_killed(live):
    run = live(fade(PROCESS, 'breaks = "hang"'), watch()).started()
    until(lambda: wrote(run) == 1, "it hangs")
    below = descendants(run.process.pid)
    run.process.kill()
    until(lambda: not set(below) & set(processes()), "its process ends")


def test_a_shared_queue_has_a_writer_on_a_thread_and_one_in_a_process(live):
    run = live(fade(THREAD, "shared = true"), fade(PROCESS, "shared = true", name="other"), watch()).started()
    until(lambda: wrote(run) > 5 and wrote(run, "other") > 5, "both write")
    with mantra.attach(run.run) as attached:
        assert attached.queue("signals").kind == "mpmc"
    run.ends(signal.SIGTERM)


@pytest.mark.parametrize(("node", "says"), [
    (fade(PROCESS, "braeks = 1"), "fade: my_actors:Fade: Fade.__init__() got an unexpected keyword argument 'braeks'"),
    (fade(THREAD).replace("my_actors", "your_actors"), "cannot import your_actors:Fade: No module named 'your_actors'"),
    ('[[node]]\nname = "more"\nkind = "listener"\nvenue = "binance"\ndepth = "x"\n',
     "more: depth must be a whole number from 1 to 10, not 'x'"),
    ('[[node]]\nname = "more"\nkind = "listener"\nvenue = "binance"\nreader = "poll"\n',
     "more: reader must be one of threads, poller, not 'poll'"),
])
def test_a_node_that_cannot_be_is_one_line_and_exit_2(live, node, says):
    assert says in live(node).refuses()
