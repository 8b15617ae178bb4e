/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/ticket.h"

#include "base/error.h"
#include "wire/field.h"

#include <lend/region.h>

static const struct lend_envelope envelope = {
    .what = "a ticket",
    .magic = {'L', 'N', 'D', 'T'},
    .version = LEND_TICKET_VERSION,
};

enum { ACCESS_ALL = LEND_ACCESS_READ | LEND_ACCESS_WRITE };

size_t lend_ticket_encode(const struct lend_ticket_bytes *ticket, void *bytes, size_t capacity)
{
    struct lend_writer writer = lend_writer_init(bytes, capacity);

    lend_envelope_begin(&writer, &envelope);
    lend_write_bytes(&writer, ticket->incarnation, sizeof ticket->incarnation);
    lend_lease_name_write(&writer, &ticket->lease);
    lend_write_u32(&writer, ticket->access);
    lend_write_u64(&writer, ticket->expires_ns);
    lend_name_encode(&writer, ticket->agent, LEND_AGENT_NAME_BYTES_MAX);
    lend_envelope_end(&writer);
    return writer.count;
}

enum lend_status lend_ticket_decode(const void *bytes, size_t count, struct lend_ticket_bytes *out,
                                    struct lend_error *error)
{
    struct lend_reader reader;
    enum lend_status status = lend_envelope_open(&envelope, bytes, count, &reader, error);
    if (status != LEND_OK)
        return status;

    struct lend_ticket_bytes ticket = {0};

    lend_read_bytes(&reader, ticket.incarnation, sizeof ticket.incarnation);
    lend_lease_name_read(&reader, &ticket.lease);
    ticket.access = lend_read_u32(&reader);
    ticket.expires_ns = lend_read_u64(&reader);
    status =
        lend_name_decode(&reader, "granting agent", ticket.agent, LEND_AGENT_NAME_BYTES_MAX, error);

    if (status != LEND_OK)
        return status;
    if (!lend_reader_done(&reader))
        return lend_fail(error, LEND_E_CORRUPT, "a ticket of %zu bytes has %zu too many", count,
                         reader.left);
    if (ticket.access == 0 || (ticket.access & ~(uint32_t)ACCESS_ALL) != 0)
        return lend_fail(error, LEND_E_CORRUPT, "a ticket for unknown access 0x%x", ticket.access);

    *out = ticket;
    return LEND_OK;
}
