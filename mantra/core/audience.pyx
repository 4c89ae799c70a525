"""audience: who reads a playback, and how far each has come: the player waits for the slowest."""
cimport cython

from mantra.core.region cimport Region

from mantra.errors import RegionError


@cython.no_gc     # its memory must outlive the readers that the collector takes with it
cdef class Audience(Shared):
    """The seats of a run that is played back. Consumers and merges of its queues take theirs by themselves."""

    def __cinit__(self, Region region):
        self.audience = <mantra_audience *>region.payload()

    @staticmethod
    def create(name: str | None = None) -> Audience:
        """Make one (name None: for this process only). RegionError if it cannot be."""
        return Audience(Region.create(name, sizeof(mantra_audience), kind="audience"))

    @staticmethod
    def open(name: str) -> Audience:
        """Open one to be waited for. RegionError, LayoutMismatch."""
        return Audience(Region.open(name, kind="audience", write=True))

    cdef Seat join(self, uint16_t queue):
        cdef Seat seat = Seat.__new__(Seat)
        seat.audience, seat.seat = self, mantra_audience_join(self.audience, queue)
        if seat.seat is NULL:
            raise RegionError(f"{self.region.name or 'this playback'} has too many readers: {self.audience.used} of its queues")
        return seat

    def readers(self) -> list[tuple[int, int, int]]:
        """(pid, number of the queue, position up to which it has read) of everybody."""
        cdef uint64_t i
        return [(self.audience.seats[i].identity >> 42, self.audience.seats[i].queue, self.audience.seats[i].position)
                for i in range(self.audience.used) if self.audience.seats[i].identity]


@cython.no_gc     # a reader's, let go with it while there is still an audience
cdef class Seat:
    """Where a reader says what it has taken."""

    def __dealloc__(self):
        if self.seat is not NULL:
            mantra_audience_leave(self.seat)
