"""The C tests: each test_*.c is a program that exits 0, run under ASan and UBSan, and the threaded ones under TSan.

A test says that it is threaded with `// threads` among its first lines.
"""
from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from .compilers import compile_c, runner, sanitizer_flags, sanitizing_compiler


def cases() -> list[tuple[Path, str]]:
    found = []
    for source in sorted(Path(__file__).parent.glob("test_*.c")):
        found.append((source, "asan"))
        if "// threads" in source.read_text().splitlines()[:10]:
            found.append((source, "tsan"))
    return found


@pytest.mark.parametrize(("source", "sanitizer"), cases(), ids=lambda value: getattr(value, "stem", value))
def test_program_is_clean_under_its_sanitizer(source: Path, sanitizer: str, tmp_path: Path) -> None:
    compiler = sanitizing_compiler(sanitizer)
    if compiler is None:
        pytest.skip(f"no compiler here builds and runs programs with {sanitizer}")
    program = tmp_path / source.stem
    compile_c(compiler, source, program, *sanitizer_flags(compiler, sanitizer))
    done = subprocess.run([*runner(sanitizer), str(program)], capture_output=True, text=True, timeout=120,
                          env={**os.environ, "ASAN_OPTIONS": "detect_stack_use_after_return=1"})
    assert done.returncode == 0, done.stdout + done.stderr


BROKEN = {
    "asan": "#include <stdlib.h>\nint main(int n, char **a) { (void)a; char *p = malloc(4); return p[3 + n]; }\n",
    "tsan": "#include <pthread.h>\nstatic int n;\nstatic void *add(void *u) { n++; return u; }\nint main(void) {\n"
            "pthread_t t; pthread_create(&t, 0, add, 0); n++; pthread_join(t, 0); return 0; }\n",
}


@pytest.mark.parametrize("sanitizer", BROKEN)
def test_harness_catches_what_it_is_there_to_catch(sanitizer: str, tmp_path: Path) -> None:
    compiler = sanitizing_compiler(sanitizer)
    if compiler is None:
        pytest.skip(f"no compiler here builds and runs programs with {sanitizer}")
    source, program = tmp_path / "broken.c", tmp_path / "broken"
    source.write_text(BROKEN[sanitizer])
    compile_c(compiler, source, program, *sanitizer_flags(compiler, sanitizer))
    assert subprocess.run([*runner(sanitizer), str(program)], capture_output=True, timeout=60).returncode != 0
