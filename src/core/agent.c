/* SPDX-License-Identifier: Apache-2.0 */
#include "core/agent.h"

#include "base/error.h"
#include "base/fork.h"
#include "base/sys.h"
#include "core/awaited.h"
#include "core/lease.h"
#include "core/notification.h"
#include "core/opened.h"
#include "core/peer.h"
#include "core/region.h"
#include "core/session.h"
#include "core/share.h"
#include "core/snapshot.h"
#include "core/stage.h"
#include "core/transfer.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC UINT64_C(0x6c656e6441474e54)

enum { TABLE_MAX = 1 << 24, REQUESTS_MAX = 64, RING_BYTES_MIN = 65536, RING_BYTES_MAX = 64 << 20 };

#define MS UINT64_C(1000000)

enum lend_status lend_agent_check(const struct lend_agent *agent, struct lend_error *error)
{
    if (agent == NULL)
        return lend_fail(error, LEND_E_INVALID, "the agent is NULL");
    if (agent->magic != MAGIC)
        return lend_fail(error, LEND_E_INVALID, "%p is not a live agent", (const void *)agent);
    if (!lend_fork_is_same(agent->life))
        return lend_fail(error, LEND_E_FORKED,
                         "agent %s was made before a fork, by the parent; make one of your own",
                         agent->name);
    return LEND_OK;
}

static const char *kind_of(enum lend_tag tag)
{
    switch (tag) {
    case LEND_TAG_REGION: return "region";
    case LEND_TAG_LEASE:
    case LEND_TAG_LEASE_UNHELD: return "lease";
    case LEND_TAG_PEER:
    case LEND_TAG_PEER_FORGOTTEN: return "peer";
    case LEND_TAG_TICKET: return "ticket";
    case LEND_TAG_TRANSFER: return "transfer";
    case LEND_TAG_RANGE_LIST:
    case LEND_TAG_RANGE_LIST_UNHELD: return "list of ranges";
    }
    return "handle";
}

enum lend_status lend_handle_check(const void *handle, enum lend_tag tag, struct lend_error *error)
{
    /* Every handle is a pool's object that begins with its agent. */
    const struct {
        struct lend_pool_object object;
        struct lend_agent *agent;
    } *it = handle;

    if (it == NULL)
        return lend_fail(error, LEND_E_INVALID, "the %s is NULL", kind_of(tag));
    if (it->object.live_tag != tag)
        return lend_fail(error, LEND_E_INVALID,
                         "%p is not a live %s: it was given back, or is another handle", handle,
                         kind_of(tag));
    return lend_agent_check(it->agent, error);
}

enum lend_status lend_struct_check(const void *it, const char *name, size_t bytes,
                                   struct lend_error *error)
{
    uint32_t struct_size;

    if (it == NULL)
        return lend_fail(error, LEND_E_INVALID, "the %s is NULL", name);
    memcpy(&struct_size, it, sizeof struct_size);
    if (struct_size != bytes)
        return lend_fail(error, LEND_E_VERSION, "%s is %u bytes, not %zu", name, struct_size,
                         bytes);
    return LEND_OK;
}

void lend_agent_config_init(struct lend_agent_config *config)
{
    if (config != NULL)
        *config = (struct lend_agent_config)LEND_AGENT_CONFIG_INIT;
}

static bool name_is_good(const char *name)
{
    size_t count = name != NULL ? strnlen(name, LEND_AGENT_NAME_BYTES_MAX + 1) : 0;

    for (size_t i = 0; i < count; i++)
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f)
            return false;
    return count >= 1 && count <= LEND_AGENT_NAME_BYTES_MAX;
}

static enum lend_status check_config(const struct lend_agent_config *config,
                                     struct lend_error *error)
{
    const uint32_t known = LEND_AGENT_MANUAL_PROGRESS | LEND_AGENT_NO_STATISTICS |
                           LEND_AGENT_ALLOW_CROSS_MEMORY | LEND_AGENT_SEAL_NETWORKS |
                           LEND_AGENT_NEVER_FORKS | LEND_AGENT_DMA_BUF_DEFAULT |
                           LEND_AGENT_DMA_BUF_PCIE;

    if (config->struct_size != sizeof *config)
        return lend_fail(error, LEND_E_VERSION, "lend_agent_config is %u bytes, not %zu",
                         config->struct_size, sizeof *config);
    if (!name_is_good(config->name))
        return lend_fail(error, LEND_E_INVALID,
                         "the agent's name must have 1 to %d printable bytes",
                         LEND_AGENT_NAME_BYTES_MAX);
    if ((config->flags & ~known) != 0)
        return lend_fail(error, LEND_E_INVALID, "unknown flags 0x%x", config->flags & ~known);
    if ((config->local_mode & ~0777u) != 0)
        return lend_fail(error, LEND_E_INVALID, "local_mode 0%o has more than permission bits",
                         config->local_mode);
    if (config->local_is_abstract > 1)
        return lend_fail(error, LEND_E_INVALID, "local_is_abstract is %u, not 0 or 1",
                         config->local_is_abstract);
    if (config->regions_max > TABLE_MAX || config->leases_max > TABLE_MAX ||
        config->peers_max > TABLE_MAX || config->transfers_max > TABLE_MAX)
        return lend_fail(error, LEND_E_INVALID,
                         "regions_max, leases_max, peers_max or transfers_max is over %d",
                         TABLE_MAX);
    if (config->requests_per_peer_max > REQUESTS_MAX)
        return lend_fail(error, LEND_E_INVALID, "requests_per_peer_max is %u, over %d",
                         config->requests_per_peer_max, REQUESTS_MAX);

    if (config->verbs_queue_pairs > LEND_QUEUE_PAIRS_MAX)
        return lend_fail(error, LEND_E_INVALID, "verbs_queue_pairs is %u, over %d",
                         config->verbs_queue_pairs, LEND_QUEUE_PAIRS_MAX);

    uint32_t ring = config->local_ring_bytes;
    if (ring != 0 &&
        (ring < RING_BYTES_MIN * 2 || ring > RING_BYTES_MAX || (ring & (ring - 1)) != 0))
        return lend_fail(error, LEND_E_INVALID,
                         "local_ring_bytes is %u; it must be a power of two, %d to %d", ring,
                         RING_BYTES_MIN * 2, RING_BYTES_MAX);
    return lend_secret_check(config->secret, config->secret_bytes, error);
}

static void fill_u32(uint32_t *field, uint32_t value)
{
    if (*field == 0)
        *field = value;
}

static void fill_u64(uint64_t *field, uint64_t value)
{
    if (*field == 0)
        *field = value;
}

static void fill_defaults(struct lend_agent_config *config)
{
    fill_u32(&config->local_mode, 0600);
    fill_u32(&config->regions_max, 65536);
    fill_u32(&config->leases_max, 65536);
    fill_u32(&config->peers_max, 1024);
    fill_u32(&config->transfers_max, 65536);
    fill_u32(&config->requests_per_peer_max, 16);
    fill_u32(&config->leases_per_peer_max, 65536);
    fill_u32(&config->notification_window_bytes, 262144);
    fill_u32(&config->local_ring_bytes, 524288);
    fill_u64(&config->connect_timeout_ns, 5000 * MS);
    fill_u64(&config->transfer_timeout_ns, 30000 * MS);
    fill_u64(&config->slot_rest_ns, 1000 * MS);
    fill_u64(&config->spin_ns, 50000);
}

static enum lend_status copy_text(const char **field, struct lend_error *error)
{
    if (*field == NULL)
        return LEND_OK;

    size_t bytes = strlen(*field) + 1;
    char *copy = lend_sys->allocate(bytes);
    if (copy == NULL) {
        *field = NULL;
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for the agent's configuration");
    }
    memcpy(copy, *field, bytes);
    *field = copy;
    return LEND_OK;
}

/* The strings of a configuration that an agent keeps. */
static const size_t kept_texts[] = {
    offsetof(struct lend_agent_config, local_directory),
    offsetof(struct lend_agent_config, listen),
    offsetof(struct lend_agent_config, advertise),
    offsetof(struct lend_agent_config, ucx_devices),
    offsetof(struct lend_agent_config, ucx_transports),
    offsetof(struct lend_agent_config, ucx_library),
    offsetof(struct lend_agent_config, secret_plugin),
    offsetof(struct lend_agent_config, nixl_devices),
    offsetof(struct lend_agent_config, nixl_transports),
    offsetof(struct lend_agent_config, nixl_library),
    offsetof(struct lend_agent_config, verbs_devices),
};

static const char **kept_text(struct lend_agent *agent, size_t which)
{
    return (const char **)((char *)&agent->config + kept_texts[which]);
}

/* Copy the strings that outlive the call. Those of transports are used within it alone. */
static enum lend_status adopt_config(struct lend_agent *agent,
                                     const struct lend_agent_config *config,
                                     struct lend_error *error)
{
    agent->config = *config;
    fill_defaults(&agent->config);
    (void)snprintf(agent->name, sizeof agent->name, "%s", config->name);
    agent->config.name = agent->name;
    agent->config.transports = NULL;
    agent->config.transports_required = NULL;
    agent->config.secret = NULL; /* the plugin gets the caller's */
    agent->config.secret_bytes = 0;

    enum lend_status status = LEND_OK;
    for (size_t i = 0; i < sizeof kept_texts / sizeof kept_texts[0]; i++) {
        enum lend_status own = copy_text(kept_text(agent, i), error);
        status = status == LEND_OK ? own : status;
    }
    return status;
}

/* Is the name one of a comma-separated list? */
static bool is_listed(const char *list, const char *name)
{
    size_t length = strlen(name);

    for (const char *at = list; at != NULL && *at != '\0';) {
        size_t word = strcspn(at, ",");

        if (word == length && memcmp(at, name, length) == 0)
            return true;
        at += word + (at[word] == ',');
    }
    return false;
}

static enum lend_status check_list(const char *list, struct lend_error *error)
{
    for (const char *at = list; at != NULL && *at != '\0';) {
        size_t word = strcspn(at, ",");
        bool is_known = false;

        for (size_t i = 0; lend_transports[i] != NULL; i++)
            is_known |= strlen(lend_transports[i]->name) == word &&
                        memcmp(lend_transports[i]->name, at, word) == 0;
        if (!is_known)
            return lend_fail(error, LEND_E_UNSUPPORTED, "transport %.*s is not in this build",
                             (int)(word < 40 ? word : 40), at);
        at += word + (at[word] == ',');
    }
    return LEND_OK;
}

/* May the agent be without a transport that did not open? */
static enum lend_status check_unopened(struct lend_agent *agent,
                                       const struct lend_agent_config *config,
                                       const struct lend_transport_ops *ops,
                                       const struct lend_error *why, struct lend_error *error)
{
    bool is_wanted = ops->is_wanted != NULL && ops->is_wanted(&agent->open);

    if (is_wanted && why->status == LEND_E_INVALID)
        return lend_fail(error, LEND_E_INVALID, "%s", why->message);
    if (is_wanted || is_listed(config->transports_required, ops->name))
        return lend_fail(error, LEND_E_NO_PATH, "required transport %s: %.180s", ops->name,
                         why->message);
    /* One that nobody has named, and that is opened only where it is configured, is no news. */
    bool is_idle = config->transports == NULL && why->status == LEND_E_ABSENT;
    lend_agent_log(agent, is_idle ? LEND_LOG_DEBUG : LEND_LOG_WARNING,
                   "transport %s is not open: %s", ops->name, why->message);
    return LEND_OK;
}

static enum lend_status open_transports(struct lend_agent *agent,
                                        const struct lend_agent_config *config,
                                        struct lend_error *error)
{
    struct lend_error why = {0};

    agent->open = (struct lend_transport_open){
        .agent = agent,
        .name = agent->name,
        .incarnation = agent->incarnation,
        .words_fd = agent->slots.words_fd,
        .words_bytes = agent->slots.words_bytes,
        .words = agent->slots.words,
        .local_directory = agent->config.local_directory,
        .local_mode = agent->config.local_mode,
        .local_is_abstract = agent->config.local_is_abstract != 0,
        .ring_bytes = agent->config.local_ring_bytes,
        .connect_timeout_ns = agent->config.connect_timeout_ns,
        .transfer_timeout_ns = agent->config.transfer_timeout_ns,
        .listen = agent->config.listen,
        .advertise = agent->config.advertise,
        .ucx_devices = agent->config.ucx_devices,
        .ucx_transports = agent->config.ucx_transports,
        .ucx_library = agent->config.ucx_library,
        .nixl_devices = agent->config.nixl_devices,
        .nixl_transports = agent->config.nixl_transports,
        .nixl_library = agent->config.nixl_library,
        .verbs_devices = agent->config.verbs_devices,
        .verbs_queue_pairs = agent->config.verbs_queue_pairs,
        .notification_window_bytes = agent->config.notification_window_bytes,
        .has_secret = config->secret != NULL,
        .flags = agent->config.flags,
    };
    for (size_t i = 0; lend_transports[i] != NULL; i++) {
        const struct lend_transport_ops *ops = lend_transports[i];
        struct lend_open_transport *slot = &agent->transports[agent->transport_count];

        if (config->transports != NULL && !is_listed(config->transports, ops->name) &&
            !is_listed(config->transports_required, ops->name)) {
            if (ops->is_wanted != NULL && ops->is_wanted(&agent->open))
                lend_agent_log(
                    agent, LEND_LOG_WARNING,
                    "settings of transport %s are given, and transports does not name it",
                    ops->name);
            continue;
        }
        if (ops->open(&agent->open, &slot->transport, &why) == LEND_OK) {
            slot->ops = ops;
            agent->transport_count++;
        } else {
            enum lend_status status = check_unopened(agent, config, ops, &why, error);

            if (status != LEND_OK)
                return status;
        }
    }
    if (agent->transport_count == 0)
        return lend_fail(error, LEND_E_NO_PATH, "no transport could be opened: %.180s",
                         why.message[0] != '\0' ? why.message : "none was wanted");
    return LEND_OK;
}

static void init_locks(struct lend_agent *agent)
{
    (void)pthread_mutex_init(&agent->lock, NULL);
    (void)pthread_mutex_init(&agent->zero_lock, NULL);
    (void)pthread_mutex_init(&agent->stage_lock, NULL);
    lend_maps_init(&agent->maps);
    lend_lanes_init(&agent->lanes);
    (void)pthread_mutex_init(&agent->log_lock, NULL);
    (void)pthread_mutex_init(&agent->completion_lock, NULL);
    (void)pthread_cond_init(&agent->completion, NULL);
    lend_puller_init(&agent->puller);
}

static void init_tables(struct lend_agent *agent)
{
    const struct lend_agent_config *config = &agent->config;

    lend_pool_init(&agent->regions, sizeof(struct lend_region), config->regions_max);
    lend_pool_init(&agent->registrations, sizeof(struct lend_registration), config->regions_max);
    /* Ended leases stay while somebody holds their handle, so their number is not that of the live
     * ones. */
    lend_pool_init(&agent->leases, sizeof(struct lend_lease), UINT32_MAX);
    lend_pool_init(&agent->peers, sizeof(struct lend_peer), config->peers_max);
    lend_pool_init(&agent->tickets, sizeof(struct lend_ticket), UINT32_MAX);
    lend_pool_init(&agent->transfers, sizeof(struct lend_transfer), config->transfers_max);
    lend_pool_init(&agent->range_lists, sizeof(struct lend_range_list), UINT32_MAX);
    agent->places_stamp = 1;
    agent->lease_expiry_ns = UINT64_MAX;
    agent->freed_look_at_ns = UINT64_MAX;
}

static void init_lists(struct lend_agent *agent)
{
    struct lend_list *const lists[] = {
        &agent->live_leases, &agent->ended_leases,  &agent->peer_list, &agent->transfer_list,
        &agent->sessions,    &agent->notifications, &agent->zeroing,   &agent->logs,
        &agent->stages,      &agent->files,         &agent->snapshots, &agent->stuck,
        &agent->awaited,
    };

    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        lend_list_init(lists[i]);
}

/* Where the flag asks for it. No Yama: nothing stands in the way that this could take away. */
static enum lend_status allow_cross_memory(const struct lend_agent *agent, struct lend_error *error)
{
    if ((agent->config.flags & LEND_AGENT_ALLOW_CROSS_MEMORY) == 0)
        return LEND_OK;
    int result = lend_sys->allow_ptrace();
    if (result < 0 && result != -EINVAL)
        return lend_fail_errno(error, -result,
                               "letting processes of this user read our memory "
                               "(LEND_AGENT_ALLOW_CROSS_MEMORY, prctl PR_SET_PTRACER)");
    return LEND_OK;
}

/* Of the caller's, which only the plugin copies. */
static enum lend_status keep_secret(struct lend_agent *agent,
                                    const struct lend_agent_config *config,
                                    struct lend_error *error)
{
    if (config->secret == NULL)
        return LEND_OK;
    enum lend_status status = lend_secret_load(&agent->keeper, agent->config.secret_plugin, error);
    if (status != LEND_OK)
        return status;
    return lend_secret_keep(&agent->secret, agent->keeper.plugin, config->secret,
                            config->secret_bytes, error);
}

static enum lend_status build(struct lend_agent *agent, const struct lend_agent_config *config,
                              struct lend_error *error)
{
    agent->life = lend_fork_life();
    if (agent->life < 0)
        return lend_fail_errno(error, (int)-agent->life, "no page to tell a fork by");

    enum lend_status status = adopt_config(agent, config, error);
    if (status != LEND_OK)
        return status;
    init_tables(agent);

    int result = lend_sys->random(agent->incarnation, sizeof agent->incarnation);
    if (result < 0)
        return lend_fail_errno(error, -result, "no random bytes for an incarnation");
    agent->event_fd = lend_sys->event();
    if (agent->event_fd < 0)
        return lend_fail_errno(error, -agent->event_fd, "no event descriptor");

    status =
        lend_slots_init(&agent->slots, agent->config.leases_max, agent->config.slot_rest_ns, error);
    if (status != LEND_OK)
        return status;
    status = lend_poller_init(&agent->poller, agent, error);
    if (status != LEND_OK)
        return status;
    status = keep_secret(agent, config, error);
    if (status != LEND_OK)
        return status;
    lend_statistics_open(agent);
    status = open_transports(agent, config, error);
    if (status == LEND_OK)
        status = allow_cross_memory(agent, error);
    if (status != LEND_OK)
        return status;
    agent->magic = MAGIC;
    return lend_agent_is_manual(agent) ? LEND_OK : lend_poller_start(&agent->poller, error);
}

static void free_logs(struct lend_agent *agent)
{
    for (struct lend_list *link; (link = lend_list_take_first(&agent->logs)) != NULL;)
        lend_sys->release(LEND_LIST_OWNER(link, struct lend_log_line, link));
}

static void close_transports(struct lend_agent *agent, bool forked)
{
    while (agent->transport_count > 0) {
        struct lend_open_transport *slot = &agent->transports[--agent->transport_count];

        (forked ? slot->ops->close_forked : slot->ops->close)(slot->transport);
    }
}

/* Free all that an agent, or the forked copy of one, owns. Half-built ones are fine. */
static void demolish(struct lend_agent *agent, bool forked)
{
    if (forked)
        lend_statistics_fini(agent, true); /* first: the page is the parent's */
    else
        lend_poller_stop(&agent->poller);
    if (agent->slots.pages != NULL && !forked) {
        lend_leases_end_all(agent);
        lend_agent_dispatch(agent);
    }
    lend_sessions_fini(agent, forked);
    lend_puller_fini(&agent->puller, forked);
    close_transports(agent, forked);
    agent->magic = 0;
    lend_transfers_fini(agent, forked);
    lend_range_lists_fini(agent);
    lend_peers_fini(agent);
    lend_pool_fini(&agent->tickets);
    lend_stages_fini(agent, forked);
    lend_opened_forget(agent);
    lend_awaited_fini(agent, forked);
    lend_leases_fini(agent);
    lend_regions_fini(agent, !forked);
    if (!forked)
        lend_lane_drop_mark(&agent->zero_mark);
    lend_lanes_fini(&agent->lanes, forked);
    lend_files_fini(agent);
    lend_notifications_fini(agent, forked);
    lend_snapshots_fini(agent);
    free_logs(agent);
    lend_slots_fini(&agent->slots);
    lend_poller_fini(&agent->poller);
    lend_maps_fini(&agent->maps, forked);
    if (agent->event_fd >= 0)
        lend_sys->close(agent->event_fd);
    for (size_t i = 0; i < sizeof kept_texts / sizeof kept_texts[0]; i++)
        lend_sys->release((void *)(uintptr_t)*kept_text(agent, i));
    if (!forked) {
        lend_statistics_fini(agent, false);
        (void)pthread_mutex_destroy(&agent->lock);
        (void)pthread_mutex_destroy(&agent->zero_lock);
        (void)pthread_mutex_destroy(&agent->stage_lock);
        (void)pthread_mutex_destroy(&agent->log_lock);
        (void)pthread_mutex_destroy(&agent->completion_lock);
        (void)pthread_cond_destroy(&agent->completion);
    }
    lend_secret_forget(&agent->secret);
    lend_secret_unload(
        &agent->keeper); /* last: secrets of peers and keys of sessions are its too */
    lend_sys->release(agent);
}

enum lend_status lend_agent_create(const struct lend_agent_config *config, struct lend_agent **out,
                                   struct lend_error *error)
{
    if (config == NULL || out == NULL)
        return lend_fail(error, LEND_E_INVALID, "config or out is NULL");

    enum lend_status status = check_config(config, error);
    if (status != LEND_OK)
        return status;
    status = check_list(config->transports, error);
    if (status != LEND_OK)
        return status;
    status = check_list(config->transports_required, error);
    if (status != LEND_OK)
        return status;

    struct lend_agent *agent = lend_sys->allocate(sizeof *agent);
    if (agent == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for an agent");
    agent->event_fd = -1;
    agent->poller.epoll_fd = -1;
    agent->poller.kick_fd = -1;
    agent->poller.timer_watch.fd = -1;
    agent->statistics.fd = -1;
    init_locks(agent);
    init_lists(agent);

    status = build(agent, config, error);
    if (status != LEND_OK) {
        demolish(agent, false);
        return status;
    }
    *out = agent;
    return LEND_OK;
}

void lend_agent_destroy(struct lend_agent *agent)
{
    if (agent != NULL && agent->magic == MAGIC)
        demolish(agent, !lend_fork_is_same(agent->life));
}

const char *lend_agent_name(const struct lend_agent *agent)
{
    return agent != NULL ? agent->name : NULL;
}

void lend_agent_incarnation(const struct lend_agent *agent, uint8_t *out)
{
    if (agent != NULL && out != NULL)
        memcpy(out, agent->incarnation, sizeof agent->incarnation);
}

enum lend_status lend_agent_progress(struct lend_agent *agent, uint64_t timeout_ns,
                                     struct lend_error *error)
{
    enum lend_status status = lend_agent_check(agent, error);

    if (status != LEND_OK)
        return status;
    if (lend_poller_progress(&agent->poller, timeout_ns))
        return LEND_OK;
    return lend_fail(error, LEND_E_TIMEOUT, "nothing moved in %llu ns",
                     (unsigned long long)timeout_ns);
}

int32_t lend_agent_fd(const struct lend_agent *agent)
{
    if (lend_agent_check(agent, NULL) != LEND_OK)
        return -1;
    return lend_agent_is_manual(agent) ? agent->poller.epoll_fd : agent->event_fd;
}

void lend_agent_clear(struct lend_agent *agent)
{
    uint64_t count;

    if (lend_agent_check(agent, NULL) != LEND_OK)
        return;
    /* Cleared first: an event that comes between the two makes it readable again, once too often at
     * worst. */
    (void)lend_sys->read(agent->event_fd, &count, sizeof count);
    atomic_store_explicit(&agent->event_is_set, false, memory_order_seq_cst);
    lend_poller_rely(&agent->poller);
}

enum lend_status lend_agent_arm(struct lend_agent *agent, struct lend_error *error)
{
    enum lend_status status = lend_agent_check(agent, error);

    if (status != LEND_OK)
        return status;
    return lend_poller_arm(&agent->poller) ? LEND_OK : LEND_PENDING;
}

void lend_agent_log(struct lend_agent *agent, int32_t level, const char *format, ...)
{
    if (agent->config.on_log == NULL)
        return;

    struct lend_log_line *line = lend_sys->allocate(sizeof *line);
    if (line != NULL) {
        va_list args;

        line->level = level;
        va_start(args, format);
        (void)vsnprintf(line->text, sizeof line->text, format, args);
        va_end(args);
    }
    (void)pthread_mutex_lock(&agent->log_lock);
    if (line != NULL && agent->log_count < LEND_LOGS_MAX) {
        lend_list_append(&agent->logs, &line->link);
        agent->log_count++;
        line = NULL;
    } else {
        agent->logs_lost++;
    }
    (void)pthread_mutex_unlock(&agent->log_lock);
    atomic_store_explicit(&agent->has_news, true, memory_order_seq_cst);
    lend_sys->release(line);
}

static struct lend_log_line *take_log(struct lend_agent *agent)
{
    (void)pthread_mutex_lock(&agent->log_lock);
    struct lend_list *link = lend_list_take_first(&agent->logs);
    if (link != NULL)
        agent->log_count--;
    (void)pthread_mutex_unlock(&agent->log_lock);
    return link != NULL ? LEND_LIST_OWNER(link, struct lend_log_line, link) : NULL;
}

void lend_agent_dispatch(struct lend_agent *agent)
{
    const struct lend_agent_config *config = &agent->config;
    struct lend_lease_info info;

    /* The load spares those who ask again and again a locked write. */
    if (!atomic_load_explicit(&agent->has_news, memory_order_seq_cst) ||
        !atomic_exchange_explicit(&agent->has_news, false, memory_order_seq_cst))
        return;
    for (struct lend_log_line *line; (line = take_log(agent)) != NULL;) {
        config->on_log(config->context, line->level, line->text);
        lend_sys->release(line);
    }
    while (lend_lease_take_ended(agent, &info))
        if (config->on_lease_end != NULL)
            config->on_lease_end(config->context, &info);
}

void lend_agent_rouse(struct lend_agent *agent)
{
    /* A write, though it changes nothing: what the caller changed is seen by those who begin to
     * wait after it, and those who began before it are seen here. */
    if (atomic_fetch_add_explicit(&agent->completion_waiters, 0, memory_order_acq_rel) == 0)
        return;
    (void)pthread_mutex_lock(&agent->completion_lock);
    (void)pthread_cond_broadcast(&agent->completion);
    (void)pthread_mutex_unlock(&agent->completion_lock);
}

void lend_agent_announce(struct lend_agent *agent)
{
    lend_agent_rouse(agent);
    if (!lend_agent_is_manual(agent) &&
        !atomic_exchange_explicit(&agent->event_is_set, true, memory_order_seq_cst)) {
        uint64_t one = 1;
        (void)lend_sys->write(agent->event_fd, &one, sizeof one); /* full means readable already */
    }
}

void lend_agent_wait(struct lend_agent *agent, uint64_t until_ns, bool (*is_over)(void *subject),
                     void *subject)
{
    (void)pthread_mutex_lock(&agent->completion_lock);
    (void)atomic_fetch_add_explicit(&agent->completion_waiters, 1, memory_order_acq_rel);
    for (uint64_t now; !is_over(subject) && (now = lend_sys->now_ns()) < until_ns;) {
        /* Boot time and monotonic time differ by the machine's sleep; so a wait is cut at a second.
         */
        uint64_t left = until_ns - now;
        lend_sys->wait(&agent->completion, &agent->completion_lock,
                       left < 1000 * MS ? left : 1000 * MS);
    }
    (void)atomic_fetch_sub_explicit(&agent->completion_waiters, 1, memory_order_acq_rel);
    (void)pthread_mutex_unlock(&agent->completion_lock);
}

void lend_agent_await(struct lend_agent *agent, uint64_t until_ns, bool (*is_over)(void *subject),
                      void *subject)
{
    if (!is_over(subject))
        lend_poller_reclaim(&agent->poller);
    if (!lend_poller_is_ours(&agent->poller)) {
        lend_agent_wait(agent, until_ns, is_over, subject);
        return;
    }
    for (uint64_t now; !is_over(subject) && !lend_poller_is_stopping(&agent->poller) &&
                       (now = lend_sys->now_ns()) < until_ns;) {
        /* What others do is told to those who wait, and not to the poller: so look now and then. */
        uint64_t left = until_ns - now;
        (void)lend_poller_progress(&agent->poller, left < 10 * MS ? left : 10 * MS);
    }
}
