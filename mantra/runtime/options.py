"""options: command lines whose mistakes are one line and exit code 2."""
from __future__ import annotations

import argparse
import contextlib
import math
from typing import NoReturn


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
