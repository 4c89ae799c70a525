"""Service: what a state costs to read and encode, once for all, and what each client adds.

    python bench/bench_service.py [--seconds N] [--json]

One world of ten levels a side changes 2,000 times a second; the service runs in a process of its own, as it does in a
run, the clients together in another. Its processor time is read from the kernel, so a busy machine stretches the ages
but hardly the costs. Every client checks that states come in order and ends on the newest one.
"""
from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import grpc
import numpy

from mantra.core.messages import World
from mantra.runtime.spine import Spine
from mantra.service import mantra_pb2, orderbook_pb2
from mantra.service.grpc_server import summary, world
from mantra.service.service import Views

PER_SECOND = 2_000


def write(spine: Spine, sequence: int) -> None:
    bids, asks = [6_812_300 - row for row in range(10)], [6_812_299 + row for row in range(10)]
    sizes, masks = [sequence + row for row in range(10)], [1, 2] * 5
    spine.worlds.write(0, World(
        origin=spine.clock.cycles(), instrument=7, sequence=sequence, bid_count=10, ask_count=10, trust=[4, 3],
        bid_price=bids, bid_size=sizes, bid_venues=masks, ask_price=asks, ask_size=sizes, ask_venues=masks))
    spine.doorbell.ring()


def best(function, count: int = 300, repeats: int = 10) -> float:
    """Microseconds a call, the best of `repeats` rounds."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter_ns()
        for _ in range(count):
            function()
        times.append((time.perf_counter_ns() - began) / count / 1e3)
    return min(times)


def encoding() -> dict[str, float]:
    with Spine.private() as spine:
        spine.add_instrument(7, "ETH-BTC", 0, 8, 8)
        write(spine, 1)
        views = Views(spine)
        state = views.read("world", "ETH-BTC")
        compatible, exact = summary(state, 10), world(state, 10)
        assert orderbook_pb2.Summary.FromString(compatible).spread == -1e-8
        assert mantra_pb2.World.FromString(exact).bids[9].price == "0.06812291"
        return {"read_us": best(lambda: views.read("world", "ETH-BTC")),
                "summary_us": best(lambda: summary(state, 10)), "summary_bytes": len(compatible),
                "world_us": best(lambda: world(state, 10)), "world_bytes": len(exact)}


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def follow(address: str, streams: int) -> None:
    """Clients, a connection each: read until standard input closes, then until the newest state is there."""
    counts, ages, newest, last = [0] * streams, [], [0] * streams, [float("inf")]

    async def one(place: int) -> None:
        async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            call = channel.unary_stream("/mantra.v1.MarketData/Worlds")(b"")
            async for payload in call:
                counts[place] += 1
                if place == 0 or last[0] < float("inf"):        # parsing is the client's cost, one is enough for ages
                    state = mantra_pb2.World.FromString(payload)
                    assert state.sequence > newest[place]
                    newest[place] = state.sequence
                    if place == 0:
                        ages.append(time.time_ns() - state.origin_ns)
                    if state.sequence >= last[0]:
                        break

    async def end() -> None:
        text = await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        print(json.dumps([sum(counts), len(ages)]), flush=True)
        text = await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        print(json.dumps([sum(counts), len(ages)]), flush=True)
        last[0] = int(text)

    await asyncio.wait_for(asyncio.gather(end(), *(one(place) for place in range(streams))), 60)
    print(json.dumps([float(age) for age in numpy.percentile(ages, [50, 99]) / 1e6]), flush=True)


def fan_out(streams: int, seconds: float) -> dict[str, float]:
    with Spine.create(f"bench-service-{os.getpid()}-{streams}") as spine:
        spine.add_instrument(7, "ETH-BTC", 0, 8, 8)
        sequence = 0

        def flood(seconds: float) -> None:
            nonlocal sequence
            began, first = time.monotonic(), sequence
            while (elapsed := time.monotonic() - began) < seconds:
                while sequence - first < elapsed * PER_SECOND:
                    sequence += 1
                    write(spine, sequence)
                time.sleep(0.0003)

        reader, writer = os.pipe()
        server = subprocess.Popen([sys.executable, "-m", "mantra.service.grpc_server", "--run", str(spine.run),
                                   "--listen", "127.0.0.1:0", "--ready-fd", str(writer)], pass_fds=[writer],
                                  stderr=subprocess.DEVNULL)
        os.close(writer)
        with os.fdopen(reader) as ready:
            address = ready.readline().strip()
        clients = subprocess.Popen([sys.executable, __file__, "--follow", address, str(streams)], text=True,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert clients.stdin
        assert clients.stdout

        def ask(text: object) -> list[float]:
            print(text, file=clients.stdin, flush=True)
            return json.loads(clients.stdout.readline())

        try:
            flood(2.0)      # everybody has connected
            before, cpu, began = ask("count"), processor_seconds(server.pid), time.monotonic()
            flood(seconds)
            last = sequence + 1
            after = ask(last)
            cpu, elapsed = processor_seconds(server.pid) - cpu, time.monotonic() - began
            write(spine, last)
            median, p99 = json.loads(clients.stdout.readline())
            assert clients.wait(20) == 0
        finally:
            server.terminate()
            assert server.wait(1.0) == 0
            clients.kill()
            clients.wait()
    sent, states = after[0] - before[0], after[1] - before[1]
    return {"streams": streams, "per_second_and_client": sent / streams / elapsed, "cores": cpu / elapsed,
            "us_per_message": cpu / sent * 1e6, "age_ms_p50": median, "age_ms_p99": p99, "states": states}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--follow", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.follow:
        asyncio.run(follow(options.follow[0], int(options.follow[1])))
        return
    encoded = encoding()
    fans = [fan_out(streams, options.seconds) for streams in (1, 8, 64)]
    if options.json:
        print(json.dumps({"encoding": encoded, "fan_out": fans}))
        return
    print(f"once a state: read {encoded['read_us']:.1f} us, encode Summary {encoded['summary_us']:.1f} us "
          f"({encoded['summary_bytes']} bytes), World {encoded['world_us']:.1f} us ({encoded['world_bytes']} bytes)")
    print("clients   updates/s each   server's us a message   cores   age at the client p50 / p99 ms")
    for fan in fans:
        print(f"{fan['streams']:7d} {fan['per_second_and_client']:16.1f} {fan['us_per_message']:23.1f} "
              f"{fan['cores']:7.2f} {fan['age_ms_p50']:15.2f} / {fan['age_ms_p99']:.2f}")


if __name__ == "__main__":
    main()
