"""serving: a program of ours that serves a run to others, in a process of its own, at an address."""
from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Protocol

from mantra.errors import ConfigurationError, MantraError
from mantra.runtime.child import follow_parent
from mantra.runtime.spine import Spine


class Served(Protocol):
    """An actor that listens: `address` is where, once it was set up."""

    address: str

    def setup(self, spine: Spine) -> None: ...
    def step(self, spine: Spine) -> int: ...
    def teardown(self, spine: Spine) -> None: ...


def endpoint(listen: str) -> tuple[str, int]:
    """HOST:PORT or [IPV6]:PORT in its parts."""
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigurationError(f"{listen!r} is not HOST:PORT")
    return host.removeprefix("[").removesuffix("]"), int(port)


def bind(listen: str, move: bool, what: str, take: Callable[[str], int]) -> str:
    """The address that `take` (address -> port) could have: `listen`, or with `move` the next free one after it.

    ConfigurationError when there is none; the socket says why, whatever `take` says."""
    host, port = endpoint(listen)
    why = ""
    for candidate in (port, *range(port + 1, min(port + 20, 65536)), 0) if move else (port,):
        try:
            family, kind, protocol, _, target = socket.getaddrinfo(host, candidate, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(target)
            numeric = f"[{target[0]}]" if family == socket.AF_INET6 else str(target[0])
            address = f"{numeric}:{take(f'{numeric}:{candidate}')}"
        except (OSError, RuntimeError) as error:
            why = getattr(error, "strerror", None) or "it is taken"
            continue
        if candidate != port:
            print(f"mantra: port {port} is taken; {what} moves on to {address}", file=sys.stderr)
        return address
    raise ConfigurationError(f"cannot listen on {listen} ({why}): choose another address with --listen HOST:PORT")


def serve(service: Served, run: str | None, ready_fd: int | None = None) -> int:
    """Serve a run until SIGTERM, Ctrl-C or its end; returns the exit code.

    `ready_fd`, of the program that started this one, gets the address as one line once it is served; without it
    standard error does. A parent that spawned this gets "! " and why there will be none instead.
    """
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    spawned = follow_parent()
    try:
        with Spine.attach(run) as spine:
            try:
                service.setup(spine)
                if ready_fd is None:
                    print(f"mantra: serving {spine.run} on {service.address}", file=sys.stderr, flush=True)
                else:
                    os.write(ready_fd, f"{service.address}\n".encode())
                    os.close(ready_fd)
                    ready_fd = None
                check = 0.0
                while not stopping.is_set():
                    service.step(spine)
                    if (now := time.monotonic()) >= check:
                        check = now + 0.5
                        if not spine.alive():
                            break
            finally:
                service.teardown(spine)
    except MantraError as error:
        if spawned and ready_fd is not None:
            os.write(ready_fd, f"! {error}\n".encode())     # our parent will say it
        else:
            print(f"mantra: {error}", file=sys.stderr)
        return error.exit_code
    return 0
