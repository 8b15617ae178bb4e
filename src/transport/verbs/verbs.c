/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/verbs/verbs.h"

#include "base/error.h"
#include "base/reader.h"
#include "base/sys.h"
#include "base/writer.h"

#include <stdio.h>
#include <string.h>

enum { ADDRESS_VERSION = 1, ADDRESS_GIDS_MAX = 8, NAME_BYTES = 128 };

static bool verbs_is_wanted(const struct lend_transport_open *open)
{
    return open->verbs_devices != NULL;
}

/* --- opening --- */

static enum lend_status open_nic(struct lend_verbs_station *station, const char *name,
                                 size_t length, struct lend_error *error)
{
    char text[NAME_BYTES];

    if (station->nic_count == LEND_VERBS_NICS_MAX)
        return lend_fail(error, LEND_E_INVALID, "verbs_devices: more than %d of them",
                         LEND_VERBS_NICS_MAX);
    if (length >= sizeof text)
        return lend_fail(error, LEND_E_INVALID, "verbs_devices: a name of %zu bytes", length);
    memcpy(text, name, length);
    text[length] = '\0';
    enum lend_status status =
        lend_verbs_nic_open(station->verbs, text, &station->nics[station->nic_count], error);
    if (status == LEND_OK) {
        lend_verbs_windows_init(&station->windows[station->nic_count],
                                station->nics[station->nic_count], 0, LEND_VERBS_WINDOWS_KEPT);
        station->nic_count++;
    }
    return status;
}

static enum lend_status open_nics(struct lend_verbs_station *station, const char *devices,
                                  struct lend_error *error)
{
    enum lend_status status = LEND_OK;

    for (const char *at = devices; status == LEND_OK; at++) {
        size_t length = strcspn(at, ",");

        status = open_nic(station, at, length, error);
        at += length;
        if (*at == '\0')
            break;
    }
    return status;
}

/* The words of leases: to be read, in the order in which they are stored. */
_Static_assert((int)LEND_QUEUE_PAIRS_MAX + 1 == (int)LEND_VERBS_LANES_MAX, "and one for writes");

static enum lend_status expose_words(struct lend_verbs_station *station,
                                     const struct lend_transport_open *open,
                                     struct lend_error *error)
{
    const struct lend_verbs_memory memory = {
        .address = (uint64_t)(uintptr_t)open->words,
        .bytes = open->words_bytes,
        .kind = LEND_MEMORY_SYSTEM,
        .rights = LEND_VERBS_MAY_READ | LEND_VERBS_IS_ORDERED,
    };

    station->words_address = memory.address;
    station->words_bytes = memory.bytes;
    return lend_verbs_region_register(station->store, &memory, &station->words, error);
}

/* The way that the caller wants memory of GPUs exported in, if it says; else it is tried. */
static void choose_exports(struct lend_verbs_station *station, uint32_t flags)
{
    const bool is_default = (flags & LEND_AGENT_DMA_BUF_DEFAULT) != 0;
    const bool is_pcie = (flags & LEND_AGENT_DMA_BUF_PCIE) != 0;

    station->tries_exports = is_default == is_pcie;
    for (uint32_t i = 0; !station->tries_exports && i < station->nic_count; i++)
        for (uint32_t gpu = 0; gpu < LEND_VERBS_ORDINALS_MAX; gpu++)
            atomic_init(&station->nics[i]->unfit_exports[gpu], is_default ? 1u << 1 : 1u << 0);
}

static enum lend_status build(struct lend_verbs_station *station,
                              const struct lend_transport_open *open, struct lend_error *error)
{
    enum lend_status status = lend_verbs_open(&station->verbs, error);

    if (status == LEND_OK)
        status = lend_verbs_check_fork(station->verbs, (open->flags & LEND_AGENT_NEVER_FORKS) != 0,
                                       error);
    if (status == LEND_OK)
        status = open_nics(station, open->verbs_devices, error);
    if (status == LEND_OK)
        choose_exports(station, open->flags);
    if (status == LEND_OK)
        status = lend_verbs_store_open(station->verbs, station->nics, station->nic_count,
                                       &station->store, error);
    if (status == LEND_OK)
        status = expose_words(station, open, error);
    if (status == LEND_OK)
        lend_verbs_ears_open(station);
    return status;
}

static void demolish(struct lend_verbs_station *station, bool forked)
{
    struct lend_error why;

    if (!forked)
        lend_verbs_ears_close(station);
    lend_verbs_exposures_fini(station, forked);
    if (forked) {
        lend_verbs_store_forget(station->store);
    } else {
        if (station->words != NULL)
            (void)lend_verbs_region_release(station->words, NULL); /* the store says what stays */
        if (lend_verbs_store_close(station->store, &why) != LEND_OK)
            lend_agent_log(station->agent, LEND_LOG_ERROR, "verbs: %s", why.message);
    }
    lend_verbs_gpus_fini(station, forked);
    for (uint32_t i = 0; i < station->nic_count; i++) {
        if (forked)
            lend_verbs_windows_forget(&station->windows[i]);
        else if (lend_verbs_windows_fini(&station->windows[i], &why) != LEND_OK)
            lend_agent_log(station->agent, LEND_LOG_ERROR, "verbs: %s", why.message);
        if (forked)
            lend_verbs_nic_forget(station->nics[i]);
        else if (lend_verbs_nic_close(station->nics[i], &why) != LEND_OK)
            lend_agent_log(station->agent, LEND_LOG_ERROR, "verbs: %s", why.message);
    }
    if (!forked) {
        (void)pthread_mutex_destroy(&station->lock);
        (void)pthread_mutex_destroy(&station->keys_lock);
        (void)pthread_mutex_destroy(&station->rails_lock);
    }
    lend_sys->release(station);
}

static enum lend_status verbs_open(const struct lend_transport_open *open, void **out,
                                   struct lend_error *error)
{
    if (open->verbs_devices == NULL)
        return lend_fail(error, LEND_E_ABSENT,
                         "it is opened only where the configuration names the RDMA devices that it "
                         "may use (verbs_devices)");

    struct lend_verbs_station *station = lend_sys->allocate(sizeof *station);
    if (station == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for transport verbs");
    station->agent = open->agent;
    station->lanes_max = 1 + (open->verbs_queue_pairs > 0 ? open->verbs_queue_pairs
                                                          : (uint32_t)LEND_VERBS_READ_LANES);
    (void)pthread_mutex_init(&station->lock, NULL);
    (void)pthread_mutex_init(&station->keys_lock, NULL);
    (void)pthread_mutex_init(&station->gpus_lock, NULL);
    (void)pthread_mutex_init(&station->trials_lock, NULL);
    (void)pthread_mutex_init(&station->rails_lock, NULL);
    lend_list_init(&station->rails);
    for (uint32_t i = 0; i < LEND_VERBS_GRANT_BUCKETS; i++)
        lend_list_init(&station->grants[i]);
    atomic_init(&station->serial, 1);
    enum lend_status status = build(station, open, error);
    if (status != LEND_OK) {
        demolish(station, false);
        return status;
    }
    *out = station;
    return LEND_OK;
}

static void verbs_close(void *transport)
{
    demolish(transport, false);
}

static void verbs_close_forked(void *transport)
{
    demolish(transport, true);
}

/* --- where we are --- */

/* Of each NIC the GID that it would be reached by, as far as that is known without the peer. */
static size_t verbs_address(void *transport, uint8_t *bytes)
{
    struct lend_verbs_station *station = transport;
    struct lend_writer writer = lend_writer_init(bytes, LEND_METADATA_ADDRESS_MAX);
    uint8_t gids[ADDRESS_GIDS_MAX][LEND_VERBS_GID_BYTES];
    uint8_t count = 0;

    for (uint32_t i = 0; i < station->nic_count && count < ADDRESS_GIDS_MAX; i++) {
        const struct lend_verbs_wish wish = {.peer_gid = NULL};
        struct lend_verbs_place place;

        if (lend_verbs_choose(&station->nics[i], 1, &wish, &place, NULL) == LEND_OK)
            memcpy(gids[count++], place.gid.gid, LEND_VERBS_GID_BYTES);
    }
    lend_write_u8(&writer, ADDRESS_VERSION);
    lend_write_u8(&writer, count);
    lend_write_bytes(&writer, gids, (size_t)count * LEND_VERBS_GID_BYTES);
    LEND_INVARIANT(lend_writer_fits(&writer));
    return writer.count;
}

static bool verbs_leads(void *transport, const uint8_t *address, size_t count)
{
    (void)transport;
    return count >= 2 && address[0] == ADDRESS_VERSION && address[1] > 0 &&
           address[1] <= ADDRESS_GIDS_MAX && count == 2 + (size_t)address[1] * LEND_VERBS_GID_BYTES;
}

static bool verbs_reaches(void *transport, const uint8_t *address, size_t count)
{
    (void)transport;
    (void)address;
    (void)count;
    return false;
}

static const struct lend_rail_ops rail_ops = {
    .kinds = 1u << LEND_MEMORY_SYSTEM | 1u << LEND_MEMORY_PINNED | 1u << LEND_MEMORY_DEVICE,
    .expose = lend_verbs_expose,
    .conceal = lend_verbs_conceal,
    .is_exposed = lend_verbs_is_exposed,
    .leads = verbs_leads,
    .open = lend_verbs_rail_open,
    .close = lend_verbs_legs_close,
    .say = lend_verbs_legs_say,
    .hear = lend_verbs_legs_hear,
    .tell = lend_verbs_legs_tell,
    .grant = lend_verbs_grant,
    .revoke = lend_verbs_revoke,
    .judge = lend_verbs_legs_judge,
    .writes = lend_verbs_writes,
    .stamp = lend_verbs_rail_stamp,
    .theirs = lend_verbs_rail_theirs,
    .ours = lend_verbs_ours,
    .is_behind = lend_verbs_legs_are_behind,
    .notify = lend_verbs_notify,
    .repeat = lend_verbs_repeat,
    .submit = lend_verbs_legs_submit,
    .stop = lend_verbs_legs_stop,
    .pump = lend_verbs_legs_pump,
    .sleep = lend_verbs_legs_sleep,
    .due = lend_verbs_legs_due,
    .halt = lend_verbs_legs_halt,
};

const struct lend_transport_ops lend_transport_verbs = {
    .name = "verbs",
    .paths = {[LEND_WAY_REMOTE] = "verbs/read", [LEND_WAY_WRITTEN] = "verbs/write"},
    .rank = 15,
    .is_wanted = verbs_is_wanted,
    .open = verbs_open,
    .close = verbs_close,
    .close_forked = verbs_close_forked,
    .address = verbs_address,
    .reaches = verbs_reaches,
    .rail = &rail_ops,
};
