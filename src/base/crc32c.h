/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_BASE_CRC32C_H
#define LEND_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* CRC-32C (Castagnoli; RFC 3720, appendix B.4) of count bytes, continuing from crc (0 to begin). */
uint32_t lend_crc32c(uint32_t crc, const void *bytes, size_t count);

/* The same without the processor's own instruction; lend_crc32c() takes this where there is none.
 */
uint32_t lend_crc32c_portable(uint32_t crc, const void *bytes, size_t count);

#endif
