"""Which compilers this machine has, and which sanitizers really run with them."""
from __future__ import annotations

import functools
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
HEADERS = sorted((ROOT / "csrc" / "mantra").glob("*.h"))
COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]
WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Werror"]
SANITIZERS = {"asan": "address,undefined", "tsan": "thread"}


def standard(header: Path) -> str:
    """c11, or gnu11 where the first comment of a header, or of one it includes, says that it needs that."""
    text = header.read_text()
    if "gnu11" in text.partition("*/")[0]:
        return "-std=gnu11"
    included = (header.parent / name for name in re.findall(r'#include "mantra/([\w.]+)"', text))
    return "-std=gnu11" if any(standard(other) == "-std=gnu11" for other in included) else "-std=c11"


def compile_c(compiler: str, source: Path, target: Path, *flags: str) -> None:
    """Build one C file against the headers; AssertionError with what the compiler said."""
    command = [compiler, "-std=gnu11", *flags, f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'tests' / 'c'}", str(source),
               "-o", str(target), "-lpthread", "-lrt", "-ldl", "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def sanitizer_flags(compiler: str, sanitizer: str) -> list[str]:
    # gcc's TSan does not understand fences: it says so (-Wtsan), and our shared words are atomics, so nothing is lost
    quiet = ["-Wno-tsan"] if (compiler, sanitizer) == ("gcc", "tsan") else []
    return ["-g", "-O1", f"-fsanitize={SANITIZERS[sanitizer]}", "-fno-sanitize-recover=all",
            "-fno-omit-frame-pointer", *WARNINGS, *quiet]


def runner(sanitizer: str) -> list[str]:
    """TSan's shadow memory collides with addresses randomised as widely as newer kernels do: run it without."""
    return ["setarch", "-R"] if sanitizer == "tsan" and shutil.which("setarch") else []


@functools.cache
def sanitizing_compiler(sanitizer: str) -> str | None:
    """The first compiler whose programs run under the sanitizer here; clang knows more, so it is asked first."""
    for compiler in sorted(COMPILERS):
        with tempfile.TemporaryDirectory() as folder:
            source, program = Path(folder, "probe.c"), Path(folder, "probe")
            source.write_text("int main(void) { return 0; }\n")
            try:
                compile_c(compiler, source, program, *sanitizer_flags(compiler, sanitizer))
                if subprocess.run([*runner(sanitizer), str(program)], capture_output=True, timeout=60).returncode == 0:
                    return compiler
            except (AssertionError, subprocess.TimeoutExpired):
                continue
    return None
