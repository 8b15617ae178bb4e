/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/local/local.h"

#include "base/directory.h"
#include "base/error.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* An address: u8 version, u8 flags, the path or abstract name. */
enum { ADDRESS_VERSION = 1, ADDRESS_ABSTRACT = 1 };

_Static_assert(sizeof(((struct sockaddr_un *)0)->sun_path) == LEND_LOCAL_PATH_MAX + 1,
               "the limit that messages name");

enum lend_status lend_local_place_choose(struct lend_local_place *out,
                                         const struct lend_transport_open *open,
                                         struct lend_error *error)
{
    const char *directory;
    char stem[LEND_FILE_STEM_BYTES];
    char made[LEND_DIRECTORY_DEFAULT_BYTES];
    int length;

    lend_file_stem(open->name, open->incarnation, stem);
    if (open->local_is_abstract) {
        length = snprintf(out->path, sizeof out->path, "lend/%s", stem);
        assert(length > 0 && length <= LEND_LOCAL_PATH_MAX);
        out->is_abstract = true;
        out->length = (size_t)length;
        return LEND_OK;
    }

    enum lend_status status = lend_directory_choose(open->local_directory, made, &directory, error);
    if (status != LEND_OK)
        return status;
    length = snprintf(out->path, sizeof out->path, "%s/%s.sock", directory, stem);
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
