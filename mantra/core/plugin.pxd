"""plugin: a venue's decoder written in Python behind the C contract of decode.h."""
from libc.stddef cimport size_t
from libc.stdint cimport uint32_t

from mantra.core.book cimport mantra_book
from mantra.core.decode cimport mantra_decoder
from mantra.core.ticks cimport mantra_scale

cdef int decode_in_python(mantra_decoder *decoder, const char *text, size_t size) noexcept nogil
cdef int decode_book_in_python(mantra_decoder *decoder, const char *text, size_t size) noexcept nogil
cdef uint32_t sign_in_python(const mantra_decoder *decoder, const mantra_book *book) noexcept nogil


cdef class Plugin:
    cdef object message, book, checksum     # the user's
    cdef int levels                         # a side that `checksum` is given
    cdef int complaints
    cdef dict index_of                      # spelling -> book
    cdef list parts                         # of the message at work
    cdef int fill(self, mantra_decoder *decoder, object part, bint known) except? -100
