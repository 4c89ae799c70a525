"""Recordings for tests: the folder $MANTRA_DATA, else `shared/data` beside the checkout."""
from __future__ import annotations

import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("MANTRA_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


def data(path: str) -> Path:
    """The recording or folder `path` (with or without its .zst); skips the test that asks for one that is not there."""
    for candidate in (FOLDER / path, FOLDER / f"{path}.zst"):
        if candidate.exists():
            return candidate
    pytest.skip(f"no recording {path} in {FOLDER}: set MANTRA_DATA to the folder that has it")


def read(path: str) -> bytes:
    """Content of the recording `path`, decompressed."""
    found = data(path)
    if found.suffix != ".zst":
        return found.read_bytes()
    import zstandard

    return zstandard.ZstdDecompressor().decompressobj().decompress(found.read_bytes())
