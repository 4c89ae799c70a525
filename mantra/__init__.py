"""mantra: crypto market data and trading from Python, without Python on the hot path."""
from __future__ import annotations

from pathlib import Path

__version__ = "0.1.0"


def get_include() -> str:
    """Folder of mantra's C headers, for `include_dirs` when compiling a decoder or actor of one's own."""
    shipped = Path(__file__).parent / "include"
    return str(shipped if shipped.is_dir() else Path(__file__).parent.parent / "csrc")
