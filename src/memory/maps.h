/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_MEMORY_MAPS_H
#define LEND_MEMORY_MAPS_H

#include <lend/status.h>

#include <pthread.h>
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

/*
 * The list, kept open where the kernel answers for single addresses (Linux 6.11), as opening it
 * costs ten times what an answer does. An open list is of the process that opened it, for good, so
 * whoever keeps one must not use it after a fork. Where a program closes descriptors that are not
 * its own, no answer comes, and the list is opened anew; we do not close what is the file that we
 * opened no more. Not looked for: that it put another process's list in that very place.
 */
struct lend_maps {
    pthread_mutex_t lock; /* a leaf */
    int fd;               /* -1: not open */
    uint64_t device;      /* what file it was when we opened it */
    uint64_t inode;
};

void lend_maps_init(struct lend_maps *maps);
/* `forked`: in a child, which has a copy. */
void lend_maps_fini(struct lend_maps *maps, bool forked);

/* As lend_maps_walk(), for a few addresses: mappings that end before the next that matters may be
 * left out, and of those told only the range and the rights are known. Where the kernel answers for
 * single addresses this costs the same however many mappings there are. `maps` may be NULL: the
 * list is opened, and closed again. */
enum lend_status lend_maps_walk_few(struct lend_maps *maps, lend_maps_visit *visit,
                                    lend_maps_next *next, void *context, struct lend_error *error);

#endif
