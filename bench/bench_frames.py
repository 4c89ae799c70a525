"""From a loopback socket to a callback that does nothing, 211-byte frames: this wire, picows, websocket-client.

    python bench/bench_frames.py [--messages 200000] [--passes 5] [--json]

A process of its own sends a burst; each reader connects and takes all of it in turn, in the same run. Per message: the
reader's CPU time (system time included) and the wall time, the least of the passes. Sending may be the slower end: wall
time shows that, CPU time does not. Every reader must find every message and every byte (picows in a pass of its own,
as an empty callback cannot count).
"""
from __future__ import annotations

import argparse
import asyncio
import json
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import picows
import websocket

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mantra.client.websocket import WebSocketClient
from mantra.core.drain import Drain

PAYLOAD = 211

SENDER = r"""
import base64, hashlib, socket, sys
messages, size = int(sys.argv[1]), int(sys.argv[2])
frame = bytes([0x82, 126, 0, size]) + bytes(range(size))
chunk, rest = frame * 1000, frame * (messages % 1000)
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    connection, _ = listener.accept()
    request = b""
    while not request.endswith(b"\r\n\r\n"):
        request += connection.recv(4096)
    key = next(line for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:")).split()[1]
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                       b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
    for _ in range(messages // 1000):
        connection.sendall(chunk)
    connection.sendall(rest + bytes([0x88, 0]))
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(4096):
        pass
    connection.close()
"""

Result = tuple[float, float]        # CPU seconds, wall seconds


def timed(read: Callable[[int, int], None], port: int, messages: int) -> Result:
    cpu, wall = time.process_time(), time.perf_counter()
    read(port, messages)
    return time.process_time() - cpu, time.perf_counter() - wall


def with_mantra(port: int, messages: int) -> None:
    drain = Drain(WebSocketClient(f"ws://127.0.0.1:{port}/").connect())
    drain.run(messages + 1)
    assert drain.messages == messages
    assert drain.payload_bytes == messages * PAYLOAD
    drain.source.close()


class Nothing(picows.WSListener):
    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        pass


class Counting(picows.WSListener):
    count = size = 0

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type == picows.WSMsgType.BINARY:
            self.count += 1
            self.size += len(frame.get_payload_as_bytes())


def with_picows(port: int, messages: int, listener: type[picows.WSListener] = Nothing) -> None:
    async def read() -> None:
        transport, own = await picows.ws_connect(listener, f"ws://127.0.0.1:{port}/")
        await transport.wait_disconnected()
        if isinstance(own, Counting):
            assert own.count == messages
            assert own.size == messages * PAYLOAD

    asyncio.run(read())


def with_websocket_client(port: int, messages: int) -> None:
    connection = websocket.create_connection(f"ws://127.0.0.1:{port}/")
    size = sum(len(connection.recv()) for _ in range(messages))
    assert size == messages * PAYLOAD
    connection.close()


def with_recv(port: int, messages: int) -> None:
    """The floor: the same bytes off the socket into one buffer, not looked at."""
    transport = WebSocketClient(f"ws://127.0.0.1:{port}/").connect()
    plain, buffer = socket.socket(fileno=transport.fileno()), bytearray(65536)
    plain.setblocking(True)
    left = messages * (PAYLOAD + 4) + 2         # the close frame
    while left > 0:
        left -= plain.recv_into(buffer)
    plain.detach()
    transport.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    options = parser.parse_args()
    slow = max(1, options.messages // 20)       # websocket-client takes 40 times as long
    sizes = {"recv": options.messages, "mantra": options.messages, "picows": options.messages, "websocket-client": slow}
    readers: dict[str, Callable[[int, int], None]] = {
        "recv": with_recv, "mantra": with_mantra, "picows": with_picows, "websocket-client": with_websocket_client}
    senders = {size: subprocess.Popen([sys.executable, "-c", SENDER, str(size), str(PAYLOAD)],
                                      stdout=subprocess.PIPE, text=True)
               for size in set(sizes.values())}
    ports = {size: int(sender.stdout.readline()) for size, sender in senders.items() if sender.stdout}
    best: dict[str, Result] = {}
    try:
        with_picows(ports[slow], slow, Counting)
        for _ in range(options.passes):         # by turns: what disturbs the machine disturbs all of them
            for name, read in readers.items():
                size = sizes[name]
                cpu, wall = (seconds / size * 1e9 for seconds in timed(read, ports[size], size))
                before = best.get(name, (cpu, wall))
                best[name] = min(before[0], cpu), min(before[1], wall)
    finally:
        for sender in senders.values():
            sender.kill()
            sender.wait()
    print(f"{PAYLOAD}-byte frames in a burst, Python {platform.python_version()} ({platform.machine()}), "
          f"least of {options.passes} passes, ns per message")
    print(f"{'reader':<18} {'CPU':>8} {'wall':>8} {'CPU / picows':>14}")
    for name, (cpu, wall) in best.items():
        print(f"{name:<18} {cpu:>8.0f} {wall:>8.0f} {cpu / best['picows'][0]:>14.2f}")
    if options.json:
        print(json.dumps({name: {"cpu_ns": cpu, "wall_ns": wall} for name, (cpu, wall) in best.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
