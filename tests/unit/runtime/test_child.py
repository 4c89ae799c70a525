"""Children: they end when asked, when killed, and with whoever started them, though not with a mere thread of it."""
from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

from mantra.runtime import child

PROGRAM = """
import signal, sys, time
from mantra.runtime.child import follow_parent
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(follow_parent(), flush=True)
time.sleep(60)
"""


def module(tmp_path, monkeypatch):
    (tmp_path / "a_child.py").write_text(PROGRAM)
    here = [str(tmp_path), str(Path(__file__).parents[3])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*here, os.environ.get("PYTHONPATH", "")]))


def started(process):
    """Once it follows us: on a thread of its own."""
    deadline = time.monotonic() + 20
    while len(list(Path(f"/proc/{process.pid}/task").iterdir())) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def test_a_child_ends_when_asked(tmp_path, monkeypatch):
    module(tmp_path, monkeypatch)
    process = started(child.spawn("a_child", []))
    child.stop([process], 5.0)
    assert process.returncode == -signal.SIGTERM


def test_a_stubborn_child_is_killed(tmp_path, monkeypatch):
    module(tmp_path, monkeypatch)
    process = started(child.spawn("a_child", ["stubborn"]))
    child.stop([process], 0.1)
    assert process.returncode == -signal.SIGKILL


def test_children_that_are_gone_already_are_no_trouble(tmp_path, monkeypatch):
    module(tmp_path, monkeypatch)
    process = child.spawn("a_child", [])
    process.kill()
    process.wait()
    child.stop([process])


def test_ctrl_c_is_left_to_the_parent(tmp_path, monkeypatch):
    module(tmp_path, monkeypatch)
    process = started(child.spawn("a_child", []))
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    assert process.poll() is None
    child.stop([process])


def test_a_child_outlives_the_thread_that_started_it(tmp_path, monkeypatch):
    module(tmp_path, monkeypatch)
    made = []
    thread = threading.Thread(target=lambda: made.append(started(child.spawn("a_child", []))))
    thread.start()
    thread.join()
    time.sleep(0.3)
    assert made[0].poll() is None
    child.stop(made)


def test_a_child_ends_with_a_parent_that_is_killed(tmp_path, monkeypatch):
    module(tmp_path, monkeypatch)
    parent = textwrap.dedent("""
        import sys, time
        from mantra.runtime import child
        print(child.spawn("a_child", []).pid, flush=True)
        time.sleep(60)
    """)
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as process:
        pid = int(process.stdout.readline())
        assert process.stdout.readline() == "True\n", "it follows"
        process.kill()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_who_was_not_spawned_follows_nobody(monkeypatch):
    monkeypatch.delenv("MANTRA_PARENT", raising=False)
    assert child.follow_parent() is False
