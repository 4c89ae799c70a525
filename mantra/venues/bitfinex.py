"""bitfinex: Bitfinex spot, WebSocket v2, and its order-by-order books (documents of 2025, probed 2026-09).

One channel per subscribe frame, at most 25 a connection. Every message of a connection is numbered and every book
signed now and then, because the first frame asks for both. Snapshots come in the stream: a channel is subscribed anew
to get one, for which its number must be known, which only the acknowledgement tells. No price increment is published:
prices have five significant digits and, as far as seen, eight decimals at most, so `tick` is empty; a price with more
opens the instrument's next scale.
"""
from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

from mantra.venues import venue
from mantra.venues.venue import Control, Endpoints, Listing, Mode, Rate, Request, decimal_text

TIMESTAMP, SEQ_ALL, OB_CHECKSUM = 32768, 65536, 131072
LENGTHS = (1, 25, 100, 250)
BOOKS: dict[Mode, tuple[str, int]] = {"book": ("P0", 250), "top": ("P0", 25), "orders": ("R0", 250)}    # len a side
CODES = {"ALG": "ALGO", "AMP": "AMPL", "ATO": "ATOM", "DOG": "MDOGE", "DSH": "DASH", "EUT": "EURT", "IOT": "IOTA",
         "MNA": "MANA", "QTM": "QTUM", "UDC": "USDC", "UST": "USDT"}    # where a list comes without the venue's own map
RESTARTING, MAINTENANCE, RESUMED = 20051, 20060, 20061
DUPLICATE = 10301       # subscribed already: where its acknowledgement was lost, this is one


class Bitfinex(venue.Venue):
    name = "bitfinex"
    id = 2
    decoder = "bitfinex"
    schemes = {"book": "stream", "top": "stream", "orders": "stream"}  # noqa: RUF012
    proofs = frozenset({"numbers", "checksums"})
    spread = "connection"
    live_trust = {"book": venue.VERIFIED, "top": venue.VERIFIED, "orders": venue.VERIFIED}  # noqa: RUF012
    home = Endpoints("wss://api-pub.bitfinex.com/ws/2", "https://api-pub.bitfinex.com")
    limits = venue.Limits(channels=25, frame_bytes=1024, rates={    # 30 say the documents, 36 were seen
        "connect": (Rate(20, 60.0),),           # else blocked for a minute
        "send": (Rate(40, 1.0),),               # not published: manners
        "rest": (Rate(60, 60.0),),              # by path 10 to 240
    }, ban_s=60.0)
    heartbeat = venue.Heartbeat('{"event":"ping","cid":1}', 4.0)
    answer_s = 15.0                 # acknowledgements took up to 11 s after many requests
    stale_s, silence_s, max_age_s = 6.0, 12.0, 23.5 * 3600
    channel_silent_s, cross_s, first_number = 20.0, 1.0, 1      # each channel beats every 15 s, busy or not
    book_url = re.compile(r"/book/(t[^/?]+)/P0(?:\?|$)")
    list_url = re.compile(r"/conf/pub:list:pair:exchange(?:,|\?|$)")
    dense_trade_ids = False
    offers = venue.Offers(
        books="snapshot and updates in the stream, 250 levels a side; 25 in mode top",
        trades="every trade, at execution", bbo="", orders="R0 books of 250 orders a side",
        verified_by="numbers without holes, per connection; checksums of 25 levels a side every few seconds",
        cannot_prove="between two checksums: that the venue numbered what it meant to send")
    when_refused = "Bitfinex refuses this address or region, and offers no other public host"

    def __init__(self, endpoints: Endpoints | None = None) -> None:
        super().__init__(endpoints)
        self._symbol_of: dict[int, str] = {}        # by channel number: what numbers() and unsubscribing need
        self._number_of: dict[str, int] = {}        # by name of the channel, newest connection

    def channels(self, symbols: Sequence[str], mode: Mode, trades: bool) -> list[str]:
        return [f"{name} {symbol}" for symbol in symbols for name in ["book"] + ["trades"] * trades]

    def subscribe_texts(self, symbols: Sequence[str], mode: Mode, trades: bool) -> list[str]:
        precision, levels = BOOKS[mode]
        asked: list[dict[str, Any]] = [{"event": "conf", "flags": TIMESTAMP + SEQ_ALL + OB_CHECKSUM}]
        for symbol in symbols:
            asked.append({"event": "subscribe", "channel": "book", "symbol": symbol, "prec": precision, "freq": "F0",
                          "len": str(levels)})
            if trades:
                asked.append({"event": "subscribe", "channel": "trades", "symbol": symbol})
        return [json.dumps(frame, separators=(",", ":")) for frame in asked]

    def unsubscribe_texts(self, symbols: Sequence[str], mode: Mode) -> list[str]:
        numbers = (self._number_of.pop(channel, None) for channel in self.channels(symbols, mode, False))
        return [f'{{"event":"unsubscribe","chanId":{number}}}' for number in numbers if number is not None]

    def expected_acks(self, symbols: Sequence[str], mode: Mode, trades: bool) -> frozenset[str]:
        return frozenset({"conf", *self.channels(symbols, mode, trades)})

    def control(self, text: bytes) -> Control:
        frame: Any = venue.parse(self.name, "a control frame", text)
        event = frame.get("event") if isinstance(frame, dict) else None
        if event in ("subscribed", "error"):
            channel = f"{frame.get('channel')} {frame.get('symbol')}"
            self._route(frame)
            if event == "subscribed" or (frame.get("code") == DUPLICATE and "chanId" in frame):
                return venue.Acknowledged((channel,))
            return venue.Refused(f"{frame.get('msg')} (code {frame.get('code')})",
                                 (channel,) if "symbol" in frame else ())
        if event == "conf":
            if frame.get("status") == "OK":
                return venue.Acknowledged(("conf",))
            return venue.Refused(f"flags: {frame.get('status')}", ("conf",))
        if event == "info" and frame.get("code") in (RESTARTING, MAINTENANCE, RESUMED):
            # Of a frozen book, and of one from before the pause, nothing is known.
            return venue.Restart(0.0, doubtful=frame["code"] != RESTARTING)
        return None

    def _route(self, frame: dict[str, Any]) -> None:
        """Note which channel has which number: an acknowledgement says so, and the refusal of a second one."""
        if isinstance(number := frame.get("chanId"), int):
            self._number_of[f"{frame.get('channel')} {frame.get('symbol')}"] = number
            symbol, ours = str(frame.get("symbol")), frame.get("channel") in ("book", "trades")
            self._symbol_of[number] = symbol if ours and symbol.startswith("t") else ""

    def snapshot(self, symbol: str, levels: int) -> Request:
        length = next((length for length in LENGTHS if levels <= length), LENGTHS[-1])
        return Request(f"/v2/book/{quote(symbol, safe=':')}/P0?len={length}")

    def instruments_request(self) -> Request:
        return Request("/v2/conf/pub:list:pair:exchange,pub:info:pair,pub:map:currency:sym")

    def listings(self, answer: Any) -> list[Listing]:
        """Reads the answer to `pub:list:pair:exchange` alone as well, which recordings have."""
        pairs, info, codes = [*answer, [], []][:3] if len(answer) != 2 else [*answer, []]
        rules: dict[str, list[Any]] = {pair: rule for pair, rule, *_ in info}
        usual = CODES | {code: name.upper() for code, name in codes}
        found = []
        for pair in pairs:
            base, _, quoted = pair.partition(":") if ":" in pair else (pair[:-3], ":", pair[-3:])
            if base.endswith("F0") or quoted.endswith("F0"):
                continue                            # a perpetual
            smallest, largest = (rules.get(pair, []) + [None] * 5)[3:5]
            found.append(Listing(
                venue=self.name, symbol=f"t{pair}", base=usual.get(base, base), quote=usual.get(quoted, quoted),
                tick="", lot="0.00000001", max_size=decimal_text(largest), min_size=decimal_text(smallest),
                status="listed", tradable=True))
        return found

    def numbers(self, text: bytes) -> Iterator[tuple[str, str, str]]:
        try:
            frame = json.loads(text, parse_float=str)
        except (ValueError, RecursionError):
            return
        if isinstance(frame, dict):
            if frame.get("event") == "subscribed":
                self._route(frame)
            return
        if not isinstance(frame, list) or not frame:
            return
        symbol, rows = "", frame                    # a REST book
        if not isinstance(frame[0], list):
            symbol = self._symbol_of.get(frame[0], "") if isinstance(frame[0], int) else ""
            rows = frame[2:3] if frame[1:2] == ["te"] else frame[1] if len(frame) > 1 else []
            if not symbol or not isinstance(rows, list):
                return
            rows = rows if rows and isinstance(rows[0], list) else [rows]
        for row in rows:
            if isinstance(row, list) and len(row) == 3:         # price, orders, amount
                yield symbol, str(row[0]), str(row[2]).lstrip("-")
            elif isinstance(row, list) and len(row) == 4:       # id, time, amount, price
                yield symbol, str(row[3]), str(row[2]).lstrip("-")
