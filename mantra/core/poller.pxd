from libc.stdint cimport int64_t, uint32_t


cdef extern from "mantra/poller.h" nogil:
    enum:
        MANTRA_POLLER_BATCH

    ctypedef struct mantra_poller:
        int epoll_fd, wake_fd

    int mantra_poller_init(mantra_poller *poller)
    void mantra_poller_close(mantra_poller *poller)
    int mantra_poller_add(mantra_poller *poller, int fd, void *context)
    int mantra_poller_remove(mantra_poller *poller, int fd)
    void mantra_poller_wake(mantra_poller *poller)
    int mantra_poller_wait(mantra_poller *poller, void **contexts, int most, int64_t timeout_ns)
