/* The same by tables alone. */
#define MANTRA_PORTABLE
#include "test_crc32.c"
