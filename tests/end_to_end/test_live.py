"""python -m mantra.live as its user meets it: it runs, says what is wrong in one line, and leaves nothing behind."""
from __future__ import annotations

import contextlib
import itertools
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mantra.core.region import Region
from mantra.runtime.settings import Settings
from tests.end_to_end.feeds import NAMES, until
from tests.end_to_end.proxy import Proxy
from tests.end_to_end.simulated import Child

RUNS = (f"test-live-{os.getpid()}-{number}" for number in itertools.count())


def processes():
    """{pid: command line} of everything that runs."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return {pid: command for pid, command in found.items() if command}


def descendants(pid):
    """Pids below `pid`, whoever started them there."""
    found = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *descendants(child)]
    return found


class Live:
    """`python -m mantra.live --headless` with these arguments, in a run of its own."""

    def __init__(self, home, *arguments, run=None):
        self.run = run or next(RUNS)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mantra.live", "--headless", "--run", self.run, *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "MANTRA_HOME": str(home), "TMPDIR": str(home)})
        self.lines = []
        lines = iter(self.process.stderr.readline, "")
        self._reader = threading.Thread(target=lambda: self.lines.extend(lines), daemon=True)
        self._reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def regions(self):
        return [info.name for info in Region.list(f"{self.run}.")]

    def started(self):
        """Wait until its feeds run."""
        until(lambda: self.process.poll() is not None or any("Ctrl-C ends" in line for line in self.lines), "it starts")
        assert self.process.poll() is None, self.lines
        return self

    def refuses(self):
        """The one line with which it ends, exit code 2."""
        assert self.process.wait(60) == 2
        self._reader.join()
        assert not self.regions()
        assert len(self.lines) == 1, self.lines
        return self.lines[0]

    def ends(self, number):
        """Send `number`: it ends well, and leaves nothing."""
        below = descendants(self.process.pid)
        self.process.send_signal(number)
        assert self.process.wait(8) == 0, self.lines    # what it might wait for would take 10 s
        self._reader.join(60)
        assert not any("Traceback" in line for line in self.lines), self.lines
        assert not self.regions()
        assert not set(below) & set(processes())


def simulated(path):
    return ("--endpoints", str(path), "--instrument-name", "eth-btc", "--grpc", "off")


def test_a_run_of_some_seconds_ends_with_one_object_that_says_what_it_did(tmp_path):
    with Live(tmp_path, "--duration", "3", "--json", "--grpc", "127.0.0.1:0") as live:
        live.started()
        assert len(descendants(live.process.pid)) == 2, "the simulated venues, and the service"
        out = live.process.stdout.read()
        assert live.process.wait(60) == 0
        assert not live.regions()
    said = json.loads(out.splitlines()[-1])
    assert said["simulated"]
    assert set(said["venues"]) == set(Settings.venues)
    assert said["venues"]["binance"]["trust"] == dict.fromkeys(("ETH-BTC", "BTC-USDT", "ETH-USDT"), "verified")
    assert said["venues"]["bitstamp"]["messages"] > 0
    assert len({venue for side in ("bids", "asks") for _, _, venue in said["world"]["ETH-BTC"][side]}) > 1
    assert said["latency_ns"]["socket_to_world"]["p50"] > 0


def test_on_a_terminal_that_its_topology_does_not_draw_on_it_says_that_it_runs(tmp_path):
    (tmp_path / "mine.toml").write_text('[[node]]\nname = "binance"\nkind = "listener"\n'
                                        '[[node]]\nname = "best"\nkind = "bbo"\nreads = ["tops"]\nwrites = ["world"]\n')
    ours, its = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "mantra.live", "--run", next(RUNS), "--topology", str(tmp_path / "mine.toml"),
         "--venues", "binance", "--grpc", "off", "--duration", "0.1"],
        stdout=its, stderr=subprocess.PIPE, text=True, timeout=60, env={**os.environ, "MANTRA_HOME": str(tmp_path)})
    os.close(ours)
    os.close(its)
    assert done.returncode == 0
    assert "Ctrl-C ends it" in done.stderr


def test_nobody_reads_its_result_and_it_ends_all_the_same(tmp_path):
    with Live(tmp_path, "--duration", "0.1", "--json", "--grpc", "off") as live:
        live.process.stdout.close()
        live.process.wait(60)
        live._reader.join(60)
        assert not any("Traceback" in line for line in live.lines), live.lines


def test_a_service_that_ends_by_itself_ends_the_run_and_is_named(tmp_path):
    with Live(tmp_path, "--grpc", "127.0.0.1:0") as live:
        below = descendants(live.started().process.pid)
        os.kill(next(pid for pid, command in processes().items() if pid in below and "grpc" in command), signal.SIGTERM)
        assert live.process.wait(60) == 1
        live._reader.join(60)
        assert live.lines[-1].strip() == "mantra live: grpc ended with exit code 0"
        assert not live.regions()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_everything_it_started(tmp_path, number):
    with Live(tmp_path, "--grpc", "127.0.0.1:0") as live:
        live.started()
        assert len(descendants(live.process.pid)) == 2
        live.ends(number)


def test_it_ends_while_it_still_starts_the_simulated_venues(tmp_path):
    with Live(tmp_path) as live:
        until(lambda: descendants(live.process.pid), "the simulated venues start")
        live.ends(signal.SIGTERM)


@pytest.mark.parametrize("where", ["instrument list", "handshake", "snapshot"])
def test_it_ends_while_a_venue_does_not_answer(tmp_path, where):
    over = threading.Event()
    with Child("--venues", "binance", "--instruments", "eth-btc") as child:
        proxy, asked = Proxy(child.endpoints["binance"]), threading.Event()

        def silent(path):
            if ("exchangeInfo" in path) == (where == "instrument list"):
                asked.set()
                return over
            return None

        if where == "handshake":
            proxy.refuse = over
        else:
            proxy.rest = silent
        endpoints = tmp_path / "endpoints.toml"
        endpoints.write_text("[binance]\n" + "".join(f'{key} = "{value}"\n' for key, value in proxy.endpoints.items()))
        with Live(tmp_path, *simulated(endpoints), "--venues", "binance") as live:
            if where != "handshake":
                assert asked.wait(60)
            if where != "instrument list":
                live.started()
            live.ends(signal.SIGINT)
        over.set()
        proxy.close()


@pytest.mark.parametrize("reader", ["threads", "poller"])
def test_it_ends_when_the_venues_are_dead(tmp_path, reader):
    with Child("--venues", ",".join(NAMES), "--instruments", "eth-btc") as child, \
            Live(tmp_path, *simulated(child.path), "--reader", reader) as live:
        live.started()
        os.kill(child.process.pid, signal.SIGKILL)
        until(lambda: any("next try in" in line for line in live.lines), "it notices")
        live.ends(signal.SIGTERM)


def test_killed_it_leaves_no_child_and_the_next_run_takes_its_memory_back(tmp_path):
    with Live(tmp_path, "--grpc", "127.0.0.1:0") as live:
        below = descendants(live.started().process.pid)
        assert len(below) == 2
        live.process.kill()
        live.process.wait()
        until(lambda: not set(below) & set(processes()), "its children end")
        assert live.regions()
        assert not [*tmp_path.glob("mantra-*")], "addresses of the simulated venues"
        with Child("--venues", "binance", "--instruments", "eth-btc") as child, \
                Live(tmp_path, *simulated(child.path), "--venues", "binance") as other:
            other.started()
            assert not live.regions()
            other.ends(signal.SIGTERM)


def bad_endpoints(tmp_path):
    bad = tmp_path / "bad.toml"
    bad.write_text("[binance]\nwebsocket = 'http://nowhere'\n")
    return bad


@pytest.mark.parametrize(("arguments", "says"), [
    (["--endpoints", "{home}/bad.toml", "--instrument-name", "ethbtc"], "websocket must be an address"),
    (["--endpoints", "{home}/none.toml", "--instrument-name", "ethbtc"], "cannot read the endpoints file"),
    (["--venues", "binanse"], "did you mean binance?"),
    (["--no-such-option"], "--no-such-option"),
    (["--mode", "sideways"], "sideways"),
    (["--duration", "soon"], "soon"),
    (["--per-connection", "0"], "per-connection must be"),
    (["--grpc", "nowhere"], "grpc must be HOST:PORT"),
])
def test_bad_usage_is_one_line_and_exit_2(tmp_path, arguments, says):
    bad_endpoints(tmp_path)
    with Live(tmp_path, *[argument.format(home=tmp_path) for argument in arguments]) as live:
        assert says in live.refuses()


def test_a_named_port_that_is_taken_is_one_line_and_exit_2(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with Live(tmp_path, "--grpc", f"127.0.0.1:{port}") as live:
            line = live.refuses()
            assert f"cannot listen on 127.0.0.1:{port}" in line
            assert "--grpc HOST:PORT" in line


def test_a_symbol_that_nobody_lists_is_one_line_with_a_suggestion(tmp_path):
    with Child("--venues", ",".join(NAMES), "--instruments", "eth-btc") as child, \
            Live(tmp_path, "--endpoints", str(child.path), "--instrument-name", "eth-btd") as live:
        assert "it lists ETH-BTC" in live.refuses()
