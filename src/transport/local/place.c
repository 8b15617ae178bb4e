/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/local/local.h"

#include "base/directory.h"
#include "base/error.h"
#include "base/reader.h"
#include "base/sys.h"
#include "base/writer.h"
#include "wire/metadata.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* An address: u8 version, u8 flags, the machine's boot id, the path or abstract name. Version 1 has
 * no boot id. */
enum { ADDRESS_VERSION = 2, ADDRESS_ABSTRACT = 1 };

static const char boot_id_path[] = "/proc/sys/kernel/random/boot_id";

_Static_assert(sizeof(((struct sockaddr_un *)0)->sun_path) == LEND_LOCAL_PATH_MAX + 1,
               "the limit that messages name");

/* --- which machine --- */

static int digit_of(char character)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = character != '\0' ? strchr(digits, character) : NULL;

    return at != NULL ? (int)(at - digits) : -1;
}

/* 32 digits, with hyphens between; anything else leaves zeros. */
static void parse_boot_id(const char *text, size_t length, uint8_t *out)
{
    uint8_t bytes[LEND_LOCAL_BOOT_ID_BYTES] = {0};
    size_t count = 0;

    for (size_t i = 0; i < length && text[i] != '\n'; i++) {
        int digit = digit_of(text[i]);

        if (text[i] == '-')
            continue;
        if (digit < 0 || count == 2 * sizeof bytes)
            return;
        bytes[count / 2] = (uint8_t)(bytes[count / 2] << 4 | digit);
        count++;
    }
    if (count == 2 * sizeof bytes)
        memcpy(out, bytes, sizeof bytes);
}

/* The machine's, or zeros where the kernel does not tell. */
static void read_boot_id(uint8_t *out)
{
    char text[64];
    int fd = lend_sys->open_read(boot_id_path);

    memset(out, 0, LEND_LOCAL_BOOT_ID_BYTES);
    if (fd < 0)
        return;
    ssize_t count = lend_sys->read(fd, text, sizeof text);
    lend_sys->close(fd);
    if (count > 0)
        parse_boot_id(text, (size_t)count, out);
}

bool lend_local_place_is_near(const struct lend_local_place *ours,
                              const struct lend_local_place *theirs)
{
    static const uint8_t unknown[LEND_LOCAL_BOOT_ID_BYTES];

    return memcmp(ours->boot_id, unknown, sizeof unknown) == 0 ||
           memcmp(theirs->boot_id, unknown, sizeof unknown) == 0 ||
           memcmp(ours->boot_id, theirs->boot_id, sizeof unknown) == 0;
}

/* --- where there --- */

enum lend_status lend_local_place_choose(struct lend_local_place *out,
                                         const struct lend_transport_open *open,
                                         struct lend_error *error)
{
    const char *directory;
    char stem[LEND_FILE_STEM_BYTES];
    char made[LEND_DIRECTORY_DEFAULT_BYTES];
    int length;

    read_boot_id(out->boot_id);
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
    struct lend_writer writer = lend_writer_init(bytes, LEND_METADATA_ADDRESS_MAX);

    lend_write_u8(&writer, ADDRESS_VERSION);
    lend_write_u8(&writer, place->is_abstract ? ADDRESS_ABSTRACT : 0);
    lend_write_bytes(&writer, place->boot_id, sizeof place->boot_id);
    lend_write_bytes(&writer, place->path, place->length);
    assert(lend_writer_fits(&writer));
    return writer.count;
}

bool lend_local_place_decode(struct lend_local_place *out, const uint8_t *bytes, size_t count)
{
    struct lend_reader reader = lend_reader_init(bytes, count);
    struct lend_local_place place = {0};
    uint8_t version = lend_read_u8(&reader);
    uint8_t flags = lend_read_u8(&reader);

    if (version == ADDRESS_VERSION)
        lend_read_bytes(&reader, place.boot_id, sizeof place.boot_id);
    place.is_abstract = flags == ADDRESS_ABSTRACT;
    place.length = reader.left;
    if (reader.bad || version == 0 || version > ADDRESS_VERSION ||
        (flags & ~ADDRESS_ABSTRACT) != 0 || place.length == 0 || place.length > LEND_LOCAL_PATH_MAX)
        return false;
    lend_read_bytes(&reader, place.path, place.length);

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
