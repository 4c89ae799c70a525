"""door: `mantra client` prints what a service streams."""
from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from mantra.errors import Closed, MantraError
from mantra.service import mantra_pb2
from mantra.service.grpc_client import Stream, Summaries, Worlds

DEFAULT = "127.0.0.1:50051"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="mantra client", description="Print what a running mantra serves over gRPC, a line a state.")
    parser.add_argument("--address", default=DEFAULT, metavar="HOST:PORT", help="of the service (%(default)s)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--v1", action="store_true", help="mantra.v1.MarketData/Worlds (default)")
    which.add_argument("--compatible", action="store_true",
                       help="orderbook.OrderbookAggregator/BookSummary: the run's first instrument")
    parser.add_argument("--instrument", default="", metavar="NAME", help="btc-usd; default: the run's first")
    parser.add_argument("--view", choices=("best", "liquidity"), default="best", help="%(default)s")
    parser.add_argument("--depth", type=int, default=0, metavar="N", help="levels a side, 1 to 10")
    parser.add_argument("--rate", type=float, default=0.0, metavar="N", help="states a second at most")
    parser.add_argument("--levels", action="store_true", help="print every level, not only the best")
    parser.add_argument("--duration", type=float, metavar="SECONDS", help="end after that long; default: Ctrl-C")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end instead of the states")
    options = parser.parse_args(argv)
    if options.compatible and (options.instrument or options.depth or options.rate or options.view != "best"):
        parser.error("--compatible serves the run's first instrument as it is: "
                     "--instrument, --view, --depth and --rate need --v1")
    states, last, started, failure = 0, None, time.monotonic(), None
    try:
        stream: Stream[Any] = Summaries(options.address, options.duration) if options.compatible else Worlds(
            options.address, options.instrument, depth=options.depth, max_rate=options.rate, view=options.view,
            timeout=options.duration)
        with stream:
            for last in stream:
                states += 1
                if not options.json:
                    print(line(last), *(levels(last) if options.levels else ()), sep="\n", flush=True)
    except KeyboardInterrupt:
        pass
    except MantraError as error:
        failure = error
        print(f"mantra client: {error}", file=sys.stderr)
    except BrokenPipeError:         # whoever read the lines has seen enough
        sys.stderr.close()
        return 0
    seconds = time.monotonic() - started
    if options.json:
        print(json.dumps({"seconds": round(seconds, 3), "states": states,
                          "rate": round(states / seconds, 1) if seconds else 0.0, "last": last and as_dict(last)}))
    # A run that ends ends its streams: no failure of this program.
    return 0 if failure is None or isinstance(failure, Closed) else failure.exit_code


def line(state: Any) -> str:
    """The best of both sides in one line; of a v1 state also its times and venues."""
    if isinstance(state, mantra_pb2.World):
        bid, ask = state.bids[0] if state.bids else None, state.asks[0] if state.asks else None
        when = datetime.fromtimestamp(state.published_ns / 1e9, timezone.utc).strftime("%H:%M:%S.%f")
        trust = " ".join(f"{venue.name}:{mantra_pb2.Trust.Name(venue.trust).lower()}" for venue in state.venues)
        return (f"{when} {state.instrument} #{state.sequence}  {_side(bid)} | {_side(ask)}  "
                f"spread {state.spread or '-'}  {(time.time_ns() - state.origin_ns) / 1e6:.3f} ms old  {trust}")
    bid, ask = state.bids[0] if state.bids else None, state.asks[0] if state.asks else None
    return f"{_side(bid)} | {_side(ask)}  spread {state.spread:.12g}"


def levels(state: Any) -> list[str]:
    """Both sides, a level a line, bids left."""
    rows = max(len(state.bids), len(state.asks))
    sides = [[_side(side[row]) if row < len(side) else "" for row in range(rows)] for side in (state.bids, state.asks)]
    return [f"    {bid:>44} | {ask}" for bid, ask in zip(*sides, strict=True)]


def _side(level: Any) -> str:
    if level is None:
        return "none"
    if isinstance(level, mantra_pb2.Level):
        return f"{level.size} @ {level.price} {'+'.join(level.venues)}"
    return f"{level.amount:.12g} @ {level.price:.12g} {level.exchange}"


def as_dict(state: Any) -> dict[str, Any]:
    from google.protobuf.json_format import MessageToDict

    return dict(MessageToDict(state, preserving_proto_field_name=True))


if __name__ == "__main__":
    sys.exit(main())
