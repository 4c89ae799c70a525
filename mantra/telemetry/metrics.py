"""metrics: a run as Prometheus scrapes it. `python -m mantra.telemetry.metrics --run NAME [--listen HOST:PORT]`

In a process of its own, which reads shared memory and nothing else: whether anybody scrapes, how often, and how slowly,
the run does not notice. Names are stable; counters of the ledger keep their names, units are seconds and bytes:

    mantra_feed_<counter>_total {feed, venue}       every counter of the ledger; its text is its HELP
    mantra_feed_state {feed, venue, mantra_feed_state}     1 for what the connection is doing
    mantra_book_trust {venue, instrument}           0 down, 1 stale, 2 suspect, 3 unverified, 4 verified; and since when
    mantra_book_doubt {venue, instrument, reason}, mantra_book_losses_total {venue, instrument, counter},
    mantra_book_distrusted_seconds_total, mantra_book_audits_total, _audited_, _agreed_     of books that have any
    mantra_latency_seconds {span, by}               histogram: socket_to_top of a feed, socket_to_world of an aggregator
    mantra_actor_latency_seconds, mantra_actor_processing_seconds {actor}       histograms: waiting, working
    mantra_actor_state {actor, kind, mantra_actor_state}, mantra_actor_restarts_total, mantra_actor_failures_total
    mantra_queue_produced_total {queue, message}, mantra_queue_lag, mantra_queue_overruns_total {queue, actor}
    mantra_timer_seconds, mantra_counter_total, mantra_gauge {actor, name}      what user code measures of its own

Histograms have fixed buckets, 1 - 2.5 - 5 a decade from 100 ns to 10 s, each counted exactly: histogram_quantile works,
and buckets of several runs may be added.
"""
from __future__ import annotations

import socketserver
import sys
import threading
import time
from collections import Counter as TotalOf
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler
from importlib import import_module
from socket import AF_INET, AF_INET6
from typing import Any

import numpy as np

from mantra import __version__, venues
from mantra.core import build
from mantra.core.histogram import Histogram
from mantra.core.ledger import COUNTERS, MEANINGS, FeedState
from mantra.core.messages import ActorState, Trust
from mantra.errors import ConfigurationError, MantraError
from mantra.runtime.options import Parser
from mantra.runtime.serving import bind, endpoint, serve
from mantra.runtime.spine import Spine
from mantra.telemetry.collector import GAUGES, LOSSES, Actor, ClockState, Collector, QueueState, books

DEFAULT = "127.0.0.1:9464"      # what exporters of OpenTelemetry take
BOUNDS_NS = (*(int(step * 10**decade) for decade in range(2, 10) for step in (1, 2.5, 5)), 10**10)
PATIENCE_S = 5.0                # for a client that asks slowly, or takes slowly
UNITS = {"bytes": ("received_bytes", 1), "down_ns": ("down_seconds", 1e9),       # of counters that have one
         "distrusted_ns": ("distrusted_seconds", 1e9)}
Sample = tuple[Sequence[str], Any]      # the values of labels; what is measured of whom they name


def client(module: str = "prometheus_client") -> Any:
    """prometheus_client, which only this needs."""
    try:
        return import_module(module)
    except ImportError:
        raise ConfigurationError("metrics need prometheus-client: pip install 'mantra[metrics]'") from None


class Exporter:
    """What prometheus_client calls a custom collector: everything about `run`, read when asked for."""

    def __init__(self, run: Spine) -> None:
        self.collector = Collector(run)
        self.lock = threading.Lock()
        self._run = run
        self._core = client("prometheus_client.core")

    def collect(self) -> Iterator[Any]:
        """One family after the other."""
        with self.lock:
            snapshot = self.collector.snapshot()
            families = [*self._about(snapshot.clock), *self._feeds(), *self._books(), *self._actors(snapshot.actors),
                        *self._queues(snapshot.queues), *self._meters()]
        yield from families

    def _family(self, kind: str, name: str, text: str, labels: Sequence[str] = (), rows: Iterable[Sample] = ()) -> Any:
        family = getattr(self._core, f"{kind}MetricFamily")(f"mantra_{name}", text, labels=labels)
        for values, sample in rows:
            if isinstance(sample, Histogram):
                family.add_metric(values, *_buckets(sample))
            else:
                family.add_metric(values, sample)
        return family

    def _about(self, clock: ClockState) -> Iterator[Any]:
        for kind, name, text, value in (
                ("Info", "build", "Which mantra this is, and what built it.",
                 {"version": __version__, "compiler": build.COMPILER, "simd": build.SIMD,
                  "python": sys.version.split()[0]}),
                ("Info", "run", "The run that is read, and where its clock takes cycles from.",
                 {"run": self._run.run or "", "clock": clock.kind}),
                ("Gauge", "clock_hertz", "Cycles of the run's clock in a second.", clock.mhz * 1e6),
                ("Gauge", "clock_error_seconds", "UTC is known to plus or minus this.", clock.error_ns / 1e9),
                ("Counter", "clock_steps", "Times that others set the OS's clock while the run lasted.", clock.steps)):
            yield self._family(kind, name, text, rows=[((), value)])

    def _feeds(self) -> Iterator[Any]:
        labels, feeds = ("feed", "venue"), [
            ((row.name, venues.NAMES[row.venue]), row.counts()) for row in self._run.ledger.rows()]
        for counter in COUNTERS:
            if counter not in GAUGES:
                name, scale = UNITS.get(counter, (counter, 1))
                yield self._family("Counter", f"feed_{name}", _sentence(MEANINGS[counter]), labels, [
                    (feed, counts[counter] / scale if scale != 1 else counts[counter]) for feed, counts in feeds])
        for counter, name in (("last_receive_utc_ns", "last_receive"), ("state_since_utc_ns", "state_since")):
            yield self._family("Gauge", f"feed_{name}_timestamp_seconds", _sentence(MEANINGS[counter]), labels, [
                (feed, counts[counter] / 1e9) for feed, counts in feeds])
        yield self._family("StateSet", "feed_state", "What the connection is doing.", labels, [
            (feed, {state.name.lower(): state == counts["state"] for state in FeedState}) for feed, counts in feeds])

    def _books(self) -> Iterator[Any]:
        told, labels = books(self._run), ("venue", "instrument")
        heard = [book for book in told if book.trust]
        yield self._family("Gauge", "book_trust", "How far a book can be trusted: 0 down, 1 stale, 2 suspect, "
                           "3 unverified (this venue gives no proof), 4 verified.", labels, [
                               ((book.venue, book.instrument), Trust[book.trust.upper()]) for book in heard])
        yield self._family("Gauge", "book_trust_since_timestamp_seconds", "Since when it can.", labels, [
            ((book.venue, book.instrument), book.since_utc_ns / 1e9) for book in heard])
        # The rest only of books that have any: thousands of zeros say nothing.
        totals: defaultdict[tuple[str, str], TotalOf[str]] = defaultdict(TotalOf)
        for book in told:       # of one book several where a connection gave it to the next
            totals[book.venue, book.instrument].update(book.counts)
        yield self._family("Gauge", "book_doubt", "Why a book is trusted no further.", (*labels, "reason"), [
            ((book.venue, book.instrument, book.reason), 1) for book in told if book.reason])
        yield self._family("Counter", "book_losses", "What a book lost, by counter.", (*labels, "counter"), [
            ((*key, counter), counts[counter]) for key, counts in totals.items() for counter in LOSSES
            if counts[counter]])
        yield self._family("Counter", "book_distrusted_seconds", _sentence(MEANINGS["distrusted_ns"]), labels, [
            (key, counts["distrusted_ns"] / 1e9) for key, counts in totals.items() if counts["distrusted_ns"]])
        for name in ("audits", "audited", "agreed"):
            yield self._family("Counter", f"book_{name}", _sentence(MEANINGS[name]), labels, [
                (key, counts[name]) for key, counts in totals.items() if counts["audits"]])

    def _actors(self, actors: Sequence[Actor]) -> Iterator[Any]:
        labels = ("actor", "kind")
        yield self._family("StateSet", "actor_state", "What the actor is doing.", labels, [
            ((actor.name, actor.kind), {state.name.lower(): state.name.lower() == actor.state for state in ActorState})
            for actor in actors])
        for name, text, field in (("restarts", "Times it was started anew.", "restarts"),
                                  ("failures", "Times it raised or died.", "failures"),
                                  ("timings_missed", "Timings overwritten before they were read here: the actor's "
                                   "histograms are then a sample.", "missed")):
            yield self._family("Counter", f"actor_{name}", text, labels, [
                ((actor.name, actor.kind), getattr(actor, field)) for actor in actors])
        for name, text in (("latency", "Time that messages waited for the actor."),
                           ("processing", "Time that the actor worked on a message.")):
            yield self._family("Histogram", f"actor_{name}_seconds", text, ("actor",), [
                ((actor_name,), getattr(watch, name)) for actor_name, watch in self.collector.watches.items()])

    def _queues(self, queues: Sequence[QueueState]) -> Iterator[Any]:
        for name, text, kind in (
                ("produced", "Messages ever produced.", "Counter"), ("capacity", "Messages that it holds.", "Gauge"),
                ("producers", "Who may produce and is alive.", "Gauge"),
                ("abandoned", "Messages that a producer began and died in.", "Counter"),
                ("burnt", "Positions passed over because their producer stalled.", "Counter")):
            yield self._family(kind, f"queue_{name}", text, ("queue", "message"), [
                ((queue.name, queue.message), getattr(queue, name)) for queue in queues])
        for name, text, kind in (
                ("lag", "Messages that an actor has still to take.", "Gauge"),
                ("overruns", "Messages that were overwritten before an actor came to them.", "Counter")):
            yield self._family(kind, f"queue_{name}", text, ("queue", "actor"), [
                ((queue.name, reader.actor), getattr(reader, name)) for queue in queues for reader in queue.readers])

    def _meters(self) -> Iterator[Any]:
        run, labels = self._run, ("actor", "name")
        yield self._family("Histogram", "latency_seconds", "From the arrival of bytes to what they led to.",
                           ("span", "by"), [(name.partition(".")[::2], histogram)
                                            for name, histogram in run.histograms().items()])
        yield self._family("Histogram", "timer_seconds", "What an actor's own code took.", labels, run.timers().items())
        yield self._family("Counter", "counter", "What an actor's own code counts.", labels, run.counters().items())
        yield self._family("Gauge", "gauge", "What an actor's own code measures.", labels, run.gauges().items())


def _buckets(histogram: Histogram) -> tuple[list[tuple[str, int]], float]:
    """A histogram's exact counts in the fixed buckets, and its sum."""
    values, counts = histogram.buckets()
    upto = np.concatenate(([0], counts.cumsum()))
    buckets = zip((*(f"{bound / 1e9:g}" for bound in BOUNDS_NS), "+Inf"),
                  upto[[*np.searchsorted(values, BOUNDS_NS, side="right"), -1]].tolist(), strict=True)
    return list(buckets), histogram.mean * histogram.count / 1e9


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address, daemon_threads = True, True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):      # who asked has gone
            super().handle_error(request, client_address)


class Metrics:
    """The service. `listen`: HOST:PORT; `move`: when it is taken, the next free one."""

    address = ""

    def __init__(self, listen: str = DEFAULT, move: bool = False) -> None:
        self._listen, self._move = listen, move
        self._server: _Server | None = None

    def setup(self, spine: Spine) -> None:
        """Begin to listen; ConfigurationError when that cannot be."""
        prometheus, self._exporter = client(), Exporter(spine)
        registry = prometheus.CollectorRegistry(auto_describe=False)
        registry.register(self._exporter)

        class Page(BaseHTTPRequestHandler):
            timeout = PATIENCE_S

            def do_GET(self) -> None:
                if self.path.partition("?")[0] not in ("/", "/metrics"):
                    return self.send_error(404, "it is at /metrics")
                encode, kind = prometheus.exposition.choose_encoder(self.headers.get("Accept", ""))
                try:
                    page = encode(registry)
                except MantraError as error:        # the run is about to end
                    return self.send_error(503, str(error))
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(page)))
                self.end_headers()
                self.wfile.write(page)

            def log_message(self, *_: object) -> None:
                """A line a scrape is nobody's wish."""

        def take(address: str) -> int:
            host, port = endpoint(address)
            _Server.address_family = AF_INET6 if ":" in host else AF_INET
            self._server = _Server((host, port), Page)
            return int(self._server.server_address[1])

        self.address = bind(self._listen, self._move, "metrics", take)
        assert self._server is not None
        threading.Thread(target=self._server.serve_forever, name="mantra-metrics", daemon=True).start()

    def step(self, spine: Spine) -> int:
        """Drain the actors' rings in time, then rest."""
        with self._exporter.lock:
            self._exporter.collector.poll()
        time.sleep(self._exporter.collector.pace)
        return 0

    def teardown(self, spine: Spine) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="python -m mantra.telemetry.metrics", description="Let Prometheus scrape a run, from outside.")
    parser.add_argument("--run", help="the run's name; not needed when there is only one")
    parser.add_argument("--listen", metavar="HOST:PORT", help=f"default: {DEFAULT}, or the next free port")
    parser.add_argument("--ready-fd", type=int, metavar="N", help="write the address there once it is served")
    options = parser.parse_args(argv)
    return serve(Metrics(options.listen or DEFAULT, move=not options.listen), options.run, options.ready_fd)


if __name__ == "__main__":
    sys.exit(main())
