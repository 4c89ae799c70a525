"""plugin: a venue's decoder written in Python behind the C contract of decode.h.

What a decoder is and answers: mantra/venues/decoder.py. Its texts of prices and sizes become exact integers here, so a
user's venue goes the way of the shipped ones from this point on. It costs the GIL and some microseconds a message.
"""
import logging
from enum import IntEnum

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from mantra.core.book cimport mantra_book, mantra_book_rank
from mantra.core.decode cimport (
    MANTRA_CONTROL, MANTRA_DIFF, MANTRA_HEARTBEAT, MANTRA_IGNORED, MANTRA_IMAGE, MANTRA_SNAPSHOT, MANTRA_TOO_MANY,
    MANTRA_TRADES, MANTRA_UNKNOWN, mantra_decoder, mantra_decoder_begin,
)
from mantra.core.messages cimport MANTRA_ASK, MANTRA_BID, MANTRA_BUY, MANTRA_SELL
from mantra.core.ticks cimport MANTRA_FINER, MANTRA_MALFORMED, mantra_scale

from mantra.core import ticks

log = logging.getLogger("mantra.plugin")
MOST_COMPLAINTS = 5     # of one decoder's defects in the log; every one is counted as malformed


class Kind(IntEnum):
    """What a part of a frame was."""

    IGNORED = MANTRA_IGNORED            # understood, of no interest
    DIFF = MANTRA_DIFF                  # changes to a book
    SNAPSHOT = MANTRA_SNAPSHOT          # the whole book
    TRADES = MANTRA_TRADES
    CONTROL = MANTRA_CONTROL            # for `Venue.control`: an acknowledgement, an error, a restart notice
    HEARTBEAT = MANTRA_HEARTBEAT        # nothing but life


KINDS = frozenset(map(int, Kind))


class Finer(Exception):
    """A number that the scale cannot hold."""


cdef int64_t count_of(text, int decimals) except? -1:
    try:
        return ticks.ticks(text, decimals)
    except OverflowError:
        raise Finer from None


cdef class Plugin:
    """`decoder` (a PythonDecoder) as a feed calls it. Books are added with `route`; `checksum(bids, asks)`, where it has
    one, is given the best `checksum_levels` levels a side as (price, size) texts without trailing zeros."""

    def __cinit__(self, object decoder not None):
        self.message, self.book = decoder.message, getattr(decoder, "book", None)
        self.checksum, self.levels = getattr(decoder, "checksum", None), getattr(decoder, "checksum_levels", 0)
        self.index_of = {}
        self.parts = []

    @property
    def signs(self) -> bool:
        """The decoder knows the venue's checksum."""
        return self.checksum is not None

    def route(self, str spelling not None, int index) -> None:
        """Parts of `spelling` are of book `index`."""
        self.index_of[spelling] = index

    cdef int fill(self, mantra_decoder *decoder, object part, bint known) except? -100:
        """Answer `part` as decode.h wants it; `known`: decoder.book is the book, whatever the part says."""
        cdef uint32_t count = 0
        cdef uint64_t link, before
        cdef int kind = part.kind
        mantra_decoder_begin(decoder)
        if part.number is not None:
            decoder.numbered, decoder.number = True, part.number
        if not known:
            decoder.book = <uint32_t>-1
            if part.symbol:
                if part.symbol not in self.index_of:
                    return MANTRA_UNKNOWN
                decoder.book = self.index_of[part.symbol]
        if kind not in KINDS:
            return MANTRA_MALFORMED
        decoder.first, decoder.last, decoder.venue_time_ns = part.first, part.last, part.time_ns
        if part.checksum is not None:
            decoder.checked, decoder.checksum = True, <uint32_t>(part.checksum & 0xFFFFFFFF)
        decoder.history = part.history
        if part.link is not None:
            decoder.linked, link, before = True, part.link, part.before
            memcpy(decoder.link, &link, 8)
            memcpy(decoder.before, &before, 8)
        if decoder.book == <uint32_t>-1:
            return kind
        cdef mantra_scale scale = decoder.scales[decoder.book]
        if len(part.bids) + len(part.asks) > decoder.change_capacity or len(part.trades) > decoder.trade_capacity:
            return MANTRA_TOO_MANY
        try:
            for side, rows in ((MANTRA_BID, part.bids), (MANTRA_ASK, part.asks)):
                for price, size in rows:
                    decoder.changes[count].kind = side
                    decoder.changes[count].price = count_of(price, scale.price_decimals)
                    decoder.changes[count].size = count_of(size, scale.size_decimals)
                    if decoder.changes[count].size < 0:
                        return MANTRA_MALFORMED
                    if decoder.changes[count].price > 0:
                        count += 1
                    else:
                        decoder.unpriced += 1
            decoder.change_count = count
            count = 0
            for number, side, price, size, time_ns in part.trades:
                decoder.trades[count].trade_id, decoder.trades[count].venue_time_ns = number, time_ns
                decoder.trades[count].side = {"buy": MANTRA_BUY, "sell": MANTRA_SELL}[side]
                decoder.trades[count].price = count_of(price, scale.price_decimals)
                decoder.trades[count].size = count_of(size, scale.size_decimals)
                if decoder.trades[count].price <= 0 or decoder.trades[count].size < 0:
                    return MANTRA_MALFORMED
                count += 1
            decoder.trade_count = count
        except Finer:
            return MANTRA_FINER
        return kind

    def _complain(self, error: Exception, what: str) -> None:
        self.complaints += 1
        if self.complaints <= MOST_COMPLAINTS:
            log.error("the decoder failed on %s: %r", what, error)


cdef int decode_in_python(mantra_decoder *decoder, const char *text, size_t size) noexcept with gil:
    cdef Plugin plugin = <Plugin>decoder.context
    cdef size_t at = 0
    try:
        if decoder.rest is NULL:
            plugin.parts = list(plugin.message(text[:size]))
        else:
            at = decoder.rest - text
        decoder.rest = text + at + 1 if at + 1 < <size_t>len(plugin.parts) else NULL
        if at < <size_t>len(plugin.parts):
            return plugin.fill(decoder, plugin.parts[at], False)
        mantra_decoder_begin(decoder)
        return MANTRA_IGNORED
    except Exception as error:
        plugin._complain(error, repr(text[:80 if size > 80 else size]))
        mantra_decoder_begin(decoder)
        decoder.rest, decoder.book = NULL, <uint32_t>-1
        return MANTRA_MALFORMED


cdef int decode_book_in_python(mantra_decoder *decoder, const char *text, size_t size) noexcept with gil:
    cdef Plugin plugin = <Plugin>decoder.context
    cdef int kind
    try:
        kind = plugin.fill(decoder, plugin.book(text[:size]), True)
        return MANTRA_IMAGE if kind == MANTRA_SNAPSHOT else kind if kind < 0 else MANTRA_MALFORMED
    except Exception as error:
        plugin._complain(error, repr(text[:80 if size > 80 else size]))
        mantra_decoder_begin(decoder)
        return MANTRA_MALFORMED


cdef uint32_t sign_in_python(const mantra_decoder *decoder, const mantra_book *book) noexcept with gil:
    cdef Plugin plugin = <Plugin>decoder.context
    cdef mantra_scale scale = decoder.scales[decoder.book]
    cdef int64_t price = 0, size = 0
    cdef int rank
    sides = ([], [])
    try:
        for kind, rows in zip((MANTRA_BID, MANTRA_ASK), sides):
            for rank in range(plugin.levels):
                if not mantra_book_rank(book, kind, rank, &price, &size):
                    break
                rows.append((ticks.text(price, scale.price_decimals, True), ticks.text(size, scale.size_decimals, True)))
        return <uint32_t>(plugin.checksum(*sides) & 0xFFFFFFFF)
    except Exception as error:
        plugin._complain(error, "a checksum")
        return ~decoder.checksum
