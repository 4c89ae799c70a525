"""catalogue: which file of an archive holds which venue, instrument and time, how many messages, and which gaps.

The files themselves tell it; what whole ones say, which never change, is kept in `catalogue.json` beside them, so that
a look at thousands of files reads one.
"""
from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mantra.errors import ArchiveError
from mantra.tape.segment import BLOCK, Gap, Instrument, SegmentReader, Table, files

CACHE, VERSION = "catalogue.json", 1


@dataclass(frozen=True)
class Entry:
    """What is known of a file. `state`: whole, growing (it is being written), unfinished (its writer was killed),
    damaged or unreadable; `problems` say why."""

    path: Path
    bytes: int
    modified_ns: int
    state: str
    capture: str = ""
    first_ns: int = 0       # UTC of publishing, of the earliest and latest message; 0: it has none
    last_ns: int = 0
    streams: dict[str, list[int]] = field(default_factory=dict)     # messages, blocks and bytes of each
    held: list[list[Any]] = field(default_factory=list)             # [venue, id of the instrument, stream, messages]
    instruments: dict[int, Instrument] = field(default_factory=dict)    # those that it has messages of
    feeds: dict[int, str] = field(default_factory=dict)             # those that have gaps
    gaps: list[Gap] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def messages(self) -> int:
        return sum(stream[0] for stream in self.streams.values())

    @property
    def lost(self) -> int:
        return sum(gap.lost for gap in self.gaps)

    @property
    def venues(self) -> list[str]:
        return sorted({venue for venue, *_ in self.held})

    def named(self, instrument: int) -> str:
        """An instrument's name."""
        return self.instruments[instrument].name if instrument in self.instruments else str(instrument)

    def told(self) -> dict[str, Any]:
        """As JSON."""
        return vars(self) | {"path": self.path.name, "gaps": [gap._asdict() for gap in self.gaps],
                             "instruments": [row._asdict() for row in self.instruments.values()]}

    @staticmethod
    def of(folder: Path, told: Any) -> Entry:
        """What `told` gave, checked: it may have come with somebody else's files. ArchiveError."""
        table = Table()
        try:
            table.add({key: told[key] for key in ("capture", "feeds", "gaps", "instruments")})
            size, modified = int(told["bytes"]), int(told["modified_ns"])
            first, last = int(told["first_ns"]), int(told["last_ns"])
            streams = {str(name): [int(n) for n in counts] for name, counts in told["streams"].items()}
            held = [[str(venue), int(number), str(stream), int(n)] for venue, number, stream, n in told["held"]]
            if not all(map(str.isprintable, [*streams, *(str(each) for row in held for each in row)])):
                raise ValueError("text that cannot be printed")
            return Entry(folder / Path(told["path"]).name, size, modified, "whole", table.capture, first, last, streams,
                         held, table.instruments, table.feeds, sorted(table.gaps))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ArchiveError(f"no entry of a catalogue: {error!r}") from None


def look(path: Path) -> Entry:
    """What a file says of itself. OSError."""
    status = path.stat()
    try:
        with SegmentReader(path) as reader:
            return _entry(reader, status)
    except ArchiveError as error:
        return Entry(path, status.st_size, status.st_mtime_ns, "unreadable", problems=[str(error)])


def _entry(reader: SegmentReader, status: os.stat_result) -> Entry:
    table, growing, sources = reader.table, reader.growing, reader.sources()
    blocks = reader.rows[reader.rows["kind"] == BLOCK]
    names = {number: stream.name for number, stream in table.streams.items()}
    streams: dict[str, list[int]] = {}
    for number in np.unique(blocks["stream"]).tolist():
        of = blocks[blocks["stream"] == number]
        streams[names.get(number, str(number))] = [int(of["messages"].sum(dtype=np.int64)), len(of),
                                                   int(of["size"].sum(dtype=np.int64))]
    who = (sources["venue"].astype(np.int64) << 48 | sources["instrument"].astype(np.int64) << 16
           | reader.rows["stream"][sources["row"]])
    kinds, which = np.unique(who, return_inverse=True)
    counts = np.bincount(which, weights=sources["messages"], minlength=len(kinds)).astype(np.int64)
    held = [[table.venues.get(kind >> 48, str(kind >> 48)), kind >> 16 & 0xFFFF_FFFF,
             names.get(kind & 0xFFFF, str(kind & 0xFFFF)), count]
            for kind, count in zip(kinds.tolist(), counts.tolist(), strict=True)]
    problems = [f"{one.what}: {one.size:,} bytes at {one.offset:,}" for one in reader.problems]
    state = "growing" if growing else "damaged" if problems else "whole" if reader.whole else "unfinished"
    gaps = sorted(table.gaps)
    first_ns, last_ns = (int(blocks["first_ns"].min()), int(blocks["last_ns"].max())) if len(blocks) else (0, 0)
    return Entry(reader.path, status.st_size, status.st_mtime_ns, state, table.capture, first_ns, last_ns, streams,
                 held, {row[1]: table.instruments[row[1]] for row in held if row[1] in table.instruments},
                 {gap.feed: table.feeds.get(gap.feed, str(gap.feed)) for gap in gaps}, gaps, problems)


def closed(path: Path) -> Path:
    """What a file in the making is called once it is closed."""
    return path.with_name(path.name.removesuffix(".part"))


def catalogue(paths: Sequence[str | Path]) -> list[Entry]:
    """What is known of all files that `paths` stand for, by time. ConfigurationError: there are none."""
    entries: list[Entry] = []
    kept: dict[Path, dict[Path, Entry]] = {}
    fresh: set[Path] = set()
    for path in files(paths):
        if path.parent not in kept:
            kept[path.parent] = _kept(path.parent)
        cache = kept[path.parent]
        with contextlib.suppress(FileNotFoundError):        # it was removed since it was listed
            path = path if path.exists() else closed(path)
            status = path.stat()
            entry = cache.get(path)
            if entry is None or (entry.bytes, entry.modified_ns) != (status.st_size, status.st_mtime_ns):
                entry = look(path)
                fresh.add(path.parent)
                cache[path] = entry
            entries.append(entry)
    for folder in fresh:
        _keep(folder, kept[folder].values())
    return sorted(entries, key=lambda entry: (entry.first_ns, entry.path))


def _kept(folder: Path) -> dict[Path, Entry]:
    found: dict[Path, Entry] = {}
    with contextlib.suppress(OSError, ValueError, RecursionError, AttributeError, TypeError, ArchiveError):
        told = json.loads((folder / CACHE).read_bytes())
        if told.get("version") == VERSION:
            for each in told["files"]:
                entry = Entry.of(folder, each)
                found[entry.path] = entry
    return found


def _keep(folder: Path, entries: Iterable[Entry]) -> None:
    """Best effort: the folder may be somebody else's."""
    told = [entry.told() for entry in entries if entry.state == "whole" and entry.path.exists()]
    scratch = folder / f".{CACHE}.{os.getpid()}"
    with contextlib.suppress(OSError):
        scratch.write_text(json.dumps({"version": VERSION, "files": told}))
        scratch.replace(folder / CACHE)
