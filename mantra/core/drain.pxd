from libc.stdint cimport int64_t, uint64_t

from mantra.core.frame cimport mantra_frames
from mantra.core.transport cimport Transport, mantra_transport


ctypedef struct drain_state:
    mantra_transport *transport
    mantra_frames frames
    uint64_t messages, bytes            # control frames are not counted
    int outcome                         # 0 open, 1 closed, negative: failed
    int64_t *delays                     # room for `samples`
    size_t samples, sampled


cdef class Drain:
    cdef readonly Transport source      # kept: its address is used without the GIL
    cdef object delays                  # int64 array behind state.delays
    cdef drain_state state
