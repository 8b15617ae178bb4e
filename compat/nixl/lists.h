/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COMPAT_NIXL_LISTS_H
#define COMPAT_NIXL_LISTS_H

/*
 * What is behind the handles of lists, parameters, options and maps, for the rest of compat/nixl.
 * None of it knows lend. Each belongs to one thread at a time. Where a function returns bool, false
 * means that memory ran out, and nothing was changed.
 */

#include <nixl_capi.h>

/* Memory that grows (keep.c) -------------------------------------------------------------------*/

/*
 * Room for `count` items of `item_bytes` at *items, which has *capacity of them. It at least
 * doubles, so that adding one by one has a flat cost each.
 */
bool compat_reserve(void **items, size_t *capacity, size_t count, size_t item_bytes);

/* A copy, never NULL for want of bytes: one more, which is 0, ends it. NULL: out of memory. */
void *compat_copy(const void *bytes, size_t length_bytes);
char *compat_copy_text(const char *text);

/* A type of memory that create_xfer_dlist() and the like take. */
bool compat_is_type(nixl_capi_mem_type_t type);

/* Descriptors ----------------------------------------------------------------------------------*/

/* One range. 24 bytes, as there may be 100,000 and more in a list. */
struct compat_desc {
    uintptr_t address;
    size_t length_bytes;
    uint64_t device;
};

/* What all three lists of descriptors have: go over at[0] to at[count - 1]. */
struct compat_descs {
    nixl_capi_mem_type_t type;
    size_t count;
    size_t capacity;
    struct compat_desc *at; /* NULL while there never was one */
};

struct nixl_capi_xfer_dlist_s {
    struct compat_descs descs;
};

/* Bytes of our own. `bytes` is NULL only where there are none. */
struct compat_bytes {
    void *bytes;
    size_t length_bytes;
};

struct nixl_capi_reg_dlist_s {
    struct compat_descs descs;
    struct compat_bytes *metadata; /* one for each descriptor, or NULL while none has any */
    size_t metadata_capacity;
};

/* What came with descriptor `index`; {NULL, 0} if nothing did. */
struct compat_bytes compat_reg_metadata(const struct nixl_capi_reg_dlist_s *list, size_t index);

struct nixl_capi_remote_dlist_s {
    struct compat_descs descs;
    char **agents; /* names, each once */
    size_t agent_count;
    size_t agent_capacity;
    uint32_t *agent_of; /* for each descriptor, an index of agents */
    size_t agent_of_capacity;
};

bool compat_descs_add(struct compat_descs *descs, const struct compat_desc *desc);
/* Many at once: address, length and device of each. */
bool compat_descs_add_rows(struct compat_descs *descs, const uint64_t *rows, size_t count);
bool compat_descs_resize(struct compat_descs *descs, size_t count);
void compat_descs_remove(struct compat_descs *descs, size_t index);
void compat_descs_trim(struct compat_descs *descs);
void compat_descs_print(const struct compat_descs *descs, const char *name);

/* Lists ----------------------------------------------------------------------------------------*/

struct nixl_capi_mem_list_s {
    nixl_capi_mem_type_t *types;
    size_t count;
    size_t capacity;
};

/* A list of these types, for the caller to give away. NULL: out of memory. */
nixl_capi_mem_list_t compat_mem_list_create(const nixl_capi_mem_type_t *types, size_t count);

struct nixl_capi_string_list_s {
    char **strings;
    size_t count;
    size_t capacity;
};

/* An empty list, for the caller to give away. NULL: out of memory. */
nixl_capi_string_list_t compat_string_list_create(void);
bool compat_string_list_add(nixl_capi_string_list_t list, const char *string);

/* Parameters -----------------------------------------------------------------------------------*/

struct compat_param {
    char *key;
    char *value;
};

struct nixl_capi_params_s {
    struct compat_param *items; /* in the order in which their keys came */
    size_t count;
    size_t capacity;
};

struct nixl_capi_param_iter_s {
    nixl_capi_params_t params;
    size_t next;
};

/* The value of a key, or NULL. `params` may be NULL. */
const char *compat_params_find(const struct nixl_capi_params_s *params, const char *key);

/* Of the same content. NULL: out of memory. Make and fill others by nixl_capi_create_params(). */
nixl_capi_params_t compat_params_copy(const struct nixl_capi_params_s *params);

/* Options --------------------------------------------------------------------------------------*/

struct nixl_capi_opt_args_s {
    nixl_capi_backend_t *backends; /* borrowed; none: any of the agent's */
    size_t backend_count;
    size_t backend_capacity;
    struct compat_bytes notification; /* sent only if has_notification says so */
    bool has_notification;
    struct compat_bytes custom; /* for no backend of ours */
    bool skip_merge;
    char *ip_address; /* NULL while it was not set */
    bool has_port;
    uint16_t port;
};

/* Notifications --------------------------------------------------------------------------------*/

/* What has come from one agent, oldest first. */
struct compat_notifications {
    char *agent;
    struct compat_bytes *messages;
    size_t count;
    size_t capacity;
};

struct nixl_capi_notif_map_s {
    struct compat_notifications *agents; /* sorted by their names */
    size_t count;
    size_t capacity;
};

/* Add a copy of a message behind the others of its agent. Safe to give up at any message: what was
 * added before stays. */
bool compat_notif_map_add(nixl_capi_notif_map_t map, const char *agent, const void *bytes,
                          size_t length_bytes);

/* Answers --------------------------------------------------------------------------------------*/

struct nixl_capi_query_resp_list_s {
    nixl_capi_params_t *answers; /* NULL where what was asked for is not there */
    size_t count;
    size_t capacity;
};

/* Add an answer at the end: NULL, or parameters, which the list then owns, but not on failure. */
bool compat_query_resp_add(nixl_capi_query_resp_list_t list, nixl_capi_params_t params);
void compat_query_resp_clear(nixl_capi_query_resp_list_t list);

#endif
