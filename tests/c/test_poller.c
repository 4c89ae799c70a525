/* A poller names who has bytes, once for as long as they do, and wakes. */
#include <pthread.h>
#include <sys/socket.h>

#include "check.h"
#include "mantra/poller.h"

static void *
wake(void *poller)
{
    usleep(20000);
    mantra_poller_wake(poller);
    return NULL;
}

int
main(void)
{
    mantra_poller poller;
    int pairs[3][2];
    void *ready[4];
    pthread_t waker;
    CHECK(mantra_poller_init(&poller) == 0);
    for (int i = 0; i < 3; i++) {
        CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pairs[i]) == 0);
        CHECK(mantra_poller_add(&poller, pairs[i][0], &pairs[i]) == 0);
    }
    CHECK(mantra_poller_add(&poller, pairs[0][0], &pairs[0]) < 0 && errno == EEXIST);
    CHECK(mantra_poller_wait(&poller, ready, 4, 0) == 0);
    CHECK(write(pairs[1][1], "x", 1) == 1);
    CHECK(mantra_poller_wait(&poller, ready, 4, -1) == 1 && ready[0] == &pairs[1]);
    CHECK(mantra_poller_wait(&poller, ready, 4, 1) == 1); /* its byte is still there */
    CHECK(mantra_poller_remove(&poller, pairs[1][0]) == 0);
    CHECK(mantra_poller_remove(&poller, pairs[1][0]) < 0);
    CHECK(pthread_create(&waker, NULL, wake, &poller) == 0);
    CHECK(mantra_poller_wait(&poller, ready, 4, -1) == 0); /* only woken */
    CHECK(pthread_join(waker, NULL) == 0);
    mantra_poller_close(&poller);
    for (int i = 0; i < 3; i++)
        CHECK(close(pairs[i][0]) == 0 && close(pairs[i][1]) == 0);
    return 0;
}
