/* region.h - named shared memory that refuses a foreign layout.
 *
 * /dev/shm/mantra.<name>, mode 0600 ($MANTRA_SHM may name another tmpfs, or a folder of one: programs with another see
 * nothing of each other). A name appears only when its region is complete (an unnamed file is filled, then linked), so
 * nobody ever opens half a region and a creator killed midway leaves nothing behind.
 *
 *   0       8         12       16      24     32        40            48           56         64     96       1024
 *   | magic | version | header | owner | size | ceiling | fingerprint | slot bytes | capacity | kind | layout | payload
 *
 *   owner     pid << 42 | start time of the process (/proc/<pid>/stat, field 22): a reused pid is somebody else
 *   size      payload bytes that are backed by memory; only the owner grows it, up to ceiling
 *
 * The address range up to the ceiling is mapped once; growing only backs more of it, so addresses never move. Memory is
 * backed for real (posix_fallocate): a full /dev/shm is an error here, never a SIGBUS later. With no name the memory is
 * private to the process and everything else is the same. POSIX and Linux calls: compile with -std=gnu11. */
#ifndef MANTRA_REGION_H
#define MANTRA_REGION_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "mantra/base.h"

#ifndef O_TMPFILE /* glibc hides it without _GNU_SOURCE */
#define O_TMPFILE __O_TMPFILE
#endif

#define MANTRA_REGION_MAGIC UINT64_C(0x6172746e616d) /* "mantra", little endian */
#define MANTRA_REGION_VERSION 2
#define MANTRA_REGION_NAME 128
#define MANTRA_REGION_ERROR 2048 /* an error shows both sides of a layout */

typedef struct mantra_region_header {
    uint64_t magic;
    uint32_t version, header_bytes;
    uint64_t owner;
    _Atomic uint64_t size;
    uint64_t ceiling, fingerprint;
    uint64_t slot_bytes, capacity;
    char kind[32];
    char layout[928];
} mantra_region_header;
_Static_assert(sizeof(mantra_region_header) == 1024, "the payload starts on a cache line");
_Static_assert(offsetof(mantra_region_header, kind) == 64, "as drawn");

typedef struct mantra_region {
    uint8_t *base;        /* NULL: closed */
    size_t size, ceiling; /* payload bytes: backed, reserved */
    int fd;               /* -1 once it is made: thousands of books would hold as many, and many systems allow 1,024 */
    ino_t file;           /* what the name stands for, where this process made it */
    bool owner, writable;
    char name[MANTRA_REGION_NAME]; /* "": private memory */
} mantra_region;

static inline mantra_region_header *
mantra_region_head(const mantra_region *region)
{
    return (mantra_region_header *)(void *)region->base;
}

static inline uint8_t *
mantra_region_payload(const mantra_region *region)
{
    return region->base + sizeof(mantra_region_header);
}

/* Payload bytes that its owner has backed by now. */
static inline size_t
mantra_region_backed(const mantra_region_header *header)
{
    return atomic_load_explicit(&header->size, memory_order_acquire);
}

/* ---- whose is it */

/* Identity of a process, 0 when it is dead (a zombie is), UINT64_MAX when that cannot be told. Cold: reads /proc. */
static inline uint64_t
mantra_process_identity(uint32_t pid)
{
    char path[32], text[1024];
    snprintf(path, sizeof path, "/proc/%u/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT && kill((pid_t)pid, 0) != 0 && errno == ESRCH ? 0 : UINT64_MAX;
    ssize_t got = read(fd, text, sizeof text - 1);
    close(fd);
    if (got <= 0)
        return got < 0 && errno == ESRCH ? 0 : UINT64_MAX;
    text[got] = 0;
    const char *at = strrchr(text, ')'); /* the command's name may hold spaces and brackets */
    if (at == NULL || at[1] == 0)
        return UINT64_MAX;
    at += 2;
    if (*at == 'Z' || *at == 'X')
        return 0;
    for (int field = 3; field < 22; field++) {
        at = strchr(at, ' ');
        if (at == NULL)
            return UINT64_MAX;
        at++;
    }
    return (uint64_t)pid << 42 | (strtoull(at, NULL, 10) & ((UINT64_C(1) << 42) - 1));
}

static inline uint64_t
mantra_process_self(void)
{
    return mantra_process_identity((uint32_t)getpid());
}

/* False only for certain: another pid namespace or an unreadable /proc counts as alive. 0 is nobody. */
static inline bool
mantra_process_alive(uint64_t identity)
{
    if (identity == 0)
        return false;
    uint64_t now = mantra_process_identity((uint32_t)(identity >> 42));
    return now == identity || now == UINT64_MAX;
}

/* ---- making and opening. All return 0, or -1 with one line in `error` (MANTRA_REGION_ERROR bytes). */

typedef struct mantra_region_spec {
    const char *kind, *layout;
    uint64_t fingerprint, slot_bytes, capacity;
    const void *first; /* what the payload begins with, if not with zeros */
    size_t first_bytes;
} mantra_region_spec;

static inline void
mantra_region_close(mantra_region *region)
{
    if (region->base)
        munmap(region->base, sizeof(mantra_region_header) + region->ceiling);
    if (region->fd >= 0)
        close(region->fd);
    region->base = NULL;
    region->fd = -1;
}

/* Say why not, and take back what was made so far. */
__attribute__((format(printf, 3, 4))) static inline int
mantra_region_refuse(mantra_region *region, char *error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error, MANTRA_REGION_ERROR, format, arguments);
    va_end(arguments);
    mantra_region_close(region);
    return -1;
}

#define MANTRA_REGION_PATH 512

/* Where regions are; asked when this is loaded, before there are threads. A path that is too long is cut, and not there. */
static char mantra_region_directory[MANTRA_REGION_PATH - MANTRA_REGION_NAME - sizeof "/mantra."];

__attribute__((constructor)) static void
mantra_region_choose(void)
{
    const char *chosen = getenv("MANTRA_SHM");
    snprintf(mantra_region_directory, sizeof mantra_region_directory, "%s", chosen && *chosen ? chosen : "/dev/shm");
}

static inline void
mantra_region_path(char *path, const char *name)
{
    snprintf(path, MANTRA_REGION_PATH, "%s/mantra.%s", mantra_region_directory, name);
}

/* Names are plain: they become part of a path. */
static inline int
mantra_region_name(mantra_region *region, const char *name, char *path, char *error)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    size_t length = strlen(name);
    if (length == 0 || length >= MANTRA_REGION_NAME || name[0] == '.' || strspn(name, allowed) != length)
        return mantra_region_refuse(region, error, "region name '%.200s': use 1 to %d of A-Z a-z 0-9 . _ -, not starting "
                                    "with a dot", name, MANTRA_REGION_NAME - 1);
    memcpy(region->name, name, length + 1);
    mantra_region_path(path, name);
    return 0;
}

/* Back `total` bytes of the file, and fault them in now rather than on the hot path (a kernel before 5.14 does not). */
static inline int
mantra_region_back(int fd, uint8_t *base, size_t total)
{
    int failed = 0;
    do /* tmpfs gives up and undoes on any signal */
        failed = fd < 0 ? 0 : posix_fallocate(fd, 0, (off_t)total);
    while (failed == EINTR);
#ifdef MADV_POPULATE_WRITE
    if (!failed)
        (void)madvise(base, total, MADV_POPULATE_WRITE);
#endif
    return failed;
}

/* Is `path` still the name of this file? */
static inline bool
mantra_region_named(ino_t file, const char *path)
{
    struct stat named;
    return stat(path, &named) == 0 && named.st_ino == file;
}

/* Back at least `payload_bytes` of payload. 0, or the errno: ENOMEM over the ceiling, ENOSPC, EPERM if not the owner,
 * ENOENT if somebody took its name away. */
static inline int
mantra_region_grow(mantra_region *region, size_t payload_bytes)
{
    if (payload_bytes <= region->size)
        return 0;
    if (!region->owner)
        return EPERM;
    if (payload_bytes > region->ceiling)
        return ENOMEM;
    char path[MANTRA_REGION_PATH];
    int fd = -1;
    if (region->name[0]) {
        mantra_region_path(path, region->name);
        if (!mantra_region_named(region->file, path) || (fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW)) < 0)
            return ENOENT;
    }
    int failed = mantra_region_back(fd, region->base, sizeof(mantra_region_header) + payload_bytes);
    if (fd >= 0)
        close(fd);
    if (failed)
        return failed;
    region->size = payload_bytes;
    atomic_store_explicit(&mantra_region_head(region)->size, payload_bytes, memory_order_release);
    return 0;
}

/* The header of the file at `path`, opened for `access`: its descriptor, or -1 with errno (EPROTO: no region of
 * ours). */
static inline int
mantra_region_peek(const char *path, int access, mantra_region_header *header)
{
    int fd = open(path, access | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK); /* who planted a pipe here hangs nobody */
    if (fd >= 0 && (pread(fd, header, sizeof *header, 0) != (ssize_t)sizeof *header || header->magic != MANTRA_REGION_MAGIC)) {
        close(fd);
        fd = -1;
        errno = EPROTO;
    }
    header->kind[sizeof header->kind - 1] = header->layout[sizeof header->layout - 1] = 0;
    return fd;
}

/* Remove `path` if its owner is dead: 1 removed (or already gone), 0 its owner lives, -1 not a region of ours. The
 * lock, with the second look at the name, keeps two cleaners from removing what one of them has already made anew. */
static inline int
mantra_region_bury(const char *path)
{
    mantra_region_header header;
    struct stat file;
    int fd = mantra_region_peek(path, O_RDONLY, &header);
    if (fd < 0)
        return errno == ENOENT ? 1 : -1;
    int buried = 0;
    if (!mantra_process_alive(header.owner) && flock(fd, LOCK_EX) == 0) {
        if (fstat(fd, &file) == 0 && mantra_region_named(file.st_ino, path))
            unlink(path);
        buried = 1;
    }
    close(fd);
    return buried;
}

/* Make a region of `size` payload bytes that may grow to `ceiling`; name NULL: private memory. */
static inline int
mantra_region_create(mantra_region *region, const char *name, size_t size, size_t ceiling, const mantra_region_spec *spec,
                     char *error)
{
    char path[MANTRA_REGION_PATH], file[32];
    struct stat made;
    *region = (mantra_region){.fd = -1, .owner = true, .writable = true};
    size = mantra_round_up(size, MANTRA_CACHE_LINE);
    ceiling = mantra_round_up(ceiling < size ? size : ceiling, MANTRA_CACHE_LINE);
    size_t total = sizeof(mantra_region_header) + ceiling;
    if (name != NULL) {
        if (mantra_region_name(region, name, path, error))
            return -1;
        region->fd = open(mantra_region_directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        if (region->fd < 0 || ftruncate(region->fd, (off_t)total) || fstat(region->fd, &made))
            return mantra_region_refuse(region, error, "region '%s': cannot make a file in %s: %s", name,
                                        mantra_region_directory, strerror(errno));
    }
    const int flags = name != NULL ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void *base = mmap(NULL, total, PROT_READ | PROT_WRITE, flags, region->fd, 0);
    if (base == MAP_FAILED)
        return mantra_region_refuse(region, error, "region '%s': cannot map %zu bytes: %s", region->name, total, strerror(errno));
    region->base = base;
    region->ceiling = ceiling;
    int failed = mantra_region_back(region->fd, base, sizeof(mantra_region_header) + size);
    if (failed) {
        struct statvfs free_space = {0};
        (void)statvfs(mantra_region_directory, &free_space);
        return mantra_region_refuse(region, error, "region '%s' needs %zu bytes of %s, which has %llu free (%s): enlarge it "
                                    "(docker: --shm-size), name another tmpfs in $MANTRA_SHM or use smaller queues",
                                    region->name, sizeof(mantra_region_header) + size, mantra_region_directory,
                                    (unsigned long long)free_space.f_bavail * free_space.f_frsize, strerror(failed));
    }
    mantra_region_header *header = mantra_region_head(region);
    *header = (mantra_region_header){
        .magic = MANTRA_REGION_MAGIC, .version = MANTRA_REGION_VERSION, .header_bytes = sizeof *header,
        .owner = mantra_process_self(), .size = size, .ceiling = ceiling,
        .fingerprint = spec->fingerprint, .slot_bytes = spec->slot_bytes, .capacity = spec->capacity};
    snprintf(header->kind, sizeof header->kind, "%s", spec->kind);
    snprintf(header->layout, sizeof header->layout, "%s", spec->layout);
    if (spec->first_bytes)
        memcpy(mantra_region_payload(region), spec->first, spec->first_bytes);
    region->size = size;
    if (name == NULL)
        return 0;
    snprintf(file, sizeof file, "/proc/self/fd/%d", region->fd);
    for (int attempt = 0; linkat(AT_FDCWD, file, AT_FDCWD, path, AT_SYMLINK_FOLLOW); attempt++) {
        int why = errno, buried = why == EEXIST && attempt < 8 ? mantra_region_bury(path) : -2;
        if (buried == 0)
            return mantra_region_refuse(region, error, "region '%s' exists and its owner is running", name);
        if (buried == -1)
            return mantra_region_refuse(region, error, "region '%s': %s exists and is not mantra's; remove it", name, path);
        if (buried == -2)
            return mantra_region_refuse(region, error, "region '%s': cannot name %s: %s", name, path, strerror(why));
    }
    close(region->fd);
    region->fd = -1;
    region->file = made.st_ino;
    return 0;
}

/* Map what is there; the caller compares kind, fingerprint, slots (mantra_region_head) with what it expects. */
static inline int
mantra_region_open(mantra_region *region, const char *name, bool writable, char *error)
{
    char path[MANTRA_REGION_PATH];
    mantra_region_header header;
    struct stat file;
    *region = (mantra_region){.fd = -1, .writable = writable};
    if (mantra_region_name(region, name, path, error))
        return -1;
    region->fd = mantra_region_peek(path, writable ? O_RDWR : O_RDONLY, &header);
    if (region->fd < 0)
        return errno == ENOENT   ? mantra_region_refuse(region, error, "there is no region '%s' (is its run still going?)", name)
               : errno == EPROTO ? mantra_region_refuse(region, error, "region '%s': %s is not mantra's", name, path)
                                 : mantra_region_refuse(region, error, "region '%s': cannot open %s: %s", name, path, strerror(errno));
    if (header.version != MANTRA_REGION_VERSION || header.header_bytes != sizeof header)
        return mantra_region_refuse(region, error, "region '%s' has format %u, this program reads %d: run one version of mantra on "
                                    "both sides", name, header.version, MANTRA_REGION_VERSION);
    size_t total = sizeof header + header.ceiling;
    if (fstat(region->fd, &file) || (uint64_t)file.st_size < total || header.size > header.ceiling || total < header.ceiling)
        return mantra_region_refuse(region, error, "region '%s': %s is shorter than its header says", name, path);
    void *base = mmap(NULL, total, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, region->fd, 0);
    if (base == MAP_FAILED)
        return mantra_region_refuse(region, error, "region '%s': cannot map it: %s", name, strerror(errno));
    close(region->fd);
    region->fd = -1;
    region->base = base;
    region->size = header.size;
    region->ceiling = header.ceiling;
#ifdef MADV_POPULATE_READ
    (void)madvise(base, sizeof header + region->size, MADV_POPULATE_READ);
#endif
    return 0;
}

/* Take the name away; who has it mapped keeps the memory. 0, EPERM if this process (a forked child, say) does not own
 * it, or the errno of unlink. A name that has meanwhile become another region is left alone. */
static inline int
mantra_region_unlink(const mantra_region *region)
{
    char path[MANTRA_REGION_PATH];
    if (region->name[0] == 0)
        return 0;
    if (!region->owner || region->base == NULL || mantra_region_head(region)->owner != mantra_process_self())
        return EPERM;
    mantra_region_path(path, region->name);
    if (!mantra_region_named(region->file, path))
        return ENOENT;
    return unlink(path) ? errno : 0;
}

#endif
