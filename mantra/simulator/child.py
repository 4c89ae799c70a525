"""child: simulated venues in a process of their own, for the main job and for tests."""
from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO

from mantra.errors import VenueError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class Child:
    """`mantra simulate` with these arguments, listening when this returns; ends with `stop`, the block or this process.

    `path` is the endpoints file, `endpoints` what it says: {venue: {"websocket", "rest", and with TLS "ca_file"}}.
    VenueError when it does not start; its own words are on standard error (`quiet`: discarded).
    """

    def __init__(self, *arguments: str, quiet: bool = True, timeout: float = 10.0) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="mantra-simulate-")
        self.path = Path(self._folder.name, "endpoints.toml")
        command = [sys.executable, "-m", "mantra.simulator.door", "--with-parent", "--endpoints", str(self.path)]
        command += arguments
        errors: int | IO[bytes] | None = subprocess.DEVNULL if quiet else None
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors)
        deadline = time.monotonic() + timeout
        while not self.path.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise VenueError(f"the simulated venues did not start (exit {self.process.returncode}): "
                                 f"try `mantra simulate {' '.join(arguments)}`")
            time.sleep(0.01)
        self.endpoints: dict[str, dict[str, str]] = tomllib.loads(self.path.read_text())

    def stop(self) -> None:
        """End the process, within a second or by force."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(1.0)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._folder.cleanup()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
