"""files: the segments that a capture leaves in one folder: their names, borders, retention, and a disk that is full.

    DIR/20261122T080000.000Z-mantra.mantra            names begin with their first moment, so they sort
    DIR/20261122T090000.000Z-mantra.mantra.part       in the making

Whatever the disk refuses ends the file that is being written, which keeps what it has; `why` says so until the next one
can be begun."""
from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mantra.core.clock import Clock
from mantra.errors import ArchiveError
from mantra.tape.segment import SegmentWriter

log = logging.getLogger("mantra.capture")

NANO = 10**9
FULL = (errno.ENOSPC, errno.EDQUOT)
FOR_BLOCKS = 0.95       # of the limit; the rest is for the index


def named(utc_ns: int, label: str) -> str:
    """What a file that begins then is called."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(utc_ns // NANO))
    return f"{stamp}.{utc_ns % NANO // 10**6:03}Z-{label}.mantra"


class Files:
    """Used by one thread; what it says of itself may be read by any.

    `limit`: bytes that the folder may hold, else it is as a full disk; `keep_bytes`, `keep_s`: the oldest files are
    removed when all are larger, or when they are older."""

    def __init__(self, folder: Path, label: str, clock: Clock, *, sync_s: float, limit: float | None = None,
                 keep_bytes: float | None = None, keep_s: float | None = None) -> None:
        self.folder, self._label, self._clock, self._sync_s = folder, label, clock, sync_s
        self._limit, self._keep_bytes, self._keep_s = limit, keep_bytes, keep_s
        self._writer: SegmentWriter | None = None
        self._ending: list[SegmentWriter] = []      # there was no room for their index yet
        self._there = 0                 # bytes of the folder, without those of the file being written
        self.path: Path | None = None
        self.why = "not begun"          # "": all is well
        self.full = False               # that is why: there may be room later
        self.files = self.blocks = self.stops = 0
        self._closed = 0                # bytes
        self._named = 0                 # UTC ns, as the newest file's name says

    @property
    def size(self) -> int:
        """Bytes of the file being written."""
        return 0 if (writer := self._writer) is None else writer.size

    @property
    def total(self) -> int:
        """Bytes of all files written here."""
        return self._closed + sum(writer.size for writer in list(self._ending)) + self.size

    def begin(self, table: Mapping[str, Any]) -> None:
        """Close the file being written, if any, and begin the next one with this table."""
        self.end()
        self._write(lambda: self._open(table), 0)

    def table(self, more: Mapping[str, Any]) -> bool:
        """Add to the file's table. False: it was not."""
        writer = self._writer
        return writer is not None and self._write(lambda: writer.table(more), 0)

    def block(self, stream: int, body: bytes, count: int, first_ns: int, last_ns: int) -> bool:
        """Write a block of `count` messages. False: it was not."""
        writer = self._writer
        done = writer is not None and self._write(
            lambda: writer.block(stream, body, count, first_ns, last_ns), len(body))
        self.blocks += done
        return done

    def end(self) -> None:
        """Close the file being written; and those that could not be closed before."""
        if self._writer is not None:
            self._ending.append(self._writer)
            self._writer = None
        with contextlib.suppress(OSError):
            while self._ending:
                self._ending[0].close()
                size = self._ending.pop(0).size
                self._closed += size
                self._there += size

    def leave(self) -> None:
        """For good: what cannot be closed stays as it is, without an index."""
        self.end()
        for writer in self._ending:
            writer.leave()

    def _open(self, table: Mapping[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._tidy()
        while True:
            self._named = now = max(self._clock.utc_ns(), self._named + 10**6)      # UTC may be set back: names sort
            self.path = self.folder / named(now, self._label)
            if not [*self.folder.glob(f"{self.path.name}*")]:       # another capture of this run began one, too
                break
        self._writer = SegmentWriter(self.path, table, sync_s=self._sync_s)
        self.files += 1

    def _write(self, write: Callable[[], object], size: int) -> bool:
        """Do it; False when the disk, or the limit, does not allow it."""
        try:
            if self._limit is not None and self._there + self.size + size > FOR_BLOCKS * self._limit:
                raise OSError(errno.EDQUOT, "the limit is reached")
            write()
        except (OSError, ArchiveError) as error:
            self.end()
            self.why, was = getattr(error, "strerror", None) or str(error), self.why
            self.full = isinstance(error, OSError) and error.errno in FULL
            if not was:
                self.stops += 1
                log.warning("nothing is written to %s: %s", self.folder, self.why)
            return False
        if self.stops and self.why:
            log.warning("writing to %s again", self.folder)
        self.why = ""
        if self._keep_bytes is not None and self._there + self.size > self._keep_bytes:
            self._tidy()
        return True

    def _tidy(self) -> None:
        """Remove the oldest files of those that are not to be kept, and count what is there."""
        files = {}
        for path in sorted(self.folder.glob("*.mantra*")):
            with contextlib.suppress(OSError):      # of another capture, which removed it meanwhile; or not ours
                if not _written(path):
                    files[path] = path.stat()
        self._there = sum(each.st_size for each in files.values())
        for path, each in files.items():
            old = self._keep_s is not None and time.time() - each.st_mtime > self._keep_s
            if old or (self._keep_bytes is not None and self._there + self.size > self._keep_bytes):
                try:
                    path.unlink(missing_ok=True)
                    self._there -= each.st_size
                except OSError as error:            # it costs room, and nothing else
                    log.warning("%s cannot be removed: %s", path, error.strerror)


def _written(path: Path) -> bool:
    """Has it a writer, this or another capture's, who lives?"""
    if path.suffix != ".part":
        return False
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
