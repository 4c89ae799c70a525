"""server: one simulated venue on one loopback port, WebSocket and REST, as its clients see it.

    source --publish(channel, message)--> dialect.spell for each subscriber --text--> faults --> its connection
    client --text--> dialect.heard     client --GET--> dialect.rest, or /simulator/... to steer and inspect

What is peculiar to a venue is a `Venue` subclass, its dialect, in the file of its name. What it hears it answers with

    connection.acknowledge(text)        an acknowledgement, which a fault may lose
    connection.say(text)                anything else that is for this client alone; no fault touches it
    snapshot(symbol), subscribe(...)    the book as published up to now, then a part in all that follows
    connection.deliver(text, channel)   a snapshot or history: a message like those that are published

and what the market does it publishes: a channel is any string (`book-25 BTC/USD`), a message any object. `spell` makes
a subscriber's text of it, or none, with what a connection remembers: `channels[channel]`, the dialect's own note on a
subscription (an id, a depth); `number`, of the last frame where the venue counts them; `flags` and `api`, how this
client wants to be spoken to. A frame is spelt, so numbered, before it is dropped. `greet` speaks first, `tick` ten
times a second: heartbeats and idle ends. Faults inside a message (`checksum`, `skip`) are the dialect's: it asks
`faults.hits`. Times on the wire pass through `told`, which is off where the venue's clock is. Where a venue shows only
the best levels, market.View says what its subscribers have to be told.

Built on `websockets`, so that mantra's own client and this server cannot share one misunderstanding; nothing here
imports mantra's market data code.

    GET /simulator/state                    connections, messages, faults so far
    GET /simulator/book?symbol=S[&sequence=N]   the venue's true book, at an earlier sequence if asked
    GET /simulator/was?symbol=S&depth=N&mark=HEX    was this ever the true book in the last 10 s? (source.level_mark)
    POST /simulator/faults?drop=0.01&...    replace the faults (see faults.py; drop=0: none any more)
    POST /simulator/now?drop=2&cut=1&...    once: the next 2 messages; also stall=, restart=, reconnect=, maintenance=,
                                            ban=, cross= or skew=SECONDS
"""
# ruff: noqa: B027 - many venues have nothing to say there
from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import ssl
import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Sequence
from email.utils import formatdate
from functools import partial
from http import HTTPStatus
from typing import Any, ClassVar, cast
from urllib.parse import parse_qsl, urlsplit

from websockets import http11
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State

from mantra.errors import ConfigurationError
from mantra.simulator.faults import CHANCES, Faults, parse, seconds
from mantra.simulator.market import Instrument, Trade, World
from mantra.simulator.source import Image, Listed, Listing, Source, rows_json

http11.MAX_LINE_LENGTH = 1 << 16    # up to 1,024 streams stand in a request's first line; the library stops at 8 kB
SLOW_READER_BYTES = 64 << 20        # what may wait for a client before the venue gives it up

LOG = logging.getLogger("mantra.simulator")
# Clients that leave in the middle of a handshake are their own business; a handler that fails is ours.
LOG.addFilter(lambda record: record.getMessage() not in ("opening handshake failed", "unexpected internal error"))


class Window:
    """So many in any `span` seconds."""

    def __init__(self, count: int, span: float) -> None:
        self.count, self.span = count, span
        self.times: deque[float] = deque()

    def admits(self, now: float) -> bool:
        while self.times and self.times[0] <= now - self.span:
            self.times.popleft()
        self.times.append(now)
        return len(self.times) <= self.count


def compact(value: Any, **options: Any) -> str:
    """JSON without spaces."""
    return json.dumps(value, separators=(",", ":"), **options)


def text_frame(payload: bytes) -> bytes:
    return Frame(Opcode.TEXT, payload).serialize(mask=False)


def answer(status: int, body: str | bytes, content_type: str = "application/json", **headers: str) -> Response:
    """A REST answer. `websockets` serves one request a connection, and says so."""
    content = body.encode() if isinstance(body, str) else body
    fields = Headers([("Date", formatdate(usegmt=True)), ("Connection", "close"), ("Content-Type", content_type),
                      ("Content-Length", str(len(content)))])
    for name, value in headers.items():
        fields[name.replace("_", "-")] = value
    return Response(status, HTTPStatus(status).phrase, fields, content)


class Connection(ServerConnection):
    """A client of a venue: what it subscribed to, and the faults on its way."""

    def __init__(self, venue: Venue, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.venue = venue
        self.channels: dict[str, Any] = {}                  # in order of subscription: the dialect's note on each
        self.api = ""                                       # which of the venue's ways of speaking
        self.flags = 0                                      # what the client set
        self.number = 0                                     # of the last frame, where the venue counts them
        self.heard_at = self.sent_at = self.loop.time()     # anything at all
        self.beat_at = 0.0                                  # the dialect's last heartbeat
        self.held: list[bytes] | None = None                # not None: stalled, and this waits
        self.late: dict[str, bytes] = {}                    # reordered: goes after the channel's next frame
        self.tasks: list[asyncio.Task[None]] = []
        self.inbound = Window(venue.inbound_per_second, 1.0)

    def process_event(self, event: Any) -> None:
        """Count what comes in; over the venue's limit of messages a second the connection is closed."""
        limited = self.request is not None and self.venue.limits and self.venue.inbound_per_second
        if limited and event.opcode is not Opcode.CLOSE and not self.inbound.admits(self.loop.time()):
            self.venue.overrun()
            self.end(1008, "Too many requests")
        else:
            super().process_event(event)

    def end(self, code: int, reason: str = "") -> None:
        """Begin to close."""
        self.tasks.append(self.loop.create_task(self.close(code, reason)))

    def say(self, text: str) -> None:
        """Tell this client only; faults on messages do not apply."""
        self._write(text_frame(text.encode()))

    def acknowledge(self, text: str, channel: str = "") -> None:
        """Answer a subscription, unless that answer is to be lost."""
        if not self.venue.faults.hits("unacked", channel):
            self.say(text)

    def deliver(self, text: str, channel: str) -> None:
        """Send a book or trade message, through the faults where there are any."""
        frame = text_frame(text.encode())
        self.venue.counts["messages"] += 1
        faults = self.venue.faults
        if not faults.on_frames and not self.late:
            self._write(frame)
        elif not faults.hits("drop", channel):
            if channel not in self.late and faults.hits("reorder", channel):
                self.late[channel] = frame
                return
            frames = [frame] * (2 if faults.hits("duplicate", channel) else 1)
            if channel in self.late:
                frames.append(self.late.pop(channel))
            for one in frames:
                self._write(self._fragments(one) if faults.hits("fragment", channel) else one)

    def _fragments(self, frame: bytes) -> bytes:
        """The message in three fragments with a pong, which asks for no answer, between them: legal by RFC 6455."""
        payload = frame[{126: 4, 127: 10}.get(frame[1], 2):]
        third = 1 + len(payload) // 3
        parts = (Frame(Opcode.TEXT, payload[:third], fin=False), Frame(Opcode.PONG, b"between"),
                 Frame(Opcode.CONT, payload[third:2 * third], fin=False), Frame(Opcode.CONT, payload[2 * third:]))
        return b"".join(part.serialize(mask=False) for part in parts)

    def _write(self, frame: bytes) -> None:
        if self.protocol.state is not State.OPEN or self.transport.is_closing():
            return
        self.sent_at = self.loop.time()
        if self.held is not None:
            self.held.append(frame)
            return
        # bytewise: one byte a write, and one packet; long frames in some 2,000 of them, or they would take seconds.
        size = 1 + len(frame) // 2048 if "bytewise" in self.venue.faults.rates else len(frame)
        for at in range(0, len(frame), size):
            if not self.transport.is_closing():     # the client may leave in the middle
                self.transport.write(frame[at:at + size])
        if self.transport.get_write_buffer_size() > SLOW_READER_BYTES:
            self.venue.counts["slow readers"] += 1
            self.transport.abort()

    def stall(self, duration: float) -> None:
        """Fall silent, unreading, with the socket open; what came meanwhile follows in one burst."""
        if self.held is None:
            self.held = []
            self.transport.pause_reading()
            self.loop.call_later(duration, self._resume)

    def _resume(self) -> None:
        held, self.held = self.held or [], None
        if self.protocol.state is State.OPEN:
            self.transport.resume_reading()
            for frame in held:
                self._write(frame)

    def cut(self) -> None:
        """End without a word, in the middle of whatever was being sent."""
        self.transport.abort()

    async def keep_alive(self) -> None:
        """The venue's own pings; who does not answer in time, or has been here for too long, is closed."""
        venue, ends = self.venue, self.loop.time() + self.venue.connection_life
        while (left := ends - self.loop.time()) > 0:
            await asyncio.sleep(min(venue.ping_interval or left, left))
            if self.held is None and venue.ping_interval:
                pong = await self.ping(str(venue.told(venue.clock()) // 1_000_000))
                try:
                    await asyncio.wait_for(asyncio.shield(pong), venue.pong_timeout)
                except asyncio.TimeoutError:
                    return await self.close(1008, "Pong timeout")
        await self.close(1001)


class Venue(ABC):
    """A venue's dialect and its server. Subclasses say how it talks; the source says what."""

    name: ClassVar[str]
    diff_channel: ClassVar[str]                 # what names of channels of book changes contain
    ping_interval: ClassVar[float] = 0.0        # 0: the venue sends no ping frames
    pong_timeout: ClassVar[float] = 60.0
    connection_life: ClassVar[float] = 24 * 3600.0
    own: ClassVar[Sequence[Instrument]] = ()    # what it lists besides what was asked for, as it has its peculiarities
    inbound_per_second: ClassVar[int] = 0       # messages of a connection; 0: no limit
    # (so many, in so many seconds, else refused for so many): connects, and breaches of the limit above; 0: no rule
    connects: ClassVar[tuple[int, float, float]] = (0, 1.0, 0.0)
    overruns: ClassVar[tuple[int, float, float]] = (0, 1.0, 0.0)
    requests: ClassVar[Sequence[tuple[int, float]]] = ()        # (so many, in so many seconds) over REST

    def __init__(self, source: Source, *, faults: Faults, clock: Callable[[], int] = time.time_ns,
                 limits: bool = True, ban_scale: float = 1.0, hasten: float = 1.0) -> None:
        self.source, self.faults, self.clock, self.limits = source, faults, clock, limits
        self.ban_scale = ban_scale              # of the bans that the venue's rules ask for
        self.hasten = hasten                    # how much faster than in life heartbeats come and the idle are closed
        self.connections: set[Connection] = set()
        self.subscribers: dict[str, set[Connection]] = {}
        self.counts: Counter[str] = Counter()
        self.port = 0
        self.maintained = False                 # the venue is in maintenance
        self.skew_ns = 0                        # how far the venue's clock is off
        self.banned_until = 0.0                 # of everybody: on loopback all have one address
        self.last_request = 0.0                 # when somebody subscribed last: a recording may begin
        self._connects, self._overruns = Window(*self.connects[:2]), Window(*self.overruns[:2])
        self._requests = [Window(*rule) for rule in self.requests]
        self._server: Server | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.failure: BaseException | None = None

    # What a dialect says

    @staticmethod
    @abstractmethod
    def listing(world: World, seed: str, start_ns: int, rate: float | None = None) -> Listing:
        """The world's instrument as this venue lists it, with its market."""

    @abstractmethod
    def admit(self, connection: Connection, path: str, query: dict[str, str]) -> Response | None:
        """Accept a handshake (None; the channels of its URL are subscribed) or refuse it."""

    def greet(self, connection: Connection) -> None:
        """The first words to a new client."""

    @abstractmethod
    async def heard(self, connection: Connection, text: str) -> None:
        """A client said this."""

    def tick(self, connection: Connection, now: float) -> None:
        """Ten times a second, at `now` of the loop: heartbeats, and the end of idle connections."""

    @abstractmethod
    def rest(self, path: str, query: dict[str, str]) -> Response:
        """Answer a REST request."""

    @abstractmethod
    def refusal(self, wait: float, banned: bool) -> Response:
        """The venue's answer to who asked too much: come back in `wait` seconds."""

    @abstractmethod
    def spell(self, connection: Connection, channel: str, message: Any) -> str:
        """The text of a published message for this subscriber; empty: nothing for this one."""

    def notice(self, connection: Connection, what: str) -> str:
        """How this venue says `reconnect` (soon), `maintenance` (begins) and `online` (again); empty: not at all."""
        return ""

    @abstractmethod
    def on_step(self, listing: Listing, trades: list[Trade]) -> None:
        """The market moved: publish what this venue publishes at once."""

    @abstractmethod
    def on_window(self, listing: Listing) -> None:
        """A book message is due: publish what changed since the last."""

    # How a dialect reads what it once said itself

    @classmethod
    @abstractmethod
    def replay(cls, text: str, known: dict[Any, Any]) -> list[tuple[str, Any]]:
        """[(channel, message)] of a recorded frame, verbatim; empty when it is no message of a channel.

        `known` is the dialect's memory of this recording: which channel an id stands for, and the like.
        """

    @classmethod
    @abstractmethod
    def symbol_of(cls, where: str) -> str:
        """The symbol that a channel, or the address of a REST book, is about."""

    @classmethod
    @abstractmethod
    def recorded_book(cls, channel: str, message: Any) -> Image:
        """A recorded REST book (of channel "") or snapshot, or what a message of a `diff_channel` changes."""

    @classmethod
    @abstractmethod
    def recorded_instruments(cls, text: str) -> list[Listed]:
        """A recorded instrument list; empty when this REST answer is none."""

    # What a dialect and a source do

    def publish(self, channel: str, message: Any) -> None:
        """Send a message to all subscribers of a channel."""
        for connection in tuple(self.subscribers.get(channel, ())):
            if text := self.spell(connection, channel, message):
                connection.deliver(text, channel)

    def wanted(self, channel: str) -> bool:
        return bool(self.subscribers.get(channel))

    def snapshot(self, symbol: str) -> Image | None:
        """The book for a new subscriber: what changed is published first, so that it continues from here."""
        self.source.settle(self, symbol)
        return self.source.image(symbol)

    def subscribe(self, connection: Connection, channel: str, note: Any = None) -> None:
        connection.channels[channel] = note
        self.subscribers.setdefault(channel, set()).add(connection)
        self.last_request = asyncio.get_running_loop().time()

    def unsubscribe(self, connection: Connection, channel: str) -> None:
        connection.channels.pop(channel, None)
        self.subscribers.get(channel, set()).discard(connection)

    def told(self, time_ns: int) -> int:
        """A time as this venue's clock shows it."""
        return time_ns + self.skew_ns

    def ban(self, duration: float) -> None:
        """Refuse handshakes and REST requests for so many seconds."""
        self.counts["bans"] += 1
        self.banned_until = max(self.banned_until, asyncio.get_running_loop().time() + duration)

    def overrun(self) -> None:
        """A connection said too much; who does it again and again is banned."""
        if self.overruns[0] and not self._overruns.admits(asyncio.get_running_loop().time()):
            self.ban(self.overruns[2] * self.ban_scale)

    async def breathe(self) -> None:
        """Wait until every client has room again."""
        while any(one.transport.get_write_buffer_size() > 1 << 18 for one in self.connections):
            await asyncio.sleep(0.0005)

    # The server

    async def start(self, host: str, port: int, context: ssl.SSLContext | None = None,
                    failed: Callable[[], None] = lambda: None) -> None:
        """Listen; `port` 0 takes a free one. ConfigurationError when the named one is taken.

        `failed` is called when a defect ends what runs here, and `failure` says which.
        """
        self._listening: dict[str, Any] = {
            "host": host, "ssl": context, "create_connection": partial(Connection, self),
            "process_request": self._request, "compression": None, "ping_interval": None, "close_timeout": 0.3,
            "max_size": 1 << 16, "server_header": None, "logger": LOG,
        }
        await self._listen(port)
        self._failed = failed
        self._spawn(self.source.run(self))
        self._spawn(self._tend())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and task.exception() is not None:
                self.failure = task.exception()
                self._failed()
        task = asyncio.create_task(work)
        task.add_done_callback(ended)
        self._tasks.append(task)

    async def _listen(self, port: int) -> None:
        try:
            self._server = await serve(self._serve, port=port, **self._listening)
        except OSError as error:
            raise ConfigurationError(f"{self.name}: cannot listen on {self._listening['host']}:{port}: "
                                     f"{error.strerror or error}; choose another --port") from None
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        """Close every connection (1001) and end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            for connection in self.connections:
                connection.held = None
            self._server.close()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._server.wait_closed(), 0.6)

    async def restart(self, down: float) -> None:
        """Drop every client without a word, refuse for `down` seconds, come back on the same port."""
        assert self._server is not None
        self.faults.counts["restart"] += 1
        self._server.close(close_connections=False)
        for connection in tuple(self.connections):
            connection.cut()
        await self._server.wait_closed()
        await asyncio.sleep(down)
        self.source.restarted()
        await self._listen(self.port)

    async def planned_restart(self, lead: float) -> None:
        """Ask everyone to reconnect, and close who is still there after `lead` seconds."""
        self.faults.counts["reconnect"] += 1
        asked = tuple(self.connections)
        for connection in asked:
            self._notify(connection, "reconnect")
        await asyncio.sleep(lead)
        for connection in asked:
            if connection in self.connections:
                await connection.close(1001)

    async def maintenance(self, duration: float) -> None:
        """Tell everybody, let the market stand still, and tell everybody when it is over."""
        self.faults.counts["maintenance"] += 1
        self.source.delay(duration)
        for what in ("maintenance", "online"):
            self.maintained = what == "maintenance"
            for connection in tuple(self.connections):
                self._notify(connection, what)
            await asyncio.sleep(duration if what == "maintenance" else 0.0)

    def _notify(self, connection: Connection, what: str) -> None:
        if text := self.notice(connection, what):
            connection.say(text)

    async def _tend(self) -> None:
        """Ten times a second: heartbeats, and the faults that come now and then."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(0.1)
            for connection in tuple(self.connections):
                if connection.protocol.state is State.OPEN:
                    self.tick(connection, loop.time())
                for name in ("cut", "stall"):
                    if self.faults.comes(name, 0.1):
                        self._strike(connection, name, self.faults.rates[name])
            for name in ("ban", "cross", "skew"):
                if self.faults.comes(name, 0.1):
                    share = self.faults.dice.uniform(-1, 1) if name == "skew" else 1.0
                    self._befall(name, share * self.faults.rates[name])
            if self.faults.comes("restart", 0.1):
                await self.restart(2.0)

    def _befall(self, name: str, duration: float) -> None:
        """What happens to the venue as a whole, for so many seconds; a skew is until the next."""
        if name == "cross":
            self.source.cross(self, duration)
            return
        self.faults.counts[name] += 1
        if name == "ban":
            self.ban(duration)
        else:
            self.skew_ns = int(duration * 1e9)
            self.source.skewed(self.skew_ns)

    async def _serve(self, connection: ServerConnection) -> None:
        client = cast(Connection, connection)
        self.connections.add(client)
        self.counts["connections"] += 1
        client.tasks.append(asyncio.create_task(client.keep_alive()))
        self.greet(client)
        try:
            async for text in client:
                client.heard_at = client.loop.time()
                await self.heard(client, text if isinstance(text, str) else text.decode(errors="replace"))
        except ConnectionClosed:
            pass
        finally:
            self.connections.discard(client)
            for channel in tuple(client.channels):
                self.unsubscribe(client, channel)
            for task in client.tasks:
                task.cancel()
            await asyncio.gather(*client.tasks, return_exceptions=True)

    async def _request(self, connection: ServerConnection, request: Request) -> Response | None:
        """Before the handshake: REST requests end here."""
        client = cast(Connection, connection)
        parts = urlsplit(request.path)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        if parts.path.startswith("/simulator/"):
            return self._steer(parts.path.removeprefix("/simulator/").rstrip("/"), query)
        now = client.loop.time()
        if now < self.banned_until:
            self.counts["refused"] += 1
            return self.refusal(self.banned_until - now, banned=True)
        if request.headers.get("Upgrade", "").lower() == "websocket":
            if self.faults.hits("block"):
                return answer(451, '{"code":0,"msg":"Service unavailable from a restricted location."}')
            if self.limits and self.connects[0] and not self._connects.admits(now):
                self.counts["refused"] += 1
                if banned := self.connects[2] * self.ban_scale:
                    self.ban(banned)
                return self.refusal(banned or self.connects[1], banned=bool(banned))
            return self.admit(client, parts.path, query)
        self.counts["rest"] += 1
        if self.faults.hits("refuse"):
            return answer(503, "<html><body><h1>503 Service Temporarily Unavailable</h1></body></html>", "text/html")
        # Every window must count the request, so no short cut between them.
        over = self.limits and not all([window.admits(now) for window in self._requests])
        if over or self.faults.hits("limit"):
            return self.refusal(1.0, banned=False)
        response = self.rest(parts.path, query)
        # The answer is made, then travels: in the meantime the stream goes on.
        await asyncio.sleep(self.faults.dice.uniform(0.002, 0.02))
        return response

    def picture(self, symbol: str) -> Image | None:
        """The book as REST shows it: now and then some moments old, and wrong when that fault strikes."""
        dice = self.faults.dice
        age_ns = int(dice.uniform(0, 3e8)) if dice.random() < 0.3 else 0
        image = self.source.image(symbol, age_ns=age_ns)
        if image is None or len(image.bids) < 5 or len(image.asks) < 5 or not self.faults.hits("snapshot"):
            return image
        kind = dice.choice(("crossed", "old", "ghost"))
        self.faults.counts[f"snapshot {kind}"] += 1
        if kind == "crossed":
            return image._replace(bids=[(image.asks[2][0], image.bids[0][1]), *image.bids])
        if kind == "old":
            return image._replace(sequence=image.sequence - 10**7)
        return image._replace(bids=image.bids[3:], asks=image.asks[3:])

    # Steering

    def _steer(self, what: str, query: dict[str, str]) -> Response:
        try:
            if what == "book":
                return self._true_book(query)
            if what == "was":
                return self._was(query)
            if what == "faults" and query:
                self.faults.rates = parse(",".join(f"{name}={value}" for name, value in query.items()))
            elif what == "now":
                self._order(query)
            elif what not in ("faults", "state"):
                return answer(404, json.dumps({"error": "choose state, book, was, faults or now"}))
        except (ConfigurationError, KeyError, ValueError) as error:
            return answer(400, json.dumps({"error": str(error)}))
        return answer(200, json.dumps(self.state()))

    def state(self) -> dict[str, Any]:
        return {
            "venue": self.name, "open": len(self.connections),
            "channels": sum(len(connection.channels) for connection in self.connections),
            **{name: self.counts[name] for name in (
                "connections", "messages", "rest", "slow readers", "bans", "refused")},
            **self.source.state(),
            "faults": self.faults.rates, "ordered": +self.faults.ordered, "injected": self.faults.counts,
            "injected_on": self.faults.by_channel,
        }

    def _true_book(self, query: dict[str, str]) -> Response:
        sequence = int(query["sequence"]) if "sequence" in query else None
        image = self.source.image(query.get("symbol", ""), sequence=sequence)
        if image is None:
            return answer(404, json.dumps({"error": "no such symbol, or that sequence is forgotten"}))
        return answer(200, f'{{"symbol":"{image.symbol}","sequence":{image.sequence},'
                           f'"bids":{rows_json(image.bids)},"asks":{rows_json(image.asks)}}}')

    def _was(self, query: dict[str, str]) -> Response:
        now = self.clock()
        found = self.source.was(query.get("symbol", ""), int(query.get("depth", "0")), int(query["mark"], 16), now)
        if found is None:
            return answer(404, json.dumps({"error": "no such symbol, or no history"}))
        true, ended_ns = found
        return answer(200, json.dumps({"true": true, "ago_ms": (now - ended_ns) / 1e6 if true else None}))

    def _order(self, query: dict[str, str]) -> None:
        for name, value in query.items():
            if name in CHANCES:
                self.faults.ordered[name] += int(value)
            elif name in ("cut", "stall"):
                for connection in tuple(self.connections):
                    self._strike(connection, name, seconds(value))
            elif name in ("ban", "cross", "skew"):
                self._befall(name, seconds(value.lstrip("-")) * (-1 if value.startswith("-") else 1))
            elif name in ("restart", "reconnect", "maintenance"):
                does = {"restart": self.restart, "reconnect": self.planned_restart, "maintenance": self.maintenance}
                self._spawn(does[name](seconds(value)))
            else:
                raise ConfigurationError(f"{name!r} cannot be ordered")

    def _strike(self, connection: Connection, name: str, duration: float) -> None:
        self.faults.counts[name] += 1
        if name == "cut":
            connection.cut()
        else:
            connection.stall(duration)
