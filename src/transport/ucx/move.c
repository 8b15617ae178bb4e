/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/ucx/ucx.h"

#include "base/sys.h"

#include <string.h>

/*
 * Moves: UCX reads from lent memory, or writes to it, after the call that began it has returned.
 * Only its callback says that it does not any more. If that does not come, the endpoint is closed
 * by force, and then it comes.
 *
 * An owner's READ is sent so; the reader's side of it is received so where the frame comes by
 * rendezvous; but what is for memory of a GPU is fetched to a buffer first, and copied from there
 * when core asks for it. A WRITE is copied on both sides: its owner could not take the blocks back
 * before the writer's frame has come, or the connection is cut.
 */

enum {
    EAGER_PIECES_MAX = 4,       /* UCX's tcp sends up to 6, its own headers among them */
    RENDEZVOUS_PIECES_MAX = 64, /* more are faster copied together */
    HALT_NS_MAX = 2000000000,   /* a callback after a close by force takes microseconds */
};

static struct lend_ucx_move *begin(struct lend_ucx_channel *channel, size_t bytes,
                                   uint32_t piece_count)
{
    struct lend_ucx_move *move =
        lend_sys->allocate(sizeof *move + piece_count * sizeof move->pieces[0]);

    if (move == NULL)
        return NULL;
    move->over = channel->link;
    move->channel = channel;
    move->bytes = bytes;
    move->piece_count = piece_count;
    lend_list_append(&channel->moves, &move->link);
    channel->base.begun++;
    return move;
}

/* It has come to nothing, and nobody was told of it. */
static void undo(struct lend_ucx_move *move)
{
    move->channel->base.begun--;
    lend_list_remove(&move->link);
    lend_sys->release(move);
}

static void end(struct lend_ucx_move *move)
{
    if (move->channel == NULL) {
        lend_sys->release(move->buffer);
        lend_sys->release(move);
        return;
    }
    move->is_done = true;
    lend_ucx_channel_wake(move->channel);
}

/* --- out --- */

static void was_sent(void *request, lend_ucx_status status, void *user_data)
{
    struct lend_ucx_move *move = user_data;
    struct lend_ucx_link *link = move->over;

    lend_ucx_link_has_sent(link, lend_ucx_cost(move->bytes));
    link->transport->door.request_free(request);
    end(move);
    /* CANCELED: the reader did not want it any more. */
    if (status != LEND_UCX_OK && status != LEND_UCX_CANCELED)
        lend_ucx_link_break_with(link, status);
}

/* Where the next count bytes lie; 0: in more pieces than that. */
static uint32_t find_pieces(struct lend_cursor *cursor, size_t count, struct iovec *out,
                            uint32_t capacity)
{
    uint32_t pieces = lend_cursor_pieces(cursor, count, out, capacity);
    size_t bytes = 0;

    for (uint32_t i = 0; i < pieces; i++)
        bytes += out[i].iov_len;
    return bytes == count ? pieces : 0;
}

bool lend_ucx_move_out(struct lend_ucx_channel *channel, const struct lend_ucx_message *message,
                       struct lend_cursor *from, size_t count)
{
    struct lend_ucx_link *link = channel->link;
    bool is_rendezvous = count >= link->transport->rendezvous_bytes;
    struct iovec pieces[RENDEZVOUS_PIECES_MAX];
    struct lend_cursor cursor = *from;
    uint32_t piece_count = find_pieces(&cursor, count, pieces,
                                       is_rendezvous ? RENDEZVOUS_PIECES_MAX : EAGER_PIECES_MAX);
    struct lend_ucx_move *move = piece_count > 0 ? begin(channel, count, piece_count) : NULL;

    if (move == NULL)
        return false;
    const struct lend_ucx_operation how = {
        .op_attr_mask = LEND_UCX_OPERATION_CALLBACK | LEND_UCX_OPERATION_USER_DATA |
                        LEND_UCX_OPERATION_FLAGS | LEND_UCX_OPERATION_DATATYPE |
                        LEND_UCX_OPERATION_MEMORY_TYPE,
        .flags = is_rendezvous ? LEND_UCX_SEND_RENDEZVOUS : LEND_UCX_SEND_EAGER,
        .callback.send = was_sent,
        .datatype = LEND_UCX_DATATYPE_PIECES,
        .user_data = move,
        .memory_type = LEND_UCX_MEMORY_HOST,
    };
    memcpy(move->pieces, pieces, piece_count * sizeof pieces[0]);
    lend_ucx_encode(message, move->header);
    lend_ucx_link_expect(link);
    void *state = link->transport->door.send(link->endpoint, LEND_UCX_ID, move->header,
                                             sizeof move->header, move->pieces, piece_count, &how);
    *from = cursor;
    if (lend_ucx_is_request(state)) {
        lend_ucx_link_owes(link, lend_ucx_cost(count));
        return true;
    }
    undo(move);
    if (state != NULL)
        lend_ucx_link_break_with(link, lend_ucx_state_status(state));
    return true;
}

/* --- in --- */

static void has_landed(void *request, lend_ucx_status status, size_t length, void *user_data)
{
    struct lend_ucx_move *move = user_data;
    struct lend_ucx_link *link = move->over;
    bool is_whole = status == LEND_UCX_OK && length == move->bytes;

    link->pending--;
    link->transport->door.request_free(request);
    if (move->channel != NULL && !is_whole)
        lend_ucx_channel_hang_up(move->channel, LEND_E_PEER_DEAD,
                                 "what the peer was sending has not come whole");
    end(move);
}

static uint32_t count_pieces(struct lend_cursor cursor, size_t count)
{
    struct lend_segment segment;
    uint32_t pieces = 0;

    for (; count > 0 && lend_cursor_next(&cursor, count, &segment); pieces++)
        count -= (size_t)segment.length_bytes;
    return pieces;
}

/* Let UCX receive what data names to the pieces of the move, which has been begun. */
static void receive(struct lend_ucx_move *move, void *data)
{
    struct lend_ucx_channel *channel = move->channel;
    struct lend_ucx_transport *transport = channel->transport;
    size_t length = 0;
    const struct lend_ucx_operation how = {
        .op_attr_mask = LEND_UCX_OPERATION_CALLBACK | LEND_UCX_OPERATION_USER_DATA |
                        LEND_UCX_OPERATION_DATATYPE | LEND_UCX_OPERATION_MEMORY_TYPE |
                        LEND_UCX_OPERATION_LENGTH,
        .callback.receive = has_landed,
        .datatype = LEND_UCX_DATATYPE_PIECES,
        .user_data = move,
        .memory_type = LEND_UCX_MEMORY_HOST,
        .received_length = &length,
    };
    void *state =
        transport->door.receive(transport->worker, data, move->pieces, move->piece_count, &how);

    if (lend_ucx_is_request(state)) {
        channel->link->pending++;
        return;
    }
    if (state != NULL || length != move->bytes)
        lend_ucx_channel_hang_up(channel, LEND_E_PEER_DEAD,
                                 "what the peer was sending has not come whole");
    end(move);
}

void lend_ucx_move_in(struct lend_ucx_channel *channel, void *data, struct lend_cursor *to,
                      size_t count)
{
    struct lend_ucx_transport *transport = channel->transport;
    struct lend_ucx_move *move = begin(channel, count, count_pieces(*to, count));

    if (move == NULL) {
        transport->door.data_release(transport->worker, data);
        lend_ucx_channel_hang_up(channel, LEND_E_NO_MEMORY, "no memory to receive a frame");
        return;
    }
    move->cost = lend_ucx_cost(count);
    (void)lend_cursor_pieces(to, count, move->pieces, move->piece_count);
    receive(move, data);
}

void lend_ucx_move_fetch(struct lend_ucx_channel *channel, struct lend_ucx_frame *frame)
{
    if (frame->fetch != NULL || channel->hung.status != LEND_OK)
        return;
    void *buffer = lend_sys->allocate(frame->length);
    struct lend_ucx_move *move = buffer != NULL ? begin(channel, frame->length, 1) : NULL;

    if (move == NULL) { /* the frame is given back with the channel */
        lend_sys->release(buffer);
        lend_ucx_channel_hang_up(channel, LEND_E_NO_MEMORY, "no memory to receive a frame");
        return;
    }
    move->buffer = buffer;
    move->frame = frame;
    move->pieces[0] = (struct iovec){.iov_base = buffer, .iov_len = frame->length};
    frame->fetch = move;
    receive(move, LEND_TAKE(frame->data));
}

/* What it brought is what the frame has. */
static void hand_over(struct lend_ucx_move *move)
{
    struct lend_ucx_frame *frame = move->frame;

    if (frame != NULL) {
        frame->fetch = NULL;
        frame->data = LEND_TAKE(move->buffer);
        frame->is_copy = true;
        frame->is_rendezvous = false;
    }
    lend_sys->release(move->buffer);
}

/* --- the end --- */

bool lend_ucx_moves_have_news(const struct lend_ucx_channel *channel)
{
    struct lend_list *first = channel->moves.next;

    return first != &channel->moves && LEND_LIST_OWNER(first, struct lend_ucx_move, link)->is_done;
}

void lend_ucx_moves_settle(struct lend_ucx_channel *channel)
{
    while (lend_ucx_moves_have_news(channel)) {
        struct lend_ucx_move *move =
            LEND_LIST_OWNER(channel->moves.next, struct lend_ucx_move, link);

        channel->base.settled++;
        channel->taken += move->cost;
        hand_over(move);
        lend_list_remove(&move->link);
        lend_sys->release(move);
    }
}

static bool all_are_done(struct lend_ucx_channel *channel)
{
    for (struct lend_list *at = channel->moves.next; at != &channel->moves; at = at->next)
        if (!LEND_LIST_OWNER(at, struct lend_ucx_move, link)->is_done)
            return false;
    return true;
}

void lend_ucx_moves_halt(struct lend_ucx_channel *channel)
{
    struct lend_ucx_transport *transport = channel->transport;

    if (!all_are_done(channel)) {
        uint64_t until = lend_sys->now_ns() + HALT_NS_MAX;

        lend_ucx_link_close(channel->link);
        while (!all_are_done(channel) && lend_sys->now_ns() < until)
            lend_ucx_progress(transport);
        if (!all_are_done(channel))
            lend_agent_log(transport->agent, LEND_LOG_ERROR,
                           "UCX closed a connection and does not say that it is done with the "
                           "memory that it moved: that memory is not given back");
    }
    lend_ucx_moves_settle(channel);
}
