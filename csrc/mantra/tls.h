/* tls.h - TLS over a transport by the system's libssl (OpenSSL 1.1.0 or later), opened at run time.
 *
 *   socket --(16 kB read-ahead)--> SSL --(one record per SSL_read, as many as fit)--> receive buffer
 *
 * No OpenSSL header and no link-time dependency: the library that Python's own `_ssl` has loaded is used, so it is the
 * one the system keeps patched, with the same trust store. The functions below are OpenSSL's stable API, the constants
 * its stable ABI. An SSL object is touched by the connection's own thread only; a context is shared and never changed
 * once connections use it. Read-ahead matters: without it every record costs two reads (header, body). gnu11. */
#ifndef MANTRA_TLS_H
#define MANTRA_TLS_H

#include "mantra/transport.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <limits.h>

/* SSL, SSL_CTX, SSL_METHOD and X509_VERIFY_PARAM are only ever pointers to us. */
#define MANTRA_LIBSSL_FUNCTIONS(X)                                              \
    X(const void *, TLS_client_method, (void))                                  \
    X(void *, SSL_CTX_new, (const void *method))                                \
    X(void, SSL_CTX_free, (void *context))                                      \
    X(long, SSL_CTX_ctrl, (void *context, int command, long number, void *at))  \
    X(void, SSL_CTX_set_verify, (void *context, int mode, void *callback))      \
    X(int, SSL_CTX_set_default_verify_paths, (void *context))                   \
    X(int, SSL_CTX_load_verify_locations, (void *context, const char *file, const char *directory)) \
    X(void *, SSL_new, (void *context))                                         \
    X(void, SSL_free, (void *ssl))                                              \
    X(long, SSL_ctrl, (void *ssl, int command, long number, void *at))          \
    X(int, SSL_set1_host, (void *ssl, const char *name))                        \
    X(void, SSL_set_hostflags, (void *ssl, unsigned flags))                     \
    X(void *, SSL_get0_param, (void *ssl))                                      \
    X(int, X509_VERIFY_PARAM_set1_ip_asc, (void *param, const char *address))   \
    X(int, SSL_set_fd, (void *ssl, int fd))                                     \
    X(int, SSL_connect, (void *ssl))                                            \
    X(int, SSL_read, (void *ssl, void *to, int room))                           \
    X(int, SSL_write, (void *ssl, const void *from, int size))                  \
    X(int, SSL_has_pending, (const void *ssl))                                  \
    X(int, SSL_get_error, (const void *ssl, int result))                        \
    X(int, SSL_shutdown, (void *ssl))                                           \
    X(long, SSL_get_verify_result, (const void *ssl))                           \
    X(const char *, SSL_get_version, (const void *ssl))                         \
    X(const char *, X509_verify_cert_error_string, (long code))                 \
    X(unsigned long, ERR_get_error, (void))                                     \
    X(void, ERR_clear_error, (void))                                            \
    X(const char *, ERR_reason_error_string, (unsigned long error))             \
    X(const char *, OpenSSL_version, (int what))

typedef struct mantra_libssl {
#define X(result, name, arguments) result(*name) arguments;
    MANTRA_LIBSSL_FUNCTIONS(X)
#undef X
    void *handle;
} mantra_libssl;

typedef struct mantra_tls {
    const mantra_libssl *lib;
    void *ssl;
} mantra_tls;

enum { /* openssl/ssl.h */
    MANTRA_SSL_WANT_READ = 2,
    MANTRA_SSL_WANT_WRITE = 3,
    MANTRA_SSL_SYSCALL = 5,
    MANTRA_SSL_ZERO_RETURN = 6,
    MANTRA_SSL_CTRL_MODE = 33,
    MANTRA_SSL_CTRL_SET_READ_AHEAD = 41,
    MANTRA_SSL_CTRL_SET_TLSEXT_HOSTNAME = 55,
    MANTRA_SSL_CTRL_SET_MIN_PROTO_VERSION = 123,
    MANTRA_SSL_MODE_PARTIAL_WRITE_MOVING_BUFFER = 1 | 2,
    MANTRA_TLS1_2 = 0x0303,
    MANTRA_SSL_VERIFY_NONE = 0,
    MANTRA_SSL_VERIFY_PEER = 1,
    MANTRA_X509_NO_PARTIAL_WILDCARDS = 4,
};

/* Take all functions from `handle` and what it depends on; false (and nothing usable) when one is missing. */
static inline bool
mantra_libssl_bind(mantra_libssl *lib, void *handle)
{
    if (!handle)
        return false;
#define X(result, name, arguments)                        \
    *(void **)&lib->name = dlsym(handle, #name);          \
    if (!lib->name)                                       \
        return false;
    MANTRA_LIBSSL_FUNCTIONS(X)
#undef X
    lib->handle = handle;
    return true;
}

/* Open libssl: through the extension module that links it (its path; may be NULL), else by its names. Never closed. */
static inline bool
mantra_libssl_open(mantra_libssl *lib, const char *module_path)
{
    static const char *const names[] = {"libssl.so.3", "libssl.so.1.1"};
    if (module_path && mantra_libssl_bind(lib, dlopen(module_path, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD)))
        return true;
    int flags = RTLD_NOW | RTLD_LOCAL;
#ifdef RTLD_DEEPBIND
    flags |= RTLD_DEEPBIND; /* a Python with its own OpenSSL inside must not lend this one its symbols */
#endif
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (mantra_libssl_bind(lib, dlopen(names[i], flags)))
            return true;
    return false;
}

/* A client context: TLS 1.2 or later; certificates of `ca_file` and/or `ca_directory`, or the library's default store.
 * NULL with `*why` set. */
static inline void *
mantra_tls_context(const mantra_libssl *lib, const char *ca_file, const char *ca_directory, bool verify,
                   const char **why)
{
    *why = "libssl cannot make a TLS 1.2 client context";
    lib->ERR_clear_error();
    void *context = lib->SSL_CTX_new(lib->TLS_client_method());
    if (!context)
        return NULL;
    bool good = lib->SSL_CTX_ctrl(context, MANTRA_SSL_CTRL_SET_MIN_PROTO_VERSION, MANTRA_TLS1_2, NULL) == 1;
    lib->SSL_CTX_ctrl(context, MANTRA_SSL_CTRL_SET_READ_AHEAD, 1, NULL);
    lib->SSL_CTX_ctrl(context, MANTRA_SSL_CTRL_MODE, MANTRA_SSL_MODE_PARTIAL_WRITE_MOVING_BUFFER, NULL);
    lib->SSL_CTX_set_verify(context, verify ? MANTRA_SSL_VERIFY_PEER : MANTRA_SSL_VERIFY_NONE, NULL);
    if (good && verify) {
        *why = "the trusted certificates cannot be read";
        good = (ca_file || ca_directory ? lib->SSL_CTX_load_verify_locations(context, ca_file, ca_directory)
                                        : lib->SSL_CTX_set_default_verify_paths(context)) == 1;
        lib->ERR_clear_error();
    }
    if (!good) {
        lib->SSL_CTX_free(context);
        return NULL;
    }
    return context;
}

/* What an SSL call that returned `result` means; sets the events to poll for. */
static inline ptrdiff_t
mantra_tls_outcome(mantra_transport *t, int result, short *events)
{
    const mantra_tls *tls = (const mantra_tls *)t->session;
    const int saved = errno;
    switch (tls->lib->SSL_get_error(tls->ssl, result)) {
    case MANTRA_SSL_WANT_READ:
        *events = POLLIN;
        return MANTRA_AGAIN;
    case MANTRA_SSL_WANT_WRITE:
        *events = POLLOUT;
        return MANTRA_AGAIN;
    case MANTRA_SSL_ZERO_RETURN:
        return 0;
    case MANTRA_SSL_SYSCALL:
        if (saved && result < 0)
            return mantra_transport_fail(t, saved, NULL);
        return mantra_transport_fail(t, ECONNRESET, "the peer closed without TLS close_notify");
    default:
        break;
    }
    const long verified = tls->lib->SSL_get_verify_result(tls->ssl);
    const unsigned long code = tls->lib->ERR_get_error();
    const char *reason = code ? tls->lib->ERR_reason_error_string(code) : NULL;
    tls->lib->ERR_clear_error();
    if (reason && strcmp(reason, "certificate verify failed") == 0 && verified != 0) {
        char text[sizeof t->reason];
        snprintf(text, sizeof text, "certificate refused: %s", tls->lib->X509_verify_cert_error_string(verified));
        return mantra_transport_fail(t, EPROTO, text);
    }
    if (reason && strcmp(reason, "unexpected eof while reading") == 0)
        reason = "the peer closed without TLS close_notify";
    return mantra_transport_fail(t, EPROTO, reason ? reason : "TLS protocol error");
}

/* Fill `to` record by record for as long as the session holds bytes. */
static inline ptrdiff_t
mantra_tls_read(mantra_transport *t, void *to, size_t room)
{
    const mantra_tls *tls = (const mantra_tls *)t->session;
    size_t got = 0;
    t->more = false;
    t->read_events = POLLIN;
    if (MANTRA_UNLIKELY(t->failed))
        return MANTRA_FAILED; /* told now, after the bytes that came before it */
    tls->lib->ERR_clear_error(); /* SSL_get_error looks at the thread's queue, which others may have left full */
    while (got < room) {
        errno = 0;
        const size_t left = room - got;
        const int result = tls->lib->SSL_read(tls->ssl, (char *)to + got, left < INT_MAX ? (int)left : INT_MAX);
        if (MANTRA_LIKELY(result > 0)) {
            got += (size_t)result;
            if (!tls->lib->SSL_has_pending(tls->ssl))
                return (ptrdiff_t)got;
            continue;
        }
        const ptrdiff_t outcome = mantra_tls_outcome(t, result, &t->read_events);
        if (got == 0)
            return outcome;
        t->more = outcome != MANTRA_AGAIN; /* the end is told by the next call */
        return (ptrdiff_t)got;
    }
    t->more = true;
    return (ptrdiff_t)got;
}

static inline ptrdiff_t
mantra_tls_write(mantra_transport *t, const void *from, size_t size)
{
    const mantra_tls *tls = (const mantra_tls *)t->session;
    if (MANTRA_UNLIKELY(t->failed))
        return MANTRA_FAILED;
    tls->lib->ERR_clear_error();
    errno = 0;
    const int result = tls->lib->SSL_write(tls->ssl, from, size < INT_MAX ? (int)size : INT_MAX);
    if (MANTRA_LIKELY(result > 0))
        return result;
    const ptrdiff_t outcome = mantra_tls_outcome(t, result, &t->write_events);
    return outcome ? outcome : mantra_transport_fail(t, EPIPE, "the peer closed the TLS session");
}

/* Put a session of `context` on the transport, to be verified for `host` (a name, or an IP address). False without
 * memory or with an unusable name. */
static inline bool
mantra_tls_attach(mantra_transport *t, mantra_tls *tls, const mantra_libssl *lib, void *context, const char *host)
{
    unsigned char address[sizeof(struct in6_addr)];
    const bool numeric = inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
    lib->ERR_clear_error();
    tls->lib = lib;
    tls->ssl = lib->SSL_new(context);
    if (!tls->ssl)
        return false;
    lib->SSL_set_hostflags(tls->ssl, MANTRA_X509_NO_PARTIAL_WILDCARDS);
    const bool named = numeric
        ? lib->X509_VERIFY_PARAM_set1_ip_asc(lib->SSL_get0_param(tls->ssl), host) == 1
        : lib->SSL_set1_host(tls->ssl, host) == 1 &&
          lib->SSL_ctrl(tls->ssl, MANTRA_SSL_CTRL_SET_TLSEXT_HOSTNAME, 0, (void *)(uintptr_t)host) == 1;
    if (!named || lib->SSL_set_fd(tls->ssl, t->fd) != 1) {
        lib->SSL_free(tls->ssl);
        tls->ssl = NULL;
        return false;
    }
    t->session = tls;
    t->read = mantra_tls_read;
    t->write = mantra_tls_write;
    return true;
}

/* One step of the handshake: 1 done, MANTRA_AGAIN (wait, call again), MANTRA_FAILED. */
static inline ptrdiff_t
mantra_tls_handshake(mantra_transport *t)
{
    const mantra_tls *tls = (const mantra_tls *)t->session;
    tls->lib->ERR_clear_error();
    errno = 0;
    const int result = tls->lib->SSL_connect(tls->ssl);
    if (result == 1) {
        t->read_events = POLLIN;
        t->more = tls->lib->SSL_has_pending(tls->ssl) != 0;
        return 1;
    }
    const ptrdiff_t outcome = mantra_tls_outcome(t, result, &t->read_events);
    return outcome ? outcome : mantra_transport_fail(t, ECONNRESET, "the peer closed during the TLS handshake");
}

/* Say goodbye (close_notify, not waiting for the answer) and free the session. Owner only, descriptor still open. */
static inline void
mantra_tls_close(mantra_transport *t, mantra_tls *tls)
{
    if (!tls->ssl)
        return;
    tls->lib->ERR_clear_error();
    if (!t->failed && !atomic_load_explicit(&t->ending, memory_order_acquire))
        tls->lib->SSL_shutdown(tls->ssl);
    tls->lib->ERR_clear_error();
    tls->lib->SSL_free(tls->ssl);
    tls->ssl = NULL;
    t->session = NULL;
}

#endif
