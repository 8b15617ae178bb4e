/* SPDX-License-Identifier: Apache-2.0 */
#include "core/onesided.h"

#include "base/error.h"
#include "base/sys.h"
#include "core/client.h"
#include "core/explain.h"
#include "core/lease.h"
#include "core/opened.h"
#include "core/peer.h"
#include "core/rail.h"
#include "core/remote.h"
#include "core/view.h"

/* Which way a read goes, and the copy and the proof of those that go ours. What leases permit is in
 * view.c. */

void lend_onesided_init(struct lend_onesided *own, struct lend_session *session,
                        struct lend_peer *peer)
{
    own->session = session;
    own->peer = peer;
    lend_list_init(&own->views);
    lend_list_init(&own->unheard);
    lend_list_init(&own->hushed);
    lend_list_init(&own->all);
    lend_list_init(&own->copying);
    lend_list_init(&own->pulling);
    lend_list_init(&own->carried);
    lend_list_init(&own->opened);
    atomic_init(&own->probe_status, LEND_PENDING);
}

static const struct lend_transport_ops *ops_of(const struct lend_onesided *own)
{
    return own->session->channel->ops;
}

void lend_ways_rank(uint32_t region_flags, enum lend_way ways[LEND_WAYS])
{
    bool spares_owner = (region_flags & LEND_REGION_PREFER_CROSS_MEMORY) != 0;

    ways[0] = LEND_WAY_MAPPED;
    ways[1] = LEND_WAY_DEVICE;
    ways[2] = LEND_WAY_REMOTE;
    ways[3] = LEND_WAY_WRITTEN;
    ways[4] = spares_owner ? LEND_WAY_CROSS_MEMORY : LEND_WAY_SERVED;
    ways[5] = spares_owner ? LEND_WAY_SERVED : LEND_WAY_CROSS_MEMORY;
    ways[6] = LEND_WAY_STAGED;
}

bool lend_way_suits(enum lend_way way, uint32_t direction)
{
    if (way == LEND_WAY_SERVED || way == LEND_WAY_STAGED)
        return true;
    return (way == LEND_WAY_WRITTEN) == (direction == LEND_WRITE);
}

/* --- the probe of the owner's process --- */

static void probed(struct lend_pull *pull)
{
    struct lend_onesided *own = LEND_LIST_OWNER(pull, struct lend_onesided, probe);
    struct lend_session *session = own->session;

    atomic_store_explicit(&own->probe_is_done, true, memory_order_release);
    lend_session_wake(session);
    lend_session_release(session);
}

static void settle_probe(struct lend_onesided *own, enum lend_status status)
{
    own->probe_why.status = status;
    /* Release: the reason is there before anybody sees the status. */
    atomic_store_explicit(&own->probe_status, status, memory_order_release);
    lend_agent_announce(own->session->agent);
}

void lend_onesided_probe(struct lend_onesided *own)
{
    const struct lend_transport_ops *ops = ops_of(own);
    struct lend_pull *probe = &own->probe;

    if (own->is_probing || atomic_load(&own->probe_status) != LEND_PENDING)
        return;
    if (ops->process == NULL) {
        settle_probe(own, lend_fail(&own->probe_why, LEND_E_NO_PATH,
                                    "transport %s reads no other process's memory", ops->name));
        return;
    }
    *probe = (struct lend_pull){.done = probed};
    enum lend_status status = ops->process(own->session->channel, &probe->process, &own->probe_why);
    if (status == LEND_OK) {
        lend_session_retain(own->session);
        atomic_store(&own->probe_is_done, false);
        own->is_probing = true;
        status = lend_puller_submit(&own->session->agent->puller, probe, &own->probe_why);
        if (status == LEND_OK)
            return;
        own->is_probing = false;
        lend_session_release(own->session);
    }
    settle_probe(own, status);
}

static void end_probe(struct lend_onesided *own)
{
    const struct lend_pull *probe = &own->probe;

    own->is_probing = false;
    settle_probe(own,
                 probe->status == LEND_OK
                     ? LEND_OK
                     : lend_process_explain(&probe->process, probe->sys_errno, &own->probe_why));
}

static void stop_probe(struct lend_onesided *own)
{
    if (!own->is_probing)
        return;
    if (lend_puller_cancel(&own->session->agent->puller, &own->probe))
        lend_session_release(own->session); /* not the last: the caller has one */
    own->is_probing = false;
}

void lend_onesided_fini(struct lend_onesided *own)
{
    stop_probe(own);
    lend_opened_fini(own);
    lend_views_fini(own);
}

/* --- which way --- */

static enum lend_status judge_mapped(struct lend_onesided *own,
                                     const struct lend_metadata_region *region,
                                     struct lend_error *why)
{
    const struct lend_transport_ops *ops = ops_of(own);
    struct lend_channel *channel = own->session->channel;
    uint64_t bytes = 0;
    uint32_t words;

    if (ops->mapped == NULL)
        return lend_fail(why, LEND_E_NO_PATH, "transport %s maps nothing", ops->name);
    if (region->file == 0)
        return lend_fail(why, LEND_E_NO_PATH,
                         "its owner does not share its file (LEND_REGION_SHARE_FILE): memory of "
                         "lend_storage_create(), or of a sealed memfd, can be mapped");
    if (ops->words(channel, &words, why) == NULL)
        return LEND_E_NO_PATH;
    if (ops->mapped(channel, region->file, &bytes, why) == NULL)
        return why->status == LEND_PENDING ? LEND_PENDING : LEND_E_NO_PATH;
    if (region->file_offset_bytes > bytes ||
        region->length_bytes > bytes - region->file_offset_bytes)
        return lend_fail(why, LEND_E_NO_PATH, "its file ends at %llu, before the region does",
                         (unsigned long long)bytes);
    return LEND_OK;
}

static enum lend_status judge_cross(struct lend_onesided *own, struct lend_error *why)
{
    struct lend_channel *channel = own->session->channel;
    const struct lend_transport_ops *ops = ops_of(own);
    uint32_t words;

    if (ops->process != NULL && ops->words(channel, &words, why) == NULL)
        return LEND_E_NO_PATH;
    lend_onesided_probe(own);
    enum lend_status status =
        (enum lend_status)atomic_load_explicit(&own->probe_status, memory_order_acquire);
    if (status == LEND_PENDING)
        return lend_fail(why, LEND_PENDING,
                         "whether the owner's memory can be read is being found out: "
                         "lend_peer_connect() waits for it");
    if (status != LEND_OK && why != NULL)
        *why = own->probe_why;
    return status == LEND_OK ? LEND_OK : LEND_E_NO_PATH;
}

enum lend_status lend_onesided_judge_locked(struct lend_onesided *own, enum lend_way way,
                                            const struct lend_metadata_region *region,
                                            struct lend_error *why)
{
    if (way == LEND_WAY_DEVICE)
        return lend_opened_judge(own, region, why);
    if (lend_way_is_remote(way))
        return lend_remote_judge(own, region, why);
    if (region->kind != LEND_MEMORY_SYSTEM && region->kind != LEND_MEMORY_PINNED)
        return lend_fail(why, LEND_E_NO_PATH, "memory of kind %u is not for a processor to copy",
                         region->kind);
    return way == LEND_WAY_MAPPED ? judge_mapped(own, region, why) : judge_cross(own, why);
}

/* Where a region's first byte is, the way that we go. */
static uint64_t base_of(struct lend_onesided *own, enum lend_way way,
                        const struct lend_metadata_region *region)
{
    uint64_t bytes;

    if (way == LEND_WAY_CROSS_MEMORY || lend_way_is_remote(way))
        return region->address;
    if (way == LEND_WAY_DEVICE)
        return region->file_offset_bytes; /* until it is opened */
    return (uint64_t)(uintptr_t)ops_of(own)->mapped(own->session->channel, region->file, &bytes,
                                                    NULL) +
           region->file_offset_bytes;
}

static enum lend_status place_locked(struct lend_onesided *own, struct lend_transfer *transfer,
                                     enum lend_way way, uint64_t at, struct lend_error *why)
{
    const struct lend_run_range *range = transfer->has_ranges ? &transfer->ranges[at] : NULL;
    uint64_t id = range != NULL ? range->region_id : transfer->remotes[at];
    const struct lend_metadata_region *region = lend_peer_find_locked(own->peer, id);

    if (region == NULL)
        return lend_fail(why, LEND_E_STALE, "region %llu is gone from the peer's metadata",
                         (unsigned long long)id);
    enum lend_status status = lend_onesided_judge_locked(own, way, region, why);
    if (status != LEND_OK)
        return status;
    uint64_t base = base_of(own, way, region);
    transfer->sources[at].life = region->life;
    transfer->sources[at].gpu = region->kind == LEND_MEMORY_DEVICE ? region->device : -1;
    transfer->sources[at].geometry = region->geometry;
    transfer->sources[at].file = region->file;
    transfer->sources[at].offset_bytes =
        region->file_offset_bytes + (range != NULL ? range->offset_bytes : 0);
    transfer->sources[at].length_bytes = range != NULL ? range->length_bytes : region->length_bytes;
    transfer->source_extents[at] =
        range == NULL ? lend_extent_of(base, &region->geometry, transfer->remote_slice.offset_bytes,
                                       transfer->remote_slice.length_bytes)
                      : lend_extent_of_bytes(base + range->offset_bytes, range->length_bytes);
    return LEND_OK;
}

/* What the places of a transfer depend on. */
static struct lend_placement placement_of(struct lend_onesided *own, enum lend_way way)
{
    const struct lend_transport_ops *ops = ops_of(own);

    return (struct lend_placement){
        .way = way,
        .session = own->session,
        .mapping_stamp = ops->mapping_stamp != NULL ? ops->mapping_stamp(own->session->channel) : 0,
        .metadata_stamp = atomic_load_explicit(&own->peer->metadata_stamp, memory_order_acquire),
        .rail_stamp = lend_remote_stamp(own),
    };
}

static bool is_placed(const struct lend_transfer *transfer, const struct lend_placement *now)
{
    const struct lend_placement *then = &transfer->placement;

    return then->way == now->way && then->session == now->session &&
           then->mapping_stamp == now->mapping_stamp &&
           then->metadata_stamp == now->metadata_stamp && then->rail_stamp == now->rail_stamp;
}

/* Work out where all of the peer's side is, that way. Known already, if nothing has changed. */
static enum lend_status place(struct lend_onesided *own, struct lend_transfer *transfer,
                              enum lend_way way, struct lend_error *why)
{
    const struct lend_placement now = placement_of(own, way);
    enum lend_status status = LEND_OK;

    if (is_placed(transfer, &now))
        return LEND_OK;
    transfer->placement = (struct lend_placement){0};
    transfer->is_bound = false;
    (void)pthread_mutex_lock(&own->session->agent->lock);
    for (uint64_t i = 0; status == LEND_OK && i < transfer->region_count; i++)
        status = place_locked(own, transfer, way, i, why);
    (void)pthread_mutex_unlock(&own->session->agent->lock);
    if (status == LEND_OK && way == LEND_WAY_DEVICE)
        status = lend_opened_place(own, transfer, why);
    if (status == LEND_OK)
        transfer->placement = now;
    return status;
}

enum lend_status lend_onesided_place_opened(struct lend_onesided *own,
                                            struct lend_transfer *transfer, struct lend_error *why)
{
    return place(own, transfer, LEND_WAY_DEVICE, why);
}

static uint32_t flags_of_peer(const struct lend_onesided *own, const struct lend_transfer *transfer)
{
    uint32_t flags = 0;

    if (transfer->has_ranges)
        return 0;
    (void)pthread_mutex_lock(&own->session->agent->lock);
    const struct lend_metadata_region *region =
        lend_peer_find_locked(own->peer, transfer->remotes[0]);
    if (region != NULL)
        flags = region->flags;
    (void)pthread_mutex_unlock(&own->session->agent->lock);
    return flags;
}

/* It is over. */
static void fail(struct lend_onesided *own, struct lend_transfer *transfer,
                 const struct lend_error *why)
{
    lend_onesided_drop(own, transfer);
    lend_client_fail(own->session, transfer, why);
}

/* What the lease's word says, ordered after every load of the copy before; LEND_OK where it cannot
 * be looked at. */
enum lend_status lend_onesided_judge_word(struct lend_onesided *own,
                                          const struct lend_transfer *transfer)
{
    uint32_t count = 0;

    if (ops_of(own)->words == NULL)
        return LEND_OK;
    const _Atomic uint64_t *words = ops_of(own)->words(own->session->channel, &count, NULL);

    if (words == NULL || transfer->lease.slot >= count)
        return LEND_E_UNKNOWN;
    atomic_thread_fence(memory_order_acquire);
    return lend_slot_judge(atomic_load_explicit(&words[transfer->lease.slot], memory_order_relaxed),
                           transfer->lease.generation);
}

/* How its owner serves it. */
static enum lend_way serving_way(const struct lend_transfer *transfer)
{
    return lend_transfer_is_staged(transfer) ? LEND_WAY_STAGED : LEND_WAY_SERVED;
}

/* What nobody takes unawares is told, where there would be no other. */
static void tell_of_staged(const struct lend_onesided *own, const struct lend_transfer *transfer,
                           struct lend_error *why)
{
    const struct lend_error before = *why;
    const char *staged = ops_of(own)->paths[LEND_WAY_STAGED];

    if (lend_transfer_is_staged(transfer) && !transfer->has_policy && staged != NULL)
        (void)lend_fail(why, LEND_E_NO_PATH,
                        "%.150s; to move it through the host's memory, which is slow, name \"%s\" "
                        "in paths",
                        before.message, staged);
}

/* Does a transfer go any other way here than through its owner? */
static bool has_ways(const struct lend_onesided *own)
{
    return own->session->rail != NULL || ops_of(own)->words != NULL;
}

/* No way that is allowed can be taken. A region whose lease has ended may have none any more: then
 * the lease is the cause. And what a driver or a NIC does not find may have gone with its owner,
 * before we hear of that: so the owner is asked. Whatever it answers, it lives; else the transfer
 * ends with the session. */
static void fail_without_way(struct lend_onesided *own, struct lend_transfer *transfer,
                             struct lend_error *why)
{
    enum lend_status cause = lend_onesided_judge_word(own, transfer);

    if (cause != LEND_OK && cause != LEND_E_UNKNOWN) {
        (void)lend_lease_explain(&transfer->lease, cause, why);
    } else if (why->status != LEND_E_STALE) { /* newer metadata would help there */
        why->status = LEND_E_NO_PATH;
        tell_of_staged(own, transfer, why);
        if (has_ways(own)) {
            transfer->is_doubted = true;
            transfer->why = *why; /* until it is complete it is ours to keep the reason in */
            lend_list_append(&own->all, &transfer->own_link);
            lend_views_hush(own, transfer);
            return;
        }
    }
    lend_client_fail(own->session, transfer, why);
}

/* The way of a READ, or LEND_WAYS: none that is allowed can be taken; why->status is LEND_PENDING
 * if that may change by itself. */
static enum lend_way choose(struct lend_onesided *own, struct lend_transfer *transfer,
                            struct lend_error *why)
{
    struct lend_error pending = {0};
    const struct lend_placement now = placement_of(own, transfer->placement.way);
    enum lend_way ways[LEND_WAYS];

    if (is_placed(transfer, &now))
        return now.way; /* as the last time: no lock that other peers use */
    lend_ways_rank(flags_of_peer(own, transfer), ways);
    for (int i = 0; i < LEND_WAYS; i++) {
        if (ways[i] == LEND_WAY_STAGED || ways[i] == LEND_WAY_DEVICE ||
            !lend_way_suits(ways[i], transfer->direction) || !lend_paths_allow(transfer, ways[i]) ||
            lend_rail_path(own->peer, ops_of(own), ways[i]) == NULL)
            continue;
        if (ways[i] == LEND_WAY_SERVED)
            transfer->placement = placement_of(own, LEND_WAY_SERVED);
        if (ways[i] == LEND_WAY_SERVED || place(own, transfer, ways[i], why) == LEND_OK)
            return ways[i];
        if (why->status == LEND_PENDING)
            pending = *why;
    }
    if (pending.status == LEND_PENDING)
        *why = pending;
    return LEND_WAYS;
}

/* May a transfer wait for its way? Not if its lease has ended: then nobody will tell of the file.
 */
static bool may_wait(struct lend_onesided *own, const struct lend_transfer *transfer,
                     const struct lend_error *why)
{
    return why->status == LEND_PENDING && lend_onesided_judge_word(own, transfer) == LEND_OK;
}

/* Prepared before the peer was reached as it is now: does that carry it? */
static enum lend_status check_reach(const struct lend_transport_ops *ops,
                                    const struct lend_transfer *transfer, struct lend_error *why)
{
    bool is_allowed = false;

    for (int way = 0; way < LEND_WAYS; way++)
        is_allowed |= lend_rail_path(transfer->peer, ops, (enum lend_way)way) != NULL &&
                      lend_paths_allow(transfer, (enum lend_way)way);
    if (!is_allowed)
        return lend_fail(why, LEND_E_NO_PATH,
                         "%s is reached by transport %s now, which has none of the paths that the "
                         "transfer allows",
                         transfer->peer->name, ops->name);
    if ((transfer->kinds & ~ops->kinds) != 0)
        return lend_fail(why, LEND_E_NO_PATH,
                         "%s is reached by transport %s now, which does not move memory of all of "
                         "the kinds 0x%x",
                         transfer->peer->name, ops->name, transfer->kinds);
    return LEND_OK;
}

/* May the reader's GPU copy it by itself? */
static bool may_open(const struct lend_onesided *own, const struct lend_transfer *transfer)
{
    return transfer->direction == LEND_READ && ops_of(own)->paths[LEND_WAY_DEVICE] != NULL &&
           lend_paths_allow(transfer, LEND_WAY_DEVICE) && lend_opened_suits(transfer);
}

/* May our NIC move it? */
static bool may_rail(const struct lend_onesided *own, const struct lend_transfer *transfer,
                     enum lend_way way)
{
    return lend_paths_allow(transfer, way) && lend_rail_path(own->peer, ops_of(own), way) != NULL;
}

/* Memory of a GPU is moved by a GPU, the reader's, or its own into a stage; or by a NIC. */
static enum lend_way choose_for_gpu(struct lend_onesided *own, struct lend_transfer *transfer,
                                    struct lend_error *why)
{
    const struct lend_transport_ops *ops = ops_of(own);
    enum lend_way remote = transfer->direction == LEND_READ ? LEND_WAY_REMOTE : LEND_WAY_WRITTEN;
    struct lend_error pending = {0};

    if (may_open(own, transfer)) {
        enum lend_status status = place(own, transfer, LEND_WAY_DEVICE, why);

        /* Or it is being opened: then why says nothing. */
        if (status == LEND_OK || (status == LEND_PENDING && why->status == LEND_OK))
            return LEND_WAY_DEVICE;
    }
    if (why->status == LEND_PENDING)
        pending = *why;
    if (may_rail(own, transfer, remote) && place(own, transfer, remote, why) == LEND_OK)
        return remote;
    if (lend_paths_allow(transfer, LEND_WAY_STAGED))
        return LEND_WAY_STAGED;
    if (pending.status == LEND_PENDING)
        *why = pending;
    if (why->status == LEND_OK)
        (void)lend_fail(why, LEND_E_NO_PATH,
                        "memory of a GPU is moved through the host's by transport %s, and %s is "
                        "not among the paths that the transfer allows",
                        ops->name, ops->paths[LEND_WAY_STAGED]);
    return LEND_WAYS;
}

enum lend_status lend_onesided_take(struct lend_onesided *own, struct lend_transfer *transfer)
{
    const struct lend_transport_ops *ops = ops_of(own);
    struct lend_error why = {0};
    enum lend_way way = LEND_WAY_SERVED;

    if (check_reach(ops, transfer, &why) != LEND_OK) {
        lend_client_fail(own->session, transfer, &why);
        return LEND_OK;
    }
    if (lend_transfer_is_staged(transfer))
        way = choose_for_gpu(own, transfer, &why);
    else if (own->session->rail != NULL || (transfer->direction == LEND_READ && has_ways(own)))
        way = choose(own, transfer, &why);
    else if (!lend_paths_allow(transfer, LEND_WAY_SERVED))
        way = LEND_WAYS;
    if (way == LEND_WAYS && may_wait(own, transfer, &why))
        return LEND_PENDING;
    if (way == LEND_WAYS) {
        if (why.status == LEND_OK)
            (void)lend_fail(&why, LEND_E_NO_PATH,
                            transfer->direction == LEND_WRITE
                                ? "a write goes through its owner"
                                : "none of the paths that it allows is for memory of the host");
        fail_without_way(own, transfer, &why);
        return LEND_OK;
    }
    transfer->way = way;
    transfer->path = lend_rail_path(own->peer, ops, way);
    if (way == LEND_WAY_SERVED || way == LEND_WAY_STAGED)
        return LEND_E_NO_PATH;
    lend_list_append(&own->all, &transfer->own_link);
    lend_views_attach(own, transfer);
    return LEND_OK;
}

bool lend_onesided_may_serve(const struct lend_transfer *transfer)
{
    return lend_paths_allow(transfer, serving_way(transfer));
}

/* The way that was chosen is none: let the owner serve it from the beginning, or fail. */
void lend_onesided_fall_back(struct lend_onesided *own, struct lend_transfer *transfer,
                             struct lend_error *why)
{
    enum lend_way way = serving_way(transfer);

    lend_onesided_drop(own, transfer);
    if (!lend_paths_allow(transfer, way)) {
        fail_without_way(own, transfer, why);
        return;
    }
    lend_transfer_rewind(transfer);
    transfer->way = way;
    transfer->path = ops_of(own)->paths[way];
    lend_client_serve(own->session, transfer);
}

/* --- the proof --- */

static void fail_with_lease(struct lend_onesided *own, struct lend_transfer *transfer,
                            enum lend_status cause)
{
    struct lend_error why;

    (void)lend_lease_explain(&transfer->lease, cause, &why);
    fail(own, transfer, &why);
}

/* Every byte is here, and its lease lived: does its owner? */
void lend_onesided_prove(struct lend_onesided *own, struct lend_transfer *transfer)
{
    struct lend_error why;

    if (ops_of(own)->is_alive(own->session->channel)) {
        lend_onesided_drop(own, transfer);
        transfer->proven_bytes = transfer->total_bytes;
        lend_client_succeed(own->session, transfer);
        return;
    }
    transfer->proven_bytes = 0;
    (void)lend_fail(&why, LEND_E_PEER_DEAD,
                    "%s died, or became another program, before its bytes "
                    "could be believed",
                    own->peer->name);
    fail(own, transfer, &why);
}

/* --- copying from a mapping --- */

static void copy_some(struct lend_onesided *own, struct lend_transfer *transfer, uint64_t bytes)
{
    uint64_t left = transfer->total_bytes - transfer->proven_bytes;
    uint64_t count = bytes < left ? bytes : left;
    struct lend_error why;

    /* The file may have been let go of since the last chunk; addresses change, cursors do not. */
    if (place(own, transfer, LEND_WAY_MAPPED, &why) != LEND_OK) {
        enum lend_status cause = lend_onesided_judge_word(own, transfer);

        if (cause != LEND_OK)
            fail_with_lease(own, transfer, cause);
        else
            lend_onesided_fall_back(own, transfer, &why);
        return;
    }
    lend_cursor_copy(&transfer->local, &transfer->remote, count);
    enum lend_status status = lend_onesided_judge_word(own, transfer);
    if (status != LEND_OK) {
        fail_with_lease(own, transfer, status);
        return;
    }
    transfer->proven_bytes += count;
    if (transfer->proven_bytes == transfer->total_bytes)
        lend_onesided_prove(own, transfer);
}

/* --- pulling out of the owner's process --- */

static void pulled(struct lend_pull *pull)
{
    struct lend_transfer *transfer = LEND_LIST_OWNER(pull, struct lend_transfer, pull);
    struct lend_session *session = transfer->session;

    /* Release: what it found is there before the pump sees that it is done; from then on the
     * transfer is not ours. The session is, by the reference that was taken for us. */
    atomic_store_explicit(&transfer->pull_is_done, true, memory_order_release);
    lend_session_wake(session);
    lend_session_release(session);
}

static void begin_pull(struct lend_onesided *own, struct lend_transfer *transfer)
{
    uint32_t count = 0;
    const _Atomic uint64_t *words = ops_of(own)->words(own->session->channel, &count, NULL);
    struct lend_error why;

    transfer->pull = (struct lend_pull){
        .process = own->probe.process,
        .from = transfer->remote,
        .to = transfer->local,
        .total_bytes = transfer->total_bytes,
        .word = &words[transfer->lease.slot], /* within: the word was judged before */
        .generation = transfer->lease.generation,
        .done = pulled,
    };
    atomic_store(&transfer->pull_is_done, false);
    lend_session_retain(own->session);
    lend_list_append(&own->pulling, &transfer->session_link);
    transfer->is_pulled = true;
    if (lend_puller_submit(&own->session->agent->puller, &transfer->pull, &why) == LEND_OK)
        return;
    transfer->is_pulled = false;
    lend_session_release(own->session);
    lend_onesided_fall_back(own, transfer, &why);
}

static void end_pull(struct lend_onesided *own, struct lend_transfer *transfer)
{
    const struct lend_pull *pull = &transfer->pull;
    enum lend_status cause = lend_onesided_judge_word(own, transfer);
    struct lend_error why;

    transfer->is_pulled = false;
    transfer->proven_bytes = pull->proven_bytes;
    if (pull->status == LEND_OK && cause == LEND_OK) {
        lend_onesided_prove(own, transfer);
    } else if (cause != LEND_OK) {
        fail_with_lease(own, transfer, cause);
    } else if (pull->status == LEND_E_SYSTEM || pull->status == LEND_E_PEER_DEAD) {
        (void)lend_process_explain(&pull->process, pull->sys_errno, &why);
        if (why.status != LEND_E_ACCESS)
            why.status = pull->status;
        fail(own, transfer, &why);
    } else {
        fail_with_lease(own, transfer, pull->status);
    }
}

/* --- a transfer that its lease permits --- */

static void start(struct lend_onesided *own, struct lend_transfer *transfer)
{
    enum lend_status cause = lend_onesided_judge_word(own, transfer);
    bool has_ranges = transfer->has_ranges;
    struct lend_error why;

    if (cause != LEND_OK) {
        fail_with_lease(own, transfer, cause);
        return;
    }
    /* What the peer has said since may be where it all is. */
    if (lend_way_is_remote(transfer->way)) {
        enum lend_status status = place(own, transfer, transfer->way, &why);

        if (status == LEND_OK)
            status = lend_remote_bind(own, transfer, &why);
        if (status == LEND_E_UNKNOWN && !transfer->view_is_new) {
            /* The rail was made anew since: with the view come the keys. */
            lend_onesided_forget(own, &transfer->lease);
            lend_views_attach(own, transfer);
            return;
        }
        if (status == LEND_PENDING) {
            lend_remote_try_again(own, transfer, &why);
            return;
        }
        if (status != LEND_OK) {
            lend_onesided_fall_back(own, transfer, &why);
            return;
        }
    }
    lend_cursor_init(&transfer->remote, transfer->source_extents, transfer->region_count,
                     has_ranges ? transfer->local_runs : transfer->remote_runs,
                     has_ranges ? 1 : transfer->remote_run_count);
    if (lend_way_is_remote(transfer->way))
        lend_remote_begin(own, transfer);
    else if (transfer->way == LEND_WAY_DEVICE)
        lend_opened_begin(own, transfer);
    else if (transfer->way == LEND_WAY_MAPPED)
        lend_list_append(&own->copying, &transfer->session_link);
    else
        begin_pull(own, transfer);
}

void lend_onesided_permit(struct lend_onesided *own, struct lend_transfer *transfer,
                          enum lend_status status, struct lend_error *why)
{
    if (transfer->severed != LEND_OK) {
        (void)lend_fail(why, (enum lend_status)transfer->severed, "%s", transfer->severed_why);
        fail(own, transfer, why);
    } else if (transfer->is_doubted) {
        *why = transfer->why;
        fail(own, transfer, why);
    } else if (status == LEND_OK) {
        start(own, transfer);
    } else if (status == LEND_E_NO_PATH) {
        lend_onesided_fall_back(own, transfer, why);
    } else {
        fail(own, transfer, why);
    }
}

void lend_onesided_drop(struct lend_onesided *own, struct lend_transfer *transfer)
{
    if (transfer->is_pulled && lend_puller_cancel(&own->session->agent->puller, &transfer->pull))
        lend_session_release(own->session); /* what done() would have given back */
    transfer->is_pulled = false;
    lend_remote_drop(own, transfer);
    lend_opened_drop(own, transfer);
    lend_list_remove(&transfer->own_link);
    lend_list_remove(&transfer->session_link);
}

/* --- pumping --- */

static bool end_pulls(struct lend_onesided *own)
{
    bool moved = false;

    if (own->is_probing && atomic_load_explicit(&own->probe_is_done, memory_order_acquire)) {
        end_probe(own);
        moved = true;
    }
    for (struct lend_list *link = own->pulling.next, *next; link != &own->pulling; link = next) {
        struct lend_transfer *transfer = LEND_LIST_OWNER(link, struct lend_transfer, session_link);

        next = link->next;
        if (atomic_load_explicit(&transfer->pull_is_done, memory_order_acquire)) {
            end_pull(own, transfer);
            moved = true;
        }
    }
    return moved;
}

bool lend_onesided_pump(struct lend_onesided *own, uint64_t bytes)
{
    bool moved = lend_views_ask(own);

    moved |= end_pulls(own);
    moved |= lend_opened_pump(own);
    if (lend_list_is_empty(&own->copying))
        return moved;

    /* In turn, so that a small one does not wait for a large one. */
    struct lend_transfer *transfer =
        LEND_LIST_OWNER(lend_list_take_first(&own->copying), struct lend_transfer, session_link);
    lend_list_append(&own->copying, &transfer->session_link);
    copy_some(own, transfer, bytes);
    return true;
}

bool lend_onesided_has_more(const struct lend_onesided *own)
{
    return !lend_list_is_empty(&own->copying) || !lend_list_is_empty(&own->carried) ||
           own->on_rail_count > 0 || lend_views_want(own);
}
