"""What tests keep on disk and in shared memory is not the user's, nor that of other tests which run at the same time:
each process of pytest has a home and a folder for its regions, which the programs it starts inherit."""
from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest

PREFIX = "mantra-tests-"
SHARED = "/dev/shm"

for old in Path(SHARED).glob(f"{PREFIX}*"):         # of tests that were killed
    with suppress(OSError):
        if time.time() - old.stat().st_mtime > 3600:
            shutil.rmtree(old)

FOLDERS = {"MANTRA_HOME": tempfile.mkdtemp(prefix=PREFIX), "MANTRA_SHM": tempfile.mkdtemp(prefix=PREFIX, dir=SHARED)}
os.environ.update(FOLDERS)


def pytest_unconfigure(config: pytest.Config) -> None:
    for folder in FOLDERS.values():
        shutil.rmtree(folder, ignore_errors=True)
