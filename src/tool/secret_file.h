/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TOOL_SECRET_FILE_H
#define LEND_TOOL_SECRET_FILE_H

#include <lend/status.h>
#include <stdint.h>

enum { SECRET_BYTES_MIN = 16, SECRET_BYTES_MAX = 64 };

struct secret {
    uint32_t count;
    uint8_t bytes[SECRET_BYTES_MAX + 2]; /* one more than is allowed, and a newline */
};

/* Read a secret; a newline behind it is no part of it. LEND_E_ACCESS: others may read or write the
 * file, or we may not. LEND_E_INVALID: it holds too little or too much. */
enum lend_status secret_read(const char *path, struct secret *out, struct lend_error *error);

void secret_wipe(struct secret *secret);

#endif
