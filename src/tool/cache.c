/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/cache.h"

#include "tool/gpu.h"
#include "tool/progress.h"
#include "tool/trouble.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* The number behind the label in a file of "label number" lines, or the first number with label "".
 */
static uint64_t read_number(const char *path, const char *label, uint64_t otherwise)
{
    char line[256];
    uint64_t number = otherwise;
    FILE *file = fopen(path, "re");

    if (file == NULL)
        return otherwise;
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, label, strlen(label)) != 0)
            continue;
        if (sscanf(line + strlen(label), "%" SCNu64, &number) != 1)
            number = otherwise;
        break;
    }
    (void)fclose(file);
    return number;
}

uint64_t memory_available_bytes(void)
{
    uint64_t available = read_number("/proc/meminfo", "MemAvailable:", 1U << 20) << 10;
    uint64_t limit = read_number("/sys/fs/cgroup/memory.max", "", UINT64_MAX); /* or "max" */
    uint64_t used = read_number("/sys/fs/cgroup/memory.current", "", 0);
    uint64_t allowed = limit > used ? limit - used : 0;

    return available < allowed ? available : allowed;
}

/* A cache of that shape, with no memory yet. */
static struct cache shape(const struct model *model, uint32_t kind, uint32_t block_count)
{
    struct cache cache = {
        .model = model,
        .kind = kind,
        .region_count = model_region_count(model),
        .block_count = block_count,
        .block_bytes = model_block_bytes(model),
    };

    cache.length_bytes = (size_t)cache.region_count * block_count * cache.block_bytes;
    return cache;
}

/* Memory of the CUDA driver's. */
static enum lend_status map_driver(struct cache *made, struct lend_error *error)
{
    enum lend_status status = gpu_allocate(made->kind, made->length_bytes, &made->base, error);

    if (status != LEND_OK || made->kind != LEND_MEMORY_DEVICE)
        return status;
    made->window = malloc(made->block_bytes);
    if (made->window != NULL)
        return LEND_OK;
    gpu_free(made->kind, made->base);
    return trouble(error, LEND_E_NO_MEMORY, "no memory for a block of %u bytes", made->block_bytes);
}

enum lend_status cache_map(struct cache *cache, const struct model *model, uint32_t kind,
                           uint32_t block_count, struct lend_error *error)
{
    struct cache made = shape(model, kind, block_count);

    if (kind != LEND_MEMORY_SYSTEM) {
        enum lend_status status = map_driver(&made, error);

        if (status == LEND_OK)
            *cache = made;
        return status;
    }
    void *base = mmap(NULL, made.length_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return trouble_errno(error, "a cache of %zu bytes cannot be mapped", made.length_bytes);
    made.base = base;
    *cache = made;
    return LEND_OK;
}

enum lend_status cache_allocate(struct cache *cache, const struct model *model, uint32_t kind,
                                uint32_t block_count, struct lend_error *error)
{
    struct cache made = shape(model, kind, block_count);
    struct lend_storage_desc desc = LEND_STORAGE_DESC_INIT;
    struct lend_error cause;

    if (kind != LEND_MEMORY_SYSTEM)
        return cache_map(cache, model, kind, block_count, error);
    desc.length_bytes = made.length_bytes;
    desc.name = "lend-cache";
    if (lend_storage_create(&desc, &made.storage, &cause) != LEND_OK) {
        (void)fprintf(stderr, "lend: anonymous memory is lent, which no reader can map: %s\n",
                      cause.message);
        return cache_map(cache, model, kind, block_count, error);
    }
    made.base = lend_storage_address(made.storage);
    *cache = made;
    return LEND_OK;
}

void cache_unmap(struct cache *cache)
{
    if (cache->storage != NULL)
        lend_storage_destroy(cache->storage);
    else if (cache->base != NULL && cache->kind != LEND_MEMORY_SYSTEM)
        gpu_free(cache->kind, cache->base);
    else if (cache->base != NULL)
        (void)munmap(cache->base, cache->length_bytes); /* our own mapping: it cannot fail */
    free(cache->window);
    cache->window = NULL;
    cache->storage = NULL;
    cache->base = NULL;
}

enum lend_status cache_describe(const struct cache *cache, uint32_t region,
                                struct lend_region_desc *desc, struct lend_error *error)
{
    uint64_t region_bytes = (uint64_t)cache->block_count * cache->block_bytes;
    unsigned char *first = cache_block(cache, region, 0);

    desc->geometry.block_length_bytes = cache->block_bytes;
    desc->geometry.count = cache->block_count;
    if (cache->kind == LEND_MEMORY_DEVICE)
        return lend_memory_device((uintptr_t)first, region_bytes, 0, &desc->memory, error);
    if (cache->kind == LEND_MEMORY_PINNED)
        return lend_memory_pinned(first, region_bytes, &desc->memory, error);
    if (cache->storage == NULL)
        return lend_memory_system(first, region_bytes, &desc->memory, error);
    return lend_storage_describe(cache->storage, (uint64_t)(first - cache->base), region_bytes,
                                 desc, error);
}

unsigned char *cache_block(const struct cache *cache, uint32_t region, uint32_t block)
{
    size_t index = (size_t)region * cache->block_count + block;

    return cache->base + index * cache->block_bytes;
}

const unsigned char *cache_look(const struct cache *cache, uint32_t region, uint32_t block)
{
    if (cache->window == NULL)
        return cache_block(cache, region, block);
    gpu_get(cache->window, cache_block(cache, region, block), cache->block_bytes);
    return cache->window;
}

void cache_read(const struct cache *cache, unsigned char *to)
{
    if (cache->window == NULL)
        memcpy(to, cache->base, cache->length_bytes);
    else
        gpu_get(to, cache->base, cache->length_bytes);
}

/* Write a block: number `at` of the mark's region. */
static void fill_block(const struct cache *cache, uint32_t at, const struct mark *mark)
{
    unsigned char *block = cache_block(cache, mark->region, at);

    pattern_fill(cache->window != NULL ? cache->window : block, cache->block_bytes, mark);
    if (cache->window != NULL)
        gpu_put(block, cache->window, cache->block_bytes);
}

void cache_fill(const struct cache *cache, uint32_t owner, uint32_t generation)
{
    struct progress progress = progress_start("filling the cache", cache->region_count);

    for (uint32_t region = 0; region < cache->region_count; region++) {
        for (uint32_t block = 0; block < cache->block_count; block++) {
            struct mark mark = {owner, region, block, generation};

            fill_block(cache, block, &mark);
        }
        progress_step(&progress);
    }
    progress_end(&progress);
}

void cache_fill_blocks(const struct cache *cache, const struct blocks *blocks, const int32_t *marks,
                       const struct mark *mark)
{
    for (uint32_t region = cache->region_count; region-- > 0;) {
        for (uint32_t i = blocks->count; i-- > 0;) {
            struct mark own = {mark->owner, region, (uint32_t)marks[i], mark->generation};

            fill_block(cache, (uint32_t)blocks->numbers[i], &own);
        }
    }
}

static void set(const struct cache *cache, unsigned char *at, int byte, size_t bytes)
{
    if (cache->window != NULL)
        gpu_set(at, byte, bytes);
    else
        memset(at, byte, bytes);
}

void cache_set(const struct cache *cache, const struct blocks *blocks, int byte)
{
    if (blocks == NULL) {
        set(cache, cache->base, byte, cache->length_bytes);
        return;
    }
    for (uint32_t region = 0; region < cache->region_count; region++) {
        for (uint32_t i = 0; i < blocks->count; i++)
            set(cache, cache_block(cache, region, (uint32_t)blocks->numbers[i]), byte,
                cache->block_bytes);
    }
}

void cache_copy(const struct cache *to, const struct blocks *to_blocks, const struct cache *from,
                const struct blocks *from_blocks)
{
    for (uint32_t region = 0; region < from->region_count; region++) {
        for (uint32_t i = 0; i < from_blocks->count; i++) {
            unsigned char *there = cache_block(to, region, (uint32_t)to_blocks->numbers[i]);
            unsigned char *here = cache_block(from, region, (uint32_t)from_blocks->numbers[i]);

            if (to->window != NULL)
                gpu_copy(there, here, from->block_bytes);
            else
                memcpy(there, here, from->block_bytes);
        }
    }
    if (to->window != NULL)
        gpu_finish();
}

/* Say whose the first wrong word of the block is. */
static void tell(const unsigned char *block, size_t bytes, const struct mark *mark,
                 struct finding *finding)
{
    struct mark told = {0};
    size_t word = pattern_find_wrong(block, bytes, mark, &told);

    (void)snprintf(finding->text, sizeof finding->text,
                   "region %u block %u byte %zu is of owner %u region %u block %u generation %u, "
                   "not of owner %u generation %u",
                   mark->region, mark->block, word * sizeof(uint64_t), told.owner, told.region,
                   told.block, told.generation, mark->owner, mark->generation);
}

void cache_check(const struct cache *cache, const struct blocks *blocks, const int32_t *marks,
                 const struct mark *mark, uint64_t pieces, struct finding *out)
{
    *out = (struct finding){0};
    for (uint64_t piece = 0; piece < pieces; piece++) {
        uint32_t region = (uint32_t)(piece / blocks->count);
        uint64_t place = piece % blocks->count;
        struct mark own = {mark->owner, region, (uint32_t)marks[place], mark->generation};
        const unsigned char *block = cache_look(cache, region, (uint32_t)blocks->numbers[place]);
        size_t wrong = pattern_count_wrong(block, cache->block_bytes, &own);

        out->bytes += cache->block_bytes - wrong * sizeof(uint64_t);
        if (wrong == 0)
            continue;
        if (out->pieces++ == 0)
            tell(block, cache->block_bytes, &own, out);
    }
}
