"""mantra: crypto market data and trading from Python, without Python on the hot path.

    import mantra

    with mantra.start(["binance", "bitstamp"], ["ETH-BTC"]) as system:      # feeds in this process
        for top in system.read("tops", timeout=10):
            print(top.venue, top.bids[0], top.asks[0])

    with mantra.play("recordings", speed=10) as played:                    # what was captured, through the same queues
        for top in played.read("tops"):
            print(played.time_ns, top.bids[0])

    with mantra.attach() as run:                                            # or read a run of another process
        print(run.book("binance", "ETHBTC").bids(10))

    mantra.archive.open("recordings").trades("binance").array()             # or what was recorded
"""
from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mantra import archive as archive
    from mantra.runtime.spine import Spine
    from mantra.topologies.playback import Playback
    from mantra.topologies.system import System

__version__ = "0.1.0"
__all__ = ["archive", "attach", "get_include", "play", "start"]


def __getattr__(name: str) -> Any:
    if name == "archive":       # who only runs feeds does not wait for it
        return import_module("mantra.archive")
    raise AttributeError(f"module 'mantra' has no attribute {name!r}")


def start(*arguments: Any, **options: Any) -> System:
    """Start feeds in this process; see mantra.topologies.system.start."""
    from mantra.topologies.system import start

    return start(*arguments, **options)


def play(*arguments: Any, **options: Any) -> Playback:
    """Play what was captured; see mantra.topologies.playback.play."""
    from mantra.topologies.playback import play

    return play(*arguments, **options)


def attach(run: str | None = None) -> Spine:
    """Read a running system, this or another process's: `run` by name, or the only one there is."""
    from mantra.runtime.spine import Spine

    return Spine.attach(run)


def get_include() -> str:
    """Folder of mantra's C headers, for `include_dirs` when compiling a decoder or actor of one's own."""
    shipped = Path(__file__).parent / "include"
    return str(shipped if shipped.is_dir() else Path(__file__).parent.parent / "csrc")
