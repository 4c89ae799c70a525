"""poller: many sockets, one thread (csrc/mantra/poller.h)."""
cdef extern from "mantra/poller.h" nogil:
    ctypedef struct mantra_poller:
        pass

    int mantra_poller_init(mantra_poller *poller)
    void mantra_poller_close(mantra_poller *poller)
    int mantra_poller_add(mantra_poller *poller, int fd, void *context)
    int mantra_poller_remove(mantra_poller *poller, int fd)
