"""Imports go one way, and rooms of one tier meet in queues, not in imports."""
from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
MANTRA = ROOT / "mantra"
TIERS: list[set[str]] = [
    {"errors"},
    {"core"},
    {"runtime", "venues", "tape"},
    {"client"},
    {"subscriber"},
    {"listener", "aggregator", "service", "simulator", "telemetry", "archive"},
    {"ui", "topologies"},
]
TIER = {room: tier for tier, rooms in enumerate(TIERS) for room in rooms}
DOORS = len(TIERS)   # live.py, replay.py, __main__.py, the library's own face: they may use everything
# The simulated venues are an independent reading of the venues' documents: what both ends share, both get wrong.
FORBIDDEN = {"simulator": {"core", "venues", "client"}}
CIMPORT = re.compile(r"^\s*(?:from\s+(mantra[\w.]*)\s+c?import\s+([\w, ]+)|c?import\s+(mantra[\w.]*))", re.MULTILINE)


def room_of(path: Path) -> str:
    return path.relative_to(MANTRA).parts[0].partition(".")[0]


def imported(path: Path) -> Iterator[str]:
    """Dotted names under mantra that a module imports, inside functions too."""
    text = path.read_text()
    if path.suffix in (".pyx", ".pxd"):
        for source, names, module in CIMPORT.findall(text):
            yield from (f"{source}.{name.strip()}" for name in names.split(",")) if source else [module]
        return
    package = path.parent.relative_to(ROOT).parts
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.startswith("mantra."))
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            source = ".".join([*base, *([node.module] if node.module else [])])
            if source.partition(".")[0] == "mantra":
                yield from (f"{source}.{name.name}" for name in node.names)


def rooms_imported(path: Path) -> set[str]:
    """The rooms those names are in; names of the package itself (mantra.attach) are nobody's room."""
    return {name.split(".")[1] for name in imported(path)} & (TIER.keys() | {p.stem for p in MANTRA.glob("*.py")})


MODULES = sorted(path for path in MANTRA.rglob("*.py*") if path.suffix in (".py", ".pyx", ".pxd")
                 and not path.stem.endswith("_pb2") and path.stat().st_size)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_imports_only_from_lower_tiers_and_its_own_room(path: Path) -> None:
    room = room_of(path)
    tier = TIER.get(room, DOORS)
    above = {other for other in rooms_imported(path) - {room} if TIER.get(other, DOORS) >= tier}
    assert tier == DOORS or not above, f"{room} may not import {', '.join(sorted(above))}"
    assert not rooms_imported(path) & FORBIDDEN.get(room, set())


def test_every_room_has_its_tier() -> None:
    rooms = {path.name for path in MANTRA.iterdir() if (path / "__init__.py").is_file()}
    assert rooms - TIER.keys() == set()
