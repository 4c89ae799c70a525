"""settings: what a run is told, read once from a TOML file and the command line, and frozen.

    venues = ["binance", "bitstamp"]        # mantra.toml; every key is a field of Settings, an argument wins
    instruments = ["eth-btc"]
    mode = "top"
    [pin]
    binance = 1
"""
from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mantra.errors import ConfigurationError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]

Rule = tuple[str, Callable[[Any], bool]]        # words for the user, and the test


def one_of(*choices: str) -> Rule:
    return f"one of {', '.join(choices)}", lambda value: value in choices


def whole(least: int, most: int, *, optional: bool = False) -> Rule:
    return (f"a whole number from {least} to {most}", lambda value: (value is None and optional) or
            (isinstance(value, int) and not isinstance(value, bool) and least <= value <= most))


def _text(words: str, pattern: str) -> Rule:
    return words, lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _is_address(value: Any) -> bool:
    host, _, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    return bool(host) and port.isascii() and port.isdigit() and int(port) < 65536


def _names(words: str, least: int) -> Rule:
    return f"{words}, in a list or separated by commas", lambda value: isinstance(value, tuple) and len(
        value) >= least and all(isinstance(name, str) and name for name in value)


PATH: Rule = "a path", lambda value: value is None or isinstance(value, Path)

# What each field must be.
RULES: Mapping[str, Rule] = {
    "venues": _names("one or more names", 1),
    "instruments": _names("names", 0),
    "mode": one_of("book", "top", "orders"),
    "depth": whole(1, 10),
    "trades": ("true or false", lambda value: isinstance(value, bool)),
    "raw": ("true or false", lambda value: isinstance(value, bool)),
    "witness": ("true or false", lambda value: isinstance(value, bool)),
    "endpoints": PATH,
    "topology": _text("a name or a path ending in .toml", ".+"),
    # Shared-memory names begin with it.
    "run": _text("1 to 32 letters, digits, dots, hyphens or underscores, not starting with a dot",
                 "[A-Za-z0-9_-][A-Za-z0-9._-]{0,31}"),
    "grpc": ("HOST:PORT", _is_address),
    "reader": one_of("threads", "poller"),
    "per_connection": whole(1, 1024, optional=True),
    "pin": ("a table of actor = core number",
            lambda value: isinstance(value, Mapping) and all(map(whole(0, 2**31 - 1)[1], value.values()))),
    "least_trust": one_of("suspect", "unverified", "verified"),
    "seed": whole(0, 2**63 - 1),
    "home": PATH,
}


@dataclass(frozen=True)
class Settings:
    """One run's settings; ConfigurationError for a value that breaks its field's rule."""

    venues: tuple[str, ...] = ("binance", "bitstamp", "bitfinex", "coinbase", "kraken")
    instruments: tuple[str, ...] = ()           # as the user spells them; the venues' lists decide what they mean
    mode: str = "book"                          # book: diffs, whole depth; top: the first levels only
    depth: int = 10                             # levels a side that mode "top" reads
    trades: bool = True
    witness: bool = True    # books are checked against best bids and offers, where the venue has a stream of them
    raw: bool = False       # what every feed is told and says goes onto a tape, which a capture can keep
    endpoints: Path | None = None               # TOML of addresses; None: the real venues
    topology: str = "bbo"                       # a shipped wiring, or a TOML file of one's own
    run: str = "mantra"                         # shared memory is named after it
    grpc: str = "127.0.0.1:50051"
    reader: str = "threads"                     # threads: one per connection; poller: one for all
    per_connection: int | None = None           # instruments on one; None: as many as the venue allows
    pin: Mapping[str, int] = field(default_factory=dict)    # actor -> core
    least_trust: str = "unverified"             # books below it do not enter the world view
    seed: int = 0                               # of everything random: jitter, the simulated market
    home: Path | None = None                    # what outlives the run; None: $MANTRA_HOME and its defaults
    named: frozenset[str] = frozenset()         # fields the user gave: only a default may be moved when it is taken

    def __post_init__(self) -> None:
        for name, (rule, allows) in RULES.items():
            if not allows(value := getattr(self, name)):
                raise ConfigurationError(f"{name.replace('_', '-')} must be {rule}, not {_shown(value)}")
        object.__setattr__(self, "pin", MappingProxyType(dict(self.pin)))


def read(file: str | Path | None = None, **arguments: Any) -> Settings:
    """Settings from TOML `file`, then from `arguments` (None: not given). Paths in the file are relative to it."""
    given: dict[str, Any] = {}
    if file is not None:
        path = Path(file)
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"cannot read the settings {path}: {error}") from None
        given = {key.replace("-", "_"): _converted(key, value, path.parent) for key, value in table.items()}
    given |= {key: _converted(key, value, Path()) for key, value in arguments.items() if value is not None}
    for key in given:
        if key not in RULES:
            close = difflib.get_close_matches(key, RULES, 1)
            hint = f"; did you mean {close[0]}?" if close else f"; there are {', '.join(RULES)}"
            raise ConfigurationError(f"no setting is called {key!r}{hint}")
    return Settings(**given, named=frozenset(given))


def _converted(key: str, value: Any, folder: Path) -> Any:
    """TOML and command lines know neither tuples nor paths."""
    if key in ("venues", "instruments"):
        names = value.split(",") if isinstance(value, str) else value
        if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
            return tuple(dict.fromkeys(name.strip() for name in names))
    if key in ("endpoints", "home") and isinstance(value, str | Path):
        return folder / Path(value).expanduser()
    return value


def _shown(value: Any) -> str:
    return repr(",".join(map(str, value)) if isinstance(value, tuple) else value)

