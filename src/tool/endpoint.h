/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TOOL_ENDPOINT_H
#define LEND_TOOL_ENDPOINT_H

#include "tool/models.h"

#include <lend/agent.h>
#include <stdbool.h>

/* What the two halves have in common: how their agents are made. */
struct endpoint {
    const struct model *model;
    uint32_t memory_kind;    /* of its cache: a lend_memory_kind, system, pinned or device */
    const char *transports;  /* by name, separated by commas; NULL: as the rest asks for */
    const char *paths;       /* that transfers may take, by name, with commas; NULL: any */
    const char *directory;   /* of the socket; NULL: the library's default */
    uint32_t socket_mode;    /* its permission bits; 0: the library's default */
    const char *listen;      /* an address of tcp; NULL: it listens nowhere */
    const char *advertise;   /* the one that others are told; NULL: that one */
    bool is_networked;       /* it fetches from others, or is found by them: tcp is opened */
    const char *secret_file; /* what it holds is shared with every peer; NULL: there is no secret */
    const char *secret_plugin;
    const char *ucx_devices; /* as in lend_agent_config, here and below */
    const char *ucx_transports;
    const char *ucx_library;
    const char *verbs_devices; /* NULL: verbs is not opened */
    bool is_verbose;           /* the library's log goes to stderr */
    uint32_t leases_max;       /* 0: the library's default, here and below */
    uint64_t slot_rest_ns;
    uint64_t connect_timeout_ns;
    uint64_t transfer_timeout_ns;
};

enum { ENDPOINT_TRANSPORTS_BYTES = 128, ENDPOINT_ADDRESS_BYTES = 64 };

/* Is the name one of those that commas part? NULL has none. */
bool endpoint_has_name(const char *names, const char *name);

/* The transports that it opens, to text, of ENDPOINT_TRANSPORTS_BYTES. Returns text. */
const char *endpoint_transports(const struct endpoint *endpoint, char *text);

enum lend_status endpoint_create(const struct endpoint *endpoint, const char *name,
                                 struct lend_agent **out, struct lend_error *error);

/* Room for the metadata and the tickets of the command's agents. */
enum { ENDPOINT_BYTES_MAX = 65536 };

#endif
