/* SPDX-License-Identifier: Apache-2.0 */
#include "core/explain.h"

#include "base/error.h"
#include "core/client.h"
#include "core/onesided.h"
#include "core/peer.h"
#include "core/rail.h"
#include "core/region.h"

#include <stdio.h>
#include <string.h>

/* Telling which path a transfer would take, and why not a better one; and holding it to those that
 * its user allows. */

/* What is asked about. */
struct question {
    struct lend_peer *peer;
    struct lend_session *session;    /* a reference, established; NULL: not connected */
    const struct lend_region *local; /* NULL: any memory of that kind */
    uint32_t local_kind;
    uint32_t direction;
    uint64_t remote_region;
};

/* The peer's session if it is established, with a reference; else NULL. */
static struct lend_session *established(struct lend_peer *peer)
{
    struct lend_session *session = NULL;

    (void)pthread_mutex_lock(&peer->lock);
    if (peer->session != NULL && peer->session->is_welcome &&
        !atomic_load_explicit(&peer->session->is_dead, memory_order_acquire)) {
        session = peer->session;
        lend_session_retain(session);
    }
    (void)pthread_mutex_unlock(&peer->lock);
    return session;
}

static enum lend_status judge_served(const struct question *question,
                                     const struct lend_metadata_region *region,
                                     struct lend_error *why)
{
    const struct lend_transport_ops *ops = lend_peer_ops(question->peer);
    uint32_t access = question->direction == LEND_READ ? LEND_ACCESS_READ : LEND_ACCESS_WRITE;
    int32_t lost = atomic_load(&question->peer->lost);

    if (lost != LEND_OK)
        return lend_fail(why, (enum lend_status)lost, "%s is known to be dead",
                         question->peer->name);
    if ((region->access & access) == 0)
        return lend_fail(why, LEND_E_ACCESS, "the region is not lent for %s",
                         access == LEND_ACCESS_READ ? "reading" : "writing");
    return lend_transport_check_kinds(ops, question->local_kind, region->kind, why);
}

static bool is_staged(const struct question *question, const struct lend_metadata_region *region)
{
    return question->local_kind == LEND_MEMORY_DEVICE || region->kind == LEND_MEMORY_DEVICE;
}

/* Under the session's lock, if there is one, and the agent's. */
static enum lend_status judge_locked(const struct question *question, enum lend_way way,
                                     const struct lend_metadata_region *region,
                                     struct lend_error *why)
{
    enum lend_status status = judge_served(question, region, why);

    bool is_for_gpus = way == LEND_WAY_STAGED || way == LEND_WAY_DEVICE;

    if (status == LEND_OK && !lend_way_is_remote(way) && is_staged(question, region) != is_for_gpus)
        return lend_fail(why, LEND_E_NO_PATH,
                         "memory of a GPU is out of its reach, and is moved through the host's");
    if (status != LEND_OK || way == LEND_WAY_SERVED || way == LEND_WAY_STAGED)
        return status;
    if (question->direction == LEND_WRITE && way != LEND_WAY_WRITTEN)
        return lend_fail(why, LEND_E_NO_PATH, "a write goes through its owner");
    if (way == LEND_WAY_DEVICE &&
        (question->local_kind != LEND_MEMORY_DEVICE || region->kind != LEND_MEMORY_DEVICE))
        return lend_fail(why, LEND_E_NO_PATH, "a GPU copies by itself to memory of a GPU alone");
    if (way == LEND_WAY_DEVICE && region->file == 0)
        return lend_fail(why, LEND_E_NO_PATH,
                         "its owner does not let peers open it (LEND_REGION_SHARE_DEVICE)");
    if (way == LEND_WAY_MAPPED && region->file == 0)
        return lend_fail(why, LEND_E_NO_PATH,
                         "its owner does not share a file behind it (LEND_REGION_SHARE_FILE)");
    if (question->session == NULL || question->session->channel == NULL)
        return lend_fail(why, LEND_PENDING, "known once connected: call lend_peer_connect()");
    status = lend_onesided_judge_locked(lend_client_onesided(question->session), way, region, why);
    if (status == LEND_OK && lend_way_is_remote(way) && question->local != NULL &&
        question->session->rail->ops->ours(question->session->rail, question->local->id,
                                           way == LEND_WAY_REMOTE, why) == NULL)
        return LEND_E_NO_PATH;
    return status;
}

/* What is told of a peer's paths. */
struct answer {
    const struct lend_peer *peer;
    struct lend_path_info *infos; /* room for LEND_PATHS_MAX */
    uint32_t count;
    bool is_staged; /* memory of a GPU is asked about, else nothing is told of its way */
    bool has_chosen;
};

static bool must_be_named(const struct lend_transport_ops *ops, enum lend_way way)
{
    return way == LEND_WAY_STAGED && ops->staged_is_asked;
}

static void add_path(struct answer *answer, const struct lend_transport_ops *ops, enum lend_way way,
                     const struct lend_error *why)
{
    const char *name = lend_rail_path(answer->peer, ops, way);

    if (name == NULL || answer->count == LEND_PATHS_MAX ||
        ((way == LEND_WAY_STAGED || way == LEND_WAY_DEVICE) && !answer->is_staged))
        return;
    struct lend_path_info *info = &answer->infos[answer->count++];
    *info = (struct lend_path_info){
        .struct_size = sizeof *info,
        .status = why->status,
        .is_one_sided = way != LEND_WAY_SERVED && way != LEND_WAY_STAGED,
        .is_fenced = !ops->is_unfenced,
        .must_be_named = must_be_named(ops, way),
    };
    info->is_chosen = why->status == LEND_OK && !answer->has_chosen && info->must_be_named == 0;
    (void)snprintf(info->name, sizeof info->name, "%s", name);
    if (why->status != LEND_OK)
        (void)snprintf(info->why, sizeof info->why, "%.*s", (int)sizeof info->why - 1,
                       why->message);
    answer->has_chosen |= info->is_chosen != 0;
}

/* The paths of a transport that is not the one in use, all for that reason. */
static void add_others(struct answer *answer, const struct lend_transport_ops *ops,
                       const enum lend_way ways[LEND_WAYS], const struct lend_error *why)
{
    for (int i = 0; i < LEND_WAYS; i++)
        if (!lend_way_is_remote(ways[i])) /* which goes with the one in use */
            add_path(answer, ops, ways[i], why);
}

/* Transports that both have, and that do not reach: of another machine, say. */
static void add_unreached_locked(struct answer *answer, const struct lend_peer *peer,
                                 const enum lend_way ways[LEND_WAYS])
{
    const struct lend_metadata *metadata = peer->metadata;
    const struct lend_agent *agent = peer->agent;
    struct lend_error why;

    for (uint32_t i = 0; i < agent->transport_count; i++) {
        const struct lend_transport_ops *ops = agent->transports[i].ops;
        bool is_reached = false, is_theirs = false;

        for (uint32_t j = 0; j < peer->reach_count; j++)
            is_reached |= peer->reaches[j].transport->ops == ops;
        for (uint32_t j = 0; j < metadata->transport_count; j++)
            is_theirs |= strcmp(metadata->transports[j].name, ops->name) == 0;
        if (is_reached || !is_theirs || ops->rail != NULL)
            continue;
        (void)lend_fail(
            &why, LEND_E_NO_PATH,
            "the address of %s is not one that transport %s of ours reaches (of another "
            "machine or process, or where nothing listens)",
            peer->name, ops->name);
        add_others(answer, ops, ways, &why);
    }
}

/* Every way that there could be, better ones first. */
static void answer_locked(const struct question *question,
                          const struct lend_metadata_region *region, struct answer *answer)
{
    const struct lend_peer *peer = question->peer;
    uint32_t used = atomic_load_explicit(&peer->reach, memory_order_relaxed);
    enum lend_way ways[LEND_WAYS];

    answer->is_staged = is_staged(question, region);
    lend_ways_rank(region->flags, ways);
    add_unreached_locked(answer, peer, ways);
    for (uint32_t i = 0; i < peer->reach_count; i++) {
        const struct lend_transport_ops *ops = peer->reaches[i].transport->ops;
        struct lend_error why = {0};

        if (i < used)
            add_others(answer, ops, ways, &peer->reaches[i].why);
        for (int j = 0; i == used && j < LEND_WAYS; j++) {
            if (lend_way_is_remote(ways[j]) && !lend_way_suits(ways[j], question->direction))
                continue;
            why = (struct lend_error){0};
            if (lend_rail_path(peer, ops, ways[j]) != NULL)
                why.status = judge_locked(question, ways[j], region, &why);
            add_path(answer, ops, ways[j], &why);
        }
        if (i > used) {
            const struct lend_open_transport *before = peer->reaches[used].transport;

            (void)lend_fail(&why, LEND_E_NO_PATH, "transport %s comes before it, and is used%s",
                            before->ops->name,
                            before->ops->remark != NULL ? before->ops->remark(before->transport)
                                                        : "");
            add_others(answer, ops, ways, &why);
        }
    }
}

static enum lend_status answer(struct question *question,
                               struct lend_path_info infos[LEND_PATHS_MAX], uint32_t *out_count,
                               struct lend_error *error)
{
    struct answer answer = {.peer = question->peer, .infos = infos};
    struct lend_agent *agent = question->peer->agent;
    struct lend_session *session = established(question->peer);

    question->session = session;
    if (session != NULL)
        (void)pthread_mutex_lock(&session->lock);
    (void)pthread_mutex_lock(&agent->lock);
    const struct lend_metadata_region *region =
        lend_peer_find_locked(question->peer, question->remote_region);
    if (region != NULL)
        answer_locked(question, region, &answer);
    (void)pthread_mutex_unlock(&agent->lock);
    if (session != NULL)
        (void)pthread_mutex_unlock(&session->lock);
    lend_session_release(session);
    if (region == NULL)
        return lend_fail(error, LEND_E_UNKNOWN, "%s has no region %llu in its metadata",
                         question->peer->name, (unsigned long long)question->remote_region);
    *out_count = answer.count;
    return LEND_OK;
}

static enum lend_status ask(struct question *question, const struct lend_region *local,
                            struct lend_path_info infos[LEND_PATHS_MAX], uint32_t *out_count,
                            struct lend_error *error)
{
    enum lend_status status = lend_handle_check(question->peer, LEND_TAG_PEER, error);

    if (status != LEND_OK)
        return status;
    if (local != NULL) {
        status = lend_region_check(question->peer->agent, local, 0, error);
        if (status != LEND_OK)
            return status;
        question->local = local;
        question->local_kind = local->memory.kind;
    }
    if (question->direction != LEND_READ && question->direction != LEND_WRITE)
        return lend_fail(error, LEND_E_INVALID, "unknown direction %u", question->direction);
    return answer(question, infos, out_count, error);
}

enum lend_status lend_explain(struct lend_peer *peer, const struct lend_region *local,
                              uint64_t remote_region, uint32_t direction,
                              struct lend_path_info *infos, uint32_t capacity, uint32_t *out_count,
                              struct lend_error *error)
{
    struct question question = {.peer = peer,
                                .local_kind = LEND_MEMORY_SYSTEM,
                                .direction = direction,
                                .remote_region = remote_region};
    struct lend_path_info all[LEND_PATHS_MAX];
    uint32_t count = 0;

    if (out_count == NULL || (infos == NULL && capacity > 0))
        return lend_fail(error, LEND_E_INVALID, "out_count, or infos for a capacity of %u, is NULL",
                         capacity);
    if (capacity > 0) {
        enum lend_status status = lend_struct_check(infos, "lend_path_info", sizeof *infos, error);
        if (status != LEND_OK)
            return status;
    }
    enum lend_status status = ask(&question, local, all, &count, error);
    if (status != LEND_OK)
        return status;
    for (uint32_t i = 0; i < count && i < capacity; i++)
        infos[i] = all[i];
    *out_count = count;
    return LEND_OK;
}

enum lend_status lend_explain_text(struct lend_peer *peer, const struct lend_region *local,
                                   uint64_t remote_region, uint32_t direction, char *text,
                                   size_t capacity, size_t *out_count, struct lend_error *error)
{
    struct lend_path_info infos[LEND_PATHS_MAX] = {{.struct_size = sizeof infos[0]}};
    uint32_t count = 0;
    size_t length = 0;

    if (out_count == NULL || (text == NULL && capacity > 0))
        return lend_fail(error, LEND_E_INVALID, "out_count, or room for %zu bytes, is NULL",
                         capacity);
    enum lend_status status =
        lend_explain(peer, local, remote_region, direction, infos, LEND_PATHS_MAX, &count, error);
    if (status != LEND_OK)
        return status;
    for (uint32_t i = 0; i < count; i++) {
        const struct lend_path_info *info = &infos[i];
        size_t left = length < capacity ? capacity - length : 0;
        int added = snprintf(
            left > 0 ? text + length : NULL, left, "%s %s%s%s%s%s%s\n", info->is_chosen ? "*" : " ",
            info->name, info->status == LEND_OK ? "" : ": ",
            info->status == LEND_OK ? "" : lend_status_name(info->status),
            info->status == LEND_OK ? "" : ", ", info->why,
            info->status == LEND_OK && info->must_be_named ? ", where paths names it" : "");

        length += added > 0 ? (size_t)added : 0;
    }
    *out_count = length;
    return LEND_OK;
}

/* --- the policy --- */

static bool is_word(const char *name, const char *at, size_t length)
{
    return name != NULL && strlen(name) == length && memcmp(name, at, length) == 0;
}

static bool is_path_of_this_build(const char *at, size_t length)
{
    for (size_t i = 0; lend_transports[i] != NULL; i++)
        for (int way = 0; way < LEND_WAYS; way++)
            if (is_word(lend_transports[i]->paths[way], at, length))
                return true;
    return false;
}

/* What may be taken unasked. */
static uint64_t bits_unasked(const struct lend_peer *peer)
{
    uint64_t bits = UINT64_MAX;

    for (uint32_t i = 0; i < peer->reach_count; i++)
        for (uint32_t way = 0; way < LEND_WAYS; way++)
            if (must_be_named(peer->reaches[i].transport->ops, (enum lend_way)way))
                bits &= ~(UINT64_C(1) << (i * LEND_WAYS + way));
    return bits;
}

/* The bits of that path, in the reaches of the peer that have it. */
static uint64_t bits_of(const struct lend_peer *peer, const char *at, size_t length)
{
    uint64_t bits = 0;

    for (uint32_t i = 0; i < peer->reach_count; i++)
        for (uint32_t way = 0; way < LEND_WAYS; way++)
            if (is_word(lend_rail_path(peer, peer->reaches[i].transport->ops, (enum lend_way)way),
                        at, length))
                bits |= UINT64_C(1) << (i * LEND_WAYS + way);
    return bits;
}

enum lend_status lend_paths_parse(const struct lend_peer *peer, const char *paths, uint64_t *out,
                                  struct lend_error *error)
{
    const uint64_t each = (UINT64_C(1) << LEND_WAYS) - 1;
    uint32_t reach = atomic_load_explicit(&peer->reach, memory_order_relaxed);
    uint64_t allowed = 0;

    if (paths == NULL || paths[0] == '\0') {
        *out = bits_unasked(peer);
        return LEND_OK;
    }
    for (const char *at = paths; *at != '\0';) {
        size_t length = strcspn(at, ",");

        if (!is_path_of_this_build(at, length))
            return lend_fail(error, LEND_E_INVALID, "there is no path \"%.*s\" in this build",
                             (int)(length < 40 ? length : 40), at);
        allowed |= bits_of(peer, at, length);
        at += length + (at[length] == ',');
    }
    if ((allowed >> (reach * LEND_WAYS) & each) == 0)
        return lend_fail(error, LEND_E_NO_PATH,
                         "%s is reached by transport %s, which has none of "
                         "the paths %.80s",
                         peer->name, lend_peer_ops(peer)->name, paths);
    *out = allowed;
    return LEND_OK;
}

/* Is the path of that name among the allowed ways? */
static bool is_allowed(const struct lend_transfer *transfer, const char *name)
{
    return (bits_of(transfer->peer, name, strlen(name)) & transfer->ways_allowed) != 0;
}

/* Does one allowed path carry the pair? Else the reasons of them all. */
static enum lend_status check_pair(const struct lend_transfer *transfer, uint64_t at,
                                   struct lend_error *error)
{
    struct question question = {.peer = transfer->peer,
                                .local = transfer->locals[at].region,
                                .local_kind = transfer->locals[at].region->memory.kind,
                                .direction = transfer->direction,
                                .remote_region = transfer->remotes[at]};
    struct lend_path_info infos[LEND_PATHS_MAX];
    char reasons[400] = "";
    uint32_t count = 0;

    enum lend_status status = answer(&question, infos, &count, error);
    for (uint32_t i = 0; status == LEND_OK && i < count; i++) {
        size_t length = strlen(reasons);

        if (!is_allowed(transfer, infos[i].name))
            continue;
        /* On a connection, what is not known yet will be: who posts waits for it; and who is dead
         * is what the post says. */
        if (infos[i].status == LEND_OK || infos[i].status == LEND_E_PEER_DEAD ||
            (infos[i].status == LEND_PENDING && question.session != NULL))
            return LEND_OK;
        (void)snprintf(reasons + length, sizeof reasons - length, "%s%s: %s",
                       length > 0 ? "; " : "", infos[i].name, infos[i].why);
    }
    if (status != LEND_OK)
        return status;
    return lend_fail(error, LEND_E_NO_PATH, "pair %llu: %s", (unsigned long long)at,
                     reasons[0] != '\0' ? reasons
                                        : "staged paths are for memory of a GPU, and both ends are "
                                          "the host's");
}

enum lend_status lend_paths_check(const struct lend_transfer *transfer, struct lend_error *error)
{
    enum lend_status status = LEND_OK;

    /* Ranges name their regions when they are posted. */
    if (!transfer->has_policy || transfer->has_ranges)
        return LEND_OK;
    for (uint64_t i = 0; status == LEND_OK && i < transfer->region_count; i++)
        status = check_pair(transfer, i, error);
    return status;
}

enum lend_status lend_paths_check_staged(const struct lend_transfer *transfer,
                                         struct lend_error *error)
{
    const struct lend_transport_ops *ops = lend_peer_ops(transfer->peer);

    enum lend_way remote = transfer->direction == LEND_READ ? LEND_WAY_REMOTE : LEND_WAY_WRITTEN;

    /* Whether a NIC takes it is known when it is posted. */
    if (transfer->has_policy || !lend_transfer_is_staged(transfer) ||
        lend_paths_allow(transfer, LEND_WAY_STAGED) ||
        lend_rail_path(transfer->peer, ops, remote) != NULL)
        return LEND_OK;
    return lend_fail(error, LEND_E_NO_PATH,
                     "memory of a GPU goes through the host's on its way by transport %s, which is "
                     "slow and taken by nobody unawares: name \"%s\" in paths to have it, or be on "
                     "one host with the peer, for transport local",
                     ops->name, ops->paths[LEND_WAY_STAGED]);
}
