/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/borrower.h"

#include "tool/trouble.h"

#include <stdio.h>
#include <string.h>

static const uint64_t quiet_look_ns = 1000000;
static const uint64_t quiet_max_ns = 10000000000;
static const uint64_t connect_max_ns = 30000000000;

static bool is_for_writes(const char *name, size_t length)
{
    static const char end[] = "/write";
    size_t tail = sizeof end - 1;

    return length >= tail && strncmp(name + length - tail, end, tail) == 0;
}

enum lend_status borrower_take_paths(struct borrower *borrower, const char *paths,
                                     struct lend_error *error)
{
    if (paths == NULL)
        return LEND_OK;
    if (strlen(paths) >= BORROWER_PATHS_BYTES)
        return trouble(error, LEND_E_INVALID, "--path: names of at most %d bytes in all",
                       BORROWER_PATHS_BYTES - 1);
    for (const char *at = paths; at != NULL; at = strchr(at, ',')) {
        at += *at == ',';
        size_t length = strcspn(at, ",");
        bool is_write = is_for_writes(at, length);
        char *names = borrower->path_names[is_write];
        size_t used = strlen(names);

        (void)snprintf(names + used, BORROWER_PATHS_BYTES - used, "%s%.*s", used > 0 ? "," : "",
                       (int)length, at);
        *(is_write ? &borrower->write_paths : &borrower->read_paths) = names;
    }
    return LEND_OK;
}

enum lend_status borrower_furnish(struct borrower *borrower, const struct endpoint *endpoint,
                                  uint32_t block_count, struct lend_error *error)
{
    struct lend_region_desc descs[MODEL_REGIONS_MAX];
    struct cache *cache = &borrower->cache;
    enum lend_status status =
        cache_map(cache, endpoint->model, endpoint->memory_kind, block_count, error);

    if (status != LEND_OK)
        return status;
    for (uint32_t i = 0; i < cache->region_count; i++) {
        lend_region_desc_init(&descs[i]);
        status = cache_describe(cache, i, &descs[i], error);
        if (status != LEND_OK)
            return status;
    }
    return lend_region_register(borrower->agent, descs, cache->region_count, borrower->regions,
                                NULL, error);
}

static enum lend_status prepare(struct borrower *borrower, uint32_t direction, const uint64_t *ids,
                                struct lend_transfer **out, struct lend_error *error)
{
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;

    desc.direction = direction;
    desc.region_count = borrower->cache.region_count;
    desc.peer = borrower->owner;
    desc.local_regions = borrower->regions;
    desc.remote_regions = ids;
    desc.block_count_max = borrower->cache.block_count;
    desc.paths = direction == LEND_READ ? borrower->read_paths : borrower->write_paths;
    return lend_transfer_prepare(borrower->agent, &desc, out, error);
}

/* Find the owner's regions by their names; they all have as many blocks. */
static enum lend_status find_regions(struct borrower *borrower, uint64_t *ids,
                                     struct lend_error *error)
{
    struct lend_region_info info = {.struct_size = sizeof info};
    char name[LEND_REGION_NAME_BYTES_MAX + 1];
    enum lend_status status = lend_peer_region_at(borrower->owner, 0, &info, error);

    for (uint32_t i = 0; status == LEND_OK && i < borrower->cache.region_count; i++) {
        model_region_name(borrower->cache.model, i, name, sizeof name);
        status = lend_peer_region(borrower->owner, name, &ids[i], error);
    }
    if (status == LEND_OK)
        borrower->owner_block_count = (uint32_t)info.geometry.count;
    return status;
}

/* Of some paths only a connection can tell, so those who insist on one connect before they prepare.
 */
static enum lend_status connect_first(struct borrower *borrower, struct lend_error *error)
{
    uint64_t begun_ns = now_ns();

    borrower->connect_ns = 0;
    if (borrower->read_paths == NULL && borrower->write_paths == NULL)
        return LEND_OK;
    enum lend_status status = lend_peer_connect(borrower->owner, connect_max_ns, error);
    borrower->connect_ns = now_ns() - begun_ns;
    return status;
}

/* The handles are idle here: a release that said otherwise would be a defect, and the agent's end
 * mends it. */
static void drop_transfers(struct borrower *borrower)
{
    (void)lend_transfer_release(borrower->read);
    (void)lend_transfer_release(borrower->write);
    borrower->read = NULL;
    borrower->write = NULL;
}

enum lend_status borrower_import(struct borrower *borrower, const void *bytes, size_t count,
                                 struct lend_error *error)
{
    uint64_t ids[MODEL_REGIONS_MAX];
    struct lend_peer *owner = NULL;
    enum lend_status status = lend_peer_import(borrower->agent, bytes, count, &owner, error);

    if (status != LEND_OK)
        return status;
    drop_transfers(borrower);
    lend_peer_forget(borrower->owner);
    borrower->owner = owner;

    status = connect_first(borrower, error);
    if (status == LEND_OK)
        status = find_regions(borrower, ids, error);
    if (status == LEND_OK)
        status = prepare(borrower, LEND_READ, ids, &borrower->read, error);
    if (status == LEND_OK)
        status = prepare(borrower, LEND_WRITE, ids, &borrower->write, error);
    return status;
}

enum lend_status borrower_take_ticket(struct borrower *borrower, const void *bytes, size_t count,
                                      struct lend_error *error)
{
    struct lend_ticket *ticket = NULL;
    enum lend_status status = lend_ticket_import(borrower->owner, bytes, count, &ticket, error);

    if (status != LEND_OK)
        return status;
    lend_ticket_release(borrower->ticket);
    borrower->ticket = ticket;
    return LEND_OK;
}

/* Cancel at the time, and ask until it is quiet. */
static enum lend_status cancel(struct lend_transfer *transfer, uint64_t at_ns,
                               struct outcome *outcome)
{
    sleep_until_ns(at_ns);

    uint64_t begun_ns = now_ns();
    enum lend_status status = lend_transfer_cancel(transfer, 0);
    while (status == LEND_PENDING && now_ns() - begun_ns < quiet_max_ns)
        status = lend_transfer_cancel(transfer, quiet_look_ns);
    outcome->quiet_ns = now_ns() - begun_ns;
    return status;
}

void borrower_move(struct borrower *borrower, const struct move *move, struct outcome *out)
{
    struct lend_transfer *transfer =
        move->direction == LEND_READ ? borrower->read : borrower->write;
    struct lend_post_desc post = LEND_POST_DESC_INIT;
    struct lend_error error = {0};

    *out = (struct outcome){.record.struct_size = sizeof out->record};
    post.ticket = borrower->ticket;
    post.local_blocks = move->local;
    post.remote_blocks = move->remote;
    post.block_count = move->count;
    post.timeout_ns = move->timeout_ns;
    post.notification = move->notification;
    post.notification_bytes = move->notification == NULL ? 0 : strlen(move->notification);

    if (move->on_begin != NULL)
        move->on_begin(move->context);
    out->begun_ns = now_ns();
    enum lend_status status = lend_transfer_post(transfer, &post, &error);
    if (status == LEND_OK) {
        if (move->is_canceled)
            status = cancel(transfer, out->begun_ns + move->cancel_after_ns, out);
        else
            status = lend_transfer_wait(transfer, move->timeout_ns + quiet_max_ns);
        out->elapsed_ns = now_ns() - out->begun_ns;
        (void)lend_transfer_describe(transfer, &out->record, &error); /* it was posted */
    } else {
        out->is_refused = true;
    }
    out->status = status;
    if (status != LEND_OK)
        (void)snprintf(out->text, sizeof out->text, "%s", error.message);
}

void borrower_close(struct borrower *borrower)
{
    drop_transfers(borrower);
    lend_ticket_release(borrower->ticket);
    lend_peer_forget(borrower->owner);
    lend_agent_destroy(borrower->agent);
    cache_unmap(&borrower->cache);
    *borrower = (struct borrower){0};
}
