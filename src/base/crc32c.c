/* SPDX-License-Identifier: Apache-2.0 */
#include "base/crc32c.h"

#include <pthread.h>
#include <string.h>

/* Castagnoli's polynomial, bit-reversed. */
#define POLYNOMIAL UINT32_C(0x82f63b78)

enum { SLICES = 8 };

/* tables[k][b]: what byte b does to the checksum when k bytes follow it. */
static uint32_t tables[SLICES][256];
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

static void make_tables(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;

        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ ((crc & 1) * POLYNOMIAL);
        tables[0][byte] = crc;
    }
    for (int slice = 1; slice < SLICES; slice++) {
        for (int byte = 0; byte < 256; byte++) {
            uint32_t before = tables[slice - 1][byte];

            tables[slice][byte] = (before >> 8) ^ tables[0][before & 0xff];
        }
    }
}

uint32_t lend_crc32c_portable(uint32_t crc, const void *bytes, size_t count)
{
    const uint8_t *next = bytes;

    (void)pthread_once(&tables_once, make_tables);
    crc = ~crc;
    for (; count >= SLICES; count -= SLICES, next += SLICES) {
        uint32_t low = crc ^ ((uint32_t)next[0] | (uint32_t)next[1] << 8 | (uint32_t)next[2] << 16 |
                              (uint32_t)next[3] << 24);

        crc = tables[7][low & 0xff] ^ tables[6][(low >> 8) & 0xff] ^ tables[5][(low >> 16) & 0xff] ^
              tables[4][low >> 24] ^ tables[3][next[4]] ^ tables[2][next[5]] ^ tables[1][next[6]] ^
              tables[0][next[7]];
    }
    for (; count > 0; count--)
        crc = (crc >> 8) ^ tables[0][(crc ^ *next++) & 0xff];
    return ~crc;
}

#if defined(__x86_64__)

__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t crc, const void *bytes,
                                                               size_t count)
{
    const uint8_t *next = bytes;
    uint64_t wide = ~crc;

    for (; count >= sizeof wide; count -= sizeof wide, next += sizeof wide) {
        uint64_t word;

        memcpy(&word, next, sizeof word);
        wide = __builtin_ia32_crc32di(wide, word);
    }
    crc = (uint32_t)wide;
    for (; count > 0; count--)
        crc = __builtin_ia32_crc32qi(crc, *next++);
    return ~crc;
}

uint32_t lend_crc32c(uint32_t crc, const void *bytes, size_t count)
{
    if (__builtin_cpu_supports("sse4.2"))
        return crc32c_sse42(crc, bytes, count);
    return lend_crc32c_portable(crc, bytes, count);
}

#else

uint32_t lend_crc32c(uint32_t crc, const void *bytes, size_t count)
{
    return lend_crc32c_portable(crc, bytes, count);
}

#endif
