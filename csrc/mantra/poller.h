/* poller.h - one thread, many sockets: epoll, and a wake from outside.
 *
 * Level-triggered: a descriptor is reported for as long as it holds bytes, so whoever reads a bounded share of a burst
 * comes back to the rest after the other sockets had their turn. Bytes that a TLS session has already taken from its
 * socket are not seen by epoll: read a transport until its `more` is false, also once when it is added, because the
 * handshake may have taken the first frames along. */
#ifndef MANTRA_POLLER_H
#define MANTRA_POLLER_H

#include "mantra/base.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MANTRA_POLLER_BATCH 64

typedef struct mantra_poller {
    int epoll_fd, wake_fd;
} mantra_poller;

static inline void
mantra_poller_close(mantra_poller *p)
{
    if (p->epoll_fd >= 0)
        close(p->epoll_fd);
    if (p->wake_fd >= 0)
        close(p->wake_fd);
    p->epoll_fd = p->wake_fd = -1;
}

/* Watch `fd`; `context` (not NULL) is what `wait` hands back. 0, or -1 with errno. */
static inline int
mantra_poller_add(mantra_poller *p, int fd, void *context)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = context};
    return epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

static inline int
mantra_poller_remove(mantra_poller *p, int fd)
{
    struct epoll_event event = {0};
    return epoll_ctl(p->epoll_fd, EPOLL_CTL_DEL, fd, &event);
}

static inline int
mantra_poller_init(mantra_poller *p)
{
    p->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    p->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (p->epoll_fd < 0 || p->wake_fd < 0 || mantra_poller_add(p, p->wake_fd, NULL) < 0) {
        const int error = errno;
        mantra_poller_close(p);
        errno = error;
        return -1;
    }
    return 0;
}

/* End a wait, this one or the next. Any thread, while the poller lives. */
static inline void
mantra_poller_wake(mantra_poller *p)
{
    const uint64_t one = 1;
    ssize_t ignored = write(p->wake_fd, &one, sizeof one);
    (void)ignored;
}

/* Contexts of what is ready (at most `most`): their count, 0 at the timeout (rounded up to milliseconds; negative: for
 * ever), on a signal, or when only woken. */
static inline int
mantra_poller_wait(mantra_poller *p, void **contexts, int most, int64_t timeout_ns)
{
    struct epoll_event events[MANTRA_POLLER_BATCH];
    const int count = epoll_wait(p->epoll_fd, events, most < MANTRA_POLLER_BATCH ? most : MANTRA_POLLER_BATCH,
                                 mantra_poll_ms(timeout_ns));
    int ready = 0;
    for (int i = 0; i < count; i++) {
        if (events[i].data.ptr) {
            contexts[ready++] = events[i].data.ptr;
        } else {
            uint64_t wakes;
            ssize_t ignored = read(p->wake_fd, &wakes, sizeof wakes);
            (void)ignored;
        }
    }
    return ready;
}

#endif
