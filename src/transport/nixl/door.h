/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TRANSPORT_NIXL_DOOR_H
#define LEND_TRANSPORT_NIXL_DOOR_H

#include <lend/nixl.h>
#include <lend/status.h>

#include <stdbool.h>
#include <stddef.h>

/*
 * The door to NVIDIA's NIXL: what we use of its libnixl_capi.so, which is opened when an agent's
 * configuration asks for it. Names, layouts and numbers are those of NIXL 1.0 and later, which are
 * the same in every release so far. Handles are untyped.
 *
 * One call at a time of one agent: NIXL's own locks are off.
 */

typedef int lend_nixl_result; /* an enumeration; a negative one is a failure */

enum {
    LEND_NIXL_OK = 0,
    LEND_NIXL_IN_PROGRESS = 1,
    LEND_NIXL_FAILURE = -2, /* and all that is wrong, up to 1.4 */

    LEND_NIXL_MEMORY_DRAM = 0,

    LEND_NIXL_READ = 0,
    LEND_NIXL_WRITE = 1,

    LEND_NIXL_SYNC_NONE = 0,
};

struct lend_nixl_agent_config {
    bool has_progress_thread;
    bool has_listener;
    int listen_port;
    int thread_sync;
    unsigned worker_count;
    uint64_t progress_delay_us;
    uint64_t listener_delay_us;
    bool has_telemetry;
};

struct lend_nixl_ops {
    lend_nixl_result (*agent_create)(const char *name, const struct lend_nixl_agent_config *config,
                                     void **out_agent);
    lend_nixl_result (*agent_destroy)(void *agent);
    lend_nixl_result (*params_create)(void **out_params);
    lend_nixl_result (*params_destroy)(void *params);
    lend_nixl_result (*params_add)(void *params, const char *key, const char *value);
    lend_nixl_result (*backend_create)(void *agent, const char *plugin, void *params,
                                       void **out_backend);
    lend_nixl_result (*backend_destroy)(void *backend); /* the handle alone */

    /* Metadata: bytes are malloc'd, the caller's to free(). */
    lend_nixl_result (*metadata_get)(void *agent, void **out_bytes, size_t *out_count);
    lend_nixl_result (*metadata_load)(void *agent, const void *bytes, size_t count,
                                      char **out_name);
    lend_nixl_result (*metadata_check)(void *agent, const char *name, void *list);
    lend_nixl_result (*metadata_forget)(void *agent, const char *name);

    lend_nixl_result (*memory_list_create)(int kind, void **out_list);
    lend_nixl_result (*memory_list_destroy)(void *list);
    lend_nixl_result (*memory_list_add)(void *list, uintptr_t address, size_t length,
                                        uint64_t device, const void *extra, size_t extra_count);
    lend_nixl_result (*memory_register)(void *agent, void *list, void *options);
    lend_nixl_result (*memory_deregister)(void *agent, void *list, void *options);

    lend_nixl_result (*list_create)(int kind, void **out_list);
    lend_nixl_result (*list_destroy)(void *list);
    lend_nixl_result (*list_add)(void *list, uintptr_t address, size_t length, uint64_t device);

    lend_nixl_result (*request_create)(void *agent, int direction, void *local, void *remote,
                                       const char *name, void **out_request, void *options);
    lend_nixl_result (*request_post)(void *agent, void *request, void *options);
    lend_nixl_result (*request_status)(void *agent, void *request);
    lend_nixl_result (*request_release)(void *agent, void *request);
    lend_nixl_result (*request_destroy)(void *request);

    lend_nixl_result (*notify)(void *agent, const char *name, const void *bytes, size_t count,
                               void *options);
    lend_nixl_result (*notifications_create)(void **out_map);
    lend_nixl_result (*notifications_destroy)(void *map);
    lend_nixl_result (*notifications_clear)(void *map);
    lend_nixl_result (*notifications_get)(void *agent, void *map, void *options);
    lend_nixl_result (*notifications_size)(void *map, size_t *out_count);
    lend_nixl_result (*notifications_name)(void *map, size_t index, const char **out_name);
    lend_nixl_result (*notifications_count)(void *map, const char *name, size_t *out_count);
    lend_nixl_result (*notifications_at)(void *map, const char *name, size_t index,
                                         const void **out_bytes, size_t *out_count);

    void (*free)(void *bytes); /* of libc: for what NIXL has malloc'd */
};

/* NULL: the library that is found. A test points it at a fake. */
extern const struct lend_nixl_ops *lend_nixl;

/*
 * Find NVIDIA's library, and load it: it stays loaded. The file that is named; or, for NULL, where
 * it is in this process already, by its bare name, and in the places where wheels and NVIDIA's own
 * packages put it. What is lend's own, or a stub, is passed over, and never loaded as NVIDIA's.
 * `found` tells which it was, or the last that it was not; ops may be NULL: only to look.
 * LEND_E_ABSENT: there is none. LEND_E_UNSUPPORTED: the named file is not NVIDIA's, or lacks a
 * function.
 */
enum lend_status lend_nixl_load(const char *library, struct lend_nixl_ops *ops,
                                struct lend_nixl_library *found, struct lend_error *error);

#endif
