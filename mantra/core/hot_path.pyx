"""hot_path: one connection's way from received bytes to published updates, in one call without the GIL."""
from libc.stddef cimport size_t
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from mantra.core.book cimport Book, mantra_change
from mantra.core.clock cimport (
    Clock, mantra_clock, mantra_clock_advance_to, mantra_clock_cycles, mantra_clock_ns, mantra_clock_utc_ns,
)
from mantra.core.decode cimport (
    MANTRA_DIFF, MANTRA_IMAGE, MANTRA_SNAPSHOT, mantra_dialect, mantra_dialect_named, mantra_image_text, mantra_order_change, mantra_orders_bytes,
    mantra_orders_init, mantra_print, mantra_route, mantra_symbol, mantra_symbols, mantra_symbols_add,
    mantra_symbols_init,
)
from mantra.core.doorbell cimport Doorbell, mantra_doorbell_ring
from mantra.core.frame cimport (
    MANTRA_FRAME_PING, MANTRA_FRAME_TEXT, mantra_frame_error, mantra_frames_free, mantra_frames_init, mantra_frames_reset,
)
from mantra.core.histogram cimport Histogram
from mantra.core.ledger cimport Row, mantra_ledger_row
from mantra.core.messages cimport mantra_trade
from mantra.core.queue cimport Producer
from mantra.core.plugin cimport Plugin, decode_book_in_python, decode_in_python, sign_in_python
from mantra.core.poller cimport mantra_poller_add, mantra_poller_close, mantra_poller_init, mantra_poller_remove
from mantra.core.tape cimport (
    MANTRA_TAPE_ADOPTED, MANTRA_TAPE_CLOSED, MANTRA_TAPE_EXPECTED, MANTRA_TAPE_HOLE, MANTRA_TAPE_LOOK, MANTRA_TAPE_LOOKED,
    MANTRA_TAPE_MESSAGE, MANTRA_TAPE_OPENED, MANTRA_TAPE_REFUSED, MANTRA_TAPE_RESCALED, MANTRA_TAPE_REST, MANTRA_TAPE_SENT,
    MANTRA_TAPE_SETTLED, MANTRA_TAPE_SPLICE, MANTRA_TAPE_SUSPECT, TapeWriter, mantra_tape_record,
)
from mantra.core.ticks cimport MANTRA_PADDING, mantra_scale
from mantra.core.tracking cimport Tracker
from mantra.core.transport cimport Transport, mantra_transport_enter, mantra_transport_leave
from mantra.core.vector cimport Vector

import json
from enum import IntEnum

from mantra.core.frame import frame_bytes
from mantra.errors import Closed, ConfigurationError, RegionError

cdef enum:
    DEF_MOST_CHANGES = 131_072      # levels of one message: the largest snapshot seen has 69,300
    DEF_MOST_TRADES = 4_096
    DEF_MOST_ORDERS = 131_072       # of a book, and of one message
    DEF_MOST_ROUTES = 256           # numbered channels of one connection: no venue that deals numbers allows as many
PADDING = MANTRA_PADDING            # bytes that must be readable behind a message
SCHEMES = {"ids": MANTRA_BY_IDS, "time": MANTRA_BY_TIME, "image": MANTRA_BY_IMAGE, "stream": MANTRA_BY_STREAM}
PROOFS = {"ids": MANTRA_PROOF_IDS, "numbers": MANTRA_PROOF_NUMBERS, "checksums": MANTRA_PROOF_CHECKSUMS}


class Event(IntEnum):
    """Why `Feed.run` came back."""

    NONE = MANTRA_EVENT_NONE
    TEXT = MANTRA_EVENT_TEXT            # `Feed.text` is for the subscriber
    WANTS = MANTRA_EVENT_WANTS          # `Feed.wants()` is not empty
    WOKEN = MANTRA_EVENT_WOKEN
    DEADLINE = MANTRA_EVENT_DEADLINE
    CLOSED = MANTRA_EVENT_CLOSED        # by the venue; `Feed.close_code`
    FAILED = MANTRA_EVENT_FAILED
    PROTOCOL = MANTRA_EVENT_PROTOCOL    # not WebSocket; `Feed.protocol_text`
    SILENT = MANTRA_EVENT_SILENT


class Splice(IntEnum):
    """What became of a snapshot."""

    SPLICED = MANTRA_SPLICED
    OLD = MANTRA_SPLICE_OLD             # older than the first message held back: ask again
    MALFORMED = -1
    FINER = -2                          # the scale must grow first
    TOO_MANY = -4


cdef _check_span(const uint8_t[::1] texts, const uint64_t[::1] offsets, size_t start, size_t stop):
    if stop >= <size_t>offsets.shape[0] or start > stop or offsets[stop] > <uint64_t>texts.shape[0]:
        raise IndexError(f"messages {start}:{stop} of {offsets.shape[0] - 1}")


cdef class Feed:
    """The hot path of one connection (or recording). One thread at a time may call it.

    `decoder` is the name of a compiled one, or a PythonDecoder (mantra/venues/decoder.py).
    `scheme` "ids", "time", "image" or "stream" says how its books are kept right (hot_path.h), `proofs` what proves
    them; `keep` levels a side the venue's own book has (0: all); `depth` levels a side are read of images (0: all). A
    side of a snapshot with `snapshot_levels` may be cut there (0: snapshots are whole). A cross is believed for
    `cross_believed_seconds`, then suspect, and after `cross_seconds` more the book is resynchronised. With a queue of
    `orders` books are kept order by order, and their levels follow. Books are added before the first message.
    """

    def __cinit__(self, str name not None, *, int venue, object decoder not None, str scheme not None, int live_trust,
                  int publisher, Clock clock not None, Doorbell doorbell not None, Row ledger not None,
                  Producer updates not None, Producer trades not None, Producer tops not None,
                  Vector latest_tops not None, Producer orders=None, Histogram socket_to_top=None, Tracker tracker=None,
                  TapeWriter tape=None, int depth=0,
                  bint dense_trades=False, int most_books=1024, size_t held_bytes=1 << 24, size_t most_message_bytes=1 << 24,
                  double cross_seconds=1.0, double cross_believed_seconds=0.0, int snapshot_levels=0,
                  bint looks_twice=False, object proofs=(), int keep=0, first_number: int | None = None,
                  bint checksums=True):
        cdef mantra_feed *feed = &self.feed
        cdef uint32_t slots = 16
        if scheme not in SCHEMES:
            raise ConfigurationError(f"scheme {scheme!r}: choose one of {', '.join(SCHEMES)}")
        latest_tops.writing()
        ledger.owner.writing()
        if socket_to_top is not None:
            socket_to_top.writing()
        self.name = name
        self.clock = clock
        self.books_ = []
        self.kept = [doorbell, ledger, updates, trades, tops, orders, latest_tops, socket_to_top, tracker]
        self.most_books = most_books
        feed.clock = clock.clock
        cdef const mantra_dialect *dialect = NULL
        if isinstance(decoder, str):
            dialect = mantra_dialect_named(decoder.encode())
            if dialect is NULL:
                raise ConfigurationError(f"there is no decoder {decoder!r}")
            feed.decode, feed.decode_snapshot = dialect.message, dialect.snapshot
            feed.checksum = dialect.checksum if checksums else NULL
            feed.orders_checksum = dialect.orders_checksum
        else:
            self.plugin = Plugin(decoder)
            feed.decode, feed.decode_snapshot = decode_in_python, decode_book_in_python
            if checksums and self.plugin.signs:
                feed.checksum = sign_in_python
            feed.decoder.context = <void *>self.plugin
        for proof in proofs:
            feed.proofs |= <int>PROOFS[proof]
        feed.keep = keep
        feed.first_number = -1 if first_number is None else first_number
        feed.cross_believed = self.cycles_of(cross_believed_seconds)
        feed.updates = &updates.producer
        feed.trades = &trades.producer
        feed.tops = &tops.producer
        if orders is not None:
            feed.orders = &orders.producer
            feed.decoder.orders = <mantra_order_change *>mantra_pages_new(DEF_MOST_ORDERS * sizeof(mantra_order_change))
            feed.decoder.order_capacity = DEF_MOST_ORDERS
        feed.latest_tops = &latest_tops.vector
        feed.doorbell = doorbell.doorbell
        feed.ledger = ledger.row
        feed.socket_to_top = NULL if socket_to_top is None else socket_to_top.histogram
        feed.tracker = NULL if tracker is None or tracker.tracker.timings is NULL else &tracker.tracker
        feed.tape = NULL if tape is None else &tape.writer
        self.tape = tape
        feed.publisher = publisher
        feed.venue = venue
        feed.scheme = SCHEMES[scheme]
        feed.live_trust = live_trust
        feed.dense_trades = dense_trades
        feed.looks_twice = looks_twice
        feed.cross_limit = self.cycles_of(cross_seconds)
        feed.snapshot_levels = snapshot_levels
        feed.held_capacity = held_bytes
        # Large and mostly untouched: pages become real only when a message needs them.
        feed.held = <uint8_t *>mantra_pages_new(held_bytes)
        feed.decoder.changes = <mantra_change *>mantra_pages_new(DEF_MOST_CHANGES * sizeof(mantra_change))
        feed.decoder.change_capacity = DEF_MOST_CHANGES
        feed.decoder.trades = <mantra_print *>malloc(DEF_MOST_TRADES * sizeof(mantra_print))
        feed.decoder.trade_capacity = DEF_MOST_TRADES
        feed.decoder.depth = depth
        while slots < 4 * self.most_books:
            slots *= 2
        feed.books = <mantra_feed_book *>calloc(self.most_books, sizeof(mantra_feed_book))
        self.image_texts = calloc(self.most_books if depth else 1, sizeof(mantra_image_text))
        self.scales = calloc(self.most_books, sizeof(mantra_scale))
        self.printed = calloc(self.most_books, sizeof(mantra_scale))
        self.spare = calloc(1, sizeof(mantra_ledger_row))
        self.routes = calloc(DEF_MOST_ROUTES, sizeof(mantra_route))
        self.symbol_slots = malloc(slots * sizeof(mantra_symbol))
        self.symbols = calloc(1, sizeof(mantra_symbols))
        if not (feed.held and feed.decoder.changes and feed.decoder.trades and (feed.decoder.orders or orders is None)
                and feed.books and self.image_texts and self.scales and self.printed and self.routes
                and self.spare and self.symbol_slots and self.symbols):
            raise MemoryError(f"no memory for the feed {name}")
        mantra_symbols_init(<mantra_symbols *>self.symbols, <mantra_symbol *>self.symbol_slots, slots)
        feed.decoder.images = <mantra_image_text *>self.image_texts if depth else NULL
        feed.decoder.scales = <const mantra_scale *>self.scales
        feed.decoder.printed = <mantra_scale *>self.printed
        feed.decoder.routes = <mantra_route *>self.routes
        feed.decoder.route_capacity = DEF_MOST_ROUTES
        feed.decoder.symbols = <const mantra_symbols *>self.symbols
        if mantra_frames_init(&feed.frames, 1 << 16, most_message_bytes) != 0:
            raise MemoryError(f"no memory for the feed {name}")

    def __dealloc__(self):
        cdef uint32_t book
        mantra_pages_free(self.feed.held)
        mantra_pages_free(self.feed.decoder.changes)
        mantra_pages_free(self.feed.decoder.orders)
        for book in range(self.feed.book_count):
            mantra_pages_free(self.feed.books[book].orders.slots)
        free(self.feed.decoder.trades)
        free(self.feed.books)
        free(self.image_texts)
        free(self.scales)
        free(self.printed)
        free(self.routes)
        free(self.spare)
        free(self.symbol_slots)
        free(self.symbols)
        mantra_frames_free(&self.feed.frames)

    cdef uint64_t cycles_of(self, double seconds):
        cdef uint64_t ns_of_a_gigacycle = mantra_clock_ns(self.clock.clock, 1_000_000_000)
        return <uint64_t>(seconds * 1e18 / ns_of_a_gigacycle)

    def add_book(self, Book book not None, int slot, spellings: Sequence[str], int instrument, int price_decimals,
                 int size_decimals, Row ledger=None) -> int:
        """Keep `book` from messages that name one of `spellings`; `slot` is its place in the vector of tops, `ledger` its
        own row of counters. Returns its index. ConfigurationError when the feed is full or a spelling is taken."""
        cdef uint32_t index = self.feed.book_count
        cdef mantra_feed_book *mine
        cdef void *memory
        cdef bytes text
        if index == self.most_books:
            raise ConfigurationError(f"{self.name}: at most {self.most_books} instruments on one connection")
        for spelling in spellings:
            text = spelling.encode()
            if mantra_symbols_add(<mantra_symbols *>self.symbols, text, len(text), index) != 0:
                raise ConfigurationError(f"{self.name}: cannot route {spelling!r} (longer than 31 bytes, or given twice)")
            if self.plugin is not None:
                self.plugin.route(spelling, index)
        mine = &self.feed.books[index]
        memset(mine, 0, sizeof(mantra_feed_book))
        mine.book = book.book
        mine.slot = slot
        mine.trust_since_ns = mantra_clock_utc_ns(self.clock.clock, mantra_clock_cycles(self.clock.clock))
        mine.distrusted_since_ns = mine.trust_since_ns
        if ledger is not None:
            ledger.owner.writing()
            self.kept.append(ledger)
        if self.feed.orders is not NULL:
            memory = mantra_pages_new(mantra_orders_bytes(2 * DEF_MOST_ORDERS))    # pages become real as a book comes to them
            if memory is NULL:
                raise MemoryError(f"no memory for the orders of {self.name}")
            mantra_orders_init(&mine.orders, memory, 2 * DEF_MOST_ORDERS)
        mine.ledger = <mantra_ledger_row *>self.spare if ledger is None else ledger.row
        self.books_.append(book)
        self.feed.book_count += 1
        mine.instrument = instrument
        self._set_scale(index, price_decimals, size_decimals)
        return index

    cdef _set_scale(self, uint32_t index, int price_decimals, int size_decimals):
        cdef mantra_scale *scale = <mantra_scale *>self.scales + index
        scale.price_decimals = price_decimals
        scale.size_decimals = size_decimals

    def scale(self, uint32_t index) -> tuple[int, int]:
        """Decimals of the prices and sizes of a book."""
        self._check(index)
        cdef mantra_scale *scale = <mantra_scale *>self.scales + index
        return scale.price_decimals, scale.size_decimals

    def rescale(self, uint32_t index, int instrument, int price_decimals, int size_decimals) -> None:
        """Book `index` goes on as a new generation of its instrument, on a finer scale, from a fresh snapshot."""
        self._check(index)
        cdef int32_t[3] scale = [instrument, price_decimals, size_decimals]
        cdef uint64_t now = mantra_clock_cycles(self.feed.clock)
        mantra_feed_note(&self.feed, MANTRA_TAPE_RESCALED, index, 0, now, scale, sizeof(scale))
        mantra_feed_rescale(&self.feed, index, instrument, now)
        self._set_scale(index, price_decimals, size_decimals)

    cdef _check(self, uint32_t index):
        if index >= self.feed.book_count:
            raise IndexError(f"{self.name} has {self.feed.book_count} books, not {index + 1}")

    def liveness(self, heartbeat: str | None, double every, double stale_after, double silent_after,
                 double channel_silent_after=0.0) -> None:
        """Send `heartbeat` (text, or None for a WebSocket ping) every `every` seconds; after `stale_after` seconds
        without a byte the books are stale, after `silent_after` `run` gives SILENT; a book of which nothing came for
        `channel_silent_after` seconds, heartbeats of its channel included, is suspect. 0: never."""
        cdef bytes text = b"" if heartbeat is None else heartbeat.encode()
        if len(text) > <Py_ssize_t>sizeof(self.feed.heartbeat):
            raise ConfigurationError(f"{self.name}: a heartbeat of {len(text)} bytes; at most 128")
        memcpy(self.feed.heartbeat, <const char *>text, len(text))
        self.feed.heartbeat_size = len(text)
        self.feed.heartbeat_opcode = MANTRA_FRAME_PING if heartbeat is None else MANTRA_FRAME_TEXT
        self.feed.heartbeat_every = self.cycles_of(every)
        self.feed.stale_after = self.cycles_of(stale_after)
        self.feed.silent_after = self.cycles_of(silent_after)
        self.feed.channel_silent_after = self.cycles_of(channel_silent_after)

    def attach(self, Transport transport) -> None:
        """Read from this transport, whose handshake is done, from now on."""
        self.transport = transport
        self.feed.transport = NULL if transport is None else &transport.transport
        self.feed.text = NULL
        mantra_frames_reset(&self.feed.frames)

    def begin(self, bytes what not None=b"") -> None:
        """The connection is up: books are synchronising from here. `what`: for the tape, what it is."""
        cdef uint64_t now = mantra_clock_cycles(self.feed.clock)
        mantra_feed_note(&self.feed, MANTRA_TAPE_OPENED, 0, 0, now, <const char *>what, len(what))
        mantra_feed_begin(&self.feed, now)

    def end(self, int reason) -> None:
        """The connection is gone: every book is down, and says so."""
        cdef uint64_t now = mantra_clock_cycles(self.feed.clock)
        mantra_feed_note(&self.feed, MANTRA_TAPE_CLOSED, 0, reason, now, NULL, 0)
        mantra_feed_end(&self.feed, reason, now)

    def refuse(self, uint32_t index) -> None:
        """The venue does not serve book `index`: it is down."""
        cdef uint64_t now = mantra_clock_cycles(self.feed.clock)
        self._check(index)
        mantra_feed_note(&self.feed, MANTRA_TAPE_REFUSED, index, 0, now, NULL, 0)
        mantra_feed_refuse(&self.feed, index, now)

    def expect(self, uint32_t index) -> None:
        """Book `index` is asked for (again): a snapshot in the stream is for it."""
        self._check(index)
        mantra_feed_note(&self.feed, MANTRA_TAPE_EXPECTED, index, 0, mantra_clock_cycles(self.feed.clock), NULL, 0)
        mantra_feed_expect(&self.feed, index)

    def reached(self, Feed heir not None) -> bool:
        """Do the books of `heir`, a feed of the same, tell at least what these tell? See promote.h."""
        return mantra_feed_reached(&self.feed, &heir.feed)

    def adopt(self, Feed heir not None, uint64_t trades_since, now: int | None = None) -> None:
        """Go on over the connection of `heir`, which gets this one's. `trades_since`: where this feed's queue of trades
        stood when the heir's connection began. What differs is published; `retell` the heir's trades next."""
        cdef uint64_t at = mantra_clock_cycles(self.feed.clock) if now is None else now
        cdef bytes said
        if heir.feed.book_count != self.feed.book_count:
            raise ConfigurationError(f"{heir.name} keeps other books than {self.name}")
        if self.tape is not None and heir.tape is not None:
            said = json.dumps({"heir": heir.name, "number": heir.tape.tape.number, "trades_since": trades_since}).encode()
            mantra_feed_note(&self.feed, MANTRA_TAPE_ADOPTED, 0, 0, at, <const char *>said, len(said))
        mantra_feed_promote(&self.feed, &heir.feed, trades_since, at)
        self.transport, heir.transport = heir.transport, self.transport
        self.given, heir.given = heir.given, self.given
        self.plugin, heir.plugin = heir.plugin, self.plugin
        self.image_texts, heir.image_texts = heir.image_texts, self.image_texts
        self.scales, heir.scales = heir.scales, self.scales
        self.routes, heir.routes = heir.routes, self.routes
        self.printed, heir.printed = heir.printed, self.printed
        self.symbol_slots, heir.symbol_slots = heir.symbol_slots, self.symbol_slots
        self.symbols, heir.symbols = heir.symbols, self.symbols

    def retell(self, const uint8_t[::1] trades not None) -> None:
        """Publish trades that an heir heard before it was adopted (their messages' bytes), unless this feed did."""
        cdef size_t i
        for i in range(trades.shape[0] // sizeof(mantra_trade)):
            mantra_feed_retell(&self.feed, <const mantra_trade *><const void *>&trades[i * sizeof(mantra_trade)])

    def wake(self) -> None:
        """End a run, this one or the next. Any thread."""
        cdef Transport transport = self.transport
        if transport is not None:
            transport.wake()

    def run(self, double seconds) -> int:
        """Receive, decode, apply and publish without the GIL for up to `seconds`; why it came back is an Event."""
        cdef uint64_t deadline = mantra_clock_cycles(self.feed.clock) + self.cycles_of(seconds)
        cdef int event
        if self.feed.transport == NULL or not mantra_transport_enter(self.feed.transport):
            raise Closed(f"{self.name} is not connected, or another thread runs it")
        with nogil:
            event = mantra_feed_run(&self.feed, deadline)
        mantra_transport_leave(self.feed.transport)
        return event

    def send(self, str text not None) -> bool:
        """Send a text frame; False when the transport failed."""
        if self.transport is None:
            return False
        cdef bytes payload = text.encode()
        try:
            self.transport.sendall(frame_bytes(MANTRA_FRAME_TEXT, payload))
        except (OSError, Closed):
            return False
        mantra_feed_note(&self.feed, MANTRA_TAPE_SENT, 0, MANTRA_FRAME_TEXT, mantra_clock_cycles(self.feed.clock),
                         <const char *>payload, len(payload))
        return True

    @property
    def text(self) -> bytes:
        """The message of an Event.TEXT, or the one that wants another scale; until the next `run`."""
        return self.feed.text[:self.feed.text_size] if self.feed.text != NULL else b""

    @property
    def close_code(self) -> int:
        return self.feed.close_code

    @property
    def protocol_text(self) -> str:
        """What an Event.PROTOCOL was, in words."""
        return mantra_frame_error(self.feed.protocol_error).decode()

    @property
    def failure_text(self) -> str:
        """What an Event.FAILED was, in words."""
        return "" if self.feed.transport == NULL else self.feed.transport.reason.decode("utf-8", "replace")

    def wants(self) -> list[tuple[int, bool, bool]]:
        """[(book index, wants snapshot?, wants another scale?)], once each."""
        cdef uint32_t i
        cdef list found = []
        if self.feed.wanting:
            for i in range(self.feed.book_count):
                if self.feed.books[i].wants:
                    found.append((i, bool(self.feed.books[i].wants & MANTRA_WANTS_SNAPSHOT),
                                  bool(self.feed.books[i].wants & MANTRA_WANTS_SCALE)))
                    self.feed.books[i].wants = 0
            self.feed.wanting = 0
        return found

    def splice(self, uint32_t index, bytes snapshot not None, bint settled=True, str url not None="") -> int:
        """Load the venue's REST book and the messages held for it; what became of it is a Splice. `settled`: it is newer
        than whatever was lost before, even if no message has come since to prove it. `url`: for the tape."""
        cdef const char *text = snapshot
        cdef size_t size = len(snapshot)
        cdef uint64_t now = mantra_clock_cycles(self.feed.clock)
        cdef int outcome
        self._check(index)
        self._answered(index, MANTRA_TAPE_SETTLED if settled else MANTRA_TAPE_SPLICE, url, snapshot, now)
        padded = snapshot + bytes(MANTRA_PADDING)
        text = padded
        with nogil:
            outcome = mantra_feed_splice(&self.feed, index, text, size, settled, now)
        return outcome

    cdef _answered(self, uint32_t index, uint8_t what_for, str url, bytes body, uint64_t now):
        cdef bytes text
        if self.tape is not None:
            text = url.encode() + b"\n" + body
            mantra_feed_note(&self.feed, MANTRA_TAPE_REST, index, what_for, now, <const char *>text, len(text))

    def answered(self, uint32_t index, str url not None, bytes body not None) -> None:
        """For the tape: a REST answer that tells of book `index`, which is only looked at."""
        self._answered(index, MANTRA_TAPE_LOOK, url, body, mantra_clock_cycles(self.feed.clock))

    def levels_of(self, uint32_t index, bytes snapshot not None) -> tuple[int, list[tuple[int, int, int]]] | None:
        """(sequence, [(kind, price, size)]) of the venue's REST book on the scale of book `index`, which is left as it
        is; None when it cannot be read."""
        cdef mantra_decoder *decoder = &self.feed.decoder
        cdef uint32_t depth = decoder.depth
        self._check(index)
        padded = snapshot + bytes(MANTRA_PADDING)
        decoder.book, decoder.depth = index, 0
        cdef int kind = self.feed.decode_snapshot(decoder, padded, len(snapshot))
        decoder.depth = depth
        if kind != MANTRA_IMAGE:
            return None
        return decoder.last, self._changes()

    cdef list _changes(self):
        cdef mantra_decoder *decoder = &self.feed.decoder
        cdef uint32_t i
        return [(decoder.changes[i].kind, decoder.changes[i].price, decoder.changes[i].size)
                for i in range(decoder.change_count)]

    def told(self, bytes text not None) -> list[tuple[int, int, list[tuple[int, int, int]]]]:
        """(kind, index of its book, [(side, price, size)]) of each part of a message (decode.h); nothing is done."""
        cdef mantra_decoder *decoder = &self.feed.decoder
        cdef const char *before
        cdef list parts = []
        padded = text + bytes(MANTRA_PADDING)
        decoder.rest = before = NULL
        while not parts or decoder.rest > before:
            before = decoder.rest
            decoder.book, decoder.change_count = <uint32_t>-1, 0
            kind = self.feed.decode(decoder, padded, len(text))
            parts.append((kind, decoder.book, self._changes() if kind in (MANTRA_DIFF, MANTRA_SNAPSHOT) else []))
        decoder.rest = NULL
        return parts

    def looked(self, uint32_t index, bint agreed) -> None:
        """A second look at book `index` found what the snapshot said, or contradictions without end: then it is never
        more than unverified."""
        cdef uint64_t now = mantra_clock_cycles(self.feed.clock)
        self._check(index)
        mantra_feed_note(&self.feed, MANTRA_TAPE_LOOKED, index, agreed, now, NULL, 0)
        mantra_feed_looked(&self.feed, index, agreed, now)

    def suspect(self, uint32_t index, int reason) -> None:
        """Lose faith in a book: it is resynchronised."""
        cdef uint64_t now = mantra_clock_cycles(self.feed.clock)
        self._check(index)
        mantra_feed_note(&self.feed, MANTRA_TAPE_SUSPECT, index, reason, now, NULL, 0)
        mantra_feed_suspect(&self.feed, &self.feed.books[index], reason, now)

    def message(self, bytes text not None) -> int:
        """One venue message, as received. Returns its kind (decode.h)."""
        cdef size_t size = len(text)
        self.given = text + bytes(MANTRA_PADDING)
        self.feed.begun = 0
        cdef int kind = mantra_feed_message(&self.feed, self.given, size, mantra_clock_cycles(self.feed.clock))
        mantra_doorbell_ring(self.feed.doorbell)
        return kind

    def messages(self, const uint8_t[::1] texts not None, const uint64_t[::1] offsets not None, size_t start,
                 size_t stop) -> int:
        """Messages `start` to `stop` of a recording: message i is texts[offsets[i]:offsets[i + 1] - 64], followed by 64
        bytes of padding. Their origin is one, as of one `recv`. Returns the cycles it took."""
        cdef uint64_t began
        cdef size_t i
        _check_span(texts, offsets, start, stop)
        with nogil:
            self.feed.begun = began = mantra_clock_cycles(self.feed.clock)
            for i in range(start, stop):
                mantra_feed_message(&self.feed, <const char *>&texts[offsets[i]],
                                    offsets[i + 1] - offsets[i] - MANTRA_PADDING, began)
            mantra_doorbell_ring(self.feed.doorbell)
            began = mantra_clock_cycles(self.feed.clock) - began
        return began

    def recorded(self, const uint8_t[::1] texts not None, const uint64_t[::1] offsets not None,
                 const int64_t[::1] times not None, int8_t[::1] kinds not None, size_t start, size_t stop) -> int:
        """The same on a virtual clock, each at its own time (UTC ns); `kinds` (decode.h) is told what each was. Comes back
        behind a message that replaced a book, so that its image can be taken. Returns how far it came."""
        cdef uint64_t resets = self.feed.resets
        _check_span(texts, offsets, start, stop)
        if stop > <size_t>min(times.shape[0], kinds.shape[0]):
            raise IndexError(f"times of {times.shape[0]} messages, kinds of {kinds.shape[0]}")
        with nogil:
            while start < stop and self.feed.resets == resets:
                mantra_clock_advance_to(self.clock.clock, times[start])
                kinds[start] = mantra_feed_message(&self.feed, <const char *>&texts[offsets[start]],
                                                   offsets[start + 1] - offsets[start] - MANTRA_PADDING, times[start])
                start += 1
        return start

    def again(self, records: NDArray[numpy.void], const uint8_t[::1] texts not None, const uint64_t[::1] ends not None,
              size_t start, size_t stop) -> int:
        """Do what records `start` to `stop` of a tape say was done, up to one that its caller has to know of first (OPENED,
        ADOPTED, HOLE), or behind one that is not a frame. Record i's text ends at texts[ends[i]]; 64 readable bytes follow
        the last. Returns the number of the next record. ValueError: no feed of these books can have been told so."""
        cdef const uint8_t[::1] heads = records.view("u1")
        cdef const mantra_tape_record *record = NULL
        cdef int32_t[3] scale
        cdef bint good = True, one
        cdef size_t i = start
        if stop > <size_t>ends.shape[0] or stop * sizeof(mantra_tape_record) > <size_t>heads.shape[0] or (
                stop and ends[stop - 1] + MANTRA_PADDING > <uint64_t>texts.shape[0]):
            raise IndexError(f"records {start}:{stop} of {ends.shape[0]}")
        with nogil:
            while good and i < stop:
                record = <const mantra_tape_record *><const void *>&heads[i * sizeof(mantra_tape_record)]
                if i > start and record.kind in (MANTRA_TAPE_OPENED, MANTRA_TAPE_ADOPTED, MANTRA_TAPE_HOLE):
                    break
                one = record.kind != MANTRA_TAPE_MESSAGE and record.kind != MANTRA_TAPE_SENT
                good = ends[i] >= record.size and mantra_feed_again(&self.feed, record,
                                                                    <const char *>&texts[ends[i] - record.size])
                i += 1
                if one:
                    break
        if good and i > start and record.kind == MANTRA_TAPE_RESCALED:
            good = record.size == sizeof(scale)
            if good:
                memcpy(scale, &texts[ends[i - 1] - record.size], sizeof(scale))
                self._set_scale(record.book, scale[1], scale[2])
        self.wants()
        if not good:
            raise ValueError(f"record {i - 1} is none of a feed of {self.feed.book_count} books")
        return i

    @property
    def publisher(self) -> int:
        """This feed's number in every message."""
        return self.feed.publisher

    @property
    def limits(self) -> tuple[int, int, int]:
        """In cycles: how long a cross is believed, then suspect; how long a channel may be silent."""
        return self.feed.cross_believed, self.feed.cross_limit, self.feed.channel_silent_after

    def limit(self, uint64_t cross_believed, uint64_t cross, uint64_t channel_silent) -> None:
        """Have the `limits` of another."""
        self.feed.cross_believed, self.feed.cross_limit = cross_believed, cross
        self.feed.channel_silent_after = channel_silent

    def past(self, uint32_t index) -> tuple[int, int, int]:
        """What book `index` keeps from one connection to the next: its generation, its last trade's id, its venue time."""
        self._check(index)
        image = self.books_[index].image(0)
        return image.generation, self.feed.books[index].last_trade_id, image.venue_time_ns

    def recall(self, uint32_t index, uint64_t generation, uint64_t last_trade_id, int64_t venue_time_ns) -> None:
        """Take up where another was, as `past` said."""
        self._check(index)
        mantra_feed_recall(&self.feed, index, generation, last_trade_id, venue_time_ns)

    def state(self, uint32_t index) -> tuple[bool, int, int, int, int]:
        """(synchronised?, trust, reason, sequence, messages held) of a book."""
        self._check(index)
        cdef mantra_feed_book *book = &self.feed.books[index]
        return book.state == MANTRA_BOOK_LIVE, book.trust, book.reason, book.sequence, book.held

    @property
    def books(self) -> list[Any]:
        return list(self.books_)


cdef class FeedPoller:
    """Many feeds on one thread: epoll over their sockets, then the same hot path. `most`: how many at once."""

    def __cinit__(self, Clock clock not None, int most):
        self.clock = clock
        self.all.count = most
        self.attached = [None] * most
        self.all.feeds = <mantra_feed **>calloc(most, sizeof(mantra_feed *))
        if self.all.feeds == NULL:
            raise MemoryError("no memory for a poller")
        if mantra_poller_init(&self.all.poller) != 0:
            raise RegionError("no descriptors left for a poller: raise the limit (ulimit -n)")

    def __dealloc__(self):
        mantra_poller_close(&self.all.poller)
        free(self.all.feeds)

    def add(self, int index, Feed feed not None) -> None:
        """Serve `feed`, which has a transport, as number `index`."""
        if not 0 <= index < <int>self.all.count or feed.feed.transport == NULL:
            raise ConfigurationError(f"{feed.name} cannot be number {index} of this poller")
        feed.feed.index = index
        if mantra_poller_add(&self.all.poller, feed.feed.transport.fd, &feed.feed) != 0:
            raise Closed(f"{feed.name} is not connected any more")
        self.all.feeds[index] = &feed.feed
        self.all.revisit = True     # the handshake may have taken the first frames along
        self.attached[index] = feed

    def remove(self, int index) -> None:
        """Serve number `index` no more; before its transport is closed."""
        cdef Feed feed = self.attached[index]
        if feed is not None:
            if feed.feed.transport != NULL:
                mantra_poller_remove(&self.all.poller, feed.feed.transport.fd)
            self.all.feeds[index] = NULL
            self.attached[index] = None

    def run(self, double seconds) -> tuple[int, int]:
        """(event, index): serve all for up to `seconds`, without the GIL, until one feed needs Python."""
        cdef mantra_clock *clock = self.clock.clock
        cdef uint64_t deadline = mantra_clock_cycles(clock) + <uint64_t>(seconds * 1e18 / mantra_clock_ns(clock, 10**9))
        cdef uint32_t which = 0, i
        cdef int event
        for i in range(self.all.count):     # nobody else may close a transport meanwhile
            if self.all.feeds[i] != NULL and not mantra_transport_enter(self.all.feeds[i].transport):
                for which in range(i):
                    if self.all.feeds[which] != NULL:
                        mantra_transport_leave(self.all.feeds[which].transport)
                return MANTRA_EVENT_FAILED, i
        with nogil:
            event = mantra_feeds_run(&self.all, clock, deadline, &which)
        for i in range(self.all.count):
            if self.all.feeds[i] != NULL:
                mantra_transport_leave(self.all.feeds[i].transport)
        return event, which

    def wake(self) -> None:
        """End a run, this one or the next. Any thread."""
        mantra_feeds_wake(&self.all)
