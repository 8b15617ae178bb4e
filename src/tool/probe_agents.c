/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/probe_agents.h"

#include "tool/secret_file.h"
#include "tool/trouble.h"

#include <lend/discovery.h>
#include <lend/transfer.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK_BYTES = 4096, BLOCK_COUNT = 2, PATTERN = 0x5a };

static const uint64_t patience_ns = 2000000000;

/* Two agents of this process, one of which lends a block to the other. */
struct trip {
    struct lend_agent *owner;
    struct lend_agent *reader;
    struct lend_region *lent;
    struct lend_region *local;
    struct lend_lease *lease;
    struct lend_peer *peer;
    struct lend_ticket *ticket;
    struct lend_transfer *transfer;
    uint64_t remote_region;
    uint8_t metadata[4096];
    size_t metadata_bytes;
    uint8_t token[LEND_TICKET_BYTES_MAX];
    size_t token_bytes;
};

/* Make the default folder a thing that was there before, or is gone again. */
static bool is_default_there(const char *directory, char *path, size_t capacity)
{
    struct stat found;

    (void)snprintf(path, capacity, "/tmp/lend-%u", (unsigned)geteuid());
    return directory != NULL || lstat(path, &found) == 0;
}

/* An agent that is made and ended at once, and leaves no folder behind. */
static enum lend_status try_agent(const struct lend_agent_config *config,
                                  const struct lend_directory_config *directory,
                                  struct lend_error *error)
{
    struct lend_directory *entered = NULL;
    struct lend_agent *agent = NULL;
    char path[64];
    bool was_there = is_default_there(NULL, path, sizeof path);
    enum lend_status status = lend_agent_create(config, &agent, error);

    if (status == LEND_OK && directory != NULL)
        status = lend_directory_open(agent, directory, &entered, error);
    lend_directory_close(entered);
    lend_agent_destroy(agent);
    if (!was_there)
        (void)rmdir(path);
    return status;
}

enum lend_status probe_listens(const char *address, struct lend_error *error)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;

    config.name = "doctor";
    config.transports = "tcp";
    config.transports_required = "tcp";
    config.listen = address;
    return try_agent(&config, NULL, error);
}

enum lend_status probe_secret(const char *path, struct lend_error *error)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct secret secret = {.count = SECRET_BYTES_MIN};
    enum lend_status status = path == NULL ? LEND_OK : secret_read(path, &secret, error);

    if (status != LEND_OK)
        return status;
    config.name = "doctor";
    config.transports = "loopback,tcp";
    config.secret = secret.bytes;
    config.secret_bytes = secret.count;
    status = try_agent(&config, NULL, error);
    secret_wipe(&secret);
    return status;
}

enum lend_status probe_reach(const char *url, struct lend_error *error)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_directory_config directory = LEND_DIRECTORY_CONFIG_INIT;

    config.name = "doctor";
    directory.url = url;
    directory.timeout_ns = patience_ns;
    return try_agent(&config, &directory, error);
}

static enum lend_status open_agent(const char *name, const char *transport, const char *directory,
                                   struct lend_agent **out, struct lend_error *error)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;

    config.name = name;
    config.transports = transport;
    config.transports_required = transport;
    config.local_directory = directory;
    config.connect_timeout_ns = patience_ns;
    return lend_agent_create(&config, out, error);
}

enum lend_status probe_open_transport(const char *name, const char *directory,
                                      struct lend_error *error)
{
    struct lend_agent *agent = NULL;
    char path[64];
    bool was_there = is_default_there(directory, path, sizeof path);
    enum lend_status status = open_agent("doctor", name, directory, &agent, error);

    lend_agent_destroy(agent);
    if (!was_there)
        (void)rmdir(path);
    return status;
}

static enum lend_status add_region(struct lend_agent *agent, void *memory, uint32_t access,
                                   struct lend_region **out, struct lend_error *error)
{
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    enum lend_status status =
        lend_memory_system(memory, BLOCK_BYTES * BLOCK_COUNT, &desc.memory, error);

    if (status != LEND_OK)
        return status;
    desc.access = access;
    desc.geometry.block_length_bytes = BLOCK_BYTES;
    desc.geometry.count = BLOCK_COUNT;
    return lend_region_register(agent, &desc, 1, out, NULL, error);
}

/* The owner's part: register, grant, and export both. */
static enum lend_status lend_out(struct trip *trip, void *memory, struct lend_error *error)
{
    struct lend_block_set set = {.regions = &trip->lent, .region_count = 1};
    struct lend_grant_desc grant = LEND_GRANT_DESC_INIT;
    enum lend_status status = add_region(trip->owner, memory, LEND_ACCESS_READ, &trip->lent, error);

    grant.access = LEND_ACCESS_READ;
    grant.sets = &set;
    grant.set_count = 1;
    grant.time_to_live_ns = 2 * patience_ns;
    if (status == LEND_OK)
        status = lend_lease_grant(trip->owner, &grant, &trip->lease, error);
    if (status == LEND_OK)
        status = lend_metadata_export(trip->owner, trip->metadata, sizeof trip->metadata,
                                      &trip->metadata_bytes, error);
    if (status == LEND_OK)
        status = lend_ticket_export(trip->lease, trip->token, sizeof trip->token,
                                    &trip->token_bytes, error);
    return status;
}

/* The reader's part: import both, and prepare. */
static enum lend_status take_in(struct trip *trip, void *memory, struct lend_error *error)
{
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_region_info info = {.struct_size = sizeof info};
    enum lend_status status = add_region(trip->reader, memory, 0, &trip->local, error);

    if (status == LEND_OK)
        status = lend_peer_import(trip->reader, trip->metadata, trip->metadata_bytes, &trip->peer,
                                  error);
    if (status == LEND_OK)
        status =
            lend_ticket_import(trip->peer, trip->token, trip->token_bytes, &trip->ticket, error);
    if (status == LEND_OK)
        status = lend_peer_region_at(trip->peer, 0, &info, error);
    if (status != LEND_OK)
        return status;
    trip->remote_region = info.id;
    desc.direction = LEND_READ;
    desc.peer = trip->peer;
    desc.region_count = 1;
    desc.local_regions = &trip->local;
    desc.remote_regions = &trip->remote_region;
    desc.block_count_max = 1;
    return lend_transfer_prepare(trip->reader, &desc, &trip->transfer, error);
}

static enum lend_status travel(struct trip *trip, char *path, struct lend_error *error)
{
    static const int32_t local = 0;
    static const int32_t remote = 1;
    struct lend_transfer_record record = {.struct_size = sizeof record};
    struct lend_post_desc post = LEND_POST_DESC_INIT;

    post.ticket = trip->ticket;
    post.local_blocks = &local;
    post.remote_blocks = &remote;
    post.block_count = 1;
    post.timeout_ns = patience_ns;
    enum lend_status status = lend_transfer_post(trip->transfer, &post, error);
    if (status != LEND_OK)
        return status;
    (void)lend_transfer_wait(trip->transfer, 2 * patience_ns);
    status = lend_transfer_describe(trip->transfer, &record, error);
    if (status != LEND_OK)
        return status;
    (void)snprintf(path, sizeof record.path, "%s", record.path);
    if (record.status == LEND_PENDING)
        return trouble(error, LEND_E_TIMEOUT, "the block did not come, and nothing says why");
    return (enum lend_status)record.status;
}

static void end(struct trip *trip)
{
    (void)lend_transfer_release(trip->transfer); /* the agents' end mends what it says */
    lend_ticket_release(trip->ticket);
    lend_peer_forget(trip->peer);
    lend_lease_release(trip->lease);
    lend_agent_destroy(trip->reader);
    lend_agent_destroy(trip->owner);
}

enum lend_status probe_round_trip(const char *directory, char *path, struct lend_error *error)
{
    static uint8_t lent[BLOCK_BYTES * BLOCK_COUNT];
    static uint8_t read[BLOCK_BYTES * BLOCK_COUNT];
    struct trip trip = {0};
    char made[64];
    bool was_there = is_default_there(directory, made, sizeof made);

    memset(lent + BLOCK_BYTES, PATTERN, BLOCK_BYTES); /* the block that is read */
    memset(read, 0, sizeof read);
    path[0] = '\0';
    enum lend_status status = open_agent("doctor-owner", "local", directory, &trip.owner, error);
    if (status == LEND_OK)
        status = open_agent("doctor-reader", "local", directory, &trip.reader, error);
    if (status == LEND_OK)
        status = lend_out(&trip, lent, error);
    if (status == LEND_OK)
        status = take_in(&trip, read, error);
    if (status == LEND_OK)
        status = travel(&trip, path, error);
    end(&trip);
    if (!was_there)
        (void)rmdir(made);
    if (status == LEND_OK && memcmp(read, lent + BLOCK_BYTES, BLOCK_BYTES) != 0)
        return trouble(error, LEND_E_CORRUPT, "the block came with other bytes than were lent");
    return status;
}
