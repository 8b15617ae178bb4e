/* SPDX-License-Identifier: Apache-2.0 */
#include "core/staged.h"

#include "base/error.h"
#include "core/stage.h"

enum { DATA_BYTES_LEAST = 16 << 10 }; /* smaller frames wait for room, unless they end a cell */

enum lend_status lend_staged_open(struct lend_session *session, struct lend_served_request *request)
{
    const struct lend_transport_ops *ops = session->channel->ops;

    if (ops->paths[LEND_WAY_STAGED] == NULL)
        return lend_fail(&request->verdict, LEND_E_UNSUPPORTED,
                         "transport %s does not reach memory of a GPU", ops->name);
    if (request->asked.wants_sums)
        return lend_fail(&request->verdict, LEND_E_UNSUPPORTED,
                         "blocks in memory of a GPU are not checksummed");
    return lend_stage_open(session, request->lane, &request->verdict);
}

bool lend_staged_is_flying(const struct lend_session *session,
                           const struct lend_served_request *request)
{
    return request->lane != NULL && lend_stage_is_flying(session->stage, request);
}

/* Let the GPU fetch the next bytes of a READ. */
static enum lend_status fetch(struct lend_session *session, struct lend_served_request *request)
{
    uint64_t left = request->asked.total_bytes - request->staged_bytes;
    struct lend_cell *cell = left > 0 ? lend_stage_take(session->stage, request, false) : NULL;

    if (cell == NULL)
        return LEND_PENDING;
    enum lend_status status = lend_lease_enter(request->lease);
    if (status != LEND_OK)
        return status;
    uint64_t count = lend_stage_reach(&request->cursor, left);
    lend_cell_fill(session->stage, cell, &request->cursor, count, request->lease);
    request->staged_bytes += count;
    return LEND_OK;
}

/* Send of a cell what there is room for. */
static enum lend_status send_cell(struct lend_session *session, struct lend_served_request *request,
                                  struct lend_cell *cell, size_t *out_count)
{
    size_t count = (size_t)(cell->count - cell->sent);
    size_t least = count < DATA_BYTES_LEAST ? count : DATA_BYTES_LEAST;
    size_t room = lend_session_room(session);

    if (room < least) {
        session->wanted_room = least;
        return LEND_PENDING;
    }
    count = count < room ? count : room;
    lend_cell_send(cell, session, request->id, count);
    *out_count = count;
    return LEND_OK;
}

/* The first cell has landed: is all well with it? Then it counts, and is sent if it is a READ's. */
static enum lend_status go_on(struct lend_session *session, struct lend_served_request *request,
                              struct lend_cell *cell, size_t *out_count)
{
    enum lend_status status = lend_cell_judge(cell);

    if (status != LEND_OK) {
        request->verdict = cell->error;
        return status;
    }
    if (cell->verdict != LEND_OK)
        return cell->verdict;
    if (request->asked.direction == LEND_READ)
        return send_cell(session, request, cell, out_count);
    *out_count = (size_t)cell->count;
    lend_cell_free(cell);
    return LEND_OK;
}

enum lend_status lend_staged_step(struct lend_session *session, struct lend_served_request *request,
                                  size_t *out_count)
{
    struct lend_cell *cell = lend_stage_first(session->stage, request);
    enum lend_status status = LEND_PENDING;

    *out_count = 0;
    if (cell != NULL && lend_cell_has_landed(cell))
        status = go_on(session, request, cell, out_count);
    if (status == LEND_PENDING && request->asked.direction == LEND_READ)
        status = fetch(session, request);
    return status;
}

size_t lend_staged_take(struct lend_session *session, struct lend_served_request *request,
                        size_t count)
{
    struct lend_channel *channel = session->channel;
    struct lend_cell *cell = lend_stage_take(session->stage, request, true);
    size_t taken = 0;

    if (cell != NULL) {
        uint64_t reach = lend_stage_reach(&request->cursor, count);

        taken = channel->ops->take_data(channel, &cell->cursor, (size_t)reach,
                                        session->frame.payload_bytes);
    }
    if (taken > 0) {
        request->staged_bytes += taken;
        lend_cell_spill(session->stage, cell, &request->cursor, taken, request->lease);
        return taken;
    }
    if (cell != NULL)
        lend_cell_free(cell);
    (void)lend_lease_leave(request->lease);
    return 0;
}
