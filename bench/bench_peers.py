"""A 56-byte message from Python to Python (in mantra a slot of 64 bytes): mantra beside what else there is, in one run.

    python bench/bench_peers.py [--turns 10] [--json]      needs two cores; `pip install -e '.[bench]'` for all peers

One way is half of a round trip, each measured; throughput is the time until the reader has the last of a burst. All
peers take turns, so that all meet the same machine; both ends are pinned, and the reader checks every byte it is told.
Who polls answers soonest and takes a whole core for it; who sleeps is woken by the system, which costs more than the
message; mantra's wait() looks for some microseconds before it sleeps ("both"). In a burst it is the other way round:
who polls stays right behind the sender and takes the message's line from it each time, who is woken finds many. Between
threads nobody polls: a polling Python thread would keep the GIL from the other.
"""
from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import multiprocessing
import os
import queue
import statistics
import struct
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mantra.core.doorbell import Doorbell
from mantra.core.queue import Queue
from mantra.telemetry.bench import cores

SIZE, ROUNDS, BURST, ROOM = 56, 300, 5_000, 8192      # a burst fits in every ring: none waits for its reader
CONTEXT = multiprocessing.get_context("spawn")
TEXTS = [struct.pack("<7Q", number, number, number, 0, 0, 0, 0) for number in range(BURST)]


class End(NamedTuple):
    """One side's way to send and to take bytes."""

    send: Callable[[bytes], Any]
    take: Callable[[], bytes]
    keep: Any = None        # what must live as long


# Each peer: what both sides need to know (picklable), made by one side, and each side's end made of it.


class Mantra:
    waits, threads = "polls", False

    def __init__(self, name: str) -> None:
        self.name = name
        self.made = [Queue.create(f"{name}.{way}", "update", ROOM) for way in range(2)]
        self.bells = [Doorbell.create(f"{name}.bell{way}") for way in range(2)]

    def __getstate__(self) -> dict[str, Any]:
        return {"name": self.name}

    def end(self, side: int) -> End:
        producer = Queue.open(f"{self.name}.{side}", write=True).producer()
        consumer = Queue.open(f"{self.name}.{1 - side}").consumer("oldest")

        def take() -> bytes:
            while (taken := consumer.read_bytes()) is None:
                pass
            return taken

        return End(producer.produce, take)

    def close(self) -> None:
        for each in self.made + self.bells:
            each.close()


class MantraWaits(Mantra):
    waits, threads = "both", True

    def end(self, side: int) -> End:
        bells = [Doorbell.open(f"{self.name}.bell{way}") for way in range(2)]
        producer = Queue.open(f"{self.name}.{side}", write=True).producer(doorbell=bells[side])
        consumer = Queue.open(f"{self.name}.{1 - side}").consumer("oldest", doorbell=bells[1 - side])

        def take() -> bytes:
            while (taken := consumer.read_bytes()) is None:
                consumer.wait(1.0)
            return taken

        return End(producer.produce, take)


class Ring:
    """What one would write in plain Python: slots in SharedMemory, a number before each; right on x86 only."""

    waits, threads = "polls", False

    def __init__(self, name: str) -> None:
        self.made = [SharedMemory(create=True, size=64 * ROOM) for _ in range(2)]
        self.names = [each.name for each in self.made]

    def __getstate__(self) -> dict[str, Any]:
        return {"names": self.names}

    def end(self, side: int) -> End:
        there, back = (SharedMemory(self.names[way]) for way in (side, 1 - side))
        numbers, sent, taken = back.buf.cast("Q"), 0, 0
        write = struct.Struct("<Q").pack_into

        def send(data: bytes) -> None:
            nonlocal sent
            at = sent % ROOM * 64
            there.buf[at + 8:at + 64] = data
            sent += 1
            write(there.buf, at, sent)

        def take() -> bytes:
            nonlocal taken
            at = taken % ROOM * 64
            taken += 1
            while numbers[at // 8] != taken:
                pass
            return bytes(back.buf[at + 8:at + 64])

        return End(send, take, (there, back))

    def close(self) -> None:
        for each in self.made:
            each.close()
            each.unlink()


class Queues:
    """multiprocessing.Queue."""

    waits, threads = "sleeps", False

    def __init__(self, name: str) -> None:
        self.both = [CONTEXT.Queue() for _ in range(2)]

    def end(self, side: int) -> End:
        return End(self.both[side].put, self.both[1 - side].get)

    def close(self) -> None:
        for each in self.both:
            each.close()


class Pipes:
    """multiprocessing.Pipe."""

    waits, threads = "sleeps", False

    def __init__(self, name: str) -> None:
        self.both = CONTEXT.Pipe()

    def end(self, side: int) -> End:
        return End(self.both[side].send_bytes, self.both[side].recv_bytes)

    def close(self) -> None:
        for each in self.both:
            each.close()


class Simple:
    """queue.SimpleQueue."""

    waits, threads = "sleeps", True

    def __init__(self, name: str) -> None:
        self.both = [queue.SimpleQueue[bytes]() for _ in range(2)]

    def end(self, side: int) -> End:
        return End(self.both[side].put, self.both[1 - side].get)

    def close(self) -> None:
        pass


class Zmq:
    """pyzmq PAIR over ipc."""

    waits, threads, address = "sleeps", False, "ipc://@{}"

    def __init__(self, name: str) -> None:
        self.at = self.address.format(name)

    def end(self, side: int) -> End:
        import zmq

        socket = (zmq.Context.instance() if self.threads else zmq.Context()).socket(zmq.PAIR)
        socket.setsockopt(zmq.LINGER, 0)
        socket.bind(self.at) if side == 0 else socket.connect(self.at)
        return End(socket.send, socket.recv, socket)

    def close(self) -> None:
        pass


class ZmqInside(Zmq):
    """pyzmq PAIR over inproc."""

    threads, address = True, "inproc://{}"


class Iceoryx:
    """iceoryx2 publish-subscribe, blocking when full."""

    waits, threads = "polls", False

    def __init__(self, name: str) -> None:
        import iceoryx2

        self.name = name
        self.made = [self.service(iceoryx2, way) for way in range(2)]

    def __getstate__(self) -> dict[str, Any]:
        return {"name": self.name}

    def service(self, ice: Any, way: int) -> Any:
        class Payload(ctypes.Structure):
            _fields_ = [("words", ctypes.c_uint64 * 7)]

            @staticmethod
            def type_name() -> str:
                return "Payload"

        ice.set_log_level(ice.LogLevel.Error)
        node = ice.NodeBuilder.new().create(ice.ServiceType.Ipc)
        made = node.service_builder(ice.ServiceName.new(f"{self.name}/{way}")).publish_subscribe(Payload)
        return made.enable_safe_overflow(False).subscriber_max_buffer_size(ROOM).open_or_create(), node

    def end(self, side: int) -> End:
        import iceoryx2 as ice

        (there, _), (back, _) = both = self.service(ice, side), self.service(ice, 1 - side)
        publisher, subscriber = there.publisher_builder().create(), back.subscriber_builder().create()

        def send(data: bytes) -> None:
            sample = publisher.loan_uninit()
            ctypes.memmove(sample.payload_ptr, data, SIZE)
            sample.assume_init().send()

        def take() -> bytes:
            while (sample := subscriber.receive()) is None:
                pass
            data = ctypes.string_at(sample.payload_ptr, SIZE)
            sample.delete()
            return data

        return End(send, take, (both, publisher, subscriber))

    def close(self) -> None:
        pass


PEERS: dict[str, type[Any]] = {
    "mantra": Mantra, "mantra, wait()": MantraWaits, "SharedMemory ring in Python": Ring, "iceoryx2": Iceoryx,
    "pyzmq ipc": Zmq, "multiprocessing.Pipe": Pipes, "multiprocessing.Queue": Queues,
}
THREADS: dict[str, type[Any]] = {"mantra, wait()": MantraWaits, "queue.SimpleQueue": Simple, "pyzmq inproc": ZmqInside}


def answer(peer: Any, control: Any, core: int) -> None:
    """The other side: what is asked comes on `control`, so that it sleeps while others have their turn."""
    os.sched_setaffinity(0, {core})
    end = peer.end(1)
    control.send("ready")
    while task := control.recv():
        for wanted in TEXTS[:task[1]]:
            data = end.take()
            if data != wanted:
                control.send(f"{data!r} came instead of {wanted!r}")
                return
            if task[0] == "echo":
                end.send(data)
        control.send("done")


class Pair:
    """A peer with its other side running."""

    def __init__(self, name: str, peer: Any, use: list[int], threads: bool) -> None:
        self.name, self.peer = name, peer
        self.control, other = CONTEXT.Pipe()
        start = threading.Thread if threads else CONTEXT.Process
        self.side = start(target=answer, args=(peer, other, use[1]), daemon=True)
        self.side.start()
        self.end = peer.end(0)
        self.hear("ready")
        self.latencies: list[int] = []
        self.rates: list[float] = []

    def hear(self, wanted: str) -> None:
        if not self.control.poll(30.0) or (said := self.control.recv()) != wanted:
            sys.exit(f"bench_peers: {self.name}: {said if self.control else 'no answer'}")

    def turn(self) -> None:
        send, take, clock = self.end.send, self.end.take, time.perf_counter_ns
        self.control.send(("echo", ROUNDS))
        spans = []
        for text in TEXTS[:ROUNDS]:
            began = clock()
            send(text)
            answered = take()
            spans.append(clock() - began)
            if answered != text:
                sys.exit(f"bench_peers: {self.name}: {answered!r} came back")
        self.hear("done")
        self.latencies += spans[ROUNDS // 10:]
        self.control.send(("burst", BURST))
        began = clock()
        for text in TEXTS:
            send(text)
        self.hear("done")
        self.rates.append(BURST * 1e9 / (clock() - began))

    def close(self) -> None:
        self.control.send(None)
        self.side.join(5.0)
        self.peer.close()

    def result(self) -> dict[str, float]:
        one_way = sorted(span / 2 for span in self.latencies)
        return {"p50_ns": one_way[len(one_way) // 2], "p99_ns": one_way[len(one_way) * 99 // 100],
                "per_second": statistics.median(self.rates), "waits": self.peer.waits}


def run(peers: dict[str, type[Any]], use: list[int], turns: int, threads: bool) -> dict[str, dict[str, float]]:
    pairs, before = [], os.sched_getaffinity(0)
    with contextlib.ExitStack() as stack:
        stack.callback(os.sched_setaffinity, 0, before)
        for number, (name, kind) in enumerate(peers.items()):
            try:
                peer = kind(f"peers-{os.getpid()}-{number}")
                pairs.append(Pair(name, peer, use, threads))
            except ImportError as missing:
                print(f"{name}: not installed ({missing})", file=sys.stderr)
                continue
            stack.callback(pairs[-1].close)
        os.sched_setaffinity(0, {use[0]})       # only now: processes inherit it, and on one core nobody would spin
        for _ in range(turns):
            for pair in pairs:
                pair.turn()
    return {pair.name: pair.result() for pair in pairs}


def show(title: str, rows: dict[str, dict[str, float]]) -> None:
    first = next(iter(rows.values()))
    print(f"\n{title:32}{'waits':>8}{'p50 us':>10}{'p99 us':>10}{'ratio':>8}{'messages/s':>14}{'ratio':>8}")
    for name, row in rows.items():
        print(f"  {name:30}{row['waits']:>8}{row['p50_ns'] / 1e3:10.2f}{row['p99_ns'] / 1e3:10.2f}"
              f"{row['p50_ns'] / first['p50_ns']:8.1f}{row['per_second']:14,.0f}"
              f"{first['per_second'] / row['per_second']:8.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    options = parser.parse_args()
    use = cores()[:2]
    if len(use) < 2:
        sys.exit("bench_peers: needs two cores")
    results = {"processes": run(PEERS, use, options.turns, False), "threads": run(THREADS, use, options.turns, True)}
    for kind, rows in results.items():
        show(f"one way, between {kind}", rows)
    if options.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
