/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COMPAT_NIXL_INDEX_H
#define COMPAT_NIXL_INDEX_H

#include "lists.h"

/*
 * What is registered, by its type of memory, its device and its address; ranges may nest and
 * overlap, and one may be there several times.
 *
 * Each type and device has a *space* of its own. In it the ranges are sorted by address, then by
 * length, and cut into chunks, so that neither the order in which they come and go nor their number
 * matters much to what one of them costs. Each chunk knows the furthest end of its ranges: that is
 * what finds the range that covers a descriptor though many others begin in between.
 */
enum { COMPAT_CHUNK_ENTRIES = 128 };

struct compat_entry {
    uintptr_t address;
    size_t length_bytes;
    void *region;    /* the registration's; NULL in a peer's index */
    bool is_leaving; /* it is being deregistered */
};

struct compat_chunk {
    struct compat_entry *at; /* COMPAT_CHUNK_ENTRIES of them */
    uint32_t count;          /* > 0 */
    uintptr_t first_address; /* of at[0]: a search looks at no other chunk than the one it finds */
    uintptr_t end_max;       /* one past the last byte of all */
    bool is_apart;           /* none reaches into the one behind it, so that the last ends last */
};

struct compat_space {
    nixl_capi_mem_type_t type;
    uint64_t device;
    struct compat_chunk *chunks;
    size_t chunk_count;
    size_t chunk_capacity;
    size_t count; /* of entries */
};

struct compat_index {
    struct compat_space *spaces;
    size_t space_count;
    size_t space_capacity;
    size_t count; /* of entries, in all */
};

/* Where an entry is, until the index changes. */
struct compat_place {
    struct compat_space *space;
    size_t chunk;
    uint32_t at;
};

void compat_index_fini(struct compat_index *index);

/* False: out of memory. desc does not wrap around. */
bool compat_index_add(struct compat_index *index, nixl_capi_mem_type_t type,
                      const struct compat_desc *desc, void *region);

/* The last entry that is exactly that descriptor, and has that region (NULL: whichever it has);
 * false: there is none. */
bool compat_index_find(const struct compat_index *index, nixl_capi_mem_type_t type,
                       const struct compat_desc *desc, const void *region,
                       struct compat_place *out);
struct compat_entry *compat_index_at(const struct compat_place *place);
void compat_index_remove(struct compat_index *index, const struct compat_place *place);

/* What is registered of that type and device; NULL: nothing ever was. */
const struct compat_space *compat_index_space(const struct compat_index *index,
                                              nixl_capi_mem_type_t type, uint64_t device);

/* An entry that the descriptor lies within, whole; NULL: there is none. */
const struct compat_entry *compat_space_cover(const struct compat_space *space,
                                              const struct compat_desc *desc);

#endif
