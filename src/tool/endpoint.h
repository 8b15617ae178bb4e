/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TOOL_ENDPOINT_H
#define LEND_TOOL_ENDPOINT_H

#include "tool/models.h"

#include <lend/agent.h>
#include <stdbool.h>

/* What the two halves have in common: how their agents are made. */
struct endpoint {
    const struct model *model;
    const char *transports; /* by name, separated by commas */
    const char *paths;      /* that READs may take, by name, separated by commas; NULL: any */
    const char *directory;  /* of the socket; NULL: the library's default */
    uint32_t socket_mode;   /* its permission bits; 0: the library's default */
    bool is_verbose;        /* the library's log goes to stderr */
    uint32_t leases_max;    /* 0: the library's default, here and below */
    uint64_t slot_rest_ns;
};

enum lend_status endpoint_create(const struct endpoint *endpoint, const char *name,
                                 struct lend_agent **out, struct lend_error *error);

/* Room for the metadata and the tickets of the command's agents. */
enum { ENDPOINT_BYTES_MAX = 65536 };

#endif
