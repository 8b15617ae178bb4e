/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_MEMORY_MAPS_H
#define LEND_MEMORY_MAPS_H

#include <lend/status.h>

#include <stdbool.h>
#include <stdint.h>

/* One line of the kernel's list of mappings of this process, without its name. */
struct lend_mapping {
    uint64_t start;
    uint64_t end;
    char rights[5]; /* "rw-p": the last is s where all mappings of the file share the pages */
    uint64_t offset;
    uint32_t device_major;
    uint32_t device_minor;
    uint64_t inode; /* 0: of no file */
};

/* Told of one mapping; false: enough. */
typedef bool lend_maps_visit(void *context, const struct lend_mapping *mapping);

/* Tell of the mappings by ascending address, until there are no more or the visitor has enough; the
 * list is read no further than that. LEND_E_SYSTEM. */
enum lend_status lend_maps_walk(lend_maps_visit *visit, void *context, struct lend_error *error);

/* From which address on the next mapping matters. It only grows. */
typedef uint64_t lend_maps_next(const void *context);

/* As lend_maps_walk(), for a few addresses: mappings that end before the next that matters may be
 * left out, and of those told only the range and the rights are known. Where the kernel answers for
 * single addresses this costs the same however many mappings there are. */
enum lend_status lend_maps_walk_few(lend_maps_visit *visit, lend_maps_next *next, void *context,
                                    struct lend_error *error);

#endif
