"""region: named shared memory that refuses a foreign layout, and is really there once made."""
import atexit
import errno
import os
from typing import NamedTuple

from libc.string cimport strerror
from posix.unistd cimport close

from mantra.errors import LayoutMismatch, RegionError

_PREFIX = "mantra."
_created = {}   # name -> pid that created it: what leaving the interpreter must not leave behind


class RegionInfo(NamedTuple):
    """What the header of a region says. Sizes in bytes of payload; `layout` as a person reads it."""

    name: str
    kind: str
    size: int
    ceiling: int
    owner_pid: int
    owner_alive: bool
    fingerprint: int
    slot_bytes: int
    capacity: int
    layout: str


cdef class Region:
    """Shared memory by name, or private memory (name None) with the same face. Made by `create` or `open`.

    The memory stays mapped until the last object that uses it is gone, so nothing that still runs can lose it; `close`
    (or leaving a `with` block) only gives up the name, if this process owns it.
    """

    def __cinit__(self):
        self.region.fd = -1

    def __dealloc__(self):
        mantra_region_close(&self.region)

    @staticmethod
    def create(name, size, *, ceiling=0, kind, layout="", fingerprint=0, slot_bytes=0, capacity=0):
        """Make a zeroed region of `size` payload bytes, growable to `ceiling`; what a dead owner left is replaced.

        RegionError: the name is bad or in use, or there is not enough shared memory.
        """
        cdef Region self = Region()
        cdef char[MANTRA_REGION_ERROR] error
        cdef bytes kind_ = kind.encode(), layout_ = layout.encode(), name_ = b"" if name is None else name.encode()
        cdef mantra_region_spec spec
        cdef const char *text = NULL
        cdef size_t size_ = size, ceiling_ = ceiling
        cdef int failed
        if len(kind_) > 31 or len(layout_) > 927 or b"\0" in name_ + kind_ + layout_:
            raise RegionError(f"region '{name}': kind is at most 31 bytes, layout 927, without NUL")
        if name is not None:
            text = name_
        spec.kind, spec.layout, spec.fingerprint = kind_, layout_, fingerprint
        spec.slot_bytes, spec.capacity = slot_bytes, capacity
        with nogil:
            failed = mantra_region_create(&self.region, text, size_, ceiling_, &spec, error)
        if failed:
            raise RegionError(error.decode(errors="replace"))
        if name is not None:
            _created[name] = os.getpid()
        return self

    @staticmethod
    def open(name, *, kind, fingerprint=None, write=False):
        """Map an existing region. RegionError: there is none; LayoutMismatch: not of this kind or fingerprint."""
        cdef Region self = Region()
        cdef char[MANTRA_REGION_ERROR] error
        cdef bytes name_ = name.encode()
        if b"\0" in name_:
            raise RegionError(f"region name {name!r} holds a NUL")
        if mantra_region_open(&self.region, name_, write, error):
            raise RegionError(error.decode(errors="replace"))
        info = self.info
        if info.kind != kind:
            raise LayoutMismatch(f"region '{name}' is a {info.kind}, not a {kind}")
        if fingerprint is not None and info.fingerprint != fingerprint:
            raise LayoutMismatch(f"region '{name}' holds {info.layout or 'another layout'} (fingerprint "
                                 f"{info.fingerprint:016x}); this program expects fingerprint {fingerprint:016x}")
        return self

    cdef uint8_t *payload(self) noexcept nogil:
        return mantra_region_payload(&self.region)

    def grow(self, size):
        """Back at least `size` payload bytes (owner only, up to the ceiling; addresses stay). RegionError if it cannot."""
        cdef size_t size_ = size
        cdef int failed
        with nogil:
            failed = mantra_region_grow(&self.region, size_)
        if failed:
            why = {errno.EPERM: "only its owner can", errno.ENOMEM: f"its ceiling is {self.region.ceiling} bytes"}
            raise RegionError(f"region '{self.name}' cannot grow to {size} bytes: "
                              f"{why.get(failed, strerror(failed).decode())}")

    def unlink(self):
        """Take the name away (owner only; RegionError otherwise). Whoever has it mapped keeps the memory."""
        cdef int failed = mantra_region_unlink(&self.region)
        if failed == errno.EPERM:
            raise RegionError(f"region '{self.name}' belongs to another process")
        if not failed or failed == errno.ENOENT:
            _created.pop(self.name, None)
        else:
            raise RegionError(f"region '{self.name}' cannot be unlinked: {strerror(failed).decode()}")

    def close(self):
        """Done with it: the owner's name goes away. A forked child, or who merely opened it, removes nothing."""
        if mantra_region_unlink(&self.region) == 0:
            _created.pop(self.name, None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __repr__(self):
        return f"<Region {self.name or '(private)'}: {self.info.kind}, {self.size} bytes>"

    @property
    def name(self):
        """The name, or None for private memory."""
        return self.region.name.decode() or None

    @property
    def size(self):
        """Payload bytes that are backed by memory now (the owner may have grown it)."""
        return mantra_region_backed(mantra_region_head(&self.region))

    @property
    def owner_alive(self):
        """Is the process that made it still running?"""
        return mantra_process_alive(mantra_region_head(&self.region).owner)

    @property
    def info(self):
        """The header, as a RegionInfo."""
        return _info(self.name or "", mantra_region_head(&self.region))

    @staticmethod
    def list(prefix=""):
        """RegionInfo of every region whose name starts with `prefix`, by name."""
        cdef mantra_region_header header
        cdef int fd
        infos = []
        for name in sorted(_names(prefix)):
            path = os.fsencode(_path(name))
            fd = mantra_region_peek(path, &header)
            if fd >= 0:
                close(fd)
                infos.append(_info(name, &header))
        return infos

    @staticmethod
    def remove_stale(prefix):
        """Remove regions whose owner is dead; returns their names."""
        removed = []
        for name in sorted(_names(prefix)):
            path = os.fsencode(_path(name))
            if mantra_region_bury(path) == 1:
                removed.append(name)
        return removed


def _path(name):
    return f"{MANTRA_REGION_DIRECTORY.decode()}/{_PREFIX}{name}"


def _names(prefix):
    for entry in os.listdir(MANTRA_REGION_DIRECTORY):
        name = os.fsdecode(entry)
        if name.startswith(_PREFIX + prefix):
            yield name[len(_PREFIX):]


cdef object _info(str name, const mantra_region_header *header):
    return RegionInfo(name, header.kind.decode(errors="replace"), mantra_region_backed(header), header.ceiling,
                      header.owner >> 42, bool(mantra_process_alive(header.owner)), header.fingerprint,
                      header.slot_bytes, header.capacity, header.layout.decode(errors="replace"))


@atexit.register
def _unlink_created():
    """Names this process made and never closed; a forked child leaves its parent's alone."""
    cdef mantra_region_header header
    cdef int fd
    for name, pid in _created.items():
        if pid == os.getpid():
            path = os.fsencode(_path(name))
            fd = mantra_region_peek(path, &header)
            if fd >= 0:
                close(fd)
                if header.owner == mantra_process_self():
                    os.unlink(path)
