"""Every file looks as its neighbours do, and the whole stays small."""
from __future__ import annotations

import ast
import importlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
HEADERS = sorted((ROOT / "csrc" / "mantra").glob("*.h"))
FACES = sorted((ROOT / "mantra" / "core").glob("*.pyx"))
MACHINE = re.compile(  # paths and hosts that mean something on one machine only; written so as not to match itself
    r"(?<![\w.$}])/(?:work|tmp|root|home/\w+)(?:/|\b)(?![.\w]*\()|"
    r"[\w.-]*(?:py" r"pi\.org|pythonho" r"sted|arti" r"factory)")


def committed() -> list[Path]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: cannot tell which files are committed")
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.mark.parametrize("header", HEADERS, ids=lambda path: path.name)
def test_header_says_first_what_the_room_is_for(header: Path) -> None:
    lines = header.read_text().splitlines()
    assert re.match(rf"/\* {re.escape(header.name)} - .+", lines[0]), lines[0]
    assert f"MANTRA_{header.stem.upper()}_H" in header.read_text()


@pytest.mark.parametrize("face", FACES, ids=lambda path: path.stem)
def test_compiled_module_has_a_door_and_a_stub_that_tells_the_truth(face: Path) -> None:
    assert face.with_suffix(".pxd").is_file()
    module = importlib.import_module(f"mantra.core.{face.stem}")
    assert (module.__doc__ or "").startswith(f"{face.stem}: ")
    for node in ast.parse(face.with_suffix(".pyi").read_text()).body:
        match node:
            case ast.FunctionDef(name=name) | ast.AnnAssign(target=ast.Name(id=name)):
                assert hasattr(module, name), name
            case ast.ClassDef(name=name):
                promised = {member.name for member in node.body if isinstance(member, ast.FunctionDef)}
                assert promised - {"__init__"} - set(dir(getattr(module, name))) == set(), name
                has = {member for member in vars(getattr(module, name)) if not member.startswith("_")}
                told = promised | {str(getattr(getattr(member, "target", None), "id", "")) for member in node.body}
                assert issubclass(getattr(module, name), int) or has - told == set(), name


@pytest.mark.parametrize("path", sorted((ROOT / "mantra").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_module_says_first_what_it_is_for(path: Path) -> None:
    if path.stat().st_size and not path.stem.endswith("_pb2"):
        assert ast.get_docstring(ast.parse(path.read_text()))


def test_nothing_committed_names_a_path_or_a_registry_of_one_machine() -> None:
    found = []
    for path in committed():
        hits = MACHINE.findall(path.read_bytes().decode(errors="replace"))
        found += [f"{path.relative_to(ROOT)}: {hit}" for hit in hits]
    assert found == []


COMMENTS = {   # comments and docstrings, which nobody should be tempted to save
    "c": re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL),
    "python": re.compile(r"(?<=\n)[ ]*[rb]?\"\"\".*?\"\"\"|^\"\"\".*?\"\"\"|(?<=\n)[ ]*#[^\n]*", re.DOTALL),
}


def lines_of_code(path: Path) -> int:
    language = "c" if path.suffix in (".h", ".c", ".proto") else "python"
    return sum(bool(line.strip()) for line in COMMENTS[language].sub("", path.read_text()).splitlines())


def test_the_whole_system_stays_small() -> None:
    suffixes = (".h", ".c", ".py", ".pyx", ".pxd", ".pyi", ".proto")
    counted = [path for path in committed() if path.suffix in suffixes or path.parent.name == "scripts"]
    counted = [path for path in counted if path.relative_to(ROOT).parts[0] not in ("tests", "bench")
               and "_pb2" not in path.stem]
    total = sum(map(lines_of_code, counted))
    assert total < 32_500, f"{total} lines of code"
