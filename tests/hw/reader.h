/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_HW_READER_H
#define LEND_TESTS_HW_READER_H

#include <lend/lend.h>

#include <stdbool.h>

/* The reader of the hardware tests: a process of its own, which does what it is told by one pipe,
 * and answers by another. */

enum { METADATA_MAX = 16384 };

struct order {
    uint32_t direction; /* 0: the end */
    uint32_t memory;    /* its own: a lend_memory_kind */
    uint64_t region_id;
    uint64_t block_bytes;
    uint32_t block_count; /* every second of the region's, which has twice as many */
    uint32_t rounds;
    uint32_t seed;          /* of the pattern in the region; of a WRITE, that to be written */
    uint32_t wants_ceiling; /* tell what one copy of as many bytes takes */
    char paths[32];
    uint64_t metadata_bytes;
    uint64_t ticket_bytes;
    uint8_t metadata[METADATA_MAX];
    uint8_t ticket[LEND_TICKET_BYTES_MAX];
};

struct answer {
    int32_t status;
    uint32_t is_wrong; /* a byte is not what it shall be */
    uint64_t best_ns;  /* of the rounds */
    uint64_t ceiling_ns;
    uint64_t post_ns; /* of the same */
    char path[32];
    char message[240];
};

/* The byte of a region that has that pattern. */
static inline uint8_t pattern_at(uint64_t offset, uint32_t seed)
{
    return (uint8_t)(offset * 7 + offset / 251 + offset / 65536 * 13 + seed);
}

uint64_t now_ns(void);
/* Until the other end is closed. */
int read_on_order(const char *directory);

#endif
