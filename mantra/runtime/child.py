"""child: programs of ours in processes of their own, that never outlive who started them."""
from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence


def spawn(module: str, arguments: Sequence[str], *, pass_fds: Sequence[int] = (),
          keyboard: bool = False, given: bytes | None = None) -> subprocess.Popen[bytes]:
    """Start `python -m module arguments...`; it should call `follow_parent` first thing. `keyboard`: it reads ours;
    `given`: it reads this, to the end."""
    environment = {**os.environ, "MANTRA_PARENT": str(os.getpid())}
    stdin = None if keyboard else subprocess.DEVNULL if given is None else subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-m", module, *arguments], env=environment, stdin=stdin,
                               pass_fds=pass_fds)
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError), process.stdin:
            process.stdin.write(given or b"")
    return process


def follow_parent() -> bool:
    """In a program started by `spawn` (else False): end with the parent, by SIGTERM, however it ends; and leave Ctrl-C
    to it."""
    parent = int(os.environ.pop("MANTRA_PARENT", 0))
    if not parent:
        return False
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    process = None
    with contextlib.suppress(OSError, AttributeError):     # gone already, or a kernel before 5.3
        process = os.pidfd_open(parent)
    if os.getppid() != parent:
        sys.exit(1)
    threading.Thread(target=_end_after, args=(parent, process), name="mantra-parent", daemon=True).start()
    return True


def _end_after(parent: int, process: int | None) -> None:
    """Not PR_SET_PDEATHSIG: that fires when the *thread* that spawned us ends, and a library's user may well have
    started us from one that does."""
    if process is not None:
        poll = select.poll()
        poll.register(process, select.POLLIN)
        poll.poll()
    while os.getppid() == parent:
        time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGTERM)


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
