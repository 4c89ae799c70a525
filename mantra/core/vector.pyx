"""vector: the latest value of a message, slot by slot, read without ever waiting for its writer."""
cimport cython
from libc.string cimport memset

from mantra.core.messages cimport SCRATCH, Message, format_of, slots_found, slots_made
from mantra.core.region cimport Region

from mantra.errors import RegionError


@cython.no_gc
cdef class Vector(Shared):
    """`capacity` slots that each hold the newest message written there. Made by `create` or `open`.

    `kind` "single": a slot has one writer. "many": any thread of any process may write any slot, each through a Vector of its
    own, not after a fork; a writer waits for one that is in the middle of the same slot.
    """

    def __cinit__(self, Region region):
        cdef uint64_t capacity = region.header().capacity
        self.format = slots_found(region, 0 < capacity < 1 << 31, mantra_vector_bytes(capacity, region.header().slot_bytes))
        self.vector = mantra_vector_attach(region.payload(), capacity, self.format.slot_bytes)

    @staticmethod
    def create(name: str | None, message: str | type[Message], capacity: int,
               kind: Literal["single", "many"] = "single") -> Vector:
        """`message`: "top", Top, ...; name None: private memory. ValueError, RegionError."""
        cdef Format form = format_of(message)
        cdef mantra_vector_header head
        if kind not in ("single", "many"):
            raise ValueError(f"a vector's slots have a 'single' writer or 'many', not {kind!r}")
        if not 0 < capacity < 2**31:
            raise ValueError(f"capacity {capacity} is not 1 to 2^31 - 1")
        memset(&head, 0, sizeof(head))
        head.many = kind == "many"
        return Vector(slots_made("vector", name, form, capacity, mantra_vector_bytes(capacity, form.slot_bytes),
                                 (<char *>&head)[:sizeof(head)]))

    def __dealloc__(self):
        if self.joined:
            mantra_vector_leave(&self.vector)

    @staticmethod
    def open(name: str, *, write: bool = False) -> Vector:
        """Open for reading; `write`: also for writing. RegionError: there is none; LayoutMismatch: another build's."""
        return Vector(Region.open(name, kind="vector", write=write))

    cdef int writing(self) except -1:
        """RegionError unless it may be written here; of many writers, this becomes one."""
        Shared.writing(self)
        if self.vector.header.many and not self.joined:
            if mantra_vector_join(&self.vector):
                raise RegionError(f"vector '{self.name or '(private)'}' has 256 writers already")
            self.joined = True
        return 0

    cdef uint32_t check(self, object slot) except? 0xFFFFFFFF:
        if not 0 <= slot < self.vector.capacity:
            raise IndexError(f"slot {slot} of a vector of {self.vector.capacity}")
        return slot

    def write(self, slot: int, message: Message | Buffer) -> None:
        """Replace what is in `slot` by a message of the vector's kind, or its bytes. IndexError, TypeError, ValueError."""
        cdef uint64_t[SCRATCH] raw
        cdef uint32_t at = self.check(slot)
        self.writing()
        self.format.fill(message, raw)
        if self.vector.header.many:
            with nogil:     # it may wait for another writer
                mantra_vector_write(&self.vector, at, raw)
        else:
            mantra_vector_write(&self.vector, at, raw)

    def read(self, slot: int) -> Any:
        """The newest message of `slot`, or None if there never was one. IndexError."""
        cdef uint64_t[SCRATCH] raw
        return self.format.load(raw) if mantra_vector_read(&self.vector, self.check(slot), raw) else None

    def version(self, slot: int) -> int:
        """Of the newest message of `slot`: grows with every write, by one unless a writer was killed; 0: never written."""
        return mantra_vector_version(&self.vector, self.check(slot))

    def __len__(self) -> int:
        return self.vector.capacity

    @property
    def capacity(self) -> int:
        """Number of slots."""
        return self.vector.capacity

    def __repr__(self):
        return f"<Vector {self.name or '(private)'}: {self.capacity} {self.format.name}>"
