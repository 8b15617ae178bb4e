/* SPDX-License-Identifier: Apache-2.0 */
#include "core/sums.h"

#include "base/crc32c.h"

#include <endian.h>
#include <string.h>

void lend_sums_stand(struct lend_cursor *cursor, struct lend_sums_place *place, const void *sums,
                     uint64_t bytes)
{
    place->extent = lend_extent_of_bytes((uint64_t)(uintptr_t)sums, bytes);
    place->run = (struct lend_run){.first = 0, .count = 1};
    lend_cursor_init(cursor, &place->extent, 1, &place->run, 1);
}

/* Checksum at most max bytes of the stream; returns how many there were. */
static uint64_t add(struct lend_cursor *cursor, uint64_t max, uint32_t *crc)
{
    struct lend_segment segment;

    if (!lend_cursor_next(cursor, max, &segment))
        return 0;
    *crc = lend_crc32c(*crc, (const void *)(uintptr_t)segment.address, segment.length_bytes);
    return segment.length_bytes;
}

bool lend_sums_make(struct lend_sums *sums, struct lend_cursor *cursor, uint64_t bytes)
{
    for (uint64_t done = 0; sums->made < sums->count && done < bytes;) {
        if (sums->left == 0) {
            sums->left = lend_sums_unit_bytes(cursor);
            sums->crc = 0;
        }
        uint64_t here =
            add(cursor, sums->left < bytes - done ? sums->left : bytes - done, &sums->crc);

        sums->left -= here;
        done += here;
        if (sums->left == 0) {
            uint32_t sum = htole32(sums->crc);

            memcpy(sums->bytes + 4 * (size_t)sums->made++, &sum, sizeof sum);
        }
    }
    return sums->made == sums->count;
}

uint32_t lend_sums_of_unit(struct lend_cursor *cursor)
{
    uint32_t crc = 0;

    for (uint64_t left = lend_sums_unit_bytes(cursor); left > 0;)
        left -= add(cursor, left, &crc);
    return crc;
}
