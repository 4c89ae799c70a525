"""The package as a user meets it."""
from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import requires, version
from pathlib import Path

import pytest

import mantra

C = """
#include "mantra/decode.h"
#include "mantra/queue.h"
#include <stdio.h>

int main(void)
{
    const char *text = "0.0428", *at = text;
    int64_t ticks = 0;
    if (mantra_decimal(&at, text + 6, 8, &ticks) != 0)
        return 1;
    printf("%lld %zu\\n", (long long)ticks, sizeof(mantra_update));
    return 0;
}
"""


def test_c_compiles_against_the_headers_where_get_include_says(tmp_path):
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    (tmp_path / "user.c").write_text(C)
    program = tmp_path / "user"
    subprocess.run([compiler, "-std=gnu11", "-Wall", "-Werror", "-I", mantra.get_include(), str(tmp_path / "user.c"),
                    "-o", str(program), "-pthread"], check=True)
    assert subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout == "4280000 56\n"


def test_what_cython_and_type_checkers_need_lies_beside_the_compiled_modules():
    package = Path(mantra.__file__).parent
    assert (package / "py.typed").is_file()
    for source in (package / "core").glob("*.pyx"):
        assert source.with_suffix(".pxd").is_file(), source.name
        assert source.with_suffix(".pyi").is_file(), source.name
    assert {path.name for path in (package / "service").glob("*.proto")} == {"orderbook.proto", "mantra.proto"}


def test_cython_compiles_against_the_doors(tmp_path):
    (tmp_path / "user.pyx").write_text("from mantra.core.queue cimport Queue\nfrom mantra.core.book cimport Book\n")
    subprocess.run([sys.executable, "-m", "cython", "-3", "-I", str(Path(mantra.__file__).parent.parent), "user.pyx"],
                   cwd=tmp_path, check=True)
    assert (tmp_path / "user.c").is_file()


def test_importing_mantra_imports_neither_grpc_nor_the_terminal():
    code = ("import mantra.topologies.system, sys\n"
            "print(sorted({'grpc', 'rich', 'websockets', 'zstandard'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_version_is_the_packages_own():
    try:
        needs = requires("mantra")
    except ModuleNotFoundError:
        pytest.skip("mantra is not installed, only importable")
    assert version("mantra") == mantra.__version__
    assert not any("pytest" in need for need in needs or () if "extra" not in need)
