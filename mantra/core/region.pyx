"""region: named shared memory that refuses a foreign layout, and is really there once made."""
import atexit
import errno
import os
from typing import NamedTuple

cimport cython
from libc.string cimport strerror
from posix.unistd cimport close

from mantra.errors import LayoutMismatch, RegionError

PREFIX = f"{os.fsdecode(mantra_region_directory)}/mantra."     # a region's path without its name
FORMAT = MANTRA_REGION_VERSION                              # of the headers that this program reads
_created = {}   # name -> pid that created it: what leaving the interpreter must not leave behind


class RegionInfo(NamedTuple):
    """What the header of a region says. Sizes in bytes of payload; `layout` as a person reads it. Where `format` is not
    this program's FORMAT, only the owner is to be trusted."""

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
    format: int


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
    def create(name: str | None, size_t size, *, size_t ceiling=0, kind: str, layout: str = "", uint64_t fingerprint=0,
               uint64_t slot_bytes=0, uint64_t capacity=0, bytes first=b"") -> Region:
        """Make a region of `size` payload bytes, growable to `ceiling`; what a dead owner left is replaced.

        The payload is zeros but for what it begins with, `first`: whoever opens the name finds it there.

        RegionError: the name is bad or in use, or there is not enough shared memory.
        """
        cdef Region self = Region()
        cdef char[MANTRA_REGION_ERROR] error
        cdef bytes kind_ = kind.encode(), layout_ = layout.encode(), name_ = b"" if name is None else name.encode()
        cdef mantra_region_spec spec
        cdef char *text = NULL if name is None else <char *>name_
        cdef int failed
        if len(kind_) > 31 or len(layout_) > 927 or b"\0" in name_ + kind_ + layout_:
            raise RegionError(f"region '{name}': kind is at most 31 bytes, layout 927, without NUL")
        if len(first) > <Py_ssize_t>size:
            raise RegionError(f"region '{name}': {len(first)} bytes to begin with, of {size}")
        spec = mantra_region_spec(kind_, layout_, fingerprint, slot_bytes, capacity, <const char *>first, len(first))
        with nogil:
            failed = mantra_region_create(&self.region, text, size, ceiling, &spec, error)
        if failed:
            raise RegionError(error.decode(errors="replace"))
        if name is not None:
            _created[name] = os.getpid()
        return self

    @staticmethod
    def open(name: str, *, kind: str, fingerprint: int | None = None, write: bool = False, size: int = 0) -> Region:
        """Map an existing region. RegionError: there is none; LayoutMismatch: not of this kind or fingerprint, or its payload
        is less than `size` bytes."""
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
        if info.size < size:
            raise LayoutMismatch(f"region '{name}' is a {kind} of {info.size} bytes; this program expects {size}")
        return self

    cdef uint8_t *payload(self) noexcept nogil:
        return mantra_region_payload(&self.region)

    cdef mantra_region_header *header(self) noexcept nogil:
        return mantra_region_head(&self.region)

    def read(self) -> bytes:
        """The payload as it is now; for what is written once."""
        return (<char *>self.payload())[:self.size]

    def grow(self, size_t size) -> None:
        """Back at least `size` payload bytes (owner only, up to the ceiling; addresses stay). RegionError if it cannot."""
        cdef int failed
        with nogil:
            failed = mantra_region_grow(&self.region, size)
        if failed:
            why = {errno.EPERM: "only its owner can", errno.ENOMEM: f"its ceiling is {self.region.ceiling} bytes"}
            raise RegionError(f"region '{self.name}' cannot grow to {size} bytes: "
                              f"{why.get(failed, strerror(failed).decode())}")

    def unlink(self) -> None:
        """Take the name away (owner only; RegionError otherwise). Whoever has it mapped keeps the memory."""
        cdef int failed = mantra_region_unlink(&self.region)
        if failed == errno.EPERM:
            raise RegionError(f"region '{self.name}' belongs to another process")
        if not failed or failed == errno.ENOENT:
            _created.pop(self.name, None)
        else:
            raise RegionError(f"region '{self.name}' cannot be unlinked: {strerror(failed).decode()}")

    def close(self) -> None:
        """Done with it: the owner's name goes away. A forked child, or who merely opened it, removes nothing."""
        if mantra_region_unlink(&self.region) == 0:
            _created.pop(self.name, None)

    def __enter__(self) -> Region:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self):
        return f"<Region {self.name or '(private)'}: {self.info.kind}, {self.size} bytes>"

    @property
    def name(self) -> str | None:
        """The name, or None for private memory."""
        return self.region.name.decode() or None

    @property
    def size(self) -> int:
        """Payload bytes that are backed by memory now (the owner may have grown it)."""
        return mantra_region_backed(self.header())

    @property
    def owner_alive(self) -> bool:
        """Is the process that made it still running?"""
        return mantra_process_alive(self.header().owner)

    @property
    def info(self) -> RegionInfo:
        """The header, as a RegionInfo."""
        return _info(self.name or "", self.header())

    @staticmethod
    def list(prefix: str = "") -> builtins.list[RegionInfo]:
        """RegionInfo of every region whose name starts with `prefix`, by name."""
        cdef mantra_region_header header
        return [_info(name, &header) for name in _names(prefix) if _look(name, &header)]

    @staticmethod
    def foreign(prefix: str = "") -> builtins.list[str]:
        """Names of files that are called as regions are and are none, or may not be read."""
        cdef mantra_region_header header
        return [name for name in _names(prefix) if not _look(name, &header)]

    @staticmethod
    def remove_stale(prefix: str) -> builtins.list[str]:
        """Remove regions whose owner is dead; returns their names."""
        return [name for name in _names(prefix) if mantra_region_bury(_path(name)) == 1]


@cython.no_gc     # holds a leaf only, which so outlives whoever points into its memory, in whatever order garbage goes
cdef class Shared:
    """What lies in a region: shared by its name, or private. Base of what `create` and `open` make."""

    def __cinit__(self, Region region not None, *_):
        if region.info.kind != type(self).__name__.lower():
            raise TypeError(f"a {type(self).__name__} cannot be made of a region of kind '{region.info.kind}'")
        self.region = region

    cdef int writing(self) except -1:
        if not self.region.region.writable:
            raise RegionError(f"{self.region.info.kind} '{self.name}' was opened for reading; it belongs to another process "
                              "(a queue or vector can be opened with write=True)")
        return 0

    @property
    def name(self) -> str | None:
        """Of its region; None: private memory."""
        return self.region.name

    @property
    def owner_alive(self) -> bool:
        """Is the process that made it still running?"""
        return self.region.owner_alive

    def close(self) -> None:
        """Give up the name, if this process made it; the memory stays while this object lives."""
        self.region.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def process_identity(pid: int | None = None) -> int:
    """pid << 42 | start of this process, or of `pid`; 0: it is dead. A pid alone may be somebody else's by now."""
    return mantra_process_identity(os.getpid() if pid is None else pid)


cdef bytes _path(name):
    return os.fsencode(PREFIX + name)


def _names(prefix):
    folder, first = os.path.split(PREFIX)
    return sorted(name.removeprefix(first) for name in os.listdir(folder) if name.startswith(first + prefix))


cdef bint _look(name, mantra_region_header *header):
    """The header of the region `name`; False: there is none."""
    cdef int fd = mantra_region_peek(_path(name), os.O_RDONLY, header)
    if fd >= 0:
        close(fd)
    return fd >= 0


cdef object _info(str name, const mantra_region_header *header):
    return RegionInfo(name, header.kind.decode(errors="replace"), mantra_region_backed(header), header.ceiling,
                      header.owner >> 42, bool(mantra_process_alive(header.owner)), header.fingerprint,
                      header.slot_bytes, header.capacity, header.layout.decode(errors="replace"), header.version)


@atexit.register
def _unlink_created():
    """Names this process made and never closed; a forked child leaves its parent's alone."""
    cdef mantra_region_header header
    for name, pid in _created.items():
        if pid == os.getpid() and _look(name, &header) and header.owner == mantra_process_self():
            os.unlink(_path(name))
