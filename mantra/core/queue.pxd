"""queue: broadcast ring of seqlocked slots (csrc/mantra/queue.h)."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from mantra.core.audience cimport Seat
from mantra.core.doorbell cimport Doorbell, Waiter
from mantra.core.messages cimport Format
from mantra.core.region cimport Shared
from mantra.core.tracking cimport Tracker

cdef extern from "mantra/queue.h" nogil:
    const uint64_t MANTRA_NEWEST, MANTRA_OLDEST

    ctypedef struct mantra_queue_header:
        uint32_t many
        uint32_t number
        uint64_t abandoned, burnt

    ctypedef struct mantra_queue:
        mantra_queue_header *header
        bint many
        uint16_t number
        uint64_t mask
        uint32_t slot_bytes, words, flags_offset

    ctypedef struct mantra_producer:
        mantra_queue queue
        uint64_t position
        uint16_t publisher

    ctypedef struct mantra_consumer:
        mantra_queue queue
        uint64_t position, lost, holes
        uint64_t *taken

    size_t mantra_queue_bytes(uint64_t capacity, uint32_t slot_bytes)
    mantra_queue mantra_queue_attach(uint8_t *memory, uint64_t capacity, uint32_t slot_bytes, uint32_t flags_offset)
    uint64_t mantra_produced(const mantra_queue *queue)
    bint mantra_queue_more(const mantra_queue *queue, const void *message)
    uint32_t mantra_queue_producers(const mantra_queue *queue)
    int mantra_producer_open(mantra_producer *producer, const mantra_queue *queue, uint16_t publisher)
    void mantra_producer_close(mantra_producer *producer)
    void mantra_produce(mantra_producer *producer, const void *message)
    bint mantra_consumer_ready(void *consumer) noexcept
    mantra_consumer mantra_consumer_at(const mantra_queue *queue, uint64_t position, void *scratch)
    int mantra_consume(mantra_consumer *consumer, void *message)
    size_t mantra_consume_run(mantra_consumer *consumer, void *messages, size_t room)


cdef class Queue(Shared):
    cdef mantra_queue queue
    cdef readonly Format format
    cdef public object audience         # an Audience; None: readers of this queue are not waited for

cdef class Producer:
    cdef mantra_producer producer
    cdef readonly Queue queue
    cdef Doorbell bell
    cdef Tracker tracker
    cdef bint claimed

cdef class Consumer(Waiter):
    cdef mantra_consumer consumer
    cdef readonly Queue queue
    cdef Tracker tracker
    cdef Seat seat
    cdef bint raises, lapped
    cdef uint64_t told
    cdef int take(self, void *raw) except -2
