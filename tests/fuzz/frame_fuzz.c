/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Goal: no frame from a peer can crash us, and what is accepted obeys its limits.
 * Method: the input is a header, and whatever follows is its payload. The header is tried as it is,
 * and again with the right checksum.
 */

#include "fuzz/fuzz.h"
#include "wire/frame.h"

static void check_limits(const struct lend_frame *frame)
{
    CHECK(frame->type >= LEND_FRAME_HELLO && frame->type <= LEND_FRAME_LAST);
    if (frame->type == LEND_FRAME_DATA) {
        CHECK(frame->payload_bytes > 0 && frame->payload_bytes <= LEND_FRAME_DATA_MAX);
        CHECK(frame->payload_crc == 0);
    } else {
        CHECK(frame->payload_bytes <= LEND_FRAME_CONTROL_MAX);
    }
}

/* An accepted frame, encoded again, is the same but for the checksum of its payload, which is then
 * right. */
static void check_again(const struct lend_frame *frame, const uint8_t *payload)
{
    uint8_t header[LEND_FRAME_HEADER_BYTES];
    struct lend_frame again;

    lend_frame_encode(frame, frame->type == LEND_FRAME_DATA ? NULL : payload, header);
    CHECK(lend_frame_decode(header, &again, NULL) == LEND_OK);
    CHECK(again.type == frame->type && again.payload_bytes == frame->payload_bytes);
    CHECK(again.sequence == frame->sequence && again.request == frame->request);
    CHECK(lend_frame_check(&again, payload, NULL) == LEND_OK);
    if (lend_frame_check(frame, payload, NULL) == LEND_OK)
        CHECK(again.payload_crc == frame->payload_crc);
}

static void try_header(const uint8_t *header, const uint8_t *payload, size_t payload_count)
{
    struct lend_frame frame;
    struct lend_error error;

    memset(&frame, PAINT, sizeof frame);
    enum lend_status status = lend_frame_decode(header, &frame, &error);
    if (status != LEND_OK) {
        CHECK(status == LEND_E_CORRUPT || status == LEND_E_VERSION);
        CHECK(error.status == status && error.message[0] != '\0');
        CHECK(is_painted(&frame, sizeof frame));
        return;
    }
    check_limits(&frame);
    if (payload_count >= frame.payload_bytes)
        check_again(&frame, payload);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    if (count < LEND_FRAME_HEADER_BYTES)
        return 0; /* transports never show less than a header */

    size_t payload_count = count - LEND_FRAME_HEADER_BYTES;
    uint8_t *payload = copy_bytes(bytes + LEND_FRAME_HEADER_BYTES, payload_count);
    uint8_t *header = copy_bytes(bytes, LEND_FRAME_HEADER_BYTES);
    uint8_t *sealed = copy_sealed(bytes, LEND_FRAME_HEADER_BYTES);

    try_header(header, payload, payload_count);
    try_header(sealed, payload, payload_count);
    free(sealed);
    free(header);
    free(payload);
    return 0;
}
