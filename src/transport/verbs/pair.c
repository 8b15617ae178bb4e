/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/verbs/verbs.h"

#include "base/error.h"
#include "base/sys.h"

#include <errno.h>
#include <string.h>

enum {
    LANES_MIN = 2, /* one for writes, and one for reads */
    PSN_MASK = 0xffffff,
    SOFT_ROCE = 0xffffff, /* its vendor */
};

static const struct lend_verbs_ops *verbs_of(const struct lend_verbs_rail *rail)
{
    return rail->station->verbs;
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* Soft-RoCE forgets a fenced request for good where a packet before it is lost (Linux 6.1). */
static bool must_fence_itself(const struct lend_verbs_rail *rail)
{
    struct lend_verbs_device_attributes attributes = {0};

    return verbs_of(rail)->query_device(rail->place.nic->context, &attributes) != 0 ||
           attributes.vendor_id == SOFT_ROCE;
}

/* --- making --- */

/* Of the server's only that for writes ever sends, to itself: it binds windows. */
static uint32_t work_of(const struct lend_verbs_rail *rail, uint32_t lane)
{
    if (rail->is_client)
        return LEND_VERBS_QUEUE_WORK;
    return lane == LEND_VERBS_WRITE_LANE ? (uint32_t)LEND_VERBS_KEY_WORK : 1;
}

/* Whom we read from is to do nothing here. */
static unsigned access_of(const struct lend_verbs_rail *rail, uint32_t lane)
{
    if (rail->is_client)
        return 0;
    return lane == LEND_VERBS_WRITE_LANE
               ? (unsigned)LEND_VERBS_REMOTE_READ | (unsigned)LEND_VERBS_REMOTE_WRITE
               : (unsigned)LEND_VERBS_REMOTE_READ;
}

static struct lend_verbs_cq *cq_of(const struct lend_verbs_rail *rail, uint32_t lane)
{
    return rail->write_cq != NULL && lane == LEND_VERBS_WRITE_LANE ? rail->write_cq : rail->cq;
}

/* One that does not send has room for what every provider wants at least. */
static enum lend_status make_pair(struct lend_verbs_rail *rail, uint32_t lane,
                                  struct lend_error *error)
{
    struct lend_verbs_cq *notes = lend_verbs_notes_cq(rail, lane);
    struct lend_verbs_qp_init init = {
        .qp_context = rail,
        .send_cq = cq_of(rail, lane),
        .recv_cq = notes != NULL ? notes : cq_of(rail, lane),
        .qp_type = LEND_VERBS_QP_RC,
        .cap = {.max_send_wr = work_of(rail, lane),
                .max_recv_wr = notes != NULL ? LEND_VERBS_NOTES : 1,
                .max_send_sge = rail->is_client ? rail->pieces_max : 1,
                .max_recv_sge = 1},
    };

    rail->pairs[lane] = verbs_of(rail)->create_qp(rail->place.nic->pd, &init);
    if (rail->pairs[lane] == NULL)
        return lend_verbs_fail(error, errno, "making queue pair %u on %s", lane,
                               rail->place.nic->name);
    int result = lend_verbs_qp_ready(verbs_of(rail), rail->pairs[lane], &rail->place.port,
                                     access_of(rail, lane));
    if (result != 0)
        return lend_verbs_fail(error, result, "readying queue pair %u on %s (INIT)", lane,
                               rail->place.nic->name);
    return LEND_OK;
}

static enum lend_status offer(struct lend_verbs_rail *rail, struct lend_error *error)
{
    const struct lend_verbs_abilities *abilities = &rail->place.nic->abilities;
    uint32_t most = rail->is_client ? abilities->reads_max : abilities->served_reads_max;
    struct lend_verbs_offer *ours = &rail->ours;

    *ours = (struct lend_verbs_offer){
        .round = rail->round,
        .lid = rail->place.port.lid,
        .link_layer = rail->place.port.link_layer,
        .mtu = rail->place.port.mtu,
        .reads = (uint8_t)least(most > 0 ? most : 1, UINT8_MAX),
        .lane_count = (uint8_t)rail->lane_count,
        .rate_mbps = rail->place.port.rate_mbps,
    };
    memcpy(ours->gid, rail->place.gid.gid, sizeof ours->gid);
    for (uint32_t i = 0; i < rail->lane_count; i++) {
        int result = lend_sys->random(&ours->lanes[i].first_psn, sizeof(uint32_t));

        if (result < 0)
            return lend_fail_errno(error, -result, "no random bytes for a queue pair");
        ours->lanes[i].first_psn &= PSN_MASK;
        ours->lanes[i].number = rail->pairs[i]->qp_num;
    }
    return LEND_OK;
}

/* The words of our leases, by that NIC. */
static enum lend_status offer_words(struct lend_verbs_rail *rail, struct lend_error *error)
{
    struct lend_verbs_station *station = rail->station;
    struct lend_verbs_keys keys;

    if (!lend_verbs_region_keys(station->words, rail->nic, station->words_address,
                                station->words_bytes, &keys) ||
        keys.bytes != station->words_bytes)
        return lend_fail(error, LEND_E_NO_PATH, "%s has not the words of leases",
                         rail->place.nic->name);
    rail->ours.words_address = keys.address;
    rail->ours.words_bytes = keys.bytes;
    rail->ours.words_rkey = keys.rkey;
    return LEND_OK;
}

static enum lend_status make_cq(struct lend_verbs_rail *rail, int entries,
                                struct lend_verbs_cq **out, struct lend_error *error)
{
    struct lend_verbs_comp_channel *channel =
        rail->is_client ? rail->station->ears[rail->nic].channel : NULL;

    *out = verbs_of(rail)->create_cq(rail->place.nic->context, entries, rail, channel, 0);
    return *out != NULL ? LEND_OK
                        : lend_verbs_fail(error, errno, "making a completion queue of %d on %s",
                                          entries, rail->place.nic->name);
}

static enum lend_status refuse_lanes(const struct lend_verbs_rail *rail, struct lend_error *error)
{
    return lend_fail(error, LEND_E_UNSUPPORTED, "%u queue pairs, where there are %d to %u",
                     rail->theirs.lane_count, LANES_MIN, rail->station->lanes_max);
}

enum lend_status lend_verbs_pairs_make(struct lend_verbs_rail *rail, struct lend_error *error)
{
    /* Also what is not signaled completes, if it fails. */
    const uint32_t lanes = rail->station->lanes_max;

    if (!rail->is_client && rail->theirs.lane_count < LANES_MIN)
        return refuse_lanes(rail, error);
    rail->lane_count = rail->is_client ? lanes : least(lanes, rail->theirs.lane_count);
    int entries =
        (int)(rail->is_client ? rail->lane_count * LEND_VERBS_QUEUE_WORK : rail->lane_count);

    rail->fences_itself = must_fence_itself(rail);
    rail->binds =
        !rail->is_client && !rail->fences_itself && rail->place.nic->abilities.has_windows_2b;
    rail->arming = LEND_VERBS_UNARMED;
    enum lend_status status = make_cq(rail, entries + 1, &rail->cq, error);
    if (status == LEND_OK && !rail->is_client)
        status = make_cq(rail, LEND_VERBS_KEY_WORK + 1, &rail->write_cq, error);
    lend_verbs_notes_begin(rail);
    for (uint32_t i = 0; status == LEND_OK && i < rail->lane_count; i++)
        status = make_pair(rail, i, error);
    if (status == LEND_OK)
        status = offer(rail, error);
    if (status == LEND_OK && !rail->is_client)
        status = offer_words(rail, error);
    if (status == LEND_OK)
        rail->ours.note_count = lend_verbs_notes_offer(rail);
    return status;
}

/* --- joining --- */

/* Able to take requests: of a server's for reads, all there is to it. */
static int receive(struct lend_verbs_rail *rail, uint32_t lane, struct lend_verbs_join *join)
{
    join->number = rail->theirs.lanes[lane].number;
    join->first_psn = rail->theirs.lanes[lane].first_psn;
    return lend_verbs_qp_receive(verbs_of(rail), rail->pairs[lane], join);
}

static int go_on(struct lend_verbs_rail *rail, uint32_t lane, uint8_t reads)
{
    return lend_verbs_qp_send(verbs_of(rail), rail->pairs[lane], rail->ours.lanes[lane].first_psn,
                              reads);
}

/* The other end has fewer; what the provider does not give up here goes with the rest. */
static void drop_spare(struct lend_verbs_rail *rail)
{
    const uint32_t made = rail->lane_count;

    rail->lane_count = rail->theirs.lane_count;
    for (uint32_t i = rail->lane_count; i < made; i++)
        if (verbs_of(rail)->destroy_qp(rail->pairs[i]) == 0)
            rail->pairs[i] = NULL;
}

enum lend_status lend_verbs_pairs_join(struct lend_verbs_rail *rail, struct lend_error *error)
{
    uint8_t reads = rail->ours.reads < rail->theirs.reads ? rail->ours.reads : rail->theirs.reads;
    struct lend_verbs_join join = {
        .from = &rail->place,
        .gid = rail->theirs.gid,
        .lid = rail->theirs.lid,
        .mtu = rail->ours.mtu < rail->theirs.mtu ? rail->ours.mtu : rail->theirs.mtu,
        .served_reads = rail->is_client ? 0 : reads,
    };

    if (rail->is_client &&
        (rail->theirs.lane_count < LANES_MIN || rail->theirs.lane_count > rail->lane_count))
        return refuse_lanes(rail, error);
    if (rail->theirs.link_layer != rail->ours.link_layer)
        return lend_fail(error, LEND_E_UNSUPPORTED, "a link of layer %u to join with one of %u",
                         rail->theirs.link_layer, rail->ours.link_layer);
    if (rail->is_client)
        drop_spare(rail);
    for (uint32_t i = 0; i < rail->lane_count; i++) {
        int result = receive(rail, i, &join);
        if (result != 0)
            return lend_verbs_fail(error, result, "joining queue pair %u on %s (RTR)", i,
                                   rail->place.nic->name);
        bool sends = rail->is_client || (rail->binds && i == LEND_VERBS_WRITE_LANE);
        result = sends ? go_on(rail, i, reads) : 0;
        if (result != 0)
            return lend_verbs_fail(error, result, "joining queue pair %u on %s (RTS)", i,
                                   rail->place.nic->name);
    }
    return LEND_OK;
}

/* --- the end --- */

bool lend_verbs_pairs_destroy(struct lend_verbs_rail *rail)
{
    struct lend_verbs_qp_attributes reset = {.qp_state = LEND_VERBS_QP_RESET};
    bool is_gone = rail->is_client || lend_verbs_keys_end(rail);

    for (uint32_t i = 0; i < LEND_VERBS_LANES_MAX; i++) {
        if (rail->pairs[i] == NULL || (!rail->is_client && i == LEND_VERBS_WRITE_LANE))
            continue;
        /* Of a queue pair in use the reset is what stops it; that it is destroyed says so. */
        (void)verbs_of(rail)->modify_qp(rail->pairs[i], &reset, LEND_VERBS_SET_STATE);
        if (verbs_of(rail)->destroy_qp(rail->pairs[i]) == 0)
            rail->pairs[i] = NULL;
        else
            is_gone = false;
    }
    is_gone = is_gone && lend_verbs_notes_end(rail);
    if (is_gone && rail->cq != NULL) {
        if (verbs_of(rail)->destroy_cq(rail->cq) == 0)
            rail->cq = NULL;
        else
            is_gone = false;
    }
    return is_gone;
}
