/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TOOL_CACHE_H
#define LEND_TOOL_CACHE_H

#include "tool/models.h"
#include "tool/pattern.h"

#include <lend/storage.h>

/*
 * A KV cache as an inference engine has it: one piece of memory, in which the tensors of the model
 * follow one another. What the command lends is lend's storage, so that readers may map it; what it
 * does not lend is anonymous memory, made without lend. Memory of a GPU, or pinned for it, is made
 * without lend in any case.
 */
struct cache {
    const struct model *model;
    uint32_t kind;                /* a lend_memory_kind */
    unsigned char *base;          /* NULL: not mapped; of a GPU's memory its address there */
    unsigned char *window;        /* a block's worth of the host's, to see a GPU's blocks through */
    struct lend_storage *storage; /* what it lies in; NULL: anonymous memory, or a driver's */
    size_t length_bytes;
    uint32_t region_count;
    uint32_t block_count; /* in each region */
    uint32_t block_bytes;
};

/* The same blocks of every region: what is pulled, rewritten, checked. */
struct blocks {
    const int32_t *numbers;
    uint32_t count;
};

enum { CACHE_POISON = 0xDD };

/* What the machine could give away now, in bytes: MemAvailable, and what the control group still
 * allows. */
uint64_t memory_available_bytes(void);

/* kind is a lend_memory_kind: system, pinned or device. */
enum lend_status cache_map(struct cache *cache, const struct model *model, uint32_t kind,
                           uint32_t block_count, struct lend_error *error);
/* As cache_map(), but system memory in storage. Where that cannot be had it says so on stderr, and
 * maps. */
enum lend_status cache_allocate(struct cache *cache, const struct model *model, uint32_t kind,
                                uint32_t block_count, struct lend_error *error);
void cache_unmap(struct cache *cache);

/* Describe all blocks of a region for lend_region_register(), storage with the consent to share its
 * file. */
enum lend_status cache_describe(const struct cache *cache, uint32_t region,
                                struct lend_region_desc *desc, struct lend_error *error);

/* Where a block is; memory of a GPU is no processor's to follow. */
unsigned char *cache_block(const struct cache *cache, uint32_t region, uint32_t block);

/* The bytes of a block, for the processor, until the next call. */
const unsigned char *cache_look(const struct cache *cache, uint32_t region, uint32_t block);

/* The bytes of all blocks, to as much memory of the host. */
void cache_read(const struct cache *cache, unsigned char *to);

/* Fill every block with its mark, telling the user how far it is. */
void cache_fill(const struct cache *cache, uint32_t owner, uint32_t generation);

/* Fill those blocks: block i of the list gets the mark of block marks[i]. It goes from the last to
 * the first, and so comes towards a transfer of the same blocks that should have ended and has not.
 */
void cache_fill_blocks(const struct cache *cache, const struct blocks *blocks, const int32_t *marks,
                       const struct mark *mark);

/* Set every byte of those blocks, or with NULL of all. */
void cache_set(const struct cache *cache, const struct blocks *blocks, int byte);

/* Copy blocks of one cache to blocks of another of its kind, region by region: with memcpy, or as
 * the GPU's driver does. */
void cache_copy(const struct cache *to, const struct blocks *to_blocks, const struct cache *from,
                const struct blocks *from_blocks);

/* What a check found wrong. */
struct finding {
    uint64_t bytes;  /* that are right */
    uint64_t pieces; /* that are wrong in any word */
    char text[160];  /* the first of them; "" if all are right */
};

/* Check the leading pieces, region by region, of those blocks against the marks that
 * cache_fill_blocks() would have given them. */
void cache_check(const struct cache *cache, const struct blocks *blocks, const int32_t *marks,
                 const struct mark *mark, uint64_t pieces, struct finding *out);

#endif
