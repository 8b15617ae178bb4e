/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NIXL_BENCH_API_H
#define NIXL_BENCH_API_H

#include <nixl_capi.h>

/* A libnixl_capi.so, whosever it is: the functions that are measured, and what they need. */
#define API_FUNCTIONS(FUNCTION)                                                                    \
    FUNCTION(create_agent)                                                                         \
    FUNCTION(get_plugin_params)                                                                    \
    FUNCTION(create_backend)                                                                       \
    FUNCTION(create_opt_args)                                                                      \
    FUNCTION(opt_args_add_backend)                                                                 \
    FUNCTION(create_reg_dlist)                                                                     \
    FUNCTION(reg_dlist_add_desc)                                                                   \
    FUNCTION(destroy_reg_dlist)                                                                    \
    FUNCTION(register_mem)                                                                         \
    FUNCTION(deregister_mem)                                                                       \
    FUNCTION(get_local_md)                                                                         \
    FUNCTION(load_remote_md)                                                                       \
    FUNCTION(create_xfer_dlist)                                                                    \
    FUNCTION(xfer_dlist_add_desc)                                                                  \
    FUNCTION(destroy_xfer_dlist)                                                                   \
    FUNCTION(prep_xfer_dlist)                                                                      \
    FUNCTION(make_xfer_req)                                                                        \
    FUNCTION(post_xfer_req)                                                                        \
    FUNCTION(get_xfer_status)                                                                      \
    FUNCTION(release_xfer_req)                                                                     \
    FUNCTION(destroy_xfer_req)                                                                     \
    FUNCTION(gen_notif)                                                                            \
    FUNCTION(get_notifs)                                                                           \
    FUNCTION(create_notif_map)                                                                     \
    FUNCTION(notif_map_size)                                                                       \
    FUNCTION(notif_map_clear)

struct api {
#define API_FIELD(name) __typeof__(nixl_capi_##name) *name;
    API_FUNCTIONS(API_FIELD)
#undef API_FIELD
};

/* These end the program, with the cause, when something does not succeed. */
void api_open(struct api *out, const char *path);
#define DO(call) api_check((call), #call)
void api_check(nixl_capi_status_t status, const char *call);
void die(const char *what) __attribute__((noreturn));

#endif
