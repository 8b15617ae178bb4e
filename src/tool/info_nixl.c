/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/info.h"

#include <stdio.h>
#include <string.h>

/* Which libnixl_capi is whose: NVIDIA's, which transport nixl uses, or lend's own, which offers the
 * same functions to other programs. */

static const char section[] = "transports";
static const char bare_name[] = "libnixl_capi.so";

/* A search for the folder in which a wheel's version stands. */
struct search {
    const char *package; /* "nixl_cu12" */
    char version[32];
};

static bool see_name(void *context, const char *name)
{
    struct search *search = context;
    size_t length = strlen(search->package);
    const char *end = strstr(name, ".dist-info");

    if (strncmp(name, search->package, length) != 0 || name[length] != '-' || end == NULL)
        return true;
    (void)snprintf(search->version, sizeof search->version, "%.*s",
                   (int)(end - name - (ptrdiff_t)length - 1), name + length + 1);
    return false;
}

/* NIXL does not tell its version; a wheel's folder does: .../.nixl_cu12.mesonpy.libs beside
 * .../nixl_cu12-1.4.0.dist-info. "": it is not known. */
static void find_version(const struct info *info, const char *path, char *out, size_t capacity)
{
    static const char mark[] = "/.nixl_", tail[] = ".mesonpy.libs/";
    struct search search = {.version = ""};
    char folder[LEND_NIXL_PATH_MAX + 1], package[64];
    const char *at = strstr(path, mark);
    const char *end = at != NULL ? strstr(at, tail) : NULL;

    out[0] = '\0';
    if (end == NULL)
        return;
    (void)snprintf(folder, sizeof folder, "%.*s", (int)(at - path), path);
    (void)snprintf(package, sizeof package, "%.*s", (int)(end - at - 2), at + 2);
    search.package = package;
    (void)info->probe->names(folder, see_name, &search);
    (void)snprintf(out, capacity, "%s", search.version);
}

static const char *kind_text(const struct lend_nixl_library *library)
{
    switch ((enum lend_nixl_kind)library->kind) {
    case LEND_NIXL_NVIDIAS: return "NVIDIA's";
    case LEND_NIXL_LENDS_OWN: return "lend's own";
    case LEND_NIXL_STUB: return "a stub";
    case LEND_NIXL_UNKNOWN: break;
    }
    return library->path[0] != '\0' ? "unknown" : "no";
}

/* What transport nixl would load. */
static void tell_ours(struct info *info)
{
    struct lend_nixl_library library = {.struct_size = sizeof library};
    struct lend_error error = {0};
    char version[32];

    if (info->probe->nixl(info->nixl_library, &library, &error) != LEND_OK) {
        info_value(info, section, "NIXL", "%s",
                   info->nixl_library != NULL ? kind_text(&library) : "no");
        info_meaning(info, "transport nixl does not open: %s", error.message);
        return;
    }
    find_version(info, library.path, version, sizeof version);
    info_value(info, section, "NIXL", "NVIDIA's%s%s", version[0] != '\0' ? " " : "", version);
    info_meaning(info, "%s%s: what transport nixl would load", library.path,
                 version[0] != '\0'         ? ""
                 : library.has_memory_views ? ", newer than 1.4"
                                            : ", 1.0 to 1.4");
}

/* What programs get that ask for it by its bare name, as Rust's nixl-sys does. */
static void tell_bare_name(struct info *info)
{
    struct lend_nixl_library library = {.struct_size = sizeof library};
    struct lend_error error = {0};

    (void)info->probe->nixl(bare_name, &library, &error);
    info_value(info, section, bare_name, "%s", kind_text(&library));
    if (library.path[0] == '\0')
        info_meaning(info, "programs that load it by that name find none: %s", error.message);
    else
        info_meaning(info, "%s: what programs get that load it by that name", library.path);
}

void info_tell_nixl(struct info *info)
{
    tell_ours(info);
    tell_bare_name(info);
}
