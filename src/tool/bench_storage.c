/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/bench_pair.h"

#include "tool/pattern.h"

#include <sys/mman.h>
#include <unistd.h>

enum { CELL_BYTES = 512 };

/* Weak: a library without storage lends memory of our own, and "local/mapped" says why not. */
#pragma weak lend_storage_create
#pragma weak lend_storage_describe
#pragma weak lend_storage_address
#pragma weak lend_storage_fd
#pragma weak lend_storage_destroy

void lent_open(struct lent *lent, uint64_t bytes)
{
    struct lend_storage_desc desc = LEND_STORAGE_DESC_INIT;
    struct lend_error error;

    *lent = (struct lent){.bytes = bytes, .fd = -1};
    if (lend_storage_create != NULL) {
        desc.length_bytes = bytes;
        must(lend_storage_create(&desc, &lent->storage, &error), &error);
        lent->fd = lend_storage_fd(lent->storage);
        lent->address = lend_storage_address(lent->storage);
    } else {
        lent->fd = memfd_create("lend-bench", MFD_CLOEXEC);
        must_sys(lent->fd >= 0 && ftruncate(lent->fd, (off_t)bytes) == 0, "memory to lend");
        lent->address = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, lent->fd, 0);
        must_sys((void *)lent->address != MAP_FAILED, "memory to lend");
    }
    for (uint64_t at = 0; at + CELL_BYTES <= bytes; at += CELL_BYTES) {
        uint64_t cell = at / CELL_BYTES;
        struct mark mark = {.region = (uint32_t)(cell / PATTERN_BLOCKS_MAX),
                            .block = (uint32_t)(cell % PATTERN_BLOCKS_MAX)};

        pattern_fill(lent->address + at, CELL_BYTES, &mark);
    }
}

void lent_describe(const struct lent *lent, struct lend_region_desc *desc, uint64_t bytes)
{
    struct lend_error error;

    if (lent->storage != NULL)
        must(lend_storage_describe(lent->storage, 0, bytes, desc, &error), &error);
    else
        must(lend_memory_system(lent->address, bytes, &desc->memory, &error), &error);
}

void lent_close(struct lent *lent)
{
    if (lent->storage != NULL) {
        lend_storage_destroy(lent->storage);
    } else {
        (void)munmap(lent->address, lent->bytes);
        (void)close(lent->fd);
    }
    *lent = (struct lent){.fd = -1};
}
