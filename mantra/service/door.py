"""door: `mantra client` prints what a service streams."""
from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from itertools import zip_longest
from typing import Any

from google.protobuf.json_format import MessageToDict

from mantra.errors import Closed, MantraError
from mantra.runtime.options import Parser, door, positive_seconds
from mantra.service import mantra_pb2
from mantra.service.grpc_client import Stream, Summaries, Worlds

DEFAULT = "127.0.0.1:50051"


@door("mantra client")
def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(
        prog="mantra client", description="Print what a running mantra serves over gRPC, a line a state.")
    add = parser.add_argument
    add("--address", default=DEFAULT, metavar="HOST:PORT", help="of the service (%(default)s)")
    add("--v1", action="store_true", help="mantra.v1.MarketData/Worlds (default)")
    add("--compatible", action="store_true",
        help="orderbook.OrderbookAggregator/BookSummary: the run's first instrument")
    add("--instrument", default="", metavar="NAME", help="btc-usd; default: the run's first")
    add("--view", choices=("best", "liquidity"), default="best", help="%(default)s")
    add("--depth", type=int, default=0, metavar="N", help="levels a side, 1 to 10")
    add("--rate", type=float, default=0.0, metavar="N", help="states a second at most")
    add("--levels", action="store_true", help="print every level, not only the best")
    add("--duration", type=positive_seconds, metavar="SECONDS", help="end after that long; default: Ctrl-C")
    add("--json", action="store_true", help="print one JSON object at the end instead of the states")
    options = parser.parse_args(argv)
    if options.compatible and (options.v1 or options.instrument or options.depth or options.rate
                               or options.view != "best"):
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
    seconds = time.monotonic() - started
    if options.json:
        print(json.dumps({"seconds": round(seconds, 3), "states": states, "rate": round(states / seconds, 1),
                          "last": last and MessageToDict(last, preserving_proto_field_name=True)}))
    # A run that ends ends its streams: no failure of this program.
    return 0 if failure is None or isinstance(failure, Closed) else failure.exit_code


def line(state: Any) -> str:
    """The best of both sides in one line; of a v1 state also its times and venues."""
    best = " | ".join(_side(side[0]) if side else "none" for side in (state.bids, state.asks))
    if not isinstance(state, mantra_pb2.World):
        return f"{best}  spread {state.spread:.12g}"
    when = datetime.fromtimestamp(state.published_ns / 1e9, timezone.utc).strftime("%H:%M:%S.%f")
    trust = " ".join(map(_trust, state.venues))
    return (f"{when} {state.instrument} #{state.sequence}  {best}  spread {state.spread or '-'}  "
            f"{(time.time_ns() - state.origin_ns) / 1e6:.3f} ms old  {trust}")


def _trust(venue: Any) -> str:
    """binance:verified, kraken:suspect(gap)"""
    why = f"({mantra_pb2.Reason.Name(venue.reason).lower()})" if venue.reason else ""
    return f"{venue.name}:{mantra_pb2.Trust.Name(venue.trust).lower()}{why}"


def levels(state: Any) -> list[str]:
    """Both sides, a level a line, bids left."""
    sides = [[_side(level) for level in side] for side in (state.bids, state.asks)]
    return [f"    {bid:>44} | {ask}" for bid, ask in zip_longest(*sides, fillvalue="")]


def _side(level: Any) -> str:
    if isinstance(level, mantra_pb2.Level):
        return f"{level.size} @ {level.price} {'+'.join(level.venues)}"
    return f"{level.amount:.12g} @ {level.price:.12g} {level.exchange}"


if __name__ == "__main__":
    sys.exit(main())
