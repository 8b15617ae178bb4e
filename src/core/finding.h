/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_FINDING_H
#define LEND_CORE_FINDING_H

#include "core/found.h"
#include "core/roster.h"

/* An entry of a directory that was looked at. */
struct lend_finding {
    const char *name;         /* that was asked for */
    struct lend_found *found; /* what it says; NULL: not yet, or nothing good */
    struct lend_roster_row row;
    enum lend_status status;
    struct lend_error error;
};

/* Fill in found and row, if those bytes are what an agent of that name would publish.
 * LEND_E_CORRUPT, LEND_E_VERSION, LEND_E_NO_MEMORY: why not is in finding->error. */
enum lend_status lend_finding_judge(struct lend_finding *finding, const char *name,
                                    const void *bytes, uint64_t count);

#endif
