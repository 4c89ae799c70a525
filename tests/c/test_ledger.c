// threads
/* The ledger: rows appear to readers whole and named; each counts for itself. */
#include <pthread.h>

#include "check.h"
#include "mantra/ledger.h"

static mantra_ledger *ledger;
static _Atomic int done;

static void *
read_rows(void *unused)
{
    (void)unused;
    uint64_t used = 0;
    while (!atomic_load(&done) || used < 8) {
        CHECK(mantra_ledger_used(ledger) >= used);
        used = mantra_ledger_used(ledger);
        for (uint64_t i = 0; i < used; i++) {
            CHECK(strncmp(ledger->rows[i].name, "feed.", 5) == 0 && ledger->rows[i].venue == i);
            CHECK(mantra_ledger_get(&ledger->rows[i], MANTRA_COUNT_frames) <= 1000);
        }
    }
    return NULL;
}

int
main(void)
{
    ledger = aligned_alloc(MANTRA_CACHE_LINE, mantra_ledger_bytes(8));
    CHECK(ledger != NULL);
    memset(ledger, 0, mantra_ledger_bytes(8));
    ledger->capacity = 8;
    pthread_t reader;
    CHECK(pthread_create(&reader, NULL, read_rows, NULL) == 0);
    for (uint64_t i = 0; i < 8; i++) {
        char name[16];
        const int size = snprintf(name, sizeof name, "feed.%d", (int)i);
        mantra_ledger_row *row = mantra_ledger_claim(ledger, name, (size_t)size, (uint32_t)i, (uint32_t)i, 7);
        CHECK(row != NULL && (uintptr_t)row % MANTRA_CACHE_LINE == 0);
        for (int n = 0; n < 1000; n++)
            mantra_ledger_add(row, MANTRA_COUNT_frames, 1);
        mantra_ledger_add_shared(row, MANTRA_COUNT_audits, 2);
    }
    atomic_store(&done, 1);
    pthread_join(reader, NULL);
    CHECK(mantra_ledger_claim(ledger, "one more", 8, 0, 0, 0) == NULL);
    for (int i = 0; i < 8; i++)
        CHECK(mantra_ledger_get(&ledger->rows[i], MANTRA_COUNT_frames) == 1000
              && mantra_ledger_get(&ledger->rows[i], MANTRA_COUNT_messages) == 0);
    mantra_ledger_assign(&ledger->rows[3], 5, 6);
    mantra_ledger_row copy[8];
    mantra_ledger_copy(ledger, 8, copy);
    CHECK(memcmp(copy, ledger->rows, sizeof copy) == 0 && copy[3].feed == 5 && copy[3].instrument == 6
          && copy[2].instrument == 7 && mantra_ledger_get(&copy[3], MANTRA_COUNT_audits) == 2);
    CHECK(strcmp(mantra_counter_name(MANTRA_COUNT_state), "state") == 0 && mantra_counter_name(MANTRA_COUNTERS) == NULL);

    ledger->capacity = 9; /* names that do not fit are refused, never cut */
    const char long_name[MANTRA_LEDGER_NAME] = {0};
    CHECK(mantra_ledger_claim(ledger, long_name, sizeof long_name, 0, 0, 0) == NULL);
    free(ledger);
    return 0;
}
