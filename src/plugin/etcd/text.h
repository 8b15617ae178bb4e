/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_PLUGIN_ETCD_TEXT_H
#define LEND_PLUGIN_ETCD_TEXT_H

#include <lend/status.h>

#include <stdbool.h>
#include <stddef.h>

/* Texts that the plugin takes and makes. */

enum { ENDPOINTS_MAX = 16, ENDPOINT_BYTES_MAX = 255, PREFIX_BYTES_MAX = 200 };

/* A url, taken apart. */
struct place {
    bool is_tls;
    unsigned endpoint_count;
    char endpoints[ENDPOINTS_MAX][ENDPOINT_BYTES_MAX + 1]; /* "HOST:PORT" */
    char prefix[PREFIX_BYTES_MAX + 16];                    /* "lend/agents/" */
};

/* LEND_E_UNSUPPORTED: not one of etcd. LEND_E_INVALID: it makes no sense. */
enum lend_status place_parse(struct place *out, const char *url, struct lend_error *error);

/* Say what is wrong; what of it is not printable becomes '?'. Returns the status. */
enum lend_status fail(struct lend_error *error, enum lend_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Base64 of RFC 4648, with a NUL; NULL: no memory. Free it. */
char *base64_encode(const void *bytes, size_t count);
/* The bytes, with a NUL behind them that is not counted; NULL: no memory, or it is none. Free
 * them. */
unsigned char *base64_decode(const char *text, size_t length, size_t *out_count);

#endif
