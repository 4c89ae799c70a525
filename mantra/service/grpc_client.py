"""grpc_client: what a bot imports.

    from mantra.service.grpc_client import Worlds

    with Worlds("127.0.0.1:50051", "BTC-USD", depth=5) as worlds:
        for world in worlds:                    # mantra.v1.World: decimals as exact text
            print(world.bids[0].price, world.asks[0].price, world.spread)

Each state is the newest when it is sent. A client that reads slowly is not sent the states in between, but what its own
receive window already holds it still has to read: gRPC grows that to hundreds of states, here it holds about four.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Generic, TypeVar

import grpc

from mantra.errors import Closed, ConfigurationError, ConnectError, MantraError, UnknownSymbol
from mantra.service import mantra_pb2, orderbook_pb2

_OPTIONS = (
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 4096),
    ("grpc.use_local_subchannel_pool", 1),      # a connection each: one slow reader does not hold up another
    ("grpc.keepalive_time_ms", 20_000),         # a server that vanished without a word is noticed
)
_ERRORS: dict[Any, type[MantraError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: ConfigurationError,
    grpc.StatusCode.NOT_FOUND: UnknownSymbol,
    grpc.StatusCode.UNIMPLEMENTED: ConfigurationError,
}

Message = TypeVar("Message")


class Stream(Generic[Message]):
    """Iterate the states of a stream; `timeout` seconds end it, as `close` does from any thread.

    Raises ConnectError when the service cannot be reached or has no stream left, Closed when a stream that was running
    ends, UnknownSymbol and ConfigurationError for what it does not have or take.
    """

    def __init__(self, address: str, method: str, request: Any, answer: Any, timeout: float | None) -> None:
        self.address = address
        self._channel = grpc.insecure_channel(address, options=_OPTIONS)
        self._started = self._closed = False
        self._call = self._channel.unary_stream(method, type(request).SerializeToString, answer.FromString)(
            request, timeout=timeout)

    def __iter__(self) -> Iterator[Message]:
        return self

    def __next__(self) -> Message:
        try:
            message: Message = next(self._call)
        except grpc.RpcError as error:
            if self._closed or error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                raise StopIteration from None
            raise _translated(error, self.address, self._started) from error
        self._started = True
        return message

    def close(self) -> None:
        self._closed = True
        self._call.cancel()
        self._channel.close()

    def __enter__(self) -> Stream[Message]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Summaries(Stream[orderbook_pb2.Summary]):
    """orderbook.Summary of the run's first instrument, as existing clients see it."""

    def __init__(self, address: str, timeout: float | None = None) -> None:
        super().__init__(address, "/orderbook.OrderbookAggregator/BookSummary", orderbook_pb2.Empty(),
                         orderbook_pb2.Summary, timeout)


class Worlds(Stream[mantra_pb2.World]):
    """mantra.v1.World of `instrument` (none: the run's first), `depth` levels a side, at most `max_rate` a second.

    `view`: "best" levels per venue, or "liquidity" summed over venues.
    """

    def __init__(self, address: str, instrument: str = "", *, depth: int = 0, max_rate: float = 0.0, view: str = "best",
                 timeout: float | None = None) -> None:
        request = mantra_pb2.WorldsRequest(instrument=instrument, depth=depth, max_rate=max_rate, view=view.upper())
        super().__init__(address, "/mantra.v1.MarketData/Worlds", request, mantra_pb2.World, timeout)


def instruments(address: str, timeout: float = 5.0) -> list[mantra_pb2.Instrument]:
    """What the run behind `address` has, in the order in which it was named."""
    with grpc.insecure_channel(address, options=_OPTIONS) as channel:
        ask = channel.unary_unary(
            "/mantra.v1.MarketData/ListInstruments", mantra_pb2.ListInstrumentsRequest.SerializeToString,
            mantra_pb2.ListInstrumentsResponse.FromString)
        try:
            return list(ask(mantra_pb2.ListInstrumentsRequest(), timeout=timeout).instruments)
        except grpc.RpcError as error:
            raise _translated(error, address, False) from error


def _translated(error: Any, address: str, started: bool) -> MantraError:
    kind = _ERRORS.get(error.code(), Closed if started else ConnectError)
    return kind(f"{address}: {' '.join((error.details() or error.code().name).split())}")
