/* fuzz_driver.c - a small mutating driver for fuzz targets, where libFuzzer is not: plain mutation, no coverage.
 *
 * Takes libFuzzer's arguments: -max_total_time=SECONDS -seed=N -artifact_prefix=PATH, folders, single files to replay.
 * An input that fails is written to <prefix>crash before the process dies. */
#include <dirent.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

#define INPUT_BYTES 8192
#define INPUTS 4096

static uint8_t *inputs[INPUTS];
static size_t sizes[INPUTS], count;
static uint8_t input[INPUT_BYTES];
static size_t input_size;
static const char *prefix = "";
static int finished;

static void
keep_input(void)
{
    char path[4096];
    snprintf(path, sizeof path, "%scrash", prefix);
    FILE *file = fopen(path, "wb");
    if (file) {
        fwrite(input, 1, input_size, file);
        fclose(file);
        fprintf(stderr, "the input that failed is in %s\n", path);
    }
}

static void
on_exit_early(void) /* CHECK exits */
{
    if (!finished)
        keep_input();
}

static void
on_signal(int number)
{
    keep_input();
    signal(number, SIG_DFL);
    raise(number);
}

static void
load(const char *path)
{
    struct stat status;
    FILE *file = stat(path, &status) == 0 && S_ISREG(status.st_mode) && count < INPUTS ? fopen(path, "rb") : NULL;
    if (!file)
        return;
    inputs[count] = malloc(INPUT_BYTES);
    sizes[count] = fread(inputs[count], 1, INPUT_BYTES, file);
    count++;
    fclose(file);
}

static void
load_all(const char *path)
{
    char name[4096];
    DIR *folder = opendir(path);
    if (!folder) {
        load(path);
        return;
    }
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        load(name);
    }
    closedir(folder);
}

/* Replace `gone` bytes at `at` by `more` others. */
static void
splice(size_t at, size_t gone, const void *bytes, size_t more)
{
    if (at + gone > input_size || input_size - gone + more > INPUT_BYTES)
        return;
    memmove(input + at + more, input + at + gone, input_size - at - gone);
    memcpy(input + at, bytes, more);
    input_size += more - gone;
}

static void
mutate(uint64_t *seed)
{
    static const char *const words[] = {
        "\"", "\\", "{", "}", "[", "]", "]]", ",", ":", "0", "-", ".", "e", "E+", " ", "\x01", "\xff", "\xc3\xa9",
        "\\u00e9", "\\ud83d\\ude00", "\"a\":", "99999999999999999999", "0.00000000", "null", "true", "[[", "\"b\":[]",
        "\"s\":", "\"event\":\"data\"", "\"channel\":"};
    const char *word = words[check_random(seed) % (sizeof words / sizeof *words)];
    size_t at = check_random(seed) % (input_size + 1), span = check_random(seed) % 16;
    uint8_t byte = (uint8_t)check_random(seed), copy[16];
    switch (check_random(seed) % 6) {
    case 0: splice(at, 1, &byte, 1); break;
    case 1: splice(at, 0, word, strlen(word)); break;
    case 2: splice(at, 1, word, strlen(word)); break;
    case 3: splice(at, span, "", 0); break;
    case 4:
        if (at + span <= input_size) {
            memcpy(copy, input + at, span);
            splice(check_random(seed) % (input_size + 1), 0, copy, span);
        }
        break;
    default: { /* the end of another input */
        size_t other = check_random(seed) % count, from = check_random(seed) % (sizes[other] + 1);
        splice(at, input_size - at, inputs[other] + from, sizes[other] - from);
    }
    }
}

int
main(int argc, char **argv)
{
    long seconds = 0;
    uint64_t seed = 1, runs = 0;
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "-max_total_time=", 16) == 0)
            seconds = atol(argv[i] + 16);
        else if (strncmp(argv[i], "-seed=", 6) == 0)
            seed = (uint64_t)atol(argv[i] + 6);
        else if (strncmp(argv[i], "-artifact_prefix=", 17) == 0)
            prefix = argv[i] + 17;
        else if (argv[i][0] != '-')
            load_all(argv[i]);
    }
    if (__sanitizer_set_death_callback)
        __sanitizer_set_death_callback(keep_input);
    signal(SIGABRT, on_signal);
    CHECK(count > 0);
    atexit(on_exit_early);
    for (size_t i = 0; i < count; i++, runs++) {
        memcpy(input, inputs[i], input_size = sizes[i]);
        LLVMFuzzerTestOneInput(input, input_size);
    }
    struct timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        for (unsigned i = 0; i < 256; i++, runs++) {
            size_t from = check_random(&seed) % count;
            memcpy(input, inputs[from], input_size = sizes[from]);
            for (uint64_t times = 1 + check_random(&seed) % 6; times; times--)
                mutate(&seed);
            LLVMFuzzerTestOneInput(input, input_size);
        }
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (seconds && now.tv_sec - start.tv_sec < seconds);
    finished = 1;
    printf("Done %llu runs\n", (unsigned long long)runs);
    return 0;
}
