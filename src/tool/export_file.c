/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/export_file.h"

#include "tool/trouble.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    FORMAT = 1,
    BASE64_BYTES_MAX = 4 * (ENDPOINT_BYTES_MAX / 3 + 1) + 1,
    /* Of JSON that others tell, which takes many times as much in memory. */
    TOLD_BYTES_MAX = 64 << 10,
};

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* text has room for BASE64_BYTES_MAX. */
static void encode(const uint8_t *bytes, uint32_t count, char *text)
{
    for (uint32_t i = 0; i < count; i += 3) {
        uint32_t left = count - i;
        uint32_t group = (uint32_t)bytes[i] << 16;

        group |= left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0;
        group |= left > 2 ? bytes[i + 2] : 0;
        *text++ = digits[group >> 18];
        *text++ = digits[group >> 12 & 63];
        *text++ = left > 1 ? digits[group >> 6 & 63] : '=';
        *text++ = left > 2 ? digits[group & 63] : '=';
    }
    *text = '\0';
}

/* How many bytes the text holds, or -1 if it is not base64 or holds more than capacity. */
static int64_t decode(const char *text, uint8_t *bytes, uint32_t capacity)
{
    size_t length = strlen(text);
    uint32_t count = 0;

    if (length % 4 != 0)
        return -1;
    for (size_t i = 0; i < length; i += 4) {
        uint32_t group = 0;
        uint32_t padding = 0;

        for (size_t k = 0; k < 4; k++) {
            const char *digit = strchr(digits, text[i + k]);

            if (text[i + k] == '=' && i + 4 == length && k >= 2)
                padding++;
            else if (digit == NULL || padding > 0)
                return -1;
            group = group << 6 | (padding == 0 ? (uint32_t)(digit - digits) : 0);
        }
        for (uint32_t k = 0; k < 3 - padding; k++) {
            if (count == capacity)
                return -1;
            bytes[count++] = (uint8_t)(group >> (16 - 8 * k));
        }
    }
    return count;
}

/* NULL: no memory. */
static json_t *describe(const struct export_file *file, bool has_metadata)
{
    char *text = malloc(2 * BASE64_BYTES_MAX);

    if (text == NULL)
        return NULL;
    encode(file->metadata, file->metadata_bytes, text);
    encode(file->ticket, file->ticket_bytes, text + BASE64_BYTES_MAX);
    json_t *made = json_pack("{s:i, s:s, s:i, s:i, s:s}", "format", FORMAT, "model", file->model,
                             "owner", (int)file->owner, "generation", (int)file->generation,
                             "ticket", text + BASE64_BYTES_MAX);
    if (has_metadata)
        (void)json_object_set_new(made, "metadata", json_string(text));
    free(text);
    return made;
}

enum lend_status export_file_write(const char *path, const struct export_file *file,
                                   struct lend_error *error)
{
    char other[4096];
    int length = snprintf(other, sizeof other, "%s.%d", path, getpid());

    if (length < 0 || (size_t)length >= sizeof other)
        return trouble(error, LEND_E_INVALID, "the path is too long: %s", path);

    json_t *made = describe(file, true);
    if (made == NULL)
        return trouble(error, LEND_E_NO_MEMORY, "no memory for %s", path);
    int descriptor = open(other, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (descriptor < 0) {
        json_decref(made);
        return trouble_errno(error, "%s cannot be made", other);
    }
    bool is_written = json_dumpfd(made, descriptor, JSON_INDENT(2)) == 0;
    json_decref(made);
    is_written = close(descriptor) == 0 && is_written;
    if (is_written && rename(other, path) == 0)
        return LEND_OK;

    enum lend_status status = trouble_errno(error, "%s cannot be written", path);
    (void)unlink(other);
    return status;
}

/* Without metadata in it, `out` keeps the metadata that it has. */
static enum lend_status unpack(const char *path, json_t *value, struct export_file *out,
                               struct lend_error *error)
{
    const char *model = NULL;
    const char *metadata = NULL;
    const char *ticket = NULL;
    int format = 0;
    int owner = 0;
    int generation = 0;
    json_error_t why;

    if (json_unpack_ex(value, &why, 0, "{s:i, s:s, s:i, s:i, s?s, s:s}", "format", &format, "model",
                       &model, "owner", &owner, "generation", &generation, "metadata", &metadata,
                       "ticket", &ticket) != 0)
        return trouble(error, LEND_E_CORRUPT, "%s is not of `lend serve': %s", path, why.text);
    if (format != FORMAT)
        return trouble(error, LEND_E_VERSION, "%s has format %d, and %d is known", path, format,
                       FORMAT);

    int64_t metadata_bytes = metadata == NULL
                                 ? (int64_t)out->metadata_bytes
                                 : decode(metadata, out->metadata, sizeof out->metadata);
    int64_t ticket_bytes = decode(ticket, out->ticket, sizeof out->ticket);
    if (metadata_bytes < 0 || ticket_bytes < 0 || strlen(model) >= sizeof out->model || owner < 0 ||
        generation < 0)
        return trouble(error, LEND_E_CORRUPT, "%s holds a value that `lend serve' does not write",
                       path);
    out->metadata_bytes = (uint32_t)metadata_bytes;
    out->ticket_bytes = (uint32_t)ticket_bytes;
    out->owner = (uint32_t)owner;
    out->generation = (uint32_t)generation;
    (void)snprintf(out->model, sizeof out->model, "%s", model);
    return LEND_OK;
}

enum lend_status export_file_read(const char *path, struct export_file *out,
                                  struct lend_error *error)
{
    json_error_t why;
    FILE *stream = fopen(path, "re");

    if (stream == NULL && errno == ENOENT)
        return trouble(error, LEND_E_ABSENT, "%s is not there: does `lend serve' run?", path);
    if (stream == NULL)
        return trouble_errno(error, "%s cannot be opened", path);

    json_t *value = json_loadf(stream, JSON_REJECT_DUPLICATES, &why);
    (void)fclose(stream);
    if (value == NULL)
        return trouble(error, LEND_E_CORRUPT, "%s is not JSON: line %d: %s", path, why.line,
                       why.text);
    out->metadata_bytes = 0;
    enum lend_status status = unpack(path, value, out, error);
    json_decref(value);
    if (status == LEND_OK && out->metadata_bytes == 0)
        return trouble(error, LEND_E_CORRUPT, "%s is not of `lend serve': it has no metadata",
                       path);
    return status;
}

enum lend_status export_file_attach(struct lend_agent *agent, const struct export_file *file,
                                    struct lend_error *error)
{
    json_t *made = describe(file, false);
    char *text = made == NULL ? NULL : json_dumps(made, JSON_COMPACT);

    json_decref(made);
    if (text == NULL)
        return trouble(error, LEND_E_NO_MEMORY, "no memory for what readers are told");
    enum lend_status status = lend_agent_attach(agent, text, strlen(text), error);
    free(text);
    return status;
}

enum lend_status export_file_find(const char *where, const struct lend_found *found,
                                  struct export_file *out, struct lend_error *error)
{
    json_error_t why;

    if (found->attachment == NULL)
        return trouble(error, LEND_E_ABSENT, "the agent of %s lends nothing: is it `lend serve'?",
                       where);
    if (found->metadata_bytes > sizeof out->metadata)
        return trouble(error, LEND_E_LIMIT,
                       "%s told %zu bytes of metadata, and there is room "
                       "for %zu",
                       where, found->metadata_bytes, sizeof out->metadata);
    if (found->attachment_bytes > TOLD_BYTES_MAX)
        return trouble(error, LEND_E_CORRUPT,
                       "the agent of %s is not `lend serve': it told %zu bytes, over %d", where,
                       found->attachment_bytes, TOLD_BYTES_MAX);
    json_t *value =
        json_loadb(found->attachment, found->attachment_bytes, JSON_REJECT_DUPLICATES, &why);
    if (value == NULL)
        return trouble(error, LEND_E_CORRUPT, "the agent of %s is not `lend serve': %s", where,
                       why.text);
    memcpy(out->metadata, found->metadata, found->metadata_bytes);
    out->metadata_bytes = (uint32_t)found->metadata_bytes;
    enum lend_status status = unpack(where, value, out, error);
    json_decref(value);
    return status;
}
