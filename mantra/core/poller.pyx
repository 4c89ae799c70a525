"""poller: many connections waited for by one thread (epoll)."""
from libc.errno cimport errno

import os


cdef class Poller:
    """Python's face of `mantra_poller`: watch descriptors, each with an object; `wait` answers with the objects.

    Feeds use the C functions with their own structs as contexts. A transport must be read until nothing is left in it:
    bytes that its TLS session already holds are not seen here.
    """

    def __cinit__(self):
        if mantra_poller_init(&self.poller) < 0:
            raise OSError(errno, os.strerror(errno))
        self.watched = {}

    def __dealloc__(self):
        mantra_poller_close(&self.poller)

    def add(self, int fd, context: object) -> None:
        """Watch `fd` for bytes; OSError when it cannot be, or already is."""
        if mantra_poller_add(&self.poller, fd, <void *>context) < 0:
            raise OSError(errno, os.strerror(errno))
        self.watched[fd] = context

    def remove(self, int fd) -> None:
        """Watch it no longer (before it is closed); OSError when it was not watched."""
        if mantra_poller_remove(&self.poller, fd) < 0:
            raise OSError(errno, os.strerror(errno))
        del self.watched[fd]

    def wake(self) -> None:
        """End a wait, this one or the next. Any thread."""
        mantra_poller_wake(&self.poller)

    def wait(self, timeout: float | None = None) -> list[object]:
        """Objects whose descriptors hold bytes; [] at the timeout (seconds; None: for ever) or when only woken."""
        cdef void *contexts[MANTRA_POLLER_BATCH]
        cdef int count
        cdef int64_t timeout_ns = -1 if timeout is None else <int64_t>(timeout * 1e9)
        with nogil:
            count = mantra_poller_wait(&self.poller, contexts, MANTRA_POLLER_BATCH, timeout_ns)
        return [<object>contexts[i] for i in range(count)]

    def __len__(self) -> int:
        return len(self.watched)
