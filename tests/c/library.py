"""C that only tests and benches call from Python: one file built into a shared library and loaded."""
from __future__ import annotations

import ctypes
import functools
import tempfile
from pathlib import Path

import pytest

from tests.c.compilers import COMPILERS, WARNINGS, compile_c

PADDING = bytes(64)     # readable bytes that scanners want behind a text


@functools.cache
def library(name: str) -> ctypes.CDLL:
    """tests/c/`name`.c; functions whose names end in `_new` or `_size` return as wide a number as there is."""
    if not COMPILERS:
        pytest.skip(f"no C compiler to build {name}.c with")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, f"{name}.so")
        compile_c(COMPILERS[0], Path(__file__).with_name(f"{name}.c"), target, "-O3", "-shared", "-fPIC", *WARNINGS)
        return ctypes.CDLL(str(target))
