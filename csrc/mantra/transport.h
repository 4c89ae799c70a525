/* transport.h - one connected stream: plain TCP, or TLS (tls.h), behind the same four calls; all without the GIL.
 *
 *   wait ---- poll(fd, wake_fd) ----> receive ---- recv or SSL_read ----> bytes
 *     ^ wake, from any thread            `more`: known to hold more, so the next wait returns at once
 *
 * A paced message costs two system calls (poll, recv), a burst one recv per buffer: a short read means that the socket
 * is empty, so nobody asks a second time only to hear EAGAIN. The descriptor is non-blocking. One thread, the owner,
 * waits, receives and sends; others may only `wake` and `end`. gnu11: POSIX. */
#ifndef MANTRA_TRANSPORT_H
#define MANTRA_TRANSPORT_H

#include "mantra/clock.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#define MANTRA_AGAIN (-1)
#define MANTRA_FAILED (-2)

#define MANTRA_SEND_TIMEOUT_NS INT64_C(5000000000)

typedef struct mantra_transport mantra_transport;

struct mantra_transport {
    /* Plain, TLS or Python's own ssl: bytes moved, 0 peer closed (read), MANTRA_AGAIN, MANTRA_FAILED. */
    ptrdiff_t (*read)(mantra_transport *, void *to, size_t room);
    ptrdiff_t (*write)(mantra_transport *, const void *from, size_t size);
    void *session;                     /* of tls.h or of the Python fallback */
    int fd, wake_fd;
    short read_events, write_events;   /* what to poll for after MANTRA_AGAIN: TLS may have to write to read */
    bool more;                         /* the last receive left bytes behind that poll may not see */
    bool failed;
    _Atomic uint32_t woken;
    _Atomic uint32_t ending;           /* `end` was called: no send, no receive will do more than fail */
    _Atomic uint32_t busy;             /* a thread is inside: who closes must not free under it */
    int64_t send_timeout_ns;
    int error;                         /* errno of the failure, or 0 */
    char reason[160];                  /* the failure in words */
};

/* Keep the first reason: what follows a failure is its consequence. */
static inline ptrdiff_t
mantra_transport_fail(mantra_transport *t, int error, const char *reason)
{
    if (!t->failed) {
        t->failed = true;
        t->error = error;
        snprintf(t->reason, sizeof t->reason, "%s", reason ? reason : strerror(error));
    }
    return MANTRA_FAILED;
}

static inline ptrdiff_t
mantra_plain_read(mantra_transport *t, void *to, size_t room)
{
    ssize_t got;
    do
        got = recv(t->fd, to, room, 0);
    while (got < 0 && errno == EINTR);
    t->more = got > 0 && (size_t)got == room;
    if (MANTRA_LIKELY(got >= 0))
        return got;
    return errno == EAGAIN || errno == EWOULDBLOCK ? MANTRA_AGAIN : mantra_transport_fail(t, errno, NULL);
}

static inline ptrdiff_t
mantra_plain_write(mantra_transport *t, const void *from, size_t size)
{
    ssize_t sent;
    do
        sent = send(t->fd, from, size, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent >= 0)
        return sent;
    return errno == EAGAIN || errno == EWOULDBLOCK ? MANTRA_AGAIN : mantra_transport_fail(t, errno, NULL);
}

/* An unconnected transport, which can already be woken and ended; `fd` is for whoever connects to set, to a
 * non-blocking stream. 0, or -1 with errno. */
static inline int
mantra_transport_init(mantra_transport *t)
{
    memset(t, 0, sizeof *t);
    t->fd = -1;
    t->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    t->read = mantra_plain_read;
    t->write = mantra_plain_write;
    t->read_events = POLLIN;
    t->write_events = POLLOUT;
    t->send_timeout_ns = MANTRA_SEND_TIMEOUT_NS;
    return t->wake_fd < 0 ? -1 : 0;
}

/* End the wait of the owner, this one or the next. Any thread, while the transport lives. */
static inline void
mantra_transport_wake(mantra_transport *t)
{
    const uint64_t one = 1;
    if (atomic_exchange_explicit(&t->woken, 1, memory_order_acq_rel) == 0) {
        ssize_t ignored = write(t->wake_fd, &one, sizeof one); /* cannot fail: the counter holds 2^64 - 2 */
        (void)ignored;
    }
}

/* Cut the connection under its owner: every blocked or later call of it ends. Any thread, while the transport lives. */
static inline void
mantra_transport_end(mantra_transport *t)
{
    atomic_store_explicit(&t->ending, 1, memory_order_release);
    if (t->fd >= 0)
        shutdown(t->fd, SHUT_RDWR);
    mantra_transport_wake(t);
}

/* Claim the transport for this thread's calls; false when another thread is inside. */
static inline bool
mantra_transport_enter(mantra_transport *t)
{
    return atomic_exchange_explicit(&t->busy, 1, memory_order_acquire) == 0;
}

static inline void
mantra_transport_leave(mantra_transport *t)
{
    atomic_store_explicit(&t->busy, 0, memory_order_release);
}

/* Close descriptors (TLS first says goodbye: mantra_tls_close). Owner only. */
static inline void
mantra_transport_close(mantra_transport *t)
{
    if (t->fd >= 0)
        close(t->fd);
    if (t->wake_fd >= 0)
        close(t->wake_fd);
    t->fd = t->wake_fd = -1;
}

/* Up to `room` (> 0) bytes that have arrived: their count, 0 when the peer closed, MANTRA_AGAIN, MANTRA_FAILED. */
static inline ptrdiff_t
mantra_transport_receive(mantra_transport *t, void *to, size_t room)
{
    return t->read(t, to, room);
}

/* Poll both descriptors: 1 the stream, 2 woken, 0 timeout or a signal. Negative timeout: for ever. */
static inline int
mantra_transport_poll(mantra_transport *t, short events, int64_t timeout_ns)
{
    struct pollfd polled[2] = {{t->fd, events, 0}, {t->wake_fd, POLLIN, 0}};
    if (poll(polled, 2, mantra_poll_ms(timeout_ns)) <= 0)
        return 0;
    return polled[1].revents ? 2 : 1;
}

/* Forget a wake: who clears it has seen everything the waker did before. */
static inline void
mantra_transport_clear_wake(mantra_transport *t)
{
    uint64_t count;
    ssize_t ignored = read(t->wake_fd, &count, sizeof count);
    (void)ignored;
    atomic_exchange_explicit(&t->woken, 0, memory_order_acq_rel);
}

/* Wait for bytes: 1 receive now, 0 timeout (of whole ms; or a signal: call again), 2 woken. Negative: for ever. */
static inline int
mantra_transport_wait(mantra_transport *t, int64_t timeout_ns)
{
    int ready = 2;
    if (MANTRA_LIKELY(!atomic_load_explicit(&t->woken, memory_order_acquire)))
        ready = t->more ? 1 : mantra_transport_poll(t, t->read_events, timeout_ns);
    if (ready == 2)
        mantra_transport_clear_wake(t);
    return ready;
}

/* Send everything: `size`, or MANTRA_FAILED after which the stream is unusable (a frame may be cut in half). Waits for
 * a slow peer at most send_timeout_ns in all, and not a moment longer once `end` was called. */
static inline ptrdiff_t
mantra_transport_send(mantra_transport *t, const void *from, size_t size)
{
    const int64_t deadline = mantra_monotonic_ns() + t->send_timeout_ns;
    for (size_t done = 0; done < size;) {
        if (atomic_load_explicit(&t->ending, memory_order_acquire))
            return mantra_transport_fail(t, ECANCELED, "the connection was ended");
        const ptrdiff_t sent = t->write(t, (const char *)from + done, size - done);
        if (MANTRA_LIKELY(sent >= 0)) {
            done += (size_t)sent;
            continue;
        }
        if (sent == MANTRA_FAILED)
            return MANTRA_FAILED;
        const int64_t left = deadline - mantra_monotonic_ns();
        if (left <= 0)
            return mantra_transport_fail(t, ETIMEDOUT, "the peer did not take what was sent");
        /* A mere wake must not be lost to the reader, nor make this loop spin: watch the stream alone, which `end`
         * makes ready by shutting it down. */
        struct pollfd polled = {t->fd, t->write_events, 0};
        poll(&polled, 1, mantra_poll_ms(left));
    }
    return (ptrdiff_t)size;
}

/* Four bytes nobody can guess, for the mask of a client's frame. */
static inline uint32_t
mantra_random_mask(void)
{
    uint32_t mask = 0;
    while (getrandom(&mask, sizeof mask, 0) != (ssize_t)sizeof mask)
        ; /* only a signal during early boot ends it short */
    return mask;
}

#endif
