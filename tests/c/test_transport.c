/* test_transport.c - wake and end from other threads never get lost; bytes go through whole; a bounded send ends. */
// threads
#include "mantra/poller.h"
#include "mantra/transport.h"

#include "check.h"

#include <pthread.h>

static void
make_pair(mantra_transport *t, int *peer)
{
    int pair[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
    CHECK(mantra_transport_init(t) == 0);
    t->fd = pair[0];
    *peer = pair[1];
}

enum { WAKES = 2000 };

typedef struct {
    mantra_transport *transport;
    _Atomic int asked, answered; /* what a command queue would hold */
} bell;

static void *
ring(void *argument)
{
    bell *b = (bell *)argument;
    for (int i = 1; i <= WAKES; i++) {
        atomic_store_explicit(&b->asked, i, memory_order_relaxed);
        mantra_transport_wake(b->transport);
        if (i % 3)
            while (atomic_load_explicit(&b->answered, memory_order_relaxed) < i)
                MANTRA_PAUSE(); /* a lost wake hangs here */
    }
    return NULL;
}

static void
test_no_wake_is_lost(void)
{
    mantra_transport t;
    int peer;
    make_pair(&t, &peer);
    bell b = {.transport = &t};
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, ring, &b) == 0);
    int seen = 0;
    while (seen < WAKES) {
        CHECK(mantra_transport_wait(&t, -1) == 2);
        seen = atomic_load_explicit(&b.asked, memory_order_relaxed);
        atomic_store_explicit(&b.answered, seen, memory_order_relaxed);
    }
    CHECK(pthread_join(thread, NULL) == 0);
    mantra_transport_close(&t);
    close(peer);
}

static void *
cut(void *argument)
{
    mantra_transport_end((mantra_transport *)argument);
    return NULL;
}

static void
test_end_ends_a_wait_and_a_send(void)
{
    for (int sending = 0; sending < 2; sending++) {
        mantra_transport t;
        int peer;
        static char much[1 << 22];
        make_pair(&t, &peer);
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, cut, &t) == 0);
        if (sending) {
            CHECK(mantra_transport_send(&t, much, sizeof much) == MANTRA_FAILED);
        } else {
            char byte;
            while (mantra_transport_receive(&t, &byte, 1) == MANTRA_AGAIN)
                CHECK(mantra_transport_wait(&t, -1) != 0);
        }
        CHECK(pthread_join(thread, NULL) == 0);
        CHECK(atomic_load(&t.ending));
        mantra_transport_close(&t);
        close(peer);
    }
}

static void
test_short_reads_mean_empty_and_full_ones_more(void)
{
    mantra_transport t;
    int peer;
    char room[8];
    make_pair(&t, &peer);
    CHECK(mantra_transport_wait(&t, 0) == 0);
    CHECK(mantra_transport_receive(&t, room, 8) == MANTRA_AGAIN);
    CHECK(write(peer, "0123456789", 10) == 10);
    CHECK(mantra_transport_wait(&t, -1) == 1);
    CHECK(mantra_transport_receive(&t, room, 8) == 8 && t.more);
    CHECK(mantra_transport_receive(&t, room, 8) == 2 && !t.more);
    CHECK(mantra_transport_wait(&t, 1000000) == 0);
    close(peer);
    CHECK(mantra_transport_wait(&t, -1) == 1);
    CHECK(mantra_transport_receive(&t, room, 8) == 0);
    CHECK(mantra_transport_send(&t, room, 8) == MANTRA_FAILED && t.error == EPIPE);
    mantra_transport_close(&t);
}

static void
test_a_peer_that_takes_nothing_ends_a_send(void)
{
    mantra_transport t;
    int peer;
    static char much[1 << 22];
    make_pair(&t, &peer);
    t.send_timeout_ns = 20000000;
    CHECK(mantra_transport_send(&t, much, sizeof much) == MANTRA_FAILED && t.error == ETIMEDOUT);
    mantra_transport_close(&t);
    close(peer);
}

static void
test_the_poller_reports_what_is_ready_and_wakes(void)
{
    enum { MANY = 100 };
    static mantra_transport transports[MANY];
    int peers[MANY];
    void *ready[MANTRA_POLLER_BATCH];
    mantra_poller poller;
    CHECK(mantra_poller_init(&poller) == 0);
    for (int i = 0; i < MANY; i++) {
        make_pair(&transports[i], &peers[i]);
        CHECK(mantra_poller_add(&poller, transports[i].fd, &transports[i]) == 0);
    }
    CHECK(mantra_poller_add(&poller, transports[0].fd, &transports[0]) < 0);
    CHECK(mantra_poller_wait(&poller, ready, MANTRA_POLLER_BATCH, 0) == 0);
    mantra_poller_wake(&poller);
    CHECK(mantra_poller_wait(&poller, ready, MANTRA_POLLER_BATCH, -1) == 0);
    for (int i = 0; i < MANY; i++)
        CHECK(write(peers[i], "x", 1) == 1);
    int read_count = 0;
    while (read_count < MANY) {
        const int count = mantra_poller_wait(&poller, ready, MANTRA_POLLER_BATCH, -1);
        CHECK(count > 0);
        for (int i = 0; i < count; i++) {
            char byte;
            CHECK(mantra_transport_receive((mantra_transport *)ready[i], &byte, 1) == 1);
            read_count++;
        }
    }
    CHECK(read_count == MANY);
    for (int i = 0; i < MANY; i++) {
        CHECK(mantra_poller_remove(&poller, transports[i].fd) == 0);
        mantra_transport_close(&transports[i]);
        close(peers[i]);
    }
    mantra_poller_close(&poller);
}

int
main(void)
{
    test_no_wake_is_lost();
    test_end_ends_a_wait_and_a_send();
    test_short_reads_mean_empty_and_full_ones_more();
    test_a_peer_that_takes_nothing_ends_a_send();
    test_the_poller_reports_what_is_ready_and_wakes();
    return 0;
}
