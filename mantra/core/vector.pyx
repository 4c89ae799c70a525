"""vector: the latest value of a message, slot by slot, read without ever waiting for its writer."""
cimport cython

from mantra.core.messages cimport SCRATCH, Message, format_of, slots_found, slots_made
from mantra.core.region cimport Region


@cython.no_gc
cdef class Vector(Shared):
    """`capacity` slots that each hold the newest message written there; one writer per slot. Made by `create` or `open`."""

    def __cinit__(self, Region region):
        cdef uint64_t capacity = region.header().capacity
        self.format = slots_found(region, 0 < capacity < 1 << 31, mantra_vector_bytes(capacity, region.header().slot_bytes))
        self.vector = mantra_vector_attach(region.payload(), capacity, self.format.slot_bytes)

    @staticmethod
    def create(name: str | None, message: str | type[Message], capacity: int) -> Vector:
        """`message`: "top", Top, ...; name None: private memory. ValueError, RegionError."""
        cdef Format form = format_of(message)
        if not 0 < capacity < 2**31:
            raise ValueError(f"capacity {capacity} is not 1 to 2^31 - 1")
        return Vector(slots_made("vector", name, form, capacity, mantra_vector_bytes(capacity, form.slot_bytes)))

    @staticmethod
    def open(name: str, *, write: bool = False) -> Vector:
        """Open for reading; `write`: also for writing. RegionError: there is none; LayoutMismatch: another build's."""
        return Vector(Region.open(name, kind="vector", write=write))

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
        mantra_vector_write(&self.vector, at, raw)

    def read(self, slot: int) -> Any:
        """The newest message of `slot`, or None if there never was one. IndexError."""
        cdef uint64_t[SCRATCH] raw
        return self.format.load(raw) if mantra_vector_read(&self.vector, self.check(slot), raw) else None

    def version(self, slot: int) -> int:
        """How many times `slot` was written: changes with every write."""
        return mantra_vector_version(&self.vector, self.check(slot))

    def __len__(self) -> int:
        return self.vector.capacity

    @property
    def capacity(self) -> int:
        """Number of slots."""
        return self.vector.capacity

    def __repr__(self):
        return f"<Vector {self.name or '(private)'}: {self.capacity} {self.format.name}>"
