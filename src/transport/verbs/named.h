/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TRANSPORT_VERBS_NAMED_H
#define LEND_TRANSPORT_VERBS_NAMED_H

#include "transport/verbs/door.h"

/*
 * What a user names of a device: "mlx5_0", "mlx5_0:1" (a port of it), "mlx5_0:1:3" (and a GID by
 * its index there), "mlx5_0:1:10.0.0.1" or "mlx5_0:1:fe80::1" (and a GID by its address).
 */

struct lend_verbs_nic;
struct lend_verbs_gid_row;
struct lend_verbs_port;

struct lend_verbs_named {
    char device[LEND_VERBS_NAME_BYTES];
    uint8_t port;   /* 0: any */
    bool has_index; /* the GID is named by its index, */
    bool has_gid;   /* or by what it is; else it is ours to choose */
    uint8_t index;
    uint8_t gid[LEND_VERBS_GID_BYTES];
};

/* LEND_E_INVALID: it makes no sense. */
enum lend_status lend_verbs_named_parse(const char *text, struct lend_verbs_named *out,
                                        struct lend_error *error);

/* Is there what the user named of that NIC, whose ports are locked? LEND_E_ABSENT: no such port, or
 * no such GID; INVALID: a GID that does not serve. With the values, and the remedy. */
enum lend_status lend_verbs_named_check(const struct lend_verbs_nic *nic, struct lend_error *error);

/* May that GID of that port be used? Where none was named any of RoCE v2 may, or of InfiniBand. */
bool lend_verbs_named_allows(const struct lend_verbs_nic *nic, const struct lend_verbs_port *port,
                             const struct lend_verbs_gid_row *row);

#endif
