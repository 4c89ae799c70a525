"""venue: the contract of a venue: where it is, what to say to it, what its answers mean, how fast it may be asked.

A venue is this file's `Venue` filled in, one C decoder (`decoder` names it) and its recordings. Nothing here does I/O:
the client connects, the subscriber sends `subscribe_texts` and hands control frames to `control`, the listener
synchronises books by `scheme`, the governor paces by `limits`.

A *symbol* is the venue's own REST spelling of an instrument, as `Listing.symbol` has it (BTCUSDT, btcusd).
"""
from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, ClassVar, Literal
from urllib.parse import unquote

from mantra.errors import VenueError
from mantra.venues.decoder import PythonDecoder

Mode = Literal["book", "top", "orders"]     # orders: the book is derived from every single order (L3)
Scheme = Literal["ids", "time", "image", "stream"]

VERIFIED, UNVERIFIED = 4, 3    # MANTRA_VERIFIED, MANTRA_UNVERIFIED: messages.h says what they mean


@dataclass(frozen=True)
class Endpoints:
    """Base addresses, without a trailing slash. `ca_file`: PEM of an authority to trust instead of the system's. `api`:
    which of the venue's protocols is spoken there ("": the main one)."""

    websocket: str
    rest: str
    ca_file: str | None = None
    api: str = ""


@dataclass(frozen=True)
class Rate:
    """At most `count` (of weight) in any `seconds`, as the venue says it; `reserved` of them are for what the compiled
    path sends by itself (pongs, heartbeats). Counted `per` address of ours, or per connection; all of a kind alike."""

    count: int
    seconds: float
    per: Literal["address", "connection"] = "address"
    reserved: int = 0


@dataclass(frozen=True)
class Limits:
    """What the venue allows. `rates` by what is done: "connect", "send" (a frame), "rest" (weight of requests)."""

    channels: int                                   # per connection
    frame_bytes: int                                # longest text we may send
    rates: Mapping[str, tuple[Rate, ...]] = field(default_factory=dict)
    ban_s: float = 10.0                             # for who asked too much, where the answer does not say


@dataclass(frozen=True)
class Heartbeat:
    """What we send so that a living connection always has something to answer. `text` None: a WebSocket ping."""

    text: str | None
    interval_s: float


@dataclass(frozen=True)
class Request:
    """A REST GET: `path` goes after `Endpoints.rest`, `weight` to the governor."""

    path: str
    weight: int = 1


@dataclass(frozen=True)
class Listing:
    """One instrument as one venue lists it. Numbers are exact decimal text; "" where the venue does not say."""

    venue: str
    symbol: str
    base: str           # upper case
    quote: str
    tick: str           # the venue's price increment
    lot: str            # the venue's size increment
    max_size: str       # of one order
    status: str         # the venue's word
    tradable: bool
    min_size: str = ""  # of one order
    min_value: str = "" # of one order, in the quote currency

    @property
    def name(self) -> str:
        """Canonical name, alike at all venues: BASE-QUOTE."""
        return f"{self.base}-{self.quote}"


@dataclass(frozen=True)
class Offers:
    """What a venue gives to who asks without a key, in a few words each; for `mantra venues`."""

    books: str
    trades: str
    bbo: str            # a best bid and offer that is a truth to check the book against; "" where there is none
    orders: str         # L3; "" where there is none
    verified_by: str    # what proves its books; "" nothing does
    cannot_prove: str   # what may go wrong unseen


@dataclass(frozen=True)
class Acknowledged:
    """Subscriptions granted: some of `Venue.expected_acks`."""

    keys: tuple[str, ...]


@dataclass(frozen=True)
class Refused:
    """The venue refused something; `why` in its words. `keys`: of `expected_acks`, empty where it does not say."""

    why: str
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class Restart:
    """The venue will close this connection: open another within `within_s` (0: at once). `doubtful`: nothing that this
    one has told is to be believed meanwhile."""

    within_s: float
    doubtful: bool = False


Control = Acknowledged | Refused | Restart | None      # None: understood, nothing to do


class Venue(ABC):
    """One venue. Class attributes are its rules; an instance may be given other `endpoints` and other patience."""

    name: ClassVar[str]
    id: ClassVar[int]                               # index in mantra.venues.NAMES: a bit of a world level's mask
    decoder: ClassVar[str | type[PythonDecoder]]    # mantra_decode_<decoder>; or a class of one's own in Python
    schemes: ClassVar[Mapping[Mode, Scheme]]        # how a book is kept right (hot_path.h), by the modes it has
    proofs: frozenset[str]                          # what proves a book: of "ids", "numbers", "checksums"
    spread: ClassVar[Literal["symbol", "connection"]]   # whose books a fault makes suspect
    live_trust: Mapping[Mode, int]                  # of a synchronised book
    offers: ClassVar[Offers]
    home: ClassVar[Endpoints]                       # the real venue
    limits: ClassVar[Limits]
    book_channels: ClassVar[Mapping[Mode, str]]     # "{}" stands for the symbol in lower case
    trade_channel: ClassVar[str]                    # likewise
    bbo_channel: ClassVar[str] = ""                 # likewise; of best bids and offers that books are checked against
    book_url: ClassVar[re.Pattern[str]]             # of a REST book, with its symbol
    list_url: ClassVar[re.Pattern[str]]             # of a list of instruments, also of those that recordings have
    depth_said: ClassVar[re.Pattern[bytes] | None] = None   # in its messages: how many levels a side were asked for
    dense_trade_ids: ClassVar[bool]                 # ids of one symbol's trades rise by one: a jump is a loss
    when_refused: ClassVar[str]                     # advice when it answers HTTP 403 or 451
    alone: ClassVar[frozenset[str]] = frozenset()   # symbols whose books are so big that each has its own connection
    first_number: ClassVar[int | None] = None       # of a connection's messages, where the venue numbers them

    heartbeat: Heartbeat
    stale_s: float          # nothing at all came for so long, pongs included: the connection's books are stale
    silence_s: float        # ... it is dead
    channel_silent_s: float = 0.0   # nothing came of one book, whose channel has heartbeats: it is suspect
    answer_s: float = 5.0   # an acknowledgement, or a snapshot in the stream, that takes longer is asked for again
    cross_s: float = 0.0    # a crossed book is believed for so long
    window_s: float = 0.0   # diffs tell only what changed on the whole in so long, at most
    witness: bool = True    # ask for the bbo_channel beside books
    max_age_s: float        # an older connection is replaced before the venue ends it

    def __init__(self, endpoints: Endpoints | None = None) -> None:
        self.endpoints = endpoints or self.home

    def __repr__(self) -> str:
        return f"<venue {self.name} at {self.endpoints.websocket}>"

    def channels(self, symbols: Sequence[str], mode: Mode, trades: bool) -> list[str]:
        """The venue's names of the channels of these feeds; their number counts against `limits.channels`."""
        names = [self.book_channels[mode]] + [self.trade_channel] * trades
        names += [self.bbo_channel] * bool(self.bbo_channel and self.witness and mode == "book")
        return [name.format(symbol.lower()) for symbol in symbols for name in names]

    def books(self, mode: Mode) -> str:
        """What its books of this mode go by: those derived from orders may stand beside those kept by level."""
        return f"{self.name}-orders" if mode == "orders" else self.name

    def url(self, symbols: Sequence[str], mode: Mode, trades: bool) -> str:
        """Where to connect for these feeds."""
        return self.endpoints.websocket

    @abstractmethod
    def subscribe_texts(self, symbols: Sequence[str], mode: Mode, trades: bool) -> list[str]:
        """Frames to send once connected to `url` of the same arguments; empty where the URL said it all."""

    def unsubscribe_texts(self, symbols: Sequence[str], mode: Mode) -> list[str]:
        """Frames that end the book channels of `symbols`; then `subscribe_texts` without trades brings new snapshots
        (scheme "stream")."""
        return []

    def keep(self, mode: Mode, depth: int) -> int:
        """Levels a side that the venue's book has for who wants `depth`: subscribed, and cut to. 0: all."""
        return 0

    def expected_acks(self, symbols: Sequence[str], mode: Mode, trades: bool) -> frozenset[str]:
        """Keys that `control` must have acknowledged before the feeds are granted; empty: nothing to wait for."""
        return frozenset(self.channels(symbols, mode, trades))

    @abstractmethod
    def control(self, text: bytes) -> Control:
        """The meaning of a frame that the decoder called MANTRA_CONTROL. VenueError if it is not JSON at all."""

    @abstractmethod
    def snapshot(self, symbol: str, levels: int) -> Request:
        """The REST book, at least `levels` a side where the venue has and gives as many; to splice (schemes "ids" and
        "time"), and for audits."""

    def opening(self, symbol: str, levels: int, mode: Mode) -> Request:
        """What a book of this mode begins with, where the stream does not say: its REST book, or its orders."""
        return self.snapshot(symbol, levels)

    def snapshot_symbol(self, url: str) -> str | None:
        """Symbol of the book that a recorded GET of `url` fetched; None if it fetched something else."""
        return unquote(found[1]) if (found := self.book_url.search(url)) else None

    @abstractmethod
    def instruments_request(self) -> Request:
        """The REST list of instruments."""

    def lists_instruments(self, url: str) -> bool:
        """Did a recorded GET of `url` fetch the list of instruments?"""
        return self.list_url.search(url) is not None

    @abstractmethod
    def listings(self, answer: Any) -> list[Listing]:
        """Spot instruments in the JSON that answers `instruments_request`; fails anyhow when it is something else."""

    def parse_instruments(self, body: bytes) -> list[Listing]:
        """Spot instruments in the answer to `instruments_request`; VenueError when it is something else."""
        try:
            return self.listings(parse(self.name, "an instrument list", body))
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise VenueError(f"{self.name} sent an instrument list without {error}: {body[:80]!r}") from None

    @abstractmethod
    def numbers(self, text: bytes) -> Iterator[tuple[str, str, str]]:
        """(symbol, price, size) of every level and trade in a message or a REST book (whose symbol is ""): what a scale
        must hold. Nothing for text that has none."""

    def spellings(self, symbol: str) -> list[str]:
        """Every way the decoder may meet this symbol in a frame."""
        return [symbol]


def parse(venue: str, what: str, body: bytes) -> Any:
    """JSON, or a VenueError that says whose it was and how it starts."""
    try:
        return json.loads(body)
    except ValueError as error:
        raise VenueError(f"{venue} sent {what} that is not JSON ({error}): {body[:80]!r}") from None


def loads(text: bytes) -> dict[str, Any]:
    """A JSON object; an empty one for anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def rows(symbol: str, *sides: Any) -> Iterator[tuple[str, str, str]]:
    """(symbol, price, size) of every [price, size, ...] in `sides`."""
    for side in sides:
        for row in side if isinstance(side, list) else ():
            if isinstance(row, list) and len(row) >= 2:
                yield symbol, str(row[0]), str(row[1])


def decimal_text(value: object) -> str:
    """`value` as plain decimal text without trailing zeros; "" for nothing or zero (a rule that is off)."""
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return ""
    return f"{number.normalize():f}" if number.is_finite() and number > 0 else ""
