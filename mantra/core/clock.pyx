"""clock: cycles, nanoseconds and UTC from one object, given at start and never fetched from the OS directly."""
import time
from pathlib import Path

from mantra.core.region import Region as _Region
from mantra.errors import RegionError

_LAYOUT = {"kind": "clock", "layout": "kind ns_per_cycle:8.56 now version baseline[4] states[2]: base_cycles "
           "base_utc_ns utc_per_cycle error_ns drift_ppb steps step_ns stepped_utc_ns", "fingerprint": 2,
           "slot_bytes": sizeof(mantra_clock), "capacity": 1}

cdef mantra_clock measured      # the rate is the machine's: measured once per process
cdef bint is_measured = False

KINDS = {MANTRA_CLOCK_CYCLES: "cycles", MANTRA_CLOCK_OS: "os", MANTRA_CLOCK_VIRTUAL: "virtual"}


def _kernel_distrusts_counter() -> bool:
    """Did the kernel throw the counter out? It watches it against other clocks and knows of broken ones."""
    source = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    try:
        return source.read_text().strip() in ("hpet", "acpi_pm", "jiffies", "refined-jiffies")
    except OSError:
        return False


cdef class Clock:
    """The machine's clock: cycles of the CPU's counter, or of the OS where that is not invariant (`kind` says which).

    `source`: "auto", "cycles" or "os". The first one made in a process measures the counter's rate for 20 ms."""

    def __cinit__(self, str source = "auto"):
        global measured, is_measured
        self.clock, self.published, self.writable = &self.page, [], True
        if source not in ("auto", "cycles", "os"):
            raise ValueError(f"clock source {source!r} is not one of auto, cycles, os")
        if source == "cycles" and not mantra_cycles_invariant():
            raise ValueError("this CPU's cycle counter is not invariant: use source='os'")
        if source == "os" or (source == "auto" and (not mantra_cycles_invariant() or _kernel_distrusts_counter())):
            mantra_clock_start(&self.page, MANTRA_CLOCK_OS, 0)
            return
        if not is_measured:
            with nogil:
                mantra_clock_start(&self.page, MANTRA_CLOCK_CYCLES, 20_000_000)
            measured, is_measured = self.page, True
        self.page = measured
        mantra_clock_steer(&self.page)
        mantra_clock_begin(&self.page)

    @staticmethod
    def virtual(int64_t utc_ns) -> Clock:
        """A clock that stands at `utc_ns` until `advance`, `advance_to`, `sleep` or `wait` move it. A cycle is a ns."""
        cdef Clock clock = Clock("os")
        mantra_clock_start_virtual(clock.clock, utc_ns)
        return clock

    def publish(self, str name not None) -> Clock:
        """Move the page into shared memory, for other processes to `open`; give it up with `close`. Returns itself.

        Do this before handing the clock to compiled code, which keeps the page's address. RegionError."""
        cdef Region region
        if self.region is not None:
            raise RegionError(f"this clock is published already, as {self.region.name!r}")
        region = _Region.create(name, sizeof(mantra_clock), first=(<char *>self.clock)[:sizeof(mantra_clock)], **_LAYOUT)
        self.clock, self.region = <mantra_clock *>region.payload(), region
        self.published.append(region)
        return self

    @staticmethod
    def open(str name not None) -> Clock:
        """Read another process's clock. RegionError: there is none; LayoutMismatch."""
        cdef Clock self = Clock.__new__(Clock, "os")
        cdef Region region = _Region.open(name, kind=_LAYOUT["kind"], fingerprint=_LAYOUT["fingerprint"])
        self.clock, self.region, self.writable = <mantra_clock *>region.payload(), region, False
        return self

    def close(self) -> None:
        """Give up the name, if this process published it; the clock runs on."""
        if self.region is not None and self.writable:
            self.region.close()
            self.region = None

    cdef int must_be_writable(self) except -1:
        if not self.writable:
            raise RegionError(f"clock {self.region.name!r} belongs to another process: only that one moves it")
        return 0

    @property
    def kind(self) -> str:
        """"cycles" (the CPU's counter), "os" (the OS clock: half as dear again) or "virtual"."""
        return KINDS[self.clock.kind]

    def cycles(self) -> int:
        """Now, in cycles."""
        return mantra_clock_cycles(self.clock)

    def utc_ns(self) -> int:
        """Now, in UTC nanoseconds. It follows the OS's clock, so it can step back when that does."""
        return mantra_clock_utc_ns(self.clock, mantra_clock_cycles(self.clock))

    def seconds(self) -> float:
        """Since some moment in the past; what waits and paces counts in these, as UTC may be set back."""
        return (self.cycles() if self.clock.kind == MANTRA_CLOCK_VIRTUAL else mantra_monotonic_ns()) / 1e9

    def ns(self, uint64_t span) -> int:
        """Nanoseconds in a span of cycles."""
        return mantra_clock_ns(self.clock, span)

    def to_utc(self, uint64_t cycles) -> int:
        """UTC nanoseconds of a stamp in cycles."""
        return mantra_clock_utc_ns(self.clock, cycles)

    @property
    def mhz(self) -> float:
        """Cycles per microsecond."""
        return 1e15 / mantra_clock_ns(self.clock, 1_000_000_000_000)

    @property
    def drift_ppb(self) -> int:
        """How the OS's UTC ran against this clock's spans over the last second, in parts per billion."""
        return mantra_clock_look(self.clock).drift_ppb

    @property
    def error_ns(self) -> int:
        """UTC of now is the OS's to plus or minus this: what reading two clocks leaves open, and 500 ppm of the time
        since the last steering, as the OS may slew so fast. What moves further is a step."""
        return mantra_clock_error_ns(self.clock, mantra_clock_cycles(self.clock))

    @property
    def steps(self) -> int:
        """How often the OS's UTC was set since this clock began, rather than slewed."""
        return mantra_clock_look(self.clock).steps

    @property
    def last_step(self) -> tuple[int, int] | None:
        """(nanoseconds forth, or back if below zero; UTC nanoseconds when it was seen) of the last step; None: none."""
        cdef mantra_clock_state state = mantra_clock_look(self.clock)
        return (state.step_ns, state.stepped_utc_ns) if state.steps else None

    def steer(self) -> int:
        """Keep up with the OS's clocks, UTC and the rate: once a second, from one thread of the page's owner.

        Returns by how many nanoseconds UTC was behind. Virtual clocks stay where they are."""
        self.must_be_writable()
        return mantra_clock_steer(self.clock)

    def advance(self, int64_t ns) -> None:
        """Move a virtual clock on by `ns`; ValueError on any other, or backwards."""
        self.advance_to(self.utc_ns() + ns)

    def advance_to(self, int64_t utc_ns) -> None:
        """Move a virtual clock to `utc_ns`, unless it is later already; ValueError on any other."""
        if self.clock.kind != MANTRA_CLOCK_VIRTUAL:
            raise ValueError("only a virtual clock can be moved")
        self.must_be_writable()
        mantra_clock_advance_to(self.clock, utc_ns)

    def sleep(self, seconds: float) -> None:
        """Sleep without the GIL; a virtual clock moves to the end of the sleep instead, at once.

        So two threads that each sleep a second from the same moment find it one second later, not two."""
        if self.clock.kind == MANTRA_CLOCK_VIRTUAL:
            self.advance(<int64_t>(max(seconds, 0) * 1e9))
        else:
            time.sleep(max(seconds, 0))

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Sleep until `event` (threading.Event) is set, `seconds` at most; is it set?"""
        if self.clock.kind == MANTRA_CLOCK_VIRTUAL:
            if not event.is_set():
                self.sleep(seconds)
            return event.is_set()
        return event.wait(max(seconds, 0))

    def __repr__(self) -> str:
        return f"Clock({self.kind}, {self.mhz:.3f} MHz, drift {self.drift_ppb} ppb, UTC +-{self.error_ns} ns)"
