"""archive: every message kept, found again and played back. `mantra.archive.open(path)` reads one from Python."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mantra.archive.archive import Archive, Lost, Messages, moment, utc

__all__ = ["Archive", "Lost", "Messages", "moment", "open", "utc"]


def open(path: str | Path | Sequence[str | Path]) -> Archive:
    """The archive in a folder, a file, or several of these. ConfigurationError: there is none."""
    return Archive([path] if isinstance(path, (str, Path)) else path)
