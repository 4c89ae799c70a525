/* assembly.c - the ring's hot paths, each a function of its own, to look at what the compiler makes of them. */
#include "mantra/doorbell.h"
#include "mantra/queue.h"

enum { WORDS = 7 }; /* one cache line */

void
produce_single(mantra_producer *producer, const void *message)
{
    producer->queue.many = false;
    mantra_seqlock *slot = mantra_produce_begin(producer);
    mantra_words_store(slot->words, message, WORDS);
    mantra_produce_end(producer, slot);
}

void
produce_many(mantra_producer *producer, const void *message)
{
    mantra_seqlock *slot = mantra_produce_claim(producer); /* a function of its own */
    atomic_thread_fence(memory_order_release);
    mantra_words_store(slot->words, message, WORDS);
    if (!mantra_produce_settle(producer, slot))
        mantra_produce_again(producer, slot);
}

size_t
consume(mantra_consumer *consumer, void *message)
{
    return mantra_consume_run(consumer, message, 1);
}

void
ring(mantra_doorbell *bell)
{
    mantra_doorbell_ring(bell);
}
