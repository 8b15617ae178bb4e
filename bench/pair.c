/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

const struct layout layouts[] = {
    {"64 KiB", 64 << 10, 4096},
    {"16 KiB", 16 << 10, 16384},
    {"4 KiB", 4 << 10, 16384},
    {"256 MiB", 256 << 20, 1},
};
const uint32_t layout_count = sizeof layouts / sizeof *layouts;

_Static_assert(sizeof layouts / sizeof *layouts <= LAYOUTS_MAX, "every layout has a place");

uint64_t memory_bytes(void)
{
    uint64_t most = 0;

    for (uint32_t i = 0; i < layout_count; i++)
        if (layouts[i].block_bytes * layouts[i].block_count > most)
            most = layouts[i].block_bytes * layouts[i].block_count;
    return most;
}

/* End the process with the reason, unless all is well. */
void check(enum lend_status status, const struct lend_error *error)
{
    if (status == LEND_OK)
        return;
    fprintf(stderr, "lend-bench-served: %s: %s\n", lend_status_name(status), error->message);
    exit(1);
}

void say(int fd, const void *bytes, size_t count)
{
    const char *next = bytes;

    for (ssize_t sent; count > 0; next += sent, count -= (size_t)sent) {
        sent = write(fd, next, count);
        if (sent <= 0)
            exit(1); /* the other process has ended, and said why */
    }
}

void hear(int fd, void *bytes, size_t count)
{
    char *next = bytes;

    for (ssize_t got; count > 0; next += got, count -= (size_t)got) {
        got = read(fd, next, count);
        if (got <= 0)
            exit(1); /* as above */
    }
}

uint64_t now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static int compare(const void *one, const void *other)
{
    uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;

    return (a > b) - (a < b);
}

uint64_t median(uint64_t *samples, size_t count)
{
    qsort(samples, count, sizeof *samples, compare);
    return samples[count / 2];
}

unsigned char *take_memory(uint64_t bytes, unsigned char fill)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED) {
        perror("lend-bench-served: memory");
        exit(1);
    }
    memset(memory, fill, bytes);
    return memory;
}

struct lend_agent *open_agent(const char *name, uint32_t ring_bytes)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_agent *agent = NULL;
    struct lend_error error;

    config.name = name;
    config.transports = "local";
    config.local_ring_bytes = ring_bytes;
    check(lend_agent_create(&config, &agent, &error), &error);
    return agent;
}

void register_layouts(struct lend_agent *agent, unsigned char *memory, uint32_t access,
                      struct lend_region **out)
{
    struct lend_region_desc descs[LAYOUTS_MAX];
    struct lend_error error;

    for (uint32_t i = 0; i < layout_count; i++) {
        const struct layout *layout = &layouts[i];

        lend_region_desc_init(&descs[i]);
        check(lend_memory_system(memory, layout->block_bytes * layout->block_count,
                                 &descs[i].memory, &error),
              &error);
        descs[i].geometry.block_length_bytes = layout->block_bytes;
        descs[i].geometry.count = layout->block_count;
        descs[i].access = access;
        descs[i].name = layout->name;
    }
    check(lend_region_register(agent, descs, layout_count, out, NULL, &error), &error);
}

void export_metadata(struct lend_agent *agent, struct hello *out)
{
    struct lend_error error;

    check(lend_metadata_export(agent, out->metadata, sizeof out->metadata, &out->metadata_bytes,
                               &error),
          &error);
}
