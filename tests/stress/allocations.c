/* Loaded before everything else: counts what a thread asks of the allocator. */
#include <errno.h>
#include <stddef.h>

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t),
    *__libc_memalign(size_t, size_t);

static _Thread_local long asked __attribute__((tls_model("initial-exec")));

long allocations(void) { return asked; }
void *malloc(size_t size) { asked++; return __libc_malloc(size); }
void *calloc(size_t count, size_t size) { asked++; return __libc_calloc(count, size); }
void *realloc(void *old, size_t size) { asked++; return __libc_realloc(old, size); }
void *memalign(size_t to, size_t size) { asked++; return __libc_memalign(to, size); }
void *aligned_alloc(size_t to, size_t size) { asked++; return __libc_memalign(to, size); }

int posix_memalign(void **made, size_t to, size_t size)
{
    asked++;
    *made = __libc_memalign(to, size);
    return *made ? 0 : ENOMEM;
}
