/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/nixl/door.h"

#include "base/error.h"
#include "base/sys.h"

#include <stdio.h>
#include <string.h>

const struct lend_nixl_ops *lend_nixl;

enum { PATH_BYTES = LEND_NIXL_PATH_MAX + 1 };

#define FILE_NAME   "libnixl_capi.so"
#define OWN_MARK    "lend_nixl_capi"    /* what compat/nixl's library exports, and no other does */
#define NVIDIA_MARK "_ZN9nixlAgentD1Ev" /* ~nixlAgent(), of libnixl.so */

static const struct {
    const char *name; /* behind nixl_capi_ */
    size_t offset;
} symbols[] = {
    {"create_configured_agent", offsetof(struct lend_nixl_ops, agent_create)},
    {"destroy_agent", offsetof(struct lend_nixl_ops, agent_destroy)},
    {"create_params", offsetof(struct lend_nixl_ops, params_create)},
    {"destroy_params", offsetof(struct lend_nixl_ops, params_destroy)},
    {"params_add", offsetof(struct lend_nixl_ops, params_add)},
    {"create_backend", offsetof(struct lend_nixl_ops, backend_create)},
    {"destroy_backend", offsetof(struct lend_nixl_ops, backend_destroy)},
    {"get_local_md", offsetof(struct lend_nixl_ops, metadata_get)},
    {"load_remote_md", offsetof(struct lend_nixl_ops, metadata_load)},
    {"check_remote_md", offsetof(struct lend_nixl_ops, metadata_check)},
    {"invalidate_remote_md", offsetof(struct lend_nixl_ops, metadata_forget)},
    {"create_reg_dlist", offsetof(struct lend_nixl_ops, memory_list_create)},
    {"destroy_reg_dlist", offsetof(struct lend_nixl_ops, memory_list_destroy)},
    {"reg_dlist_add_desc", offsetof(struct lend_nixl_ops, memory_list_add)},
    {"register_mem", offsetof(struct lend_nixl_ops, memory_register)},
    {"deregister_mem", offsetof(struct lend_nixl_ops, memory_deregister)},
    {"create_xfer_dlist", offsetof(struct lend_nixl_ops, list_create)},
    {"destroy_xfer_dlist", offsetof(struct lend_nixl_ops, list_destroy)},
    {"xfer_dlist_add_desc", offsetof(struct lend_nixl_ops, list_add)},
    {"create_xfer_req", offsetof(struct lend_nixl_ops, request_create)},
    {"post_xfer_req", offsetof(struct lend_nixl_ops, request_post)},
    {"get_xfer_status", offsetof(struct lend_nixl_ops, request_status)},
    {"release_xfer_req", offsetof(struct lend_nixl_ops, request_release)},
    {"destroy_xfer_req", offsetof(struct lend_nixl_ops, request_destroy)},
    {"gen_notif", offsetof(struct lend_nixl_ops, notify)},
    {"create_notif_map", offsetof(struct lend_nixl_ops, notifications_create)},
    {"destroy_notif_map", offsetof(struct lend_nixl_ops, notifications_destroy)},
    {"notif_map_clear", offsetof(struct lend_nixl_ops, notifications_clear)},
    {"get_notifs", offsetof(struct lend_nixl_ops, notifications_get)},
    {"notif_map_size", offsetof(struct lend_nixl_ops, notifications_size)},
    {"notif_map_get_agent_at", offsetof(struct lend_nixl_ops, notifications_name)},
    {"notif_map_get_notifs_size", offsetof(struct lend_nixl_ops, notifications_count)},
    {"notif_map_get_notif", offsetof(struct lend_nixl_ops, notifications_at)},
};

/* --- which library it is --- */

/*
 * What a file is, that was opened. A symbol is looked for in the file and in what it needs, and
 * nowhere else, so that nothing else in this process can be mistaken for it: NVIDIA's has NIXL's
 * C++ behind it, and lend's own has liblend.
 */
static void identify(void *library, struct lend_nixl_library *found)
{
    bool (*is_stub)(void) = NULL;
    void *symbol = lend_sys->symbol(library, "nixl_capi_is_stub");
    char path[PATH_BYTES];

    found->kind = LEND_NIXL_UNKNOWN;
    if (symbol == NULL)
        return;
    (void)lend_sys->libraries("libnixl_capi", symbol, path, sizeof path);
    if (path[0] != '\0')
        (void)snprintf(found->path, sizeof found->path, "%s", path);
    memcpy(&is_stub, &symbol, sizeof is_stub);
    if (lend_sys->symbol(library, OWN_MARK) != NULL ||
        lend_sys->symbol(library, "lend_agent_create") != NULL)
        found->kind = LEND_NIXL_LENDS_OWN;
    else if (is_stub())
        found->kind = LEND_NIXL_STUB;
    else if (lend_sys->symbol(library, NVIDIA_MARK) != NULL)
        found->kind = LEND_NIXL_NVIDIAS;
    found->has_memory_views = lend_sys->symbol(library, "nixl_capi_prep_mem_view_local") != NULL;
}

static enum lend_status fill(void *library, struct lend_nixl_ops *out,
                             const struct lend_nixl_library *found, struct lend_error *error)
{
    struct lend_nixl_ops ops = {.free = lend_sys_real.release};
    char name[64];

    for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; i++) {
        (void)snprintf(name, sizeof name, "nixl_capi_%s", symbols[i].name);
        void *symbol = lend_sys->symbol(library, name);

        if (symbol == NULL)
            return lend_fail(error, LEND_E_UNSUPPORTED,
                             "%.120s has no function %s; transport nixl needs NIXL 1.0 or later",
                             found->path, name);
        memcpy((char *)&ops + symbols[i].offset, &symbol, sizeof symbol);
    }
    if (out != NULL)
        *out = ops;
    return LEND_OK;
}

static const char *kind_text(uint32_t kind)
{
    switch (kind) {
    case LEND_NIXL_LENDS_OWN: return "lend's own libnixl_capi, which has no NIXL behind it";
    case LEND_NIXL_STUB: return "a stub, with no NIXL behind it";
    default: return "not NVIDIA's libnixl_capi, which needs its libnixl.so";
    }
}

/* Try that file. A look at what it is not leaves it unloaded, if nobody else uses it. */
static enum lend_status try_file(const char *file, struct lend_nixl_ops *ops,
                                 struct lend_nixl_library *found, struct lend_error *error)
{
    struct lend_nixl_library it = {.struct_size = sizeof it};
    char why[160];
    void *library = lend_sys->load(file, why, sizeof why);

    if (library == NULL)
        return lend_fail(error, LEND_E_ABSENT, "%s", why);
    (void)snprintf(it.path, sizeof it.path, "%s", file);
    identify(library, &it);
    *found = it;
    enum lend_status status =
        it.kind == LEND_NIXL_NVIDIAS
            ? fill(library, ops, found, error)
            : lend_fail(error, LEND_E_UNSUPPORTED, "%.120s is %s", it.path, kind_text(it.kind));
    if (status != LEND_OK)
        lend_sys->unload(library);
    return status;
}

/* --- where it may be --- */

/* A search: what was found that it was not, if anything, is told at the end. */
struct search {
    struct lend_nixl_ops *ops;
    struct lend_nixl_library *found;
    struct lend_error refusal; /* of the last that was there, and not NVIDIA's */
};

static bool try_place(struct search *search, const char *file)
{
    struct lend_error why;
    enum lend_status status = try_file(file, search->ops, search->found, &why);

    if (status == LEND_E_UNSUPPORTED)
        search->refusal = why;
    return status == LEND_OK;
}

static bool try_loaded(struct search *search)
{
    char path[PATH_BYTES], file[PATH_BYTES + sizeof FILE_NAME];

    if (lend_sys->libraries("libnixl.so", NULL, path, sizeof path) == 0)
        return false;
    const char *slash = strrchr(path, '/');
    if (slash == NULL)
        return false;
    (void)snprintf(file, sizeof file, "%.*s/" FILE_NAME, (int)(slash - path), path);
    return try_place(search, file);
}

static bool try_wheels(struct search *search)
{
    enum { PYTHON_MINOR_FIRST = 9, PYTHON_MINOR_LAST = 15 };
    static const char *const toolkits[] = {"cu13", "cu12"};
    static const char *const folders[] = {
        "/usr/local/lib/python3.%d/dist-packages",
        "/usr/local/lib/python3.%d/site-packages",
        "/usr/lib/python3.%d/site-packages",
        "/opt/venv/lib/python3.%d/site-packages",
    };
    char folder[PATH_BYTES], file[2 * PATH_BYTES];

    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++)
        for (int minor = PYTHON_MINOR_LAST; minor >= PYTHON_MINOR_FIRST; minor--)
            for (size_t j = 0; j < sizeof toolkits / sizeof toolkits[0]; j++) {
                int length = (int)strcspn(folders[i], "%");

                (void)snprintf(folder, sizeof folder, "%.*s%d%s", length, folders[i], minor,
                               folders[i] + length + 2);
                (void)snprintf(file, sizeof file, "%s/.nixl_%s.mesonpy.libs/" FILE_NAME, folder,
                               toolkits[j]);
                if (try_place(search, file))
                    return true;
            }
    return false;
}

static bool try_packages(struct search *search)
{
#if defined(__x86_64__)
    static const char *const triplet = "x86_64-linux-gnu";
#else
    static const char *const triplet = "aarch64-linux-gnu";
#endif
    char file[PATH_BYTES];

    (void)snprintf(file, sizeof file, "/opt/nvidia/nvda_nixl/lib/%s/" FILE_NAME, triplet);
    return try_place(search, file) || try_place(search, "/opt/nvidia/nvda_nixl/lib64/" FILE_NAME) ||
           try_place(search, "/opt/nvidia/nvda_nixl/lib/" FILE_NAME);
}

enum lend_status lend_nixl_load(const char *library, struct lend_nixl_ops *ops,
                                struct lend_nixl_library *found, struct lend_error *error)
{
    struct search search = {.ops = ops, .found = found};

    *found = (struct lend_nixl_library){.struct_size = sizeof *found};
    if (library != NULL && library[0] != '\0')
        return try_file(library, ops, found, error);
    if (try_loaded(&search) || try_place(&search, FILE_NAME) || try_wheels(&search) ||
        try_packages(&search))
        return LEND_OK;
    if (search.refusal.status != LEND_OK)
        return lend_fail(error, LEND_E_ABSENT,
                         "NVIDIA's " FILE_NAME " is not found (%.140s): name its file "
                         "(nixl_library)",
                         search.refusal.message);
    return lend_fail(error, LEND_E_ABSENT,
                     "NVIDIA's " FILE_NAME " is neither loaded, nor found by that name, in a "
                     "wheel, or in /opt/nvidia/nvda_nixl: name its file (nixl_library); it comes "
                     "with `pip install --no-deps nixl-cu12'");
}
