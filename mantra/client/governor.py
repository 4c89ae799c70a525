"""governor: paces what is sent to a venue by the venue's own rules, and how soon one tries again after a failure.

A rule is a rolling window: at most `count` (of weight) in any `seconds`. Several may hold at once; what breaks any of
them waits. Windows roll exactly: every grant is remembered until it has left them.

A venue counts by address, not by program. So what was granted for an address stands in a file that all processes of the
user share, `pace/<boot>/<venue>.<kind>.<host>.<port>` in mantra's home: two runs share one pace, and a run that crashes
and starts again goes on where it was, as does a ban. One page of it:

    0        40                    4096             + 24 * 16384
    | header | who waits, in order | ring of grants |     grant: boot-time ns, weight of all until it, check
      magic, grants ever, blocked until, check of this and of the queue, how many wait

It is read and written under a kernel lock, which the death of its holder releases. It is not mapped: whoever cut a
mapped file short would kill its readers. A grant is written first and counted last, so that a process killed between
the two was granted nothing. Nothing read is believed without its check; a page that fails it is begun anew.

Who has to wait stands in a queue, so that all get their turn and a heavy request is not for ever overtaken by light
ones. A place in it is a lease of two seconds, renewed by asking again: the dead lose theirs.
"""
from __future__ import annotations

import contextlib
import copy
import fcntl
import logging
import mmap
import os
import random
import struct
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from mantra.core.clock import Clock
from mantra.venues.venue import Rate, Venue

log = logging.getLogger("mantra.governor")

KINDS = ("connect", "send", "rest")     # of what is paced: handshakes, frames, weights of requests
CAPACITY = 16384        # grants that a page remembers; when all are within a window the next one waits
MAGIC = 0x31454341504d    # "MPACE1"
HEADER = struct.Struct("<4QI4x")
WAITER = struct.Struct("<QQQ")      # turn, lease until, weight
GRANT = struct.Struct("<QQQ")
RING = 4096             # where it begins; what is before it is written at once, as a kill can not part a memory page
MOST_WAITING = (RING - HEADER.size) // WAITER.size
LEASE_NS = 2_000_000_000
ASK_AGAIN_S = 1.0       # at the latest, or the place in the queue is lost
BUSY_S = 0.005          # another process is at the page
# Messages sent evenly arrive unevenly: a real window is taken to be so much longer, at least by this share of itself.
SLACK_S, SLACK = 0.25, 0.02
FORGET_LOOPBACK_S, FORGET_S = 1800.0, 86400.0    # files of which nothing counts any more


class _Damaged(Exception):
    """A page does not say what we wrote."""


class _Memory:
    """The bytes of a page that this process keeps for itself."""

    path = "a page"

    def __init__(self) -> None:
        self._pages = mmap.mmap(-1, RING + CAPACITY * GRANT.size)      # zeros, and none of them resident yet

    def read(self, at: int, size: int) -> bytes:
        return self._pages[at:at + size]

    def write(self, at: int, data: bytes) -> None:
        self._pages[at:at + len(data)] = data

    def hold(self) -> bool:
        return True

    def release(self) -> None: ...


class _File:
    """The bytes of a page that processes share. OSError as the system has it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None

    def _open(self) -> int:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def read(self, at: int, size: int) -> bytes:
        assert self._file is not None       # held
        return os.pread(self._file, size, at)

    def write(self, at: int, data: bytes) -> None:
        assert self._file is not None
        os.pwrite(self._file, data, at)

    def hold(self) -> bool:
        """Take the lock; False when another process has it. Never blocks: that one may be stopped."""
        while True:
            if self._file is None:
                self._file = self._open()
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            if os.fstat(self._file).st_nlink:
                return True
            self.__del__()      # it was removed meanwhile: others share another one

    def release(self) -> None:
        if self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def __del__(self) -> None:
        if self._file is not None:
            os.close(self._file)
        self._file = None


class _Page:
    """What was granted of one kind at one address. Its methods take the time, in ns of one clock."""

    def __init__(self, rates: Sequence[Rate], slack_s: float, path: Path | None = None) -> None:
        late_s = [slack_s and max(slack_s, SLACK * rate.seconds) for rate in rates]
        self._rules = [(max(1, rate.count - rate.reserved), round((rate.seconds + late) * 1e9))
                       for rate, late in zip(rates, late_s, strict=True)]
        self._longest = max((span for _, span in self._rules), default=0)
        self._lock = threading.Lock()
        self._grants, self._blocked, self._last = 0, 0, (0, 0)      # what the page says, while the lock is held
        self._waiting: list[tuple[int, ...]] = []
        self._bytes = _Memory() if path is None else _File(path)

    @contextlib.contextmanager
    def _held(self, patience_s: float = 0.0) -> Iterator[bool]:
        """Alone at the page, unless another process still is there after `patience_s`: False."""
        with self._lock:
            until = time.monotonic() + patience_s
            while not (held := self._hold()) and time.monotonic() < until:
                time.sleep(BUSY_S)
            try:
                yield held
            finally:
                if held:
                    self._bytes.release()

    def _hold(self) -> bool:
        try:
            return self._bytes.hold()
        except OSError as error:
            log.warning("%s: %s; what other processes ask this venue is not counted", self._bytes.path, error.strerror)
            self._bytes = _Memory()
            return True

    def reserve(self, now: int, weight: int, turn: int) -> float:
        """Seconds to wait; 0.0: granted. `turn`: who asks, and gets a place in the queue if it must wait."""
        with self._held() as held:
            if not held:
                return BUSY_S
            self._read(now)
            place = next((at for at, waiter in enumerate(self._waiting) if waiter[0] == turn), len(self._waiting))
            ahead = sum(waiter[2] for waiter in self._waiting[:place])
            wait = self._wait(now, ahead, weight)
            waits = [(turn, now + LEASE_NS, weight)] if wait > 0 and place < MOST_WAITING else []
            self._waiting[place:place + 1] = waits
            if wait <= 0:
                self._spend(now, weight)
            self._write()
            return max(0.0, wait / 1e9)

    def peek(self, now: int, weight: int, spare: float) -> float:
        """Seconds that who asks now would wait."""
        with self._held() as held:
            if held:
                self._read(now)
            ahead = sum(waiter[2] for waiter in self._waiting) if held else 0
            return max(0, self._wait(now, ahead, weight, spare)) / 1e9 if held else 0.0

    def block(self, now: int, seconds: float) -> None:
        with self._held(1.0) as held:
            if held:
                self._read(now)
                self._blocked = max(self._blocked, now + round(seconds * 1e9))
                self._write()

    def leave(self, now: int, turn: int) -> None:
        """Who held `turn` has given up."""
        with self._held(0.1) as held:
            if held:
                self._read(now)
                self._waiting = [waiter for waiter in self._waiting if waiter[0] != turn]
                self._write()

    # With the lock held ----------------------------------------------------------------------------------------

    def _read(self, now: int) -> None:
        raw = self._bytes.read(0, RING)
        try:
            magic, self._grants, self._blocked, check, waiting = HEADER.unpack_from(raw)
            queue = raw[HEADER.size:HEADER.size + waiting * WAITER.size]
            if magic != MAGIC or check != self._check(self._grants, self._blocked, queue=queue):
                raise _Damaged
            self._waiting = [waiter for waiter in WAITER.iter_unpack(queue) if now < waiter[1] <= now + LEASE_NS]
            self._last = self._grant(self._grants) if self._grants else (0, 0)
            if self._last[0] > now + LEASE_NS:
                raise _Damaged      # of the future
        except (_Damaged, struct.error):
            self._begin_anew(raw)

    def _begin_anew(self, raw: bytes) -> None:
        if raw.strip(b"\0"):
            log.warning("%s is damaged and begun anew", self._bytes.path)
        self._grants, self._blocked, self._last, self._waiting = 0, 0, (0, 0), []

    @staticmethod
    def _check(*words: int, queue: bytes = b"") -> int:
        return zlib.crc32(struct.pack(f"<{len(words)}Q", *words) + queue) + 1    # never that of zeros

    def _write(self) -> None:
        queue = b"".join(WAITER.pack(*waiter) for waiter in self._waiting)
        check = self._check(self._grants, self._blocked, queue=queue)
        self._bytes.write(0, HEADER.pack(MAGIC, self._grants, self._blocked, check, len(self._waiting)) + queue)

    def _grant(self, number: int) -> tuple[int, int]:
        """When grant `number` was given, and the weight of all until it, itself included."""
        raw = self._bytes.read(RING + number % CAPACITY * GRANT.size, GRANT.size)
        at, total, check = GRANT.unpack(raw) if len(raw) == GRANT.size else (0, 0, 0)
        if check != self._check(number, at, total):
            raise _Damaged
        return at, total

    def _wait(self, now: int, ahead: int, weight: int, spare: float = 0.0) -> int:
        """ns until `weight` may be spent, when those `ahead` have spent theirs; `spare`: and leaves this share free."""
        wait, (last, total) = int(self._blocked - now), self._last
        try:
            for count, span in self._rules:
                count = max(1, int(count * (1.0 - spare)))
                # Heavier than a whole window: wait for an empty one, there will never be more.
                need = total + min(ahead + weight, count) - count
                if self._grants and last + span > now and need > 0:
                    wait = max(wait, self._reached(need) + span - now)
                if ahead and ahead + weight > count:
                    wait = max(wait, span * (ahead + weight - count) // count)
            if self._grants >= CAPACITY:
                wait = max(wait, self._grant(self._grants - CAPACITY + 1)[0] + self._longest - now)
        except _Damaged:
            self._begin_anew(b"!")
            wait = 0
        return wait

    def _reached(self, total: int) -> int:
        """When the grants had come to `total`."""
        low, high = max(1, self._grants - CAPACITY + 1), self._grants
        while low < high:
            middle = (low + high) // 2
            if self._grant(middle)[1] >= total:
                high = middle
            else:
                low = middle + 1
        return self._grant(high)[0]

    def _spend(self, now: int, weight: int) -> None:
        self._grants += 1
        now, total = max(now, self._last[0]), self._last[1] + weight
        self._bytes.write(RING + self._grants % CAPACITY * GRANT.size,
                          GRANT.pack(now, total, self._check(self._grants, now, total)))


class Governor:
    """Paces one venue. `Governor(clock, rates)` for those who share this object, or its `connection()`s;
    `Governor.of_machine` for all processes of this user. Thread-safe."""

    def __init__(self, clock: Clock, rates: Mapping[str, Sequence[Rate]], *, slack_s: float = 0.0,
                 paths: Mapping[str, Path] | None = None) -> None:
        self._clock = clock
        self._rates = rates
        self._slack_s = slack_s
        self._shared = bool(paths)
        self._pages = {kind: _Page(rates.get(kind, ()), slack_s, (paths or {}).get(kind)) for kind in KINDS}
        self._turn = _turn()

    @classmethod
    def of_machine(cls, clock: Clock, venue: Venue, home: Path) -> Governor:
        """The pace of `venue` at its address, kept below `home`. On a virtual clock it is nobody else's."""
        if clock.kind == "virtual":
            return cls(clock, venue.limits.rates)
        folder = home / "pace" / Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        _forget(folder.parent)
        paths = {}
        for kind, rules in venue.limits.rates.items():
            parts = urlsplit(venue.endpoints.rest if kind == "rest" else venue.endpoints.websocket)
            port = parts.port or (443 if parts.scheme in ("wss", "https") else 80)
            if rules and not _own(rules):
                paths[kind] = folder / f"{venue.name}.{kind}.{(parts.hostname or '').replace(':', '_')}.{port}"
        return cls(clock, venue.limits.rates, slack_s=SLACK_S, paths=paths)

    def connection(self) -> Governor:
        """For one connection: what the venue counts by connection is its own, the rest is shared with this governor."""
        own = copy.copy(self)
        own._turn = _turn()
        own._pages = self._pages | {
            kind: _Page(rules, self._slack_s) for kind, rules in self._rates.items() if _own(rules)}
        return own

    def _now(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) if self._shared else round(self._clock.seconds() * 1e9)

    def reserve(self, kind: str, weight: int = 1, *, turn: int = 0) -> float:
        """0.0: granted, and counted. Else nothing was counted, and this many seconds are to be waited first.

        Who waits has a place in the queue if it asks again within two seconds; a governor has one `turn` of a kind,
        several threads each need their own (`acquire` sees to it)."""
        return self._pages[kind].reserve(self._now(), weight, turn or self._turn)

    def acquire(self, kind: str, weight: int = 1, *, cancel: threading.Event) -> bool:
        """Wait until granted; False when `cancel` was set first."""
        turn = _turn()
        while not cancel.is_set():
            wait = self.reserve(kind, weight, turn=turn)
            if wait <= 0:
                return True
            # Less than a microsecond would not move a virtual clock, for ever.
            self._clock.wait(cancel, max(min(wait, ASK_AGAIN_S), 1e-6))
        self._pages[kind].leave(self._now(), turn)
        return False

    def peek(self, kind: str, weight: int = 1, *, spare: float = 0.0) -> float:
        """Seconds that a new request would wait, to leave the share `spare` of every window free; nothing is spent."""
        return self._pages[kind].peek(self._now(), weight, spare)

    def block(self, kind: str, seconds: float) -> None:
        """The venue said to wait (HTTP 429, 418, a ban): grant nothing of `kind` for `seconds`, to any process."""
        self._pages[kind].block(self._now(), seconds)


def _own(rules: Sequence[Rate]) -> bool:
    """Does the venue count by connection?"""
    return any(rate.per == "connection" for rate in rules)


def _turn() -> int:
    return random.getrandbits(64) | 1


def _forget(folder: Path) -> None:
    """Remove what no window reaches any more: ports of loopback above all, which no process will have again."""
    now = time.time()
    with contextlib.suppress(OSError):
        for path in folder.glob("*/*"):
            loopback = ".127." in path.name or ".localhost." in path.name or ".__1." in path.name
            if now - path.stat().st_mtime > (FORGET_LOOPBACK_S if loopback else FORGET_S):
                path.unlink(missing_ok=True)
        for boot in folder.iterdir():
            if now - boot.stat().st_mtime > FORGET_S:
                boot.rmdir()        # if nothing is left in it


class Backoff:
    """How long to wait before trying again: doubling from `first` to `longest` seconds, jittered so that many
    connections lost together do not come back together."""

    def __init__(self, seeded: random.Random, first: float = 0.25, longest: float = 30.0) -> None:
        self._random = seeded
        self._first = first
        self._longest = longest
        self._tries = 0

    def next(self) -> float:
        """Seconds: half to all of what doubling gives."""
        whole = min(self._longest, self._first * 2.0 ** min(self._tries, 32))
        self._tries += 1
        return whole * self._random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """It worked: the next failure is a first one."""
        self._tries = 0
