/* SPDX-License-Identifier: Apache-2.0 */
#include "null_transport.h"

#include "core/session.h"
#include "core/transport.h"
#include "wire/message.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { CHANNELS_MAX = 4, REPLIES_MAX = 64, REPLY_BYTES_MAX = 256, BLOCK_BYTES = 4096 };

struct null_transport_seen null_transport_seen;

struct reply {
    enum lend_frame_type type;
    uint64_t request;
    size_t count;
    uint8_t bytes[REPLY_BYTES_MAX];
};

struct null_channel {
    struct lend_channel base;
    uint64_t sequence; /* of our replies */
    uint64_t runs_due; /* of the request under way */
    uint32_t first;    /* of the replies that wait */
    uint32_t end;
    struct reply replies[REPLIES_MAX];
};

static struct null_channel channels[CHANNELS_MAX]; /* free: without a session */

static _Noreturn void give_up(const char *why)
{
    fprintf(stderr, "null transport: %s\n", why);
    exit(1);
}

static void check(enum lend_status status, const struct lend_error *error)
{
    if (status != LEND_OK)
        give_up(error->message);
}

/* --- the transport --- */

static enum lend_status open_null(const struct lend_transport_open *open, void **out,
                                  struct lend_error *error)
{
    static int anything;

    (void)open;
    (void)error;
    *out = &anything;
    return LEND_OK;
}

static void close_null(void *transport)
{
    (void)transport;
}

static size_t address(void *transport, uint8_t *bytes)
{
    (void)transport;
    bytes[0] = 0;
    return 1;
}

static bool reaches(void *transport, const uint8_t *bytes, size_t count)
{
    (void)transport;
    (void)bytes;
    return count == 1;
}

static enum lend_status connect_null(void *transport, const uint8_t *bytes, size_t count,
                                     struct lend_session *session, struct lend_channel **out,
                                     struct lend_error *error)
{
    (void)transport;
    (void)bytes;
    (void)count;
    (void)error;
    struct null_channel *channel = NULL;
    for (unsigned i = 0; i < CHANNELS_MAX && channel == NULL; i++)
        if (channels[i].base.session == NULL)
            channel = &channels[i];
    if (channel == NULL)
        give_up("more channels than it has places for");
    memset(channel, 0, sizeof *channel);
    channel->base.session = session;
    channel->base.ops = lend_transports[0];
    *out = &channel->base;
    return LEND_OK;
}

static void close_channel(struct lend_channel *channel, bool forked)
{
    (void)forked;
    channel->session = NULL;
}

static size_t room(struct lend_channel *channel)
{
    (void)channel;
    return LEND_FRAME_PAYLOAD_MAX;
}

static struct reply *add_reply(struct null_channel *channel, enum lend_frame_type type)
{
    if (channel->first == channel->end)
        channel->first = channel->end = 0;
    if (channel->end == REPLIES_MAX)
        give_up("more replies than it has places for");

    struct reply *reply = &channel->replies[channel->end++];
    *reply = (struct reply){.type = type};
    return reply;
}

static void welcome(struct null_channel *channel, const void *payload, size_t count)
{
    struct lend_welcome welcome = {
        .version = LEND_PROTOCOL_VERSION,
        .requests_max = 16,
        .notification_window_bytes = 1 << 18,
    };
    struct reply *reply = add_reply(channel, LEND_FRAME_WELCOME);
    struct lend_hello hello;
    struct lend_error error;

    check(lend_hello_decode(payload, count, &hello, &error), &error);
    memcpy(welcome.incarnation, hello.wanted, sizeof welcome.incarnation);
    reply->count = lend_welcome_encode(&welcome, reply->bytes, sizeof reply->bytes);
}

static void take_request(struct null_channel *channel, const void *payload, size_t count)
{
    static uint64_t region_ids[LEND_REQUEST_REGIONS_MAX];
    struct lend_request request;
    struct lend_error error;

    check(lend_request_decode(payload, count, &request, region_ids, &error), &error);
    channel->runs_due = request.run_count;
    null_transport_seen.requests++;
    null_transport_seen.regions += request.region_count;
}

static void take_runs(struct null_channel *channel, uint64_t request, size_t count)
{
    static const struct lend_verdict revoked = {.status = LEND_E_REVOKED, .text = "nothing here"};
    uint64_t runs = count / LEND_RUN_BYTES;

    null_transport_seen.run_frames++;
    null_transport_seen.runs += runs;
    channel->runs_due -= runs;
    if (channel->runs_due > 0)
        return;
    struct reply *reply = add_reply(channel, LEND_FRAME_DONE);
    reply->request = request;
    reply->count = lend_verdict_encode(&revoked, reply->bytes, sizeof reply->bytes);
}

static void send_null(struct lend_channel *base, const uint8_t *header, const void *payload,
                      size_t count)
{
    struct null_channel *channel = (struct null_channel *)base;
    struct lend_frame frame;
    struct lend_error error;

    check(lend_frame_decode(header, &frame, &error), &error);
    null_transport_seen.frames++;
    if (frame.type == LEND_FRAME_HELLO)
        welcome(channel, payload, count);
    else if (frame.type == LEND_FRAME_REQUEST)
        take_request(channel, payload, count);
    else if (frame.type == LEND_FRAME_RUNS)
        take_runs(channel, frame.request, count);
    else if (frame.type != LEND_FRAME_BYE)
        give_up("a frame that no read sends");
}

static void send_data(struct lend_channel *channel, const uint8_t *header, struct lend_cursor *from,
                      size_t count)
{
    (void)channel;
    (void)header;
    (void)from;
    (void)count;
    give_up("a read sends no data");
}

static void flush(struct lend_channel *channel)
{
    (void)channel;
}

static enum lend_status peek(struct lend_channel *base, uint8_t *header, struct lend_error *error)
{
    const struct null_channel *channel = (const struct null_channel *)base;
    const struct reply *reply = &channel->replies[channel->first];

    (void)error;
    if (channel->first == channel->end)
        return LEND_PENDING;
    const struct lend_frame frame = {
        .type = (uint8_t)reply->type,
        .payload_bytes = (uint32_t)reply->count,
        .sequence = channel->sequence,
        .request = reply->request,
    };
    lend_frame_encode(&frame, reply->bytes, header);
    return LEND_OK;
}

static enum lend_status take(struct lend_channel *base, void *payload, size_t count,
                             struct lend_error *error)
{
    struct null_channel *channel = (struct null_channel *)base;

    (void)error;
    memcpy(payload, channel->replies[channel->first].bytes, count);
    channel->first++;
    channel->sequence++;
    return LEND_OK;
}

static size_t take_data(struct lend_channel *channel, struct lend_cursor *to, size_t count,
                        size_t total)
{
    (void)channel;
    (void)to;
    (void)total;
    return count;
}

static bool sleep_null(struct lend_channel *base, bool wants_room, size_t wanted)
{
    const struct null_channel *channel = (const struct null_channel *)base;

    (void)wants_room;
    (void)wanted;
    return channel->first == channel->end;
}

static void awake(struct lend_channel *channel)
{
    (void)channel;
}

static const struct lend_transport_ops null_ops = {
    .name = "null",
    .paths = {[LEND_WAY_SERVED] = "null"},
    .rank = 1,
    .kinds = 1U << LEND_MEMORY_SYSTEM,
    .open = open_null,
    .close = close_null,
    .close_forked = close_null,
    .address = address,
    .reaches = reaches,
    .connect = connect_null,
    .close_channel = close_channel,
    .room = room,
    .send = send_null,
    .send_data = send_data,
    .flush = flush,
    .peek = peek,
    .take = take,
    .take_data = take_data,
    .sleep = sleep_null,
    .awake = awake,
};

const struct lend_transport_ops *const lend_transports[] = {&null_ops, NULL};

void null_transport_reset(void)
{
    null_transport_seen = (struct null_transport_seen){0};
}

/* --- those who use it --- */

struct lend_agent *null_agent_create(const char *name)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_agent *agent = NULL;
    struct lend_error error;

    config.name = name;
    config.flags = LEND_AGENT_MANUAL_PROGRESS;
    check(lend_agent_create(&config, &agent, &error), &error);
    return agent;
}

static struct lend_region *lend_blocks(struct lend_agent *agent, const char *name, void *memory,
                                       uint64_t block_count)
{
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct lend_region *region = NULL;
    struct lend_error error;

    check(lend_memory_system(memory, block_count * BLOCK_BYTES, &desc.memory, &error), &error);
    desc.geometry.block_length_bytes = BLOCK_BYTES;
    desc.geometry.count = block_count;
    desc.access = name != NULL ? LEND_ACCESS_READ : 0;
    desc.name = name;
    check(lend_region_register(agent, &desc, 1, &region, NULL, &error), &error);
    return region;
}

static void import(struct null_pair *pair)
{
    uint8_t metadata[4096], ticket[LEND_TICKET_BYTES_MAX];
    size_t metadata_bytes = 0, ticket_bytes = 0;
    struct lend_error error;

    check(lend_metadata_export(pair->owner, metadata, sizeof metadata, &metadata_bytes, &error),
          &error);
    check(lend_ticket_export(pair->lease, ticket, sizeof ticket, &ticket_bytes, &error), &error);
    check(lend_peer_import(pair->reader, metadata, metadata_bytes, &pair->peer, &error), &error);
    check(lend_ticket_import(pair->peer, ticket, ticket_bytes, &pair->ticket, &error), &error);
}

static void prepare(struct null_pair *pair, uint64_t block_count)
{
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_error error;
    uint64_t remote = 0;

    check(lend_peer_region(pair->peer, "blocks", &remote, &error), &error);
    desc.direction = LEND_READ;
    desc.peer = pair->peer;
    desc.region_count = 1;
    desc.local_regions = &pair->local;
    desc.remote_regions = &remote;
    desc.block_count_max = block_count;
    check(lend_transfer_prepare(pair->reader, &desc, &pair->transfer, &error), &error);
}

void null_pair_init(struct null_pair *pair, struct lend_agent *reader, const char *owner,
                    uint64_t block_count)
{
    uint64_t bytes = 2 * block_count * BLOCK_BYTES;
    char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    struct lend_grant_desc grant = LEND_GRANT_DESC_INIT;
    struct lend_error error;

    if (memory == MAP_FAILED)
        give_up("no memory"); /* none of it is ever touched */
    *pair = (struct null_pair){.reader = reader, .memory = memory};
    pair->owner = null_agent_create(owner);
    struct lend_region *region = lend_blocks(pair->owner, "blocks", memory, block_count);
    const struct lend_block_set set = {.regions = &region, .region_count = 1};
    grant.sets = &set;
    grant.set_count = 1;
    grant.access = LEND_ACCESS_READ;
    grant.time_to_live_ns = UINT64_C(3600000000000);
    check(lend_lease_grant(pair->owner, &grant, &pair->lease, &error), &error);
    import(pair);
    pair->local = lend_blocks(reader, NULL, memory + bytes / 2, block_count);
    prepare(pair, block_count);
}

void null_pair_fini(struct null_pair *pair)
{
    if (lend_transfer_release(pair->transfer) != LEND_OK)
        give_up("the transfer is still under way");
    lend_ticket_release(pair->ticket);
    lend_peer_forget(pair->peer);
    lend_lease_release(pair->lease);
    lend_agent_destroy(pair->owner);
}

void null_pair_post(struct null_pair *pair, uint32_t index_bits, const void *blocks,
                    uint64_t block_count)
{
    struct lend_post_desc desc = LEND_POST_DESC_INIT;
    struct lend_error error;

    desc.ticket = pair->ticket;
    desc.index_bits = index_bits;
    desc.local_blocks = blocks;
    desc.remote_blocks = blocks;
    desc.block_count = block_count;
    check(lend_transfer_post(pair->transfer, &desc, &error), &error);
}

void null_pair_finish(struct null_pair *pair)
{
    while (lend_transfer_test(pair->transfer) == LEND_PENDING) {
        for (unsigned i = 0; i < CHANNELS_MAX; i++)
            if (channels[i].base.session != NULL)
                lend_session_wake(channels[i].base.session);
        (void)lend_agent_progress(pair->reader, 0, NULL);
    }
}
