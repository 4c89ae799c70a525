"""Every Python example of the README runs, against simulated venues, as a reader would run it."""
from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mantra.runtime.spine import running
from tests.end_to_end.simulated import Child

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
DESK = f"readme-{os.getpid()}"      # so that runs of others on this machine do not matter


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    return {**os.environ, "MANTRA_HOME": str(home), "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def simulated():
    with Child("--instruments", "eth-btc") as child:
        yield child


@pytest.fixture(scope="module")
def desk(simulated, environment):
    """`mantra live --run desk`; the address of its gRPC service."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    run = subprocess.Popen([sys.executable, "-m", "mantra.live", "--headless", "--run", DESK, "--instruments=ethbtc",
                            "--grpc", f"127.0.0.1:{port}", "--endpoints", str(simulated.path)], env=environment)
    deadline = time.monotonic() + 60
    while DESK not in running() or not listens(port):
        assert run.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(1.0)         # its books are there
    yield f"127.0.0.1:{port}"
    run.send_signal(signal.SIGINT)
    assert run.wait(60) == 0


@pytest.fixture(scope="module")
def recordings(desk, environment, tmp_path_factory):
    """What `mantra capture` made of some seconds of it."""
    out = tmp_path_factory.mktemp("recordings")
    subprocess.run([sys.executable, "-m", "mantra.capture", "--run", DESK, "--out", str(out), "--duration", "3"],
                   env=environment, capture_output=True, check=True)
    return str(out)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_example_of_the_readme_runs(number, simulated, environment, request):
    example = EXAMPLES[number].replace('"venues.toml"', repr(str(simulated.path)))
    if '"desk"' in example or "127.0.0.1:50051" in example:
        address = request.getfixturevalue("desk")
        example = example.replace('"desk"', repr(DESK)).replace("127.0.0.1:50051", address)
    if '"recordings"' in example:
        example = example.replace('"recordings"', repr(request.getfixturevalue("recordings")))
    done = subprocess.run([sys.executable, "-c", example], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout or "assert" in example


def test_readme_shows_two_commands_first():
    commands = re.findall(r"^```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert commands[0].split() == ["scripts/run", "scripts/test"]


@pytest.mark.parametrize("topology", ["bbo", "depth"])
def test_topology_is_drawn_as_mantra_draws_it(topology):
    done = subprocess.run([sys.executable, "-m", "mantra", "live", "--topology", topology, "--draw", "--venues",
                           "binance,bitstamp"], cwd=ROOT,
                          capture_output=True, text=True, check=True)
    assert f"```mermaid\n{done.stdout}```" in README


def test_topology_file_of_the_readme_holds_together(tmp_path):
    (example,) = re.findall(r"^```toml\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    path = tmp_path / "own.toml"
    path.write_text(example)
    done = subprocess.run([sys.executable, "-m", "mantra", "live", "--topology", str(path), "--draw"], cwd=ROOT,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "binance -- tops.binance --> summed" in done.stdout
