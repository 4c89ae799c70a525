"""door: `mantra archive VERB`: what was recorded, looked at, checked, mended, taken elsewhere."""
from __future__ import annotations

import sys
from collections.abc import Sequence

from mantra.runtime.options import through

VERBS = {
    "list": ("mantra.archive.look:list_main", "which file holds what, and what is missing"),
    "show": ("mantra.archive.look:show_main", "messages, or a book as it was at an instant"),
    "verify": ("mantra.archive.verify", "is everything there, and as it was written?"),
    "repair": ("mantra.archive.verify:repair", "write damaged and unfinished files anew"),
    "stats": ("mantra.archive.stats", "describe it: rates, bursts, levels, and draw it"),
    "export": ("mantra.archive.exports", "bring it to other programs: Parquet, CSV, hftbacktest"),
    "import": ("mantra.archive.imports", "bring other people's recordings in"),
}


def main(argv: Sequence[str] | None = None) -> int:
    return through("mantra archive", VERBS, sys.argv[1:] if argv is None else argv)
