/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TRANSPORT_VERBS_ATTACH_H
#define LEND_TRANSPORT_VERBS_ATTACH_H

#include "transport/verbs/registration.h"

/*
 * One range of memory on one NIC: its memory regions, in pieces where the NIC's limit is below. No
 * locks; of registration.c.
 */

enum { LEND_VERBS_PIECES_MAX = 65536 };

struct lend_verbs_range {
    uint64_t address;
    uint64_t bytes;
    uint32_t kind; /* ::lend_memory_kind */
    int32_t device;
    unsigned access; /* LEND_VERBS_LOCAL_WRITE, ...; without those that are not the NIC's */
};

/* Device memory as dma-buf, made once for all NICs: with the driver's default, and by PCIe. */
struct lend_verbs_exports {
    struct {
        bool is_tried;
        int fd; /* -1: it could not be made, and error says why */
        struct lend_error error;
    } by_flag[2];
    uint64_t start; /* the page that it begins with */
};

struct lend_verbs_attachment {
    enum lend_verbs_means means; /* 0: it is not there */
    bool can_bind;               /* windows */
    uint64_t address;
    uint64_t bytes;
    uint64_t base;        /* the page that it begins with: */
    uint64_t piece_bytes; /* pieces end at multiples of this behind it */
    uint32_t piece_count;
    struct lend_verbs_mr **pieces; /* NULL: given back already */
    struct lend_error refusal;     /* status LEND_OK: it is there by the best means */
};

void lend_verbs_exports_init(struct lend_verbs_exports *exports, const struct lend_verbs_range *of);
void lend_verbs_exports_fini(struct lend_verbs_exports *exports);

/* Register it; exports are for memory of a GPU. On failure out->means is 0, and out->refusal says
 * why, as does the status. */
enum lend_status lend_verbs_attach(const struct lend_verbs_nic *nic,
                                   const struct lend_verbs_range *range,
                                   struct lend_verbs_exports *exports,
                                   struct lend_verbs_attachment *out);
/* Memory of a GPU, by a dma-buf with that flag alone. */
enum lend_status lend_verbs_attach_export(const struct lend_verbs_nic *nic,
                                          const struct lend_verbs_range *range,
                                          struct lend_verbs_exports *exports, unsigned flag,
                                          struct lend_verbs_attachment *out,
                                          struct lend_error *error);
/* Deregister what is there. LEND_E_BUSY: the NIC keeps some; it may be called again. */
enum lend_status lend_verbs_detach(const struct lend_verbs_nic *nic,
                                   struct lend_verbs_attachment *attachment,
                                   struct lend_error *error);
/* Free the memory of it, in a forked child or when all is given back. */
void lend_verbs_attachment_forget(struct lend_verbs_attachment *attachment);

/* The region that the address lies in, from where it goes, and up to where; NULL: not here. */
struct lend_verbs_mr *lend_verbs_attachment_at(const struct lend_verbs_attachment *attachment,
                                               uint64_t address, uint64_t *out_start,
                                               uint64_t *out_end);

/* May this process pin so much more? LEND_E_LIMIT, with the values and the remedy. What cannot be
 * asked for is no obstacle. */
enum lend_status lend_verbs_check_memlock(uint64_t bytes, struct lend_error *error);

#endif
