"""Simulated venues in a process of their own, for tests."""
from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class Child:
    """`mantra simulate` with these arguments, listening when this returns, ending with the block or this process.

    `path` is the endpoints file, `endpoints` what it says: {venue: {"websocket", "rest", and with TLS "ca_file"}}.
    """

    def __init__(self, *arguments, follow=True):
        self._folder = tempfile.TemporaryDirectory(prefix="mantra-simulate-")
        self.path = Path(self._folder.name, "endpoints.toml")
        command = [sys.executable, "-m", "mantra.simulator.door", "--endpoints", str(self.path), *arguments]
        self.process = subprocess.Popen(command + ["--with-parent"] * follow)
        deadline = time.monotonic() + 60.0
        while not self.path.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"the simulated venues did not start (exit {self.process.returncode})")
            time.sleep(0.01)
        self.endpoints = tomllib.loads(self.path.read_text())

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(2.0)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._folder.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
