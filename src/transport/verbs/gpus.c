/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/verbs/verbs.h"

#include "base/error.h"
#include "transport/verbs/trial.h"

/* GPUs: how far they are; and of those whose memory peers write their beacons, and their flushes.
 */

void lend_verbs_gpu_locate(struct lend_verbs_station *station, const struct lend_lane *lane)
{
    if (lane->ordinal < 0 || lane->ordinal >= LEND_VERBS_ORDINALS_MAX)
        return;
    for (uint32_t i = 0; i < station->nic_count; i++) {
        _Atomic uint32_t *distance = &station->distances[i][lane->ordinal];

        /* Relaxed: whoever finds it out finds the same. */
        if (atomic_load_explicit(distance, memory_order_relaxed) == 0)
            atomic_store_explicit(distance, lend_verbs_distance_of_gpu(station->nics[i], lane),
                                  memory_order_relaxed);
    }
}

uint32_t lend_verbs_gpu_distance(const struct lend_verbs_station *station, uint32_t nic,
                                 const struct lend_lane *lane)
{
    return lane == NULL || lane->ordinal < 0 || lane->ordinal >= LEND_VERBS_ORDINALS_MAX
               ? 0
               : atomic_load_explicit(&station->distances[nic][lane->ordinal],
                                      memory_order_relaxed);
}

static void try_exports(struct lend_verbs_station *station, struct lend_lane *lane)
{
    for (uint32_t i = 0; i < station->nic_count; i++)
        for (unsigned flag = 0; flag < 2 && station->nics[i]->abilities.has_dma_buf; flag++) {
            struct lend_error why = {0};

            if (lend_verbs_try_export(station->nics[i], lane, flag, &why) != LEND_E_CORRUPT)
                continue;
            /* Relaxed: whoever registers such memory has come by here. */
            (void)atomic_fetch_or_explicit(&station->nics[i]->unfit_exports[lane->ordinal],
                                           (uint8_t)(1u << flag), memory_order_relaxed);
            lend_agent_log(station->agent, LEND_LOG_WARNING, "%s", why.message);
        }
}

void lend_verbs_gpu_try(struct lend_verbs_station *station, struct lend_lane *lane)
{
    if (!station->tries_exports || lane->ordinal < 0 || lane->ordinal >= LEND_VERBS_ORDINALS_MAX)
        return;
    (void)pthread_mutex_lock(&station->trials_lock);
    if (!station->is_tried[lane->ordinal])
        try_exports(station, lane);
    station->is_tried[lane->ordinal] = true;
    (void)pthread_mutex_unlock(&station->trials_lock);
}

static uint32_t count_gpus(const struct lend_verbs_station *station)
{
    /* Acquire: those that were entered are there. */
    return atomic_load_explicit(&station->gpu_count, memory_order_acquire);
}

static bool has_beacon(const struct lend_verbs_station *station, int32_t ordinal)
{
    for (uint32_t i = 0; i < count_gpus(station); i++)
        if (station->gpus[i].lane->ordinal == ordinal && station->gpus[i].beacon != NULL)
            return true;
    return false;
}

static enum lend_status make_beacon(struct lend_verbs_station *station, struct lend_lane *lane,
                                    struct lend_gpu_storage **out, struct lend_error *error)
{
    const struct lend_gpu_wish wish = {.kind = LEND_MEMORY_DEVICE,
                                       .ordinal = lane->ordinal,
                                       .bytes = LEND_VERBS_BEACON_BYTES,
                                       .node = -1};
    struct lend_gpu_storage *made = NULL;
    enum lend_status status = lend_gpu_storage_create(&wish, &made, error);

    if (status != LEND_OK)
        return status;
    const struct lend_exposure what = {.region_id = lend_verbs_beacon_id((uint32_t)lane->ordinal),
                                       .address = lend_gpu_storage_address(made),
                                       .length_bytes = LEND_VERBS_BEACON_BYTES,
                                       .access = LEND_ACCESS_READ,
                                       .lane = lane};
    status = lend_verbs_expose(station, &what, error);
    if (status == LEND_OK) {
        *out = made;
        return LEND_OK;
    }
    lend_verbs_conceal(station, what.region_id); /* no NIC took it */
    lend_gpu_storage_destroy(made);
    return status;
}

static enum lend_status add(struct lend_verbs_station *station, struct lend_lane *lane,
                            struct lend_error *error)
{
    uint32_t count = count_gpus(station);
    struct lend_verbs_gpu gpu = {.lane = lane};
    enum lend_status status = LEND_OK;

    if (count == LEND_VERBS_GPUS_MAX || lane->ordinal < 0 ||
        lane->ordinal >= LEND_VERBS_ORDINALS_MAX)
        return lend_fail(error, LEND_E_LIMIT,
                         "peers write memory of %u CUDA contexts by NICs, and this is another "
                         "(GPU %d)",
                         count, lane->ordinal);
    if (!has_beacon(station, lane->ordinal))
        status = make_beacon(station, lane, &gpu.beacon, error);
    if (status != LEND_OK)
        return status;
    station->gpus[count] = gpu;
    /* Release: it is there before it is counted. */
    atomic_store_explicit(&station->gpu_count, count + 1, memory_order_release);
    return LEND_OK;
}

static bool find(const struct lend_verbs_station *station, const struct lend_lane *lane,
                 uint32_t *out_gpu)
{
    for (uint32_t i = 0; i < count_gpus(station); i++)
        if (station->gpus[i].lane == lane) {
            *out_gpu = UINT32_C(1) << i;
            return true;
        }
    return false;
}

enum lend_status lend_verbs_gpu_enter(struct lend_verbs_station *station, struct lend_lane *lane,
                                      uint32_t *out_gpu, struct lend_error *error)
{
    enum lend_status status = LEND_OK;

    (void)pthread_mutex_lock(&station->gpus_lock);
    if (!find(station, lane, out_gpu))
        status = add(station, lane, error);
    if (status == LEND_OK)
        (void)find(station, lane, out_gpu); /* it is there */
    (void)pthread_mutex_unlock(&station->gpus_lock);
    return status;
}

bool lend_verbs_gpus_flush(const struct lend_verbs_station *station, uint32_t gpus,
                           struct lend_error *why)
{
    bool is_over = true;

    for (uint32_t i = 0; gpus >> i != 0; i++)
        if ((gpus >> i & 1) != 0) /* of a context that has broken down nobody uses the memory */
            is_over &= lend_lane_flush(station->gpus[i].lane, why) != LEND_E_BUSY;
    return is_over;
}

void lend_verbs_gpus_tell(struct lend_verbs_rail *rail, uint32_t gpus)
{
    for (uint32_t i = 0; gpus >> i != 0; i++)
        if ((gpus >> i & 1) != 0)
            lend_verbs_rail_tell(
                &rail->base, lend_verbs_beacon_id((uint32_t)rail->station->gpus[i].lane->ordinal));
}

/* The GPU of all those contexts; LEND_VERBS_ORDINALS_MAX: there is none, or there are several. */
static uint32_t find_ordinal(const struct lend_verbs_station *station, uint32_t gpus)
{
    uint32_t found = LEND_VERBS_ORDINALS_MAX;

    for (uint32_t i = 0; gpus >> i != 0; i++) {
        const uint32_t ordinal = (uint32_t)station->gpus[i].lane->ordinal;

        if ((gpus >> i & 1) == 0 || ordinal == found)
            continue;
        if (found < LEND_VERBS_ORDINALS_MAX)
            return LEND_VERBS_ORDINALS_MAX;
        found = ordinal;
    }
    return found;
}

void lend_verbs_gpus_measure(const struct lend_verbs_rail *root, uint32_t gpus,
                             uint8_t out[LEND_VERBS_LEGS_MAX])
{
    const uint32_t ordinal = find_ordinal(root->station, gpus);

    for (uint32_t i = 0; i < LEND_VERBS_LEGS_MAX && ordinal < LEND_VERBS_ORDINALS_MAX; i++) {
        const struct lend_verbs_rail *leg = root->legs[i];

        if (leg != NULL && leg->state == LEND_VERBS_RAIL_UP)
            out[i] = (uint8_t)atomic_load_explicit(&root->station->distances[leg->nic][ordinal],
                                                   memory_order_relaxed);
    }
}

void lend_verbs_gpus_fini(struct lend_verbs_station *station, bool forked)
{
    for (uint32_t i = 0; i < count_gpus(station); i++)
        lend_gpu_storage_destroy(station->gpus[i].beacon);
    if (forked)
        return;
    (void)pthread_mutex_destroy(&station->gpus_lock);
    (void)pthread_mutex_destroy(&station->trials_lock);
}
