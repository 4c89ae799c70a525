"""Each header is a room of its own: it compiles alone, twice over, without a warning, by every compiler here."""
from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from .compilers import COMPILERS, HEADERS, ROOT, WARNINGS, standard


@pytest.mark.parametrize("compiler", COMPILERS or [pytest.param("", marks=pytest.mark.skip("no gcc, no clang"))])
@pytest.mark.parametrize("header", HEADERS, ids=lambda header: header.name)
def test_header_compiles_alone_without_a_warning(header: Path, compiler: str) -> None:
    text = f'#include "mantra/{header.name}"\n' * 2
    command = [compiler, "-x", "c", standard(header), *WARNINGS, f"-I{ROOT / 'csrc'}", "-fsyntax-only", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("header", HEADERS, ids=lambda header: header.name)
def test_header_knows_nothing_of_python(header: Path) -> None:
    assert "Python.h" not in header.read_text()
