"""The decoders' JSON cursor (csrc/mantra/json_scan.h) driven over whole documents."""
from __future__ import annotations

import ctypes
import functools
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.c.compilers import COMPILERS, WARNINGS, compile_c

PADDING = bytes(64)


@functools.cache
def library() -> ctypes.CDLL:
    if not COMPILERS:
        pytest.skip("no C compiler to build the cursor with")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "json_copy.so")
        compile_c(COMPILERS[0], Path(__file__).with_name("json_copy.c"), target, "-O2", "-shared", "-fPIC", *WARNINGS)
        built = ctypes.CDLL(str(target))
    built.json_copy.restype = ctypes.c_ssize_t
    return built


def loads(text: bytes) -> Any:
    """The document as Python objects. ValueError: it is malformed."""
    size = ctypes.c_size_t(len(text))
    out, scratch = ctypes.create_string_buffer(6 * len(text) + 1), ctypes.create_string_buffer(len(text) + 1)
    written = library().json_copy(text + PADDING, size, out, scratch)
    if written < 0:
        raise ValueError("malformed JSON")
    return json.loads(out.raw[:written])


def valid(text: bytes) -> bool:
    """Whether it is one well-formed document, by passing over it: what decoders do with members they do not need."""
    return bool(library().json_valid(text + PADDING, ctypes.c_size_t(len(text))))
