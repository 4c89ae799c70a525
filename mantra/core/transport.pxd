from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int64_t, uint32_t

from mantra.core.clock cimport mantra_monotonic_ns


cdef extern from "mantra/transport.h" nogil:
    enum: MANTRA_AGAIN, MANTRA_FAILED

    ctypedef struct mantra_transport:
        ptrdiff_t (*read)(mantra_transport *, void *, size_t) noexcept nogil
        ptrdiff_t (*write)(mantra_transport *, const void *, size_t) noexcept nogil
        void *session
        int fd
        short read_events, write_events
        bint more
        uint32_t ending
        int error
        char *reason

    ptrdiff_t mantra_transport_fail(mantra_transport *transport, int error, const char *reason)
    int mantra_transport_init(mantra_transport *transport)
    void mantra_transport_wake(mantra_transport *transport)
    void mantra_transport_end(mantra_transport *transport)
    bint mantra_transport_enter(mantra_transport *transport)
    void mantra_transport_leave(mantra_transport *transport)
    void mantra_transport_close(mantra_transport *transport)
    ptrdiff_t mantra_transport_receive(mantra_transport *transport, void *to, size_t room)
    int mantra_transport_poll(mantra_transport *transport, short events, int64_t timeout_ns)
    void mantra_transport_clear_wake(mantra_transport *transport)
    ptrdiff_t mantra_transport_send(mantra_transport *transport, const void *data, size_t size)
    uint32_t mantra_random_mask()


cdef extern from "mantra/tls.h" nogil:
    ctypedef struct mantra_libssl:
        const char *OpenSSL_version(int what) noexcept nogil
        void SSL_CTX_free(void *context) noexcept nogil
        const char *SSL_get_version(const void *ssl) noexcept nogil

    ctypedef struct mantra_tls:
        void *ssl

    bint mantra_libssl_open(mantra_libssl *lib, const char *module_path)
    void *mantra_tls_context(const mantra_libssl *lib, const char *ca_file, const char *ca_directory, bint verify,
                             const char **why)
    bint mantra_tls_attach(mantra_transport *transport, mantra_tls *tls, const mantra_libssl *lib, void *context,
                           const char *host)
    ptrdiff_t mantra_tls_handshake(mantra_transport *transport)
    void mantra_tls_close(mantra_transport *transport, mantra_tls *tls)


cdef class TLSContext:
    cdef void *context                  # of libssl; NULL: python_context serves
    cdef object python_context
    cdef readonly object ca_file
    cdef readonly bint verify


cdef class Transport:
    cdef mantra_transport transport
    cdef mantra_tls tls
    cdef TLSContext context             # outlives the session
    cdef object python_tls
    cdef object timeout
    cdef readonly str peer
    cdef public object deadline
    cdef int enter(self) except -1
    cdef object failure(self)
    cdef int send_all(self, bytes data) except -1
    cdef int wait_for(self, short events, int64_t deadline_ns) except -1
    cdef ptrdiff_t receive(self, void *to, size_t room) except -1
    cdef release(self)
    cdef ptrdiff_t python_handshake(self) except? -2
