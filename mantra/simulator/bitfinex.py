"""bitfinex: Bitfinex's WebSocket v2 and REST, spoken from its side (as documented in 2025, probed in September 2026).

Channels: book (P0 and R0; len 1, 25, 100, 250; F0), trades, ticker; P1 to P4 and F1 are refused. Frames are numbered
(SEQ_ALL), timed (TIMESTAMP), checked (OB_CHECKSUM, every 2.5 s) and bundled (BULK_UPDATES) for who asked for it. They
may come before their channel's acknowledgement; books cross for a moment; small numbers are spelt with exponents. A
channel that was not subscribed again after a maintenance stays silent but for its heartbeat. REST: conf,
book/<symbol>/<prec>, platform/status.
"""
from __future__ import annotations

import asyncio
import json
import math
import random
import re
import zlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from websockets.http11 import Response

from mantra.simulator.market import ASK, BID, Flow, Habits, Instrument, Trade, World
from mantra.simulator.orders import Event, Orders, window
from mantra.simulator.server import Connection, Venue, answer, compact
from mantra.simulator.source import Image, Listed, Listing, MarketSource

# After bbgo's recording of tBTCUSD of 2025 and cryptofeed's of seven quiet pairs of 2021.
HABITS = Habits(
    levels=400, changes=1.0, burst=1.0, removals=0.3,
    nearness=((1, 0.02), (10, 0.5), (25, 0.85), (100, 0.97), (400, 1.0)),
    trades=1.0, window_ns=25_000_000, window_tail_ns=0, counted=True, gap=1e-4,
)
DIGITS, MOST_DECIMALS = 5, 8        # of prices, which have no step of their own; sizes have all the decimals
CODES = {"USDT": "UST", "USDC": "UDC", "IOTA": "IOT", "MDOGE": "DOG", "MANA": "MNA", "ATOM": "ATO", "ALGO": "ALG",
         "DASH": "DSH", "QTUM": "QTM"}
NAMES = {code: name for name, code in CODES.items()}
FUTURE = "BTCF0:USTF0"              # listed elsewhere; a client has to leave it out

TIMESTAMP, SEQ_ALL, OB_CHECKSUM, BULK_UPDATES = 32768, 65536, 131072, 536870912
LENGTHS = ("1", "25", "100", "250")
CHECKED_LEVELS = 25
CHANNELS_PER_CONNECTION = 36
HEARTBEAT_SECONDS = 15.0
EARLY_MOST = 100        # messages of a recording before the acknowledgement of their channel
IDLE_SECONDS = 60.0
CHECKSUM_NS = 2_500_000_000
TICKER_NS = 15_000_000_000
CONFIRM_SECONDS = (1.0, 2.0)        # from a trade's te to its tu
EARLY = (0.15, 0.05)                # shares of channels whose first heartbeat, or data, is before the acknowledgement
EARLY_SECONDS = (0.05, 0.5)
CROSSES = 0.05                      # share of trades after which the book is crossed
CROSS_NS = (5_000_000, 200_000_000)
NOTICES = {
    "reconnect": '{"event":"info","code":20051,"msg":"Stopping. Please try to reconnect"}',
    "maintenance": '{"event":"info","code":20060,"msg":"Entering in Maintenance mode. Please pause any activity"}',
    "online": '{"event":"info","code":20061,"msg":"Maintenance ended. Please resubscribe to all channels"}',
}


@dataclass
class Channel:
    """A connection's note on what it subscribed to."""

    number: int
    answer: dict[str, Any]      # the acknowledgement
    heartbeat: float            # when the next is due
    ended: bool = False         # by a maintenance


class View:
    """A listing order by order, and what was told of it."""

    def __init__(self, listing: Listing, orders: Orders) -> None:
        self.listing, self.orders = listing, orders
        self.new: list[Trade] = []                      # since the last book message
        self.trades: deque[str] = deque(maxlen=30)
        self.changed: set[str] = set()                  # channels, since their last checksum
        self.told_ns: dict[str, int] = {}               # channel -> when its last checksum, or ticker, was told

    def entries(self, prec: str, side: int) -> Sequence[Any]:
        """Best first: of P0 keys of levels, of R0 (key, number) of orders."""
        return self.orders.queue[side] if prec == "R0" else self.orders.keys[side]

    def spelt(self, prec: str, side: int, entry: Any, gone: bool = False) -> tuple[str, str, str]:
        """[PRICE, COUNT, AMOUNT] of a level, [ORDER, PRICE, AMOUNT] of an order."""
        key, number = entry if prec == "R0" else (entry, 0)
        orders = {} if gone else self.orders.levels[side][key]
        size = 10**MOST_DECIMALS if gone else orders[number] if number else sum(orders.values())
        price = js(abs(key), self.listing.listed.price_decimals)
        amount = js(-size if side == ASK else size, MOST_DECIMALS)
        return (str(number), "0" if gone else price, amount) if number else (price, str(len(orders)), amount)

    def snapshot(self, prec: str, length: int) -> str:
        return "[" + ",".join(_row(self.spelt(prec, side, entry)) for side in (BID, ASK)
                              for entry in self.entries(prec, side)[:length]) + "]"

    def checksum(self, prec: str, length: int) -> int:
        """Of the best 25 bids and asks of a client's book, in turn."""
        sides = [[self.spelt(prec, side, entry) for entry in self.entries(prec, side)[:min(length, CHECKED_LEVELS)]]
                 for side in (BID, ASK)]
        ranks = range(max(map(len, sides)))
        return checksum([side[rank] for rank in ranks for side in sides if rank < len(side)])

    def ticker(self) -> str:
        (bid, *_), (ask, *_) = tops = self.listing.flow.book.top(25)
        decimals = self.listing.listed.price_decimals
        last = js(self.new[-1].price if self.new else bid[0], decimals)
        sizes = [js(sum(size for _, size in side), MOST_DECIMALS) for side in tops]
        return (f"[{js(bid[0], decimals)},{sizes[0]},{js(ask[0], decimals)},{sizes[1]},0,0,{last},{sizes[0]},"
                f"{js(ask[0], decimals)},{js(bid[0], decimals)}]")


class Bitfinex(Venue):
    name = "bitfinex"
    diff_channel = "book "
    requests = ((240, 60.0),)
    connection_life = math.inf              # not published
    connects = (20, 60.0, 60.0)
    own = (Instrument("VET", "BTC", 1.02e-6, 0.15, 20_000.0), Instrument("TESTBTC", "TESTUSD", 60_400.0, 0.1, 1e-6))

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.dice = random.Random("bitfinex")
        self.frozen = False
        self.trade_number, self.order_number = 1_795_583_000, 34_753_000_000
        listings = self.source.listings if isinstance(self.source, MarketSource) else {}
        self.views = {symbol: View(listing, Orders(listing.flow.book, self._next_order, symbol))
                      for symbol, listing in listings.items()}

    def _next_order(self) -> int:
        self.order_number += 1 + self.order_number % 7
        return self.order_number

    @staticmethod
    def listing(world: World, seed: str, start_ns: int, rate: float | None = None) -> Listing:
        base, quote = world.instrument.base, world.instrument.quote
        decimals = min(MOST_DECIMALS, max(0, DIGITS - 1 - math.floor(math.log10(world.instrument.price))))
        flow = Flow(world, HABITS, (decimals, MOST_DECIMALS), f"{seed}/bitfinex", start_ns, rate)
        flow.book.singly = True
        return Listing(Listed(symbol(base, quote), base, quote, decimals, MOST_DECIMALS), flow)

    # WebSocket

    def admit(self, connection: Connection, path: str, query: dict[str, str]) -> Response | None:
        return None if path.rstrip("/") in ("", "/ws/2") else answer(404, "", "text/html")

    def greet(self, connection: Connection) -> None:
        connection.say('{"event":"info","version":2,"serverId":"083bd8d4-aca7-4690-a573-eabfc8103de8",'
                       f'"platform":{{"status":{0 if self.frozen else 1}}}}}')

    async def heard(self, connection: Connection, text: str) -> None:
        try:
            request = json.loads(text)
        except (ValueError, RecursionError):
            return                          # no answer, as in life
        event = request.get("event") if isinstance(request, dict) else None
        if event == "ping":
            ping = {"event": "pong", "ts": self.told(self.clock()) // 1_000_000} | _only(request, "cid")
            connection.say(compact(ping))
        elif event == "conf":
            flags = request.get("flags", 0)
            status, connection.flags = ("OK", flags) if isinstance(flags, int) else ("FAILED", connection.flags)
            connection.acknowledge(f'{{"event":"conf","status":"{status}","flags":{connection.flags}}}')
        elif event == "subscribe":
            self._subscribe(connection, request)
        elif event == "unsubscribe":
            self._unsubscribe(connection, request)
        else:
            connection.say(_error({}, 10000, "event: invalid"))

    def _subscribe(self, connection: Connection, request: dict[str, Any]) -> None:
        kind, symbol = request.get("channel"), str(request.get("symbol", ""))
        fields = {"channel": kind, "chanId": 0, "symbol": symbol}
        name, wrong = f"{kind} {symbol}", "" if any(one.symbol == symbol for one in self.source.listed) else "symbol"
        if kind == "book":
            fields |= {"prec": request.get("prec", "P0"), "freq": request.get("freq", "F0"),
                       "len": str(request.get("len", "25"))}
            prec, length = fields["prec"], fields["len"]
            wrong = wrong or ("prec" if prec not in ("P0", "R0") else "freq" if fields["freq"] != "F0" else
                              "len" if length not in LENGTHS else "")
            # A recorded book is as long as it was.
            name = f"book {prec}-{length} {symbol}" if symbol in self.views else f"book {prec} {symbol}"
        fields |= _only(request, "subId") | {"pair": symbol[1:]}
        if kind not in ("book", "trades", "ticker"):
            connection.say(_error(request, 10302, "channel: unknown"))
        elif wrong:
            connection.say(_error(request, 10300, f"{wrong}: invalid", pair=symbol[1:]))
        elif name in connection.channels:
            connection.say(_error(request, 10301, "subscribe: dup", chanId=connection.channels[name].number))
        elif self.limits and len(connection.channels) >= CHANNELS_PER_CONNECTION:
            connection.say(_error(request, 10305, "subscribe: limit"))
        else:
            taken = {channel.number for channel in connection.channels.values()}
            number = next(one for one in iter(partial(self.dice.randrange, 200_000, 240_000), 0) if one not in taken)
            due = connection.loop.time() + HEARTBEAT_SECONDS / self.hasten
            connection.channels[name] = channel = Channel(
                number, {"event": "subscribed"} | fields | {"chanId": number}, due)
            self._open(connection, name, channel)

    def _open(self, connection: Connection, name: str, channel: Channel) -> None:
        """Acknowledge, then begin; but now and then a heartbeat, or all the data, comes first."""
        def there() -> bool:
            return connection.channels.get(name) is channel

        def acknowledge() -> None:
            if there():
                connection.acknowledge(compact(channel.answer), name)

        def begin() -> None:
            if there():
                first = self._first(name)
                self.subscribe(connection, name, channel)
                if first:
                    connection.deliver(self.spell(connection, name, first), name)

        # A recording begins when nobody has asked for more in a while: nothing is late there.
        roll, later = self.dice.random() if self.views else 1.0, self.dice.uniform(*EARLY_SECONDS)
        if roll < EARLY[1]:
            begin()
            connection.loop.call_later(later, acknowledge)
        elif roll < sum(EARLY):
            connection.say(self.spell(connection, name, '"hb"'))
            connection.loop.call_later(later, acknowledge)
            connection.loop.call_later(later, begin)
        else:
            acknowledge()
            begin()

    def _first(self, name: str) -> str:
        """What a channel begins with."""
        kind, *form, symbol = name.split(" ")
        if (view := self.views.get(symbol)) is None:
            image = self.source.image(symbol) if kind == "book" else None
            return _image_text(image) if image else ""
        if kind == "trades":
            return "[" + ",".join(reversed(view.trades)) + "]"
        if kind == "ticker":
            return view.ticker()
        self.source.settle(self, symbol)
        prec, _, length = form[0].partition("-")
        return view.snapshot(prec, int(length))

    def _unsubscribe(self, connection: Connection, request: dict[str, Any]) -> None:
        number = request.get("chanId")
        name = next((name for name, channel in connection.channels.items() if channel.number == number), None)
        if name is None:
            connection.say(_error(request, 10401 if isinstance(number, int) else 10400, "unsubscribe: invalid"))
            return
        self.unsubscribe(connection, name)
        connection.acknowledge(f'{{"event":"unsubscribed","status":"OK","chanId":{number}}}', name)

    def tick(self, connection: Connection, now: float) -> None:
        if not connection.channels and now - connection.heard_at > IDLE_SECONDS / self.hasten:
            connection.cut()
        for name, channel in connection.channels.items() if not self.frozen else ():
            if now >= channel.heartbeat:
                channel.heartbeat += HEARTBEAT_SECONDS / self.hasten
                connection.say(self.spell(connection, name, '"hb"'))

    def spell(self, connection: Connection, channel: str, message: Any) -> str:
        flags, of = connection.flags, connection.channels[channel]
        if message.startswith('"cs"'):
            if not flags & OB_CHECKSUM:
                return ""
            if self.faults.hits("checksum", channel):
                message = f'"cs",{int(message[5:]) ^ 1}'
        if of.ended and message != '"hb"':
            return ""
        tail = ""
        if flags & SEQ_ALL:
            connection.number += 2 if self.faults.hits("skip", channel) else 1
            tail = f",{connection.number}"
        if flags & TIMESTAMP:
            tail += f",{self.told(self.clock()) // 1_000_000}"
        return f"[{of.number},{message}{tail}]"

    def notice(self, connection: Connection, what: str) -> str:
        if what == "online":
            for channel in connection.channels.values():
                channel.ended = True
        return NOTICES[what]

    async def maintenance(self, duration: float) -> None:
        self.frozen = True
        await super().maintenance(duration)
        self.frozen = False

    # Its own recordings

    @classmethod
    def replay(cls, text: str, known: dict[Any, Any]) -> list[tuple[str, Any]]:
        if text.startswith("{"):
            event = json.loads(text)
            if event.get("event") == "subscribed" and event["symbol"].startswith("t"):
                form = f"{event['prec']} " if event["channel"] == "book" else ""
                known[event["chanId"]] = f"{event['channel']} {form}{event['symbol']}"
                early = known.pop(("early", event["chanId"]), ())
                return [found for each in early for found in cls.replay(each, known)]
            return []
        match = re.match(r"\[(\d+),", text)
        channel = known.get(int(match[1])) if match else None
        if match is None or channel is None:
            if match and len(early := known.setdefault(("early", int(match[1])), [])) < EARLY_MOST:
                early.append(text)      # the acknowledgement may come after the data
            return []
        decoder, end = json.JSONDecoder(), match.end()
        payload, end = decoder.raw_decode(text, end)
        if payload == "hb":
            return []
        if isinstance(payload, str):
            _, end = decoder.raw_decode(text, end + 1)
        return [(channel, text[match.end():end])]

    @classmethod
    def symbol_of(cls, where: str) -> str:
        match = re.search(r"/book/([^/?]+)|([^ /]+)$", where)
        return match[1] or match[2] if match else ""

    @classmethod
    def recorded_book(cls, channel: str, message: Any) -> Image:
        if message.startswith('"'):
            return Image("", 0, [], [])
        # As text: a float would not do, and the spelling is the venue's.
        rows = re.findall(r"\[([^\[\],]+),([^\[\],]+),(-?)([^\[\],]+)\]", message)
        bids, asks = ([(price, size if count != "0" else "0") for price, count, sign, size in rows if sign == side]
                      for side in ("", "-"))
        return Image("", 0, bids, asks, whole=message.startswith("[["))

    @classmethod
    def recorded_instruments(cls, text: str) -> list[Listed]:
        if not re.match(r'\[\["[A-Z0-9]', text):
            return []
        (pairs,) = json.loads(text)
        found = []
        for pair in pairs:
            base, _, quote = pair.partition(":") if ":" in pair else (pair[:3], "", pair[3:])
            if quote and "F0" not in pair:
                found.append(Listed(f"t{pair}", NAMES.get(base, base), NAMES.get(quote, quote), 8, 8))
        return found

    # The market's messages

    def on_step(self, listing: Listing, trades: list[Trade]) -> None:
        view = self.views[listing.listed.symbol]
        view.new += trades
        for trade in trades:
            self.trade_number += 1 + trade.order % 3
            amount = js(-trade.size if trade.sell else trade.size, MOST_DECIMALS)
            text = (f"[{self.trade_number},{self.told(trade.time_ns) // 1_000_000},{amount},"
                    f"{js(trade.price, listing.listed.price_decimals)}]")
            view.trades.append(text)
            if self.wanted(name := f"trades {listing.listed.symbol}"):
                self.publish(name, f'"te",{text}')
                asyncio.get_running_loop().call_later(
                    self.dice.uniform(*CONFIRM_SECONDS) / self.hasten, self.publish, name, f'"tu",{text}')

    def on_window(self, listing: Listing) -> None:
        view, flow = self.views[listing.listed.symbol], listing.flow
        crosses = any(self.dice.random() < CROSSES for _ in view.new)
        self._tell_book(view)
        if crosses:         # as when a taker is seen in the book before it is matched
            flow.cross(self.clock(), self.dice.randint(*CROSS_NS))
            self._tell_book(view)
        if self._due(view, name := f"ticker {listing.listed.symbol}", TICKER_NS):
            self.publish(name, view.ticker())

    def _tell_book(self, view: View) -> None:
        """Every change of every level and order, in the order they happened, to who keeps so many of them."""
        listing = view.listing
        listing.flow.book.take()
        told: list[tuple[str, str, int, list[str]]] = [
            (name, prec, int(length), []) for prec in ("P0", "R0") for length in LENGTHS
            if self.wanted(name := f"book {prec}-{length} {listing.listed.symbol}")]
        for event in view.orders.follow(view.new):
            for _, prec, length, rows in told:
                rows += [_row(view.spelt(prec, event.side, one, gone))
                         for one, gone in _moved(view, event, prec, length)]
        view.new = []
        for name, prec, length, rows in told:
            view.changed |= {name} if rows else set()
            for connection in tuple(self.subscribers[name]) if rows else ():
                for row in [f"[{','.join(rows)}]"] if connection.flags & BULK_UPDATES else rows:
                    if text := self.spell(connection, name, row):
                        connection.deliver(text, name)
            if name in view.changed and self._due(view, name, CHECKSUM_NS):
                view.changed.discard(name)
                self.publish(name, f'"cs",{view.checksum(prec, length)}')

    def _due(self, view: View, name: str, every_ns: int) -> bool:
        """Whether somebody waits for this, and has for so long."""
        now_ns = view.listing.flow.book.time_ns
        if not self.wanted(name) or now_ns - view.told_ns.setdefault(name, now_ns) < every_ns / self.hasten:
            return False
        view.told_ns[name] = now_ns
        return True

    # REST

    def rest(self, path: str, query: dict[str, str]) -> Response:
        parts = path.strip("/").split("/")
        if parts == ["v2", "platform", "status"]:
            return answer(200, "[0]" if self.frozen else "[1]")
        if parts[:2] == ["v2", "conf"] and len(parts) == 3:
            return answer(200, compact([self._conf(key) for key in parts[2].split(",")]))
        if parts[:2] == ["v2", "book"] and len(parts) == 4:
            return self._book(parts[2], parts[3], query.get("len", "25"))
        return answer(404, '["error",10020,"path: invalid"]')

    def _conf(self, key: str) -> list[Any]:
        listed = self.source.listed
        codes = sorted({CODES.get(name, name) for one in listed for name in (one.base, one.quote)})
        answers: dict[str, list[Any]] = {
            "pub:list:pair:exchange": [one.symbol[1:] for one in listed],
            "pub:list:pair:future": [FUTURE],
            "pub:list:currency": codes,
            "pub:map:currency:sym": [[code, NAMES[code]] for code in codes if code in NAMES],
            "pub:info:pair": [[pair, [None, None, None, "0.00004", "2000.0", None, None, None, None, None, None, None]]
                              for pair in (*(one.symbol[1:] for one in listed), FUTURE)],
        }
        return answers.get(key, [])

    def _book(self, symbol: str, prec: str, length: str) -> Response:
        view = self.views.get(symbol)
        wrong = "prec" if prec not in ("P0", "R0") else "len" if length not in LENGTHS else ""
        if wrong or (image := self.picture(symbol)) is None:
            return answer(500, f'["error",10020,"{wrong or "symbol"}: invalid"]')
        if view and prec == "R0":
            return answer(200, view.snapshot(prec, int(length)))
        return answer(200, _image_text(image._replace(bids=image.bids[:int(length)], asks=image.asks[:int(length)])))

    def refusal(self, wait: float, banned: bool) -> Response:
        return answer(429, '["error",11010,"ratelimit: error"]')


def _moved(view: View, event: Event, prec: str, length: int) -> Sequence[tuple[Any, bool]]:
    """What a client of the best `length` levels (P0) or orders (R0) is told of an event."""
    entries = view.entries(prec, event.side)
    if prec == "R0":
        return window(entries, (event.key, event.number), event.before, event.after, length)
    return () if event.more else window(entries, event.key, event.level_before, event.level_after, length)


def _row(values: Sequence[str]) -> str:
    return f"[{','.join(values)}]"


def _image_text(image: Image) -> str:
    """The rows of a book whose orders nobody counted."""
    return "[" + ",".join(f"[{_number(price)},1,{sign}{_number(size)}]"
                          for sign, side in (("", image.bids), ("-", image.asks)) for price, size in side) + "]"


def _number(text: str) -> str:
    """As JavaScript prints this decimal text."""
    if "e" in text:
        return text
    whole, _, decimals = text.partition(".")
    return js(int(whole + decimals), len(decimals))


def symbol(base: str, quote: str) -> str:
    """t and the codes of both, joined by a colon when one has not three letters."""
    pair = [CODES.get(name, name) for name in (base, quote)]
    return "t" + ("" if all(len(code) == 3 for code in pair) else ":").join(pair)


def js(value: int, decimals: int) -> str:
    """`value` * 10^-decimals as JavaScript prints numbers: as short as can be, below 1e-6 with an exponent."""
    if value <= 0:
        return "-" + js(-value, decimals) if value else "0"
    digits = str(value)
    point = len(digits) - decimals          # value = 0.digits * 10^point
    digits = digits.rstrip("0")
    if point <= -6:
        return ".".join(filter(None, (digits[0], digits[1:]))) + f"e{point - 1}"
    if point <= 0:
        return "0." + "0" * -point + digits
    return ".".join(filter(None, (digits[:point].ljust(point, "0"), digits[point:])))


def checksum(rows: Sequence[Sequence[str]]) -> int:
    """CRC-32, as a signed number, of the first and last of each row, joined by colons."""
    found = zlib.crc32(":".join(f"{row[0]}:{row[2]}" for row in rows).encode())
    return found - 2**32 if found >= 2**31 else found


def _only(request: dict[str, Any], name: str) -> dict[str, Any]:
    return {name: request[name]} if name in request else {}


def _error(request: dict[str, Any], code: int, message: str, **more: Any) -> str:
    fields = {name: value for name, value in request.items() if name != "event"}
    return compact(fields | {"event": "error", "msg": message, "code": code} | more)
