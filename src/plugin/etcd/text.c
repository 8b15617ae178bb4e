/* SPDX-License-Identifier: Apache-2.0 */
#include "text.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

enum lend_status fail(struct lend_error *error, enum lend_status status, const char *format, ...)
{
    va_list args;

    if (error == NULL)
        return status;
    *error = (struct lend_error){.status = status};
    va_start(args, format);
    (void)vsnprintf(error->message, sizeof error->message, format, args);
    va_end(args);
    for (char *at = error->message; *at != '\0'; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            *at = '?';
    return status;
}

/* --- urls --- */

static bool is_host(const char *at, size_t length)
{
    const char *colon = memrchr(at, ':', length);

    /* Letters, digits, and what numeric addresses have; libcurl looks at the rest. */
    for (size_t i = 0; i < length; i++)
        if (strchr("-._:[]", at[i]) == NULL && !(at[i] >= '0' && at[i] <= '9') &&
            !(at[i] >= 'a' && at[i] <= 'z') && !(at[i] >= 'A' && at[i] <= 'Z'))
            return false;
    return colon != NULL && colon > at && colon + 1 < at + length && length <= ENDPOINT_BYTES_MAX;
}

static bool take_hosts(struct place *out, const char *at, const char *end)
{
    while (at < end) {
        size_t length = strcspn(at, ",/");

        if (!is_host(at, length) || out->endpoint_count == ENDPOINTS_MAX)
            return false;
        memcpy(out->endpoints[out->endpoint_count], at, length);
        out->endpoints[out->endpoint_count++][length] = '\0';
        at += length + (at + length < end);
    }
    return out->endpoint_count > 0;
}

enum lend_status place_parse(struct place *out, const char *url, struct lend_error *error)
{
    static const char scheme[] = "etcd://", tls_scheme[] = "etcds://";
    struct place place = {0};

    place.is_tls = strncmp(url, tls_scheme, strlen(tls_scheme)) == 0;
    if (!place.is_tls && strncmp(url, scheme, strlen(scheme)) != 0)
        return fail(error, LEND_E_UNSUPPORTED,
                    "\"%.80s\" is no url of etcd: etcd://HOST:PORT[,HOST:PORT...][/PREFIX]", url);
    const char *hosts = url + strlen(place.is_tls ? tls_scheme : scheme);
    const char *slash = strchr(hosts, '/');
    const char *prefix = slash != NULL ? slash + 1 : "";
    size_t length = strlen(prefix);

    while (length > 0 && prefix[length - 1] == '/')
        length--;
    if (!take_hosts(&place, hosts, slash != NULL ? slash : hosts + strlen(hosts)) ||
        length > PREFIX_BYTES_MAX)
        return fail(error, LEND_E_INVALID,
                    "\"%.80s\" is not etcd://HOST:PORT[,HOST:PORT...][/PREFIX] of at most %d "
                    "hosts, and %d bytes of prefix",
                    url, ENDPOINTS_MAX, PREFIX_BYTES_MAX);
    (void)snprintf(place.prefix, sizeof place.prefix, "%.*s/agents/", length > 0 ? (int)length : 4,
                   length > 0 ? prefix : "lend");
    *out = place;
    return LEND_OK;
}

/* --- base64 --- */

char *base64_encode(const void *bytes, size_t count)
{
    const unsigned char *from = bytes;
    char *text = count < SIZE_MAX / 2 ? malloc((count + 2) / 3 * 4 + 1) : NULL;
    char *to = text;

    if (text == NULL)
        return NULL;
    for (size_t i = 0; i < count; i += 3) {
        unsigned left = count - i < 3 ? (unsigned)(count - i) : 3;
        uint32_t bits = (uint32_t)from[i] << 16 | (uint32_t)(left > 1 ? from[i + 1] : 0) << 8 |
                        (uint32_t)(left > 2 ? from[i + 2] : 0);

        *to++ = digits[bits >> 18];
        *to++ = digits[bits >> 12 & 63];
        *to++ = left > 1 ? digits[bits >> 6 & 63] : '=';
        *to++ = left > 2 ? digits[bits & 63] : '=';
    }
    *to = '\0';
    return text;
}

static int digit_of(char character)
{
    const char *at = character != '\0' ? strchr(digits, character) : NULL;

    return at != NULL ? (int)(at - digits) : -1;
}

/* Four characters; how many bytes they are, or 0: they are none. Only the last may be padded. */
static unsigned decode_four(const char *text, bool is_last, unsigned char *out)
{
    unsigned digits_there = 4;
    uint32_t bits = 0;

    while (is_last && digits_there > 2 && text[digits_there - 1] == '=')
        digits_there--;
    for (unsigned i = 0; i < 4; i++) {
        int digit = i < digits_there ? digit_of(text[i]) : 0;

        if (digit < 0)
            return 0;
        bits = bits << 6 | (uint32_t)digit;
    }
    out[0] = (unsigned char)(bits >> 16);
    out[1] = (unsigned char)(bits >> 8);
    out[2] = (unsigned char)bits;
    return digits_there - 1;
}

unsigned char *base64_decode(const char *text, size_t length, size_t *out_count)
{
    unsigned char *bytes = length % 4 == 0 ? malloc(length / 4 * 3 + 1) : NULL;
    size_t count = 0;

    if (bytes == NULL)
        return NULL;
    for (size_t i = 0; i < length; i += 4) {
        unsigned more = decode_four(text + i, i + 4 == length, bytes + count);

        if (more == 0) {
            free(bytes);
            return NULL;
        }
        count += more;
    }
    bytes[count] = '\0';
    *out_count = count;
    return bytes;
}
