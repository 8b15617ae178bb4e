/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TOOL_EXPORT_FILE_H
#define LEND_TOOL_EXPORT_FILE_H

#include "tool/endpoint.h"

#include <lend/discovery.h>
#include <lend/lease.h>

/*
 * The file by which `lend serve` tells `lend pull` of itself: JSON, with the bytes of metadata and
 * ticket in base64. Whoever can read it can use the lease, so only its owner can.
 */
struct export_file {
    char model[64];
    uint32_t owner;      /* process id, as the pattern has it */
    uint32_t generation; /* of the pattern */
    uint32_t metadata_bytes;
    uint32_t ticket_bytes;
    uint8_t metadata[ENDPOINT_BYTES_MAX];
    uint8_t ticket[LEND_TICKET_BYTES_MAX];
};

/* Write it under another name and rename it, so that it is there whole or not at all. */
enum lend_status export_file_write(const char *path, const struct export_file *file,
                                   struct lend_error *error);

/* LEND_E_ABSENT: there is no such file. LEND_E_CORRUPT: it is not what serve writes. */
enum lend_status export_file_read(const char *path, struct export_file *out,
                                  struct lend_error *error);

/* The same without a file: as the attachment of the agent that serves, and as what was found of it.
 * `where` is for messages. */
enum lend_status export_file_attach(struct lend_agent *agent, const struct export_file *file,
                                    struct lend_error *error);
enum lend_status export_file_find(const char *where, const struct lend_found *found,
                                  struct export_file *out, struct lend_error *error);

/* The name of an agent that serves, unless its user chose another. */
#define SERVE_NAME_DEFAULT "owner"

#endif
