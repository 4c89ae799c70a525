"""instrument: one name and one scale per instrument, alike for all venues; which listing a user means.

Names are BASE-QUOTE in capitals. A scale is two counts of decimals; integers on it are ticks and lots. Scales are kept
in an append-only table on disk, so that they are known before any venue answers and mean the same in every recording:

    # mantra instruments 1
    # id name generation price_decimals size_decimals
    1 ETH-BTC 0 8 8
    2 SHIB-USDT 0 8 5

A row is never changed. Text that does not fit a scale opens the instrument's next generation: a new row, a new id.

How many decimals: as many as the finest venue's increment needs, and otherwise eight, which is what venues print, but
so few that the largest plausible value still has room in the 18 digits of an int64. Increment comes before room: text
finer than the scale would be certain, an overflow is only possible, and both are counted and open a new generation.
"""
from __future__ import annotations

import contextlib
import difflib
import fcntl
import fnmatch
import json
import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import BinaryIO

from mantra.errors import ConfigurationError, UnknownSymbol
from mantra.venues.venue import Listing, Venue

USUAL_DECIMALS = 8
DIGITS = 18             # any number of so many digits fits an int64
MARGIN = 2              # digits above the largest value known: a level sums many orders
NAME_BYTES = 31         # mantra_instrument.name, which ends with a NUL
VERSION = "# mantra instruments 1\n"
HEADER = VERSION + "# id name generation price_decimals size_decimals\n"


def home() -> Path:
    """Where mantra keeps what outlives a run: $MANTRA_HOME, else $XDG_DATA_HOME/mantra, else ~/.local/share/mantra."""
    if chosen := os.environ.get("MANTRA_HOME"):
        return Path(chosen)
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "mantra"


# -- scales ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Instrument:
    """A scale generation of an instrument; a new generation is a new id."""

    id: int
    name: str
    generation: int
    price_decimals: int
    size_decimals: int


@dataclass
class Digits:
    """How many digits the numbers of one kind have, before and after the point."""

    whole: int = 1
    fraction: int = 0

    def see(self, text: str, margin: int = 0) -> None:
        """What is no number, or one that no scale holds, is passed over: a scale for it would hold nothing else."""
        try:
            number = Decimal(text or 0).normalize()
            if not number.is_finite() or not number:
                return
        except ArithmeticError:
            return
        whole, fraction = number.adjusted() + 1, -int(number.as_tuple().exponent)
        if max(whole, 0) + max(fraction, 0) <= DIGITS:
            self.whole = max(self.whole, whole + margin)
            self.fraction = max(self.fraction, fraction)

    def decimals(self, usual: int = USUAL_DECIMALS) -> int:
        return max(self.fraction, min(usual, max(0, DIGITS - self.whole)))


def listed_scale(listings: Iterable[Listing]) -> tuple[int, int]:
    """(price_decimals, size_decimals) for these listings of one instrument, by the rule above.

    Where a venue names no largest order, a size is taken to stay below 10**6 / tick: a price is rarely below a thousand
    ticks, and no level is worth more than 10**9 of any quote currency.
    """
    price, size = Digits(), Digits()
    for listing in listings:
        price.see(listing.tick)
        size.see(listing.lot)
        if listing.max_size:
            size.see(listing.max_size, MARGIN)
        elif listing.tick:
            size.whole = max(size.whole, 7 - Decimal(listing.tick).adjusted())
    return price.decimals(), size.decimals()


@dataclass
class ObservedScale:
    """The scale of numbers actually met, for recordings without an instrument list and for a new generation."""

    price: Digits = field(default_factory=Digits)
    size: Digits = field(default_factory=Digits)

    def level(self, price: str, size: str) -> None:
        self.price.see(price, MARGIN)
        self.size.see(size, MARGIN)

    def scale(self) -> tuple[int, int]:
        return self.price.decimals(), self.size.decimals()


class InstrumentTable:
    """The table of scales. `InstrumentTable()` is in memory only; `InstrumentTable.open()` is the one on disk, which
    several processes may use at once (each append happens under a file lock, after reading what others appended)."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._rows: list[Instrument] = []
        self._newest: dict[str, Instrument] = {}
        self._file: BinaryIO | None = None      # while rows are appended
        self._lock = threading.RLock()

    @classmethod
    def open(cls, path: str | Path | None = None) -> InstrumentTable:
        """The table in file `path`, default `home()/instruments.txt`; made when the first row is."""
        file = Path(path) if path is not None else home() / "instruments.txt"
        table = cls(file)
        with table._reaching_it(), contextlib.suppress(FileNotFoundError):
            table._parse(file.read_bytes())
        return table

    def __iter__(self) -> Iterator[Instrument]:
        return iter(tuple(self._rows))

    def __len__(self) -> int:
        return len(self._rows)

    def find(self, name: str) -> Instrument | None:
        """The newest generation of `name`."""
        return self._newest.get(name)

    def scale_for(self, name: str, price_decimals: int, size_decimals: int) -> Instrument:
        """The newest generation of `name` whatever its scale; made with these decimals if there is none."""
        return self._append(name, price_decimals, size_decimals, None)

    def next_generation(self, name: str, price_decimals: int, size_decimals: int) -> Instrument:
        """A new generation with these decimals, unless another process has just made one exactly so."""
        return self._append(name, price_decimals, size_decimals, self.find(name))

    def for_listings(self, listings: Sequence[Listing]) -> Instrument:
        """The instrument of these listings (all of one name, one or more): its newest generation, or a new one when a
        venue's own increments are finer than that generation's scale."""
        name, (price, size) = listings[0].name, listed_scale(listings)
        found, steps = self.scale_for(name, price, size), ObservedScale()
        for listing in listings:
            steps.level(listing.tick, listing.lot)
        finer_tick, finer_lot = steps.price.fraction > found.price_decimals, steps.size.fraction > found.size_decimals
        if not (finer_tick or finer_lot):
            return found
        return self.next_generation(name, price if finer_tick else found.price_decimals,
                                    size if finer_lot else found.size_decimals)

    def _append(self, name: str, price: int, size: int, known: Instrument | None) -> Instrument:
        if not 0 < len(name.encode()) <= NAME_BYTES or name != "".join(name.split()):
            raise ConfigurationError(f"an instrument's name is 1 to {NAME_BYTES} bytes without spaces, not {name!r}")
        if not (0 <= price <= DIGITS and 0 <= size <= DIGITS):
            raise ConfigurationError(f"{name}: {price} and {size} decimals do not fit 64-bit ticks and lots")
        with self.together():
            row, new = self._newest_or_new(name, price, size, known)
            if new and self._file is not None:
                header = HEADER if self._file.seek(0, os.SEEK_END) == 0 else ""
                self._file.write((header + " ".join(map(str, astuple(row))) + "\n").encode())
            return row

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """For many rows in a `with` block: one lock, one look at what others appended, one wait for the disk."""
        if self.path is None:
            yield
            return
        with self._lock, self._reaching_it():
            if self._file is not None:
                yield
                return
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.seek(0)
                whole = self._parse(file.read())
                file.truncate(whole)                    # the last writer may have died within its row
                self._file = file
                try:
                    yield
                finally:
                    self._file = None
                    file.flush()
                    if file.tell() != whole:
                        os.fsync(file.fileno())

    def _newest_or_new(self, name: str, price: int, size: int, known: Instrument | None) -> tuple[Instrument, bool]:
        newest = self.find(name)
        made_meanwhile = newest and newest != known and (newest.price_decimals, newest.size_decimals) == (price, size)
        if newest and (known is None or made_meanwhile):
            return newest, False
        row = Instrument(len(self._rows) + 1, name, newest.generation + 1 if newest else 0, price, size)
        self._rows.append(row)
        self._newest[name] = row
        return row, True

    @contextlib.contextmanager
    def _reaching_it(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ConfigurationError(f"cannot keep the instrument table {self.path}: {error.strerror}; "
                                     "set MANTRA_HOME to a folder that can be written") from None

    def _parse(self, text: bytes) -> int:
        """Take the rows of a table; how many bytes of it are whole lines."""
        text = text[:text.rfind(b"\n") + 1]
        if text and not text.startswith(VERSION.encode()):
            raise ConfigurationError(f"{self.path}: not a table of instruments of this version ({VERSION.strip()})")
        rows: list[Instrument] = []
        for number, line in enumerate(text.decode("utf-8", "replace").splitlines(), 1):
            if line.startswith("#"):
                continue
            try:
                id_, name, *counts = line.split(" ")
                rows.append(Instrument(int(id_), name, *map(int, counts)))
                if rows[-1].id != len(rows):
                    raise ValueError
            except (ValueError, TypeError):
                raise ConfigurationError(f"{self.path}:{number}: not a row of instruments: {line!r}") from None
        self._rows, self._newest = rows, {row.name: row for row in rows}
        return len(text)


# -- names -----------------------------------------------------------------------------------------------------------


def resolve(wanted: str, listings: Sequence[Listing], venue: str = "") -> Listing:
    """The tradable listing that `wanted` names (ethbtc, ETH-BTC, eth/btc, or the venue's own symbol, in any case).

    UnknownSymbol otherwise, with what the venue does list: another quote currency is another instrument, so it is
    suggested and never taken instead.
    """
    venue = venue or (listings[0].venue if listings else "the venue")
    plain, pair = _plain(wanted), _pair(wanted)
    if pair:
        found = [row for row in listings if (row.base, row.quote) == pair]
    else:
        found = [row for row in listings if row.base + row.quote == plain]
        found = found or [row for row in listings if _plain(row.symbol) == plain]   # several names may share a symbol
    trading = [row for row in found if row.tradable]
    if len(trading) == 1:
        return trading[0]
    if trading:
        names = " or ".join(row.name for row in trading)
        raise UnknownSymbol(f"{wanted} is ambiguous at {venue}: write {names}")
    if found:
        raise UnknownSymbol(f"{venue} lists {found[0].name} but does not trade it now (status {found[0].status})")
    close = suggestions(wanted, listings)
    hint = f"; it lists {', '.join(close)}" if close else ""
    raise UnknownSymbol(f"{venue} does not list {wanted}{hint}")


def resolve_all(wanted: str, listings: Mapping[str, Sequence[Listing]]) -> dict[str, Listing]:
    """`resolve` at every venue; UnknownSymbol in one line when any does not list it, or when they mean two things."""
    found: dict[str, Listing] = {}
    refusals: list[str] = []
    for venue, rows in listings.items():
        try:
            found[venue] = resolve(wanted, rows, venue)
        except UnknownSymbol as error:
            refusals.append(str(error))
    if refusals:
        raise UnknownSymbol("; ".join(refusals))
    if len({row.name for row in found.values()}) > 1:
        means = ", ".join(f"{row.name} at {venue}" for venue, row in found.items())
        raise UnknownSymbol(f"{wanted} means {means}: write the name with a hyphen")
    return found


def is_pattern(wanted: str) -> bool:
    """Does it name whatever fits ("all", "*-usdt") rather than one instrument?"""
    return wanted.lower() == "all" or any(letter in wanted for letter in "*?[")


def matching(pattern: str, listings: Iterable[Listing]) -> list[Listing]:
    """Those whose name or symbol fits `pattern`, in any case: "all", a glob, or a part of it."""
    glob = re.sub("[/_:]", "-", pattern.strip().upper())
    glob = "*" if glob in ("ALL", "") else glob if is_pattern(glob) else f"*{glob}*"
    fits = re.compile(fnmatch.translate(glob)).match
    return [row for row in listings if fits(row.name) or fits(row.symbol.upper()) or fits(_plain(row.name))]


def choose(wanted: Sequence[str], listings: Mapping[str, Sequence[Listing]]) -> list[dict[str, Listing]]:
    """The listings, by venue, of each instrument that `wanted` names. A name must be listed at every venue; a pattern
    means what is traded, wherever it is, and each of a venue's books once. UnknownSymbol in one line."""
    chosen: dict[str, dict[str, Listing]] = {}
    taken: dict[tuple[str, str], str] = {}      # the name under which a venue's book is chosen
    for name in wanted:
        if not is_pattern(name):
            found = resolve_all(name, listings)
            for venue, row in found.items():
                if (other := taken.setdefault((venue, row.symbol), row.name)) != row.name:
                    raise ConfigurationError(f"{other} and {row.name} are one book at {venue}: ask for one of them")
            chosen.setdefault(next(iter(found.values())).name, {}).update(found)
            continue
        fits = [(venue, row) for venue, rows in listings.items() for row in matching(name, rows)
                if row.tradable and len(row.name.encode()) <= NAME_BYTES]
        if not fits:
            raise UnknownSymbol(f"nothing that fits {name} is traded at {', '.join(listings)}")
        for venue, row in fits:
            if taken.setdefault((venue, row.symbol), row.name) == row.name:
                chosen.setdefault(row.name, {}).setdefault(venue, row)
    return list(chosen.values())


def suggestions(wanted: str, listings: Sequence[Listing], most: int = 3) -> list[str]:
    """Names a user may have meant, best first: the same base in the nearest quote currencies, then alike spellings."""
    trading = [row for row in listings if row.tradable]
    plain = _plain(wanted)
    known = (row.base for row in trading if plain.startswith(row.base))
    base, quote = _pair(wanted) or ((longest := max(known, key=len, default="")), plain[len(longest):])
    same_base = sorted((row for row in trading if row.base == base), key=lambda row: _distance(quote, row.quote))
    names = [row.name for row in same_base[:most]]
    by_plain = {_plain(row.name): row.name for row in trading}
    names += [by_plain[close] for close in difflib.get_close_matches(plain, by_plain, most, 0.7)]
    return list(dict.fromkeys(names))[:most]


def _distance(wanted: str, quote: str) -> tuple[bool, float, str]:
    kin = quote.startswith(wanted) or wanted.startswith(quote)      # USD and USDT rather than USD and BUSD
    return not kin, -difflib.SequenceMatcher(None, wanted, quote).ratio(), quote


def _pair(name: str) -> tuple[str, str] | None:
    parts = [part for part in re.split(r"[-/_:]", name.strip().upper()) if part]
    return (parts[0], parts[1]) if len(parts) == 2 else None


def _plain(name: str) -> str:
    return re.sub(r"[-/_:\s]", "", name).upper()


# -- listings on disk, for when the venue cannot be asked ------------------------------------------------------------


def save_listings(venue: Venue, listings: Sequence[Listing], folder: Path | None = None) -> None:
    """Keep the real venue's list; that of any other endpoint (simulated, test network) would mislead and is not."""
    if venue.endpoints.rest != venue.home.rest:
        return
    path = _listings_path(venue, folder)
    with contextlib.suppress(OSError):      # a convenience: a home that cannot be written must not stop a run
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(f".{os.getpid()}")
        scratch.write_text("".join(json.dumps(asdict(row)) + "\n" for row in listings), encoding="utf-8")
        scratch.replace(path)               # readers see the old list or the new one


def load_listings(venue: Venue, folder: Path | None = None) -> tuple[list[Listing], float]:
    """What `save_listings` kept and when (UTC seconds); ([], 0) where there is nothing usable."""
    if venue.endpoints.rest != venue.home.rest:
        return [], 0.0
    path = _listings_path(venue, folder)
    try:
        with path.open(encoding="utf-8") as file:
            return [Listing(**json.loads(line)) for line in file], path.stat().st_mtime
    except (OSError, ValueError, TypeError):
        return [], 0.0


def _listings_path(venue: Venue, folder: Path | None) -> Path:
    return (folder or home()) / "listings" / f"{venue.name}.jsonl"
