"""Venues by name. `get("binance")` is the real one; other addresses come from `read_endpoints(file)`."""
from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from pathlib import Path

from mantra.errors import ConfigurationError
from mantra.venues.binance import Binance
from mantra.venues.bitfinex import Bitfinex
from mantra.venues.bitstamp import Bitstamp
from mantra.venues.coinbase import Coinbase
from mantra.venues.kraken import Kraken
from mantra.venues.okx import Okx
from mantra.venues.venue import Endpoints, Venue

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]

# A venue's id is its place here, for ever: recordings and world views hold it.
NAMES: tuple[str, ...] = ("binance", "bitstamp", "bitfinex", "coinbase", "kraken", "okx")
VENUES: Mapping[str, type[Venue]] = {
    venue.name: venue for venue in (Binance, Bitstamp, Bitfinex, Coinbase, Kraken, Okx)}


def get(name: str, endpoints: Endpoints | None = None) -> Venue:
    """The venue called `name`, at `endpoints` (None: the real one). ConfigurationError if mantra cannot speak to it."""
    venue = VENUES.get(name.lower())
    if venue is None:
        close = difflib.get_close_matches(name.lower(), VENUES, 1)
        hint = f"; did you mean {close[0]}?" if close else f"; it knows {', '.join(VENUES)}"
        raise ConfigurationError(f"mantra does not know the venue {name!r}{hint}")
    return venue(endpoints)


def read_endpoints(path: str | Path) -> dict[str, Endpoints]:
    """Addresses by venue from a TOML file: `[binance]` with `websocket`, `rest` and, optionally, `ca_file`."""
    path = Path(path)
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"cannot read the endpoints file {path}: {error}") from None
    return {name: _endpoints(path, name, table) for name, table in tables.items()}


def _endpoints(path: Path, name: str, table: object) -> Endpoints:
    def fail(what: str) -> ConfigurationError:
        return ConfigurationError(f"endpoints file {path}, [{name}]: {what}")

    if name not in NAMES:
        raise fail(f"no such venue; one of {', '.join(NAMES)}")
    if not isinstance(table, dict):
        raise fail("must be a table with websocket and rest")
    if unknown := set(table) - {"websocket", "rest", "ca_file", "api"}:
        raise fail(f"{min(unknown)!r} is not websocket, rest, ca_file or api")
    for key, schemes in (("websocket", ("ws://", "wss://")), ("rest", ("http://", "https://"))):
        if not str(table.get(key, "")).startswith(schemes):
            raise fail(f"{key} must be an address that starts with {' or '.join(schemes)}")
    ca_file = table.get("ca_file")
    if ca_file is not None and not (path.parent / ca_file).is_file():
        raise fail(f"ca_file {ca_file} does not exist")
    return Endpoints(table["websocket"].rstrip("/"), table["rest"].rstrip("/"),
                     None if ca_file is None else str(path.parent / ca_file), str(table.get("api", "")))
