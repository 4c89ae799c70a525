"""options: what all doors have in common: mistakes and failures are one line and an exit code."""
from __future__ import annotations

import argparse
import contextlib
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from importlib import import_module
from typing import NoReturn, Protocol

from mantra.errors import MantraError


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that says what is wrong, and leaves how it is used to --help."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (--help explains)\n")


def positive_seconds(text: str) -> float:
    """For `--duration`: above 0, and finite."""
    with contextlib.suppress(ValueError):
        if 0 < (seconds := float(text)) < math.inf:
            return seconds
    raise argparse.ArgumentTypeError(f"{text}: a number of seconds above 0")


class Main(Protocol):
    """A door: what the command line gives it, to an exit code."""

    def __call__(self, argv: Sequence[str] | None = None) -> int: ...


def door(prog: str, *, interrupted: int = 0) -> Callable[[Main], Main]:
    """Of a `main`: what goes wrong is one line on standard error; who ends it, by Ctrl-C (exit code `interrupted`) or
    by reading no further, hears nothing more."""
    def framed(main: Main) -> Main:
        @wraps(main)
        def run(argv: Sequence[str] | None = None) -> int:
            try:
                return main(argv)
            except KeyboardInterrupt:
                return interrupted
            except BrokenPipeError:
                sys.stderr.close()
                return 0
            except (MantraError, OSError) as error:
                print(f"{prog}: {error}", file=sys.stderr)
                return error.exit_code if isinstance(error, MantraError) else 1
        return run
    return framed


def through(prog: str, doors: Mapping[str, tuple[str, str]], arguments: Sequence[str]) -> int:
    """Go through the door of the verb that comes first: {verb: ("module" or "module:function", what it does)}."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        usage = [f"usage: {prog} VERB [options]      {prog} VERB --help explains one\n", *(
            f"  {verb:<{2 + max(map(len, doors))}}{what}" for verb, (_, what) in doors.items())]
        print("\n".join(usage), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    if arguments[0] not in doors:
        print(f"{prog}: no verb {arguments[0]!r}; there are {', '.join(doors)}", file=sys.stderr)
        return 2
    module, _, function = doors[arguments[0]][0].partition(":")
    return int(getattr(import_module(module), function or "main")(arguments[1:]))
