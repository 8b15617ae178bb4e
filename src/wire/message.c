/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/message.h"

#include "base/error.h"
#include "wire/field.h"

#include <inttypes.h>
#include <string.h>

/* ---- HELLO ---- */

size_t lend_hello_encode(const struct lend_hello *hello, void *bytes, size_t capacity)
{
    struct lend_writer writer = lend_writer_init(bytes, capacity);

    lend_write_u32(&writer, hello->version_min);
    lend_write_u32(&writer, hello->version_max);
    lend_write_bytes(&writer, hello->incarnation, sizeof hello->incarnation);
    lend_write_bytes(&writer, hello->wanted, sizeof hello->wanted);
    lend_name_encode(&writer, hello->name, LEND_AGENT_NAME_BYTES_MAX);
    return writer.count;
}

enum lend_status lend_hello_decode(const void *bytes, size_t count, struct lend_hello *out,
                                   struct lend_error *error)
{
    struct lend_reader reader = lend_reader_init(bytes, count);
    struct lend_hello hello = {0};

    hello.version_min = lend_read_u32(&reader);
    hello.version_max = lend_read_u32(&reader);
    lend_read_bytes(&reader, hello.incarnation, sizeof hello.incarnation);
    lend_read_bytes(&reader, hello.wanted, sizeof hello.wanted);
    enum lend_status status =
        lend_name_decode(&reader, "client", hello.name, LEND_AGENT_NAME_BYTES_MAX, error);

    if (status != LEND_OK)
        return status;
    if (!lend_reader_done(&reader))
        return lend_fail(error, LEND_E_CORRUPT, "a HELLO of %zu bytes has %zu too many", count,
                         reader.left);
    if (hello.version_min == 0 || hello.version_min > hello.version_max)
        return lend_fail(error, LEND_E_CORRUPT, "a HELLO of protocol versions %u to %u",
                         hello.version_min, hello.version_max);

    *out = hello;
    return LEND_OK;
}

/* ---- WELCOME ---- */

size_t lend_welcome_encode(const struct lend_welcome *welcome, void *bytes, size_t capacity)
{
    struct lend_writer writer = lend_writer_init(bytes, capacity);

    lend_write_u32(&writer, welcome->version);
    lend_write_u32(&writer, welcome->requests_max);
    lend_write_u64(&writer, welcome->notification_window_bytes);
    lend_write_bytes(&writer, welcome->incarnation, sizeof welcome->incarnation);
    return writer.count;
}

enum lend_status lend_welcome_decode(const void *bytes, size_t count, struct lend_welcome *out,
                                     struct lend_error *error)
{
    struct lend_reader reader = lend_reader_init(bytes, count);
    struct lend_welcome welcome = {0};

    welcome.version = lend_read_u32(&reader);
    welcome.requests_max = lend_read_u32(&reader);
    welcome.notification_window_bytes = lend_read_u64(&reader);
    lend_read_bytes(&reader, welcome.incarnation, sizeof welcome.incarnation);

    if (!lend_reader_done(&reader))
        return lend_fail(error, LEND_E_CORRUPT, "a WELCOME of %zu bytes", count);
    if (welcome.version == 0)
        return lend_fail(error, LEND_E_CORRUPT, "a WELCOME of protocol version 0");
    if (welcome.requests_max == 0 || welcome.requests_max > LEND_WELCOME_REQUESTS_MAX)
        return lend_fail(error, LEND_E_CORRUPT, "a WELCOME for %u requests at a time, not 1 to %d",
                         welcome.requests_max, LEND_WELCOME_REQUESTS_MAX);

    *out = welcome;
    return LEND_OK;
}

/* ---- BYE, DONE ---- */

size_t lend_verdict_encode(const struct lend_verdict *verdict, void *bytes, size_t capacity)
{
    struct lend_writer writer = lend_writer_init(bytes, capacity);
    size_t text_bytes = strnlen(verdict->text, LEND_MESSAGE_TEXT_MAX);

    lend_write_u32(&writer, (uint32_t)verdict->status);
    lend_write_u64(&writer, verdict->bytes);
    lend_write_u8(&writer, (uint8_t)text_bytes);
    lend_write_bytes(&writer, verdict->text, text_bytes);
    return writer.count;
}

static void make_printable(char *text, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!lend_text_is_printable(&text[i], 1))
            text[i] = '?';
    }
}

enum lend_status lend_verdict_decode(const void *bytes, size_t count, struct lend_verdict *out,
                                     struct lend_error *error)
{
    struct lend_reader reader = lend_reader_init(bytes, count);
    struct lend_verdict verdict = {0};
    int32_t status = (int32_t)lend_read_u32(&reader);

    verdict.bytes = lend_read_u64(&reader);
    uint8_t text_bytes = lend_read_u8(&reader);
    const uint8_t *text = lend_read_span(&reader, text_bytes);

    if (!lend_reader_done(&reader))
        return lend_fail(error, LEND_E_CORRUPT, "a verdict of %zu bytes is cut, or has too many",
                         count);
    if (text_bytes > LEND_MESSAGE_TEXT_MAX)
        return lend_fail(error, LEND_E_CORRUPT,
                         "a verdict's text of %u bytes, over the limit of %d", text_bytes,
                         LEND_MESSAGE_TEXT_MAX);

    verdict.status = status == LEND_OK ? LEND_OK : lend_status_from_wire(status);
    memcpy(verdict.text, text, text_bytes);
    make_printable(verdict.text, text_bytes);
    *out = verdict;
    return LEND_OK;
}

/* ---- CREDIT ---- */

size_t lend_credit_encode(uint64_t taken_bytes, void *bytes, size_t capacity)
{
    struct lend_writer writer = lend_writer_init(bytes, capacity);

    lend_write_u64(&writer, taken_bytes);
    return writer.count;
}

enum lend_status lend_credit_decode(const void *bytes, size_t count, uint64_t *out_taken_bytes,
                                    struct lend_error *error)
{
    struct lend_reader reader = lend_reader_init(bytes, count);
    uint64_t taken_bytes = lend_read_u64(&reader);

    if (!lend_reader_done(&reader))
        return lend_fail(error, LEND_E_CORRUPT, "a CREDIT of %zu bytes", count);

    *out_taken_bytes = taken_bytes;
    return LEND_OK;
}

/* ---- TICKET_DONE ---- */

size_t lend_lease_name_encode(const struct lend_lease_name *name, void *bytes, size_t capacity)
{
    struct lend_writer writer = lend_writer_init(bytes, capacity);

    lend_lease_name_write(&writer, name);
    return writer.count;
}

enum lend_status lend_lease_name_decode(const void *bytes, size_t count,
                                        struct lend_lease_name *out, struct lend_error *error)
{
    struct lend_reader reader = lend_reader_init(bytes, count);
    struct lend_lease_name name = {0};

    lend_lease_name_read(&reader, &name);

    if (!lend_reader_done(&reader))
        return lend_fail(error, LEND_E_CORRUPT, "a lease's name of %zu bytes", count);

    *out = name;
    return LEND_OK;
}
