"""messages: every message as a typed object, a numpy dtype and a described layout, all from the C field table.

Prices and sizes are integers on the instrument's own scale (ticks, lots), times UTC nanoseconds, `origin` cycles.
"""
from enum import IntEnum

import numpy

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.string cimport memcmp, memcpy

from mantra.core.tracking cimport mantra_published_cycles, mantra_publisher
from mantra.errors import LayoutMismatch, RegionError

cdef extern from "Python.h":
    ctypedef struct PyObject:
        pass
    ctypedef struct PyTypeObject:
        PyObject *tp_dict
    void PyType_Modified(PyTypeObject *type)

DEPTH = MANTRA_DEPTH
MAX_VENUES = MANTRA_MAX_VENUES
SOCKET = MANTRA_SOCKET      # `Timing.queue` of what came from a socket


class Trust(IntEnum):
    """How far a book can be trusted; larger is better, so that a policy is one comparison."""

    DOWN = MANTRA_DOWN
    STALE = MANTRA_STALE
    SUSPECT = MANTRA_SUSPECT
    UNVERIFIED = MANTRA_UNVERIFIED
    VERIFIED = MANTRA_VERIFIED


class Reason(IntEnum):
    """Why a book is trusted less than it could be."""

    NONE = MANTRA_REASON_NONE
    SYNCHRONISING = MANTRA_REASON_SYNCHRONISING
    GAP = MANTRA_REASON_GAP
    CROSSED = MANTRA_REASON_CROSSED
    MALFORMED = MANTRA_REASON_MALFORMED
    SCALE = MANTRA_REASON_SCALE
    FULL = MANTRA_REASON_FULL
    SILENT = MANTRA_REASON_SILENT
    DISCONNECTED = MANTRA_REASON_DISCONNECTED
    CHECKSUM = MANTRA_REASON_CHECKSUM
    CONTRADICTED = MANTRA_REASON_CONTRADICTED
    REFUSED = MANTRA_REASON_REFUSED


class Kind(IntEnum):
    """What an update says: the book was replaced (price: its generation), a level changed, or only its trust did."""

    RESET = MANTRA_RESET
    BID = MANTRA_BID
    ASK = MANTRA_ASK
    TRUST = MANTRA_TRUST


class Side(IntEnum):
    """The aggressor's side of a trade, an order's own."""

    BUY = MANTRA_BUY
    SELL = MANTRA_SELL


class Flag(IntEnum):
    """Bits of `flags`."""

    MORE = MANTRA_MORE                      # more updates of the same venue message follow
    FROM_SNAPSHOT = MANTRA_FROM_SNAPSHOT    # a top that a snapshot led to


class ActorState(IntEnum):
    """What an actor is at."""

    STARTING = MANTRA_ACTOR_STARTING
    RUNNING = MANTRA_ACTOR_RUNNING
    RESTARTING = MANTRA_ACTOR_RESTARTING
    FAILED = MANTRA_ACTOR_FAILED
    STOPPED = MANTRA_ACTOR_STOPPED


DTYPES, FINGERPRINTS, LAYOUTS = {}, {}, {}
_FORMATS = {}       # by name, and by type
_FIELDS = {}        # name of a message -> {name of a field: Field}


cdef class Field:
    """One field of the C table as a read-only attribute: an int, or a tuple of ints where the table says an array."""

    cdef readonly uint32_t offset, count, size
    cdef readonly bint signed

    cdef object number(self, const uint8_t *at):
        if self.size == 8:
            return (<const int64_t *>at)[0] if self.signed else (<const uint64_t *>at)[0]
        return at[0] if self.size == 1 else (<const uint16_t *>at)[0] if self.size == 2 else (<const uint32_t *>at)[0]

    def __get__(self, message, owner):
        if message is None:
            return self
        cdef const uint8_t *at = (<Message?>message).raw + self.offset
        if self.count == 1:
            return self.number(at)
        return tuple([self.number(at + i * self.size) for i in range(self.count)])


cdef class Message:
    """Base of the typed messages: a C struct whose fields are attributes, each as messages.h declares it.

    `Update(price=1, size=2)`: what is not named is zero.
    """

    def __init__(self, **fields):
        cdef Field field
        cdef uint32_t i
        table = _FIELDS[format_of(type(self)).name]
        for name, value in fields.items():
            if name not in table:
                raise TypeError(f"{type(self).__name__} has no field '{name}'")
            field = table[name]
            values = (value,) if field.count == 1 else value.encode() if isinstance(value, str) else value
            if len(values) > field.count:
                raise ValueError(f"{len(values)} values for {type(self).__name__}.{name}, which holds {field.count}")
            for i, each in enumerate(values):
                packed = int(each).to_bytes(field.size, "little", signed=field.signed)
                memcpy(self.raw + field.offset + i * field.size, <const char *>packed, field.size)

    @classmethod
    def from_bytes(cls, data: Buffer) -> Self:
        """The message in `data`, which must have its exact size; ValueError otherwise."""
        cdef Message self = cls()
        format_of(cls).fill(data, self.raw)
        return self

    def to_bytes(self) -> bytes:
        """The C struct's bytes."""
        return PyBytes_FromStringAndSize(<char *>self.raw, self.bytes)

    def __bytes__(self) -> bytes:
        return self.to_bytes()

    def __reduce__(self):
        return type(self).from_bytes, (self.to_bytes(),)

    def __eq__(self, other):
        return type(self) is type(other) and memcmp(self.raw, (<Message>other).raw, self.bytes) == 0

    __hash__ = None

    @property
    def published_cycles(self) -> int:
        """Cycles when this was published."""
        return mantra_published_cycles((<uint64_t *>self.raw)[0], (<uint64_t *>self.raw)[1])

    @property
    def publisher(self) -> int:
        """Number of the actor that published this."""
        return mantra_publisher((<uint64_t *>self.raw)[1])


cdef str _text(const uint8_t *at, size_t size):
    return (<const char *>at)[:size].split(b"\0")[0].decode(errors="replace")


cdef str _named(kind, value):
    return kind(value).name if value in kind._value2member_map_ else str(value)


cdef class Update(Message):
    """One level of one book changed; size 0: the level is gone."""

    def __cinit__(self, *_, **__):
        self.raw, self.bytes = <uint8_t *>&self.message, sizeof(self.message)

    def __repr__(self):
        return (f"<Update instrument {self.instrument} venue {self.venue} {_named(Kind, self.kind)} {self.size} @ {self.price} "
                f"sequence {self.sequence} {_named(Trust, self.trust)}{' more' if self.more else ''}>")

    @property
    def more(self) -> bool: return bool(self.message.flags & MANTRA_MORE)
    @property
    def reason(self) -> int: return self.message.flags >> MANTRA_REASON_SHIFT


cdef class Trade(Message):
    """One trade at one venue; side: the aggressor's."""

    def __cinit__(self, *_, **__):
        self.raw, self.bytes = <uint8_t *>&self.message, sizeof(self.message)

    def __repr__(self):
        return (f"<Trade {self.trade_id} instrument {self.instrument} venue {self.venue} {_named(Side, self.side)} "
                f"{self.size} @ {self.price}>")


cdef class Order(Message):
    """One order of a book that is kept order by order; size 0: it is gone. `order_id` 0: all known so far are void."""

    def __cinit__(self, *_, **__):
        self.raw, self.bytes = <uint8_t *>&self.message, sizeof(self.message)

    def __repr__(self):
        return (f"<Order {self.order_id} instrument {self.instrument} venue {self.venue} {_named(Side, self.side)} "
                f"{self.size} @ {self.price}>")


cdef class Top(Message):
    """The best levels of one venue's book. `bids`, `asks`: [(price, size)...], best first."""

    def __cinit__(self, *_, **__):
        self.raw, self.bytes = <uint8_t *>&self.message, sizeof(self.message)

    def __repr__(self):
        return (f"<Top instrument {self.instrument} venue {self.venue} bids {self.bids[:1]} asks {self.asks[:1]} "
                f"sequence {self.sequence} {_named(Trust, self.trust)} {_named(Reason, self.reason)}>")

    @property
    def bids(self) -> list[tuple[int, int]]: return list(zip(self.bid_price, self.bid_size))[:self.bid_count]
    @property
    def asks(self) -> list[tuple[int, int]]: return list(zip(self.ask_price, self.ask_size))[:self.ask_count]


cdef class World(Message):
    """Many venues as one book. `bids`, `asks`: [(price, size, mask of venues)...], best first; `trust[v]`, `reason[v]`,
    `trust_since_s[v]`: venue v's book."""

    def __cinit__(self, *_, **__):
        self.raw, self.bytes = <uint8_t *>&self.message, sizeof(self.message)

    def __repr__(self):
        return f"<World instrument {self.instrument} bids {self.bids[:1]} asks {self.asks[:1]} sequence {self.sequence}>"

    @property
    def bids(self) -> list[tuple[int, int, int]]:
        return list(zip(self.bid_price, self.bid_size, self.bid_venues))[:self.bid_count]

    @property
    def asks(self) -> list[tuple[int, int, int]]:
        return list(zip(self.ask_price, self.ask_size, self.ask_venues))[:self.ask_count]

    @property
    def books(self) -> list[tuple[int, int, int, int]]:
        """(venue, trust, reason, since when in UTC seconds) of every book of this instrument that was heard of."""
        return [(venue, *told) for venue, told in enumerate(zip(self.trust, self.reason, self.trust_since_s))
                if any(told)]

    @property
    def spread(self) -> int | None:
        """Best ask less best bid in ticks, below zero when venues cross; None while a side is empty."""
        return (self.message.ask_price[0] - self.message.bid_price[0]
                if self.message.bid_count and self.message.ask_count else None)


cdef class InstrumentRow(Message):
    """One scale generation of an instrument: what turns ticks and lots back into decimals."""

    def __cinit__(self, *_, **__):
        self.raw, self.bytes = <uint8_t *>&self.message, sizeof(self.message)

    def __repr__(self):
        return (f"<InstrumentRow {self.instrument} {self.name} generation {self.generation} "
                f"decimals {self.price_decimals} {self.size_decimals}>")

    @property
    def name(self) -> str: return _text(self.message.name, 32)


cdef class Timing(Message):
    """One message (`count` of them, taken at once), as one actor saw it: `origin` and `published` are its own, at `consumed`
    (cycles) the actor took it, for `busy` cycles it worked on it. `queue`: its number, or SOCKET; `position`: in there."""

    def __cinit__(self, *_, **__):
        self.raw, self.bytes = <uint8_t *>&self.message, sizeof(self.message)

    def __repr__(self):
        return (f"<Timing actor {self.actor} queue {self.queue} position {self.position} count {self.count}: waited "
                f"{self.consumed - self.published_cycles}, busy {self.busy} cycles>")


cdef class ActorRow(Message):
    """An actor of a run: `identity` of its process (pid << 42 | start), `core` it is pinned to (-1: none), `process`: is
    that one of its own?"""

    def __cinit__(self, *_, **__):
        self.raw, self.bytes = <uint8_t *>&self.message, sizeof(self.message)

    def __repr__(self):
        return f"<ActorRow {self.number} {self.name} {self.kind} pid {self.pid} {_named(ActorState, self.state)}>"

    @property
    def name(self) -> str: return _text(self.message.name, 48)
    @property
    def kind(self) -> str: return _text(self.message.kind, 16)
    @property
    def pid(self) -> int: return self.message.identity >> 42


cdef class Format:
    """One kind of message, as queues and vectors need it: `slot_bytes` with the version word."""

    def __init__(self, kind, dtype, layout, fingerprint, flags_offset):
        self.name, self.type, self.dtype, self.layout = layout.split()[0], kind, dtype, layout
        self.message_bytes, self.slot_bytes = dtype.itemsize, dtype.itemsize + 8
        self.fingerprint, self.flags_offset = fingerprint, flags_offset

    cdef Message load(self, const void *raw):
        """A message of these bytes."""
        cdef Message message = <Message>(<type>self.type).__new__(self.type)
        memcpy(message.raw, raw, message.bytes)
        return message

    cdef int fill(self, object message, void *raw) except -1:
        """The bytes of `message` (of this type, or a buffer of exactly its size) to `raw`."""
        cdef Py_buffer view
        if type(message) is self.type:
            memcpy(raw, (<Message>message).raw, self.message_bytes)
            return 0
        if isinstance(message, Message):
            raise TypeError(f"{type(message).__name__} given where {self.type.__name__} is held")
        PyObject_GetBuffer(message, &view, PyBUF_SIMPLE)
        try:
            if view.len != self.message_bytes:
                raise ValueError(f"{view.len} bytes for a message of {self.message_bytes} ({self.name})")
            memcpy(raw, view.buf, self.message_bytes)
        finally:
            PyBuffer_Release(&view)
        return 0


cpdef Format format_of(object message):
    """The format of a message given by name ("update") or type (Update). ValueError: no such message."""
    found = _FORMATS.get(message)
    if found is None:
        raise ValueError(f"no message {message!r}: there are {', '.join(DTYPES)}")
    return found


cdef Region slots_made(str kind, name, Format form, uint64_t capacity, size_t size, bytes head):
    """A new region for a queue or vector of `capacity` messages, which begins with `head`. RegionError."""
    return Region.create(name, size, kind=kind, layout=form.layout, fingerprint=form.fingerprint,
                         slot_bytes=form.slot_bytes, capacity=capacity, first=head)


cdef Format slots_found(Region region, bint sound, size_t size):
    """The format of a queue's or vector's region; LayoutMismatch; RegionError unless `sound`, or if it lacks `size` bytes."""
    cdef Format form = format_at(region.name, region.info.layout, region.info.fingerprint)
    if not sound or size > region.size or region.info.slot_bytes != form.slot_bytes:
        raise RegionError(f"region '{region.name}' of {region.size} bytes is no {region.info.kind} of {form.name}, "
                          f"{region.info.capacity} slots of {region.info.slot_bytes} bytes")
    return form


def format_at(name: str, layout: str, uint64_t fingerprint) -> Format:
    """The format of a region's header; LayoutMismatch shows both sides when this program's differs."""
    found = _FORMATS.get(layout.split(" ")[0])
    if found is None or found.fingerprint != fingerprint:
        raise LayoutMismatch(f"region '{name}' holds [{layout}] ({fingerprint:016x}); this program has "
                             f"[{found.layout if found else 'no such message'}] ({found.fingerprint if found else 0:016x})")
    return found


cdef void _register(const mantra_layout *layout, object kind):
    cdef const mantra_field *field
    cdef Field face
    cdef PyTypeObject *type
    names, formats, offsets, texts, table = [], [], [], [], {}
    for i in range(layout.field_count):
        field = &layout.fields[i]
        name, base = field.name.decode(), f"{chr(field.kind)}{field.size}"
        names.append(name)
        formats.append(base if field.count == 1 else (base, field.count))
        offsets.append(field.offset)
        texts.append(f"{name} {base}{'' if field.count == 1 else f'x{field.count}'}@{field.offset}")
        face = table[name] = Field.__new__(Field)
        face.offset, face.count, face.size, face.signed = field.offset, field.count, field.size, field.kind == b"i"
        type = <PyTypeObject *>(Message if i < 2 else kind)     # all begin with their tracking
        (<dict>type.tp_dict).setdefault(name, face)
        PyType_Modified(type)
    name = layout.name.decode()
    DTYPES[name] = numpy.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": layout.size})
    LAYOUTS[name] = f"{name} {layout.size}: {', '.join(texts)}"
    FINGERPRINTS[name] = mantra_fingerprint(layout)
    _FIELDS[name] = table
    _FORMATS[name] = _FORMATS[kind] = Format(kind, DTYPES[name], LAYOUTS[name], FINGERPRINTS[name],
                                             table["flags"].offset if "flags" in table else 0)


TYPES = {"update": Update, "trade": Trade, "order": Order, "top": Top, "world": World, "instrument": InstrumentRow,
         "timing": Timing, "actor": ActorRow}
cdef size_t _index = 0
while mantra_layout_at(_index) != NULL:
    _register(mantra_layout_at(_index), TYPES[mantra_layout_at(_index).name.decode()])
    _index += 1
