/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/nixl/engine.h"

#include "base/error.h"
#include "base/reader.h"
#include "base/sys.h"
#include "base/writer.h"

#include <stdio.h>
#include <string.h>

/* NIXL agents that were imported. */

enum { PEERS_MAX = 1 << 16 };

struct lend_nixl_peer *lend_nixl_peer_numbered(struct lend_nixl_engine *engine, uint64_t number)
{
    for (struct lend_list *link = engine->peers.next; link != &engine->peers; link = link->next) {
        struct lend_nixl_peer *peer = LEND_LIST_OWNER(link, struct lend_nixl_peer, link);

        if (peer->number == number)
            return peer;
    }
    return NULL;
}

/* The latest of that name: one that came back is another peer. */
struct lend_nixl_peer *lend_nixl_peer_named(struct lend_nixl_engine *engine, const char *name)
{
    for (struct lend_list *link = engine->peers.previous; link != &engine->peers;
         link = link->previous) {
        struct lend_nixl_peer *peer = LEND_LIST_OWNER(link, struct lend_nixl_peer, link);

        if (strcmp(peer->name, name) == 0)
            return peer;
    }
    return NULL;
}

void lend_nixl_tame_name(const char *name, char out[LEND_AGENT_NAME_BYTES_MAX + 1])
{
    (void)snprintf(out, LEND_AGENT_NAME_BYTES_MAX + 1, "%.*s", LEND_AGENT_NAME_BYTES_MAX, name);
    if (out[0] == '\0')
        (void)snprintf(out, LEND_AGENT_NAME_BYTES_MAX + 1, "?");
    for (char *at = out; *at != '\0'; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            *at = '?';
}

static void free_peer(struct lend_nixl_peer *peer)
{
    if (peer == NULL)
        return;
    lend_sys->release(peer->bytes);
    lend_sys->release(peer->regions);
    lend_sys->release(peer);
}

void lend_nixl_peers_fini(struct lend_nixl_engine *engine)
{
    for (struct lend_list *link; (link = lend_list_take_first(&engine->peers)) != NULL;)
        free_peer(LEND_LIST_OWNER(link, struct lend_nixl_peer, link));
}

/* --- loading --- */

/* Give NIXL the bytes; name is what it says their agent is called. */
static lend_nixl_result load(struct lend_nixl_engine *engine, const void *bytes, size_t count,
                             char name[LEND_NIXL_NAME_MAX + 1])
{
    char *told = NULL;
    lend_nixl_result result = engine->door.metadata_load(engine->nixl, bytes, count, &told);

    name[0] = '\0';
    if (result != LEND_NIXL_OK)
        return result; /* told is nothing then */
    if (told == NULL || strlen(told) > LEND_NIXL_NAME_MAX)
        result = LEND_NIXL_FAILURE;
    else
        (void)snprintf(name, LEND_NIXL_NAME_MAX + 1, "%s", told);
    engine->door.free(told);
    return result;
}

/* The name that stands in NIXL's metadata, to be compared with those known: NIXL tells none of
 * bytes that it refuses. "": it is not there where it should be. */
static void peek_name(const uint8_t *bytes, size_t count, char name[LEND_NIXL_NAME_MAX + 1])
{
    static const char head[] = "nixlSerDes|Agent";
    struct lend_reader reader = lend_reader_init(bytes, count);
    const uint8_t *start = lend_read_span(&reader, sizeof head - 1);
    uint64_t length = lend_read_u64(&reader);

    name[0] = '\0';
    if (start == NULL || memcmp(start, head, sizeof head - 1) != 0 || length > LEND_NIXL_NAME_MAX)
        return;
    const uint8_t *text = lend_read_span(&reader, (size_t)length);
    if (text != NULL)
        (void)snprintf(name, LEND_NIXL_NAME_MAX + 1, "%.*s", (int)length, (const char *)text);
}

enum lend_status lend_nixl_peer_load(struct lend_nixl_engine *engine, struct lend_nixl_peer *peer,
                                     struct lend_error *error)
{
    char name[LEND_NIXL_NAME_MAX + 1];

    enum lend_status status = lend_nixl_engine_live(engine, error);
    if (status != LEND_OK)
        return status;
    if (peer->loaded_life == engine->life)
        return LEND_OK;
    lend_nixl_result result = load(engine, peer->bytes, peer->byte_count, name);
    if (result != LEND_NIXL_OK)
        return lend_fail(error, LEND_E_PEER_DEAD,
                         "NIXL does not take the metadata of %.63s any more (%d): import its new "
                         "metadata",
                         peer->identity.name, result);
    peer->loaded_life = engine->life;
    return LEND_OK;
}

/* --- importing --- */

static enum lend_status identify(struct lend_nixl_engine *engine, struct lend_nixl_peer *peer,
                                 struct lend_error *error)
{
    struct lend_foreign_identity *identity = &peer->identity;
    int result = lend_sys->random(identity->incarnation, sizeof identity->incarnation);

    if (result < 0)
        return lend_fail_errno(error, -result, "no random bytes to tell a NIXL agent by");
    lend_nixl_tame_name(peer->name, identity->name);
    struct lend_writer writer = lend_writer_init(identity->address, sizeof identity->address);
    lend_write_bytes(&writer, engine->nonce, sizeof engine->nonce);
    lend_write_u64(&writer, peer->number);
    identity->address_bytes = writer.count;
    return LEND_OK;
}

/* A new peer, with what the call has. */
static enum lend_status add_peer(struct lend_nixl_engine *engine, const char *name,
                                 struct lend_nixl_peer **out, struct lend_error *error)
{
    struct lend_nixl_peer *peer = lend_sys->allocate(sizeof *peer);

    if (peer == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for a NIXL agent");
    peer->number = engine->last_peer + 1;
    (void)snprintf(peer->name, sizeof peer->name, "%s", name);
    enum lend_status status = identify(engine, peer, error);
    if (status == LEND_OK && peer->number > PEERS_MAX)
        status = lend_fail(error, LEND_E_LIMIT, "%d NIXL agents were imported", PEERS_MAX);
    if (status != LEND_OK) {
        free_peer(peer);
        return status;
    }
    lend_nixl_lock(engine);
    engine->last_peer = peer->number;
    lend_list_append(&engine->peers, &peer->link);
    lend_nixl_unlock(engine);
    *out = peer;
    return LEND_OK;
}

/* What was told of it now. */
static void renew(struct lend_nixl_engine *engine, struct lend_nixl_peer *peer,
                  struct lend_nixl_call *call)
{
    lend_nixl_lock(engine);
    lend_sys->release(peer->bytes);
    lend_sys->release(peer->regions);
    peer->bytes = LEND_TAKE(call->bytes);
    peer->byte_count = call->byte_count;
    peer->regions = LEND_TAKE(call->regions);
    peer->region_count = call->region_count;
    peer->loaded_life = engine->life;
    peer->identity.serial++;
    call->identity = peer->identity;
    lend_nixl_unlock(engine);
}

/* NIXL does not take them. Is it because it knows an earlier agent of that name? Then that one is
 * dead: forget it, and try again. */
static bool load_anew(struct lend_nixl_engine *engine, const struct lend_nixl_call *call,
                      char name[LEND_NIXL_NAME_MAX + 1])
{
    char known[LEND_NIXL_NAME_MAX + 1];

    peek_name(call->bytes, call->byte_count, known);
    lend_nixl_lock(engine);
    struct lend_nixl_peer *before = known[0] != '\0' ? lend_nixl_peer_named(engine, known) : NULL;
    lend_nixl_unlock(engine);
    if (before == NULL || before->loaded_life != engine->life)
        return false;
    lend_nixl_channels_cut(engine, before, "a new agent of that name was imported");
    (void)engine->door.metadata_forget(engine->nixl, known);
    before->loaded_life = 0;
    return load(engine, call->bytes, call->byte_count, name) == LEND_NIXL_OK;
}

enum lend_status lend_nixl_meet(struct lend_nixl_engine *engine, struct lend_nixl_call *call,
                                struct lend_error *error)
{
    char name[LEND_NIXL_NAME_MAX + 1];

    enum lend_status status = lend_nixl_engine_live(engine, error);
    if (status != LEND_OK)
        return status;
    lend_nixl_result result = load(engine, call->bytes, call->byte_count, name);
    bool is_another = result != LEND_NIXL_OK;
    if (is_another && !load_anew(engine, call, name))
        return lend_fail(error, LEND_E_CORRUPT,
                         "NIXL does not take the metadata of %zu bytes (%d): they are damaged, of "
                         "this agent itself, or of one that has no backend UCX",
                         call->byte_count, result);
    lend_nixl_lock(engine);
    struct lend_nixl_peer *peer = is_another ? NULL : lend_nixl_peer_named(engine, name);
    lend_nixl_unlock(engine);
    /* Known from an earlier life: is it the same agent still? */
    if (peer != NULL && peer->loaded_life != engine->life &&
        (peer->byte_count != call->byte_count ||
         memcmp(peer->bytes, call->bytes, call->byte_count) != 0))
        peer = NULL;
    if (peer == NULL)
        status = add_peer(engine, name, &peer, error);
    if (status == LEND_OK)
        renew(engine, peer, call);
    return status;
}
