"""What the compiler makes of write and read, on x86-64 and on Arm: as cheap as drawn, and as ordered.

x86-64 (gcc -O2). One producer: two plain stores to the version around the words, one to the position; no lock
prefix, no fence, no call. Of many: the claim is `lock cmpxchg` on the version (a full barrier, so the fence behind
it is nothing), the words, a second `lock cmpxchg` to settle; the hint a plain load, compare, store. Reading:
version, words, version, all plain loads in this order. The doorbell's fence is one locked `or` on the stack, cheaper
than mfence, then one load.

Arm (AArch64, -O2): the version is stored, `dmb ish`, the words, then `stlr` settles (release) and `stlr` counts. The
claim is `ldar` (acquire) of the version, then `ldaxr`/`stxr`, then `dmb ish`; settling is `ldxr`/`stlxr`. Reading is
`ldar`, the words, `dmb ishld`, `ldr`. The doorbell's fence is `dmb ish`.
"""
from __future__ import annotations

import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.c.compilers import ROOT

COMPILERS = {"arm": ["aarch64-linux-gnu-gcc", "-mno-outline-atomics"]}
if platform.machine() == "x86_64":
    COMPILERS["x86"] = ["gcc"]


def functions(machine: str, folder: Path) -> dict[str, str]:
    """Of each function its instructions, as far as its first return: what is rare stands behind that."""
    command = COMPILERS[machine]
    if shutil.which(command[0]) is None:
        pytest.skip(f"needs {command[0]}" + (" (Debian: gcc-aarch64-linux-gnu)" if machine == "arm" else ""))
    source, assembly = Path(__file__).with_name("assembly.c"), folder / "assembly.s"
    done = subprocess.run([*command, "-std=gnu11", "-O2", "-S", f"-I{ROOT / 'csrc'}", str(source), "-o", str(assembly)],
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = {}
    for name, body in re.findall(r"^(\w+):\n(.*?)^\t\.size\t\1,", assembly.read_text(), re.MULTILINE | re.DOTALL):
        found[name] = "\n".join(re.findall(r"^\t[a-z].*", re.split(r"\n\tret\b", body)[0], re.MULTILINE))
    return found


def test_on_x86_one_producer_and_a_reader_pay_for_no_lock_fence_or_call(tmp_path: Path) -> None:
    made = functions("x86", tmp_path)
    for name in ("produce_single", "consume"):
        assert not re.search(r"\b(lock|[lm]fence|xchg\w*|call)\b", made[name]), made[name]


def test_on_x86_one_of_many_producers_swaps_twice(tmp_path: Path) -> None:
    made = functions("x86", tmp_path)
    for name in ("mantra_produce_claim", "produce_many"):
        assert re.findall(r"\block \w+|\b[lm]fence\b|\bxchg\w*", made[name]) == ["lock cmpxchgq"], made[name]
    assert re.findall(r"\bcall\s+(\w+)", made["produce_many"]) == ["mantra_produce_claim"]


def test_on_x86_version_words_and_version_are_read_in_this_order(tmp_path: Path) -> None:
    read = functions("x86", tmp_path)["consume"]
    version = r"(?:movq|cmpq)\s+\((%\w+)\)"
    assert re.search(rf"{version}.*movq\s+8\(\1.*(?:movq|cmpq)\s+(?:%\w+, )?\(\1\)", read, re.DOTALL), read


def test_on_x86_a_ring_that_nobody_waits_for_is_one_fence_and_one_load(tmp_path: Path) -> None:
    rung = functions("x86", tmp_path)["ring"]
    assert len(re.findall(r"\block \w+|\bmfence\b", rung)) == 1, rung
    assert "syscall" not in rung


@pytest.mark.parametrize(("function", "order"), [
    ("produce_single", ["str x", "dmb ish", "str x", "stlr x", "stlr x"]),
    ("mantra_produce_claim", ["ldar x", "ldaxr x", "stxr w"]),
    ("produce_many", ["dmb ish", "str x", "ldxr x", "stlxr w"]),
    ("consume", ["ldar x", "ldr x", "dmb ishld", "ldr x"]),
    ("ring", ["dmb ish", "ldr w"]),
])
def test_on_arm_fences_and_orders_stand_where_they_are_drawn(function: str, order: list[str], tmp_path: Path) -> None:
    made = functions("arm", tmp_path)[function]
    assert re.search(".*".join(step.replace(" ", r"\s+") for step in order), made, re.DOTALL), made
    assert len(re.findall(r"\bdmb\b", made)) == order.count("dmb ish") + order.count("dmb ishld"), made
