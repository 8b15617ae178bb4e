/* SPDX-License-Identifier: Apache-2.0 */
#include "built.h"
#include "hostile.h"
#include "sanitizer.h"

#include <dlfcn.h>
#include <poll.h>

enum { PARTING_MS = 2000 };

static struct lend_ucx_ops ucx;
static void *context; /* of all hostile workers, as long as the process lives */

bool parcel_can(void)
{
    struct lend_error why = {0};

    if (!built_with("ucx"))
        return false;
    if (UNDER_TSAN) {
        print_message("SKIP: ucx: " UCX_TSAN_REASON "\n");
        return false;
    }
    if (ucx.init == NULL && lend_ucx_load("libucp.so.0", &ucx, &why) != LEND_OK)
        print_message("SKIP: ucx: %s\n", why.message);
    return ucx.init != NULL;
}

static void make_context(void)
{
    const struct lend_ucx_context_params params = {
        .field_mask = LEND_UCX_CONTEXT_FEATURES,
        .features = LEND_UCX_FEATURE_MESSAGES | LEND_UCX_FEATURE_WAKEUP,
    };
    void *config = NULL;

    assert_true(parcel_can());
    if (context != NULL)
        return;
    assert_int_equal(ucx.config_read("LEND", NULL, &config), LEND_UCX_OK);
    assert_int_equal(ucx.config_modify(config, "NET_DEVICES", "lo"), LEND_UCX_OK);
    assert_int_equal(ucx.config_modify(config, "TLS", "tcp"), LEND_UCX_OK);
    assert_int_equal(ucx.config_modify(config, "RNDV_SCHEME", "am"), LEND_UCX_OK);
    /* What it registers for sending without a copy, a worker keeps beyond its end. */
    assert_int_equal(ucx.config_modify(config, "ZCOPY_THRESH", "inf"), LEND_UCX_OK);
    assert_int_equal(ucx.init(LEND_UCX_MAJOR, LEND_UCX_MINOR, &params, config, &context),
                     LEND_UCX_OK);
    ucx.config_release(config);
}

/* --- what comes --- */

static void keep(struct parcel_end *end, const struct lend_ucx_message *message, const void *data,
                 size_t length)
{
    struct parcel *parcel = malloc(sizeof *parcel + length);
    struct parcel **at = &end->first;

    assert_non_null(parcel);
    parcel->message = *message;
    parcel->length = length;
    if (length > 0)
        memcpy(parcel->bytes, data, length);
    while (*at != NULL && (*at)->message.position < message->position)
        at = &(*at)->next;
    parcel->next = *at;
    *at = parcel;
    end->arrived += lend_ucx_cost(length);
}

static void keep_each(struct parcel_end *end, const struct lend_ucx_message *message,
                      const uint8_t *data, size_t length)
{
    struct lend_ucx_message each = *message;

    for (size_t at = 0; at < length; each.position++) {
        memcpy(each.frame, data + at, sizeof each.frame);
        at += sizeof each.frame;
        size_t count = each.frame[4] | (size_t)each.frame[5] << 8;
        assert_true(at + count <= length);
        keep(end, &each, data + at, count);
        at += count;
    }
}

/* In UCX's callback: send, and no more. */
static void answer_ping(struct parcel_end *end, const struct lend_ucx_message *ping)
{
    const struct lend_ucx_message pong = {
        .kind = LEND_UCX_PONG, .channel = end->peers.link, .position = ping->position};
    uint8_t header[LEND_UCX_HEADER_BYTES];

    lend_ucx_encode(&pong, header);
    parcel_send(end, &(struct iovec){.iov_base = header, .iov_len = sizeof header},
                &(struct iovec){.iov_len = 0}, LEND_UCX_SEND_EAGER);
}

static lend_ucx_status arrived(void *argument, const void *header, size_t header_length, void *data,
                               size_t length, const struct lend_ucx_received *how)
{
    struct parcel_end *end = argument;
    struct lend_ucx_message message;

    assert_int_equal(how->recv_attr & LEND_UCX_RECEIVED_RENDEZVOUS, 0);
    assert_true(lend_ucx_decode(header, header_length, &message));
    if (message.kind == LEND_UCX_OPEN) {
        assert_true(lend_ucx_decode_greeting(data, length, &end->peers));
        end->caller_bytes = length - LEND_UCX_GREETING_BYTES;
        memcpy(end->caller, (uint8_t *)data + LEND_UCX_GREETING_BYTES, end->caller_bytes);
        return LEND_UCX_OK;
    }
    if (message.kind == LEND_UCX_PING && end->is_alive && end->endpoint != NULL)
        answer_ping(end, &message);
    if (message.channel != end->ours.channel)
        return LEND_UCX_OK; /* of one that is closed */
    if (message.taken > end->sent_taken)
        end->sent_taken = message.taken;
    switch (message.kind) {
    case LEND_UCX_ACCEPT:
        assert_true(lend_ucx_decode_greeting(data, length, &end->peers));
        end->accepted++;
        break;
    case LEND_UCX_REFUSE:
        memcpy(&end->refused, data, 4);
        end->refusals++;
        break;
    case LEND_UCX_FRAME: keep(end, &message, data, length); break;
    case LEND_UCX_FRAMES: keep_each(end, &message, data, length); break;
    case LEND_UCX_CLOSE: end->end = message.position; break;
    case LEND_UCX_OPEN:
    case LEND_UCX_CREDIT:
    case LEND_UCX_PING: /* whom we do not answer is right to think that we are gone */
    case LEND_UCX_PONG: break;
    }
    return LEND_UCX_OK;
}

static void was_lost(void *argument, void *endpoint, lend_ucx_status status)
{
    struct parcel_end *end = argument;

    (void)endpoint;
    (void)status;
    end->is_lost = true;
}

/* --- life --- */

static void find_address(struct parcel_end *end)
{
    struct lend_ucx_worker_attributes attributes = {
        .field_mask = LEND_UCX_QUERY_ADDRESS | LEND_UCX_QUERY_ADDRESS_FLAGS,
        .address_flags = LEND_UCX_ADDRESS_NET_ONLY,
    };

    assert_int_equal(ucx.worker_query(end->worker, &attributes), LEND_UCX_OK);
    struct lend_ucx_address address = {.bytes = attributes.address,
                                       .count = attributes.address_length};
    memcpy(address.incarnation, end->incarnation, sizeof address.incarnation);
    end->address_bytes = lend_ucx_encode_address(&address, end->address);
    ucx.worker_release_address(end->worker, attributes.address);
}

void parcel_open(struct parcel_end *end, const uint8_t *incarnation)
{
    const struct lend_ucx_worker_params params = {
        .field_mask = LEND_UCX_WORKER_EVENTS | LEND_UCX_WORKER_FLAGS,
        .events = LEND_UCX_WAKEUP_SENT | LEND_UCX_WAKEUP_RECEIVED,
        .flags = LEND_UCX_WORKER_QUIET_LEAKS,
    };
    const struct lend_ucx_handler handler = {
        .field_mask = LEND_UCX_HANDLER_ID | LEND_UCX_HANDLER_FLAGS | LEND_UCX_HANDLER_CALLBACK |
                      LEND_UCX_HANDLER_ARGUMENT,
        .id = LEND_UCX_ID,
        .flags = LEND_UCX_HANDLER_WHOLE,
        .callback = arrived,
        .argument = end,
    };

    make_context();
    *end = (struct parcel_end){
        .end = UINT64_MAX,
        .ours = {.link = chance_number() | 1,
                 .channel = chance_number() | 1,
                 .window_bytes = RING_BYTES},
    };
    memcpy(end->incarnation, incarnation, sizeof end->incarnation);
    assert_int_equal(ucx.worker_create(context, &params, &end->worker), LEND_UCX_OK);
    assert_int_equal(ucx.worker_set_handler(end->worker, &handler), LEND_UCX_OK);
    assert_int_equal(ucx.worker_get_efd(end->worker, &end->fd), LEND_UCX_OK);
    find_address(end);
}

void parcel_connect(struct parcel_end *end, const uint8_t *address, size_t count)
{
    struct lend_ucx_address decoded;
    _Alignas(16) uint8_t bytes[LEND_UCX_ADDRESS_MAX];
    const struct lend_ucx_endpoint_params params = {
        .field_mask = LEND_UCX_ENDPOINT_ADDRESS | LEND_UCX_ENDPOINT_ERROR_MODE |
                      LEND_UCX_ENDPOINT_ERROR_HANDLER,
        .address = bytes,
        .err_mode = LEND_UCX_ERROR_MODE_PEER,
        .error_callback = was_lost,
        .error_argument = end,
    };

    assert_true(lend_ucx_decode_address(address, count, &decoded));
    memcpy(bytes, decoded.bytes, decoded.count);
    assert_int_equal(ucx.endpoint_create(end->worker, &params, &end->endpoint), LEND_UCX_OK);
}

static void was_closed(void *request, lend_ucx_status status, void *user_data)
{
    struct parcel_end *end = user_data;

    (void)status;
    end->pending--;
    ucx.request_free(request);
}

static void work_until_none(struct parcel_end *end)
{
    uint64_t until = wall_ns() + PARTING_MS * MS;

    while (end->pending > 0 && wall_ns() < until)
        parcel_work(end, true);
}

static void drop_parcels(struct parcel_end *end)
{
    while (end->first != NULL) {
        struct parcel *next = end->first->next;

        free(end->first);
        end->first = next;
    }
}

void parcel_hang_up(struct parcel_end *end)
{
    const struct lend_ucx_operation how = {
        .op_attr_mask =
            LEND_UCX_OPERATION_CALLBACK | LEND_UCX_OPERATION_USER_DATA | LEND_UCX_OPERATION_FLAGS,
        .flags = LEND_UCX_CLOSE_FORCE,
        .callback.send = was_closed,
        .user_data = end,
    };
    struct lend_ucx_operation flush = how;

    flush.flags = 0;
    end->is_deaf = false;
    if (end->endpoint != NULL) {
        end->pending += 1;
        if (end->is_lost || !lend_ucx_is_request(ucx.endpoint_flush(end->endpoint, &flush)))
            end->pending--;
        work_until_none(end);
        end->pending++;
        if (!lend_ucx_is_request(ucx.endpoint_close(end->endpoint, &how)))
            end->pending--;
        end->endpoint = NULL;
        work_until_none(end);
        assert_int_equal(end->pending, 0);
    }
    drop_parcels(end);
}

void parcel_close(struct parcel_end *end)
{
    parcel_hang_up(end);
    ucx.worker_destroy(end->worker);
    end->worker = NULL;
}

void parcel_work(struct parcel_end *end, bool waits)
{
    unsigned done = 0;

    if (!end->is_deaf)
        for (int i = 0; i < 64 && ucx.worker_progress(end->worker) > 0; i++)
            done++;
    if (!waits || done > 0)
        return;
    if (end->is_deaf || ucx.worker_arm(end->worker) == LEND_UCX_OK)
        (void)poll(&(struct pollfd){.fd = end->fd, .events = POLLIN}, end->is_deaf ? 0 : 1, 5);
}

/* --- what goes --- */

struct sent {
    struct parcel_end *end;
    uint8_t bytes[];
};

static void was_sent(void *request, lend_ucx_status status, void *user_data)
{
    struct sent *sent = user_data;

    (void)status;
    sent->end->pending--;
    ucx.request_free(request);
    free(sent);
}

void parcel_send(struct parcel_end *end, const struct iovec *header, const struct iovec *payload,
                 uint32_t how)
{
    struct sent *sent = malloc(sizeof *sent + header->iov_len + payload->iov_len);
    const struct lend_ucx_operation operation = {
        .op_attr_mask = LEND_UCX_OPERATION_CALLBACK | LEND_UCX_OPERATION_USER_DATA |
                        LEND_UCX_OPERATION_FLAGS | LEND_UCX_OPERATION_MEMORY_TYPE,
        .flags = how,
        .callback.send = was_sent,
        .user_data = sent,
        .memory_type = LEND_UCX_MEMORY_HOST,
    };

    assert_non_null(sent);
    sent->end = end;
    if (header->iov_len > 0)
        memcpy(sent->bytes, header->iov_base, header->iov_len);
    if (payload->iov_len > 0)
        memcpy(sent->bytes + header->iov_len, payload->iov_base, payload->iov_len);
    void *state = end->is_lost
                      ? NULL
                      : ucx.send(end->endpoint, LEND_UCX_ID, sent->bytes, header->iov_len,
                                 sent->bytes + header->iov_len, payload->iov_len, &operation);
    if (lend_ucx_is_request(state)) {
        end->pending++;
        return;
    }
    free(sent);
    if (state != NULL)
        end->is_lost = true;
}

struct lend_ucx_message parcel_write(struct parcel_end *end, enum lend_ucx_kind kind)
{
    return (struct lend_ucx_message){
        .kind = kind,
        .channel = end->peers.channel,
        .position = kind == LEND_UCX_FRAME ? end->position++ : end->position,
        .taken = end->taken,
    };
}

void parcel_post(struct parcel_end *end, const struct lend_ucx_message *message,
                 const void *payload, size_t count)
{
    uint8_t header[LEND_UCX_HEADER_BYTES];
    const struct iovec parts[2] = {
        {.iov_base = header, .iov_len = sizeof header},
        {.iov_base = (void *)(uintptr_t)payload, .iov_len = count},
    };

    lend_ucx_encode(message, header);
    if (message->kind == LEND_UCX_FRAME)
        end->sent += lend_ucx_cost(count);
    end->told = message->taken;
    parcel_send(end, &parts[0], &parts[1], LEND_UCX_SEND_EAGER);
    parcel_work(end, false);
}

void parcel_ask(struct parcel_end *end, const uint8_t *address, size_t count)
{
    const struct lend_ucx_message message = {.kind = LEND_UCX_OPEN};
    uint8_t bytes[LEND_UCX_GREETING_BYTES + LEND_METADATA_ADDRESS_MAX];

    lend_ucx_encode_greeting(&end->ours, bytes);
    memcpy(bytes + LEND_UCX_GREETING_BYTES, address, count);
    parcel_post(end, &message, bytes, LEND_UCX_GREETING_BYTES + count);
}

void parcel_accept(struct parcel_end *end)
{
    const struct lend_ucx_message message = {.kind = LEND_UCX_ACCEPT,
                                             .channel = end->peers.channel};
    uint8_t bytes[LEND_UCX_GREETING_BYTES];

    lend_ucx_encode_greeting(&end->ours, bytes);
    parcel_post(end, &message, bytes, sizeof bytes);
}

/* What was of the channel before. */
static void begin_anew(struct parcel_end *end)
{
    drop_parcels(end);
    end->ours.channel = chance_number() | 1;
    end->is_lost = false;
    end->refused = LEND_OK;
    end->position = end->sent = end->sent_taken = 0;
    end->due = end->taken = end->told = end->arrived = 0;
    end->end = UINT64_MAX;
}

bool parcel_let_in(struct parcel_end *end, uint64_t timeout_ns)
{
    uint64_t until = wall_ns() + timeout_ns;

    while (end->caller_bytes == 0 && wall_ns() < until)
        parcel_work(end, true);
    if (end->caller_bytes == 0)
        return false;
    if (end->is_lost)
        parcel_hang_up(end);
    begin_anew(end);
    if (end->endpoint == NULL)
        parcel_connect(end, end->caller, end->caller_bytes);
    end->caller_bytes = 0;
    parcel_accept(end);
    return true;
}

void parcel_end_channel(struct parcel_end *end)
{
    const struct lend_ucx_message message = parcel_write(end, LEND_UCX_CLOSE);

    parcel_post(end, &message, NULL, 0);
    work_until_none(end);
}

bool parcel_has_room(const struct parcel_end *end, size_t count)
{
    return end->sent - end->sent_taken + lend_ucx_cost(count) <= end->peers.window_bytes;
}

struct parcel *parcel_take(struct parcel_end *end)
{
    struct parcel *parcel = end->first;

    parcel_work(end, false);
    parcel = end->first;
    if (parcel == NULL || parcel->message.position != end->due)
        return NULL;
    end->first = parcel->next;
    end->due++;
    end->taken += lend_ucx_cost(parcel->length);
    if (end->taken - end->told >= end->ours.window_bytes / 4) {
        const struct lend_ucx_message credit = parcel_write(end, LEND_UCX_CREDIT);

        parcel_post(end, &credit, NULL, 0);
    }
    return parcel;
}

bool parcel_is_over(const struct parcel_end *end)
{
    return end->is_lost || end->refused != LEND_OK || end->due >= end->end;
}
