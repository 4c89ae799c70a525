"""mantra bench: every figure is there, its answers are checked, and two runs are compared honestly."""
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mantra.core.region import Region
from mantra.errors import Closed, MantraError
from mantra.telemetry import bench

PERCENTILES = {"p50", "p99", "p999"}


def run(home: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mantra", "bench", "--quick", *options]
    environment = {**os.environ, "MANTRA_HOME": str(home)}
    return subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs, the second of one case only: (text, JSON) of each."""
    home = tmp_path_factory.mktemp("home")
    done = [run(home, "--json"), run(home, "--json", "alone")]
    assert [each.returncode for each in done] == [0, 0], done[0].stderr + done[1].stderr
    return [(each.stdout, json.loads(each.stdout.splitlines()[-1])) for each in done]


def test_a_run_has_every_figure_that_is_promised(runs):
    result = runs[0][1]
    if len(bench.cores()) > 1:
        for key in ("floor_ns", "queue_threads_ns", "queue_processes_ns", "floor_processes_ns", "one_line_ns"):
            assert result[key].keys() == PERCENTILES
            assert 0 < result[key]["p50"] <= result[key]["p99"] <= result[key]["p999"]
        assert result["messages_per_second"] > 0
    assert all(result[key] > 0 for key in ("produce_ns", "consume_ns", "hop_overhead_ns"))
    assert all(result["python"][key] > 0 for key in ("produce_ns", "consume_ns", "batch_ns"))
    assert result["machine"].keys() >= {"cpu", "cores", "pinned", "kernel", "governor", "virtualisation", "load"}
    assert result["last_run"] == {}


def test_a_figure_is_compared_with_the_last_run_that_had_it(runs):
    (_, first), (text, second) = runs
    ratio = second["produce_ns"] / first["produce_ns"]
    assert second["last_run"]["produce_ns"]["ratio"] == pytest.approx(ratio, abs=1e-3)
    assert "of last run" in text
    assert "floor_ns" not in second


def figures(**samples: list[float]) -> bench.Bench:
    made = bench.Bench()
    for key, each in samples.items():
        made.take(key, each)
    return made


def test_what_a_partial_run_leaves_out_is_kept_for_the_next(tmp_path):
    path = tmp_path / "home" / "bench.json"
    for each in (figures(a_ns=[10.0], b_ns=[10.0]), figures(b_ns=[20.0])):
        bench.keep(path, "cpu", bench.last_run(path, "cpu"), each)
    third = figures(a_ns=[10.2], b_ns=[30.0], c_ns=[1.0])
    assert bench.compared(bench.last_run(path, "cpu"), third) == {
        "a_ns": {"ratio": 1.02, "within_noise": True}, "b_ns": {"ratio": 1.5, "within_noise": False}}
    assert bench.compared(bench.last_run(path, "another cpu"), third) == {}


@pytest.mark.parametrize(("before", "within"), [([100.0] * 8, False), ([70.0, 85.0, 115.0, 130.0], True)])
def test_a_change_is_marked_only_beyond_both_runs_noise(before, within, tmp_path):
    path = tmp_path / "bench.json"
    bench.keep(path, "cpu", bench.last_run(path, "cpu"), figures(a_ns=before))
    assert bench.compared(bench.last_run(path, "cpu"), figures(a_ns=[125.0] * 8))["a_ns"]["within_noise"] is within


@pytest.mark.parametrize("text", ["", "{", "[]", '{"cpu": "x"}', '{"cpu": "x", "values": 3, "noise": {}}'])
def test_a_damaged_file_of_figures_is_no_last_run(text, tmp_path):
    (tmp_path / "bench.json").write_text(text)
    assert bench.last_run(tmp_path / "bench.json", "x") == {"values": {}, "noise": {}}


def test_figures_that_cannot_be_kept_are_still_shown(tmp_path):
    (tmp_path / "home").write_text("not a folder")
    done = run(tmp_path / "home", "alone", "--json")
    assert done.returncode == 0
    assert "cannot keep the figures" in done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["produce_ns"] > 0


@pytest.mark.parametrize("cores", [1, 2])
def test_what_needs_more_cores_than_there_are_is_not_measurable_here(cores, monkeypatch):
    monkeypatch.setattr(bench, "cores", lambda: sorted(os.sched_getaffinity(0))[:1] * cores)
    measured = bench.Bench(quick=True)
    measured.consumers()
    assert measured.values == {}
    assert measured.not_measurable["queue_processes_4_ns"] == f"not measurable here: needs 5 cores, there are {cores}"
    if cores == 1:
        measured.threads()
        measured.throughput()
        assert measured.not_measurable.keys() >= {"floor_ns", "queue_threads_ns", "messages_per_second"}


@pytest.mark.parametrize("processes", [False, True])
def test_four_consumers_are_measured_where_there_are_cores(processes, monkeypatch):
    found = bench.cross(["floor", "update"], 3, 80, [None] * 5, processes=processes)
    assert {way: total.count for way, (total, _) in found.items()} == {"floor": 3 * 70, "update": 3 * 70}
    assert not Region.list(f"bench-{os.getpid()}-")


@pytest.mark.parametrize("processes", [False, True])
def test_a_side_that_fails_is_an_error_and_leaves_nothing(processes, monkeypatch):
    monkeypatch.setattr(bench.child, "spawn", lambda *_, **__: subprocess.Popen(["false"]))
    monkeypatch.setattr(bench.Meeting, "part", lambda *_: 1 / 0)
    with pytest.raises((MantraError, ZeroDivisionError)):
        bench.cross(["floor"], 1, 10, [None, None], processes=processes)
    assert not Region.list(f"bench-{os.getpid()}-")


def test_who_answers_wrongly_is_found_out():
    meeting = bench.Meeting()
    asks = bench.Side(meeting.course, bench.Clock(), True)
    there, back = meeting.queues["update"]
    mine, theirs = there.producer(), back.producer()
    theirs.produce(bench.Update(origin=5))
    with pytest.raises(MantraError, match="another message"):
        asks.queues(1, bench.Histogram.create(), mine, back.consumer("oldest"))


def test_a_side_alone_gives_up():
    meeting = bench.Meeting()
    meeting.course.stop()
    with pytest.raises(Closed):
        bench.Side(meeting.course, bench.Clock(), False).lines("floor", 1, bench.Histogram.create())


def test_a_case_that_is_not_there_is_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        bench.main(["threds"])
    assert "there are threads" in capsys.readouterr().err


def test_ctrl_c_ends_it_and_leaves_nothing_behind(tmp_path):
    running = subprocess.Popen([sys.executable, "-m", "mantra", "bench", "processes"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, env={**os.environ, "MANTRA_HOME": str(tmp_path)})
    deadline = time.monotonic() + 20
    while len(Region.list(f"bench-{running.pid}-")) < 9:
        assert running.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.3)
    running.send_signal(signal.SIGINT)
    assert running.wait(10) == 0
    assert not Region.list(f"bench-{running.pid}-")
