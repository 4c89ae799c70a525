"""doctor: what of this machine is good and bad for mantra, why it matters, and the command that changes it.

A check reads files below the machine's root, so that tests can fake any machine, and the few things that no file tells
through functions of `Machine`. Nothing here is ever an error: what cannot be read is said to be unknown.
"""
from __future__ import annotations

import ctypes
import json
import os
import platform
import re
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mantra.core import build
from mantra.core.clock import Clock
from mantra.core.histogram import Histogram
from mantra.core.ledger import Ledger
from mantra.core.messages import DTYPES
from mantra.core.region import PREFIX
from mantra.core.transport import tls_library
from mantra.runtime.options import Parser
from mantra.runtime.spine import CAPACITY, MANY, MESSAGES, MOST_ACTORS, MOST_BOOKS, MOST_FEEDS, MOST_INSTRUMENTS

State = Literal["ok", "warn", "fail"]
Verdict = tuple[State, str, str]            # state, what was found, what to do


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    state: State
    found: str
    why: str
    do: str


class _Timex(ctypes.Structure):             # struct timex, as far as it is read; the kernel writes 208 bytes
    _fields_ = [("modes", ctypes.c_uint), ("offset", ctypes.c_long), ("freq", ctypes.c_long),
                ("maxerror", ctypes.c_long), ("esterror", ctypes.c_long), ("status", ctypes.c_int),
                ("rest", ctypes.c_byte * 256)]


def kernel_time() -> tuple[bool, int, int] | None:
    """Is UTC kept by NTP, its estimated and its largest error in microseconds; None where the kernel does not say."""
    page = _Timex()
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(page))
    return None if state < 0 else (state != 5 and not page.status & 0x40, page.esterror, page.maxerror)


def free_bytes(folder: Path) -> int:
    """Room left on the file system of `folder`. OSError."""
    room = os.statvfs(folder)
    return room.f_bavail * room.f_frsize


@dataclass
class Machine:
    """Where files are read, and how to learn what no file tells."""

    root: Path = Path("/")
    free_bytes: Callable[[Path], int] = free_bytes
    kernel_time: Callable[[], tuple[bool, int, int] | None] = kernel_time
    mhz: Callable[[], float] = lambda: Clock().mhz
    libssl: Callable[[], str | None] = tls_library
    gil: Callable[[], bool] = lambda: not sysconfig.get_config_var("Py_GIL_DISABLED")

    def text(self, path: str) -> str:
        """A file's text; "" when it cannot be read."""
        try:
            return (self.root / path).read_text(errors="replace").strip()
        except OSError:
            return ""

    def whole(self, path: str, pattern: str = r"(-?\d+)") -> int | None:
        """The number that `pattern` finds in a file."""
        found = re.search(pattern, self.text(path), re.MULTILINE)
        return int(found[1]) if found and found[1].lstrip("-").isdigit() else None

    def each(self, pattern: str) -> dict[str, str]:
        """The texts of all files that a pattern names, by path."""
        return {str(path.relative_to(self.root)): self.text(str(path.relative_to(self.root)))
                for path in sorted(self.root.glob(pattern))}

    def model(self) -> str:
        """The CPU's name."""
        found = re.search(r"^model name\s*:\s*(.*)", self.text("proc/cpuinfo"), re.MULTILINE)
        return found[1] if found else platform.machine()

    def flags(self) -> list[str]:
        """What the CPU says it can; none on Arm, which says it otherwise."""
        found = re.search(r"^flags\s*:(.*)", self.text("proc/cpuinfo"), re.MULTILINE)
        return found[1].split() if found else []

    def cores(self) -> str:
        """Those this process may run on, as the kernel lists them: "0-3,8"."""
        named = re.search(r"^Cpus_allowed_list:\s*([\d,-]+)", self.text("proc/self/status"), re.MULTILINE)
        return named[1] if named else self.text("sys/devices/system/cpu/online") or "0"


def _listed(text: str) -> list[int]:
    """The kernel's "0-3,8" as numbers."""
    spans = ((int(low), int(high or low)) for low, high in re.findall(r"(\d+)(?:-(\d+))?", text))
    return [core for low, high in spans for core in range(low, high + 1)]


def needed(feeds: int, instruments: int = 3) -> int:
    """Bytes of /dev/shm that a run of so many connections reserves when it starts."""
    slot = {message: dtype.itemsize + 8 for message, dtype in DTYPES.items()}
    queues = sum(CAPACITY[message] * slot[message] for message in (*MESSAGES.values(), "timing"))
    latest = MOST_INSTRUMENTS * (slot["instrument"] + slot["world"]) + MOST_BOOKS * slot["top"]
    latest += MOST_ACTORS * slot["actor"]
    feed = Histogram.create().region.size + (instruments << 16)
    queues *= min(feeds, MANY) + max(0, feeds - MANY) // 4
    shared = CAPACITY["world"] * slot["world"] + Ledger.create(None, MOST_FEEDS).region.size
    # Two copies a slot: a vector is never without one that is whole.
    return int(2 * latest + shared + queues + feed * feeds)


# The checks ------------------------------------------------------------------------------------------------------

DISTRUSTED = ("hpet", "acpi_pm", "jiffies", "refined-jiffies")


def counter(machine: Machine) -> Verdict:
    source = machine.text("sys/devices/system/clocksource/clocksource0/current_clocksource") or "unknown"
    flags = machine.flags()
    missing = [flag for flag in ("constant_tsc", "nonstop_tsc", "rdtscp") if flags and flag not in flags]
    if missing:
        return "warn", f"not invariant ({', '.join(missing)} missing); the OS clock serves", (
            "another machine, or in a virtual one pass the counter through: qemu -cpu host,+invtsc")
    if source in DISTRUSTED:
        return "warn", f"the kernel does not trust it (clocksource {source}); the OS clock serves", (
            "dmesg | grep -i -e tsc -e clocksource  # says why; firmware or hypervisor must be mended")
    kind = "invariant" if flags else "architectural"
    return "ok", f"{kind}, {machine.mhz():,.1f} MHz; kernel's clocksource {source}", ""


def cores(machine: Machine) -> Verdict:
    usable, online = (len(_listed(text)) for text in (machine.cores(), machine.text("sys/devices/system/cpu/online")))
    found = f"{usable} usable of {max(online, usable)} ({machine.cores()})"
    if usable < 2:
        return "warn", found, "give it more: taskset -c 0-3 mantra live, docker run --cpuset-cpus=0-3"
    return "ok", found, ""


def sharing(machine: Machine) -> Verdict:
    groups: dict[str, set[str]] = {}
    for path, level in machine.each("sys/devices/system/cpu/cpu[0-9]*/cache/index[0-9]*/level").items():
        folder = path.removesuffix("level")
        if level in "23" and machine.text(f"{folder}type") != "Instruction":
            groups.setdefault(f"L{level}", set()).add(machine.text(f"{folder}shared_cpu_list"))
    siblings = set(machine.each("sys/devices/system/cpu/cpu[0-9]*/topology/thread_siblings_list").values())
    nodes = machine.each("sys/devices/system/node/node[0-9]*/cpulist")
    pairs = sorted(group for group in siblings if len(_listed(group)) > 1)
    parts = [f"hyperthreads {' '.join(pairs)}" if pairs else "no hyperthreads"]
    parts += [f"{name} {' '.join(sorted(groups[name]))}" for name in sorted(groups)]
    parts += [f"{len(nodes)} NUMA nodes {' '.join(nodes.values())}"] if len(nodes) > 1 else []
    usable = set(_listed(machine.cores()))
    if len(usable) > 1 and any(usable <= set(_listed(group)) for group in pairs):
        return "warn", "; ".join(parts), "one physical core in all: allow another one, or turn hyperthreads off"
    if len([node for node in nodes.values() if usable & set(_listed(node))]) > 1:
        return "warn", "; ".join(parts), "numactl --cpunodebind=0 --membind=0 mantra live"
    return "ok", "; ".join(parts) if siblings or groups else "not told here", ""


def governor(machine: Machine) -> Verdict:
    chosen = set(machine.each("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor").values()) - {""}
    off, on = (machine.text(f"sys/devices/system/cpu/{name}") for name in ("intel_pstate/no_turbo", "cpufreq/boost"))
    turbo = ", turbo off" if off == "1" or on == "0" else ", turbo on" if off == "0" or on == "1" else ""
    if not chosen:
        return "ok", "not ours to choose (a virtual machine, or a fixed clock)" + turbo, ""
    if chosen != {"performance"}:
        return "warn", ", ".join(sorted(chosen)) + turbo, "sudo cpupower frequency-set -g performance"
    return "ok", "performance" + turbo, ""


def isolation(machine: Machine) -> Verdict:
    isolated, tickless = (machine.text(f"sys/devices/system/cpu/{name}") for name in ("isolated", "nohz_full"))
    if not isolated:
        return "ok", "no core is isolated", "for the last tail: boot with isolcpus=2-3 nohz_full=2-3, then pin there"
    if set(_listed(isolated)) - set(_listed(tickless)):
        return "warn", f"isolated {isolated}, but tickless only {tickless if _listed(tickless) else 'none'}", (
            f"boot with nohz_full={isolated} too")
    return "ok", f"isolated and tickless: {isolated}", ""


def quota(machine: Machine) -> Verdict:
    limits: list[float] = []
    for line in machine.text("proc/self/cgroup").splitlines() or ["0::/"]:
        _, controllers, path = line.split(":", 2) if line.count(":") >= 2 else ("", "", "/")
        folder = Path("sys/fs/cgroup", *(["cpu"] if controllers else []), path.lstrip("/"))
        if controllers and "cpu" not in controllers.split(","):
            continue
        for parent in (folder, *folder.parents):        # every group above it holds, too
            allowed, period = (machine.text(f"{parent}/cpu.max").split() or ["max"])[0], machine.whole(
                f"{parent}/cpu.max", r"\S+ (\d+)")
            if controllers:
                allowed, period = (machine.text(f"{parent}/cpu.cfs_quota_us"),
                                   machine.whole(f"{parent}/cpu.cfs_period_us"))
            if allowed.isdigit() and period:
                limits.append(int(allowed) / period)
    if not limits or min(limits) >= len(_listed(machine.cores())):
        return "ok", "none below the cores there are", ""
    return "fail" if min(limits) < 1 else "warn", f"{min(limits):g} cores' time", (
        "docker update --cpus=N CONTAINER; kubernetes: no cpu limit, or whole cores; systemd: CPUQuota=")


def virtualisation(machine: Machine) -> Verdict:
    maker = " ".join(machine.text(f"sys/class/dmi/id/{name}") for name in ("sys_vendor", "product_name")).strip()
    virtual = "hypervisor" in machine.flags() or re.search("QEMU|KVM|VMware|Virtual|EC2|Google", maker) is not None
    container = any((machine.root / mark).exists() for mark in (".dockerenv", "run/.containerenv"))
    parts = [f"a virtual machine{f' ({maker})' * bool(maker)}" if virtual else maker or "no virtual machine"]
    parts += ["in a container"] * container
    times = [int(number) for number in re.findall(r"\d+", machine.text("proc/stat").split("\n")[0][4:])]
    stolen = times[7] / max(1, sum(times[:8])) if len(times) > 7 else 0.0
    if virtual:
        parts.append(f"{100 * stolen:.2f} % of its time stolen since it started")
    return "warn" if stolen > 0.005 else "ok", ", ".join(parts), (
        "a machine with cores of its own (dedicated, or bare metal)" if stolen > 0.005 else "")


def huge_pages(machine: Machine) -> Verdict:
    mode = {name: re.search(r"\[([\w+]+)\]", machine.text(f"sys/kernel/mm/transparent_hugepage/{name}")) for name in (
        "enabled", "defrag", "shmem_enabled")}
    chosen = {name: found[1] if found else "unknown" for name, found in mode.items()}
    reserved = machine.whole("proc/meminfo", r"^HugePages_Total:\s*(\d+)") or 0
    found = (f"transparent {chosen['enabled']}, for shared memory {chosen['shmem_enabled']}, "
             f"defrag {chosen['defrag']}; {reserved} reserved")
    if chosen["enabled"] == "always" and chosen["defrag"] == "always":
        return "warn", found, "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/defrag"
    return "ok", found, ""


def shared_memory(machine: Machine) -> Verdict:
    folder = machine.root / PREFIX.lstrip("/")
    try:
        free = machine.free_bytes(folder.parent)
    except OSError as error:
        mount = f"sudo mount -t tmpfs -o mode=1777 tmpfs {folder.parent}"
        return "fail", f"{folder.parent} cannot be used: {error.strerror}", mount
    found = (f"{free / 1e6:,.0f} MB free; a run of two venues takes {needed(2) / 1e6:.0f} MB, "
             f"a connection more {(needed(3) - needed(2)) / 1e6:.1f}")
    if free < 4 * needed(2):
        return "fail" if free < needed(2) else "warn", found, (
            "sudo mount -o remount,size=1G /dev/shm; docker run --shm-size=1g; what dead runs left: mantra shm clean")
    return "ok", found, ""


def open_files(machine: Machine) -> Verdict:
    found = re.search(r"^Max open files\s+(\S+)\s+(\S+)", machine.text("proc/self/limits"), re.MULTILINE)
    if not found:
        return "ok", "not told here", ""
    soft = int(found[1]) if found[1].isdigit() else 1 << 30
    told = f"{found[1]} (may be raised to {found[2]}); a connection takes some 8, a book 1"
    return "fail" if soft < 128 else "warn" if soft < 4096 else "ok", told, (
        "ulimit -n 65536; for good: nofile in /etc/security/limits.conf" if soft < 4096 else "")


def memory_lock(machine: Machine) -> Verdict:
    limit = re.search(r"^Max locked memory\s+(\S+)", machine.text("proc/self/limits"), re.MULTILINE)
    swap = (machine.whole("proc/meminfo", r"^SwapTotal:\s*(\d+)") or 0) * 1024
    swappiness = machine.whole("proc/sys/vm/swappiness")
    locked = "unknown" if not limit else limit[1] if not limit[1].isdigit() else f"{int(limit[1]) / 1e6:,.1f} MB"
    found = f"locked at most {locked}; swap {swap / 1e9:,.1f} GB" + f", swappiness {swappiness}" * bool(swap)
    if swap and (swappiness is None or swappiness > 10):
        return "warn", found, "sudo sysctl vm.swappiness=1, or sudo swapoff -a"
    return "ok", found, ""


def utc(machine: Machine) -> Verdict:
    do = "sudo timedatectl set-ntp true, or install chrony"
    said = machine.kernel_time()
    if said is None or not said[0]:
        if (machine.root / "run/systemd/timesync/synchronized").exists():
            return "ok", "synchronised by systemd-timesyncd; the kernel does not say how well", ""
        return "warn", "not synchronised" if said else "the kernel does not say whether it is synchronised", do
    found = f"synchronised; estimated error {said[1] / 1e3:,.3f} ms, at most {said[2] / 1e3:,.1f} ms"
    return ("warn", found, "chronyc tracking  # a nearer or better source") if said[1] > 10_000 else ("ok", found, "")


def tls(machine: Machine) -> Verdict:
    if library := machine.libssl():
        return "ok", library, ""
    return "warn", "no libssl found: Python's ssl serves, with the GIL, some 3,800 ns a message instead of 960", (
        "apt install libssl3 (or your system's OpenSSL 1.1 or later)")


def compiled(machine: Machine) -> Verdict:
    found = f"{build.COMPILER}, {build.SIMD or 'no SIMD'}{'' if build.OPTIMISED else ', not optimised'}"
    return "ok" if build.OPTIMISED else "warn", found, "" if build.OPTIMISED else (
        "pip install --force-reinstall mantra  # without -O0 in CFLAGS")


def python(machine: Machine) -> Verdict:
    found = f"{platform.python_implementation()} {platform.python_version()}"
    if machine.gil():
        return "ok", f"{found}, with the GIL", ""
    return "warn", f"{found}, free-threaded", "python3.13, not python3.13t: mantra's modules turn the GIL on again"


def kernel(machine: Machine) -> Verdict:
    release = machine.text("proc/sys/kernel/osrelease") or "unknown"
    version = tuple(int(part) for part in re.findall(r"\d+", release)[:2])
    found = f"Linux {release}, {platform.machine()}"
    if version and version < (5, 14):
        return "warn", found, "5.14 or later: shared memory is then faulted in when it is made, not at its first use"
    return "ok", found, ""


CHECKS: dict[str, tuple[Callable[[Machine], Verdict], str]] = {
    "cycle counter": (counter, "every message is stamped with it; the OS clock costs twice as much, twice a hop"),
    "cores": (cores, "whoever waits spins briefly; on one core that takes the time of whom it waits for"),
    "sharing": (sharing, "hyperthreads halve each other; between caches or nodes a message takes several times longer"),
    "governor": (governor, "a core that slows down while idle takes hundreds of microseconds to come back"),
    "isolation": (isolation, "on an isolated, tickless core nothing else is scheduled: the 99.9th percentile"),
    "CPU quota": (quota, "who has used it up stands still for the rest of the period, tens of milliseconds"),
    "virtualisation": (virtualisation, "time that the host gave to others is a pause in the middle of anything"),
    "huge pages": (huge_pages, "fewer TLB misses; but compaction on demand stops whoever allocates"),
    "shared memory": (shared_memory, "a run reserves its queues, vectors and books when it starts, or does not start"),
    "open files": (open_files, "every connection is one, every region of a run's owner is one"),
    "swap": (memory_lock, "shared memory that was paged out costs its next reader milliseconds"),
    "UTC": (utc, "stamps of venues and of other machines can be compared with ours only as well as this"),
    "TLS": (tls, "every real venue speaks it; without libssl each message needs the GIL"),
    "compiled core": (compiled, "what the hot path was built with"),
    "Python": (python, "mantra's threads leave the GIL to your code"),
    "kernel": (kernel, "shared memory, pidfd and futex calls differ by version"),
}


def examine(machine: Machine) -> Iterator[Check]:
    """Every check in turn."""
    for name, (check, why) in CHECKS.items():
        state, found, do = check(machine)
        yield Check(name, state, found, why, do)


MARKS = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "bold red")}


def show(checks: Sequence[Check], console: Console) -> None:
    """A line each; why it matters and what to do under those that are not right."""
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(width=1)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in checks:
        mark, style = MARKS[check.state]
        told = Text(check.found)
        if check.state != "ok":
            told.append(f"\n{check.why}", "dim")
        if check.do:
            told.append(f"\n→ {check.do}", "dim" if check.state == "ok" else "cyan")
        table.add_row(Text(mark, style), Text(check.name, style if check.state != "ok" else ""), told)
    console.print(table)
    counts = {state: sum(check.state == state for check in checks) for state in MARKS}
    console.print(f"\n{counts['ok']} ok, {counts['warn']} to better, {counts['fail']} that must change", style="bold")


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="mantra doctor", description="What of this machine is good and bad for mantra: what was "
                    "found, why it matters, what to do. Exit code 1 when something must change.")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line of standard output")
    options = parser.parse_args(argv)
    checks = list(examine(Machine()))
    failed = any(check.state == "fail" for check in checks)
    if options.json:
        print(json.dumps({"ok": not failed, "checks": [asdict(check) for check in checks]}))
    else:
        show(checks, Console(width=None if sys.stdout.isatty() else 160, highlight=False))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
