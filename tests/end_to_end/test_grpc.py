"""The gRPC service as a client sees it: a process of its own, a real port, and a run whose worlds the test writes.

The compatible service is read by a client written for this test alone: it knows the interface from its description (the
field numbers below), takes the bytes off the wire apart by hand, and shares neither generated code nor descriptors with
the server.
"""
from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from decimal import Decimal

import grpc
import numpy
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from mantra.core.messages import DTYPES, Reason
from mantra.errors import Closed, ConfigurationError, ConnectError, UnknownSymbol
from mantra.runtime.spine import Spine
from mantra.service import mantra_pb2
from mantra.service.grpc_client import Summaries, Worlds, instruments

NUMBERS = itertools.count()
ETH_BTC, BTC_USD = 7, 9       # ids of the run's instruments


# A client that knows the wire and nothing else ------------------------------------------------------------------


def fields(data):
    """(number, value) of every field of a protobuf message: bytes, or 8 bytes as double, or an integer."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        elif key & 7 == 1:
            yield key >> 3, struct.unpack_from("<d", data, at)[0]
            at += 8
        else:
            assert key & 7 == 2, f"wire type {key & 7}"
            size = varint()
            yield key >> 3, data[at:at + size]
            at += size


def parse_level(data):
    found = dict(fields(data))
    assert set(found) <= {1, 2, 3}
    return found[1].decode(), found.get(2, 0.0), found.get(3, 0.0)


def parse_summary(data):
    found = list(fields(data))
    assert {number for number, _ in found} <= {1, 2, 3}
    sides = [[parse_level(value) for number, value in found if number == side] for side in (2, 3)]
    return dict(found).get(1, 0.0), *sides


def book_summary(channel, timeout=60):
    return channel.unary_stream("/orderbook.OrderbookAggregator/BookSummary",
                                response_deserializer=parse_summary)(b"", timeout=timeout)


# A run, and its service -----------------------------------------------------------------------------------------


def world(instrument, sequence, bids, asks, *, now, trust=(4, 3), reason=(), since_s=()):
    """Bytes of a world message; levels are (ticks, lots, mask of venues)."""
    row = numpy.zeros(1, DTYPES["world"])
    row["origin"], row["published"] = now, 1000 << 16
    row["instrument"], row["sequence"] = instrument, sequence
    for name, values in (("trust", trust), ("reason", reason), ("trust_since_s", since_s)):
        row[name][0, :len(values)] = values
    for side, levels in (("bid", bids), ("ask", asks)):
        row[f"{side}_count"] = len(levels)
        for place, (price, size, mask) in enumerate(levels):
            row[f"{side}_price"][0, place], row[f"{side}_size"][0, place] = price, size
            row[f"{side}_venues"][0, place] = mask
    return row.tobytes()


class Run:
    """A run that only has what a service reads, written by the test."""

    def __init__(self, spine):
        self.spine, self.sequence = spine, 0
        spine.add_instrument(ETH_BTC, "ETH-BTC", 0, 8, 8)
        spine.add_instrument(BTC_USD, "BTC-USD", 0, 2, 8)
        self.worlds = spine.latest("world")

    def write(self, bids, asks, *, instrument=ETH_BTC, vector=None, **kwargs):
        self.sequence += 1
        (vector or self.worlds).write({ETH_BTC: 0, BTC_USD: 1}[instrument], world(
            instrument, self.sequence, bids, asks, now=self.spine.clock.cycles(), **kwargs))
        self.spine.doorbell.ring()
        return self.sequence

    def level(self, number, **kwargs):
        return self.write([(number, 1, 1)] * 10, [(number + 1, 1, 1)] * 10, **kwargs)


def new_run():
    return Spine.create(f"test-grpc-{os.getpid()}-{next(NUMBERS)}")


@pytest.fixture
def run():
    with new_run() as spine:
        yield Run(spine)


@contextmanager
def serving(run, *options, listen=("--listen", "127.0.0.1:0")):
    """The address of a service of `run`, and its process."""
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "mantra.service.grpc_server", "--run", run.spine.run, "--ready-fd", str(writer), *listen,
         *options], pass_fds=[writer], stderr=subprocess.PIPE, text=True)
    os.close(writer)
    with os.fdopen(reader) as ready:
        address = ready.readline().strip()
    try:
        yield address, process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def server(run):
    with serving(run) as (address, _):
        yield address


@pytest.fixture
def channel(server):
    with grpc.insecure_channel(server) as channel:
        yield channel


@pytest.fixture(scope="module")
def shared():
    """One for the tests that do not mind what others wrote: (run, address)."""
    with new_run() as spine, serving(run := Run(spine)) as (address, _):
        yield run, address


@pytest.fixture
def shared_channel(shared):
    with grpc.insecure_channel(shared[1]) as channel:
        yield channel


@contextmanager
def flooding(run, per_second=1500):
    """States 1, 2, 3, ... as prices, many more than a client is sent."""
    stop = threading.Event()

    def write():
        for number in itertools.count(1):
            if stop.wait(1 / per_second):
                return
            run.level(number)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


# The compatible service -----------------------------------------------------------------------------------------


def test_an_existing_client_reads_ten_levels_a_side_in_the_order_of_the_world_view(run, channel):
    bids = [(6812345, 200000000, 1), (6812345, 100000000, 2), *((6812000 - row, 5 + row, 1) for row in range(8))]
    asks = [(6812350 + row, 123456789, 1 + row % 2) for row in range(10)]
    run.write(bids, asks)
    spread, bid_levels, ask_levels = next(book_summary(channel))
    assert spread == float(Decimal("0.00000005"))
    assert bid_levels[:3] == [("binance", 0.06812345, 2.0), ("bitstamp", 0.06812345, 1.0), ("binance", 0.06812, 5e-8)]
    assert ask_levels[:2] == [("binance", 0.0681235, 1.23456789), ("bitstamp", 0.06812351, 1.23456789)]
    assert (len(bid_levels), len(ask_levels)) == (10, 10)


def test_a_negative_spread_across_venues_is_served_as_it_is(shared, shared_channel):
    shared[0].write([(6812399, 1, 1)], [(6812300, 1, 2)])
    assert next(book_summary(shared_channel))[0] == -9.9e-07


def test_summary_means_the_first_instrument_and_waits_for_its_first_state(run, channel):
    run.level(5, instrument=BTC_USD)
    stream = book_summary(channel)
    threading.Timer(0.3, run.level, [77]).start()
    assert next(stream)[1] == [("binance", 7.7e-07, 1e-08)] * 10


def test_what_reflection_says_of_the_compatible_service_is_its_published_interface(shared_channel):
    answer = next(reflection_pb2_grpc.ServerReflectionStub(shared_channel).ServerReflectionInfo(iter([
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="orderbook.OrderbookAggregator")])))
    file = descriptor_pb2.FileDescriptorProto.FromString(answer.file_descriptor_response.file_descriptor_proto[0])
    assert (file.package, file.syntax) == ("orderbook", "proto3")
    kind = descriptor_pb2.FieldDescriptorProto
    assert {message.name: [(field.name, field.number, field.type, field.label, field.type_name)
                           for field in message.field] for message in file.message_type} == {
        "Empty": [],
        "Summary": [("spread", 1, kind.TYPE_DOUBLE, kind.LABEL_OPTIONAL, ""),
                    ("bids", 2, kind.TYPE_MESSAGE, kind.LABEL_REPEATED, ".orderbook.Level"),
                    ("asks", 3, kind.TYPE_MESSAGE, kind.LABEL_REPEATED, ".orderbook.Level")],
        "Level": [("exchange", 1, kind.TYPE_STRING, kind.LABEL_OPTIONAL, ""),
                  ("price", 2, kind.TYPE_DOUBLE, kind.LABEL_OPTIONAL, ""),
                  ("amount", 3, kind.TYPE_DOUBLE, kind.LABEL_OPTIONAL, "")]}
    assert [(method.name, method.input_type, method.output_type, method.client_streaming, method.server_streaming)
            for method in file.service[0].method] == [
        ("BookSummary", ".orderbook.Empty", ".orderbook.Summary", False, True)]


def test_both_services_are_listed_and_healthy(shared_channel):
    answer = next(reflection_pb2_grpc.ServerReflectionStub(shared_channel).ServerReflectionInfo(iter([
        reflection_pb2.ServerReflectionRequest(list_services="")])))
    names = {service.name for service in answer.list_services_response.service}
    assert {"orderbook.OrderbookAggregator", "mantra.v1.MarketData", "grpc.health.v1.Health"} <= names
    for name in ("", "orderbook.OrderbookAggregator", "mantra.v1.MarketData"):
        request_ = health_pb2.HealthCheckRequest(service=name)
        answer = health_pb2_grpc.HealthStub(shared_channel).Check(request_, timeout=60)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


# mantra.v1 ------------------------------------------------------------------------------------------------------


def test_instruments_come_in_the_order_in_which_they_were_named(shared):
    assert [(one.name, one.price_decimals, one.size_decimals) for one in instruments(shared[1])] == [
        ("ETH-BTC", 8, 8), ("BTC-USD", 2, 8)]


@pytest.mark.parametrize("name", ["BTC-USD", "btcusd", "btc/usd", "BTC_USD"])
def test_a_world_is_exact_timed_trusted_and_numbered(shared, name):
    run, server = shared
    before = time.time_ns()
    sequence = run.write([(6812345, 2**62 + 1, 0b1), (6812300, 10, 0b11)], [(6812340, 1, 0b10)], instrument=BTC_USD,
                         trust=(4, 3, 0, 0, 2), reason=(0, 0, 0, 0, Reason.GAP), since_s=(0, 17 * 10**8))
    with Worlds(server, name, timeout=60) as worlds:
        state = next(worlds)
    assert (state.instrument, state.sequence, state.spread) == ("BTC-USD", sequence, "-0.05")
    assert [(level.price, level.size, list(level.venues)) for level in state.bids] == [
        ("68123.45", "46116860184.27387905", ["binance"]), ("68123", "0.0000001", ["binance", "bitstamp"])]
    assert [(level.price, level.size, list(level.venues)) for level in state.asks] == [
        ("68123.4", "0.00000001", ["bitstamp"])]
    assert [(venue.name, mantra_pb2.Trust.Name(venue.trust), venue.since_ns, mantra_pb2.Reason.Name(venue.reason))
            for venue in state.venues] == [
        ("binance", "VERIFIED", 0, "NONE"), ("bitstamp", "UNVERIFIED", 17 * 10**17, "NONE"),
        ("kraken", "SUSPECT", 0, "GAP")]
    assert before - 10**9 < state.origin_ns < state.published_ns < time.time_ns() + 10**9


def test_a_venue_that_is_down_is_told_as_down(run, server):
    run.write([], [], trust=(), reason=[Reason.DISCONNECTED], since_s=[17])
    with Worlds(server, timeout=60) as worlds:
        assert [(venue.name, venue.trust, venue.since_ns) for venue in next(worlds).venues] == [
            ("binance", mantra_pb2.DOWN, 17 * 10**9)]


def test_depth_and_view_are_the_clients_choice(run, server):
    summed = run.spine.latest("liquidity")
    run.write([(10 - row, 1, 1) for row in range(10)], [(11 + row, 1, 1) for row in range(10)])
    run.write([(10, 6, 0b11)], [(11, 5, 0b11)], vector=summed)
    with Worlds(server, depth=3, timeout=60) as worlds:
        assert [len(side) for state in [next(worlds)] for side in (state.bids, state.asks)] == [3, 3]
    with Worlds(server, view="liquidity", timeout=60) as worlds:
        state = next(worlds)
        assert [(level.size, list(level.venues)) for level in state.bids] == [("0.00000006", ["binance", "bitstamp"])]


@pytest.mark.parametrize(("request_", "error", "words"), [
    ({"instrument": "DOGE-USD"}, UnknownSymbol, "this run has no DOGE-USD; it has ETH-BTC, BTC-USD"),
    ({"depth": 11}, ConfigurationError, "depth is 1 to 10"),
    ({"max_rate": -1.0}, ConfigurationError, "max_rate is above 0"),
    ({"max_rate": float("nan")}, ConfigurationError, "max_rate is above 0"),
    ({"view": "liquidity"}, UnknownSymbol, "no aggregator of this run writes 'liquidity'"),
])
def test_what_cannot_be_served_is_refused_with_the_reason(shared, request_, error, words):
    with Worlds(shared[1], timeout=60, **request_) as worlds, pytest.raises(error, match=words):
        next(worlds)


def test_a_new_scale_of_an_instrument_replaces_the_old_one_in_a_running_stream(run, server):
    run.level(100)
    with Worlds(server, timeout=60) as worlds:
        assert next(worlds).bids[0].price == "0.000001"
        slot = run.spine.add_instrument(11, "ETH-BTC", 1, 10, 8).slot
        run.worlds.write(slot, world(11, 500, [(100, 1, 1)], [], now=run.spine.clock.cycles()))
        run.spine.doorbell.ring()
        assert next(worlds).bids[0].price == "0.00000001"
    assert [one.name for one in instruments(server)] == ["ETH-BTC", "BTC-USD"]


# Conflation, slowness, limits -----------------------------------------------------------------------------------


def test_states_faster_than_the_limit_are_conflated_to_it_in_order_and_the_last_one_arrives(run, server):
    run.level(1)
    with Worlds(server, timeout=60) as worlds:
        next(worlds)
        with flooding(run):
            threading.Timer(2.0, worlds.close).start()
            came = [state.sequence for state in worlds]
        last = run.level(10**6)
    with Worlds(server, timeout=60) as worlds:
        assert next(worlds).sequence == last
    assert came == sorted(set(came))
    assert len(came) <= 401
    assert last - 1 > len(came)         # or nothing was conflated


def test_after_a_burst_the_newest_state_arrives_without_another(run, server):
    run.level(1)
    with Worlds(server, timeout=60) as worlds:
        next(worlds)
        for number in range(2, 200):
            last = run.level(number)
        assert any(state.sequence == last for state in worlds)


def test_a_client_may_ask_for_fewer(run, server):
    with flooding(run), Worlds(server, max_rate=10, timeout=1.5) as worlds:
        assert len(list(worlds)) <= 16


def test_a_slow_client_gets_the_newest_states_and_costs_nobody_anything(run, server):
    with flooding(run), Worlds(server, timeout=60) as slow, Worlds(server, timeout=60) as quick:
        next(slow)
        deadline, came = time.monotonic() + 2, 0
        for state in quick:         # at its full rate while the other reads nothing
            came += 1
            assert state.sequence >= run.sequence - 1500, "the quick one lags"
            if time.monotonic() > deadline:
                break
        asleep_until = run.sequence
        stale = sum(1 for _ in itertools.takewhile(lambda state: state.sequence < asleep_until, slow))
    assert came > 20
    assert stale <= 10          # what its own receive window held, of the hundreds that were published


def test_the_65th_stream_is_refused_and_a_closed_one_makes_room(run, server):
    run.level(1)
    streams = [Worlds(server, timeout=60) if number % 2 else Summaries(server, timeout=60) for number in range(64)]
    for stream in streams:
        next(stream)
    with pytest.raises(ConnectError, match="all 64 streams are taken"):
        next(Worlds(server, timeout=60))
    with grpc.insecure_channel(server) as channel, pytest.raises(grpc.RpcError) as refusal:
        next(book_summary(channel))
    assert refusal.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert len(instruments(server)) == 2        # other calls go on
    streams.pop().close()
    deadline = time.monotonic() + 60
    while True:
        try:
            streams.append(Worlds(server, timeout=60))
            next(streams[-1])
            break
        except ConnectError:
            assert time.monotonic() < deadline
    for stream in streams:
        stream.close()


# The process ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_though_a_client_does_not_read(run, number):
    with serving(run) as (address, process), flooding(run):
        with Worlds(address, timeout=60) as stalled, Worlds(address, timeout=60) as reading:
            next(stalled)
            threading.Timer(0.5, process.send_signal, [number]).start()
            with pytest.raises(Closed, match="this run of mantra ends"):
                list(reading)
            assert process.wait(20) == 0        # `stalled` would hold it for a minute


def test_it_ends_with_its_run():
    with new_run() as spine:
        with serving(Run(spine)) as (_, process):
            spine.close()
            assert process.wait(60) == 0


def test_a_port_that_was_named_and_is_taken_is_one_line_and_exit_2(run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with serving(run, listen=("--listen", listen)) as (address, process):
            assert address == ""
            _, text = process.communicate(timeout=60)
    assert process.returncode == 2
    assert text == (f"mantra: cannot listen on {listen} (Address already in use): "
                    "choose another address with --listen HOST:PORT\n")


@pytest.mark.parametrize("options", [(), ("--listen", "127.0.0.1:50051", "--move")])
def test_a_default_port_that_is_taken_moves_on_and_says_so(run, options):
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 50051))
        except OSError:
            pytest.skip("port 50051 is in use by something else, which a test must not stop")
        taken.listen()
        with serving(run, listen=options) as (address, process):
            assert address.startswith("127.0.0.1:")
            assert address != "127.0.0.1:50051"
            process.terminate()
            _, text = process.communicate(timeout=60)
    assert text.splitlines()[0] == f"mantra: port 50051 is taken; gRPC moves on to {address}"


@pytest.mark.parametrize(("options", "words"), [
    (["--run", "no-such-run"], "no run 'no-such-run'"),
    (["--listen", "nonsense"], "'nonsense' is not HOST:PORT"),
    (["--streams", "0"], "--streams at least 1"),
])
def test_bad_usage_is_exit_2(run, options, words):
    done = subprocess.run([sys.executable, "-m", "mantra.service.grpc_server", "--run", run.spine.run, *options],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


# The door -------------------------------------------------------------------------------------------------------


def client(*options):
    return subprocess.run([sys.executable, "-m", "mantra.service.door", *options], capture_output=True, text=True,
                          timeout=60)


def test_the_client_prints_states_and_ends_with_one_object(run, server):
    run.write([(6812345, 100000000, 1)], [(6812340, 5, 2)])
    done = client("--address", server, "--duration", "0.5", "--levels")
    assert done.returncode == 0
    assert "1 @ 0.06812345 binance | 0.00000005 @ 0.0681234 bitstamp  spread -0.00000005" in done.stdout
    done = client("--address", server, "--duration", "0.5", "--json")
    answer = json.loads(done.stdout.splitlines()[-1])
    assert (answer["states"], answer["last"]["spread"]) == (1, "-0.00000005")
    done = client("--address", server, "--duration", "0.5", "--compatible")
    assert done.stdout == "1 @ 0.06812345 binance | 5e-08 @ 0.0681234 bitstamp  spread -5e-08\n"


def test_the_client_says_in_one_line_what_is_wrong(shared):
    server = shared[1]
    done = client("--address", server, "--instrument", "dogeusd")
    assert (done.returncode, done.stderr) == (
        2, f"mantra client: {server}: this run has no dogeusd; it has ETH-BTC, BTC-USD\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"127.0.0.1:{taken.getsockname()[1]}"
    done = client("--address", nobody)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
