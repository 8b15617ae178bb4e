/* SPDX-License-Identifier: Apache-2.0 */
#include "core/foreign.h"

#include "base/error.h"
#include "base/geometry.h"
#include "base/sys.h"
#include "core/peer.h"
#include "wire/field.h"
#include "wire/ticket.h"

#include <string.h>

/*
 * Peers that are no agents of lend. Their transport plays an agent for each, and the rest of core
 * takes it for one: it is imported by metadata that is written here, of what the caller has told
 * and the transport has added, and a ticket names a lease that nobody granted.
 */

#define LOOK_AGAIN_NS UINT64_C(100000)

static const struct lend_open_transport *find_open(const struct lend_agent *agent)
{
    for (uint32_t i = 0; i < agent->transport_count; i++)
        if (agent->transports[i].ops->foreign != NULL)
            return &agent->transports[i];
    return NULL;
}

static enum lend_status get_open(const struct lend_agent *agent,
                                 const struct lend_open_transport **out, struct lend_error *error)
{
    enum lend_status status = lend_agent_check(agent, error);

    if (status != LEND_OK)
        return status;
    *out = find_open(agent);
    if (*out == NULL)
        return lend_fail(error, LEND_E_UNSUPPORTED,
                         "transport nixl is not open: set nixl_devices, and transports if that is "
                         "set");
    return LEND_OK;
}

enum lend_status lend_nixl_library_find(const char *library, struct lend_nixl_library *out,
                                        struct lend_error *error)
{
    enum lend_status status = lend_struct_check(out, "lend_nixl_library", sizeof *out, error);

    if (status != LEND_OK)
        return status;
    *out = (struct lend_nixl_library){.struct_size = sizeof *out};
    for (size_t i = 0; lend_transports[i] != NULL; i++)
        if (lend_transports[i]->foreign != NULL)
            return lend_transports[i]->foreign->find(library, out, error);
    return lend_fail(error, LEND_E_UNSUPPORTED, "this build has no transport nixl");
}

enum lend_status lend_nixl_metadata_export(struct lend_agent *agent, void *bytes, size_t capacity,
                                           size_t *out_count, struct lend_error *error)
{
    const struct lend_open_transport *open;

    if (out_count == NULL || (bytes == NULL && capacity > 0))
        return lend_fail(error, LEND_E_INVALID, "out_count, or room for %zu bytes, is NULL",
                         capacity);
    enum lend_status status = get_open(agent, &open, error);
    if (status != LEND_OK)
        return status;
    return open->ops->foreign->tell(open->transport, bytes, capacity, out_count, error);
}

/* --- importing --- */

void lend_nixl_peer_desc_init(struct lend_nixl_peer_desc *desc)
{
    if (desc != NULL)
        *desc = (struct lend_nixl_peer_desc)LEND_NIXL_PEER_DESC_INIT;
}

static bool text_is_good(const char *text, size_t limit)
{
    size_t count = text != NULL ? strnlen(text, limit + 1) : 0;

    return count <= limit && (count == 0 || lend_text_is_printable(text, count));
}

static enum lend_status describe(const struct lend_region_desc *desc, uint64_t id,
                                 struct lend_metadata_region *out, struct lend_error *error)
{
    if (desc->struct_size != sizeof *desc)
        return lend_fail(error, LEND_E_VERSION, "lend_region_desc is %u bytes, not %zu",
                         desc->struct_size, sizeof *desc);
    enum lend_status status = lend_region_check_memory(&desc->memory, error);
    if (status != LEND_OK)
        return status;
    if (desc->access == 0 ||
        (desc->access & ~(uint32_t)(LEND_ACCESS_READ | LEND_ACCESS_WRITE)) != 0)
        return lend_fail(error, LEND_E_INVALID, "its access is 0x%x", desc->access);
    if (!text_is_good(desc->name, LEND_REGION_NAME_BYTES_MAX) ||
        !text_is_good(desc->tags, LEND_REGION_TAGS_BYTES_MAX))
        return lend_fail(error, LEND_E_INVALID,
                         "its name must have at most %d printable bytes, and its tags %d",
                         LEND_REGION_NAME_BYTES_MAX, LEND_REGION_TAGS_BYTES_MAX);
    *out = (struct lend_metadata_region){
        .id = id,
        .kind = desc->memory.kind,
        .device = desc->memory.device,
        .access = desc->access,
        .address = desc->memory.address,
        .length_bytes = desc->memory.length_bytes,
        .geometry = desc->geometry,
        .name = desc->name != NULL ? desc->name : "",
        .tags = desc->tags != NULL ? desc->tags : "",
    };
    return lend_geometry_complete(&out->geometry, out->length_bytes, error);
}

static enum lend_status describe_all(const struct lend_nixl_peer_desc *desc,
                                     struct lend_metadata_region *out, struct lend_error *error)
{
    struct lend_error why;

    for (uint32_t i = 0; i < desc->region_count; i++) {
        enum lend_status status = describe(&desc->regions[i], (uint64_t)i + 1, &out[i], &why);

        if (status != LEND_OK)
            return lend_fail(error, status, "region %u: %.200s", i, why.message);
    }
    return LEND_OK;
}

/* The metadata that an agent would have that were the peer. */
static enum lend_status write_metadata(const struct lend_open_transport *open,
                                       const struct lend_foreign_peer *peer,
                                       const struct lend_foreign_identity *identity,
                                       uint8_t **out_bytes, size_t *out_count,
                                       struct lend_error *error)
{
    struct lend_metadata *metadata = lend_sys->allocate(sizeof *metadata);

    if (metadata == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for metadata");
    memcpy(metadata->name, identity->name, sizeof metadata->name);
    memcpy(metadata->incarnation, identity->incarnation, sizeof metadata->incarnation);
    metadata->serial = identity->serial;
    metadata->transport_count = 1;
    memcpy(metadata->transports[0].name, open->ops->name, strlen(open->ops->name) + 1);
    metadata->transports[0].address_bytes = (uint32_t)identity->address_bytes;
    memcpy(metadata->transports[0].address, identity->address, identity->address_bytes);
    metadata->region_count = peer->region_count;
    metadata->regions = peer->regions;

    size_t count = lend_metadata_encode(metadata, NULL, 0);
    uint8_t *bytes = lend_sys->allocate(count);
    if (bytes != NULL)
        (void)lend_metadata_encode(metadata, bytes, count);
    lend_sys->release(metadata);
    if (bytes == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for metadata of %zu bytes", count);
    *out_bytes = bytes;
    *out_count = count;
    return LEND_OK;
}

static enum lend_status import(struct lend_agent *agent, const struct lend_open_transport *open,
                               const struct lend_foreign_peer *peer, struct lend_peer **out,
                               struct lend_error *error)
{
    struct lend_foreign_identity identity;
    uint8_t *bytes = NULL;
    size_t count = 0;

    enum lend_status status = open->ops->foreign->meet(open->transport, peer, &identity, error);
    if (status == LEND_OK)
        status = write_metadata(open, peer, &identity, &bytes, &count, error);
    if (status == LEND_OK)
        status = lend_peer_import(agent, bytes, count, out, error);
    lend_sys->release(bytes);
    return status;
}

enum lend_status lend_nixl_peer_import(struct lend_agent *agent,
                                       const struct lend_nixl_peer_desc *desc,
                                       struct lend_peer **out, struct lend_error *error)
{
    const struct lend_open_transport *open;
    enum lend_status status = lend_struct_check(desc, "lend_nixl_peer_desc", sizeof *desc, error);

    if (status != LEND_OK)
        return status;
    if (out == NULL || desc->bytes == NULL || desc->byte_count == 0 ||
        (desc->regions == NULL && desc->region_count > 0))
        return lend_fail(error, LEND_E_INVALID, "bytes, regions or out is NULL");
    if (desc->byte_count > LEND_METADATA_BYTES_MAX ||
        desc->region_count > LEND_METADATA_REGIONS_MAX)
        return lend_fail(error, LEND_E_INVALID, "metadata of %zu bytes, or %u regions, over limits",
                         desc->byte_count, desc->region_count);
    status = get_open(agent, &open, error);
    if (status != LEND_OK)
        return status;

    struct lend_metadata_region *regions =
        lend_sys->allocate((desc->region_count + (size_t)1) * sizeof *regions);
    if (regions == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for %u regions", desc->region_count);
    const struct lend_foreign_peer peer = {.bytes = desc->bytes,
                                           .byte_count = desc->byte_count,
                                           .regions = regions,
                                           .region_count = desc->region_count};
    status = describe_all(desc, regions, error);
    if (status == LEND_OK)
        status = import(agent, open, &peer, out, error);
    lend_sys->release(regions);
    return status;
}

/* --- tickets --- */

enum lend_status lend_nixl_ticket(struct lend_peer *peer, uint32_t flags, struct lend_ticket **out,
                                  struct lend_error *error)
{
    struct lend_ticket_bytes ticket = {.access = LEND_ACCESS_READ | LEND_ACCESS_WRITE};
    uint8_t bytes[256];
    enum lend_status status = lend_handle_check(peer, LEND_TAG_PEER, error);

    if (status != LEND_OK)
        return status;
    if (lend_peer_ops(peer)->foreign == NULL)
        return lend_fail(error, LEND_E_INVALID,
                         "%s is an agent of lend, which grants leases: lend_ticket_import()",
                         peer->name);
    if ((flags & ~(uint32_t)LEND_NIXL_ACCEPT_UNFENCED) != 0)
        return lend_fail(error, LEND_E_INVALID, "unknown flags 0x%x", flags);
    if ((flags & LEND_NIXL_ACCEPT_UNFENCED) == 0)
        return lend_fail(error, LEND_E_ACCESS,
                         "%s is a NIXL agent: no lease stands behind what it lends, and nothing "
                         "fences it; say LEND_NIXL_ACCEPT_UNFENCED to accept that",
                         peer->name);
    memcpy(ticket.incarnation, peer->incarnation, sizeof ticket.incarnation);
    memcpy(ticket.agent, peer->name, sizeof ticket.agent);
    size_t count = lend_ticket_encode(&ticket, bytes, sizeof bytes);
    LEND_INVARIANT(count <= sizeof bytes);
    return lend_ticket_import(peer, bytes, count, out, error);
}

/* --- memory of ours --- */

enum lend_status lend_foreign_expose(struct lend_region *region, struct lend_error *error)
{
    struct lend_agent *agent = region->agent;
    const struct lend_open_transport *open = find_open(agent);
    const struct lend_exposure exposure = {.region_id = region->id,
                                           .address = region->memory.address,
                                           .length_bytes = region->memory.length_bytes};

    if ((region->flags & LEND_REGION_ALLOW_UNFENCED) == 0)
        return LEND_OK;
    if (open == NULL || (open->ops->kinds >> region->memory.kind & 1) == 0)
        return lend_fail(error, LEND_E_UNSUPPORTED, "LEND_REGION_ALLOW_UNFENCED: %s",
                         open == NULL ? "transport nixl is not open (nixl_devices)"
                                      : "transport nixl moves no memory of that kind");
    /* Before it is: so that whoever withdraws it meanwhile asks. */
    (void)pthread_mutex_lock(&agent->lock);
    region->is_exposed = true;
    (void)pthread_mutex_unlock(&agent->lock);
    return open->ops->foreign->expose(open->transport, &exposure, error);
}

enum lend_status lend_foreign_conceal_locked(struct lend_region *region, bool by_force,
                                             struct lend_error *error)
{
    const struct lend_open_transport *open = find_open(region->agent);
    char who[200];

    if (!region->is_exposed || open == NULL)
        return LEND_OK;
    open->ops->foreign->conceal(open->transport, region->id, by_force);
    if (open->ops->foreign->is_exposed(open->transport, region->id, who, sizeof who))
        return lend_fail(error, LEND_E_BUSY, "region %s (%llu): %s", region->name,
                         (unsigned long long)region->id, who);
    region->is_exposed = false;
    return LEND_OK;
}

void lend_foreign_take_back(struct lend_region *region)
{
    struct lend_agent *agent = region->agent;
    uint64_t until = lend_deadline(lend_sys->now_ns(), agent->config.connect_timeout_ns);
    enum lend_status status;
    struct lend_error why;

    for (;;) {
        (void)pthread_mutex_lock(&agent->lock);
        status = lend_foreign_conceal_locked(region, true, &why);
        (void)pthread_mutex_unlock(&agent->lock);
        if (status == LEND_OK || lend_sys->now_ns() >= until)
            break;
        lend_sys->sleep_ns(LOOK_AGAIN_NS);
    }
    if (status != LEND_OK)
        lend_agent_log(agent, LEND_LOG_ERROR,
                       "memory that was not registered after all must stay until the agent has "
                       "ended: %s",
                       why.message);
}
