/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/local/local.h"

#include "base/error.h"
#include "base/sys.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* An address: u8 version, u8 flags, the path or abstract name. */
enum { ADDRESS_VERSION = 1, ADDRESS_ABSTRACT = 1 };

_Static_assert(sizeof(((struct sockaddr_un *)0)->sun_path) == LEND_LOCAL_PATH_MAX + 1,
               "the limit that messages name");

/* Why /tmp/lend-UID may not be ours to use: anybody may have put something there before us. */
static enum lend_status check_directory(const char *path, uid_t user, struct lend_error *error)
{
    struct stat found;

    int result = lend_sys->stat(path, &found);
    if (result < 0)
        return lend_fail_errno(error, -result, "%s", path);
    if (S_ISLNK(found.st_mode))
        return lend_fail(error, LEND_E_ACCESS,
                         "%s is a link, which somebody else may have put there: remove it, or set "
                         "local_directory",
                         path);
    if (!S_ISDIR(found.st_mode))
        return lend_fail(error, LEND_E_ACCESS,
                         "%s is not a directory: remove it, or set local_directory", path);
    if (found.st_uid != user)
        return lend_fail(error, LEND_E_ACCESS,
                         "%s belongs to user %u, and we are user %u: set local_directory", path,
                         (unsigned)found.st_uid, (unsigned)user);
    if ((found.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return lend_fail(error, LEND_E_ACCESS,
                         "%s may be written by others (mode %04o): chmod 0700 it, or set "
                         "local_directory",
                         path, (unsigned)found.st_mode & 07777);
    return LEND_OK;
}

static enum lend_status default_directory(char *out, size_t capacity, struct lend_error *error)
{
    struct ucred self;

    lend_sys->self(&self);
    (void)snprintf(out, capacity, "/tmp/lend-%u", (unsigned)self.uid);

    int result = lend_sys->make_directory(out, 0700);
    if (result < 0 && result != -EEXIST)
        return lend_fail_errno(error, -result, "make %s (or set local_directory)", out);
    return check_directory(out, self.uid, error);
}

/* The agent's name as it may stand in a file name. */
static void make_name_safe(const char *name, char *out, size_t capacity)
{
    static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t at = 0;

    for (; name[at] != '\0' && at + 1 < capacity; at++)
        out[at] = strchr(safe, name[at]) != NULL ? name[at] : '_';
    out[at] = '\0';
    if (out[0] == '.')
        out[0] = '_';
}

enum lend_status lend_local_place_choose(struct lend_local_place *out,
                                         const struct lend_transport_open *open,
                                         struct lend_error *error)
{
    const uint8_t *id = open->incarnation;
    const char *directory = open->local_directory;
    char name[LEND_AGENT_NAME_BYTES_MAX + 1];
    char made[32];
    int length;

    make_name_safe(open->name, name, sizeof name);
    if (open->local_is_abstract) {
        length = snprintf(out->path, sizeof out->path, "lend/%s-%02x%02x%02x%02x", name, id[0],
                          id[1], id[2], id[3]);
        assert(length > 0 && length <= LEND_LOCAL_PATH_MAX);
        out->is_abstract = true;
        out->length = (size_t)length;
        return LEND_OK;
    }

    if (directory == NULL) {
        enum lend_status status = default_directory(made, sizeof made, error);
        if (status != LEND_OK)
            return status;
        directory = made;
    } else if (directory[0] != '/') {
        return lend_fail(error, LEND_E_INVALID,
                         "local_directory is %s; it must begin with /, as peers do not share our "
                         "working directory",
                         directory);
    }

    length = snprintf(out->path, sizeof out->path, "%s/%s-%02x%02x%02x%02x.sock", directory, name,
                      id[0], id[1], id[2], id[3]);
    if (length < 0 || length > LEND_LOCAL_PATH_MAX)
        return lend_fail(error, LEND_E_LIMIT,
                         "the socket's path would be %d bytes, and the kernel's limit is %d: set a "
                         "shorter local_directory than %s",
                         length, LEND_LOCAL_PATH_MAX, directory);
    out->is_abstract = false;
    out->length = (size_t)length;
    return LEND_OK;
}

size_t lend_local_place_encode(const struct lend_local_place *place, uint8_t *bytes)
{
    _Static_assert(LEND_LOCAL_ADDRESS_HEADER_BYTES + LEND_LOCAL_PATH_MAX <= 512,
                   "fits LEND_METADATA_ADDRESS_MAX");

    bytes[0] = ADDRESS_VERSION;
    bytes[1] = place->is_abstract ? ADDRESS_ABSTRACT : 0;
    memcpy(bytes + LEND_LOCAL_ADDRESS_HEADER_BYTES, place->path, place->length);
    return LEND_LOCAL_ADDRESS_HEADER_BYTES + place->length;
}

bool lend_local_place_decode(struct lend_local_place *out, const uint8_t *bytes, size_t count)
{
    if (count <= LEND_LOCAL_ADDRESS_HEADER_BYTES ||
        count > LEND_LOCAL_ADDRESS_HEADER_BYTES + LEND_LOCAL_PATH_MAX ||
        bytes[0] != ADDRESS_VERSION || (bytes[1] & ~ADDRESS_ABSTRACT) != 0)
        return false;

    struct lend_local_place place = {
        .is_abstract = bytes[1] == ADDRESS_ABSTRACT,
        .length = count - LEND_LOCAL_ADDRESS_HEADER_BYTES,
    };
    memcpy(place.path, bytes + LEND_LOCAL_ADDRESS_HEADER_BYTES, place.length);

    /* It ends up in messages, and in what the kernel takes for a path. */
    for (size_t i = 0; i < place.length; i++) {
        if ((uint8_t)place.path[i] < ' ' || place.path[i] == 0x7f)
            return false;
    }
    if (!place.is_abstract && place.path[0] != '/')
        return false;
    *out = place;
    return true;
}

socklen_t lend_local_place_socket(const struct lend_local_place *place, struct sockaddr_un *out)
{
    size_t at = place->is_abstract ? 1 : 0; /* an abstract name begins with a NUL */

    *out = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(out->sun_path + at, place->path, place->length);
    /* The NUL that ends a path is counted; an abstract name has none. */
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + place->length + 1);
}
