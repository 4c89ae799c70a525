"""grpc_server: a run's views over gRPC. `python -m mantra.service.grpc_server --run NAME [--listen HOST:PORT]`

Two services on one port (orderbook.proto, mantra.proto), with health and reflection. A topic's bytes are made once and
go out as they are, so another client costs one write and no encoding.

The only event loop in mantra is here: writing to 64 streams 200 times a second costs 29 us a message in it and 89 us
with gRPC's thread per stream, a third of a core against more than one. It never touches shared memory; the actor's
thread looks and encodes, and rings.
"""
from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

os.environ.setdefault("GRPC_VERBOSITY", "NONE")     # what it would log is raised, and then said in one line

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from mantra.core.messages import Trust
from mantra.core.ticks import text
from mantra.errors import UnknownSymbol
from mantra.runtime.options import Parser
from mantra.runtime.serving import bind, serve
from mantra.runtime.spine import Spine
from mantra.service import mantra_pb2, orderbook_pb2
from mantra.service.service import DEPTH, VIEWS, Fanout, Pace, Service, Topic, View, Views
from mantra.venues import NAMES

DEFAULT = "127.0.0.1:50051"
RATE = 200          # updates a second and client
STREAMS = 64

_OTHER_CALLS = 64   # at a time, besides the streams: listing, health, reflection
_OPTIONS = (
    ("grpc.so_reuseport", 0),               # a port that is taken is an error, not shared
    ("grpc.keepalive_time_ms", 20_000),     # a client that vanished without a word frees its stream
    ("grpc.keepalive_timeout_ms", 10_000),
)


def summary(view: View, depth: int) -> bytes:
    """orderbook.Summary. Its clients want doubles, the only ones in mantra; each is the one nearest to the decimal.
    They can not be told of trust: what is not trusted is left out, whatever the aggregator's own policy lets in."""
    tick, lot = 10 ** view.instrument.price_decimals, 10 ** view.instrument.size_decimals
    message = orderbook_pb2.Summary()
    trusted = sum(1 << venue for venue, trust, _, _ in view.books if trust >= Trust.UNVERIFIED)
    bids, asks = ([level for level in side if level[2] & trusted] for side in (view.bids, view.asks))
    if bids and asks:
        message.spread = (asks[0][0] - bids[0][0]) / tick
    for levels, side in ((message.bids, bids), (message.asks, asks)):
        for price, size, mask in side[:depth]:
            levels.add(exchange=_names(mask & trusted)[0], price=price / tick, amount=size / lot)
    return bytes(message.SerializeToString())


def world(view: View, depth: int) -> bytes:
    """mantra.v1.World"""
    instrument = view.instrument
    ticks, lots = instrument.price_decimals, instrument.size_decimals
    message = mantra_pb2.World(instrument=instrument.name, sequence=view.sequence, origin_ns=view.origin_ns,
                               published_ns=view.published_ns)
    if view.bids and view.asks:
        message.spread = text(view.asks[0][0] - view.bids[0][0], ticks, True)
    for levels, side in ((message.bids, view.bids), (message.asks, view.asks)):
        for price, size, mask in side[:depth]:
            levels.add(price=text(price, ticks, True), size=text(size, lots, True), venues=_names(mask))
    for venue, trust, reason, since_s in view.books:
        message.venues.add(name=NAMES[venue], trust=trust, since_ns=since_s * 10**9, reason=reason)
    return bytes(message.SerializeToString())


@cache
def _names(mask: int) -> tuple[str, ...]:
    return tuple(name for venue, name in enumerate(NAMES) if mask >> venue & 1)


class GrpcService(Service):
    """`listen`: HOST:PORT, port 0 is any; `move`: when it is taken, the next free one after it."""

    def __init__(self, listen: str = DEFAULT, move: bool = False, rate: float = RATE, streams: int = STREAMS) -> None:
        self.name, self.reads = "grpc", VIEWS
        self.rate, self.streams = rate, streams
        self._listen, self._move = listen, move
        self._open = 0
        self._closing = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="mantra-grpc", daemon=True)

    def setup(self, spine: Spine) -> None:
        self._views = Views(spine)
        self.fanout = Fanout(self._views, self.rate, lambda topic: self._call(_ring, topic))
        self._thread.start()
        self.address = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()

    def teardown(self, spine: Spine) -> None:
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
            self._call(self._loop.stop)
            self._thread.join()
        self._loop.close()

    def _call(self, function: Callable[..., object], *arguments: object) -> None:
        self._loop.call_soon_threadsafe(function, *arguments)

    # On the loop's thread --------------------------------------------------------------------------------------

    async def _start(self) -> str:
        self._server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=self.streams + _OTHER_CALLS)
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        services = {
            "orderbook.OrderbookAggregator": {
                "BookSummary": stream(self._book_summary, orderbook_pb2.Empty.FromString)},
            "mantra.v1.MarketData": {
                "ListInstruments": unary(self._list_instruments, mantra_pb2.ListInstrumentsRequest.FromString,
                                         mantra_pb2.ListInstrumentsResponse.SerializeToString),
                "Worlds": stream(self._worlds, mantra_pb2.WorldsRequest.FromString)},
        }
        self._server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(name, methods) for name, methods in services.items()])
        healthy = health.aio.HealthServicer()
        for name in services:
            await healthy.set(name, health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(healthy, self._server)
        reflection.enable_server_reflection([*services, health.SERVICE_NAME, reflection.SERVICE_NAME], self._server)
        # gRPC says that it failed, the socket says why.
        address = bind(self._listen, self._move, "gRPC", self._server.add_insecure_port)
        await self._server.start()
        return address

    async def _stop(self) -> None:
        self._closing = True
        for topic in self.fanout.topics():
            _ring(topic)
        await self._server.stop(0.2)        # who does not take the goodbye by then is cut off

    async def _list_instruments(self, request: Any, context: Any) -> Any:
        return mantra_pb2.ListInstrumentsResponse(instruments=[
            mantra_pb2.Instrument(name=one.name, price_decimals=one.price_decimals, size_decimals=one.size_decimals)
            for one in self._views.instruments()])

    async def _book_summary(self, request: Any, context: Any) -> None:
        await self._follow(context, summary, mantra_pb2.WorldsRequest())

    async def _worlds(self, request: Any, context: Any) -> None:
        await self._follow(context, world, request)

    async def _follow(self, context: Any, encode: Callable[[View, int], bytes], request: Any) -> None:
        """Write the newest state whenever there is one and the client has taken the last; no one else waits for it."""
        depth, rate, view = request.depth, request.max_rate, request.view
        if not (0 <= depth <= DEPTH and 0 <= rate < float("inf") and 0 <= view < len(VIEWS)):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT,
                                f"depth is 1 to {DEPTH}, max_rate is above 0 and finite, 0 means the default; "
                                "view is BEST or LIQUIDITY")
        if self._open >= self.streams:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED,
                                f"all {self.streams} streams are taken: close one, or try later")
        try:
            name = self._views.resolve(request.instrument)
        except UnknownSymbol as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        if not self._views.has(VIEWS[view]):
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no aggregator of this run writes {VIEWS[view]!r}")
        bell = asyncio.Event()
        topic = self.fanout.subscribe(bell, encode, VIEWS[view], name, depth or DEPTH)
        # The server's own limit is kept by the topic, for all at once.
        pace = Pace(rate) if 0 < rate < self.rate else None
        self._open += 1
        sent = 0
        try:
            while True:
                if pace and (pause := pace.wait(time.monotonic())) > 0:
                    await asyncio.sleep(pause)
                bell.clear()
                if self._closing:
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "this run of mantra ends")
                number, payload = topic.newest
                if number == sent:
                    await bell.wait()
                    continue
                if pace:
                    pace.spend(time.monotonic())
                await context.write(payload)
                sent = number
        finally:
            self._open -= 1
            self.fanout.unsubscribe(bell, topic)


def _ring(topic: Topic) -> None:
    for bell in topic.subscribers:
        bell.set()


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(
        prog="python -m mantra.service.grpc_server", description="Serve a run's world views over gRPC.")
    add = parser.add_argument
    add("--run", help="the run's name; not needed when there is only one")
    add("--listen", metavar="HOST:PORT", help=f"default: {DEFAULT}, or the next free port")
    add("--move", action="store_true", help="when the port is taken, take the next free one")
    add("--rate", type=float, default=RATE, help="updates a second and client at most (%(default)s)")
    add("--streams", type=int, default=STREAMS, help="streams at a time (%(default)s)")
    add("--ready-fd", type=int, metavar="N", help="write the address there once it is served")
    options = parser.parse_args(argv)
    if not (0 < options.rate <= 1000 and options.streams > 0):
        parser.error("--rate is above 0 and at most 1000, --streams at least 1")
    service = GrpcService(options.listen or DEFAULT, move=options.move or not options.listen, rate=options.rate,
                          streams=options.streams)
    return serve(service, options.run, options.ready_fd)


if __name__ == "__main__":
    sys.exit(main())
