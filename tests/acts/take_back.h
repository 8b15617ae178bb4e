/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_ACTS_TAKE_BACK_H
#define LEND_TESTS_ACTS_TAKE_BACK_H

#include "acts.h"

/*
 * The act of taking back: an owner, in a process of its own, revokes the lease of a running
 * transfer at a random moment and rewrites the blocks at once.
 */

struct take_back_plan {
    uint32_t iterations;
    const char *path;    /* that its reads take */
    bool rewrites_first; /* the planted bug: the lease's word is stored after the rewrite */
    struct acts_chance chance;
};

struct take_back_result {
    uint32_t reads;
    uint32_t writes;
    uint32_t revoked;      /* transfers that failed for it */
    uint32_t caught;       /* of them, with some blocks moved and some not */
    uint32_t wrong_status; /* failed for anything but REVOKED or STALE */
    uint32_t foreign;      /* reads that reported success over words of another generation */
    uint32_t
        foreign_leading;  /* failed reads whose proven blocks have words of another generation */
    uint32_t lost;        /* writes that reported success and were not in place at the revoke */
    uint32_t landed_late; /* writes that landed after revoke returned */
    uint32_t read_late;   /* reads that wrote to their destination after they were complete */
};

/* False: the machinery failed, and said so on stderr. */
bool take_back_run(const struct take_back_plan *plan, struct take_back_result *out);

#endif
