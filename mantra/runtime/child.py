"""child: programs of ours in processes of their own, that never outlive who started them."""
from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1


def spawn(module: str, arguments: Sequence[str], *, pass_fds: Sequence[int] = (),
          keyboard: bool = False) -> subprocess.Popen[bytes]:
    """Start `python -m module arguments...`; it should call `follow_parent` first thing. `keyboard`: it reads ours."""
    environment = {**os.environ, "MANTRA_PARENT": str(os.getpid())}
    return subprocess.Popen([sys.executable, "-m", module, *arguments], env=environment, stdin=None if keyboard else subprocess.DEVNULL,
                            pass_fds=pass_fds)


def follow_parent() -> None:
    """In a program started by `spawn`: end with the parent however it ends, and leave Ctrl-C to it."""
    parent = os.environ.pop("MANTRA_PARENT", None)
    if parent is None:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != int(parent):        # it died before we asked
        sys.exit(1)


def stop(children: Sequence[subprocess.Popen[bytes]], seconds: float = 0.7) -> None:
    """Ask all to end, wait together, kill what is left."""
    for child in children:
        if child.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                child.terminate()
    deadline = time.monotonic() + seconds
    for child in children:
        try:
            child.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
