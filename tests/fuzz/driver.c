/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Goal: what a fuzz target has met runs as an ordinary test, with any compiler.
 * Method: each file of the command line, or of a folder there, is given to the target as it is, cut
 * at every length, with every single bit flipped (if it is short), and with seeded random
 * mutations: the same ones in every run. Inputs are copies of exactly their size, so that
 * sanitizers see a read past the end.
 *
 *     NAME_fuzz [--seed N] [--random N] FILE-OR-FOLDER ...
 */

#include "fuzz/fuzz.h"

#include <dirent.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    FLIPPED_WHOLE_MAX = 2048, /* bytes of an input in which every bit is flipped */
    INPUT_BYTES_MAX = 1 << 20,
    GROWTH_MAX = 256,
};

static struct {
    uint64_t seed;
    unsigned long random_count;
    unsigned long files;
    unsigned long runs;
} options = {.seed = 1, .random_count = 1000};

/* What is being tried, for the report of a broken invariant. */
static struct {
    const char *path;
    const char *how;
    unsigned long number;
} current;

static void report(int signal_number)
{
    (void)signal_number;
    dprintf(STDERR_FILENO, "while trying %s, %s %lu, seed %llu\n", current.path, current.how,
            current.number, (unsigned long long)options.seed);
}

/* xorshift64*: small, and the same everywhere. */
static uint64_t draw(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(0x2545f4914f6cdd1d);
}

static size_t draw_below(uint64_t *state, size_t limit)
{
    return (size_t)(draw(state) % limit);
}

static void try_input(const uint8_t *bytes, size_t count, const char *how, unsigned long number)
{
    uint8_t *copy = copy_bytes(bytes, count);

    current.how = how;
    current.number = number;
    CHECK(LLVMFuzzerTestOneInput(copy, count) == 0);
    options.runs++;
    free(copy);
}

static void try_cuts(const uint8_t *bytes, size_t count)
{
    for (size_t length = 0; length < count; length++)
        try_input(bytes, length, "cut at", length);
}

/* Bits of the whole input, or of its head and tail if it is long. */
static void try_flips(uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (i >= FLIPPED_WHOLE_MAX / 2 && count - i > FLIPPED_WHOLE_MAX / 2)
            i = count - FLIPPED_WHOLE_MAX / 2;
        for (unsigned bit = 0; bit < 8; bit++) {
            bytes[i] ^= (uint8_t)(1u << bit);
            try_input(bytes, count, "flipped bit", 8 * i + bit);
            bytes[i] ^= (uint8_t)(1u << bit);
        }
    }
}

/* Change bytes, which has room for GROWTH_MAX more; returns how many there are then. */
static size_t mutate_once(uint8_t *bytes, size_t count, size_t room, uint64_t *state)
{
    static const uint8_t edges[] = {0x00, 0x01, 0x7f, 0x80, 0xff, 0x20, 0x40};
    size_t at = count == 0 ? 0 : draw_below(state, count);
    size_t span = 1 + draw_below(state, 16);

    if (span > count - at)
        span = count - at;
    switch (draw_below(state, 5)) {
    case 0: /* flip a bit */
        if (count > 0)
            bytes[at] ^= (uint8_t)(1u << draw_below(state, 8));
        return count;
    case 1: /* values at the edges */
        memset(bytes + at, edges[draw_below(state, sizeof edges)], span);
        return count;
    case 2: /* chance */
        for (size_t i = 0; i < span; i++)
            bytes[at + i] = (uint8_t)draw(state);
        return count;
    case 3: /* leave some out */
        memmove(bytes + at, bytes + at + span, count - at - span);
        return count - span;
    default: /* say some twice */
        if (count + span > room)
            return count;
        memmove(bytes + at + span, bytes + at, count - at);
        return count + span;
    }
}

static void try_mutations(const uint8_t *bytes, size_t count)
{
    size_t room = count + GROWTH_MAX;
    uint8_t *changed = malloc(room);

    CHECK(changed != NULL);
    for (unsigned long number = 0; number < options.random_count; number++) {
        uint64_t state = (options.seed << 32) ^ (number + 1) * UINT64_C(0x9e3779b97f4a7c15);
        size_t length = count;

        memcpy(changed, bytes, count);
        for (size_t steps = 1 + draw_below(&state, 4); steps > 0; steps--)
            length = mutate_once(changed, length, room, &state);
        try_input(changed, length, "mutation", number);
    }
    free(changed);
}

static void try_file(const char *path)
{
    uint8_t *bytes = malloc(INPUT_BYTES_MAX);
    FILE *file = fopen(path, "rb");

    if (bytes == NULL || file == NULL) {
        perror(path);
        abort();
    }
    size_t count = fread(bytes, 1, INPUT_BYTES_MAX, file);
    CHECK(feof(file));
    fclose(file);

    current.path = path;
    options.files++;
    try_input(bytes, count, "as it is", 0);
    try_cuts(bytes, count);
    try_flips(bytes, count);
    try_mutations(bytes, count);
    free(bytes);
}

static void try_path(const char *path)
{
    struct dirent **entries;
    struct stat status;

    if (stat(path, &status) == 0 && !S_ISDIR(status.st_mode)) {
        try_file(path);
        return;
    }
    int count = scandir(path, &entries, NULL, alphasort);
    if (count < 0) {
        perror(path);
        abort();
    }
    for (int i = 0; i < count; i++) {
        char inside[4096];

        if (entries[i]->d_name[0] != '.') {
            (void)snprintf(inside, sizeof inside, "%s/%s", path, entries[i]->d_name);
            try_file(inside);
        }
        free(entries[i]);
    }
    free(entries);
}

int main(int argc, char **argv)
{
    (void)signal(SIGABRT, report);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            options.seed = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--random") == 0 && i + 1 < argc)
            options.random_count = strtoul(argv[++i], NULL, 10);
        else
            try_path(argv[i]);
    }
    printf("%lu files, %lu runs\n", options.files, options.runs);
    if (options.files == 0) {
        fprintf(stderr, "no input: give files or folders\n");
        return 1;
    }
    return 0;
}
