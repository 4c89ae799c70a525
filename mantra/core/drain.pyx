"""drain: receive frames and do nothing with them: what the wire alone costs, under every feed.

The same calls in the same order as a feed makes them, without decoding. The benches and scripts/connections measure it.
"""
import array

from libc.stdint cimport uint8_t
from libc.string cimport memcpy

from mantra.core.frame cimport (
    MANTRA_FRAME_BINARY,
    mantra_frame,
    mantra_frames_free,
    mantra_frames_init,
    mantra_frames_next,
    mantra_frames_received,
    mantra_frames_room,
)
from mantra.core.poller cimport (
    MANTRA_POLLER_BATCH,
    mantra_poller,
    mantra_poller_add,
    mantra_poller_close,
    mantra_poller_init,
    mantra_poller_remove,
    mantra_poller_wait,
)
from mantra.core.transport cimport (
    MANTRA_AGAIN,
    mantra_monotonic_ns,
    mantra_transport_enter,
    mantra_transport_leave,
    mantra_transport_receive,
    mantra_transport_wait,
)


cdef void read_some(drain_state *drain) noexcept nogil:
    """One receive, and the frames it completes."""
    cdef uint8_t *to
    cdef size_t room = mantra_frames_room(&drain.frames, &to)
    cdef ptrdiff_t got = mantra_transport_receive(drain.transport, to, room)
    cdef mantra_frame frame
    cdef int found
    cdef int64_t sent, now = 0
    if got <= 0:
        if got != MANTRA_AGAIN:
            drain.outcome = 1 if got == 0 else -1
        return
    if drain.sampled < drain.samples:
        now = mantra_monotonic_ns()
    mantra_frames_received(&drain.frames, got)
    while True:
        found = mantra_frames_next(&drain.frames, &frame)
        if found <= 0:
            break
        if frame.opcode <= MANTRA_FRAME_BINARY:
            drain.messages += 1
            drain.bytes += frame.size
            if drain.sampled < drain.samples and frame.size >= 8:
                memcpy(&sent, frame.payload, 8)
                drain.delays[drain.sampled] = now - sent
                drain.sampled += 1
    drain.outcome = drain.frames.ended


cdef class Drain:
    """Counts what arrives on one transport.

    With `samples`, messages begin with the sender's CLOCK_MONOTONIC (int64, ns), and up to that many delays are kept.
    """

    def __cinit__(self, Transport source not None, size_t samples=0, size_t capacity=64 << 10):
        cdef int64_t[::1] view
        if mantra_frames_init(&self.state.frames, capacity, 16 << 20) < 0:
            raise MemoryError
        self.source = source
        self.delays = array.array("q", bytes(8 * samples))
        if samples:
            view = self.delays
            self.state.delays = &view[0]
        self.state.samples = samples
        self.state.transport = &source.transport

    def __dealloc__(self):
        mantra_frames_free(&self.state.frames)

    @property
    def messages(self) -> int:
        """Messages read; control frames are not counted."""
        return self.state.messages

    @property
    def payload_bytes(self) -> int:
        """Bytes of those messages."""
        return self.state.bytes

    @property
    def closed(self) -> bool:
        """The peer closed, the stream failed, or a frame was broken."""
        return self.state.outcome != 0

    def delays_ns(self):
        """array('q') of the sampled delays from the sender's stamp to the receiving here, ns."""
        return self.delays[:self.state.sampled]

    def run(self, uint64_t messages, double timeout=60.0) -> int:
        """Read until `messages` in all came, it closed or was woken, or `timeout` s of silence: how many came in all."""
        cdef int64_t timeout_ns = <int64_t>(timeout * 1e9)
        if not mantra_transport_enter(self.state.transport):
            raise RuntimeError("another thread is using this connection")
        with nogil:
            while self.state.messages < messages and not self.state.outcome:
                if mantra_transport_wait(self.state.transport, timeout_ns) != 1:
                    break
                read_some(&self.state)
        mantra_transport_leave(self.state.transport)
        return self.state.messages


def drain_polled(list drains not None, uint64_t messages, double timeout=60.0) -> int:
    """One thread for all: read until `messages` more came, all closed, or `timeout` s of silence: how many came."""
    cdef mantra_poller poller
    cdef void *ready[MANTRA_POLLER_BATCH]
    cdef int64_t timeout_ns = <int64_t>(timeout * 1e9)
    cdef uint64_t total = 0
    cdef int count, i, left = len(drains)
    cdef drain_state *state
    cdef Drain drain
    if mantra_poller_init(&poller) < 0:
        raise OSError("no descriptor left for a poller")
    try:
        for drain in drains:
            if mantra_poller_add(&poller, drain.state.transport.fd, &drain.state) < 0:
                raise ValueError("a connection is closed, or twice in the list")
            if drain.state.transport.more:      # the handshake may have taken frames along that epoll cannot see
                total -= drain.state.messages
                read_some(&drain.state)
                total += drain.state.messages
        with nogil:
            while total < messages and left:
                count = mantra_poller_wait(&poller, ready, MANTRA_POLLER_BATCH, timeout_ns)
                if count == 0:
                    break
                for i in range(count):
                    state = <drain_state *>ready[i]
                    total -= state.messages
                    read_some(state)
                    while state.transport.more and not state.outcome:
                        read_some(state)        # TLS holds bytes that its socket does not show
                    total += state.messages
                    if state.outcome:
                        mantra_poller_remove(&poller, state.transport.fd)
                        left -= 1
        return total
    finally:
        mantra_poller_close(&poller)
