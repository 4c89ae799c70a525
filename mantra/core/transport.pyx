"""transport: a connected stream, plain TCP or TLS, that compiled code reads without the GIL.

To Python it looks like a socket (so websocket-client shakes hands over it); to a feed it is `mantra_transport`.
"""
import base64
import errno
import math
import os
import select
import socket
import ssl
import threading
import urllib.request
from ipaddress import ip_address
from urllib.parse import unquote, urlsplit

from cpython.buffer cimport PyBUF_READ, PyBUF_WRITE
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from cpython.memoryview cimport PyMemoryView_FromMemory

from mantra.errors import Closed, ConfigurationError, ConnectError

cdef mantra_libssl libssl
cdef bint libssl_found = False
cdef bint libssl_sought = False


cdef bint find_libssl():
    """Once: the libssl that Python's `_ssl` is linked with, else the system's."""
    global libssl_found, libssl_sought
    if not libssl_sought:
        libssl_sought = True
        import _ssl
        path = getattr(_ssl, "__file__", None)
        module = os.fsencode(path) if path else None
        libssl_found = mantra_libssl_open(&libssl, <const char *>module if module is not None else NULL)
    return libssl_found


def tls_library() -> str | None:
    """The version text of the libssl that compiled TLS uses; None: none found, Python's `ssl` serves (slower)."""
    return libssl.OpenSSL_version(0).decode() if find_libssl() else None


cdef class TLSContext:
    """Whom to trust, shared by many connections: `ca_file` (PEM) alone, or the store that Python's `ssl` uses.

    TLS 1.2 or later; certificates and host names are verified unless `verify` is False. `compiled=False` takes Python's
    `ssl` even where a libssl was found. ConfigurationError when the certificates cannot be read.
    """

    def __init__(self, ca_file: str | os.PathLike[str] | None = None, *, bint verify=True, bint compiled=True):
        cdef const char *why = NULL
        cdef const char *file_path = NULL
        cdef const char *directory_path = NULL
        self.ca_file = None if ca_file is None else os.fspath(ca_file)
        self.verify = verify
        if self.ca_file is not None and not os.path.isfile(self.ca_file):
            raise ConfigurationError(f"{self.ca_file}: no such certificate file")
        if compiled and find_libssl():
            paths = ssl.get_default_verify_paths()
            trusted = os.fsencode(self.ca_file or paths.cafile or "")
            directory = os.fsencode((paths.capath if self.ca_file is None else None) or "")
            if trusted:
                file_path = trusted
            if directory:
                directory_path = directory
            with nogil:
                self.context = mantra_tls_context(&libssl, file_path, directory_path, verify, &why)
            if self.context == NULL:
                raise ConfigurationError(f"{self.ca_file or 'default trust store'}: {why.decode()}")
            return
        try:
            self.python_context = ssl.create_default_context(cafile=self.ca_file)
        except ssl.SSLError:
            raise ConfigurationError(f"{self.ca_file}: the trusted certificates cannot be read") from None
        if not verify:
            self.python_context.check_hostname = False
            self.python_context.verify_mode = ssl.CERT_NONE

    def __dealloc__(self):
        if self.context != NULL:
            libssl.SSL_CTX_free(self.context)

    @property
    def compiled(self) -> bool:
        """Whether the bytes are decrypted by libssl without the GIL, not by Python's `ssl`."""
        return self.context != NULL


cdef class Transport:
    """One connection. `connect` makes it; one thread at a time receives and sends; any may `wake`, `end`, `close`.

    `deadline` (of `time.monotonic`, or None) bounds every Python call besides the timeout, so that a peer that trickles
    bytes cannot hold a handshake for ever. Compiled callers use the C functions between `mantra_transport_enter` and
    `mantra_transport_leave`, and keep a reference.
    """

    def __cinit__(self):
        if mantra_transport_init(&self.transport) < 0:
            raise OSError(errno.EMFILE, "no descriptor left for a connection")
        self.peer = ""

    def __dealloc__(self):
        if self.transport.fd >= 0:
            self.release()
        mantra_transport_close(&self.transport)

    @staticmethod
    def connect(host: str, port: int, *, tls: TLSContext | None = None, proxy: str | None = None,
                timeout: float = 10.0) -> Transport:
        """A connected Transport; see `open`."""
        transport = Transport()
        transport.open(host, port, tls=tls, proxy=proxy, timeout=timeout)
        return transport

    def open(self, str host not None, int port, *, TLSContext tls=None, str proxy=None, double timeout=10.0) -> None:
        """Connect within `timeout` seconds: TCP, an HTTP proxy where there is one, TLS; ConnectError says why not.

        `proxy`: "http://user:password@host:port", "" for none, None for what the environment says (never for loopback).
        Another thread ends it by `end` (Closed is raised here).
        """
        cdef int64_t deadline = mantra_monotonic_ns() + <int64_t>(timeout * 1e9)
        where = self.peer = f"{host}:{port}"
        self.enter()
        try:
            route = proxy_for(host, tls is not None) if proxy is None else proxy
            if route:
                via = urlsplit(route if "//" in route else "//" + route, scheme="http")
                if via.scheme != "http" or not via.hostname:
                    raise ConnectError(f"{where}: a {via.scheme}:// proxy is not supported, only http:// is")
                where = f"{where} through the proxy {via.hostname}:{via.port or 80}"
                self._connect_tcp(via.hostname, via.port or 80, deadline)
                self._tunnel(via, host, port, deadline)
            else:
                self._connect_tcp(host, port, deadline)
            if tls is not None:
                self._start_tls(host, tls, deadline)
        except BaseException as error:
            self.release()
            if not isinstance(error, OSError):
                raise
            raise ConnectError(f"{where}: no answer within {timeout:g} s" if isinstance(error, TimeoutError) else
                               f"{where}: the name cannot be resolved ({error.strerror})" if isinstance(error, socket.gaierror) else
                               f"{where}: {error.strerror or error}") from None
        finally:
            mantra_transport_leave(&self.transport)

    def _connect_tcp(self, host, port, int64_t deadline):
        addresses = self._resolve(host, port, deadline)
        error = None
        for number, (family, kind, protocol, _, address) in enumerate(addresses):
            now = mantra_monotonic_ns()     # an address that swallows packets must leave time for the others
            share = now + (deadline - now) // (len(addresses) - number)
            with socket.socket(family, kind, protocol) as sock:
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                code = sock.connect_ex(address)
                try:
                    if code == errno.EINPROGRESS:
                        self.transport.fd = sock.fileno()
                        while self.wait_for(select.POLLOUT, share) != 1:
                            pass        # a wake, of the look-up perhaps, is no connection
                        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                except TimeoutError as late:
                    error = late
                    continue
                finally:
                    self.transport.fd = -1
                if code:
                    error = OSError(code, os.strerror(code))
                    continue
                self.transport.fd = sock.detach()
                return
        raise error

    def _resolve(self, host, port, int64_t deadline):
        """getaddrinfo, in a thread of its own: nothing else can end it."""
        found = []

        def look_up():
            try:
                found.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
            except Exception as error:      # gaierror, or UnicodeError for what is no host name
                found.append(error if isinstance(error, OSError) else socket.gaierror(0, str(error)))
            self.wake()

        thread = threading.Thread(target=look_up, name=f"resolve {host}", daemon=True)
        thread.start()
        while not found:
            self.wait_for(0, deadline)
        thread.join()
        mantra_transport_clear_wake(&self.transport)        # it may come after the answer was found: nobody else's to hear
        if isinstance(found[0], OSError):
            raise found[0]
        return found[0]

    def _tunnel(self, via, host, port, int64_t deadline):
        """HTTP CONNECT; one byte at a time, so that nothing behind the answer is taken."""
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        request = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"
        if via.username is not None:
            secret = f"{unquote(via.username)}:{unquote(via.password or '')}".encode()
            request += f"Proxy-Authorization: Basic {base64.b64encode(secret).decode()}\r\n"
        self.send_all((request + "\r\n").encode())
        answer = bytearray()
        cdef ptrdiff_t outcome
        cdef char byte
        while not answer.endswith(b"\r\n\r\n") and len(answer) < 16384:
            outcome = mantra_transport_receive(&self.transport, &byte, 1)
            if outcome == MANTRA_AGAIN:
                self.wait_for(self.transport.read_events, deadline)
            elif outcome < 0:
                raise self.failure()
            elif outcome == 0:
                break
            else:
                answer.append(byte & 0xff)
        status = bytes(answer).split(b"\r\n", 1)[0].decode("latin-1")
        words = status.split(None, 2)
        if len(words) < 2 or words[1] != "200" or not words[0].startswith("HTTP/1."):
            raise ConnectError(f"{self.peer}: the proxy {via.hostname} answered {status or 'nothing'!r}")

    def _start_tls(self, host, TLSContext context, int64_t deadline):
        cdef ptrdiff_t outcome
        self.context = context
        if context.context == NULL:
            plain = socket.socket(fileno=os.dup(self.transport.fd))    # it closes what it is given
            plain.setblocking(False)
            self.python_tls = context.python_context.wrap_socket(
                plain, server_hostname=host, do_handshake_on_connect=False, suppress_ragged_eofs=False)
            self.transport.session = <void *>self
            self.transport.read = python_read
            self.transport.write = python_write
        else:
            name = host.encode("idna") if not host.isascii() else host.encode()
            if not mantra_tls_attach(&self.transport, &self.tls, &libssl, context.context, name):
                raise ConnectError(f"{self.peer}: TLS cannot be started for this host name")
        while True:
            if self.python_tls is not None:
                outcome = self.python_handshake()
            else:
                with nogil:
                    outcome = mantra_tls_handshake(&self.transport)
            if outcome == 1:
                return
            if outcome == MANTRA_FAILED:
                raise ConnectError(f"{self.peer}: {self.transport.reason.decode(errors='replace')}")
            self.wait_for(self.transport.read_events, deadline)

    # A socket's ways.

    def recv(self, Py_ssize_t size=65536) -> bytes:
        """Up to `size` bytes, b"" when the peer closed. TimeoutError, InterruptedError (`wake`), Closed (`end`)."""
        cdef bytes out = PyBytes_FromStringAndSize(NULL, max(size, 1))
        cdef char *to = out
        cdef ptrdiff_t got = self.receive(to, max(size, 1))
        return out[:got]

    def recv_into(self, buffer: bytearray | memoryview, size_t size=0) -> int:
        """Like `recv`, into a writable buffer: how many bytes."""
        cdef unsigned char[::1] to = buffer
        return self.receive(&to[0], min(size, <size_t>to.shape[0]) if size else to.shape[0])

    def send(self, bytes data not None) -> int:
        """All of `data`, or OSError (the connection is of no use then): `len(data)`."""
        self.enter()
        try:
            self.send_all(data)
        finally:
            mantra_transport_leave(&self.transport)
        return len(data)

    def sendall(self, bytes data not None) -> None:
        """`send`, for those who expect the name."""
        self.send(data)

    def settimeout(self, timeout: float | None) -> None:
        """Seconds that a `recv` may wait; None: for ever; 0: BlockingIOError instead of waiting."""
        if timeout is not None and not timeout >= 0:
            raise ValueError(f"timeout is {timeout}: seconds, or None")
        self.timeout = None if timeout is None or math.isinf(timeout) else float(timeout)

    def gettimeout(self) -> float | None:
        """Seconds, or None."""
        return self.timeout

    def setsockopt(self, int level, int option, value: int | bytes) -> None:
        """As of a socket."""
        sock = socket.socket(fileno=os.dup(self.transport.fd))
        with sock:
            sock.setsockopt(level, option, value)

    def fileno(self) -> int:
        """The descriptor; -1 when closed."""
        return self.transport.fd

    def shutdown(self, how: int | None = None) -> None:
        """Same as `end`."""
        self.end()

    def wake(self) -> None:
        """End the wait that the owner is in, or its next one. Any thread."""
        mantra_transport_wake(&self.transport)

    def end(self) -> None:
        """Cut the connection: whatever another thread is blocked in ends now. Any thread."""
        mantra_transport_end(&self.transport)

    def close(self) -> None:
        """Say goodbye and close; while another thread is inside, only `end` (the descriptor goes with the object)."""
        if not mantra_transport_enter(&self.transport):
            self.end()
            return
        try:
            self.release()
            self.transport.ending = 1
        finally:
            mantra_transport_leave(&self.transport)

    def __enter__(self) -> Transport:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        """Closed or ended."""
        return self.transport.ending != 0

    @property
    def tls_version(self) -> str | None:
        """"TLSv1.3", or None for a plain connection."""
        if self.python_tls is not None:
            return self.python_tls.version()
        return libssl.SSL_get_version(self.tls.ssl).decode() if self.tls.ssl != NULL else None

    # Inside.

    cdef int enter(self) except -1:
        if not mantra_transport_enter(&self.transport):
            raise RuntimeError(f"{self.peer}: another thread is using this connection")
        if self.transport.ending:
            mantra_transport_leave(&self.transport)
            raise Closed(f"{self.peer}: the connection was closed")
        return 0

    cdef object failure(self):
        if self.transport.ending:
            return Closed(f"{self.peer}: the connection was closed")
        return OSError(self.transport.error, self.transport.reason.decode(errors="replace"))

    cdef int send_all(self, bytes data) except -1:
        cdef const char *at = data
        cdef size_t size = len(data)
        cdef ptrdiff_t outcome
        with nogil:
            outcome = mantra_transport_send(&self.transport, at, size)
        if outcome < 0:
            raise self.failure()
        return 0

    cdef int wait_for(self, short events, int64_t deadline_ns) except -1:
        """1 ready, 2 woken; TimeoutError at the deadline (negative: none), Closed after `end`."""
        cdef int ready
        cdef int64_t left = -1
        while True:
            if self.transport.ending:
                raise Closed(f"{self.peer}: the connection was closed")
            if deadline_ns >= 0:
                left = max(deadline_ns - mantra_monotonic_ns(), 0)
            with nogil:
                ready = mantra_transport_poll(&self.transport, events, left)
                if ready == 2:
                    mantra_transport_clear_wake(&self.transport)
            if ready == 1 or (ready == 2 and not self.transport.ending):
                return ready
            PyErr_CheckSignals()
            if ready == 0 and left == 0:
                raise TimeoutError(errno.ETIMEDOUT, "timed out")

    cdef ptrdiff_t receive(self, void *to, size_t room) except -1:
        cdef ptrdiff_t got
        cdef int64_t deadline = -1
        if self.timeout is not None:
            deadline = mantra_monotonic_ns() + <int64_t>(<double>self.timeout * 1e9)
        if self.deadline is not None:
            last = <int64_t>(<double>self.deadline * 1e9)
            deadline = last if deadline < 0 else min(deadline, last)
        self.enter()
        try:
            while True:
                with nogil:
                    got = mantra_transport_receive(&self.transport, to, room)
                if got > 0 or (got == 0 and not self.transport.ending):
                    return got
                if got != MANTRA_AGAIN:
                    raise self.failure()
                if self.timeout == 0.0:
                    raise BlockingIOError(errno.EAGAIN, "nothing has arrived")
                if self.wait_for(self.transport.read_events, deadline) == 2:
                    raise InterruptedError(errno.EINTR, "woken")
        finally:
            mantra_transport_leave(&self.transport)

    cdef release(self):
        """Close for good. The wake descriptor stays until the object goes: another thread may be about to use it."""
        if self.python_tls is not None:
            try:
                self.python_tls.unwrap()
            except (OSError, ValueError):
                pass        # the peer's own close_notify is not waited for
            self.python_tls.close()
            self.python_tls = None
        mantra_tls_close(&self.transport, &self.tls)
        fd, self.transport.fd = self.transport.fd, -1       # first: os.close lets other threads run, and `end` them
        if fd >= 0:
            os.close(fd)

    # Python's ssl, where no libssl was found: the same calls, taking the GIL for each.

    cdef ptrdiff_t python_handshake(self) except? -2:
        try:
            self.python_tls.do_handshake()
        except ssl.SSLCertVerificationError as error:
            raise ConnectError(f"{self.peer}: certificate refused: {error.verify_message}") from None
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as want:
            self.transport.read_events = select.POLLIN if isinstance(want, ssl.SSLWantReadError) else select.POLLOUT
            return MANTRA_AGAIN
        return 1


cdef ptrdiff_t python_call(mantra_transport *transport, short *events, str name, memory) noexcept:
    try:
        return getattr((<Transport>transport.session).python_tls, name)(memory)
    except ssl.SSLWantReadError:
        events[0] = select.POLLIN
        return MANTRA_AGAIN
    except ssl.SSLWantWriteError:
        events[0] = select.POLLOUT
        return MANTRA_AGAIN
    except Exception as error:
        return mantra_transport_fail(transport, errno.EPROTO, str(error).encode())


cdef ptrdiff_t python_read(mantra_transport *transport, void *to, size_t room) noexcept with gil:
    cdef ptrdiff_t got = python_call(transport, &transport.read_events, "recv_into",
                                     PyMemoryView_FromMemory(<char *>to, room, PyBUF_WRITE))
    transport.more = got > 0 and (<Transport>transport.session).python_tls.pending() > 0
    return got


cdef ptrdiff_t python_write(mantra_transport *transport, const void *data, size_t size) noexcept with gil:
    return python_call(transport, &transport.write_events, "send",
                       PyMemoryView_FromMemory(<char *>data, size, PyBUF_READ))


def proxy_for(str host, bint secure) -> str:
    """The HTTP proxy that the environment names for `host`; "" for none, and always for loopback."""
    try:
        if ip_address(host).is_loopback:
            return ""
    except ValueError:
        if host == "localhost":
            return ""
    if urllib.request.proxy_bypass(host):
        return ""
    return urllib.request.getproxies().get("https" if secure else "http", "")
