"""The real headers made ready for relacy: as C++, with its own atomics, every memory order numbered."""
from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from tests.c.compilers import ROOT

HERE = Path(__file__).parent
HEADERS = ("base", "messages", "seqlock", "writers", "queue", "vector", "doorbell")
INCLUDED = [Path("/usr/include"), Path("/usr/local/include")]
ORDER = re.compile(r"memory_order_(?:acquire|release|acq_rel|seq_cst)")
FUNCTION = re.compile(r"^(mantra_\w+)\(", re.MULTILINE)


def missing() -> str:
    """Why this machine cannot run relacy; "" when it can."""
    if shutil.which("g++") is None:
        return "needs g++"
    if not any((folder / "relacy" / "relacy.hpp").is_file() for folder in INCLUDED):
        return "needs relacy's headers (Debian: relacy-dev)"
    return ""


def sites() -> dict[str, int]:
    """Every memory order above relaxed: "function: what it orders", by its number."""
    found: dict[str, int] = {}
    for header in HEADERS:
        text = (ROOT / "csrc" / "mantra" / f"{header}.h").read_text()
        text = re.sub(r"/\*.*?\*/", lambda comment: " " * len(comment[0]), text, flags=re.DOTALL)
        for order in ORDER.finditer(text):
            function = [match[1] for match in FUNCTION.finditer(text, 0, order.start())][-1]
            call = re.findall(r"atomic_(\w+?)(?:_explicit)?\(", text[:order.start()])[-1]
            name = f"{function.removeprefix('mantra_')}: {order[0].removeprefix('memory_order_')} {call}"
            while name in found:
                name += " again"
            found[name] = len(found) + 1
    return found


def build(folder: Path, level: str) -> Path:
    """The program `ordering`, in `folder`."""
    number = 0

    def numbered(order: re.Match[str]) -> str:
        nonlocal number
        number += 1
        return f"proof_order({number}, {order[0]})"

    (folder / "mantra").mkdir()
    for header in HEADERS:
        text = (ROOT / "csrc" / "mantra" / f"{header}.h").read_text()
        text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
        text = re.sub(r"\b_Atomic (\w+)", r"proof_atomic<\1>", text)
        (folder / "mantra" / f"{header}.h").write_text(ORDER.sub(numbered, text))
    program = folder / "ordering"
    command = ["g++", "-std=gnu++20", level, "-fpermissive", "-w", f"-I{HERE / 'relacy'}", f"-I{folder}",
               str(HERE / "ordering.cpp"), "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return program
