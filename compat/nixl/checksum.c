/* SPDX-License-Identifier: Apache-2.0 */
#include "blob.h"

#include <endian.h>
#include <pthread.h>
#include <string.h>

/* The checksum of metadata: CRC-32C, by Castagnoli's polynomial, as in RFC 3720. */

/* --- any processor: eight bytes at a time, by tables that are made for the first --- */

static uint32_t tables[8][256];

static void make_tables(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;

        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? UINT32_C(0x82f63b78) : 0);
        tables[0][i] = crc;
    }
    for (uint32_t i = 0; i < 256; i++)
        for (int k = 1; k < 8; k++)
            tables[k][i] = tables[k - 1][i] >> 8 ^ tables[0][tables[k - 1][i] & 255];
}

uint32_t compat_crc32c_portable(const void *bytes, size_t count)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    const uint8_t *at = bytes;
    uint32_t crc = UINT32_MAX;

    (void)pthread_once(&once, make_tables);
    for (; count >= 8; at += 8, count -= 8) {
        uint64_t word;

        memcpy(&word, at, sizeof word);
        word = le64toh(word) ^ crc;
        crc = 0;
        for (int k = 0; k < 8; k++)
            crc ^= tables[7 - k][word >> (8 * k) & 255];
    }
    for (; count > 0; at++, count--)
        crc = crc >> 8 ^ tables[0][(crc ^ *at) & 255];
    return ~crc;
}

/* --- processors that have an instruction for it --- */

#if defined(__x86_64__)

__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(const void *bytes, size_t count)
{
    const uint8_t *at = bytes;
    uint64_t wide = UINT32_MAX;

    for (; count >= sizeof wide; at += sizeof wide, count -= sizeof wide) {
        uint64_t word;

        memcpy(&word, at, sizeof word);
        wide = __builtin_ia32_crc32di(wide, word);
    }
    uint32_t crc = (uint32_t)wide;
    for (; count > 0; at++, count--)
        crc = __builtin_ia32_crc32qi(crc, *at);
    return ~crc;
}

uint32_t compat_crc32c(const void *bytes, size_t count)
{
    if (__builtin_cpu_supports("sse4.2"))
        return crc32c_sse42(bytes, count);
    return compat_crc32c_portable(bytes, count);
}

#else

uint32_t compat_crc32c(const void *bytes, size_t count)
{
    return compat_crc32c_portable(bytes, count);
}

#endif
