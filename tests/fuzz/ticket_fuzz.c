/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Goal: no ticket can crash us, and what is accepted obeys its limits and is the only way to write
 * it. Method: the input is tried as it is, and again with the right checksum.
 */

#include "fuzz/fuzz.h"
#include "wire/ticket.h"
#include "wire_samples.h"

#include <lend/lease.h>

static void try_ticket(const uint8_t *bytes, size_t count)
{
    struct lend_ticket_bytes ticket, again;
    uint8_t written[LEND_TICKET_BYTES_MAX];
    struct lend_error error;

    memset(&ticket, PAINT, sizeof ticket);
    enum lend_status status = lend_ticket_decode(bytes, count, &ticket, &error);
    if (status != LEND_OK) {
        CHECK(status == LEND_E_CORRUPT || status == LEND_E_VERSION);
        CHECK(error.status == status && error.message[0] != '\0');
        CHECK(is_painted(&ticket, sizeof ticket));
        return;
    }

    CHECK(strnlen(ticket.agent, sizeof ticket.agent) - 1 < LEND_AGENT_NAME_BYTES_MAX);
    CHECK(ticket.access >= 1 && ticket.access <= 3);
    CHECK(lend_ticket_encode(&ticket, written, sizeof written) == count);
    CHECK(memcmp(written, bytes, count) == 0);
    CHECK(lend_ticket_decode(written, count, &again, NULL) == LEND_OK);
    CHECK(tickets_are_equal(&ticket, &again));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    try_ticket(bytes, count);
    if (count >= 4) {
        uint8_t *sealed = copy_sealed(bytes, count);

        try_ticket(sealed, count);
        free(sealed);
    }
    return 0;
}
