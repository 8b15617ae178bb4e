/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/bench_pair.h"

#include "tool/pattern.h"

enum { CELL_BYTES = 512 };

void lent_open(struct lent *lent, uint64_t bytes)
{
    struct lend_storage_desc desc = LEND_STORAGE_DESC_INIT;
    struct lend_error error;

    desc.length_bytes = bytes;
    *lent = (struct lent){.bytes = bytes};
    must(lend_storage_create(&desc, &lent->storage, &error), &error);
    lent->address = lend_storage_address(lent->storage);
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

    must(lend_storage_describe(lent->storage, 0, bytes, desc, &error), &error);
}

void lent_close(struct lent *lent)
{
    lend_storage_destroy(lent->storage);
    *lent = (struct lent){0};
}
