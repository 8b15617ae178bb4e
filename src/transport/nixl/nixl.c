/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"
#include "base/sys.h"
#include "transport/nixl/channel.h"

#include <stdio.h>
#include <string.h>

/* Transport nixl: peers that are agents of NVIDIA's NIXL. docs/nixl-transport.md has the story. */

enum { SETTING_MAX = 48 };

/* Transports of UCX that move bytes between hosts. Those within one host reach another process's
 * memory by the kernel, without this process: and nothing that NIXL does would end that. */
static const char *const transports[] = {"tcp",  "rc", "rc_v", "rc_x", "ud", "ud_v",
                                         "ud_x", "dc", "dc_x", "ib",   "srd"};

static bool is_transport(const char *name)
{
    for (size_t i = 0; i < sizeof transports / sizeof transports[0]; i++)
        if (strcmp(transports[i], name) == 0)
            return true;
    return false;
}

static bool is_wanted(const struct lend_transport_open *open)
{
    return open->nixl_devices != NULL;
}

static enum lend_status check(const struct lend_transport_open *open, struct lend_error *error)
{
    if (open->nixl_devices == NULL)
        return lend_fail(error, LEND_E_ABSENT,
                         "it is opened only where nixl_devices names a network device");
    if (open->has_secret)
        return lend_fail(error, LEND_E_INVALID,
                         "an agent with a secret talks to nobody who has not proven it, and NIXL "
                         "agents cannot");
    size_t length = strlen(open->nixl_devices);
    if (length == 0 || length > SETTING_MAX || strpbrk(open->nixl_devices, ",= ") != NULL)
        return lend_fail(error, LEND_E_INVALID,
                         "nixl_devices is \"%.60s\": it must name one device, as NIXL takes no "
                         "list of them",
                         open->nixl_devices);
    if (open->nixl_transports != NULL && !is_transport(open->nixl_transports))
        return lend_fail(error, LEND_E_INVALID,
                         "nixl_transports is \"%.40s\": it must be one of tcp, rc, ud, dc, ib",
                         open->nixl_transports);
    return LEND_OK;
}

static enum lend_status load(struct lend_nixl_engine *engine,
                             const struct lend_transport_open *open, struct lend_error *error)
{
    if (lend_nixl != NULL) {
        engine->door = *lend_nixl;
        return LEND_OK;
    }
    return lend_nixl_load(open->nixl_library, &engine->door, &engine->library, error);
}

static void init(struct lend_nixl_engine *engine, const struct lend_transport_open *open)
{
    struct lend_list *const lists[] = {&engine->calls,    &engine->peers,   &engine->exposures,
                                       &engine->channels, &engine->senders, &engine->slabs};

    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        lend_list_init(lists[i]);
    (void)pthread_mutex_init(&engine->lock, NULL);
    (void)pthread_cond_init(&engine->work, NULL);
    (void)pthread_cond_init(&engine->done, NULL);
    engine->agent = open->agent;
    engine->incarnation = open->incarnation;
    engine->timeout_ns = open->connect_timeout_ns;
    engine->window_bytes = open->notification_window_bytes;
    engine->bell.fd = -1;
    engine->bell.ready = lend_nixl_inbox_ready;
    (void)snprintf(engine->name, sizeof engine->name, "%s", open->name);
    (void)snprintf(engine->settings, sizeof engine->settings, "NET_DEVICES=%s,TLS=%s",
                   open->nixl_devices,
                   open->nixl_transports != NULL ? open->nixl_transports : "^sm");
}

static void destroy(struct lend_nixl_engine *engine)
{
    lend_nixl_inbox_fini(engine);
    lend_nixl_exposures_fini(engine);
    lend_nixl_peers_fini(engine);
    if (engine->bell.fd >= 0)
        lend_sys->close(engine->bell.fd);
    (void)pthread_mutex_destroy(&engine->lock);
    (void)pthread_cond_destroy(&engine->work);
    (void)pthread_cond_destroy(&engine->done);
    lend_sys->release(engine);
}

static enum lend_status begin(struct lend_nixl_engine *engine,
                              const struct lend_transport_open *open, struct lend_error *error)
{
    enum lend_status status = load(engine, open, error);
    if (status != LEND_OK)
        return status;

    int result = lend_sys->random(engine->nonce, sizeof engine->nonce);
    if (result < 0)
        return lend_fail_errno(error, -result, "no random bytes for addresses of NIXL agents");
    engine->bell.fd = lend_sys->event();
    if (engine->bell.fd < 0)
        return lend_fail_errno(error, -engine->bell.fd, "no eventfd for NIXL's notifications");
    status = lend_nixl_engine_start(engine, error);
    if (status == LEND_OK)
        status = lend_agent_watch(engine->agent, &engine->bell, EPOLLIN, error);
    if (status != LEND_OK)
        lend_nixl_engine_stop(engine);
    return status;
}

static enum lend_status nixl_open(const struct lend_transport_open *open, void **out,
                                  struct lend_error *error)
{
    enum lend_status status = check(open, error);
    if (status != LEND_OK)
        return status;

    struct lend_nixl_engine *engine = lend_sys->allocate(sizeof *engine);
    if (engine == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for transport nixl");
    init(engine, open);
    status = begin(engine, open, error);
    if (status != LEND_OK) {
        destroy(engine);
        return status;
    }
    lend_agent_log(engine->agent, LEND_LOG_INFO, "nixl: %.160s, with %s",
                   engine->library.path[0] != '\0' ? engine->library.path : "not a library",
                   engine->settings);
    *out = engine;
    return LEND_OK;
}

static void nixl_close(void *object)
{
    struct lend_nixl_engine *engine = object;

    lend_agent_unwatch(engine->agent, &engine->bell);
    lend_nixl_engine_stop(engine);
    destroy(engine);
}

/* A child of a fork has no helper, and NIXL is the parent's: what it has is never freed here. */
static void nixl_close_forked(void *object)
{
    struct lend_nixl_engine *engine = object;

    lend_nixl_channels_free_forked(engine);
    lend_nixl_inbox_fini(engine);
    lend_nixl_exposures_fini(engine);
    lend_nixl_peers_fini(engine);
    lend_sys->close(engine->bell.fd);
    lend_sys->release(engine);
}

/* Agents of lend have better ways to each other. */
static size_t nixl_address(void *object, uint8_t *bytes)
{
    (void)object;
    (void)bytes;
    return 0;
}

/* Only what lend_nixl_meet() has made: no metadata from elsewhere can have the nonce. */
static bool nixl_reaches(void *object, const uint8_t *address, size_t count)
{
    const struct lend_nixl_engine *engine = object;

    return count == sizeof engine->nonce + 8 &&
           memcmp(address, engine->nonce, sizeof engine->nonce) == 0;
}

static const char *nixl_remark(void *object)
{
    (void)object;
    return "";
}

const struct lend_transport_ops lend_transport_nixl = {
    .name = "nixl",
    .paths = {[LEND_WAY_SERVED] = "nixl/unfenced"},
    .rank = 90,
    .kinds = 1u << LEND_MEMORY_SYSTEM | 1u << LEND_MEMORY_PINNED,
    .is_unfenced = true,
    .foreign = &lend_nixl_foreign,
    .is_wanted = is_wanted,
    .open = nixl_open,
    .close = nixl_close,
    .close_forked = nixl_close_forked,
    .address = nixl_address,
    .reaches = nixl_reaches,
    .remark = nixl_remark,
    .connect = lend_nixl_connect,
    .close_channel = lend_nixl_close_channel,
    .room = lend_nixl_room,
    .send = lend_nixl_send,
    .send_data = lend_nixl_send_data,
    .flush = lend_nixl_flush,
    .peek = lend_nixl_peek,
    .take = lend_nixl_take,
    .take_data = lend_nixl_take_data,
    .sleep = lend_nixl_sleep,
    .awake = lend_nixl_awake,
};
