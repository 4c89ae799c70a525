/* The same where there is no SSE2. */
#define MANTRA_PORTABLE
#include "test_text.c"
