"""faults: how a simulated venue misbehaves when asked to, and how often it did.

A specification is `name=value,...`: chances for each message or request, times between events, or a switch:

    drop duplicate reorder fragment   chance for each book or trade message of a connection
    checksum                          chance that a message's checksum is wrong, or a level altered that it covers
    skip                              chance that the venue's own counter jumps (where it has one): nothing was lost
    unacked                           chance that an acknowledgement is lost
    snapshot                          chance that a REST book is wrong (crossed, old, or without its top levels)
    refuse limit                      chance that a REST request is answered 503, or 429 with Retry-After
    block                             chance that a handshake is answered 451, as where a venue may not serve
    cut restart                       average seconds between cuts of a connection, restarts of the venue
    stall ban cross                   every 30 s on average, for so many seconds: silence on an open connection; this
                                      address is refused; a book of the venue is crossed, and stands still
    skew                              every 30 s on average the venue's clock jumps, to at most so many seconds off
    bytewise                          every frame leaves in one-byte writes
"""
from __future__ import annotations

import contextlib
import random
import re
from collections import Counter

from mantra.errors import ConfigurationError

CHANCES = ("drop", "duplicate", "reorder", "fragment", "checksum", "skip", "unacked", "snapshot", "refuse", "limit",
           "block")
TIMES = ("cut", "restart", "stall", "ban", "cross", "skew")
SWITCHES = ("bytewise",)
EVERY = 30.0            # seconds between two stalls, bans, crosses or jumps of the clock
_TIME = re.compile(r"([0-9]*\.?[0-9]+)(ms|s|m|h|)")
_UNITS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}


def seconds(text: str) -> float:
    """`500ms`, `30s`, `2m`, `1h` or a plain number of seconds."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise ConfigurationError(f"{text!r} is not a time: write 500ms, 30s, 2m or 1h")
    return float(match[1]) * _UNITS[match[2]]


def chance(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0.0 <= (value := float(text)) <= 1.0:
            return value
    raise ConfigurationError(f"{text!r} is not a chance: write a chance from 0 to 1, for example 0.001")


def parse(spec: str) -> dict[str, float]:
    """{fault: chance, seconds or 1.0} of a specification; ConfigurationError says what is not understood."""
    found: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in spec.split(","))):
        name, _, value = part.partition("=")
        try:
            if name in CHANCES:
                found[name] = chance(value)
            elif name in TIMES:
                found[name] = seconds(value)
            elif name in SWITCHES and value in ("", "0", "1"):
                found[name] = float(value or 1)
            else:
                raise ConfigurationError(f"choose from {', '.join(CHANCES + TIMES + SWITCHES)}")
        except ConfigurationError as error:
            raise ConfigurationError(f"fault {part!r}: {error}") from None
    return {name: value for name, value in found.items() if value}


class Faults:
    """The faults of one venue: `rates` all the time, `ordered` the next so many; `counts` what was done,
    `by_channel` how much of it to messages of which channel."""

    def __init__(self, spec: str = "", seed: str = "") -> None:
        self.rates = parse(spec)
        self.ordered: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.by_channel: dict[str, Counter[str]] = {}
        self.dice = random.Random(f"{seed}/faults")

    def hits(self, name: str, channel: str = "") -> bool:
        """Whether this fault strikes now, on this channel; counted when it does."""
        if self.ordered[name] > 0:
            self.ordered[name] -= 1
            self.ordered += Counter()           # forget what is used up
        elif not self.rates.get(name) or self.dice.random() >= self.rates[name]:
            return False
        self.count(name, channel)
        return True

    def count(self, name: str, channel: str) -> None:
        self.counts[name] += 1
        if channel:
            self.by_channel.setdefault(channel, Counter())[name] += 1

    def comes(self, name: str, elapsed: float) -> bool:
        """Whether an event that comes now and then (a `cut`, a `stall`) falls into these seconds."""
        between = self.rates.get(name, 0.0) if name in ("cut", "restart") else EVERY
        return bool(self.rates.get(name)) and self.dice.random() < elapsed / between

    @property
    def on_frames(self) -> bool:
        """Whether messages have to take the slow way through the faults at all."""
        return bool(self.ordered) or any(name in self.rates for name in (*CHANCES[:4], "bytewise"))
