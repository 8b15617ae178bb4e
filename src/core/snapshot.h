/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_SNAPSHOT_H
#define LEND_CORE_SNAPSHOT_H

#include "core/agent.h"

/*
 * What an agent tells of itself at one time: its metadata, and behind it its attachment. Whoever
 * asks for it while nothing changes shares one; askers make us keep at most LEND_SNAPSHOTS_MAX
 * different ones, however slow they are.
 */

enum { LEND_SNAPSHOTS_MAX = 4 };

struct lend_snapshot {
    struct lend_list link; /* in lend_agent::snapshots */
    uint32_t references;   /* agent's lock */
    uint64_t serial;       /* of the metadata, or an earlier one, */
    uint64_t attachment;   /* and of the attachment */
    bool is_bare;          /* the metadata tells of no regions */
    uint32_t metadata_bytes;
    uint32_t attachment_bytes;
    uint8_t bytes[];
};

/* LEND_E_BUSY: there are max others already. LEND_E_LIMIT, LEND_E_NO_MEMORY. */
enum lend_status lend_snapshot_take(struct lend_agent *agent, uint32_t max, bool is_bare,
                                    struct lend_snapshot **out, struct lend_error *error);
/* NULL is a no-op. */
void lend_snapshot_release(struct lend_agent *agent, struct lend_snapshot *snapshot);

/* Has the agent changed since, so that it would say something else? */
bool lend_snapshot_is_old(struct lend_agent *agent, const struct lend_snapshot *snapshot);

/* At the agent's end. */
void lend_snapshots_fini(struct lend_agent *agent);

/* --- telling it to those who ask: in a server's session, under its lock --- */

struct lend_telling {
    struct lend_snapshot *snapshot; /* NULL: nobody asked */
    uint32_t told;
};

/* A FETCH has come. LEND_E_ACCESS, LEND_E_VERSION and as lend_snapshot_take(): it breaks the
 * session. */
enum lend_status lend_telling_begin(struct lend_telling *telling, struct lend_session *session,
                                    const struct lend_frame *frame, const uint8_t *payload,
                                    struct lend_error *error);
/* Send what there is room for; true if anything left. */
bool lend_telling_pump(struct lend_telling *telling, struct lend_session *session);
void lend_telling_end(struct lend_telling *telling, struct lend_agent *agent);

#endif
