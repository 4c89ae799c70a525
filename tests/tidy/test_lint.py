"""What the linters say; their rules are in pyproject.toml."""
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("arguments", [("ruff", "check", "."), ("mypy",)], ids=lambda arguments: arguments[0])
def test_linter_has_no_complaint(arguments: tuple[str, ...]) -> None:
    pytest.importorskip(arguments[0])
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
