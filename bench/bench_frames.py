"""From a loopback socket to the published top, 211-byte frames; picows and websocket-client to an empty callback.

    python bench/bench_frames.py [--messages 200000] [--passes 5] [--json]

A process of its own sends a burst of Bitstamp diffs, each changing both best levels; each reader connects and takes all
of it in turn, in the same run. mantra's is the feed of a running system: wire, decoding, book, queues. Per message: the
reader's CPU time (system time included) and the wall time, the least of the passes. Sending may be the slower end: wall
time shows that, CPU time does not. Every reader must find every message and every byte (picows in a pass of its own, as
an empty callback cannot count), and mantra's last top must be what the last message says.
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

from mantra import venues
from mantra.client.feed import bare_feed
from mantra.client.websocket import WebSocketClient
from mantra.core.hot_path import Event
from mantra.runtime.spine import Spine

PAYLOAD = 211
SYMBOL = "mantratestingthisbenchusdt"     # as long as makes such a message 211 bytes
FIRST = 10**15      # microtimestamp of the first message

SENDER = r"""
import base64, hashlib, socket, sys
messages, size, first = map(int, sys.argv[1:4])
text = (b'{"data":{"timestamp":"1700000000","microtimestamp":"%d","bids":[["20000.01","0.%08d"]],'
        b'"asks":[["20000.02","0.%08d"]]},"channel":"diff_order_book_' + sys.argv[4].encode() + b'","event":"data"}')
stream = b"".join(bytes((0x81, 126, 0, size)) + text % (first + i, 1 + i, 2 + i) for i in range(messages))
assert len(stream) == messages * (size + 4), len(stream) / messages
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
    connection.sendall(stream)
    connection.sendall(bytes([0x88, 0]))
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(4096):
        pass
    connection.close()
"""

Result = tuple[float, float]        # CPU seconds, wall seconds

spine, bitstamp = Spine.private(), venues.get("bitstamp")
feed = bare_feed(spine, "bitstamp", bitstamp, most_books=1, socket_to_top=spine.histogram("socket_to_top"))
feed.add_book(*spine.make_book("bitstamp", bitstamp.id, SYMBOL, 0), [SYMBOL], 0, 2, 8)
feed_row = spine.ledger.row("bitstamp", bitstamp.id)


def timed(read: Callable[[int, int], None], port: int, messages: int) -> Result:
    cpu, wall = time.process_time(), time.perf_counter()
    read(port, messages)
    return time.process_time() - cpu, time.perf_counter() - wall


def with_mantra(port: int, messages: int) -> None:
    feed.attach(transport := WebSocketClient(f"ws://127.0.0.1:{port}/").connect())
    feed.begin()
    feed.splice(0, b'{"timestamp":"1","microtimestamp":"1","bids":[["20000.00","1"]],"asks":[["20000.03","1"]]}')
    before = feed_row["tops"]
    assert feed.run(60) == Event.CLOSED
    top = spine.tops.read(0)
    assert feed_row["tops"] - before == messages
    assert top.sequence == FIRST + messages - 1
    assert (top.bids[0], top.asks[0]) == ((2000001, messages), (2000002, messages + 1))
    transport.close()


class Nothing(picows.WSListener):
    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        pass


class Counting(picows.WSListener):
    count = size = 0

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type == picows.WSMsgType.TEXT:
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
    connection = websocket.create_connection(f"ws://127.0.0.1:{port}/", skip_utf8_validation=True)
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
    senders = {size: subprocess.Popen([sys.executable, "-c", SENDER, str(size), str(PAYLOAD), str(FIRST), SYMBOL],
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
