/* SPDX-License-Identifier: Apache-2.0 */
#include "fake/ucx.h"

#include "base/list.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { MAGIC = 0x0cf };

struct worker {
    struct lend_list link;
    struct lend_list inbox;  /* of messages */
    struct lend_list done;   /* of requests whose callback is to be called */
    struct lend_list broken; /* of endpoints whose error is to be told */
    struct lend_ucx_handler handler;
    int fd;
};

struct endpoint {
    struct lend_list link; /* in all_endpoints */
    struct lend_list told; /* in a worker's broken */
    struct worker *from;
    struct worker *to; /* NULL: it is gone */
    void (*error)(void *argument, void *endpoint, lend_ucx_status status);
    void *argument;
};

struct request {
    struct lend_list link; /* in held, or in a worker's done */
    struct worker *worker;
    struct worker *other;
    struct lend_ucx_operation how;
    lend_ucx_status status;
    bool is_receive;
    const struct lend_ucx_piece *pieces; /* of a receive */
    size_t piece_count;
    struct message *message; /* of a receive, or of a rendezvous */
};

struct message {
    struct lend_list link;
    struct worker *from;
    struct request *request; /* of a rendezvous; NULL: it is eager, or over */
    bool is_rendezvous;
    uint8_t header[FAKE_UCX_HEADER_MAX];
    size_t header_length;
    size_t length;
    uint8_t bytes[];
};

struct address {
    int magic;
    struct worker *worker;
};

struct fake_ucx fake_ucx;
struct fake_ucx_message fake_ucx_last;
static struct lend_list workers, all_endpoints, held;

void fake_ucx_reset(void)
{
    fake_ucx = (struct fake_ucx){.fail_at = -1, .failure = LEND_UCX_NO_MEMORY};
    lend_list_init(&workers);
    lend_list_init(&all_endpoints);
    lend_list_init(&held);
}

static bool fails(void)
{
    return fake_ucx.calls++ == fake_ucx.fail_at;
}

static void ring(const struct worker *worker)
{
    const uint64_t one = 1;

    if (write(worker->fd, &one, sizeof one) != sizeof one)
        abort();
}

static bool is_alive(const struct worker *worker)
{
    for (struct lend_list *at = workers.next; at != &workers; at = at->next)
        if (LEND_LIST_OWNER(at, struct worker, link) == worker)
            return true;
    return false;
}

static void finish(struct request *request, lend_ucx_status status)
{
    lend_list_remove(&request->link);
    request->status = status;
    lend_list_append(&request->worker->done, &request->link);
    ring(request->worker);
}

/* --- moving --- */

static void land(struct request *request)
{
    const struct message *message = request->message;
    size_t at = 0;

    for (size_t i = 0; i < request->piece_count && at < message->length; i++) {
        size_t left = message->length - at;
        size_t count = request->pieces[i].length < left ? request->pieces[i].length : left;

        memcpy(request->pieces[i].buffer, message->bytes + at, count);
        at += count;
    }
}

/* A rendezvous is over for its sender. */
static void answer(struct message *message, lend_ucx_status status)
{
    struct request *request = message->request;

    message->request = NULL;
    if (request != NULL)
        finish(request, status);
}

static void drop_message(struct message *message)
{
    answer(message, LEND_UCX_CANCELED);
    lend_list_remove(&message->link);
    free(message);
    fake_ucx.data--;
}

void fake_ucx_let_go(void)
{
    for (struct lend_list *at; (at = held.next) != &held;) {
        struct request *request = LEND_LIST_OWNER(at, struct request, link);

        if (request->is_receive) {
            land(request);
            answer(request->message, LEND_UCX_OK);
        }
        finish(request, LEND_UCX_OK);
    }
}

static struct request *new_request(struct worker *worker, const struct lend_ucx_operation *how)
{
    struct request *request = calloc(1, sizeof *request);

    lend_list_init(&request->link);
    request->worker = worker;
    request->how = *how;
    fake_ucx.requests++;
    return request;
}

static struct message *new_message(const struct endpoint *endpoint, const void *header,
                                   size_t header_length, size_t length)
{
    struct message *message = calloc(1, sizeof *message + length + 1);

    message->from = endpoint->from;
    memcpy(message->header, header, header_length);
    message->header_length = header_length;
    message->length = length;
    fake_ucx.data++;
    return message;
}

static void *send_message(void *object, unsigned id, const void *header, size_t header_length,
                          const void *buffer, size_t count, const struct lend_ucx_operation *how)
{
    struct endpoint *endpoint = object;
    bool in_pieces = (how->op_attr_mask & LEND_UCX_OPERATION_DATATYPE) != 0;
    const struct lend_ucx_piece whole = {(void *)(uintptr_t)buffer, count};
    const struct lend_ucx_piece *pieces = in_pieces ? buffer : &whole;
    size_t piece_count = in_pieces ? count : 1, length = 0, at = 0;

    (void)id;
    if (endpoint->to == NULL)
        return (void *)(intptr_t)-25;
    for (size_t i = 0; i < piece_count; i++)
        length += pieces[i].length;
    struct message *message = new_message(endpoint, header, header_length, length);
    for (size_t i = 0; i < piece_count; at += pieces[i++].length)
        if (pieces[i].length > 0)
            memcpy(message->bytes + at, pieces[i].buffer, pieces[i].length);
    message->is_rendezvous = (how->flags & LEND_UCX_SEND_RENDEZVOUS) != 0;
    memcpy(fake_ucx_last.header, header, header_length);
    fake_ucx_last.header_length = header_length;
    fake_ucx_last.length = length;
    fake_ucx.sent++;
    fake_ucx.rendezvous += message->is_rendezvous;
    fake_ucx.from_place += in_pieces && !message->is_rendezvous;
    if (fake_ucx.drops) {
        free(message);
        fake_ucx.data--;
        return NULL;
    }
    lend_list_append(&endpoint->to->inbox, &message->link);
    ring(endpoint->to);
    if (!message->is_rendezvous && (!in_pieces || !fake_ucx.holds_sends))
        return NULL;

    struct request *request = new_request(endpoint->from, how);
    request->other = endpoint->to;
    if (message->is_rendezvous)
        message->request = request;
    else
        lend_list_append(&held, &request->link);
    return request;
}

static void *receive_message(void *object, void *data, void *buffer, size_t count,
                             const struct lend_ucx_operation *how)
{
    struct worker *worker = object;
    struct message *message = LEND_LIST_OWNER(data, struct message, bytes);
    struct request *request = new_request(worker, how);

    request->is_receive = true;
    request->other = message->from;
    request->pieces = buffer;
    request->piece_count = count;
    request->message = message;
    lend_list_append(&held, &request->link);
    if (!fake_ucx.holds_receives) {
        land(request);
        answer(message, LEND_UCX_OK);
        finish(request, LEND_UCX_OK);
    }
    return request;
}

static void put(int number, const void *header, size_t header_length, const void *payload,
                size_t length, bool is_rendezvous)
{
    struct lend_list *at = workers.next;

    while (number-- > 0)
        at = at->next;
    struct worker *worker = LEND_LIST_OWNER(at, struct worker, link);
    const struct endpoint from = {.from = worker};
    struct message *message = new_message(&from, header, header_length, length);

    message->is_rendezvous = is_rendezvous;
    if (payload != NULL)
        memcpy(message->bytes, payload, length);
    lend_list_append(&worker->inbox, &message->link);
    ring(worker);
}

void fake_ucx_say(int worker, const void *header, size_t header_length, size_t length,
                  bool is_rendezvous)
{
    put(worker, header, header_length, NULL, length, is_rendezvous);
}

void fake_ucx_tell(int worker, const void *header, size_t header_length, const void *payload,
                   size_t length)
{
    put(worker, header, header_length, payload, length, false);
}

static void data_release(void *worker, void *data)
{
    (void)worker;
    drop_message(LEND_LIST_OWNER(data, struct message, bytes));
}

static void request_free(void *object)
{
    struct request *request = object;

    if (request->message != NULL && request->is_receive)
        drop_message(request->message);
    free(request);
    fake_ucx.requests--;
}

/* --- progress --- */

static void deliver(struct worker *worker, struct message *message)
{
    const struct lend_ucx_received how = {.recv_attr = (uint64_t)(message->is_rendezvous
                                                                      ? LEND_UCX_RECEIVED_RENDEZVOUS
                                                                      : LEND_UCX_RECEIVED_DATA)};

    lend_list_remove(&message->link);
    if (worker->handler.callback(worker->handler.argument, message->header, message->header_length,
                                 message->bytes, message->length, &how) != LEND_UCX_IN_PROGRESS)
        drop_message(message);
}

static void call_back(struct request *request)
{
    const struct lend_ucx_operation *how = &request->how;

    if (request->is_receive)
        how->callback.receive(request, request->status, request->message->length, how->user_data);
    else
        how->callback.send(request, request->status, how->user_data);
}

static unsigned worker_progress(void *object)
{
    struct worker *worker = object;
    struct lend_list *at;
    uint64_t rings;

    if ((at = lend_list_take_first(&worker->done)) != NULL) {
        call_back(LEND_LIST_OWNER(at, struct request, link));
        return 1;
    }
    if (!lend_list_is_empty(&worker->inbox)) {
        at = fake_ucx.reverses ? worker->inbox.previous : worker->inbox.next;
        deliver(worker, LEND_LIST_OWNER(at, struct message, link));
        return 1;
    }
    if ((at = lend_list_take_first(&worker->broken)) != NULL) {
        struct endpoint *endpoint = LEND_LIST_OWNER(at, struct endpoint, told);

        endpoint->error(endpoint->argument, endpoint, -25);
        return 1;
    }
    if (read(worker->fd, &rings, sizeof rings) < 0)
        return 0;
    return 0;
}

static lend_ucx_status worker_arm(void *object)
{
    const struct worker *worker = object;

    return lend_list_is_empty(&worker->inbox) && lend_list_is_empty(&worker->done) &&
                   lend_list_is_empty(&worker->broken)
               ? LEND_UCX_OK
               : LEND_UCX_BUSY;
}

/* --- endpoints --- */

static lend_ucx_status endpoint_create(void *object, const struct lend_ucx_endpoint_params *params,
                                       void **out)
{
    struct address address;

    memcpy(&address, params->address, sizeof address);
    if (fails())
        return fake_ucx.failure;
    if (address.magic != MAGIC || !is_alive(address.worker))
        return LEND_UCX_UNREACHABLE;
    struct endpoint *endpoint = calloc(1, sizeof *endpoint);
    endpoint->from = object;
    endpoint->to = address.worker;
    endpoint->error = params->error_callback;
    endpoint->argument = params->error_argument;
    lend_list_init(&endpoint->told);
    lend_list_append(&all_endpoints, &endpoint->link);
    fake_ucx.endpoints++;
    *out = endpoint;
    return LEND_UCX_OK;
}

/* What goes on between the two is over. */
static void cut(struct worker *one, const struct worker *other)
{
    for (struct lend_list *at = held.next, *next; at != &held; at = next) {
        struct request *request = LEND_LIST_OWNER(at, struct request, link);

        next = at->next;
        if (request->worker == one && request->other == other && !fake_ucx.is_stubborn)
            finish(request, LEND_UCX_CANCELED);
    }
    for (struct lend_list *at = all_endpoints.next; at != &all_endpoints; at = at->next) {
        struct endpoint *endpoint = LEND_LIST_OWNER(at, struct endpoint, link);

        if (endpoint->from == other && endpoint->to == one) {
            endpoint->to = NULL;
            lend_list_append(&endpoint->from->broken, &endpoint->told);
            ring(endpoint->from);
        }
    }
}

static void *endpoint_close(void *object, const struct lend_ucx_operation *how)
{
    struct endpoint *endpoint = object;

    (void)how;
    if (endpoint->to != NULL)
        cut(endpoint->from, endpoint->to);
    lend_list_remove(&endpoint->told);
    lend_list_remove(&endpoint->link);
    free(endpoint);
    fake_ucx.endpoints--;
    fake_ucx.closed++;
    return NULL;
}

static void *endpoint_flush(void *endpoint, const struct lend_ucx_operation *how)
{
    (void)endpoint;
    (void)how;
    return NULL;
}

/* --- making --- */

static const char *version_string(void)
{
    return "0.0 (a fake)";
}

static const char *status_string(lend_ucx_status status)
{
    return status == LEND_UCX_OK ? "success" : "a fake's failure";
}

static lend_ucx_status config_read(const char *prefix, const char *file, void **out)
{
    (void)prefix;
    (void)file;
    if (fails())
        return fake_ucx.failure;
    *out = &fake_ucx;
    fake_ucx.configs++;
    return LEND_UCX_OK;
}

static lend_ucx_status config_modify(void *config, const char *name, const char *value)
{
    (void)config;
    (void)name;
    return strcmp(value, "nonsense") == 0 ? LEND_UCX_NO_ELEMENT : LEND_UCX_OK;
}

static void config_release(void *config)
{
    (void)config;
    fake_ucx.configs--;
}

static lend_ucx_status init(unsigned major, unsigned minor,
                            const struct lend_ucx_context_params *params, const void *config,
                            void **out)
{
    (void)major;
    (void)minor;
    (void)params;
    (void)config;
    if (fails())
        return fake_ucx.failure;
    *out = &fake_ucx;
    fake_ucx.contexts++;
    return LEND_UCX_OK;
}

static void cleanup(void *context)
{
    (void)context;
    fake_ucx.contexts--;
}

static lend_ucx_status worker_create(void *context, const struct lend_ucx_worker_params *params,
                                     void **out)
{
    (void)context;
    (void)params;
    if (fails())
        return fake_ucx.failure;
    struct worker *worker = calloc(1, sizeof *worker);
    lend_list_init(&worker->inbox);
    lend_list_init(&worker->done);
    lend_list_init(&worker->broken);
    worker->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    lend_list_append(&workers, &worker->link);
    fake_ucx.workers++;
    *out = worker;
    return LEND_UCX_OK;
}

static void worker_destroy(void *object)
{
    struct worker *worker = object;

    while (!lend_list_is_empty(&worker->inbox))
        drop_message(LEND_LIST_OWNER(worker->inbox.next, struct message, link));
    lend_list_remove(&worker->link);
    (void)close(worker->fd);
    free(worker);
    fake_ucx.workers--;
}

static lend_ucx_status worker_query(void *worker, struct lend_ucx_worker_attributes *attributes)
{
    if (fails())
        return fake_ucx.failure;
    struct address *address = calloc(1, sizeof *address);
    *address = (struct address){.magic = MAGIC, .worker = worker};
    attributes->address = address;
    attributes->address_length = sizeof *address;
    attributes->max_am_header = sizeof((struct message *)NULL)->header;
    return LEND_UCX_OK;
}

static void worker_release_address(void *worker, void *address)
{
    (void)worker;
    free(address);
}

static lend_ucx_status worker_get_efd(void *object, int *out)
{
    const struct worker *worker = object;

    if (fails())
        return fake_ucx.failure;
    *out = worker->fd;
    return LEND_UCX_OK;
}

static lend_ucx_status worker_set_handler(void *object, const struct lend_ucx_handler *handler)
{
    struct worker *worker = object;

    if (fails())
        return fake_ucx.failure;
    worker->handler = *handler;
    return LEND_UCX_OK;
}

const struct lend_ucx_ops fake_ucx_ops = {
    .version_string = version_string,
    .status_string = status_string,
    .config_read = config_read,
    .config_modify = config_modify,
    .config_release = config_release,
    .init = init,
    .cleanup = cleanup,
    .worker_create = worker_create,
    .worker_destroy = worker_destroy,
    .worker_query = worker_query,
    .worker_release_address = worker_release_address,
    .worker_get_efd = worker_get_efd,
    .worker_arm = worker_arm,
    .worker_progress = worker_progress,
    .worker_set_handler = worker_set_handler,
    .endpoint_create = endpoint_create,
    .endpoint_close = endpoint_close,
    .endpoint_flush = endpoint_flush,
    .send = send_message,
    .receive = receive_message,
    .data_release = data_release,
    .request_free = request_free,
};
