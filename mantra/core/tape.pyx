"""tape: all that a feed is told and says, byte for byte: a broadcast ring of records of any length."""
cimport cython
import numpy

from libc.string cimport memcpy, memmove

from mantra.core.ledger cimport MANTRA_COUNT_overruns, Row, mantra_ledger_add_shared, mantra_ledger_row
from mantra.core.region cimport Region

from mantra.errors import RegionError

cdef uint64_t MOST = 1 << 36
RECORD = numpy.dtype([("origin", "<u8"), ("number", "<u8"), ("size", "<u4"), ("book", "<u2"), ("kind", "u1"),
                      ("argument", "u1")])     # of a record but its text: mantra/tape/raw.py says what they mean
assert RECORD.itemsize == sizeof(mantra_tape_record)


@cython.no_gc     # its memory must outlive a writer that the collector takes with it
cdef class Tape(Shared):
    """A ring of `capacity` bytes in shared memory, or private (name None). Made by `create` or `open`."""

    def __cinit__(self, Region region):
        cdef uint64_t capacity = region.header().capacity
        if not MANTRA_TAPE_LEAST <= capacity <= MOST or capacity & (capacity - 1) or mantra_tape_bytes(capacity) > region.size:
            raise RegionError(f"region '{region.name}' of {region.size} bytes is no tape of {capacity}")
        self.tape = mantra_tape_attach(region.payload(), capacity)

    @staticmethod
    def create(name: str | None, uint64_t capacity) -> Tape:
        """`capacity`: a power of two, 4096 at least; records up to half of it are kept. ValueError, RegionError."""
        if not MANTRA_TAPE_LEAST <= capacity <= MOST or capacity & (capacity - 1):
            raise ValueError(f"capacity {capacity} is not a power of two from {MANTRA_TAPE_LEAST} to {MOST}")
        return Tape(Region.create(name, mantra_tape_bytes(capacity), kind="tape", layout="records of any length",
                                  fingerprint=1, slot_bytes=sizeof(mantra_tape_record), capacity=capacity))

    @staticmethod
    def open(name: str) -> Tape:
        """Open for reading. RegionError: there is none; LayoutMismatch: another build's."""
        return Tape(Region.open(name, kind="tape", fingerprint=1))

    def writer(self) -> TapeWriter:
        """Become its writer. RegionError: there is one already."""
        return TapeWriter(self)

    def reader(self, start: Literal["newest", "oldest"] = "oldest", Row row=None) -> TapeReader:
        """Read what is still there ("oldest"), or only what comes ("newest"). `row`: where records that are overwritten
        before they are read are counted (overruns)."""
        return TapeReader(self, start, row)

    @property
    def capacity(self) -> int:
        """Bytes that the ring holds."""
        return self.tape.capacity

    @property
    def written(self) -> int:
        """Bytes that were ever written."""
        return self.tape.header.written

    @property
    def number(self) -> int:
        """Records that were ever written."""
        return self.tape.header.number

    def __repr__(self):
        return f"<Tape {self.name or '(private)'}: {self.capacity} bytes, {self.number} records written>"


@cython.no_gc
cdef class TapeWriter:
    """The one writer of a tape, until closed. One thread at a time; not after a fork."""

    def __init__(self, Tape tape not None):
        tape.writing()
        if mantra_tape_open(&self.writer, &tape.tape, 0):
            raise RegionError(f"tape '{tape.name or '(private)'}' has a writer already, and it is running")
        self.tape, self.claimed = tape, True

    def __dealloc__(self):
        if self.claimed:
            mantra_tape_close(&self.writer)

    def write(self, uint8_t kind, bytes text=b"", *, uint64_t origin=0, uint16_t book=0, uint8_t argument=0) -> None:
        """Add a record; one that is longer than half the ring is a hole."""
        if not self.claimed:
            raise RegionError("this tape's writer is closed")
        mantra_tape_write(&self.writer, kind, book, argument, origin, <const char *>text, len(text))

    def close(self) -> None:
        """Let somebody else write."""
        if self.claimed:
            self.claimed = False
            mantra_tape_close(&self.writer)


@cython.no_gc
cdef class TapeReader:
    """One reader's place on a tape. One thread at a time."""

    def __init__(self, Tape tape not None, start: Literal["newest", "oldest"] = "oldest", Row row=None):
        if start not in ("newest", "oldest"):
            raise ValueError(f"start is 'newest' or 'oldest', not {start!r}")
        if row is not None:
            row.owner.writing()
        self.tape, self.row = tape, row
        self.reader = mantra_tape_reader_at(&tape.tape, start == "newest")

    def batch(self, size_t most=1 << 20) -> tuple[NDArray[numpy.void], NDArray[numpy.uint8]]:
        """What waits, up to about `most` bytes: records (of dtype RECORD), and their texts one behind the other. Where
        this reader was lapped there stands a record of kind HOLE, whose text says how many records and bytes are gone."""
        cdef size_t count = 0, used = 0, room = most // 64 if most > 4096 else 64, size = most if most > 4096 else 4096
        cdef int got = MANTRA_TAPE_RECORD
        cdef uint64_t[2] lost
        cdef mantra_tape_record record
        cdef mantra_tape_record *records
        cdef mantra_ledger_row *row = NULL if self.row is None else self.row.row
        cdef uint8_t[::1] heads, texts
        made = numpy.empty(room, RECORD)
        heads = made.view("u1")
        records = <mantra_tape_record *>&heads[0]
        while True:
            bytes_ = numpy.empty(size + 16, numpy.uint8)    # 16: what a hole says
            texts = bytes_
            with nogil:
                while count + 1 < room and used < size:
                    got = mantra_tape_read(&self.reader, &record, &texts[used], size - used)
                    if got == MANTRA_TAPE_OVERRUN:
                        continue
                    if got != MANTRA_TAPE_RECORD:
                        break
                    if self.reader.lost != self.told:
                        lost[0], lost[1] = self.reader.lost - self.told, self.reader.lost_bytes - self.told_bytes
                        self.told, self.told_bytes = self.reader.lost, self.reader.lost_bytes
                        if row != NULL:
                            mantra_ledger_add_shared(row, MANTRA_COUNT_overruns, lost[0])
                        memmove(&texts[used + 16], &texts[used], record.size)
                        memcpy(&texts[used], lost, 16)
                        records[count] = mantra_tape_record(record.origin, record.number - lost[0], 16, 0,
                                                            MANTRA_TAPE_HOLE, MANTRA_TAPE_LAPPED)
                        count, used = count + 1, used + 16
                    records[count] = record
                    count, used = count + 1, used + record.size
            if got != MANTRA_TAPE_NO_ROOM or count:
                return made[:count], bytes_[:used]
            size = record.size + 8

    @property
    def lost(self) -> int:
        """Records that were overwritten before they were read, in all."""
        return self.reader.lost

    @property
    def lost_bytes(self) -> int:
        """Their bytes, heads and padding included."""
        return self.reader.lost_bytes
