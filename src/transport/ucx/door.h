/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TRANSPORT_UCX_DOOR_H
#define LEND_TRANSPORT_UCX_DOOR_H

#include <lend/status.h>

#include <stddef.h>
#include <sys/socket.h>

/*
 * The door to UCX: what we use of libucp.so.0, which is opened when an agent's configuration asks
 * for it, so that the library loads where there is none. Names, layouts and numbers are those of
 * UCX's stable ABI (1.11 and later), written down here so that building needs no UCX either;
 * tests/unit/ucx_door_test.c compares them with the real headers where those are.
 *
 * Handles are untyped. A function that may go on in the background returns a *state*: NULL, it is
 * done; a status as a small negative number in a pointer's clothes, it could not be; or a request,
 * whose callback will be called, and which is then to be freed.
 */

typedef int8_t lend_ucx_status; /* a packed enumeration: one byte */

enum {
    LEND_UCX_OK = 0,
    LEND_UCX_IN_PROGRESS = 1,
    LEND_UCX_NO_MEMORY = -4,
    LEND_UCX_UNREACHABLE = -6,
    LEND_UCX_NO_ELEMENT = -12,
    LEND_UCX_BUSY = -15,
    LEND_UCX_CANCELED = -16,
    LEND_UCX_STATUS_LAST = -100,
};

/* Versions of the interface that we were written for. */
enum { LEND_UCX_MAJOR = 1, LEND_UCX_MINOR = 11 };

enum {
    LEND_UCX_CONTEXT_FEATURES = 1 << 0,
    LEND_UCX_CONTEXT_SHARED = 1 << 5,

    LEND_UCX_FEATURE_WAKEUP = 1 << 4,
    LEND_UCX_FEATURE_MESSAGES = 1 << 6,

    LEND_UCX_WORKER_THREADS = 1 << 0,
    LEND_UCX_WORKER_EVENTS = 1 << 2,
    LEND_UCX_WORKER_FLAGS = 1 << 5,
    LEND_UCX_THREADS_SERIALIZED = 1,
    LEND_UCX_WAKEUP_SENT = 1 << 10,
    LEND_UCX_WAKEUP_RECEIVED = 1 << 11,
    LEND_UCX_WORKER_QUIET_LEAKS = 1 << 0,

    LEND_UCX_QUERY_ADDRESS = 1 << 1,
    LEND_UCX_QUERY_ADDRESS_FLAGS = 1 << 2,
    LEND_UCX_QUERY_MESSAGE_HEADER = 1 << 3,
    LEND_UCX_ADDRESS_NET_ONLY = 1 << 0,

    LEND_UCX_ENDPOINT_ADDRESS = 1 << 0,
    LEND_UCX_ENDPOINT_ERROR_MODE = 1 << 1,
    LEND_UCX_ENDPOINT_ERROR_HANDLER = 1 << 2,
    LEND_UCX_ERROR_MODE_PEER = 1,
    LEND_UCX_CLOSE_FORCE = 1 << 0,

    LEND_UCX_HANDLER_ID = 1 << 0,
    LEND_UCX_HANDLER_FLAGS = 1 << 1,
    LEND_UCX_HANDLER_CALLBACK = 1 << 2,
    LEND_UCX_HANDLER_ARGUMENT = 1 << 3,
    LEND_UCX_HANDLER_WHOLE = 1 << 0,
    LEND_UCX_HANDLER_PERSISTENT = 1 << 1,

    LEND_UCX_RECEIVED_DATA = 1 << 16,       /* may be kept: then IN_PROGRESS is returned */
    LEND_UCX_RECEIVED_RENDEZVOUS = 1 << 17, /* is not here yet: data is what names it */

    LEND_UCX_OPERATION_CALLBACK = 1 << 1,
    LEND_UCX_OPERATION_USER_DATA = 1 << 2,
    LEND_UCX_OPERATION_DATATYPE = 1 << 3,
    LEND_UCX_OPERATION_FLAGS = 1 << 4,
    LEND_UCX_OPERATION_MEMORY_TYPE = 1 << 6,
    LEND_UCX_OPERATION_LENGTH = 1 << 7,

    LEND_UCX_SEND_EAGER = 1 << 1,
    LEND_UCX_SEND_RENDEZVOUS = 1 << 2,

    LEND_UCX_DATATYPE_BYTES = 1 << 3, /* contiguous, of one byte each */
    LEND_UCX_DATATYPE_PIECES = 2,     /* an array of lend_ucx_piece */
    LEND_UCX_MEMORY_HOST = 0,
};

enum { LEND_UCX_NAME_BYTES = 32, LEND_UCX_CPU_WORDS = 16 };

struct lend_ucx_context_params {
    uint64_t field_mask;
    uint64_t features;
    size_t request_size;
    void (*request_init)(void *request);
    void (*request_cleanup)(void *request);
    uint64_t tag_sender_mask;
    int mt_workers_shared;
    size_t estimated_num_eps;
    size_t estimated_num_ppn;
    const char *name;
};

struct lend_ucx_worker_params {
    uint64_t field_mask;
    int thread_mode;
    unsigned long cpu_mask[LEND_UCX_CPU_WORDS];
    unsigned events;
    void *user_data;
    int event_fd;
    uint64_t flags;
    const char *name;
    size_t am_alignment;
    uint64_t client_id;
};

struct lend_ucx_worker_attributes {
    uint64_t field_mask;
    int thread_mode;
    uint32_t address_flags;
    void *address;
    size_t address_length;
    size_t max_am_header;
    char name[LEND_UCX_NAME_BYTES];
    size_t max_debug_string;
};

struct lend_ucx_socket_address {
    const struct sockaddr *address;
    socklen_t length;
};

struct lend_ucx_endpoint_params {
    uint64_t field_mask;
    const void *address;
    int err_mode;
    void (*error_callback)(void *argument, void *endpoint, lend_ucx_status status);
    void *error_argument;
    void *user_data;
    unsigned flags;
    struct lend_ucx_socket_address sockaddr;
    void *conn_request;
    const char *name;
    struct lend_ucx_socket_address local_sockaddr;
};

struct lend_ucx_received {
    uint64_t recv_attr;
    void *reply_ep;
};

struct lend_ucx_handler {
    uint64_t field_mask;
    unsigned id;
    uint32_t flags;
    lend_ucx_status (*callback)(void *argument, const void *header, size_t header_length,
                                void *data, size_t length, const struct lend_ucx_received *how);
    void *argument;
};

struct lend_ucx_operation {
    uint32_t op_attr_mask;
    uint32_t flags;
    void *request;
    union {
        void (*send)(void *request, lend_ucx_status status, void *user_data);
        void (*receive)(void *request, lend_ucx_status status, size_t length, void *user_data);
    } callback;
    uint64_t datatype;
    void *user_data;
    void *reply_buffer;
    int memory_type;
    size_t *received_length;
    void *memh;
};

struct lend_ucx_piece {
    void *buffer;
    size_t length;
};

struct lend_ucx_ops {
    const char *(*version_string)(void);
    const char *(*status_string)(lend_ucx_status status);
    lend_ucx_status (*config_read)(const char *prefix, const char *file, void **out_config);
    lend_ucx_status (*config_modify)(void *config, const char *name, const char *value);
    void (*config_release)(void *config);
    lend_ucx_status (*init)(unsigned major, unsigned minor,
                            const struct lend_ucx_context_params *params, const void *config,
                            void **out_context);
    void (*cleanup)(void *context);
    lend_ucx_status (*worker_create)(void *context, const struct lend_ucx_worker_params *params,
                                     void **out_worker);
    void (*worker_destroy)(void *worker);
    lend_ucx_status (*worker_query)(void *worker, struct lend_ucx_worker_attributes *attributes);
    void (*worker_release_address)(void *worker, void *address);
    lend_ucx_status (*worker_get_efd)(void *worker, int *out_fd);
    lend_ucx_status (*worker_arm)(void *worker);
    unsigned (*worker_progress)(void *worker);
    lend_ucx_status (*worker_set_handler)(void *worker, const struct lend_ucx_handler *handler);
    lend_ucx_status (*endpoint_create)(void *worker, const struct lend_ucx_endpoint_params *params,
                                       void **out_endpoint);
    void *(*endpoint_close)(void *endpoint, const struct lend_ucx_operation *how);
    void *(*endpoint_flush)(void *endpoint, const struct lend_ucx_operation *how);
    void *(*send)(void *endpoint, unsigned id, const void *header, size_t header_length,
                  const void *buffer, size_t count, const struct lend_ucx_operation *how);
    void *(*receive)(void *worker, void *data, void *buffer, size_t count,
                     const struct lend_ucx_operation *how);
    void (*data_release)(void *worker, void *data);
    void (*request_free)(void *request);
};

/* NULL: the library that the configuration names. A test points it at a fake. */
extern const struct lend_ucx_ops *lend_ucx;

/* Fill out from the library of that name, which stays loaded. LEND_E_UNSUPPORTED: there is none, or
 * it lacks a function. */
enum lend_status lend_ucx_load(const char *name, struct lend_ucx_ops *out,
                               struct lend_error *error);

/* Is a state a request, which goes on? */
static inline int lend_ucx_is_request(const void *state)
{
    return state != NULL && (uintptr_t)state < (uintptr_t)LEND_UCX_STATUS_LAST;
}

/* The status in a state that is none. */
static inline lend_ucx_status lend_ucx_state_status(const void *state)
{
    return (lend_ucx_status)(intptr_t)state;
}

#endif
