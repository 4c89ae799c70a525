"""vector: the latest value of a message, slot by slot, read without ever waiting for its writer."""
from libc.string cimport memcpy

from mantra.core.messages cimport SCRATCH, Message, format_of

from mantra.core.messages import format_at
from mantra.core.region import Region as _Region
from mantra.errors import RegionError


cdef class Vector:
    """`capacity` slots that each hold the newest message written there; one writer per slot. Made by `create` or `open`."""

    @staticmethod
    def create(name, message, capacity):
        """`message`: "top", Top, ...; name None: private memory. ValueError, RegionError."""
        cdef Format form = format_of(message)
        if not 0 < capacity < 2**31:
            raise ValueError(f"capacity {capacity} is not 1 to 2^31 - 1")
        return _vector(_Region.create(name, mantra_vector_bytes(capacity, form.slot_bytes), kind="vector", layout=form.layout,
                                      fingerprint=form.fingerprint, slot_bytes=form.slot_bytes, capacity=capacity), form)

    @staticmethod
    def open(name, *, write=False):
        """Open for reading; `write`: also for writing. RegionError: there is none; LayoutMismatch: another build's."""
        cdef Region region = _Region.open(name, kind="vector", write=write)
        info = region.info
        form = format_at(name, info.layout, info.fingerprint)
        if (info.slot_bytes != form.slot_bytes or not 0 < info.capacity < 2**31
                or mantra_vector_bytes(info.capacity, info.slot_bytes) > info.size):
            raise RegionError(f"region '{name}': {info.capacity} slots of {info.slot_bytes} bytes are not a vector of "
                              f"{form.name} in {info.size} bytes")
        return _vector(region, form)

    cdef uint32_t check(self, object slot) except? 0xFFFFFFFF:
        if not 0 <= slot < self.vector.capacity:
            raise IndexError(f"slot {slot} of a vector of {self.vector.capacity}")
        return slot

    def write(self, slot, message):
        """Replace what is in `slot` by a message of the vector's kind, or its bytes. IndexError, TypeError, ValueError."""
        cdef uint64_t[SCRATCH] raw
        cdef uint32_t at = self.check(slot)
        if not self.region.region.writable:
            raise RegionError(f"vector '{self.name}' was opened for reading: Vector.open(name, write=True)")
        self.format.fill(message, raw)
        mantra_vector_write(&self.vector, at, raw)

    def read(self, slot):
        """The newest message of `slot`, or None if there never was one. IndexError."""
        cdef uint64_t[SCRATCH] raw
        cdef Message message
        if not mantra_vector_read(&self.vector, self.check(slot), raw):
            return None
        message = self.format.make()
        memcpy(message.raw, raw, message.bytes)
        return message

    def version(self, slot):
        """How many times `slot` was written: changes with every write."""
        return mantra_vector_version(&self.vector, self.check(slot))

    def __len__(self):
        return self.vector.capacity

    @property
    def name(self):
        """Of its region; None: private."""
        return self.region.name

    @property
    def capacity(self):
        """Number of slots."""
        return self.vector.capacity

    def close(self):
        """Give up the name, if this process made it."""
        self.region.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __repr__(self):
        return f"<Vector {self.name or '(private)'}: {self.capacity} {self.format.name}>"


cdef Vector _vector(Region region, Format form):
    cdef Vector self = Vector()
    self.region, self.format = region, form
    self.vector = mantra_vector_attach(region.payload(), region.info.capacity, form.slot_bytes)
    return self
