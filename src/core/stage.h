/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_STAGE_H
#define LEND_CORE_STAGE_H

#include "base/list.h"
#include "core/cursor.h"
#include "memory/lane.h"

#include <stdatomic.h>

struct lend_agent;
struct lend_lease;
struct lend_session;

/*
 * A stage: where bytes stand between a channel and memory that no processor reaches. Its cells are
 * pinned memory of the host. The GPU copies between a cell and its own memory by itself, and the
 * session goes on with other things meanwhile.
 *
 *     FREE --taken--> HELD --copy begun--> FLYING --the driver says that it is over--> LANDED
 *       ^                                                                                |
 *       `--------- sent, or counted -----------------------------------------------------'
 *
 * A session makes its stage when it first needs one. All of it is under the session's lock, but for
 * FLYING -> LANDED: whoever ends a lease waits for what lands under it, and looks by itself
 * (lend_stages_poll()). That step is under lend_agent::stage_lock, a leaf.
 */

enum {
    LEND_CELLS = 8,
    LEND_CELLS_TO_MEMORY = 4,
    LEND_CELL_BYTES = 64 << 10,
    LEND_CELL_BUFFERS = 4
};

enum lend_cell_state {
    LEND_CELL_FREE = 0,
    LEND_CELL_HELD,
    LEND_CELL_FLYING,
    LEND_CELL_LANDED,
};

struct lend_cell {
    _Atomic int32_t state; /* a lend_cell_state */
    const void *owner;     /* the request or slot that it is of */
    uint64_t sequence;     /* of an owner's cells, the lowest is first */
    uint8_t *bytes;        /* LEND_CELL_BYTES */
    uint64_t count;        /* that it holds, */
    uint64_t sent;         /* and of them, those that have left */
    bool is_judged;        /* it has landed well */
    bool is_to_memory;     /* the copy goes from the cell to memory */
    struct lend_lane_mark mark;
    struct lend_error error;  /* of the copy */
    struct lend_lease *lease; /* that the copy is under; NULL: none */
    enum lend_status verdict; /* once it has landed: did the lease live until then? */
    uint32_t buffer_count;    /* allocations that it touched: */
    struct {
        uint64_t address;
        uint64_t id;
    } buffers[LEND_CELL_BUFFERS];
    struct lend_extent extent; /* of the cell itself, */
    struct lend_run run;
    struct lend_cursor cursor; /* to be sent from, or received to */
};

struct lend_stage {
    struct lend_agent *agent;
    struct lend_list link; /* in lend_agent::stages; stage_lock */
    const struct lend_lane *lane;
    void *pinned; /* all cells' bytes */
    uint64_t sequence_last;
    struct lend_cell cells[LEND_CELLS];
};

/* The session's, made if there is none: in that lane's context. LEND_E_NO_MEMORY,
 * LEND_E_DEVICE. */
enum lend_status lend_stage_open(struct lend_session *session, const struct lend_lane *lane,
                                 struct lend_error *error);
/* Wait a while for what flies; false: it flies still, and perhaps for ever. NULL is quiet. */
bool lend_stage_halt(struct lend_stage *stage);
/* Free it; what flies still goes on without its session, and keeps what it is of. In a forked child
 * nothing is the driver's. */
void lend_stage_destroy(struct lend_stage *stage, bool forked);
/* At the agent's end, of those that are left. */
void lend_stages_fini(struct lend_agent *agent, bool forked);

/*
 * A cell for the owner; NULL: none is free for it now. It is HELD, its cursor at its first byte.
 * Those for each way are apart: what goes to memory waits for the GPU alone, and what comes from
 * there for the peer as well, which may itself be waiting to be rid of what it sends us.
 */
struct lend_cell *lend_stage_take(struct lend_stage *stage, const void *owner, bool is_to_memory);
/* The owner's first; NULL: it has none. */
struct lend_cell *lend_stage_first(struct lend_stage *stage, const void *owner);
void lend_cell_free(struct lend_cell *cell);
static inline bool lend_cell_has_landed(const struct lend_cell *cell)
{
    /* Acquire: what the copy left behind is there. */
    return atomic_load_explicit(&cell->state, memory_order_acquire) == LEND_CELL_LANDED;
}

/* How many of the next max bytes of the stream one copy can move: of one context, few pieces. */
uint64_t lend_stage_reach(const struct lend_cursor *cursor, uint64_t max);
/* Copy the next count bytes of the stream, which are within reach, into the cell, or out of it, and
 * step past them. What goes wrong stands in the cell. With a lease, which is pinned: one that is
 * written to stays so until the copy has landed, one that is read is left, and has a move
 * meanwhile. */
void lend_cell_fill(struct lend_stage *stage, struct lend_cell *cell, struct lend_cursor *from,
                    uint64_t count, struct lend_lease *lease);
void lend_cell_spill(struct lend_stage *stage, struct lend_cell *cell, struct lend_cursor *to,
                     uint64_t count, struct lend_lease *lease);
/* Zero the next bytes of the stream, at most max of them: the host's at once, a GPU's when the mark
 * says so. Returns how many it steps past; 0 at the end. What cannot be zeroed is stepped past. */
uint64_t lend_stage_zero(struct lend_cursor *cursor, uint64_t max, struct lend_lane_mark *mark);

/* Send the next count bytes of the cell, for which there is room; behind the last it is free. */
void lend_cell_send(struct lend_cell *cell, struct lend_session *session, uint64_t request,
                    size_t count);

/* It has landed: as it should, and the memory was the same all the time? LEND_E_STALE,
 * LEND_E_DEVICE: see its error. */
enum lend_status lend_cell_judge(struct lend_cell *cell);

/* See what has landed. */
void lend_stage_poll(struct lend_stage *stage);
void lend_stages_poll(struct lend_agent *agent);
/* Does something fly: of the owner, at all (NULL), or towards memory? NULL stage: nothing. */
bool lend_stage_is_flying(const struct lend_stage *stage, const void *owner);
bool lend_stage_is_landing(const struct lend_stage *stage);
/* Free the owner's cells that do not fly. */
void lend_stage_drop(struct lend_stage *stage, const void *owner);

#endif
