/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NIXL_CAPI_H
#define NIXL_CAPI_H

/**
 * @file
 * The C ABI that programs of NVIDIA NIXL call, as lend provides it.
 *
 * Names, values and layouts are those of NIXL 1.0 to 1.5, so that a program which loads
 * `libnixl_capi.so` by its bare name runs on this one unchanged. Whoever
 * can choose calls lend itself (lend/lend.h): its leases can expire and be taken back while they
 * are in use, which this ABI has no words for. docs/nixl.md says which promises are left here, and
 * where this library differs from NVIDIA's.
 *
 *     create_agent -> create_backend -> register_mem -> get_local_md  ~~>  load_remote_md
 *          (prep_xfer_dlist x 2 -> make_xfer_req) | create_xfer_req
 *          -> post_xfer_req -> get_xfer_status until it is not IN_PROG
 *          -> release_xfer_req -> destroy_xfer_req ... deregister_mem -> destroy_agent
 *
 * What holds for all functions, and is not repeated at each:
 *
 * Status: NIXL_CAPI_ERROR_INVALID_PARAM for a NULL handle, for a NULL pointer to take a result, and
 * for any argument that is documented as required and is NULL. NIXL_CAPI_ERROR_BACKEND where memory
 * runs out, and for every failure that has no status of its own. An opt_args may always be NULL.
 * What is listed at a function comes on top of that.
 *
 * Ownership: what comes through a pointer to a handle is the caller's, who ends it with the
 * function named for it, which must not be done twice. A pointer to a handle, to bytes or to a
 * string is NULL after a call that failed. Strings and bytes that are given are copied; strings and
 * bytes that are shown (const) belong to the object they are from, and are good until it is
 * changed or destroyed. No function keeps a list, parameters or options that it was given.
 *
 * Threads: functions on an agent, and on what belongs to it (backends, prepared lists, requests,
 * views), are safe from any thread, whatever thread_sync says. Lists, parameters, iterators,
 * options and maps belong to one thread at a time. Who destroys an object sees to it that nobody
 * still uses it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(NIXL_CAPI_BUILDING)
#define NIXL_CAPI_API __attribute__((visibility("default")))
#else
#define NIXL_CAPI_API
#endif

typedef enum {
    NIXL_CAPI_SUCCESS = 0,
    NIXL_CAPI_IN_PROG = 1, /**< Under way; ask again. */
    NIXL_CAPI_ERROR_INVALID_PARAM = -1,
    NIXL_CAPI_ERROR_BACKEND = -2,       /**< Every failure that has no status of its own. */
    NIXL_CAPI_ERROR_INVALID_STATE = -3, /**< Not now: something has to come before it. */
    NIXL_CAPI_ERROR_EXCEPTION = -4,     /**< Never returned here. */
    NIXL_CAPI_ERROR_NO_TELEMETRY = -5,
    NIXL_CAPI_ERROR_NOT_FOUND = -6, /**< In NIXL 1.4 and before: BACKEND. */
} nixl_capi_status_t;

typedef enum {
    NIXL_CAPI_MEM_DRAM = 0,
    NIXL_CAPI_MEM_VRAM = 1,
    NIXL_CAPI_MEM_BLOCK = 2,
    NIXL_CAPI_MEM_OBJECT = 3,
    NIXL_CAPI_MEM_FILE = 4,
    NIXL_CAPI_MEM_UNKNOWN = 5,
} nixl_capi_mem_type_t;

/** Taken for compatibility, and of no effect: an agent is always safe from any thread. */
typedef enum {
    NIXL_CAPI_THREAD_SYNC_NONE = 0,
    NIXL_CAPI_THREAD_SYNC_STRICT = 1,
    NIXL_CAPI_THREAD_SYNC_RW = 2,
} nixl_capi_thread_sync_t;

typedef enum {
    NIXL_CAPI_XFER_OP_READ = 0,
    NIXL_CAPI_XFER_OP_WRITE = 1,
} nixl_capi_xfer_op_t;

typedef enum {
    NIXL_CAPI_COST_ANALYTICAL_BACKEND = 0,
} nixl_capi_cost_t;

typedef struct {
    bool enable_prog_thread;   /**< Of no effect: there always is one. */
    bool enable_listen_thread; /**< Let peers fetch our metadata from listen_port. */
    int listen_port;
    nixl_capi_thread_sync_t thread_sync;
    unsigned int num_workers; /**< Of no effect, as in NIXL. */
    uint64_t pthr_delay_us;   /**< Of no effect. */
    uint64_t lthr_delay_us;   /**< Of no effect. */
    bool capture_telemetry;   /**< Else get_xfer_telemetry() is NO_TELEMETRY. */
} nixl_capi_agent_config_t;

struct nixl_capi_xfer_telemetry_s {
    uint64_t start_time_us; /**< Of the steady clock, not of the day. */
    uint64_t post_duration_us;
    uint64_t xfer_duration_us;
    uint64_t total_bytes;
    uint64_t desc_count;
};

typedef struct nixl_capi_agent_s *nixl_capi_agent_t;
typedef struct nixl_capi_params_s *nixl_capi_params_t;
typedef struct nixl_capi_mem_list_s *nixl_capi_mem_list_t;
typedef struct nixl_capi_string_list_s *nixl_capi_string_list_t;
typedef struct nixl_capi_backend_s *nixl_capi_backend_t;
typedef struct nixl_capi_opt_args_s *nixl_capi_opt_args_t;
typedef struct nixl_capi_param_iter_s *nixl_capi_param_iter_t;
typedef struct nixl_capi_xfer_dlist_s *nixl_capi_xfer_dlist_t;
typedef struct nixl_capi_xfer_dlist_handle_s *nixl_capi_xfer_dlist_handle_t;
typedef struct nixl_capi_reg_dlist_s *nixl_capi_reg_dlist_t;
typedef struct nixl_capi_xfer_req_s *nixl_capi_xfer_req_t;
typedef struct nixl_capi_notif_map_s *nixl_capi_notif_map_t;
typedef struct nixl_capi_query_resp_list_s *nixl_capi_query_resp_list_t;
typedef struct nixl_capi_remote_dlist_s *nixl_capi_remote_dlist_t;
typedef struct nixl_capi_mem_view_s *nixl_capi_mem_view_t;
typedef struct nixl_capi_xfer_telemetry_s *nixl_capi_xfer_telemetry_t;

/* Agents ---------------------------------------------------------------------------------------*/

/** True of a library that only loads another one. False here: this is the library itself. */
NIXL_CAPI_API bool nixl_capi_is_stub(void);

/**
 * An agent: a name that peers know, memory that is registered, and what is known of peers. End it
 * with destroy_agent().
 *
 * @param cfg required; copied.
 * @retval NIXL_CAPI_ERROR_INVALID_PARAM the name is empty or too long.
 */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_create_configured_agent(
    const char *name, const nixl_capi_agent_config_t *cfg, nixl_capi_agent_t *agent);

/** As nixl_capi_create_configured_agent(), without a listener and without telemetry. */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_create_agent(const char *name, nixl_capi_agent_t *agent);

/**
 * End an agent: every registration ends with it, and not one byte lands when it has returned. Its
 * requests, prepared lists and backends are still to be destroyed by their own functions, where
 * all calls but those fail cleanly.
 */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_destroy_agent(nixl_capi_agent_t agent);

/* Metadata: what a peer must know to reach us --------------------------------------------------*/

/**
 * All of it: how the agent is reached, and what is registered.
 *
 * @param data the bytes, to be ended with free().
 * @retval NIXL_CAPI_ERROR_INVALID_PARAM the agent has no backend.
 */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_get_local_md(nixl_capi_agent_t agent, void **data,
                                                        size_t *len);

/**
 * Some of it: of the descriptors given alone, which must be registered exactly so.
 *
 * @param descs required; an empty list stands for how the agent is reached, and nothing else.
 * @param data  the bytes, to be ended with free().
 * @retval NIXL_CAPI_ERROR_NOT_FOUND a descriptor is not registered.
 */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_get_local_partial_md(nixl_capi_agent_t agent,
                                                                nixl_capi_reg_dlist_t descs,
                                                                void **data, size_t *len,
                                                                nixl_capi_opt_args_t opt_args);

/**
 * Know a peer, or more of one that is known.
 *
 * @param agent_name its name, to be ended with free().
 * @retval NIXL_CAPI_ERROR_INVALID_PARAM no bytes, or our own name in them.
 * @retval NIXL_CAPI_ERROR_BACKEND the bytes are not what an agent exported. Nothing was changed.
 */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_load_remote_md(nixl_capi_agent_t agent, const void *data,
                                                          size_t len, char **agent_name);

/**
 * Forget a peer. Its prepared lists and requests fail from now on.
 *
 * @retval NIXL_CAPI_ERROR_NOT_FOUND no peer of that name is known.
 */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_invalidate_remote_md(nixl_capi_agent_t agent,
                                                                const char *remote_agent);

/** Take back what send_local_md() published, or have the peer at the address in opt_args forget us.
 */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_invalidate_local_md(nixl_capi_agent_t agent,
                                                               nixl_capi_opt_args_t opt_args);

/**
 * Whether a peer is known.
 *
 * @param descs may be NULL; else all of them must be covered by what the peer has registered.
 * @retval NIXL_CAPI_ERROR_NOT_FOUND it is not, or they are not.
 */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_check_remote_md(nixl_capi_agent_t agent,
                                                           const char *remote_name,
                                                           nixl_capi_xfer_dlist_t descs);

/**
 * Send get_local_md() to the listener at the address in opt_args, or publish it where there is no
 * address. Returns at once; the peer's check_remote_md() tells when it has come.
 *
 * @retval NIXL_CAPI_ERROR_INVALID_PARAM neither an address nor a directory is configured.
 */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_send_local_md(nixl_capi_agent_t agent,
                                                         nixl_capi_opt_args_t opt_args);

/** As nixl_capi_send_local_md(), of what get_local_partial_md() gives. */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_send_local_partial_md(nixl_capi_agent_t agent,
                                                                 nixl_capi_reg_dlist_t descs,
                                                                 nixl_capi_opt_args_t opt_args);

/** Ask the listener at the address in opt_args, or a directory, for a peer's metadata, and load it.
 * Returns at once; check_remote_md() tells when it has come. Statuses as send_local_md(). */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_fetch_remote_md(nixl_capi_agent_t agent,
                                                           const char *remote_name,
                                                           nixl_capi_opt_args_t opt_args);

/** Connect now instead of with the first transfer. NIXL_CAPI_ERROR_NOT_FOUND: no such peer. */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_agent_make_connection(nixl_capi_agent_t agent,
                                                                 const char *remote_agent,
                                                                 nixl_capi_opt_args_t opt_args);

/* Backends -------------------------------------------------------------------------------------*/

/** The backends that create_backend() takes here. End the list with destroy_string_list(). */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_get_available_plugins(nixl_capi_agent_t agent,
                                                                 nixl_capi_string_list_t *plugins);

/**
 * What a backend would take, and for which memory. End both with their destroy functions.
 *
 * @retval NIXL_CAPI_ERROR_NOT_FOUND no backend of that name.
 */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_get_plugin_params(nixl_capi_agent_t agent,
                                                             const char *plugin_name,
                                                             nixl_capi_mem_list_t *mems,
                                                             nixl_capi_params_t *params);

/**
 * Let an agent move data by a backend. One of each name.
 *
 * @param params required; may be empty.
 * @retval NIXL_CAPI_ERROR_INVALID_PARAM the agent has one of that name.
 * @retval NIXL_CAPI_ERROR_NOT_FOUND no backend of that name.
 */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_create_backend(nixl_capi_agent_t agent,
                                                          const char *plugin_name,
                                                          nixl_capi_params_t params,
                                                          nixl_capi_backend_t *backend);

/** End the handle. The backend itself ends with the agent. */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_destroy_backend(nixl_capi_backend_t backend);

/** As nixl_capi_get_plugin_params(), of a backend that was created. */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_get_backend_params(nixl_capi_agent_t agent,
                                                              nixl_capi_backend_t backend,
                                                              nixl_capi_mem_list_t *mems,
                                                              nixl_capi_params_t *params);

/* Memory ---------------------------------------------------------------------------------------*/

/**
 * Lend memory to every peer that has our metadata, for reading and writing, until it is
 * deregistered. It must stay where it is for as long. Registrations may overlap. All of the list is
 * registered, or nothing.
 *
 * @retval NIXL_CAPI_ERROR_NOT_FOUND no backend takes memory of that kind.
 * @retval NIXL_CAPI_ERROR_INVALID_PARAM a descriptor is not memory of that kind.
 */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_register_mem(nixl_capi_agent_t agent,
                                                        nixl_capi_reg_dlist_t dlist,
                                                        nixl_capi_opt_args_t opt_args);

/**
 * Take memory back. When this has returned with success nobody reads or writes it by way of the
 * registrations that were taken back: transfers under way fail, at both ends. Where a descriptor
 * cannot be, nothing of the list is deregistered.
 *
 * @retval NIXL_CAPI_ERROR_NOT_FOUND a descriptor is not registered exactly so.
 * @retval NIXL_CAPI_ERROR_INVALID_PARAM a descriptor is listed twice.
 * @retval NIXL_CAPI_ERROR_BACKEND one is still in use after five seconds. Those before it in the
 *         list are deregistered, it and those behind it are not.
 */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_deregister_mem(nixl_capi_agent_t agent,
                                                          nixl_capi_reg_dlist_t dlist,
                                                          nixl_capi_opt_args_t opt_args);

/**
 * Whether files or objects are there, one answer for each descriptor.
 *
 * @param resp required; what it held is dropped.
 */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_query_mem(nixl_capi_agent_t agent,
                                                     nixl_capi_reg_dlist_t descs,
                                                     nixl_capi_query_resp_list_t resp,
                                                     nixl_capi_opt_args_t opt_args);

/* Transfers ------------------------------------------------------------------------------------*/

/**
 * Look a list up once, for any number of requests.
 *
 * @param agent_name whose memory it is: a peer's, or "" or our own name for our own.
 * @param dlist_hndl ended with release_xfer_dlist_handle().
 * @retval NIXL_CAPI_ERROR_NOT_FOUND the peer is not known, or a descriptor is not registered.
 */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_prep_xfer_dlist(
    nixl_capi_agent_t agent, const char *agent_name, nixl_capi_xfer_dlist_t descs,
    nixl_capi_xfer_dlist_handle_t *dlist_hndl, nixl_capi_opt_args_t opt_args);

/** A range of memory; for nixl_capi_find_registration(). */
struct nixl_capi_range_s {
    uintptr_t addr;
    size_t len;
    uint64_t dev_id;
};

/**
 * The registration that a range lies within. lend's own: NIXL has no such function.
 *
 * @param agent_name as nixl_capi_prep_xfer_dlist() has it.
 * @param range      the range; on success the registration that it was found in.
 * @retval NIXL_CAPI_ERROR_NOT_FOUND it lies within none, or there is no such agent.
 */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_find_registration(nixl_capi_agent_t agent,
                                                             const char *agent_name,
                                                             nixl_capi_mem_type_t mem_type,
                                                             struct nixl_capi_range_s *range);

/** End a prepared list. Requests made of it stay good. */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_release_xfer_dlist_handle(
    nixl_capi_agent_t agent, nixl_capi_xfer_dlist_handle_t dlist_handle);

/**
 * A request for descriptors of two prepared lists, pair by pair. Ended with release_xfer_req() and
 * then destroy_xfer_req().
 *
 * @retval NIXL_CAPI_ERROR_INVALID_PARAM no or unequally many indices, one beyond the list, unequal
 *         lengths in a pair, sides swapped, or another operation than READ and WRITE.
 * @retval NIXL_CAPI_ERROR_NOT_FOUND the peer was invalidated since the list was prepared, though it
 *         may be known again: prepare the list again.
 */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_make_xfer_req(
    nixl_capi_agent_t agent, nixl_capi_xfer_op_t operation,
    nixl_capi_xfer_dlist_handle_t local_descs, const int *local_indices, size_t local_indices_count,
    nixl_capi_xfer_dlist_handle_t remote_descs, const int *remote_indices,
    size_t remote_indices_count, nixl_capi_xfer_req_t *req_hndl, nixl_capi_opt_args_t opt_args);

/** As nixl_capi_make_xfer_req(), of two lists that are looked up here, pair by pair. */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_create_xfer_req(
    nixl_capi_agent_t agent, nixl_capi_xfer_op_t operation, nixl_capi_xfer_dlist_t local_descs,
    nixl_capi_xfer_dlist_t remote_descs, const char *remote_agent, nixl_capi_xfer_req_t *req_hndl,
    nixl_capi_opt_args_t opt_args);

/** How long it may take. */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_estimate_xfer_cost(
    nixl_capi_agent_t agent, nixl_capi_xfer_req_t req_hndl, nixl_capi_opt_args_t opt_args,
    int64_t *duration_us, int64_t *err_margin_us, nixl_capi_cost_t *method);

/**
 * Start a request. A request may be posted again when it has completed. opt_args replaces the
 * notification that was given when the request was made, or drops it if it has none; NULL keeps it.
 *
 * @retval NIXL_CAPI_SUCCESS it is complete.
 * @retval NIXL_CAPI_IN_PROG it is not; it goes on without further calls.
 * @retval NIXL_CAPI_ERROR_NOT_FOUND the peer was invalidated since the request was made.
 */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_post_xfer_req(nixl_capi_agent_t agent,
                                                         nixl_capi_xfer_req_t req_hndl,
                                                         nixl_capi_opt_args_t opt_args);

/** How a request stands: NIXL_CAPI_SUCCESS, NIXL_CAPI_IN_PROG, or why it failed.
 * NIXL_CAPI_ERROR_INVALID_PARAM: it is released. NIXL_CAPI_ERROR_BACKEND, too: it was not posted.
 */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_get_xfer_status(nixl_capi_agent_t agent,
                                                           nixl_capi_xfer_req_t req_hndl);

/** By which backend a request goes. End the handle with destroy_backend(). */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_query_xfer_backend(nixl_capi_agent_t agent,
                                                              nixl_capi_xfer_req_t req_hndl,
                                                              nixl_capi_backend_t *backend);

/**
 * Give a request up. Not one byte of it lands when this has returned with success.
 *
 * @retval NIXL_CAPI_ERROR_BACKEND it is under way, was canceled, and is not quiet yet: again.
 * @retval NIXL_CAPI_ERROR_INVALID_PARAM it was released before.
 */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_release_xfer_req(nixl_capi_agent_t agent,
                                                            nixl_capi_xfer_req_t req);

/** End a released request. NIXL_CAPI_ERROR_INVALID_STATE: it is not released. */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_destroy_xfer_req(nixl_capi_xfer_req_t req);

/**
 * Times and sizes of a request that is complete.
 *
 * @param telemetry required; the caller's struct, filled in.
 * @retval NIXL_CAPI_ERROR_NO_TELEMETRY the agent was not configured to capture it.
 * @retval NIXL_CAPI_IN_PROG the request is under way.
 */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_get_xfer_telemetry(nixl_capi_agent_t agent,
                                                              nixl_capi_xfer_req_t req_hndl,
                                                              nixl_capi_xfer_telemetry_t telemetry);

/* Notifications --------------------------------------------------------------------------------*/

/** Add what has come since the last call to a map, which keeps what it held. */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_get_notifs(nixl_capi_agent_t agent,
                                                      nixl_capi_notif_map_t notif_map,
                                                      nixl_capi_opt_args_t opt_args);

/**
 * Send a peer, or ourselves, a notification of its own. Returns at once.
 *
 * @param data may be NULL where len is 0.
 * @retval NIXL_CAPI_ERROR_NOT_FOUND no peer of that name is known.
 */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_gen_notif(nixl_capi_agent_t agent,
                                                     const char *remote_agent, const void *data,
                                                     size_t len, nixl_capi_opt_args_t opt_args);

/** A map from the names of agents to their notifications. End it with destroy_notif_map(). */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_create_notif_map(nixl_capi_notif_map_t *notif_map);
NIXL_CAPI_API nixl_capi_status_t nixl_capi_destroy_notif_map(nixl_capi_notif_map_t notif_map);

/** How many agents are in it. */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_notif_map_size(nixl_capi_notif_map_t map, size_t *size);

/** The name of one, in no order that is promised. NIXL_CAPI_ERROR_INVALID_PARAM: beyond the end. */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_notif_map_get_agent_at(nixl_capi_notif_map_t map,
                                                                  size_t index,
                                                                  const char **agent_name);

/** How many notifications of an agent are in it. NIXL_CAPI_ERROR_INVALID_PARAM: no such agent. */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_notif_map_get_notifs_size(nixl_capi_notif_map_t map,
                                                                     const char *agent_name,
                                                                     size_t *size);

/** One of them, in the order of their coming. NIXL_CAPI_ERROR_INVALID_PARAM: no such agent, or
 * beyond the end. The bytes may be none; the pointer to them is never NULL. */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_notif_map_get_notif(nixl_capi_notif_map_t map,
                                                               const char *agent_name, size_t index,
                                                               const void **data, size_t *len);

/** Drop all. */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_notif_map_clear(nixl_capi_notif_map_t map);

/* Lists of descriptors -------------------------------------------------------------------------*/

/** Ranges of memory to move. NIXL_CAPI_ERROR_INVALID_PARAM: no such type of memory. */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_create_xfer_dlist(nixl_capi_mem_type_t mem_type,
                                                             nixl_capi_xfer_dlist_t *dlist);
NIXL_CAPI_API nixl_capi_status_t nixl_capi_destroy_xfer_dlist(nixl_capi_xfer_dlist_t dlist);
NIXL_CAPI_API nixl_capi_status_t nixl_capi_xfer_dlist_get_type(nixl_capi_xfer_dlist_t dlist,
                                                               nixl_capi_mem_type_t *mem_type);

/** Add a range at the end. Nothing of it is looked at before it is used. */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_xfer_dlist_add_desc(nixl_capi_xfer_dlist_t dlist,
                                                               uintptr_t addr, size_t len,
                                                               uint64_t dev_id);

/**
 * Add many ranges at the end. lend's own: NIXL has no such function.
 *
 * @param rows count of them, of three numbers each: address, length, device. Copied.
 */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_xfer_dlist_add_rows(nixl_capi_xfer_dlist_t dlist,
                                                               const uint64_t *rows, size_t count);

/** How many descriptors there are. len() is the same by another name. */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_xfer_dlist_desc_count(nixl_capi_xfer_dlist_t dlist,
                                                                 size_t *count);
NIXL_CAPI_API nixl_capi_status_t nixl_capi_xfer_dlist_len(nixl_capi_xfer_dlist_t dlist,
                                                          size_t *len);
NIXL_CAPI_API nixl_capi_status_t nixl_capi_xfer_dlist_is_empty(nixl_capi_xfer_dlist_t dlist,
                                                               bool *is_empty);

/** Give back the room that descriptors to come would have had. No descriptor goes. */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_xfer_dlist_trim(nixl_capi_xfer_dlist_t dlist);

/** Take one out; those behind it move up. NIXL_CAPI_ERROR_INVALID_PARAM: no such index. */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_xfer_dlist_rem_desc(nixl_capi_xfer_dlist_t dlist,
                                                               int index);
NIXL_CAPI_API nixl_capi_status_t nixl_capi_xfer_dlist_clear(nixl_capi_xfer_dlist_t dlist);

/** Have so many: those beyond are dropped, new ones are all zero. */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_xfer_dlist_resize(nixl_capi_xfer_dlist_t dlist,
                                                             size_t new_size);

/** Write the list to the standard output. */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_xfer_dlist_print(nixl_capi_xfer_dlist_t dlist);

/** Ranges of memory to register. As lists of ranges to move, function by function. */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_create_reg_dlist(nixl_capi_mem_type_t mem_type,
                                                            nixl_capi_reg_dlist_t *dlist);
NIXL_CAPI_API nixl_capi_status_t nixl_capi_destroy_reg_dlist(nixl_capi_reg_dlist_t dlist);
NIXL_CAPI_API nixl_capi_status_t nixl_capi_reg_dlist_get_type(nixl_capi_reg_dlist_t dlist,
                                                              nixl_capi_mem_type_t *mem_type);

/** As nixl_capi_xfer_dlist_add_desc(); metadata (a path, a key) may be NULL where its length is 0.
 */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_reg_dlist_add_desc(nixl_capi_reg_dlist_t dlist,
                                                              uintptr_t addr, size_t len,
                                                              uint64_t dev_id, const void *metadata,
                                                              size_t metadata_len);
NIXL_CAPI_API nixl_capi_status_t nixl_capi_reg_dlist_desc_count(nixl_capi_reg_dlist_t dlist,
                                                                size_t *count);
NIXL_CAPI_API nixl_capi_status_t nixl_capi_reg_dlist_is_empty(nixl_capi_reg_dlist_t dlist,
                                                              bool *is_empty);
NIXL_CAPI_API nixl_capi_status_t nixl_capi_reg_dlist_trim(nixl_capi_reg_dlist_t dlist);
NIXL_CAPI_API nixl_capi_status_t nixl_capi_reg_dlist_rem_desc(nixl_capi_reg_dlist_t dlist,
                                                              int index);
NIXL_CAPI_API nixl_capi_status_t nixl_capi_reg_dlist_clear(nixl_capi_reg_dlist_t dlist);
NIXL_CAPI_API nixl_capi_status_t nixl_capi_reg_dlist_resize(nixl_capi_reg_dlist_t dlist,
                                                            size_t new_size);
NIXL_CAPI_API nixl_capi_status_t nixl_capi_reg_dlist_print(nixl_capi_reg_dlist_t dlist);

/* Lists of strings and of types of memory ------------------------------------------------------*/

NIXL_CAPI_API nixl_capi_status_t nixl_capi_destroy_string_list(nixl_capi_string_list_t list);
NIXL_CAPI_API nixl_capi_status_t nixl_capi_string_list_size(nixl_capi_string_list_t list,
                                                            size_t *size);
/** NIXL_CAPI_ERROR_INVALID_PARAM: beyond the end. */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_string_list_get(nixl_capi_string_list_t list,
                                                           size_t index, const char **str);

NIXL_CAPI_API nixl_capi_status_t nixl_capi_destroy_mem_list(nixl_capi_mem_list_t list);
NIXL_CAPI_API nixl_capi_status_t nixl_capi_mem_list_is_empty(nixl_capi_mem_list_t list,
                                                             bool *is_empty);
NIXL_CAPI_API nixl_capi_status_t nixl_capi_mem_list_size(nixl_capi_mem_list_t list, size_t *size);
/** NIXL_CAPI_ERROR_INVALID_PARAM: beyond the end. */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_mem_list_get(nixl_capi_mem_list_t list, size_t index,
                                                        nixl_capi_mem_type_t *mem_type);

/** A type's name, which is nobody's to free. NIXL_CAPI_ERROR_INVALID_PARAM: no such type. */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_mem_type_to_string(nixl_capi_mem_type_t mem_type,
                                                              const char **str);

/* Parameters -----------------------------------------------------------------------------------*/

/** Strings by their keys. End it with destroy_params(). */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_create_params(nixl_capi_params_t *params);
NIXL_CAPI_API nixl_capi_status_t nixl_capi_destroy_params(nixl_capi_params_t params);

/** Set one. The last value of a key is the one that counts. */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_params_add(nixl_capi_params_t params, const char *key,
                                                      const char *value);
NIXL_CAPI_API nixl_capi_status_t nixl_capi_params_is_empty(nixl_capi_params_t params,
                                                           bool *is_empty);

/** Go over them all. End it with params_destroy_iterator(), before the parameters. */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_params_create_iterator(nixl_capi_params_t params,
                                                                  nixl_capi_param_iter_t *iter);

/**
 * The next one.
 *
 * @param key, value NULL if there was none left, which is no failure.
 * @param has_next   whether another one follows this one.
 */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_params_iterator_next(nixl_capi_param_iter_t iter,
                                                                const char **key,
                                                                const char **value, bool *has_next);
NIXL_CAPI_API nixl_capi_status_t nixl_capi_params_destroy_iterator(nixl_capi_param_iter_t iter);

/* Options of a call ----------------------------------------------------------------------------*/

/** End it with destroy_opt_args(). */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_create_opt_args(nixl_capi_opt_args_t *args);
NIXL_CAPI_API nixl_capi_status_t nixl_capi_destroy_opt_args(nixl_capi_opt_args_t args);

/** Use this backend and others added so, and none else. The backend must outlive the options. */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_opt_args_add_backend(nixl_capi_opt_args_t args,
                                                                nixl_capi_backend_t backend);

/** What to tell the peer when a transfer is complete. It is told if set_has_notif() says so, too.
 * data may be NULL where len is 0. */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_opt_args_set_notif_msg(nixl_capi_opt_args_t args,
                                                                  const void *data, size_t len);

/** A copy, to be ended with free(). NULL and 0: there is none, or one of no bytes. */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_opt_args_get_notif_msg(nixl_capi_opt_args_t args,
                                                                  void **data, size_t *len);
NIXL_CAPI_API nixl_capi_status_t nixl_capi_opt_args_set_has_notif(nixl_capi_opt_args_t args,
                                                                  bool has_notif);
NIXL_CAPI_API nixl_capi_status_t nixl_capi_opt_args_get_has_notif(nixl_capi_opt_args_t args,
                                                                  bool *has_notif);

/** Kept, and of no effect: merging changes no result here. */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_opt_args_set_skip_desc_merge(nixl_capi_opt_args_t args,
                                                                        bool skip_merge);
NIXL_CAPI_API nixl_capi_status_t nixl_capi_opt_args_get_skip_desc_merge(nixl_capi_opt_args_t args,
                                                                        bool *skip_merge);

/** Kept, and of no effect: what NIXL's backends would be told with a request. Since NIXL 1.5. */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_opt_args_set_custom_param(nixl_capi_opt_args_t args,
                                                                     const void *data, size_t len);
/** As nixl_capi_opt_args_get_notif_msg(). */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_opt_args_get_custom_param(nixl_capi_opt_args_t args,
                                                                     void **data, size_t *len);

/** Where the listener is that metadata is sent to or fetched from. */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_opt_args_set_ip_addr(nixl_capi_opt_args_t args,
                                                                const char *ip_addr);
NIXL_CAPI_API nixl_capi_status_t nixl_capi_opt_args_set_port(nixl_capi_opt_args_t args,
                                                             uint16_t port);

/* Answers of query_mem() -----------------------------------------------------------------------*/

NIXL_CAPI_API nixl_capi_status_t
nixl_capi_create_query_resp_list(nixl_capi_query_resp_list_t *list);
NIXL_CAPI_API nixl_capi_status_t
nixl_capi_destroy_query_resp_list(nixl_capi_query_resp_list_t list);
NIXL_CAPI_API nixl_capi_status_t nixl_capi_query_resp_list_size(nixl_capi_query_resp_list_t list,
                                                                size_t *size);

/** Whether what descriptor `index` names is there. NIXL_CAPI_ERROR_INVALID_PARAM: beyond the end.
 */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_query_resp_list_has_value(
    nixl_capi_query_resp_list_t list, size_t index, bool *has_value);

/** What is known of it: a copy, to be ended with destroy_params().
 * NIXL_CAPI_ERROR_INVALID_PARAM: beyond the end, or it is not there. */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_query_resp_list_get_params(
    nixl_capi_query_resp_list_t list, size_t index, nixl_capi_params_t *params);

/* What NIXL has since 1.5 ----------------------------------------------------------------------*/

/** Views are for code on a GPU. NIXL_CAPI_ERROR_BACKEND: there are none here. */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_prep_mem_view_local(nixl_capi_agent_t agent,
                                                               nixl_capi_xfer_dlist_t descs,
                                                               nixl_capi_mem_view_t *mvh,
                                                               nixl_capi_opt_args_t opt_args);
/** As nixl_capi_prep_mem_view_local(). */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_prep_mem_view_remote(nixl_capi_agent_t agent,
                                                                nixl_capi_remote_dlist_t descs,
                                                                nixl_capi_mem_view_t *mvh,
                                                                nixl_capi_opt_args_t opt_args);
/** As nixl_capi_prep_mem_view_local(). */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_release_mem_view(nixl_capi_agent_t agent,
                                                            nixl_capi_mem_view_t mvh);

/** Ranges of memory of several peers, for views of them. As lists of ranges to move. */
NIXL_CAPI_API nixl_capi_status_t nixl_capi_create_remote_dlist(nixl_capi_mem_type_t mem_type,
                                                               nixl_capi_remote_dlist_t *dlist);
NIXL_CAPI_API nixl_capi_status_t nixl_capi_destroy_remote_dlist(nixl_capi_remote_dlist_t dlist);
NIXL_CAPI_API nixl_capi_status_t nixl_capi_remote_dlist_add_desc(nixl_capi_remote_dlist_t dlist,
                                                                 uintptr_t addr, size_t len,
                                                                 uint64_t dev_id,
                                                                 const char *remote_agent);

#ifdef __cplusplus
}
#endif
#endif
