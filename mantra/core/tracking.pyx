"""tracking: what an actor consumes sets the origin of what it produces, and its time goes to its timing ring."""
from mantra.core.queue cimport Producer, Queue

cimport cython


@cython.no_gc     # its producer's memory must outlive whoever still points here
cdef class Tracker:
    """Of one actor, and so of one thread: give it to the actor's consumers, producers and merges, and forget it.

    `actor`: its number, the publisher of all it produces. `timings`: its ring, a queue of "timing"; None: origins are
    passed on and nothing is recorded. RegionError: somebody records there already.
    """

    def __init__(self, Clock clock not None, uint16_t actor, Queue timings = None):
        cdef Producer producer
        if timings is not None and timings.format.name != "timing":
            raise ValueError(f"a queue of {timings.format.name} is not one of timings")
        self.clock, self.timings = clock, timings
        self.tracker.clock, self.tracker.actor = clock.clock, actor
        if timings is not None:
            self.producer = producer = Producer(timings, actor)
            self.tracker.timings = <mantra_timings *>&producer.producer

    @property
    def actor(self) -> int:
        """Its actor's number."""
        return self.tracker.actor

    @property
    def origin(self) -> int:
        """Cycles: of what is produced next; 0: it begins here."""
        return self.tracker.origin

    def rest(self) -> None:
        """The actor waits, or its step is over: what it produces next comes of nothing that it consumed before."""
        mantra_tracker_rest(&self.tracker)

    def close(self) -> None:
        """Record what is under way and let somebody else record; its actor does not run any more."""
        self.rest()
        self.tracker.timings = NULL
        if self.producer is not None:
            self.producer.close()
            self.producer = None
