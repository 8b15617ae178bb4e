/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Goal: no question for metadata, and no part of an answer, can crash us, and what is accepted
 * obeys its limits and says the same when it is written again. Method: the first byte of the input
 * chooses the message, the rest is its payload.
 */

#include "fuzz/fuzz.h"
#include "wire_samples.h"

#include <lend/lend.h>

static void try_fetch(const uint8_t *bytes, size_t count)
{
    struct lend_fetch_message fetch;
    struct lend_error error;
    uint8_t written[LEND_FRAME_CONTROL_MAX];

    memset(&fetch, PAINT, sizeof fetch);
    if (lend_fetch_decode(bytes, count, &fetch, &error) != LEND_OK) {
        CHECK(error.status == LEND_E_CORRUPT && error.message[0] != '\0');
        CHECK(is_painted(&fetch, sizeof fetch));
        return;
    }
    CHECK(fetch.version_min > 0 && fetch.version_min <= fetch.version_max);
    CHECK(strlen(fetch.name) >= 1 && strlen(fetch.name) <= LEND_AGENT_NAME_BYTES_MAX);
    CHECK(lend_fetch_encode(&fetch, written, sizeof written) == count);
    CHECK(memcmp(written, bytes, count) == 0);
}

static void try_found(const uint8_t *bytes, size_t count)
{
    struct lend_found_part part;
    struct lend_error error;
    uint8_t written[LEND_FRAME_CONTROL_MAX];

    memset(&part, PAINT, sizeof part);
    if (lend_found_decode(bytes, count, &part, &error) != LEND_OK) {
        CHECK(error.status == LEND_E_CORRUPT && error.message[0] != '\0');
        CHECK(is_painted(&part, sizeof part));
        return;
    }
    uint64_t total = (uint64_t)part.metadata_bytes + part.attachment_bytes;
    CHECK(part.metadata_bytes > 0 && part.metadata_bytes <= LEND_METADATA_BYTES_MAX);
    CHECK(part.attachment_bytes <= LEND_ATTACHMENT_BYTES_MAX);
    CHECK(part.count > 0 && (uint64_t)part.offset + part.count <= total);
    CHECK(part.bytes + part.count == bytes + count);
    CHECK(lend_found_encode(&part, written, sizeof written) == count);
    CHECK(memcmp(written, bytes, count) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    if (count > 0 && count - 1 <= LEND_FRAME_CONTROL_MAX) {
        uint8_t *payload = copy_bytes(bytes + 1, count - 1);

        (bytes[0] % 2 == 0 ? try_fetch : try_found)(payload, count - 1);
        free(payload);
    }
    return 0;
}
