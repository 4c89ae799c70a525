"""The decoders' JSON cursor (csrc/mantra/json_scan.h) driven over whole documents."""
from __future__ import annotations

import json
from ctypes import c_size_t, c_ssize_t, create_string_buffer
from typing import Any

from tests.c.library import PADDING, library


def loads(text: bytes) -> Any:
    """The document as Python objects. ValueError: it is malformed."""
    copy = library("json_copy").json_copy
    copy.restype = c_ssize_t
    out, scratch = create_string_buffer(6 * len(text) + 1), create_string_buffer(len(text) + 1)
    written = copy(text + PADDING, c_size_t(len(text)), out, scratch)
    if written < 0:
        raise ValueError("malformed JSON")
    return json.loads(out.raw[:written])


def valid(text: bytes) -> bool:
    """Whether it is one well-formed document, by passing over it: what decoders do with members they do not need."""
    return bool(library("json_copy").json_valid(text + PADDING, c_size_t(len(text))))
