"""mantra doctor on machines that are not here: every root below is a faked one."""
from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from mantra.telemetry.doctor import CHECKS, Machine, examine, free_bytes, kernel_time, needed

CPU, HUGE = "sys/devices/system/cpu", "sys/kernel/mm/transparent_hugepage"
NODES = "sys/devices/system/node"
CLOCKSOURCE = "sys/devices/system/clocksource/clocksource0/current_clocksource"
GOOD_FLAGS = "fpu constant_tsc nonstop_tsc rdtscp avx2"
SERVER = {
    "proc/cpuinfo": f"processor\t: 0\nflags\t\t: {GOOD_FLAGS}\n\nprocessor\t: 1\nflags\t\t: {GOOD_FLAGS}\n",
    "proc/self/status": "Name:\tpython\nCpus_allowed:\tff\nCpus_allowed_list:\t0-7\n",
    "proc/self/cgroup": "0::/user.slice\n",
    "proc/self/limits": ("Limit   Soft Limit  Hard Limit  Units\nMax open files            65536   1048576    files\n"
                         "Max locked memory         unlimited   unlimited  bytes\n"),
    "proc/stat": "cpu  1000 0 100 9000 0 0 0 0 0 0\ncpu0 1 2 3 4\n",
    "proc/meminfo": "SwapTotal:              0 kB\nHugePages_Total:      16\n",
    "proc/sys/vm/swappiness": "60",
    "proc/sys/kernel/osrelease": "6.8.0-45-generic",
    CLOCKSOURCE: "tsc",
    f"{CPU}/online": "0-7", f"{CPU}/isolated": "6-7", f"{CPU}/nohz_full": "6-7",
    f"{CPU}/cpu0/cpufreq/scaling_governor": "performance", f"{CPU}/intel_pstate/no_turbo": "0",
    f"{CPU}/cpu0/cache/index2/level": "2", f"{CPU}/cpu0/cache/index2/type": "Unified",
    f"{CPU}/cpu0/cache/index2/shared_cpu_list": "0-1", f"{CPU}/cpu0/topology/thread_siblings_list": "0",
    f"{NODES}/node0/cpulist": "0-7",
    "sys/fs/cgroup/user.slice/cpu.max": "max 100000",
    f"{HUGE}/enabled": "always [madvise] never",
    f"{HUGE}/defrag": "always defer [madvise] never",
    f"{HUGE}/shmem_enabled": "always [advise] never",
    "sys/class/dmi/id/sys_vendor": "Dell Inc.",
}


def machine(root: Path, files: dict[str, str | None] = {}, **probes) -> Machine:  # noqa: B006
    """A good server with these files instead (None: not there), and these answers."""
    for name, text in (SERVER | files).items():
        if text is not None:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text + "\n")
    answers = {"free_bytes": lambda folder: 1 << 33, "kernel_time": lambda: (True, 20, 1500), "mhz": lambda: 3000.0,
               "libssl": lambda: "OpenSSL 3.0.19", "gil": lambda: True}
    return Machine(root, **(answers | probes))


def verdicts(examined: Machine):
    return {check.name: check for check in examine(examined)}


def test_nothing_is_wrong_with_a_good_server(tmp_path):
    checks = verdicts(machine(tmp_path))
    assert {name: check.found for name, check in checks.items() if check.state != "ok"} == {}
    assert checks["sharing"].found == "no hyperthreads; L2 0-1"
    assert "turbo on" in checks["governor"].found
    assert checks["isolation"].found == "isolated and tickless: 6-7"
    assert "0.020 ms" in checks["UTC"].found


BAD = [
    ("cycle counter", "warn", {"proc/cpuinfo": "flags\t: rdtscp constant_tsc"}, {}, "nonstop_tsc missing", "invtsc"),
    ("cycle counter", "warn", {CLOCKSOURCE: "hpet"}, {}, "clocksource hpet", "dmesg"),
    ("cores", "warn", {"proc/self/status": "Cpus_allowed_list:\t3"}, {}, "1 usable of 8 (3)", "taskset"),
    ("sharing", "warn", {"proc/self/status": "Cpus_allowed_list:\t0,4",
                         f"{CPU}/cpu0/topology/thread_siblings_list": "0,4"}, {}, "hyperthreads 0,4", "one physical"),
    ("sharing", "warn", {f"{NODES}/node0/cpulist": "0-3", f"{NODES}/node1/cpulist": "4-7"}, {},
     "2 NUMA nodes 0-3 4-7", "numactl"),
    ("governor", "warn", {f"{CPU}/cpu0/cpufreq/scaling_governor": "powersave"}, {}, "powersave, turbo on", "cpupower"),
    ("isolation", "warn", {f"{CPU}/nohz_full": "(null)"}, {}, "tickless only none", "nohz_full=6-7"),
    ("CPU quota", "warn", {"sys/fs/cgroup/user.slice/cpu.max": "150000 100000"}, {}, "1.5 cores", "docker"),
    ("CPU quota", "fail", {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "50000 100000"}, {}, "0.5", "docker"),
    ("CPU quota", "fail", {"proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/cpu.max": "1000 100000"}, {}, "0.01", "CPU"),
    ("CPU quota", "warn", {"proc/self/cgroup": "2:cpu,cpuacct:/x\n1:memory:/x", "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us":
                           "200000", "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000"}, {}, "2 cores", "docker"),
    ("virtualisation", "warn", {"proc/stat": "cpu  900 0 0 9000 0 0 0 100 0 0", ".dockerenv": "",
                                "proc/cpuinfo": f"flags\t: {GOOD_FLAGS} hypervisor"}, {}, "iner, 1.00 %", "dedicated"),
    ("huge pages", "warn", {f"{HUGE}/enabled": "[always] never", f"{HUGE}/defrag": "[always] never"}, {},
     "defrag always", "madvise"),
    ("shared memory", "fail", {}, {"free_bytes": lambda folder: 16 << 20}, "17 MB free", "--shm-size"),
    ("shared memory", "warn", {}, {"free_bytes": lambda folder: 64 << 20}, "67 MB free", "shm clean"),
    ("open files", "fail", {"proc/self/limits": "Max open files  64  64  files"}, {}, "64 (may be", "ulimit"),
    ("open files", "warn", {"proc/self/limits": "Max open files  1024  unlimited  files"}, {}, "unlimited", "ulimit"),
    ("swap", "warn", {"proc/meminfo": "SwapTotal:  2000000 kB"}, {}, "swap 2.0 GB, swappiness 60", "swapoff"),
    ("UTC", "warn", {}, {"kernel_time": lambda: (False, 16_000_000, 16_000_000)}, "not synchronised", "chrony"),
    ("UTC", "warn", {}, {"kernel_time": lambda: (True, 50_000, 90_000)}, "error 50.000 ms", "chronyc"),
    ("UTC", "warn", {}, {"kernel_time": lambda: None}, "does not say", "chrony"),
    ("TLS", "warn", {}, {"libssl": lambda: None}, "Python's ssl", "libssl"),
    ("Python", "warn", {}, {"gil": lambda: False}, "free-threaded", "GIL"),
    ("kernel", "warn", {"proc/sys/kernel/osrelease": "5.10.0-30-amd64"}, {}, "5.10", "5.14"),
]


@pytest.mark.parametrize(("name", "state", "files", "probes", "found", "do"), BAD)
def test_what_is_wrong_is_told_with_what_to_do(tmp_path, name, state, files, probes, found, do):
    checks = verdicts(machine(tmp_path, files, **probes))
    assert checks[name].state == state
    assert found in checks[name].found
    assert do in checks[name].do
    assert checks[name].why
    assert {other for other, check in checks.items() if check.state != "ok"} == {name}, "and nothing else is"


def test_an_arm_machine_has_an_architectural_counter(tmp_path):
    files = {"proc/cpuinfo": "processor : 0\nFeatures : fp asimd\n", CLOCKSOURCE: "arch_sys_counter",
             f"{CPU}/intel_pstate/no_turbo": None}
    checks = verdicts(machine(tmp_path, files))
    assert checks["cycle counter"].found.startswith("architectural")
    assert all(check.state == "ok" for check in checks.values())


def test_an_empty_machine_is_unknown_and_no_error(tmp_path):
    def gone(folder):
        raise OSError(errno.ENOENT, "No such file or directory")

    checks = verdicts(Machine(tmp_path, free_bytes=gone, kernel_time=lambda: None, libssl=lambda: None))
    assert len(checks) == len(CHECKS)
    assert {name for name, check in checks.items() if check.state == "fail"} == {"shared memory"}
    for name in SERVER:         # nor is a machine whose files hold anything else
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\xff:\x00 - ,:-9 [[\n")
    assert len(verdicts(machine(tmp_path, dict.fromkeys(SERVER)))) == len(CHECKS)


def test_this_machine_is_examined_and_the_exit_code_says_whether_something_failed():
    done = subprocess.run([sys.executable, "-m", "mantra", "doctor", "--json"], capture_output=True, text=True)
    said = json.loads(done.stdout.splitlines()[-1])
    assert [check["name"] for check in said["checks"]] == list(CHECKS)
    assert done.returncode == (not said["ok"]) == any(check["state"] == "fail" for check in said["checks"])
    assert free_bytes(Path("/")) > 0
    assert kernel_time() is None or kernel_time()[1] >= 0
    assert needed(2) < needed(3) < needed(3, instruments=4)
    shown = subprocess.run([sys.executable, "-m", "mantra", "doctor"], capture_output=True, text=True)
    assert all(name in shown.stdout for name in CHECKS)
